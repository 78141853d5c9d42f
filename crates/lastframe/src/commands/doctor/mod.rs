//! `lastframe doctor`: what this machine and this server lack, and how to mend it.
//!
//! It changes nothing, needs no server, and looks at what a render needs rather than at what the configuration says: it
//! runs the browser, not only finds it.

mod folder;
#[cfg(feature = "aws")]
mod lambda;
mod mail;
mod programs;
mod server;
mod system;

use clap::Args;
use serde::Serialize;

use super::{Server, print};
use crate::client::Failed;
use crate::config::{self, Config, Flags};
use crate::exit::Exit;

pub(super) const EXAMPLES: &str = "\
Examples:
  lastframe doctor
  lastframe doctor --json | jq '.findings[] | select(.state != \"ok\")'
  sudo -u lastframe lastframe doctor        the service of an installed package
  lastframe doctor --mail-to ann@example.com    the mail settings, with a mail to see them work
  lastframe doctor --server https://renders.example.com --token TOKEN

Its exit code is 1 when something fails; a warning is none. It needs no server, and changes nothing. Without --mail-to
it goes as far as the mail server's password and sends nothing.";

/// Looks at everything that rendering needs, and says how to mend what is missing.
#[derive(Args, Debug)]
pub(super) struct Doctor {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Send a mail there, as the server would
    #[arg(long, value_name = "ADDRESS")]
    mail_to: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// What is known about one thing.
#[derive(Debug, Serialize)]
struct Finding {
    /// One word.
    what: &'static str,
    state: State,
    found: String,
    /// What would mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Something may go wrong, or look wrong.
    Warn,
    /// Nothing can be rendered so, or not kept.
    Fail,
}

#[derive(Serialize)]
struct Findings {
    version: &'static str,
    healthy: bool,
    findings: Vec<Finding>,
}

impl Finding {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, state: State::Ok, found: found.into(), mend: None }
    }

    fn warn(what: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what, state: State::Warn, found: found.into(), mend: Some(mend.into()) }
    }

    fn fail(what: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what, state: State::Fail, found: found.into(), mend: Some(mend.into()) }
    }

    fn words(&self) -> String {
        let state = match self.state {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "FAIL",
        };
        let mend = self.mend.as_ref().map(|mend| format!("\n{:17}-> {mend}", "")).unwrap_or_default();
        format!("{state:<5} {:<10} {}{mend}", self.what, self.found)
    }
}

impl Doctor {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let data = self.server.folder()?;
        let mut findings = vec![system::kernel(), system::memory(), system::clock()];
        let (config, found) = configuration(&data);
        findings.push(found);
        let browser = config.as_ref().and_then(|config| config.browser.clone());
        let node = config.as_ref().map(|config| config.node.clone());
        findings.push(programs::node(node.as_deref()).await);
        findings.push(programs::npm().await);
        findings.push(programs::browser(browser.as_deref()).await);
        findings.extend(programs::fonts().await);
        findings.extend(folder::look(&data));
        findings.push(mail::look(config.as_ref(), self.mail_to.as_deref()).await);
        #[cfg(feature = "aws")]
        if let Some(config) = &config {
            findings.extend(lambda::look(config).await);
        }
        #[cfg(feature = "aws")]
        findings.extend(lambda::look_at_queue().await);
        findings.extend(server::look(&self.server, &data, config.as_ref()).await);
        let fails = findings.iter().filter(|finding| finding.state == State::Fail).count();
        let warns = findings.iter().filter(|finding| finding.state == State::Warn).count();
        let findings = Findings { version: env!("CARGO_PKG_VERSION"), healthy: fails == 0, findings };
        print(self.json, &findings, || {
            let lines = findings.findings.iter().map(|finding| finding.words() + "\n").collect::<String>();
            format!("{lines}\n{fails} to mend, {warns} to know of")
        })?;
        Ok(if findings.healthy { Exit::Done } else { Exit::NotWell })
    }
}

/// The configuration as a server would read it here.
fn configuration(data: &std::path::Path) -> (Option<Config>, Finding) {
    const WHAT: &str = "config";
    let flags = match Flags::of_environment() {
        Ok(flags) => Flags { data: Some(data.to_owned()), ..flags },
        Err(error) => {
            let found = error.to_string().lines().next().unwrap_or_default().to_owned();
            return (None, Finding::fail(WHAT, found, "correct the variable of the environment"));
        }
    };
    let file = config::file(flags.config.as_deref(), data);
    match Config::load(flags) {
        Ok(config) => {
            let from = if file.is_file() { file.display().to_string() } else { "defaults alone".into() };
            let found = format!("{from}; listens on {}, {} at once", config.listen, config.concurrency);
            (Some(config), Finding::ok(WHAT, found))
        }
        Err(error) => {
            let mend = format!(
                "correct it in {}, or in the environment; docs/configuration.md lists the keys",
                file.display()
            );
            (None, Finding::fail(WHAT, format!("{error:#}"), mend))
        }
    }
}
