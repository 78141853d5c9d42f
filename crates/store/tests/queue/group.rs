//! Renders of one group run one after another, in the order accepted.

use std::time::Duration;

use jiff::SignedDuration;
use lastframe_core::ports::{ControlError, Queue as _};
use lastframe_core::render::Blocked;
use lastframe_core::{Clock as _, HandBack, Lease, Outcome, Render, Status};

use crate::world::{Asks as _, LEASE, LONG, RETRY, World, behind, passing, permanent, render, succeeded};

const MINUTE: Duration = Duration::from_secs(60);

/// `first` and `second` and so on, accepted in this order into one group.
async fn line<const N: usize>(world: &World) -> [Render; N] {
    let mut accepted = Vec::new();
    for name in ["first", "second", "third", "fourth"].into_iter().take(N) {
        accepted.push(world.accept("ann", render(name).in_group("g")).await);
    }
    accepted.try_into().unwrap()
}

/// Where each stands: its place, and who has the turn if that is what it waits for.
async fn assert_wait_behind(world: &World, turn: &Render, waiting: &[(&Render, u32)]) {
    for (render, position) in waiting {
        assert_eq!(world.stands(render).await, (*position, behind(turn)), "{}", render.composition);
    }
}

#[tokio::test]
async fn the_next_starts_when_the_one_before_is_terminal_and_not_before() {
    for (outcome, status) in [
        (succeeded(), Status::Succeeded),
        (permanent(), Status::Failed),
        (Outcome::Cancelled, Status::Cancelled),
    ] {
        let world = World::new().await;
        let [first, second, third] = line(&world).await;
        assert_eq!(world.stands(&first).await, (1, None));
        assert_wait_behind(&world, &first, &[(&second, 2), (&third, 3)]).await;
        let lease = world.claims(&first).await;
        world.claims_nothing().await;
        assert_wait_behind(&world, &first, &[(&second, 1), (&third, 2)]).await;
        assert_eq!(world.end(&lease, outcome).await, status);
        assert_eq!(world.stands(&second).await, (1, None));
        assert_wait_behind(&world, &second, &[(&third, 2)]).await;
        world.claims(&second).await;
        world.claims_nothing().await;
    }
}

#[tokio::test]
async fn one_that_is_cancelled_while_it_is_queued_lets_the_next_go() {
    let world = World::new().await;
    let [first, second, third] = line(&world).await;
    world.cancel(second.id).await.unwrap();
    assert_wait_behind(&world, &first, &[(&third, 2)]).await;
    world.cancel(first.id).await.unwrap();
    assert_eq!(world.stands(&third).await, (1, None));
    world.claims(&third).await;
}

#[tokio::test]
async fn one_that_waits_for_its_next_attempt_keeps_its_group_waiting_and_no_other() {
    let world = World::new().await;
    let [first, second] = line(&world).await;
    let lease = world.claims(&first).await;
    assert_eq!(world.end(&lease, passing()).await, Status::Queued);
    let run_at = world.look(first.id).await.run_at;
    assert_eq!(world.stands(&first).await, (1, Some(Blocked::Delayed { run_at })));
    assert_wait_behind(&world, &first, &[(&second, 2)]).await;
    world.claims_nothing().await;
    let other = world.accept("ann", render("other").in_group("other")).await;
    world.claims(&other).await;
    let loner = world.accept("ann", render("loner")).await;
    world.claims(&loner).await;
    world.claims_nothing().await;
    world.pass(LONG).await;
    world.succeed(&world.claims(&first).await).await;
    world.claims(&second).await;
}

#[tokio::test]
async fn groups_of_the_same_name_of_two_tenants_are_two_groups() {
    let world = World::new().await;
    let ann = world.accept("ann", render("ann's").in_group("g")).await;
    let bob = world.accept("bob", render("bob's").in_group("g")).await;
    world.claims(&ann).await;
    world.claims(&bob).await;
}

#[tokio::test]
async fn priority_does_not_change_the_order_within_a_group() {
    let world = World::new().await;
    let first = world.accept("ann", render("first").in_group("g")).await;
    let urgent = world.accept("ann", render("urgent").in_group("g").with_priority(1_000)).await;
    world.succeed(&world.claims(&first).await).await;
    world.claims(&urgent).await;
}

#[tokio::test]
async fn the_order_holds_across_the_death_of_the_server() {
    let mut world = World::new().await;
    let [first, second, third] = line(&world).await;
    world.reopen().await;
    world.claims(&first).await;
    world.reopen().await;
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

#[tokio::test]
async fn one_whose_lease_is_lost_keeps_the_turn() {
    let world = World::new().await;
    let [first, second] = line(&world).await;
    world.claims(&first).await;
    world.pass(LEASE).await;
    assert_wait_behind(&world, &first, &[(&second, 2)]).await;
    world.claims(&first).await;
    world.claims_nothing().await;
}

#[tokio::test]
async fn one_that_is_handed_back_keeps_the_turn() {
    let world = World::new().await;
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

#[tokio::test]
async fn a_retry_goes_before_all_that_were_accepted_later() {
    let world = World::new().await;
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

#[tokio::test]
async fn a_retry_waits_while_a_later_one_is_being_rendered_and_goes_next() {
    let mut world = World::new().await;
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

#[tokio::test]
async fn a_cancelled_one_that_is_retried_has_its_place_again() {
    let world = World::new().await;
    let [first, second, third] = line(&world).await;
    world.cancel(second.id).await.unwrap();
    world.retry(second.id).await.unwrap();
    assert_wait_behind(&world, &first, &[(&second, 2), (&third, 3)]).await;
    world.cancel(first.id).await.unwrap();
    world.claims(&second).await;
}

#[tokio::test]
async fn a_retry_in_a_group_that_has_ended_opens_it_again() {
    let world = World::new().await;
    let [first, second] = line(&world).await;
    world.fail_for_good(&world.claims(&first).await).await;
    world.fail_for_good(&world.claims(&second).await).await;
    world.retry(second.id).await.unwrap();
    world.retry(first.id).await.unwrap();
    world.succeed(&world.claims(&first).await).await;
    world.succeed(&world.claims(&second).await).await;
    world.claims_nothing().await;
}

/// A group that is held by its first render, and the one that waits.
async fn held(world: &World) -> (Render, Render) {
    let first = world.accept("ann", render("first").in_group("g").holding_its_group()).await;
    let second = world.accept("ann", render("second").in_group("g")).await;
    world.fail_for_good(&world.claims(&first).await).await;
    (first, second)
}

fn held_by(render: &Render) -> Option<Blocked> {
    Some(Blocked::GroupHeld { render_id: render.id })
}

#[tokio::test]
async fn a_failure_that_holds_its_group_lets_nothing_go_until_it_is_retried_and_done() {
    let mut world = World::new().await;
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

#[tokio::test]
async fn a_retry_that_fails_again_holds_its_group_again() {
    let world = World::new().await;
    let (first, second) = held(&world).await;
    world.retry(first.id).await.unwrap();
    world.fail_for_good(&world.claims(&first).await).await;
    assert_eq!(world.stands(&second).await, (1, held_by(&first)));
    world.claims_nothing().await;
}

#[tokio::test]
async fn a_retry_that_is_cancelled_lets_its_group_go() {
    let world = World::new().await;
    let (first, second) = held(&world).await;
    assert!(matches!(world.cancel(first.id).await, Err(ControlError::Illegal(_))));
    world.retry(first.id).await.unwrap();
    world.cancel(first.id).await.unwrap();
    world.claims(&second).await;
}

#[tokio::test]
async fn a_hold_outlasts_the_cancelling_of_all_that_wait() {
    let world = World::new().await;
    let (first, second) = held(&world).await;
    world.cancel(second.id).await.unwrap();
    let third = world.accept("ann", render("third").in_group("g")).await;
    assert_eq!(world.stands(&third).await, (1, held_by(&first)));
    world.claims_nothing().await;
}

#[tokio::test]
async fn retrying_another_one_does_not_lift_a_hold() {
    let world = World::new().await;
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

#[tokio::test]
async fn one_that_is_given_up_after_losing_its_workers_holds_its_group_too() {
    let world = World::new().await;
    let first = world.accept("ann", render("first").in_group("g").holding_its_group()).await;
    let second = world.accept("ann", render("second").in_group("g")).await;
    for _ in 0..RETRY.max_lost {
        world.claims(&first).await;
        world.pass(LEASE).await;
    }
    assert_eq!(world.status(first.id).await, Status::Failed);
    assert_eq!(world.stands(&second).await, (1, held_by(&first)));
}

#[tokio::test]
async fn a_render_that_holds_its_group_when_it_fails_does_not_when_it_is_cancelled() {
    let world = World::new().await;
    let first = world.accept("ann", render("first").in_group("g").holding_its_group()).await;
    let second = world.accept("ann", render("second").in_group("g")).await;
    let lease: Lease = world.claims(&first).await;
    world.cancel(first.id).await.unwrap();
    assert_eq!(world.end(&lease, Outcome::Cancelled).await, Status::Cancelled);
    world.claims(&second).await;
}

#[tokio::test]
async fn a_delayed_render_starts_at_its_time_and_not_before() {
    let world = World::new().await;
    let run_at = world.now() + MINUTE;
    let later = world.accept("ann", render("later").not_before(run_at)).await;
    assert_eq!(later.run_at, run_at);
    assert_eq!(world.stands(&later).await.1, Some(Blocked::Delayed { run_at }));
    world.pass(MINUTE - Duration::from_millis(1)).await;
    world.claims_nothing().await;
    world.pass(Duration::from_millis(1)).await;
    assert_eq!(world.stands(&later).await, (1, None));
    world.claims(&later).await;
}

#[tokio::test]
async fn a_delayed_render_keeps_those_behind_it_in_its_group_waiting() {
    let mut world = World::new().await;
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

#[tokio::test]
async fn a_delay_that_passes_while_another_has_the_turn_is_over() {
    let world = World::new().await;
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

#[tokio::test]
async fn a_time_that_has_passed_is_no_delay() {
    let world = World::new().await;
    let past = world.accept("ann", render("past").not_before(world.now() - MINUTE)).await;
    assert_eq!(past.run_at, world.now());
    world.claims(&past).await;
}

#[tokio::test]
async fn who_asked_for_no_delay_has_none_when_the_clock_is_put_back() {
    let world = World::new().await;
    let [first, second] = line(&world).await;
    // A submit into the group looks afresh at whose turn it is.
    let put_back = async || {
        world.clock.jump_to(world.clock.now() - SignedDuration::from_hours(24));
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
