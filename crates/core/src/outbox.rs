//! What is owed for renders that have ended, and how it went so far.
//!
//! A delivery comes into being in the transaction that ends its render: nobody has to remember to make it. It carries
//! the render as it ended, so that what is told stays true when the render is retried meanwhile.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::notice::{Channel, Notice, check_addresses, check_url};
use crate::ports::QueueError;
use crate::render::{Failure, Kind, Output, RenderId, Status, TenantId, words};
use crate::request::{FieldError, RenderRequest};

words! {
    /// How far a delivery is.
    DeliveryStatus {
        /// It is tried, now or later.
        Pending = "pending",
        /// It was taken.
        Delivered = "delivered",
        /// It is not tried any more, unless somebody asks for it.
        Failed = "failed",
    }
}

/// Names a delivery for ever: a receiver that sees it twice has got the same one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeliveryId(pub i64);

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One webhook or mail owed for a render that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Its name.
    pub id: DeliveryId,
    /// Of which render.
    pub render: RenderId,
    /// Whose render it is.
    pub tenant: TenantId,
    /// How they are told.
    pub channel: Channel,
    /// Who stands behind the target: see [`Notice::endpoint`].
    pub endpoint: String,
    /// How far it is.
    pub status: DeliveryStatus,
    /// How the render ended.
    pub ended: Status,
    /// When it was first owed.
    pub created_at: Timestamp,
    /// When it is tried next, while it is pending.
    pub next_try_at: Option<Timestamp>,
    /// How often it was tried since it was last owed.
    pub tries: u32,
}

impl Delivery {
    /// Which others it waits for.
    #[must_use]
    pub fn route(&self) -> Route {
        let (tenant, endpoint) = (self.tenant.clone(), self.endpoint.clone());
        Route { channel: self.channel, tenant, endpoint }
    }
}

/// What deliveries of one tenant to one endpoint have in common. What goes wrong with some of them says something about the
/// others, and is in nobody else's way: a host may be shared by many, each with a path of their own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// How they are told.
    pub channel: Channel,
    /// Whose renders they are about.
    pub tenant: TenantId,
    /// Who stands behind the targets.
    pub endpoint: String,
}

/// A render as it was when it ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// How.
    pub status: Status,
    /// Why, when it did not succeed.
    pub error: Option<Failure>,
    /// Its file, when it did.
    pub output: Option<Output>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it was first leased.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// What was made.
    pub kind: Kind,
}

/// A delivery whose time has come, with all that telling it needs.
#[derive(Clone, Debug)]
pub struct Due {
    /// Which one.
    pub delivery: Delivery,
    /// Must match what is settled: somebody who took it too long ago changes nothing.
    pub token: i64,
    /// To whom.
    pub notice: Notice,
    /// What a webhook is signed with: the render's own secret, or the tenant's active ones, the oldest first.
    pub secrets: Vec<Secret>,
    /// What is told.
    pub ended: Ended,
    /// What was asked for.
    pub request: RenderRequest,
}

/// Something that webhooks are signed with. Says nothing of itself in logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// One go at a delivery, as remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Try {
    /// When it began.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What the other side answered: a status of HTTP, or a reply code of SMTP; absent when it answered nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Why it was not taken; absent when it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What becomes of a delivery after a go at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It was taken.
    Delivered,
    /// It is tried again, so long from now.
    Retry(Duration),
    /// Trying again would not help.
    Failed,
}

/// How many deliveries may be taken now.
#[derive(Clone, Debug)]
pub struct Room {
    /// Webhooks in all.
    pub webhooks: usize,
    /// Mails in all.
    pub mails: usize,
    /// On a route that is not named below.
    pub each: usize,
    /// On these, so many: fewer because some are under way, or none because nobody seems to be there.
    pub named: Vec<(Route, usize)>,
}

impl Room {
    /// For so many of each channel, by whatever route.
    #[must_use]
    pub const fn for_each(number: usize) -> Self {
        Self { webhooks: number, mails: number, each: number, named: Vec::new() }
    }

    /// Whether nothing fits in.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.webhooks == 0 && self.mails == 0
    }

    /// By that channel, in all.
    #[must_use]
    pub const fn by(&self, channel: Channel) -> usize {
        match channel {
            Channel::Webhook => self.webhooks,
            Channel::Email => self.mails,
        }
    }

    /// Takes up one by that channel. False when there is no room for it.
    pub fn take_up(&mut self, channel: Channel) -> bool {
        let left = match channel {
            Channel::Webhook => &mut self.webhooks,
            Channel::Email => &mut self.mails,
        };
        let some = *left > 0;
        *left = left.saturating_sub(1);
        some
    }

    /// On that route, as far as it alone counts.
    #[must_use]
    pub fn on(&self, route: &Route) -> usize {
        self.named.iter().find(|(named, _)| named == route).map_or(self.each, |(_, room)| *room)
    }
}

/// Which deliveries to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Of this tenant; of all when absent.
    pub tenant: Option<TenantId>,
    /// Of this render.
    pub render: Option<RenderId>,
    /// So far.
    pub status: Option<DeliveryStatus>,
    /// Older than this one.
    pub before: Option<DeliveryId>,
    /// At most so many.
    pub limit: u32,
}

/// Deliveries by how far they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// Tried now or later.
    pub pending: u64,
    /// Taken.
    pub delivered: u64,
    /// Given up.
    pub failed: u64,
}

/// What the renders of a tenant tell at their end where they do not say it themselves.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NoticeDefaults {
    /// Where webhooks go: `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<String>,
    /// Who gets a mail: ten addresses at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub email: Vec<String>,
}

impl NoticeDefaults {
    /// What is wrong with them.
    #[must_use]
    pub fn check(&self) -> Vec<FieldError> {
        let url = self.webhook_url.as_ref().and_then(|url| check_url("/webhookUrl", url));
        url.into_iter().chain(check_addresses("/email", &self.email)).collect()
    }
}

impl fmt::Debug for NoticeDefaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL may carry a token of its own.
        f.debug_struct("NoticeDefaults").finish_non_exhaustive()
    }
}

/// A secret that the webhooks of a tenant are signed with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TenantSecret {
    /// Tells it from others, and says nothing about it.
    pub id: String,
    /// What it is.
    pub secret: Secret,
    /// Since when.
    pub created_at: Timestamp,
}

/// What is set for a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TenantNotices {
    /// For renders that do not say it themselves.
    pub defaults: NoticeDefaults,
    /// The secrets that are active, the oldest first: two at most, while one takes over from the other.
    pub secrets: Vec<TenantSecret>,
}

impl TenantNotices {
    /// Most secrets that are active at a time.
    pub const MAX_SECRETS: usize = 2;
}

/// Why a delivery was not queued again.
#[derive(Debug, thiserror::Error)]
pub enum RedeliverError {
    /// There is no such delivery.
    #[error("no such delivery")]
    NotFound,
    /// It is being tried anyway.
    #[error("the delivery is pending already")]
    Pending,
    /// The outbox cannot answer now.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// What is owed. Every method that changes something is one transaction, on disk when it returns.
#[async_trait]
pub trait Outbox: fmt::Debug + Send + Sync {
    /// Takes deliveries whose time has come, as many as there is room for, the longest due first on each route, and no
    /// route before another for ever. Who takes one has `hold` to settle it: after that, and after a restart, somebody
    /// else may take it. One that cannot be read any more is given up, with a go that says why.
    async fn take_due(&self, room: Room, hold: Duration) -> Result<Vec<Due>, QueueError>;

    /// Records a go at a delivery and what becomes of it. False when it was not theirs any more; nothing has changed then.
    async fn settle(
        &self,
        delivery: DeliveryId,
        token: i64,
        tried: Try,
        settled: Settled,
    ) -> Result<bool, QueueError>;

    /// When something becomes due after that moment that was not: the time of a delivery that nobody holds, or the end
    /// of a hold. None when nothing does.
    async fn next_due(&self, after: Timestamp) -> Result<Option<Timestamp>, QueueError>;

    /// Returns when something may have become due that was not before; time that passes does not count. For one that
    /// listens: what comes while nobody does is told to whoever listens next.
    async fn owed(&self);

    /// Deliveries, newest first.
    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<Delivery>, QueueError>;

    /// One delivery, with every go at it, the oldest first.
    async fn delivery(&self, delivery: DeliveryId) -> Result<Option<(Delivery, Vec<Try>)>, QueueError>;

    /// Owes it again, from now, as if it had never been tried. The goes so far stay on record.
    async fn redeliver(&self, delivery: DeliveryId) -> Result<Delivery, RedeliverError>;

    /// How many there are. Cheap, however many.
    async fn delivery_counts(&self) -> Result<DeliveryCounts, QueueError>;

    /// What a tenant has set; nothing for one that was never seen.
    async fn tenant_notices(&self, tenant: &TenantId) -> Result<TenantNotices, QueueError>;

    /// Sets them, for renders that are accepted from now on.
    async fn set_notice_defaults(
        &self,
        tenant: &TenantId,
        defaults: NoticeDefaults,
    ) -> Result<(), QueueError>;

    /// Another secret, for all that is delivered from now on. False when there are [`TenantNotices::MAX_SECRETS`], or one
    /// of that id; nothing has changed then.
    async fn add_secret(&self, tenant: &TenantId, secret: TenantSecret) -> Result<bool, QueueError>;

    /// Ends the use of a secret. False when there is none of that id.
    async fn remove_secret(&self, tenant: &TenantId, id: &str) -> Result<bool, QueueError>;
}
