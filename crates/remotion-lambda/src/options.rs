//! What can be asked for, under Remotion's names and with its defaults.
//!
//! Every options type reads and writes the JSON that Remotion's own clients take (`camelCase`); what it does not know is kept
//! in `extra` and sent as it is. Writing one as JSON writes its secrets too: `Debug` is for logs.

mod compositions;
mod media;
mod props;
mod still;
mod words;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use compositions::GetCompositionsOptions;
pub use media::RenderMediaOptions;
pub use props::InputProps;
pub(crate) use props::utf16_len;
pub use still::RenderStillOptions;
pub use words::{
    AudioCodec, Codec, ColorSpace, DeleteAfter, LogLevel, OpenGlRenderer, PixelFormat, Privacy,
    ProResProfile, StillImageFormat, StorageClass, VideoImageFormat, X264Preset,
};

use crate::Error;

/// A text that `Debug` does not show.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Options this version of the crate does not know, under their names on the wire. `Debug` shows the names alone.
#[derive(Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Extra(pub Map<String, Value>);

impl fmt::Debug for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Environment variables of the composition: it reads them as `process.env`.
pub type EnvVariables = BTreeMap<String, Secret>;

/// Settings of the browser. What is `None` is left to Remotion.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChromiumOptions {
    /// Accept certificates that are not good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_certificate_errors: Option<bool>,
    /// Turn the same-origin policy off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_web_security: Option<bool>,
    /// How OpenGL is drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gl: Option<OpenGlRenderer>,
    /// The `User-Agent` of the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Several processes for the browser.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_multi_process_on_linux: Option<bool>,
    /// `prefers-color-scheme: dark`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dark_mode: Option<bool>,
    /// Without a window. On Lambda there is none anyway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headless: Option<bool>,
    /// Settings this version of the crate does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a browser does with the output's address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum DownloadBehavior {
    /// Plays it.
    #[default]
    PlayInBrowser,
    /// Downloads it.
    #[serde(rename_all = "camelCase")]
    Download {
        /// Under this name; `None` is the name in the bucket.
        file_name: Option<String>,
    },
}

/// Where the output goes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum OutName {
    /// This name within the render's own folder, `renders/{render id}/` of the render's bucket.
    Name(String),
    /// This place.
    #[serde(rename_all = "camelCase")]
    Place {
        /// The bucket.
        bucket_name: String,
        /// The whole key.
        key: String,
        /// Another service than AWS that speaks like S3; `None` is AWS.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        s3_output_provider: Option<S3OutputProvider>,
    },
}

/// A service other than AWS that speaks like S3, for the output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct S3OutputProvider {
    /// Its address, such as `https://fra1.digitaloceanspaces.com`.
    pub endpoint: String,
    /// The id of the key.
    #[serde(default)]
    pub access_key_id: Option<String>,
    /// The key.
    #[serde(default)]
    pub secret_access_key: Option<Secret>,
    /// Its region; `None` is `us-east-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The bucket in the path of its addresses, not in their host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_path_style: Option<bool>,
}

/// Whom the function tells how a render ended; see [`webhook`](crate::webhook).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// Where the function posts to.
    pub url: String,
    /// What the signature is made with; without one the header says `NO_SECRET_PROVIDED`.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// Comes back in the payload; at most 1,024 UTF-16 units of JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_data: Option<Map<String, Value>>,
}

/// The longest `customData` of a webhook, in UTF-16 units of its JSON.
const CUSTOM_DATA_LIMIT: usize = 1024;

impl Webhook {
    fn check(&self) -> Result<(), Error> {
        let Some(data) = &self.custom_data else { return Ok(()) };
        let size = utf16_len(&json(data)?);
        if size > CUSTOM_DATA_LIMIT {
            let message = format!("customData is {size} long, and may be {CUSTOM_DATA_LIMIT}");
            return Err(Error::Invalid { option: "webhook", message });
        }
        Ok(())
    }
}

/// Which frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum FrameRange {
    /// One frame, counted from 0.
    Frame(u64),
    /// From the first to the last, both included; `None` is the composition's last.
    Range(u64, Option<u64>),
}

impl From<(u64, u64)> for FrameRange {
    fn from((first, last): (u64, u64)) -> Self {
        Self::Range(first, Some(last))
    }
}

/// How input props reach a function.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum SentProps {
    Payload {
        payload: String,
    },
    #[serde(rename_all = "camelCase")]
    BucketUrl {
        hash: String,
        bucket_name: String,
    },
}

/// The options as they go over the wire: without what only the client needs, and with what it adds.
///
/// `options` must be written without its props: they would be parsed into a tree only to be dropped.
fn on_the_wire(options: &impl Serialize, props: SentProps, adds: Value) -> Result<Map<String, Value>, Error> {
    let reason = |error: serde_json::Error| Error::Invalid { option: "options", message: error.to_string() };
    let Value::Object(mut wire) = serde_json::to_value(options).map_err(reason)? else {
        return Err(Error::Invalid { option: "options", message: "they are not an object".to_owned() });
    };
    wire.remove("functionName");
    if let Some(bucket) = wire.remove("forceBucketName") {
        wire.insert("bucketName".to_owned(), bucket);
    }
    wire.insert("inputProps".to_owned(), serde_json::to_value(props).map_err(reason)?);
    if let Value::Object(adds) = adds {
        wire.extend(adds);
    }
    Ok(wire)
}

pub(crate) fn json(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value)
        .map_err(|error| Error::Invalid { option: "options", message: error.to_string() })
}

/// Writes a whole number as JavaScript would, without a fraction.
fn whole<S: serde::Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    // Exact for every whole number JavaScript can count.
    #[expect(clippy::cast_possible_truncation, reason = "it is compared right after")]
    let integer = *number as i64;
    #[expect(clippy::cast_precision_loss, clippy::float_cmp, reason = "the comparison is what decides")]
    if integer as f64 == *number {
        serializer.serialize_i64(integer)
    } else {
        serializer.serialize_f64(*number)
    }
}

fn whole_or_none<S: serde::Serializer>(number: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match number {
        Some(number) => whole(number, serializer),
        None => serializer.serialize_none(),
    }
}
