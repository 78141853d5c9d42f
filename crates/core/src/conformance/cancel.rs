//! Somebody wants a render to stop.

use super::{Asks as _, LEASE, LONG, World, is_lost, nobody, passing, render, succeeded};
use crate::ports::ControlError;
use crate::render::{Event, IllegalTransition};
use crate::{HandBack, Outcome, Progress, Render, Status};

async fn assert_cancelled(world: &World, render: &Render) {
    let cancelled = world.look(render.id).await;
    assert_eq!(cancelled.status, Status::Cancelled);
    assert_eq!(cancelled.finished_at, Some(world.now()));
    assert_eq!(cancelled.error.map(|error| error.name), Some("CancelledError".into()));
}

pub(super) async fn a_queued_render_is_cancelled_at_once(world: World) {
    let a = world.accept("ann", render("a")).await;
    assert_eq!(world.cancel(a.id).await.unwrap().status, Status::Cancelled);
    assert_cancelled(&world, &a).await;
    world.claims_nothing().await;
}

pub(super) async fn the_holder_of_a_rendering_one_is_asked_to_stop(world: World) {
    let a = world.accept("ann", render("a")).await;
    let lease = world.claims(&a).await;
    let extended = world.extend(a.id, &lease.token, Progress::START, None).await.unwrap();
    assert!(!extended.cancel_requested);
    let asked = world.cancel(a.id).await.unwrap();
    assert_eq!((asked.status, asked.cancel_requested_at), (Status::Rendering, Some(world.now())));
    // Asking twice is asking once.
    world.clock.advance(LEASE / 2);
    assert_eq!(world.cancel(a.id).await.unwrap().cancel_requested_at, asked.cancel_requested_at);
    assert!(world.extend(a.id, &lease.token, Progress::START, None).await.unwrap().cancel_requested);
    assert_eq!(world.end(&lease, Outcome::Cancelled).await, Status::Cancelled);
    assert_cancelled(&world, &a).await;
    assert_eq!(world.outcomes(a.id).await, ["cancelled"]);
}

pub(super) async fn a_holder_that_fails_instead_of_stopping_has_stopped(world: World) {
    let a = world.accept("ann", render("a")).await;
    let lease = world.claims(&a).await;
    world.cancel(a.id).await.unwrap();
    assert_eq!(world.end(&lease, passing()).await, Status::Cancelled);
    assert_cancelled(&world, &a).await;
}

pub(super) async fn a_holder_that_hands_back_instead_of_stopping_has_stopped(world: World) {
    let a = world.accept("ann", render("a").in_group("g")).await;
    let b = world.accept("ann", render("b").in_group("g")).await;
    let lease = world.claims(&a).await;
    world.cancel(a.id).await.unwrap();
    let until = world.now() + LONG;
    world.release(a.id, &lease.token, HandBack::Throttled { until }).await.unwrap();
    assert_cancelled(&world, &a).await;
    world.claims(&b).await;
}

pub(super) async fn a_holder_that_was_done_already_has_succeeded(world: World) {
    let a = world.accept("ann", render("a")).await;
    let lease = world.claims(&a).await;
    world.cancel(a.id).await.unwrap();
    assert_eq!(world.end(&lease, succeeded()).await, Status::Succeeded);
}

pub(super) async fn a_holder_that_dies_after_it_was_asked_to_stop_has_stopped(mut world: World) {
    for restarts in [false, true] {
        let a = world.accept("ann", render("a").in_group("g")).await;
        let b = world.accept("ann", render("b").in_group("g")).await;
        let lease = world.claims(&a).await;
        world.cancel(a.id).await.unwrap();
        if restarts {
            world.dies().await;
        } else {
            world.pass(LEASE).await;
        }
        assert_cancelled(&world, &a).await;
        assert!(is_lost(world.finish(a.id, &lease.token, succeeded()).await));
        world.succeed(&world.claims(&b).await).await;
    }
}

pub(super) async fn what_has_ended_cannot_be_cancelled(world: World) {
    for (outcome, status) in [(succeeded(), Status::Succeeded), (Outcome::Cancelled, Status::Cancelled)] {
        let a = world.accept("ann", render("a")).await;
        world.end(&world.claims(&a).await, outcome).await;
        let before = world.look(a.id).await;
        match world.cancel(a.id).await {
            Err(ControlError::Illegal(illegal)) => {
                assert_eq!(illegal, IllegalTransition { status, event: Event::Cancel });
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(world.look(a.id).await, before);
    }
    assert!(matches!(world.cancel(nobody()).await, Err(ControlError::NotFound)));
}

pub(super) async fn a_cancelled_render_can_be_retried_and_is_not_asked_to_stop_again(world: World) {
    let a = world.accept("ann", render("a")).await;
    let lease = world.claims(&a).await;
    world.cancel(a.id).await.unwrap();
    assert_eq!(world.end(&lease, Outcome::Cancelled).await, Status::Cancelled);
    assert_eq!(world.retry(a.id).await.unwrap().cancel_requested_at, None);
    let lease = world.claims(&a).await;
    assert!(!world.extend(a.id, &lease.token, Progress::START, None).await.unwrap().cancel_requested);
    world.succeed(&lease).await;
}
