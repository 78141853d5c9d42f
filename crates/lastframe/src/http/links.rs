//! Links to outputs, for those who have no token.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use jiff::Timestamp;
use lastframe_core::request::check_name;
use lastframe_core::{FieldError, RenderId, Scope};
use serde::{Deserialize, Serialize};

use super::output::{Asked, Told, send};
use super::renders::owned;
use super::{Api, ApiError, Body, Path};
use crate::identity::Caller;
use crate::links::{Refused, Ticket};

/// What link is wanted.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct LinkRequest {
    /// How long it is good; the server's usual time by default, and its longest at most.
    expires_in_seconds: Option<u64>,
    /// The name under which a browser saves the file; without it, it does what the render's `downloadBehavior` says.
    save_as: Option<String>,
}

/// A link.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LinkView {
    /// Who has it can fetch the output.
    pub(crate) url: String,
    /// Until then.
    pub(crate) expires_at: Timestamp,
}

/// Make a link to the output that needs no token
///
/// It stands for the file that is there now, and for no other. Nothing is stored: a link ends with its time, with the
/// output, or with the key that signed it.
#[utoipa::path(
    post, path = "/v1/renders/{id}/links", tag = "renders", security(("token" = [])),
    params(("id" = String, Path, description = "The render's id")), request_body = LinkRequest,
    responses((status = 200, description = "The link", body = LinkView), ApiError)
)]
pub(super) async fn make(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<LinkView>, ApiError> {
    caller.need(Scope::RendersRead)?;
    let render = owned(&api, &caller, &id).await?;
    let LinkRequest { expires_in_seconds, save_as } =
        if body.0.is_empty() { LinkRequest::default() } else { body.fields()?.into_typed()? };
    let (mut errors, longest) = (Vec::new(), api.config.links.longest.as_secs());
    if expires_in_seconds.is_some_and(|seconds| !(1..=longest).contains(&seconds)) {
        let detail = format!("must be from 1 to {longest} (links.max)");
        errors.push(FieldError::new("/expiresInSeconds", detail));
    }
    errors.extend(save_as.as_deref().and_then(|name| check_name("/saveAs", name)));
    if !errors.is_empty() {
        return Err(ApiError::Invalid(errors));
    }
    let output = render.output.as_ref().ok_or(ApiError::NoOutput(render.status))?;
    if output.deleted_at().is_some() {
        return Err(ApiError::OutputGone);
    }
    let life = expires_in_seconds.map_or(api.config.links.usual, Duration::from_secs);
    // Whole seconds, as the link has them.
    let expires_at = Timestamp::from_second((api.clock.now() + life).as_second()).unwrap_or(Timestamp::MAX);
    let url = api.links.sign(render.id, output, expires_at, save_as.as_deref());
    Ok(Json(LinkView { url, expires_at }))
}

/// Fetch an output by a link
///
/// As `/v1/renders/{id}/output`, for whoever has the link.
#[utoipa::path(
    get, path = "/o/{id}", tag = "renders",
    params(
        ("id" = String, Path, description = "The render's id"),
        ("expires" = String, Query, description = "Seconds since 1970"),
        ("signature" = String, Query, description = "The server's"),
        ("as" = Option<String>, Query, description = "The name to save it under"),
    ),
    responses(
        (status = 200, description = "The file", body = Vec<u8>, content_type = "video/mp4"),
        (status = 206, description = "The part asked for", body = Vec<u8>, content_type = "video/mp4"),
        (status = 302, description = "Where the storage has it"),
        (status = 304, description = "It has not changed"),
        ApiError,
    )
)]
pub(super) async fn follow(
    State(api): State<Api>,
    Path(id): Path<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    // Whatever is wrong with a link is told in the same words: nobody learns by it which renders there are.
    let axum::extract::Query(ticket) =
        axum::extract::Query::<Ticket>::try_from_uri(&uri).map_err(|_| ApiError::BadLink)?;
    // Written as it was signed, not only read as the same.
    let id: RenderId =
        id.parse().ok().filter(|parsed: &RenderId| parsed.to_string() == id).ok_or(ApiError::BadLink)?;
    let (render, now) = (api.queue.get(id).await?, api.clock.now());
    let output = render.as_ref().and_then(|render| render.output.as_ref());
    let expires = api.links.verify(id, output, &ticket, now).map_err(|refused| match refused {
        Refused::Wrong => ApiError::BadLink,
        Refused::Expired => ApiError::LinkExpired,
    })?;
    let render = render.ok_or(ApiError::BadLink)?;
    let valid = Duration::try_from(expires.duration_since(now)).unwrap_or_default();
    let told = ticket.name.map_or(Told::AsAskedFor, Told::SavedAs);
    // A URL of the storage lives for whole seconds.
    send(&api, &render, Asked { method, headers, told, valid: valid.max(Duration::from_secs(1)) }).await
}
