//! What those do who hold a lease, or believe so.

use std::time::Duration;

use lastframe_core::ports::{LeaseError, Queue as _};
use lastframe_core::{
    Checkpoint, Clock as _, Failure, HandBack, Lease, LeaseToken, Outcome, Output, Phase, Progress, Render,
    RenderId, Status,
};
use proptest::prelude::*;

use super::{Machine, Wrong, differ, fault, nth, seen};
use crate::command::{End, Late, Nth};
use crate::reference::{LEASE, Lost};

impl Machine<'_> {
    pub(crate) async fn claim(&mut self) -> Result<(), Wrong> {
        let expected = self.model.next();
        let lease = self.store().claim("worker", Duration::ZERO).await.map_err(fault)?;
        prop_assert_eq!(lease.as_ref().map(|lease| lease.render.id), expected, "whose turn it is");
        let Some(lease) = lease else {
            self.tally.note("claim in vain");
            return Ok(());
        };
        self.tally.note("claim");
        self.claimed(lease)
    }

    fn claimed(&mut self, lease: Lease) -> Result<(), Wrong> {
        let Lease { render, request, token, duration, checkpoint } = lease;
        prop_assert!(self.leases.iter().all(|(_, given)| *given != token), "{token:?} was given twice");
        if render.group.is_some() {
            // Completed before next, said once more and directly.
            let same_group = |other: &&Render| {
                other.id != render.id && other.tenant == render.tenant && other.group == render.group
            };
            let mut others = self.model.entries.iter().map(|entry| &entry.render).filter(same_group);
            let order_is_kept = others.all(|other| {
                other.status.is_terminal() || (other.seq > render.seq && other.status == Status::Queued)
            });
            prop_assert!(order_is_kept, "{} overtakes another of its group", render.id);
        }
        self.model.lease(render.id, token.clone(), "worker");
        let Some(entry) = self.model.entry(render.id) else {
            return Err(Wrong::fail("leased, and never accepted"));
        };
        prop_assert_eq!(seen([render]), seen([entry.render.clone()]));
        prop_assert_eq!(&request, &entry.request);
        prop_assert_eq!(&checkpoint, &entry.checkpoint);
        prop_assert_eq!(duration, LEASE);
        self.tally.note_if(checkpoint.is_some(), "claim with a checkpoint");
        self.leases.push((entry.render.id, token));
        Ok(())
    }

    /// A lease that holds, or one that does not.
    fn lease(&self, lease: Nth, holds: bool) -> Option<(RenderId, LeaseToken)> {
        let is_held = |(id, token): &(RenderId, LeaseToken)| {
            let lease = self.model.entry(*id).and_then(|entry| entry.lease.as_ref());
            lease.is_some_and(|lease| lease.token == *token)
        };
        nth(self.leases.iter().filter(|lease| is_held(lease) == holds).cloned(), lease)
    }

    pub(crate) async fn extend(&mut self, lease: Nth, checkpoint: Option<u8>) -> Result<(), Wrong> {
        let Some((id, token)) = self.lease(lease, true) else { return self.claim().await };
        let overall = f64::from(checkpoint.unwrap_or(0)) / 10.0;
        let progress = Progress { phase: Phase::Rendering, frames_rendered: 1, frame_count: 10, overall };
        let checkpoint = checkpoint.map(|frames| Checkpoint(serde_json::json!({ "frames": frames })));
        let answer = self.store().extend(id, &token, progress, checkpoint.clone()).await;
        match (self.model.extend(id, &token, progress, checkpoint), answer) {
            (Ok(expected), Ok(answer)) if expected == answer.cancel_requested => {
                self.tally.note(if expected { "extend and be told to stop" } else { "extend" });
                Ok(())
            }
            (expected, answer) => Err(differ("extend", expected, answer)),
        }
    }

    pub(crate) async fn finish(&mut self, lease: Nth, how: End) -> Result<(), Wrong> {
        let Some((id, token)) = self.lease(lease, true) else { return self.claim().await };
        let to_be_stopped =
            self.model.entry(id).is_some_and(|entry| entry.render.cancel_requested_at.is_some());
        let outcome = self.outcome(how);
        let answer = self.store().finish(id, &token, outcome.clone()).await;
        match (self.model.finish(id, &token, &outcome), answer) {
            (Ok(expected), Ok(answer)) if expected == answer => {
                self.tally.note(match (expected, outcome) {
                    (Status::Succeeded, _) => "succeed",
                    (Status::Cancelled, Outcome::Failed(_)) if to_be_stopped => "fail instead of stopping",
                    (Status::Cancelled, _) => "stop",
                    (Status::Queued, _) => "fail for now",
                    (_, Outcome::Failed(failure)) if failure.retryable => "fail for the last time",
                    _ => "fail for good",
                });
                Ok(())
            }
            (expected, answer) => Err(differ("finish", expected, answer)),
        }
    }

    pub(crate) fn outcome(&self, how: End) -> Outcome {
        match how {
            End::Succeeds => Outcome::Succeeded(Output {
                key: format!("out/{}.mp4", self.steps),
                size_in_bytes: 1_000,
                sha256: "00".repeat(32),
                content_type: "video/mp4".into(),
                frame_count: Some(150),
                width: Some(1920),
                height: Some(1080),
                duration_in_seconds: Some(5.0),
                cost_in_usd: None,
                deletion: None,
            }),
            End::Fails { code } => Outcome::Failed(Failure::new(code, "", code != "composition_not_found")),
            End::Stops => Outcome::Cancelled,
        }
    }

    pub(crate) async fn release(&mut self, lease: Nth, throttled: Option<Duration>) -> Result<(), Wrong> {
        let Some((id, token)) = self.lease(lease, true) else { return self.claim().await };
        let why = throttled
            .map_or(HandBack::Draining, |wait| HandBack::Throttled { until: self.clock.now() + wait });
        let answer = self.store().release(id, &token, why.clone()).await;
        match (self.model.release(id, &token, &why), answer) {
            (Ok(()), Ok(())) => {
                self.tally.note(if throttled.is_some() { "hand back until later" } else { "hand back" });
                Ok(())
            }
            (expected, answer) => Err(differ("release", expected, answer)),
        }
    }

    /// Under a lease that is over, or with the token of another render's lease.
    pub(crate) async fn come_late(&mut self, lease: Nth, how: Late) -> Result<(), Wrong> {
        let Some((id, token)) = self.lease(lease, false) else { return self.claim().await };
        let live = self.lease(lease, true);
        let held_again = live.as_ref().is_some_and(|(held, _)| *held == id);
        for token in [Some(token), live.filter(|_| !held_again).map(|(_, token)| token)].into_iter().flatten()
        {
            let outcome = self.outcome(End::Succeeds);
            let answer = match how {
                Late::Extends => self.store().extend(id, &token, Progress::START, None).await.map(drop),
                Late::Releases => self.store().release(id, &token, HandBack::Draining).await,
                Late::Finishes => self.store().finish(id, &token, outcome).await.map(drop),
            };
            if !matches!(answer, Err(LeaseError::Lost)) {
                return Err(differ("come late", Lost, answer));
            }
        }
        let again = self.model.entry(id).is_some_and(|entry| entry.lease.is_some());
        self.tally.note(if again { "come late to a render that is leased again" } else { "come late" });
        Ok(())
    }
}
