//! How many renders of a tenant are accepted in a minute.
//!
//! A bucket for each tenant, as large as its rate and refilled continuously. It is kept in memory alone: a restart fills
//! it, which costs less than writing it down with every render.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use lastframe_core::{Clock, TenantId};

/// A bucket is full again after so long, and then as good as none.
const FULL_AFTER: Duration = Duration::from_secs(60);

/// The buckets.
#[derive(Debug)]
pub(crate) struct Rates {
    clock: Monotonic,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    /// By rate: a tenant whose rate is changed starts anew.
    by_rate: HashMap<NonZeroU32, Limiter>,
    /// When full ones were last forgotten.
    tidied: Duration,
}

type Limiter = RateLimiter<TenantId, HashMapStateStore<TenantId>, Monotonic, NoOpMiddleware<Duration>>;

/// That many are not accepted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooFast {
    /// When they would be; never, when they are more than the bucket holds.
    pub(crate) wait: Option<Duration>,
}

impl Rates {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock: Monotonic(clock), buckets: Mutex::default() }
    }

    /// Takes `count` out of the tenant's bucket, or nothing.
    pub(crate) fn take(&self, tenant: &TenantId, per_minute: u32, count: u32) -> Result<(), TooFast> {
        let Some(count) = NonZeroU32::new(count) else { return Ok(()) };
        let never = TooFast { wait: None };
        let rate = NonZeroU32::new(per_minute).ok_or(never)?;
        let now = self.clock.now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.tidy(now);
        let limiter = buckets.by_rate.entry(rate).or_insert_with(|| {
            RateLimiter::new(Quota::per_minute(rate), HashMapStateStore::default(), self.clock.clone())
        });
        let taken = limiter.check_key_n(tenant, count).map_err(|_| never)?;
        taken.map_err(|until| TooFast { wait: Some(until.wait_time_from(now)) })
    }
}

impl Buckets {
    /// Forgets the full ones, so that only tenants of the last minutes are remembered.
    fn tidy(&mut self, now: Duration) {
        if now.saturating_sub(self.tidied) < FULL_AFTER {
            return;
        }
        self.tidied = now;
        self.by_rate.retain(|_, limiter| {
            limiter.retain_recent();
            limiter.shrink_to_fit();
            !limiter.is_empty()
        });
    }
}

/// The monotonic time of our clock, as the limiter takes it.
#[derive(Clone, Debug)]
struct Monotonic(Arc<dyn Clock>);

impl governor::clock::Clock for Monotonic {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use lastframe_core::ManualClock;

    use super::*;

    fn rates() -> (Rates, Arc<ManualClock>, TenantId) {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        (Rates::new(Arc::clone(&clock) as Arc<dyn Clock>), clock, TenantId::new("ann"))
    }

    fn wait(seconds: u64) -> Result<(), TooFast> {
        Err(TooFast { wait: Some(Duration::from_secs(seconds)) })
    }

    #[test]
    fn a_burst_of_a_minute_goes_through_and_the_rest_as_time_passes() {
        let (rates, clock, ann) = rates();
        for _ in 0..6 {
            assert_eq!(rates.take(&ann, 6, 1), Ok(()));
        }
        assert_eq!(rates.take(&ann, 6, 1), wait(10));
        clock.advance(Duration::from_secs(9));
        assert_eq!(rates.take(&ann, 6, 1), wait(1), "what is refused costs nothing");
        clock.advance(Duration::from_secs(1));
        assert_eq!(rates.take(&ann, 6, 1), Ok(()));
        assert_eq!(rates.take(&ann, 6, 1), wait(10));
        assert_eq!(rates.take(&TenantId::new("bob"), 6, 6), Ok(()), "each tenant has its own");
        clock.jump_to("2030-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(rates.take(&ann, 6, 1), wait(10), "wall time has no say");
    }

    #[test]
    fn many_at_once_count_each_and_go_through_together_or_not_at_all() {
        let (rates, clock, ann) = rates();
        assert_eq!(rates.take(&ann, 6, 4), Ok(()));
        assert_eq!(rates.take(&ann, 6, 4), wait(20));
        assert_eq!(rates.take(&ann, 6, 2), Ok(()));
        assert_eq!(rates.take(&ann, 6, 7), Err(TooFast { wait: None }), "more than it ever holds");
        assert_eq!(rates.take(&ann, 0, 1), Err(TooFast { wait: None }));
        clock.advance(Duration::from_secs(40));
        assert_eq!(rates.take(&ann, 6, 4), Ok(()));
    }

    #[test]
    fn another_rate_holds_at_once() {
        let (rates, _, ann) = rates();
        assert_eq!(rates.take(&ann, 1, 1), Ok(()));
        assert_eq!(rates.take(&ann, 1, 1), wait(60));
        assert_eq!(rates.take(&ann, 2, 2), Ok(()));
        assert_eq!(rates.take(&ann, 2, 1), wait(30));
    }

    #[test]
    fn tenants_that_are_idle_are_forgotten() {
        let (rates, clock, ann) = rates();
        for number in 0..1_000 {
            assert_eq!(rates.take(&TenantId::new(format!("tenant-{number}")), 1 + number % 9, 1), Ok(()));
        }
        let remembered = || -> usize {
            let buckets = rates.buckets.lock().unwrap();
            buckets.by_rate.values().map(RateLimiter::len).sum()
        };
        assert_eq!(remembered(), 1_000);
        clock.advance(FULL_AFTER * 2);
        assert_eq!(rates.take(&ann, 1, 1), Ok(()));
        assert_eq!(remembered(), 1);
        assert_eq!(rates.take(&ann, 1, 1), wait(60), "who is not idle is not forgotten");
    }
}
