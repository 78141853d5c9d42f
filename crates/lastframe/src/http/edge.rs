//! What holds for every request and every answer, whatever the route.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::timeout::RequestBodyTimeoutLayer;
use tower_http::trace::TraceLayer;

use super::error::Code;
use super::{Api, ApiError};
use crate::audit::{Entry, TRAIL, Trail};
use crate::digest::REPR_DIGEST;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest request id of a client that is taken over.
const LONGEST_ID: usize = 64;
/// How long a browser may remember what a page of another origin may do.
const PREFLIGHT: std::time::Duration = std::time::Duration::from_secs(60 * 60);

/// The routes, with everything around them.
pub(super) fn around(router: Router<Api>, api: &Api) -> Router<Api> {
    let router = router
        .layer(RequestBodyTimeoutLayer::new(api.config.http.read_timeout))
        .layer(CatchPanicLayer::custom(|_| {
            ApiError::Internal(anyhow::anyhow!("a handler panicked")).into_response()
        }))
        .layer(from_fn_with_state(api.clone(), write_down))
        .layer(TraceLayer::new_for_http().make_span_with(|request: &Request| {
            // The path alone: a query may one day carry a signature.
            tracing::info_span!(
                "http.request",
                request.id = request_id(request),
                method = %request.method(),
                path = request.uri().path()
            )
        }));
    let origins = &api.config.http.cors_origins;
    let router = if origins.is_empty() { router } else { router.layer(cors(origins)) };
    router.layer(from_fn_with_state(api.clone(), mark))
}

/// Which pages of other origins may use the API. They show a token like everybody else; cookies mean nothing here.
fn cors(origins: &[String]) -> CorsLayer {
    let allowed = match origins {
        [all] if all == "*" => AllowOrigin::any(),
        origins => AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok())),
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_NONE_MATCH,
            header::IF_RANGE,
            header::RANGE,
            HeaderName::from_static("idempotency-key"),
            REQUEST_ID,
        ])
        .expose_headers([
            header::ACCEPT_RANGES,
            header::CONTENT_DISPOSITION,
            header::CONTENT_LENGTH,
            header::CONTENT_RANGE,
            header::ETAG,
            header::LOCATION,
            header::RETRY_AFTER,
            header::WWW_AUTHENTICATE,
            REPR_DIGEST,
            REQUEST_ID,
        ])
        .max_age(PREFLIGHT)
}

#[derive(Clone)]
struct RequestId(HeaderValue);

impl RequestId {
    /// The client's own, if it is fit for a log, or a new one.
    fn of(request: &Request) -> Self {
        let fit = |id: &&HeaderValue| {
            (1..=LONGEST_ID).contains(&id.len())
                && id.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        };
        if let Some(id) = request.headers().get(REQUEST_ID).filter(fit) {
            return Self(id.clone());
        }
        let id = getrandom::u64().ok().and_then(|id| HeaderValue::from_str(&format!("{id:016x}")).ok());
        Self(id.unwrap_or(HeaderValue::from_static("none")))
    }
}

fn request_id(request: &Request) -> &str {
    let id = request.extensions().get::<RequestId>();
    id.and_then(|RequestId(id)| id.to_str().ok()).unwrap_or_default()
}

/// Gives the request its id, and the answer what keeps browsers from making more of it than it is.
async fn mark(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let id = RequestId::of(&request);
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id.0);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if api.config.tls.is_some() {
        headers
            .entry(header::STRICT_TRANSPORT_SECURITY)
            .or_insert(HeaderValue::from_static("max-age=31536000"));
    }
    response
}

/// Writes down who did what: everything that changes something, and everything that was refused.
async fn write_down(State(api): State<Api>, request: Request, next: Next) -> Response {
    let trail = Arc::<Trail>::default();
    let route = request.extensions().get::<MatchedPath>().map_or("(no route)", MatchedPath::as_str);
    let remote = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let mut line = Line {
        changes: ![Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method()),
        method: request.method().clone(),
        route: route.to_owned(),
        path: Entry::shorten(request.uri().path()),
        remote: remote.map(|ConnectInfo(remote)| remote.ip().to_string()),
        request_id: request_id(&request).to_owned(),
        answer: None,
        trail: Arc::clone(&trail),
        api,
    };
    let response = TRAIL.scope(trail, next.run(request)).await;
    let code = response.extensions().get::<Code>().map(|Code(code)| *code);
    line.answer = Some((response.status(), code));
    response
}

/// A line in the making. It is counted and, if need be, written when this is dropped, so also when the client leaves before the answer.
struct Line {
    changes: bool,
    method: Method,
    route: String,
    path: String,
    remote: Option<String>,
    request_id: String,
    answer: Option<(StatusCode, Option<&'static str>)>,
    trail: Arc<Trail>,
    api: Api,
}

impl Drop for Line {
    fn drop(&mut self) {
        let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS];
        let (status, code) = self.answer.unzip();
        self.api.metrics.answered(&self.method, &self.route, status);
        if !self.changes && !status.is_some_and(|status| refused.contains(&status)) {
            return;
        }
        let actor = self.trail.actor().cloned();
        let (who, token_id) = actor.map(|actor| ((actor.tenant, actor.subject), actor.token_id)).unzip();
        let (tenant, subject) = who.unzip();
        self.api.audit.record(Entry {
            time: self.api.clock.now(),
            request_id: std::mem::take(&mut self.request_id),
            tenant,
            subject,
            token_id: token_id.flatten(),
            action: format!("{} {}", self.method, self.route),
            path: std::mem::take(&mut self.path),
            renders: self.trail.take_renders(),
            status: status.map(|status| status.as_u16()),
            code: code.flatten().map(str::to_owned),
            remote: self.remote.take(),
            omitted: None,
        });
    }
}
