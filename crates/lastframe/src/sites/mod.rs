//! Sites: taking them in, and the files of their versions.
//!
//! Files and directory cannot change in one step. Before a version may come to be needed by nobody, that doubt is put down
//! on disk; whoever finds it, this process or the next, looks and removes what no site has.

#[cfg(feature = "stack")]
mod bring;
mod bundle;
mod look;
mod shelf;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use lastframe_core::ports::{Directory, QueueError, RemoveSiteError};
use lastframe_core::site::SiteVersion;
use lastframe_core::{Failure, TenantId};
use lastframe_worker::local::{RendererError, remote};
use tokio::sync::Mutex;
use url::Url;

#[cfg(feature = "stack")]
pub(crate) use self::bring::Bringing;
pub(crate) use self::bundle::{collect_files, content_hash};
pub(crate) use self::look::{Bundle, LocalLook, Look};
pub(crate) use self::shelf::Shelf;

/// What the name of a doubt ends with, after the version.
const DOUBT: &str = ".doubt";
/// Hex digits that a version must be abbreviated to at least.
pub(crate) const SHORTEST_VERSION: usize = 8;

/// Why a bundle was not taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    /// It is not what it should be.
    #[error("{0}")]
    Invalid(String),
    /// Remotion cannot work with it.
    #[error("{}", .0.message)]
    Remotion(Failure),
    /// Bundles are not taken in here.
    #[error("not on this queue: {0}")]
    NotHere(&'static str),
    /// There is nothing to render it with.
    #[error(transparent)]
    Renderer(RendererError),
    /// The disk failed.
    #[error("the bundle could not be stored")]
    Storage(#[from] io::Error),
    /// The directory cannot answer now.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl From<RendererError> for BundleError {
    fn from(error: RendererError) -> Self {
        match error {
            RendererError::Storage(error) => Self::Storage(error),
            error => Self::Renderer(error),
        }
    }
}

/// A version to be added.
#[derive(Debug)]
pub(crate) struct NewVersion {
    pub(crate) tenant: TenantId,
    /// Of the site.
    pub(crate) name: String,
    /// For a bundle that does not say it itself.
    pub(crate) remotion_version: Option<String>,
    /// The folder of `@remotion/renderer` that an administrator names.
    pub(crate) renderer: Option<PathBuf>,
    pub(crate) now: Timestamp,
}

/// The sites, and all that is needed to take one in.
#[derive(Clone, Debug)]
pub(crate) struct Sites {
    pub(crate) folder: PathBuf,
    pub(crate) incoming: PathBuf,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) look: Arc<dyn Look>,
    /// Has sites that nobody needs to add.
    pub(crate) shelf: Option<Arc<Shelf>>,
    pub(crate) http: reqwest::Client,
    /// Bytes of a bundle, unpacked.
    pub(crate) max_size: u64,
    /// Where sites may lie that are not uploaded.
    pub(crate) origins: Arc<[String]>,
    /// Held while files and directory change together: nobody may remove a version that another is about to name.
    pub(crate) changing: Arc<Mutex<()>>,
}

impl Sites {
    /// Clears up what an earlier process has left half done.
    ///
    /// # Errors
    /// When the disk or the directory fails.
    pub(crate) async fn recover(&self) -> anyhow::Result<()> {
        self.settle().await?;
        // What is left there was never taken in.
        std::fs::remove_dir_all(&self.incoming)?;
        std::fs::create_dir(&self.incoming)?;
        Ok(self.look.clear()?)
    }

    /// A file to receive an upload into, on the same disk as the sites.
    pub(crate) fn upload(&self) -> io::Result<tempfile::NamedTempFile> {
        tempfile::NamedTempFile::new_in(&self.incoming)
    }

    /// Unpacks a `.tar.gz` of a bundle and makes it what the name stands for.
    pub(crate) async fn add(
        &self,
        new: NewVersion,
        archive: tempfile::NamedTempFile,
    ) -> Result<SiteVersion, BundleError> {
        if !self.look.takes_uploads() {
            let instead = "bring the bundle to the bucket of Remotion Lambda (`npm run deploy`), and name its URL as `serveUrl`";
            return Err(BundleError::NotHere(instead));
        }
        let (incoming, max_size) = (self.incoming.clone(), self.max_size);
        let unpacked = tokio::task::spawn_blocking(move || -> Result<_, BundleError> {
            let folder = tempfile::tempdir_in(incoming)?;
            let size = bundle::unpack(archive.as_file(), folder.path(), max_size)?;
            Ok((folder, size))
        });
        let (folder, size) = unpacked.await.map_err(io::Error::other)??;
        self.take_in(new, folder, size, None).await
    }

    /// Makes the bundle that lies at a URL what the name stands for.
    pub(crate) async fn add_url(&self, new: NewVersion, url: &Url) -> Result<SiteVersion, BundleError> {
        let (folder, size) = self.fetch(url).await?;
        self.take_in(new, folder, size, Some(url.to_string())).await
    }

    /// What tells the version of the bundle at a URL, in a folder, and its bytes.
    async fn fetch(&self, url: &Url) -> Result<(tempfile::TempDir, u64), BundleError> {
        let files = remote::fetch(&self.http, url.as_str(), self.max_size.min(remote::MOST)).await;
        let files = files.map_err(|error| BundleError::Invalid(error.to_string()))?;
        let folder = tempfile::tempdir_in(&self.incoming)?;
        for (name, content) in remote::FILES.iter().zip(&files) {
            std::fs::write(folder.path().join(name), content)?;
        }
        Ok((folder, files.iter().map(Vec::len).sum::<usize>() as u64))
    }

    async fn take_in(
        &self,
        new: NewVersion,
        folder: tempfile::TempDir,
        size_in_bytes: u64,
        url: Option<String>,
    ) -> Result<SiteVersion, BundleError> {
        let index = std::fs::read(folder.path().join(remote::FILES[0]))?;
        let told = bundle::remotion_version(&String::from_utf8_lossy(&index));
        let remotion_version = agreed(told, new.remotion_version)?;
        let bundle = Bundle {
            folder: folder.path(),
            url: url.as_deref(),
            version: &remotion_version,
            renderer: new.renderer.as_deref(),
        };
        let compositions = self.look.compositions(bundle).await?;
        let sealed = tokio::task::spawn_blocking(move || -> io::Result<_> {
            let version = content_hash(folder.path())?;
            // The names as well as the bytes: a version that is recorded must be whole after power loss.
            rustix::fs::syncfs(File::open(folder.path())?)?;
            Ok((folder, version))
        });
        let (folder, version) = sealed.await.map_err(io::Error::other)??;
        let site = SiteVersion {
            name: new.name,
            version,
            remotion_version,
            renderer: new.renderer.map(|named| named.to_string_lossy().into_owned()),
            url,
            size_in_bytes,
            compositions,
            created_at: new.now,
        };
        let _changing = self.changing.lock().await;
        self.doubt([&site])?;
        self.keep(folder, &site.version)?;
        self.directory.put_site(&new.tenant, site.clone()).await?;
        self.settled().await;
        Ok(site)
    }

    /// Puts the files of a version where they are looked for.
    fn keep(&self, folder: tempfile::TempDir, version: &str) -> io::Result<()> {
        let target = self.folder.join(version);
        // One that is there and damaged is replaced: adding the site again mends it.
        if content_hash(&target).is_ok_and(|found| found == *version) {
            return Ok(());
        }
        if target.exists() {
            std::fs::rename(&target, self.incoming.join(version))?;
        }
        std::fs::rename(folder.keep(), &target)?;
        File::open(&self.folder)?.sync_all()
    }

    /// What a request's `serveUrl` stands for now: the name of a site, a name with a version (`name@0123abcd`), or the URL
    /// that a site was added from. Within, why it stands for nothing.
    pub(crate) async fn find(
        &self,
        tenant: &TenantId,
        serve_url: &str,
    ) -> Result<Result<SiteVersion, String>, QueueError> {
        if serve_url.starts_with("https://") || serve_url.starts_with("http://") {
            let url = match self.site_url(serve_url) {
                Ok(url) => url,
                Err(why) => return Ok(Err(why)),
            };
            if let Some(shelf) = &self.shelf {
                return shelf.take(self, tenant, &url).await;
            }
            let sites = self.directory.sites(tenant).await?;
            let found = sites.into_iter().find(|site| site.url.as_deref() == Some(url.as_str()));
            return Ok(found.ok_or_else(|| {
                format!("no site was added from this URL: add it with `lastframe site add {url} --name NAME`")
            }));
        }
        let found = match serve_url.split_once('@') {
            None => self.directory.site(tenant, serve_url).await?,
            Some((name, version)) if version.len() >= SHORTEST_VERSION => {
                let mut versions = self.directory.site_versions(tenant, name).await?;
                versions.retain(|site| site.version.starts_with(version));
                if versions.len() == 1 { versions.pop() } else { None }
            }
            Some(_) => None,
        };
        let Some(site) = found else {
            if let Some(shelf) = &self.shelf
                && let Some(url) = shelf.url_of(serve_url)
            {
                return shelf.take(self, tenant, &url).await;
            }
            let name = serve_url.split('@').next().unwrap_or_default();
            let version = if name == serve_url { "" } else { " in this version" };
            return Ok(Err(format!(
                "there is no site `{name}`{version}: add it with `lastframe site add PROJECT --name {name}`"
            )));
        };
        // What was allowed when it was added may not be any more.
        match (site.url.as_deref().map(|url| self.site_url(url)), &self.shelf) {
            (Some(Err(why)), _) => Ok(Err(why)),
            (Some(Ok(url)), Some(shelf)) if !serve_url.contains('@') => shelf.take(self, tenant, &url).await,
            _ => Ok(Ok(site)),
        }
    }

    /// The URL of a bundle, as sites have it: with a slash at its end.
    ///
    /// # Errors
    /// Why no site can lie there.
    pub(crate) fn site_url(&self, text: &str) -> Result<Url, String> {
        let shape = "must be the URL of the folder of a bundle, such as `https://bucket.example/sites/mine/`";
        let text = text.strip_suffix("index.html").unwrap_or(text);
        let mut url = Url::parse(text).map_err(|_| shape.to_owned())?;
        let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        if !matches!(url.scheme(), "http" | "https") || !plain || url.password().is_some() {
            return Err(shape.into());
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let origin = url.origin().ascii_serialization();
        if self.origins.contains(&origin) {
            return Ok(url);
        }
        Err(format!(
            "sites of {origin} are not rendered here: upload the bundle with `lastframe site add PROJECT --name NAME`, or have the \
             origin added to `sites.origins` of the server's configuration"
        ))
    }

    /// Makes the name stand for an earlier version again; none when there is no such version.
    pub(crate) async fn roll_back(
        &self,
        tenant: &TenantId,
        name: &str,
        version: &str,
    ) -> Result<Option<SiteVersion>, QueueError> {
        let _changing = self.changing.lock().await;
        let found = self.directory.site_version(tenant, name, version).await?;
        if let Some(site) = &found {
            self.directory.put_site(tenant, site.clone()).await?;
        }
        Ok(found)
    }

    /// Removes a site, or one version of it, with the files that no other site has.
    pub(crate) async fn remove(
        &self,
        tenant: &TenantId,
        name: &str,
        version: Option<&str>,
    ) -> Result<(), RemoveSiteError> {
        let _changing = self.changing.lock().await;
        let mut versions = self.directory.site_versions(tenant, name).await?;
        versions.retain(|site| version.is_none_or(|version| site.version == version));
        self.doubt(&versions).map_err(|error| QueueError::Storage(error.into()))?;
        let removed = match version {
            None => self.directory.remove_site(tenant, name).await,
            Some(version) => self.directory.remove_site_version(tenant, name, version).await,
        };
        // After a fault of the directory nobody knows what is on its disk: the next start does.
        if !matches!(removed, Err(RemoveSiteError::Queue(_))) {
            self.settled().await;
        }
        removed
    }

    /// Puts down that these versions may come to be needed by nobody.
    fn doubt<'a>(&self, versions: impl IntoIterator<Item = &'a SiteVersion>) -> io::Result<()> {
        for site in versions {
            File::create(self.incoming.join(format!("{}{DOUBT}", site.version)))?;
        }
        File::open(&self.incoming)?.sync_all()
    }

    /// Removes the files of the versions in doubt that no site has.
    async fn settle(&self) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(&self.incoming)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(version) = name.to_str().and_then(|name| name.strip_suffix(DOUBT)) else { continue };
            if !self.directory.has_version(version).await? {
                match tokio::fs::remove_dir_all(self.folder.join(version)).await {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                    _ => {}
                }
            }
            std::fs::remove_file(entry.path())?;
        }
        Ok(())
    }

    async fn settled(&self) {
        if let Err(error) = self.settle().await {
            tracing::error!(
                error = format!("{error:#}"),
                "files of sites are left over; the next start looks again"
            );
        }
    }
}

/// The Remotion version of a bundle, from what it says itself and what its sender says.
fn agreed(told: Option<String>, said: Option<String>) -> Result<String, BundleError> {
    match (told, said) {
        (Some(told), Some(said)) if told != said => Err(BundleError::Invalid(format!(
            "the bundle was made with Remotion {told}, and its sender says {said}: bring the project's Remotion packages to one version"
        ))),
        (Some(version), _) | (None, Some(version)) => Ok(version),
        (None, None) => Err(BundleError::Invalid(
            "the bundle does not say which Remotion made it: say `remotionVersion`, or bundle it again with a newer one".into(),
        )),
    }
}
