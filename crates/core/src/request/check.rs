//! Whether a request can be rendered at all.

use super::RenderRequest;
use super::fault::{Errors, FieldError};
use super::options::{Codec, ImageFormat, PixelFormat, QueueOptions};
use crate::frame_range::FrameRange;
use crate::render::Kind;
use crate::site::Composition;

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

impl RenderRequest {
    /// What can be told from the request alone.
    pub(super) fn check(&self, kind: Kind) -> Vec<FieldError> {
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

fn is_bitrate(text: &str) -> bool {
    let number = text.strip_suffix(['k', 'K', 'M']).unwrap_or_default();
    number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && number.parse::<f64>().is_ok_and(|number| number > 0.0)
}
