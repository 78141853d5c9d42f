//! The queue as it is documented, in memory: what every call must answer, and what must be true after it.
//!
//! Written from what `core` says of the ports, not from what the store does: whose turn it is, and what stands before
//! whom, is worked out afresh whenever somebody asks. When exactly a wait ends is not promised: that is not predicted
//! but heard, within bounds, from what the store says of a render's position. See [`Model::hear`].

mod attempt;
mod turn;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::Timestamp;
use lastframe_core::ports::{IdempotencyKey, NewRender, Pausable, Redrive, Redriven};
use lastframe_core::render::{Event, IllegalTransition};
use lastframe_core::{
    Attempt, Checkpoint, Failure, LeaseToken, Limits, OnFailure, Render, RenderId, RenderRequest,
    RetryPolicy, Status, TenantId,
};

pub(crate) use self::attempt::Lost;
use self::turn::Turns;

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const RETRY: RetryPolicy =
    RetryPolicy { base: Duration::from_secs(2), cap: Duration::from_secs(10), max_lost: 2 };
/// How long an idempotency key is remembered.
const KEY_LIFETIME: Duration = Duration::from_secs(72 * 60 * 60);

/// A group of a tenant.
pub(crate) type Line = (TenantId, String);

/// A render, and what nobody sees of it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) render: Render,
    pub(crate) request: RenderRequest,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) lease: Option<Leased>,
    /// Its failure holds its group.
    blocks: bool,
    /// Leases lost in a row.
    lost: u32,
    /// The `runAt` it waits for.
    pub(crate) run_at: Option<Timestamp>,
    /// Its `runAt` has come, and that was noticed.
    pub(crate) due: bool,
    /// The time on the monotonic clock that it waits for, as far as that is known.
    pub(crate) backoff: Option<RangeInclusive<Duration>>,
    /// What it waits for, as last heard.
    pub(crate) delayed: Option<Timestamp>,
}

#[derive(Debug)]
pub(crate) struct Leased {
    pub(crate) token: LeaseToken,
    until: Duration,
}

#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) limits: Limits,
    pub(crate) paused: bool,
}

impl Tenant {
    pub(crate) fn weight(&self) -> u32 {
        self.limits.weight.unwrap_or(1)
    }
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) wall: Timestamp,
    pub(crate) monotonic: Duration,
    pub(crate) paused: bool,
    /// In the order in which they were first heard of.
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) turns: Turns,
    /// In the order of acceptance.
    pub(crate) entries: Vec<Entry>,
    pub(crate) paused_groups: BTreeSet<Line>,
    /// The renders that failed under `onFailure: block`.
    pub(crate) holders: BTreeMap<Line, RenderId>,
    pub(crate) keys: BTreeMap<(TenantId, String), Remembered>,
}

#[derive(Debug)]
pub(crate) struct Remembered {
    body_hash: [u8; 32],
    renders: Vec<RenderId>,
    at: Timestamp,
}

/// The answer to a submit.
#[derive(Debug)]
pub(crate) enum Answer {
    Accepted,
    Replayed(Vec<RenderId>),
    KeyReused,
    SiteGone(usize),
    TooManyQueued(u32),
}

/// Why somebody who asks something of a render is refused.
#[derive(Debug, PartialEq)]
pub(crate) enum Refused {
    NotFound,
    Illegal(IllegalTransition),
}

impl Model {
    pub(crate) fn new(wall: Timestamp, tenants: &[&str]) -> Self {
        let tenants = tenants.iter().map(|name| Tenant {
            id: TenantId::new(*name),
            limits: Limits::default(),
            paused: false,
        });
        let tenants: Vec<_> = tenants.collect();
        Self {
            wall,
            monotonic: Duration::ZERO,
            paused: false,
            turns: Turns::new(tenants.len()),
            tenants,
            entries: Vec::new(),
            paused_groups: BTreeSet::new(),
            holders: BTreeMap::new(),
            keys: BTreeMap::new(),
        }
    }

    pub(crate) fn entry(&self, id: RenderId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.render.id == id)
    }

    pub(crate) fn index(&self, id: RenderId) -> Option<usize> {
        self.entries.iter().position(|entry| entry.render.id == id)
    }

    /// What a submit answers; [`Model::accept`] takes in what it accepts, with the names it was given.
    pub(crate) fn submit(
        &self,
        tenant: &TenantId,
        renders: &[NewRender],
        key: Option<&IdempotencyKey>,
        gone: impl Fn(&NewRender) -> bool,
    ) -> Answer {
        if let Some(key) = key
            && let Some(known) = self.keys.get(&(tenant.clone(), key.key.clone()))
        {
            // A key is remembered no longer than the last of the renders it stands for.
            let left: Vec<_> = known.renders.iter().copied().filter(|id| self.entry(*id).is_some()).collect();
            if !left.is_empty() {
                let same = known.body_hash == key.body_hash;
                return if same { Answer::Replayed(left) } else { Answer::KeyReused };
            }
        }
        if let Some(gone) = renders.iter().position(gone) {
            return Answer::SiteGone(gone);
        }
        let tenant = self.tenant_index(tenant);
        let would_wait = self.counts(tenant).queued + renders.len() as u64;
        let most = self.tenants[tenant].limits.max_queued.filter(|most| would_wait > u64::from(*most));
        most.map_or(Answer::Accepted, Answer::TooManyQueued)
    }

    pub(crate) fn accept(&mut self, tenant: &TenantId, new: &NewRender, id: RenderId, seq: i64) {
        let asked = new.request.queue.clone().unwrap_or_default();
        let run_at = asked.run_at.filter(|at| *at > self.wall);
        let render = Render {
            id,
            seq,
            tenant: tenant.clone(),
            group: asked.group,
            kind: new.kind,
            site: new.request.serve_url.clone(),
            site_version: new.site_version.clone(),
            composition: new.request.composition.clone(),
            status: Status::Queued,
            priority: asked.priority.unwrap_or(0),
            run_at: run_at.unwrap_or(self.wall),
            attempt: 0,
            max_attempts: asked.max_attempts.unwrap_or(new.default_max_attempts),
            leases: 0,
            created_at: self.wall,
            started_at: None,
            attempt_started_at: None,
            finished_at: None,
            cancel_requested_at: None,
            progress: None,
            error: None,
            output: None,
        };
        self.entries.push(Entry {
            render,
            request: new.request.clone(),
            attempts: Vec::new(),
            checkpoint: None,
            lease: None,
            blocks: asked.on_failure == Some(OnFailure::Block),
            lost: 0,
            run_at,
            due: false,
            backoff: None,
            delayed: None,
        });
    }

    pub(crate) fn remember(&mut self, tenant: &TenantId, key: &IdempotencyKey, renders: Vec<RenderId>) {
        let remembered = Remembered { body_hash: key.body_hash, renders, at: self.wall };
        self.keys.insert((tenant.clone(), key.key.clone()), remembered);
    }

    pub(crate) fn cancel(&mut self, id: RenderId) -> Result<(), Refused> {
        let now = self.wall;
        let index = self.index(id).ok_or(Refused::NotFound)?;
        let entry = &mut self.entries[index];
        let render = &mut entry.render;
        let status = render.status.on(Event::Cancel).map_err(Refused::Illegal)?;
        render.cancel_requested_at = render.cancel_requested_at.or(Some(now));
        // The holder of a lease ends it, or its loss does.
        if render.status == Status::Queued {
            render.status = status;
            render.finished_at = Some(now);
            render.error = Some(cancelled());
            entry.checkpoint = None;
        }
        Ok(())
    }

    pub(crate) fn retry(&mut self, id: RenderId) -> Result<(), Refused> {
        let index = self.index(id).ok_or(Refused::NotFound)?;
        let entry = &mut self.entries[index];
        let render = &mut entry.render;
        render.status = render.status.on(Event::Retry).map_err(Refused::Illegal)?;
        render.attempt = 0;
        render.run_at = render.created_at;
        render.attempt_started_at = None;
        render.finished_at = None;
        render.cancel_requested_at = None;
        render.progress = None;
        render.error = None;
        // Somebody wants it now.
        entry.run_at = None;
        entry.backoff = None;
        entry.lost = 0;
        self.holders.retain(|_, holder| *holder != id);
        Ok(())
    }

    pub(crate) fn redrive(&mut self, which: &Redrive) -> Redriven {
        let matches = |entry: &&Entry| {
            let render = &entry.render;
            render.status == Status::Failed
                && render.tenant == which.tenant
                && which.ids.as_ref().is_none_or(|ids| ids.contains(&render.id))
                && which.group.as_ref().is_none_or(|group| render.group.as_ref() == Some(group))
                && which
                    .code
                    .as_ref()
                    .is_none_or(|code| render.error.as_ref().is_some_and(|e| e.code == *code))
                && which.since.is_none_or(|since| render.finished_at >= Some(since))
                && which.until.is_none_or(|until| render.finished_at < Some(until))
        };
        let mut renders: Vec<_> = self.entries.iter().filter(matches).map(|entry| entry.render.id).collect();
        let more = renders.len() > which.limit as usize;
        renders.truncate(which.limit as usize);
        let retried = renders.iter().all(|id| self.retry(*id).is_ok());
        assert!(retried, "what has failed can be retried");
        Redriven { renders, more }
    }

    pub(crate) fn set_paused(&mut self, what: &Pausable, paused: bool) {
        match what {
            Pausable::Queue => self.paused = paused,
            Pausable::Tenant(id) => {
                let index = self.tenant_index(id);
                self.tenants[index].paused = paused;
            }
            Pausable::Group(tenant, group) => {
                let line = (tenant.clone(), group.clone());
                if paused {
                    self.paused_groups.insert(line);
                } else {
                    // It goes on without the one that holds it.
                    self.paused_groups.remove(&line);
                    self.holders.remove(&line);
                }
            }
        }
    }

    /// What somebody could resume.
    pub(crate) fn in_the_way(&self) -> Vec<Pausable> {
        let queue = self.paused.then_some(Pausable::Queue);
        let tenants = self.tenants.iter().filter(|tenant| tenant.paused);
        let groups = self.paused_groups.iter().chain(self.holders.keys());
        queue
            .into_iter()
            .chain(tenants.map(|tenant| Pausable::Tenant(tenant.id.clone())))
            .chain(groups.map(|(tenant, group)| Pausable::Group(tenant.clone(), group.clone())))
            .collect()
    }

    pub(crate) fn limit(&mut self, tenant: &TenantId, limits: Limits) {
        let index = self.tenant_index(tenant);
        self.tenants[index].limits = limits;
    }

    /// One that holds its group is still waited for, and stays.
    pub(crate) fn forget(&mut self, ids: &[RenderId]) -> usize {
        let before = self.entries.len();
        self.entries.retain(|entry| {
            let id = entry.render.id;
            !ids.contains(&id)
                || !entry.render.status.is_terminal()
                || self.holders.values().any(|holder| *holder == id)
        });
        before - self.entries.len()
    }

    /// What time has brought about is noticed.
    pub(crate) fn sweep(&mut self) {
        self.keys.retain(|_, key| key.at + KEY_LIFETIME > self.wall);
        for index in 0..self.entries.len() {
            if self.entries[index].lease.as_ref().is_some_and(|lease| lease.until <= self.monotonic) {
                self.lose(index);
            }
            let entry = &mut self.entries[index];
            entry.due |= entry.run_at.is_some_and(|at| at <= self.wall);
            entry.backoff = entry.backoff.take().filter(|backoff| *backoff.end() > self.monotonic);
        }
    }

    /// No lease and no back-off outlives the process that gave it.
    pub(crate) fn restart(&mut self) {
        self.monotonic = Duration::ZERO;
        for index in 0..self.entries.len() {
            if self.entries[index].lease.is_some() {
                self.lose(index);
            }
            self.entries[index].backoff = None;
        }
    }

    pub(crate) fn tenant_index(&self, id: &TenantId) -> usize {
        let index = self.tenants.iter().position(|tenant| tenant.id == *id);
        index.unwrap_or_else(|| panic!("{id} was never heard of"))
    }
}

pub(crate) fn cancelled() -> Failure {
    Failure::new("cancelled", "", false)
}
