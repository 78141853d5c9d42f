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

use super::fleet::{Choice, Fleet, Place, Seat};
use super::patience::Patience;
use super::remote::{NotStarted, Order, Refusal, Seen, Started, State};
use super::run::{Stopped, Teller};
use super::search::{OVERTIME, SKEW, Sighting, at, looked_for};
use super::trace::{Address, Trace};

/// How often a render is looked at, while something happens; a look costs 0.0000004 dollars.
pub(super) const QUICKEST_LOOK: Duration = Duration::from_millis(250);
/// The same, while nothing happens.
const SLOWEST_LOOK: Duration = Duration::from_secs(2);
/// How long a start that finds no room is waited for under the lease, before others get the turn.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a start may go unanswered in one attempt.
const UNANSWERED: u32 = 3;
/// Whenever it has cost so many dollars more, that is written down.
const ACCOUNT: f64 = 0.01;

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

/// The code of a render that somebody has cancelled at AWS.
const CANCELLED: &str = "lambda_cancelled";

/// Why a course ended without an output.
pub(super) enum End {
    Stopped,
    Failed(Failure),
    /// Nothing can be started now, for this reason.
    Throttled(String),
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
                if failure.code == "site_unreachable" {
                    self.doubt_site();
                }
                self.log.line("worker", &format!("failed: {failure}"));
                if let Some(stack) = &failure.stack {
                    self.log.line("lambda", stack);
                }
                RunEvent::Failed(failure)
            }
            Err(End::Throttled(why)) => {
                self.log.line("worker", &format!("nothing can be started now; handed back: {why}"));
                tracing::warn!(render.id = %self.job.render, why, "nothing can be started on Lambda now; a render is handed back");
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
        let mut found = self.attach().await?;
        loop {
            let attached = found.is_some();
            let (seat, render_id) = match found.take() {
                Some(found) => found,
                None => self.start().await?,
            };
            let Some(trace) = self.trace.clone() else { return Err(End::Stopped) };
            let output = self.follow(&seat, &trace, &render_id).await;
            if let Err(End::Failed(failure)) = &output {
                self.dealt_with().await?;
                // An earlier attempt asked it to stop, and did not live to see that it did.
                if attached && failure.code == CANCELLED {
                    self.log.line("worker", "it was cancelled; starting anew");
                    continue;
                }
            }
            return output;
        }
    }

    /// The render that an earlier attempt has started, or may have started.
    async fn attach(&mut self) -> Result<Option<(Seat, String)>, End> {
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
        let seat = place.occupy();
        let gone = match self.seen(&seat, &trace, &render_id).await? {
            // It was stopped by somebody who could not wait for the end, or did, and has cleared up. What is wanted now is
            // another one.
            Some(Seen { state: State::Cancelled, cost_in_usd, .. }) => {
                self.has_cost(cost_in_usd);
                "it was cancelled"
            }
            // Whoever starts one writes of it before he says its name.
            None => "its files were deleted",
            Some(_) => return Ok(Some((seat, render_id))),
        };
        self.log.line("worker", &format!("{gone}; starting anew"));
        Ok(None)
    }

    /// Starts it, once, at a place that has room.
    async fn start(&mut self) -> Result<(Seat, String), End> {
        let spent = self.trace.as_ref().map_or(0.0, Trace::spent);
        if let Some(most) = self.max_cost().filter(|most| spent > 0.0 && spent >= *most) {
            return Err(End::Failed(cost_exceeded(spent, most)));
        }
        let give_up = Instant::now() + PATIENCE;
        let mut unanswered = 0;
        let mut busy = "all functions that fit are".to_owned();
        loop {
            let seat = match self.fleet.choose(&self.job.request, &self.job.site.remotion_version) {
                Choice::Seat(seat) => seat,
                Choice::Later(until) if until < give_up => {
                    self.tell.pause(until.saturating_duration_since(Instant::now())).await?;
                    continue;
                }
                Choice::Later(_) => return Err(End::Throttled(busy)),
                Choice::Nowhere(why) => {
                    return Err(End::Failed(Failure::new("lambda_not_configured", why, false)));
                }
            };
            // A site may be large: a stop does not wait for it.
            let answer = match self.tell.unless_stopped(prepared(&seat, &self.job)).await? {
                Ok((bucket, serve_url)) => {
                    let trace = self.intend(seat.address(bucket)).await?;
                    self.send(&seat, &trace, &serve_url).await?
                }
                Err(refusal) => Err(NotStarted::Refused(refusal)),
            };
            match answer {
                Ok(Started { render_id, cost_in_usd }) => {
                    seat.accepted();
                    self.log.line("worker", &format!("started {render_id} at {}", seat.function));
                    self.has_cost(cost_in_usd);
                    self.answered(&render_id).await?;
                    return Ok((seat, render_id));
                }
                Err(NotStarted::Refused(Refusal::Passing(why))) => {
                    seat.throttled();
                    busy = format!("{} takes nothing now: {why}", seat.function);
                    self.log.line("worker", &busy);
                    self.dealt_with().await?;
                }
                Err(NotStarted::Refused(Refusal::Final(failure))) => {
                    self.dealt_with().await?;
                    return Err(End::Failed(failure));
                }
                Err(NotStarted::Unanswered(why)) => {
                    unanswered += 1;
                    self.log.line("worker", &format!("the answer to the start was lost: {why}"));
                    let found = match self.trace.clone() {
                        Some(trace) => self.find(&seat, &trace).await?,
                        None => None,
                    };
                    if let Some(render_id) = found {
                        self.answered(&render_id).await?;
                        return Ok((seat, render_id));
                    }
                    if unanswered == UNANSWERED {
                        let message = format!("{} does not answer: {why}", seat.function);
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
    ) -> Result<Result<Started, NotStarted>, End> {
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
        let spent_before = self.trace.as_ref().map_or(0.0, Trace::spent);
        let trace = Trace::intent(self.job.render, start, address, extension, self.clock.now());
        let trace = Trace { spent_before, ..trace };
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
            Some(trace) if !trace.over => self.write_down(Trace { over: true, ..trace }).await,
            _ => Ok(()),
        }
    }

    /// What the start has cost so far. It is written down with what is written next.
    fn has_cost(&mut self, dollars: f64) {
        if let Some(trace) = &mut self.trace {
            trace.cost = trace.cost.max(dollars);
        }
    }

    /// What all starts of it may cost.
    fn max_cost(&self) -> Option<f64> {
        let asked = self.job.request.queue.as_ref().and_then(|queue| queue.max_cost);
        asked.into_iter().chain(self.habits.max_cost).reduce(f64::min)
    }

    /// Somebody may have deleted the site from the bucket.
    fn doubt_site(&self) {
        if let Some(trace) = &self.trace
            && let Some(place) = self.fleet.at(&trace.address)
        {
            place.remote.doubt(&trace.address.bucket, &self.job.site);
        }
    }

    async fn write_down(&mut self, trace: Trace) -> Result<(), End> {
        let checkpoint = trace.checkpoint();
        self.trace = Some(trace);
        Ok(self.tell.checkpoint(checkpoint).await?)
    }

    /// Looks for a start that was not answered. A render says its output's name as soon as its composition is known; until
    /// then a recent one may be it.
    pub(super) async fn find(&mut self, place: &Place, trace: &Trace) -> Result<Option<String>, End> {
        self.log.line("worker", &format!("looking for start {} in the bucket", trace.start));
        let settle = match self.job.kind {
            Kind::Media => self.habits.settle,
            // It is answered when it is made.
            Kind::Still => self.habits.settle.max(place.timeout),
        };
        // From now: when the request was on its way for the last time is not known.
        let settled_at = self.clock.now() + settle;
        let mut patience = Patience::default();
        loop {
            let asked_at = self.clock.now();
            match looked_for(place, trace, self.job.kind, asked_at, settled_at).await {
                Ok(Sighting::Found(render_id)) => return Ok(Some(render_id)),
                Ok(Sighting::Nothing) if asked_at >= settled_at => return Ok(None),
                Ok(Sighting::Nothing | Sighting::Perhaps) => {}
                Err(error) => {
                    self.log.line("worker", &format!("cannot look into the bucket: {error}; trying again"));
                    if let Some(failure) = patience.tried_by(&error, &trace.address.bucket) {
                        return Err(End::Failed(failure));
                    }
                }
            }
            self.tell.pause(SLOWEST_LOOK).await?;
        }
    }

    /// What there is to see of a render, once there is anything.
    async fn seen(&mut self, place: &Place, trace: &Trace, render_id: &str) -> Result<Option<Seen>, End> {
        let (mut told, mut patience) = (false, Patience::default());
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
                    if let Some(failure) = patience.tried_by(&error, &trace.address.bucket) {
                        // Whoever may not read may still be allowed to write: nobody will follow it any more.
                        place.remote.cancel(at(trace, render_id, self.job.kind)).await.ok();
                        self.dealt_with().await?;
                        return Err(End::Failed(failure));
                    }
                    self.tell.pause(SLOWEST_LOOK).await?;
                }
            }
        }
    }

    /// Watches over it until it ends.
    async fn follow(&mut self, place: &Place, trace: &Trace, render_id: &str) -> Result<Output, End> {
        let mut look = QUICKEST_LOOK;
        let (mut pulse, mut beat_at) = (None, Instant::now());
        let (mut last, mut costs) = (Progress::START, trace.cost);
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
            self.has_cost(seen.cost_in_usd);
            if seen.cost_in_usd >= costs + ACCOUNT {
                costs = seen.cost_in_usd;
                self.log
                    .line("lambda", &format!("{} frames, {costs:.3} dollars so far", last.frames_rendered));
                // Should this attempt be cut off, the next one knows it.
                if let Some(trace) = self.trace.clone() {
                    self.write_down(trace).await?;
                }
            }
            match &seen.state {
                State::Running => {
                    if let Some(failure) = self.overdue(&seen, beat_at, trace.spent_before) {
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
                    return Err(End::Failed(Failure::new(CANCELLED, message, false)));
                }
                State::Failed(failure) => return Err(End::Failed(failure.clone())),
            }
            self.tell.pause(look).await?;
        }
    }

    /// Why it is not worth waiting for any longer.
    fn overdue(&self, seen: &Seen, beat_at: Instant, spent_before: f64) -> Option<Failure> {
        let spent = spent_before + seen.cost_in_usd;
        if let Some(most) = self.max_cost().filter(|most| spent > *most) {
            return Some(cost_exceeded(spent, most));
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
        let mut patience = Patience::default();
        let found = loop {
            match place.remote.size(&trace.address.bucket, key).await {
                Ok(found) => break found,
                Err(error) => {
                    self.log.line("worker", &format!("cannot look at the output: {error}; trying again"));
                    if let Some(failure) = patience.tried_by(&error, &trace.address.bucket) {
                        return Err(End::Failed(failure));
                    }
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
        let cost = trace.spent_before + trace.cost.max(seen.cost_in_usd);
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
            cost_in_usd: (cost > 0.0).then_some(cost),
            ..Output::default()
        })
    }
}

/// Where the render will lie, and what the function will open.
async fn prepared(place: &Place, job: &Job) -> Result<(String, String), Refusal> {
    let bucket = place.remote.bucket().await?;
    let serve_url = place.remote.serve_url(&bucket, &job.site).await?;
    Ok((bucket, serve_url))
}

fn cost_exceeded(spent: f64, most: f64) -> Failure {
    let message = format!("it has cost {spent:.4} dollars so far, and may cost {most} (queue.maxCost)");
    Failure::new("cost_exceeded", message, false)
}
