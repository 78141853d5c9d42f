//! How often somebody may try passwords.
//!
//! Ten attempts for an address at once, and another one every ninety seconds. Whether somebody has that address makes no
//! difference, so that the limit tells nothing about who is known here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lastframe_core::Clock;
use sha2::{Digest as _, Sha256};

/// Attempts that may be made one right after another.
const AT_ONCE: u32 = 10;
/// How long each one takes to be forgiven: ten in a quarter of an hour.
const FORGIVEN_AFTER: Duration = Duration::from_secs(90);
/// Addresses that are remembered. So many cannot be tried while an attempt counts: each costs a password check, and few
/// of these are made at once.
const MOST: usize = 20_000;

/// Attempts that were made, for addresses by their SHA-256.
pub(super) struct Attempts {
    clock: Arc<dyn Clock>,
    /// When all will be forgiven, on the monotonic clock.
    clean: Mutex<HashMap<[u8; 32], Duration>>,
}

impl Attempts {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, clean: Mutex::default() }
    }

    /// Counts an attempt before it is made, so that those that are made at the same time count too.
    ///
    /// # Errors
    /// When there were too many: how long until the next one may be made.
    pub(super) fn begin(&self, address: &str) -> Result<(), Duration> {
        let now = self.clock.monotonic();
        let hash = Sha256::digest(address).into();
        let mut all = self.clean();
        let clean = all.get(&hash).map_or(now, |clean| now.max(*clean)) + FORGIVEN_AFTER;
        let latest = now + FORGIVEN_AFTER * AT_ONCE;
        if clean > latest {
            return Err(clean - latest);
        }
        if all.len() >= MOST && !all.contains_key(&hash) {
            all.retain(|_, clean| *clean > now);
            // Those with the fewest attempts: whoever is being attacked stays protected.
            if all.len() >= MOST
                && let Some(least) = all.iter().min_by_key(|(_, clean)| **clean).map(|(hash, _)| *hash)
            {
                all.remove(&least);
            }
        }
        all.insert(hash, clean);
        Ok(())
    }

    /// Somebody knew the password: what was tried before is forgiven.
    pub(super) fn succeeded(&self, address: &str) {
        self.clean().remove(&<[u8; 32]>::from(Sha256::digest(address)));
    }

    fn clean(&self) -> MutexGuard<'_, HashMap<[u8; 32], Duration>> {
        self.clean.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use lastframe_core::ManualClock;

    use super::*;

    fn attempts() -> (Arc<ManualClock>, Attempts) {
        let clock = Arc::new(ManualClock::new("2026-03-01T12:00:00Z".parse().unwrap()));
        (Arc::clone(&clock), Attempts::new(clock))
    }

    #[test]
    fn ten_may_be_made_at_once_and_one_every_ninety_seconds() {
        let (clock, attempts) = attempts();
        for _ in 0..10 {
            attempts.begin("ana").unwrap();
        }
        assert_eq!(attempts.begin("ana"), Err(FORGIVEN_AFTER));
        attempts.begin("bob").unwrap();
        clock.advance(Duration::from_secs(89));
        assert_eq!(attempts.begin("ana"), Err(Duration::from_secs(1)), "being refused costs nothing more");
        clock.advance(Duration::from_secs(1));
        attempts.begin("ana").unwrap();
        assert_eq!(attempts.begin("ana"), Err(FORGIVEN_AFTER));
        // Nobody gains by the wall clock.
        clock.jump_to("2027-03-01T12:00:00Z".parse().unwrap());
        assert_eq!(attempts.begin("ana"), Err(FORGIVEN_AFTER));
    }

    #[test]
    fn who_knows_the_password_begins_anew() {
        let (_, attempts) = attempts();
        for _ in 0..10 {
            attempts.begin("ana").unwrap();
        }
        attempts.succeeded("ana");
        for _ in 0..10 {
            attempts.begin("ana").unwrap();
        }
        attempts.begin("ana").unwrap_err();
    }

    #[test]
    fn a_flood_of_addresses_takes_no_more_room_and_frees_nobody_who_is_attacked() {
        let (_, attempts) = attempts();
        for _ in 0..10 {
            attempts.begin("ana").unwrap();
        }
        for number in 0..MOST + 50 {
            attempts.begin(&number.to_string()).unwrap();
        }
        assert_eq!(attempts.clean().len(), MOST);
        attempts.begin("ana").unwrap_err();
    }
}
