//! What goes wrong with AWS, in words for whoever typed the command.

use aws_sdk_cloudformation::error::{BoxError, DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for is wrong, which can be told without AWS.
    #[error("{0}")]
    Usage(String),
    /// There is no such stack.
    #[error(
        "there is no stack {stack} in {region}: `lastframe aws deploy` makes it, --stack and --region name another"
    )]
    Missing {
        /// Its name.
        stack: String,
        /// Where it was looked for.
        region: String,
    },
    /// AWS refused.
    #[error("AWS refused {action}: {message} ({code})")]
    Refused {
        /// What was tried, in IAM's words, such as `cloudformation:CreateChangeSet`.
        action: &'static str,
        /// AWS's word for why.
        code: String,
        /// What AWS said.
        message: String,
    },
    /// AWS was not asked, or gave no answer.
    #[error("{action} did not reach AWS: {message}")]
    Unreachable {
        /// What was tried, in IAM's words.
        action: &'static str,
        /// Why.
        message: String,
    },
    /// A file of this machine cannot be used.
    #[error("{file}: {message}")]
    File {
        /// Which.
        file: String,
        /// Why not.
        message: String,
    },
    /// CloudFormation did not take the change.
    #[error("CloudFormation does not take this change: {0}")]
    Change(String),
    /// AWS answered what this program does not understand.
    #[error("AWS answered without {0}")]
    Answer(&'static str),
}

/// What came of asking AWS for an action, named as IAM names it.
pub(crate) fn said<E, R>(action: &'static str, error: SdkError<E, R>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    if let SdkError::ServiceError(refused) = &error {
        let refused = refused.err();
        let code = refused.code().unwrap_or("no code").to_owned();
        let message = refused.message().filter(|message| !message.is_empty());
        let message = message.map_or_else(|| DisplayErrorContext(refused).to_string(), str::to_owned);
        return Error::Refused { action, code, message };
    }
    let error: BoxError = error.into();
    let chain = DisplayErrorContext(error.as_ref()).to_string();
    // The SDK adds how it looks inside to what happened.
    let message = chain.split(" (").next().unwrap_or(&chain).to_owned();
    let message = if chain.contains("credentials") || chain.contains("Credentials") {
        "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or say --profile".into()
    } else {
        message
    };
    Error::Unreachable { action, message }
}
