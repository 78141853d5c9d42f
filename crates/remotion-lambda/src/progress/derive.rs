//! From what a render wrote to how far it is: what the function itself answers, worked out here.

use super::stored::PostRenderData;
use super::{
    CleanupInfo, CostsInfo, EncodingStatus, LambdaError, RenderLocator, RenderMetadata, RenderProgress,
    Stored,
};
use crate::options::{AudioCodec, Codec, OutName};
use crate::price::{EstimatePriceOptions, display, estimate_price};
use crate::region::Partition;
use crate::{Client, Error, FunctionName};

/// How long after its time limit a function is taken for dead, in milliseconds: its last words may be on their way.
const GRACE: i64 = 20_000;

/// What starting a function adds to what it bills, in milliseconds.
const BILLED_OVERHEAD: i64 = 100;

/// The disk that is billed, in MB: which one the function has is not written down, so the largest.
const BILLED_DISK: u32 = 10_240;

/// How many missing chunks an error names.
const NAMED_CHUNKS: usize = 5;

/// How much each part counts.
const EVALUATING: f64 = 0.1;
const INVOKING: f64 = 0.1;
const FRAMES: f64 = 0.6;
const ENCODING: f64 = 0.1;
const COMBINING: f64 = 0.1;

const DISCLAIMER: &str = "Estimated cost only. Does not include charges for other AWS services.";

/// Where an output is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) bucket: String,
    pub(crate) key: String,
    /// Another service than AWS's.
    pub(crate) endpoint: Option<String>,
}

/// An output that is there.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) size_in_bytes: u64,
}

/// What else it takes to read `progress.json`.
pub(super) struct Context<'a> {
    pub(super) render: &'a RenderLocator,
    pub(super) region: &'a str,
    pub(super) now: i64,
    /// The function's memory, in MB.
    pub(super) memory: u32,
    /// The function's time limit, in milliseconds.
    pub(super) time_limit: Option<i64>,
}

impl<'a> Context<'a> {
    pub(super) fn new(client: &'a Client, render: &'a RenderLocator, stored: &Stored) -> Self {
        let named: Option<FunctionName> = render.function_name.parse().ok();
        let metadata = stored.render_metadata.as_ref();
        // A function may have any name; what it wrote about itself will do.
        let written = stored.timeout_timestamp.zip(stored.function_launched).map(|(end, start)| end - start);
        Self {
            render,
            region: client.region(),
            now: client.now(),
            memory: named
                .as_ref()
                .map(FunctionName::memory_size_in_mb)
                .or_else(|| metadata.map(|metadata| metadata.memory_size_in_mb))
                .unwrap_or_default(),
            time_limit: named.map(|name| i64::from(name.timeout_in_seconds()) * 1000).or(written),
        }
    }

    /// The output of a render that seems to have it, and did not say so: the function may have died in between.
    pub(super) fn output_to_look_for(&self, stored: &Stored) -> Result<Option<Output>, Error> {
        let Some(metadata) = stored.render_metadata.as_ref().filter(|_| stored.post_render_data.is_none())
        else {
            return Ok(None);
        };
        let failed = stored.errors.iter().any(LambdaError::is_final);
        let joined = stored.combined_frames.unwrap_or_default() >= frame_count(metadata)
            && stored.time_to_combine.is_some();
        if !has_all_chunks(stored, metadata) || failed || !(joined || self.joining_took_too_long(metadata)) {
            return Ok(None);
        }
        let output = expected_output(metadata, &self.render.bucket_name)?;
        // Nobody but the caller knows the key to another service.
        let reachable = output.endpoint.is_none() || self.render.s3_output_provider.is_some();
        Ok(reachable.then_some(output))
    }

    pub(super) fn derive(&self, stored: &Stored, found: Option<Found>) -> Result<RenderProgress, Error> {
        if stored.render_metadata.as_ref().is_some_and(|metadata| metadata.kind == "still") {
            let message = "it is a still, which is done when it is rendered".to_owned();
            return Err(Error::Invalid { option: "renderId", message });
        }
        if let Some(finished) = &stored.post_render_data {
            return self.finished(stored, finished);
        }
        match (&stored.render_metadata, found) {
            (Some(metadata), Some(found)) => self.found(stored, metadata, found),
            _ => Ok(self.under_way(stored)),
        }
    }

    /// A render that said it is done.
    fn finished(&self, stored: &Stored, end: &PostRenderData) -> Result<RenderProgress, Error> {
        let Some(metadata) = &stored.render_metadata else {
            let message = "progress.json: it is done, and has no metadata".to_owned();
            return Err(Error::Reply { action: "s3:GetObject", message });
        };
        let output = expected_output(metadata, &self.render.bucket_name)?;
        let frames = frame_count(metadata);
        Ok(RenderProgress {
            overall_progress: 1.0,
            done: true,
            fatal_error_encountered: false,
            errors: end.errors.clone(),
            costs: CostsInfo {
                accrued_so_far: end.cost.estimated_cost,
                display_cost: end.cost.estimated_display_cost.clone(),
                currency: end.cost.currency.clone(),
                disclaimer: end.cost.disclaimer.clone(),
            },
            chunks: metadata.total_chunks,
            frames_rendered: frames,
            encoding_status: Some(EncodingStatus {
                frames_encoded: frames,
                combined_frames: frames,
                time_to_combine: end.time_to_combine,
            }),
            combined_frames: frames,
            lambdas_invoked: metadata.total_chunks,
            output_file: Some(end.output_file.clone()),
            out_key: Some(output.key),
            out_bucket: Some(output.bucket),
            output_size_in_bytes: Some(end.output_size),
            render_size: end.render_size,
            time_to_finish: end.time_to_finish,
            time_to_finish_chunks: end.time_to_render_chunks,
            time_to_render_frames: end.time_to_render_frames,
            time_to_encode: end.time_to_encode,
            time_to_combine: end.time_to_combine,
            estimated_billing_duration_in_milliseconds: end.estimated_billing_duration_in_milliseconds,
            retries_info: end.retries_info.clone(),
            most_expensive_frame_ranges: end.most_expensive_frame_ranges.clone(),
            cleanup: Some(CleanupInfo {
                done_in: end.time_to_clean_up,
                min_files_to_delete: end.files_cleaned_up,
                files_deleted: end.files_cleaned_up,
            }),
            ..self.under_way(stored)
        })
    }

    /// A render whose output is there, though it did not say so.
    fn found(
        &self,
        stored: &Stored,
        metadata: &RenderMetadata,
        found: Found,
    ) -> Result<RenderProgress, Error> {
        let output = expected_output(metadata, &self.render.bucket_name)?;
        let suffix = Partition::of(self.region).dns_suffix;
        let frames = frame_count(metadata);
        let address = format!("https://s3.{}.{suffix}/{}/{}", self.region, output.bucket, output.key);
        Ok(RenderProgress {
            overall_progress: 1.0,
            done: true,
            fatal_error_encountered: false,
            errors: explained(&stored.errors),
            chunks: metadata.total_chunks,
            frames_rendered: frames,
            encoding_status: Some(EncodingStatus {
                frames_encoded: frames,
                combined_frames: frames,
                time_to_combine: stored.time_to_combine,
            }),
            combined_frames: frames,
            lambdas_invoked: metadata.total_chunks,
            output_file: Some(address),
            out_key: Some(output.key),
            out_bucket: Some(output.bucket),
            output_size_in_bytes: Some(found.size_in_bytes),
            render_size: found.size_in_bytes,
            time_to_finish: Some(millis(self.now - metadata.started_date)),
            time_to_finish_chunks: Some(chunks_took(stored)),
            ..self.under_way(stored)
        })
    }

    /// A render that goes on, or failed.
    fn under_way(&self, stored: &Stored) -> RenderProgress {
        let metadata = stored.render_metadata.as_ref();
        let mut errors: Vec<LambdaError> = self.time_out(stored).into_iter().collect();
        errors.extend(explained(&stored.errors));
        let billed = metadata.map(|metadata| self.billed(stored, metadata));
        let accrued =
            metadata.zip(billed).map_or(0.0, |(metadata, billed)| self.accrued(stored, metadata, billed));
        RenderProgress {
            render_id: self.render.render_id.clone(),
            bucket: self.render.bucket_name.clone(),
            overall_progress: overall(stored),
            done: false,
            fatal_error_encountered: errors.iter().any(LambdaError::is_final),
            errors,
            costs: CostsInfo {
                accrued_so_far: accrued,
                display_cost: display(accrued, self.region),
                currency: Partition::of(self.region).currency.to_owned(),
                disclaimer: DISCLAIMER.to_owned(),
            },
            chunks: u32::try_from(stored.chunks.len()).unwrap_or(u32::MAX),
            frames_rendered: stored.frames_rendered.unwrap_or_default(),
            encoding_status: Some(EncodingStatus {
                frames_encoded: stored.frames_encoded.unwrap_or_default(),
                combined_frames: stored.combined_frames.unwrap_or_default(),
                time_to_combine: stored.time_to_combine,
            }),
            combined_frames: stored.combined_frames.unwrap_or_default(),
            lambdas_invoked: stored.lambdas_invoked.unwrap_or_default(),
            output_file: None,
            out_key: None,
            out_bucket: None,
            output_size_in_bytes: None,
            render_size: 0,
            time_to_finish: None,
            time_to_finish_chunks: metadata
                .filter(|metadata| has_all_chunks(stored, metadata))
                .map(|_| chunks_took(stored)),
            time_to_render_frames: stored.time_to_render_frames,
            time_to_encode: stored.time_to_encode,
            time_to_combine: stored.time_to_combine,
            estimated_billing_duration_in_milliseconds: billed.map(millis),
            retries_info: stored.retries.clone(),
            most_expensive_frame_ranges: None,
            cleanup: Some(CleanupInfo::default()),
            render_metadata: stored.render_metadata.clone(),
            artifacts: stored.received_artifact.clone(),
            current_time: self.now,
            timeout_timestamp: stored.timeout_timestamp,
            function_launched: stored.function_launched,
            serve_url_opened: stored.serve_url_opened,
            composition_validated: stored.composition_validated,
        }
    }

    fn joining_took_too_long(&self, metadata: &RenderMetadata) -> bool {
        self.time_limit.is_some_and(|limit| self.now > metadata.started_date + 2 * limit + GRACE)
    }

    /// The error of a function that reached its time limit, and could not write it.
    fn time_out(&self, stored: &Stored) -> Option<LambdaError> {
        let message = match &stored.render_metadata {
            Some(metadata) => {
                let limit = self.time_limit?;
                let missing: Vec<u32> =
                    (0..metadata.total_chunks).filter(|chunk| !stored.chunks.contains(chunk)).collect();
                let late = self.now > metadata.started_date + limit + GRACE && !missing.is_empty();
                if !late && !self.joining_took_too_long(metadata) {
                    return None;
                }
                format!(
                    "The function that leads reached its time limit of {limit} ms. {}",
                    lacking(metadata, &missing)
                )
            }
            None => {
                let end = stored.timeout_timestamp.filter(|end| self.now > end + GRACE)?;
                format!(
                    "The function that leads reached its time limit, {} ms ago, before it knew the composition.",
                    self.now - end
                )
            }
        };
        Some(LambdaError {
            kind: "stitcher".to_owned(),
            stack: format!("TimeoutError: {message}"),
            message,
            name: "TimeoutError".to_owned(),
            is_fatal: true,
            attempt: 1,
            total_attempts: 1,
            ..LambdaError::default()
        })
    }

    /// How long all functions ran, in milliseconds.
    fn billed(&self, stored: &Stored, metadata: &RenderMetadata) -> i64 {
        let done: i64 =
            stored.timings.iter().map(|chunk| (chunk.rendered - chunk.start).max(0) + BILLED_OVERHEAD).sum();
        let elapsed = (stored.fatal_error_timestamp.unwrap_or(self.now) - metadata.started_date).max(0);
        let finished = u32::try_from(stored.timings.len()).unwrap_or(u32::MAX);
        let running = stored.lambdas_invoked.unwrap_or_default().saturating_sub(finished);
        done + i64::from(running) * elapsed
    }

    /// What that costs. Nothing is known of regions without prices.
    fn accrued(&self, stored: &Stored, metadata: &RenderMetadata, billed: i64) -> f64 {
        let renderer =
            metadata.renderer_function_name.as_deref().and_then(|name| name.parse::<FunctionName>().ok());
        let price = estimate_price(&EstimatePriceOptions {
            region: self.region.to_owned(),
            duration_in_milliseconds: millis(billed),
            memory_size_in_mb: renderer.map_or(self.memory, |name| name.memory_size_in_mb()),
            disk_size_in_mb: BILLED_DISK,
            lambdas_invoked: stored.lambdas_invoked.unwrap_or_default(),
        });
        // Five digits tell all that an estimate can.
        price.ok().and_then(|price| format!("{price:.4e}").parse().ok()).unwrap_or_default()
    }
}

/// Where the output of a render goes.
pub(crate) fn expected_output(metadata: &RenderMetadata, bucket: &str) -> Result<Output, Error> {
    let folder = format!("renders/{}", metadata.render_id);
    let within =
        |name: &str| Output { bucket: bucket.to_owned(), key: format!("{folder}/{name}"), endpoint: None };
    match &metadata.out_name {
        Some(OutName::Name(name)) => Ok(within(name)),
        Some(OutName::Place { bucket_name, key, s3_output_provider }) => Ok(Output {
            bucket: bucket_name.clone(),
            key: key.clone(),
            endpoint: s3_output_provider.as_ref().map(|provider| provider.endpoint.clone()),
        }),
        None if metadata.kind == "still" => Ok(within(&format!("out.{}", metadata.image_format))),
        None => {
            let codec =
                metadata.codec.as_ref().and_then(|codec| extension(codec, metadata.audio_codec.as_ref()));
            let extension = codec.ok_or_else(|| Error::Reply {
                action: "s3:GetObject",
                message: format!("progress.json: the extension of {:?} is not known", metadata.codec),
            })?;
            Ok(within(&format!("out.{extension}")))
        }
    }
}

/// The extension Remotion gives an output. Uncompressed sound needs other containers than the codec's usual one.
fn extension(codec: &Codec, audio: Option<&AudioCodec>) -> Option<&'static str> {
    let uncompressed = audio == Some(&AudioCodec::Pcm16);
    Some(match codec {
        Codec::H264 | Codec::H265 | Codec::Vp8 | Codec::Vp9 if uncompressed => "mkv",
        Codec::Aac | Codec::Mp3 if uncompressed => "wav",
        Codec::H264 | Codec::H265 => "mp4",
        Codec::Vp8 | Codec::Vp9 => "webm",
        Codec::ProRes => "mov",
        Codec::Mp3 => "mp3",
        Codec::Aac => "aac",
        Codec::Wav => "wav",
        Codec::Gif => "gif",
        Codec::Other(codec) => match codec.as_str() {
            "av1" if uncompressed => "mkv",
            "av1" if audio == Some(&AudioCodec::Opus) => "webm",
            "av1" => "mp4",
            "h264-mkv" => "mkv",
            "h264-ts" => "ts",
            _ => return None,
        },
    })
}

fn frame_count(metadata: &RenderMetadata) -> u64 {
    let Some((first, last)) = metadata.frame_range else { return 0 };
    last.checked_sub(first).map_or(0, |length| length / metadata.every_nth_frame.unwrap_or(1).max(1) + 1)
}

/// Whether sound and picture of every chunk are there.
fn has_all_chunks(stored: &Stored, metadata: &RenderMetadata) -> bool {
    let (picture, sound) = match metadata.codec {
        Some(Codec::Mp3 | Codec::Aac | Codec::Wav) => (false, true),
        Some(Codec::Gif) => (true, false),
        _ => (true, true),
    };
    let sound = sound && metadata.muted != Some(true);
    let kinds = usize::from(picture) + usize::from(sound);
    kinds > 0
        && usize::try_from(metadata.total_chunks).is_ok_and(|total| stored.chunks.len() == total * kinds)
}

/// From the first chunk's begin to the last one's end.
fn chunks_took(stored: &Stored) -> f64 {
    let first = stored.timings.iter().map(|chunk| chunk.start).min();
    let last = stored.timings.iter().map(|chunk| chunk.rendered).max();
    first.zip(last).map_or(0.0, |(first, last)| millis((last - first).max(0)))
}

fn overall(stored: &Stored) -> f64 {
    let reached = |moment: Option<i64>| f64::from(u8::from(moment.is_some_and(|moment| moment > 0)));
    let invoked = stored.lambdas_invoked.unwrap_or_default();
    let started = f64::from(u8::from(invoked > 0));
    let evaluated =
        (started + reached(stored.serve_url_opened) + reached(stored.composition_validated)) / 3.0;
    let Some(metadata) = &stored.render_metadata else { return evaluated * EVALUATING };
    let frames = count(frame_count(metadata));
    let part = |done: Option<u64>| if frames > 0.0 { count(done.unwrap_or_default()) / frames } else { 0.0 };
    let invoking = match metadata.estimated_render_lambda_invokations {
        0 => started,
        all => f64::from(invoked) / f64::from(all),
    };
    evaluated * EVALUATING
        + part(stored.frames_encoded) * ENCODING
        + invoking * INVOKING
        + part(stored.frames_rendered) * FRAMES
        + part(stored.combined_frames) * COMBINING
}

/// Which chunks are missing.
fn lacking(metadata: &RenderMetadata, missing: &[u32]) -> String {
    if missing.is_empty() {
        return "All chunks were rendered; joining them took too long.".to_owned();
    }
    let last = metadata.frame_range.map_or(0, |(_, last)| last);
    let named: Vec<String> = missing
        .iter()
        .take(NAMED_CHUNKS)
        .map(|chunk| {
            let first = u64::from(*chunk) * metadata.frames_per_lambda;
            let end = if chunk + 1 == metadata.total_chunks {
                last
            } else {
                first + metadata.frames_per_lambda - 1
            };
            format!("{chunk} (frames {first} to {end})")
        })
        .collect();
    let more = if missing.len() > NAMED_CHUNKS { " and more" } else { "" };
    format!("Chunks that are missing: {}{more}.", named.join(", "))
}

fn explained(errors: &[LambdaError]) -> Vec<LambdaError> {
    let explain =
        |error: &LambdaError| LambdaError { explanation: explanation(&error.stack), ..error.clone() };
    errors.iter().map(explain).collect()
}

/// What an error means, by what its stack says.
fn explanation(stack: &str) -> Option<String> {
    let has = |texts: &[&str]| texts.iter().any(|text| stack.contains(text));
    let text = if has(&[
        "FATAL:zygote_communication_linux.cc",
        "error while loading shared libraries: libnss3.so",
    ]) {
        "The browser did not start. That is tried again, and need not worry you."
    } else if has(&["TooManyRequestsException", "ConcurrentInvocationLimitExceeded"]) {
        "The account runs as many functions at once as it may. See https://www.remotion.dev/docs/lambda/troubleshooting/rate-limit"
    } else if has(&["ENOSPC"]) || stack.to_lowercase().contains("no space left on device") {
        "The function's disk is full. Give it more, or render less in each. See https://www.remotion.dev/docs/lambda/disk-size"
    } else if has(&["net::ERR_INSUFFICIENT_RESOURCES"]) {
        "The function has too little memory. Deploy one with more."
    } else if has(&["Target closed.", "Session closed"]) {
        "The browser crashed. Deploy a function with more memory."
    } else {
        return None;
    };
    Some(text.to_owned())
}

#[expect(clippy::cast_precision_loss, reason = "no duration has 53 bits")]
fn millis(duration: i64) -> f64 {
    duration as f64
}

#[expect(clippy::cast_precision_loss, reason = "no video has that many frames")]
fn count(frames: u64) -> f64 {
    frames as f64
}
