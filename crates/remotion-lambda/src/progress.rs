//! How far a render is.

mod derive;
mod stored;

use serde::{Deserialize, Serialize};

pub(crate) use derive::expected_output;
use derive::{Context, Found};
pub(crate) use stored::Stored;
pub use stored::{Dimensions, PostRenderCost, RenderMetadata, Timing};

use crate::options::{LogLevel, S3OutputProvider};
use crate::{Client, Error};

/// Which render, and where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RenderLocator {
    /// The function that renders it, by name or ARN.
    pub function_name: String,
    /// Remotion's version of the function; `None` reads it from the function's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its bucket.
    pub bucket_name: String,
    /// Its id.
    pub render_id: String,
    /// Credentials for the output, if it went to another service than AWS.
    pub s3_output_provider: Option<S3OutputProvider>,
    /// How much the function logs. Default: info.
    pub log_level: LogLevel,
    /// The bucket in the path of S3's addresses, not in their host; for the function alone. Default: `false`.
    pub force_path_style: bool,
}

/// How far a render is. Times are in milliseconds, sizes in bytes; moments are milliseconds since 1970.
///
/// A render is over when [`done`](Self::done) or [`fatal_error_encountered`](Self::fatal_error_encountered).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderProgress {
    /// Its id.
    pub render_id: String,
    /// Its bucket.
    pub bucket: String,
    /// From 0 to 1.
    pub overall_progress: f64,
    /// Whether the output is there.
    pub done: bool,
    /// Whether it failed, and will not be tried again.
    pub fatal_error_encountered: bool,
    /// What went wrong; much of it may have been tried again.
    #[serde(default)]
    pub errors: Vec<LambdaError>,
    /// About what it cost so far.
    pub costs: CostsInfo,
    /// Chunks that are done; once done, how many there were.
    pub chunks: u32,
    /// Frames that were captured.
    #[serde(default)]
    pub frames_rendered: u64,
    /// What became of them.
    #[serde(default)]
    pub encoding_status: Option<EncodingStatus>,
    /// Frames in the output so far.
    #[serde(default)]
    pub combined_frames: u64,
    /// Functions that were started.
    pub lambdas_invoked: u32,
    /// The output's address; `None` until it is done.
    pub output_file: Option<String>,
    /// The output's key.
    #[serde(default)]
    pub out_key: Option<String>,
    /// The output's bucket.
    #[serde(default)]
    pub out_bucket: Option<String>,
    /// The output's size.
    #[serde(default)]
    pub output_size_in_bytes: Option<u64>,
    /// What the render put in its folder, together.
    #[serde(default)]
    pub render_size: u64,
    /// How long all of it took.
    pub time_to_finish: Option<f64>,
    /// How long the chunks took.
    #[serde(default)]
    pub time_to_finish_chunks: Option<f64>,
    /// How long the frames took.
    #[serde(default)]
    pub time_to_render_frames: Option<f64>,
    /// How long encoding took.
    #[serde(default)]
    pub time_to_encode: Option<f64>,
    /// How long joining took.
    #[serde(default)]
    pub time_to_combine: Option<f64>,
    /// How long functions ran, together, as AWS bills it.
    #[serde(default)]
    pub estimated_billing_duration_in_milliseconds: Option<f64>,
    /// Chunks that were tried again.
    #[serde(default)]
    pub retries_info: Vec<ChunkRetry>,
    /// The chunks that took longest.
    #[serde(default)]
    pub most_expensive_frame_ranges: Option<Vec<ExpensiveChunk>>,
    /// What was removed after the render.
    #[serde(default)]
    pub cleanup: Option<CleanupInfo>,
    /// What the render is; `None` until the function knows the composition.
    #[serde(default)]
    pub render_metadata: Option<RenderMetadata>,
    /// What else the composition wrote.
    #[serde(default)]
    pub artifacts: Vec<Artifact>,
    /// When this was true.
    pub current_time: i64,
    /// When the function that leads reaches its time limit.
    #[serde(default)]
    pub timeout_timestamp: Option<i64>,
    /// When the function that leads was started.
    #[serde(default)]
    pub function_launched: Option<i64>,
    /// When the site was opened.
    #[serde(default)]
    pub serve_url_opened: Option<i64>,
    /// When the composition was known.
    #[serde(default)]
    pub composition_validated: Option<i64>,
}

impl RenderProgress {
    /// Whether nothing will change any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.done || self.fatal_error_encountered
    }

    /// Whether it ended because it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        !self.done && self.fatal_error_encountered && self.errors.iter().any(LambdaError::is_cancellation)
    }

    /// Whether it ended because a function reached its time limit.
    #[must_use]
    pub fn is_timed_out(&self) -> bool {
        self.errors.iter().any(|error| error.is_final() && error.name == "TimeoutError")
    }

    /// The error it ended with.
    #[must_use]
    pub fn fatal_error(&self) -> Option<&LambdaError> {
        self.errors.iter().find(|error| error.is_final())
    }

    /// Frames that were encoded.
    #[must_use]
    pub fn frames_encoded(&self) -> u64 {
        self.encoding_status.as_ref().map_or(0, |status| status.frames_encoded)
    }
}

/// What went wrong in a function.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LambdaError {
    /// Where: `renderer`, `browser`, `stitcher`, `webhook` or `artifact`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What was said.
    pub message: String,
    /// JavaScript's name for it.
    pub name: String,
    /// JavaScript's stack.
    pub stack: String,
    /// At which frame.
    pub frame: Option<u64>,
    /// In which chunk.
    pub chunk: Option<u32>,
    /// Whether the chunk failed by it.
    pub is_fatal: bool,
    /// In which attempt, counted from 1.
    pub attempt: u32,
    /// Whether the chunk is tried again.
    pub will_retry: bool,
    /// How many attempts it gets.
    pub total_attempts: u32,
    /// What it means, where that is known.
    pub explanation: Option<String>,
}

impl LambdaError {
    /// Whether the render ends by it.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.is_fatal && !self.will_retry
    }

    fn is_cancellation(&self) -> bool {
        self.name == "CancelledError" || self.message.contains("() got cancelled")
    }
}

/// About what something cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CostsInfo {
    /// In units of the currency.
    pub accrued_so_far: f64,
    /// For a person, such as `$0.010`.
    pub display_cost: String,
    /// `USD`, or `CNY` in China.
    pub currency: String,
    /// What is not counted.
    pub disclaimer: String,
}

/// What became of the frames.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EncodingStatus {
    /// Frames that were encoded.
    pub frames_encoded: u64,
    /// Frames that were joined.
    pub combined_frames: u64,
    /// How long joining took, in milliseconds.
    pub time_to_combine: Option<f64>,
}

/// A chunk that was tried again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChunkRetry {
    /// Which chunk.
    pub chunk: u32,
    /// Which attempt, counted from 1.
    pub attempt: u32,
    /// When, in milliseconds since 1970.
    pub time: i64,
}

/// A chunk that took long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExpensiveChunk {
    /// Which chunk.
    pub chunk: u32,
    /// Its first and its last frame.
    pub frame_range: (u64, u64),
    /// How long it took.
    pub time_in_milliseconds: f64,
}

/// What was removed after the render.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CleanupInfo {
    /// How long it took, in milliseconds.
    pub done_in: Option<f64>,
    /// How many files there were at least.
    pub min_files_to_delete: u64,
    /// How many were removed.
    pub files_deleted: u64,
}

/// What else a composition wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Artifact {
    /// Its name.
    pub filename: String,
    /// Its size.
    pub size_in_bytes: u64,
    /// Its address.
    pub s3_url: String,
    /// Its key.
    pub s3_key: String,
}

impl Client {
    /// How far a render is, from its `progress.json` in the bucket: without calling a function, so it costs next to nothing and is
    /// not throttled. `None` if there is no such file: no such render, or one whose files were deleted. A render's is written
    /// before [`render_media_on_lambda`](Self::render_media_on_lambda) returns.
    ///
    /// A function that died writes nothing any more. That its time limit passed is told from the clock, and becomes a fatal
    /// `TimeoutError`.
    ///
    /// # Errors
    /// [`Error::AccessDenied`] also where the file is missing and the credentials may not list the bucket; and see [`Error`].
    pub async fn get_render_progress_from_bucket(
        &self,
        render: &RenderLocator,
    ) -> Result<Option<RenderProgress>, Error> {
        let Some(stored) = self.stored(&render.bucket_name, &render.render_id, None).await? else {
            return Ok(None);
        };
        let context = Context::new(self, render, &stored);
        let found = match context.output_to_look_for(&stored)? {
            Some(output) => self.look_for_output(&output, render).await?,
            None => None,
        };
        context.derive(&stored, found).map(Some)
    }

    /// The output of a render that has all its parts and did not say yet that it is done.
    async fn look_for_output(
        &self,
        output: &derive::Output,
        render: &RenderLocator,
    ) -> Result<Option<Found>, Error> {
        use aws_sdk_s3::error::ProvideErrorMetadata as _;
        let s3 = self.storage(render.s3_output_provider.as_ref().filter(|_| output.endpoint.is_some()));
        match s3.head_object().bucket(&output.bucket).key(&output.key).send().await {
            Ok(head) => {
                let size = head.content_length.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
                Ok(Some(Found { size_in_bytes: size }))
            }
            Err(error) if error.code() == Some("NotFound") => Ok(None),
            // Whoever may not look waits for the render to say it.
            Err(error) => match Error::aws("s3:GetObject", &error) {
                Error::AccessDenied { .. } => Ok(None),
                other => Err(other),
            },
        }
    }
}
