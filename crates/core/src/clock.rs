//! Time, injected. The only file that may ask the operating system what time it is.

use std::fmt::Debug;
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;

/// Where time comes from.
///
/// Wall time is what people and files see; it may jump. Leases and deadlines on one machine are measured on the
/// monotonic clock, which never does.
pub trait Clock: Debug + Send + Sync {
    /// Wall time, cut to milliseconds: what is written is what is read back.
    fn now(&self) -> Timestamp;
    /// Time since an arbitrary start of this clock; never goes back.
    fn monotonic(&self) -> Duration;
}

/// The operating system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts at zero now.
    #[expect(clippy::new_without_default, reason = "reading a clock is not a default")]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    #[must_use]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    fn now(&self) -> Timestamp {
        cut_to_milliseconds(Timestamp::now())
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct ManualClock {
    times: Mutex<(Timestamp, Duration)>,
}

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self { times: Mutex::new((cut_to_milliseconds(now), Duration::ZERO)) }
    }

    /// Moves wall and monotonic time forward together, as time passes in life.
    pub fn advance(&self, by: Duration) {
        let mut times = self.lock();
        times.0 += by;
        times.1 += by;
    }

    /// Moves wall time alone, as a person or NTP would.
    pub fn jump_to(&self, now: Timestamp) {
        self.lock().0 = cut_to_milliseconds(now);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Timestamp, Duration)> {
        self.times.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.lock().0
    }

    fn monotonic(&self) -> Duration {
        self.lock().1
    }
}

fn cut_to_milliseconds(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}
