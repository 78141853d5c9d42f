//! What can go wrong, by what one can do about it.

use std::error::Error as StdError;
use std::fmt::Debug;
use std::io;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_lambda::config::http::HttpResponse;
use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use thiserror::Error as ThisError;

/// The longest text of somebody else's that an error carries, in bytes.
const TEXT_LIMIT: usize = 16 * 1024;

/// What went wrong. [`advice`](Self::advice) says what to do about it.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The account runs as many functions as it may, or asks too often. Nothing was rendered, and nothing is wrong with the
    /// render: wait, and start it again.
    #[error("throttled by AWS: {message}")]
    Throttled {
        /// What AWS said.
        message: String,
        /// How long AWS asked to wait, if it did.
        retry_after: Option<Duration>,
    },
    /// There is no such function in this region.
    #[error("there is no function {function} in {region}")]
    FunctionMissing {
        /// Its name.
        function: String,
        /// Where it was looked for.
        region: String,
    },
    /// The function's name does not tell Remotion's version, and the options do not either.
    #[error("the version of {function} is not known")]
    VersionUnknown {
        /// Its name.
        function: String,
    },
    /// The function is of another version of Remotion than it was called with.
    #[error("{message}")]
    VersionMismatch {
        /// The version it was called with.
        sent: String,
        /// What the function said; it names its own version.
        message: String,
    },
    /// There are no credentials, or AWS does not take them.
    #[error("credentials: {message}")]
    Credentials {
        /// What is wrong with them.
        message: String,
        /// Whether others may come by themselves: these have expired, or whoever gives them did not answer.
        passing: bool,
    },
    /// The credentials are good, and do not allow this.
    #[error("{action} is not allowed: {message}")]
    AccessDenied {
        /// What was tried, in IAM's words, such as `lambda:InvokeFunction`.
        action: &'static str,
        /// What AWS said.
        message: String,
    },
    /// Remotion refused or failed, and said so.
    #[error("{message}")]
    Render {
        /// What it said.
        message: String,
        /// JavaScript's stack; empty if it had none.
        stack: String,
    },
    /// The function broke: it crashed, ran out of memory, or is no function of Remotion's.
    #[error("the function failed: {message}")]
    Function {
        /// The name of the fault, such as `Runtime.ExitError`.
        kind: Option<String>,
        /// What Lambda said.
        message: String,
        /// Where, line by line; empty if Lambda does not know.
        trace: Vec<String>,
    },
    /// The function reached its own time limit.
    #[error("the function reached its time limit: {message}")]
    FunctionTimedOut {
        /// What Lambda said.
        message: String,
    },
    /// No answer came in time. What was asked for may have happened all the same.
    #[error("no answer to {action} in time")]
    TimedOut {
        /// What was tried, in IAM's words.
        action: &'static str,
    },
    /// AWS could not be reached, or the connection broke.
    #[error("{action} did not reach AWS: {message}")]
    Unreachable {
        /// What was tried, in IAM's words.
        action: &'static str,
        /// Why.
        message: String,
        /// Whether the request may have arrived.
        sent: bool,
    },
    /// There is no such render in this bucket.
    #[error("there is no render {render_id} in {bucket_name}")]
    RenderMissing {
        /// Its id.
        render_id: String,
        /// Where it was looked for.
        bucket_name: String,
    },
    /// There are several buckets of Remotion in this region, and none was chosen.
    #[error("there are several buckets of Remotion in {region}: {}", buckets.join(", "))]
    SeveralBuckets {
        /// The region.
        region: String,
        /// Their names.
        buckets: Vec<String>,
    },
    /// The render was not started with `enable_cancellation`.
    #[error("render {render_id} was not started with enableCancellation, so it cannot be cancelled")]
    NotCancellable {
        /// Its id.
        render_id: String,
    },
    /// An option is wrong, which can be told without asking AWS.
    #[error("{option}: {message}")]
    Invalid {
        /// Its name on the wire.
        option: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The answer was not what the protocol has.
    #[error("unexpected answer to {action}: {message}")]
    Reply {
        /// What was tried, in IAM's words.
        action: &'static str,
        /// What is odd.
        message: String,
    },
    /// Any other answer of AWS.
    #[error("{action} failed with {code}: {message}")]
    Aws {
        /// What was tried, in IAM's words.
        action: &'static str,
        /// AWS's name for it.
        code: String,
        /// What AWS said.
        message: String,
        /// The HTTP status; 0 if there was none.
        status: u16,
        /// What AWS's support asks for.
        request_id: Option<String>,
    },
}

impl Error {
    /// Whether AWS asked to slow down. Then nothing was started: wait, and try again.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        matches!(self, Self::Throttled { .. })
    }

    /// How long AWS asked to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the same may work later, unchanged: throttling, time-outs, lost connections, faults of AWS, and credentials that
    /// are renewed by themselves.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Throttled { .. } | Self::TimedOut { .. } | Self::Unreachable { .. } => true,
            Self::Credentials { passing, .. } => *passing,
            Self::Aws { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Whether what was asked for may have happened in spite of the error. A render that may have started would cost twice, and
    /// write two outputs, if it were simply started again.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::TimedOut { .. }
            | Self::FunctionTimedOut { .. }
            | Self::Function { .. }
            | Self::Reply { .. } => true,
            Self::Unreachable { sent, .. } => *sent,
            Self::Aws { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// What to do about it, for a person.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::Throttled { .. } => {
                "Wait and try again. To render more at once, raise the account's limit of concurrent Lambda executions \
                 (https://www.remotion.dev/docs/lambda/troubleshooting/rate-limit), or give each render fewer functions \
                 with framesPerLambda."
            }
            Self::FunctionMissing { .. } => {
                "Deploy a function in this region with `npx remotion lambda functions deploy`, or see what there is with \
                 `npx remotion lambda functions ls`."
            }
            Self::VersionUnknown { .. } => {
                "Set `version` to the Remotion version that the function was deployed with."
            }
            Self::VersionMismatch { .. } => {
                "Deploy a function of the version you want, or set `version` to the function's own. The site should be of \
                 that version too. See https://www.remotion.dev/docs/lambda/upgrading"
            }
            Self::Credentials { .. } => {
                "Set REMOTION_AWS_ACCESS_KEY_ID and REMOTION_AWS_SECRET_ACCESS_KEY, or the AWS_ ones, or a profile; or run \
                 where a role gives them. See https://www.remotion.dev/docs/lambda/authentication"
            }
            Self::AccessDenied { .. } => {
                "Allow it in the policy of the user or the role. See https://www.remotion.dev/docs/lambda/permissions"
            }
            Self::FunctionTimedOut { .. } => {
                "Render fewer frames for each function (framesPerLambda), or deploy a function with a longer time limit."
            }
            Self::SeveralBuckets { .. } => {
                "Choose one with bucket_name. See https://www.remotion.dev/docs/lambda/multiple-buckets"
            }
            Self::NotCancellable { .. } => "Start renders that may be cancelled with enable_cancellation.",
            Self::TimedOut { .. } => "It may have happened all the same: look before doing it again.",
            _ => return None,
        })
    }

    /// What AWS answered to `action`, or why it did not. Also for calls of your own with [`Client::s3`](crate::Client::s3) and
    /// [`Client::lambda`](crate::Client::lambda).
    pub fn aws<E>(action: &'static str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        match error {
            SdkError::TimeoutError(_) => Self::TimedOut { action },
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Self::TimedOut { action },
            SdkError::DispatchFailure(_) => Self::not_dispatched(action, error),
            SdkError::ServiceError(context) => {
                let code = error.code().unwrap_or_default();
                Self::refused(action, code, error.message().unwrap_or_default(), context.raw())
            }
            SdkError::ResponseError(_) => Self::Reply { action, message: shown(error) },
            _ => Self::Invalid { option: "options", message: shown(error) },
        }
    }

    /// Why an answer that had begun did not go on.
    pub(crate) fn aws_event<E, R>(action: &'static str, error: &SdkError<E, R>) -> Self
    where
        E: StdError + 'static,
        R: Debug + 'static,
    {
        Self::Unreachable { action, message: shown(error), sent: true }
    }

    fn not_dispatched(action: &'static str, error: &(dyn StdError + 'static)) -> Self {
        if let Some(cause) = causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>()) {
            use CredentialsError::{CredentialsNotLoaded, InvalidConfiguration};
            // That there are none, or that a file is wrong, stays so. A service that gives them may be back in a moment.
            let passing = !matches!(cause, CredentialsNotLoaded(_) | InvalidConfiguration(_));
            return Self::Credentials { message: shown(cause), passing };
        }
        // No answer to a name, or none from a host: the request never left.
        let unsent = causes(error).any(|cause| {
            cause.to_string().contains("dns error")
                || cause.downcast_ref::<io::Error>().is_some_and(|cause| {
                    use io::ErrorKind::{
                        AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable,
                    };
                    matches!(
                        cause.kind(),
                        ConnectionRefused | HostUnreachable | NetworkUnreachable | AddrNotAvailable
                    )
                })
        });
        Self::Unreachable { action, message: shown(error), sent: !unsent }
    }

    fn refused(action: &'static str, code: &str, message: &str, answer: &HttpResponse) -> Self {
        let message = cut(message);
        let status = answer.status().as_u16();
        match code {
            "ExpiredToken" | "ExpiredTokenException" => {
                Self::Credentials { message: format!("{code}: {message}"), passing: true }
            }
            "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidAccessKeyId"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "IncompleteSignature"
            | "MissingAuthenticationTokenException"
            | "InvalidToken" => Self::Credentials { message: format!("{code}: {message}"), passing: false },
            "TooManyRequestsException"
            | "ThrottlingException"
            | "Throttling"
            | "SlowDown"
            | "RequestLimitExceeded"
            | "EC2ThrottledException" => Self::Throttled { message, retry_after: retry_after(answer) },
            _ if status == 429 => Self::Throttled { message, retry_after: retry_after(answer) },
            "AccessDeniedException" | "AccessDenied" => Self::AccessDenied { action, message },
            _ if status == 403 => Self::AccessDenied { action, message },
            _ => Self::Aws {
                action,
                code: if code.is_empty() { format!("status {status}") } else { code.to_owned() },
                message,
                status,
                request_id: header(answer, "x-amzn-requestid").or_else(|| header(answer, "x-amz-request-id")),
            },
        }
    }

    /// What a function of Remotion's said with `{"type": "error"}`.
    pub(crate) fn from_remotion(message: &str, stack: &str, sent_version: &str) -> Self {
        let throttled = |text: &str| {
            text.contains("TooManyRequestsException") || text.contains("ConcurrentInvocationLimitExceeded")
        };
        if throttled(message) || throttled(stack) {
            return Self::Throttled { message: cut(message), retry_after: None };
        }
        if message.starts_with("Version mismatch") {
            return Self::VersionMismatch { sent: sent_version.to_owned(), message: cut(message) };
        }
        Self::Render { message: cut(message), stack: cut(stack) }
    }
}

/// Bounded, at the border of a character.
pub(crate) fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_LIMIT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// An error with its causes. Not with their `Debug`, which holds whole answers.
fn shown(error: &(dyn StdError + 'static)) -> String {
    let causes: Vec<String> = causes(error).map(ToString::to_string).collect();
    cut(&causes.join(": "))
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    fn cause<'a>(error: &&'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
        (*error).source()
    }
    std::iter::successors(Some(error), cause)
}

fn header(answer: &HttpResponse, name: &str) -> Option<String> {
    answer.headers().get(name).map(str::to_owned)
}

fn retry_after(answer: &HttpResponse) -> Option<Duration> {
    header(answer, "retry-after").and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use aws_sdk_lambda::error::{ConnectorError, ErrorMetadata};
    use aws_sdk_lambda::operation::invoke::InvokeError;
    use aws_sdk_lambda::primitives::SdkBody;

    use super::*;

    fn refused(code: &str) -> Error {
        let error = InvokeError::generic(ErrorMetadata::builder().code(code).build());
        let answer = HttpResponse::new(403.try_into().unwrap(), SdkBody::empty());
        Error::aws("lambda:InvokeFunction", &SdkError::service_error(error, answer))
    }

    fn not_given(error: CredentialsError) -> Error {
        let failure = ConnectorError::other(error.into(), None);
        Error::aws::<InvokeError>("lambda:InvokeFunction", &SdkError::dispatch_failure(failure))
    }

    #[test]
    fn credentials_that_may_come_are_told_from_those_that_will_not() {
        let provider = || CredentialsError::provider_error("the service answers 503");
        let late = CredentialsError::provider_timed_out(Duration::from_secs(5));
        for error in [not_given(provider()), not_given(late), refused("ExpiredTokenException")] {
            assert!(matches!(error, Error::Credentials { passing: true, .. }), "{error:?}");
            assert!(error.is_transient() && !error.may_have_happened());
        }
        for error in [not_given(CredentialsError::not_loaded_no_source()), refused("InvalidClientTokenId")] {
            assert!(matches!(error, Error::Credentials { passing: false, .. }), "{error:?}");
            assert!(!error.is_transient());
        }
    }
}
