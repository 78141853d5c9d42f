//! What a person asks for: Remotion's own options, flat, beside Lastframe's own, nested.
//!
//! Parsing is total: whatever comes in, the answer is a request that can be rendered, or every reason why not with
//! a JSON pointer to each.

mod check;
mod fault;
mod options;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::frame_range::FrameRange;
use crate::notice::{NotifyOptions, WebhookOptions};
use crate::props::{BodyError, Fields, Props, read_props};
use crate::render::Kind;

pub(crate) use self::fault::{Errors, field_error};
pub use self::fault::{FieldError, check_name};
pub use self::options::*;

macro_rules! request {
    ($($(#[$meta:meta])* $field:ident: $type:ty,)+) => {
        /// A render as asked for. Remotion's options mean what they mean to `renderMediaOnLambda()`.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub struct RenderRequest {
            /// The name of the composition.
            pub composition: String,
            /// The site: the name it was added under.
            pub serve_url: String,
            $($(#[$meta])* #[serde(default, skip_serializing_if = "Option::is_none")] pub $field: Option<$type>,)+
        }
    };
}

request! {
    /// The composition's props: any JSON object.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    input_props: Props,
    /// How frames become a file; `h264` by default.
    codec: Codec,
    /// How sound is encoded; the codec's usual by default.
    audio_codec: AudioCodec,
    /// How single frames are encoded on their way; for stills, the format of the file.
    image_format: ImageFormat,
    /// 0 to 100; for JPEG frames.
    jpeg_quality: u32,
    /// Constant rate factor; the codec's usual by default. Not with `videoBitrate`.
    crf: f64,
    /// For h264.
    x264_preset: X264Preset,
    /// The codec's usual by default.
    pixel_format: PixelFormat,
    /// For ProRes.
    pro_res_profile: ProResProfile,
    /// Enlarges the picture, the layout staying the same.
    scale: f64,
    /// Which frames; all by default. A frame, `[from, to]`, `[from, null]`, or an array of such ranges.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    frame_range: FrameRange,
    /// Every n-th frame only, shown for as long as n.
    every_nth_frame: u32,
    /// How often a GIF repeats; for ever by default.
    number_of_gif_loops: u32,
    /// No sound.
    muted: bool,
    /// A silent audio track even if the composition has no sound.
    enforce_audio_track: bool,
    /// Such as `128k`.
    audio_bitrate: String,
    /// Such as `1M`. Not with `crf`.
    video_bitrate: String,
    /// Such as `2M`, together with `encodingBufferSize`.
    encoding_max_rate: String,
    /// Such as `4M`.
    encoding_buffer_size: String,
    /// Frames between two keyframes, at most.
    gop_size: u32,
    /// What is written into the file.
    color_space: ColorSpace,
    /// Sound samples per second; 48000 by default.
    sample_rate: u32,
    /// For h264 with AAC that is to be joined without re-encoding.
    for_seamless_aac_concatenation: bool,
    /// Prefers a lossless audio codec.
    prefer_lossless: bool,
    /// Milliseconds that one `delayRender()` may take; 30000 by default.
    timeout_in_milliseconds: u32,
    /// Seen by the composition as `process.env`.
    env_variables: BTreeMap<String, String>,
    /// How the browser is started.
    chromium_options: ChromiumOptions,
    /// Written into the file.
    metadata: BTreeMap<String, String>,
    /// How much Remotion says in the log.
    log_level: LogLevel,
    /// Pixels, instead of the composition's.
    force_width: u32,
    /// Pixels, instead of the composition's.
    force_height: u32,
    /// Frames per second, instead of the composition's.
    force_fps: f64,
    /// Frames, instead of the composition's.
    force_duration_in_frames: u32,
    /// Bytes that the cache of `<OffthreadVideo>` may take.
    offthread_video_cache_size_in_bytes: u64,
    /// Threads that `<OffthreadVideo>` may use.
    offthread_video_threads: u32,
    /// Bytes that the cache of `@remotion/media` may take.
    media_cache_size_in_bytes: u64,
    /// Stitches only after the last frame is rendered; slower, needs less memory.
    disallow_parallel_encoding: bool,
    /// Your key for Remotion's licence, passed to it.
    license_key: String,
    /// False for renders that do not count for Remotion's licence, passed to it.
    is_production: bool,
    /// Which frame, for stills; negative counts from the end.
    frame: i32,
    /// The file's name when it is downloaded.
    out_name: String,
    /// What a browser does with the link to the output.
    download_behavior: DownloadBehavior,
    /// The file is deleted so long after the render's end; its record stays.
    delete_after: DeleteAfter,
    /// On Remotion Lambda: in which region of AWS.
    region: String,
    /// On Remotion Lambda: which function; one that fits by default.
    function_name: String,
    /// On Remotion Lambda: the function that renders the parts; the same by default.
    renderer_function_name: String,
    /// On Remotion Lambda: the bucket, instead of the region's own.
    force_bucket_name: String,
    /// On Remotion Lambda: frames that one function renders.
    frames_per_lambda: u32,
    /// On Remotion Lambda: functions that render at once. Not with `framesPerLambda`.
    concurrency: Value,
    /// On Remotion Lambda: frames at once in one function.
    concurrency_per_lambda: u32,
    /// On Remotion Lambda: how often a part is tried again.
    max_retries: u32,
    /// On Remotion Lambda: who may read the object; `private` by default, and links are signed.
    privacy: Privacy,
    /// On Remotion Lambda: how S3 keeps it, such as `STANDARD_IA`.
    storage_class: String,
    /// How it is queued.
    queue: QueueOptions,
    /// Where a webhook goes when the render has ended.
    webhook: WebhookOptions,
    /// Who else is told when the render has ended.
    notify: NotifyOptions,
    /// Answers what would be queued, and queues nothing.
    dry_run: bool,
}

/// Options that mean something to Remotion Lambda, and are ignored by a render on the server's own machine.
pub const FOR_LAMBDA: &[&str] = &[
    "concurrency",
    "concurrencyPerLambda",
    "forceBucketName",
    "framesPerLambda",
    "functionName",
    "maxRetries",
    "privacy",
    "region",
    "rendererFunctionName",
    "storageClass",
];

/// Options of `renderMediaOnLambda()` that only say where or how fast, and change nothing in the output.
pub const IGNORED: &[&str] = &[
    "binariesDirectory",
    "bucketName",
    "dumpBrowserLogs",
    "enableCancellation",
    "forcePathStyle",
    "hardwareAcceleration",
    "indent",
    "overwrite",
    "port",
    "repro",
    "requestHandler",
    "verbose",
];

/// Why a callback is refused.
const CALLBACK: &str = "a function cannot be sent; follow `/v1/renders/{id}/events` instead";

/// Options that would change what a person gets and cannot be honoured, each with the reason.
pub const REFUSED: &[(&str, &str)] = &[
    ("apiKey", "Remotion has replaced it by `licenseKey`"),
    ("browserExecutable", "the browser is the server's to say (`render.browser`)"),
    ("cancelSignal", "cancel with `POST /v1/renders/{id}/cancel` instead"),
    ("chromeMode", "the browser is the server's to say (`render.browser`)"),
    ("compositionStart", "it is for parts of a render, and here a render is made in one piece"),
    ("ffmpegOverride", "a function cannot be sent"),
    ("onArtifact", CALLBACK),
    ("onBrowserDownload", CALLBACK),
    ("onBrowserLog", "a function cannot be sent; read `/v1/renders/{id}/log` instead"),
    ("onDownload", CALLBACK),
    ("onInit", CALLBACK),
    ("onProgress", CALLBACK),
    ("onStart", CALLBACK),
    ("output", "the file is fetched from `/v1/renders/{id}/output`, and `outName` names it"),
    ("outputLocation", "the file is fetched from `/v1/renders/{id}/output`, and `outName` names it"),
    ("puppeteerInstance", "the server opens its own browser"),
    ("quality", "Remotion has replaced it by `jpegQuality`"),
    ("separateAudioTo", "a render has one file; ask for a second one with an audio codec"),
];

/// Options with fields of their own.
const OBJECTS: [&str; 5] = ["chromiumOptions", "downloadBehavior", "notify", "queue", "webhook"];
/// Most bytes that all options beside the input props may have.
const MAX_OPTIONS: usize = 1 << 20;

impl RenderRequest {
    /// Reads a request. Returns with it the names of the options that come to nothing: those [`IGNORED`], and those
    /// [`FOR_LAMBDA`], which the request keeps.
    ///
    /// # Errors
    /// Everything that is wrong, as far as it can be told from the request alone.
    pub fn parse<'a>(body: Fields<'a>, kind: Kind) -> Result<(Self, Vec<String>), BodyError> {
        let mut fields = body.fields;
        let given = |fields: &mut BTreeMap<String, &'a RawValue>, name: &str| {
            fields.remove(name).filter(|value| value.get() != "null")
        };
        let mut ignored: Vec<_> = FOR_LAMBDA
            .iter()
            .filter(|name| fields.contains_key(**name))
            .map(|name| (*name).to_owned())
            .collect();
        let nothing_here = IGNORED.iter().filter(|name| fields.remove(**name).is_some());
        ignored.extend(nothing_here.map(|name| (*name).to_owned()));
        ignored.sort_unstable();
        let mut errors = Vec::new();
        for (name, reason) in REFUSED {
            if given(&mut fields, name).is_some() {
                errors.push(FieldError::new(format!("/{name}"), format!("cannot be honoured: {reason}")));
            }
        }
        if fields.get("outName").is_some_and(|name| name.get().starts_with('{')) {
            fields.remove("outName");
            errors.push(FieldError::new(
                "/outName",
                "must be a file name: where files lie is the server's to say",
            ));
        }
        let input_props = given(&mut fields, "inputProps").map(|props| read_props(props.get())).transpose();
        let input_props = input_props.unwrap_or_else(|detail| {
            errors.push(FieldError::new("/inputProps", detail));
            None
        });
        if fields.values().map(|value| value.get().len()).sum::<usize>() > MAX_OPTIONS {
            let detail = format!("the options beside `inputProps` have more than {MAX_OPTIONS} bytes");
            return Err(BodyError::Invalid(vec![FieldError::new("", detail)]));
        }
        for name in OBJECTS {
            // What reads them would take a list for their fields in order.
            if fields.get(name).is_some_and(|value| value.get().starts_with('[')) {
                fields.remove(name);
                errors.push(FieldError::new(format!("/{name}"), "must be an object"));
            }
        }
        let options: serde_json::Result<Map<_, _>> = fields
            .into_iter()
            .map(|(name, value)| Ok((name, serde_json::from_str::<Value>(value.get())?)))
            .collect();
        let options = options.map_err(|error| BodyError::NotJson(error.to_string()))?;
        match serde_path_to_error::deserialize::<_, Self>(Value::Object(options)) {
            Ok(mut request) => {
                request.input_props = input_props;
                errors.extend(request.check(kind));
                if errors.is_empty() { Ok((request, ignored)) } else { Err(BodyError::Invalid(errors)) }
            }
            Err(error) => {
                errors.push(field_error(&error));
                Err(BodyError::Invalid(errors))
            }
        }
    }

    /// The request as the renderer takes it: Remotion's options, without Lastframe's own.
    #[must_use]
    pub fn for_remotion(&self, kind: Kind) -> Self {
        Self {
            codec: (kind == Kind::Media).then(|| self.codec()),
            out_name: None,
            download_behavior: None,
            delete_after: None,
            region: None,
            function_name: None,
            renderer_function_name: None,
            force_bucket_name: None,
            frames_per_lambda: None,
            concurrency: None,
            concurrency_per_lambda: None,
            max_retries: None,
            privacy: None,
            storage_class: None,
            queue: None,
            webhook: None,
            notify: None,
            dry_run: None,
            ..self.clone()
        }
    }

    /// What makes it, where it says so.
    #[must_use]
    pub fn renderer(&self) -> Option<RendererName> {
        self.queue.as_ref()?.renderer
    }

    /// The codec, or Remotion's default.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec.unwrap_or(Codec::H264)
    }

    /// The extension of the file, without a dot.
    #[must_use]
    pub fn extension(&self, kind: Kind) -> &'static str {
        if kind == Kind::Still {
            return self.image_format.unwrap_or(ImageFormat::Png).as_str();
        }
        let codec = self.codec();
        let lossless = self.audio_codec == Some(AudioCodec::Pcm16) || self.prefer_lossless == Some(true);
        match codec {
            // Uncompressed sound does not fit into the usual container of these.
            Codec::H264 | Codec::H265 | Codec::Av1 | Codec::Vp8 | Codec::Vp9 if lossless => "mkv",
            Codec::Mp3 | Codec::Aac if lossless => "wav",
            Codec::Av1 if self.audio_codec == Some(AudioCodec::Opus) => "webm",
            codec => codec.rules().extension,
        }
    }

    /// The media type of the file.
    #[must_use]
    pub fn content_type(&self, kind: Kind) -> &'static str {
        match self.extension(kind) {
            "mp4" => "video/mp4",
            "mkv" => "video/x-matroska",
            "webm" => "video/webm",
            "mov" => "video/quicktime",
            "ts" => "video/mp2t",
            "gif" => "image/gif",
            "mp3" => "audio/mpeg",
            "aac" => "audio/aac",
            "wav" => "audio/wav",
            "png" => "image/png",
            "jpeg" => "image/jpeg",
            "webp" => "image/webp",
            "pdf" => "application/pdf",
            _ => "application/octet-stream",
        }
    }
}

#[cfg(test)]
mod tests;
