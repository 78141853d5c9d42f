//! Keeps a lease while something is done under it, and stops that when the lease, its owner or the time says so.

use std::future::Future;
use std::time::Duration;

use lastframe_core::ports::{LeaseError, Queue};
use lastframe_core::{Checkpoint, Lease, Progress};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::error_chain;

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

pub(crate) struct Heartbeat<'a> {
    pub(crate) queue: &'a dyn Queue,
    pub(crate) lease: &'a Lease,
    pub(crate) every: Duration,
    pub(crate) deadline: Instant,
    pub(crate) hand_back: &'a CancellationToken,
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
        tokio::pin!(work);
        let mut ticks = interval_at(Instant::now() + self.every, self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                () = self.hand_back.cancelled() => return Err(Interrupt::Draining),
                () = sleep_until(self.deadline) => return Err(Interrupt::TimedOut),
                _ = ticks.tick() => self.beat(vitals).await?,
            }
        }
    }

    async fn beat(&mut self, vitals: &watch::Receiver<Vitals>) -> Result<(), Interrupt> {
        let asked_at = Instant::now();
        let Vitals { progress, checkpoint } = vitals.borrow().clone();
        match self.queue.extend(self.lease.render.id, &self.lease.token, progress, checkpoint).await {
            Ok(extended) if extended.cancel_requested => Err(Interrupt::Cancelled),
            Ok(_) => {
                self.held_at = asked_at;
                Ok(())
            }
            Err(LeaseError::Lost) => Err(Interrupt::Lost),
            // The queue may have given the lease to somebody else by now without our hearing of it.
            Err(LeaseError::Queue(_)) if self.held_at.elapsed() >= self.lease.duration => {
                Err(Interrupt::Lost)
            }
            Err(error @ LeaseError::Queue(_)) => {
                tracing::warn!(error = error_chain(&error), "could not extend the lease; trying again");
                Ok(())
            }
        }
    }
}
