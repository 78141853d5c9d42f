//! A small queue with something of everything in it, and what can be read of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lastframe_core::accounts::{Accounts as _, ApiToken, Renewal, Scopes, Session, User};
pub(crate) use lastframe_core::conformance::succeeded;
use lastframe_core::notice::WebhookOptions;
use lastframe_core::outbox::{DeliveryId, Outbox as _, Room, Settled, Try};
use lastframe_core::ports::{
    Directory as _, Filter, IdempotencyKey, NewRender, Pausable, Queue as _, QueueError,
};
use lastframe_core::props::Props;
use lastframe_core::site::SiteVersion;
use lastframe_core::{
    Failure, Kind, Lease, ManualClock, OnFailure, Outcome, Render, RenderId, RenderRequest, TenantId,
};
use lastframe_store::{Key, Keys, OpenError, Options, Report, Store, check};
use zeroize::Zeroizing;

/// The key of that number.
pub(crate) fn key(number: u8) -> Key {
    Key::new(&Zeroizing::new([number; 32]))
}

/// The keys of those numbers, of which the first seals.
pub(crate) fn keys(numbers: &[u8]) -> Keys {
    Keys::new(numbers.iter().copied().map(key).collect(), "among the test's own")
}

/// The key that secrets are sealed with, where it does not matter.
pub(crate) fn usual() -> Keys {
    keys(&[7])
}

pub(crate) async fn open(folder: &Path) -> Result<Store, OpenError> {
    open_with(folder, usual()).await
}

pub(crate) async fn open_with(folder: &Path, keys: Keys) -> Result<Store, OpenError> {
    let clock = ManualClock::new("2026-03-01T12:00:00Z".parse().unwrap());
    Store::open(folder, Arc::new(clock), Options { keys, ..Options::default() }).await
}

/// Looks whether everything is as it was written, and opens.
pub(crate) fn checked(folder: &Path) -> Result<Report, OpenError> {
    check(folder, &usual(), &mut |_| ())
}

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::new(name)
}

pub(crate) fn site(version: &str) -> SiteVersion {
    SiteVersion {
        name: "site".into(),
        version: version.into(),
        remotion_version: "4.0.527".into(),
        renderer: None,
        url: None,
        size_in_bytes: 1,
        compositions: Vec::new(),
        created_at: "2026-03-01T12:00:00Z".parse().unwrap(),
    }
}

/// A render whose props repeat the composition's name, so that both can be found in the file.
pub(crate) fn render(composition: &str, group: Option<&str>) -> NewRender {
    let mut request = RenderRequest {
        composition: composition.into(),
        serve_url: "site".into(),
        input_props: Some(serde_json::from_str::<Props>(&format!("{{\"of\":\"{composition}\"}}")).unwrap()),
        ..RenderRequest::default()
    };
    let queue = request.queue.get_or_insert_default();
    queue.group = group.map(str::to_owned);
    queue.on_failure = Some(OnFailure::Block);
    NewRender { kind: Kind::Media, site_version: "v1".into(), request, default_max_attempts: 3 }
}

pub(crate) async fn submit(store: &Store, of: &str, render: NewRender) -> Render {
    store.submit(&tenant(of), vec![render], None).await.unwrap().renders.remove(0)
}

pub(crate) async fn claim(store: &Store) -> Option<Lease> {
    store.claim("worker", Duration::ZERO).await.unwrap()
}

/// People whose records fill some pages.
const NAMES: [&str; 8] = ["ann", "bob", "cid", "dan", "eve", "fay", "gus", "hal"];
/// The PHC string of everybody's password.
const PHC: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA";

pub(crate) fn user(name: &str) -> User {
    User {
        id: format!("u-{name}"),
        email: format!("{name}@example.com"),
        tenant: tenant(name),
        scopes: Scopes::USUAL,
        disabled: false,
        created_at: "2026-03-01T12:00:00Z".parse().unwrap(),
    }
}

pub(crate) fn token(name: &str) -> ApiToken {
    ApiToken {
        id: format!("t-{name}"),
        name: format!("ci of {name}"),
        tenant: tenant(name),
        scopes: Scopes::USUAL,
        created_at: "2026-03-01T12:00:00Z".parse().unwrap(),
        expires_at: None,
        revoked_at: None,
    }
}

pub(crate) fn later() -> jiff::Timestamp {
    "2027-03-01T12:00:00Z".parse().unwrap()
}

/// Fills a store with renders in every state that a stopped one can have, in groups that wait, are paused and held.
pub(crate) async fn fill(store: &Store) {
    for name in ["ann", "bob"] {
        store.put_site(&tenant(name), site("v0")).await.unwrap();
        store.put_site(&tenant(name), site("v1")).await.unwrap();
    }
    store.pause(Pausable::Group(tenant("bob"), "paused".into())).await.unwrap();
    for number in 0..12 {
        for (of, group) in [("ann", None), ("bob", Some("held")), ("bob", Some("paused"))] {
            let mut new = render(&format!("{of}-{number}"), group);
            let url = format!("https://{of}.example/");
            new.request.webhook = Some(WebhookOptions { url, secret: None, custom_data: None });
            submit(store, of, new).await;
        }
    }
    let key = IdempotencyKey { key: "once".into(), body_hash: [7; 32] };
    store.submit(&tenant("ann"), vec![render("keyed", None)], Some(key)).await.unwrap();
    let good = succeeded();
    let bad = Outcome::Failed(Failure::new("component_error", "it threw", false));
    for outcome in [good.clone(), good.clone(), bad, Outcome::Cancelled, good] {
        let lease = claim(store).await.unwrap();
        store.finish(lease.render.id, &lease.token, outcome).await.unwrap();
    }
    let room = Room::for_each(2);
    for due in store.take_due(room, Duration::from_secs(30)).await.unwrap() {
        let tried = Try { at: due.delivery.created_at, took_ms: 1, code: Some(200), error: None };
        assert!(store.settle(due.delivery.id, due.token, tried, Settled::Delivered).await.unwrap());
    }
}

/// Fills a store with people, who are signed in, and tokens of programs.
pub(crate) async fn fill_accounts(store: &Store) {
    for name in NAMES {
        store.add_user(user(name), PHC.into()).await.unwrap();
        let session = Session { id: name.into(), user: format!("u-{name}"), expires_at: later() };
        assert!(store.start_session(session, [1; 32], PHC.into()).await.unwrap());
        store.add_token(token(name), [2; 32]).await.unwrap();
    }
}

/// What a store answers, by question. An answer is what was written, or that it cannot be given.
pub(crate) type Answers = BTreeMap<String, Result<String, String>>;

/// What begins the question how many wait in a group.
pub(crate) const WAITING: &str = "waiting in ";
fn answer<T: std::fmt::Debug>(answer: Result<T, QueueError>) -> Result<String, String> {
    answer.map(|answer| format!("{answer:?}")).map_err(|error| error.to_string())
}

/// Asks a store for everything about these renders.
pub(crate) async fn ask(store: &Store, renders: &[RenderId]) -> Answers {
    let mut answers = Answers::new();
    for id in renders {
        answers.insert(format!("render {id}"), answer(store.get(*id).await));
        answers.insert(format!("request {id}"), answer(store.request(*id).await));
        answers.insert(format!("attempts {id}"), answer(store.attempts(*id).await));
    }
    for name in ["ann", "bob"] {
        answers.insert(format!("tenant {name}"), answer(store.tenant(&tenant(name)).await));
        for version in ["v0", "v1"] {
            let site = store.site_version(&tenant(name), "site", version).await;
            answers.insert(format!("site {name} {version}"), answer(site));
        }
    }
    for id in (1..=5).map(DeliveryId) {
        let (delivery, tries) = match store.delivery(id).await {
            Ok(found) => {
                let (delivery, tries) = found.unzip();
                (Ok(delivery), Ok(tries.unwrap_or_default()))
            }
            Err(error) => (Err(error.to_string()), Err(error.to_string())),
        };
        answers.insert(format!("delivery {id}"), delivery.map(|delivery| format!("{delivery:?}")));
        answers.insert(format!("tries of delivery {id}"), tries.map(|tries| format!("{tries:?}")));
    }
    for group in ["held", "paused"] {
        let mut found = store.group(&tenant("bob"), group).await;
        // Counted in an index, apart from what the group's own row says.
        let queued =
            found.as_mut().ok().and_then(Option::as_mut).map(|group| std::mem::take(&mut group.queued));
        answers.insert(format!("group {group}"), answer(found));
        answers.insert(format!("{WAITING}{group}"), answer(Ok(queued)));
    }
    answers
}

/// Asks a store for everything about the people and tokens of [`fill_accounts`].
pub(crate) async fn ask_accounts(store: &Store) -> Answers {
    let mut answers = Answers::new();
    for name in NAMES {
        answers.insert(format!("user {name}"), answer(store.user(&format!("u-{name}")).await));
        let found = store.user_by_email(&format!("{name}@example.com")).await;
        answers.insert(format!("address of {name}"), answer(found));
        answers.insert(format!("token {name}"), answer(store.token(&format!("t-{name}")).await));
        // By the secret that it has, so that it is as it was.
        let session = store.renew_session(name, [1; 32], [1; 32], later()).await;
        let session = session.map(|found| Some(found).filter(|found| *found != Renewal::Unknown));
        answers.insert(format!("session {name}"), answer(session));
    }
    answers
}

pub(crate) async fn everything(store: &Store) -> Vec<RenderId> {
    let all = store.list(Filter { limit: 1_000, ..Filter::default() }).await.unwrap();
    all.into_iter().map(|render| render.id).collect()
}

/// Copies the files of a folder as a disk would hold them if the process died now.
pub(crate) fn copy(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        // What is shared in memory does not outlive the process.
        if !file.file_name().to_string_lossy().ends_with("-shm") {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

/// A copy of its own of a folder.
pub(crate) fn copied(from: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(from, folder.path());
    folder
}

pub(crate) fn flip(file: &Path, bit: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[bit / 8] ^= 1 << (bit % 8);
    std::fs::write(file, bytes).unwrap();
}

/// Flips a bit in the middle of what must be written exactly once.
pub(crate) fn flip_where(file: &Path, find: &str) {
    let bytes = std::fs::read(file).unwrap();
    let found: Vec<_> =
        bytes.windows(find.len()).enumerate().filter(|(_, bytes)| *bytes == find.as_bytes()).collect();
    assert_eq!(found.len(), 1, "{find} is written {} times", found.len());
    flip(file, (found[0].0 + find.len() / 2) * 8);
}

pub(crate) fn wal(folder: &Path) -> std::path::PathBuf {
    folder.join(format!("{}-wal", Store::FILE))
}
