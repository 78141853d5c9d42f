//! Whether the data folder's disk has room for more renders.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lastframe_core::Clock;

/// How long an answer of the system is good.
const FRESH: Duration = Duration::from_secs(1);

/// The disk of a folder, and how much of it must stay free.
#[derive(Debug)]
pub(crate) struct Space {
    folder: PathBuf,
    /// Bytes.
    min_free: u64,
    clock: Arc<dyn Clock>,
    /// Bytes that were free, and when.
    seen: Mutex<Option<(Duration, Option<u64>)>>,
}

impl Space {
    pub(crate) fn new(folder: PathBuf, min_free: u64, clock: Arc<dyn Clock>) -> Self {
        Self { folder, min_free, clock, seen: Mutex::default() }
    }

    /// Why no more renders should be accepted; none while there is room.
    pub(crate) fn shortage(&self) -> Option<String> {
        // A system that does not say is no reason to refuse anything.
        let free = self.free()?;
        (free < self.min_free).then(|| {
            format!(
                "the server's disk has {} MB left, and storage.min_free is {} MB",
                free / 1_000_000,
                self.min_free / 1_000_000
            )
        })
    }

    /// Bytes below which there is a shortage.
    pub(crate) fn min_free(&self) -> u64 {
        self.min_free
    }

    /// Bytes that are free; none when the system does not say.
    pub(crate) fn free(&self) -> Option<u64> {
        let now = self.clock.monotonic();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, free)) = *seen
            && now < at + FRESH
        {
            return free;
        }
        let free = match rustix::fs::statvfs(&self.folder) {
            Ok(disk) => Some(disk.f_bavail.saturating_mul(disk.f_frsize)),
            Err(error) => {
                tracing::error!(%error, "cannot find out how much room the disk has");
                None
            }
        };
        *seen = Some((now, free));
        free
    }
}

#[cfg(test)]
mod tests {
    use lastframe_core::ManualClock;

    use super::*;

    #[test]
    fn a_disk_with_less_than_it_should_have_is_short_and_is_asked_once_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let space = |min_free| Space::new(folder.path().into(), min_free, Arc::clone(&clock) as _);
        assert_eq!(space(0).shortage(), None);
        let short = space(u64::MAX);
        assert!(short.shortage().unwrap().contains("storage.min_free"));
        *short.seen.lock().unwrap() = Some((clock.monotonic(), Some(u64::MAX)));
        assert_eq!(short.shortage(), None, "the answer is still good");
        clock.advance(FRESH);
        assert!(short.shortage().is_some());
    }
}
