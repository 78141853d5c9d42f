//! The API: one router over the ports. `openapi.json` is made from the handlers themselves.

mod accounts;
mod control;
mod error;
mod events;
mod health;
mod output;
mod renders;
mod sites;
mod submit;
mod tenants;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::IntoResponse as _;
use lastframe_core::ports::{Accounts, Directory, Outputs, Queue};
use lastframe_core::props::Fields;
use lastframe_core::{Clock, Scope};
use lastframe_worker::logs::Logs;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::trace::TraceLayer;
use utoipa::OpenApi as _;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::config::Config;
use crate::identity::{Caller, Identity};
use crate::sites::Sites;

pub(crate) use self::accounts::{
    AddUser, ChangeUser, CreateToken, CreatedToken, Me, RotateKeys, SigningKeyIds, TokenList, TokenView,
    UserView, Users,
};
pub(crate) use self::control::{GroupView, QueueView, RedriveRequest, Redriven};
pub(crate) use self::error::{ApiError, Problem};
pub(crate) use self::sites::{Current, VersionView};
pub(crate) use self::tenants::{Settings, TenantView, Tenants};
pub(crate) use self::view::{Accepted, RenderPage, RenderView};

/// What every handler may use.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) accounts: Arc<dyn Accounts>,
    pub(crate) outputs: Arc<dyn Outputs>,
    pub(crate) logs: Logs,
    pub(crate) sites: Sites,
    pub(crate) identity: Arc<Identity>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: Arc<Config>,
    /// Without a slash at the end.
    pub(crate) public_url: Arc<str>,
    /// Set when the server stops: live streams end, and it is not ready any more.
    pub(crate) stopping: CancellationToken,
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Lastframe",
        description = "A durable render queue for Remotion. Post a render; it is done when the last frame of its video is written, and not before."
    ),
    tags(
        (name = "renders", description = "Submit, follow, fetch"),
        (name = "queue", description = "Pauses, shares of the machine, another go at what failed"),
        (name = "sites", description = "Bundled Remotion projects"),
        (name = "accounts", description = "Signing in, people, the tokens of programs"),
        (name = "server", description = "The server itself"),
    ),
    modifiers(&BearerTokens),
    components(schemas(Problem)),
)]
struct Description;

struct BearerTokens;

impl utoipa::Modify for BearerTokens {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        openapi.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}

/// All routes.
pub(crate) fn router(api: Api) -> Router {
    let (router, openapi) = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(submit::submit, renders::list))
        .routes(routes!(submit::submit_batch))
        .routes(routes!(renders::get))
        .routes(routes!(renders::cancel))
        .routes(routes!(renders::retry))
        .routes(routes!(submit::submit_still))
        .routes(routes!(submit::enqueue))
        .routes(routes!(submit::enqueue_in_stage))
        .routes(routes!(control::redrive))
        .routes(routes!(control::group))
        .routes(routes!(control::pause_group))
        .routes(routes!(control::resume_group))
        .routes(routes!(control::queue))
        .routes(routes!(control::pause_queue))
        .routes(routes!(control::resume_queue))
        .routes(routes!(tenants::list))
        .routes(routes!(tenants::get, tenants::put))
        .routes(routes!(events::events))
        .routes(routes!(output::output))
        .routes(routes!(output::log))
        .routes(routes!(sites::list))
        .routes(routes!(sites::get, sites::remove))
        .routes(routes!(sites::versions, sites::add_version))
        .routes(routes!(sites::set_current))
        .routes(routes!(sites::remove_version))
        .routes(routes!(accounts::sign_in))
        .routes(routes!(accounts::sign_out))
        .routes(routes!(accounts::me))
        .routes(routes!(accounts::users, accounts::add_user))
        .routes(routes!(accounts::change_user))
        .routes(routes!(accounts::tokens, accounts::create_token))
        .routes(routes!(accounts::revoke_token))
        .routes(routes!(accounts::rotate_keys))
        .routes(routes!(accounts::discovery))
        .routes(routes!(accounts::jwks))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .split_for_parts();
    // Made once: routes are copied for every connection, and the tree is large.
    let description = Bytes::from(openapi.to_json().unwrap_or_default());
    router
        .route(
            "/openapi.json",
            axum::routing::get(async move || ([(header::CONTENT_TYPE, "application/json")], description)),
        )
        .fallback(async || ApiError::NotFound("path"))
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(CatchPanicLayer::custom(|_| {
            ApiError::Internal(anyhow::anyhow!("a handler panicked")).into_response()
        }))
        .layer(TraceLayer::new_for_http().make_span_with(|request: &Request| {
            // The path alone: a query may one day carry a signature.
            tracing::info_span!("http.request", method = %request.method(), path = request.uri().path())
        }))
        .with_state(api)
}

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let value = parts.headers.get(header::AUTHORIZATION).ok_or(ApiError::NoToken)?;
        let (scheme, token) =
            value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or(ApiError::BadToken)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(ApiError::NoToken);
        }
        Ok(api.identity.verify(token.trim()).await?)
    }
}

impl Caller {
    /// # Errors
    /// When the token lacks the scope.
    fn need(&self, scope: Scope) -> Result<(), ApiError> {
        if self.scopes.allow(scope) { Ok(()) } else { Err(ApiError::Forbidden(scope, Vec::new())) }
    }
}

/// What the path holds.
struct Path<T>(T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let path = axum::extract::Path::from_request_parts(parts, api).await;
        path.map(|axum::extract::Path(value)| Self(value)).map_err(|_| ApiError::NotFound("path"))
    }
}

/// What the query holds.
struct Query<T>(T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let query = axum::extract::Query::from_request_parts(parts, api).await;
        query
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|error| ApiError::BadQuery(error.body_text()))
    }
}

/// A body, whole and within the configured limit.
struct Body(Bytes);

impl FromRequest<Api> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let limit = api.config.max_body;
        axum::body::to_bytes(request.into_body(), limit).await.map(Self).map_err(|error| {
            if error.into_inner().is::<http_body_util::LengthLimitError>() {
                ApiError::TooLarge(limit as u64)
            } else {
                ApiError::BrokenOff
            }
        })
    }
}

impl Body {
    fn fields(&self) -> Result<Fields<'_>, ApiError> {
        Ok(Fields::read(&self.0)?)
    }
}
