//! A failure that keeps its group waiting.

use super::group::assert_wait_behind;
use super::{Asks as _, LEASE, LONG, RETRY, World, held_by, render};
use crate::ports::ControlError;
use crate::{Outcome, Render, Status};

/// A group that is held by its first render, and the one that waits.
async fn held(world: &World) -> (Render, Render) {
    let first = world.accept("ann", render("first").in_group("g").holding_its_group()).await;
    let second = world.accept("ann", render("second").in_group("g")).await;
    world.fail_for_good(&world.claims(&first).await).await;
    (first, second)
}

pub(super) async fn a_failure_that_holds_its_group_lets_nothing_go_until_it_is_retried_and_done(
    mut world: World,
) {
    let (first, second) = held(&world).await;
    world.claims_nothing().await;
    assert_eq!(world.stands(&second).await, (1, held_by(&first)));
    let third = world.accept("ann", render("third").in_group("g")).await;
    assert_wait_behind(&world, &second, &[(&third, 2)]).await;
    world.reopen().await;
    world.pass(LONG).await;
    world.claims_nothing().await;
    assert_eq!(world.stands(&second).await, (1, held_by(&first)));
    world.retry(first.id).await.unwrap();
    assert_wait_behind(&world, &first, &[(&second, 2), (&third, 3)]).await;
    let lease = world.claims(&first).await;
    world.claims_nothing().await;
    world.succeed(&lease).await;
    world.claims(&second).await;
}

pub(super) async fn a_retry_that_fails_again_holds_its_group_again(world: World) {
    let (first, second) = held(&world).await;
    world.retry(first.id).await.unwrap();
    world.fail_for_good(&world.claims(&first).await).await;
    assert_eq!(world.stands(&second).await, (1, held_by(&first)));
    world.claims_nothing().await;
}

pub(super) async fn a_retry_that_is_cancelled_lets_its_group_go(world: World) {
    let (first, second) = held(&world).await;
    assert!(matches!(world.cancel(first.id).await, Err(ControlError::Illegal(_))));
    world.retry(first.id).await.unwrap();
    world.cancel(first.id).await.unwrap();
    world.claims(&second).await;
}

pub(super) async fn a_hold_outlasts_the_cancelling_of_all_that_wait(world: World) {
    let (first, second) = held(&world).await;
    world.cancel(second.id).await.unwrap();
    let third = world.accept("ann", render("third").in_group("g")).await;
    assert_eq!(world.stands(&third).await, (1, held_by(&first)));
    world.claims_nothing().await;
}

pub(super) async fn retrying_another_one_does_not_lift_a_hold(world: World) {
    let early = world.accept("ann", render("early").in_group("g")).await;
    world.fail_for_good(&world.claims(&early).await).await;
    let (first, second) = held(&world).await;
    world.retry(early.id).await.unwrap();
    assert_eq!(world.stands(&early).await, (1, held_by(&first)));
    assert_wait_behind(&world, &early, &[(&second, 2)]).await;
    world.claims_nothing().await;
    world.retry(first.id).await.unwrap();
    for render in [&early, &first, &second] {
        world.succeed(&world.claims(render).await).await;
    }
}

pub(super) async fn one_that_is_given_up_after_losing_its_workers_holds_its_group_too(world: World) {
    let first = world.accept("ann", render("first").in_group("g").holding_its_group()).await;
    let second = world.accept("ann", render("second").in_group("g")).await;
    for _ in 0..RETRY.max_lost {
        world.claims(&first).await;
        world.pass(LEASE).await;
    }
    assert_eq!(world.status(first.id).await, Status::Failed);
    assert_eq!(world.stands(&second).await, (1, held_by(&first)));
}

pub(super) async fn a_render_that_holds_its_group_when_it_fails_does_not_when_it_is_cancelled(world: World) {
    let first = world.accept("ann", render("first").in_group("g").holding_its_group()).await;
    let second = world.accept("ann", render("second").in_group("g")).await;
    let lease = world.claims(&first).await;
    world.cancel(first.id).await.unwrap();
    assert_eq!(world.end(&lease, Outcome::Cancelled).await, Status::Cancelled);
    world.claims(&second).await;
}
