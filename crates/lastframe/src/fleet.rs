//! A machine of a fleet, composed on one page: it takes renders from a queue on AWS, as many others may, makes them as a
//! server makes its own, and puts what it made into the queue's bucket. It listens on nothing.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use jiff::SignedDuration;
use lastframe_aws::SdkConfig;
use lastframe_aws::queue::{self, AwsQueue};
use lastframe_core::ports::{Directory, Queue, Renderer};
use lastframe_core::{Clock, Observer, Render, RenderId, RendererName};
use lastframe_worker::Shutdown;
use lastframe_worker::local::LocalRenderer;
use lastframe_worker::logs::Logs;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{AccessKey, AccessKeys, Config};
use crate::data::DataFolder;
use crate::machine::Machine;
use crate::outputs::Places;
use crate::renderers::Renderers;
use crate::sites::Bringing;

/// How often a render tells how far it is, at least: each time is a write that is paid for.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often the queue is asked what time has brought about. Every machine asks, and so does the stack once a minute: who of
/// them comes first does not matter.
const SWEEP: Duration = Duration::from_secs(20);
/// How often warm browsers are looked at.
const STOP_IDLE: Duration = Duration::from_secs(30);

/// How long logs of attempts stay on this machine: nobody tells it when their renders are forgotten.
const KEEP_LOGS: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How often they are looked at.
const FORGET_LOGS: Duration = Duration::from_secs(60 * 60);

/// Which queue a machine works for, and how.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) sdk: SdkConfig,
    pub(crate) table: String,
    pub(crate) queue_url: String,
    pub(crate) dead_letters_url: Option<String>,
    pub(crate) timers_url: Option<String>,
    pub(crate) bucket: String,
    /// What the machine is called.
    pub(crate) name: String,
    /// What makes the renders that it takes.
    pub(crate) renderer: RendererName,
}

/// A machine at work.
#[derive(Debug)]
pub(crate) struct Member {
    machine: Machine,
    shutdown: Shutdown,
    worker: JoinHandle<()>,
    housekeeping: JoinHandle<()>,
    close: CancellationToken,
    // Last, so that the folder is given up only when nothing uses it any more.
    _folder: DataFolder,
}

impl Member {
    /// Opens the data folder and the queue, and starts to work.
    ///
    /// # Errors
    /// When the folder is in use, or the queue or its bucket cannot be used.
    pub(crate) async fn start(mut config: Config, post: Post, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let folder = DataFolder::open(&config.data)?;
        let region = post.sdk.region().map(ToString::to_string);
        let keys = Arc::new(Keys(post.sdk.clone()));
        config.storage = config.storage.of_stack(&post.bucket, region, keys);
        let machine = Machine::open(&config, &folder, &clock).await?;
        let taken_over = Arc::new(TakenOver::default());
        let observer = Arc::clone(&taken_over) as Arc<dyn Observer>;
        let options = queue::Options {
            table: post.table,
            queue_url: post.queue_url,
            dead_letters_url: post.dead_letters_url,
            timers_url: post.timers_url,
            bucket: post.bucket,
            lease: config.lease,
            retry: config.retry,
            limits: config.limits,
        };
        let queue = AwsQueue::open(&post.sdk, options, Arc::clone(&clock), Arc::clone(&observer)).await;
        let queue = Arc::new(queue.context("cannot open the queue")?);
        let here = Bringing {
            folder: folder.join("sites"),
            incoming: folder.join("incoming"),
            renderers: Arc::clone(&machine.renderers),
            http: machine.http.clone(),
            then: Arc::clone(&machine.local) as Arc<dyn Renderer>,
            one_at_a_time: Arc::default(),
        };
        let renderer =
            Renderers::new(&config, Arc::new(here), machine.on_lambda.clone()).always(post.renderer);
        let at_once = match post.renderer {
            RendererName::Local => config.concurrency,
            RendererName::Lambda => config.lambda.concurrency,
        };
        let worker = machine.worker(
            Arc::clone(&queue) as Arc<dyn Queue>,
            Arc::clone(&queue) as Arc<dyn Directory>,
            Arc::new(renderer),
            observer,
            Machine::options(&config, post.name, at_once, HEARTBEAT),
        );
        let (shutdown, close) = (Shutdown::default(), CancellationToken::new());
        let worker = tokio::spawn(Arc::new(worker).run(shutdown.clone()));
        let house = House {
            queue,
            outputs: Arc::clone(&machine.outputs),
            taken_over,
            local: Arc::clone(&machine.local),
            logs: machine.logs.clone(),
            // A machine that died is to be noticed soon after its lease.
            sweep: SWEEP.min(config.lease / 2),
        };
        let housekeeping = tokio::spawn(house.keep(close.clone()));
        Ok(Self { machine, shutdown, worker, housekeeping, close, _folder: folder })
    }

    /// Stops taking renders, lets those that run finish within the grace time or hands them back, and ends.
    /// Cancelling `now` skips the wait.
    pub(crate) async fn stop(self, now: CancellationToken) -> anyhow::Result<()> {
        self.shutdown.drain.cancel();
        let hurry = self.shutdown.now.clone();
        let hurrying = tokio::spawn(async move {
            now.cancelled().await;
            hurry.cancel();
        });
        self.worker.await.context("the worker panicked")?;
        hurrying.abort();
        self.machine.local.stop().await;
        self.close.cancel();
        self.housekeeping.await.context("the housekeeping panicked")
    }
}

/// The SDK finds keys where nothing else does: in profiles, by programs, by roles.
#[derive(Debug)]
struct Keys(SdkConfig);

#[async_trait]
impl AccessKeys for Keys {
    async fn find(&self) -> io::Result<AccessKey> {
        let found = lastframe_aws::credentials(&self.0).await?;
        Ok(AccessKey {
            id: found.access_key_id().to_owned(),
            secret: found.secret_access_key().to_owned(),
            session: found.session_token().map(str::to_owned),
        })
    }
}

/// Renders that were begun before they came here. What an earlier attempt has put among the outputs without finishing is
/// removed once they have ended: there may be too many outputs to look through them all.
#[derive(Debug, Default)]
struct TakenOver(Mutex<BTreeSet<RenderId>>);

impl Observer for TakenOver {
    fn claimed(&self, render: &Render, _took: Duration) {
        if render.leases > 1 {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(render.id);
        }
    }
}

/// What is to be done beside the renders.
struct House {
    queue: Arc<AwsQueue>,
    outputs: Arc<Places>,
    taken_over: Arc<TakenOver>,
    local: Arc<LocalRenderer>,
    logs: Logs,
    sweep: Duration,
}

impl House {
    async fn keep(self, close: CancellationToken) {
        let mut sweep = tokio::time::interval(self.sweep);
        let mut stop_idle = tokio::time::interval(STOP_IDLE);
        let mut forget_logs = tokio::time::interval(FORGET_LOGS);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = close.cancelled() => return,
                _ = sweep.tick() => {
                    if let Err(error) = self.queue.sweep().await {
                        tracing::error!(error = &error as &dyn std::error::Error, "cannot sweep the queue");
                    }
                    self.clear_up().await;
                }
                _ = stop_idle.tick() => self.local.stop_idle().await,
                _ = forget_logs.tick() => self.forget_logs().await,
            }
        }
    }

    async fn forget_logs(&self) {
        let logs = self.logs.clone();
        let forgotten = tokio::task::spawn_blocking(move || logs.forget_before(logs.now() - KEEP_LOGS)).await;
        match forgotten.map_err(io::Error::other) {
            Ok(Ok(0)) => {}
            Ok(Ok(renders)) => tracing::info!(renders, "removed old logs"),
            Ok(Err(error)) | Err(error) => tracing::warn!(%error, "cannot remove old logs"),
        }
    }

    /// Looks at the outputs of renders that were taken over and have ended by now.
    async fn clear_up(&self) {
        let renders = self.taken_over.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for id in renders {
            let swept = async {
                let render = self.queue.get(id).await.map_err(io::Error::other)?;
                if render.is_some_and(|render| !render.status.is_terminal()) {
                    return Ok(None);
                }
                self.outputs.sweep_render(self.queue.as_ref(), id).await.map(Some)
            };
            match swept.await {
                Ok(None) => continue,
                Ok(Some(0)) => {}
                Ok(Some(files)) => {
                    tracing::info!(render.id = %id, files, "removed what earlier attempts had left");
                }
                Err(error) => {
                    tracing::warn!(render.id = %id, %error, "cannot sweep the outputs of a render; trying again");
                    continue;
                }
            }
            self.taken_over.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        }
    }
}
