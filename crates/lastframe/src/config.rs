//! What the server can be told, from flags, environment, file and defaults, in that order.
//!
//! The file is `lastframe.toml` in the data folder, or what `--config` names. Unknown keys are refused: a misspelt
//! limit must not be silently no limit.

mod identity;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use jiff::SpanRelativeTo;
use lastframe_worker::local::Renderers;
use serde::Deserialize;
use url::Url;

use self::identity::{IdentitySection, IssuerSection};

pub use self::identity::{IdentityConfig, IssuerConfig, TenantSource};

/// What `serve` can be told on the command line or by environment.
#[derive(Args, Clone, Debug, Default)]
pub struct Flags {
    /// The data folder: database, keys, sites, outputs, logs. Made if missing.
    #[arg(long, env = "LASTFRAME_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The configuration file [default: lastframe.toml in the data folder, if there is one].
    #[arg(long, env = "LASTFRAME_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:8787]. Port 0 takes a free one.
    #[arg(long, env = "LASTFRAME_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<SocketAddr>,
    /// The URL under which people reach this server [default: http:// and the address it listens on].
    #[arg(long, env = "LASTFRAME_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// Renders at once [default: from cores and memory].
    #[arg(long, env = "LASTFRAME_CONCURRENCY", value_name = "N")]
    pub concurrency: Option<usize>,
    /// The browser to render with [default: chromium-headless-shell, chromium or google-chrome on PATH].
    #[arg(long, env = "LASTFRAME_BROWSER", value_name = "FILE")]
    pub browser: Option<PathBuf>,
    /// How long a stopping server lets renders go on before it hands them back to the queue [default: 30s].
    #[arg(long, env = "LASTFRAME_GRACE", value_name = "TIME", value_parser = duration)]
    pub grace: Option<Duration>,
}

/// The file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields, default)]
struct File {
    listen: Option<SocketAddr>,
    public_url: Option<String>,
    max_body: Option<usize>,
    max_bundle: Option<u64>,
    render: RenderSection,
    queue: QueueSection,
    enqueue: EnqueueSection,
    sites: SitesSection,
    identity: IdentitySection,
    issuer: Vec<IssuerSection>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RenderSection {
    concurrency: Option<usize>,
    browser: Option<PathBuf>,
    node: Option<PathBuf>,
    timezone: Option<String>,
    locale: Option<String>,
    #[serde(deserialize_with = "optional_duration")]
    timeout: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    grace: Option<Duration>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct QueueSection {
    #[serde(deserialize_with = "optional_duration")]
    lease: Option<Duration>,
    max_attempts: Option<u32>,
    #[serde(deserialize_with = "optional_duration")]
    retry_delay: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    max_retry_delay: Option<Duration>,
    max_lost: Option<u32>,
    #[serde(deserialize_with = "optional_duration")]
    retention: Option<Duration>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct EnqueueSection {
    site: Option<String>,
    composition: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SitesSection {
    origins: Vec<String>,
    max_renderers: Option<usize>,
}

/// The configuration, complete.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data folder.
    pub data: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Without a slash at the end; from the address when absent.
    pub public_url: Option<String>,
    /// The largest body of a request, in bytes. Props may have 20 MB.
    pub max_body: usize,
    /// The largest bundle of a site, in bytes, unpacked.
    pub max_bundle: u64,
    /// Renders at once.
    pub concurrency: usize,
    /// Cores that they share.
    pub cores: usize,
    /// The browser; Remotion's own when absent.
    pub browser: Option<PathBuf>,
    /// Node.
    pub node: PathBuf,
    /// `TZ` of the browser.
    pub timezone: String,
    /// `LANG` of the browser.
    pub locale: String,
    /// The longest one attempt may take, unless its request says otherwise.
    pub timeout: Duration,
    /// How long a stopping server lets renders go on.
    pub grace: Duration,
    /// How long a lease holds without an extension.
    pub lease: Duration,
    /// Attempts of a render that does not say.
    pub max_attempts: u32,
    /// When failed attempts are tried again.
    pub retry: lastframe_core::RetryPolicy,
    /// How long a render is kept once it has ended; for ever when absent.
    pub retention: Option<Duration>,
    /// The site that `/enqueue` renders when a body names none.
    pub enqueue_site: String,
    /// The composition that `/enqueue` renders when a body names none.
    pub enqueue_composition: String,
    /// Where sites may lie that are not uploaded, such as `https://bucket.example`.
    pub origins: Vec<String>,
    /// Versions of Remotion that are installed when a site needs them, at most.
    pub max_renderers: usize,
    /// How tokens are issued, and whose are good.
    pub identity: IdentityConfig,
}

/// Browsers that are looked for on PATH, best first.
const BROWSERS: [&str; 3] = ["chromium-headless-shell", "chromium", "google-chrome"];
/// What one render takes at its peak: 705 MB were measured for 1080p, with Node, browser and encoder.
const MEMORY_PER_RENDER: u64 = 1 << 30;

impl Config {
    /// Puts the configuration together.
    ///
    /// # Errors
    /// When the file cannot be read, or says something that cannot be.
    pub fn load(flags: Flags) -> anyhow::Result<Self> {
        let data = flags.data.map_or_else(default_data, Ok)?;
        let file = read(flags.config.as_deref(), &data)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let concurrency = flags.concurrency.or(file.render.concurrency).unwrap_or_else(|| fitting(cores));
        anyhow::ensure!(concurrency > 0, "render.concurrency must be at least 1");
        let browser =
            flags.browser.or(file.render.browser).or_else(|| BROWSERS.iter().find_map(|name| on_path(name)));
        if let Some(browser) = &browser {
            anyhow::ensure!(
                browser.is_file(),
                "the browser {} does not exist (LASTFRAME_BROWSER)",
                browser.display()
            );
        }
        let node = match file.render.node {
            Some(node) => node,
            None => on_path("node")
                .context("Node is not on PATH: install Node 20 or later (https://nodejs.org)")?,
        };
        let lease = file.queue.lease.unwrap_or(Duration::from_secs(30));
        anyhow::ensure!(lease >= Duration::from_secs(1), "queue.lease must be at least 1s");
        let max_attempts = file.queue.max_attempts.unwrap_or(3);
        anyhow::ensure!(max_attempts > 0, "queue.max_attempts must be at least 1");
        let least = lastframe_store::KEY_LIFETIME;
        anyhow::ensure!(
            file.queue.retention.is_none_or(|retention| retention >= least),
            "queue.retention must be at least {} h: for so long an Idempotency-Key stands for its render",
            least.as_secs() / 3_600
        );
        let usual = lastframe_core::RetryPolicy::default();
        Ok(Self {
            listen: flags.listen.or(file.listen).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8787))),
            public_url: flags.public_url.or(file.public_url).map(|url| url.trim_end_matches('/').to_owned()),
            max_body: file.max_body.unwrap_or(25 << 20),
            max_bundle: file.max_bundle.unwrap_or(1 << 30),
            concurrency,
            cores,
            browser,
            node,
            timezone: file.render.timezone.unwrap_or_else(|| "UTC".into()),
            locale: file.render.locale.unwrap_or_else(|| "C.UTF-8".into()),
            timeout: file.render.timeout.unwrap_or(Duration::from_secs(60 * 60)),
            grace: flags.grace.or(file.render.grace).unwrap_or(Duration::from_secs(30)),
            lease,
            max_attempts,
            retry: lastframe_core::RetryPolicy {
                base: file.queue.retry_delay.unwrap_or(usual.base),
                cap: file.queue.max_retry_delay.unwrap_or(usual.cap),
                max_lost: file.queue.max_lost.unwrap_or(usual.max_lost),
            },
            retention: file.queue.retention,
            enqueue_site: file.enqueue.site.unwrap_or_else(|| "remotion-app".into()),
            enqueue_composition: file.enqueue.composition.unwrap_or_else(|| "main".into()),
            origins: file.sites.origins.iter().map(|text| origin(text)).collect::<anyhow::Result<_>>()?,
            max_renderers: file.sites.max_renderers.unwrap_or(10),
            identity: file.identity.with(file.issuer)?,
            data,
        })
    }
}

impl Config {
    /// The versions of Remotion in a data folder.
    #[must_use]
    pub fn renderers(&self, data: &Path) -> Renderers {
        Renderers::new(data.join("renderers"), self.node.clone(), on_path("npm"), self.max_renderers)
    }
}

/// The data folder when nobody names one.
///
/// # Errors
/// When there is no home folder either.
pub fn default_data() -> anyhow::Result<PathBuf> {
    let home = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    home("XDG_DATA_HOME")
        .or_else(|| Some(home("HOME")?.join(".local/share")))
        .map(|folder| folder.join("lastframe"))
        .context("no data folder: set --data or LASTFRAME_DATA")
}

fn read(named: Option<&Path>, data: &Path) -> anyhow::Result<File> {
    let usual = data.join("lastframe.toml");
    let path = named.unwrap_or(&usual);
    match std::fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).with_context(|| format!("in {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => Ok(File::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// As many renders as cores, and as memory that is free now.
fn fitting(cores: usize) -> usize {
    let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|meminfo| {
        let line = meminfo.lines().find(|line| line.starts_with("MemAvailable:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    let by_memory =
        available.map_or(cores, |kib| usize::try_from(kib * 1024 / MEMORY_PER_RENDER).unwrap_or(cores));
    cores.min(by_memory).max(1)
}

/// An origin in the one way it is written.
fn origin(text: &str) -> anyhow::Result<String> {
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
    });
    let url = url.with_context(|| {
        format!(
            "in sites.origins, `{text}` is no origin such as https://bucket.s3.eu-central-1.amazonaws.com"
        )
    })?;
    Ok(url.origin().ascii_serialization())
}

fn on_path(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|file| {
        file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

/// Reads a time with its unit: `30s`, `5m`, `1h 30m`, `30d`. A day has 24 hours.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let span =
        text.parse::<jiff::Span>().and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    let span = span.map_err(|_| format!("`{text}` is not a time such as 30s, 5m, 1h or 30d"))?;
    Duration::try_from(span).map_err(|_| "must not be negative".into())
}

fn optional_duration<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    duration(&text).map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = toml::from_str::<File>("[queue]\nleese = \"30s\"").unwrap_err().to_string();
        assert!(error.contains("leese"), "{error}");
    }

    #[test]
    fn times_need_a_unit_and_say_so() {
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert!(duration("1 month").is_err() && duration("-1s").is_err());
        let error = toml::from_str::<File>("[queue]\nlease = \"30\"").unwrap_err().to_string();
        assert!(error.contains("30s, 5m, 1h or 30d"), "{error}");
    }

    fn load(file: &str, flags: Flags) -> anyhow::Result<Config> {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("lastframe.toml"), file).unwrap();
        Config::load(Flags { data: Some(data.path().into()), ..flags })
    }

    #[test]
    fn flags_come_before_the_file() {
        let listen = Some(SocketAddr::from(([127, 0, 0, 1], 2)));
        let file = "listen = \"127.0.0.1:1\"\n[render]\nconcurrency = 3";
        let config = load(file, Flags { listen, ..Flags::default() }).unwrap();
        assert_eq!((config.listen.port(), config.concurrency), (2, 3));
    }

    #[test]
    fn an_origin_is_a_scheme_and_a_host_and_nothing_else() {
        let origins = |text: &str| load(&format!("[sites]\norigins = [\"{text}\"]"), Flags::default());
        assert_eq!(origins("https://Bucket.Example:443/").unwrap().origins, ["https://bucket.example"]);
        for text in [
            "bucket.example",
            "https://bucket.example/sites",
            "ftp://bucket.example",
            "https://me@bucket.example",
            "*",
        ] {
            let error = origins(text).unwrap_err().to_string();
            assert!(error.contains("sites.origins") && error.contains(text), "{error}");
        }
    }

    #[test]
    fn renders_are_kept_for_as_long_as_an_idempotency_key_stands_for_them() {
        let retention = |text: &str| load(&format!("[queue]\nretention = \"{text}\""), Flags::default());
        assert_eq!(retention("3d").unwrap().retention, Some(Duration::from_secs(72 * 60 * 60)));
        let error = retention("71h 59m").unwrap_err().to_string();
        assert!(error.contains("at least 72 h") && error.contains("Idempotency-Key"), "{error}");
        assert_eq!(load("", Flags::default()).unwrap().retention, None);
    }
}
