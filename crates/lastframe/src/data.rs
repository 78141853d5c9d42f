//! The data folder: who may see it, what it is called inside, and that one server alone has it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// An open data folder. While it lives, no other server can have it.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Makes the folder if it is missing, for this user alone, and takes it.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the data folder {}", path.display()))?;
        let path =
            path.canonicalize().with_context(|| format!("cannot open the data folder {}", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(path.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                anyhow::bail!(
                    "another lastframe server has the data folder {}: stop it, or use another --data",
                    path.display()
                )
            }
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the data folder"),
        }
        for name in ["sites", "renderers", "outputs", "logs", "incoming"] {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path.join(name))?;
        }
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The secret in that file, or a new one, which only this user can read.
    pub(crate) fn secret(
        &self,
        name: &str,
        make: impl FnOnce() -> anyhow::Result<String>,
    ) -> anyhow::Result<String> {
        let path = self.join(name);
        match std::fs::read_to_string(&path) {
            Ok(secret) => Ok(secret),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let secret = make()?;
                self.write_secret(name, &secret)?;
                Ok(secret)
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes a file that only this user can read, whole or not at all.
    pub(crate) fn write_secret(&self, name: &str, text: &str) -> anyhow::Result<()> {
        write_private(&self.join(name), text)
    }

    /// Tells commands on this machine where the server is.
    pub(crate) fn announce(&self, url: &str) -> anyhow::Result<()> {
        self.write_secret(ADDRESS, url)
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        // It may never have been announced.
        drop(std::fs::remove_file(self.join(ADDRESS)));
    }
}

/// Writes a file that only this user can read, whole or not at all. On disk when it returns.
pub(crate) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(io::Error::from)?;
        File::open(folder)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Where a server announces its URL.
const ADDRESS: &str = "address";
/// The admin token's file.
pub(crate) const ADMIN_TOKEN: &str = "admin-token";

/// The URL that the server of that data folder has announced.
pub(crate) fn announced(data: &Path) -> Option<String> {
    std::fs::read_to_string(data.join(ADDRESS)).ok().map(|url| url.trim().to_owned())
}

/// The admin token of that data folder, for commands of the same user.
pub(crate) fn admin_token(data: &Path) -> Option<String> {
    std::fs::read_to_string(data.join(ADMIN_TOKEN)).ok().map(|token| token.trim().to_owned())
}
