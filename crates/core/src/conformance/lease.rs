//! The right to work on a render: how it is kept, lost and given back.

use serde_json::json;

use super::{Asks as _, LEASE, LONG, MOMENT, RETRY, World, is_lost, nobody, passing, render, succeeded};
use crate::render::Blocked;
use crate::{Checkpoint, HandBack, Lease, Phase, Progress, Status};

async fn extend(world: &World, lease: &Lease) {
    world.extend(lease.render.id, &lease.token, Progress::START, None).await.unwrap();
}

/// Nothing that the holder of `lease` says counts, and nothing of it leaves a trace.
async fn assert_is_lost(world: &World, lease: &Lease) {
    let (id, token) = (lease.render.id, &lease.token);
    let before = (world.look(id).await, world.attempts(id).await.unwrap());
    let checkpoint = Some(Checkpoint(json!("late")));
    assert!(is_lost(world.extend(id, token, Progress::START.in_phase(Phase::Uploading), checkpoint).await));
    assert!(is_lost(world.release(id, token, HandBack::Draining).await));
    assert!(is_lost(world.finish(id, token, succeeded()).await));
    assert!(is_lost(world.finish(id, token, passing()).await));
    assert_eq!((world.look(id).await, world.attempts(id).await.unwrap()), before);
}

pub(super) async fn a_lease_says_what_is_to_be_made(world: World) {
    let asked = render("a").in_group("g");
    let a = world.accept("ann", asked.clone()).await;
    let lease = world.claims(&a).await;
    assert_eq!((lease.request, lease.duration, lease.checkpoint), (asked.request, LEASE, None));
    let render = lease.render;
    assert_eq!((render.status, render.attempt, render.leases), (Status::Rendering, 1, 1));
    assert_eq!((render.started_at, render.attempt_started_at), (Some(world.now()), Some(world.now())));
    assert_eq!(world.look(a.id).await, render);
}

pub(super) async fn an_extended_lease_holds_and_one_that_is_not_ends(world: World) {
    let a = world.accept("ann", render("a")).await;
    let lease = world.claims(&a).await;
    for _ in 0..5 {
        world.pass(LEASE - MOMENT).await;
        extend(&world, &lease).await;
    }
    world.pass(LEASE - MOMENT).await;
    assert_eq!(world.status(a.id).await, Status::Rendering);
    world.claims_nothing().await;
    world.pass(MOMENT).await;
    assert_eq!(world.status(a.id).await, Status::Queued);
}

pub(super) async fn a_lost_lease_costs_no_attempt_and_its_holder_changes_nothing_any_more(world: World) {
    let a = world.accept("ann", render("a").with_attempts(1)).await;
    let late = world.claims(&a).await;
    world.pass(LEASE).await;
    let lost = world.look(a.id).await;
    assert_eq!((lost.status, lost.attempt, lost.leases, lost.run_at), (Status::Queued, 0, 1, a.run_at));
    assert_is_lost(&world, &late).await;
    let lease = world.claims(&a).await;
    assert_ne!(lease.token, late.token);
    assert_is_lost(&world, &late).await;
    world.succeed(&lease).await;
    assert_is_lost(&world, &late).await;
    assert_is_lost(&world, &lease).await;
    assert_eq!(world.outcomes(a.id).await, ["lost", "succeeded"]);
}

pub(super) async fn a_token_is_good_for_its_own_render_only(world: World) {
    let renders = world.accept_many("ann", 2, render("a")).await;
    let (a, b) = (world.claims(&renders[0]).await, world.claims(&renders[1]).await);
    assert!(is_lost(world.finish(a.render.id, &b.token, succeeded()).await));
    assert!(is_lost(world.finish(nobody(), &a.token, succeeded()).await));
    world.succeed(&a).await;
    world.succeed(&b).await;
}

pub(super) async fn no_lease_outlives_the_process_that_gave_it(mut world: World) {
    let a = world.accept("ann", render("a")).await;
    let late = world.claims(&a).await;
    world.reopen().await;
    if world.capabilities().shared {
        // It is not the process that holds it: another one may go on with it in time.
        world.pass(LEASE - MOMENT).await;
        extend(&world, &late).await;
        world.pass(LEASE).await;
    }
    assert_eq!(world.status(a.id).await, Status::Queued);
    assert_is_lost(&world, &late).await;
    let lease = world.claims(&a).await;
    assert_ne!(lease.token, late.token);
    assert_is_lost(&world, &late).await;
    world.succeed(&lease).await;
}

pub(super) async fn a_restart_costs_no_attempt(mut world: World) {
    let a = world.accept("ann", render("a").with_attempts(1)).await;
    for leases in 1..=4 {
        let lease = world.claims(&a).await;
        assert_eq!((lease.render.attempt, lease.render.leases), (1, leases));
        world.dies().await;
        assert_eq!(world.look(a.id).await.attempt, 0);
    }
    world.succeed(&world.claims(&a).await).await;
    assert_eq!(world.outcomes(a.id).await, ["lost", "lost", "lost", "lost", "succeeded"]);
}

pub(super) async fn a_hand_back_costs_no_attempt_and_keeps_the_place(world: World) {
    let a = world.accept("ann", render("a").with_attempts(1)).await;
    let b = world.accept("ann", render("b")).await;
    let lease = world.claims(&a).await;
    world.release(a.id, &lease.token, HandBack::Draining).await.unwrap();
    let back = world.look(a.id).await;
    assert_eq!((back.status, back.attempt, back.seq), (Status::Queued, 0, a.seq));
    assert_is_lost(&world, &lease).await;
    world.claims_all_of(&[&a, &b]).await;
    assert_eq!(world.outcomes(a.id).await, ["handed_back", "goes on"]);
}

pub(super) async fn a_throttled_render_waits_as_long_as_it_was_told_to(world: World) {
    let a = world.accept("ann", render("a").with_attempts(1)).await;
    let lease = world.claims(&a).await;
    let until = world.now() + LONG;
    world.release(a.id, &lease.token, HandBack::Throttled { until }).await.unwrap();
    assert_eq!(world.stands(&a).await, (1, Some(Blocked::Delayed { run_at: until })));
    world.pass(LONG - MOMENT).await;
    world.claims_nothing().await;
    world.pass(MOMENT).await;
    world.claims(&a).await;
}

pub(super) async fn a_throttle_that_has_passed_already_is_no_wait(world: World) {
    let a = world.accept("ann", render("a")).await;
    let lease = world.claims(&a).await;
    let until = world.now() - LONG;
    world.release(a.id, &lease.token, HandBack::Throttled { until }).await.unwrap();
    assert_eq!(world.stands(&a).await, (1, None));
    world.claims(&a).await;
}

pub(super) async fn progress_and_checkpoint_are_kept_and_the_checkpoint_reaches_the_next_attempt(
    mut world: World,
) {
    let a = world.accept("ann", render("a")).await;
    let progress = Progress { phase: Phase::Rendering, frames_rendered: 30, frame_count: 150, overall: 0.2 };
    let checkpoint = Checkpoint(json!({"renderId": "x", "frames": [0, 30]}));
    let lease = world.claims(&a).await;
    world.extend(a.id, &lease.token, progress, Some(checkpoint.clone())).await.unwrap();
    assert_eq!(world.look(a.id).await.progress, Some(progress));
    // An extension that brings no checkpoint takes none away.
    world.extend(a.id, &lease.token, progress, None).await.unwrap();
    world.dies().await;
    assert_eq!(world.look(a.id).await.progress, None);
    let lease = world.claims(&a).await;
    assert_eq!(lease.checkpoint, Some(checkpoint));
    world.fail_for_good(&lease).await;
    world.retry(a.id).await.unwrap();
    assert_eq!(world.claims(&a).await.checkpoint, None, "a person's retry starts over");
}

pub(super) async fn a_render_that_keeps_losing_its_worker_is_given_up(mut world: World) {
    let a = world.accept("ann", render("a").with_attempts(1)).await;
    for lost in 1..=RETRY.max_lost {
        world.claims(&a).await;
        // Whether a worker dies alone or with the queue is one and the same.
        if lost % 2 == 0 {
            world.dies().await;
        } else {
            world.pass(LEASE).await;
        }
        assert_eq!(world.status(a.id).await.is_terminal(), lost == RETRY.max_lost);
    }
    let given_up = world.look(a.id).await;
    assert_eq!(given_up.status, Status::Failed);
    assert_eq!(given_up.error.unwrap().code, "worker_lost");
    assert_eq!(given_up.finished_at, Some(world.now()));
    world.claims_nothing().await;
}

pub(super) async fn only_losses_in_a_row_count(world: World) {
    let a = world.accept("ann", render("a").with_attempts(2)).await;
    let lose_all_but_one = async || {
        for _ in 1..RETRY.max_lost {
            world.claims(&a).await;
            world.pass(LEASE).await;
            assert_eq!(world.status(a.id).await, Status::Queued);
        }
    };
    lose_all_but_one().await;
    // A failure that somebody lived to report starts the count anew.
    assert_eq!(world.end(&world.claims(&a).await, passing()).await, Status::Queued);
    world.pass(LONG).await;
    lose_all_but_one().await;
    // A hand-back says nothing about what the render does to its workers.
    let lease = world.claims(&a).await;
    world.release(a.id, &lease.token, HandBack::Draining).await.unwrap();
    world.claims(&a).await;
    world.pass(LEASE).await;
    assert_eq!(world.status(a.id).await, Status::Failed);
    // Nor does what happened before somebody stopped it and asked for another go.
    world.retry(a.id).await.unwrap();
    lose_all_but_one().await;
    world.cancel(a.id).await.unwrap();
    world.retry(a.id).await.unwrap();
    lose_all_but_one().await;
    world.succeed(&world.claims(&a).await).await;
}
