//! What the queue promises when its process is killed, its disk loses power, or writes begin to fail.
//!
//! A child process, this binary again, loads a store and tells every call before it is issued and every answer after
//! it came (`child`, `load`, `session`, `history`). The parent kills it (`kill`), takes its disk's power (`power`) or
//! makes its disk fail (`fault`). `check` then goes over the whole history: there must be one order of all calls that
//! explains every answer and what the store holds in the end (`order`), by the queue's rules as `model` states them.
//! `forged` proves that the checker can say no.
#![expect(clippy::unwrap_used, reason = "in a test, what must not happen is a failure of the test")]

mod accept;
mod check;
mod child;
mod disk;
mod fault;
mod forged;
mod history;
mod kill;
mod load;
mod model;
mod order;
mod power;
mod record;
mod script;
mod session;
mod soak;
mod tally;

/// The seed that was asked for, or any. It fixes what is asked and when the process dies or the power fails, not how
/// the threads of the process take turns.
fn seed() -> u64 {
    std::env::var("SOAK_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap())
}
