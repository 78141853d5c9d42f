//! What the server can be told, from flags, environment, file and defaults, in that order.
//!
//! The file is `lastframe.toml` in the data folder, or what `--config` names. Unknown keys are refused: a misspelt
//! limit must not be silently no limit.

mod email;
mod http;
mod identity;
mod lambda;
mod limits;
mod machine;
mod notices;
mod storage;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, FromArgMatches as _};
use jiff::SpanRelativeTo;
use lastframe_core::net::HostRule;
use lastframe_core::{Limits, RendererName};
use lastframe_worker::local::{Renderers, Sandbox};
use serde::Deserialize;
use url::Url;

use self::email::EmailSection;
#[cfg(feature = "aws")]
pub(crate) use self::email::mailbox;
pub use self::email::{Email, MailLogin, MailTls, Password};
use self::http::HttpSection;
pub use self::http::{Http, TlsFiles};
pub use self::identity::{IdentityConfig, IssuerConfig, TenantSource};
use self::identity::{IdentitySection, IssuerSection};
use self::lambda::LambdaSection;
pub use self::lambda::{Lambda, LambdaFunction};
use self::limits::LimitsSection;
pub(crate) use self::machine::on_path;
use self::machine::{fitting, memory_for_each};
use self::notices::WebhookSection;
pub use self::notices::Webhooks;
#[cfg(feature = "aws")]
pub(crate) use self::storage::OF_STACK;
pub use self::storage::{AccessKey, AccessKeys, LinkLives, Place, Storage};
use self::storage::{LinksSection, StorageSection};
use crate::encryption;

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
    /// Whether webhooks may go to addresses that are not public [default: false].
    #[arg(long, env = "LASTFRAME_WEBHOOK_ALLOW_PRIVATE", value_name = "true|false")]
    pub webhook_allow_private: Option<bool>,
}

impl Flags {
    /// What the environment says, for a server that has no command line of its own.
    ///
    /// # Errors
    /// When a variable says what cannot be.
    pub fn of_environment() -> Result<Self, clap::Error> {
        Self::from_arg_matches(&Self::augment_args(clap::Command::new("")).try_get_matches_from([""])?)
    }
}

/// The file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields, default)]
struct File {
    listen: Option<SocketAddr>,
    public_url: Option<String>,
    max_body: Option<usize>,
    max_bundle: Option<u64>,
    http: HttpSection,
    tls: Option<TlsFiles>,
    audit: AuditSection,
    render: RenderSection,
    lambda: LambdaSection,
    queue: QueueSection,
    limits: LimitsSection,
    enqueue: EnqueueSection,
    sites: SitesSection,
    identity: IdentitySection,
    issuer: Vec<IssuerSection>,
    encryption: EncryptionSection,
    storage: StorageSection,
    links: LinksSection,
    email: EmailSection,
    webhook: WebhookSection,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AuditSection {
    #[serde(deserialize_with = "optional_duration")]
    retention: Option<Duration>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RenderSection {
    renderer: Option<RendererName>,
    concurrency: Option<usize>,
    browser: Option<PathBuf>,
    node: Option<PathBuf>,
    timezone: Option<String>,
    locale: Option<String>,
    #[serde(deserialize_with = "optional_duration")]
    timeout: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    grace: Option<Duration>,
    sandbox: Sandbox,
    #[serde(deserialize_with = "host_rules")]
    allow_hosts: Vec<HostRule>,
    first_user: Option<u32>,
    max_memory: Option<u64>,
    max_file: Option<u64>,
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
struct EncryptionSection {
    enabled: Option<bool>,
    key_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SitesSection {
    origins: Vec<String>,
    max_renderers: Option<usize>,
    renderer: BTreeMap<String, RendererName>,
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
    /// What a connection may take.
    pub http: Http,
    /// Where the certificate is; plain HTTP when absent.
    pub tls: Option<TlsFiles>,
    /// How long it is remembered who did what.
    pub audit_retention: Duration,
    /// What makes renders that do not say.
    pub renderer: RendererName,
    /// Whether nothing else makes any.
    pub renderer_alone: bool,
    /// How renders are made on Remotion Lambda.
    pub lambda: Lambda,
    /// Renders at once on this machine.
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
    /// How strictly sites are kept to themselves.
    pub sandbox: Sandbox,
    /// What sites may reach although it is not public.
    pub allow_hosts: Arc<[HostRule]>,
    /// The first of the users that renders run as when the server is root.
    pub first_user: u32,
    /// What one render may hold in memory, in bytes.
    pub max_memory: u64,
    /// The longest file that a render may write, in bytes.
    pub max_file: u64,
    /// How long a lease holds without an extension.
    pub lease: Duration,
    /// Attempts of a render that does not say.
    pub max_attempts: u32,
    /// When failed attempts are tried again.
    pub retry: lastframe_core::RetryPolicy,
    /// How long a render is kept once it has ended; for ever when absent.
    pub retention: Option<Duration>,
    /// What tenants get, and how far they may go, unless something else is set for them.
    pub limits: Limits,
    /// Where outputs go.
    pub storage: Storage,
    /// How long links to outputs are good.
    pub links: LinkLives,
    /// How mail is sent; none is when absent.
    pub email: Option<Email>,
    /// Where webhooks may go.
    pub webhooks: Webhooks,
    /// The site that `/enqueue` renders when a body names none.
    pub enqueue_site: String,
    /// The composition that `/enqueue` renders when a body names none.
    pub enqueue_composition: String,
    /// Where sites may lie that are not uploaded, such as `https://bucket.example`.
    pub origins: Vec<String>,
    /// Versions of Remotion that are installed when a site needs them, at most.
    pub max_renderers: usize,
    /// What makes the renders of these sites, where they do not say it themselves.
    pub site_renderers: BTreeMap<String, RendererName>,
    /// How tokens are issued, and whose are good.
    pub identity: IdentityConfig,
    /// Whether secrets in the database are sealed, and with what.
    pub encryption: encryption::Settings,
}

/// Browsers that are looked for on PATH, best first.
pub(crate) const BROWSERS: [&str; 3] = ["chromium-headless-shell", "chromium", "google-chrome"];
/// In the range that no distribution gives to anybody, below those of containers.
const FIRST_USER: u32 = 90_000;

impl Config {
    /// Puts the configuration together.
    ///
    /// # Errors
    /// When the file cannot be read, or says something that cannot be.
    pub fn load(flags: Flags) -> anyhow::Result<Self> {
        let data = flags.data.clone().map_or_else(default_data, Ok)?;
        let file = read(flags.config.as_deref(), &data)?;
        let node = match file.render.node.clone() {
            Some(node) => node,
            None => on_path("node")
                .context("Node is not on PATH: install Node 20 or later (https://nodejs.org)")?,
        };
        Self::of(flags, file, data, node)
    }

    /// The same of a text and nothing else, where nothing is rendered on this machine.
    ///
    /// # Errors
    /// When the text says something that cannot be.
    #[cfg(feature = "aws")]
    pub(crate) fn of_text(text: &str, data: PathBuf) -> anyhow::Result<Self> {
        let mut file: File = toml::from_str(text)?;
        // A heartbeat is a write that is paid for: they may come less often there.
        file.queue.lease.get_or_insert(Duration::from_secs(60));
        Self::of(Flags::default(), file, data, PathBuf::new())
    }

    fn of(flags: Flags, file: File, data: PathBuf, node: PathBuf) -> anyhow::Result<Self> {
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
        let (renderer, lambda) = (file.render.renderer.unwrap_or(RendererName::Local), file.lambda.read()?);
        let on_lambda = |renderer: &RendererName| *renderer == RendererName::Lambda;
        anyhow::ensure!(
            !on_lambda(&renderer) || !lambda.functions.is_empty(),
            "render.renderer is \"lambda\", and [[lambda.function]] names no function"
        );
        anyhow::ensure!(
            !file.sites.renderer.values().any(on_lambda) || !lambda.functions.is_empty(),
            "sites.renderer names \"lambda\", and [[lambda.function]] names no function"
        );
        Ok(Self {
            listen: flags.listen.or(file.listen).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8787))),
            public_url: flags.public_url.or(file.public_url).map(|url| url.trim_end_matches('/').to_owned()),
            max_body: file.max_body.unwrap_or(25 << 20),
            max_bundle: file.max_bundle.unwrap_or(1 << 30),
            http: file.http.complete()?,
            tls: file.tls,
            audit_retention: file.audit.retention.unwrap_or(Duration::from_secs(400 * 24 * 60 * 60)),
            renderer,
            renderer_alone: false,
            lambda,
            concurrency,
            cores,
            browser,
            node,
            timezone: file.render.timezone.unwrap_or_else(|| "UTC".into()),
            locale: file.render.locale.unwrap_or_else(|| "C.UTF-8".into()),
            timeout: file.render.timeout.unwrap_or(Duration::from_secs(60 * 60)),
            grace: flags.grace.or(file.render.grace).unwrap_or(Duration::from_secs(30)),
            sandbox: file.render.sandbox,
            allow_hosts: file.render.allow_hosts.into(),
            first_user: file.render.first_user.unwrap_or(FIRST_USER),
            max_memory: file.render.max_memory.unwrap_or_else(|| memory_for_each(concurrency)),
            max_file: file.render.max_file.unwrap_or(64 << 30),
            lease,
            max_attempts,
            retry: lastframe_core::RetryPolicy {
                base: file.queue.retry_delay.unwrap_or(usual.base),
                cap: file.queue.max_retry_delay.unwrap_or(usual.cap),
                max_lost: file.queue.max_lost.unwrap_or(usual.max_lost),
            },
            retention: file.queue.retention,
            limits: file.limits.complete()?,
            encryption: file.encryption.settings(&data),
            storage: file.storage.read()?,
            links: file.links.read()?,
            email: file.email.read()?,
            webhooks: file.webhook.complete(flags.webhook_allow_private),
            enqueue_site: file.enqueue.site.unwrap_or_else(|| "remotion-app".into()),
            enqueue_composition: file.enqueue.composition.unwrap_or_else(|| "main".into()),
            origins: file.sites.origins.iter().map(|text| origin(text)).collect::<anyhow::Result<_>>()?,
            max_renderers: file.sites.max_renderers.unwrap_or(10),
            site_renderers: file.sites.renderer,
            identity: file.identity.with(file.issuer)?,
            data,
        })
    }
}

impl EncryptionSection {
    fn settings(self, data: &Path) -> encryption::Settings {
        encryption::Settings::new(self.enabled.unwrap_or(true), self.key_file, data)
    }
}

/// What a data folder is told about encryption, for commands that need nothing else of its configuration.
///
/// # Errors
/// When the file cannot be read, or says something that cannot be.
pub(crate) fn encryption(named: Option<&Path>, data: &Path) -> anyhow::Result<encryption::Settings> {
    Ok(read(named, data)?.encryption.settings(data))
}

/// Where outputs go, according to the file, for commands on a data folder.
///
/// # Errors
/// When the file cannot be read, or says something that cannot be.
pub(crate) fn storage(config: Option<&Path>, data: &Path) -> anyhow::Result<Storage> {
    read(config, data)?.storage.read()
}

impl Config {
    /// The versions of Remotion in a data folder.
    #[must_use]
    pub fn renderers(&self, data: &Path) -> Renderers {
        Renderers::new(data.join("renderers"), self.node.clone(), on_path("npm"), self.max_renderers)
    }
}

/// The data folder of an installed service.
const SERVICE_DATA: &str = "/var/lib/lastframe";

/// The data folder when nobody names one: the service's for the user that the service runs as, else one in the home folder.
///
/// # Errors
/// When there is no home folder either.
pub fn default_data() -> anyhow::Result<PathBuf> {
    let home = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let service = || {
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(SERVICE_DATA).ok()?);
        // Root would leave files that the service cannot read.
        let us = rustix::process::geteuid();
        (owner == us.as_raw() && !us.is_root()).then(|| SERVICE_DATA.into())
    };
    home("XDG_DATA_HOME")
        .map(|folder| folder.join("lastframe"))
        .or_else(service)
        .or_else(|| Some(home("HOME")?.join(".local/share/lastframe")))
        .context("no data folder: set --data or LASTFRAME_DATA")
}

/// Where the file is, whether or not there is one.
pub(crate) fn file(named: Option<&Path>, data: &Path) -> PathBuf {
    named.map_or_else(|| data.join("lastframe.toml"), Path::to_owned)
}

fn read(named: Option<&Path>, data: &Path) -> anyhow::Result<File> {
    let path = &file(named, data);
    match std::fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).with_context(|| format!("in {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => Ok(File::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
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

fn host_rules<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<HostRule>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::KeySource;

    #[test]
    fn hosts_to_allow_are_hosts_addresses_or_networks() {
        let config =
            load("[render]\nallow_hosts = [\"10.0.0.5:9000\", \"media.internal\"]", Flags::default());
        assert_eq!(config.unwrap().allow_hosts.len(), 2);
        let error = load("[render]\nallow_hosts = [\"http://a\"]", Flags::default()).unwrap_err();
        assert!(format!("{error:#}").contains("`http://a` is neither"), "{error:#}");
    }

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
    fn limits_of_the_file_are_checked_and_named_as_the_file_names_them() {
        let limits =
            |text: &str| load(&format!("[limits]\n{text}"), Flags::default()).map(|config| config.limits);
        assert_eq!(limits("").unwrap(), Limits::default());
        let expected = Limits { max_queued: Some(9), max_render_seconds: Some(600), ..Limits::default() };
        assert_eq!(limits("max_queued = 9\nmax_render = \"10m\"").unwrap(), expected);
        for (text, key) in [
            ("weight = 0", "limits.weight is 0"),
            ("max_body = 9", "limits.max_body is 9"),
            ("max_render = \"10ms\"", "limits.max_render is 0"),
            ("max_render = \"99999999h\"", "limits.max_render is too long"),
            ("max_queue = 9", "max_queue"),
        ] {
            let error = format!("{:#}", limits(text).unwrap_err());
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn a_site_may_lie_at_an_origin_alone() {
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
    fn secrets_are_sealed_with_the_key_of_the_data_folder_unless_it_says_otherwise() {
        let encryption = |file: &str| load(file, Flags::default()).unwrap().encryption;
        let usual = encryption("");
        assert!(usual.enabled && matches!(usual.source, KeySource::DataFolder(_)), "{usual:?}");
        let other = encryption("[encryption]\nkey_file = \"/keys/lastframe\"");
        assert!(other.enabled && matches!(other.source, KeySource::File(_)), "{other:?}");
        assert!(!encryption("[encryption]\nenabled = false").enabled);
    }

    #[test]
    fn an_origin_is_a_scheme_and_a_host_and_nothing_more() {
        let origins = |text: &str| {
            load(&format!("[http]\ncors_origins = {text}"), Flags::default())
                .map(|config| config.http.cors_origins)
        };
        assert_eq!(origins("[\"https://app.example.com\", \"http://localhost:3000\"]").unwrap().len(), 2);
        assert_eq!(origins("[\"*\"]").unwrap(), ["*"]);
        for wrong in ["https://a.example/", "app.example.com", "https://*.example.com", "null", "https://"] {
            assert!(origins(&format!("[\"{wrong}\"]")).unwrap_err().to_string().contains(wrong));
        }
        assert!(origins("[\"*\", \"https://a.example\"]").is_err());
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
