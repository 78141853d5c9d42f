//! One attempt at a render on Lambda, from the intent to the output.
//!
//! The rule that everything here serves: **what is paid for is written down first**. An intent is on disk before a start is
//! sent, and a start whose answer was lost is looked for in the bucket before there is another one.

use std::sync::Arc;
use std::time::Duration;

use lastframe_core::ports::{Job, RunEvent, Stop};
use lastframe_core::{Clock, Failure, Kind, Output, Phase, Progress};
use lastframe_worker::logs::AttemptLog;
use tokio::sync::watch;
use tokio::time::Instant;

use super::fleet::{Choice, Fleet, Place};
use super::remote::{NotStarted, Order, Seen, State};
use super::run::{Stopped, Teller};
use super::search::{SKEW, Sighting, at, looked_for};
use super::trace::{Address, Trace};

/// How often a render is looked at, while something happens; a look costs 0.0000004 dollars.
const QUICKEST_LOOK: Duration = Duration::from_millis(250);
/// The same, while nothing happens.
const SLOWEST_LOOK: Duration = Duration::from_secs(2);
/// So long after its time a main function is taken for dead, as Remotion does.
const OVERTIME: Duration = Duration::from_secs(20);
/// How long a render that was asked to stop is waited for.
const LAST_BREATH: Duration = Duration::from_secs(45);
/// How long a throttled start is waited for under the lease, before others get the turn.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a start may go unanswered in one attempt.
const UNANSWERED: u32 = 3;

/// How courses behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// How long a start that was not answered is looked for before there is another one.
    pub(crate) settle: Duration,
    /// A render in which nothing happens for so long is given up.
    pub(crate) stall: Duration,
    /// What a render may cost at most, in US dollars; its request may say less.
    pub(crate) max_cost: Option<f64>,
}

pub(crate) struct Course {
    pub(crate) job: Job,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) habits: Habits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log: AttemptLog,
    pub(crate) tell: Teller,
    pub(crate) trace: Option<Trace>,
}

/// Why a course ended without an output.
enum End {
    Stopped,
    Failed(Failure),
    Throttled,
}

impl From<Stopped> for End {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl Course {
    /// Sails it to its end, or until it is stopped.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<Option<Stop>>) {
        let event = match self.sail().await {
            Ok(output) => {
                self.log.line("worker", &format!("finished and verified: {}", output.key));
                RunEvent::Stored { output }
            }
            Err(End::Failed(failure)) => {
                self.log.line("worker", &format!("failed: {failure}"));
                if let Some(stack) = &failure.stack {
                    self.log.line("lambda", stack);
                }
                RunEvent::Failed(failure)
            }
            Err(End::Throttled) => {
                self.log.line("worker", "AWS has no room; handed back");
                let rest = Duration::from_secs(15).mul_f64(1.0 + fastrand::f64());
                RunEvent::Throttled { until: self.clock.now() + rest }
            }
            Err(End::Stopped) => {
                let why = *stop.borrow_and_update();
                self.log.line("worker", &format!("stopped: {why:?}"));
                if why == Some(Stop::Cancel) {
                    self.cancel().await;
                }
                return;
            }
        };
        // Whoever listens may have stopped to: then nobody misses it.
        self.tell.event(event).await.ok();
    }

    async fn sail(&mut self) -> Result<Output, End> {
        let (place, render_id) = match self.attach().await? {
            Some(found) => found,
            None => self.start().await?,
        };
        let _seat = place.occupy();
        let Some(trace) = self.trace.clone() else { return Err(End::Stopped) };
        let output = self.follow(&place, &trace, &render_id).await;
        if let Err(End::Failed(_)) = &output {
            self.dealt_with().await?;
        }
        output
    }

    /// The render that an earlier attempt has started, or may have started.
    async fn attach(&mut self) -> Result<Option<(Arc<Place>, String)>, End> {
        let Some(trace) = self.trace.clone().filter(|trace| !trace.over) else { return Ok(None) };
        let Some(place) = self.fleet.at(&trace.address) else {
            let address = &trace.address;
            let message = format!(
                "an earlier attempt went to {} in {}, which is not configured any more: configure it again, or cancel and \
                 retry this render",
                address.function, address.region
            );
            return Err(End::Failed(Failure::new("lambda_not_configured", message, false)));
        };
        let found = match &trace.render_id {
            Some(render_id) => Some(render_id.clone()),
            None => self.find(&place, &trace).await?,
        };
        let Some(render_id) = found else { return Ok(None) };
        self.log.line("worker", &format!("attached to {render_id} of start {}", trace.start));
        if trace.render_id.is_none() {
            self.answered(&render_id).await?;
        }
        match self.seen(&place, &trace, &render_id).await? {
            // It was stopped by somebody who could not wait for the end; what is wanted now is another one.
            Some(Seen { state: State::Cancelled, .. }) => {
                self.log.line("worker", "it was cancelled; starting anew");
                Ok(None)
            }
            _ => Ok(Some((place, render_id))),
        }
    }

    /// Starts it, once, at a place that has room.
    async fn start(&mut self) -> Result<(Arc<Place>, String), End> {
        let give_up = Instant::now() + PATIENCE;
        let mut unanswered = 0;
        loop {
            let place = match self.fleet.choose(&self.job.request, &self.job.site.remotion_version) {
                Choice::Place(place) => place,
                Choice::Later(until) if until < give_up => {
                    self.tell.pause(until.saturating_duration_since(Instant::now())).await?;
                    continue;
                }
                Choice::Later(_) => return Err(End::Throttled),
                Choice::Nowhere(why) => {
                    return Err(End::Failed(Failure::new("lambda_not_configured", why, false)));
                }
            };
            let bucket = match &self.job.request.force_bucket_name {
                Some(bucket) => bucket.clone(),
                None => place.remote.bucket().await.map_err(End::Failed)?,
            };
            let serve_url = place.remote.serve_url(&bucket, &self.job.site).await.map_err(End::Failed)?;
            let trace = self.intend(place.address(bucket)).await?;
            match self.send(&place, &trace, &serve_url).await? {
                Ok(render_id) => {
                    place.accepted();
                    self.log.line("worker", &format!("started {render_id} at {}", place.function));
                    self.answered(&render_id).await?;
                    return Ok((place, render_id));
                }
                Err(NotStarted::Throttled(why)) => {
                    place.throttled();
                    self.log.line("worker", &format!("{} is throttled: {why}", place.function));
                    self.dealt_with().await?;
                }
                Err(NotStarted::Refused(failure)) => {
                    self.dealt_with().await?;
                    return Err(End::Failed(failure));
                }
                Err(NotStarted::Unanswered(why)) => {
                    unanswered += 1;
                    self.log.line("worker", &format!("the answer to the start was lost: {why}"));
                    if let Some(render_id) = self.find(&place, &trace).await? {
                        self.answered(&render_id).await?;
                        return Ok((place, render_id));
                    }
                    if unanswered == UNANSWERED {
                        let message = format!("{} does not answer: {why}", place.function);
                        return Err(End::Failed(Failure::new("lambda_unreachable", message, true)));
                    }
                }
            }
        }
    }

    async fn send(
        &mut self,
        place: &Place,
        trace: &Trace,
        serve_url: &str,
    ) -> Result<Result<String, NotStarted>, End> {
        let Trace { address, out_name, .. } = trace;
        let order = Order { job: &self.job, bucket: &address.bucket, serve_url, out_name };
        let answer = place.remote.start(order);
        match self.job.kind {
            // It takes a moment, and an answer that nobody hears would have to be looked for: a stop can wait.
            Kind::Media => Ok(answer.await),
            Kind::Still => Ok(self.tell.unless_stopped(answer).await?),
        }
    }

    /// Writes down what is about to be started.
    async fn intend(&mut self, address: Address) -> Result<Trace, End> {
        let start = self.trace.as_ref().map_or(1, |trace| trace.start + 1);
        let extension = self.job.request.extension(self.job.kind);
        let trace = Trace::intent(self.job.render, start, address, extension, self.clock.now());
        self.write_down(trace.clone()).await?;
        Ok(trace)
    }

    async fn answered(&mut self, render_id: &str) -> Result<(), End> {
        match self.trace.clone() {
            Some(trace) => self.write_down(Trace { render_id: Some(render_id.to_owned()), ..trace }).await,
            None => Ok(()),
        }
    }

    /// Nothing came of the last start: another attempt need not look for it.
    async fn dealt_with(&mut self) -> Result<(), End> {
        match self.trace.clone() {
            Some(trace) => self.write_down(Trace { over: true, ..trace }).await,
            None => Ok(()),
        }
    }

    async fn write_down(&mut self, trace: Trace) -> Result<(), End> {
        let checkpoint = trace.checkpoint();
        self.trace = Some(trace);
        Ok(self.tell.checkpoint(checkpoint).await?)
    }

    /// Looks for a start that was not answered. A render says its output's name as soon as its composition is known; until
    /// then a recent one may be it.
    async fn find(&mut self, place: &Place, trace: &Trace) -> Result<Option<String>, End> {
        self.log.line("worker", &format!("looking for start {} in the bucket", trace.start));
        let settle = match self.job.kind {
            Kind::Media => self.habits.settle,
            // It is answered when it is made.
            Kind::Still => self.habits.settle.max(place.timeout),
        };
        // From now: when the request was on its way for the last time is not known.
        let settled_at = self.clock.now() + settle;
        loop {
            let asked_at = self.clock.now();
            match looked_for(place, trace, self.job.kind, settled_at).await {
                Ok(Sighting::Found(render_id)) => return Ok(Some(render_id)),
                Ok(Sighting::Nothing) if asked_at >= settled_at => return Ok(None),
                Ok(Sighting::Nothing | Sighting::Perhaps) => {}
                Err(error) => {
                    self.log.line("worker", &format!("cannot look into the bucket: {error}; trying again"));
                }
            }
            self.tell.pause(SLOWEST_LOOK).await?;
        }
    }

    /// What there is to see of a render, once there is anything.
    async fn seen(&mut self, place: &Place, trace: &Trace, render_id: &str) -> Result<Option<Seen>, End> {
        let mut told = false;
        loop {
            match place.remote.look(at(trace, render_id, self.job.kind)).await {
                Ok(seen) => return Ok(seen),
                // The storage is waited for under the lease: what is being rendered is paid for.
                Err(error) => {
                    if !told {
                        let why = format!("cannot read the progress: {error}; trying again");
                        tracing::warn!(render.id = %self.job.render, %error, "cannot read the progress of a render on Lambda; trying again");
                        self.log.line("worker", &why);
                        told = true;
                    }
                    self.tell.pause(SLOWEST_LOOK).await?;
                }
            }
        }
    }

    /// Watches over it until it ends.
    async fn follow(&mut self, place: &Place, trace: &Trace, render_id: &str) -> Result<Output, End> {
        let asked = self.job.request.queue.as_ref().and_then(|queue| queue.max_cost);
        let max_cost = asked.into_iter().chain(self.habits.max_cost).reduce(f64::min);
        let mut look = QUICKEST_LOOK;
        let (mut pulse, mut beat_at) = (None, Instant::now());
        let (mut last, mut costs) = (Progress::START, 0.0);
        loop {
            let asked_at = Instant::now();
            let seen = self.seen(place, trace, render_id).await?;
            if asked_at.elapsed() > SLOWEST_LOOK {
                // We were blind, which says nothing about the render.
                beat_at = Instant::now();
            }
            let Some(seen) = seen else {
                if beat_at.elapsed() > SKEW {
                    let message = format!("nothing is in the bucket of {render_id}: its files were deleted");
                    return Err(End::Failed(Failure::new("lambda_gone", message, true)));
                }
                self.tell.pause(look).await?;
                continue;
            };
            if pulse == Some(seen.pulse) {
                look = look.mul_f64(1.5).min(SLOWEST_LOOK);
            } else {
                (pulse, beat_at, look) = (Some(seen.pulse), Instant::now(), QUICKEST_LOOK);
            }
            if last != seen.progress {
                last = seen.progress;
                self.tell.event(RunEvent::Progress(last)).await?;
            }
            if seen.cost_in_usd >= costs + 0.01 {
                costs = seen.cost_in_usd;
                self.log
                    .line("lambda", &format!("{} frames, {costs:.3} dollars so far", last.frames_rendered));
            }
            match &seen.state {
                State::Running => {
                    if let Some(failure) = self.overdue(&seen, beat_at, max_cost) {
                        self.log.line("worker", &format!("giving it up: {failure}"));
                        self.stop_it(place, trace, render_id).await;
                        return Err(End::Failed(failure));
                    }
                }
                State::Done { key, size_in_bytes } => {
                    let in_phase = last.in_phase(Phase::Uploading);
                    self.tell.event(RunEvent::Progress(in_phase)).await?;
                    return self.verify(place, trace, &seen, (key, *size_in_bytes)).await;
                }
                State::Cancelled => {
                    let message = "somebody cancelled it on Lambda";
                    return Err(End::Failed(Failure::new("lambda_cancelled", message, false)));
                }
                State::Failed(failure) => return Err(End::Failed(failure.clone())),
            }
            self.tell.pause(look).await?;
        }
    }

    /// Why it is not worth waiting for any longer.
    fn overdue(&self, seen: &Seen, beat_at: Instant, max_cost: Option<f64>) -> Option<Failure> {
        if let Some(most) = max_cost.filter(|most| seen.cost_in_usd > *most) {
            let message = format!(
                "it has cost {:.4} dollars so far, and may cost {most} (queue.maxCost)",
                seen.cost_in_usd
            );
            return Some(Failure::new("cost_exceeded", message, false));
        }
        if self.clock.now() > seen.gives_up_at + OVERTIME {
            let message = "its main function has had no more time, and said nothing: deploy a function with a longer timeout, \
                           or lower `framesPerLambda`";
            return Some(Failure::new("lambda_timeout", message, false));
        }
        if beat_at.elapsed() > self.habits.stall {
            let message =
                format!("nothing has happened for {} s (lambda.stall)", self.habits.stall.as_secs());
            return Some(Failure::new("lambda_stuck", message, true));
        }
        None
    }

    /// Compares what the function says it has made with what is in the bucket.
    async fn verify(
        &mut self,
        place: &Place,
        trace: &Trace,
        seen: &Seen,
        (key, size): (&str, u64),
    ) -> Result<Output, End> {
        let found = loop {
            match place.remote.size(&trace.address.bucket, key).await {
                Ok(found) => break found,
                Err(error) => {
                    self.log.line("worker", &format!("cannot look at the output: {error}; trying again"));
                    self.tell.pause(SLOWEST_LOOK).await?;
                }
            }
        };
        let incomplete = |why: String| {
            End::Failed(Failure::new("output_incomplete", format!("Lambda says it is done, but {why}"), true))
        };
        match found {
            None => return Err(incomplete(format!("there is no {key} in the bucket"))),
            Some(0) => return Err(incomplete(format!("{key} is empty"))),
            Some(found) if found != size => {
                return Err(incomplete(format!("{key} has {found} bytes instead of {size}")));
            }
            Some(_) => {}
        }
        let Progress { frames_rendered, frame_count, .. } = seen.progress;
        let counts = self.job.kind == Kind::Media;
        if counts && frames_rendered != frame_count {
            return Err(incomplete(format!("{frames_rendered} frames of {frame_count} were rendered")));
        }
        let request = &self.job.request;
        let has_picture = self.job.kind == Kind::Still || request.codec().has_video();
        let side = |side: fn((u32, u32)) -> u32| seen.size.filter(|_| has_picture).map(side);
        Ok(Output {
            key: crate::outputs::key(&trace.address, key),
            size_in_bytes: size,
            content_type: request.content_type(self.job.kind).to_owned(),
            frame_count: (counts && has_picture).then_some(frame_count),
            width: side(|(width, _)| width),
            height: side(|(_, height)| height),
            cost_in_usd: (seen.cost_in_usd > 0.0).then_some(seen.cost_in_usd),
            ..Output::default()
        })
    }

    /// Nothing of it may go on: neither what is known to be started nor what may have been.
    async fn cancel(&mut self) {
        let Some(trace) = self.trace.clone().filter(|trace| !trace.over) else { return };
        let Some(place) = self.fleet.at(&trace.address) else { return };
        let render_id = match &trace.render_id {
            Some(render_id) => Some(render_id.clone()),
            None => {
                self.tell.deafen();
                let longest = self.habits.settle + LAST_BREATH;
                match tokio::time::timeout(longest, self.find(&place, &trace)).await {
                    Ok(found) => found.unwrap_or_default(),
                    Err(_) => None,
                }
            }
        };
        if let Some(render_id) = render_id {
            self.stop_it(&place, &trace, &render_id).await;
        }
    }

    /// Stops it on Lambda, waits until it has stopped, and removes what it has left.
    async fn stop_it(&mut self, place: &Place, trace: &Trace, render_id: &str) {
        let at = at(trace, render_id, self.job.kind);
        let give_up = Instant::now() + LAST_BREATH;
        let mut asked = false;
        while Instant::now() < give_up {
            if !asked {
                match place.remote.cancel(at).await {
                    Ok(()) => asked = true,
                    Err(error) => {
                        self.log.line("worker", &format!("cannot cancel {render_id}: {error}; trying again"));
                    }
                }
            }
            match place.remote.look(at).await {
                Ok(Some(Seen { state: State::Running, .. })) => {}
                Ok(_) if asked => {
                    self.log.line("worker", &format!("{render_id} has stopped"));
                    if let Err(error) = place.remote.delete(at).await {
                        self.log.line("worker", &format!("its files are still there: {error}"));
                    }
                    return;
                }
                Ok(_) => return,
                Err(error) => self.log.line("worker", &format!("cannot see whether it has stopped: {error}")),
            }
            tokio::time::sleep(QUICKEST_LOOK).await;
        }
        self.log.line(
            "worker",
            "it has not said that it stopped; its functions end by themselves when their time is over",
        );
        tracing::warn!(render.id = %self.job.render, lambda.render = render_id, "a render on Lambda did not confirm that it was cancelled");
    }
}
