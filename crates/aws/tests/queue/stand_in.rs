//! What stands in for AWS: one process of each for all tests of this program.

use std::sync::OnceLock;

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use lastframe_stand_in::StandIn;

/// Something that speaks like AWS.
pub(crate) trait Aws: std::fmt::Debug + Send + Sync + 'static {
    /// Where it listens, once it has been started. It ends with this process.
    fn url() -> &'static str;
}

#[derive(Debug)]
pub(crate) struct MiniStack;

impl Aws for MiniStack {
    fn url() -> &'static str {
        static ONE: OnceLock<StandIn> = OnceLock::new();
        ONE.get_or_init(StandIn::ministack).url()
    }
}

#[derive(Debug)]
pub(crate) struct Moto;

impl Aws for Moto {
    fn url() -> &'static str {
        static ONE: OnceLock<StandIn> = OnceLock::new();
        ONE.get_or_init(StandIn::moto).url()
    }
}

/// How to reach it.
pub(crate) async fn sdk<A: Aws>() -> SdkConfig {
    sdk_at(A::url()).await
}

/// How to reach whatever is at that URL.
pub(crate) async fn sdk_at(url: &str) -> SdkConfig {
    let keys = SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "test"));
    let sdk = lastframe_aws::sdk(None, Some("us-east-1")).await.into_builder();
    sdk.region(Region::new("us-east-1")).endpoint_url(url).credentials_provider(keys).build()
}
