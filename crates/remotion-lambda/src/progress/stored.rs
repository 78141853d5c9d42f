//! What a render writes of itself.

use serde::{Deserialize, Serialize};

use super::{Artifact, ChunkRetry, ExpensiveChunk, LambdaError};
use crate::options::{AudioCodec, Codec, Extra, OutName, Privacy};

/// `progress.json`. What is missing is taken for nothing: versions differ.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Stored {
    pub(crate) cancellation_enabled: Option<bool>,
    pub(super) chunks: Vec<u32>,
    pub(super) frames_rendered: Option<u64>,
    pub(super) frames_encoded: Option<u64>,
    pub(super) combined_frames: Option<u64>,
    pub(super) time_to_combine: Option<f64>,
    pub(super) time_to_encode: Option<f64>,
    pub(super) time_to_render_frames: Option<f64>,
    pub(super) lambdas_invoked: Option<u32>,
    pub(super) retries: Vec<ChunkRetry>,
    pub(super) post_render_data: Option<PostRenderData>,
    pub(super) timings: Vec<Timing>,
    pub(crate) render_metadata: Option<RenderMetadata>,
    pub(super) errors: Vec<LambdaError>,
    pub(super) fatal_error_timestamp: Option<i64>,
    pub(super) timeout_timestamp: Option<i64>,
    pub(super) function_launched: Option<i64>,
    pub(super) serve_url_opened: Option<i64>,
    pub(super) composition_validated: Option<i64>,
    pub(super) received_artifact: Vec<Artifact>,
}

/// What a render writes when it is done.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PostRenderData {
    pub(super) cost: PostRenderCost,
    pub(super) output_file: String,
    pub(super) output_size: u64,
    pub(super) render_size: u64,
    pub(super) time_to_finish: Option<f64>,
    pub(super) time_to_render_frames: Option<f64>,
    pub(super) errors: Vec<LambdaError>,
    pub(super) files_cleaned_up: u64,
    pub(super) time_to_encode: Option<f64>,
    pub(super) time_to_clean_up: Option<f64>,
    pub(super) time_to_render_chunks: Option<f64>,
    pub(super) retries_info: Vec<ChunkRetry>,
    pub(super) most_expensive_frame_ranges: Option<Vec<ExpensiveChunk>>,
    pub(super) estimated_billing_duration_in_milliseconds: Option<f64>,
    pub(super) time_to_combine: Option<f64>,
}

/// About what a finished render cost, under the names webhooks have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PostRenderCost {
    /// In units of the currency.
    pub estimated_cost: f64,
    /// For a person, such as `$0.010`.
    pub estimated_display_cost: String,
    /// `USD`, or `CNY` in China.
    pub currency: String,
    /// What is not counted.
    pub disclaimer: String,
}

/// When a chunk was rendered, in milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timing {
    /// Which chunk.
    pub chunk: u32,
    /// When it began.
    pub start: i64,
    /// When it was done.
    pub rendered: i64,
}

/// What a render is, once its function knows the composition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RenderMetadata {
    /// `video`, or `still`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its id.
    pub render_id: String,
    /// The composition.
    pub composition_id: String,
    /// When it was started, in milliseconds since 1970.
    pub started_date: i64,
    /// In how many chunks it is rendered.
    pub total_chunks: u32,
    /// Frames of each chunk.
    pub frames_per_lambda: u64,
    /// How many functions it takes.
    pub estimated_total_lambda_invokations: u32,
    /// How many of them render.
    pub estimated_render_lambda_invokations: u32,
    /// Its first and its last frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame_range: Option<(u64, u64)>,
    /// Only every so many frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_nth_frame: Option<u64>,
    /// Whether it has no sound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub muted: Option<bool>,
    /// How it is encoded; `None` for a still.
    pub codec: Option<Codec>,
    /// How its sound is encoded.
    pub audio_codec: Option<AudioCodec>,
    /// The format of its frames, or of the still.
    pub image_format: String,
    /// Memory of the function, in MB.
    pub memory_size_in_mb: u32,
    /// The function that leads.
    pub function_name: String,
    /// The function that renders chunks.
    pub renderer_function_name: Option<String>,
    /// Remotion's version.
    pub lambda_version: String,
    /// The region.
    pub region: String,
    /// Where the output goes, if that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_name: Option<OutName>,
    /// Who may fetch the output.
    pub privacy: Privacy,
    /// Its width and height.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<Dimensions>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Width and height, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dimensions {
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}
