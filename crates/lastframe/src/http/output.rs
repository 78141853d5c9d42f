//! What an attempt made, and what it said.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use lastframe_core::ports::Location;
use lastframe_core::request::DownloadBehavior;
use lastframe_core::{Output, RenderRequest, Scope};
use serde::Deserialize;
use tower::ServiceExt as _;
use tower_http::services::ServeFile;

use super::renders::owned;
use super::{Api, ApiError, Path, Query};
use crate::identity::Caller;
use crate::{digest, percent};

/// Fetch the output
///
/// Ranges and conditional requests work. `Repr-Digest` (RFC 9530) and `ETag` are the SHA-256 of the whole file as it
/// was verified: compare, and a file that was damaged since cannot pass for a good one.
#[utoipa::path(
    get, path = "/v1/renders/{id}/output", tag = "renders", security(("token" = [])),
    params(("id" = String, Path, description = "The render's id")),
    responses(
        (
            status = 200, description = "The file", body = Vec<u8>, content_type = "video/mp4",
            headers(
                ("Repr-Digest" = String, description = "`sha-256=:BASE64:`, of the whole file also where a part is sent"),
                ("ETag" = String, description = "The same in hex"),
            )
        ),
        (status = 206, description = "The part asked for", body = Vec<u8>, content_type = "video/mp4"),
        (status = 304, description = "It has not changed"),
        (status = 416, description = "The file has no such part"),
        ApiError,
    )
)]
pub(super) async fn output(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    mut request: Request,
) -> Result<Response, ApiError> {
    caller.need(Scope::RendersRead)?;
    let render = owned(&api, &caller, &id).await?;
    let Some(output) = render.output else { return Err(ApiError::NoOutput(render.status)) };
    let Some(Location::File(file)) = api.outputs.locate(&output.key).await? else {
        tracing::warn!(render.id = %render.id, key = output.key, "the output of a succeeded render is gone");
        return Err(ApiError::OutputGone);
    };
    let tag =
        HeaderValue::from_str(&format!("\"{}\"", output.sha256)).ok().filter(|_| !output.sha256.is_empty());
    if has_it(request.headers_mut(), tag.as_ref()) {
        return Ok(
            (StatusCode::NOT_MODIFIED, AppendHeaders(tag.map(|tag| (header::ETAG, tag)))).into_response()
        );
    }
    let asked_for = api.queue.request(render.id).await?.unwrap_or_default();
    let Ok(served) = ServeFile::new(file).oneshot(request).await;
    if served.status() == StatusCode::RANGE_NOT_SATISFIABLE {
        let size = [(header::CONTENT_RANGE, format!("bytes */{}", output.size_in_bytes))];
        return Ok((size, ApiError::NoSuchRange).into_response());
    }
    let mut response = served.map(Body::new).into_response();
    let headers = response.headers_mut();
    if let Ok(content_type) = HeaderValue::from_str(&output.content_type) {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    if let Ok(disposition) = HeaderValue::from_str(&disposition(&asked_for, &output)) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    if let Some(tag) = tag {
        headers.insert(header::ETAG, tag);
    }
    if let Some(digest) =
        digest::of_hex(&output.sha256).and_then(|digest| HeaderValue::from_str(&digest).ok())
    {
        headers.insert(digest::REPR_DIGEST, digest);
    }
    // It is somebody's site that drew this: no browser may take it for anything but what it is.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

/// Whether the client has the file already. Takes away what does not hold together with its other conditions (RFC 9110,
/// section 13.2.2).
pub(crate) fn has_it(headers: &mut HeaderMap, tag: Option<&HeaderValue>) -> bool {
    // A part of another file is no use. A date in its place is never sure enough.
    if headers.remove(header::IF_RANGE).is_some_and(|known| Some(&known) != tag) {
        headers.remove(header::RANGE);
    }
    let Some(known) = headers.remove(header::IF_NONE_MATCH) else { return false };
    headers.remove(header::IF_MODIFIED_SINCE);
    let (Ok(known), Some(tag)) = (known.to_str(), tag) else { return false };
    known.split(',').map(str::trim).any(|known| known == "*" || known.trim_start_matches("W/") == tag)
}

/// How a browser takes the file, and what it calls it (RFC 6266).
fn disposition(request: &RenderRequest, output: &Output) -> String {
    let (how, named) = match &request.download_behavior {
        Some(DownloadBehavior::Download { file_name }) => ("attachment", file_name.as_ref()),
        _ => ("inline", None),
    };
    let extension = output.key.rsplit_once('.').map_or("bin", |(_, extension)| extension);
    let usual = format!("{}.{extension}", request.composition);
    let name = named.or(request.out_name.as_ref()).unwrap_or(&usual);
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let ascii: String = name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%') || c == ' ' { c } else { '_' })
        .collect();
    format!("{how}; filename=\"{ascii}\"; filename*=UTF-8''{}", percent::encode(name))
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

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    #[test]
    fn a_file_name_cannot_break_out_of_its_header_or_name_a_folder() {
        let output = Output {
            key: "id/1.mp4".into(),
            size_in_bytes: 1,
            sha256: String::new(),
            content_type: "video/mp4".into(),
            frame_count: None,
            width: None,
            height: None,
            duration_in_seconds: None,
        };
        let named = |name: &str| {
            let out_name = Some(name.to_owned());
            disposition(
                &RenderRequest { composition: "main".into(), out_name, ..RenderRequest::default() },
                &output,
            )
        };
        assert_eq!(named("a.mp4"), "inline; filename=\"a.mp4\"; filename*=UTF-8''a.mp4");
        assert_eq!(named("../../etc/a"), "inline; filename=\"a\"; filename*=UTF-8''a");
        assert_eq!(
            named("x\"; b=\"y\r\n"),
            "inline; filename=\"x_; b=_y__\"; filename*=UTF-8''x%22%3B%20b%3D%22y%0D%0A"
        );
        assert_eq!(named("片.mp4"), "inline; filename=\"_.mp4\"; filename*=UTF-8''%E7%89%87.mp4");
    }

    #[test]
    fn a_client_that_has_the_file_gets_it_again_only_where_it_asks_for_another() {
        let tag = HeaderValue::from_static("\"abc\"");
        let asked = |given: &[(&'static str, &'static str)]| {
            let mut headers: HeaderMap = given
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            (has_it(&mut headers, Some(&tag)), headers.contains_key("range"))
        };
        for known in ["\"abc\"", "W/\"abc\"", "\"x\", \"abc\"", "*"] {
            assert!(asked(&[("if-none-match", known)]).0, "{known}");
        }
        for other in ["\"abd\"", "abc", ""] {
            assert!(!asked(&[("if-none-match", other), ("if-modified-since", "now")]).0, "{other}");
        }
        assert!(asked(&[("range", "bytes=0-1"), ("if-range", "\"abc\"")]).1);
        assert!(!asked(&[("range", "bytes=0-1"), ("if-range", "\"abd\"")]).1);
        assert!(!asked(&[("range", "bytes=0-1"), ("if-range", "Tue, 24 Nov 2026 00:00:00 GMT")]).1);
    }
}
