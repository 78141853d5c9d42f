//! The server in figures, for Prometheus.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use lastframe_core::Scope;

use super::{Api, ApiError};
use crate::identity::Caller;
use crate::metrics::{CONTENT_TYPE, Figures};

/// Read the figures
///
/// Of the server as a whole, in the text format of Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "server", security(("token" = [])),
    responses((status = 200, description = "The figures", body = String, content_type = "text/plain"), ApiError)
)]
pub(super) async fn metrics(State(api): State<Api>, caller: Caller) -> Result<Response, ApiError> {
    caller.need(Scope::MetricsRead)?;
    let (Some(live), Some(sidecars)) = (&api.live, api.sites.look.sidecars()) else {
        return Err(ApiError::NotHere("CloudWatch has its figures and alarms"));
    };
    let figures = Figures {
        now: api.clock.now(),
        overview: api.queue.overview().await?,
        backlog: api.queue.backlog().await?,
        sidecars,
        free: api.space.free(),
        min_free: api.space.min_free(),
        streams: live.followers(),
    };
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], api.metrics.text(&figures)).into_response())
}
