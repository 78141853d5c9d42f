//! The server: whether one runs, lets us in, and has the same time.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::fmt::rfc2822;
use lastframe_core::site::SiteVersion;
use lastframe_core::{Clock as _, SystemClock};
use reqwest::header;

use super::{Finding, programs};
use crate::client;
use crate::commands::Server;
use crate::config::Config;
use crate::data;
use crate::http::Me;

/// How long a server may take to say that it is there.
const ANSWER: Duration = Duration::from_secs(10);
/// Tokens are good from a time on; a clock that is further off may refuse one that is fresh.
const DRIFT: i64 = 30;

pub(super) async fn look(server: &Server, data: &Path, config: Option<&Config>) -> Vec<Finding> {
    let named = server.server.clone();
    let Some(url) = named.clone().or_else(|| data::announced(data)) else {
        return vec![port(config.map(|config| config.listen)), none_runs()];
    };
    let url = url.trim_end_matches('/').to_owned();
    let answer = match client::http().timeout(ANSWER).build() {
        Ok(http) => http.get(format!("{url}/healthz")).send().await,
        Err(error) => Err(error),
    };
    let answer = match answer {
        Ok(answer) if answer.status().is_success() => answer,
        Ok(answer) => {
            let found = format!("{url} answers {}", answer.status());
            return vec![Finding::fail("server", found, "name a Lastframe server with --server")];
        }
        // One that was killed leaves its address behind.
        Err(_) if named.is_none() => {
            return vec![port(config.map(|config| config.listen)), none_runs()];
        }
        Err(error) => {
            let found = format!("{url} does not answer: {:#}", anyhow::Error::new(error));
            return vec![Finding::fail(
                "server",
                found,
                "start it, or look at the name, the port and the way there",
            )];
        }
    };
    let mut findings = vec![Finding::ok("server", format!("runs at {url}"))];
    findings.extend(drift(&answer));
    let client = match server.client() {
        Ok(client) => client,
        Err(failed) => {
            let found = format!("{:#}", failed.error);
            findings.push(Finding::fail("token", found, "lastframe token create makes one, on the server"));
            return findings;
        }
    };
    match client.get::<Me>("/v1/me").await {
        Ok(me) => findings.push(Finding::ok("token", format!("speaks for {} of {}", me.subject, me.tenant))),
        Err(failed) => {
            let mend = "sign in again, or make a token on the server: lastframe token create";
            findings.push(Finding::fail("token", format!("{:#}", failed.error), mend));
            return findings;
        }
    }
    // Another machine's packages cannot be looked at.
    if named.is_none()
        && let Ok(sites) = client.get::<Vec<SiteVersion>>("/v1/sites").await
    {
        for site in sites {
            let own = || {
                data.join("renderers").join(&site.remotion_version).join("node_modules/@remotion/renderer")
            };
            let renderer =
                site.renderer.map(PathBuf::from).filter(|named| named.is_dir()).unwrap_or_else(own);
            findings.push(programs::compositor(&site.name, &renderer).await);
        }
    }
    findings
}

fn none_runs() -> Finding {
    Finding::ok("server", "none runs on the data folder; sites are looked at when one does")
}

/// How far the server's clock is from ours.
fn drift(answer: &reqwest::Response) -> Option<Finding> {
    let date = answer.headers().get(header::DATE)?.to_str().ok()?;
    let theirs = rfc2822::parse(date).ok()?.timestamp();
    let seconds = SystemClock::new().now().as_second() - theirs.as_second();
    if seconds.abs() <= DRIFT {
        return None;
    }
    let mend = "set both: timedatectl set-ntp true. Tokens and delays follow the clock";
    Some(Finding::warn("clock", format!("the server's is {seconds} s behind this machine's"), mend))
}

/// Whether a server could listen where it is told to.
fn port(listen: Option<SocketAddr>) -> Finding {
    let Some(listen) = listen else {
        return Finding::warn("port", "unknown: the configuration cannot be read", "see config above");
    };
    match TcpListener::bind(listen) {
        Ok(_) => Finding::ok("port", format!("{listen} is free")),
        Err(error) => {
            let mend = "stop what has it (ss -ltnp), or set another address: --listen";
            Finding::fail("port", format!("{listen}: {error}"), mend)
        }
    }
}
