//! Damage where somebody comes across it.

use std::path::Path;
use std::time::Duration;

use lastframe_core::accounts::{Accounts as _, Scopes, Session};
use lastframe_core::ports::{ControlError, Directory as _, Filter, Queue as _, QueueError, Redrive};
use lastframe_core::request::QueueOptions;
use lastframe_core::{Failure, Outcome, Status};
use lastframe_store::{Keys, Store};

use crate::library::{
    checked, claim, copied, flip, flip_where, later, open, open_with, render, site, submit, tenant, token,
    user,
};

/// Three renders of one tenant; the file is damaged where `find` is written. Returns the store and the ids.
async fn damaged_at(folder: &Path, find: &str) -> (Store, Vec<lastframe_core::RenderId>) {
    // Nothing is sealed, so that what is written can be found.
    let store = open_with(folder, Keys::default()).await.unwrap();
    store.put_site(&tenant("ann"), site("v1")).await.unwrap();
    let mut ids = Vec::new();
    for (name, group) in [("first", Some("g")), ("second", None), ("third", Some("g"))] {
        let mut render = render(name, group);
        render.request.queue =
            Some(QueueOptions { group: group.map(str::to_owned), ..QueueOptions::default() });
        ids.push(submit(&store, "ann", render).await.id);
    }
    drop(store);
    flip_where(&folder.join(Store::FILE), find);
    (open_with(folder, Keys::default()).await.unwrap(), ids)
}

#[tokio::test]
async fn a_damaged_request_fails_its_render_with_a_reason_and_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let (store, ids) = damaged_at(folder.path(), "{\"of\":\"first\"}").await;
    assert_eq!(claim(&store).await.unwrap().render.id, ids[1]);
    assert_eq!(claim(&store).await.unwrap().render.id, ids[2], "its group goes on");
    let failed = store.get(ids[0]).await.unwrap().unwrap();
    assert_eq!((failed.status, failed.error.unwrap().code.as_str()), (Status::Failed, "request_damaged"));
    assert!(matches!(store.request(ids[0]).await, Err(QueueError::Damaged { .. })));
}

#[tokio::test]
async fn a_damaged_record_is_not_told_as_truth_fails_when_its_turn_comes_and_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let (store, ids) = damaged_at(folder.path(), "mediasitev1first").await;
    assert!(matches!(store.get(ids[0]).await, Err(QueueError::Damaged { .. })));
    assert!(matches!(store.cancel(ids[0]).await, Err(ControlError::Queue(QueueError::Damaged { .. }))));
    let listed = store.list(Filter { limit: 10, ..Filter::default() }).await.unwrap();
    assert_eq!(
        listed.iter().map(|render| render.id).collect::<Vec<_>>(),
        [ids[2], ids[1]],
        "it hides no other"
    );
    let report = checked(folder.path()).unwrap();
    assert_eq!(report.problems, [format!("damaged: render {}", ids[0])]);
    assert_eq!(claim(&store).await.unwrap().render.id, ids[1]);
    assert_eq!(claim(&store).await.unwrap().render.id, ids[2], "its group goes on");
    let failed = store.get(ids[0]).await.unwrap().unwrap();
    assert_eq!((failed.status, failed.error.unwrap().code.as_str()), (Status::Failed, "record_damaged"));
    assert_eq!(checked(folder.path()).unwrap().problems, [""; 0]);
}

#[tokio::test]
async fn a_damaged_render_that_ended_hides_no_other_from_redrive_and_retention() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    store.put_site(&tenant("ann"), site("v1")).await.unwrap();
    for name in ["first", "second"] {
        submit(&store, "ann", render(name, None)).await;
        let lease = claim(&store).await.unwrap();
        let failed = Outcome::Failed(Failure::new("component_error", name, false));
        store.finish(lease.render.id, &lease.token, failed).await.unwrap();
    }
    drop(store);
    flip_where(&folder.path().join(Store::FILE), "v1firstfailed");
    let store = open(folder.path()).await.unwrap();
    let later = "2027-01-01T00:00:00Z".parse().unwrap();
    let ended: Vec<_> = store.ended_before(later, 10).await.unwrap();
    assert_eq!(ended.iter().map(|render| render.composition.as_str()).collect::<Vec<_>>(), ["second"]);
    let all = Redrive {
        tenant: tenant("ann"),
        ids: None,
        group: None,
        code: None,
        since: None,
        until: None,
        limit: 10,
    };
    assert_eq!(store.redrive(all).await.unwrap().renders, [ended[0].id]);
}

/// Where the values of a record lie within the file, from a part of it that is written once. What stands before them
/// is the page's structure: nothing is served from a page that has lost that.
fn values(file: &Path, part: &str) -> std::ops::Range<usize> {
    let bytes = std::fs::read(file).unwrap();
    let at = bytes.windows(part.len()).position(|bytes| bytes == part.as_bytes()).unwrap();
    // Id, group, kind and site before it; the rule for failures, the time and at least four bytes of checksum after it.
    at - "019ca945-0a00-7085-abbc-df6c9ea64473gmediasite".len()..at + part.len() + 15
}

#[tokio::test]
async fn whatever_value_of_the_first_waiting_record_is_damaged_another_tenant_is_served() {
    let origin = tempfile::tempdir().unwrap();
    let store = open(origin.path()).await.unwrap();
    for name in ["ann", "bob"] {
        store.put_site(&tenant(name), site("v1")).await.unwrap();
    }
    submit(&store, "ann", render("first", Some("g"))).await;
    // So that the records do not lie side by side.
    for number in 0..4 {
        submit(&store, "ann", render(&format!("filler-{number}"), Some("g"))).await;
    }
    let other = submit(&store, "bob", render("other", None)).await.id;
    drop(store);
    let bits = values(&origin.path().join(Store::FILE), "v1firstqueued");
    let mut noticed = 0;
    for bit in (bits.start * 8..bits.end * 8).step_by(2) {
        let folder = copied(origin.path());
        flip(&folder.path().join(Store::FILE), bit);
        noticed += usize::from(!checked(folder.path()).unwrap().problems.is_empty());
        let store = open(folder.path()).await.unwrap();
        let mut served = false;
        for _ in 0..8 {
            // The claim that comes upon it may fail, once.
            let lease = store.claim("worker", Duration::ZERO).await;
            served |= lease.is_ok_and(|lease| lease.is_some_and(|lease| lease.render.id == other));
        }
        assert!(served, "bit {}", bit - bits.start * 8);
    }
    assert!(noticed > 200, "{noticed} flips did something");
}

#[tokio::test]
async fn a_render_that_ended_because_its_record_was_damaged_is_not_retried() {
    let folder = tempfile::tempdir().unwrap();
    let (store, ids) = damaged_at(folder.path(), "v1firstqueued").await;
    claim(&store).await.unwrap();
    assert_eq!(store.get(ids[0]).await.unwrap().unwrap().status, Status::Failed);
    assert!(matches!(store.retry(ids[0]).await, Err(ControlError::Queue(QueueError::Damaged { .. }))));
}

#[tokio::test]
async fn nobody_is_let_in_by_a_damaged_record() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    store.add_user(user("ann"), "$phc".into()).await.unwrap();
    store.add_token(token("ann"), [2; 32]).await.unwrap();
    let session = Session { id: "s".into(), user: "u-ann".into(), expires_at: later() };
    assert!(store.start_session(session, [1; 32], "$phc".into()).await.unwrap());
    drop(store);
    for record in ["annrenders:read renders:write$phc", "ci of annannrenders", "su-ann"] {
        flip_where(&folder.path().join(Store::FILE), record);
    }
    let store = open(folder.path()).await.unwrap();
    assert!(matches!(store.user("u-ann").await, Err(QueueError::Damaged { .. })));
    assert!(matches!(store.user_by_email("ann@example.com").await, Err(QueueError::Damaged { .. })));
    assert!(matches!(store.token("t-ann").await, Err(QueueError::Damaged { .. })));
    let renewed = store.renew_session("s", [1; 32], [2; 32], later()).await;
    assert!(matches!(renewed, Err(QueueError::Damaged { .. })), "{renewed:?}");
    // And nothing gives the damage a checksum that fits.
    let promoted = store.change_user("ann@example.com", Some(Scopes::ALL), None).await;
    assert!(matches!(promoted, Err(QueueError::Damaged { .. })), "{promoted:?}");
    assert!(matches!(store.revoke_token("t-ann").await, Err(QueueError::Damaged { .. })));
    let problems = checked(folder.path()).unwrap().problems;
    assert_eq!(problems.iter().filter(|problem| problem.starts_with("damaged: ")).count(), 3, "{problems:?}");
}
