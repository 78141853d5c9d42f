//! A render as clients see it.

use jiff::{SignedDuration, Timestamp};
use lastframe_core::ports::Position;
use lastframe_core::{Attempt, Blocked, Failure, Kind, Output, Phase, Render, RenderId, Status};
use serde::{Deserialize, Serialize};

/// A render.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RenderView {
    /// Its name; never changes.
    pub(crate) render_id: RenderId,
    /// Whose it is.
    #[serde(default)]
    pub(crate) tenant: String,
    /// Its state.
    pub(crate) status: Status,
    /// What is made.
    pub(crate) kind: Kind,
    /// The site.
    pub(crate) serve_url: String,
    /// The version of the site that all its attempts use.
    pub(crate) site_version: String,
    /// The composition.
    pub(crate) composition: String,
    /// Its ordering key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// Higher goes first among your renders.
    pub(crate) priority: i32,
    /// What it is busy with, while rendering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) phase: Option<Phase>,
    /// Where it stands in its line, while queued; 1 is next. Counted up to 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<u32>,
    /// Why it cannot start even when a worker is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) blocked_by: Option<Blocked>,
    /// The current attempt, counted against `maxAttempts`. A server's death or stop costs none.
    pub(crate) attempt: u32,
    /// How often it is tried when a fault may pass.
    pub(crate) max_attempts: u32,
    /// From 0 to 1.
    pub(crate) overall_progress: f64,
    /// Frames of the current attempt so far.
    pub(crate) frames_rendered: u32,
    /// Frames it will have, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) frame_count: Option<u32>,
    /// When it should be done, at the pace so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) eta_at: Option<Timestamp>,
    /// Where to fetch the file, until it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output_file: Option<String>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output_size_in_bytes: Option<u64>,
    /// The file, as verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<OutputView>,
    /// Milliseconds from the first lease to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) time_to_finish: Option<i64>,
    /// Why it failed; while it is tried again, why the last attempt did.
    pub(crate) errors: Vec<Failure>,
    /// Not before.
    pub(crate) run_at: Timestamp,
    /// When it was accepted.
    pub(crate) created_at: Timestamp,
    /// When it was first leased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) finished_at: Option<Timestamp>,
    /// When somebody asked it to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cancel_requested_at: Option<Timestamp>,
    /// Every lease it had; in the answer to one render only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attempts: Option<Vec<Attempt>>,
    /// The render that this one is another go at, as `queue.retryOf` said; in the answer to one render only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry_of: Option<RenderId>,
}

/// A finished file.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OutputView {
    /// Media type.
    pub(crate) content_type: String,
    /// SHA-256 of the bytes, in hex.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) sha256: String,
    /// Frames counted in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) frame_count: Option<u32>,
    /// Pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) width: Option<u32>,
    /// Pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) height: Option<u32>,
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) duration_in_seconds: Option<f64>,
    /// What rendering it has cost, in US dollars, as Remotion Lambda estimates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cost_in_usd: Option<f64>,
    /// When the file was deleted, as `deleteAfter` asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deleted_at: Option<Timestamp>,
}

/// The answer to a submit.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Accepted {
    /// The render.
    #[serde(flatten)]
    pub(crate) render: RenderView,
    /// Options that only say where or how fast, and were left out.
    pub(crate) ignored: Vec<String>,
}

/// Some renders, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RenderPage {
    /// The renders.
    pub(crate) renders: Vec<RenderView>,
    /// Give it as `cursor` to get the next ones; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<String>,
}

/// Below this share of progress, the pace says nothing yet.
const ETA_FROM: f64 = 0.02;

impl RenderView {
    /// The render as it is at `now`, with links under `public_url`.
    pub(crate) fn new(render: Render, now: Timestamp, public_url: &str) -> Self {
        let progress = render.progress.filter(|_| render.status == Status::Rendering);
        let there = render.output.as_ref().filter(|output| output.deleted_at().is_none());
        let output_file = there.map(|_| format!("{public_url}/v1/renders/{}/output", render.id));
        Self {
            render_id: render.id,
            tenant: render.tenant.as_str().to_owned(),
            status: render.status,
            kind: render.kind,
            serve_url: render.site,
            site_version: render.site_version,
            composition: render.composition,
            group: render.group,
            priority: render.priority,
            phase: (render.status == Status::Rendering)
                .then(|| progress.map_or(Phase::Bundling, |progress| progress.phase)),
            position: None,
            blocked_by: None,
            attempt: render.attempt,
            max_attempts: render.max_attempts,
            overall_progress: match render.status {
                Status::Succeeded => 1.0,
                _ => progress.map_or(0.0, |progress| progress.overall),
            },
            frames_rendered: match &render.output {
                Some(output) => output.frame_count.unwrap_or(0),
                None => progress.map_or(0, |progress| progress.frames_rendered),
            },
            frame_count: match &render.output {
                Some(output) => output.frame_count,
                None => progress.map(|progress| progress.frame_count).filter(|count| *count > 0),
            },
            eta_at: progress
                .zip(render.attempt_started_at)
                .filter(|(progress, _)| progress.overall >= ETA_FROM)
                .and_then(|(progress, started)| {
                    let whole = now.duration_since(started).as_secs_f64() / progress.overall;
                    let whole = SignedDuration::from_millis((whole * 1e3) as i64);
                    started.checked_add(whole).ok()
                }),
            output_file,
            output_size_in_bytes: render.output.as_ref().map(|output| output.size_in_bytes),
            output: render.output.map(OutputView::from),
            time_to_finish: render
                .started_at
                .zip(render.finished_at)
                .map(|(started, finished)| finished.as_millisecond() - started.as_millisecond()),
            errors: render.error.into_iter().collect(),
            run_at: render.run_at,
            created_at: render.created_at,
            started_at: render.started_at,
            finished_at: render.finished_at,
            cancel_requested_at: render.cancel_requested_at,
            attempts: None,
            retry_of: None,
        }
    }

    /// The same, with where it stands.
    pub(crate) fn at(mut self, position: Option<Position>) -> Self {
        if let Some(position) = position {
            self.position = Some(position.position);
            self.blocked_by = position.blocked_by;
        }
        self
    }
}

impl From<Output> for OutputView {
    fn from(output: Output) -> Self {
        Self {
            deleted_at: output.deleted_at(),
            content_type: output.content_type,
            sha256: output.sha256,
            frame_count: output.frame_count,
            width: output.width,
            height: output.height,
            duration_in_seconds: output.duration_in_seconds,
            cost_in_usd: output.cost_in_usd,
        }
    }
}
