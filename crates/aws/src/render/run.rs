//! A run as the worker follows it: events out, a stop in.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use lastframe_core::Checkpoint;
use lastframe_core::ports::{Run, RunEvent, Stop};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// The run was told to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopped;

/// An event, and who waits until it is taken care of.
type Told = (RunEvent, Option<oneshot::Sender<()>>);

/// Tells events to whoever follows the run, and hears of a stop meanwhile.
pub(crate) struct Teller {
    events: mpsc::Sender<Told>,
    stop: watch::Receiver<Option<Stop>>,
    deaf: bool,
}

impl Teller {
    pub(crate) async fn event(&mut self, event: RunEvent) -> Result<(), Stopped> {
        self.tell((event, None)).await
    }

    /// Returns when the checkpoint is on disk.
    pub(crate) async fn checkpoint(&mut self, checkpoint: Checkpoint) -> Result<(), Stopped> {
        let (kept, keeping) = oneshot::channel();
        self.tell((RunEvent::Checkpoint(checkpoint), Some(kept))).await?;
        self.unless_stopped(keeping).await?.map_err(|_| Stopped)
    }

    /// Waits.
    pub(crate) async fn pause(&mut self, time: Duration) -> Result<(), Stopped> {
        if self.deaf {
            tokio::time::sleep(time).await;
            return Ok(());
        }
        self.unless_stopped(tokio::time::sleep(time)).await
    }

    pub(crate) async fn unless_stopped<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stopped> {
        tokio::select! {
            biased;
            () = stopped(&mut self.stop) => Err(Stopped),
            done = work => Ok(done),
        }
    }

    /// From now on it waits although it was told to stop: there is something to clear up.
    pub(crate) fn deafen(&mut self) {
        self.deaf = true;
    }

    async fn tell(&mut self, told: Told) -> Result<(), Stopped> {
        let events = self.events.clone();
        self.unless_stopped(events.send(told)).await?.map_err(|_| Stopped)
    }
}

async fn stopped(stop: &mut watch::Receiver<Option<Stop>>) {
    // Whoever drops the run wants nothing of it any more.
    stop.wait_for(Option::is_some).await.ok();
}

/// A run that goes on in a task of its own, so that following it can be interrupted at any point.
pub(crate) struct LambdaRun {
    events: mpsc::Receiver<Told>,
    waiting: Option<oneshot::Sender<()>>,
    stop: watch::Sender<Option<Stop>>,
    task: JoinHandle<()>,
}

#[cfg(test)]
impl LambdaRun {
    /// As if the machine had lost its power.
    pub(crate) fn abort(&self) {
        self.task.abort();
    }
}

/// The two ends of a run that does not go on yet.
pub(crate) struct Ends {
    events: mpsc::Receiver<Told>,
    stop: watch::Sender<Option<Stop>>,
}

impl Ends {
    /// Both ends: what a course tells by and hears a stop by, and what is made a run of.
    pub(crate) fn new() -> (Self, Teller, watch::Receiver<Option<Stop>>) {
        let (sender, events) = mpsc::channel(16);
        let (stop, stopping) = watch::channel(None);
        let teller = Teller { events: sender, stop: stopping.clone(), deaf: false };
        (Self { events, stop }, teller, stopping)
    }

    /// The run whose work the task does.
    pub(crate) fn run(self, task: JoinHandle<()>) -> LambdaRun {
        LambdaRun { events: self.events, waiting: None, stop: self.stop, task }
    }
}

#[async_trait]
impl Run for LambdaRun {
    async fn next(&mut self) -> RunEvent {
        // Being asked again is the word that the checkpoint is on disk.
        if let Some(waiting) = self.waiting.take() {
            waiting.send(()).ok();
        }
        match self.events.recv().await {
            Some((event, waiting)) => {
                self.waiting = waiting;
                event
            }
            None => std::future::pending().await,
        }
    }

    async fn stop(self: Box<Self>, why: Stop) {
        self.stop.send_replace(Some(why));
        drop(self.events);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a run panicked");
        }
    }
}
