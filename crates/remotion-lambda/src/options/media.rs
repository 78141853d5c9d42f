//! Options of a video or a sound.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    AudioCodec, ChromiumOptions, Codec, ColorSpace, DeleteAfter, DownloadBehavior, EnvVariables, Extra,
    FrameRange, InputProps, LogLevel, OutName, PixelFormat, Privacy, ProResProfile, Secret, SentProps,
    StorageClass, VideoImageFormat, Webhook, X264Preset, on_the_wire, whole, whole_or_none,
};
use crate::Error;

/// What [`Client::render_media_on_lambda`](crate::Client::render_media_on_lambda) renders, and how.
///
/// Start from [`new`](Self::new) or from `Default`, and set what differs:
///
/// ```
/// use remotion_lambda::{Codec, InputProps, RenderMediaOptions};
///
/// let options = RenderMediaOptions {
///     input_props: InputProps::from_json(r#"{"text": "Hello"}"#)?,
///     frame_range: Some((0, 149).into()),
///     enable_cancellation: true,
///     ..RenderMediaOptions::new("remotion-render-4-0-527-mem2048mb-disk2048mb-120sec", "my-site", "main", Codec::H264)
/// };
/// # assert_eq!(options.jpeg_quality, 80);
/// # Ok::<(), remotion_lambda::Error>(())
/// ```
///
/// New fields may come with new versions of Remotion: end literals with `..`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RenderMediaOptions {
    /// The function that renders, by name or ARN.
    pub function_name: String,
    /// Remotion's version of the function, such as `4.0.527`; `None` reads it from the function's name. The function refuses
    /// any other than its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The site: its URL, or its name within the bucket.
    pub serve_url: String,
    /// The composition's id.
    pub composition: String,
    /// The composition's input props. Default: `{}`.
    pub input_props: InputProps,
    /// How it is encoded. Default: H.264.
    pub codec: Codec,
    /// How frames are captured. Default: JPEG.
    pub image_format: VideoImageFormat,
    /// Constant rate factor: lower is better and larger. Default: by codec.
    #[serde(serialize_with = "whole_or_none")]
    pub crf: Option<f64>,
    /// What the composition reads from `process.env`.
    pub env_variables: EnvVariables,
    /// How pixels are stored. Default: by codec.
    pub pixel_format: Option<PixelFormat>,
    /// Quality of ProRes.
    pub pro_res_profile: Option<ProResProfile>,
    /// How hard the H.264 encoder tries.
    pub x264_preset: Option<X264Preset>,
    /// Frames between key frames.
    pub gop_size: Option<u32>,
    /// Who may fetch the output. Default: everybody.
    pub privacy: Privacy,
    /// Quality of JPEG frames, 0 to 100. Default: 80.
    pub jpeg_quality: u8,
    /// How often a chunk is tried again. Default: 1.
    pub max_retries: u32,
    /// Frames of each function. Default: Remotion decides. Excludes `concurrency`.
    pub frames_per_lambda: Option<u32>,
    /// Functions at once. Default: Remotion decides. Excludes `frames_per_lambda`.
    pub concurrency: Option<u32>,
    /// Browser tabs of each function. Default: 1.
    pub concurrency_per_lambda: u32,
    /// Which frames. Default: all.
    pub frame_range: Option<FrameRange>,
    /// Where the output goes. Default: `renders/{render id}/out.{extension}`.
    pub out_name: Option<OutName>,
    /// Settings of the browser.
    pub chromium_options: ChromiumOptions,
    /// Factor of width and height. Default: 1.
    #[serde(serialize_with = "whole")]
    pub scale: f64,
    /// Only every so many frames. Default: 1, all.
    pub every_nth_frame: u32,
    /// How often a GIF repeats. Default: for ever.
    pub number_of_gif_loops: Option<u32>,
    /// What browsers do with the output. Default: play it.
    pub download_behavior: DownloadBehavior,
    /// Without sound. Default: `false`.
    pub muted: bool,
    /// Whether an output that is there already is replaced. Default: as Remotion has it, no before its version 5.
    pub overwrite: Option<bool>,
    /// Such as `"320k"`.
    pub audio_bitrate: Option<String>,
    /// Such as `"1M"`. Excludes `crf`.
    pub video_bitrate: Option<String>,
    /// Such as `"5M"`.
    pub encoding_max_rate: Option<String>,
    /// Such as `"10M"`.
    pub encoding_buffer_size: Option<String>,
    /// How sound is encoded. Default: by codec.
    pub audio_codec: Option<AudioCodec>,
    /// Samples of sound in a second. Default: 48,000.
    pub sample_rate: u32,
    /// Lossless sound where the codec can have it. Default: `false`.
    pub prefer_lossless: bool,
    /// Which colours the numbers mean.
    pub color_space: Option<ColorSpace>,
    /// Whom the function tells how it ended.
    pub webhook: Option<Webhook>,
    /// Another height than the composition's, in pixels.
    pub force_height: Option<u32>,
    /// Another width than the composition's, in pixels.
    pub force_width: Option<u32>,
    /// Other frames in a second than the composition's.
    #[serde(serialize_with = "whole_or_none")]
    pub force_fps: Option<f64>,
    /// Another duration than the composition's, in frames.
    pub force_duration_in_frames: Option<u64>,
    /// Another function for the chunks than for the render as a whole.
    pub renderer_function_name: Option<String>,
    /// The bucket. Default: the account's only bucket of Remotion in the region. JavaScript calls it `forceBucketName`.
    #[serde(rename = "forceBucketName", alias = "bucketName")]
    pub bucket_name: Option<String>,
    /// How long the page may take for a frame, in milliseconds. Default: 30,000.
    pub timeout_in_milliseconds: u64,
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
    /// Metadata written into the video.
    pub metadata: Option<BTreeMap<String, String>>,
    /// The key of Remotion's licence.
    #[serde(alias = "apiKey")]
    pub license_key: Option<Secret>,
    /// How S3 keeps the output.
    pub storage_class: Option<StorageClass>,
    /// Whether it counts as use in production. Default: the function takes `true`.
    pub is_production: Option<bool>,
    /// How much the function logs. Default: info.
    pub log_level: LogLevel,
    /// Whether it can be cancelled: [`Client::cancel_render_on_lambda`](crate::Client::cancel_render_on_lambda). Costs a request
    /// to S3 a second for each running function. Default: `false`.
    pub enable_cancellation: bool,
    /// Options this version of the crate does not know, sent as they are. They win over all others but `type` and `inputProps`.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Default for RenderMediaOptions {
    fn default() -> Self {
        Self {
            function_name: String::new(),
            version: None,
            serve_url: String::new(),
            composition: String::new(),
            input_props: InputProps::default(),
            codec: Codec::default(),
            image_format: VideoImageFormat::default(),
            crf: None,
            env_variables: EnvVariables::new(),
            pixel_format: None,
            pro_res_profile: None,
            x264_preset: None,
            gop_size: None,
            privacy: Privacy::default(),
            jpeg_quality: 80,
            max_retries: 1,
            frames_per_lambda: None,
            concurrency: None,
            concurrency_per_lambda: 1,
            frame_range: None,
            out_name: None,
            chromium_options: ChromiumOptions::default(),
            scale: 1.0,
            every_nth_frame: 1,
            number_of_gif_loops: None,
            download_behavior: DownloadBehavior::default(),
            muted: false,
            overwrite: None,
            audio_bitrate: None,
            video_bitrate: None,
            encoding_max_rate: None,
            encoding_buffer_size: None,
            audio_codec: None,
            sample_rate: 48_000,
            prefer_lossless: false,
            color_space: None,
            webhook: None,
            force_height: None,
            force_width: None,
            force_fps: None,
            force_duration_in_frames: None,
            renderer_function_name: None,
            bucket_name: None,
            timeout_in_milliseconds: 30_000,
            offthread_video_cache_size_in_bytes: None,
            media_cache_size_in_bytes: None,
            offthread_video_threads: None,
            delete_after: None,
            force_path_style: false,
            metadata: None,
            license_key: None,
            storage_class: None,
            is_production: None,
            log_level: LogLevel::default(),
            enable_cancellation: false,
            extra: Extra::default(),
        }
    }
}

impl RenderMediaOptions {
    /// What has no default in Remotion either.
    pub fn new(
        function_name: impl Into<String>,
        serve_url: impl Into<String>,
        composition: impl Into<String>,
        codec: Codec,
    ) -> Self {
        Self {
            function_name: function_name.into(),
            serve_url: serve_url.into(),
            composition: composition.into(),
            codec,
            ..Self::default()
        }
    }

    /// What can be told without asking the function.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if let Some(webhook) = &self.webhook {
            webhook.check()?;
        }
        Ok(())
    }

    pub(crate) fn payload(&self, version: &str, props: SentProps) -> Result<Map<String, Value>, Error> {
        let overwrite = self.overwrite.unwrap_or_else(|| replaces_by_default(version));
        let bare = Self { input_props: InputProps::default(), overwrite: Some(overwrite), ..self.clone() };
        on_the_wire(&bare, props, json!({ "type": "start", "version": version }))
    }
}

/// From version 5 on, Remotion replaces an output that is there.
fn replaces_by_default(version: &str) -> bool {
    version.split_once('.').and_then(|(major, _)| major.parse().ok()).is_some_and(|major: u32| major >= 5)
}
