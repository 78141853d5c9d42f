//! Sites that lie in one bucket and need not be added: whoever names one gets it as it lies there.
//!
//! What tells its version is fetched at each submit, so that what is checked is what will be rendered. A version that is new is
//! looked into and put into the directory like one that somebody added.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lastframe_core::ports::QueueError;
use lastframe_core::site::SiteVersion;
use lastframe_core::{Clock, TenantId};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use url::Url;

use super::{BundleError, NewVersion, Sites, content_hash};

/// How long what was seen at a URL is taken for what is there.
const FRESH: Duration = Duration::from_secs(10);
/// URLs that are remembered; with more, all are looked at again.
const MOST: usize = 1_000;

/// The bucket, and what was seen in it.
#[derive(Debug)]
pub(crate) struct Shelf {
    /// What the names of its sites stand below, with a slash at its end.
    base: Option<Url>,
    clock: Arc<dyn Clock>,
    seen: Mutex<HashMap<(TenantId, String), (Instant, SiteVersion)>>,
}

impl Shelf {
    pub(crate) fn new(base: Option<Url>, clock: Arc<dyn Clock>) -> Self {
        Self { base, clock, seen: Mutex::default() }
    }

    /// Where the site of that name lies, as Remotion has it.
    pub(super) fn url_of(&self, name: &str) -> Option<Url> {
        let plain = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            && !name.starts_with('.');
        self.base.as_ref().filter(|_| plain)?.join(&format!("{name}/")).ok()
    }

    /// The version that lies at the URL now. Within, why there is none.
    pub(super) async fn take(
        &self,
        sites: &Sites,
        tenant: &TenantId,
        url: &Url,
    ) -> Result<Result<SiteVersion, String>, QueueError> {
        let key = (tenant.clone(), url.to_string());
        if let Some((at, site)) = self.seen().get(&key)
            && at.elapsed() < FRESH
        {
            return Ok(Ok(site.clone()));
        }
        match self.look(sites, tenant, url).await {
            Ok(site) => {
                let mut seen = self.seen();
                if seen.len() >= MOST {
                    seen.clear();
                }
                seen.insert(key, (Instant::now(), site.clone()));
                Ok(Ok(site))
            }
            Err(BundleError::Queue(error)) => Err(error),
            // Whoever looks into it has no time now.
            Err(BundleError::Remotion(failure)) if failure.retryable => {
                tracing::warn!(%url, %failure, "a site cannot be looked into now");
                Err(QueueError::Busy)
            }
            Err(BundleError::Storage(error)) => Err(QueueError::Storage(error.into())),
            Err(why) => Ok(Err(why.to_string())),
        }
    }

    async fn look(&self, sites: &Sites, tenant: &TenantId, url: &Url) -> Result<SiteVersion, BundleError> {
        let (folder, size) = sites.fetch(url).await?;
        let version = content_hash(folder.path())?;
        let name = name_of(url);
        if let Some(known) = sites.directory.site_version(tenant, &name, &version).await?
            && known.url.as_deref() == Some(url.as_str())
        {
            return Ok(known);
        }
        let new = NewVersion {
            tenant: tenant.clone(),
            name,
            remotion_version: None,
            renderer: None,
            now: self.clock.now(),
        };
        sites.take_in(new, folder, size, Some(url.to_string())).await
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, HashMap<(TenantId, String), (Instant, SiteVersion)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a site at a URL is called: what its folder is called, and something that no other URL has.
fn name_of(url: &Url) -> String {
    let folder = url.path_segments().into_iter().flatten().rfind(|part| !part.is_empty());
    let kept = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
    let folder: String = folder.unwrap_or("site").chars().filter(kept).take(48).collect();
    let folder = folder.trim_start_matches(['.', '-', '_']);
    let digest = Sha256::digest(url.as_str());
    let mark = lastframe_core::hex::encode(&digest[..4]);
    format!("{}-{mark}", if folder.is_empty() { "site" } else { folder })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_for_in_the_bucket_alone_and_urls_have_names_of_their_own() {
        let shelf = |base: Option<Url>| Shelf::new(base, Arc::new(lastframe_core::SystemClock::new()));
        let nowhere = shelf(None);
        let shelf = shelf(Some("https://b.s3.eu-central-1.amazonaws.com/sites/".parse().unwrap()));
        let url = shelf.url_of("my-video").unwrap();
        assert_eq!(url.as_str(), "https://b.s3.eu-central-1.amazonaws.com/sites/my-video/");
        for odd in ["", "..", "a/b", "a@b", "//x", "a?b"] {
            assert_eq!(shelf.url_of(odd), None, "{odd}");
        }
        assert_eq!(nowhere.url_of("my-video"), None);
        assert!(name_of(&url).starts_with("my-video-"));
        let other: Url = "https://c.s3.eu-central-1.amazonaws.com/sites/my-video/".parse().unwrap();
        assert_ne!(name_of(&other), name_of(&url));
        assert!(name_of(&"https://c.example/".parse().unwrap()).starts_with("site-"));
    }
}
