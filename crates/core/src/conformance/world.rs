//! What is tested, a clock that is moved by hand, and short words for what tests do with them.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::ask::{permanent, succeeded};
use crate::outbox::Outbox;
use crate::ports::{
    Accounts, Directory, Filter, Group, IdempotencyKey, NewRender, Pausable, Queue, SubmitError, Submitted,
};
use crate::render::Blocked;
use crate::site::SiteVersion;
use crate::{
    Clock as _, Lease, Limits, ManualClock, Outcome, Render, RenderId, RetryPolicy, Status, TenantId,
};

/// How long a lease holds.
pub const LEASE: Duration = Duration::from_secs(30);
/// How retries wait.
pub const RETRY: RetryPolicy =
    RetryPolicy { base: Duration::from_secs(2), cap: Duration::from_secs(60), max_lost: 5 };
/// More than any retry waits, and any lease holds.
pub const LONG: Duration = Duration::from_secs(61);
/// A delay that a queue with delays must be able to.
pub const MINUTE: Duration = Duration::from_secs(60);
/// The least time there is.
pub const MOMENT: Duration = Duration::from_millis(1);
/// How long a test may take in life, where a promise that is not kept may be a wait for ever.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// The tenants that have what [`render`](super::render) asks for.
pub const TENANTS: [&str; 3] = ["ann", "bob", "cid"];

/// An implementation of the ports, as its tests hand it over. What cannot be done is a panic.
#[async_trait]
pub trait Subject: Send + Sync {
    /// An empty one that takes its time from `clock`, gives leases of [`LEASE`] and retries as [`RETRY`] says.
    async fn new(clock: Arc<ManualClock>) -> Self
    where
        Self: Sized;

    /// Its process dies, nobody hands anything back, and another one goes on with what is there, by a clock of its own,
    /// and with these limits for tenants that have none of their own. A new one has none.
    async fn reopen(&mut self, clock: Arc<ManualClock>, defaults: Limits);

    /// Brings about what time has brought about.
    async fn sweep(&self);

    /// The queue.
    fn queue(&self) -> &(dyn Queue + 'static);

    /// What is known beside the renders.
    fn directory(&self) -> &(dyn Directory + 'static);

    /// People and tokens.
    fn accounts(&self) -> &(dyn Accounts + 'static);

    /// What is owed; asked for only where the queue declares notices.
    fn outbox(&self) -> &(dyn Outbox + 'static) {
        panic!("this subject has no outbox")
    }
}

/// A subject and its time. Derefs to its queue.
pub struct World<S: Subject + ?Sized = dyn Subject> {
    /// Moved by hand; another one after each restart.
    pub clock: Arc<ManualClock>,
    /// What is tested.
    pub subject: Box<S>,
    /// The limits of tenants that have none of their own, after a restart.
    pub defaults: Limits,
}

impl<S: Subject + 'static> World<S> {
    /// An empty queue, and [`TENANTS`] with a site each.
    pub async fn new() -> Self {
        let clock = Arc::new(ManualClock::new("2026-03-01T12:00:00Z".parse().unwrap()));
        let subject = Box::new(S::new(Arc::clone(&clock)).await);
        let world = Self { clock, subject, defaults: Limits::default() };
        for tenant in TENANTS {
            world.add_site(tenant, "site", "v1").await;
        }
        world
    }

    /// The same, whatever is behind it.
    pub fn erased(self) -> World {
        World { clock: self.clock, subject: self.subject, defaults: self.defaults }
    }
}

impl<S: Subject + ?Sized> World<S> {
    /// Makes a site's name stand for a version.
    pub async fn add_site(&self, tenant: &str, name: &str, version: &str) -> SiteVersion {
        let site = SiteVersion {
            name: name.into(),
            version: version.into(),
            remotion_version: "4.0.527".into(),
            renderer: None,
            url: None,
            size_in_bytes: 1,
            compositions: Vec::new(),
            created_at: self.now(),
        };
        self.directory().put_site(&TenantId::new(tenant), site.clone()).await.unwrap();
        site
    }

    /// What is known beside the renders.
    pub fn directory(&self) -> &(dyn Directory + 'static) {
        self.subject.directory()
    }

    /// People and tokens.
    pub fn accounts(&self) -> &(dyn Accounts + 'static) {
        self.subject.accounts()
    }

    /// What is owed.
    pub fn outbox(&self) -> &(dyn Outbox + 'static) {
        self.subject.outbox()
    }

    /// The process dies and another goes on: nobody handed anything back, and monotonic time starts anew.
    pub async fn reopen(&mut self) {
        self.clock = Arc::new(ManualClock::new(self.clock.now()));
        self.subject.reopen(Arc::clone(&self.clock), self.defaults).await;
    }

    /// The process dies with all that it held, and that is noticed: at once where another process takes its place, and where
    /// there are several when the time of its leases is over.
    pub async fn dies(&mut self) {
        self.reopen().await;
        if self.capabilities().shared {
            self.pass(LEASE).await;
        }
    }

    /// Does what time has brought about.
    pub async fn sweep(&self) {
        self.subject.sweep().await;
    }

    /// Time passes, and is noticed.
    pub async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.sweep().await;
    }

    /// Somebody puts the wall clock forward or back, and nothing else happens.
    pub async fn jump(&self, by: SignedDuration) {
        self.clock.jump_to(self.clock.now() + by);
        self.sweep().await;
    }

    /// What the wall clock says.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Submits one render.
    pub async fn accept(&self, tenant: &str, render: NewRender) -> Render {
        self.accept_many(tenant, 1, render).await.remove(0)
    }

    /// Submits `count` of them, as many together as the queue takes.
    pub async fn accept_many(&self, tenant: &str, count: usize, render: NewRender) -> Vec<Render> {
        let mut accepted = Vec::new();
        for together in vec![render; count].chunks(self.capabilities().batch) {
            let submitted = self.submit(&TenantId::new(tenant), together.to_vec(), None).await.unwrap();
            accepted.extend(submitted.renders);
        }
        accepted
    }

    /// Submits one render under an idempotency key.
    pub async fn accept_once(
        &self,
        tenant: &str,
        render: NewRender,
        key: &IdempotencyKey,
    ) -> Result<Submitted, SubmitError> {
        self.submit(&TenantId::new(tenant), vec![render], Some(key.clone())).await
    }

    /// What a worker that asks now gets.
    pub async fn take(&self) -> Option<Lease> {
        self.claim("worker", Duration::ZERO).await.unwrap()
    }

    /// A worker that asks now gets this render.
    pub async fn claims(&self, expected: &Render) -> Lease {
        let lease = self.take().await.unwrap_or_else(|| panic!("{} cannot be claimed", expected.composition));
        assert_eq!(lease.render.composition, expected.composition);
        assert_eq!(lease.render.id, expected.id);
        lease
    }

    /// A worker that asks now gets nothing.
    pub async fn claims_nothing(&self) {
        assert_eq!(self.take().await.map(|lease| lease.render.composition), None);
    }

    /// Workers that ask now get these, one after another, each once the one before has succeeded; and then nothing.
    pub async fn renders_in_turn(&self, expected: &[&Render]) {
        for render in expected {
            self.succeed(&self.claims(render).await).await;
        }
        self.claims_nothing().await;
    }

    /// Workers that ask now get these, one after another, while none of those before has ended; and then nothing. In this
    /// order, where that is promised; the leases are in this order always.
    pub async fn claims_all_of(&self, expected: &[&Render]) -> Vec<Lease> {
        let mut leases = Vec::new();
        for render in expected {
            leases.push(if self.capabilities().in_order {
                self.claims(render).await
            } else {
                self.take().await.expect("one of those must be claimed")
            });
        }
        let place = |id| expected.iter().position(|render| render.id == id);
        leases.sort_by_key(|lease| place(lease.render.id));
        let ids = |renders: &mut dyn Iterator<Item = RenderId>| renders.collect::<Vec<_>>();
        let claimed = ids(&mut leases.iter().map(|lease| lease.render.id));
        assert_eq!(claimed, ids(&mut expected.iter().map(|render| render.id)));
        self.claims_nothing().await;
        leases
    }

    /// Ends the attempt; returns the state that comes of it.
    pub async fn end(&self, lease: &Lease, outcome: Outcome) -> Status {
        self.finish(lease.render.id, &lease.token, outcome).await.unwrap()
    }

    /// Ends the attempt with an output.
    pub async fn succeed(&self, lease: &Lease) {
        assert_eq!(self.end(lease, succeeded()).await, Status::Succeeded);
    }

    /// Ends the attempt, and its render, without one.
    pub async fn fail_for_good(&self, lease: &Lease) {
        assert_eq!(self.end(lease, permanent()).await, Status::Failed);
    }

    /// A render of that name that has failed for good.
    pub async fn failed(&self, tenant: &str, render: NewRender) -> Render {
        let render = self.accept(tenant, render).await;
        self.fail_for_good(&self.claims(&render).await).await;
        self.look(render.id).await
    }

    /// The render as it is now.
    pub async fn look(&self, id: RenderId) -> Render {
        self.get(id).await.unwrap().unwrap()
    }

    /// The state it is in now.
    pub async fn status(&self, id: RenderId) -> Status {
        self.look(id).await.status
    }

    /// Its place, and why it cannot be claimed.
    pub async fn stands(&self, render: &Render) -> (u32, Option<Blocked>) {
        let position = self.position(render.id).await.unwrap().unwrap();
        (position.position, position.blocked_by)
    }

    /// How long it has to wait, as it says itself.
    pub async fn delay(&self, render: &Render) -> Duration {
        match self.stands(render).await.1 {
            None => Duration::ZERO,
            Some(Blocked::Delayed { run_at }) => run_at.duration_since(self.now()).try_into().unwrap(),
            other => panic!("{} waits for something else: {other:?}", render.composition),
        }
    }

    /// How its leases ended, oldest first.
    pub async fn outcomes(&self, id: RenderId) -> Vec<String> {
        let attempts = self.attempts(id).await.unwrap();
        attempts.into_iter().map(|attempt| attempt.outcome.unwrap_or_else(|| "goes on".into())).collect()
    }

    /// All renders, newest first.
    pub async fn all(&self) -> Vec<Render> {
        self.list(Filter { limit: u32::MAX, ..Filter::default() }).await.unwrap()
    }

    /// Pauses it.
    pub async fn pauses(&self, what: &Pausable) {
        self.pause(what.clone()).await.unwrap();
    }

    /// Ends its pause.
    pub async fn resumes(&self, what: &Pausable) {
        self.resume(what.clone()).await.unwrap();
    }

    /// Gives the tenant that weight, and that limit of renders at once.
    pub async fn gives(&self, tenant: &str, weight: u32, max_concurrency: Option<u32>) {
        let limits = Limits { weight: Some(weight), max_concurrency, ..Limits::default() };
        self.limits(tenant, limits).await;
    }

    /// Sets the tenant's own limits.
    pub async fn limits(&self, tenant: &str, limits: Limits) {
        let given = self.limit(&TenantId::new(tenant), limits).await.unwrap();
        assert_eq!((given.id.as_str(), given.limits), (tenant, limits));
        assert_eq!(given.effective, limits.or(self.defaults));
    }

    /// How many of the tenant's renders wait.
    pub async fn waiting(&self, tenant: &str) -> u64 {
        self.tenant(&TenantId::new(tenant)).await.unwrap().unwrap().counts.queued
    }

    /// The group of ann's of that name.
    pub async fn group_of_ann(&self, name: &str) -> Option<Group> {
        self.group(&TenantId::new("ann"), name).await.unwrap()
    }
}

impl<S: Subject + ?Sized> Deref for World<S> {
    type Target = dyn Queue;

    fn deref(&self) -> &Self::Target {
        self.subject.queue()
    }
}
