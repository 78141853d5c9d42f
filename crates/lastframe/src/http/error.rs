//! The one table from what went wrong to what is answered: `application/problem+json` (RFC 9457).

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lastframe_core::ports::{ControlError, QueueError, RemoveSiteError, SteerError};
use lastframe_core::props::BodyError;
use lastframe_core::{FieldError, Scope};
use serde::{Deserialize, Serialize};

use super::limits::Reached;
use crate::identity::Refused;
use crate::live::Full;
use crate::sites::BundleError;

/// The code of a server that tells nobody what changes.
pub(crate) const NO_STREAMS: &str = "no_streams";

/// What a client reads when something went wrong.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct Problem {
    /// The status, in words.
    pub(crate) title: String,
    /// The HTTP status.
    pub(crate) status: u16,
    /// A word a program can match on.
    pub(crate) code: String,
    /// What went wrong, and what would mend it.
    pub(crate) detail: String,
    /// What is wrong with which field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<FieldError>,
    /// For the code `limit_reached`: which limit, such as `maxQueued`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<String>,
    /// For the code `limit_reached`: what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<u32>,
    /// For the code `limit_reached`: whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
}

/// Everything that a handler may answer instead of what was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("send a token: `Authorization: Bearer <token>`")]
    NoToken,
    #[error("this is for the dashboard's own pages: programs send a token")]
    NotOwn,
    #[error("the token is not valid here, or has expired")]
    BadToken,
    #[error("the issuer of the token cannot be reached; try again")]
    IssuerUnreachable,
    #[error(
        "this does not let you in: the address or the password is wrong, or the refresh token is used up"
    )]
    NotLetIn,
    #[error("too many attempts to sign in with that address; try again in {} s", whole_seconds(*.0))]
    TooManyAttempts(Duration),
    #[error("the token lacks the scope `{0}`")]
    Forbidden(Scope, Vec<FieldError>),
    #[error("there is no such {0}")]
    NotFound(&'static str),
    #[error("this path does not take this method")]
    MethodNotAllowed,
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    #[error("the body broke off")]
    BrokenOff,
    #[error("the body came too slowly")]
    TooSlow,
    #[error("the query is wrong: {0}")]
    BadQuery(String),
    #[error("the file has no such part")]
    NoSuchRange,
    #[error("the output was removed")]
    OutputGone,
    #[error("this link is not valid here")]
    BadLink,
    #[error("this link has expired")]
    LinkExpired,
    #[error("the storage of the outputs does not answer; the server's log says more")]
    StorageAway(#[source] std::io::Error),
    #[error("{0}: no render is accepted until there is room; those that were go on")]
    LowDisk(String),
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
    #[error("the request cannot be taken as it is")]
    Invalid(Vec<FieldError>),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Unsupported(String),
    #[error("not on this queue: {0}")]
    NotHere(&'static str),
    #[error("not on this queue: it streams nothing; ask for the render, or the list, every few seconds")]
    NoStreams,
    #[error("the output is not there: the render is {0}")]
    NoOutput(lastframe_core::Status),
    #[error(
        "there is no poster of this output: a sound or a PDF has none, nor has what no picture could be made of"
    )]
    NoPoster,
    #[error("this Idempotency-Key was used for another request")]
    KeyReused,
    #[error("{0}")]
    LimitReached(Reached),
    #[error("too much is being asked for at once; try again")]
    Busy,
    #[error("{0}; look now and then instead, or try again")]
    TooManyStreams(Full),
    #[error("the server's disk is full: nothing was accepted or changed")]
    NoSpace,
    #[error("{0}, and is not used; the server's log says more")]
    Damaged(String),
    #[error("{0}")]
    Bundle(BundleError),
    #[error("something failed inside; it is in the server's log")]
    Internal(#[source] anyhow::Error),
}

impl ApiError {
    /// One thing wrong at one place.
    pub(crate) fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError::new(pointer, detail)])
    }

    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoToken => (StatusCode::UNAUTHORIZED, "token_missing"),
            Self::NotOwn => (StatusCode::FORBIDDEN, "not_the_dashboard"),
            Self::BadToken => (StatusCode::UNAUTHORIZED, "token_invalid"),
            Self::IssuerUnreachable => (StatusCode::SERVICE_UNAVAILABLE, "issuer_unreachable"),
            Self::NotLetIn => (StatusCode::UNAUTHORIZED, "sign_in_failed"),
            Self::TooManyAttempts(_) => (StatusCode::TOO_MANY_REQUESTS, "too_many_attempts"),
            Self::Forbidden(..) => (StatusCode::FORBIDDEN, "scope_missing"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::NotJson(_) => (StatusCode::BAD_REQUEST, "invalid_json"),
            Self::BrokenOff => (StatusCode::BAD_REQUEST, "body_broken_off"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "body_too_slow"),
            Self::BadQuery(_) => (StatusCode::BAD_REQUEST, "invalid_query"),
            Self::NoSuchRange => (StatusCode::RANGE_NOT_SATISFIABLE, "no_such_range"),
            Self::OutputGone => (StatusCode::GONE, "output_gone"),
            Self::BadLink => (StatusCode::FORBIDDEN, "link_invalid"),
            Self::LinkExpired => (StatusCode::GONE, "link_expired"),
            Self::StorageAway(_) => (StatusCode::SERVICE_UNAVAILABLE, "storage_unavailable"),
            Self::LowDisk(_) => (StatusCode::SERVICE_UNAVAILABLE, "low_disk"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_request"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            Self::Unsupported(_) => (StatusCode::NOT_IMPLEMENTED, "unsupported"),
            // No fault of the server, so no 5xx, which alarms count: this queue has nothing under that path.
            Self::NotHere(_) => (StatusCode::NOT_FOUND, "not_here"),
            Self::NoStreams => (StatusCode::NOT_FOUND, NO_STREAMS),
            Self::NoOutput(_) => (StatusCode::CONFLICT, "no_output"),
            Self::NoPoster => (StatusCode::NOT_FOUND, "no_poster"),
            Self::KeyReused => (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused"),
            Self::LimitReached(_) => (StatusCode::TOO_MANY_REQUESTS, "limit_reached"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Self::TooManyStreams(_) => (StatusCode::SERVICE_UNAVAILABLE, "too_many_streams"),
            Self::NoSpace => (StatusCode::INSUFFICIENT_STORAGE, "no_space"),
            Self::Damaged(_) => (StatusCode::INTERNAL_SERVER_ERROR, "damaged"),
            Self::Bundle(BundleError::Storage(_) | BundleError::Queue(_)) | Self::Internal(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal")
            }
            Self::Bundle(BundleError::Renderer(_)) => (StatusCode::UNPROCESSABLE_ENTITY, "renderer_missing"),
            Self::Bundle(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_bundle"),
        }
    }

    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Self::NoToken | Self::NotLetIn => {
                Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
            }
            Self::BadToken => {
                // The same words whatever is wrong with it: a reason would help only who forges.
                let value = "Bearer error=\"invalid_token\", error_description=\"the token is not valid here, or has expired\"";
                Some((header::WWW_AUTHENTICATE, HeaderValue::from_static(value)))
            }
            // Without one, waiting would not help.
            Self::LimitReached(reached) => Some((header::RETRY_AFTER, reached.retry_after?.into())),
            Self::TooSlow => Some((header::CONNECTION, HeaderValue::from_static("close"))),
            Self::TooManyAttempts(wait) => Some((header::RETRY_AFTER, whole_seconds(*wait).into())),
            Self::Busy => Some((header::RETRY_AFTER, HeaderValue::from_static("1"))),
            Self::IssuerUnreachable => Some((header::RETRY_AFTER, HeaderValue::from_static("30"))),
            Self::StorageAway(_) | Self::TooManyStreams(_) => {
                Some((header::RETRY_AFTER, HeaderValue::from_static("10")))
            }
            // Somebody has to make room first.
            Self::NoSpace | Self::LowDisk(_) => Some((header::RETRY_AFTER, HeaderValue::from_static("60"))),
            _ => None,
        }
    }
}

/// The code of a problem, for whoever writes down what was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code(pub(super) &'static str);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        match &self {
            Self::Internal(error) => tracing::error!(error = format!("{error:#}"), "a request failed"),
            Self::StorageAway(error) => tracing::error!(%error, "an output could not be read"),
            Self::Bundle(BundleError::Storage(error)) => {
                tracing::error!(%error, "a bundle could not be stored");
            }
            _ => {}
        }
        let header = self.header();
        let detail = self.to_string();
        let title = status.canonical_reason().unwrap_or("Error").to_owned();
        let word = code.to_owned();
        let mut problem =
            Problem { title, status: status.as_u16(), code: word, detail, ..Problem::default() };
        match self {
            Self::Invalid(errors) | Self::Forbidden(_, errors) => problem.errors = errors,
            Self::NotJson(why) => problem.errors = vec![FieldError::new("", why)],
            Self::LimitReached(Reached { tenant, limit, value, .. }) => {
                problem.limit = Some(limit.to_owned());
                problem.value = Some(value);
                problem.tenant = Some(tenant.as_str().to_owned());
            }
            _ => {}
        }
        let mut response = (status, Json(problem)).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response.extensions_mut().insert(Code(code));
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::NotJson(why) => Self::NotJson(why),
            BodyError::Invalid(errors) => Self::Invalid(errors),
        }
    }
}

impl From<QueueError> for ApiError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Busy => Self::Busy,
            QueueError::NoSpace(cause) => {
                tracing::error!(error = %cause, "the disk is full");
                Self::NoSpace
            }
            QueueError::Damaged { .. } => {
                tracing::error!(%error, "something in the database is damaged; `lastframe check` looks for more");
                Self::Damaged(error.to_string())
            }
            QueueError::Storage(_) => Self::Internal(error.into()),
        }
    }
}

impl From<Refused> for ApiError {
    fn from(error: Refused) -> Self {
        match error {
            Refused::Token => Self::BadToken,
            Refused::Unreachable => Self::IssuerUnreachable,
            Refused::Queue(error) => error.into(),
        }
    }
}

impl From<anyhow::Error> for ApiError {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<QueueError>() {
            Ok(error) => error.into(),
            Err(error) => Self::Internal(error),
        }
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::NotFound => Self::NotFound("render"),
            ControlError::Illegal(error) => Self::Conflict(error.to_string()),
            ControlError::Queue(error) => error.into(),
        }
    }
}

impl From<SteerError> for ApiError {
    fn from(error: SteerError) -> Self {
        match error {
            SteerError::Unsupported(_) => Self::Unsupported(error.to_string()),
            SteerError::Queue(error) => error.into(),
        }
    }
}

impl From<RemoveSiteError> for ApiError {
    fn from(error: RemoveSiteError) -> Self {
        match error {
            RemoveSiteError::NotFound => Self::NotFound("site"),
            RemoveSiteError::InUse(_) | RemoveSiteError::Current => Self::Conflict(error.to_string()),
            RemoveSiteError::Queue(error) => error.into(),
        }
    }
}

impl From<BundleError> for ApiError {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::Storage(error) if is_full(&error) => error.into(),
            BundleError::Queue(error) => error.into(),
            BundleError::NotHere(why) => Self::NotHere(why),
            error => Self::Bundle(error),
        }
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> Self {
        if is_full(&error) {
            tracing::error!(%error, "the disk is full");
            return Self::NoSpace;
        }
        Self::Internal(error.into())
    }
}

/// Rounded up: who waits as long as they are told is not told again.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// What any route may answer, as the description of the API has it.
impl utoipa::IntoResponses for ApiError {
    fn responses() -> BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>> {
        use utoipa::openapi::{ContentBuilder, Ref, ResponseBuilder};
        let problem = |description: &str| {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            ResponseBuilder::new()
                .description(description)
                .content("application/problem+json", content)
                .build()
                .into()
        };
        let refused = "Refused: `code` says why, and `errors` what is wrong with which field";
        let failed = "Failed: the queue is `busy` (503), there is `low_disk` (503) or `no_space` (507), the outputs' \
                      `storage_unavailable` (503), a record is `damaged` and \
                      not used (500), or the fault is `internal` to the server (500)";
        BTreeMap::from([("4XX".into(), problem(refused)), ("5XX".into(), problem(failed))])
    }
}
