//! Attempts that do not work out, and when they are tried again.

use std::time::Duration;

use jiff::SignedDuration;
use lastframe_core::ports::{ControlError, Queue as _};
use lastframe_core::render::{Event, IllegalTransition};
use lastframe_core::{Failure, Outcome, RenderId, Status};

use crate::world::{Asks as _, LONG, RETRY, World, passing, render, succeeded};

#[tokio::test]
async fn a_success_is_recorded_with_its_output() {
    let mut world = World::new().await;
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

#[tokio::test]
async fn a_fault_that_may_pass_is_tried_again_after_a_wait_that_grows() {
    let world = World::new().await;
    let a = world.accept("ann", render("a").with_attempts(8)).await;
    for attempt in 1..8 {
        let lease = world.claims(&a).await;
        assert_eq!(lease.render.attempt, attempt);
        assert_eq!(world.end(&lease, passing()).await, Status::Queued);
        let failed = world.look(a.id).await;
        assert_eq!(failed.error.map(|error| error.code), Some("browser_crashed".into()));
        assert_eq!((failed.attempt, failed.finished_at), (attempt, None));
        let step = (RETRY.base * 2_u32.pow(attempt - 1)).min(RETRY.cap);
        let delay = failed.run_at.duration_since(world.now()).unsigned_abs();
        assert!(
            delay <= step && delay >= step / 2 - Duration::from_millis(1),
            "attempt {attempt}: {delay:?}"
        );
        world.pass(delay - Duration::from_millis(1)).await;
        world.claims_nothing().await;
        world.pass(Duration::from_millis(1)).await;
    }
    world.succeed(&world.claims(&a).await).await;
}

#[tokio::test]
async fn the_last_attempt_that_fails_ends_the_render() {
    let world = World::new().await;
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

#[tokio::test]
async fn a_permanent_fault_ends_the_render_at_once() {
    let world = World::new().await;
    let a = world.accept("ann", render("a").with_attempts(5)).await;
    world.fail_for_good(&world.claims(&a).await).await;
    let failed = world.look(a.id).await;
    assert_eq!((failed.status, failed.attempt), (Status::Failed, 1));
    assert_eq!(failed.error.map(|error| error.code), Some("composition_not_found".into()));
    world.claims_nothing().await;
}

#[tokio::test]
async fn the_history_tells_of_every_lease() {
    let mut world = World::new().await;
    let a = world.accept("ann", render("a")).await;
    let first = world.claim("one", Duration::ZERO).await.unwrap().unwrap();
    let began = world.now();
    world.clock.advance(Duration::from_secs(5));
    let Outcome::Failed(failure) = passing() else { unreachable!() };
    world.end(&first, Outcome::Failed(failure.clone())).await;
    let ended = world.now();
    world.pass(LONG).await;
    world.claim("other", Duration::ZERO).await.unwrap().unwrap();
    world.reopen().await;
    let history = world.attempts(a.id).await.unwrap();
    assert_eq!(history.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((history[0].worker.as_str(), history[1].worker.as_str()), ("one", "other"));
    assert_eq!((history[0].started_at, history[0].ended_at), (began, Some(ended)));
    assert_eq!(ended.duration_since(began), SignedDuration::from_secs(5));
    assert_eq!((history[0].error.as_ref(), history[1].error.as_ref()), (Some(&failure), None));
    world.claims(&a).await;
    assert_eq!(world.outcomes(a.id).await, ["failed", "lost", "goes on"]);
}

#[tokio::test]
async fn a_retry_has_all_its_attempts_and_remembers_the_earlier_ones() {
    let world = World::new().await;
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

#[tokio::test]
async fn only_what_ended_without_an_output_can_be_retried() {
    let world = World::new().await;
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
    let nobody = RenderId::generate(world.now(), &mut fastrand::Rng::with_seed(0));
    assert!(matches!(world.retry(nobody).await, Err(ControlError::NotFound)));
    assert!(world.get(nobody).await.unwrap().is_none());
    assert!(world.request(nobody).await.unwrap().is_none());
}

#[tokio::test]
async fn what_a_failure_says_is_kept_word_for_word() {
    let world = World::new().await;
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
