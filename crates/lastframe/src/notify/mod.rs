//! Telling people that their renders have ended, by whatever channel they asked for.
//!
//! What is owed lies in the [`Outbox`]; this takes what is due, hands it to the [`Courier`] of its channel, and writes down how
//! it went. A delivery that was taken and never settled is taken again: everything is told at least once.

pub(crate) mod email;
mod name;
mod routes;
mod webhook;

use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use jiff::Timestamp;
use lastframe_core::notice::Channel;
use lastframe_core::outbox::{Due, Outbox, Route, Settled, Try};
use lastframe_core::ports::QueueError;
use lastframe_core::{Clock, Observer};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) use self::name::{name, parse_name};
pub(crate) use self::routes::Routes;
pub(crate) use self::webhook::WebhookCourier;

/// How long somebody who took a delivery has to settle it.
const HOLD: Duration = Duration::from_secs(120);
/// The longest a go may take. Well below the hold, so that it is settled by who took it.
const LONGEST_GO: Duration = Duration::from_secs(60);
/// How long the next try waits after each failed one: those of Standard Webhooks, three days in all.
const WAITS: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 60 * 60),
    Duration::from_secs(5 * 60 * 60),
    Duration::from_secs(10 * 60 * 60),
    Duration::from_secs(14 * 60 * 60),
    Duration::from_secs(20 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
];
/// The longest that a receiver may put the next try off.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the clocks are looked at while something is waited for: wall time may jump.
const LOOK: Duration = Duration::from_secs(1);
/// How long an outbox that cannot answer is left alone.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a go is written down again if that fails, a second apart.
const SETTLE_TRIES: u32 = 30;
/// How long goes that are under way may go on when the server stops.
const DRAIN: Duration = Duration::from_secs(5);

/// How a go at a delivery went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It was taken.
    Delivered {
        /// What the other side answered.
        code: Option<u16>,
    },
    /// It was not, and may be another time.
    Retry {
        /// What the other side answered, if it did.
        code: Option<u16>,
        /// Why, for whoever the render belongs to.
        error: String,
        /// Not before that, if the other side says so.
        after: Option<Duration>,
    },
    /// It was not, and never will be.
    Refused {
        /// What the other side answered.
        code: Option<u16>,
        /// Why, for whoever the render belongs to.
        error: String,
    },
}

/// Brings what is owed to where it belongs.
#[async_trait]
pub(crate) trait Courier: Debug + Send + Sync {
    /// One go. It ends within [`LONGEST_GO`]; it may be cut off at any time.
    async fn deliver(&self, due: &Due) -> Told;
}

/// Who brings what.
#[derive(Debug)]
pub(crate) struct Couriers {
    pub(crate) webhook: Arc<dyn Courier>,
    /// None where the server is not told how to send mail.
    pub(crate) email: Option<Arc<dyn Courier>>,
}

impl Couriers {
    fn of(&self, channel: Channel) -> Option<Arc<dyn Courier>> {
        match channel {
            Channel::Webhook => Some(Arc::clone(&self.webhook)),
            Channel::Email => self.email.clone(),
        }
    }
}

/// When a notifier stops.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    /// It takes what is due by now, and nothing after that.
    pub(crate) drain: CancellationToken,
    /// It drops what is under way. The outbox gives that again.
    pub(crate) now: CancellationToken,
}

/// Takes what is due and sees to it.
#[derive(Debug)]
pub(crate) struct Notifier {
    pub(crate) outbox: Arc<dyn Outbox>,
    pub(crate) couriers: Arc<Couriers>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observer: Arc<dyn Observer>,
}

/// When to look again, unless something happens before.
#[derive(Clone, Copy, Debug, Default)]
struct Alarm {
    wall: Option<Timestamp>,
    monotonic: Option<Duration>,
}

/// A go that is over.
struct Gone {
    route: Route,
    /// Whether somebody was there, whatever they said.
    reached: bool,
}

impl Notifier {
    /// Works until told to stop.
    pub(crate) async fn run(self, stop: Stop) {
        let (mut routes, mut under_way) = (Routes::default(), JoinSet::new());
        while !stop.drain.is_cancelled() {
            let alarm = self.turn(&mut routes, &mut under_way).await.unwrap_or_else(|error| {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot look for what is due to be told"
                );
                Alarm { wall: None, monotonic: Some(self.clock.monotonic() + PATIENCE) }
            });
            tokio::select! {
                () = stop.drain.cancelled() => {}
                Some(gone) = under_way.join_next() => self.over(&mut routes, gone),
                () = self.outbox.owed() => {}
                () = self.rings(alarm) => {}
            }
        }
        // What ended while the worker drained is told before this server goes, if it can be told at once.
        if let Err(error) = self.turn(&mut routes, &mut under_way).await {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot tell what has just ended");
        }
        tokio::select! {
            _ = tokio::time::timeout(DRAIN, async { while under_way.join_next().await.is_some() {} }) => {}
            () = stop.now.cancelled() => {}
        }
    }

    /// Sees to what is due now, and returns when nothing more is. Once it is to drain it begins nothing, and what is under way
    /// is dropped when it is to stop now: the outbox gives that again. What it learns of `routes` is for the next pass.
    pub(crate) async fn pass(&self, routes: &mut Routes, stop: &Stop) -> Result<(), QueueError> {
        let mut under_way = JoinSet::new();
        loop {
            if !stop.drain.is_cancelled() {
                self.turn(routes, &mut under_way).await?;
            }
            tokio::select! {
                gone = under_way.join_next() => match gone {
                    Some(gone) => self.over(routes, gone),
                    None => return Ok(()),
                },
                () = stop.now.cancelled() => {
                    routes.drop_all();
                    return Ok(());
                }
            }
        }
    }

    /// Takes what there is room for, and says when to look again.
    async fn turn(&self, routes: &mut Routes, under_way: &mut JoinSet<Gone>) -> Result<Alarm, QueueError> {
        while let Some(gone) = under_way.try_join_next() {
            self.over(routes, gone);
        }
        let before = self.clock.now();
        let room = routes.room(self.clock.monotonic());
        if !room.is_full() {
            for due in self.outbox.take_due(room, HOLD).await? {
                routes.begin(due.delivery.route());
                under_way.spawn(self.go(due));
            }
        }
        // What was due before then was taken, or waits for room: for a go that ends, or for an endpoint that opens.
        let wall = self.outbox.next_due(before).await?;
        self.observer.deliveries_pending(self.outbox.delivery_counts().await?.pending);
        Ok(Alarm { wall, monotonic: routes.next_opening(self.clock.monotonic()) })
    }

    /// Returns when the time of the alarm has come; never if it has none.
    async fn rings(&self, alarm: Alarm) {
        let left = || {
            let wall =
                alarm.wall.map(|at| Duration::try_from(at - self.clock.now()).unwrap_or(Duration::ZERO));
            let monotonic = alarm.monotonic.map(|at| at.saturating_sub(self.clock.monotonic()));
            wall.into_iter().chain(monotonic).min()
        };
        loop {
            match left() {
                Some(left) if left.is_zero() => return,
                Some(left) => tokio::time::sleep(left.min(LOOK)).await,
                None => std::future::pending().await,
            }
        }
    }

    fn over(&self, routes: &mut Routes, gone: Result<Gone, tokio::task::JoinError>) {
        // Nothing in a go panics but what was caught there, and nobody cuts one off before the end.
        if let Ok(Gone { route, reached }) = gone {
            routes.end(&route, reached, self.clock.monotonic());
        }
    }

    /// One go at a delivery, written down.
    fn go(&self, due: Due) -> impl Future<Output = Gone> + Send + 'static {
        let (outbox, clock) = (Arc::clone(&self.outbox), Arc::clone(&self.clock));
        let (couriers, observer) = (Arc::clone(&self.couriers), Arc::clone(&self.observer));
        async move {
            let (at, begun) = (clock.now(), clock.monotonic());
            let told = match couriers.of(due.notice.channel) {
                Some(courier) => within_limits(courier.as_ref(), &due).await,
                None => {
                    let error = "this server is not told how to send mail".to_owned();
                    Told::Retry { code: None, error, after: None }
                }
            };
            let took_ms = u64::try_from((clock.monotonic() - begun).as_millis()).unwrap_or(u64::MAX);
            let (settled, code, error) = settle(told, due.delivery.tries);
            log(&due, settled, code, error.as_deref());
            let reached = reached(settled, code) || couriers.of(due.notice.channel).is_none();
            let tried = Try { at, took_ms, code, error };
            write_down(outbox.as_ref(), &due, tried, settled).await;
            observer.delivered(due.notice.channel.as_str(), outcome(settled));
            Gone { route: due.delivery.route(), reached }
        }
    }
}

/// A go that ends, whatever the courier does.
async fn within_limits(courier: &dyn Courier, due: &Due) -> Told {
    let retry = |error: &str| Told::Retry { code: None, error: error.to_owned(), after: None };
    match tokio::time::timeout(LONGEST_GO, AssertUnwindSafe(courier.deliver(due)).catch_unwind()).await {
        Ok(Ok(told)) => told,
        // The panic itself is in the log already.
        Ok(Err(_)) => retry("something failed inside; it is in the server's log"),
        Err(_) => retry("it took too long"),
    }
}

/// What becomes of a delivery that had `tries` before this go, what was answered, and why it was not taken.
fn settle(told: Told, tries: u32) -> (Settled, Option<u16>, Option<String>) {
    match told {
        Told::Delivered { code } => (Settled::Delivered, code, None),
        Told::Refused { code, error } => (Settled::Failed, code, Some(error)),
        Told::Retry { code, error, after } => {
            let usual = WAITS.get(usize::try_from(tries).unwrap_or(usize::MAX));
            let settled = usual.map_or(Settled::Failed, |usual| {
                // So that all that failed at one moment does not come back at one moment.
                let usual = usual.mul_f64(0.9 + 0.2 * fastrand::f64());
                Settled::Retry(after.map_or(usual, |after| usual.max(after.min(LONGEST_WAIT))))
            });
            (settled, code, Some(error))
        }
    }
}

/// Whether somebody was there. Who answers says something about what was asked, and nothing about what is asked next; but
/// for a mail server that is shutting down (421), a host that has had too much, and a proxy before nobody.
const fn reached(settled: Settled, code: Option<u16>) -> bool {
    !matches!((settled, code), (Settled::Retry(_), None | Some(421 | 429 | 502 | 503 | 504)))
}

const fn outcome(settled: Settled) -> &'static str {
    match settled {
        Settled::Delivered => "delivered",
        Settled::Retry(_) => "retried",
        Settled::Failed => "failed",
    }
}

fn log(due: &Due, settled: Settled, code: Option<u16>, error: Option<&str>) {
    let (id, render) = (name(&due.delivery), due.delivery.render);
    let (channel, endpoint) = (due.notice.channel, &due.delivery.endpoint);
    let error = error.unwrap_or_default();
    match settled {
        Settled::Delivered => {
            tracing::info!(delivery.id = id, render.id = %render, %channel, endpoint, code, "told that a render has ended");
        }
        Settled::Retry(wait) => {
            let again_in = format!("{} s", wait.as_secs());
            tracing::warn!(delivery.id = id, render.id = %render, %channel, endpoint, code, error, again_in, "not told yet");
        }
        Settled::Failed => {
            tracing::warn!(delivery.id = id, render.id = %render, %channel, endpoint, code, error, "given up telling");
        }
    }
}

async fn write_down(outbox: &dyn Outbox, due: &Due, tried: Try, settled: Settled) {
    for attempt in 1..=SETTLE_TRIES {
        match outbox.settle(due.delivery.id, due.token, tried.clone(), settled).await {
            // False: it was held for too long, and is somebody else's now.
            Ok(true | false) => return,
            Err(error) if attempt == SETTLE_TRIES => {
                let (id, render) = (name(&due.delivery), due.delivery.render);
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, delivery.id = id, render.id = %render, "cannot write down what was told; it will be told again");
            }
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

#[cfg(test)]
mod tests;
