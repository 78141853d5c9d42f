//! A webhook: Remotion's own body and headers, and those of Standard Webhooks beside them.

mod javascript;
mod payload;
mod reach;
mod signature;

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use jiff::Timestamp;
use lastframe_core::Clock;
use lastframe_core::outbox::Due;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use reqwest::{Client, Response, StatusCode};
use rustls_platform_verifier::BuilderVerifierExt as _;
use serde_json::Value;
use url::Url;

use self::payload::{Type, payload};
use self::reach::{NotPublic, Reach, System};
use super::{Courier, Told, name};
use crate::client;
use crate::config::Webhooks;
use crate::links::Links;

/// For all of a go, the answer's body included.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Most bytes of an answer that are read; nobody looks at them.
const LONGEST_ANSWER: usize = 64 << 10;

const REMOTION_MODE: HeaderName = HeaderName::from_static("x-remotion-mode");
const REMOTION_STATUS: HeaderName = HeaderName::from_static("x-remotion-status");
const REMOTION_SIGNATURE: HeaderName = HeaderName::from_static("x-remotion-signature");
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Sends webhooks.
#[derive(Debug)]
pub(crate) struct WebhookCourier {
    tls: rustls::ClientConfig,
    reach: Reach,
    links: Links,
    /// How long the link to the output is good, from each try on.
    link_life: Duration,
    /// Where outputs go by default.
    bucket: String,
    clock: Arc<dyn Clock>,
    timeout: Duration,
}

impl WebhookCourier {
    /// # Errors
    /// When this machine has no certificates to trust.
    pub(crate) fn new(
        rules: Webhooks,
        links: Links,
        link_life: Duration,
        bucket: Option<&str>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(rustls::ConfigBuilder::with_platform_verifier)
            .context("cannot set up TLS for webhooks")?
            .with_no_client_auth();
        let reach = Reach { rules: Arc::new(rules), lookup: Arc::new(System) };
        let bucket = bucket.unwrap_or("lastframe").to_owned();
        Ok(Self { tls, reach, links, link_life, bucket, clock, timeout: TIMEOUT })
    }

    /// One for each go: nobody's connection serves somebody else's webhook, and the port is known where names are resolved.
    fn client(&self, port: u16) -> reqwest::Result<Client> {
        client::http()
            .tls_backend_preconfigured(self.tls.clone())
            .dns_resolver(Arc::new(self.reach.at(port)))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(self.timeout)
            .build()
    }

    async fn send(&self, due: &Due) -> anyhow::Result<Response> {
        let url = Url::parse(&due.notice.target).context("its URL is none")?;
        let (host, port) = url.host().zip(url.port_or_known_default()).context("its URL names no host")?;
        self.reach.check(&host, port)?;
        let now = self.clock.now();
        let body = payload(due, &self.bucket, |output| {
            let expires = Timestamp::from_second((now + self.link_life).as_second()).unwrap_or(now);
            self.links.sign(due.delivery.render, output, expires, None)
        });
        let (headers, body) = signed(due, &body, now)?;
        Ok(self.client(port)?.post(url).headers(headers).body(body).send().await?)
    }
}

/// The bytes that are sent, and the headers that go with them.
fn signed(due: &Due, body: &Value, now: Timestamp) -> anyhow::Result<(HeaderMap, String)> {
    let body = javascript::stringify(body)?;
    let id = name(&due.delivery);
    let mut headers = HeaderMap::new();
    let mut put = |name: HeaderName, value: &str| -> anyhow::Result<()> {
        headers.insert(name, HeaderValue::from_str(value)?);
        Ok(())
    };
    put(CONTENT_TYPE, "application/json")?;
    put(USER_AGENT, concat!("lastframe/", env!("CARGO_PKG_VERSION")))?;
    put(REMOTION_MODE, "production")?;
    put(REMOTION_STATUS, Type::of(&due.ended).as_str())?;
    put(REMOTION_SIGNATURE, &signature::remotion(&due.secrets, body.as_bytes()))?;
    put(WEBHOOK_ID, &id)?;
    put(WEBHOOK_TIMESTAMP, &now.as_second().to_string())?;
    if let Some(signature) = signature::standard(&due.secrets, &id, now, body.as_bytes()) {
        put(WEBHOOK_SIGNATURE, &signature)?;
    }
    Ok((headers, body))
}

#[async_trait]
impl Courier for WebhookCourier {
    async fn deliver(&self, due: &Due) -> Told {
        let answer = match self.send(due).await {
            Ok(answer) => answer,
            Err(error) => return Told::Retry { code: None, error: explain(&error), after: None },
        };
        let (status, after) = (answer.status(), retry_after(answer.headers(), self.clock.now()));
        let code = Some(status.as_u16());
        read_some(answer).await;
        match status {
            _ if status.is_success() => Told::Delivered { code },
            StatusCode::GONE => Told::Refused { code, error: "answered 410: it wants no more".into() },
            _ if status.is_redirection() => {
                let error = format!("answered {}; redirects are not followed", status.as_u16());
                Told::Retry { code, error, after }
            }
            _ => Told::Retry { code, error: format!("answered {}", status.as_u16()), after },
        }
    }
}

/// Lets the receiver finish its answer, unless it is a long one. What it says beyond its status changes nothing.
async fn read_some(mut answer: Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = answer.chunk().await {
        read += chunk.len();
        if read > LONGEST_ANSWER {
            return;
        }
    }
}

/// How long the receiver wants to be left alone: seconds, or until a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Duration::try_from(at.duration_since(now)).ok()
}

/// Why there was no answer, without the URL, which may be a secret.
fn explain(error: &anyhow::Error) -> String {
    let find = |error: &(dyn StdError + 'static)| error.downcast_ref::<NotPublic>().map(ToString::to_string);
    if let Some(refused) = error.chain().find_map(find) {
        return refused;
    }
    match error.downcast_ref::<reqwest::Error>() {
        Some(error) if error.is_timeout() => format!("no answer within {} s", TIMEOUT.as_secs()),
        Some(sent) => {
            let cause = error.chain().last().filter(|cause| !cause.is::<reqwest::Error>());
            let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
            let what = if sent.is_connect() { "cannot connect" } else { "the answer broke off" };
            format!("{what}{cause}")
        }
        None => error.to_string(),
    }
}

#[cfg(test)]
pub(super) mod tests;
