//! Options of a still.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    ChromiumOptions, DeleteAfter, DownloadBehavior, EnvVariables, Extra, InputProps, LogLevel, OutName,
    Privacy, Secret, SentProps, StillImageFormat, StorageClass, on_the_wire, whole, whole_or_none,
};
use crate::Error;

/// What [`Client::render_still_on_lambda`](crate::Client::render_still_on_lambda) renders, and how.
///
/// New fields may come with new versions of Remotion: end literals with `..`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RenderStillOptions {
    /// The function that renders, by name or ARN.
    pub function_name: String,
    /// Remotion's version of the function; `None` reads it from the function's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The site: its URL, or its name within the bucket.
    pub serve_url: String,
    /// The composition's id.
    pub composition: String,
    /// The composition's input props. Default: `{}`.
    pub input_props: InputProps,
    /// The format of the image. Default: PNG.
    pub image_format: StillImageFormat,
    /// Who may fetch the output. Default: everybody.
    pub privacy: Privacy,
    /// What the composition reads from `process.env`.
    pub env_variables: EnvVariables,
    /// Quality of a JPEG, 0 to 100. Default: 80.
    pub jpeg_quality: u8,
    /// How often the function tries again. Default: 1.
    pub max_retries: u32,
    /// Which frame; negative ones count from the end. Default: 0.
    pub frame: i64,
    /// Where the output goes. Default: `renders/{render id}/out.{extension}`.
    pub out_name: Option<OutName>,
    /// How long the page may take, in milliseconds. Default: 30,000.
    pub timeout_in_milliseconds: u64,
    /// Settings of the browser.
    pub chromium_options: ChromiumOptions,
    /// Factor of width and height. Default: 1.
    #[serde(serialize_with = "whole")]
    pub scale: f64,
    /// What browsers do with the output. Default: show it.
    pub download_behavior: DownloadBehavior,
    /// Another width than the composition's, in pixels.
    pub force_width: Option<u32>,
    /// Another height than the composition's, in pixels.
    pub force_height: Option<u32>,
    /// Other frames in a second than the composition's.
    #[serde(serialize_with = "whole_or_none")]
    pub force_fps: Option<f64>,
    /// Another duration than the composition's, in frames.
    pub force_duration_in_frames: Option<u64>,
    /// The bucket. Default: the account's only bucket of Remotion in the region. JavaScript calls it `forceBucketName`.
    #[serde(rename = "forceBucketName", alias = "bucketName")]
    pub bucket_name: Option<String>,
    /// Memory for decoded frames, in bytes.
    pub offthread_video_cache_size_in_bytes: Option<u64>,
    /// Memory for media, in bytes.
    pub media_cache_size_in_bytes: Option<u64>,
    /// Threads that decode video.
    pub offthread_video_threads: Option<u32>,
    /// When S3 deletes the output. Default: never.
    pub delete_after: Option<DeleteAfter>,
    /// The bucket in the path of S3's addresses, not in their host. Default: `false`.
    pub force_path_style: bool,
    /// The key of Remotion's licence.
    #[serde(alias = "apiKey")]
    pub license_key: Option<Secret>,
    /// How S3 keeps the output.
    pub storage_class: Option<StorageClass>,
    /// Whether it counts as use in production. Default: the function takes `true`.
    pub is_production: Option<bool>,
    /// How much the function logs. Default: info.
    pub log_level: LogLevel,
    /// Options this version of the crate does not know, sent as they are. They win over all others but `type` and `inputProps`.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Default for RenderStillOptions {
    fn default() -> Self {
        Self {
            function_name: String::new(),
            version: None,
            serve_url: String::new(),
            composition: String::new(),
            input_props: InputProps::default(),
            image_format: StillImageFormat::default(),
            privacy: Privacy::default(),
            env_variables: EnvVariables::new(),
            jpeg_quality: 80,
            max_retries: 1,
            frame: 0,
            out_name: None,
            timeout_in_milliseconds: 30_000,
            chromium_options: ChromiumOptions::default(),
            scale: 1.0,
            download_behavior: DownloadBehavior::default(),
            force_width: None,
            force_height: None,
            force_fps: None,
            force_duration_in_frames: None,
            bucket_name: None,
            offthread_video_cache_size_in_bytes: None,
            media_cache_size_in_bytes: None,
            offthread_video_threads: None,
            delete_after: None,
            force_path_style: false,
            license_key: None,
            storage_class: None,
            is_production: None,
            log_level: LogLevel::default(),
            extra: Extra::default(),
        }
    }
}

impl RenderStillOptions {
    /// What has no default in Remotion either.
    pub fn new(
        function_name: impl Into<String>,
        serve_url: impl Into<String>,
        composition: impl Into<String>,
        image_format: StillImageFormat,
    ) -> Self {
        Self {
            function_name: function_name.into(),
            serve_url: serve_url.into(),
            composition: composition.into(),
            image_format,
            ..Self::default()
        }
    }

    pub(crate) fn payload(
        &self,
        version: &str,
        props: SentProps,
        streamed: bool,
    ) -> Result<Map<String, Value>, Error> {
        let bare = Self { input_props: InputProps::default(), ..self.clone() };
        let adds = json!({ "type": "still", "version": version, "attempt": 1, "streamed": streamed });
        on_the_wire(&bare, props, adds)
    }
}
