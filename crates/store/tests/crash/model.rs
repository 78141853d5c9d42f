//! The rules of the queue, one call after another: what each call answers and changes, by the documentation.
//!
//! A line is what has an order of its own: a group of a tenant, or one render that has no group. No call on one line
//! depends on another line, so each can be judged by itself.

use std::collections::{BTreeMap, HashMap};

use lastframe_core::{RenderId, Status};

use crate::history::{Answer, Call, End, Seen, Wanted};
use crate::record::Stored;
use crate::session::{LEASE, RETRY};

/// What is known of the renders from outside the line's life: what was asked for, and how each lease ended.
pub(crate) struct Facts<'a> {
    pub(crate) stored: HashMap<RenderId, &'a Stored>,
    pub(crate) wanted: HashMap<RenderId, &'a Wanted>,
    /// The renders that each submit stands for, by the number of the call.
    pub(crate) accepted: BTreeMap<u32, Vec<RenderId>>,
}

/// A call, as far as it concerns the line.
#[derive(Clone, Debug)]
pub(crate) struct Op<'a> {
    /// The number of the call; of a claim, the name of its lease.
    pub(crate) number: u32,
    /// The clock when it was asked. It was done no earlier.
    pub(crate) asked_at: i64,
    pub(crate) call: &'a Call,
    /// Nothing, when nobody lived to hear it.
    pub(crate) answer: Option<&'a Answer>,
    /// The renders of the line that it concerns; several for a submit.
    pub(crate) renders: Vec<RenderId>,
    /// The claim that gave the lease it names.
    pub(crate) lease: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Line {
    pub(crate) renders: BTreeMap<RenderId, State>,
    /// The render that failed and holds the line.
    held_by: Option<RenderId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) seq: i64,
    pub(crate) status: Status,
    pub(crate) attempt: u32,
    pub(crate) leases: u32,
    lost: u32,
    cancel_requested: bool,
    /// It may not be claimed earlier.
    not_before: i64,
    /// Of a rendering one: the claim that leased it, and the earliest that the lease may expire.
    lease: Option<(u32, i64)>,
}

impl Line {
    /// The line after the call, done at some time up to `now`; nothing when its answer cannot have been given here.
    pub(crate) fn after(&self, op: &Op<'_>, now: i64, facts: &Facts<'_>) -> Option<Self> {
        let mut line = self.clone();
        let told = line.apply(op, now, facts)?;
        op.answer.is_none_or(|answer| explains(&told, answer)).then_some(line)
    }

    /// Does the call and returns what it answers; nothing when it cannot have happened here, by what is stored.
    fn apply(&mut self, op: &Op<'_>, now: i64, facts: &Facts<'_>) -> Option<Answer> {
        if let Call::Submit { .. } = op.call {
            return self.submit(op, facts);
        }
        let id = *op.renders.first()?;
        let (status, lease, cancel_requested) = {
            let render = self.renders.get(&id)?;
            (render.status, render.lease, render.cancel_requested)
        };
        let holds = lease.is_some_and(|(claim, _)| op.lease == Some(claim));
        match op.call {
            Call::Claim { .. } => {
                self.claim(id, op, now, facts)?;
                // The token is the store's choice.
                Some(Answer::Changed(self.seen(id)))
            }
            Call::Extend { .. } | Call::Release { .. } | Call::Finish { .. } if !holds => Some(Answer::Lost),
            Call::Extend { .. } => {
                self.render(id).lease = Some((op.lease?, expiry(op.asked_at)));
                Some(Answer::Extended { cancel_requested })
            }
            Call::Release { .. } if cancel_requested => {
                self.end(id, Status::Cancelled, facts)?;
                Some(Answer::Released)
            }
            Call::Release { until, .. } => {
                self.requeue(id, "handed_back", until.unwrap_or(0), facts)?;
                self.render(id).attempt -= 1;
                Some(Answer::Released)
            }
            Call::Finish { end, .. } => self.finish(id, *end, op.asked_at, facts),
            Call::Cancel { .. } => match status {
                Status::Queued => {
                    self.render(id).status = Status::Cancelled;
                    Some(Answer::Changed(self.seen(id)))
                }
                Status::Rendering => {
                    self.render(id).cancel_requested = true;
                    Some(Answer::Changed(self.seen(id)))
                }
                _ => Some(Answer::Illegal),
            },
            Call::Retry { .. } => match status {
                Status::Failed | Status::Cancelled => {
                    let render = self.render(id);
                    *render = State { leases: render.leases, ..State::new(render.seq, 0) };
                    if self.held_by == Some(id) {
                        self.held_by = None;
                    }
                    Some(Answer::Changed(self.seen(id)))
                }
                _ => Some(Answer::Illegal),
            },
            Call::Submit { .. } | Call::Pass { .. } => None,
        }
    }

    /// Behind all that were accepted before; or, under a key that was used, nothing at all.
    fn submit(&mut self, op: &Op<'_>, facts: &Facts<'_>) -> Option<Answer> {
        let replayed = op.renders.iter().all(|id| self.renders.contains_key(id));
        if !replayed {
            for id in &op.renders {
                let seq = facts.stored[id].render.seq;
                if self.renders.contains_key(id) || self.renders.values().any(|other| other.seq > seq) {
                    return None;
                }
                self.renders.insert(*id, State::new(seq, facts.wanted[id].run_at.unwrap_or(0)));
            }
        }
        let renders = op.renders.iter().map(|id| self.seen(*id)).collect();
        Some(Answer::Submitted { renders, replayed })
    }

    /// Only the first of the queued ones, when none is being rendered and none holds the line.
    fn claim(&mut self, id: RenderId, op: &Op<'_>, now: i64, facts: &Facts<'_>) -> Option<()> {
        let rendering = self.renders.values().any(|render| render.status == Status::Rendering);
        let queued = self.renders.iter().filter(|(_, render)| render.status == Status::Queued);
        let (first, render) = queued.min_by_key(|(_, render)| render.seq)?;
        if rendering || self.held_by.is_some() || *first != id || render.not_before > now {
            return None;
        }
        let render = self.render(id);
        render.status = Status::Rendering;
        render.attempt += 1;
        render.leases += 1;
        render.lease = Some((op.number, expiry(op.asked_at)));
        let Call::Claim { worker } = op.call else { return None };
        let attempt = facts.stored[&id].attempts.get(render.leases as usize - 1)?;
        (attempt.worker == *worker && render.attempt <= facts.wanted[&id].max_attempts).then_some(())
    }

    fn finish(&mut self, id: RenderId, end: End, at: i64, facts: &Facts<'_>) -> Option<Answer> {
        let render = &self.renders[&id];
        let status = match end {
            End::Succeeded => Status::Succeeded,
            End::Cancelled => Status::Cancelled,
            End::FailedForNow | End::FailedForGood if render.cancel_requested => Status::Cancelled,
            End::FailedForNow if render.attempt < facts.wanted[&id].max_attempts => {
                // At least half of a wait that doubles.
                let wait = RETRY.base.as_millis() << (render.attempt - 1);
                let wait = i64::try_from(wait.min(RETRY.cap.as_millis()) / 2).ok()?;
                self.requeue(id, "failed", at + wait, facts)?;
                self.render(id).lost = 0;
                return Some(Answer::Finished(Status::Queued));
            }
            End::FailedForNow | End::FailedForGood => Status::Failed,
        };
        self.end(id, status, facts)?;
        Some(Answer::Finished(status))
    }

    /// Once its lease has expired, if that may have come about by now.
    pub(crate) fn after_expiry(&self, now: i64, facts: &Facts<'_>) -> Option<Self> {
        let expired = |render: &State| render.lease.is_some_and(|(_, expires)| expires <= now);
        let id = *self.renders.iter().find(|(_, render)| expired(render))?.0;
        let mut line = self.clone();
        line.lose(id, facts)?;
        Some(line)
    }

    /// Once the process is dead, and all who held a lease of it.
    pub(crate) fn after_death(mut self, facts: &Facts<'_>) -> Option<Self> {
        let rendering = self.renders.iter().filter(|(_, render)| render.status == Status::Rendering);
        for id in rendering.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.lose(id, facts)?;
        }
        // Back-offs end with the process; a `runAt` that is still to come does not.
        for render in self.renders.values_mut().filter(|render| render.leases > 0) {
            render.not_before = 0;
        }
        Some(self)
    }

    /// Costs no attempt, but only so often in a row.
    fn lose(&mut self, id: RenderId, facts: &Facts<'_>) -> Option<()> {
        let render = self.render(id);
        if render.cancel_requested {
            self.end(id, Status::Cancelled, facts)
        } else if render.lost + 1 >= RETRY.max_lost {
            self.end(id, Status::Failed, facts)
        } else {
            render.lost += 1;
            render.attempt -= 1;
            self.requeue(id, "lost", 0, facts)
        }
    }

    fn requeue(&mut self, id: RenderId, outcome: &str, not_before: i64, facts: &Facts<'_>) -> Option<()> {
        let render = self.render(id);
        render.status = Status::Queued;
        render.lease = None;
        render.not_before = not_before;
        ended(id, render.leases, outcome, facts)
    }

    fn end(&mut self, id: RenderId, status: Status, facts: &Facts<'_>) -> Option<()> {
        let render = self.render(id);
        render.status = status;
        render.lease = None;
        let leases = render.leases;
        if status == Status::Failed && facts.wanted[&id].holds {
            self.held_by = Some(id);
        }
        ended(id, leases, status.as_str(), facts)
    }

    fn render(&mut self, id: RenderId) -> &mut State {
        self.renders.get_mut(&id).unwrap()
    }

    fn seen(&self, id: RenderId) -> Seen {
        let State { seq, status, attempt, leases, .. } = self.renders[&id];
        Seen { id, seq, status, attempt, leases }
    }
}

impl State {
    fn new(seq: i64, not_before: i64) -> Self {
        Self {
            seq,
            status: Status::Queued,
            attempt: 0,
            leases: 0,
            lost: 0,
            cancel_requested: false,
            not_before,
            lease: None,
        }
    }
}

/// Whether that is how the store remembers the end of this lease.
fn ended(id: RenderId, lease: u32, outcome: &str, facts: &Facts<'_>) -> Option<()> {
    let attempt = facts.stored[&id].attempts.get(lease as usize - 1)?;
    (attempt.outcome.as_deref() == Some(outcome)).then_some(())
}

fn expiry(from: i64) -> i64 {
    from + i64::try_from(LEASE.as_millis()).unwrap()
}

/// Whether the answer, as far as it concerns the line, is what the rules say.
fn explains(told: &Answer, answer: &Answer) -> bool {
    match (told, answer) {
        (Answer::Changed(told), Answer::Claimed(Some(leased))) => *told == leased.render,
        (Answer::Submitted { renders: told, replayed: was }, Answer::Submitted { renders, replayed }) => {
            was == replayed && told.iter().all(|told| renders.contains(told))
        }
        _ => told == answer,
    }
}
