//! The right to work on a render for a while, and what may come of it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::render::{Failure, Output, Render};
use crate::request::RenderRequest;

/// A fence: every write of a lease's holder carries it, and the queue refuses it once the lease is gone.
///
/// Never issued twice, not even by a queue that was restored from a backup: it holds a random number drawn at each
/// start of the queue beside a counter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseToken(pub String);

/// What the next attempt needs to go on instead of starting over. Its meaning belongs to the renderer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint(pub serde_json::Value);

/// The right to work on `render` until `duration` has passed without an extension.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The render, as it was when it was claimed.
    pub render: Render,
    /// What is to be made.
    pub request: RenderRequest,
    /// The fence.
    pub token: LeaseToken,
    /// How long the lease holds without an extension.
    pub duration: Duration,
    /// Where the attempt before this one had come to.
    pub checkpoint: Option<Checkpoint>,
}

/// The answer to an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extended {
    /// Somebody asked for this render to stop.
    pub cancel_requested: bool,
}

/// Why a holder gives a lease back with nothing decided. Costs no attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum HandBack {
    /// The worker stops.
    Draining,
    /// The renderer has no room now.
    Throttled {
        /// When to try again.
        until: Timestamp,
    },
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The output is complete, verified and where outputs live.
    Succeeded(Output),
    /// It did not work. Whether it is tried again is the queue's decision: see [`RetryPolicy`].
    Failed(Failure),
    /// Somebody asked for it to stop, and it did.
    Cancelled,
}

/// When a retryable fault is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The wait after the first attempt; doubles with each further one.
    pub base: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// How many leases in a row may be lost, their holder dead, before the render is given up.
    pub max_lost: u32,
}

/// Faults of a machine that has too little of something: it takes longer to get it back than to start a new browser.
const SLOW_TO_PASS: [&str; 2] = ["out_of_memory", "output_not_stored"];

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { base: Duration::from_secs(2), cap: Duration::from_secs(5 * 60), max_lost: 10 }
    }
}

impl RetryPolicy {
    /// The wait after attempt number `attempt` (from 1) ended with the fault `code`: between half of the doubled base and
    /// all of it, so that renders that failed together do not come back together.
    #[must_use]
    pub fn delay(&self, code: &str, attempt: u32, rng: &mut fastrand::Rng) -> Duration {
        let base = self.base.saturating_mul(if SLOW_TO_PASS.contains(&code) { 8 } else { 1 });
        let doubled = base.saturating_mul(1 << attempt.saturating_sub(1).min(30)).min(self.cap);
        doubled.mul_f64(0.5 + rng.f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_stay_within_half_and_all_of_the_step_and_are_capped() {
        let policy = RetryPolicy { base: Duration::from_secs(2), cap: Duration::from_secs(60), max_lost: 1 };
        let mut rng = fastrand::Rng::with_seed(7);
        let waits = [(1, 2.0), (2, 4.0), (3, 8.0), (6, 60.0), (40, 60.0), (u32::MAX, 60.0)];
        let waits = waits.map(|(attempt, step)| ("browser_crashed", attempt, step));
        for (code, attempt, step) in
            waits.into_iter().chain([("out_of_memory", 1, 16.0), ("out_of_memory", 2, 32.0)])
        {
            for _ in 0..100 {
                let delay = policy.delay(code, attempt, &mut rng).as_secs_f64();
                assert!((step / 2.0..=step).contains(&delay), "attempt {attempt}: {delay}");
            }
        }
    }
}
