//! Choices among words, as Remotion writes them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Defines a choice whose known words are variants, and that lets words through that a newer Remotion may bring.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
        #[serde(from = "String", into = "String")]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* #[doc = concat!("\n\nOn the wire: `", $word, "`.")] $variant,)+
            /// A word this version of the crate does not know. It is sent as it is; the function judges it.
            Other(String),
        }

        impl $name {
            /// The word that is sent.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                }
            }
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                match word.as_str() {
                    $($word => Self::$variant,)+
                    _ => Self::Other(word),
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                Self::from(word.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> Self {
                match word {
                    $name::Other(word) => word,
                    known => known.as_str().to_owned(),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// How a video or a sound is encoded, and by that in which container.
    #[derive(Default)]
    Codec {
        /// H.264 in MP4.
        #[default]
        H264 = "h264",
        /// H.265 in MP4.
        H265 = "h265",
        /// VP8 in WebM.
        Vp8 = "vp8",
        /// VP9 in WebM.
        Vp9 = "vp9",
        /// MP3, sound alone.
        Mp3 = "mp3",
        /// AAC, sound alone.
        Aac = "aac",
        /// WAV, sound alone.
        Wav = "wav",
        /// An animated GIF.
        Gif = "gif",
        /// ProRes in MOV.
        ProRes = "prores",
    }
}

words! {
    /// How the sound of a video is encoded.
    AudioCodec {
        /// Uncompressed.
        Pcm16 = "pcm-16",
        /// AAC.
        Aac = "aac",
        /// MP3.
        Mp3 = "mp3",
        /// Opus.
        Opus = "opus",
    }
}

words! {
    /// How the frames of a video are captured.
    #[derive(Default)]
    VideoImageFormat {
        /// Fast, without transparency.
        #[default]
        Jpeg = "jpeg",
        /// Lossless, with transparency.
        Png = "png",
        /// No frames: sound alone.
        None = "none",
    }
}

words! {
    /// The format of a still. Remotion has no default for it; this crate takes PNG, which loses nothing.
    #[derive(Default)]
    StillImageFormat {
        /// Lossless, with transparency.
        #[default]
        Png = "png",
        /// Smaller, without transparency.
        Jpeg = "jpeg",
        /// A page of a PDF.
        Pdf = "pdf",
        /// WebP.
        Webp = "webp",
    }
}

words! {
    /// How pixels are stored in a video.
    PixelFormat {
        /// 4:2:0, 8 bits: what every player shows.
        Yuv420p = "yuv420p",
        /// 4:2:0 with transparency.
        Yuva420p = "yuva420p",
        /// 4:2:2.
        Yuv422p = "yuv422p",
        /// 4:4:4.
        Yuv444p = "yuv444p",
        /// 4:2:0, 10 bits.
        Yuv420p10le = "yuv420p10le",
        /// 4:2:2, 10 bits.
        Yuv422p10le = "yuv422p10le",
        /// 4:4:4, 10 bits.
        Yuv444p10le = "yuv444p10le",
        /// 4:4:4 with transparency, 10 bits.
        Yuva444p10le = "yuva444p10le",
    }
}

words! {
    /// Quality and size of ProRes.
    ProResProfile {
        /// 4444 XQ.
        P4444Xq = "4444-xq",
        /// 4444.
        P4444 = "4444",
        /// 422 HQ.
        Hq = "hq",
        /// 422.
        Standard = "standard",
        /// 422 LT.
        Light = "light",
        /// 422 Proxy.
        Proxy = "proxy",
    }
}

words! {
    /// How hard the H.264 encoder tries.
    X264Preset {
        /// The fastest, with the largest files.
        Ultrafast = "ultrafast",
        /// Next to the fastest.
        Superfast = "superfast",
        /// Very fast.
        Veryfast = "veryfast",
        /// Faster.
        Faster = "faster",
        /// Fast.
        Fast = "fast",
        /// The encoder's own default.
        Medium = "medium",
        /// Slow.
        Slow = "slow",
        /// Slower.
        Slower = "slower",
        /// Very slow.
        Veryslow = "veryslow",
        /// The slowest.
        Placebo = "placebo",
    }
}

words! {
    /// Which colours a video's numbers mean.
    ColorSpace {
        /// Remotion's default.
        Default = "default",
        /// BT.601.
        Bt601 = "bt601",
        /// BT.709.
        Bt709 = "bt709",
        /// BT.2020, non-constant luminance.
        Bt2020Ncl = "bt2020-ncl",
    }
}

words! {
    /// Who may fetch the output.
    #[derive(Default)]
    Privacy {
        /// Anybody who has its address. This is Remotion's default.
        #[default]
        Public = "public",
        /// Those with credentials, or a signed address: [`Client::presign_url`](crate::Client::presign_url).
        Private = "private",
        /// The bucket's own rules decide; needed where the bucket has access control lists turned off.
        NoAcl = "no-acl",
    }
}

words! {
    /// How much the function writes to its log.
    #[derive(Default)]
    LogLevel {
        /// Everything.
        Trace = "trace",
        /// Much, with the browser's own messages.
        Verbose = "verbose",
        /// What happens. This is Remotion's default.
        #[default]
        Info = "info",
        /// What may be wrong.
        Warn = "warn",
        /// What went wrong.
        Error = "error",
    }
}

words! {
    /// How the browser draws with OpenGL.
    OpenGlRenderer {
        /// ANGLE on SwiftShader: on the processor.
        Swangle = "swangle",
        /// ANGLE.
        Angle = "angle",
        /// EGL.
        Egl = "egl",
        /// SwiftShader.
        Swiftshader = "swiftshader",
        /// Vulkan.
        Vulkan = "vulkan",
        /// ANGLE on EGL.
        AngleEgl = "angle-egl",
    }
}

words! {
    /// When S3 deletes the output. It needs the bucket's lifecycle rules:
    /// [`Client::get_or_create_bucket`](crate::Client::get_or_create_bucket) puts them there.
    DeleteAfter {
        /// After one day.
        OneDay = "1-day",
        /// After three days.
        ThreeDays = "3-days",
        /// After seven days.
        SevenDays = "7-days",
        /// After thirty days.
        ThirtyDays = "30-days",
    }
}

words! {
    /// How S3 keeps the output; see S3's own documentation for what each costs.
    StorageClass {
        /// The default.
        Standard = "STANDARD",
        /// In fewer places.
        ReducedRedundancy = "REDUCED_REDUNDANCY",
        /// Seldom read.
        StandardIa = "STANDARD_IA",
        /// Seldom read, in one zone.
        OnezoneIa = "ONEZONE_IA",
        /// S3 finds out.
        IntelligentTiering = "INTELLIGENT_TIERING",
        /// Archived, must be restored before it can be read.
        Glacier = "GLACIER",
        /// Archived deeply, must be restored before it can be read.
        DeepArchive = "DEEP_ARCHIVE",
        /// Archived, and read at once.
        GlacierIr = "GLACIER_IR",
        /// On S3 Express.
        ExpressOnezone = "EXPRESS_ONEZONE",
    }
}
