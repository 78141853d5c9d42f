//! The queue of one machine: SQLite, one writer, fsync before every answer.
//!
//! Where to look: `claim` decides which render is next, `line` keeps the order within groups, `lease` ends attempts,
//! `sweep` does what time brings about, `outbox` has what is owed when renders have ended, `writer` commits, `mark` remembers outside of the database how far it has come,
//! `seal` keeps secrets, `keyring` and `reseal` change their key.
//! The schema, with the counters' triggers and the rows' checksums, is in `migrations/`. Only this crate sees SQL.

mod accounts;
mod activity;
mod backlog;
mod backup;
mod check;
mod checkpoint;
mod claim;
mod connection;
mod control;
mod delivery;
mod find;
mod integrity;
mod keyring;
mod lease;
mod line;
mod mark;
mod notices;
mod outbox;
mod position;
mod read;
mod reseal;
mod row;
mod seal;
mod site;
mod submit;
mod sweep;
mod tenant;
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{FutureExt as _, join_all};
use lastframe_core::ports::{
    Backlog, Busy, Capabilities, Changes, ControlError, Directory, Filter, Group, Hour, IdempotencyKey,
    LeaseError, NewRender, Overview, Pausable, Position, Queue, QueueError, Redrive, Redriven,
    RemoveSiteError, SteerError, SubmitError, Submitted, Tenant,
};
use lastframe_core::site::SiteVersion;
use lastframe_core::{
    Attempt, Checkpoint, Clock, Extended, Failure, HandBack, Lease, LeaseToken, Limits, Observer, Outcome,
    Progress, Render, RenderId, RenderRequest, RetryPolicy, Status, TenantId,
};
use rusqlite::Connection;
use tokio::sync::{Notify, Semaphore, broadcast};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::BroadcastStream;

pub use crate::backup::{BackupError, backup, restore};
pub use crate::check::{Belonging, Report, belongings, check};
use crate::checkpoint::Checkpointer;
pub use crate::connection::OpenError;
pub use crate::keyring::{KeyInUse, needs_key};
use crate::mark::Mark;
pub use crate::reseal::Resealed;
use crate::seal::Ring;
pub use crate::seal::{Key, KeyId, Keys};
use crate::sweep::Due;
pub use crate::sweep::KEY_LIFETIME;
use crate::writer::{Files, Signals, Writer, storage};

/// How the store behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a lease holds without an extension.
    pub lease: Duration,
    /// When failed attempts are tried again.
    pub retry: RetryPolicy,
    /// The limits of tenants that have none of their own.
    pub limits: Limits,
    /// For ids and jitter; fixed in tests.
    pub seed: Option<u64>,
    /// What secrets are sealed with; without any they are written as they are.
    pub keys: Keys,
    /// Hears of what is accepted, claimed and ended.
    pub observer: Arc<dyn Observer>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            retry: RetryPolicy::default(),
            limits: Limits::default(),
            seed: None,
            keys: Keys::default(),
            observer: Arc::new(()),
        }
    }
}

/// The store, open.
///
/// Exactly one may be open on a folder at a time; the caller holds a lock on the folder.
#[derive(Debug)]
pub struct Store {
    writer: Writer,
    readers: Readers,
    clock: Arc<dyn Clock>,
    signals: Signals,
    ring: Arc<Ring>,
    lease: Duration,
    retry: RetryPolicy,
    /// Of tenants that have none of their own.
    limits: Limits,
    epoch: String,
    tokens: AtomicU64,
    /// When indexes were last made anew, in milliseconds of the monotonic clock.
    mended_at: AtomicI64,
}

/// The least time between two mendings, in milliseconds.
const MEND_AFTER: i64 = 60_000;

impl Store {
    /// The database's file within the data folder.
    pub const FILE: &str = "lastframe.db";

    /// Opens the store in `folder`, creating or migrating it, and puts back what earlier processes left rendering.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(folder: &Path, clock: Arc<dyn Clock>, options: Options) -> Result<Self, OpenError> {
        let path = folder.join(Self::FILE);
        let mark = connection::mark(folder)?;
        if let Some(mark) = &mark
            && !path.try_exists()?
        {
            return Err(OpenError::DatabaseMissing { reached: mark.commits });
        }
        let mut connection = connection::writer(&path)?;
        let reached = connection::reached(&connection)?;
        connection::compare(&reached, mark.as_ref())?;
        keyring::adopt(&mut connection, &options.keys, clock.now().as_millisecond())?;
        let ring = Arc::new(Ring::new(options.keys));
        let mark = Mark::set(folder, reached)?;
        let checkpointer = Checkpointer::start(&path, &mut connection)?;
        let files = Files { connection, mark, checkpointer };
        let rng = options.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let signals = Signals {
            changes: broadcast::channel(4096).0,
            claimable: Arc::new(Notify::new()),
            owed: Arc::default(),
            observer: options.observer,
        };
        let mut epoch = [0; 8];
        getrandom::fill(&mut epoch).map_err(storage)?;
        let store = Self {
            writer: Writer::start(
                files,
                Arc::clone(&ring),
                Arc::clone(&clock),
                rng,
                options.limits,
                signals.clone(),
            )
            .map_err(storage)?,
            readers: Readers::open(&path)?,
            clock,
            signals,
            ring,
            lease: options.lease,
            retry: options.retry,
            limits: options.limits,
            epoch: format!("{:016x}", u64::from_le_bytes(epoch)),
            tokens: AtomicU64::new(0),
            mended_at: AtomicI64::new(-MEND_AFTER),
        };
        store.writer.run(tenant::renew_limits).await?;
        store.writer.run(outbox::renew).await?;
        let left = store.readers.run(sweep::left).await?;
        if !left.leases.is_empty() {
            tracing::info!(
                renders = left.leases.len(),
                "renders that were under way when the last process ended are queued again"
            );
        }
        store.see_to(left, true).await?;
        Ok(store)
    }

    /// Does what time has brought about: expires leases, lets delayed renders go, forgets old idempotency keys.
    ///
    /// # Errors
    /// When the storage fails; nothing is lost, the next sweep tries again.
    pub async fn sweep(&self) -> Result<(), QueueError> {
        let (now, monotonic) = (self.clock.now().as_millisecond(), self.monotonic());
        let due = self.readers.run(move |db| sweep::due(db, now, monotonic)).await?;
        self.see_to(due, false).await
    }

    /// Each in a command of its own; those that wait together share a commit.
    async fn see_to(&self, due: Due, always: bool) -> Result<(), QueueError> {
        let policy = self.retry;
        let writer = &self.writer;
        let expired = due
            .leases
            .into_iter()
            .map(|seq| writer.run(move |tx| sweep::expire(tx, seq, always, policy)).boxed());
        let woken =
            due.waits.into_iter().map(|seq| writer.run(move |tx| sweep::wake(tx, seq, always)).boxed());
        let keys = due.keys.then(|| writer.run(sweep::forget_keys).boxed());
        for done in join_all(expired.chain(woken).chain(keys)).await {
            match done {
                // It is in nobody's way but its own.
                Err(error @ QueueError::Damaged { .. }) => {
                    tracing::error!(%error, "a render cannot be put back or woken");
                }
                done => done?,
            }
        }
        Ok(())
    }

    fn next_token(&self) -> LeaseToken {
        LeaseToken(format!("{}-{}", self.epoch, self.tokens.fetch_add(1, Ordering::Relaxed)))
    }

    /// Milliseconds of the monotonic clock.
    fn monotonic(&self) -> i64 {
        i64::try_from(self.clock.monotonic().as_millis()).unwrap_or(i64::MAX)
    }

    async fn claim_now(&self, worker: &str) -> Result<Option<Lease>, QueueError> {
        match self.try_claim(worker).await {
            Err(QueueError::Damaged { what }) if self.may_mend() => {
                tracing::error!(what, "a claim came upon damage");
                self.writer.run(|tx| claim::mend(tx).map_err(storage)).await?;
                self.try_claim(worker).await
            }
            claimed => claimed,
        }
    }

    /// Not again and again: what mending does not help would only be made slower by it.
    fn may_mend(&self) -> bool {
        let now = self.monotonic();
        let mended = self.mended_at.load(Ordering::Relaxed);
        now.saturating_sub(mended) >= MEND_AFTER
            && self.mended_at.compare_exchange(mended, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    async fn try_claim(&self, worker: &str) -> Result<Option<Lease>, QueueError> {
        let (worker, token) = (worker.to_owned(), self.next_token());
        let (duration, policy) = (self.lease, self.retry);
        self.writer
            .run(move |tx| {
                while let Some(claimed) = claim::claim(tx, &worker, &token.0, duration).map_err(storage)? {
                    // Left where it is, one that cannot be read would be next for ever, and none behind it would be made.
                    if !claimed.intact {
                        lease::condemn(tx, claimed.seq)?;
                        continue;
                    }
                    let id = row::id(&claimed.id)?;
                    tx.changed(id);
                    let (code, why) = match read::request(tx.db, tx.ring, claimed.seq) {
                        Ok(Ok(request)) => match read::checkpoint(tx.db, tx.ring, claimed.seq) {
                            Ok(checkpoint) => {
                                let render = read::expect(tx.db, id)?;
                                return Ok(Some(Lease { render, request, token, duration, checkpoint }));
                            }
                            Err(error) if integrity::is_damage(&error) => {
                                tracing::error!(render.id = %id, %error, "a checkpoint is damaged; its render is failed");
                                ("checkpoint_damaged", format!("{error}: retry it, and it starts over"))
                            }
                            Err(error) => return Err(error),
                        },
                        Ok(Err(error)) => {
                            let why = format!("this version of Lastframe cannot read the request: {error}");
                            ("request_unreadable", why)
                        }
                        Err(error) if integrity::is_damage(&error) => {
                            tracing::error!(render.id = %id, %error, "a request is damaged; its render is failed");
                            ("request_damaged", format!("{error}: submit it again"))
                        }
                        Err(error) => return Err(error),
                    };
                    let failed = Outcome::Failed(Failure::new(code, why, false));
                    lease::finish(tx, id, &token, &failed, policy).map_err(storage)?;
                }
                Ok(None)
            })
            .await
    }
}

#[async_trait]
impl Queue for Store {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            priorities: true,
            fair_share: true,
            in_order: true,
            longest_delay: Duration::MAX,
            pauses: true,
            batch: 1_000,
            notices: true,
            shared: false,
        }
    }

    async fn submit(
        &self,
        tenant: &TenantId,
        renders: Vec<NewRender>,
        key: Option<IdempotencyKey>,
    ) -> Result<Submitted, SubmitError> {
        let (tenant, count, asked_at) = (tenant.clone(), renders.len(), self.clock.monotonic());
        let submitted = self
            .writer
            .run_unless_busy(count, move |tx| submit::submit(tx, &tenant, &renders, key.as_ref()))
            .await?;
        if !submitted.replayed {
            self.signals.observer.accepted(count, self.clock.monotonic().saturating_sub(asked_at));
        }
        Ok(submitted)
    }

    async fn submitted(
        &self,
        tenant: &TenantId,
        key: &IdempotencyKey,
    ) -> Result<Option<Vec<Render>>, SubmitError> {
        let (tenant, key, ring) = (tenant.clone(), key.clone(), Arc::clone(&self.ring));
        self.readers.run(move |db| Ok(submit::submitted(db, &ring, &tenant, &key))).await?
    }

    async fn claim(&self, worker: &str, wait: Duration) -> Result<Option<Lease>, QueueError> {
        let give_up = tokio::time::sleep(wait);
        tokio::pin!(give_up);
        loop {
            // Listening starts before looking, so a render that comes in between is not missed.
            let claimable = self.signals.claimable.notified();
            tokio::pin!(claimable);
            claimable.as_mut().enable();
            let asked_at = self.clock.monotonic();
            if let Some(lease) = self.claim_now(worker).await? {
                self.signals.observer.claimed(&lease.render, self.clock.monotonic().saturating_sub(asked_at));
                return Ok(Some(lease));
            }
            tokio::select! {
                () = claimable => {}
                () = &mut give_up => return Ok(None),
            }
        }
    }

    async fn extend(
        &self,
        render: RenderId,
        token: &LeaseToken,
        progress: Progress,
        checkpoint: Option<Checkpoint>,
    ) -> Result<Extended, LeaseError> {
        let (token, duration) = (token.clone(), self.lease);
        self.writer
            .run(move |tx| lease::extend(tx, render, &token, duration, progress, checkpoint.as_ref()))
            .await
    }

    async fn release(&self, render: RenderId, token: &LeaseToken, why: HandBack) -> Result<(), LeaseError> {
        let token = token.clone();
        self.writer.run(move |tx| lease::release(tx, render, &token, &why)).await
    }

    async fn finish(
        &self,
        render: RenderId,
        token: &LeaseToken,
        outcome: Outcome,
    ) -> Result<Status, LeaseError> {
        let (token, policy) = (token.clone(), self.retry);
        self.writer.run(move |tx| lease::finish(tx, render, &token, &outcome, policy)).await
    }

    async fn cancel(&self, render: RenderId) -> Result<Render, ControlError> {
        self.writer.run(move |tx| control::cancel(tx, render)).await
    }

    async fn retry(&self, render: RenderId) -> Result<Render, ControlError> {
        self.writer.run(move |tx| control::retry(tx, render)).await
    }

    async fn redrive(&self, which: Redrive) -> Result<Redriven, QueueError> {
        // Looked for on a reader: a search through all that ever failed must not hold up the writer.
        let Redriven { renders, more } = self.readers.run(move |db| read::failed(db, &which)).await?;
        let renders = self.writer.run(move |tx| control::redrive(tx, &renders)).await;
        let renders = renders.map_err(|error| match error {
            ControlError::Queue(error) => error,
            other => storage(other),
        })?;
        Ok(Redriven { renders, more })
    }

    async fn pause(&self, what: Pausable) -> Result<(), SteerError> {
        Ok(self.writer.run(move |tx| tenant::set_paused(tx, &what, true)).await?)
    }

    async fn resume(&self, what: Pausable) -> Result<(), SteerError> {
        Ok(self.writer.run(move |tx| tenant::set_paused(tx, &what, false)).await?)
    }

    async fn limit(&self, tenant: &TenantId, limits: Limits) -> Result<Tenant, SteerError> {
        let tenant = tenant.clone();
        Ok(self.writer.run(move |tx| tenant::limit(tx, &tenant, limits)).await?)
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, QueueError> {
        let defaults = self.limits;
        self.readers.run(move |db| tenant::list(db, defaults)).await
    }

    async fn tenant(&self, tenant: &TenantId) -> Result<Option<Tenant>, QueueError> {
        let (tenant, defaults) = (tenant.clone(), self.limits);
        self.readers.at_once(move |db| tenant::get(db, &tenant, defaults)).await
    }

    async fn group(&self, tenant: &TenantId, name: &str) -> Result<Option<Group>, QueueError> {
        let (tenant, name) = (tenant.clone(), name.to_owned());
        self.readers.run(move |db| tenant::group(db, &tenant, &name)).await
    }

    async fn groups(
        &self,
        tenant: &TenantId,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<Group>, QueueError> {
        let tenant = tenant.clone();
        self.readers
            .run(move |db| tenant::groups(db, &tenant, after.as_deref().unwrap_or_default(), limit))
            .await
    }

    async fn hours(
        &self,
        tenant: Option<&TenantId>,
        since: jiff::Timestamp,
        count: u32,
    ) -> Result<Vec<Hour>, QueueError> {
        let (tenant, since) = (tenant.cloned(), since.as_millisecond());
        self.readers.run(move |db| activity::hours(db, tenant.as_ref(), since, count)).await
    }

    async fn busy(&self) -> Result<Vec<Busy>, QueueError> {
        self.readers.run(activity::busy).await
    }

    async fn overview(&self) -> Result<Overview, QueueError> {
        self.readers.run(tenant::overview).await
    }

    async fn backlog(&self) -> Result<Backlog, QueueError> {
        self.readers.run(|db| backlog::backlog(db).map_err(storage)).await
    }

    async fn ended_before(&self, time: jiff::Timestamp, limit: u32) -> Result<Vec<Render>, QueueError> {
        let time = time.as_millisecond();
        self.readers.run(move |db| read::ended_before(db, time, limit).map_err(storage)).await
    }

    async fn outputs_due(&self, time: jiff::Timestamp, limit: u32) -> Result<Vec<Render>, QueueError> {
        let time = time.as_millisecond();
        self.readers.run(move |db| read::outputs_due(db, time, limit).map_err(storage)).await
    }

    async fn outputs_deleted(&self, renders: Vec<RenderId>) -> Result<(), QueueError> {
        self.writer.run(move |tx| control::outputs_deleted(tx, &renders)).await
    }

    async fn forget(&self, renders: Vec<RenderId>) -> Result<usize, QueueError> {
        self.writer.run(move |tx| control::forget(tx, &renders)).await
    }

    async fn get(&self, render: RenderId) -> Result<Option<Render>, QueueError> {
        self.readers.at_once(move |db| read::get(db, render)).await
    }

    async fn request(&self, render: RenderId) -> Result<Option<RenderRequest>, QueueError> {
        let ring = Arc::clone(&self.ring);
        self.readers
            .run(move |db| match read::get(db, render)? {
                Some(render) => read::request(db, &ring, render.seq)?.map(Some).map_err(storage),
                None => Ok(None),
            })
            .await
    }

    async fn attempts(&self, render: RenderId) -> Result<Vec<Attempt>, QueueError> {
        self.readers.run(move |db| read::attempts(db, render).map_err(storage)).await
    }

    async fn position(&self, render: RenderId) -> Result<Option<Position>, QueueError> {
        let (now, monotonic) = (self.clock.now().as_millisecond(), self.monotonic());
        self.readers.at_once(move |db| position::position(db, render, now, monotonic)).await
    }

    async fn list(&self, filter: Filter) -> Result<Vec<Render>, QueueError> {
        self.readers.run(move |db| read::list(db, &filter).map_err(storage)).await
    }

    fn changes(&self) -> Changes {
        let changes = BroadcastStream::new(self.signals.changes.subscribe());
        Box::pin(changes.map_while(Result::ok))
    }
}

#[async_trait]
impl Directory for Store {
    async fn put_site(&self, tenant: &TenantId, site: SiteVersion) -> Result<(), QueueError> {
        let tenant = tenant.clone();
        self.writer.run(move |tx| site::put(tx, &tenant, &site)).await
    }

    async fn site(&self, tenant: &TenantId, name: &str) -> Result<Option<SiteVersion>, QueueError> {
        let (tenant, name) = (tenant.clone(), name.to_owned());
        self.readers.at_once(move |db| site::get(db, &self.ring, &tenant, &name, None)).await
    }

    async fn site_version(
        &self,
        tenant: &TenantId,
        name: &str,
        version: &str,
    ) -> Result<Option<SiteVersion>, QueueError> {
        let (tenant, name, version) = (tenant.clone(), name.to_owned(), version.to_owned());
        self.readers.at_once(move |db| site::get(db, &self.ring, &tenant, &name, Some(&version))).await
    }

    async fn sites(&self, tenant: &TenantId) -> Result<Vec<SiteVersion>, QueueError> {
        let (ring, tenant) = (Arc::clone(&self.ring), tenant.clone());
        self.readers.run(move |db| site::list(db, &ring, &tenant)).await
    }

    async fn site_versions(&self, tenant: &TenantId, name: &str) -> Result<Vec<SiteVersion>, QueueError> {
        let (tenant, name, ring) = (tenant.clone(), name.to_owned(), Arc::clone(&self.ring));
        self.readers.run(move |db| site::versions(db, &ring, &tenant, &name)).await
    }

    async fn has_version(&self, version: &str) -> Result<bool, QueueError> {
        let version = version.to_owned();
        self.readers.at_once(move |db| site::has(db, &version)).await
    }

    async fn remove_site(&self, tenant: &TenantId, name: &str) -> Result<(), RemoveSiteError> {
        let (tenant, name) = (tenant.clone(), name.to_owned());
        self.writer.run(move |tx| site::remove(tx, &tenant, &name, None)).await
    }

    async fn remove_site_version(
        &self,
        tenant: &TenantId,
        name: &str,
        version: &str,
    ) -> Result<(), RemoveSiteError> {
        let (tenant, name, version) = (tenant.clone(), name.to_owned(), version.to_owned());
        self.writer.run(move |tx| site::remove(tx, &tenant, &name, Some(&version))).await
    }
}

/// Connections that only read, lent out one question at a time.
#[derive(Debug)]
struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    const COUNT: usize = 4;

    fn open(path: &Path) -> Result<Self, OpenError> {
        let idle = (0..Self::COUNT).map(|_| connection::reader(path)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { idle: Arc::new(Mutex::new(idle)), permits: Arc::new(Semaphore::new(Self::COUNT)) })
    }

    /// Answers a question that may take its time.
    async fn run<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(storage)?;
        let idle = Arc::clone(&self.idle);
        let answered = tokio::task::spawn_blocking(move || {
            let answer = answer(&idle, question);
            drop(permit);
            answer
        });
        answered.await.map_err(storage)?
    }

    /// Answers a question about a row or two where it is asked: a thread to ask it on would cost more than it does.
    async fn at_once<T>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, QueueError> + Send,
    ) -> Result<T, QueueError> {
        let _permit = self.permits.acquire().await.map_err(storage)?;
        answer(&self.idle, question)
    }
}

/// Lends a connection to the question. There is one for each permit.
fn answer<T>(
    idle: &Mutex<Vec<Connection>>,
    question: impl FnOnce(&Connection) -> Result<T, QueueError>,
) -> Result<T, QueueError> {
    let lock = || idle.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(connection) = lock().pop() else { return Err(storage(rusqlite::Error::InvalidQuery)) };
    // One snapshot for all that the question reads: what a commit changed in between does not mix in.
    let answer = connection.unchecked_transaction().map_err(storage).and_then(|snapshot| question(&snapshot));
    lock().push(connection);
    answer
}
