//! Look, cancel, retry.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lastframe_core::ports::Filter;
use lastframe_core::{FieldError, Render, RenderId, RenderRequest, Scope, Status};
use serde::Deserialize;

use super::{Api, ApiError, Path, Query, RenderPage, RenderView, page_size, up_to};
use crate::identity::Caller;

/// Which renders to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// In this state.
    status: Option<String>,
    /// Of this group.
    group: Option<String>,
    /// Whose id, composition or group begins with this, whatever the case of its ASCII letters.
    q: Option<String>,
    /// Of this tenant; an administrator's to say, and their own by default.
    tenant: Option<String>,
    /// Where the page before ended: its `nextCursor`.
    cursor: Option<String>,
    /// At most so many, up to 200; 50 by default.
    limit: Option<String>,
}

/// List renders, newest first
#[utoipa::path(
    get, path = "/v1/renders", tag = "renders", security(("token" = [])), params(ListQuery),
    responses(
        (status = 200, description = "A page", body = RenderPage),
        ApiError,
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<RenderPage>, ApiError> {
    caller.need(Scope::RendersRead)?;
    let mut errors = Vec::new();
    let limit = page_size(query.limit.as_deref(), &mut errors);
    let before = up_to("cursor", query.cursor.as_deref(), i64::MAX, &mut errors);
    let status = match query.status.as_deref().map(str::parse::<Status>).transpose() {
        Ok(status) => status,
        Err(why) => {
            errors.push(FieldError::new("/status", why));
            None
        }
    };
    if !errors.is_empty() {
        return Err(ApiError::Invalid(errors));
    }
    let tenant = query.tenant.map(|tenant| caller.may_look_at(tenant)).transpose()?.unwrap_or(caller.tenant);
    let text = query.q.filter(|text| !text.is_empty());
    let filter = Filter { tenant: Some(tenant), status, group: query.group, text, before, limit: limit + 1 };
    let mut renders = api.queue.list(filter).await?;
    let more = renders.len() > limit as usize;
    renders.truncate(limit as usize);
    let next_cursor = renders.last().filter(|_| more).map(|last| last.seq.to_string());
    let now = api.clock.now();
    let renders = renders.into_iter().map(|render| RenderView::new(render, now, &api.public_url)).collect();
    Ok(Json(RenderPage { renders, next_cursor }))
}

/// Look at a render
#[utoipa::path(
    get, path = "/v1/renders/{id}", tag = "renders", security(("token" = [])),
    params(("id" = String, Path, description = "The render's id")),
    responses(
        (status = 200, description = "The render, with its attempts", body = RenderView),
        ApiError,
    )
)]
pub(super) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<RenderView>, ApiError> {
    caller.need(Scope::RendersRead)?;
    let render = owned(&api, &caller, &id).await?;
    let attempts = api.queue.attempts(render.id).await?;
    let retry_of = api.queue.request(render.id).await?.and_then(|request| request.queue?.retry_of);
    Ok(Json(RenderView { attempts: Some(attempts), retry_of, ..view(&api, render).await? }))
}

/// Look at what was asked for
///
/// As it was understood, without `webhook` and `licenseKey`; another go (`queue.retryOf`) keeps both. The values of `envVariables`
/// are told to who may send some.
#[utoipa::path(
    get, path = "/v1/renders/{id}/request", tag = "renders", security(("token" = [])),
    params(("id" = String, Path, description = "The render's id")),
    responses((status = 200, description = "The request", body = RenderRequest), ApiError)
)]
pub(super) async fn request(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<RenderRequest>, ApiError> {
    caller.need(Scope::RendersRead)?;
    let render = owned(&api, &caller, &id).await?;
    let mut request = api.queue.request(render.id).await?.ok_or(ApiError::NotFound("render"))?;
    if !caller.scopes.allow(Scope::RendersEnvironment) {
        for value in request.env_variables.iter_mut().flat_map(|variables| variables.values_mut()) {
            value.clear();
        }
    }
    Ok(Json(request.without_secrets()))
}

/// Cancel a render
///
/// A queued one is cancelled when this answers; a rendering one stops within seconds.
#[utoipa::path(
    post, path = "/v1/renders/{id}/cancel", tag = "renders", security(("token" = [])),
    params(("id" = String, Path, description = "The render's id")),
    responses(
        (status = 202, description = "It is cancelled, or will be", body = RenderView),
        ApiError,
    )
)]
pub(super) async fn cancel(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    caller.need(Scope::RendersWrite)?;
    let render = owned(&api, &caller, &id).await?;
    let render = api.queue.cancel(render.id).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&api, render).await?)).into_response())
}

/// Retry a failed or cancelled render
///
/// It keeps its id and its place in its group.
#[utoipa::path(
    post, path = "/v1/renders/{id}/retry", tag = "renders", security(("token" = [])),
    params(("id" = String, Path, description = "The render's id")),
    responses(
        (status = 202, description = "It is queued again", body = RenderView),
        ApiError,
    )
)]
pub(super) async fn retry(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    caller.need(Scope::RendersWrite)?;
    let render = owned(&api, &caller, &id).await?;
    let render = api.queue.retry(render.id).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&api, render).await?)).into_response())
}

/// The render with its place in the queue.
pub(super) async fn view(api: &Api, render: Render) -> Result<RenderView, ApiError> {
    let position = if render.status == Status::Queued { api.queue.position(render.id).await? } else { None };
    Ok(RenderView::new(render, api.clock.now(), &api.public_url).at(position))
}

/// The caller's render of that id. Somebody else's does not exist for this caller, unless it is an administrator, who
/// could make a token for any tenant.
pub(super) async fn owned(api: &Api, caller: &Caller, id: &str) -> Result<Render, ApiError> {
    let id: RenderId = id.parse().map_err(|_| ApiError::NotFound("render"))?;
    let render = api.queue.get(id).await?.filter(|render| caller.may_see(&render.tenant));
    render.ok_or(ApiError::NotFound("render"))
}
