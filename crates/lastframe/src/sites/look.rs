//! Looking into bundles: what is in them, by a Remotion of their version.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use lastframe_core::site::Composition;
use lastframe_worker::local::{LocalRenderer, Renderers, Sidecars, version_of};

use super::BundleError;

/// A bundle that is to be looked into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bundle<'a> {
    /// Where its files are; of one at a URL, those that tell its version.
    pub(crate) folder: &'a Path,
    /// Where it lies, when it was not uploaded.
    pub(crate) url: Option<&'a str>,
    /// The Remotion it was made with.
    pub(crate) version: &'a str,
    /// The folder of `@remotion/renderer` that an administrator names.
    pub(crate) renderer: Option<&'a Path>,
}

/// Looks into bundles.
#[async_trait]
pub(crate) trait Look: Debug + Send + Sync {
    /// The compositions of a bundle; none where nobody here can tell.
    async fn compositions(&self, bundle: Bundle<'_>) -> Result<Vec<Composition>, BundleError>;

    /// Whether it can look into one that was uploaded.
    fn takes_uploads(&self) -> bool;

    /// Clears up what an earlier process has left.
    fn clear(&self) -> io::Result<()>;

    /// The browsers that it keeps; none where it keeps none.
    fn sidecars(&self) -> Option<Sidecars>;
}

/// Looks into bundles with the renderer of this machine.
#[derive(Debug)]
pub(crate) struct LocalLook {
    pub(crate) renderer: Arc<LocalRenderer>,
    pub(crate) renderers: Arc<Renderers>,
}

#[async_trait]
impl Look for LocalLook {
    async fn compositions(&self, bundle: Bundle<'_>) -> Result<Vec<Composition>, BundleError> {
        let renderer = match bundle.renderer {
            Some(named) => fitting(named, bundle.version)?,
            None => self.renderers.obtain(bundle.version).await?,
        };
        // Looked into where it was unpacked: a bundle that is refused goes with its folder.
        let compositions = self.renderer.compositions(bundle.folder, bundle.url, &renderer).await;
        compositions.map_err(BundleError::Remotion)
    }

    fn takes_uploads(&self) -> bool {
        true
    }

    fn clear(&self) -> io::Result<()> {
        self.renderers.clear()
    }

    fn sidecars(&self) -> Option<Sidecars> {
        Some(self.renderer.sidecars())
    }
}

/// The named folder of `@remotion/renderer`, if it is one of that version.
fn fitting(named: &Path, version: &str) -> Result<PathBuf, BundleError> {
    match version_of(named) {
        Some(found) if found == version => Ok(named.to_owned()),
        Some(found) => Err(BundleError::Invalid(format!(
            "the bundle was made with Remotion {version}, and {} has version {found}: bring the project's Remotion packages to one \
             version, and bundle it again",
            named.display()
        ))),
        None => Err(BundleError::Invalid(format!(
            "{} is no folder of @remotion/renderer on the server's machine: leave `renderer` out, and the server uses its own",
            named.display()
        ))),
    }
}
