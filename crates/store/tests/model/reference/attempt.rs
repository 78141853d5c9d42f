//! What the reference does while a render is leased, and when it is not any more.

use std::ops::RangeInclusive;
use std::time::Duration;

use lastframe_core::{
    Attempt, Checkpoint, Failure, HandBack, LeaseToken, Outcome, Output, Progress, RenderId, Status,
};

use super::{LEASE, Leased, Model, RETRY, cancelled};

/// The lease is lost.
#[derive(Debug)]
pub(crate) struct Lost;

/// What an attempt that ends without ending its render counts.
#[derive(PartialEq)]
enum Counts {
    Attempt,
    Nothing,
    LostLease,
}

impl Model {
    fn fenced(&self, id: RenderId, token: &LeaseToken) -> Result<usize, Lost> {
        let index = self.index(id).ok_or(Lost)?;
        let lease = self.entries[index].lease.as_ref();
        if lease.is_some_and(|lease| lease.token == *token) { Ok(index) } else { Err(Lost) }
    }

    /// Leases the render whose turn it is.
    pub(crate) fn lease(&mut self, id: RenderId, token: LeaseToken, worker: &str) {
        let (now, until) = (self.wall, self.monotonic + LEASE);
        let Some(index) = self.index(id) else { return };
        let entry = &mut self.entries[index];
        entry.lease = Some(Leased { token, until });
        entry.backoff = None;
        let render = &mut entry.render;
        render.status = Status::Rendering;
        render.attempt += 1;
        render.leases += 1;
        render.started_at = render.started_at.or(Some(now));
        render.attempt_started_at = Some(now);
        entry.attempts.push(Attempt {
            number: render.leases,
            worker: worker.to_owned(),
            started_at: now,
            ended_at: None,
            outcome: None,
            error: None,
        });
        let tenant = self.tenant_index(&self.entries[index].render.tenant);
        self.turns.served(tenant, self.tenants[tenant].weight());
    }

    /// Says whether somebody asked for the render to stop.
    pub(crate) fn extend(
        &mut self,
        id: RenderId,
        token: &LeaseToken,
        progress: Progress,
        checkpoint: Option<Checkpoint>,
    ) -> Result<bool, Lost> {
        let until = self.monotonic + LEASE;
        let index = self.fenced(id, token)?;
        let entry = &mut self.entries[index];
        entry.lease = Some(Leased { token: token.clone(), until });
        entry.render.progress = Some(progress);
        entry.checkpoint = checkpoint.or(entry.checkpoint.take());
        Ok(entry.render.cancel_requested_at.is_some())
    }

    pub(crate) fn release(&mut self, id: RenderId, token: &LeaseToken, why: &HandBack) -> Result<(), Lost> {
        let index = self.fenced(id, token)?;
        if self.entries[index].render.cancel_requested_at.is_some() {
            self.end(index, Status::Cancelled, None, Some(cancelled()));
            return Ok(());
        }
        let until = match why {
            HandBack::Draining => None,
            HandBack::Throttled { until } => {
                Duration::try_from(until.duration_since(self.wall)).ok().map(|wait| self.monotonic + wait)
            }
        };
        self.requeue(index, "handed_back", None, until.map(|until| until..=until), &Counts::Nothing);
        Ok(())
    }

    pub(crate) fn finish(
        &mut self,
        id: RenderId,
        token: &LeaseToken,
        outcome: &Outcome,
    ) -> Result<Status, Lost> {
        let index = self.fenced(id, token)?;
        let render = &self.entries[index].render;
        let (attempt, tries_left) = (render.attempt, render.attempt < render.max_attempts);
        let to_be_stopped = render.cancel_requested_at.is_some();
        match outcome {
            Outcome::Succeeded(output) => self.end(index, Status::Succeeded, Some(output.clone()), None),
            // Asked to stop, and it broke instead: what was asked for has come about.
            Outcome::Failed(_) if to_be_stopped => {
                self.end(index, Status::Cancelled, None, Some(cancelled()));
            }
            Outcome::Cancelled => self.end(index, Status::Cancelled, None, Some(cancelled())),
            Outcome::Failed(failure) if failure.retryable && tries_left => {
                let step = step(&failure.code, attempt);
                let until = self.monotonic + step / 2..=self.monotonic + step;
                self.requeue(index, "failed", Some(failure.clone()), Some(until), &Counts::Attempt);
            }
            Outcome::Failed(failure) => self.end(index, Status::Failed, None, Some(failure.clone())),
        }
        Ok(self.entries[index].render.status)
    }

    pub(crate) fn lose(&mut self, index: usize) {
        let entry = &self.entries[index];
        if entry.render.cancel_requested_at.is_some() {
            self.end(index, Status::Cancelled, None, Some(cancelled()));
        } else if entry.lost + 1 == RETRY.max_lost {
            self.end(index, Status::Failed, None, Some(Failure::new("worker_lost", "", false)));
        } else {
            self.requeue(index, "lost", None, None, &Counts::LostLease);
        }
    }

    fn requeue(
        &mut self,
        index: usize,
        outcome: &str,
        failure: Option<Failure>,
        backoff: Option<RangeInclusive<Duration>>,
        counts: &Counts,
    ) {
        self.close_attempt(index, outcome, failure.clone());
        let entry = &mut self.entries[index];
        entry.backoff = backoff;
        match counts {
            Counts::Attempt => entry.lost = 0,
            Counts::Nothing => entry.render.attempt -= 1,
            Counts::LostLease => {
                entry.render.attempt -= 1;
                entry.lost += 1;
            }
        }
        let render = &mut entry.render;
        render.status = Status::Queued;
        render.error = failure.or(render.error.take());
        render.progress = None;
        render.attempt_started_at = None;
    }

    fn end(&mut self, index: usize, status: Status, output: Option<Output>, failure: Option<Failure>) {
        self.close_attempt(index, status.as_str(), failure.clone());
        let now = self.wall;
        let entry = &mut self.entries[index];
        entry.lost = 0;
        entry.checkpoint = None;
        let render = &mut entry.render;
        render.status = status;
        render.output = output;
        render.error = failure;
        render.finished_at = Some(now);
        if let Some(group) = &render.group
            && status == Status::Failed
            && entry.blocks
        {
            self.holders.insert((render.tenant.clone(), group.clone()), render.id);
        }
    }

    fn close_attempt(&mut self, index: usize, outcome: &str, failure: Option<Failure>) {
        let now = self.wall;
        let entry = &mut self.entries[index];
        entry.lease = None;
        if let Some(attempt) = entry.attempts.last_mut() {
            attempt.ended_at = Some(now);
            attempt.outcome = Some(outcome.to_owned());
            attempt.error = failure;
        }
    }
}

/// The longest wait after that attempt: see [`lastframe_core::RetryPolicy`].
fn step(code: &str, attempt: u32) -> Duration {
    let base = if code == "out_of_memory" { RETRY.base * 8 } else { RETRY.base };
    (base * 2_u32.pow(attempt - 1)).min(RETRY.cap)
}
