//! Submit, look, cancel, retry.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lastframe_core::ports::{Filter, IdempotencyKey, NewRender};
use lastframe_core::site::Composition;
use lastframe_core::{FieldError, Kind, Render, RenderId, RenderRequest, Status};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Accepted, Api, ApiError, Body, Path, Problem, Query, RenderPage, RenderView};
use crate::identity::{Caller, Scope};

/// The longest `Idempotency-Key`, in bytes.
const LONGEST_KEY: usize = 256;

/// Submit a render
///
/// It is on disk when this answers.
#[utoipa::path(
    post, path = "/v1/renders", tag = "renders", security(("token" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Sending the same body again under the same key submits nothing new")),
    request_body = RenderRequest,
    responses(
        (status = 202, description = "Accepted", body = Accepted, headers(("Location" = String, description = "The render"))),
        (status = 200, description = "What would have been accepted, for `dryRun`", body = DryRun),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not accepted", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn submit(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    submitted(&api, &caller, &headers, &body, Kind::Media).await
}

/// Submit a still
#[utoipa::path(
    post, path = "/v1/stills", tag = "renders", security(("token" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Sending the same body again under the same key submits nothing new")),
    request_body = RenderRequest,
    responses(
        (status = 202, description = "Accepted", body = Accepted, headers(("Location" = String, description = "The render"))),
        (status = 200, description = "What would have been accepted, for `dryRun`", body = DryRun),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not accepted", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn submit_still(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    submitted(&api, &caller, &headers, &body, Kind::Still).await
}

async fn submitted(
    api: &Api,
    caller: &Caller,
    headers: &HeaderMap,
    body: &Body,
    kind: Kind,
) -> Result<Response, ApiError> {
    caller.need(Scope::RendersWrite)?;
    let key = idempotency_key(headers, body, kind)?;
    let (render, ignored) =
        match accept(api, caller, RenderRequest::parse(body.fields()?, kind)?, kind, key).await? {
            Accept::Queued { render, ignored } => (render, ignored),
            Accept::DryRun(answer) => return Ok(Json(answer).into_response()),
        };
    let location = format!("/v1/renders/{}", render.id);
    let answer = Accepted { render: view(api, *render).await?, ignored };
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(answer)).into_response())
}

/// The answer of `/enqueue`, in the words of Remotion's guide.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Enqueued {
    message: String,
    message_id: String,
    render_id: RenderId,
}

/// Submit a render the way of Remotion's guide
///
/// A body with `composition` is a render request. Any other JSON object is the `inputProps` of the configured site
/// and composition. The content type does not matter.
#[utoipa::path(
    post, path = "/enqueue", tag = "renders", security(("token" = [])), request_body = Object,
    responses(
        (status = 200, description = "Accepted", body = Enqueued),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not accepted", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn enqueue(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    caller.need(Scope::RendersWrite)?;
    let key = idempotency_key(&headers, &body, Kind::Media)?;
    let fields = body.fields()?;
    let request = if fields.has("composition") {
        RenderRequest::parse(fields, Kind::Media)?
    } else {
        let request = RenderRequest {
            serve_url: api.config.enqueue_site.clone(),
            composition: api.config.enqueue_composition.clone(),
            input_props: Some(fields.into_props()?),
            ..RenderRequest::default()
        };
        (request, Vec::new())
    };
    match accept(&api, &caller, request, Kind::Media, key).await? {
        Accept::DryRun(answer) => Ok(Json(answer).into_response()),
        Accept::Queued { render, .. } => Ok(Json(Enqueued {
            message: format!("Message sent to the queue. MessageId: {}", render.id),
            message_id: render.id.to_string(),
            render_id: render.id,
        })
        .into_response()),
    }
}

/// Submit a render the way of Remotion's guide, under its stage
#[utoipa::path(
    post, path = "/dev/enqueue", tag = "renders", security(("token" = [])), request_body = Object,
    responses(
        (status = 200, description = "Accepted", body = Enqueued),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not accepted", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn enqueue_in_stage(
    api: State<Api>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    enqueue(api, caller, headers, body).await
}

enum Accept {
    Queued { render: Box<Render>, ignored: Vec<String> },
    DryRun(Box<DryRun>),
}

/// What would have been queued.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DryRun {
    /// Always true.
    dry_run: bool,
    /// The version that the site stands for now.
    site_version: String,
    /// The composition, as it is with its default props.
    composition: Composition,
    /// The request as it was understood.
    request: RenderRequest,
    /// Options that only say where or how fast, and were left out.
    ignored: Vec<String>,
}

/// Checks a request against what can be known before rendering, and queues it.
async fn accept(
    api: &Api,
    caller: &Caller,
    (request, ignored): (RenderRequest, Vec<String>),
    kind: Kind,
    key: Option<IdempotencyKey>,
) -> Result<Accept, ApiError> {
    let site = api.directory.site(&caller.tenant, &request.serve_url).await?.ok_or_else(|| {
        ApiError::invalid(
            "/serveUrl",
            format!(
                "there is no site `{}`: add it with `lastframe site add PROJECT --name {0}`",
                request.serve_url
            ),
        )
    })?;
    let Some(composition) = site.composition(&request.composition) else {
        let known: Vec<_> = site.compositions.iter().map(|composition| composition.id.as_str()).collect();
        return Err(ApiError::invalid(
            "/composition",
            format!(
                "the site `{}` has no composition `{}`; it has {}",
                site.name,
                request.composition,
                known.join(", ")
            ),
        ));
    };
    let errors = request.check_against(composition, kind);
    if !errors.is_empty() {
        return Err(ApiError::Invalid(errors));
    }
    if request.dry_run == Some(true) {
        let composition = composition.clone();
        let answer = DryRun { dry_run: true, site_version: site.version, composition, request, ignored };
        return Ok(Accept::DryRun(Box::new(answer)));
    }
    let new = NewRender {
        kind,
        site_version: site.version,
        request,
        default_max_attempts: api.config.max_attempts,
    };
    let submitted = api.queue.submit(&caller.tenant, vec![new], key).await?;
    let render = submitted.renders.into_iter().next();
    let render = render
        .ok_or_else(|| ApiError::Internal(anyhow::anyhow!("a submit of one render answered with none")))?;
    tracing::info!(render.id = %render.id, render.group, replayed = submitted.replayed, "render accepted");
    Ok(Accept::Queued { render: Box::new(render), ignored })
}

fn idempotency_key(headers: &HeaderMap, body: &Body, kind: Kind) -> Result<Option<IdempotencyKey>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key =
        value.to_str().ok().filter(|key| !key.is_empty() && key.len() <= LONGEST_KEY).ok_or_else(|| {
            ApiError::invalid(
                "",
                format!("the header Idempotency-Key must have 1 to {LONGEST_KEY} visible ASCII characters"),
            )
        })?;
    let body_hash = Sha256::new().chain_update(kind.as_str()).chain_update(&body.0).finalize().into();
    Ok(Some(IdempotencyKey { key: key.to_owned(), body_hash }))
}

/// Which renders to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// In this state.
    status: Option<String>,
    /// Of this group.
    group: Option<String>,
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
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<RenderPage>, ApiError> {
    caller.need(Scope::RendersRead)?;
    let mut errors = Vec::new();
    let mut number = |name: &str, text: Option<&String>, most: i64| {
        let text = text?;
        let number = text.parse().ok().filter(|number| (1..=most).contains(number));
        if number.is_none() {
            errors.push(FieldError::new(format!("/{name}"), format!("must be a number from 1 to {most}")));
        }
        number
    };
    let limit =
        number("limit", query.limit.as_ref(), 200).and_then(|limit| u32::try_from(limit).ok()).unwrap_or(50);
    let before = number("cursor", query.cursor.as_ref(), i64::MAX);
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
    let filter = Filter { tenant: Some(caller.tenant), status, group: query.group, before, limit: limit + 1 };
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
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
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
    Ok(Json(RenderView { attempts: Some(attempts), ..view(&api, render).await? }))
}

/// Cancel a render
///
/// A queued one is cancelled when this answers; a rendering one stops within seconds.
#[utoipa::path(
    post, path = "/v1/renders/{id}/cancel", tag = "renders", security(("token" = [])),
    params(("id" = String, Path, description = "The render's id")),
    responses(
        (status = 202, description = "It is cancelled, or will be", body = RenderView),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
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
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
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

/// The caller's render of that id. Somebody else's does not exist for this caller.
pub(super) async fn owned(api: &Api, caller: &Caller, id: &str) -> Result<Render, ApiError> {
    let id: RenderId = id.parse().map_err(|_| ApiError::NotFound("render"))?;
    let render = api.queue.get(id).await?.filter(|render| render.tenant == caller.tenant);
    render.ok_or(ApiError::NotFound("render"))
}
