//! The SDK's configuration: whose account, which region, and how AWS is spoken with.

use std::io;
use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

/// What the environment says, or the usual files, but for what is named here. Nothing is asked of AWS before something is
/// needed. `AWS_ENDPOINT_URL` and its like lead elsewhere.
pub async fn sdk(profile: Option<&str>, region: Option<&str>) -> SdkConfig {
    let http =
        aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone());
    let region = region.map(|region| Region::new(region.to_owned()));
    if let Some(profile) = profile {
        // Who names a profile means it, whatever keys lie in the environment. It may name a role, which is asked for over HTTP.
        let asking = ProviderConfig::default().with_region(region.clone()).with_http_client(http);
        let keys = ProfileFileCredentialsProvider::builder().configure(&asking).profile_name(profile).build();
        loader = loader.profile_name(profile).credentials_provider(keys);
    }
    if let Some(region) = region {
        loader = loader.region(region);
    }
    loader.load().await
}

/// How long an answer may take: for each go at a request, and for all of them. The SDK itself has a limit for connecting
/// alone, and a connection that a NAT has forgotten, or that a machine slept through, never says that it is gone.
pub(crate) fn within(one: Duration, all: Duration) -> TimeoutConfig {
    let connect = Duration::from_secs(3);
    TimeoutConfig::builder()
        .connect_timeout(connect)
        .operation_attempt_timeout(one)
        .operation_timeout(all)
        .build()
}

/// What requests are signed with now, for another client than the SDK's.
///
/// # Errors
/// `PermissionDenied` when there is nothing.
pub async fn credentials(sdk: &SdkConfig) -> io::Result<Credentials> {
    let found = match sdk.credentials_provider() {
        Some(provider) => {
            provider.provide_credentials().await.map_err(|error| lastframe_core::error_chain(&error))
        }
        None => Err("nothing provides them".into()),
    };
    found.map_err(|why| {
        io::Error::new(io::ErrorKind::PermissionDenied, format!("there are no credentials of AWS: {why}"))
    })
}
