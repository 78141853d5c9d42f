//! Attempts that do not work out, and when they are tried again.

use std::time::Duration;

use jiff::SignedDuration;

use super::{Asks as _, LONG, MOMENT, RETRY, World, nobody, passing, render, succeeded};
use crate::ports::ControlError;
use crate::render::{Event, IllegalTransition};
use crate::{Failure, HandBack, Outcome, Status};

pub(super) async fn a_success_is_recorded_with_its_output(mut world: World) {
    let a = world.accept("ann", render("a")).await;
    assert_eq!(world.end(&world.claims(&a).await, passing()).await, Status::Queued);
    world.pass(LONG).await;
    world.succeed(&world.claims(&a).await).await;
    world.reopen().await;
    let done = world.look(a.id).await;
    let Outcome::Succeeded(output) = succeeded() else { unreachable!() };
    assert_eq!((done.status, done.output, done.error), (Status::Succeeded, Some(output), None));
    assert_eq!((done.finished_at, done.attempt, done.leases), (Some(world.now()), 2, 2));
}

pub(super) async fn a_fault_that_may_pass_is_tried_again_after_a_wait_that_grows(world: World) {
    let a = world.accept("ann", render("a").with_attempts(8)).await;
    for attempt in 1..8 {
        let lease = world.claims(&a).await;
        assert_eq!(lease.render.attempt, attempt);
        assert_eq!(world.end(&lease, passing()).await, Status::Queued);
        let failed = world.look(a.id).await;
        assert_eq!(failed.error.map(|error| error.code), Some("browser_crashed".into()));
        assert_eq!((failed.attempt, failed.finished_at), (attempt, None));
        let step = (RETRY.base * 2_u32.pow(attempt - 1)).min(RETRY.cap);
        let delay = world.delay(&a).await;
        assert!(delay <= step && delay >= step / 2 - MOMENT, "attempt {attempt}: {delay:?}");
        world.pass(delay - MOMENT).await;
        world.claims_nothing().await;
        world.pass(MOMENT).await;
    }
    world.succeed(&world.claims(&a).await).await;
}

pub(super) async fn the_last_attempt_that_fails_ends_the_render(world: World) {
    let a = world.accept("ann", render("a").with_attempts(2)).await;
    assert_eq!(world.end(&world.claims(&a).await, passing()).await, Status::Queued);
    world.pass(LONG).await;
    assert_eq!(world.end(&world.claims(&a).await, passing()).await, Status::Failed);
    let failed = world.look(a.id).await;
    assert_eq!((failed.attempt, failed.finished_at), (2, Some(world.now())));
    assert_eq!(failed.error.map(|error| error.code), Some("browser_crashed".into()));
    world.pass(LONG).await;
    world.claims_nothing().await;
}

pub(super) async fn a_permanent_fault_ends_the_render_at_once(world: World) {
    let a = world.accept("ann", render("a").with_attempts(5)).await;
    world.fail_for_good(&world.claims(&a).await).await;
    let failed = world.look(a.id).await;
    assert_eq!((failed.status, failed.attempt), (Status::Failed, 1));
    assert_eq!(failed.error.map(|error| error.code), Some("composition_not_found".into()));
    world.claims_nothing().await;
}

pub(super) async fn the_history_tells_of_every_lease(mut world: World) {
    let a = world.accept("ann", render("a")).await;
    let first = world.claim("one", Duration::ZERO).await.unwrap().unwrap();
    let began = world.now();
    world.clock.advance(Duration::from_secs(5));
    let Outcome::Failed(failure) = passing() else { unreachable!() };
    world.end(&first, Outcome::Failed(failure.clone())).await;
    let ended = world.now();
    world.pass(LONG).await;
    world.claim("other", Duration::ZERO).await.unwrap().unwrap();
    world.dies().await;
    let history = world.attempts(a.id).await.unwrap();
    assert_eq!(history.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((history[0].worker.as_str(), history[1].worker.as_str()), ("one", "other"));
    assert_eq!((history[0].started_at, history[0].ended_at), (began, Some(ended)));
    assert_eq!(ended.duration_since(began), SignedDuration::from_secs(5));
    assert_eq!((history[0].error.as_ref(), history[1].error.as_ref()), (Some(&failure), None));
    world.claims(&a).await;
    assert_eq!(world.outcomes(a.id).await, ["failed", "lost", "goes on"]);
}

pub(super) async fn a_retry_has_all_its_attempts_and_remembers_the_earlier_ones(world: World) {
    let a = world.accept("ann", render("a").with_attempts(2)).await;
    world.fail_for_good(&world.claims(&a).await).await;
    world.clock.advance(LONG);
    let again = world.retry(a.id).await.unwrap();
    assert_eq!((again.status, again.attempt, again.leases, again.seq), (Status::Queued, 0, 1, a.seq));
    assert_eq!((again.error, again.finished_at), (None, None));
    assert_eq!(world.end(&world.claims(&a).await, passing()).await, Status::Queued);
    world.pass(LONG).await;
    assert_eq!(world.end(&world.claims(&a).await, passing()).await, Status::Failed);
    assert_eq!(world.outcomes(a.id).await, ["failed", "failed", "failed"]);
}

pub(super) async fn only_what_ended_without_an_output_can_be_retried(world: World) {
    let a = world.accept("ann", render("a")).await;
    let refused = async |status| match world.retry(a.id).await {
        Err(ControlError::Illegal(illegal)) => {
            assert_eq!(illegal, IllegalTransition { status, event: Event::Retry });
        }
        other => panic!("{other:?}"),
    };
    refused(Status::Queued).await;
    let lease = world.claims(&a).await;
    refused(Status::Rendering).await;
    world.succeed(&lease).await;
    refused(Status::Succeeded).await;
    assert!(matches!(world.retry(nobody()).await, Err(ControlError::NotFound)));
}

pub(super) async fn what_a_failure_says_is_kept_word_for_word(world: World) {
    let a = world.accept("ann", render("a")).await;
    let failure = Failure {
        code: "composition_threw".into(),
        name: "TypeError".into(),
        message: "Größe is \"undefined\"\n".into(),
        stack: Some("at Main (src/Main.tsx:3:7)".into()),
        retryable: false,
    };
    world.end(&world.claims(&a).await, Outcome::Failed(failure.clone())).await;
    assert_eq!(world.look(a.id).await.error, Some(failure));
}

pub(super) async fn no_back_off_outlives_a_restart(mut world: World) {
    if world.capabilities().shared {
        // Who comes and goes is nothing to what others have failed at.
        return back_offs_outlive_a_restart(world).await;
    }
    let a = world.accept("ann", render("a").in_group("g")).await;
    let b = world.accept("ann", render("b")).await;
    let lease = world.claims(&a).await;
    assert_eq!(world.end(&lease, passing()).await, Status::Queued);
    let lease = world.claims(&b).await;
    let until = world.now() + LONG;
    world.release(b.id, &lease.token, HandBack::Throttled { until }).await.unwrap();
    // A clock that has run for longer than the one before it makes no difference.
    for run in [Duration::ZERO, LONG] {
        world.claims_nothing().await;
        world.clock.advance(run);
        world.reopen().await;
        for render in [&a, &b] {
            assert_eq!(world.stands(render).await, (1 + u32::from(render.id == b.id), None));
        }
        for lease in world.claims_all_of(&[&a, &b]).await {
            world
                .release(lease.render.id, &lease.token, HandBack::Throttled { until: world.now() + LONG })
                .await
                .unwrap();
        }
    }
}

async fn back_offs_outlive_a_restart(mut world: World) {
    let a = world.accept("ann", render("a")).await;
    let lease = world.claims(&a).await;
    assert_eq!(world.end(&lease, passing()).await, Status::Queued);
    let delay = world.delay(&a).await;
    world.reopen().await;
    assert_eq!(world.delay(&a).await, delay);
    world.pass(delay - MOMENT).await;
    world.claims_nothing().await;
    world.pass(MOMENT).await;
    world.claims(&a).await;
}

pub(super) async fn a_failure_lets_its_group_go_on_unless_it_was_asked_to_hold_it(world: World) {
    let first = world.accept("ann", render("first").in_group("g")).await;
    let second = world.accept("ann", render("second").in_group("g")).await;
    world.fail_for_good(&world.claims(&first).await).await;
    world.claims(&second).await;
}
