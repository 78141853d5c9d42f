//! Sites in the buckets, and signed addresses.

use std::time::Duration;

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::presigning::PresigningConfig;
use futures_util::{StreamExt as _, stream};

use crate::bucket::Bucket;
use crate::region::Partition;
use crate::{Client, Error};

/// The longest an address can be signed for, in seconds: 7 days.
const LONGEST_EXPIRY: u64 = 604_800;

/// How many sites are read at once for their version.
const READ_AT_ONCE: usize = 10;

/// Which sites are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetSitesOptions {
    /// Those in this bucket. Default: in all of Remotion's in the region.
    pub bucket_name: Option<String>,
    /// Only those of this version of Remotion. Default: all.
    pub compatible_with: Option<String>,
}

/// A site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its name.
    pub id: String,
    /// Its bucket.
    pub bucket_name: String,
    /// Its size, all files together.
    pub size_in_bytes: u64,
    /// When it was changed last, in milliseconds since 1970.
    pub last_modified: Option<i64>,
    /// What renders are started with.
    pub serve_url: String,
    /// The version of Remotion it was bundled with; `None` if it does not say.
    pub version: Option<String>,
}

/// The sites there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetSitesOutput {
    /// The sites.
    pub sites: Vec<Site>,
    /// The buckets that were looked at.
    pub buckets: Vec<Bucket>,
}

/// What is signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresignUrlOptions {
    /// The bucket.
    pub bucket_name: String,
    /// The object's key.
    pub object_key: String,
    /// How long the address is good, in seconds: 1 to 604,800, which is 7 days; shorter if the credentials end before.
    pub expires_in_seconds: u64,
    /// Whether to look first if the object is there. Default: `false`.
    pub check_if_object_exists: bool,
}

impl Client {
    /// The sites in the region.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_sites(&self, options: &GetSitesOptions) -> Result<GetSitesOutput, Error> {
        let buckets = self.buckets(options.bucket_name.as_deref()).await?;
        let owner = self.account().await?;
        let mut sites: Vec<Site> = Vec::new();
        for bucket in &buckets {
            for object in self.list_objects(&bucket.name, "sites/", owner).await? {
                let Some(id) = object.key().and_then(site_of) else { continue };
                // Objects of a site come together: the list is sorted by key.
                let last = sites.last().is_some_and(|site| site.id == id && site.bucket_name == bucket.name);
                if !last {
                    sites.push(self.site(&bucket.name, id));
                }
                let Some(site) = sites.last_mut() else { continue };
                site.size_in_bytes +=
                    object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
                let modified = object.last_modified().and_then(|date| date.to_millis().ok());
                site.last_modified = site.last_modified.max(modified);
            }
        }
        let versions = stream::iter(sites).map(|mut site| async move {
            let index = format!("sites/{}/index.html", site.id);
            // A site without a readable index is still a site.
            let html = self.read_object(&site.bucket_name, &index, Some(owner)).await.ok().flatten();
            site.version = html.and_then(|html| version_in(&String::from_utf8_lossy(&html)));
            site
        });
        let mut sites: Vec<Site> = versions.buffered(READ_AT_ONCE).collect().await;
        if let Some(version) = &options.compatible_with {
            sites.retain(|site| site.version.as_ref() == Some(version));
        }
        Ok(GetSitesOutput { sites, buckets })
    }

    /// An address that gives the object to whoever has it, for a while. `None` if the object was looked for and is not there.
    ///
    /// Signing asks nobody: whether the credentials may read the object shows when the address is used.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a time out of bounds; and see [`Error`].
    pub async fn presign_url(&self, options: &PresignUrlOptions) -> Result<Option<String>, Error> {
        let PresignUrlOptions { bucket_name, object_key, expires_in_seconds, check_if_object_exists } =
            options;
        if !(1..=LONGEST_EXPIRY).contains(expires_in_seconds) {
            let message = format!("it is {expires_in_seconds}, and must be from 1 to {LONGEST_EXPIRY}");
            return Err(Error::Invalid { option: "expiresInSeconds", message });
        }
        if *check_if_object_exists {
            match self.s3.head_object().bucket(bucket_name).key(object_key).send().await {
                Ok(_) => {}
                Err(error) if error.code() == Some("NotFound") => return Ok(None),
                Err(error) => return Err(Error::aws("s3:GetObject", &error)),
            }
        }
        let odd = |error: &dyn std::error::Error| Error::Invalid {
            option: "expiresInSeconds",
            message: error.to_string(),
        };
        let signing = PresigningConfig::expires_in(Duration::from_secs(*expires_in_seconds))
            .map_err(|error| odd(&error))?;
        let signed = self.s3.get_object().bucket(bucket_name).key(object_key).presigned(signing).await;
        let signed = signed.map_err(|error| Error::aws("s3:GetObject", &error))?;
        Ok(Some(signed.uri().to_owned()))
    }

    fn site(&self, bucket: &str, id: &str) -> Site {
        let region = self.region();
        let suffix = Partition::of(region).dns_suffix;
        Site {
            id: id.to_owned(),
            bucket_name: bucket.to_owned(),
            size_in_bytes: 0,
            last_modified: None,
            serve_url: format!("https://{bucket}.s3.{region}.{suffix}/sites/{id}/index.html"),
            version: None,
        }
    }
}

/// The site an object belongs to.
fn site_of(key: &str) -> Option<&str> {
    let (id, _) = key.strip_prefix("sites/")?.split_once('/')?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-!_.*'()".contains(&byte);
    (!id.is_empty() && id.bytes().all(allowed)).then_some(id)
}

/// What Remotion writes into the page of a site: `window.remotion_version = '4.0.527'`.
fn version_in(html: &str) -> Option<String> {
    let (_, rest) = html.split_once("window.remotion_version")?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start().strip_prefix('\'')?;
    let (version, _) = rest.split_once('\'')?;
    (!version.is_empty()).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_and_their_versions_are_found() {
        assert_eq!(site_of("sites/my-site/index.html"), Some("my-site"));
        assert_eq!(site_of("sites/a/b/c.js"), Some("a"));
        for other in ["sites/", "sites/x", "renders/x/y", "sites//index.html", "sites/ä/index.html"] {
            assert_eq!(site_of(other), None, "{other}");
        }
        assert_eq!(version_in("a; window.remotion_version = '4.0.527';").as_deref(), Some("4.0.527"));
        assert_eq!(version_in("window.remotion_version='4.0.1'").as_deref(), Some("4.0.1"));
        assert_eq!(version_in("window.remotion_version = null"), None);
    }
}
