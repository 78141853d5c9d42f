//! What the renders of a tenant tell at their end where they do not say it themselves, and what its webhooks are signed
//! with.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use lastframe_core::outbox::{NoticeDefaults, Secret, TenantNotices, TenantSecret};
use lastframe_core::request::check_name;
use lastframe_core::{Scope, TenantId};
use serde::{Deserialize, Serialize};

use super::{Api, ApiError, Body, Path, submit};
use crate::identity::Caller;

/// What a tenant has set.
#[derive(Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TenantNotices)]
pub(crate) struct NoticesView {
    /// Where the webhooks of renders go that say neither `webhook` nor `notify`; nowhere when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) webhook_url: Option<String>,
    /// Who gets a mail of those.
    pub(crate) email: Vec<String>,
    /// What webhooks are signed with where the render has no secret of its own, the oldest first.
    pub(crate) secrets: Vec<SecretView>,
}

impl From<TenantNotices> for NoticesView {
    fn from(TenantNotices { defaults, secrets }: TenantNotices) -> Self {
        let NoticeDefaults { webhook_url, email } = defaults;
        let view = |TenantSecret { id, created_at, .. }| SecretView { id, created_at };
        Self { webhook_url, email, secrets: secrets.into_iter().map(view).collect() }
    }
}

/// A secret, without its text.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookSecret)]
pub(crate) struct SecretView {
    /// What it is called here.
    pub(crate) id: String,
    /// Since when it is active.
    pub(crate) created_at: Timestamp,
}

/// A secret that was just made.
#[derive(Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = CreatedWebhookSecret)]
pub(crate) struct CreatedSecret {
    #[serde(flatten)]
    pub(crate) view: SecretView,
    /// The secret itself, which is not told again: `whsec_` and 32 bytes in Base64.
    pub(crate) secret: String,
}

/// Look at what a tenant's renders tell at their end
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/notices", tag = "queue", security(("token" = [])),
    params(("tenant" = String, Path, description = "Its name, percent-encoded")),
    responses((status = 200, description = "What it has set; nothing, if it was never seen", body = NoticesView), ApiError)
)]
pub(super) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<NoticesView>, ApiError> {
    caller.need(Scope::Admin)?;
    Ok(Json(api.outbox.tenant_notices(&TenantId::new(name)).await?.into()))
}

/// Say what a tenant's renders tell at their end
///
/// For renders that are submitted from now on and say neither `webhook` nor `notify` themselves. What is absent is told to
/// nobody. Secrets stay as they are.
#[utoipa::path(
    put, path = "/v1/tenants/{tenant}/notices", tag = "queue", security(("token" = [])),
    params(("tenant" = String, Path, description = "Its name, percent-encoded")), request_body = NoticeDefaults,
    responses((status = 200, description = "What it has set now", body = NoticesView), ApiError)
)]
pub(super) async fn put(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<NoticesView>, ApiError> {
    caller.need(Scope::Admin)?;
    let defaults: NoticeDefaults = body.fields()?.into_typed()?;
    let mut errors: Vec<_> = check_name("/tenant", &name).into_iter().collect();
    errors.extend(defaults.check());
    errors.extend(submit::check_mail(&api, "/email", &defaults.email));
    if !errors.is_empty() {
        return Err(ApiError::Invalid(errors));
    }
    let tenant = TenantId::new(name);
    api.outbox.set_notice_defaults(&tenant, defaults).await?;
    Ok(Json(api.outbox.tenant_notices(&tenant).await?.into()))
}

/// Make a secret for a tenant's webhooks
///
/// At most two are active, while one takes over from the other. From now on webhooks are signed with it too.
#[utoipa::path(
    post, path = "/v1/tenants/{tenant}/webhook-secrets", tag = "queue", security(("token" = [])),
    params(("tenant" = String, Path, description = "Its name, percent-encoded")),
    responses((status = 201, description = "The secret, told once", body = CreatedSecret), ApiError)
)]
pub(super) async fn add_secret(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<CreatedSecret>), ApiError> {
    caller.need(Scope::Admin)?;
    if let Some(wrong) = check_name("/tenant", &name) {
        return Err(ApiError::Invalid(vec![wrong]));
    }
    let (id, secret) = (random::<8>()?, random::<32>()?);
    let view = SecretView { id: lastframe_core::hex::encode(&id), created_at: api.clock.now() };
    let secret = format!("whsec_{}", STANDARD.encode(secret));
    let new =
        TenantSecret { id: view.id.clone(), secret: Secret(secret.clone()), created_at: view.created_at };
    if !api.outbox.add_secret(&TenantId::new(name), new).await? {
        let most = TenantNotices::MAX_SECRETS;
        return Err(ApiError::Conflict(format!(
            "the tenant has {most} secrets already: remove the older one first"
        )));
    }
    Ok((StatusCode::CREATED, Json(CreatedSecret { view, secret })))
}

/// Remove a secret of a tenant's webhooks
///
/// Nothing is signed with it any more.
#[utoipa::path(
    delete, path = "/v1/tenants/{tenant}/webhook-secrets/{id}", tag = "queue", security(("token" = [])),
    params(
        ("tenant" = String, Path, description = "Its name, percent-encoded"),
        ("id" = String, Path, description = "The secret's id")
    ),
    responses((status = 204, description = "It is removed"), ApiError)
)]
pub(super) async fn remove_secret(
    State(api): State<Api>,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    caller.need(Scope::Admin)?;
    if api.outbox.remove_secret(&TenantId::new(name), &id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::NotFound("secret"))
    }
}

fn random<const N: usize>() -> Result<[u8; N], ApiError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| ApiError::Internal(anyhow::anyhow!("no randomness: {error}")))?;
    Ok(bytes)
}
