//! How much may be under way on which route, and which is left alone for a while because nobody is there.

use std::collections::HashMap;
use std::time::Duration;

use lastframe_core::notice::Channel;
use lastframe_core::outbox::{Room, Route};

/// Webhooks under way at once.
const WEBHOOKS: usize = 32;
/// Mails under way at once: all go through one server.
const MAILS: usize = 4;
/// Goes under way at once on one route.
const EACH: usize = 4;
/// Goes that fail in a row before a route is left alone.
const FAILURES: u32 = 5;
/// How long it is left alone the first time; twice as long each time after.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// At most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// Routes of which there is something to know: with goes under way, or with failures.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    known: HashMap<Route, Known>,
}

#[derive(Debug, Default)]
struct Known {
    under_way: usize,
    /// In a row.
    failures: u32,
    /// On the monotonic clock. After that a single go finds out whether it answers again.
    opens_at: Duration,
}

impl Known {
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

impl Routes {
    pub(super) fn room(&self, now: Duration) -> Room {
        let room = |(route, known): (&Route, &Known)| (route.clone(), known.room(now));
        let named = self.known.iter().map(room).filter(|(_, room)| *room < EACH).collect();
        let (webhooks, mails) = (self.under_way(Channel::Webhook), self.under_way(Channel::Email));
        Room {
            webhooks: WEBHOOKS.saturating_sub(webhooks),
            mails: MAILS.saturating_sub(mails),
            each: EACH,
            named,
        }
    }

    fn under_way(&self, channel: Channel) -> usize {
        let by = self.known.iter().filter(|(route, _)| route.channel == channel);
        by.map(|(_, known)| known.under_way).sum()
    }

    /// Nothing is under way any more: it was dropped.
    pub(super) fn drop_all(&mut self) {
        self.known.values_mut().for_each(|known| known.under_way = 0);
    }

    /// A go on this route has begun.
    pub(super) fn begin(&mut self, route: Route) {
        self.known.entry(route).or_default().under_way += 1;
    }

    /// A go on this route is over; whether somebody was there.
    pub(super) fn end(&mut self, route: &Route, reached: bool, now: Duration) {
        let Some(known) = self.known.get_mut(route) else { return };
        known.under_way = known.under_way.saturating_sub(1);
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
            self.known.remove(route);
        }
    }

    /// When the next route that is left alone may be tried again.
    pub(super) fn next_opening(&self, now: Duration) -> Option<Duration> {
        self.known.values().map(|known| known.opens_at).filter(|at| *at > now).min()
    }
}

#[cfg(test)]
mod tests {
    use lastframe_core::TenantId;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    fn route(endpoint: &str) -> Route {
        Route { channel: Channel::Webhook, tenant: TenantId::new("ann"), endpoint: endpoint.into() }
    }

    fn room_of(routes: &Routes, endpoint: &str, now: Duration) -> usize {
        routes.room(now).on(&route(endpoint))
    }

    fn fail(routes: &mut Routes, endpoint: &str, now: Duration) {
        routes.begin(route(endpoint));
        routes.end(&route(endpoint), false, now);
    }

    #[test]
    fn nobody_takes_more_than_its_share_of_what_may_be_under_way() {
        let mut routes = Routes::default();
        for _ in 0..3 {
            routes.begin(route("slow"));
        }
        assert_eq!((room_of(&routes, "slow", NOW), room_of(&routes, "other", NOW)), (1, EACH));
        routes.begin(route("slow"));
        assert_eq!((room_of(&routes, "slow", NOW), routes.room(NOW).webhooks), (0, WEBHOOKS - 4));
        assert_eq!(routes.room(NOW).mails, MAILS, "the other channel is not in the way");
        routes.end(&route("slow"), true, NOW);
        assert_eq!(room_of(&routes, "slow", NOW), 1);
    }

    #[test]
    fn one_that_fails_again_and_again_is_left_alone_for_longer_each_time_and_is_then_tried_by_a_single_go() {
        let mut routes = Routes::default();
        for _ in 1..FAILURES {
            fail(&mut routes, "down", NOW);
            assert_eq!(room_of(&routes, "down", NOW), EACH);
        }
        let mut now = NOW;
        for pause in [10, 20, 40, 80, 160, 300, 300] {
            fail(&mut routes, "down", now);
            let opens_at = now + Duration::from_secs(pause);
            assert_eq!(routes.next_opening(now), Some(opens_at));
            assert_eq!(room_of(&routes, "down", opens_at - Duration::from_millis(1)), 0);
            assert_eq!(room_of(&routes, "down", opens_at), 1);
            now = opens_at;
        }
        routes.begin(route("down"));
        assert_eq!(room_of(&routes, "down", now), 0, "one is enough to find out");
        assert_eq!(room_of(&routes, "other", now), EACH);
        routes.end(&route("down"), true, now);
        assert_eq!(room_of(&routes, "down", now), EACH);
        assert!(routes.known.is_empty(), "nothing is remembered of who is well");
    }
}
