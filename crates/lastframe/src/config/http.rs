//! `[http]` and `tls`: what a connection may take, and the certificate.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::optional_duration;

/// Connections, where open files allow it.
const MAX_CONNECTIONS: usize = 4_096;
/// Hyper works with no less for a head.
const LEAST_HEADER: usize = 8_192;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct HttpSection {
    max_connections: Option<usize>,
    max_streams: Option<usize>,
    max_header: Option<usize>,
    #[serde(deserialize_with = "optional_duration")]
    header_timeout: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    read_timeout: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    body_timeout: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    write_timeout: Option<Duration>,
    cors_origins: Vec<String>,
}

/// What a connection may take. Nobody is waited for without end.
#[derive(Clone, Debug)]
pub struct Http {
    /// Connections at once. With more, the one that has waited longest for a request of its client is closed.
    pub max_connections: usize,
    /// Live streams at once, each of which is a connection; the others are for requests that end. A tenant may have half of them.
    pub max_streams: usize,
    /// The largest head of a request, in bytes; what comes in one piece may have twice as many.
    pub max_header: usize,
    /// From a connection that is free to the end of the next request's headers; a handshake of TLS has as long.
    pub header_timeout: Duration,
    /// Between two pieces of a body.
    pub read_timeout: Duration,
    /// For the whole of a body, but that of a site.
    pub body_timeout: Duration,
    /// How long a client may take nothing of what it is sent.
    pub write_timeout: Duration,
    /// The web pages that may use the API from a browser: `https://app.example.com`, or `*`.
    pub cors_origins: Vec<String>,
}

/// Where the certificate is, in PEM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate, and those between it and a root.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl HttpSection {
    pub(super) fn complete(self) -> anyhow::Result<Http> {
        let max_connections = self.max_connections.unwrap_or_else(affordable_connections);
        let http = Http {
            max_connections,
            max_streams: self.max_streams.unwrap_or(max_connections / 2),
            max_header: self.max_header.unwrap_or(64 << 10),
            header_timeout: self.header_timeout.unwrap_or(Duration::from_secs(10)),
            read_timeout: self.read_timeout.unwrap_or(Duration::from_secs(20)),
            body_timeout: self.body_timeout.unwrap_or(Duration::from_secs(120)),
            write_timeout: self.write_timeout.unwrap_or(Duration::from_secs(60)),
            cors_origins: self.cors_origins,
        };
        anyhow::ensure!(http.max_connections > 0, "http.max_connections must be at least 1");
        anyhow::ensure!(http.max_header >= LEAST_HEADER, "http.max_header must be at least {LEAST_HEADER}");
        for origin in &http.cors_origins {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            let whole = host.is_some_and(|host| {
                !host.is_empty()
                    && host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@*".contains(&byte))
            });
            anyhow::ensure!(
                whole || (origin == "*" && http.cors_origins.len() == 1),
                "http.cors_origins: `{origin}` is no origin: write `https://app.example.com`, or `*` alone for all"
            );
        }
        Ok(http)
    }
}

/// Half of the files that may be open: the other half is for renders, outputs and the database.
fn affordable_connections() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    files
        .map_or(MAX_CONNECTIONS, |files| {
            usize::try_from(files / 2).unwrap_or(MAX_CONNECTIONS).min(MAX_CONNECTIONS)
        })
        .max(1)
}
