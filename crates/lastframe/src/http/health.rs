//! Whether the server is there, and whether it works.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Api;

/// Is the server there?
#[utoipa::path(get, path = "/healthz", tag = "server", responses((status = 200, description = "It is", body = Object)))]
pub(super) async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))
}

/// Are renders accepted and worked on?
#[utoipa::path(
    get, path = "/readyz", tag = "server",
    responses((status = 200, description = "They are", body = Object), (status = 503, description = "They are not", body = Object))
)]
pub(super) async fn readyz(State(api): State<Api>) -> (StatusCode, Json<Value>) {
    if api.stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "stopping"})));
    }
    if let Some(reason) = api.space.shortage() {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "low disk", "reason": reason})));
    }
    match api.queue.overview().await {
        Ok(_) => (StatusCode::OK, Json(json!({"status": "ready"}))),
        Err(error) => {
            tracing::error!(%error, "not ready: the queue does not answer");
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "queue unavailable"})))
        }
    }
}
