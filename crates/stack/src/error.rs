//! What goes wrong with AWS, in words for whoever typed the command.

use aws_sdk_cloudformation::config::http::HttpResponse;
use aws_sdk_cloudformation::error::{BoxError, DisplayErrorContext, ProvideErrorMetadata, SdkError};

use crate::deploy::Event;

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
    #[error("CloudFormation does not take this change: {reason}")]
    Change {
        /// Why, as a whole.
        reason: String,
        /// What is wrong with which resource, where CloudFormation tells.
        causes: Vec<Event>,
    },
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
    let chain: Vec<String> =
        std::iter::successors(Some(error.as_ref() as &dyn std::error::Error), |error| error.source())
            .map(ToString::to_string)
            .collect();
    // Of which credentials, and why not, is said last; how the SDK came to ask for them helps nobody.
    let message = match chain.iter().position(|said| said.to_lowercase().contains("credential")) {
        Some(at) => format!(
            "there are no credentials to ask it with: {}\nSet AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or say --profile; a profile of IAM \
             Identity Center is signed in with `aws sso login`",
            chain[at..].join(": ")
        ),
        None => chain.join(": "),
    };
    Error::Unreachable { action, message }
}

/// Whether something is there. It is absent when AWS says so, and not when AWS does not say.
pub(crate) fn is_there<T, E>(
    action: &'static str,
    asked: Result<T, SdkError<E, HttpResponse>>,
) -> Result<bool, Error>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let Err(error) = asked else { return Ok(true) };
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    match (status, code) {
        (Some(404), _) | (_, Some("ResourceNotFoundException")) => Ok(false),
        // An answer to HEAD has no body that would say more.
        (Some(status @ (400 | 403)), None) => Err(Error::Refused {
            action,
            code: status.to_string(),
            message:
                "the credentials lack this right or have expired, or what is asked for is another account's"
                    .into(),
        }),
        _ => Err(said(action, error)),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_cognitoidentityprovider::operation::describe_user_pool::DescribeUserPoolError;
    use aws_sdk_cognitoidentityprovider::types::error::ResourceNotFoundException;
    use aws_sdk_cognitoidentityprovider::types::error::TooManyRequestsException;
    use aws_sdk_s3::operation::head_bucket::HeadBucketError;
    use aws_sdk_s3::primitives::SdkBody;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Said(&'static str, #[source] Option<Box<Said>>);

    #[test]
    fn why_there_are_no_credentials_is_said_in_the_sdks_own_words() {
        let sso = Said("This behavior requires following cargo feature(s) enabled: sso", None);
        let loading = Said("an error occurred while loading credentials", Some(Box::new(sso)));
        let outside = Said("dispatch failure", Some(Box::new(loading)));
        let error = SdkError::<HeadBucketError, HttpResponse>::construction_failure(outside);
        let text = said("sts:GetCallerIdentity", error).to_string();
        for part in ["enabled: sso", "--profile", "aws sso login"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("dispatch failure"), "{text}");
        let cause = Said("dns error", Some(Box::new(Said("no such host", None))));
        let error = SdkError::<HeadBucketError, HttpResponse>::construction_failure(cause);
        let text = said("sts:GetCallerIdentity", error).to_string();
        assert!(text.contains("dns error: no such host") && !text.contains("--profile"), "{text}");
    }

    #[test]
    fn only_what_aws_says_is_not_there_is_absent() {
        let answer = |status: u16| HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
        let of_bucket = |status| {
            let error = HeadBucketError::unhandled("no body");
            is_there("s3:ListBucket", Err::<(), _>(SdkError::service_error(error, answer(status))))
        };
        assert!(is_there("s3:ListBucket", Ok::<_, SdkError<HeadBucketError, HttpResponse>>(())).unwrap());
        assert!(!of_bucket(404).unwrap());
        for status in [400, 403, 500, 503] {
            let error = of_bucket(status).unwrap_err();
            assert!(error.to_string().contains("s3:ListBucket"), "{status}: {error}");
        }
        let of_pool = |error| {
            let error = SdkError::service_error(error, answer(400));
            is_there("cognito-idp:DescribeUserPool", Err::<(), _>(error))
        };
        let gone = aws_sdk_cognitoidentityprovider::error::ErrorMetadata::builder()
            .code("ResourceNotFoundException");
        let gone = ResourceNotFoundException::builder().meta(gone.build()).build();
        assert!(!of_pool(DescribeUserPoolError::ResourceNotFoundException(gone)).unwrap());
        let busy =
            aws_sdk_cognitoidentityprovider::error::ErrorMetadata::builder().code("TooManyRequestsException");
        let busy = TooManyRequestsException::builder().meta(busy.build()).build();
        let error = of_pool(DescribeUserPoolError::TooManyRequestsException(busy)).unwrap_err();
        assert!(error.to_string().contains("TooManyRequestsException"), "{error}");
    }
}
