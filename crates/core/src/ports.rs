//! What the worker and the API ask of the rooms around them.
//!
//! [`Queue`] is one port because each of its verbs is one transaction: what it promises is true when it returns.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use jiff::Timestamp;

pub use crate::accounts::Accounts;
pub use crate::capabilities::Capabilities;
use crate::lease::{Checkpoint, Extended, HandBack, Lease, LeaseToken, Outcome};
use crate::limits::Limits;
use crate::render::{
    Attempt, Blocked, Failure, IllegalTransition, Kind, Output, Phase, Progress, Render, RenderId, Status,
    TenantId,
};
use crate::request::RenderRequest;
use crate::site::SiteVersion;

/// The queue cannot answer now. Nothing has changed; but a write whose sync failed may be found, whole, after a crash.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// More is waiting to be written than the queue takes on.
    #[error("the queue is busy")]
    Busy,
    /// There is no room on the disk for what was to be written.
    #[error("the queue's disk is full")]
    NoSpace(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What was to be read is not what was written.
    #[error("the queue's record of {what} is damaged")]
    Damaged {
        /// Which record.
        what: String,
    },
    /// The storage beneath failed.
    #[error("the queue's storage failed")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a write under a lease was refused.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The lease is gone: it expired, or was never given. The holder must stop; nothing it does counts any more.
    #[error("the lease is lost")]
    Lost,
    /// The queue cannot answer now; the lease may still hold.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Why a submit was refused.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The idempotency key was used before, for another body.
    #[error("this Idempotency-Key was used for another request")]
    KeyReused,
    /// The site of the render at this index, in the version asked for, is not there any more.
    #[error("the site was removed")]
    SiteGone(usize),
    /// With these, more renders of the tenant would wait than may.
    #[error("the tenant may have {0} renders waiting at most")]
    TooManyQueued(u32),
    /// The queue cannot answer now.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Why a cancel or retry was refused.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is no such render.
    #[error("no such render")]
    NotFound,
    /// Its state does not allow it.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// The queue cannot answer now.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Why a pause, a resume or a limit was refused.
#[derive(Debug, thiserror::Error)]
pub enum SteerError {
    /// This queue never can: see [`Capabilities`].
    #[error("this queue knows no {0}")]
    Unsupported(&'static str),
    /// The queue cannot answer now.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// A render to be accepted.
#[derive(Clone, Debug)]
pub struct NewRender {
    /// What is made.
    pub kind: Kind,
    /// The version that the request's site stands for now.
    pub site_version: String,
    /// What is to be made and how it is queued.
    pub request: RenderRequest,
    /// Attempts, where the request does not say.
    pub default_max_attempts: u32,
}

/// A client's name for a submit, so that sending it again does not submit again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// As the client chose it, within its tenant.
    pub key: String,
    /// A hash of the body; the same key with another body is refused.
    pub body_hash: [u8; 32],
}

/// The renders that a submit stands for.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// In the order given.
    pub renders: Vec<Render>,
    /// They had been accepted before, under the same idempotency key.
    pub replayed: bool,
}

/// Which renders to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this tenant; of all when absent.
    pub tenant: Option<TenantId>,
    /// In this state.
    pub status: Option<Status>,
    /// Of this group.
    pub group: Option<String>,
    /// Whose id, composition or group begins with this, whatever the case of its ASCII letters.
    pub text: Option<String>,
    /// Accepted before the render with this [`Render::seq`].
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

/// Where a queued render stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Position {
    /// 1 is next in its line: its group if it has one, else its tenant's claimable renders. At most
    /// [`Position::COUNTED_UP_TO`].
    pub position: u32,
    /// Why it cannot be claimed even when a worker is free.
    pub blocked_by: Option<Blocked>,
}

impl Position {
    /// Counting stops here, so that asking stays cheap behind a million others: it is done for every render that is
    /// accepted.
    pub const COUNTED_UP_TO: u32 = 1_000;
}

/// What can be paused, and goes on where it was when it is resumed. What is being rendered goes on meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pausable {
    /// Everything.
    Queue,
    /// All renders of a tenant.
    Tenant(TenantId),
    /// The renders of a group; other renders of its tenant go on.
    Group(TenantId, String),
}

/// Which failed renders to queue again. Each condition that is absent holds for all.
#[derive(Clone, Debug)]
pub struct Redrive {
    /// Of this tenant.
    pub tenant: TenantId,
    /// Among these; those of them that have not failed are left as they are.
    pub ids: Option<Vec<RenderId>>,
    /// Of this group.
    pub group: Option<String>,
    /// Failed with this [`Failure::code`].
    pub code: Option<String>,
    /// Failed at this time or later.
    pub since: Option<Timestamp>,
    /// Failed before this time.
    pub until: Option<Timestamp>,
    /// At most so many, the first accepted first.
    pub limit: u32,
}

/// What a redrive has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redriven {
    /// The renders that are queued again, in the order of acceptance.
    pub renders: Vec<RenderId>,
    /// There are more: ask again.
    pub more: bool,
}

/// A group that has something left to do, or is paused or held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name within its tenant.
    pub name: String,
    /// Whether it is paused.
    pub paused: bool,
    /// The render that failed under `onFailure: block` and holds it.
    pub held_by: Option<RenderId>,
    /// The render that has the turn: rendering, or first of the queued ones.
    pub head: Option<RenderId>,
    /// How many wait in it. At most [`Position::COUNTED_UP_TO`].
    pub queued: u32,
}

/// Renders by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Waiting, for whatever reason.
    pub queued: u64,
    /// Under a lease.
    pub rendering: u64,
    /// With an output.
    pub succeeded: u64,
    /// Without one.
    pub failed: u64,
    /// Stopped.
    pub cancelled: u64,
}

/// A tenant, as the queue knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its name.
    pub id: TenantId,
    /// Its own limits.
    pub limits: Limits,
    /// What counts: its own limits, or the defaults where it has none.
    pub effective: Limits,
    /// Whether it is paused.
    pub paused: bool,
    /// Its renders.
    pub counts: Counts,
}

/// The queue as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// Whether it is paused.
    pub paused: bool,
    /// All renders.
    pub counts: Counts,
}

/// What a worker could claim now, and how long has been waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Renders that nothing stands before but the lack of a worker.
    pub claimable: u64,
    /// Since when those of them have waited that are first in their lines, the longest of them: when it was accepted, or was due.
    pub waiting_since: Option<Timestamp>,
    /// When the longest of the attempts under way began.
    pub rendering_since: Option<Timestamp>,
}

/// What became of renders within one hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hour {
    /// When it began.
    pub start: Timestamp,
    /// Renders that were accepted.
    pub accepted: u64,
    /// Renders that ended with an output.
    pub succeeded: u64,
    /// Renders that ended without one, and were not queued again since.
    pub failed: u64,
}

/// A worker that holds leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// What it calls itself.
    pub worker: String,
    /// What it is rendering, the first accepted first.
    pub renders: Vec<RenderId>,
}

/// Something about a render changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which one.
    pub render: RenderId,
}

/// Changes as they are committed. It ends when its reader has been too slow for them: what that has missed is not told, so it
/// should listen anew, and then look at everything it cares for.
pub type Changes = Pin<Box<dyn Stream<Item = Change> + Send>>;

/// The durable queue. Every method that changes something is one transaction, on disk when it returns.
#[async_trait]
pub trait Queue: std::fmt::Debug + Send + Sync {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Accepts all of `renders`, or none. Only this is subject to a limit of what may wait: what was accepted once is
    /// put back, retried and redriven whatever the limit.
    async fn submit(
        &self,
        tenant: &TenantId,
        renders: Vec<NewRender>,
        key: Option<IdempotencyKey>,
    ) -> Result<Submitted, SubmitError>;

    /// The renders that were accepted under the key, which a submit would answer with; none when it would be a new one.
    async fn submitted(
        &self,
        tenant: &TenantId,
        key: &IdempotencyKey,
    ) -> Result<Option<Vec<Render>>, SubmitError>;

    /// Leases the render whose turn it is, waiting up to `wait` for one.
    async fn claim(&self, worker: &str, wait: Duration) -> Result<Option<Lease>, QueueError>;

    /// Extends the lease by its duration from now, and records how far the attempt is.
    async fn extend(
        &self,
        render: RenderId,
        token: &LeaseToken,
        progress: Progress,
        checkpoint: Option<Checkpoint>,
    ) -> Result<Extended, LeaseError>;

    /// Gives the lease back; the render keeps its place and loses no attempt.
    async fn release(&self, render: RenderId, token: &LeaseToken, why: HandBack) -> Result<(), LeaseError>;

    /// Ends the attempt. Returns the render's new state: a retryable failure with attempts left is `queued`.
    async fn finish(
        &self,
        render: RenderId,
        token: &LeaseToken,
        outcome: Outcome,
    ) -> Result<Status, LeaseError>;

    /// Cancels a queued render, or asks the holder of a rendering one to stop.
    async fn cancel(&self, render: RenderId) -> Result<Render, ControlError>;

    /// Queues a failed or cancelled render again, in the place it had, with all its attempts.
    async fn retry(&self, render: RenderId) -> Result<Render, ControlError>;

    /// Queues failed renders again, each in the place it had, with all its attempts.
    async fn redrive(&self, which: Redrive) -> Result<Redriven, QueueError>;

    /// Lets nothing more of it start.
    async fn pause(&self, what: Pausable) -> Result<(), SteerError>;

    /// Ends a pause. A group that is held by a failed render goes on without it.
    async fn resume(&self, what: Pausable) -> Result<(), SteerError>;

    /// Sets the tenant's own limits from now on. What waits or is being rendered beyond them stays.
    async fn limit(&self, tenant: &TenantId, limits: Limits) -> Result<Tenant, SteerError>;

    /// All tenants that were ever seen, by name.
    async fn tenants(&self) -> Result<Vec<Tenant>, QueueError>;

    /// One tenant; none when it was never seen.
    async fn tenant(&self, tenant: &TenantId) -> Result<Option<Tenant>, QueueError>;

    /// A group; none when it has nothing left to do and nothing stands in its way.
    async fn group(&self, tenant: &TenantId, name: &str) -> Result<Option<Group>, QueueError>;

    /// Groups of the tenant that have something left to do or are paused or held, by name, from after that name on.
    async fn groups(
        &self,
        tenant: &TenantId,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<Group>, QueueError>;

    /// Renders by hour, of the tenant or of all, in the hours that begin at `since`, one after another. What was
    /// forgotten is not counted.
    async fn hours(
        &self,
        tenant: Option<&TenantId>,
        since: Timestamp,
        count: u32,
    ) -> Result<Vec<Hour>, QueueError>;

    /// Workers that hold leases, by name.
    async fn busy(&self) -> Result<Vec<Busy>, QueueError>;

    /// The queue as a whole. Cheap, however much waits.
    async fn overview(&self) -> Result<Overview, QueueError>;

    /// What could be claimed now. Cheap, however much waits.
    async fn backlog(&self) -> Result<Backlog, QueueError>;

    /// Terminal renders that ended before that time and owe nobody anything, the oldest first.
    async fn ended_before(&self, time: Timestamp, limit: u32) -> Result<Vec<Render>, QueueError>;

    /// Renders whose output was to be deleted by that time and is not yet, the longest due first.
    async fn outputs_due(&self, time: Timestamp, limit: u32) -> Result<Vec<Render>, QueueError>;

    /// Records that the outputs of these renders are deleted; everything else about them stays.
    async fn outputs_deleted(&self, renders: Vec<RenderId>) -> Result<(), QueueError>;

    /// Removes terminal renders with all that is known of them; others are left, and those that still owe something to
    /// somebody. Returns how many are gone.
    async fn forget(&self, renders: Vec<RenderId>) -> Result<usize, QueueError>;

    /// One render.
    async fn get(&self, render: RenderId) -> Result<Option<Render>, QueueError>;

    /// What was asked for.
    async fn request(&self, render: RenderId) -> Result<Option<RenderRequest>, QueueError>;

    /// Its leases so far, oldest first.
    async fn attempts(&self, render: RenderId) -> Result<Vec<Attempt>, QueueError>;

    /// Where it stands; none unless it is queued.
    async fn position(&self, render: RenderId) -> Result<Option<Position>, QueueError>;

    /// Renders, newest first.
    async fn list(&self, filter: Filter) -> Result<Vec<Render>, QueueError>;

    /// Everything that is committed from now on.
    fn changes(&self) -> Changes;
}

/// Why a site was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveSiteError {
    /// There is no such site, or no such version of it.
    #[error("no such site")]
    NotFound,
    /// The name stands for this version.
    #[error("it is the current version: roll back to another one first, or remove the site")]
    Current,
    /// A render that is not terminal needs it.
    #[error("render {0} still needs it")]
    InUse(RenderId),
    /// The directory cannot answer now.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// What is known beside the renders.
#[async_trait]
pub trait Directory: std::fmt::Debug + Send + Sync {
    /// Makes `site.name` stand for this version from now on, be it new or one that was put before.
    async fn put_site(&self, tenant: &TenantId, site: SiteVersion) -> Result<(), QueueError>;

    /// What the name stands for now.
    async fn site(&self, tenant: &TenantId, name: &str) -> Result<Option<SiteVersion>, QueueError>;

    /// A version of it, current or not.
    async fn site_version(
        &self,
        tenant: &TenantId,
        name: &str,
        version: &str,
    ) -> Result<Option<SiteVersion>, QueueError>;

    /// All versions of it, the last added first.
    async fn site_versions(&self, tenant: &TenantId, name: &str) -> Result<Vec<SiteVersion>, QueueError>;

    /// Whether a site of any tenant has that version: until then its files are needed.
    async fn has_version(&self, version: &str) -> Result<bool, QueueError>;

    /// All sites of the tenant, each in its current version, by name.
    async fn sites(&self, tenant: &TenantId) -> Result<Vec<SiteVersion>, QueueError>;

    /// Forgets the site with all its versions, unless a render still needs one of them.
    async fn remove_site(&self, tenant: &TenantId, name: &str) -> Result<(), RemoveSiteError>;

    /// Forgets a version that the name does not stand for, unless a render still needs it.
    async fn remove_site_version(
        &self,
        tenant: &TenantId,
        name: &str,
        version: &str,
    ) -> Result<(), RemoveSiteError>;
}

/// The bytes of an output, as they come.
pub type OutputBytes = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Where outputs live. A key is written once and then only read or deleted; it says by itself where it lies, so that
/// what was put in one place is still found when new outputs go to another.
#[async_trait]
pub trait Outputs: std::fmt::Debug + Send + Sync {
    /// The key under which an output of that name, such as `ID/1.mp4`, is put from now on.
    fn key(&self, name: &str) -> String;

    /// Takes the finished file and puts it under `output.key`: whole, and there to stay, when it returns; not there at
    /// all otherwise. It is not *the* output until the queue says so. `disposition` is what a browser is told to do with
    /// it. Whoever drops this gives it up.
    ///
    /// # Errors
    /// `PermissionDenied`, `NotFound` and `InvalidInput` will not pass by themselves; anything else may.
    async fn put(&self, output: &Output, disposition: &str, file: &Path) -> io::Result<()>;

    /// The bytes of `key` in that range; none when there is no such output.
    async fn read(&self, key: &str, range: Range<u64>) -> io::Result<Option<OutputBytes>>;

    /// A URL where anybody can fetch it for so long, to be told this `disposition`; none where only the server can.
    async fn link(&self, output: &Output, disposition: &str, valid: Duration) -> io::Result<Option<String>>;

    /// Takes a picture of the output of `key`: a small JPEG, which is no output of its own and goes with it.
    async fn put_poster(&self, key: &str, file: &Path) -> io::Result<()>;

    /// The picture of the output of `key`; none where it has none.
    async fn poster(&self, key: &str) -> io::Result<Option<Bytes>>;

    /// Removes what `key` holds, if anything, and its poster.
    async fn delete(&self, key: &str) -> io::Result<()>;
}

/// One attempt's work order.
#[derive(Clone, Debug)]
pub struct Job {
    /// Whose render it is.
    pub tenant: TenantId,
    /// Which render.
    pub render: RenderId,
    /// Which lease of it, from 1.
    pub attempt: u32,
    /// What is made.
    pub kind: Kind,
    /// From what.
    pub site: SiteVersion,
    /// How.
    pub request: RenderRequest,
}

/// What an attempt says while it runs. Ends with `Finished`, `Stored`, `Throttled` or `Failed`.
#[derive(Clone, Debug)]
pub enum RunEvent {
    /// It is so far.
    Progress(Progress),
    /// The next attempt could go on from here. Whoever follows the run asks for what is next when this is on disk, and
    /// not before: a run can rely on it that somebody will know.
    Checkpoint(Checkpoint),
    /// The file is written and verified; the output's key is still empty.
    Finished {
        /// The file; whoever takes it removes it.
        file: PathBuf,
        /// A frame of it as a small JPEG, where there is one; not verified, as it is no part of what was asked for.
        poster: Option<PathBuf>,
        /// What it is.
        output: Output,
    },
    /// The file is verified, and lies where it stays: under the output's key.
    Stored {
        /// What it is.
        output: Output,
    },
    /// The renderer has no room now; not an attempt.
    Throttled {
        /// When to try again.
        until: Timestamp,
    },
    /// It did not work.
    Failed(Failure),
}

/// Why a run is stopped before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The render is not wanted any more: nothing of it may go on.
    Cancel,
    /// This worker lets go of it: what another worker could attach to may go on.
    Detach,
}

/// An attempt under way.
#[async_trait]
pub trait Run: Send {
    /// What happens next. Cancel-safe. After its end, pending for ever.
    async fn next(&mut self) -> RunEvent;

    /// Stops it and returns when nothing of it is left on this machine; with [`Stop::Cancel`], elsewhere neither.
    async fn stop(self: Box<Self>, why: Stop);
}

/// Makes videos.
#[async_trait]
pub trait Renderer: std::fmt::Debug + Send + Sync {
    /// Starts a run, or attaches to the one that `checkpoint` tells of. Returns at once; faults come as events.
    async fn start(&self, job: Job, checkpoint: Option<Checkpoint>) -> Box<dyn Run>;
}

impl Progress {
    /// The same attempt, now in `phase`.
    #[must_use]
    pub fn in_phase(self, phase: Phase) -> Self {
        Self { phase, ..self }
    }
}
