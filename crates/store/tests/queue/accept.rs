//! Submitting to a storage that cannot take it.

use std::future::poll_fn;
use std::task::Poll;

use futures_util::StreamExt as _;
use lastframe_core::TenantId;
use lastframe_core::conformance::{Asks as _, key, render};
use lastframe_core::ports::{Change, QueueError, SubmitError};

use crate::world::World;

#[tokio::test]
async fn a_submit_that_the_storage_fails_half_way_leaves_nothing() {
    let world = World::new().await;
    // Breaks a rule of another table, as no write of the store does.
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON render WHEN NEW.composition = 'bad' \
        BEGIN INSERT INTO tenant (name) VALUES (NULL); END";
    world.subject.sql().execute_batch(refuse).unwrap();
    let (ann, once) = (TenantId::new("ann"), key("k", 1));
    let asked = vec![render("a"), render("b").in_group("g"), render("bad")];
    let refused = world.submit(&ann, asked.clone(), Some(once.clone())).await.unwrap_err();
    assert!(matches!(refused, SubmitError::Queue(QueueError::Storage(_))), "{refused}");
    assert_eq!(world.all().await, []);
    assert_eq!(world.group_of_ann("g").await, None);
    world.claims_nothing().await;
    assert!(!world.submit(&ann, asked[..2].to_vec(), Some(once)).await.unwrap().replayed);
}

#[tokio::test]
async fn a_listener_that_is_too_slow_finds_its_changes_at_an_end_and_can_listen_anew() {
    let world = World::new().await;
    let (mut slow, ann) = (world.changes(), TenantId::new("ann"));
    // What comes of a submit is told soon after it is answered: of all but the last it has been told.
    for _ in 0..6 {
        world.submit(&ann, vec![render("a"); 1_000], None).await.unwrap();
    }
    assert_eq!(slow.next().await, None);
    let mut anew = world.changes();
    let next = world.accept("ann", render("next")).await;
    while anew.next().await.unwrap() != (Change { render: next.id }) {}
}

#[tokio::test]
async fn more_submits_than_can_wait_are_refused_as_busy_and_the_others_are_accepted() {
    let world = World::new().await;
    let lock = world.subject.sql();
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
