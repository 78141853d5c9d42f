//! `lastframe serve`.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use lastframe_core::SystemClock;
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::say;
use super::signals::Signals;
use crate::app::App;
use crate::client::Failed;
use crate::config::{Config, Flags};
use crate::data::ADMIN_TOKEN;
use crate::exit::Exit;
use crate::telemetry::LogFormat;

#[derive(Args, Debug)]
pub(super) struct Serve {
    #[command(flatten)]
    flags: Flags,
    /// How log lines look
    #[arg(long, env = "LASTFRAME_LOG_FORMAT", value_enum, default_value_t)]
    pub(super) log_format: LogFormat,
}

/// Every connection, browser and output takes files; the usual limit of 1024 is for programs with few.
pub(super) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

impl Serve {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        // Nothing that is written is for other users.
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
        raise_open_files();
        let config = Config::load(self.flags).map_err(|error| Failed { exit: Exit::Usage, error })?;
        let (concurrency, browser) = (config.concurrency, config.browser.clone());
        let (site, composition) = (config.enqueue_site.clone(), config.enqueue_composition.clone());
        let signals = Signals::listen()?;
        let app = App::start(config, Arc::new(SystemClock::new())).await.map_err(Failed::about_keys)?;
        let token = app.data.join(ADMIN_TOKEN);
        say(format!(
            "Lastframe {} listens on {}
  dashboard     {}/
  data folder   {}
  admin token   {}
  browser       {}
  at once       {concurrency} render{} (--concurrency)

Post a render:
  lastframe site add remotion-app --name {site}
  curl -H \"Authorization: Bearer $(cat {})\" {}/v1/renders \\
       -d '{{\"serveUrl\":\"{site}\",\"composition\":\"{composition}\",\"inputProps\":{{\"text\":\"Hello\"}}}}'",
            env!("CARGO_PKG_VERSION"),
            app.url,
            app.url,
            app.data.display(),
            token.display(),
            shown(browser.as_deref()),
            if concurrency == 1 { "" } else { "s" },
            token.display(),
            app.url,
        ));
        app.stop(signals.first().await).await?;
        Ok(Exit::Done)
    }
}

/// The browser, or what would bring one.
pub(super) fn shown(browser: Option<&Path>) -> String {
    browser.map_or_else(
        || "none found: apt-get install chromium-headless-shell, or --browser FILE".into(),
        |browser| browser.display().to_string(),
    )
}
