//! What a history comes to.

use std::collections::BTreeMap;
use std::fmt;

use crate::history::{Entry, Event};
use crate::record::Record;

/// What was found to be true.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) deaths: usize,
    /// Calls that nobody lived to hear the answer of.
    pub(crate) unanswered: usize,
    /// How often each kind of answer was given.
    pub(crate) answers: BTreeMap<&'static str, usize>,
    pub(crate) renders: usize,
    pub(crate) leases: usize,
    pub(crate) succeeded: usize,
    /// Leases that ended with their process, or their time.
    pub(crate) lost: usize,
    /// Renders that lost too many in a row.
    pub(crate) given_up: usize,
}

impl Tally {
    /// The storage failed so often, and the caller was told.
    pub(crate) fn failed(&self) -> usize {
        self.answers.get("failed").copied().unwrap_or(0)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.deaths += other.deaths;
        self.unanswered += other.unanswered;
        for (kind, count) in &other.answers {
            *self.answers.entry(kind).or_default() += count;
        }
        self.renders += other.renders;
        self.leases += other.leases;
        self.succeeded += other.succeeded;
        self.lost += other.lost;
        self.given_up += other.given_up;
    }

    pub(crate) fn new(history: &[Entry], record: &Record) -> Self {
        let mut tally = Self { renders: record.len(), ..Self::default() };
        for entry in history {
            match &entry.event {
                Event::Asked(..) => tally.unanswered += 1,
                Event::Answered(_, answer) => {
                    tally.unanswered -= 1;
                    *tally.answers.entry(answer.kind()).or_default() += 1;
                }
                Event::Died => tally.deaths += 1,
                Event::Ruled(_) => {}
            }
        }
        for attempt in record.iter().flat_map(|stored| &stored.attempts) {
            tally.leases += 1;
            match attempt.outcome.as_deref() {
                Some("succeeded") => tally.succeeded += 1,
                Some("lost") => tally.lost += 1,
                Some("failed") if attempt.error.as_ref().is_some_and(|e| e.code == "worker_lost") => {
                    tally.given_up += 1;
                }
                _ => {}
            }
        }
        tally
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answered: usize = self.answers.values().sum();
        write!(
            f,
            "{answered} calls answered, {} not; {} renders, {} leases, {} of them lost; {} succeeded, {} given up",
            self.unanswered, self.renders, self.leases, self.lost, self.succeeded, self.given_up
        )
    }
}
