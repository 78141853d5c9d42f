//! Tenants: what each gets of the machine, and how far it may go.

use axum::Json;
use axum::extract::State;
use lastframe_core::ports::{Pausable, Tenant};
use lastframe_core::request::check_name;
use lastframe_core::{Limits, Scope, TenantId};
use serde::{Deserialize, Serialize};

use super::control::CountsView;
use super::{Api, ApiError, Body, Path};
use crate::identity::Caller;

/// A tenant.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Tenant)]
pub(crate) struct TenantView {
    /// Its name, as tokens carry it.
    pub(crate) tenant: String,
    /// Its own limits.
    #[serde(flatten)]
    pub(crate) limits: Limits,
    /// What counts: its own limits, and the defaults of the configuration for the rest.
    pub(crate) effective: Limits,
    /// Whether nothing more of it starts.
    pub(crate) paused: bool,
    /// Its renders.
    pub(crate) counts: CountsView,
}

impl From<Tenant> for TenantView {
    fn from(Tenant { id, limits, effective, paused, counts }: Tenant) -> Self {
        Self { tenant: id.as_str().to_owned(), limits, effective, paused, counts: counts.into() }
    }
}

/// Tenants.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct Tenants {
    /// By name.
    pub(crate) tenants: Vec<TenantView>,
}

/// List tenants
#[utoipa::path(
    get, path = "/v1/tenants", tag = "queue", security(("token" = [])),
    responses((status = 200, description = "All that were ever seen", body = Tenants), ApiError)
)]
pub(super) async fn list(State(api): State<Api>, caller: Caller) -> Result<Json<Tenants>, ApiError> {
    caller.need(Scope::Admin)?;
    let tenants = api.queue.tenants().await?.into_iter().map(TenantView::from).collect();
    Ok(Json(Tenants { tenants }))
}

/// Look at a tenant
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}", tag = "queue", security(("token" = [])),
    params(("tenant" = String, Path, description = "Its name, percent-encoded")),
    responses((status = 200, description = "The tenant", body = TenantView), ApiError)
)]
pub(super) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<TenantView>, ApiError> {
    caller.need(Scope::Admin)?;
    let tenant = api.queue.tenant(&TenantId::new(name)).await?;
    Ok(Json(tenant.ok_or(ApiError::NotFound("tenant"))?.into()))
}

/// What a tenant gets. What is absent is the default of the configuration from now on.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = TenantSettings)]
pub(crate) struct Settings {
    /// From 1 to 1,000. One of weight 2 is served twice as often as one of weight 1 while both wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) weight: Option<u32>,
    /// Renders of it at once, at most; 0 lets none start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_concurrency: Option<u32>,
    /// Renders of it that wait, at most; 0 takes none on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_queued: Option<u32>,
    /// Renders of it that are accepted in a minute, at most; 0 takes none on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) submits_per_minute: Option<u32>,
    /// The largest body of a request, in bytes; at least 1,024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_body: Option<u64>,
    /// The longest that one attempt may take, in seconds; at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_render_seconds: Option<u32>,
    /// Whether nothing more of it starts; false by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) paused: Option<bool>,
}

impl Settings {
    pub(crate) fn new(limits: Limits, paused: bool) -> Self {
        let Limits { weight, max_concurrency, max_queued, submits_per_minute, max_body, max_render_seconds } =
            limits;
        Self {
            weight,
            max_concurrency,
            max_queued,
            submits_per_minute,
            max_body,
            max_render_seconds,
            paused: Some(paused),
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            weight: self.weight,
            max_concurrency: self.max_concurrency,
            max_queued: self.max_queued,
            submits_per_minute: self.submits_per_minute,
            max_body: self.max_body,
            max_render_seconds: self.max_render_seconds,
        }
    }
}

/// Say what a tenant gets
///
/// Also before anything of it was seen. It holds at once; what waits or is being rendered beyond it goes on.
#[utoipa::path(
    put, path = "/v1/tenants/{tenant}", tag = "queue", security(("token" = [])),
    params(("tenant" = String, Path, description = "Its name, percent-encoded")), request_body = Settings,
    responses((status = 200, description = "The tenant as it is now", body = TenantView), ApiError)
)]
pub(super) async fn put(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<TenantView>, ApiError> {
    caller.need(Scope::Admin)?;
    let settings: Settings = body.fields()?.into_typed()?;
    let limits = settings.limits();
    let mut errors: Vec<_> = check_name("/tenant", &name).into_iter().collect();
    errors.extend(limits.check());
    if !errors.is_empty() {
        return Err(ApiError::Invalid(errors));
    }
    let id = TenantId::new(name);
    let paused = settings.paused.unwrap_or(false);
    // The pause comes first, and its end last: nothing starts on the limits of before.
    if paused {
        api.queue.pause(Pausable::Tenant(id.clone())).await?;
    }
    let tenant = api.queue.limit(&id, limits).await?;
    if !paused {
        api.queue.resume(Pausable::Tenant(id)).await?;
    }
    Ok(Json(TenantView { paused, ..tenant.into() }))
}
