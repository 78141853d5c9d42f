//! Renders that are not to start before a time.

use std::time::Duration;

use super::group::assert_wait_behind;
use super::wait::woken_by;
use super::{Asks as _, LEASE, LONG, MINUTE, MOMENT, World, render};
use crate::Status;
use crate::render::Blocked;

pub(super) async fn a_delayed_render_starts_at_its_time_and_not_before(world: World) {
    let run_at = world.now() + MINUTE;
    let later = world.accept("ann", render("later").not_before(run_at)).await;
    assert_eq!(later.run_at, run_at);
    assert_eq!(world.stands(&later).await.1, Some(Blocked::Delayed { run_at }));
    world.pass(MINUTE - MOMENT).await;
    world.claims_nothing().await;
    world.pass(MOMENT).await;
    assert_eq!(world.stands(&later).await, (1, None));
    world.claims(&later).await;
}

pub(super) async fn a_delayed_render_keeps_those_behind_it_in_its_group_waiting(mut world: World) {
    let run_at = world.now() + MINUTE;
    let first = world.accept("ann", render("first").in_group("g").not_before(run_at)).await;
    let second = world.accept("ann", render("second").in_group("g")).await;
    assert_eq!(world.stands(&first).await, (1, Some(Blocked::Delayed { run_at })));
    assert_wait_behind(&world, &first, &[(&second, 2)]).await;
    world.reopen().await;
    world.claims_nothing().await;
    world.pass(MINUTE).await;
    world.succeed(&world.claims(&first).await).await;
    world.claims(&second).await;
}

pub(super) async fn a_delay_that_passes_while_another_has_the_turn_is_over(world: World) {
    let first = world.accept("ann", render("first").in_group("g")).await;
    let second =
        world.accept("ann", render("second").in_group("g").not_before(world.now() + LEASE / 2)).await;
    let third = world.accept("ann", render("third").in_group("g").not_before(world.now() + LEASE)).await;
    let lease = world.claims(&first).await;
    world.pass(LEASE / 2).await;
    world.succeed(&lease).await;
    world.succeed(&world.claims(&second).await).await;
    assert_eq!(world.stands(&third).await, (1, Some(Blocked::Delayed { run_at: third.run_at })));
    world.pass(LEASE / 2).await;
    world.claims(&third).await;
}

pub(super) async fn a_time_that_has_passed_is_no_delay(world: World) {
    let past = world.accept("ann", render("past").not_before(world.now() - MINUTE)).await;
    assert_eq!(past.run_at, world.now());
    world.claims(&past).await;
}

pub(super) async fn the_longest_delay_that_is_declared_is_kept(mut world: World) {
    const A_CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let delay = world.capabilities().longest_delay.min(A_CENTURY);
    let asked = render("later").not_before(world.now() + delay);
    assert_eq!(asked.request.check_supported(&world.capabilities(), world.now()), []);
    let later = world.accept("ann", asked).await;
    world.reopen().await;
    world.pass(delay - MOMENT).await;
    world.claims_nothing().await;
    world.pass(MOMENT).await;
    world.claims(&later).await;
}

pub(super) async fn a_delayed_render_is_before_nobody_until_its_time_has_come(world: World) {
    let later = world.accept("ann", render("later").not_before(world.now() + MINUTE)).await;
    let usual = world.accept("ann", render("usual")).await;
    assert_eq!(world.stands(&usual).await, (1, None));
    world.pass(MINUTE).await;
    assert_eq!(world.stands(&later).await, (1, None));
    assert_eq!(world.stands(&usual).await, (2, None));
}

pub(super) async fn a_retry_does_not_wait_for_a_time_that_was_asked_for_once(world: World) {
    let a = world.accept("ann", render("a").not_before(world.now() + LONG)).await;
    world.cancel(a.id).await.unwrap();
    world.retry(a.id).await.unwrap();
    world.claims(&a).await;
}

pub(super) async fn a_delayed_render_is_cancelled_at_once_and_does_not_come_back_at_its_time(world: World) {
    let a = world.accept("ann", render("a").not_before(world.now() + LONG)).await;
    assert_eq!(world.cancel(a.id).await.unwrap().status, Status::Cancelled);
    world.pass(LONG).await;
    world.claims_nothing().await;
    assert_eq!(world.status(a.id).await, Status::Cancelled);
}

pub(super) async fn a_waiting_claim_is_woken_when_a_delay_has_passed(world: World) {
    let later = world.accept("ann", render("later").not_before(world.now() + MINUTE)).await;
    let woken = woken_by(&world, world.pass(MINUTE)).await;
    assert_eq!(woken.render.id, later.id);
}

pub(super) async fn a_waiting_claim_is_woken_when_the_delayed_one_before_it_is_cancelled(world: World) {
    let first = world.accept("ann", render("first").in_group("g").not_before(world.now() + LEASE)).await;
    let second = world.accept("ann", render("second").in_group("g")).await;
    let woken = woken_by(&world, async { drop(world.cancel(first.id).await.unwrap()) }).await;
    assert_eq!(woken.render.id, second.id);
}
