//! The server, composed on one page.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use lastframe_core::outbox::Outbox;
use lastframe_core::{Clock, Observer, ports};
use lastframe_store::Store;
use lastframe_worker::Shutdown;
use lastframe_worker::local::LocalRenderer;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::audit::Audit;
use crate::config::Config;
use crate::data::DataFolder;
use crate::encryption::{Encryption, SealingKeys};
use crate::http::{self, Api};
use crate::identity::Identity;
use crate::links::Links;
use crate::listener;
use crate::live::Live;
use crate::machine::{self, Machine};
use crate::metrics::Metrics;
use crate::notify::email::{Mailer, Sender};
use crate::notify::{Courier, Couriers, Notifier, Stop, WebhookCourier};
use crate::outputs::Places;
use crate::rate::Rates;
use crate::renderers::Renderers as AllRenderers;
use crate::retention::Retention;
use crate::sites::{LocalLook, Sites};
use crate::space::Space;
use crate::tls::Tls;

/// How often the queue is asked what time has brought about.
const SWEEP: Duration = Duration::from_millis(200);
/// How often a render tells how far it is, at least.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often warm browsers are looked at.
const STOP_IDLE: Duration = Duration::from_secs(30);
/// How long connections may go on once everything else has stopped.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// A running server: API, queue and worker.
#[derive(Debug)]
pub struct App {
    /// Where it listens.
    pub address: SocketAddr,
    /// The same as a URL, for who is on this machine.
    pub url: String,
    /// Its data folder.
    pub data: std::path::PathBuf,
    shutdown: Shutdown,
    notifying: Stop,
    notifier: JoinHandle<()>,
    stopping: CancellationToken,
    worker: JoinHandle<()>,
    housekeeping: JoinHandle<()>,
    server: JoinHandle<()>,
    audit: Audit,
    close: CancellationToken,
    renderer: Arc<LocalRenderer>,
    // Last, so that the folder is given up only when nothing uses it any more.
    _folder: Arc<DataFolder>,
}

impl App {
    /// Opens the data folder, puts back what an earlier process left, and starts to listen and to work.
    ///
    /// # Errors
    /// When the folder is in use, the database cannot be opened, or the address is taken.
    pub async fn start(config: Config, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let folder = Arc::new(DataFolder::open(&config.data)?);
        let config = Arc::new(config);
        let metrics = Arc::new(Metrics::new(config.concurrency));
        let options = lastframe_store::Options {
            lease: config.lease,
            retry: config.retry,
            limits: config.limits,
            seed: None,
            keys: config.encryption.keys_or_new(folder.path())?,
            observer: Arc::clone(&metrics) as Arc<dyn Observer>,
        };
        let store = Arc::new(Store::open(folder.path(), Arc::clone(&clock), options).await?);
        let encryption = Arc::new(Encryption::new(Arc::clone(&store), config.encryption.clone()));
        let machine = Machine::open(&config, &folder, &clock).await?;
        let (outputs, logs) = (Arc::clone(&machine.outputs), machine.logs.clone());
        let renderer = Arc::clone(&machine.local);
        let sites = Sites {
            folder: folder.join("sites"),
            incoming: folder.join("incoming"),
            directory: Arc::clone(&store) as Arc<dyn ports::Directory>,
            look: Arc::new(LocalLook {
                renderer: Arc::clone(&renderer),
                renderers: Arc::clone(&machine.renderers),
            }),
            shelf: None,
            http: machine.http.clone(),
            max_size: config.max_bundle,
            origins: config.origins.clone().into(),
            changing: Arc::default(),
        };
        sites.recover().await.context("cannot clear up what was being added to the sites")?;

        let tls = config.tls.clone().map(Tls::open).transpose()?;
        let audit = Audit::open(folder.join("audit"))?;
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on {}", config.listen))?;
        let address = listener.local_addr()?;
        let url = format!("{}://{address}", if tls.is_some() { "https" } else { "http" });
        let public_url: Arc<str> = config.public_url.as_ref().unwrap_or(&url).as_str().into();
        let accounts = Arc::clone(&store) as Arc<dyn ports::Accounts>;
        let identity = Identity::open(
            Arc::clone(&folder),
            Arc::clone(&accounts),
            Arc::clone(&clock),
            &public_url,
            config.identity.clone(),
        );
        let identity = Arc::new(identity.await?);
        let links = Links::open(&folder, Arc::clone(&public_url))?;
        let bucket = config.storage.place.as_ref().map(|place| place.bucket.as_str());
        let webhook = WebhookCourier::new(
            config.webhooks.clone(),
            links.clone(),
            config.links.usual,
            bucket,
            Arc::clone(&clock),
        )?;
        let email = match &config.email {
            Some(settings) => {
                let sender = Sender::open(settings, &public_url, Arc::clone(&clock));
                let sender = sender.context("cannot make ready to send mail")?;
                let outputs = Arc::clone(&outputs) as Arc<dyn ports::Outputs>;
                let mailer = Mailer { sender, outputs, links: links.clone(), link_life: config.links.usual };
                Some(Arc::new(mailer) as Arc<dyn Courier>)
            }
            None => None,
        };
        let notifier = Notifier {
            outbox: Arc::clone(&store) as Arc<dyn Outbox>,
            couriers: Arc::new(Couriers { webhook: Arc::new(webhook), email }),
            clock: Arc::clone(&clock),
            observer: Arc::clone(&metrics) as Arc<dyn Observer>,
        };
        let notifying = Stop::default();
        let shutdown = Shutdown::default();
        let (stopping, close) = (CancellationToken::new(), CancellationToken::new());
        let queue = Arc::clone(&store) as Arc<dyn ports::Queue>;
        let live = Arc::new(Live::new(Arc::clone(&queue), config.http.max_streams)?);
        let api = Api {
            queue: Arc::clone(&queue),
            outbox: Arc::clone(&store) as Arc<dyn Outbox>,
            directory: Arc::clone(&store) as Arc<dyn ports::Directory>,
            accounts,
            outputs: Arc::clone(&outputs) as Arc<dyn ports::Outputs>,
            logs: logs.clone(),
            sites,
            identity,
            encryption: Some(Arc::clone(&encryption) as Arc<dyn SealingKeys>),
            clock: Arc::clone(&clock),
            rates: Arc::new(Rates::new(Arc::clone(&clock))),
            live: Some(Arc::clone(&live)),
            mails: config.email.is_some(),
            metrics: Arc::clone(&metrics),
            audit: audit.clone(),
            links,
            space: Arc::new(Space::new(
                folder.path().to_owned(),
                config.storage.min_free,
                Arc::clone(&clock),
            )),
            public_url,
            config: Arc::clone(&config),
            stopping: stopping.clone(),
        };
        let serving = listener::serve(listener, http::router(api), config.http.clone(), tls, close.clone());
        let server = tokio::spawn(serving);
        let on_lambda = machine.on_lambda.clone();
        let all = AllRenderers::new(&config, Arc::clone(&renderer) as Arc<dyn ports::Renderer>, on_lambda);
        let at_once =
            config.concurrency + machine.on_lambda.as_ref().map_or(0, |_| config.lambda.concurrency);
        let options = Machine::options(&config, machine::name(), at_once, HEARTBEAT);
        let directory = Arc::clone(&store) as Arc<dyn ports::Directory>;
        let worker = machine.worker(Arc::clone(&queue), directory, Arc::new(all), metrics, options);
        let worker = Arc::new(worker);
        let worker = tokio::spawn(worker.run(shutdown.clone()));
        let notifier = tokio::spawn(notifier.run(notifying.clone()));
        let swept = Arc::clone(&outputs);
        let old_audit = audit.clone().forget(config.audit_retention, Arc::clone(&clock), close.clone());
        let retention = Retention { queue, outputs, logs, clock, keep: config.retention }.run(close.clone());
        let leftovers = sweep_outputs(swept, Arc::clone(&store), close.clone());
        let sweeps = keep_house(store, Arc::clone(&renderer), close.clone());
        // A task of its own: whoever follows live waits for nothing else.
        let following = tokio::spawn(live.run(close.clone()));
        let closing = close.clone();
        let housekeeping = tokio::spawn(async move {
            tokio::join!(leftovers, sweeps, retention, old_audit, encryption.run(closing));
            if let Err(error) = following.await {
                tracing::error!(%error, "telling of changes panicked");
            }
        });
        // Under TLS a client wants the name that the certificate is for.
        folder.announce(config.public_url.as_ref().filter(|_| config.tls.is_some()).unwrap_or(&url))?;
        let data = folder.path().to_owned();
        Ok(Self {
            address,
            url,
            data,
            shutdown,
            notifying,
            notifier,
            stopping,
            worker,
            housekeeping,
            server,
            audit,
            close,
            renderer,
            _folder: folder,
        })
    }

    /// Stops taking renders, lets those that run finish within the grace time or hands them back, and ends.
    /// Cancelling `now` skips the wait.
    pub async fn stop(self, now: CancellationToken) -> anyhow::Result<()> {
        self.stopping.cancel();
        self.shutdown.drain.cancel();
        let (hurry, drop_notices) = (self.shutdown.now.clone(), self.notifying.now.clone());
        let hurrying = tokio::spawn(async move {
            now.cancelled().await;
            hurry.cancel();
            drop_notices.cancel();
        });
        self.worker.await.context("the worker panicked")?;
        // After the worker: what it has just finished is owed to somebody, too.
        self.notifying.drain.cancel();
        self.notifier.await.context("the notifier panicked")?;
        hurrying.abort();
        self.renderer.stop().await;
        self.close.cancel();
        self.housekeeping.await.context("the housekeeping panicked")?;
        if let Ok(ended) = tokio::time::timeout(LAST_ANSWERS, self.server).await {
            ended.context("the server panicked")?;
        }
        self.audit.flush().await;
        Ok(())
    }
}

/// Removes what earlier processes left among the outputs, unless told to stop; a million of them take their time.
async fn sweep_outputs(outputs: Arc<Places>, store: Arc<Store>, close: CancellationToken) {
    tokio::select! {
        () = close.cancelled() => {}
        swept = outputs.sweep(store.as_ref()) => match swept {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, "removed what attempts had left that did not finish"),
            Err(error) => tracing::error!(%error, "cannot sweep the outputs; the next start tries again"),
        },
    }
}

/// Sweeps the queue and the warm browsers until told to stop.
async fn keep_house(store: Arc<Store>, renderer: Arc<LocalRenderer>, close: CancellationToken) {
    let mut sweep = tokio::time::interval(SWEEP);
    let mut stop_idle = tokio::time::interval(STOP_IDLE);
    loop {
        tokio::select! {
            () = close.cancelled() => return,
            _ = sweep.tick() => {
                if let Err(error) = store.sweep().await {
                    tracing::error!(error = &error as &dyn std::error::Error, "cannot sweep the queue");
                }
            }
            _ = stop_idle.tick() => renderer.stop_idle().await,
        }
    }
}
