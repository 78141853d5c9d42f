//! Taking in a site: unpacking its bundle, naming it by content, finding its compositions.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use flate2::read::GzDecoder;
use jiff::Timestamp;
use lastframe_core::Failure;
use lastframe_core::site::SiteVersion;
use lastframe_worker::local::LocalRenderer;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, MutexGuard};

/// Files and folders in a bundle; Remotion's own have a few dozen.
const MOST_ENTRIES: usize = 20_000;
/// Bytes of a path in a bundle.
const LONGEST_PATH: u64 = 4_096;

/// Why a bundle was not taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    /// It is not what it should be.
    #[error("{0}")]
    Invalid(String),
    /// Remotion cannot work with it.
    #[error("{}", .0.message)]
    Remotion(Failure),
    /// The disk failed.
    #[error("the bundle could not be stored")]
    Storage(#[from] io::Error),
}

/// The folder of sites, and what looks into them.
#[derive(Clone, Debug)]
pub(crate) struct Sites {
    folder: PathBuf,
    incoming: PathBuf,
    renderer: Arc<LocalRenderer>,
    max_size: u64,
    changing: Arc<Mutex<()>>,
}

impl Sites {
    /// Empties `incoming`: what a crash left there was never taken in.
    pub(crate) fn open(
        folder: PathBuf,
        incoming: PathBuf,
        renderer: Arc<LocalRenderer>,
        max_size: u64,
    ) -> io::Result<Self> {
        std::fs::remove_dir_all(&incoming)?;
        std::fs::create_dir(&incoming)?;
        Ok(Self { folder, incoming, renderer, max_size, changing: Arc::default() })
    }

    /// Held while files and directory change together: nobody may remove a version that another is about to name.
    pub(crate) async fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// A file to receive an upload into, on the same disk as the sites.
    pub(crate) fn upload(&self) -> io::Result<tempfile::NamedTempFile> {
        tempfile::NamedTempFile::new_in(&self.incoming)
    }

    /// Unpacks a `.tar.gz` of a bundle and works out its compositions.
    pub(crate) async fn take_in(
        &self,
        name: String,
        archive: tempfile::NamedTempFile,
        renderer: PathBuf,
        now: Timestamp,
    ) -> Result<SiteVersion, BundleError> {
        let remotion_version = renderer_version(&renderer)?;
        let (incoming, sites, max_size) = (self.incoming.clone(), self.folder.clone(), self.max_size);
        let unpacked = tokio::task::spawn_blocking(move || -> Result<_, BundleError> {
            let folder = tempfile::tempdir_in(incoming)?;
            let size = unpack(archive.as_file(), folder.path(), max_size)?;
            let version = content_hash(folder.path())?;
            // The names as well as the bytes: a version that is recorded must be whole after power loss.
            rustix::fs::syncfs(File::open(folder.path())?).map_err(io::Error::from)?;
            Ok((folder, version, size))
        });
        let (folder, version, size_in_bytes) = unpacked.await.map_err(io::Error::other)??;
        // Looked into where it was unpacked: a bundle that is refused goes with its folder.
        let compositions = self.renderer.compositions(folder.path(), &renderer).await;
        let compositions = compositions.map_err(BundleError::Remotion)?;
        let target = sites.join(&version);
        // One that is there and damaged is replaced: adding the site again mends it.
        if content_hash(&target).ok().as_ref() != Some(&version) {
            if target.exists() {
                std::fs::rename(&target, self.incoming.join(&version))?;
            }
            std::fs::rename(folder.keep(), &target)?;
            File::open(&sites)?.sync_all()?;
        }
        let renderer = renderer.to_string_lossy().into_owned();
        Ok(SiteVersion {
            name,
            version,
            remotion_version,
            renderer,
            size_in_bytes,
            compositions,
            created_at: now,
        })
    }

    /// Removes the files of versions that no site uses any more.
    pub(crate) async fn remove(&self, versions: &[String]) -> io::Result<()> {
        for version in versions {
            match tokio::fs::remove_dir_all(self.folder.join(version)).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The version that a folder of `@remotion/renderer` says it has.
fn renderer_version(folder: &Path) -> Result<String, BundleError> {
    let invalid = || {
        BundleError::Invalid(format!(
            "{} is no folder of @remotion/renderer on the server's machine: install the project's packages and add the site there",
            folder.display()
        ))
    };
    let package = std::fs::read(folder.join("package.json")).map_err(|_| invalid())?;
    let package: serde_json::Value = serde_json::from_slice(&package).map_err(|_| invalid())?;
    match (package["name"].as_str(), package["version"].as_str()) {
        (Some("@remotion/renderer"), Some(version)) => Ok(version.to_owned()),
        _ => Err(invalid()),
    }
}

/// Unpacks plain files and folders only, and no more than `max_size` bytes of them.
fn unpack(archive: &File, into: &Path, max_size: u64) -> Result<u64, BundleError> {
    let mut archive = tar::Archive::new(GzDecoder::new(io::BufReader::new(archive)));
    let (mut size, mut entries) = (0, 0);
    let mut long_name = None;
    // Raw, because the library would read a long name into memory however long it says it is.
    for entry in archive.entries().map_err(broken)?.raw(true) {
        let mut entry = entry.map_err(broken)?;
        let kind = entry.header().entry_type();
        if kind == tar::EntryType::GNULongName {
            let mut name = Vec::new();
            entry.take(LONGEST_PATH).read_to_end(&mut name).map_err(broken)?;
            long_name = Some(PathBuf::from(String::from_utf8_lossy(&name).trim_end_matches('\0')));
            continue;
        }
        let path = match long_name.take() {
            Some(path) => path,
            None => entry.path().map_err(broken)?.into_owned(),
        };
        if !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(BundleError::Invalid(format!("the path {} leads out of the bundle", path.display())));
        }
        size += entry.size();
        entries += 1;
        if size > max_size || entries > MOST_ENTRIES {
            let limits =
                format!("the bundle is larger than {max_size} bytes (max_bundle) or {MOST_ENTRIES} files");
            return Err(BundleError::Invalid(limits));
        }
        let target = into.join(&path);
        let made = match kind {
            tar::EntryType::Directory => std::fs::create_dir_all(&target),
            tar::EntryType::Regular => write(&target, &mut entry),
            other => {
                let what = format!("{} is neither file nor folder but {other:?}", path.display());
                return Err(BundleError::Invalid(what));
            }
        };
        made.map_err(|error| at(&path, error))?;
    }
    if !into.join("index.html").is_file() {
        return Err(BundleError::Invalid(
            "no index.html at its top: make it with `npx remotion bundle`".into(),
        ));
    }
    Ok(size)
}

fn write(target: &Path, content: &mut impl Read) -> io::Result<()> {
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut file = File::create(target)?;
    io::copy(content, &mut file)?;
    file.sync_all()
}

#[expect(clippy::needless_pass_by_value, reason = "it is what an error is mapped by")]
fn broken(error: io::Error) -> BundleError {
    BundleError::Invalid(format!("not a .tar.gz of a bundle: {error}"))
}

/// Whose fault it is that an entry cannot be written: the disk's, or that of a name that cannot be.
fn at(path: &Path, error: io::Error) -> BundleError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem => {
            error.into()
        }
        io::ErrorKind::PermissionDenied => error.into(),
        _ => BundleError::Invalid(format!(
            "cannot unpack {}: {error}",
            path.to_string_lossy().chars().take(200).collect::<String>()
        )),
    }
}

/// SHA-256 over the names and contents of all files, in the order of their names.
pub(crate) fn content_hash(folder: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    collect_files(folder, &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 64 << 10];
    for file in files {
        let name =
            file.strip_prefix(folder).map_err(io::Error::other)?.as_os_str().as_encoded_bytes().to_vec();
        let mut content = File::open(&file)?;
        // Lengths before texts, so that no two bundles spell the same bytes.
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(&name);
        hash.update(content.metadata()?.len().to_le_bytes());
        loop {
            let read = content.read(&mut chunk)?;
            if read == 0 {
                break;
            }
            hash.update(&chunk[..read]);
        }
    }
    Ok(format!("{:x}", hash.finalize()))
}

/// All files below a folder.
pub(crate) fn collect_files(folder: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect_files(&entry.path(), into)?;
        } else {
            into.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, &[u8], tar::EntryType)]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut tar =
            tar::Builder::new(flate2::write::GzEncoder::new(&mut file, flate2::Compression::fast()));
        for (path, content, kind) in entries {
            let mut header = tar::Header::new_gnu();
            // Written past the library's own checks, as somebody who means harm would.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(content.len() as u64);
            header.set_entry_type(*kind);
            header.set_cksum();
            tar.append(&header, *content).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
        file
    }

    fn unpacked(entries: &[(&str, &[u8], tar::EntryType)], max_size: u64) -> Result<u64, BundleError> {
        let folder = tempfile::tempdir().unwrap();
        unpack(&archive(entries).reopen().unwrap(), folder.path(), max_size)
    }

    #[test]
    fn a_bundle_may_not_write_outside_its_folder_hold_links_or_be_too_large() {
        use tar::EntryType::{GNULongName, Regular, Symlink};
        let index = ("index.html", b"<html>".as_slice(), Regular);
        assert_eq!(unpacked(&[index, ("a/b.js", b"1", Regular)], 100).unwrap(), 7);
        let long = [b'n'; 10_000];
        let named =
            |length: usize| [("././@LongLink", &long[..length], GNULongName), ("cut", b"1", Regular), index];
        assert_eq!(unpacked(&named(200), 100).unwrap(), 7);
        assert!(unpacked(&named(10_000), 100).unwrap_err().to_string().contains("cannot unpack nnn"));
        for (entries, why) in [
            (vec![index, ("../evil", b"x".as_slice(), Regular)], "leads out"),
            (vec![index, ("/etc/evil", b"x", Regular)], "leads out"),
            (vec![index, ("link", b"", Symlink)], "neither file nor folder"),
            (vec![index, ("large", &[0; 200], Regular)], "larger than"),
            (vec![index, ("a", b"1", Regular), ("a/b", b"2", Regular)], "cannot unpack a/b"),
            (vec![("main.js", b"1", Regular)], "no index.html"),
        ] {
            let error = unpacked(&entries, 100).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_version_is_the_content_whatever_the_order_it_was_packed_in() {
        let of = |files: &[(&str, &str)]| {
            let folder = tempfile::tempdir().unwrap();
            for (name, content) in files {
                std::fs::write(folder.path().join(name), content).unwrap();
            }
            content_hash(folder.path()).unwrap()
        };
        let version = of(&[("a", "1"), ("b", "2")]);
        assert_eq!(version, of(&[("b", "2"), ("a", "1")]));
        assert_ne!(version, of(&[("a", "12"), ("b", "")]));
        assert_ne!(version, of(&[("a", "1"), ("c", "2")]));
    }
}
