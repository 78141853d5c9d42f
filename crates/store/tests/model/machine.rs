//! The real store beside the reference: each command is given to both, and both must answer the same.

mod compare;
mod holder;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lastframe_core::notice::WebhookOptions;
use lastframe_core::ports::{
    ControlError, Directory as _, IdempotencyKey, NewRender, Pausable, Queue as _, Redrive, SubmitError,
};
use lastframe_core::request::QueueOptions;
use lastframe_core::site::SiteVersion;
use lastframe_core::{
    Clock as _, Failure, Kind, LeaseToken, Limits, ManualClock, OnFailure, Render, RenderId, RenderRequest,
    Status, TenantId,
};
use lastframe_store::{Key, Keys, Options, Store};
use proptest::prelude::*;
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::command::{Ask, Command, End, GROUPS, Nth, TENANTS, What, Which};
use crate::reference::{Answer, LEASE, Model, RETRY, Refused};
use crate::tally::Tally;

/// Why the store is not what it should be.
pub(crate) type Wrong = TestCaseError;

const SITE: &str = "site";

pub(crate) struct Machine<'a> {
    store: Option<Store>,
    clock: Arc<ManualClock>,
    folder: TempDir,
    lives: u64,
    pub(crate) model: Model,
    /// All that were ever given.
    leases: Vec<(RenderId, LeaseToken)>,
    /// As they were when they were last compared.
    pub(crate) compared: BTreeMap<RenderId, Render>,
    /// Those that have ended since.
    pub(crate) ended: Vec<RenderId>,
    pub(crate) tally: &'a Tally,
    pub(crate) steps: usize,
}

impl<'a> Machine<'a> {
    /// A whole history, from an empty queue until everything has come to an end.
    pub(crate) async fn live(commands: Vec<Command>, tally: &'a Tally) -> Result<(), Wrong> {
        let mut machine = Self::start(tally).await?;
        for command in commands {
            machine.steps += 1;
            machine.perform(command).await?;
            machine.compare().await?;
        }
        machine.see_through().await
    }

    async fn start(tally: &'a Tally) -> Result<Self, Wrong> {
        let now = "2026-03-01T12:00:00Z".parse().map_err(fault)?;
        let mut machine = Self {
            store: None,
            clock: Arc::new(ManualClock::new(now)),
            folder: tempfile::tempdir()?,
            lives: 0,
            model: Model::new(now, &TENANTS),
            leases: Vec::new(),
            compared: BTreeMap::new(),
            ended: Vec::new(),
            tally,
            steps: 0,
        };
        machine.open().await?;
        for tenant in TENANTS {
            let site = SiteVersion {
                name: SITE.into(),
                version: "v1".into(),
                remotion_version: "4.0.527".into(),
                renderer: None,
                url: None,
                size_in_bytes: 1,
                compositions: Vec::new(),
                created_at: now,
            };
            machine.store().put_site(&TenantId::new(tenant), site).await.map_err(fault)?;
        }
        Ok(machine)
    }

    async fn open(&mut self) -> Result<(), Wrong> {
        self.lives += 1;
        // Another seed in each life: the ids of one must not come back in the next.
        let keys = Keys::new(vec![Key::new(&Zeroizing::new([7; 32]))], "the test's own");
        let options =
            Options { lease: LEASE, retry: RETRY, seed: Some(self.lives), keys, ..Options::default() };
        let clock = Arc::clone(&self.clock);
        self.store = Some(Store::open(self.folder.path(), clock, options).await.map_err(fault)?);
        Ok(())
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().expect("it is closed only while it is opened again")
    }

    /// What finds nothing to be done to is a claim instead.
    async fn perform(&mut self, command: Command) -> Result<(), Wrong> {
        match command {
            Command::Submit { tenant, renders, body } => {
                let key = body.map(|body| IdempotencyKey { key: "key".into(), body_hash: [body; 32] });
                self.submit(&TenantId::new(tenant), &renders, key).await
            }
            Command::Claim => self.claim().await,
            Command::Extend { lease, checkpoint } => self.extend(lease, checkpoint).await,
            Command::Finish { lease, how } => self.finish(lease, how).await,
            Command::Release { lease, throttled } => self.release(lease, throttled).await,
            Command::ComeLate { lease, how } => self.come_late(lease, how).await,
            Command::Cancel { status, render } => self.cancel(status, render).await,
            Command::Retry { status, render } => self.retry(status, render).await,
            Command::Redrive(which) => self.redrive(which).await,
            Command::Pause(what) => self.set_paused(pausable(&what), true).await,
            Command::Resume(what) => self.set_paused(pausable(&what), false).await,
            Command::ResumeOne(what) => match nth(self.model.in_the_way().into_iter(), what) {
                Some(what) => self.set_paused(what, false).await,
                None => self.claim().await,
            },
            Command::Limit { tenant, limits } => {
                let tenant = TenantId::new(tenant);
                let limited = self.store().limit(&tenant, limits).await.map_err(fault)?;
                self.model.limit(&tenant, limits);
                self.tally.note("limit");
                prop_assert_eq!(limited, self.model.tenant(self.model.tenant_index(&tenant)));
                Ok(())
            }
            Command::Forget { status, renders } => self.forget(status, &renders).await,
            Command::Pass { time, swept } => self.pass(time, swept).await,
            Command::Jump { hours } => {
                self.clock.jump_to(self.clock.now() + jiff::SignedDuration::from_hours(hours));
                self.model.wall = self.clock.now();
                self.tally.note("jump");
                Ok(())
            }
            Command::Restart => {
                self.store = None;
                self.clock = Arc::new(ManualClock::new(self.clock.now()));
                self.tally.note_if(
                    self.model.entries.iter().any(|entry| entry.lease.is_some()),
                    "restart while rendering",
                );
                self.tally.note_if(
                    self.model.entries.iter().any(|entry| entry.backoff.is_some()),
                    "restart while backing off",
                );
                self.open().await?;
                self.model.restart();
                Ok(())
            }
        }
    }

    async fn submit(
        &mut self,
        tenant: &TenantId,
        asks: &[Ask],
        key: Option<IdempotencyKey>,
    ) -> Result<(), Wrong> {
        let renders: Vec<_> = asks.iter().map(|ask| self.new_render(ask)).collect();
        let expected = self.model.submit(tenant, &renders, key.as_ref(), |new| new.request.serve_url != SITE);
        let answer = self.store().submit(tenant, renders.clone(), key.clone()).await;
        match (expected, answer) {
            (Answer::Accepted, Ok(answer)) if !answer.replayed => {
                prop_assert_eq!(answer.renders.len(), renders.len());
                for (new, accepted) in renders.iter().zip(&answer.renders) {
                    let last = self.model.entries.last().map(|entry| entry.render.seq);
                    prop_assert!(self.model.entry(accepted.id).is_none(), "{} was given twice", accepted.id);
                    prop_assert!(
                        last < Some(accepted.seq),
                        "the place {} comes after {last:?}",
                        accepted.seq
                    );
                    self.model.accept(tenant, new, accepted.id, accepted.seq);
                    prop_assert_eq!(Some(accepted), self.model.entry(accepted.id).map(|entry| &entry.render));
                }
                if let Some(key) = key {
                    self.model.remember(
                        tenant,
                        &key,
                        answer.renders.iter().map(|render| render.id).collect(),
                    );
                }
                self.tally.note("submit");
            }
            (Answer::Replayed(ids), Ok(answer)) if answer.replayed => {
                let known =
                    ids.iter().filter_map(|id| self.model.entry(*id)).map(|entry| entry.render.clone());
                prop_assert_eq!(seen(answer.renders), seen(known));
                self.tally.note("submit again");
            }
            (Answer::KeyReused, Err(SubmitError::KeyReused)) => self.tally.note("submit under a used key"),
            (Answer::SiteGone(index), Err(SubmitError::SiteGone(said))) if index == said => {
                self.tally.note("submit for a removed site");
            }
            (Answer::TooManyQueued(most), Err(SubmitError::TooManyQueued(said))) if most == said => {
                self.tally.note("submit more than may wait");
            }
            (expected, answer) => return Err(differ("submit", expected, answer)),
        }
        Ok(())
    }

    fn new_render(&self, ask: &Ask) -> NewRender {
        let queue = QueueOptions {
            group: ask.group.map(Into::into),
            priority: Some(ask.priority),
            run_at: ask.after.map(|after| self.clock.now() + after),
            max_attempts: Some(ask.max_attempts),
            on_failure: ask.blocks.then_some(OnFailure::Block),
            ..QueueOptions::default()
        };
        NewRender {
            kind: Kind::Media,
            site_version: "v1".into(),
            request: RenderRequest {
                composition: format!("step-{}", self.steps),
                serve_url: if ask.gone { "removed" } else { SITE }.into(),
                queue: Some(queue),
                webhook: self.steps.is_multiple_of(2).then(|| WebhookOptions {
                    url: "https://example.com/".into(),
                    secret: None,
                    custom_data: None,
                }),
                ..RenderRequest::default()
            },
            default_max_attempts: 1,
        }
    }

    /// One in that state; any, when none is.
    fn render(&self, status: Status, render: Nth) -> Option<RenderId> {
        let ids = |wanted: Option<Status>| {
            let renders = self.model.entries.iter().map(|entry| &entry.render);
            renders
                .filter(move |render| wanted.is_none_or(|status| render.status == status))
                .map(|render| render.id)
        };
        nth(ids(Some(status)), render).or_else(|| nth(ids(None), render))
    }

    async fn cancel(&mut self, status: Status, render: Nth) -> Result<(), Wrong> {
        let Some(id) = self.render(status, render) else { return self.claim().await };
        let answer = self.store().cancel(id).await;
        let expected = self.model.cancel(id);
        self.controlled(id, expected, answer, ["cancel", "cancel in vain"])
    }

    async fn retry(&mut self, status: Status, render: Nth) -> Result<(), Wrong> {
        let Some(id) = self.render(status, render) else { return self.claim().await };
        let answer = self.store().retry(id).await;
        let expected = self.model.retry(id);
        self.controlled(id, expected, answer, ["retry", "retry in vain"])
    }

    fn controlled(
        &self,
        id: RenderId,
        expected: Result<(), Refused>,
        answer: Result<Render, ControlError>,
        [done, refused]: [&'static str; 2],
    ) -> Result<(), Wrong> {
        let answer = match answer {
            Ok(render) => {
                prop_assert_eq!(
                    Some(seen([render])),
                    self.model.entry(id).map(|entry| seen([entry.render.clone()]))
                );
                Ok(())
            }
            Err(ControlError::NotFound) => Err(Refused::NotFound),
            Err(ControlError::Illegal(why)) => Err(Refused::Illegal(why)),
            Err(ControlError::Queue(error)) => return Err(fault(error)),
        };
        self.tally.note(if answer.is_ok() { done } else { refused });
        prop_assert_eq!(answer, expected, "{}", done);
        Ok(())
    }

    async fn redrive(&mut self, which: Which) -> Result<(), Wrong> {
        let any = |render: &Nth| nth(self.model.entries.iter().map(|entry| entry.render.id), *render);
        let failed = self
            .model
            .entries
            .iter()
            .map(|entry| &entry.render)
            .filter(|entry| entry.status == Status::Failed);
        let Some(tenant) = nth(failed.map(|render| render.tenant.clone()), which.failed) else {
            return self.claim().await;
        };
        let which = Redrive {
            tenant,
            ids: which.ids.map(|ids| ids.iter().filter_map(any).collect()),
            group: which.group.map(Into::into),
            code: which.code.map(Into::into),
            since: which.since.map(|ago| self.clock.now() - ago),
            until: which.until.map(|ago| self.clock.now() - ago),
            limit: which.limit,
        };
        let answer = self.store().redrive(which.clone()).await.map_err(fault)?;
        self.tally.note_if(!answer.renders.is_empty(), "redrive");
        self.tally.note_if(!answer.renders.is_empty() && answer.more, "redrive some");
        prop_assert_eq!(answer, self.model.redrive(&which));
        Ok(())
    }

    async fn set_paused(&mut self, what: Pausable, paused: bool) -> Result<(), Wrong> {
        let before = (self.model.paused_groups.len(), self.model.holders.len());
        self.model.set_paused(&what, paused);
        self.tally.note_if(self.model.paused_groups.len() < before.0, "resume a group");
        self.tally.note_if(self.model.holders.len() < before.1, "resume a group that is held");
        let answer = if paused { self.store().pause(what).await } else { self.store().resume(what).await };
        answer.map_err(fault)
    }

    async fn forget(&mut self, status: Status, renders: &[Nth]) -> Result<(), Wrong> {
        let ids: Vec<_> = renders.iter().filter_map(|render| self.render(status, *render)).collect();
        let holds = ids.iter().any(|id| self.model.holders.values().any(|holder| holder == id));
        self.tally.note_if(holds, "forget one that holds its group in vain");
        let answer = self.store().forget(ids.clone()).await.map_err(fault)?;
        prop_assert_eq!(answer, self.model.forget(&ids));
        self.tally.note_if(answer > 0, "forget");
        for id in ids.iter().filter(|id| self.model.entry(**id).is_none()) {
            prop_assert_eq!(self.store().get(*id).await.map_err(fault)?, None);
            prop_assert_eq!(self.store().attempts(*id).await.map_err(fault)?, []);
            prop_assert!(matches!(self.store().retry(*id).await, Err(ControlError::NotFound)));
        }
        Ok(())
    }

    pub(crate) async fn pass(&mut self, time: Duration, swept: bool) -> Result<(), Wrong> {
        self.clock.advance(time);
        (self.model.wall, self.model.monotonic) = (self.clock.now(), self.clock.monotonic());
        if swept {
            self.store().sweep().await.map_err(fault)?;
            let before = (self.model.keys.len(), self.under_way());
            self.model.sweep();
            let (keys, leased) = (self.model.keys.len(), self.under_way());
            self.tally.note_if(keys < before.0, "forget a key");
            self.tally.note_if(leased[0] < before.1[0], "lose a lease");
            self.tally.note_if(leased[1] < before.1[1], "lose a lease instead of stopping");
        }
        Ok(())
    }

    /// How many are rendering, and how many of those are to stop.
    fn under_way(&self) -> [usize; 2] {
        let leased = || self.model.entries.iter().filter(|entry| entry.lease.is_some());
        [leased().count(), leased().filter(|entry| entry.render.cancel_requested_at.is_some()).count()]
    }

    /// Waits for what takes time, lifts all else that is in the way, and renders whatever is left.
    pub(crate) async fn see_through(&mut self) -> Result<(), Wrong> {
        let store = self.store();
        self.clock.jump_to("2030-01-01T00:00:00Z".parse::<Timestamp>().map_err(fault)?);
        self.clock.advance(LEASE);
        store.sweep().await.map_err(fault)?;
        store.resume(Pausable::Queue).await.map_err(fault)?;
        for tenant in TENANTS.map(TenantId::new) {
            store.resume(Pausable::Tenant(tenant.clone())).await.map_err(fault)?;
            store.limit(&tenant, Limits::default()).await.map_err(fault)?;
            for group in GROUPS {
                store.resume(Pausable::Group(tenant.clone(), group.into())).await.map_err(fault)?;
            }
        }
        while let Some(lease) = store.claim("worker", Duration::ZERO).await.map_err(fault)? {
            store.finish(lease.render.id, &lease.token, self.outcome(End::Succeeds)).await.map_err(fault)?;
        }
        for entry in &self.model.entries {
            let render = store.get(entry.render.id).await.map_err(fault)?;
            let has_ended = render.is_some_and(|render| render.status.is_terminal());
            prop_assert!(has_ended, "{} never came to an end", entry.render.id);
        }
        Ok(())
    }
}

/// Renders as they are compared: what a failure says to people is not the reference's matter.
pub(crate) fn seen(renders: impl IntoIterator<Item = Render>) -> Vec<Render> {
    let seen = renders.into_iter().map(|mut render| {
        render.error = render.error.map(|error| untold(&error));
        render
    });
    seen.collect()
}

pub(crate) fn untold(failure: &Failure) -> Failure {
    Failure::new(&failure.code, "", failure.retryable)
}

fn pausable(what: &What) -> Pausable {
    match what {
        What::Queue => Pausable::Queue,
        What::Tenant(tenant) => Pausable::Tenant(TenantId::new(*tenant)),
        What::Group(tenant, group) => Pausable::Group(TenantId::new(*tenant), (*group).into()),
    }
}

fn nth<T>(mut all: impl Iterator<Item = T> + Clone, nth: Nth) -> Option<T> {
    let count = all.clone().count();
    all.nth(nth.checked_rem(count)?)
}

pub(crate) fn fault(error: impl Debug) -> Wrong {
    Wrong::fail(format!("{error:?}"))
}

fn differ(what: &str, expected: impl Debug, answer: impl Debug) -> Wrong {
    Wrong::fail(format!("{what}: expected {expected:?}, and the store answered {answer:?}"))
}
