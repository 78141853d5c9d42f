//! Jumps of the wall clock, as when a person or a time server puts it right. Machines that share a queue have no other clock
//! in common, so what is measured on one that never jumps is asked of the others alone.

use std::time::Duration;

use jiff::SignedDuration;

use super::group::line;
use super::{Asks as _, LEASE, LONG, MOMENT, World, passing, render};
use crate::render::Blocked;
use crate::{HandBack, Progress, Status};

const HOUR: Duration = Duration::from_secs(60 * 60);
const JUMPS: [SignedDuration; 4] = [
    SignedDuration::from_hours(1),
    SignedDuration::from_hours(-1),
    SignedDuration::from_hours(24),
    SignedDuration::from_hours(-24),
];

pub(super) async fn they_end_no_lease(world: World) {
    if world.capabilities().shared {
        return;
    }
    for by in JUMPS {
        let a = world.accept("ann", render("a")).await;
        let lease = world.claims(&a).await;
        for jump in [by, -by * 2] {
            world.jump(jump).await;
            world.pass(LEASE - MOMENT).await;
            assert_eq!(world.status(a.id).await, Status::Rendering, "{by}");
            world.extend(a.id, &lease.token, Progress::START, None).await.unwrap();
        }
        world.succeed(&lease).await;
    }
}

pub(super) async fn they_keep_no_lease_alive(world: World) {
    if world.capabilities().shared {
        return;
    }
    for by in JUMPS {
        let a = world.accept("ann", render("a")).await;
        world.claims(&a).await;
        world.pass(LEASE - MOMENT).await;
        world.jump(by).await;
        assert_eq!(world.status(a.id).await, Status::Rendering, "{by}");
        world.pass(MOMENT).await;
        assert_eq!(world.status(a.id).await, Status::Queued, "{by}");
        world.succeed(&world.claims(&a).await).await;
    }
}

pub(super) async fn they_make_no_back_off_shorter_or_longer(world: World) {
    if world.capabilities().shared {
        return;
    }
    for by in JUMPS {
        let a = world.accept("ann", render("a")).await;
        assert_eq!(world.end(&world.claims(&a).await, passing()).await, Status::Queued);
        let delay = world.delay(&a).await;
        for jump in [by, -by * 2, by] {
            world.jump(jump).await;
            assert_eq!(world.delay(&a).await, delay, "{by}");
            world.claims_nothing().await;
        }
        world.jump(by).await;
        world.pass(delay - MOMENT).await;
        world.claims_nothing().await;
        world.pass(MOMENT).await;
        world.succeed(&world.claims(&a).await).await;
    }
}

pub(super) async fn they_make_no_throttled_render_wait_shorter_or_longer(world: World) {
    if world.capabilities().shared {
        return;
    }
    for by in JUMPS {
        let a = world.accept("ann", render("a")).await;
        let lease = world.claims(&a).await;
        let until = world.now() + LONG;
        world.release(a.id, &lease.token, HandBack::Throttled { until }).await.unwrap();
        world.jump(by).await;
        assert_eq!(world.delay(&a).await, LONG, "{by}");
        world.pass(LONG - MOMENT).await;
        world.claims_nothing().await;
        world.pass(MOMENT).await;
        world.succeed(&world.claims(&a).await).await;
    }
}

pub(super) async fn they_do_not_change_the_order_of_acceptance(world: World) {
    let mut accepted = Vec::new();
    for by in JUMPS {
        accepted.push(world.accept("ann", render("a")).await);
        world.jump(by).await;
    }
    assert!(accepted.is_sorted_by_key(|render| render.seq));
    let newest_first: Vec<_> = world.all().await.into_iter().map(|render| render.id).rev().collect();
    assert_eq!(newest_first, accepted.iter().map(|render| render.id).collect::<Vec<_>>());
    world.claims_all_of(&accepted.iter().collect::<Vec<_>>()).await;
}

pub(super) async fn who_asked_for_a_time_starts_when_the_clock_shows_it(world: World) {
    if world.capabilities().longest_delay < 2 * HOUR {
        return;
    }
    let run_at = world.now() + HOUR;
    let a = world.accept("ann", render("a").not_before(run_at)).await;
    world.jump(SignedDuration::from_hours(-1)).await;
    world.pass(HOUR).await;
    world.claims_nothing().await;
    assert_eq!(world.stands(&a).await.1, Some(Blocked::Delayed { run_at }));
    world.jump(SignedDuration::from_hours(1)).await;
    assert_eq!(world.stands(&a).await, (1, None));
    world.claims(&a).await;
}

pub(super) async fn who_asked_for_no_delay_has_none_when_the_clock_is_put_back(world: World) {
    let [first, second] = line(&world).await;
    // A submit into the group looks afresh at whose turn it is.
    let put_back = async || {
        world.jump(SignedDuration::from_hours(-24)).await;
        world.accept("ann", render("later").in_group("g")).await;
    };
    put_back().await;
    let lease = world.claims(&first).await;
    world.release(first.id, &lease.token, HandBack::Draining).await.unwrap();
    put_back().await;
    world.claims(&first).await;
    world.pass(LEASE).await;
    put_back().await;
    world.fail_for_good(&world.claims(&first).await).await;
    world.retry(first.id).await.unwrap();
    put_back().await;
    assert_eq!(world.stands(&first).await, (1, None));
    world.succeed(&world.claims(&first).await).await;
    world.claims(&second).await;
}
