//! The values that options have, and the options that have fields of their own.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::render::{RenderId, words};

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

/// What Remotion 4.0.527 takes with a codec.
pub(super) struct CodecRules {
    pub(super) extension: &'static str,
    pub(super) audio_codecs: &'static [AudioCodec],
    pub(super) crf: Option<(f64, f64)>,
    pub(super) even_sides: bool,
}

impl Codec {
    /// Whether it has a picture.
    #[must_use]
    pub const fn has_video(self) -> bool {
        !matches!(self, Self::Mp3 | Self::Aac | Self::Wav)
    }

    pub(super) const fn rules(self) -> CodecRules {
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
