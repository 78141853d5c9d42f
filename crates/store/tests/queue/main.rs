//! The store keeps what the ports promise, on a real disk, and what only it promises.
#![expect(clippy::unwrap_used, reason = "in a test, what must not happen is a failure of the test")]

mod accept;
mod modest;
mod open;
mod turn;
mod upgrade;
mod world;

mod contract {
    lastframe_core::conformance!(crate::world::Sqlite);
}
