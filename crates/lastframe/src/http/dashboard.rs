//! The dashboard: pages for people, made of nothing but the API. Its files are in `crates/lastframe/dashboard/`, and are
//! part of the program.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use lastframe_core::hex;
use sha2::{Digest as _, Sha256};

use super::{Api, ApiError, Path};
use crate::config::{Config, LambdaFunction};

const JS: &str = "text/javascript; charset=utf-8";
const INDEX: &str = include_str!("../../dashboard/index.html");
/// What stands in the page for the folder of the files.
const FOLDER: &str = "{{assets}}";

macro_rules! assets {
    ($($name:literal: $kind:expr,)+) => {
        /// Each file, its media type and what is in it.
        const ASSETS: &[(&str, &str, &[u8])] =
            &[$(($name, $kind, include_bytes!(concat!("../../dashboard/", $name)))),+];
    };
}

assets! {
    "app.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "theme.js": JS,
    "app.js": JS,
    "api.js": JS,
    "chart.js": JS,
    "dom.js": JS,
    "format.js": JS,
    "live.js": JS,
    "parts.js": JS,
    "view-failed.js": JS,
    "view-groups.js": JS,
    "view-new.js": JS,
    "view-queue.js": JS,
    "view-render.js": JS,
    "view-renders.js": JS,
    "view-sign-in.js": JS,
}

/// The page and its files, which anybody may have: there is nothing in them that is anybody's.
pub(super) fn router(api: &Api) -> Router<Api> {
    let mut hash = Sha256::new();
    for (name, _, bytes) in ASSETS {
        hash.update(name);
        hash.update(bytes);
    }
    let version: Arc<str> = hex::encode(&hash.finalize()[..8]).into();
    let index = Bytes::from(INDEX.replace(FOLDER, &format!("assets/{version}")));
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&index)[..8]));
    let page = Page { index, tag, policy: policy(&origins(&api.config)) };
    let page = Arc::new(page);
    Router::new().route("/", get(async move |headers: HeaderMap| page.answer(&headers))).route(
        "/assets/{version}/{file}",
        get(async move |_: State<Api>, Path((asked, file)): Path<(String, String)>| {
            // Of another version there is nothing: what is kept for ever must never have been wrong.
            let found = ASSETS.iter().find(|(name, _, _)| *version == *asked && *name == file);
            let (_, kind, bytes) = found.ok_or(ApiError::NotFound("file"))?;
            let headers = [
                (header::CONTENT_TYPE, *kind),
                (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ];
            Ok::<_, ApiError>((headers, *bytes))
        }),
    )
}

struct Page {
    index: Bytes,
    tag: String,
    policy: String,
}

impl Page {
    fn answer(&self, headers: &HeaderMap) -> Response {
        let mut answer = HeaderMap::new();
        for (name, value) in [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            // Kept, and asked about each time.
            (header::CACHE_CONTROL, "no-cache"),
            (header::ETAG, &self.tag),
            (header::CONTENT_SECURITY_POLICY, &self.policy),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                answer.insert(name, value);
            }
        }
        let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
        if known
            .is_some_and(|tags| tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == self.tag))
        {
            answer.remove(header::CONTENT_TYPE);
            return (StatusCode::NOT_MODIFIED, answer).into_response();
        }
        (answer, self.index.clone()).into_response()
    }
}

/// Where whoever asks for an output may be sent.
fn origins(config: &Config) -> Vec<String> {
    let of_lambda = |function: &LambdaFunction| {
        let bucket = function.bucket.as_deref().unwrap_or("*");
        format!("https://{bucket}.s3.{}.amazonaws.com", function.region)
    };
    config.storage.origins().into_iter().chain(config.lambda.functions.iter().map(of_lambda)).collect()
}

/// What the page may do: ask this server, and show what it or its storage has.
fn policy(storage: &[String]) -> String {
    let media =
        std::iter::once("'self'").chain(storage.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src {media} data:; media-src {media}; \
         connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served_and_no_other() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboard");
        let mut there: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains('.') && name != "index.html" && !name.ends_with(".json"))
            .collect();
        let mut served: Vec<_> = ASSETS.iter().map(|(name, _, _)| (*name).to_owned()).collect();
        there.sort();
        served.sort();
        assert_eq!(there, served);
        assert!(INDEX.contains(FOLDER));
    }

    #[test]
    fn media_may_come_from_the_storage_and_scripts_may_not() {
        let policy = policy(&["https://s3.example.com".to_owned()]);
        assert!(policy.contains("media-src 'self' https://s3.example.com;"), "{policy}");
        assert!(policy.contains("script-src 'self';"), "{policy}");
    }
}
