//! What functions post when a render ends, and whether it is theirs.
//!
//! A function posts JSON with three headers: `X-Remotion-Mode` is `production`, or `demo` from Remotion's page for trying
//! webhooks; `X-Remotion-Status` is the payload's type; `X-Remotion-Signature` is `sha512=` and the hexadecimal HMAC-SHA-512 of
//! the body with the webhook's secret, or `NO_SECRET_PROVIDED`. It waits ten seconds for a status of 200 to 299, and tries three
//! times.
//!
//! A caution: functions count a body's length in UTF-16 units and not in bytes (seen in 4.0.527), so one with other letters than
//! ASCII's, in `customData` or in an error, may not arrive. Where it matters, ask for the progress too.

use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::Sha512;
use thiserror::Error as ThisError;

use crate::progress::{LambdaError, PostRenderCost};

/// The header with the signature.
pub const SIGNATURE_HEADER: &str = "X-Remotion-Signature";

/// What the header says where the webhook has no secret.
const NO_SECRET: &str = "NO_SECRET_PROVIDED";

/// How a render ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WebhookPayload {
    /// It is done.
    Success(WebhookSuccess),
    /// It failed.
    Error(WebhookError),
    /// The function that led it reached its time limit.
    Timeout(WebhookRender),
}

impl WebhookPayload {
    /// Which render.
    #[must_use]
    pub fn render(&self) -> &WebhookRender {
        match self {
            Self::Success(success) => &success.render,
            Self::Error(error) => &error.render,
            Self::Timeout(render) => render,
        }
    }
}

/// Which render.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookRender {
    /// Its id.
    pub render_id: String,
    /// Its bucket.
    pub bucket_name: String,
    /// The account the bucket should belong to.
    #[serde(default)]
    pub expected_bucket_owner: Option<String>,
    /// The `customData` it was started with.
    #[serde(default)]
    pub custom_data: Option<Map<String, Value>>,
}

/// A render that is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookSuccess {
    /// Which render.
    #[serde(flatten)]
    pub render: WebhookRender,
    /// What went wrong on the way, and was tried again.
    #[serde(default)]
    pub lambda_errors: Vec<LambdaError>,
    /// Where the output is.
    #[serde(default)]
    pub output_url: Option<String>,
    /// The same.
    #[serde(default)]
    pub output_file: Option<String>,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub time_to_finish: Option<f64>,
    /// About what it cost.
    pub costs: PostRenderCost,
}

/// A render that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookError {
    /// Which render.
    #[serde(flatten)]
    pub render: WebhookRender,
    /// Why.
    pub errors: Vec<WebhookFault>,
}

/// Why a render failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookFault {
    /// What was said.
    pub message: String,
    /// JavaScript's name for it.
    pub name: String,
    /// Where.
    #[serde(default)]
    pub stack: String,
}

/// Why a webhook is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum WebhookSignatureError {
    /// No secret to compare with was given.
    #[error("there is no secret to validate webhooks with")]
    NoSecret,
    /// It was not signed.
    #[error("the webhook is not signed")]
    Unsigned,
    /// It was signed with another secret, or changed since.
    #[error("the signature of the webhook is not of this secret and this body")]
    Different,
}

/// Whether a webhook was signed with `secret`. `body` is the request's body as it came: parsing it and writing it again may change
/// it. The comparison takes the same time wherever they differ.
///
/// # Errors
/// [`WebhookSignatureError`] says why it must not be believed.
pub fn validate_webhook_signature(
    secret: &str,
    body: &[u8],
    signature_header: Option<&str>,
) -> Result<(), WebhookSignatureError> {
    if secret.is_empty() {
        return Err(WebhookSignatureError::NoSecret);
    }
    let signature = signature_header.filter(|header| !header.is_empty() && *header != NO_SECRET);
    let Some(signature) = signature else { return Err(WebhookSignatureError::Unsigned) };
    let signature =
        signature.strip_prefix("sha512=").and_then(unhex).ok_or(WebhookSignatureError::Different)?;
    let mut mac =
        Hmac::<Sha512>::new_from_slice(secret.as_bytes()).map_err(|_| WebhookSignatureError::NoSecret)?;
    mac.update(body);
    mac.verify_slice(&signature).map_err(|_| WebhookSignatureError::Different)
}

/// Bytes of hexadecimal digits, in small letters as functions write them.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with node:crypto, as functions do it.
    const BODY: &str = r#"{"type":"timeout","renderId":"abc","bucketName":"b","expectedBucketOwner":"1","customData":{"a":"ä"}}"#;
    const SIGNATURE: &str = "sha512=bfa369f37653fbb85a832a2b38bf5c489b2f3744d1f56eb336d6855133a95537\
        5f4a633eb63e8ae799ef1e650955f2f0d9b058503560a9886ddc020e17d779f2";

    fn validate(secret: &str, body: &str, header: Option<&str>) -> Result<(), WebhookSignatureError> {
        validate_webhook_signature(secret, body.as_bytes(), header)
    }

    #[test]
    fn a_good_signature_is_taken_and_no_other() {
        use WebhookSignatureError::{Different, NoSecret, Unsigned};
        let good = SIGNATURE;
        assert_eq!(validate("s3cret", BODY, Some(good)), Ok(()));
        assert_eq!(validate("other", BODY, Some(good)), Err(Different));
        assert_eq!(validate("s3cret", &BODY.replace("abc", "abd"), Some(good)), Err(Different));
        assert_eq!(validate("s3cret", BODY, Some(&good[..good.len() - 2])), Err(Different));
        assert_eq!(validate("s3cret", BODY, Some(&good.to_uppercase())), Err(Different));
        assert_eq!(validate("s3cret", BODY, Some("sha512=")), Err(Different));
        assert_eq!(validate("s3cret", BODY, Some("NO_SECRET_PROVIDED")), Err(Unsigned));
        assert_eq!(validate("s3cret", BODY, Some("")), Err(Unsigned));
        assert_eq!(validate("s3cret", BODY, None), Err(Unsigned));
        assert_eq!(validate("", BODY, Some(good)), Err(NoSecret));
    }

    #[test]
    fn payloads_are_read() {
        let timeout: WebhookPayload = serde_json::from_str(BODY).unwrap();
        assert!(matches!(&timeout, WebhookPayload::Timeout(render) if render.render_id == "abc"));
        let error = r#"{"type":"error","renderId":"x","expectedBucketOwner":"1","bucketName":"b","customData":null,
            "errors":[{"message":"m","name":"Error","stack":"s"}]}"#;
        let WebhookPayload::Error(error) = serde_json::from_str(error).unwrap() else {
            panic!("it is an error")
        };
        assert_eq!((error.render.render_id.as_str(), error.errors[0].message.as_str()), ("x", "m"));
        let success = r#"{"type":"success","renderId":"x","expectedBucketOwner":"1","bucketName":"b","customData":null,
            "outputUrl":"u","outputFile":"u","timeToFinish":12,"lambdaErrors":[],
            "costs":{"estimatedCost":0.01,"estimatedDisplayCost":"$0.010","currency":"USD","disclaimer":"d"}}"#;
        let success: WebhookPayload = serde_json::from_str(success).unwrap();
        assert_eq!(success.render().bucket_name, "b");
    }
}
