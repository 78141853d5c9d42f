//! Runs renders: claim, attempt, repeat.
//!
//! [`Worker::run`] is the loop, [`Worker::attempt`] one attempt from top to bottom, [`local`] is the renderer of this
//! machine. The worker knows its queue, renderer and outputs only as ports.

mod attempt;
mod heartbeat;
pub mod local;
pub mod logs;

use std::sync::Arc;
use std::time::Duration;

use lastframe_core::ports::{Directory, Outputs, Queue, Renderer};
use lastframe_core::{HandBack, Lease, Observer, error_chain};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// The longest that a claim waits for a render, and so the longest that a drain waits for a claim.
const CLAIM_WAIT: Duration = Duration::from_secs(1);

/// The longest that a worker waits before it asks again a queue that it cannot claim from; it begins with a second.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How a worker behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who holds the leases, as people will read it.
    pub name: String,
    /// Renders at once.
    pub concurrency: usize,
    /// The longest that one attempt may take, unless its request says otherwise.
    pub timeout: Duration,
    /// How often a lease is extended and progress recorded; well inside the lease.
    pub heartbeat: Duration,
    /// How long a finished file waits for a storage that does not take it, before the attempt fails.
    pub patience: Duration,
    /// How long a drain lets attempts go on before it hands them back.
    pub grace: Duration,
}

/// How a worker is stopped: gently, then at once.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Take nothing new; finish what runs within the grace time, or hand it back.
    pub drain: CancellationToken,
    /// Hand back what runs now.
    pub now: CancellationToken,
}

/// Takes renders from a queue and sees each attempt through.
#[derive(Debug)]
pub struct Worker {
    /// Where renders come from.
    pub queue: Arc<dyn Queue>,
    /// Where sites are looked up.
    pub directory: Arc<dyn Directory>,
    /// What makes the videos.
    pub renderer: Arc<dyn Renderer>,
    /// Where they go.
    pub outputs: Arc<dyn Outputs>,
    /// Hears of what it does.
    pub observer: Arc<dyn Observer>,
    /// How it behaves.
    pub options: Options,
}

impl Worker {
    /// Works until told to stop, and returns when no attempt of it is left.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let permits = Arc::new(Semaphore::new(self.options.concurrency));
        let hand_back = CancellationToken::new();
        let mut attempts = JoinSet::new();
        let mut pause = CLAIM_WAIT;
        while !shutdown.drain.is_cancelled() {
            while attempts.try_join_next().is_some_and(|ended| {
                log_panic(ended);
                true
            }) {}
            let permit = tokio::select! {
                permit = Arc::clone(&permits).acquire_owned() => permit,
                () = shutdown.drain.cancelled() => break,
            };
            let Ok(permit) = permit else { break };
            // Not raced against the drain: a claim that is dropped half-way may have taken a lease nobody knows of.
            let claimed = self.queue.claim(&self.options.name, CLAIM_WAIT).await;
            if claimed.is_ok() {
                pause = CLAIM_WAIT;
            }
            match claimed {
                Ok(Some(lease)) if shutdown.drain.is_cancelled() => self.give_back(lease).await,
                Ok(Some(lease)) => {
                    let (worker, hand_back) = (Arc::clone(&self), hand_back.clone());
                    attempts.spawn(async move {
                        worker.attempt(lease, &hand_back).await;
                        drop(permit);
                    });
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(error = error_chain(&error), "cannot claim; trying again");
                    // Ever more seldom: what it took and could not claim, others have to wait for.
                    tokio::select! {
                        () = tokio::time::sleep(pause) => pause = (2 * pause).min(LONGEST_PAUSE),
                        () = shutdown.drain.cancelled() => {}
                    }
                }
            }
        }
        self.drain(attempts, &hand_back, &shutdown.now).await;
    }

    /// Sees one attempt through, of a lease that somebody claimed, or hands it back when told to. Whatever happens is recorded
    /// in the queue.
    pub async fn attempt(&self, lease: Lease, hand_back: &CancellationToken) {
        let span = tracing::info_span!(
            "render.attempt",
            render.id = %lease.render.id,
            render.group = lease.render.group,
            attempt = lease.render.leases,
        );
        let _busy = Busy::new(&self.observer);
        attempt::attempt(self, lease, hand_back).instrument(span).await;
    }

    async fn drain(&self, mut attempts: JoinSet<()>, hand_back: &CancellationToken, now: &CancellationToken) {
        if !attempts.is_empty() {
            tracing::info!(
                attempts = attempts.len(),
                grace_in_seconds = self.options.grace.as_secs(),
                "finishing what runs"
            );
        }
        let finished = async {
            while let Some(ended) = attempts.join_next().await {
                log_panic(ended);
            }
        };
        tokio::pin!(finished);
        tokio::select! {
            () = &mut finished => return,
            () = tokio::time::sleep(self.options.grace) => {}
            () = now.cancelled() => {}
        }
        hand_back.cancel();
        finished.await;
    }

    async fn give_back(&self, lease: Lease) {
        if let Err(error) = self.queue.release(lease.render.id, &lease.token, HandBack::Draining).await {
            tracing::warn!(error = error_chain(&error), render.id = %lease.render.id, "could not hand back; the lease will expire");
        }
    }
}

/// While it is there a worker is busy, and panics do not keep it so.
struct Busy(Arc<dyn Observer>);

impl Busy {
    fn new(observer: &Arc<dyn Observer>) -> Self {
        observer.worker_busy();
        Self(Arc::clone(observer))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.worker_free();
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "an attempt panicked; its lease will expire");
    }
}
