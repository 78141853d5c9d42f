//! Whether a finished file is what was asked for.
//!
//! The encoder's word is not taken for it: the file is looked at by another program, which counts its frames.

use serde::Deserialize;

use crate::render::{Failure, Kind, Output};
use crate::request::RenderRequest;

/// What the file should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// Frames that were to be rendered.
    pub frame_count: u32,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Seconds.
    pub duration_in_seconds: f64,
}

/// What ffprobe says of the file, in its own form (`-of json -show_streams -show_format -count_packets`).
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Probe {
    /// One for the picture, one for the sound.
    #[serde(default)]
    pub streams: Vec<Stream>,
    /// The container.
    #[serde(default)]
    pub format: Format,
}

/// A stream of the file.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Stream {
    /// `video` or `audio`.
    #[serde(default)]
    pub codec_type: String,
    /// Pixels.
    #[serde(default)]
    pub width: u32,
    /// Pixels.
    #[serde(default)]
    pub height: u32,
    /// Packets counted in the file; of a picture, one is a frame. ffprobe writes numbers as text.
    pub nb_read_packets: Option<String>,
    /// Seconds, as text.
    pub duration: Option<String>,
}

/// The container.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Format {
    /// Seconds, as text.
    pub duration: Option<String>,
}

/// How much shorter the sound may be, in seconds, and how much longer beside whole frames of its codec.
const AUDIO_SLACK: f64 = 0.05;
/// How many frames of its codec the sound may be longer: encoders pad at both ends, and containers count that.
const AUDIO_PADDING: f64 = 4.0;
/// Samples in a frame of MP3; AAC has fewer.
const AUDIO_FRAME: f64 = 1_152.0;

/// Compares the file with what it should be.
///
/// # Errors
/// `output_incomplete`, retryable, with what is missing: the file is not what a sound encoder would have left.
pub fn verify(
    request: &RenderRequest,
    kind: Kind,
    expected: &Expected,
    probe: &Probe,
    size_in_bytes: u64,
) -> Result<Output, Failure> {
    let incomplete =
        |why: String| Failure::new("output_incomplete", format!("the file was written, but {why}"), true);
    if size_in_bytes == 0 {
        return Err(incomplete("it is empty".into()));
    }
    let mut output = Output {
        key: String::new(),
        size_in_bytes,
        sha256: String::new(),
        content_type: request.content_type(kind).to_owned(),
        frame_count: None,
        width: None,
        height: None,
        duration_in_seconds: None,
        cost_in_usd: None,
        deletion: None,
    };
    // ffprobe knows no PDF; Remotion has written it in one piece.
    let is_pdf = kind == Kind::Still && request.extension(kind) == "pdf";
    let has_picture = kind == Kind::Still || request.codec().has_video();
    if has_picture && !is_pdf {
        let video = stream(probe, "video").ok_or_else(|| incomplete("it has no picture".into()))?;
        if (video.width, video.height) != (expected.width, expected.height) {
            return Err(incomplete(format!(
                "its picture is {}x{}, not {}x{}",
                video.width, video.height, expected.width, expected.height
            )));
        }
        output.width = Some(video.width);
        output.height = Some(video.height);
        if kind == Kind::Media {
            let counted = video.nb_read_packets.as_deref().and_then(|text| text.parse().ok());
            if counted != Some(expected.frame_count) {
                let counted = counted.map_or_else(
                    || "no frames that can be counted".into(),
                    |count: u32| format!("{count} frames"),
                );
                return Err(incomplete(format!("it has {counted}, not {}", expected.frame_count)));
            }
            output.frame_count = counted;
            output.duration_in_seconds = Some(expected.duration_in_seconds);
        }
    }
    if !has_picture {
        let audio = stream(probe, "audio").ok_or_else(|| incomplete("it has no sound".into()))?;
        let seconds = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<f64>().ok());
        let longest =
            AUDIO_PADDING * AUDIO_FRAME / f64::from(request.sample_rate.unwrap_or(48_000)) + AUDIO_SLACK;
        let duration = seconds(&audio.duration).or_else(|| seconds(&probe.format.duration));
        match duration {
            Some(duration)
                if (-AUDIO_SLACK..=longest).contains(&(duration - expected.duration_in_seconds)) =>
            {
                output.duration_in_seconds = Some(duration);
            }
            duration => {
                let duration =
                    duration.map_or_else(|| "no known length".into(), |seconds| format!("{seconds:.2} s"));
                return Err(incomplete(format!(
                    "it has {duration}, not {:.2} s",
                    expected.duration_in_seconds
                )));
            }
        }
    }
    Ok(output)
}

fn stream<'a>(probe: &'a Probe, codec_type: &str) -> Option<&'a Stream> {
    probe.streams.iter().find(|stream| stream.codec_type == codec_type)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::Codec;

    const EXPECTED: Expected =
        Expected { frame_count: 150, width: 1920, height: 1080, duration_in_seconds: 5.0 };

    fn check(codec: Codec, probe: serde_json::Value) -> Result<Output, String> {
        let request = RenderRequest { codec: Some(codec), ..RenderRequest::default() };
        let probe: Probe = serde_json::from_value(probe).unwrap();
        verify(&request, Kind::Media, &EXPECTED, &probe, 1_000).map_err(|failure| failure.message)
    }

    #[test]
    fn a_video_must_have_every_frame_in_the_right_size() {
        let video = |width: u32, packets: &str| json!({"streams": [{"codec_type": "audio"}, {"codec_type": "video", "width": width, "height": 1080, "nb_read_packets": packets}]});
        assert_eq!(check(Codec::H264, video(1920, "150")).unwrap().frame_count, Some(150));
        for (probe, why) in [
            (video(1920, "149"), "149 frames, not 150"),
            (video(1920, "151"), "151 frames, not 150"),
            (video(1920, "N/A"), "no frames that can be counted"),
            (video(1280, "150"), "1280x1080, not 1920x1080"),
            (json!({"streams": [{"codec_type": "audio"}]}), "no picture"),
            (json!({}), "no picture"),
        ] {
            let error = check(Codec::H264, probe).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn sound_must_have_its_length() {
        let audio =
            |duration: &str| json!({"streams": [{"codec_type": "audio"}], "format": {"duration": duration}});
        assert_eq!(check(Codec::Mp3, audio("5.06")).unwrap().duration_in_seconds, Some(5.06));
        for (probe, why) in
            [(audio("4.5"), "4.50 s, not 5.00 s"), (audio("?"), "no known length"), (json!({}), "no sound")]
        {
            let error = check(Codec::Mp3, probe).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
