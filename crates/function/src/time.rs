//! How much time an invocation has.

use std::time::Duration;

use jiff::Timestamp;

/// What must be left at the end, to write down how far everything is.
const MARGIN: Duration = Duration::from_secs(30);
/// Where nobody says how long the function is let run.
const USUAL: Duration = Duration::from_secs(60);

/// How long an invocation may work that must be over at `deadline`, in milliseconds since 1970, of a function that is let run
/// for `timeout`. A deadline that cannot be is not believed: stand-ins have wrong ones. A short time keeps a third of it back.
#[must_use]
pub fn left(deadline: u64, now: Timestamp, timeout: Option<Duration>) -> Duration {
    let now = u64::try_from(now.as_millisecond()).unwrap_or_default();
    let told = deadline.checked_sub(now).filter(|left| *left > 0).map(Duration::from_millis);
    let whole = match (told, timeout) {
        (Some(told), Some(timeout)) => told.min(timeout),
        (told, timeout) => told.or(timeout).unwrap_or(USUAL),
    };
    whole - MARGIN.min(whole / 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_counts_unless_it_cannot_be_and_some_of_the_time_is_kept_back() {
        let now = Timestamp::from_millisecond(1_000_000).unwrap();
        let seconds = Duration::from_secs;
        let quarter = Some(seconds(900));
        assert_eq!(left(1_900_000, now, quarter), seconds(870));
        assert_eq!(left(1_090_000, now, quarter), seconds(60));
        // Longer than the function is let run, over already, or not told at all.
        assert_eq!(left(9_000_000, now, quarter), seconds(870));
        assert_eq!(left(1_000_000, now, quarter), seconds(870));
        assert_eq!(left(0, now, quarter), seconds(870));
        assert_eq!(left(0, now, None), seconds(40));
        assert_eq!(left(1_012_000, now, None), seconds(8));
    }
}
