//! Sites: bundled Remotion projects that renders name.

use std::io::Read as _;
use std::path::PathBuf;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use lastframe_core::props::Fields;
use lastframe_core::site::SiteVersion;
use lastframe_core::{FieldError, Scope};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;

use super::{Api, ApiError, Path, Query, broken_off};
use crate::identity::Caller;
use crate::sites::NewVersion;

/// Bytes of a body that names a URL.
const LONGEST_URL: u64 = 8 << 10;

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
        site.renderer = None;
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
        (status = 204, description = "Gone, with all its versions"),
        ApiError,
    )
)]
pub(super) async fn remove(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.need(Scope::SitesWrite)?;
    api.sites.remove(&caller.tenant, &name, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A version of a site, in short.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VersionView {
    /// By content, in hex.
    pub(crate) version: String,
    /// Whether the name stands for it.
    pub(crate) current: bool,
    /// When it was added.
    pub(crate) created_at: Timestamp,
    /// Bytes.
    pub(crate) size_in_bytes: u64,
    /// The Remotion version it was bundled with.
    pub(crate) remotion_version: String,
    /// Where it lies, when it was not uploaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
}

/// List the versions of a site
#[utoipa::path(
    get, path = "/v1/sites/{name}/versions", tag = "sites", security(("token" = [])),
    params(("name" = String, Path, description = "The site's name")),
    responses(
        (status = 200, description = "The last added first", body = Vec<VersionView>),
        ApiError,
    )
)]
pub(super) async fn versions(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Vec<VersionView>>, ApiError> {
    caller.need(Scope::RendersRead)?;
    let directory = &api.directory;
    let current = directory.site(&caller.tenant, &name).await?.ok_or(ApiError::NotFound("site"))?;
    let versions = directory.site_versions(&caller.tenant, &name).await?.into_iter();
    let view = |site: SiteVersion| VersionView {
        current: site.version == current.version,
        version: site.version,
        created_at: site.created_at,
        size_in_bytes: site.size_in_bytes,
        remotion_version: site.remotion_version,
        url: site.url,
    };
    Ok(Json(versions.map(view).collect()))
}

/// What the name is to stand for.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Current {
    /// A version of the site, whole.
    pub(crate) version: String,
}

/// Roll a site back
///
/// The name stands for this version from now on; renders that were accepted before keep theirs.
#[utoipa::path(
    put, path = "/v1/sites/{name}/current", tag = "sites", security(("token" = [])),
    params(("name" = String, Path, description = "The site's name")),
    request_body = Current,
    responses(
        (status = 200, description = "The current version", body = SiteVersion),
        ApiError,
    )
)]
pub(super) async fn set_current(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
    body: super::Body,
) -> Result<Json<SiteVersion>, ApiError> {
    caller.need(Scope::SitesWrite)?;
    let Current { version } = body.fields()?.into_typed()?;
    let site = api.sites.roll_back(&caller.tenant, &name, &version).await?;
    let site = site.ok_or(ApiError::NotFound("version"))?;
    tracing::info!(site = site.name, version = site.version, "site rolled back");
    Ok(Json(site))
}

/// Remove a version of a site
///
/// Refused for the current version, and while a render that is not terminal needs it.
#[utoipa::path(
    delete, path = "/v1/sites/{name}/versions/{version}", tag = "sites", security(("token" = [])),
    params(
        ("name" = String, Path, description = "The site's name"),
        ("version" = String, Path, description = "The version, whole"),
    ),
    responses(
        (status = 204, description = "Gone"),
        ApiError,
    )
)]
pub(super) async fn remove_version(
    State(api): State<Api>,
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    caller.need(Scope::SitesWrite)?;
    api.sites.remove(&caller.tenant, &name, Some(&version)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a bundle cannot say itself.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub(super) struct VersionQuery {
    /// The Remotion version it was made with; newer ones say it themselves.
    remotion_version: Option<String>,
    /// The folder of a `@remotion/renderer` on the server's machine, for administrators. Otherwise the server uses its
    /// own of the bundle's version, and installs that first if need be.
    renderer: Option<String>,
}

/// A bundle that stays where it is.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SiteUrl {
    /// The folder of the bundle, of an origin in `sites.origins` of the server's configuration.
    url: String,
}

/// Add a version of a site
///
/// The body is a `.tar.gz` of what `npx remotion bundle` made, or, as JSON, the URL where that lies. The name stands for
/// this version from now on; renders that were accepted before keep theirs.
#[utoipa::path(
    post, path = "/v1/sites/{name}/versions", tag = "sites", security(("token" = [])),
    params(("name" = String, Path, description = "The site's name"), VersionQuery),
    request_body(content((Vec<u8> = "application/gzip"), (SiteUrl = "application/json"))),
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
    let new = match checked(&api, &caller, name, query) {
        Ok(new) => new,
        Err(error) => {
            drain(body, api.config.max_bundle).await;
            return Err(error);
        }
    };
    let upload = receive(&api, body).await?;
    let site = match url_in(&upload)? {
        Some(url) => {
            let url = api.sites.site_url(&url).map_err(|why| ApiError::invalid("/url", why))?;
            api.sites.add_url(new, &url).await?
        }
        None => api.sites.add(new, upload).await?,
    };
    tracing::info!(
        site = site.name,
        version = site.version,
        remotion = site.remotion_version,
        compositions = site.compositions.len(),
        "site added"
    );
    Ok((StatusCode::CREATED, Json(site)).into_response())
}

/// What is to be added, if this caller may, by what stands outside the body.
fn checked(api: &Api, caller: &Caller, name: String, query: VersionQuery) -> Result<NewVersion, ApiError> {
    caller.need(Scope::SitesWrite)?;
    // Code that is run outside the browser.
    if query.renderer.is_some() && !caller.scopes.allow(Scope::Admin) {
        let detail =
            "needs the scope `admin`: leave it out, and the server uses its own of the bundle's version";
        return Err(ApiError::Forbidden(Scope::Admin, vec![FieldError::new("/renderer", detail)]));
    }
    if !is_name(&name) {
        return Err(ApiError::invalid(
            "/name",
            "must have 1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit",
        ));
    }
    let renderer = query.renderer.map(PathBuf::from);
    if renderer.as_ref().is_some_and(|renderer| !renderer.is_absolute()) {
        return Err(ApiError::invalid("/renderer", "must be an absolute path"));
    }
    let (tenant, now) = (caller.tenant.clone(), api.clock.now());
    Ok(NewVersion { tenant, name, remotion_version: query.remotion_version, renderer, now })
}

/// Reads a body away: most clients look for an answer only when they have sent it all.
async fn drain(body: Body, most: u64) {
    let (mut chunks, mut left) = (body.into_data_stream(), most);
    while let Some(Ok(chunk)) = chunks.next().await {
        match left.checked_sub(chunk.len() as u64) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

async fn receive(api: &Api, body: Body) -> Result<tempfile::NamedTempFile, ApiError> {
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
    Ok(upload)
}

/// The URL in an upload that is JSON: as everywhere, the content type does not matter.
fn url_in(upload: &tempfile::NamedTempFile) -> Result<Option<String>, ApiError> {
    let mut start = Vec::new();
    upload.reopen()?.take(LONGEST_URL).read_to_end(&mut start)?;
    if start.first() != Some(&b'{') {
        return Ok(None);
    }
    let SiteUrl { url } = Fields::read(&start)?.into_typed()?;
    Ok(Some(url))
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}
