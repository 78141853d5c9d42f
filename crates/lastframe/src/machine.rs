//! What renders on this machine, put together from the configuration: for the server, and for a worker of a queue that is
//! elsewhere.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use lastframe_core::ports::{Directory, Outputs, Queue, Renderer};
use lastframe_core::{Clock, Observer};
use lastframe_worker::Worker;
use lastframe_worker::local::{self, LocalRenderer, Renderers};
use lastframe_worker::logs::Logs;

use crate::client;
use crate::config::Config;
use crate::data::DataFolder;
use crate::lambda;
use crate::outputs::Places;

/// How long fetching a file of a site at a URL may take.
const FETCH: Duration = Duration::from_secs(30);

/// Browsers, Remotion Lambda, and where what they make is put.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) outputs: Arc<Places>,
    pub(crate) logs: Logs,
    /// Remotion, by version.
    pub(crate) renderers: Arc<Renderers>,
    /// For what lies at a URL.
    pub(crate) http: reqwest::Client,
    pub(crate) local: Arc<LocalRenderer>,
    /// If functions are configured.
    pub(crate) on_lambda: Option<Arc<dyn Renderer>>,
}

impl Machine {
    /// Makes ready to render, and tries the storage.
    ///
    /// # Errors
    /// When something is missing or wrong that a render would need; a storage that may only be away is none.
    pub(crate) async fn open(
        config: &Config,
        folder: &DataFolder,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let outputs = Arc::new(Places::open(folder.join("outputs"), &config.storage)?);
        match outputs.probe().await {
            Err(unfit) if unfit.may_pass() => tracing::warn!("{unfit}; what is rendered will wait for it"),
            probed => probed?,
        }
        let logs = Logs::new(folder.join("logs"), Arc::clone(clock));
        let renderers = Arc::new(config.renderers(folder.path()));
        let http = client::http()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(FETCH)
            .build()
            .context("cannot set up HTTP")?;
        let options = renderer_options(config, folder, Arc::clone(&renderers), http.clone())?;
        let local = LocalRenderer::new(options, logs.clone()).context("cannot make ready to render")?;
        let on_lambda = lambda::renderer(config, folder.join("sites"), logs.clone(), Arc::clone(clock))
            .context("cannot make ready to render on Remotion Lambda")?;
        Ok(Self { outputs, logs, renderers, http, local: Arc::new(local), on_lambda })
    }

    /// How the worker behaves: so many renders at once, each telling of itself at least so often.
    pub(crate) fn options(
        config: &Config,
        name: String,
        concurrency: usize,
        often: Duration,
    ) -> lastframe_worker::Options {
        lastframe_worker::Options {
            name,
            concurrency,
            timeout: config.timeout,
            heartbeat: (config.lease / 6).min(often),
            patience: config.storage.patience,
            grace: config.grace,
        }
    }

    /// Who takes renders from that queue and has `renderer` make them.
    pub(crate) fn worker(
        &self,
        queue: Arc<dyn Queue>,
        directory: Arc<dyn Directory>,
        renderer: Arc<dyn Renderer>,
        observer: Arc<dyn Observer>,
        options: lastframe_worker::Options,
    ) -> Worker {
        let outputs = Arc::clone(&self.outputs) as Arc<dyn Outputs>;
        Worker { queue, directory, renderer, outputs, observer, options }
    }
}

/// What a worker is called when nobody names it: by its machine and its process.
pub(crate) fn name() -> String {
    format!("{}-{}", rustix::system::uname().nodename().to_string_lossy(), std::process::id())
}

fn renderer_options(
    config: &Config,
    folder: &DataFolder,
    renderers: Arc<Renderers>,
    http: reqwest::Client,
) -> anyhow::Result<local::Options> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    Ok(local::Options {
        sites: folder.join("sites"),
        renderers,
        http,
        work: folder.join("work"),
        supervisor: vec![program.into(), crate::commands::SUPERVISE.into()],
        node: config.node.clone(),
        browser: config.browser.clone(),
        timezone: config.timezone.clone(),
        locale: config.locale.clone(),
        concurrency: config.concurrency,
        cores: config.cores,
        recycle: local::Recycle::default(),
        sandbox: config.sandbox,
        allow_hosts: config.allow_hosts.clone(),
        first_user: config.first_user,
        max_memory: config.max_memory,
        max_file: config.max_file,
    })
}
