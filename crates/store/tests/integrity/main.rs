//! What the store makes of a disk that does not give back what was written.
#![expect(clippy::unwrap_used, reason = "these are tests")]

mod backups;
mod damage;
mod flips;
mod library;
mod mark;
mod outbox;
mod sealed;
