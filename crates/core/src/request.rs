//! What a person asks for: Remotion's own options, flat, beside Lastframe's own, nested.
//!
//! Parsing is total: whatever comes in, the answer is a request that can be rendered, or every reason why not with
//! a JSON pointer to each.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::frame_range::FrameRange;
use crate::notice::{NotifyOptions, WebhookOptions};
use crate::props::{BodyError, Fields, Props, read_props};
use crate::render::{Kind, RenderId, words};
use crate::site::Composition;

/// One thing wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldError {
    /// Where, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong, and what would be right.
    pub detail: String,
}

impl FieldError {
    /// What is wrong at `pointer`.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }

    /// The same, in a document that has at `pointer` what this one is about.
    #[must_use]
    pub fn below(self, pointer: &str) -> Self {
        Self { pointer: format!("{pointer}{}", self.pointer), ..self }
    }
}

/// What is wrong with a name of a composition, site, group or tenant.
#[must_use]
pub fn check_name(pointer: &str, name: &str) -> Option<FieldError> {
    let fine = (1..=MAX_NAME).contains(&name.len()) && !name.chars().any(char::is_control);
    (!fine).then(|| {
        FieldError::new(pointer, format!("must have 1 to {MAX_NAME} bytes, none of them a control character"))
    })
}

words! {
    /// How frames become a file.
    Codec {
        /// MP4.
        H264 = "h264",
        /// MP4.
        H265 = "h265",
        /// WebM.
        Vp8 = "vp8",
        /// WebM.
        Vp9 = "vp9",
        /// MP4.
        Av1 = "av1",
        /// Audio alone.
        Mp3 = "mp3",
        /// Audio alone.
        Aac = "aac",
        /// Audio alone.
        Wav = "wav",
        /// QuickTime.
        Prores = "prores",
        /// Matroska with h264.
        H264Mkv = "h264-mkv",
        /// MPEG transport stream with h264.
        H264Ts = "h264-ts",
        /// Animated GIF.
        Gif = "gif",
    }
}

words! {
    /// How sound is encoded.
    AudioCodec {
        /// AAC.
        Aac = "aac",
        /// MP3.
        Mp3 = "mp3",
        /// Opus.
        Opus = "opus",
        /// Uncompressed, 16 bit.
        Pcm16 = "pcm-16",
    }
}

words! {
    /// How one frame is encoded.
    ImageFormat {
        /// Lossy, small.
        Jpeg = "jpeg",
        /// Lossless, can be transparent.
        Png = "png",
        /// Stills only.
        Webp = "webp",
        /// Stills only.
        Pdf = "pdf",
        /// Audio only: no frames are made.
        None = "none",
    }
}

words! {
    /// How hard x264 tries.
    X264Preset {
        /// Fastest, largest.
        Ultrafast = "ultrafast",
        /// See x264.
        Superfast = "superfast",
        /// See x264.
        Veryfast = "veryfast",
        /// See x264.
        Faster = "faster",
        /// See x264.
        Fast = "fast",
        /// The default.
        Medium = "medium",
        /// See x264.
        Slow = "slow",
        /// See x264.
        Slower = "slower",
        /// See x264.
        Veryslow = "veryslow",
        /// Not worth its time.
        Placebo = "placebo",
    }
}

words! {
    /// How colours are stored.
    PixelFormat {
        /// 8 bit, the default.
        Yuv420p = "yuv420p",
        /// 8 bit with transparency.
        Yuva420p = "yuva420p",
        /// 8 bit.
        Yuv422p = "yuv422p",
        /// 8 bit.
        Yuv444p = "yuv444p",
        /// 10 bit.
        Yuv420p10le = "yuv420p10le",
        /// 10 bit.
        Yuv422p10le = "yuv422p10le",
        /// 10 bit.
        Yuv444p10le = "yuv444p10le",
        /// 10 bit with transparency.
        Yuva444p10le = "yuva444p10le",
    }
}

words! {
    /// The flavour of ProRes.
    ProResProfile {
        /// With transparency, best quality.
        P4444Xq = "4444-xq",
        /// With transparency.
        P4444 = "4444",
        /// High quality.
        Hq = "hq",
        /// The usual one.
        Standard = "standard",
        /// Smaller.
        Light = "light",
        /// Smallest.
        Proxy = "proxy",
    }
}

words! {
    /// The colour space that is written into the file.
    ColorSpace {
        /// Untagged.
        Default = "default",
        /// SD.
        Bt601 = "bt601",
        /// HD.
        Bt709 = "bt709",
        /// UHD.
        Bt2020Ncl = "bt2020-ncl",
    }
}

words! {
    /// How much Remotion says in the log.
    LogLevel {
        /// Everything.
        Trace = "trace",
        /// A lot.
        Verbose = "verbose",
        /// The default.
        Info = "info",
        /// Warnings and errors.
        Warn = "warn",
        /// Errors.
        Error = "error",
    }
}

words! {
    /// What becomes of a group when one of its renders fails for good.
    OnFailure {
        /// The next one starts.
        Continue = "continue",
        /// The group waits until a person retries the render or lets the group go on.
        Block = "block",
    }
}

/// How the browser is started. Part of it decides which warm browser can be used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChromiumOptions {
    /// `angle`, `egl`, `swiftshader`, `swangle`, `vulkan` or `angle-egl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gl: Option<String>,
    /// Turns off the same-origin policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_web_security: Option<bool>,
    /// Accepts any certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_certificate_errors: Option<bool>,
    /// Sent with every request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Several processes per browser.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_multi_process_on_linux: Option<bool>,
    /// What `prefers-color-scheme` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dark_mode: Option<bool>,
    /// Always true here; accepted because Remotion has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headless: Option<bool>,
}

words! {
    /// How long an output is kept after the end of its render.
    DeleteAfter {
        /// A day of 24 hours.
        OneDay = "1-day",
        /// Three of them.
        ThreeDays = "3-days",
        /// Seven of them.
        SevenDays = "7-days",
        /// Thirty of them.
        ThirtyDays = "30-days",
    }
}

impl DeleteAfter {
    /// In days of 24 hours.
    #[must_use]
    pub const fn days(self) -> u32 {
        match self {
            Self::OneDay => 1,
            Self::ThreeDays => 3,
            Self::SevenDays => 7,
            Self::ThirtyDays => 30,
        }
    }
}

/// What a browser does with the link to the output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DownloadBehavior {
    /// Shows it.
    PlayInBrowser,
    /// Saves it.
    Download {
        /// Under this name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file_name: Option<String>,
    },
}

words! {
    /// What makes the video.
    RendererName {
        /// This server, with the browser of its machine.
        Local = "local",
        /// Remotion Lambda.
        Lambda = "lambda",
    }
}

words! {
    /// Who may read an output in a bucket.
    Privacy {
        /// Everybody who knows its URL.
        Public = "public",
        /// Whoever the bucket's owner lets.
        Private = "private",
        /// As the bucket says; nothing is said of the object.
        NoAcl = "no-acl",
    }
}

/// How the render is queued.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QueueOptions {
    /// Renders of one group run one after another, in the order accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Higher goes first among your renders. 0 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Not before this time (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// How often it is tried when a fault may pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// What becomes of its group when it fails for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// The longest one attempt may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_in_seconds: Option<u32>,
    /// The render of yours that this one is another go at, with other props. That one stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<RenderId>,
    /// What makes it; what the server is configured for by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renderer: Option<RendererName>,
    /// What it may cost on Remotion Lambda, in US dollars; it is stopped when it passes that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<f64>,
}

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
/// Longest name of a composition, site, group or tenant, in bytes.
const MAX_NAME: usize = 256;
/// Most bytes that all options beside the input props may have.
const MAX_OPTIONS: usize = 1 << 20;
/// Most attempts a render may ask for.
const MAX_ATTEMPTS: u32 = 20;
/// Longest time one attempt may ask for: a day, in seconds.
const MAX_TIMEOUT: u32 = 24 * 60 * 60;
/// Less than one invocation, in US dollars.
const MIN_COST: f64 = 0.000_001;
/// More than anybody means, in US dollars.
const MAX_COST: f64 = 10_000.0;
/// Remotion refuses less, in milliseconds.
const MIN_DELAY_RENDER_TIMEOUT: u32 = 7_000;
/// Less leaves nothing of any picture.
const MIN_SCALE: f64 = 0.01;
/// Remotion refuses more.
const MAX_SCALE: f64 = 16.0;
/// What `chromiumOptions.gl` may be.
const RENDERERS: [&str; 6] = ["angle", "angle-egl", "egl", "swangle", "swiftshader", "vulkan"];
/// The longest side of a picture that a browser draws, in pixels.
const MAX_SIDE: u32 = 16_384;

/// What Remotion 4.0.527 takes with a codec.
struct CodecRules {
    extension: &'static str,
    audio_codecs: &'static [AudioCodec],
    crf: Option<(f64, f64)>,
    even_sides: bool,
}

impl Codec {
    /// Whether it has a picture.
    #[must_use]
    pub const fn has_video(self) -> bool {
        !matches!(self, Self::Mp3 | Self::Aac | Self::Wav)
    }

    const fn rules(self) -> CodecRules {
        use AudioCodec::{Aac, Mp3, Opus, Pcm16};
        let x264 = Some((1.0, 51.0));
        let (extension, audio_codecs, crf, even_sides): (_, &[AudioCodec], _, _) = match self {
            Self::H264 => ("mp4", &[Aac, Pcm16, Mp3], x264, true),
            Self::H264Mkv => ("mkv", &[Pcm16, Mp3], x264, true),
            Self::H264Ts => ("ts", &[Pcm16, Aac], x264, true),
            Self::H265 => ("mp4", &[Aac, Pcm16], Some((0.0, 51.0)), true),
            Self::Av1 => ("mp4", &[Aac, Opus, Pcm16], Some((0.0, 63.0)), true),
            Self::Vp8 => ("webm", &[Opus, Pcm16], Some((4.0, 63.0)), false),
            Self::Vp9 => ("webm", &[Opus, Pcm16], Some((0.0, 63.0)), false),
            Self::Prores => ("mov", &[Aac, Pcm16], None, false),
            Self::Gif => ("gif", &[], None, false),
            Self::Mp3 => ("mp3", &[Mp3, Pcm16], None, false),
            Self::Aac => ("aac", &[Aac, Pcm16], None, false),
            Self::Wav => ("wav", &[Pcm16], None, false),
        };
        CodecRules { extension, audio_codecs, crf, even_sides }
    }
}

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

    /// What can be told from the request alone.
    fn check(&self, kind: Kind) -> Vec<FieldError> {
        let mut errors = Errors::default();
        errors.name("/composition", &self.composition);
        errors.name("/serveUrl", &self.serve_url);
        if let Some(out_name) = &self.out_name {
            errors.name("/outName", out_name);
        }
        errors.within("/scale", self.scale, MIN_SCALE, MAX_SCALE);
        errors.within("/jpegQuality", self.jpeg_quality, 0, 100);
        errors.within(
            "/timeoutInMilliseconds",
            self.timeout_in_milliseconds,
            MIN_DELAY_RENDER_TIMEOUT,
            u32::MAX,
        );
        errors.within("/forceWidth", self.force_width, 1, MAX_SIDE);
        errors.within("/forceHeight", self.force_height, 1, MAX_SIDE);
        errors.within("/forceFps", self.force_fps, 0.01, 1_000.0);
        errors.within("/forceDurationInFrames", self.force_duration_in_frames, 1, u32::MAX);
        errors.within("/everyNthFrame", self.every_nth_frame, 1, u32::MAX);
        errors.within("/gopSize", self.gop_size, 1, u32::MAX);
        errors.within("/sampleRate", self.sample_rate, 8_000, 192_000);
        for (pointer, bitrate) in [
            ("/audioBitrate", &self.audio_bitrate),
            ("/videoBitrate", &self.video_bitrate),
            ("/encodingMaxRate", &self.encoding_max_rate),
            ("/encodingBufferSize", &self.encoding_buffer_size),
        ] {
            if bitrate.as_ref().is_some_and(|text| !is_bitrate(text)) {
                errors.add(pointer, "must be a number with k, K or M, such as `128k` or `1M`");
            }
        }
        let gl = self.chromium_options.as_ref().and_then(|options| options.gl.as_deref());
        errors.unless(
            gl.is_none_or(|gl| RENDERERS.contains(&gl)),
            "/chromiumOptions/gl",
            format!("must be one of {}", RENDERERS.join(", ")),
        );
        for (pointer, texts) in [("/metadata", &self.metadata), ("/envVariables", &self.env_variables)] {
            let clean = |text: &str| !text.contains('\0');
            let clean = texts.iter().flatten().all(|(name, text)| clean(name) && clean(text));
            errors.unless(clean, pointer, "must not hold the character NUL");
        }
        if let Some(queue) = &self.queue {
            queue.check(&mut errors);
        }
        errors.0.extend(self.check_notices());
        match kind {
            Kind::Media => self.check_media(&mut errors),
            Kind::Still => self.check_still(&mut errors),
        }
        errors.0
    }

    fn check_media(&self, errors: &mut Errors) {
        let codec = self.codec();
        let rules = codec.rules();
        errors.unless(self.frame.is_none(), "/frame", "is for stills; a media render takes `frameRange`");
        if let Some(audio) = self.audio_codec
            && !rules.audio_codecs.contains(&audio)
        {
            let known: Vec<_> = rules.audio_codecs.iter().map(|audio| audio.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            errors.add(
                "/audioCodec",
                format!("`{audio}` does not go with the codec `{codec}`, which takes {known}"),
            );
        }
        match (self.crf, rules.crf) {
            (Some(_), None) => errors.add("/crf", format!("the codec `{codec}` has none")),
            (crf, Some((least, most))) => errors.within("/crf", crf, least, most),
            (None, None) => {}
        }
        errors.unless(
            self.crf.is_none() || self.video_bitrate.is_none(),
            "/videoBitrate",
            "cannot go with `crf`: choose one",
        );
        errors.unless(
            self.encoding_max_rate.is_none() || self.encoding_buffer_size.is_some(),
            "/encodingMaxRate",
            "needs `encodingBufferSize`",
        );
        errors.unless(
            self.x264_preset.is_none() || matches!(codec, Codec::H264 | Codec::H264Mkv | Codec::H264Ts),
            "/x264Preset",
            format!("is for h264, and the codec is `{codec}`"),
        );
        errors.unless(
            self.pro_res_profile.is_none() || codec == Codec::Prores,
            "/proResProfile",
            format!("is for prores, and the codec is `{codec}`"),
        );
        errors.unless(
            self.number_of_gif_loops.is_none() || codec == Codec::Gif,
            "/numberOfGifLoops",
            format!("is for gif, and the codec is `{codec}`"),
        );
        errors.unless(
            self.every_nth_frame.is_none_or(|n| n == 1) || codec.has_video(),
            "/everyNthFrame",
            format!("is for pictures, and the codec `{codec}` is nothing but sound"),
        );
        errors.unless(
            self.pixel_format != Some(PixelFormat::Yuva420p) || matches!(codec, Codec::Vp8 | Codec::Vp9),
            "/pixelFormat",
            format!("`yuva420p` is for vp8 and vp9, and the codec is `{codec}`"),
        );
        errors.unless(
            !matches!(self.pixel_format, Some(PixelFormat::Yuva420p | PixelFormat::Yuva444p10le))
                || self.image_format == Some(ImageFormat::Png),
            "/imageFormat",
            "must be `png` for a transparent pixel format",
        );
        errors.unless(
            matches!(
                self.image_format,
                None | Some(ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::None)
            ),
            "/imageFormat",
            "must be `jpeg`, `png` or `none` for media",
        );
        errors.unless(
            self.image_format != Some(ImageFormat::None) || !codec.has_video(),
            "/imageFormat",
            format!("`none` is for audio, and the codec is `{codec}`"),
        );
        errors.unless(
            self.jpeg_quality.is_none() || self.image_format != Some(ImageFormat::Png),
            "/jpegQuality",
            "does not go with the image format `png`",
        );
        errors.unless(
            self.muted != Some(true) || codec.has_video(),
            "/muted",
            format!("the codec `{codec}` is nothing but sound"),
        );
        if let (Some(duration), Some(last)) =
            (self.force_duration_in_frames, self.frame_range.as_ref().map(FrameRange::last))
        {
            errors.unless(
                last < duration,
                "/frameRange",
                format!("ends at frame {last}, of frames 0 to {}", duration - 1),
            );
        }
    }

    fn check_still(&self, errors: &mut Errors) {
        for (pointer, given) in [
            ("/codec", self.codec.is_some()),
            ("/audioCodec", self.audio_codec.is_some()),
            ("/crf", self.crf.is_some()),
            ("/frameRange", self.frame_range.is_some()),
            ("/videoBitrate", self.video_bitrate.is_some()),
            ("/audioBitrate", self.audio_bitrate.is_some()),
            ("/x264Preset", self.x264_preset.is_some()),
            ("/proResProfile", self.pro_res_profile.is_some()),
            ("/pixelFormat", self.pixel_format.is_some()),
            ("/everyNthFrame", self.every_nth_frame.is_some()),
            ("/numberOfGifLoops", self.number_of_gif_loops.is_some()),
            ("/muted", self.muted.is_some()),
            ("/enforceAudioTrack", self.enforce_audio_track.is_some()),
            ("/encodingMaxRate", self.encoding_max_rate.is_some()),
            ("/encodingBufferSize", self.encoding_buffer_size.is_some()),
            ("/gopSize", self.gop_size.is_some()),
            ("/colorSpace", self.color_space.is_some()),
            ("/sampleRate", self.sample_rate.is_some()),
            ("/forSeamlessAacConcatenation", self.for_seamless_aac_concatenation.is_some()),
            ("/preferLossless", self.prefer_lossless.is_some()),
            ("/disallowParallelEncoding", self.disallow_parallel_encoding.is_some()),
            ("/metadata", self.metadata.is_some()),
        ] {
            errors.unless(!given, pointer, "is for media, not for stills");
        }
        errors.unless(
            self.image_format != Some(ImageFormat::None),
            "/imageFormat",
            "must be `png`, `jpeg`, `webp` or `pdf`",
        );
        errors.unless(
            self.jpeg_quality.is_none() || self.image_format == Some(ImageFormat::Jpeg),
            "/jpegQuality",
            "needs `imageFormat: \"jpeg\"`",
        );
    }

    /// What can be told with the composition, as it is with its default props, at hand.
    #[must_use]
    pub fn check_against(&self, composition: &Composition, kind: Kind) -> Vec<FieldError> {
        let mut errors = Errors::default();
        let codec = self.codec();
        if kind == Kind::Media && codec.rules().even_sides && composition.error.is_none() {
            let scale = self.scale.unwrap_or(1.0);
            for (pointer, forced, own, side) in [
                ("/forceWidth", self.force_width, composition.width, "width"),
                ("/forceHeight", self.force_height, composition.height, "height"),
            ] {
                let pixels = f64::from(forced.unwrap_or(own)) * scale;
                // Remotion would quietly cut a row or column off; better that the person decides.
                if pixels.round() % 2.0 != 0.0 {
                    errors.add(
                        pointer,
                        format!(
                            "the {side} would be {} pixels, and {codec} needs an even number: set `{}`",
                            pixels.round(),
                            &pointer[1..]
                        ),
                    );
                }
            }
        }
        errors.0
    }
}

impl QueueOptions {
    fn check(&self, errors: &mut Errors) {
        if let Some(group) = &self.group {
            errors.name("/queue/group", group);
        }
        errors.within("/queue/priority", self.priority, -1_000, 1_000);
        errors.within("/queue/maxAttempts", self.max_attempts, 1, MAX_ATTEMPTS);
        errors.within("/queue/timeoutInSeconds", self.timeout_in_seconds, 1, MAX_TIMEOUT);
        errors.within("/queue/maxCost", self.max_cost, MIN_COST, MAX_COST);
    }
}

/// What is wrong, as it is found.
#[derive(Default)]
pub(crate) struct Errors(pub(crate) Vec<FieldError>);

impl Errors {
    pub(crate) fn add(&mut self, pointer: &str, detail: impl Into<String>) {
        self.0.push(FieldError::new(pointer, detail));
    }

    pub(crate) fn unless(&mut self, fine: bool, pointer: &str, detail: impl Into<String>) {
        if !fine {
            self.add(pointer, detail);
        }
    }

    pub(crate) fn within<T: Copy + PartialOrd + std::fmt::Display>(
        &mut self,
        pointer: &str,
        value: Option<T>,
        least: T,
        most: T,
    ) {
        if let Some(value) = value
            && !(least..=most).contains(&value)
        {
            self.add(pointer, format!("is {value}, and must be from {least} to {most}"));
        }
    }

    fn name(&mut self, pointer: &str, name: &str) {
        self.0.extend(check_name(pointer, name));
    }
}

fn is_bitrate(text: &str) -> bool {
    let number = text.strip_suffix(['k', 'K', 'M']).unwrap_or_default();
    number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && number.parse::<f64>().is_ok_and(|number| number > 0.0)
}

/// Turns what serde says into a pointer and a sentence.
pub(crate) fn field_error(error: &serde_path_to_error::Error<serde_json::Error>) -> FieldError {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in error.path() {
        let step = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.replace('~', "~0").replace('/', "~1"),
            Segment::Enum { variant } => variant.clone(),
            Segment::Unknown => continue,
        };
        pointer.push('/');
        pointer.push_str(&step);
    }
    // The pointer says where; a line and a column of the text would say it worse.
    let detail = error.inner().to_string();
    let detail = detail.split(" at line ").next().unwrap_or_default();
    // serde names a missing field in its message only: the pointer should lead there all the same.
    if let Some(name) = detail.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return FieldError::new(format!("{pointer}/{name}"), "is required");
    }
    FieldError::new(pointer, detail)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &Value, kind: Kind) -> Result<(RenderRequest, Vec<String>), Vec<FieldError>> {
        let body = body.to_string();
        match Fields::read(body.as_bytes()).and_then(|fields| RenderRequest::parse(fields, kind)) {
            Ok(read) => Ok(read),
            Err(BodyError::Invalid(errors)) => Err(errors),
            Err(BodyError::NotJson(why)) => panic!("{why}"),
        }
    }

    fn parse(mut fields: Value, kind: Kind) -> Result<(RenderRequest, Vec<String>), Vec<String>> {
        for (name, value) in [("composition", "main"), ("serveUrl", "site")] {
            fields.as_object_mut().unwrap().entry(name).or_insert_with(|| value.into());
        }
        read(&fields, kind).map_err(|errors| errors.into_iter().map(|error| error.pointer).collect())
    }

    fn pointers(fields: Value) -> Vec<String> {
        parse(fields, Kind::Media).expect_err("must be refused")
    }

    #[test]
    fn a_wrong_field_is_named_by_its_pointer() {
        for (fields, pointer) in [
            (json!({"crf": "high"}), "/crf"),
            (json!({"codec": "h266"}), "/codec"),
            (json!({"deleteAfter": "2-days"}), "/deleteAfter"),
            (json!({"colour": "red"}), "/colour"),
            (json!({"queue": {"groop": "a"}}), "/queue/groop"),
            (json!({"queue": {"group": 7}}), "/queue/group"),
            (json!({"queue": {"runAt": "tomorrow"}}), "/queue/runAt"),
            (json!({"queue": {"maxAttempts": 0}}), "/queue/maxAttempts"),
            (json!({"envVariables": {"A": 1}}), "/envVariables/A"),
            (json!({"inputProps": []}), "/inputProps"),
            (json!({"queue": ["group"]}), "/queue"),
            (json!({"chromiumOptions": []}), "/chromiumOptions"),
            (json!({"frameRange": [10, 5]}), "/frameRange"),
            (json!({"frameRange": [-1, 5]}), "/frameRange"),
            (json!({"frameRange": [1.5, 5]}), "/frameRange"),
            (json!({"frameRange": "all"}), "/frameRange"),
            (json!({"frameRange": [0, 9], "forceDurationInFrames": 9}), "/frameRange"),
            (json!({"scale": 0}), "/scale"),
            (json!({"scale": 17}), "/scale"),
            (json!({"crf": 52}), "/crf"),
            (json!({"crf": 10, "codec": "gif"}), "/crf"),
            (json!({"crf": 10, "videoBitrate": "1M"}), "/videoBitrate"),
            (json!({"videoBitrate": "fast"}), "/videoBitrate"),
            (json!({"audioCodec": "opus"}), "/audioCodec"),
            (json!({"x264Preset": "fast", "codec": "vp9"}), "/x264Preset"),
            (json!({"proResProfile": "hq"}), "/proResProfile"),
            (json!({"pixelFormat": "yuva420p", "imageFormat": "png"}), "/pixelFormat"),
            (json!({"everyNthFrame": 2, "codec": "mp3"}), "/everyNthFrame"),
            (json!({"frameRange": [[0, 5], [5, 9]]}), "/frameRange"),
            (json!({"onProgress": {}}), "/onProgress"),
            (json!({"outName": {"key": "a", "bucketName": "b"}}), "/outName"),
            (json!({"codec": "mp3", "muted": true}), "/muted"),
            (json!({"composition": ""}), "/composition"),
            (json!({"frame": 1}), "/frame"),
            (json!({"webhook": {"secret": "s"}}), "/webhook/url"),
            (json!({"webhook": {"url": "ftp://x"}}), "/webhook/url"),
            (json!({"webhook": {"url": "https://user@x"}}), "/webhook/url"),
            (json!({"webhook": {"url": "https://x", "secret": ""}}), "/webhook/secret"),
            (
                json!({"webhook": {"url": "https://x", "customData": {"a": "x".repeat(1_024)}}}),
                "/webhook/customData",
            ),
            (json!({"webhook": {"url": "https://x", "customData": [1]}}), "/webhook/customData"),
            (json!({"notify": {"email": ["anna@example.com", "anna"]}}), "/notify/email/1"),
            (json!({"notify": {"sms": []}}), "/notify/sms"),
            (json!({"timeoutInMilliseconds": 100}), "/timeoutInMilliseconds"),
            (json!({"chromiumOptions": {"gl": "foo"}}), "/chromiumOptions/gl"),
            (json!({"metadata": {"title": "a\0b"}}), "/metadata"),
        ] {
            assert_eq!(pointers(fields.clone()), [pointer], "{fields}");
        }
        assert_eq!(read(&json!([]), Kind::Media).unwrap_err()[0].pointer, "");
        assert_eq!(read(&json!({"composition": "a"}), Kind::Media).unwrap_err()[0].pointer, "/serveUrl");
        assert_eq!(pointers(json!({"outName": "x".repeat(MAX_OPTIONS)})), [""]);
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        assert_eq!(
            pointers(json!({"webhook": {"url": ""}, "crf": 99, "scale": -1})),
            ["/scale", "/webhook/url", "/crf"]
        );
    }

    #[test]
    fn a_body_for_remotion_lambda_works_and_says_what_was_left_out() {
        let (request, ignored) = parse(
            json!({
                "region": "eu-central-1", "functionName": "f", "framesPerLambda": 20, "privacy": "public", "maxRetries": 1,
                "codec": "h264", "imageFormat": "jpeg", "inputProps": {"text": "Hi"}, "frameRange": [0, 9], "webhook": null,
            }),
            Kind::Media,
        )
        .unwrap();
        assert_eq!(ignored, ["framesPerLambda", "functionName", "maxRetries", "privacy", "region"]);
        assert_eq!(request.frame_range, Some(FrameRange::One((0, Some(9)))));
    }

    #[test]
    fn what_was_accepted_reads_back_the_same_and_only_remotions_options_reach_remotion() {
        let body = json!({
            "composition": "main", "serveUrl": "site", "inputProps": {"ü": [1, 2.5, null]}, "crf": 18.0, "frameRange": [3, null],
            "queue": {"group": "g", "runAt": "2026-01-01T00:00:00Z"}, "outName": "a.mp4",
            "webhook": {"url": "https://example.com", "secret": "s", "customData": {"a": 1}}, "notify": {"email": ["a@b.c"]},
        });
        let (request, _) = read(&body, Kind::Media).unwrap();
        let again = serde_json::from_str(&serde_json::to_string(&request).unwrap()).unwrap();
        assert_eq!(request, again);
        assert_eq!(
            serde_json::to_value(request.for_remotion(Kind::Media)).unwrap(),
            json!({
                "composition": "main", "serveUrl": "site", "codec": "h264", "inputProps": {"ü": [1, 2.5, null]},
                "crf": 18.0, "frameRange": [3, null],
            })
        );
    }

    #[test]
    fn odd_sides_are_refused_where_the_codec_needs_even_ones() {
        let composition = Composition {
            id: "odd".into(),
            width: 65,
            height: 48,
            fps: 30.0,
            duration_in_frames: 1,
            default_props: Value::Null,
            error: None,
        };
        let check = |fields| {
            let (request, _) = parse(fields, Kind::Media).unwrap();
            request
                .check_against(&composition, Kind::Media)
                .into_iter()
                .map(|error| error.pointer)
                .collect::<Vec<_>>()
        };
        assert_eq!(check(json!({})), ["/forceWidth"]);
        assert_eq!(check(json!({"forceWidth": 64, "forceHeight": 49})), ["/forceHeight"]);
        assert_eq!(check(json!({"scale": 2})), [""; 0]);
        assert_eq!(check(json!({"codec": "vp8"})), [""; 0]);
        assert_eq!(check(json!({"forceWidth": 64})), [""; 0]);
    }

    #[test]
    fn a_still_takes_no_options_of_media() {
        assert_eq!(parse(json!({"codec": "h264", "frame": -1}), Kind::Still).unwrap_err(), ["/codec"]);
        assert!(parse(json!({"frame": -1, "imageFormat": "webp"}), Kind::Still).is_ok());
    }
}
