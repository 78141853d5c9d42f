//! Secrets on disk: sealed there, opened by their keys alone, and under another key when the keys change.

use std::collections::BTreeMap;
use std::path::Path;
use std::task::Poll;
use std::time::Duration;

use lastframe_core::notice::WebhookOptions;
use lastframe_core::outbox::{
    Due, NoticeDefaults, Outbox as _, Room, Secret, Settled, TenantNotices, TenantSecret, Try,
};
use lastframe_core::ports::{Directory as _, IdempotencyKey, NewRender, Queue as _, QueueError, SubmitError};
use lastframe_core::props::Props;
use lastframe_core::site::{Composition, SiteVersion};
use lastframe_core::{Checkpoint, Progress, RenderId, Status};
use lastframe_store::{
    BackupError, KeyInUse, Keys, OpenError, Resealed, Store, backup, check, needs_key, restore,
};
use rusqlite::{Connection, OpenFlags};

use crate::library::{
    ask, checked, claim, copied, everything, fill, flip, key, keys, open, open_with, render, site, submit,
    succeeded, tenant, usual,
};

/// What stands in every secret that is written here, and nowhere else.
const SECRET: &str = "sesame";

/// The files of the folder in which that is written.
fn found_in(folder: &Path, what: &[u8]) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let holds = |file: &std::path::PathBuf| {
        std::fs::read(file).unwrap().windows(what.len()).any(|bytes| bytes == what)
    };
    files.filter(holds).map(|file| file.display().to_string()).collect()
}

/// A render with secrets wherever a request may have them.
fn secretive(composition: &str) -> NewRender {
    let mut render = render(composition, None);
    let props = format!("{{\"password\":\"{SECRET}\"}}");
    render.request.input_props = Some(serde_json::from_str::<Props>(&props).unwrap());
    render.request.env_variables = Some([("TOKEN".into(), SECRET.into())].into());
    render.request.webhook = Some(WebhookOptions {
        url: format!("https://example.com/{SECRET}"),
        secret: Some(SECRET.into()),
        custom_data: serde_json::json!({ "token": SECRET }).as_object().cloned(),
    });
    render
}

fn secretive_site() -> SiteVersion {
    let composition = Composition {
        id: "main".into(),
        width: 100,
        height: 100,
        fps: 30.0,
        duration_in_frames: 10,
        default_props: serde_json::json!({ "password": SECRET }),
        error: None,
    };
    SiteVersion { compositions: vec![composition], ..site("v1") }
}

fn once() -> IdempotencyKey {
    IdempotencyKey { key: "once".into(), body_hash: *b"the hash of a body to be guessed" }
}

fn secretive_notices() -> TenantNotices {
    let webhook_url = Some(format!("https://example.com/{SECRET}"));
    let secret = TenantSecret {
        id: "s".into(),
        secret: Secret(SECRET.into()),
        created_at: "2026-03-01T12:00:00Z".parse().unwrap(),
    };
    TenantNotices { defaults: NoticeDefaults { webhook_url, email: Vec::new() }, secrets: vec![secret] }
}

/// Renders that wait, are under way with a checkpoint, have ended and are forgotten, one of them under a key.
async fn secrets(store: &Store) -> Vec<RenderId> {
    let ann = tenant("ann");
    store.put_site(&ann, secretive_site()).await.unwrap();
    let TenantNotices { defaults, mut secrets } = secretive_notices();
    store.set_notice_defaults(&ann, defaults).await.unwrap();
    assert!(store.add_secret(&ann, secrets.remove(0)).await.unwrap());
    let keyed = store.submit(&ann, vec![secretive("keyed")], Some(once())).await.unwrap().renders.remove(0);
    let mut ids = vec![keyed.id];
    for name in ["ends", "is-forgotten", "is-cancelled", "waits", "waits-too"] {
        ids.push(submit(store, "ann", secretive(name)).await.id);
    }
    let checkpoint = || Some(Checkpoint(serde_json::json!({ "token": SECRET })));
    for end in [false, true, true] {
        let lease = claim(store).await.unwrap();
        store.extend(lease.render.id, &lease.token, Progress::START, checkpoint()).await.unwrap();
        if end {
            store.finish(lease.render.id, &lease.token, succeeded()).await.unwrap();
        }
    }
    store.cancel(ids[3]).await.unwrap();
    let room = Room::for_each(10);
    for Due { delivery, token, .. } in store.take_due(room, Duration::from_secs(30)).await.unwrap() {
        let tried = Try { at: delivery.created_at, took_ms: 1, code: Some(200), error: None };
        assert!(store.settle(delivery.id, token, tried, Settled::Delivered).await.unwrap());
    }
    assert_eq!(store.forget(vec![ids.remove(2)]).await.unwrap(), 1);
    ids
}

/// What was written in [`secrets`] is read as it was.
async fn are_whole(store: &Store, ids: &[RenderId]) {
    for id in ids {
        let request = store.request(*id).await.unwrap().unwrap();
        assert_eq!(request.env_variables.unwrap()["TOKEN"], SECRET);
        assert!(serde_json::to_string(&request.input_props).unwrap().contains(SECRET));
    }
    let ann = tenant("ann");
    assert_eq!(store.site(&ann, "site").await.unwrap(), Some(secretive_site()));
    assert_eq!(store.tenant_notices(&ann).await.unwrap(), secretive_notices());
    assert!(store.submit(&ann, vec![secretive("keyed")], Some(once())).await.unwrap().replayed);
    let other = IdempotencyKey { body_hash: [1; 32], ..once() };
    let reused = store.submit(&ann, vec![secretive("keyed")], Some(other)).await;
    assert!(matches!(reused, Err(SubmitError::KeyReused)), "{reused:?}");
}

fn in_use(keys: &[KeyInUse]) -> Vec<(Option<lastframe_store::KeyId>, bool)> {
    keys.iter().map(|key| (key.id, key.leaving)).collect()
}

/// What another program sees of the database.
fn number(folder: &Path, sql: &str) -> i64 {
    let db = Connection::open_with_flags(folder.join(Store::FILE), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

const PLAIN: &str = "SELECT (SELECT count(*) FROM request WHERE typeof(body) = 'text') + \
    (SELECT count(*) FROM checkpoint WHERE typeof(body) = 'text') + \
    (SELECT count(*) FROM site WHERE typeof(body) = 'text') + \
    (SELECT count(*) FROM tenant_notices WHERE typeof(body) = 'text') + \
    (SELECT count(*) FROM idempotency WHERE typeof(body_hash) = 'text')";

#[tokio::test]
async fn whatever_becomes_of_a_render_no_file_shows_its_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    let ids = secrets(&store).await;
    are_whole(&store, &ids).await;
    let hex = lastframe_core::hex::encode(&once().body_hash);
    let shown = |folder: &Path| -> Vec<String> {
        [SECRET.as_bytes(), &once().body_hash, hex.as_bytes()]
            .iter()
            .flat_map(|what| found_in(folder, what))
            .collect()
    };
    assert_eq!(shown(folder.path()), [""; 0], "while it is open");
    drop(store);
    assert_eq!(shown(folder.path()), [""; 0], "after it was closed");
    let store = open(folder.path()).await.unwrap();
    assert_eq!(
        claim(&store).await.unwrap().checkpoint,
        Some(Checkpoint(serde_json::json!({ "token": SECRET })))
    );
    are_whole(&store, &ids).await;
    drop(store);
    let report = checked(folder.path()).unwrap();
    assert_eq!((report.problems, report.notes), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn without_its_key_a_database_is_refused_by_the_name_of_the_key_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(needs_key(folder.path()).unwrap(), None);
    let store = open(folder.path()).await.unwrap();
    let ids = secrets(&store).await;
    drop(store);
    assert_eq!(needs_key(folder.path()).unwrap(), Some(key(7).id()));
    for wrong in [keys(&[8]), keys(&[8, 9]), Keys::default(), keys(&[8]).only_opening()] {
        let missing = open_with(folder.path(), wrong).await.unwrap_err();
        assert!(matches!(missing, OpenError::KeyMissing { id, .. } if id == key(7).id()), "{missing}");
        assert!(missing.to_string().contains(&key(7).id().to_string()), "{missing}");
    }
    are_whole(&open(folder.path()).await.unwrap(), &ids).await;
}

#[tokio::test]
async fn a_check_without_the_key_says_what_it_could_not_try() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    secrets(&store).await;
    drop(store);
    let report = check(folder.path(), &keys(&[8]), &mut |_| ()).unwrap();
    assert_eq!(report.problems, [""; 0]);
    assert_eq!(report.notes.len(), 5, "{:?}", report.notes);
    assert!(report.notes[0].contains(&key(7).id().to_string()) && report.notes[0].contains("not among"));
}

/// Makes the store itself write that in the place of what it is given, so that the checksum fits.
fn interfere(folder: &Path, when: &str, change: &str) {
    let db = Connection::open(folder.join(Store::FILE)).unwrap();
    db.execute_batch(&format!("CREATE TRIGGER swap AFTER INSERT ON {when} BEGIN {change}; END")).unwrap();
}

#[tokio::test]
async fn the_request_of_another_render_does_not_open_and_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    store.put_site(&tenant("ann"), site("v1")).await.unwrap();
    let swap = "UPDATE request SET body = (SELECT body FROM request WHERE seq = 1) WHERE seq = 2";
    interfere(folder.path(), "request WHEN NEW.seq = 2", swap);
    let mut ids = Vec::new();
    for name in ["first", "second", "third"] {
        ids.push(submit(&store, "ann", secretive(name)).await.id);
    }
    let refused = store.request(ids[1]).await;
    assert!(
        matches!(&refused, Err(QueueError::Damaged { what }) if what.contains("does not open")),
        "{refused:?}"
    );
    let report = checked(folder.path()).unwrap();
    assert_eq!(report.problems, [format!("the request of {} does not open", ids[1])]);
    assert_eq!(claim(&store).await.unwrap().render.id, ids[0]);
    assert_eq!(claim(&store).await.unwrap().render.id, ids[2]);
    let failed = store.get(ids[1]).await.unwrap().unwrap();
    assert_eq!((failed.status, failed.error.unwrap().code.as_str()), (Status::Failed, "request_damaged"));
}

#[tokio::test]
async fn the_checkpoint_of_another_render_does_not_open_and_a_retry_starts_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    store.put_site(&tenant("ann"), site("v1")).await.unwrap();
    let swap = "UPDATE checkpoint SET body = (SELECT body FROM checkpoint WHERE seq = 1) WHERE seq = 2";
    interfere(folder.path(), "checkpoint WHEN NEW.seq = 2", swap);
    let mut ids = Vec::new();
    for name in ["first", "second"] {
        ids.push(submit(&store, "ann", secretive(name)).await.id);
        let lease = claim(&store).await.unwrap();
        let checkpoint = Some(Checkpoint(serde_json::json!(name)));
        store.extend(lease.render.id, &lease.token, Progress::START, checkpoint).await.unwrap();
    }
    drop(store);
    let store = open(folder.path()).await.unwrap();
    assert_eq!(claim(&store).await.unwrap().checkpoint, Some(Checkpoint(serde_json::json!("first"))));
    assert!(claim(&store).await.is_none());
    let failed = store.get(ids[1]).await.unwrap().unwrap();
    assert_eq!((failed.status, failed.error.unwrap().code.as_str()), (Status::Failed, "checkpoint_damaged"));
    store.retry(ids[1]).await.unwrap();
    assert_eq!(claim(&store).await.unwrap().checkpoint, None);
}

#[tokio::test]
async fn the_body_of_another_site_does_not_open() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    let swap = "UPDATE site SET body = (SELECT body FROM site WHERE version = 'v0') WHERE version = 'v1'";
    store.put_site(&tenant("ann"), site("v0")).await.unwrap();
    interfere(folder.path(), "site WHEN NEW.version = 'v1'", swap);
    store.put_site(&tenant("ann"), site("v1")).await.unwrap();
    let refused = store.site(&tenant("ann"), "site").await;
    assert!(matches!(refused, Err(QueueError::Damaged { .. })), "{refused:?}");
    assert!(store.site_version(&tenant("ann"), "site", "v0").await.unwrap().is_some());
    assert_eq!(checked(folder.path()).unwrap().problems, ["the site of ann site v1 does not open"]);
}

#[tokio::test]
async fn after_a_rotation_the_old_key_is_not_needed_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_with(folder.path(), keys(&[1])).await.unwrap();
    let ids = secrets(&store).await;
    store.seal_with(keys(&[2, 1])).await.unwrap();
    let (first, second) = (Some(key(1).id()), Some(key(2).id()));
    assert_eq!(in_use(&store.keys_in_use().await.unwrap()), [(second, false), (first, true)]);
    submit(&store, "ann", secretive("meanwhile")).await;
    are_whole(&store, &ids).await;
    // Five requests, the site, the key, and the checkpoint of what is under way; what was written since needs nothing.
    assert_eq!(store.reseal().await.unwrap(), Resealed { values: 9, damaged: 0 });
    assert_eq!(store.reseal().await.unwrap(), Resealed::default(), "there is nothing left to do");
    assert_eq!(in_use(&store.keys_in_use().await.unwrap()), [(second, false)]);
    are_whole(&store, &ids).await;
    drop(store);
    are_whole(&open_with(folder.path(), keys(&[2])).await.unwrap(), &ids).await;
    assert_eq!(check(folder.path(), &keys(&[2]), &mut |_| ()).unwrap().notes, [""; 0]);
}

#[tokio::test]
async fn keys_that_do_not_open_what_is_there_are_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_with(folder.path(), keys(&[1])).await.unwrap();
    let ids = secrets(&store).await;
    assert!(store.seal_with(keys(&[2])).await.is_err());
    are_whole(&store, &ids).await;
    assert_eq!(in_use(&store.keys_in_use().await.unwrap()), [(Some(key(1).id()), false)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_dies_at_any_moment_is_brought_to_its_end_by_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_with(folder.path(), keys(&[1])).await.unwrap();
    let ids = secrets(&store).await;
    for number in 0..300 {
        submit(&store, "ann", secretive(&format!("filler-{number}"))).await;
    }
    store.seal_with(keys(&[2, 1])).await.unwrap();
    drop(store);
    let mut died_on_the_way = 0;
    for steps in 0.. {
        let folder = copied(folder.path());
        let store = open_with(folder.path(), keys(&[2, 1])).await.unwrap();
        let mut step = 0;
        let ended = {
            let mut resealing = std::pin::pin!(store.reseal());
            std::future::poll_fn(|context| {
                step += 1;
                if step > steps { Poll::Ready(None) } else { resealing.as_mut().poll(context).map(Some) }
            })
            .await
        };
        drop(store);
        let under =
            |id| format!("SELECT count(*) FROM request WHERE hex(substr(body, 2, 8)) = upper('{id}')");
        let left = number(folder.path(), &under(key(1).id()));
        died_on_the_way += usize::from(left > 0 && number(folder.path(), &under(key(2).id())) > 0);
        let store = open_with(folder.path(), keys(&[2, 1])).await.unwrap();
        are_whole(&store, &ids).await;
        store.reseal().await.unwrap();
        drop(store);
        are_whole(&open_with(folder.path(), keys(&[2])).await.unwrap(), &ids).await;
        if ended.is_some() {
            break;
        }
    }
    assert!(died_on_the_way > 1, "{died_on_the_way}");
}

#[tokio::test]
async fn whoever_turns_encryption_on_finds_no_trace_of_what_was_written_before() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_with(folder.path(), Keys::default()).await.unwrap();
    let ids = secrets(&store).await;
    for number in 0..200 {
        let mut render = secretive(&format!("filler-{number}"));
        let props = format!("{{\"text\":\"{}\"}}", SECRET.repeat(1_000));
        render.request.input_props = Some(serde_json::from_str::<Props>(&props).unwrap());
        let id = submit(&store, "ann", render).await.id;
        if number % 2 == 0 {
            store.cancel(id).await.unwrap();
            store.forget(vec![id]).await.unwrap();
        }
    }
    assert_eq!(needs_key(folder.path()).unwrap(), None);
    drop(store);
    assert!(!found_in(folder.path(), SECRET.as_bytes()).is_empty(), "what is not there cannot be found");
    let store = open(folder.path()).await.unwrap();
    assert_eq!(in_use(&store.keys_in_use().await.unwrap()), [(Some(key(7).id()), false), (None, true)]);
    are_whole(&store, &ids).await;
    let resealed = store.reseal().await.unwrap();
    assert!(resealed.values > 100 && resealed.damaged == 0, "{resealed:?}");
    assert_eq!(found_in(folder.path(), SECRET.as_bytes()), [""; 0], "while it is open");
    assert_eq!(in_use(&store.keys_in_use().await.unwrap()), [(Some(key(7).id()), false)]);
    are_whole(&store, &ids).await;
    drop(store);
    assert_eq!(found_in(folder.path(), SECRET.as_bytes()), [""; 0], "after it was closed");
    are_whole(&open(folder.path()).await.unwrap(), &ids).await;
    assert_eq!(checked(folder.path()).unwrap().problems, [""; 0]);
}

#[tokio::test]
async fn whoever_turns_encryption_off_needs_the_key_until_all_is_plain() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    let ids = secrets(&store).await;
    drop(store);
    let store = open_with(folder.path(), usual().only_opening()).await.unwrap();
    are_whole(&store, &ids).await;
    assert_eq!(store.reseal().await.unwrap().damaged, 0);
    drop(store);
    assert_eq!((number(folder.path(), PLAIN), needs_key(folder.path()).unwrap()), (9, None));
    are_whole(&open_with(folder.path(), Keys::default()).await.unwrap(), &ids).await;
}

#[tokio::test]
async fn what_is_damaged_is_not_sealed_anew_and_keeps_its_key_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_with(folder.path(), Keys::default()).await.unwrap();
    let ids = secrets(&store).await;
    submit(&store, "ann", render("damaged", None)).await;
    drop(store);
    let file = folder.path().join(Store::FILE);
    let at =
        std::fs::read(&file).unwrap().windows(14).position(|bytes| bytes == b"{\"of\":\"damaged").unwrap();
    flip(&file, (at + 10) * 8);
    let store = open(folder.path()).await.unwrap();
    assert_eq!(store.reseal().await.unwrap(), Resealed { values: 9, damaged: 1 });
    assert_eq!(in_use(&store.keys_in_use().await.unwrap()), [(Some(key(7).id()), false), (None, true)]);
    are_whole(&store, &ids).await;
    assert_eq!(checked(folder.path()).unwrap().problems.len(), 1);
}

#[tokio::test]
async fn a_backup_needs_the_key_of_its_time_and_is_refused_without_it_before_anything_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.backup");
    let store = open_with(folder.path(), keys(&[1])).await.unwrap();
    fill(&store).await;
    let renders = everything(&store).await;
    backup(folder.path(), &file, &keys(&[1]), &mut |_| ()).unwrap();
    let truth = ask(&store, &renders).await;
    store.seal_with(keys(&[2, 1])).await.unwrap();
    store.reseal().await.unwrap();
    drop(store);
    let left = |folder: &Path| -> BTreeMap<_, _> {
        let files = std::fs::read_dir(copied(folder).path()).unwrap().map(|file| file.unwrap());
        files.map(|file| (file.file_name(), std::fs::read(file.path()).unwrap())).collect()
    };
    let before = left(folder.path());
    let refused = restore(folder.path(), &file, &keys(&[2]), true, &mut |_| ());
    assert!(matches!(refused, Err(BackupError::Open(OpenError::KeyMissing { id, .. })) if id == key(1).id()));
    assert!(left(folder.path()) == before, "something was changed");
    restore(folder.path(), &file, &keys(&[2, 1]), false, &mut |_| ()).unwrap();
    let store = open_with(folder.path(), keys(&[2, 1])).await.unwrap();
    store.reseal().await.unwrap();
    assert_eq!(ask(&store, &renders).await, truth);
    drop(store);
    assert!(open_with(folder.path(), keys(&[2])).await.is_ok());
}

#[tokio::test]
async fn while_everything_is_sealed_anew_others_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(open_with(folder.path(), keys(&[1])).await.unwrap());
    let ids = secrets(&store).await;
    for number in 0..300 {
        submit(&store, "ann", secretive(&format!("filler-{number}"))).await;
    }
    store.seal_with(keys(&[2, 1])).await.unwrap();
    let resealing = store.reseal();
    let serving = async {
        for number in 0..20 {
            submit(&store, "ann", secretive(&format!("meanwhile-{number}"))).await;
            let lease = store.claim("worker", Duration::ZERO).await.unwrap().unwrap();
            assert_eq!(lease.request.env_variables.unwrap()["TOKEN"], SECRET);
            store.finish(lease.render.id, &lease.token, succeeded()).await.unwrap();
        }
    };
    let (resealed, ()) = tokio::join!(resealing, serving);
    assert_eq!(resealed.unwrap().damaged, 0);
    are_whole(&store, &ids).await;
    assert_eq!(in_use(&store.keys_in_use().await.unwrap()), [(Some(key(2).id()), false)]);
}
