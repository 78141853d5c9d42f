//! Options of a look at a site's compositions.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{ChromiumOptions, EnvVariables, Extra, InputProps, LogLevel, SentProps, on_the_wire};
use crate::Error;

/// Which site [`Client::get_compositions_on_lambda`](crate::Client::get_compositions_on_lambda) looks at, and how.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GetCompositionsOptions {
    /// The function that looks, by name or ARN.
    pub function_name: String,
    /// Remotion's version of the function; `None` reads it from the function's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The site: its URL, or its name within the bucket.
    pub serve_url: String,
    /// Input props for the compositions. Default: `{}`.
    pub input_props: InputProps,
    /// What the compositions read from `process.env`.
    pub env_variables: EnvVariables,
    /// Settings of the browser.
    pub chromium_options: ChromiumOptions,
    /// How long the page may take, in milliseconds. Default: 30,000.
    pub timeout_in_milliseconds: u64,
    /// The bucket. Default: the account's only bucket of Remotion in the region. JavaScript calls it `forceBucketName`.
    #[serde(rename = "forceBucketName", alias = "bucketName")]
    pub bucket_name: Option<String>,
    /// Memory for decoded frames, in bytes.
    pub offthread_video_cache_size_in_bytes: Option<u64>,
    /// Memory for media, in bytes.
    pub media_cache_size_in_bytes: Option<u64>,
    /// The bucket in the path of S3's addresses, not in their host. Default: `false`.
    pub force_path_style: bool,
    /// How much the function logs. Default: info.
    pub log_level: LogLevel,
    /// Options this version of the crate does not know, sent as they are. They win over all others but `type` and `inputProps`.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Default for GetCompositionsOptions {
    fn default() -> Self {
        Self {
            function_name: String::new(),
            version: None,
            serve_url: String::new(),
            input_props: InputProps::default(),
            env_variables: EnvVariables::new(),
            chromium_options: ChromiumOptions::default(),
            timeout_in_milliseconds: 30_000,
            bucket_name: None,
            offthread_video_cache_size_in_bytes: None,
            media_cache_size_in_bytes: None,
            force_path_style: false,
            log_level: LogLevel::default(),
            extra: Extra::default(),
        }
    }
}

impl GetCompositionsOptions {
    /// What has no default in Remotion either.
    pub fn new(function_name: impl Into<String>, serve_url: impl Into<String>) -> Self {
        Self { function_name: function_name.into(), serve_url: serve_url.into(), ..Self::default() }
    }

    pub(crate) fn payload(&self, version: &str, props: SentProps) -> Result<Map<String, Value>, Error> {
        let bare = Self { input_props: InputProps::default(), ..self.clone() };
        on_the_wire(&bare, props, json!({ "type": "compositions", "version": version }))
    }
}
