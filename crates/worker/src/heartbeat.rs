//! Keeps a lease while something is done under it, and stops that when the lease, its owner or the time says so.

use std::future::Future;
use std::time::Duration;

use lastframe_core::ports::{LeaseError, Queue};
use lastframe_core::{Checkpoint, Lease, Progress, error_chain};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// Why work under a lease was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// The lease is gone: nothing done from now on counts.
    Lost,
    /// Somebody asked for the render to stop.
    Cancelled,
    /// The attempt took longer than it may.
    TimedOut,
    /// The worker stops.
    Draining,
}

/// What a heartbeat brings to the queue.
#[derive(Clone, Debug)]
pub(crate) struct Vitals {
    pub(crate) progress: Progress,
    pub(crate) checkpoint: Option<Checkpoint>,
}

/// Lets work under a lease wait until its checkpoint is on disk.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    asked: Notify,
    kept: Notify,
}

impl Keeping {
    /// Returns when what the vitals hold is on disk.
    pub(crate) async fn keep(&self) {
        self.asked.notify_one();
        self.kept.notified().await;
    }
}

pub(crate) struct Heartbeat<'a> {
    pub(crate) queue: &'a dyn Queue,
    pub(crate) lease: &'a Lease,
    pub(crate) every: Duration,
    pub(crate) deadline: Instant,
    pub(crate) hand_back: &'a CancellationToken,
    pub(crate) keeping: &'a Keeping,
    /// When the lease was last known to hold, by a clock that cannot jump.
    pub(crate) held_at: Instant,
}

impl Heartbeat<'_> {
    /// Does `work`, extending the lease all the while with what `vitals` holds.
    pub(crate) async fn during<T>(
        &mut self,
        vitals: &watch::Receiver<Vitals>,
        work: impl Future<Output = T>,
    ) -> Result<T, Interrupt> {
        let (hand_back, deadline, keeping) = (self.hand_back, self.deadline, self.keeping);
        let ended = async {
            tokio::select! {
                done = work => Ok(done),
                () = hand_back.cancelled() => Err(Interrupt::Draining),
                () = sleep_until(deadline) => Err(Interrupt::TimedOut),
            }
        };
        tokio::pin!(ended);
        let mut ticks = interval_at(Instant::now() + self.every, self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waited_for = false;
        loop {
            tokio::select! {
                ended = &mut ended => return ended,
                _ = ticks.tick() => {}
                () = keeping.asked.notified() => waited_for = true,
            }
            let kept = tokio::select! {
                kept = self.beat(vitals) => kept?,
                // A queue that does not answer keeps neither the work waiting nor whoever wants it to stop.
                ended = &mut ended => return ended,
            };
            if kept && waited_for {
                keeping.kept.notify_one();
                waited_for = false;
            }
        }
    }

    /// Waits for `stopping`, extending the lease for as long as it holds: what stops elsewhere may take its time.
    pub(crate) async fn while_stopping(
        &mut self,
        vitals: &watch::Receiver<Vitals>,
        stopping: impl Future<Output = ()>,
    ) {
        tokio::pin!(stopping);
        let mut ticks = interval_at(Instant::now() + self.every, self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut stopping => return,
                _ = ticks.tick() => {}
            }
            tokio::select! {
                () = &mut stopping => return,
                kept = self.beat(vitals) => if matches!(kept, Err(Interrupt::Lost)) {
                    return stopping.await;
                },
            }
        }
    }

    /// Extends the lease; tells whether that is on disk. It is waited for no longer than the lease holds.
    async fn beat(&mut self, vitals: &watch::Receiver<Vitals>) -> Result<bool, Interrupt> {
        let asked_at = Instant::now();
        let Vitals { progress, checkpoint } = vitals.borrow().clone();
        let left = self.lease.duration.saturating_sub(self.held_at.elapsed()).max(self.every);
        let extending = self.queue.extend(self.lease.render.id, &self.lease.token, progress, checkpoint);
        let Ok(extended) = timeout(left, extending).await else {
            tracing::warn!("the queue does not answer for as long as the lease holds");
            return Err(Interrupt::Lost);
        };
        match extended {
            Ok(extended) if extended.cancel_requested => Err(Interrupt::Cancelled),
            Ok(_) => {
                self.held_at = asked_at;
                Ok(true)
            }
            Err(LeaseError::Lost) => Err(Interrupt::Lost),
            // The queue may have given the lease to somebody else by now without our hearing of it.
            Err(LeaseError::Queue(_)) if self.held_at.elapsed() >= self.lease.duration => {
                Err(Interrupt::Lost)
            }
            Err(error @ LeaseError::Queue(_)) => {
                tracing::warn!(error = error_chain(&error), "could not extend the lease; trying again");
                Ok(false)
            }
        }
    }
}
