//! Sites: bundled Remotion projects that renders name.

use std::path::PathBuf;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use lastframe_core::site::SiteVersion;
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;

use lastframe_core::Scope;

use super::{Api, ApiError, Path, Query, broken_off};
use crate::identity::Caller;

/// List sites
#[utoipa::path(
    get, path = "/v1/sites", tag = "sites", security(("token" = [])),
    responses(
        (status = 200, description = "Each in its current version", body = Vec<SiteVersion>),
        ApiError,
    )
)]
pub(super) async fn list(State(api): State<Api>, caller: Caller) -> Result<Json<Vec<SiteVersion>>, ApiError> {
    caller.need(Scope::RendersRead)?;
    let sites = api.directory.sites(&caller.tenant).await?;
    Ok(Json(sites.into_iter().map(|site| shown(site, &caller)).collect()))
}

/// Look at a site
#[utoipa::path(
    get, path = "/v1/sites/{name}", tag = "sites", security(("token" = [])),
    params(("name" = String, Path, description = "The site's name")),
    responses(
        (status = 200, description = "Its current version", body = SiteVersion),
        ApiError,
    )
)]
pub(super) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<SiteVersion>, ApiError> {
    caller.need(Scope::RendersRead)?;
    let site = api.directory.site(&caller.tenant, &name).await?.ok_or(ApiError::NotFound("site"))?;
    Ok(Json(shown(site, &caller)))
}

/// Where things are on the server's machine is the admin's business.
fn shown(mut site: SiteVersion, caller: &Caller) -> SiteVersion {
    if !caller.scopes.allow(Scope::Admin) {
        site.renderer.clear();
    }
    site
}

/// Remove a site
///
/// Refused while a render that is not terminal needs it.
#[utoipa::path(
    delete, path = "/v1/sites/{name}", tag = "sites", security(("token" = [])),
    params(("name" = String, Path, description = "The site's name")),
    responses(
        (status = 204, description = "Gone"),
        ApiError,
    )
)]
pub(super) async fn remove(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.need(Scope::SitesWrite)?;
    let _changing = api.sites.changing().await;
    let unused = api.directory.remove_site(&caller.tenant, &name).await?;
    api.sites.remove(&unused).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the bundle cannot say itself.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct VersionQuery {
    /// The folder of the project's `@remotion/renderer`, on the server's machine.
    renderer: String,
}

/// Upload a version of a site
///
/// The body is a `.tar.gz` of what `npx remotion bundle` made. The name stands for this version from now on; renders
/// that were accepted before keep theirs.
#[utoipa::path(
    post, path = "/v1/sites/{name}/versions", tag = "sites", security(("token" = [])),
    params(("name" = String, Path, description = "The site's name"), VersionQuery),
    request_body(content = Vec<u8>, content_type = "application/gzip"),
    responses(
        (status = 201, description = "Taken in", body = SiteVersion),
        ApiError,
    )
)]
pub(super) async fn add_version(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<VersionQuery>,
    body: Body,
) -> Result<Response, ApiError> {
    // The renderer is code that the worker runs outside the browser.
    caller.need(Scope::Admin)?;
    if !is_name(&name) {
        return Err(ApiError::invalid(
            "/name",
            "must have 1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit",
        ));
    }
    let renderer = PathBuf::from(query.renderer);
    if !renderer.is_absolute() {
        return Err(ApiError::invalid("/renderer", "must be an absolute path"));
    }
    let upload = api.sites.upload()?;
    let mut file = tokio::fs::File::from_std(upload.reopen()?);
    let (mut chunks, mut size) = (body.into_data_stream(), 0);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| broken_off(&error))?;
        size += chunk.len() as u64;
        if size > api.config.max_bundle {
            return Err(ApiError::TooLarge(api.config.max_bundle));
        }
        file.write_all(&chunk).await?;
    }
    file.flush().await?;
    let _changing = api.sites.changing().await;
    let site = api.sites.take_in(name, upload, renderer, api.clock.now()).await?;
    api.directory.put_site(&caller.tenant, site.clone()).await?;
    tracing::info!(
        site = site.name,
        version = site.version,
        compositions = site.compositions.len(),
        "site added"
    );
    Ok((StatusCode::CREATED, Json(site)).into_response())
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}
