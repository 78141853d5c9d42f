//! What anybody who asks the reference sees.

use jiff::Timestamp;
use lastframe_core::ports::{Counts, Filter, Group, Overview, Position, Tenant};
use lastframe_core::{Blocked, Limits, Render, RenderId, Status};
use proptest::prelude::*;

use super::{Entry, Line, Model};

impl Entry {
    pub(crate) fn line(&self) -> Option<Line> {
        Some((self.render.tenant.clone(), self.render.group.clone()?))
    }

    fn is_queued(&self) -> bool {
        self.render.status == Status::Queued
    }
}

impl Model {
    /// The render that has the turn in a group: the one that is rendering, else the queued one accepted first.
    pub(crate) fn head(&self, line: &Line) -> Option<&Entry> {
        let of_line = || self.entries.iter().filter(|entry| entry.line().as_ref() == Some(line));
        of_line()
            .find(|entry| entry.render.status == Status::Rendering)
            .or_else(|| of_line().find(|entry| entry.is_queued()))
    }

    /// What other renders, and pauses, put before a queued one.
    fn behind(&self, entry: &Entry) -> Option<Blocked> {
        let line = entry.line()?;
        let head = self.head(&line)?;
        if head.render.id != entry.render.id {
            Some(Blocked::Group { render_id: head.render.id })
        } else if let Some(holder) = self.holders.get(&line) {
            Some(Blocked::GroupHeld { render_id: *holder })
        } else {
            self.paused_groups.contains(&line).then_some(Blocked::GroupPaused)
        }
    }

    /// Takes in what the store says a render waits for. Not promised, and so heard, within bounds, are:
    ///
    /// - the jitter of a back-off: any wait from half of the step to all of it;
    /// - when it is noticed that a time has come: from that time on, and no later than at the next sweep;
    /// - whether a `runAt` that had come counts once more when the wall clock was put back before it.
    pub(crate) fn hear(&mut self, id: RenderId, blocked_by: Option<&Blocked>) -> Result<(), TestCaseError> {
        let (wall, monotonic) = (self.wall, self.monotonic);
        let behind = self.entry(id).and_then(|entry| self.behind(entry));
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.render.id == id) else { return Ok(()) };
        if behind.is_some() {
            return Ok(());
        }
        let Some(Blocked::Delayed { run_at: told }) = blocked_by else {
            entry.delayed = None;
            entry.due |= entry.run_at.is_some_and(|at| at <= wall);
            prop_assert!(entry.run_at.is_none() || entry.due, "{id} goes before its runAt");
            if let Some(backoff) = entry.backoff.take() {
                prop_assert!(*backoff.start() <= monotonic, "{id} goes before the end of its back-off");
            }
            return Ok(());
        };
        entry.delayed = Some(*told);
        if entry.run_at == Some(*told) && (*told > wall || !entry.due) {
            entry.due = false;
            return Ok(());
        }
        let Some(backoff) = &mut entry.backoff else {
            return Err(TestCaseError::fail(format!("{id} waits until {told} for nothing")));
        };
        // In milliseconds since the process started; what has passed since a wait ended is less than that.
        let until = monotonic.as_millis() as i64 + told.as_millisecond() - wall.as_millisecond();
        let until = std::time::Duration::from_millis(until.unsigned_abs());
        prop_assert!(backoff.contains(&until), "{id} waits until {until:?}, not within {backoff:?}");
        *backoff = until..=until;
        Ok(())
    }

    /// Whether nothing but its tenant's turn stands before it.
    pub(crate) fn is_claimable(&self, entry: &Entry) -> bool {
        entry.is_queued() && entry.delayed.is_none() && self.behind(entry).is_none()
    }

    /// Whether the tenant can be served: nothing of it, or of the queue, is in the way.
    pub(crate) fn can_be_served(&self, tenant: usize) -> bool {
        let counts = self.counts(tenant);
        let tenant = &self.tenants[tenant];
        let has_room = tenant.limits.max_concurrency.is_none_or(|max| counts.rendering < u64::from(max));
        let waits = |entry: &Entry| entry.render.tenant == tenant.id && self.is_claimable(entry);
        !self.paused && !tenant.paused && has_room && self.entries.iter().any(waits)
    }

    /// The render whose turn it is.
    pub(crate) fn next(&self) -> Option<RenderId> {
        let served = |tenant: &usize| self.can_be_served(*tenant);
        let tenant = self.turns.next((0..self.tenants.len()).filter(served))?;
        let tenant = &self.tenants[tenant].id;
        let claimable =
            self.entries.iter().filter(|entry| entry.render.tenant == *tenant && self.is_claimable(entry));
        // The first of the highest.
        claimable.rev().max_by_key(|entry| entry.render.priority).map(|entry| entry.render.id)
    }

    pub(crate) fn position(&self, entry: &Entry) -> Option<Position> {
        if !entry.is_queued() {
            return None;
        }
        let render = &entry.render;
        let ahead = self.entries.iter().filter(|other| {
            let other_goes_first = match &render.group {
                Some(_) => other.line() == entry.line() && other.is_queued() && other.render.seq < render.seq,
                None => {
                    let order = |render: &Render| (-render.priority, render.seq);
                    self.is_claimable(other) && order(&other.render) < order(render)
                }
            };
            other.render.tenant == render.tenant && other_goes_first
        });
        let position = u32::try_from(ahead.count()).unwrap_or(u32::MAX) + 1;
        let tenant = self.tenant_index(&render.tenant);
        let delayed = entry.delayed.map(|run_at| Blocked::Delayed { run_at });
        let blocked_by = self.behind(entry).or(delayed).or_else(|| {
            let tenant_of_it = &self.tenants[tenant];
            let most = tenant_of_it.limits.max_concurrency.map(u64::from);
            if self.paused {
                Some(Blocked::QueuePaused)
            } else if tenant_of_it.paused {
                Some(Blocked::TenantPaused)
            } else {
                most.filter(|most| self.counts(tenant).rendering >= *most).map(|_| Blocked::TenantLimit)
            }
        });
        Some(Position { position, blocked_by })
    }

    pub(crate) fn counts(&self, tenant: usize) -> Counts {
        let tenant = &self.tenants[tenant].id;
        let mut counts = Counts::default();
        for entry in self.entries.iter().filter(|entry| entry.render.tenant == *tenant) {
            let count = match entry.render.status {
                Status::Queued => &mut counts.queued,
                Status::Rendering => &mut counts.rendering,
                Status::Succeeded => &mut counts.succeeded,
                Status::Failed => &mut counts.failed,
                Status::Cancelled => &mut counts.cancelled,
            };
            *count += 1;
        }
        counts
    }

    pub(crate) fn tenant(&self, index: usize) -> Tenant {
        let tenant = &self.tenants[index];
        Tenant {
            id: tenant.id.clone(),
            limits: tenant.limits,
            effective: tenant.limits.or(Limits::default()),
            paused: tenant.paused,
            counts: self.counts(index),
        }
    }

    pub(crate) fn overview(&self) -> Overview {
        let mut counts = Counts::default();
        for one in (0..self.tenants.len()).map(|tenant| self.counts(tenant)) {
            counts.queued += one.queued;
            counts.rendering += one.rendering;
            counts.succeeded += one.succeeded;
            counts.failed += one.failed;
            counts.cancelled += one.cancelled;
        }
        Overview { paused: self.paused, counts }
    }

    pub(crate) fn group(&self, line: &Line) -> Option<Group> {
        let head = self.head(line).map(|entry| entry.render.id);
        let (paused, held_by) = (self.paused_groups.contains(line), self.holders.get(line).copied());
        if head.is_none() && !paused && held_by.is_none() {
            return None;
        }
        let queued = self
            .entries
            .iter()
            .filter(|entry| entry.is_queued() && entry.line().as_ref() == Some(line))
            .count();
        let queued = u32::try_from(queued).unwrap_or(u32::MAX);
        Some(Group { name: line.1.clone(), paused, held_by, head, queued })
    }

    pub(crate) fn list(&self, filter: &Filter) -> Vec<Render> {
        let matches = |render: &&Render| {
            filter.tenant.as_ref().is_none_or(|tenant| render.tenant == *tenant)
                && filter.status.is_none_or(|status| render.status == status)
                && filter.group.as_ref().is_none_or(|group| render.group.as_ref() == Some(group))
                && filter.text.as_ref().is_none_or(|text| begins(render, &text.to_ascii_lowercase()))
                && filter.before.is_none_or(|before| render.seq < before)
        };
        let newest_first = self.entries.iter().rev().map(|entry| &entry.render);
        newest_first.filter(matches).take(filter.limit as usize).cloned().collect()
    }

    /// What ended before that time, in the order of ending; those that ended together, in the order of acceptance.
    pub(crate) fn ended_before(&self, time: Timestamp, limit: usize) -> Vec<Render> {
        let ended = self.entries.iter().map(|entry| &entry.render);
        let mut ended: Vec<_> =
            ended.filter(|render| render.finished_at.is_some_and(|at| at < time)).collect();
        ended.sort_by_key(|render| render.finished_at);
        ended.into_iter().take(limit).cloned().collect()
    }
}

/// Whether what it is called begins with that, in lower case.
fn begins(render: &Render, text: &str) -> bool {
    let names = [Some(render.id.to_string()), Some(render.composition.clone()), render.group.clone()];
    names.into_iter().flatten().any(|name| name.to_ascii_lowercase().starts_with(text))
}
