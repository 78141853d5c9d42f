//! Submitting.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt as _;
use lastframe_core::ports::{Change, Filter, Queue as _, QueueError, SubmitError};
use lastframe_core::{OnFailure, Render, Status, TenantId};
use serde_json::json;

use crate::world::{Asks as _, World, key, render};

const HOUR: Duration = Duration::from_secs(60 * 60);

fn ids(renders: &[Render]) -> Vec<String> {
    renders.iter().map(|render| render.id.to_string()).collect()
}

#[tokio::test]
async fn an_accepted_render_is_there_as_it_was_after_the_store_is_opened_again() {
    let mut world = World::new().await;
    let mut asked = render("a").in_group("g").with_priority(7).with_attempts(9).holding_its_group();
    asked.request.input_props =
        serde_json::from_value(json!({"title": "Grüße", "sizes": [1, 2.5, null]})).unwrap();
    let accepted = world.accept("ann", asked.clone()).await;
    assert_eq!(accepted.status, Status::Queued);
    assert_eq!((accepted.tenant.as_str(), accepted.group.as_deref()), ("ann", Some("g")));
    assert_eq!((accepted.priority, accepted.max_attempts, accepted.attempt, accepted.leases), (7, 9, 0, 0));
    assert_eq!((accepted.created_at, accepted.run_at), (world.now(), world.now()));
    world.reopen().await;
    assert_eq!(world.look(accepted.id).await, accepted);
    assert_eq!(world.request(accepted.id).await.unwrap(), Some(asked.request));
    assert_eq!(world.all().await, [accepted]);
}

#[tokio::test]
async fn what_the_request_leaves_open_has_its_default() {
    let world = World::new().await;
    let accepted = world.accept("ann", render("a")).await;
    assert_eq!((accepted.priority, accepted.max_attempts, accepted.group), (0, 3, None));
    // A failure of it lets its group go on.
    let on_failure: String =
        world.sql().query_one("SELECT on_failure FROM render", [], |row| row.get(0)).unwrap();
    assert_eq!(on_failure, OnFailure::Continue.as_str());
}

#[tokio::test]
async fn renders_submitted_together_are_accepted_in_the_order_given() {
    let world = World::new().await;
    let asked = ["a", "b", "c"].map(render).to_vec();
    let accepted = world.submit(&TenantId::new("ann"), asked, None).await.unwrap().renders;
    assert_eq!(
        accepted.iter().map(|render| render.composition.as_str()).collect::<Vec<_>>(),
        ["a", "b", "c"]
    );
    assert!(accepted.is_sorted_by_key(|render| render.seq));
    for render in &accepted {
        world.claims(render).await;
    }
}

#[tokio::test]
async fn renders_submitted_together_are_accepted_all_or_not_at_all() {
    let world = World::new().await;
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON render WHEN NEW.composition = 'bad' \
        BEGIN SELECT RAISE(ABORT, 'refused'); END";
    world.sql().execute_batch(refuse).unwrap();
    let (ann, once) = (TenantId::new("ann"), key("k", 1));
    let mut changes = world.changes();
    let asked = vec![render("a"), render("b").in_group("g"), render("bad")];
    let refused = world.submit(&ann, asked.clone(), Some(once.clone())).await.unwrap_err();
    assert!(matches!(refused, SubmitError::Queue(QueueError::Storage(_))), "{refused}");
    assert_eq!(world.all().await, []);
    world.claims_nothing().await;
    // The key was not used up either.
    let accepted = world.submit(&ann, asked[..2].to_vec(), Some(once)).await.unwrap();
    assert!(!accepted.replayed);
    assert_eq!(accepted.renders.len(), 2);
    // Nor has anybody heard of what was undone.
    assert_eq!(changes.next().await, Some(Change { render: accepted.renders[0].id }));
}

#[tokio::test]
async fn the_same_key_and_body_stand_for_the_same_renders() {
    let mut world = World::new().await;
    let first = world.accept_once("ann", render("a"), &key("k", 1)).await.unwrap();
    assert!(!first.replayed);
    let again = world.accept_once("ann", render("a"), &key("k", 1)).await.unwrap();
    assert!(again.replayed);
    assert_eq!(again.renders, first.renders);
    world.reopen().await;
    world.claims(&first.renders[0]).await;
    let later = world.accept_once("ann", render("a"), &key("k", 1)).await.unwrap();
    assert_eq!(ids(&later.renders), ids(&first.renders));
    assert_eq!(later.renders[0].status, Status::Rendering, "they are told as they are now");
    assert_eq!(world.all().await.len(), 1);
}

#[tokio::test]
async fn the_same_key_with_another_body_is_refused() {
    let world = World::new().await;
    world.accept_once("ann", render("a"), &key("k", 1)).await.unwrap();
    let refused = world.accept_once("ann", render("b"), &key("k", 2)).await.unwrap_err();
    assert!(matches!(refused, SubmitError::KeyReused), "{refused}");
    assert_eq!(world.all().await.len(), 1);
}

#[tokio::test]
async fn a_key_is_forgotten_after_72_hours_and_not_before() {
    let world = World::new().await;
    world.accept_once("ann", render("a"), &key("k", 1)).await.unwrap();
    world.pass(72 * HOUR - Duration::from_millis(1)).await;
    assert!(world.accept_once("ann", render("a"), &key("k", 1)).await.unwrap().replayed);
    world.pass(Duration::from_millis(1)).await;
    assert!(!world.accept_once("ann", render("b"), &key("k", 2)).await.unwrap().replayed);
    assert_eq!(world.all().await.len(), 2);
}

#[tokio::test]
async fn a_key_is_its_tenants_own() {
    let world = World::new().await;
    let ann = world.accept_once("ann", render("a"), &key("k", 1)).await.unwrap();
    let bob = world.accept_once("bob", render("a"), &key("k", 2)).await.unwrap();
    assert!(!bob.replayed);
    assert_ne!(ids(&ann.renders), ids(&bob.renders));
}

#[tokio::test]
async fn more_submits_than_can_wait_are_refused_as_busy_and_the_others_are_accepted() {
    let world = World::new().await;
    let lock = world.sql();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let ann = TenantId::new("ann");
    let mut submits: Vec<_> = (0..1_100).map(|_| world.submit(&ann, vec![render("a")], None)).collect();
    let mut refused = 0;
    // Each is polled once, so that all are sent while the writer is kept from writing.
    poll_fn(|context| {
        submits.retain_mut(|submit| match submit.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(Err(SubmitError::Queue(QueueError::Busy))) => {
                refused += 1;
                false
            }
            Poll::Ready(other) => panic!("{other:?} while nothing can be written"),
        });
        Poll::Ready(())
    })
    .await;
    assert!(refused > 0);
    lock.execute_batch("COMMIT").unwrap();
    let accepted = submits.len();
    for submit in submits {
        submit.await.unwrap();
    }
    assert_eq!(world.all().await.len(), accepted);
}

#[tokio::test]
async fn a_list_is_newest_first_and_can_be_narrowed_and_paged() {
    let world = World::new().await;
    let a = world.accept("ann", render("a").in_group("g")).await;
    let b = world.accept("ann", render("b")).await;
    let c = world.accept("ann", render("c").in_group("g")).await;
    let d = world.accept("bob", render("d").in_group("g")).await;
    world.claims(&a).await;
    let ann = || Some(TenantId::new("ann"));
    let any = || Filter { limit: 10, ..Filter::default() };
    for (filter, expected) in [
        (any(), vec![&d, &c, &b, &a]),
        (Filter { tenant: ann(), ..any() }, vec![&c, &b, &a]),
        (Filter { status: Some(Status::Rendering), ..any() }, vec![&a]),
        (Filter { group: Some("g".into()), ..any() }, vec![&d, &c, &a]),
        (Filter { tenant: ann(), status: Some(Status::Queued), ..any() }, vec![&c, &b]),
        (Filter { tenant: ann(), group: Some("g".into()), ..any() }, vec![&c, &a]),
        (Filter { tenant: ann(), group: Some("g".into()), status: Some(Status::Queued), ..any() }, vec![&c]),
        (Filter { tenant: ann(), before: Some(c.seq), ..any() }, vec![&b, &a]),
        (Filter { tenant: ann(), limit: 2, ..any() }, vec![&c, &b]),
        (Filter { tenant: Some(TenantId::new("eve")), ..any() }, vec![]),
    ] {
        let listed = world.list(filter.clone()).await.unwrap();
        assert_eq!(
            ids(&listed),
            expected.iter().map(|render| render.id.to_string()).collect::<Vec<_>>(),
            "{filter:?}"
        );
    }
}
