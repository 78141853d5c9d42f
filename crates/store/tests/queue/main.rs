//! What the ports `Queue` and `Directory` promise, kept by the real store on a real disk.
//!
//! Time stands still unless a test moves it, and nothing here sleeps.
#![expect(clippy::unwrap_used, reason = "in a test, what must not happen is a failure of the test")]

mod accept;
mod cancel;
mod directory;
mod failure;
mod group;
mod lease;
mod open;
mod turn;
mod wait;
mod walk;
mod world;
