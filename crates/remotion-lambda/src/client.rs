//! The client: a region, credentials, and connections.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::config::{Credentials, Region, SharedHttpClient, StalledStreamProtectionConfig};
use aws_smithy_async::time::SharedTimeSource;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use tokio::sync::OnceCell;

use crate::options::S3OutputProvider;
use crate::{Error, credentials};

/// How long a request to S3 or STS may take, once. What is asked for is small.
const SMALL_REQUEST: Duration = Duration::from_secs(60);

/// Remotion Lambda in one region.
///
/// Its methods have the names of Remotion's functions. They are methods, and not functions as in JavaScript, because what those
/// take with every call is the same for all of them: a region, credentials, and the connections that are kept open.
///
/// Cloning is cheap, and clones share their connections. Dropping a call stops waiting for it and nothing else: what was asked
/// for goes on.
#[derive(Clone)]
pub struct Client {
    pub(crate) lambda: aws_sdk_lambda::Client,
    pub(crate) s3: aws_sdk_s3::Client,
    sts: aws_sdk_sts::Client,
    region: String,
    time: SharedTimeSource,
    account: Arc<OnceCell<String>>,
}

impl Client {
    /// A client that finds everything but the region in the environment, as Remotion's clients do.
    ///
    /// Credentials are the first there are of `REMOTION_AWS_PROFILE`, `REMOTION_AWS_ACCESS_KEY_ID` with
    /// `REMOTION_AWS_SECRET_ACCESS_KEY` and perhaps `REMOTION_AWS_SESSION_TOKEN`, the same without `REMOTION_`, and then AWS's own
    /// chain: shared files, roles of functions, containers and machines. They are looked for with the first request.
    /// `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_LAMBDA`, `AWS_ENDPOINT_URL_S3` and `AWS_ENDPOINT_URL_STS` lead elsewhere.
    pub async fn from_env(region: impl Into<String>) -> Self {
        let region = region.into();
        let http = http_client();
        let loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(region.clone()))
            .http_client(http.clone());
        let config = credentials::from_env(loader, &region, &http).load().await;
        Self::with(&config, region)
    }

    /// A client with a configuration of the AWS SDK. Without an HTTP client of its own it gets one on rustls and ring.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it has no region.
    pub fn new(config: &SdkConfig) -> Result<Self, Error> {
        let Some(region) = config.region().map(ToString::to_string) else {
            return Err(Error::Invalid {
                option: "region",
                message: "the configuration has none".to_owned(),
            });
        };
        if config.http_client().is_some() {
            return Ok(Self::with(config, region));
        }
        Ok(Self::with(&config.clone().into_builder().http_client(http_client()).build(), region))
    }

    fn with(config: &SdkConfig, region: String) -> Self {
        // Starting a render twice costs twice: nothing is tried again but by who knows what it means. And a function may well
        // be silent for a while.
        let lambda = aws_sdk_lambda::config::Builder::from(config)
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(SMALL_REQUEST).build();
        let s3 = aws_sdk_s3::config::Builder::from(config).timeout_config(timeouts.clone()).build();
        let sts = aws_sdk_sts::config::Builder::from(config).timeout_config(timeouts).build();
        Self {
            lambda: aws_sdk_lambda::Client::from_conf(lambda),
            s3: aws_sdk_s3::Client::from_conf(s3),
            sts: aws_sdk_sts::Client::from_conf(sts),
            region,
            time: config.time_source().unwrap_or_default(),
            account: Arc::default(),
        }
    }

    /// The same client, with buckets in the path of S3's addresses and not in their host: for other services than AWS's.
    #[must_use]
    pub fn force_path_style(mut self) -> Self {
        let s3 = self.s3.config().to_builder().force_path_style(true).build();
        self.s3 = aws_sdk_s3::Client::from_conf(s3);
        self
    }

    /// Its region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The SDK's client of Lambda, for what this crate does not do. It tries nothing again.
    #[must_use]
    pub fn lambda(&self) -> &aws_sdk_lambda::Client {
        &self.lambda
    }

    /// The SDK's client of S3, for what this crate does not do.
    #[must_use]
    pub fn s3(&self) -> &aws_sdk_s3::Client {
        &self.s3
    }

    /// Milliseconds since 1970, by the clock of the SDK's configuration.
    pub(crate) fn now(&self) -> i64 {
        let since = self.time.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    /// The account's number, which S3 is told so that nobody else's bucket is taken for ours. Asked for once.
    pub(crate) async fn account(&self) -> Result<&str, Error> {
        let account = self.account.get_or_try_init(|| async {
            let action = "sts:GetCallerIdentity";
            let identity =
                self.sts.get_caller_identity().send().await.map_err(|error| Error::aws(action, &error))?;
            identity.account.ok_or_else(|| Error::Reply { action, message: "it names no account".to_owned() })
        });
        account.await.map(String::as_str)
    }

    /// S3, or what is used instead of it.
    pub(crate) fn storage(&self, provider: Option<&S3OutputProvider>) -> aws_sdk_s3::Client {
        let Some(provider) = provider else { return self.s3.clone() };
        let region = provider.region.clone().unwrap_or_else(|| "us-east-1".to_owned());
        let mut config = self
            .s3
            .config()
            .to_builder()
            .region(Region::new(region))
            .endpoint_url(&provider.endpoint)
            .force_path_style(provider.force_path_style.unwrap_or(false));
        if let (Some(id), Some(secret)) = (&provider.access_key_id, &provider.secret_access_key) {
            config = config.credentials_provider(Credentials::new(
                id,
                secret.expose(),
                None,
                None,
                "output provider",
            ));
        }
        aws_sdk_s3::Client::from_conf(config.build())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("region", &self.region).finish_non_exhaustive()
    }
}

fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}
