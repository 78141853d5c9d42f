//! Renders of one group run one after another, in the order accepted.

use super::{Asks as _, LEASE, LONG, MINUTE, World, behind, passing, permanent, render, succeeded};
use crate::render::Blocked;
use crate::{HandBack, Outcome, Render, Status};

/// `first` and `second` and so on, accepted in this order into one group.
pub(super) async fn line<const N: usize>(world: &World) -> [Render; N] {
    let mut accepted = Vec::new();
    for name in ["first", "second", "third", "fourth"].into_iter().take(N) {
        accepted.push(world.accept("ann", render(name).in_group("g")).await);
    }
    accepted.try_into().unwrap()
}

/// Where each stands: its place, and who has the turn if that is what it waits for.
pub(super) async fn assert_wait_behind(world: &World, turn: &Render, waiting: &[(&Render, u32)]) {
    for (render, position) in waiting {
        assert_eq!(world.stands(render).await, (*position, behind(turn)), "{}", render.composition);
    }
}

pub(super) async fn the_next_starts_when_the_one_before_is_terminal_and_not_before(world: World) {
    for (outcome, status) in [
        (succeeded(), Status::Succeeded),
        (permanent(), Status::Failed),
        (Outcome::Cancelled, Status::Cancelled),
    ] {
        let [first, second, third] = line(&world).await;
        assert_eq!(world.stands(&first).await, (1, None));
        assert_wait_behind(&world, &first, &[(&second, 2), (&third, 3)]).await;
        let lease = world.claims(&first).await;
        world.claims_nothing().await;
        assert_wait_behind(&world, &first, &[(&second, 1), (&third, 2)]).await;
        assert_eq!(world.end(&lease, outcome).await, status);
        assert_eq!(world.stands(&second).await, (1, None));
        assert_wait_behind(&world, &second, &[(&third, 2)]).await;
        let lease = world.claims(&second).await;
        world.claims_nothing().await;
        world.succeed(&lease).await;
        world.renders_in_turn(&[&third]).await;
    }
}

pub(super) async fn one_that_is_cancelled_while_it_is_queued_lets_the_next_go(world: World) {
    let [first, second, third] = line(&world).await;
    world.cancel(second.id).await.unwrap();
    assert_wait_behind(&world, &first, &[(&third, 2)]).await;
    world.cancel(first.id).await.unwrap();
    assert_eq!(world.stands(&third).await, (1, None));
    world.claims(&third).await;
}

pub(super) async fn one_that_waits_for_its_next_attempt_keeps_its_group_waiting_and_no_other(world: World) {
    let [first, second] = line(&world).await;
    let lease = world.claims(&first).await;
    assert_eq!(world.end(&lease, passing()).await, Status::Queued);
    assert!(matches!(world.stands(&first).await, (1, Some(Blocked::Delayed { .. }))));
    assert_wait_behind(&world, &first, &[(&second, 2)]).await;
    world.claims_nothing().await;
    let other = world.accept("ann", render("other").in_group("other")).await;
    let other = world.claims(&other).await;
    let loner = world.accept("ann", render("loner")).await;
    let loner = world.claims(&loner).await;
    world.claims_nothing().await;
    world.succeed(&other).await;
    world.succeed(&loner).await;
    world.pass(LONG).await;
    world.succeed(&world.claims(&first).await).await;
    world.claims(&second).await;
}

pub(super) async fn groups_of_the_same_name_of_two_tenants_are_two_groups(world: World) {
    let ann = world.accept("ann", render("ann's").in_group("g")).await;
    let bob = world.accept("bob", render("bob's").in_group("g")).await;
    world.claims(&ann).await;
    world.claims(&bob).await;
}

pub(super) async fn the_order_holds_across_a_restart(mut world: World) {
    let [first, second, third] = line(&world).await;
    world.reopen().await;
    world.claims(&first).await;
    world.dies().await;
    assert_eq!(world.stands(&first).await, (1, None));
    assert_wait_behind(&world, &first, &[(&second, 2), (&third, 3)]).await;
    world.succeed(&world.claims(&first).await).await;
    world.reopen().await;
    let fourth = world.accept("ann", render("fourth").in_group("g")).await;
    for render in [&second, &third, &fourth] {
        let lease = world.claims(render).await;
        world.claims_nothing().await;
        world.succeed(&lease).await;
    }
}

pub(super) async fn one_whose_lease_is_lost_keeps_the_turn(world: World) {
    let [first, second] = line(&world).await;
    world.claims(&first).await;
    world.pass(LEASE).await;
    assert_wait_behind(&world, &first, &[(&second, 2)]).await;
    world.claims(&first).await;
    world.claims_nothing().await;
}

pub(super) async fn one_that_is_handed_back_keeps_the_turn(world: World) {
    let [first, second] = line(&world).await;
    let lease = world.claims(&first).await;
    world.release(first.id, &lease.token, HandBack::Draining).await.unwrap();
    assert_wait_behind(&world, &first, &[(&second, 2)]).await;
    let lease = world.claims(&first).await;
    let until = world.now() + MINUTE;
    world.release(first.id, &lease.token, HandBack::Throttled { until }).await.unwrap();
    assert_eq!(world.stands(&first).await, (1, Some(Blocked::Delayed { run_at: until })));
    world.claims_nothing().await;
    world.pass(MINUTE).await;
    world.claims(&first).await;
}

pub(super) async fn a_retry_goes_before_all_that_were_accepted_later(world: World) {
    let [first, second, third] = line(&world).await;
    world.fail_for_good(&world.claims(&first).await).await;
    assert_eq!(world.stands(&second).await, (1, None));
    let retried = world.retry(first.id).await.unwrap();
    assert_eq!((retried.seq, retried.status), (first.seq, Status::Queued));
    assert_eq!(world.stands(&first).await, (1, None));
    assert_wait_behind(&world, &first, &[(&second, 2), (&third, 3)]).await;
    for render in [&first, &second, &third] {
        let lease = world.claims(render).await;
        world.claims_nothing().await;
        world.succeed(&lease).await;
    }
}

pub(super) async fn a_retry_waits_while_a_later_one_is_being_rendered_and_goes_next(mut world: World) {
    let [first, second, third] = line(&world).await;
    world.fail_for_good(&world.claims(&first).await).await;
    let lease = world.claims(&second).await;
    world.retry(first.id).await.unwrap();
    world.claims_nothing().await;
    assert_wait_behind(&world, &second, &[(&first, 1), (&third, 2)]).await;
    // The later one loses the turn with its attempt: the order accepted is the order.
    assert_eq!(world.end(&lease, passing()).await, Status::Queued);
    assert_wait_behind(&world, &first, &[(&second, 2), (&third, 3)]).await;
    let lease = world.claims(&first).await;
    world.reopen().await;
    world.pass(LONG).await;
    assert!(world.finish(first.id, &lease.token, succeeded()).await.is_err());
    for render in [&first, &second, &third] {
        let lease = world.claims(render).await;
        world.claims_nothing().await;
        world.succeed(&lease).await;
    }
}

pub(super) async fn a_cancelled_one_that_is_retried_has_its_place_again(world: World) {
    let [first, second, third] = line(&world).await;
    world.cancel(second.id).await.unwrap();
    world.retry(second.id).await.unwrap();
    assert_wait_behind(&world, &first, &[(&second, 2), (&third, 3)]).await;
    world.cancel(first.id).await.unwrap();
    world.claims(&second).await;
}

pub(super) async fn a_retry_in_a_group_that_has_ended_opens_it_again(world: World) {
    let [first, second] = line(&world).await;
    world.fail_for_good(&world.claims(&first).await).await;
    world.fail_for_good(&world.claims(&second).await).await;
    world.retry(second.id).await.unwrap();
    world.retry(first.id).await.unwrap();
    world.succeed(&world.claims(&first).await).await;
    world.succeed(&world.claims(&second).await).await;
    world.claims_nothing().await;
}
