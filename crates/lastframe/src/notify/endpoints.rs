//! How much may be under way to whom, and who is left alone for a while because nobody answers there.

use std::collections::HashMap;
use std::time::Duration;

use lastframe_core::outbox::Room;

/// Goes under way at once.
const TOTAL: usize = 32;
/// Goes under way at once to one endpoint.
const EACH: usize = 4;
/// Goes that fail in a row before an endpoint is left alone.
const FAILURES: u32 = 5;
/// How long it is left alone the first time; twice as long each time after.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// At most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// Endpoints of which there is something to know: with goes under way, or with failures.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    known: HashMap<String, Endpoint>,
    under_way: usize,
}

#[derive(Debug, Default)]
struct Endpoint {
    under_way: usize,
    /// In a row.
    failures: u32,
    /// On the monotonic clock. After that a single go finds out whether it answers again.
    opens_at: Duration,
}

impl Endpoint {
    fn room(&self, now: Duration) -> usize {
        if self.failures < FAILURES {
            EACH.saturating_sub(self.under_way)
        } else if now >= self.opens_at && self.under_way == 0 {
            1
        } else {
            0
        }
    }
}

impl Endpoints {
    pub(super) fn room(&self, now: Duration) -> Room {
        let room = |(name, endpoint): (&String, &Endpoint)| (name.clone(), endpoint.room(now));
        let named = self.known.iter().map(room).filter(|(_, room)| *room < EACH).collect();
        Room { total: TOTAL.saturating_sub(self.under_way), each: EACH, named }
    }

    /// Nothing is under way any more: it was dropped.
    pub(super) fn drop_all(&mut self) {
        self.under_way = 0;
        self.known.values_mut().for_each(|known| known.under_way = 0);
    }

    /// A go at this endpoint has begun.
    pub(super) fn begin(&mut self, endpoint: &str) {
        self.under_way += 1;
        self.known.entry(endpoint.to_owned()).or_default().under_way += 1;
    }

    /// A go at this endpoint is over; whether somebody was there.
    pub(super) fn end(&mut self, endpoint: &str, reached: bool, now: Duration) {
        let Some(known) = self.known.get_mut(endpoint) else { return };
        self.under_way -= 1;
        known.under_way -= 1;
        if reached {
            known.failures = 0;
        } else {
            known.failures = known.failures.saturating_add(1);
            if let Some(pauses) = known.failures.checked_sub(FAILURES) {
                let pause = FIRST_PAUSE.saturating_mul(1 << pauses.min(16)).min(LONGEST_PAUSE);
                known.opens_at = now + pause;
            }
        }
        if known.under_way == 0 && known.failures == 0 {
            self.known.remove(endpoint);
        }
    }

    /// When the next endpoint that is left alone may be tried again.
    pub(super) fn next_opening(&self, now: Duration) -> Option<Duration> {
        self.known.values().map(|endpoint| endpoint.opens_at).filter(|at| *at > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    fn room_of(endpoints: &Endpoints, name: &str, now: Duration) -> usize {
        let room = endpoints.room(now);
        room.named.iter().find(|(named, _)| named == name).map_or(room.each, |(_, room)| *room)
    }

    fn fail(endpoints: &mut Endpoints, name: &str, now: Duration) {
        endpoints.begin(name);
        endpoints.end(name, false, now);
    }

    #[test]
    fn nobody_takes_more_than_its_share_of_what_may_be_under_way() {
        let mut endpoints = Endpoints::default();
        for _ in 0..3 {
            endpoints.begin("slow");
        }
        assert_eq!((room_of(&endpoints, "slow", NOW), room_of(&endpoints, "other", NOW)), (1, EACH));
        endpoints.begin("slow");
        assert_eq!((room_of(&endpoints, "slow", NOW), endpoints.room(NOW).total), (0, TOTAL - 4));
        endpoints.end("slow", true, NOW);
        assert_eq!(room_of(&endpoints, "slow", NOW), 1);
    }

    #[test]
    fn one_that_fails_again_and_again_is_left_alone_for_longer_each_time_and_is_then_tried_by_a_single_go() {
        let mut endpoints = Endpoints::default();
        for _ in 1..FAILURES {
            fail(&mut endpoints, "down", NOW);
            assert_eq!(room_of(&endpoints, "down", NOW), EACH);
        }
        let mut now = NOW;
        for pause in [10, 20, 40, 80, 160, 300, 300] {
            fail(&mut endpoints, "down", now);
            let opens_at = now + Duration::from_secs(pause);
            assert_eq!(endpoints.next_opening(now), Some(opens_at));
            assert_eq!(room_of(&endpoints, "down", opens_at - Duration::from_millis(1)), 0);
            assert_eq!(room_of(&endpoints, "down", opens_at), 1);
            now = opens_at;
        }
        endpoints.begin("down");
        assert_eq!(room_of(&endpoints, "down", now), 0, "one is enough to find out");
        assert_eq!(room_of(&endpoints, "other", now), EACH);
        endpoints.end("down", true, now);
        assert_eq!(room_of(&endpoints, "down", now), EACH);
        assert!(endpoints.known.is_empty(), "nothing is remembered of who is well");
    }
}
