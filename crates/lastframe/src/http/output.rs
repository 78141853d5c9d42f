//! What an attempt made, and what it said.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lastframe_core::disposition::{disposition, saved_as};
use lastframe_core::{Output, Render, Scope};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::range::{self, Answer, Part};
use super::renders::owned;
use super::{Api, ApiError, Path, Query};
use crate::digest;
use crate::identity::Caller;

/// How long a URL of the storage is good: a player may ask it for one part after another.
const REDIRECT_LIFE: Duration = Duration::from_secs(60 * 60);

/// How the output is fetched.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct OutputQuery {
    /// 1 lets a browser save what it would show.
    download: Option<u8>,
}

/// Fetch the output
///
/// Ranges and conditional requests work. `Repr-Digest` (RFC 9530) and `ETag` are the SHA-256 of the whole file as it
/// was verified: compare, and a file that was damaged since cannot pass for a good one.
#[utoipa::path(
    get, path = "/v1/renders/{id}/output", tag = "renders", security(("token" = [])),
    params(("id" = String, Path, description = "The render's id"), OutputQuery),
    responses(
        (
            status = 200, description = "The file", body = Vec<u8>, content_type = "video/mp4",
            headers(
                ("Repr-Digest" = String, description = "`sha-256=:BASE64:`, of the whole file also where a part is sent"),
                ("ETag" = String, description = "The same in hex"),
            )
        ),
        (status = 206, description = "The part asked for", body = Vec<u8>, content_type = "video/mp4"),
        (status = 302, description = "Where the storage has it, for the next hour and without a token"),
        (status = 304, description = "It has not changed"),
        (status = 416, description = "The file has no such part"),
        ApiError,
    )
)]
pub(super) async fn output(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<OutputQuery>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    caller.need(Scope::RendersRead)?;
    let render = owned(&api, &caller, &id).await?;
    let told = if query.download == Some(1) { Told::Saved } else { Told::AsAskedFor };
    send(&api, &render, Asked { method, headers, told, valid: REDIRECT_LIFE }).await
}

/// What a browser is told to do with an output.
pub(super) enum Told {
    /// What the request for the render says.
    AsAskedFor,
    /// To save it.
    Saved,
    /// To save it under this name.
    SavedAs(String),
}

/// How somebody who may have an output asks for it.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) told: Told,
    /// How long it may be had.
    pub(super) valid: Duration,
}

/// Sends the output, or what of it was asked for, or where it is.
pub(super) async fn send(api: &Api, render: &Render, asked: Asked) -> Result<Response, ApiError> {
    let output = render.output.as_ref().ok_or(ApiError::NoOutput(render.status))?;
    if output.deleted_at().is_some() {
        return Err(ApiError::OutputGone);
    }
    let size = output.size_in_bytes;
    let mut headers = described(output);
    let part = match range::answer(&asked.headers, headers.get(header::ETAG), size) {
        Answer::Unchanged => {
            headers.remove(header::CONTENT_TYPE);
            return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
        }
        Answer::Part(Part::Nowhere) => {
            return Ok(
                ([(header::CONTENT_RANGE, format!("bytes */{size}"))], ApiError::NoSuchRange).into_response()
            );
        }
        Answer::Part(Part::Bytes(bytes)) => Some(bytes),
        Answer::Part(Part::Whole) => None,
    };
    let disposition = match asked.told {
        Told::SavedAs(name) => saved_as(&name),
        told => {
            let request = api.queue.request(render.id).await?.unwrap_or_default();
            disposition(&request, &output.key, matches!(told, Told::Saved))
        }
    };
    let is_head = asked.method == Method::HEAD;
    // A URL that is signed is good for one method.
    if !is_head {
        let valid = asked.valid.min(REDIRECT_LIFE);
        let link = api.outputs.link(output, &disposition, valid).await.map_err(ApiError::StorageAway)?;
        if let Some(location) = link.and_then(|link| HeaderValue::try_from(link).ok()) {
            let headers = [
                (header::LOCATION, location),
                (header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")),
            ];
            return Ok((StatusCode::FOUND, headers).into_response());
        }
    }
    if let Ok(disposition) = HeaderValue::try_from(disposition) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    let bytes = part.clone().unwrap_or(0..size);
    headers.insert(header::CONTENT_LENGTH, (bytes.end - bytes.start).into());
    let range = if is_head { 0..0 } else { bytes.clone() };
    let Some(stream) = api.outputs.read(&output.key, range).await.map_err(ApiError::StorageAway)? else {
        tracing::warn!(render.id = %render.id, key = output.key, "the output of a succeeded render is gone");
        return Err(ApiError::OutputGone);
    };
    let body = if is_head { Body::empty() } else { Body::from_stream(stream) };
    if part.is_none() {
        return Ok((headers, body).into_response());
    }
    let range = format!("bytes {}-{}/{size}", bytes.start, bytes.end - 1);
    Ok((StatusCode::PARTIAL_CONTENT, headers, [(header::CONTENT_RANGE, range)], body).into_response())
}

/// What is true of an output however it is sent.
fn described(output: &Output) -> HeaderMap {
    let digest = digest::of_hex(&output.sha256);
    let tag = digest.is_some().then(|| format!("\"{}\"", output.sha256));
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (header::CONTENT_TYPE, Some(output.content_type.clone())),
        (header::ACCEPT_RANGES, Some("bytes".into())),
        (header::ETAG, tag),
        (digest::REPR_DIGEST, digest),
        // It is somebody's site that drew this: no browser may take it for anything but what it is.
        (header::X_CONTENT_TYPE_OPTIONS, Some("nosniff".into())),
        (header::CACHE_CONTROL, Some("private, no-cache".into())),
    ] {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
    headers
}

/// Fetch the poster
///
/// A frame of the output as a small JPEG, at most 640 pixels wide: the one in the middle of a video. It goes with the
/// output. A sound and a PDF have none.
#[utoipa::path(
    get, path = "/v1/renders/{id}/poster", tag = "renders", security(("token" = [])),
    params(("id" = String, Path, description = "The render's id")),
    responses(
        (status = 200, description = "The picture", body = Vec<u8>, content_type = "image/jpeg"),
        (status = 304, description = "It has not changed"),
        ApiError,
    )
)]
pub(super) async fn poster(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    caller.need(Scope::RendersRead)?;
    let render = owned(&api, &caller, &id).await?;
    let output = render.output.as_ref().ok_or(ApiError::NoOutput(render.status))?;
    if output.deleted_at().is_some() {
        return Err(ApiError::OutputGone);
    }
    let poster = api.outputs.poster(&output.key).await?.ok_or(ApiError::NoPoster)?;
    let tag =
        HeaderValue::try_from(format!("\"{:x}\"", Sha256::digest(&poster))).map_err(anyhow::Error::new)?;
    let is_known = range::answer(&headers, Some(&tag), 0) == Answer::Unchanged;
    let described = [
        (header::ETAG, tag),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    if is_known {
        return Ok((StatusCode::NOT_MODIFIED, described).into_response());
    }
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"))], described, poster).into_response())
}

/// Which log.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LogQuery {
    /// Of this attempt only; of all by default.
    attempt: Option<u32>,
}

/// Read the log
///
/// What the browser, Remotion and the worker said, attempt by attempt.
#[utoipa::path(
    get, path = "/v1/renders/{id}/log", tag = "renders", security(("token" = [])),
    params(("id" = String, Path, description = "The render's id"), LogQuery),
    responses(
        (status = 200, description = "The log", body = String, content_type = "text/plain"),
        ApiError,
    )
)]
pub(super) async fn log(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<LogQuery>,
) -> Result<Response, ApiError> {
    caller.need(Scope::RendersRead)?;
    let render = owned(&api, &caller, &id).await?;
    if api.logs.are_aloud() {
        return Err(ApiError::NotHere("CloudWatch has the logs: `lastframe aws logs`"));
    }
    let attempts = match query.attempt {
        Some(attempt) if (1..=render.leases).contains(&attempt) => attempt..=attempt,
        Some(_) => return Err(ApiError::NotFound("attempt")),
        None => 1..=render.leases,
    };
    let mut text = Vec::new();
    for attempt in attempts {
        text.extend_from_slice(format!("--- attempt {attempt}\n").as_bytes());
        match tokio::fs::read(api.logs.path(render.id, attempt)).await {
            Ok(log) => text.extend_from_slice(&log),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                text.extend_from_slice(b"(nothing)\n");
            }
            Err(error) => return Err(error.into()),
        }
    }
    let headers =
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok((headers, text).into_response())
}
