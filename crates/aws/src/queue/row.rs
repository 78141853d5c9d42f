//! The items that renders, lanes and deliveries are kept in.
//!
//! Each has a version that every write raises, and is written on the condition that it is still the one that was read. What
//! the indexes find an item by is worked out from the rest of it whenever it is written.

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use lastframe_core::notice::Channel;
use lastframe_core::outbox::{Delivery, DeliveryId, DeliveryStatus, Ended, Try};
use lastframe_core::ports::QueueError;
use lastframe_core::{
    Attempt, Deletion, Failure, Kind, Output, Progress, Render, RenderId, Status, TenantId,
};
use serde::{Deserialize, Serialize};

use super::schema::{self, part};
use super::table::{Item, Key, n, s, storage, to_item};

/// A day in milliseconds.
const DAY: i64 = 24 * 60 * 60 * 1_000;
/// How long a lane that has nothing to do is remembered, in seconds.
const IDLE: i64 = 24 * 60 * 60;

/// What is kept as JSON, so that it is read as it was written.
mod json {
    use serde::de::{DeserializeOwned, Error as _};
    use serde::ser::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        value: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.serialize_some(&serde_json::to_string(value).map_err(S::Error::custom)?),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'a, T: DeserializeOwned, D: Deserializer<'a>>(
        from: D,
    ) -> Result<Option<T>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| serde_json::from_str(&text).map_err(D::Error::custom)).transpose()
    }
}

/// A time that was written in milliseconds since 1970.
pub(super) fn time(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or_default()
}

/// Whether a lane should ring, and whether it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Standing {
    /// Nothing of it can be claimed, and no time alone will change that.
    #[default]
    Still,
    /// Its head can be claimed, and perhaps nobody has been told.
    Unsent,
    /// Its head can be claimed, and there is a ring for it.
    Sent,
    /// Its head can be claimed, but the ring came while nothing of its tenant was to start.
    Parked,
    /// Its head can be claimed, but the ring came while nothing at all was to start.
    #[serde(rename = "parked-by-all")]
    ParkedByAll,
    /// Its head can be claimed at a time to come.
    Later,
}

impl Standing {
    /// The word for it in the table.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Still => "still",
            Self::Unsent => "unsent",
            Self::Sent => "sent",
            Self::Parked => "parked",
            Self::ParkedByAll => "parked-by-all",
            Self::Later => "later",
        }
    }

    pub(super) fn is_ready(self) -> bool {
        matches!(self, Self::Unsent | Self::Sent | Self::Parked | Self::ParkedByAll)
    }
}

/// How a lane tells that it has work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bell {
    pub(super) standing: Standing,
    /// Counts its rings, so that none of them is taken for another.
    pub(super) generation: u64,
    /// When there was a ring last.
    pub(super) rung_at: i64,
    /// When its head can be claimed, if that is later.
    pub(super) until: i64,
}

/// What a lane has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// It has work.
    Ring,
    /// It has work from then on.
    At(i64),
}

impl Bell {
    /// Makes it stand as it must when the head can be claimed from that time on, or there is none that could be.
    pub(super) fn settle(&mut self, head: Option<i64>, now: i64) -> Option<Call> {
        match head {
            None => self.standing = Standing::Still,
            Some(at) if at > now => {
                let told = self.standing == Standing::Later && self.until == at;
                (self.standing, self.until) = (Standing::Later, at);
                return (!told).then_some(Call::At(at));
            }
            Some(_) if self.standing.is_ready() => {}
            Some(_) => return Some(self.again()),
        }
        None
    }

    /// Makes it ring anew.
    pub(super) fn again(&mut self) -> Call {
        self.generation += 1;
        self.standing = Standing::Unsent;
        Call::Ring
    }

    /// In which list it is found, and where: what can be claimed by since when, what cannot yet by when.
    fn list(&self, pk: &str, tenant: &TenantId, since: i64) -> Option<(String, i64)> {
        match self.standing {
            Standing::Still => None,
            Standing::Unsent => Some((part("unsent", pk), since)),
            Standing::Sent => Some((part("sent", pk), since)),
            Standing::Parked => Some((schema::parked(Some(tenant)), since)),
            Standing::ParkedByAll => Some((schema::parked(None), since)),
            Standing::Later => Some((part("later", pk), self.until)),
        }
    }
}

/// A render.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RenderRow {
    pub(super) v: u64,
    pub(super) id: RenderId,
    pub(super) seq: i64,
    pub(super) tenant: TenantId,
    pub(super) group: Option<String>,
    pub(super) kind: Kind,
    pub(super) site: String,
    pub(super) site_version: String,
    pub(super) composition: String,
    pub(super) status: Status,
    /// Its group does not go on when it fails.
    pub(super) blocks: bool,
    /// When it was asked to start; 0 is at once.
    pub(super) run_at: i64,
    /// When its last attempt ended long enough ago; 0 when it did.
    pub(super) backoff_until: i64,
    pub(super) attempt: u32,
    pub(super) max_attempts: u32,
    pub(super) leases: u32,
    /// Leases lost in a row, their holder dead.
    pub(super) lost: u32,
    pub(super) created_at: i64,
    pub(super) started_at: Option<i64>,
    pub(super) attempt_started_at: Option<i64>,
    pub(super) finished_at: Option<i64>,
    pub(super) cancel_requested_at: Option<i64>,
    #[serde(default, with = "json")]
    pub(super) progress: Option<Progress>,
    #[serde(default, with = "json")]
    pub(super) error: Option<Failure>,
    #[serde(default, with = "json")]
    pub(super) output: Option<Output>,
    /// The fence of the lease it is under.
    pub(super) token: Option<String>,
    pub(super) lease_until: Option<i64>,
    pub(super) worker: Option<String>,
    /// Whether there is a checkpoint for the next attempt.
    pub(super) checkpoint: bool,
    /// Of a render without a group, which is a lane by itself.
    pub(super) bell: Bell,
    /// Who is told when it ends: how, and at which endpoint.
    pub(super) notices: Vec<(Channel, String)>,
    /// What was owed when it ended, each time.
    pub(super) deliveries: Vec<i64>,
}

impl RenderRow {
    pub(super) fn key(&self) -> Key {
        schema::render(self.id)
    }

    /// When it can be claimed, as far as time has a say.
    pub(super) fn not_before(&self) -> i64 {
        self.run_at.max(self.backoff_until)
    }

    /// Since when it waits.
    fn since(&self) -> i64 {
        self.run_at.max(self.created_at)
    }

    pub(super) fn waiting(&self) -> Waiting {
        Waiting { id: self.id, seq: self.seq, not_before: self.not_before(), since: self.since() }
    }

    /// The site and its version, as a search has them.
    pub(super) fn sv(site: &str, version: &str) -> String {
        format!("{site}\n{version}")
    }

    /// Makes the attempt's lease end.
    pub(super) fn unlease(&mut self) {
        (self.token, self.lease_until, self.worker) = (None, None, None);
    }

    pub(super) fn item(&self) -> Result<Item, QueueError> {
        let key = self.key();
        let mut item = to_item(&key, self)?;
        let mut set = |name: &str, value: AttributeValue| drop(item.insert(name.into(), value));
        let seq = schema::padded(self.seq);
        for (partition, sort, list) in [
            ("lp", "ls", schema::renders(&self.tenant, None)),
            ("sp", "ss", schema::renders(&self.tenant, Some(self.status))),
        ] {
            set(partition, s(list));
            set(sort, s(&seq));
        }
        let line = match &self.group {
            Some(group) => Some(schema::renders_of(&self.tenant, group)),
            None => self.bell.standing.is_ready().then(|| schema::open(&self.tenant)),
        };
        if let Some(line) = line {
            set("gp", s(line));
            set("gs", s(&seq));
        }
        set("fc", s(self.composition.to_ascii_lowercase()));
        if let Some(group) = &self.group {
            set("fg", s(group.to_ascii_lowercase()));
        }
        set("sv", s(Self::sv(&self.site, &self.site_version)));
        let due = match self.status {
            Status::Rendering => Some((part("leases", &key.pk), self.lease_until.unwrap_or_default())),
            Status::Queued => self.bell.list(&key.pk, &self.tenant, self.since()),
            _ => self.output_due().map(|at| (part("outputs", &key.pk), at)),
        };
        if let Some((list, at)) = due {
            set("dp", s(list));
            set("ds", s(format!("{}/{seq}", schema::padded(at))));
            set("since", n(self.attempt_started_at.unwrap_or(self.since())));
        }
        if let (true, Some(at)) = (self.status.is_terminal(), self.finished_at) {
            set("ep", s(part("ended", &key.pk)));
            set("es", s(format!("{}/{seq}", schema::padded(at))));
        }
        Ok(item)
    }

    /// When its output is to be deleted.
    pub(super) fn output_due(&self) -> Option<i64> {
        match self.output.as_ref()?.deletion {
            Some(Deletion::AfterDays(days)) => Some(self.finished_at? + i64::from(days) * DAY),
            _ => None,
        }
    }

    pub(super) fn render(self) -> Render {
        Render {
            id: self.id,
            seq: self.seq,
            kind: self.kind,
            status: self.status,
            priority: 0,
            run_at: time(self.run_at.max(self.created_at)),
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            leases: self.leases,
            created_at: time(self.created_at),
            started_at: self.started_at.map(time),
            attempt_started_at: self.attempt_started_at.map(time),
            finished_at: self.finished_at.map(time),
            cancel_requested_at: self.cancel_requested_at.map(time),
            progress: self.progress,
            error: self.error,
            output: self.output,
            tenant: self.tenant,
            group: self.group,
            site: self.site,
            site_version: self.site_version,
            composition: self.composition,
        }
    }
}

/// A lease of a render, as remembered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AttemptRow {
    #[serde(with = "json")]
    pub(super) body: Option<Attempt>,
}

/// A render that waits in a lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) id: RenderId,
    pub(super) seq: i64,
    /// When it can be claimed, as far as time has a say.
    pub(super) not_before: i64,
    pub(super) since: i64,
}

/// The lane of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct LaneRow {
    pub(super) v: u64,
    pub(super) tenant: TenantId,
    pub(super) name: String,
    /// The place of whoever came last.
    pub(super) last: i64,
    /// The render that is under a lease.
    pub(super) active: Option<RenderId>,
    /// The first of those that wait.
    pub(super) head: Option<Waiting>,
    /// How many wait.
    pub(super) queued: u32,
    pub(super) paused: bool,
    /// The render that failed and lets nothing go on.
    pub(super) held_by: Option<RenderId>,
    pub(super) bell: Bell,
}

impl LaneRow {
    pub(super) fn new(tenant: &TenantId, name: &str) -> Self {
        Self {
            v: 0,
            tenant: tenant.clone(),
            name: name.into(),
            last: 0,
            active: None,
            head: None,
            queued: 0,
            paused: false,
            held_by: None,
            bell: Bell::default(),
        }
    }

    pub(super) fn key(&self) -> Key {
        schema::lane(&self.tenant, &self.name)
    }

    /// Whether it has nothing left to do, and nothing stands in its way.
    pub(super) fn is_idle(&self) -> bool {
        self.active.is_none() && self.head.is_none() && !self.paused && self.held_by.is_none()
    }

    /// Gives the turn to the render that must have it now: one that is rendering keeps it, else it is the head's.
    pub(super) fn settle(&mut self, now: i64) -> Option<Call> {
        let open = self.active.is_none() && !self.paused && self.held_by.is_none();
        self.bell.settle(self.head.as_ref().filter(|_| open).map(|head| head.not_before), now)
    }

    pub(super) fn item(&self, now: i64) -> Result<Item, QueueError> {
        let key = self.key();
        let mut item = to_item(&key, self)?;
        let mut set = |name: &str, value: AttributeValue| drop(item.insert(name.into(), value));
        if self.is_idle() {
            // Its generation is remembered until no ring of it can be about.
            set(schema::EXPIRES, n(now / 1_000 + IDLE));
        } else {
            set("lp", s(schema::groups(&self.tenant)));
            set("ls", s(&self.name));
        }
        if let Some(head) = &self.head {
            let seq = schema::padded(head.seq);
            if self.bell.standing.is_ready() {
                set("gp", s(schema::open(&self.tenant)));
                set("gs", s(&seq));
            }
            if let Some((list, at)) = self.bell.list(&key.pk, &self.tenant, head.since) {
                set("dp", s(list));
                set("ds", s(format!("{}/{seq}", schema::padded(at))));
                set("since", n(head.since));
            }
        }
        Ok(item)
    }
}

/// What is owed to somebody for a render that has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct DeliveryRow {
    pub(super) v: u64,
    pub(super) number: i64,
    pub(super) render: RenderId,
    pub(super) tenant: TenantId,
    pub(super) channel: Channel,
    pub(super) endpoint: String,
    /// Its place among the request's notices.
    pub(super) notice: usize,
    pub(super) status: DeliveryStatus,
    pub(super) ended: Status,
    #[serde(default, with = "json")]
    pub(super) error: Option<Failure>,
    #[serde(default, with = "json")]
    pub(super) output: Option<Output>,
    pub(super) kind: Kind,
    pub(super) created_at: i64,
    pub(super) started_at: Option<i64>,
    pub(super) ended_at: i64,
    pub(super) tries: u32,
    pub(super) next_at: i64,
    pub(super) held_until: i64,
    /// Counts those who took it.
    pub(super) token: i64,
    /// Each go at it, as JSON.
    pub(super) went: Vec<String>,
}

impl DeliveryRow {
    pub(super) fn key(&self) -> Key {
        schema::delivery(self.number)
    }

    /// When it may be taken.
    pub(super) fn due(&self) -> i64 {
        self.next_at.max(self.held_until)
    }

    pub(super) fn item(&self) -> Result<Item, QueueError> {
        let key = self.key();
        let mut item = to_item(&key, self)?;
        let mut set = |name: &str, value: AttributeValue| drop(item.insert(name.into(), value));
        let number = schema::padded(self.number);
        for (partition, sort, list) in [
            ("lp", "ls", schema::deliveries(&self.tenant, None)),
            ("sp", "ss", schema::deliveries(&self.tenant, Some(self.status))),
        ] {
            set(partition, s(list));
            set(sort, s(&number));
        }
        if self.status == DeliveryStatus::Pending {
            set("dp", s(part("owed", &key.pk)));
            set("ds", s(format!("{}/{number}", schema::padded(self.due()))));
        }
        Ok(item)
    }

    pub(super) fn delivery(&self) -> Delivery {
        let pending = self.status == DeliveryStatus::Pending;
        Delivery {
            id: DeliveryId(self.number),
            render: self.render,
            tenant: self.tenant.clone(),
            channel: self.channel,
            endpoint: self.endpoint.clone(),
            status: self.status,
            ended: self.ended,
            created_at: time(self.ended_at),
            next_try_at: pending.then(|| time(self.next_at)),
            tries: self.tries,
        }
    }

    pub(super) fn ended(&self) -> Ended {
        Ended {
            status: self.ended,
            error: self.error.clone(),
            output: self.output.clone(),
            created_at: time(self.created_at),
            started_at: self.started_at.map(time),
            finished_at: time(self.ended_at),
            kind: self.kind,
        }
    }

    pub(super) fn tries(&self) -> Result<Vec<Try>, QueueError> {
        self.went.iter().map(|went| serde_json::from_str(went).map_err(storage)).collect()
    }
}
