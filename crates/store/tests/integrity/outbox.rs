//! What is owed, when the disk does not give back what was written.

use std::path::Path;
use std::time::Duration;

use lastframe_core::notice::{NotifyOptions, WebhookOptions};
use lastframe_core::outbox::{
    DeliveryCounts, DeliveryFilter, DeliveryStatus, Due, NoticeDefaults, Outbox as _, RedeliverError, Room,
    Settled, Try,
};
use lastframe_core::ports::{Directory as _, NewRender, Queue as _, QueueError};
use lastframe_store::{Keys, Store};

use crate::library::{claim, flip_where, open_with, render, site, submit, succeeded, tenant};

fn telling(name: &str) -> NewRender {
    let mut new = render(name, None);
    let url = format!("https://{name}.example/");
    new.request.webhook = Some(WebhookOptions { url, secret: None, custom_data: None });
    new
}

/// A store whose secrets are plain, so that what is written can be found in its file.
async fn plain(folder: &Path) -> Store {
    open_with(folder, Keys::default()).await.unwrap()
}

/// Renders of those names, each of which owes a webhook.
async fn ended(folder: &Path, names: &[&str]) {
    let store = plain(folder).await;
    store.put_site(&tenant("ann"), site("v1")).await.unwrap();
    for name in names {
        submit(&store, "ann", telling(name)).await;
        let lease = claim(&store).await.unwrap();
        store.finish(lease.render.id, &lease.token, succeeded()).await.unwrap();
    }
}

async fn take(store: &Store) -> Vec<Due> {
    let room = Room::for_each(10);
    store.take_due(room, Duration::from_secs(30)).await.unwrap()
}

fn endpoints(due: &[Due]) -> Vec<&str> {
    due.iter().map(|due| due.delivery.endpoint.as_str()).collect()
}

/// The oldest delivery was given up for that reason, the next one was not, and the counters agree.
async fn gave_up_the_first(folder: &Path, why: &str) -> Store {
    let store = plain(folder).await;
    assert_eq!(endpoints(&take(&store).await), ["second.example:443"]);
    let all = DeliveryFilter { limit: 10, ..DeliveryFilter::default() };
    let first = store.deliveries(all).await.unwrap().pop().unwrap();
    assert_eq!((first.status, first.endpoint.as_str()), (DeliveryStatus::Failed, "first.example:443"));
    let (_, tries) = store.delivery(first.id).await.unwrap().unwrap();
    let said = tries[0].error.clone().unwrap();
    assert!(tries.len() == 1 && said.contains(why), "{said}");
    let counts = DeliveryCounts { pending: 1, delivered: 0, failed: 1 };
    assert_eq!(store.delivery_counts().await.unwrap(), counts);
    store
}

fn problems(folder: &Path) -> Vec<String> {
    lastframe_store::check(folder, &Keys::default(), &mut |_| ()).unwrap().problems
}

#[tokio::test]
async fn a_damaged_delivery_is_given_up_with_a_reason_and_delays_no_other() {
    let folder = tempfile::tempdir().unwrap();
    ended(folder.path(), &["first", "second"]).await;
    // In the middle of that is a value that no index has.
    flip_where(&folder.path().join(Store::FILE), "first.example:443pendingsucceeded{\"key\":\"out/1.mp4\"");
    assert_eq!(problems(folder.path()), ["damaged: delivery 1"]);
    let store = gave_up_the_first(folder.path(), "its record was damaged").await;
    let all = DeliveryFilter { limit: 10, ..DeliveryFilter::default() };
    let first = store.deliveries(all).await.unwrap().pop().unwrap();
    let again = store.redeliver(first.id).await;
    assert!(matches!(again, Err(RedeliverError::Queue(QueueError::Damaged { .. }))), "{again:?}");
    drop(store);
    assert_eq!(problems(folder.path()), [""; 0]);
}

#[tokio::test]
async fn what_cannot_be_told_because_its_request_is_damaged_is_given_up_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    ended(folder.path(), &["first", "second"]).await;
    flip_where(&folder.path().join(Store::FILE), "{\"of\":\"first\"}");
    gave_up_the_first(folder.path(), "the request of render").await;
}

#[tokio::test]
async fn a_damaged_notice_is_owed_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let store = plain(folder.path()).await;
    store.put_site(&tenant("ann"), site("v1")).await.unwrap();
    submit(&store, "ann", telling("first")).await;
    drop(store);
    flip_where(&folder.path().join(Store::FILE), "webhookfirst.example:443");
    let store = plain(folder.path()).await;
    let lease = claim(&store).await.unwrap();
    store.finish(lease.render.id, &lease.token, succeeded()).await.unwrap();
    let due = take(&store).await;
    assert_eq!(endpoints(&due), ["first.example:443"]);
    assert_eq!(due[0].notice.target, "https://first.example/");
}

#[tokio::test]
async fn with_damaged_secrets_nothing_is_sent_unsigned() {
    let folder = tempfile::tempdir().unwrap();
    ended(folder.path(), &["first"]).await;
    let store = plain(folder.path()).await;
    let mut mail = telling("mail");
    mail.request.webhook = None;
    mail.request.notify = Some(NotifyOptions { email: vec!["anna@example.com".into()] });
    submit(&store, "ann", mail).await;
    let lease = claim(&store).await.unwrap();
    store.finish(lease.render.id, &lease.token, succeeded()).await.unwrap();
    let webhook_url = Some("https://example.com/set-by-ann".into());
    let defaults = NoticeDefaults { webhook_url, ..NoticeDefaults::default() };
    store.set_notice_defaults(&tenant("ann"), defaults).await.unwrap();
    drop(store);
    flip_where(&folder.path().join(Store::FILE), "set-by-ann");
    let store = plain(folder.path()).await;
    assert_eq!(endpoints(&take(&store).await), ["example.com"]);
    let failed =
        DeliveryFilter { status: Some(DeliveryStatus::Failed), limit: 10, ..DeliveryFilter::default() };
    let first = store.deliveries(failed).await.unwrap().remove(0);
    let (_, tries) = store.delivery(first.id).await.unwrap().unwrap();
    assert!(tries[0].error.as_ref().unwrap().contains("the notices of tenant ann"), "{tries:?}");
    assert!(matches!(store.tenant_notices(&tenant("ann")).await, Err(QueueError::Damaged { .. })));
    // It can be set anew.
    store.set_notice_defaults(&tenant("ann"), NoticeDefaults::default()).await.unwrap();
    store.redeliver(first.id).await.unwrap();
    assert_eq!(endpoints(&take(&store).await), ["first.example:443"]);
}

#[tokio::test]
async fn whatever_value_of_a_delivery_is_damaged_another_one_is_delivered() {
    let origin = tempfile::tempdir().unwrap();
    ended(origin.path(), &["first", "second"]).await;
    let file = std::fs::read(origin.path().join(Store::FILE)).unwrap();
    let part = b"webhookfirst.example:443pendingsucceeded";
    let at = file.windows(part.len()).position(|bytes| bytes == part).unwrap();
    let mut noticed = 0;
    for bit in (at * 8..(at + part.len()) * 8).step_by(3) {
        let folder = crate::library::copied(origin.path());
        crate::library::flip(&folder.path().join(Store::FILE), bit);
        noticed += usize::from(!problems(folder.path()).is_empty());
        let store = plain(folder.path()).await;
        let due = take(&store).await;
        let second = due.iter().find(|due| due.delivery.endpoint == "second.example:443");
        let second = second.unwrap_or_else(|| panic!("bit {bit}: {due:?}"));
        let tried = Try { at: second.delivery.created_at, took_ms: 1, code: Some(200), error: None };
        assert!(store.settle(second.delivery.id, second.token, tried, Settled::Delivered).await.unwrap());
    }
    assert!(noticed > 50, "{noticed} flips did something");
}
