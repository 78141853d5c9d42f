//! Texts that may be long: in the table while they fit there, else in the bucket.

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::ByteStream;
use lastframe_core::error_chain;
use lastframe_core::ports::QueueError;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::table::{fault, storage};

/// The longest text that is kept in the table, in bytes. As many of these as a submit may bring fit into one transaction,
/// which takes 4 MB.
pub(super) const IN_THE_TABLE: usize = 128 * 1024;

/// A text, or where it lies. Says nothing of itself in logs, for there are secrets in requests.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Body {
    text: Option<String>,
    /// The key of an object in the bucket.
    object: Option<String>,
}

impl Body {
    /// The object that it lies in, if it does not lie in the table.
    pub(super) fn object(&self) -> Option<&str> {
        self.object.as_deref()
    }
}

impl Shared {
    /// Keeps a text: under that name, if it goes to the bucket. It is there when this returns.
    pub(super) async fn keep(&self, name: impl FnOnce() -> String, text: String) -> Result<Body, QueueError> {
        if text.len() <= IN_THE_TABLE {
            return Ok(Body { text: Some(text), object: None });
        }
        let name = name();
        let put =
            self.s3.put_object().bucket(&self.options.bucket).key(&name).content_type("application/json");
        put.body(ByteStream::from(text.into_bytes())).send().await.map_err(fault)?;
        Ok(Body { text: None, object: Some(name) })
    }

    /// The text; none when it is gone, or never was.
    ///
    /// # Errors
    /// When the bucket cannot answer now.
    pub(super) async fn open(&self, body: Body) -> Result<Option<String>, QueueError> {
        match body {
            Body { text: Some(text), .. } => Ok(Some(text)),
            Body { object: Some(name), .. } => {
                let got = self.s3.get_object().bucket(&self.options.bucket).key(name).send().await;
                let got = match got {
                    Err(error) if error.code() == Some("NoSuchKey") => return Ok(None),
                    got => got.map_err(fault)?,
                };
                let bytes = got.body.collect().await.map_err(storage)?.into_bytes();
                String::from_utf8(bytes.into()).map(Some).map_err(storage)
            }
            Body { .. } => Ok(None),
        }
    }

    /// Deletes an object that nothing names any more. One that stays is in nobody's way.
    pub(super) async fn drop_object(&self, name: &str) {
        let deleted = self.s3.delete_object().bucket(&self.options.bucket).key(name).send().await;
        if let Err(error) = deleted.map_err(fault) {
            tracing::warn!(
                name,
                error = error_chain(&error),
                "an object could not be deleted from the bucket"
            );
        }
    }
}
