//! The API: one router over the ports. `openapi.json` is made from the handlers themselves.

mod accounts;
mod activity;
mod audit;
mod control;
mod dashboard;
mod deliveries;
mod edge;
mod encryption;
mod error;
mod events;
mod health;
mod limits;
mod links;
mod metrics;
mod notices;
mod output;
mod range;
mod renders;
mod session;
mod sites;
mod submit;
mod tenants;
mod view;

use std::error::Error;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Bytes, HttpBody as _};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header;
use axum::http::request::Parts;
use lastframe_core::outbox::Outbox;
use lastframe_core::ports::{Accounts, Directory, Outputs, Queue};
use lastframe_core::props::Fields;
use lastframe_core::{Clock, FieldError, Scope, TenantId};
use lastframe_worker::logs::Logs;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tower_http::timeout::TimeoutError;
use utoipa::OpenApi as _;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::audit::{Actor, Audit};
use crate::config::Config;
use crate::encryption::SealingKeys;
use crate::identity::{Caller, Identity};
use crate::links::Links;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::rate::Rates;
use crate::sites::Sites;
use crate::space::Space;

pub(crate) use self::accounts::{
    AddUser, ChangeUser, CreateToken, CreatedToken, Me, RotateKeys, SigningKeyIds, TokenList, TokenView,
    UserView, Users,
};
pub(crate) use self::audit::AuditPage;
pub(crate) use self::control::{GroupView, QueueView, RedriveRequest, Redriven};
pub(crate) use self::deliveries::{DeliveryPage, DeliveryView};
pub(crate) use self::encryption::{EncryptionView, KeyView};
pub(crate) use self::error::{ApiError, NO_STREAMS, Problem};
pub(crate) use self::links::LinkView;
pub(crate) use self::notices::{CreatedSecret, NoticesView, SecretView};
pub(crate) use self::range::{Part, part};
pub(crate) use self::sites::{Current, VersionView};
pub(crate) use self::tenants::{Settings, TenantView, Tenants};
pub(crate) use self::view::{Accepted, RenderPage, RenderView};

/// What every handler may use.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) outbox: Arc<dyn Outbox>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) accounts: Arc<dyn Accounts>,
    pub(crate) outputs: Arc<dyn Outputs>,
    pub(crate) links: Links,
    pub(crate) space: Arc<Space>,
    pub(crate) logs: Logs,
    pub(crate) sites: Sites,
    pub(crate) identity: Arc<Identity>,
    /// None where the queue keeps its secrets by other means.
    pub(crate) encryption: Option<Arc<dyn SealingKeys>>,
    pub(crate) audit: Audit,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rates: Arc<Rates>,
    /// None where nobody can be told what changes.
    pub(crate) live: Option<Arc<Live>>,
    /// Whether mail is sent.
    pub(crate) mails: bool,
    pub(crate) metrics: Arc<Metrics>,
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
    components(schemas(Problem, submit::DryRun)),
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
        .routes(routes!(renders::request))
        .routes(routes!(renders::cancel))
        .routes(routes!(renders::retry))
        .routes(routes!(submit::submit_still))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::get))
        .routes(routes!(deliveries::redeliver))
        .routes(routes!(submit::enqueue))
        .routes(routes!(submit::enqueue_in_stage))
        .routes(routes!(control::redrive))
        .routes(routes!(control::groups))
        .routes(routes!(control::group))
        .routes(routes!(control::pause_group))
        .routes(routes!(control::resume_group))
        .routes(routes!(control::queue))
        .routes(routes!(control::pause_queue))
        .routes(routes!(control::resume_queue))
        .routes(routes!(activity::activity))
        .routes(routes!(tenants::list))
        .routes(routes!(tenants::get, tenants::put))
        .routes(routes!(notices::get, notices::put))
        .routes(routes!(notices::add_secret))
        .routes(routes!(notices::remove_secret))
        .routes(routes!(events::events))
        .routes(routes!(events::tenant_events))
        .routes(routes!(output::output))
        .routes(routes!(output::poster))
        .routes(routes!(output::log))
        .routes(routes!(links::make))
        .routes(routes!(links::follow))
        .routes(routes!(sites::list))
        .routes(routes!(sites::get, sites::remove))
        .routes(routes!(sites::versions, sites::add_version))
        .routes(routes!(sites::set_current))
        .routes(routes!(sites::remove_version))
        .routes(routes!(accounts::sign_in))
        .routes(routes!(accounts::sign_out))
        .routes(routes!(session::begin, session::end))
        .routes(routes!(session::renew))
        .routes(routes!(accounts::me))
        .routes(routes!(accounts::users, accounts::add_user))
        .routes(routes!(accounts::change_user))
        .routes(routes!(accounts::tokens, accounts::create_token))
        .routes(routes!(accounts::revoke_token))
        .routes(routes!(accounts::rotate_keys))
        .routes(routes!(accounts::discovery))
        .routes(routes!(accounts::jwks))
        .routes(routes!(encryption::get))
        .routes(routes!(encryption::rotate))
        .routes(routes!(audit::audit))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::metrics))
        .split_for_parts();
    // Made once: routes are copied for every connection, and the tree is large.
    let description = Bytes::from(openapi.to_json().unwrap_or_default());
    let router = router
        .route(
            "/openapi.json",
            axum::routing::get(async move || ([(header::CONTENT_TYPE, "application/json")], description)),
        )
        .merge(dashboard::router(&api))
        .fallback(async || ApiError::NotFound("path"))
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed);
    edge::around(router, &api).with_state(api)
}

/// The token that came with a request, whether or not it is good.
struct Token(String);

impl Token {
    fn of(parts: &Parts, api: &Api) -> Result<Self, ApiError> {
        let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else {
            return session::token(&parts.method, &parts.headers, api).map(Self).ok_or(ApiError::NoToken);
        };
        if values.next().is_some() {
            // A proxy before us may have looked at the other one.
            return Err(ApiError::BadToken);
        }
        let (scheme, token) =
            value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or(ApiError::BadToken)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(ApiError::NoToken);
        }
        Ok(Self(token.trim().to_owned()))
    }
}

impl FromRequestParts<Api> for Token {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        Self::of(parts, api)
    }
}

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let Token(token) = Token::of(parts, api)?;
        let caller = api.identity.verify(&token).await?;
        // For what is read after this: see `Body`.
        parts.extensions.insert(caller.tenant.clone());
        crate::audit::acts(Actor {
            tenant: caller.tenant.as_str().to_owned(),
            subject: caller.subject.clone(),
            token_id: caller.token.clone(),
        });
        Ok(caller)
    }
}

impl Caller {
    /// Whether what is that tenant's is there for the caller.
    fn may_see(&self, tenant: &TenantId) -> bool {
        self.tenant == *tenant || self.scopes.allow(Scope::Admin)
    }

    /// The tenant of that name.
    ///
    /// # Errors
    /// When it is another one than the caller's, who is no administrator.
    fn may_look_at(&self, tenant: String) -> Result<TenantId, ApiError> {
        let tenant = TenantId::new(tenant);
        if self.may_see(&tenant) { Ok(tenant) } else { Err(ApiError::Forbidden(Scope::Admin, Vec::new())) }
    }

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

/// A number of the query, from 1 up; none when it is left out, or is none, which is added to what is wrong.
fn up_to<T>(name: &str, text: Option<&str>, most: T, errors: &mut Vec<FieldError>) -> Option<T>
where
    T: FromStr + PartialOrd + Display + From<u8> + Copy,
{
    let number = text?.parse().ok().filter(|number| *number >= T::from(1) && *number <= most);
    if number.is_none() {
        errors.push(FieldError::new(format!("/{name}"), format!("must be a number from 1 to {most}")));
    }
    number
}

/// How many there are to a page, by its `limit`.
fn page_size(limit: Option<&str>, errors: &mut Vec<FieldError>) -> u32 {
    up_to("limit", limit, 200, errors).unwrap_or(50)
}

/// A body, whole and within the configured limit, and within that of the tenant whose token came with it.
struct Body(Bytes);

impl FromRequest<Api> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let (size, tenant) = (request.body().size_hint().upper(), request.extensions().get::<TenantId>());
        let limit = limits::largest_body(api, tenant, size).await?;
        let whole = axum::body::to_bytes(request.into_body(), limit);
        let whole = tokio::time::timeout(api.config.http.body_timeout, whole).await;
        whole.map_err(|_| ApiError::TooSlow)?.map(Self).map_err(|error| {
            if comes_from::<http_body_util::LengthLimitError>(&error) {
                ApiError::TooLarge(limit as u64)
            } else {
                broken_off(&error)
            }
        })
    }
}

/// Why a body ended before its end.
fn broken_off(error: &axum::Error) -> ApiError {
    if comes_from::<TimeoutError>(error) { ApiError::TooSlow } else { ApiError::BrokenOff }
}

/// Whether it comes from an error of that kind.
fn comes_from<E: Error + 'static>(error: &axum::Error) -> bool {
    let first: &(dyn Error + 'static) = error;
    std::iter::successors(Some(first), |&error| error.source()).any(<dyn Error>::is::<E>)
}

impl Body {
    fn fields(&self) -> Result<Fields<'_>, ApiError> {
        Ok(Fields::read(&self.0)?)
    }
}
