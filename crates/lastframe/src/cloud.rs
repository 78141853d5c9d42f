//! What runs on AWS Lambda, composed on one page: the API, renders and notices over a queue that is not on this machine.
//!
//! What belongs to one machine is not there: live streams, uploads of bundles, files of logs. Each is refused by name.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use lastframe_aws::Accounts as AwsAccounts;
use lastframe_core::outbox::Outbox;
use lastframe_core::ports::{Accounts, Directory, Outputs, Queue, Renderer};
use lastframe_core::{Clock, RendererName};
use lastframe_worker::Worker;
use lastframe_worker::logs::Logs;
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::audit::Audit;
use crate::client;
use crate::config::{Config, IssuerConfig, LambdaFunction, OF_STACK, Place, TenantSource, mailbox};
use crate::data::DataFolder;
use crate::http::{self, Api};
use crate::identity::{Cognito, Identity};
use crate::lambda::{self, LambdaLook};
use crate::links::Links;
use crate::metrics::Metrics;
use crate::notify::email::{Mailer, Sender};
use crate::notify::{Courier, Couriers, Notifier, Routes, Stop, WebhookCourier};
use crate::outputs::Places;
use crate::rate::Rates;
use crate::retention::{Kept, Retention};
use crate::sites::{Shelf, Sites};
use crate::space::Space;

pub use crate::links::new_key as new_link_key;
pub use crate::notify::email::{Fault, Post};
pub use lettre::Address;

/// How long fetching a file of a site may take.
const FETCH: Duration = Duration::from_secs(20);
/// The longest time between two heartbeats: each is a write, and hears of a cancel.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// The group of the user pool whose people may do everything.
const ADMINS: &str = "admin";
/// What makes no sense in settings there: what AWS does by itself, and what the stack says.
const NOT_SETTINGS: [&str; 6] = ["listen", "public_url", "tls", "audit", "encryption", "storage"];

/// Whose renders the people of a user pool see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tenancy {
    /// All are one tenant.
    #[default]
    Shared,
    /// Each is a tenant of their own.
    PerUser,
}

/// What the stack says.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// A `lastframe.toml`.
    pub text: String,
    /// The region of AWS.
    pub region: String,
    /// A stand-in for AWS.
    pub endpoint: Option<String>,
    /// The URL of the API, without a slash at its end.
    pub public_url: String,
    /// The stack's bucket.
    pub bucket: String,
    /// The function of Remotion Lambda; none where only other machines render.
    pub remotion_function: Option<String>,
    /// The bucket of Remotion Lambda, where sites lie and outputs go.
    pub remotion_bucket: Option<String>,
    /// The user pool.
    pub user_pool: String,
    /// Its client.
    pub user_pool_client: String,
    /// Whose renders people see.
    pub tenancy: Tenancy,
    /// Whom mail is from; none is sent when absent.
    pub mail_from: Option<String>,
}

/// The queue, by its ports.
#[derive(Clone, Debug)]
pub struct Ports {
    /// The renders.
    pub queue: Arc<dyn Queue>,
    /// The sites.
    pub directory: Arc<dyn Directory>,
    /// The tokens of programs.
    pub accounts: Arc<dyn Accounts>,
    /// What is owed.
    pub outbox: Arc<dyn Outbox>,
}

/// Where things are that are not this function's own.
pub struct Around {
    /// The queue.
    pub ports: Ports,
    /// What links are signed with: the same in every function.
    pub link_key: String,
    /// Takes mails, where the settings name no server for them.
    pub post: Arc<dyn Post>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

impl Settings {
    /// The configuration, complete.
    ///
    /// # Errors
    /// When the text says something that cannot be.
    pub fn config(&self) -> anyhow::Result<Config> {
        let text: toml::Table = self.text.parse().context("in the settings of the stack")?;
        let functions = text.get("lambda").is_some_and(|lambda| lambda.get("function").is_some());
        let named = NOT_SETTINGS.into_iter().find(|name| text.contains_key(*name));
        if let Some(name) = named.or(functions.then_some("lambda.function")) {
            anyhow::bail!("in the settings of the stack: `{name}` is for servers, leave it out");
        }
        let config = Config::of_text(&self.text, std::env::temp_dir());
        let mut config = config.context("in the settings of the stack")?;
        config.public_url = Some(self.public_url.trim_end_matches('/').to_owned());
        config.renderer = RendererName::Local;
        config.renderer_alone = true;
        if let Some(name) = &self.remotion_function {
            anyhow::ensure!(
                self.remotion_bucket.is_some(),
                "the stack names the function of Remotion Lambda and not its bucket: give RemotionBucket, too"
            );
            config.renderer = RendererName::Lambda;
            config.lambda.functions = vec![LambdaFunction {
                name: name.clone(),
                region: self.region.clone(),
                bucket: self.remotion_bucket.clone(),
                account: None,
            }];
        }
        config.concurrency = config.lambda.concurrency;
        config.storage.place = Some(Place { bucket: self.bucket.clone(), prefix: OF_STACK.into() });
        config.storage.region = Some(self.region.clone());
        config.storage.endpoint.clone_from(&self.endpoint);
        config.storage.posters_beside = true;
        // What a function answers has a few megabytes at most: whoever asks for an output is sent to the bucket.
        config.storage.redirect = true;
        config.storage.min_free = 0;
        if let Some(sites) = self.sites()? {
            config.origins.push(sites.origin().ascii_serialization());
        }
        config.identity.issuers.push(self.issuer()?);
        Ok(config)
    }

    /// Where the sites of Remotion Lambda lie.
    fn sites(&self) -> anyhow::Result<Option<Url>> {
        let Some(bucket) = &self.remotion_bucket else { return Ok(None) };
        let url = match &self.endpoint {
            None => format!("https://{bucket}.s3.{}.amazonaws.com/sites/", self.region),
            Some(endpoint) => format!("{}/{bucket}/sites/", endpoint.trim_end_matches('/')),
        };
        Ok(Some(url.parse().with_context(|| format!("{url} is no URL"))?))
    }

    /// What knows the user pool.
    fn cognito(&self) -> anyhow::Result<Url> {
        let usual = format!("https://cognito-idp.{}.amazonaws.com/", self.region);
        let url = self.endpoint.as_ref().unwrap_or(&usual);
        url.parse().with_context(|| format!("{url} is no URL"))
    }

    fn issuer(&self) -> anyhow::Result<IssuerConfig> {
        let issuer = format!("https://cognito-idp.{}.amazonaws.com/{}", self.region, self.user_pool);
        Ok(IssuerConfig {
            url: issuer.parse().with_context(|| format!("{issuer} is no URL"))?,
            issuer,
            audience: vec![self.user_pool_client.clone()],
            algorithms: vec![jsonwebtoken::Algorithm::RS256],
            tenant: match self.tenancy {
                Tenancy::Shared => TenantSource::Fixed(crate::identity::DEFAULT_TENANT.to_owned()),
                Tenancy::PerUser => TenantSource::Claim { name: "sub".into(), prefix: String::new() },
            },
            scopes: lastframe_core::accounts::Scopes::USUAL,
            // Only who has the AWS account puts people into groups.
            admins: Some(("cognito:groups".into(), ADMINS.into())),
            jwks: Some(self.cognito()?.join(&format!("{}/.well-known/jwks.json", self.user_pool))?),
        })
    }
}

/// All that functions do.
#[derive(Debug)]
pub struct Cloud {
    api: Api,
    config: Arc<Config>,
    notifier: Notifier,
    routes: Mutex<Routes>,
    retention: Retention,
    kept: Mutex<Kept>,
    renderer: Option<Arc<dyn Renderer>>,
    // Last: nothing of it outlives the process.
    _folder: TempDir,
}

impl Cloud {
    /// Makes ready. Nothing is asked of anybody yet.
    ///
    /// # Errors
    /// When something of the configuration cannot be used.
    pub fn open(settings: &Settings, config: Config, around: Around) -> anyhow::Result<Self> {
        let Around { ports, link_key, post, clock } = around;
        let temporary = tempfile::Builder::new().prefix("lastframe-").tempdir();
        let temporary = temporary.context("cannot make a temporary folder")?;
        let folder = Arc::new(DataFolder::open(temporary.path())?);
        let config = Arc::new(Config { data: folder.path().to_owned(), ..config });
        let public_url: Arc<str> = config.public_url.as_deref().unwrap_or_default().into();
        let outputs = Arc::new(Places::open(folder.join("outputs"), &config.storage)?);
        let logs = Logs::aloud(folder.join("logs"), Arc::clone(&clock));
        let look = LambdaLook {
            function: lambda::functions(&config).pop(),
            accounts: AwsAccounts::of_environment(),
        };
        let sites = Sites {
            folder: folder.join("sites"),
            incoming: folder.join("incoming"),
            directory: Arc::clone(&ports.directory),
            look: Arc::new(look),
            shelf: Some(Arc::new(Shelf::new(settings.sites()?, Arc::clone(&clock)))),
            http: client::http()
                .redirect(reqwest::redirect::Policy::none())
                .timeout(FETCH)
                .build()
                .context("cannot set up HTTP")?,
            max_size: config.max_bundle,
            origins: config.origins.clone().into(),
            changing: Arc::default(),
        };
        let identity = Identity::of_pool(
            Arc::clone(&folder),
            Arc::clone(&ports.accounts),
            Arc::clone(&clock),
            &public_url,
            config.identity.clone(),
            Cognito::new(settings.cognito()?, settings.user_pool_client.clone())?,
        )?;
        let links = Links::read(&link_key, Arc::clone(&public_url))?;
        let webhook = WebhookCourier::new(
            config.webhooks.clone(),
            links.clone(),
            config.links.usual,
            Some(settings.bucket.as_str()),
            Arc::clone(&clock),
        )?;
        let email = mail(settings, &config, post, &outputs, &links, &clock)?;
        let renderer = lambda::renderer(&config, folder.join("sites"), logs.clone(), Arc::clone(&clock))
            .context("cannot make ready to render on Remotion Lambda")?;
        let api = Api {
            queue: Arc::clone(&ports.queue),
            outbox: Arc::clone(&ports.outbox),
            directory: Arc::clone(&ports.directory),
            accounts: Arc::clone(&ports.accounts),
            outputs: Arc::clone(&outputs) as Arc<dyn Outputs>,
            links,
            space: Arc::new(Space::new(folder.path().to_owned(), 0, Arc::clone(&clock))),
            logs: logs.clone(),
            sites,
            identity: Arc::new(identity),
            encryption: None,
            audit: Audit::aloud(),
            clock: Arc::clone(&clock),
            rates: Arc::new(Rates::new(Arc::clone(&clock))),
            live: None,
            mails: email.is_some(),
            metrics: Arc::new(Metrics::new(0)),
            config: Arc::clone(&config),
            public_url,
            stopping: CancellationToken::new(),
        };
        let notifier = Notifier {
            outbox: ports.outbox,
            couriers: Arc::new(Couriers { webhook: Arc::new(webhook), email }),
            clock: Arc::clone(&clock),
            observer: Arc::new(()),
        };
        let retention = Retention { queue: ports.queue, outputs, logs, clock, keep: config.retention };
        Ok(Self {
            api,
            config,
            notifier,
            routes: Mutex::default(),
            retention,
            kept: Mutex::default(),
            renderer,
            _folder: temporary,
        })
    }

    /// The API.
    pub fn router(&self) -> Router {
        http::router(self.api.clone())
    }

    /// What sees an attempt through; none where only other machines render. `name` is who holds its lease.
    #[must_use]
    pub fn worker(&self, name: String) -> Option<Worker> {
        Some(Worker {
            queue: Arc::clone(&self.api.queue),
            directory: Arc::clone(&self.api.directory),
            renderer: Arc::clone(self.renderer.as_ref()?),
            outputs: Arc::clone(&self.api.outputs),
            observer: Arc::new(()),
            options: lastframe_worker::Options {
                name,
                concurrency: 1,
                timeout: self.config.timeout,
                heartbeat: (self.config.lease / 6).min(HEARTBEAT),
                patience: self.config.storage.patience,
                grace: Duration::ZERO,
            },
        })
    }

    /// Tells what is due to be told. Nothing is begun after `enough`, and nothing goes on after `most`: what is broken off is
    /// owed still.
    ///
    /// # Errors
    /// When the outbox cannot say what is due.
    pub async fn tell(&self, enough: Duration, most: Duration) -> anyhow::Result<()> {
        if enough.is_zero() {
            return Ok(());
        }
        let stop = Stop::default();
        let (drain, now) = (stop.drain.clone(), stop.now.clone());
        let timer = tokio::spawn(async move {
            tokio::time::sleep(enough).await;
            drain.cancel();
            tokio::time::sleep(most.saturating_sub(enough)).await;
            now.cancel();
        });
        let mut routes = self.routes.lock().await;
        let told = self.notifier.pass(&mut routes, &stop).await;
        timer.abort();
        Ok(told?)
    }

    /// Forgets what ended long ago and deletes the outputs that are due, for so long at most.
    pub async fn tidy(&self, most: Duration) {
        let mut kept = self.kept.lock().await;
        // Whatever is broken off goes on the next time: the files go before what leads to them.
        drop(tokio::time::timeout(most, self.retention.pass(&mut kept)).await);
    }
}

/// Brings mail: by the server that the settings name, or else by what the stack has.
fn mail(
    settings: &Settings,
    config: &Config,
    post: Arc<dyn Post>,
    outputs: &Arc<Places>,
    links: &Links,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Option<Arc<dyn Courier>>> {
    let outputs = Arc::clone(outputs) as Arc<dyn Outputs>;
    let (links, link_life) = (links.clone(), config.links.usual);
    if let Some(email) = &config.email {
        let sender = Sender::open(email, config.public_url.as_deref().unwrap_or_default(), Arc::clone(clock));
        let sender = sender.context("cannot make ready to send mail")?;
        let mailer = Mailer { sender, outputs, links, link_life };
        return Ok(Some(Arc::new(mailer) as Arc<dyn Courier>));
    }
    let Some(from) = &settings.mail_from else { return Ok(None) };
    let sender = Sender::new(post, mailbox("MailFrom", from)?, None, Arc::clone(clock));
    Ok(Some(Arc::new(Mailer { sender, outputs, links, link_life }) as Arc<dyn Courier>))
}

/// Starts the log of the program: lines of JSON, as CloudWatch reads them.
pub fn start_log() {
    crate::telemetry::start(crate::telemetry::LogFormat::Json, "info");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack() -> Settings {
        Settings {
            region: "eu-central-1".into(),
            public_url: "https://x.execute-api.eu-central-1.amazonaws.com/".into(),
            bucket: "lastframe-1".into(),
            remotion_function: Some("remotion-render-4-0-527-mem2048mb-disk2048mb-120sec".into()),
            remotion_bucket: Some("remotionlambda-eucentral1-abc".into()),
            user_pool: "eu-central-1_abc".into(),
            user_pool_client: "client".into(),
            ..Settings::default()
        }
    }

    #[test]
    fn what_the_stack_says_is_the_configuration() {
        let text = "[enqueue]\nsite = \"films\"\n[queue]\nmax_attempts = 5".to_owned();
        let config = Settings { text, ..stack() }.config().unwrap();
        assert_eq!((config.enqueue_site.as_str(), config.max_attempts), ("films", 5));
        assert_eq!(config.lease, Duration::from_secs(60));
        assert_eq!(config.renderer, RendererName::Lambda);
        assert_eq!(config.origins, ["https://remotionlambda-eucentral1-abc.s3.eu-central-1.amazonaws.com"]);
        assert_eq!(config.public_url.as_deref(), Some("https://x.execute-api.eu-central-1.amazonaws.com"));
        let issuer = &config.identity.issuers[0];
        assert_eq!(issuer.issuer, "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_abc");
        assert_eq!(
            issuer.jwks.as_ref().unwrap().as_str(),
            format!("{}/.well-known/jwks.json", issuer.issuer)
        );
        let alone = Settings { remotion_function: None, ..stack() }.config().unwrap();
        assert_eq!((alone.renderer, alone.lambda.functions.len()), (RendererName::Local, 0));
        let each = Settings { tenancy: Tenancy::PerUser, ..stack() }.config().unwrap();
        let tenant = &each.identity.issuers[0].tenant;
        assert!(matches!(tenant, TenantSource::Claim { name, .. } if name == "sub"), "{tenant:?}");
    }

    #[test]
    fn what_makes_no_sense_there_is_refused_by_name() {
        for (text, named) in [
            ("listen = \"0.0.0.0:80\"", "`listen`"),
            ("[storage]\nurl = \"s3://mine\"", "`storage`"),
            ("[[lambda.function]]\nname = \"f\"\nregion = \"eu-central-1\"", "`lambda.function`"),
            ("[queue]\nleese = \"1m\"", "leese"),
            ("not toml", "settings of the stack"),
        ] {
            let error = format!("{:#}", Settings { text: text.into(), ..stack() }.config().unwrap_err());
            assert!(error.contains(named) && error.contains("settings of the stack"), "{error}");
        }
        let error = Settings { remotion_bucket: None, ..stack() }.config().unwrap_err().to_string();
        assert!(error.contains("RemotionBucket"), "{error}");
    }
}
