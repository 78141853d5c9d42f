//! A bundled Remotion project, in versions by content.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A composition of a site, worked out with its default props.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Composition {
    /// Its name within the site.
    pub id: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frames per second.
    pub fps: f64,
    /// Frames.
    pub duration_in_frames: u32,
    /// The props it renders with when a request brings none.
    #[serde(default)]
    pub default_props: serde_json::Value,
    /// Why nothing but its name could be worked out with these props. Sizes are 0 then; a request may bring better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One version of a site: what a name resolves to when a render is submitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SiteVersion {
    /// The site's name within its tenant.
    pub name: String,
    /// SHA-256 in hex: of the bundle's files, or, of a site at a URL, of its `index.html` and `bundle.js`.
    pub version: String,
    /// The Remotion version it was bundled with.
    pub remotion_version: String,
    /// A folder of `@remotion/renderer` on the machine of the worker that an administrator has named. Where there is
    /// none, or it has another version by now, the worker's own of [`SiteVersion::remotion_version`] renders it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renderer: Option<String>,
    /// Where it lies, with a slash at the end, when it was not uploaded: the browser fetches it from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Bytes of the unpacked bundle; of a site at a URL, of its `index.html` and `bundle.js`.
    pub size_in_bytes: u64,
    /// Its compositions.
    pub compositions: Vec<Composition>,
    /// When this version was added.
    pub created_at: Timestamp,
}

impl SiteVersion {
    /// The composition of that name.
    #[must_use]
    pub fn composition(&self, id: &str) -> Option<&Composition> {
        self.compositions.iter().find(|composition| composition.id == id)
    }

    /// The origin that its browser must be let through to, such as `https://bucket.example`; none when it was uploaded.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        let url = self.url.as_deref()?;
        let host = url.find("://")? + 3;
        Some(url[host..].find('/').map_or(url, |end| &url[..host + end]))
    }
}
