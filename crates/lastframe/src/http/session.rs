//! Signing in to the dashboard: the token stays in a cookie that no script can read.
//!
//! A cookie comes along whatever page asked, so it counts only for what the dashboard itself asks: `SameSite=Strict` keeps
//! other sites out, and [`token`] does so again for the browsers, the sites of the same domain and the ports that this does
//! not cover.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::accounts::{Me, check_password};
use super::{Api, ApiError, Body};
use crate::identity::{Caller, Tokens};

/// The token that the dashboard's requests are made with.
const TOKEN: &str = "lastframe";
/// What the next one is got with, of who signed in by a password.
const REFRESH: &str = "lastframe-refresh";
/// What a page of another origin cannot send: it is none of what CORS allows.
const DASHBOARD: HeaderName = HeaderName::from_static("x-lastframe-dashboard");
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Who signs in, and by what.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Credentials {
    /// With `password`.
    email: Option<String>,
    /// With `email`.
    password: Option<String>,
    /// Instead of both: a token that the server takes, whoever issued it.
    token: Option<String>,
}

/// A session of the dashboard.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Session {
    /// Who it is.
    #[serde(flatten)]
    me: Me,
    /// Seconds until it has to be renewed; for a token that was shown, absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<i64>,
}

/// Sign in to the dashboard
///
/// With `email` and `password`, or with a `token`. The answer sets cookies, which count for the dashboard's own requests
/// alone; programs use `POST /v1/token`. The header `X-Lastframe-Dashboard` must be there.
#[utoipa::path(
    post, path = "/v1/session", tag = "accounts", request_body = Credentials,
    responses((status = 200, description = "Signed in", body = Session), ApiError)
)]
pub(super) async fn begin(State(api): State<Api>, _: Own, body: Body) -> Result<Response, ApiError> {
    let asked: Credentials = body.fields()?.into_typed()?;
    match (asked.email, asked.password, asked.token) {
        (Some(email), Some(password), None) => {
            check_password("/password", &password)?;
            let tokens = api.identity.sign_in(&email, password).await?;
            signed_in(&api, tokens).await
        }
        (None, None, Some(token)) => {
            let caller = api.identity.verify(token.trim()).await?;
            let cookies = [set(&api, TOKEN, token.trim(), None)?, unset(&api, REFRESH)?];
            Ok(answer(cookies, Session { me: caller.into(), expires_in: None }))
        }
        _ => Err(ApiError::invalid("", "say `email` and `password`, or `token`")),
    }
}

/// Renew a session of the dashboard
#[utoipa::path(
    post, path = "/v1/session/renew", tag = "accounts",
    responses((status = 200, description = "It goes on", body = Session), ApiError)
)]
pub(super) async fn renew(State(api): State<Api>, Own(headers): Own) -> Result<Response, ApiError> {
    let refresh = cookie(&headers, &name(&api, REFRESH)).ok_or(ApiError::NoToken)?;
    let tokens = api.identity.refresh(&refresh).await?;
    signed_in(&api, tokens).await
}

/// Sign out of the dashboard
#[utoipa::path(
    delete, path = "/v1/session", tag = "accounts",
    responses((status = 204, description = "Signed out"), ApiError)
)]
pub(super) async fn end(State(api): State<Api>, Own(headers): Own) -> Result<Response, ApiError> {
    if let Some(refresh) = cookie(&headers, &name(&api, REFRESH)) {
        api.identity.sign_out(&refresh).await?;
    }
    let cookies = [unset(&api, TOKEN)?, unset(&api, REFRESH)?];
    Ok((StatusCode::NO_CONTENT, axum::response::AppendHeaders(cookies)).into_response())
}

async fn signed_in(api: &Api, tokens: Tokens) -> Result<Response, ApiError> {
    let caller = api.identity.verify(&tokens.id_token).await?;
    let lasts = Some(api.config.identity.refresh_lifetime.as_secs());
    let cookies =
        [set(api, TOKEN, &tokens.id_token, lasts)?, set(api, REFRESH, &tokens.refresh_token, lasts)?];
    Ok(answer(cookies, Session { me: caller.into(), expires_in: Some(tokens.expires_in) }))
}

type SetCookie = (HeaderName, HeaderValue);

fn answer(cookies: [SetCookie; 2], session: Session) -> Response {
    (axum::response::AppendHeaders(cookies), Json(session)).into_response()
}

/// A request that the dashboard itself has made, with its headers.
pub(super) struct Own(HeaderMap);

impl FromRequestParts<Api> for Own {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        if is_own(&parts.method, &parts.headers, api) {
            Ok(Self(parts.headers.clone()))
        } else {
            Err(ApiError::NotOwn)
        }
    }
}

/// The token of who is signed in to the dashboard, when it is the dashboard that asks.
pub(super) fn token(method: &Method, headers: &HeaderMap, api: &Api) -> Option<String> {
    let token = cookie(headers, &name(api, TOKEN))?;
    is_own(method, headers, api).then_some(token)
}

/// Whether a page of this very origin asks: anybody who can be made to open a page would do the rest by it.
fn is_own(method: &Method, headers: &HeaderMap, api: &Api) -> bool {
    let safe = [Method::GET, Method::HEAD].contains(method);
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    // Browsers say it wherever the connection can be trusted; `none` is a person who follows a bookmark.
    let site = text(&SITE).is_none_or(|site| site == "same-origin" || site == "none" && safe);
    let origin = text(&header::ORIGIN).is_none_or(|origin| {
        let host = origin.split_once("://").map(|(_, host)| host);
        let own = api.public_url.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or(rest));
        host.is_some() && (host == text(&header::HOST) || host == own)
    });
    site && origin && (safe || headers.contains_key(DASHBOARD))
}

/// The value of the cookie, unless there are two of that name, one of which somebody has planted.
fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(found, _)| *found == name).map(|(_, value)| value.to_owned());
    values.next().filter(|_| values.next().is_none())
}

/// Browsers take a cookie of this prefix from this very host alone, and only by https.
fn name(api: &Api, cookie: &str) -> String {
    if is_https(api) { format!("__Host-{cookie}") } else { cookie.to_owned() }
}

fn is_https(api: &Api) -> bool {
    api.config.tls.is_some() || api.public_url.starts_with("https://")
}

fn set(api: &Api, cookie: &str, value: &str, seconds: Option<i64>) -> Result<SetCookie, ApiError> {
    let secure = if is_https(api) { "; Secure" } else { "" };
    let lasts = seconds.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
    let text = format!("{}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{lasts}", name(api, cookie));
    let value = HeaderValue::try_from(text).map_err(|_| ApiError::BadToken)?;
    Ok((header::SET_COOKIE, value))
}

fn unset(api: &Api, cookie: &str) -> Result<SetCookie, ApiError> {
    set(api, cookie, "", Some(0))
}

impl From<Caller> for Me {
    fn from(caller: Caller) -> Self {
        let scopes = caller.scopes.iter().collect();
        Self { subject: caller.subject, tenant: caller.tenant.as_str().to_owned(), scopes }
    }
}
