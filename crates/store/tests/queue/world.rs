//! A store in a folder of its own, a clock that is moved by hand, and short words for what tests do with them.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lastframe_core::ports::{
    Filter, IdempotencyKey, LeaseError, NewRender, Queue as _, SubmitError, Submitted,
};
use lastframe_core::render::Blocked;
use lastframe_core::request::QueueOptions;
use lastframe_core::{
    Clock as _, Failure, Kind, Lease, ManualClock, OnFailure, Outcome, Output, Render, RenderId,
    RenderRequest, RetryPolicy, Status, TenantId,
};
use lastframe_store::{Options, Store};
use tempfile::TempDir;

/// How long a lease holds here.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// How retries wait here.
pub(crate) const RETRY: RetryPolicy =
    RetryPolicy { base: Duration::from_secs(2), cap: Duration::from_secs(60), max_lost: 5 };
/// More than any retry waits.
pub(crate) const LONG: Duration = Duration::from_secs(61);

/// Derefs to its store.
pub(crate) struct World {
    store: Option<Store>,
    pub(crate) clock: Arc<ManualClock>,
    folder: TempDir,
    opened: u64,
}

impl World {
    pub(crate) async fn new() -> Self {
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        let clock = Arc::new(ManualClock::new(now));
        let mut world = Self { store: None, clock, folder: tempfile::tempdir().unwrap(), opened: 0 };
        world.reopen().await;
        world
    }

    /// The server dies and starts again: nobody handed anything back. Its monotonic clock starts anew.
    pub(crate) async fn reopen(&mut self) {
        self.store = None;
        self.clock = Arc::new(ManualClock::new(self.clock.now()));
        self.opened += 1;
        // Another seed each time, as in life: the ids of one life must not come back in the next.
        let options = Options { lease: LEASE, retry: RETRY, seed: Some(self.opened) };
        self.store =
            Some(Store::open(self.folder.path(), Arc::clone(&self.clock) as _, options).await.unwrap());
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join(Store::FILE)
    }

    /// A connection of the test's own, to look behind the store or to get in its way.
    pub(crate) fn sql(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.file()).unwrap()
    }

    /// Time passes, and the sweep notices.
    pub(crate) async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.sweep().await.unwrap();
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) async fn accept(&self, tenant: &str, render: NewRender) -> Render {
        let submitted = self.submit(&TenantId::new(tenant), vec![render], None).await.unwrap();
        submitted.renders.into_iter().next().unwrap()
    }

    /// Accepts `count` of them.
    pub(crate) async fn accept_many(&self, tenant: &str, count: usize, render: NewRender) -> Vec<Render> {
        self.submit(&TenantId::new(tenant), vec![render; count], None).await.unwrap().renders
    }

    pub(crate) async fn accept_once(
        &self,
        tenant: &str,
        render: NewRender,
        key: &IdempotencyKey,
    ) -> Result<Submitted, SubmitError> {
        self.submit(&TenantId::new(tenant), vec![render], Some(key.clone())).await
    }

    /// What a worker that asks now gets.
    pub(crate) async fn take(&self) -> Option<Lease> {
        self.claim("worker", Duration::ZERO).await.unwrap()
    }

    /// A worker that asks now gets this render.
    pub(crate) async fn claims(&self, expected: &Render) -> Lease {
        let lease = self.take().await.unwrap_or_else(|| panic!("{} cannot be claimed", expected.composition));
        assert_eq!(lease.render.composition, expected.composition);
        assert_eq!(lease.render.id, expected.id);
        lease
    }

    /// A worker that asks now gets nothing.
    pub(crate) async fn claims_nothing(&self) {
        assert_eq!(self.take().await.map(|lease| lease.render.composition), None);
    }

    pub(crate) async fn end(&self, lease: &Lease, outcome: Outcome) -> Status {
        self.finish(lease.render.id, &lease.token, outcome).await.unwrap()
    }

    pub(crate) async fn succeed(&self, lease: &Lease) {
        assert_eq!(self.end(lease, succeeded()).await, Status::Succeeded);
    }

    pub(crate) async fn fail_for_good(&self, lease: &Lease) {
        assert_eq!(self.end(lease, permanent()).await, Status::Failed);
    }

    pub(crate) async fn look(&self, id: RenderId) -> Render {
        self.get(id).await.unwrap().unwrap()
    }

    pub(crate) async fn status(&self, id: RenderId) -> Status {
        self.look(id).await.status
    }

    pub(crate) async fn stands(&self, render: &Render) -> (u32, Option<Blocked>) {
        let position = self.position(render.id).await.unwrap().unwrap();
        (position.position, position.blocked_by)
    }

    pub(crate) async fn outcomes(&self, id: RenderId) -> Vec<String> {
        let attempts = self.attempts(id).await.unwrap();
        attempts.into_iter().map(|attempt| attempt.outcome.unwrap_or_else(|| "goes on".into())).collect()
    }

    pub(crate) async fn all(&self) -> Vec<Render> {
        self.list(Filter { limit: u32::MAX, ..Filter::default() }).await.unwrap()
    }
}

impl Deref for World {
    type Target = Store;

    fn deref(&self) -> &Store {
        self.store.as_ref().unwrap()
    }
}

/// Names the composition, so that a test that fails says which render it is about.
pub(crate) fn render(composition: &str) -> NewRender {
    NewRender {
        kind: Kind::Media,
        site_version: "v1".into(),
        request: RenderRequest {
            composition: composition.into(),
            serve_url: "site".into(),
            ..RenderRequest::default()
        },
        default_max_attempts: 3,
    }
}

/// How a render is queued, in words.
pub(crate) trait Asks: Sized {
    fn queue(&mut self) -> &mut QueueOptions;

    fn in_group(mut self, group: &str) -> Self {
        self.queue().group = Some(group.into());
        self
    }

    fn with_priority(mut self, priority: i32) -> Self {
        self.queue().priority = Some(priority);
        self
    }

    fn not_before(mut self, at: Timestamp) -> Self {
        self.queue().run_at = Some(at);
        self
    }

    fn with_attempts(mut self, attempts: u32) -> Self {
        self.queue().max_attempts = Some(attempts);
        self
    }

    fn holding_its_group(mut self) -> Self {
        self.queue().on_failure = Some(OnFailure::Block);
        self
    }
}

impl Asks for NewRender {
    fn queue(&mut self) -> &mut QueueOptions {
        self.request.queue.get_or_insert_default()
    }
}

pub(crate) fn key(name: &str, body: u8) -> IdempotencyKey {
    IdempotencyKey { key: name.into(), body_hash: [body; 32] }
}

pub(crate) fn succeeded() -> Outcome {
    Outcome::Succeeded(Output {
        key: "out/1.mp4".into(),
        size_in_bytes: 1_000,
        content_type: "video/mp4".into(),
        frame_count: Some(150),
        width: Some(1920),
        height: Some(1080),
        duration_in_seconds: Some(5.0),
    })
}

/// A fault that another attempt may mend.
pub(crate) fn passing() -> Outcome {
    Outcome::Failed(Failure::new("browser_crashed", "the browser crashed", true))
}

/// A fault that no attempt will mend.
pub(crate) fn permanent() -> Outcome {
    Outcome::Failed(Failure::new("composition_not_found", "there is no such composition", false))
}

pub(crate) fn is_lost<T>(result: Result<T, LeaseError>) -> bool {
    result.is_err_and(|error| matches!(error, LeaseError::Lost))
}

pub(crate) fn behind(render: &Render) -> Option<Blocked> {
    Some(Blocked::Group { render_id: render.id })
}
