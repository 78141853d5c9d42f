//! Lastframe on AWS: the only room that knows an AWS SDK.
//!
//! [`queue`] is the queue on DynamoDB and SQS; [`render`] makes videos on Remotion Lambda, behind the worker's port;
//! [`outputs`] reaches what it has made, where it lies; [`inspect`] looks whether all that is needed for it is there.

mod account;
pub mod inspect;
pub mod outputs;
pub mod queue;
pub mod render;
mod sdk;

pub use aws_config::SdkConfig;

pub use self::account::Accounts;
pub use self::sdk::{credentials, sdk};

/// A function of Remotion Lambda that renders go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The region of AWS that it is in.
    pub region: String,
    /// The bucket of its renders; Remotion's own of that region when absent.
    pub bucket: Option<String>,
    /// The number of the AWS account's keys in the environment; the usual credentials when absent.
    pub account: Option<u32>,
}

/// The version of Remotion that a function's name tells, such as `4.0.527`.
#[must_use]
pub fn version_of(function: &str) -> Option<String> {
    function.parse::<remotion_lambda::FunctionName>().ok()?.version()
}

/// What AWS said, with a kind that tells whether it may pass: for sure with `ResourceBusy`, not with `PermissionDenied`, `NotFound`
/// and `InvalidInput`.
fn fault(error: &remotion_lambda::Error) -> std::io::Error {
    use remotion_lambda::Error;
    use std::io::ErrorKind::{InvalidData, InvalidInput, NotFound, Other, PermissionDenied, ResourceBusy};
    let kind = match error {
        error if error.is_transient() => ResourceBusy,
        Error::Credentials { .. } | Error::AccessDenied { .. } => PermissionDenied,
        Error::FunctionMissing { .. } | Error::RenderMissing { .. } => NotFound,
        Error::Invalid { .. } | Error::SeveralBuckets { .. } => InvalidInput,
        Error::Aws { code, .. } if code == "NoSuchBucket" => NotFound,
        Error::Reply { .. } => InvalidData,
        _ => Other,
    };
    std::io::Error::new(kind, error.to_string())
}
