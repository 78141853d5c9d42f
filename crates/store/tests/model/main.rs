//! The real store, on a real disk, against a small model of a queue: whatever is asked of both, in whatever order, they
//! answer the same and show the same.
//!
//! Each history is a list of random commands; one that fails is made as short and plain as it can be before it is shown.
//! `PROPTEST_CASES` says how many histories, `PROPTEST_RNG_SEED` which. See `reference.rs` for what is compared with.
#![expect(clippy::unwrap_used, reason = "in a test, what must not happen is a failure of the test")]

mod command;
mod found;
mod machine;
mod reference;
mod tally;

use proptest::test_runner::{Config, RngSeed, TestRunner};

use crate::machine::Machine;
use crate::tally::Tally;

const HISTORIES: u32 = 40;
/// Commands in a history, at most.
const COMMANDS: usize = 120;
/// How long a failing one is made shorter, in milliseconds.
const SHRINKING: u32 = 60_000;
const SEED: u64 = 2_026;

#[test]
fn whatever_is_asked_of_it_the_store_does_what_the_reference_does() {
    let mut config = Config::default();
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(SEED);
    }
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = HISTORIES;
    }
    config.max_shrink_iters = 100_000;
    config.max_shrink_time = SHRINKING;
    // A failure is shown with its seed, and becomes a test of its own; no file needs to remember it.
    config.failure_persistence = None;
    let (histories, seed) = (config.cases, config.rng_seed);
    let tally = Tally::default();
    let commands = proptest::collection::vec(command::any(), 1..=COMMANDS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let found =
        TestRunner::new(config).run(&commands, |commands| runtime.block_on(Machine::live(commands, &tally)));
    if let Err(error) = found {
        panic!("{error}\nseed: {seed:?}");
    }
    tally.check(histories);
}
