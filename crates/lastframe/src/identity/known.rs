//! Tokens that were found good, by their SHA-256: a client sends the same one with every request, and checking a
//! signature takes longer than queueing a render.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Caller;

/// Tokens that are remembered; with more, all are forgotten and found good again.
const MOST: usize = 10_000;
/// How long until a token that is remembered is looked at again: keys of foreign issuers may have changed.
const LOOKED_AT_AGAIN: Duration = Duration::from_secs(5 * 60);

/// SHA-256 of a token.
pub(super) type Hash = [u8; 32];

/// Counts how often all were forgotten: what was found good before a revocation must not be remembered after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Generation(u64);

#[derive(Default)]
pub(super) struct Known(Mutex<Table>);

#[derive(Default)]
struct Table {
    generation: Generation,
    callers: HashMap<Hash, Found>,
}

struct Found {
    caller: Caller,
    /// Seconds since 1970.
    expires: i64,
    /// On the monotonic clock, which nobody puts back.
    at: Duration,
}

impl Known {
    /// Who the token was found to speak for, if that holds; and what to remember it by if it is looked at now.
    pub(super) fn find(&self, hash: &Hash, now: i64, monotonic: Duration) -> Result<Caller, Generation> {
        let table = self.table();
        let found = table
            .callers
            .get(hash)
            .filter(|found| now < found.expires && monotonic.saturating_sub(found.at) < LOOKED_AT_AGAIN);
        found.map(|found| found.caller.clone()).ok_or(table.generation)
    }

    /// Remembers what was found, unless everything was forgotten since.
    pub(super) fn remember(
        &self,
        hash: Hash,
        generation: Generation,
        caller: Caller,
        expires: i64,
        at: Duration,
    ) {
        let mut table = self.table();
        if table.generation == generation {
            if table.callers.len() >= MOST {
                table.callers.clear();
            }
            table.callers.insert(hash, Found { caller, expires, at });
        }
    }

    /// What was remembered of tokens is true no more.
    pub(super) fn forget(&self) {
        let mut table = self.table();
        table.generation.0 += 1;
        table.callers.clear();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
