//! Submit: one render, a still, many at once, or the way of Remotion's guide.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use lastframe_core::batch;
use lastframe_core::ports::{IdempotencyKey, NewRender, SubmitError, Submitted};
use lastframe_core::request::FOR_LAMBDA;
use lastframe_core::site::{Composition, SiteVersion};
use lastframe_core::{FieldError, Kind, Render, RenderId, RenderRequest, RendererName, Scope};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::limits::{Standing, TooManyRequests};
use super::renders::view;
use super::{Accepted, Api, ApiError, Body, RenderView};
use crate::identity::Caller;
use crate::renderers;

/// The longest `Idempotency-Key`, in bytes.
const LONGEST_KEY: usize = 256;

/// The answer to one request.
#[derive(utoipa::IntoResponses)]
pub(super) enum Answer {
    /// Accepted
    #[response(status = 202, headers(("Location" = String, description = "The render")))]
    Accepted(Box<Accepted>),
    /// What would have been accepted, for `dryRun`
    #[response(status = 200)]
    DryRun(Box<DryRun>),
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        match self {
            Self::Accepted(accepted) => {
                let location = format!("/v1/renders/{}", accepted.render.render_id);
                (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(accepted)).into_response()
            }
            Self::DryRun(answer) => Json(answer).into_response(),
        }
    }
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

/// Submit a render
///
/// It is on disk when this answers.
#[utoipa::path(
    post, path = "/v1/renders", tag = "renders", security(("token" = [])), params(SubmitHeaders),
    request_body = RenderRequest, responses(Answer, TooManyRequests, ApiError)
)]
pub(super) async fn submit(
    State(api): State<Api>,
    caller: Caller,
    headers: SubmitHeaders,
    body: Body,
) -> Result<Answer, ApiError> {
    answer(&api, &caller, headers, &body, Kind::Media).await
}

/// Submit a still
#[utoipa::path(
    post, path = "/v1/stills", tag = "renders", security(("token" = [])), params(SubmitHeaders),
    request_body = RenderRequest, responses(Answer, TooManyRequests, ApiError)
)]
pub(super) async fn submit_still(
    State(api): State<Api>,
    caller: Caller,
    headers: SubmitHeaders,
    body: Body,
) -> Result<Answer, ApiError> {
    answer(&api, &caller, headers, &body, Kind::Still).await
}

async fn answer(
    api: &Api,
    caller: &Caller,
    headers: SubmitHeaders,
    body: &Body,
    kind: Kind,
) -> Result<Answer, ApiError> {
    caller.need(Scope::RendersWrite)?;
    let (request, ignored) = RenderRequest::parse(body.fields()?, kind)?;
    let ignored = left_out(api, &request, ignored);
    match accept(api, caller, request, kind, headers.key(kind.as_str(), body)).await? {
        Accept::Queued(render) => {
            Ok(Answer::Accepted(Box::new(Accepted { render: view(api, *render).await?, ignored })))
        }
        Accept::DryRun(answer) => Ok(Answer::DryRun(Box::new(DryRun { ignored, ..*answer }))),
    }
}

/// Requests to accept together.
#[derive(utoipa::ToSchema)]
#[schema(as = Batch)]
#[expect(dead_code, reason = "it describes; what is read is core's batch")]
pub(super) struct BatchRequest {
    /// Of media; 1 to 1,000.
    renders: Vec<RenderRequest>,
}

/// The answer to a batch.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct AcceptedBatch {
    /// In the order of the requests, without their places in the queue.
    renders: Vec<Accepted>,
}

/// Submit up to 1,000 renders at once
///
/// All are accepted, or none; `errors` name what is wrong with each, such as `/renders/3/composition`. An
/// `Idempotency-Key` is for the whole batch. It has no `dryRun`, and no stills.
#[utoipa::path(
    post, path = "/v1/renders/batch", tag = "renders", security(("token" = [])), params(SubmitHeaders),
    request_body = BatchRequest,
    responses((status = 202, description = "All accepted", body = AcceptedBatch), TooManyRequests, ApiError)
)]
pub(super) async fn submit_batch(
    State(api): State<Api>,
    caller: Caller,
    headers: SubmitHeaders,
    body: Body,
) -> Result<(StatusCode, Json<AcceptedBatch>), ApiError> {
    caller.need(Scope::RendersWrite)?;
    let key = headers.key("batch", &body);
    let read = batch::parse(body.fields()?, api.queue.capabilities().batch)?;
    let (requests, ignored): (Vec<_>, Vec<_>) = read
        .into_iter()
        .map(|(request, ignored)| {
            let ignored = left_out(&api, &request, ignored);
            (request, ignored)
        })
        .unzip();
    let checked = Checked::new(&api, &caller, requests, Kind::Media, batch::place).await?;
    let renders = checked.queue(&api, &caller, key).await?;
    let now = api.clock.now();
    let renders = renders.into_iter().map(|render| RenderView::new(render, now, &api.public_url));
    let renders = renders.zip(ignored).map(|(render, ignored)| Accepted { render, ignored }).collect();
    Ok((StatusCode::ACCEPTED, Json(AcceptedBatch { renders })))
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
    post, path = "/enqueue", tag = "renders", security(("token" = [])), params(SubmitHeaders), request_body = Object,
    responses((status = 200, description = "Accepted", body = Enqueued), TooManyRequests, ApiError)
)]
pub(super) async fn enqueue(
    State(api): State<Api>,
    caller: Caller,
    headers: SubmitHeaders,
    body: Body,
) -> Result<Response, ApiError> {
    caller.need(Scope::RendersWrite)?;
    let key = headers.key(Kind::Media.as_str(), &body);
    let fields = body.fields()?;
    let (request, ignored) = if fields.has("composition") {
        let (request, ignored) = RenderRequest::parse(fields, Kind::Media)?;
        let ignored = left_out(&api, &request, ignored);
        (request, ignored)
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
        Accept::DryRun(answer) => Ok(Json(DryRun { ignored, ..*answer }).into_response()),
        Accept::Queued(render) => Ok(Json(Enqueued {
            message: format!("Message sent to the queue. MessageId: {}", render.id),
            message_id: render.id.to_string(),
            render_id: render.id,
        })
        .into_response()),
    }
}

/// Submit a render the way of Remotion's guide, under its stage
#[utoipa::path(
    post, path = "/dev/enqueue", tag = "renders", security(("token" = [])), params(SubmitHeaders), request_body = Object,
    responses((status = 200, description = "Accepted", body = Enqueued), TooManyRequests, ApiError)
)]
pub(super) async fn enqueue_in_stage(
    api: State<Api>,
    caller: Caller,
    headers: SubmitHeaders,
    body: Body,
) -> Result<Response, ApiError> {
    enqueue(api, caller, headers, body).await
}

/// Of the options that may come to nothing, those that do: what is for Remotion Lambda alone does not, there.
fn left_out(api: &Api, request: &RenderRequest, mut ignored: Vec<String>) -> Vec<String> {
    if renderers::renderer_of(&api.config, request) == RendererName::Lambda {
        ignored.retain(|name| !FOR_LAMBDA.contains(&name.as_str()));
    }
    ignored
}

enum Accept {
    Queued(Box<Render>),
    DryRun(Box<DryRun>),
}

/// Checks a request, and queues it unless it only asks what would be queued.
async fn accept(
    api: &Api,
    caller: &Caller,
    request: RenderRequest,
    kind: Kind,
    key: Option<IdempotencyKey>,
) -> Result<Accept, ApiError> {
    let dry = request.dry_run == Some(true);
    let checked = Checked::new(api, caller, vec![request], kind, |_| String::new()).await?;
    if dry {
        return Ok(Accept::DryRun(Box::new(checked.dry_run()?)));
    }
    let render = checked.queue(api, caller, key).await?.pop();
    let render = render
        .ok_or_else(|| ApiError::Internal(anyhow::anyhow!("a submit of one render answered with none")))?;
    Ok(Accept::Queued(Box::new(render)))
}

/// The requests of one submit, found to be fit for the sites they name.
struct Checked {
    requests: Vec<RenderRequest>,
    /// By what the requests call them.
    sites: HashMap<String, SiteVersion>,
    kind: Kind,
    /// Where in the body a request stands, as a JSON pointer.
    place: fn(usize) -> String,
    standing: Standing,
}

impl Checked {
    async fn new(
        api: &Api,
        caller: &Caller,
        mut requests: Vec<RenderRequest>,
        kind: Kind,
        place: fn(usize) -> String,
    ) -> Result<Self, ApiError> {
        let standing = Standing::of(api, &caller.tenant).await?;
        let mut found = HashMap::new();
        for RenderRequest { serve_url, .. } in &requests {
            if !found.contains_key(serve_url) {
                found.insert(serve_url.clone(), api.sites.find(&caller.tenant, serve_url).await?);
            }
        }
        if !caller.scopes.allow(Scope::RendersEnvironment) {
            let below = |(index, request)| environment(request).map(move |error| error.below(&place(index)));
            let forbidden: Vec<_> = requests.iter().enumerate().flat_map(below).collect();
            if !forbidden.is_empty() {
                return Err(ApiError::Forbidden(Scope::RendersEnvironment, forbidden));
            }
        }
        let (can, now) = (api.queue.capabilities(), api.clock.now());
        let mut errors = Vec::new();
        for (index, request) in requests.iter_mut().enumerate() {
            let site = &found[&request.serve_url];
            let mut wrong = check(request, site, kind);
            if let Ok(site) = site {
                wrong.extend(renderers::check(&api.config, request, kind, &site.remotion_version));
            }
            wrong.extend(request.check_supported(&can, now));
            wrong.extend(standing.bound(request, api.config.timeout));
            wrong.extend(
                request.notify.as_ref().and_then(|notify| check_mail(api, "/notify/email", &notify.email)),
            );
            wrong.extend(check_retried(api, caller, request).await?);
            errors.extend(wrong.into_iter().map(|error| error.below(&place(index))));
        }
        if errors.is_empty() {
            let sites =
                found.into_iter().filter_map(|(serve_url, site)| Some((serve_url, site.ok()?))).collect();
            Ok(Self { requests, sites, kind, place, standing })
        } else {
            Err(ApiError::Invalid(errors))
        }
    }

    /// Queues all of them, or none.
    async fn queue(
        mut self,
        api: &Api,
        caller: &Caller,
        key: Option<IdempotencyKey>,
    ) -> Result<Vec<Render>, ApiError> {
        if let Some(shortage) = api.space.shortage() {
            return Err(ApiError::LowDisk(shortage));
        }
        // This here, and not before: a dry run would show it to whoever may submit, and a URL may be a secret.
        for request in &mut self.requests {
            let Some(id) = request.queue.as_ref().and_then(|queue| queue.retry_of) else { continue };
            let Some(mut earlier) = api.queue.request(id).await? else { continue };
            if may_take_environment(caller)
                && runs_the_same(api, &self.sites[&request.serve_url], request, id, &earlier).await?
            {
                request.env_variables = earlier.env_variables.take();
                request.chromium_options = earlier.chromium_options.take();
            }
            request.with_secrets_of(earlier);
        }
        if api.queue.capabilities().notices {
            let told = api.outbox.tenant_notices(&caller.tenant).await?.defaults;
            self.requests.iter_mut().for_each(|request| request.tell_by_default(&told));
        }
        let new = |request: RenderRequest| {
            // As it is configured now: what has been accepted stays where it was sent.
            let renderer = renderers::renderer_of(&api.config, &request);
            let request = request.rendered_by(renderer);
            let site = &self.sites[&request.serve_url];
            NewRender {
                kind: self.kind,
                site_version: site.version.clone(),
                request: RenderRequest { serve_url: site.name.clone(), ..request },
                default_max_attempts: api.config.max_attempts,
            }
        };
        let renders: Vec<_> = self.requests.into_iter().map(new).collect();
        let count = renders.len();
        let refused = |error| match error {
            SubmitError::SiteGone(index) => ApiError::invalid(
                format!("{}/serveUrl", (self.place)(index)),
                "the site was removed just now",
            ),
            SubmitError::KeyReused => ApiError::KeyReused,
            SubmitError::TooManyQueued(most) => self.standing.too_many_queued(most, count),
            SubmitError::Queue(error) => error.into(),
        };
        // What was accepted before is no submit, and no limit is in its way.
        let known = match &key {
            Some(key) => api.queue.submitted(&caller.tenant, key).await.map_err(refused)?,
            None => None,
        };
        let submitted = match known {
            Some(renders) => Submitted { renders, replayed: true },
            None => {
                self.standing.admit(api, count)?;
                api.queue.submit(&caller.tenant, renders, key).await.map_err(refused)?
            }
        };
        crate::audit::queued(submitted.renders.iter().map(|render| render.id));
        for render in &submitted.renders {
            tracing::info!(render.id = %render.id, render.group, replayed = submitted.replayed, "render accepted");
        }
        Ok(submitted.renders)
    }

    fn dry_run(mut self) -> Result<DryRun, ApiError> {
        let request = self.requests.pop();
        let site = request.as_ref().and_then(|request| self.sites.remove(&request.serve_url));
        if site.as_ref().is_some_and(|site| site.compositions.is_empty()) {
            let detail = "what is in this site is known to who renders it alone: leave it out";
            return Err(ApiError::invalid("/dryRun", detail));
        }
        let found = request.zip(site).and_then(|(request, site)| {
            let composition = site.composition(&request.composition)?.clone();
            Some(DryRun {
                dry_run: true,
                site_version: site.version,
                composition,
                request: RenderRequest { serve_url: site.name, ..request },
                ignored: Vec::new(),
            })
        });
        found.ok_or_else(|| {
            ApiError::Internal(anyhow::anyhow!("a request that was checked has no composition"))
        })
    }
}

/// Who asks for mail must not wait for it in vain.
pub(super) fn check_mail(api: &Api, pointer: &str, addresses: &[String]) -> Option<FieldError> {
    let detail = "cannot be honoured: this server sends no mail: set [email] in its configuration";
    (!addresses.is_empty() && !api.mails).then(|| FieldError::new(pointer, detail))
}

/// What it says of the browser's surroundings, which may undo what others count on.
fn environment(request: &RenderRequest) -> impl Iterator<Item = FieldError> {
    let fields = [
        ("/envVariables", request.env_variables.is_some()),
        ("/chromiumOptions", request.chromium_options.is_some()),
    ];
    fields
        .into_iter()
        .filter(|(_, given)| *given)
        .map(|(field, _)| FieldError::new(field, "needs the scope `renders:environment`: leave it out"))
}

/// What is wrong with the render that the request says it is another go at.
async fn check_retried(
    api: &Api,
    caller: &Caller,
    request: &RenderRequest,
) -> Result<Option<FieldError>, ApiError> {
    let Some(id) = request.queue.as_ref().and_then(|queue| queue.retry_of) else { return Ok(None) };
    let found = api.queue.get(id).await?.is_some_and(|render| render.tenant == caller.tenant);
    Ok((!found).then(|| FieldError::new("/queue/retryOf", "is no render of yours: leave it out")))
}

/// Whether another go has the surroundings of the earlier one for this caller: who may see a render and may not say anything of
/// surroundings. Who may has said what they are to be.
fn may_take_environment(caller: &Caller) -> bool {
    caller.scopes.allow(Scope::RendersRead) && !caller.scopes.allow(Scope::RendersEnvironment)
}

/// Whether a request runs the very code that an earlier render did, and where it did. Code of another version or another
/// composition could tell what the environment holds to who must not know, and another renderer takes it elsewhere.
async fn runs_the_same(
    api: &Api,
    site: &SiteVersion,
    request: &RenderRequest,
    id: RenderId,
    earlier: &RenderRequest,
) -> Result<bool, ApiError> {
    let renderer = renderers::renderer_of(&api.config, request);
    Ok(earlier.renderer() == Some(renderer)
        && api.queue.get(id).await?.is_some_and(|render| {
            (&render.site, &render.site_version, &render.composition)
                == (&site.name, &site.version, &request.composition)
        }))
}

/// Everything wrong with a request that can be known before it is rendered.
fn check(request: &RenderRequest, site: &Result<SiteVersion, String>, kind: Kind) -> Vec<FieldError> {
    let site = match site {
        Ok(site) => site,
        Err(why) => return vec![FieldError::new("/serveUrl", why.as_str())],
    };
    if site.compositions.is_empty() {
        // Nobody here could look into it: whoever renders it will.
        return Vec::new();
    }
    let Some(composition) = site.composition(&request.composition) else {
        let known: Vec<_> = site.compositions.iter().map(|composition| composition.id.as_str()).collect();
        let detail = format!(
            "the site `{}` has no composition `{}`; it has {}",
            site.name,
            request.composition,
            known.join(", ")
        );
        return vec![FieldError::new("/composition", detail)];
    };
    request.check_against(composition, kind)
}

/// What a submit may say beside its body.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
pub(super) struct SubmitHeaders {
    /// Sending the same body again under the same key, within three days, submits nothing new.
    #[param(rename = "Idempotency-Key")]
    idempotency_key: Option<String>,
}

impl FromRequestParts<Api> for SubmitHeaders {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get("idempotency-key") else {
            return Ok(Self { idempotency_key: None });
        };
        let key = value.to_str().ok().filter(|key| !key.is_empty() && key.len() <= LONGEST_KEY);
        let key = key.ok_or_else(|| {
            ApiError::invalid(
                "",
                format!("the header Idempotency-Key must have 1 to {LONGEST_KEY} visible ASCII characters"),
            )
        })?;
        Ok(Self { idempotency_key: Some(key.to_owned()) })
    }
}

impl SubmitHeaders {
    /// The key, bound to what is submitted.
    fn key(self, what: &str, body: &Body) -> Option<IdempotencyKey> {
        let body_hash = Sha256::new().chain_update(what).chain_update(&body.0).finalize().into();
        self.idempotency_key.map(|key| IdempotencyKey { key, body_hash })
    }
}
