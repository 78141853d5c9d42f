//! The bundle of a site: unpacked with care, named by its content.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};

use super::BundleError;

/// Files and folders in a bundle; Remotion's own have a few dozen.
const MOST_ENTRIES: usize = 20_000;
/// Bytes of a path in a bundle.
const LONGEST_PATH: u64 = 4_096;

/// The Remotion version that a bundle's `index.html` says it was made with.
pub(super) fn remotion_version(index: &str) -> Option<String> {
    let (_, rest) = index.split_once("window.remotion_version")?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let quote = rest.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    rest[1..].split_once(quote).map(|(version, _)| version.to_owned())
}

/// Unpacks plain files and folders only, and no more than `max_size` bytes of them.
pub(super) fn unpack(archive: &File, into: &Path, max_size: u64) -> Result<u64, BundleError> {
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
    fn a_bundle_says_which_remotion_made_it() {
        let version = |index: &str| remotion_version(index);
        let remotions = "window.siteVersion = '11';\n\t\t\twindow.remotion_version = '4.0.527';\n</script>";
        assert_eq!(version(remotions).unwrap(), "4.0.527");
        assert_eq!(version("window.remotion_version=\"4.1.0\"").unwrap(), "4.1.0");
        for index in [
            "<html>",
            "window.remotion_version",
            "window.remotion_version = 4",
            "window.remotion_version = '4",
        ] {
            assert_eq!(version(index), None, "{index}");
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
