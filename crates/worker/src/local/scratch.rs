//! The scratch space of one sidecar: what is the sidecar's own, and what is the server's.
//!
//! What lies in a sidecar's own folder is the work of code that may mean harm, and that may change it at any moment,
//! so the server follows no name in there. It moves a finished file out before it looks at it.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat, renameat};

#[derive(Debug)]
pub(super) struct Scratch {
    folder: PathBuf,
    /// Whom the sidecar's own folder belongs to, if not to the server's user.
    user: Option<u32>,
}

impl Scratch {
    pub(super) fn create(folder: PathBuf, user: Option<u32>) -> io::Result<Self> {
        let scratch = Self { folder, user };
        let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        make(&scratch.root())?;
        for owned in [scratch.own(), scratch.home(), scratch.temporary()] {
            make(&owned)?;
            std::os::unix::fs::chown(owned, user, user)?;
        }
        Ok(scratch)
    }

    pub(super) fn user(&self) -> Option<u32> {
        self.user
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// An empty folder, on which the sidecar's view of the files is built.
    pub(super) fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// All that the sidecar may write.
    pub(super) fn own(&self) -> PathBuf {
        self.folder.join("own")
    }

    pub(super) fn home(&self) -> PathBuf {
        self.own().join("home")
    }

    pub(super) fn temporary(&self) -> PathBuf {
        self.own().join("tmp")
    }

    /// Moves `name` of the folder `of`, in the sidecar's own, to where it cannot reach it, and gives path and size.
    ///
    /// # Errors
    /// When it is not a plain file of the sidecar.
    pub(super) fn take(&self, of: &str, name: &str) -> io::Result<(PathBuf, u64)> {
        let (taken, file) = (self.folder.join("taken"), self.folder.join("taken").join(name));
        DirBuilder::new().recursive(true).mode(0o700).create(&taken)?;
        let folder = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let from = openat(File::open(self.own())?, of, folder, Mode::empty())?;
        renameat(from, name, File::open(&taken)?, name)?;
        // From here on only we can change what the name means. Not blocking, because it may mean a pipe.
        let plain = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = File::from(openat(rustix::fs::CWD, &file, plain, Mode::empty())?);
        let found = opened.metadata()?;
        let owner = self.user.unwrap_or(rustix::process::geteuid().as_raw());
        if !found.is_file() || found.nlink() != 1 || found.uid() != owner {
            return Err(io::Error::other("the output is not a plain file of the sidecar"));
        }
        if self.user.is_some() {
            let (us, group) = (rustix::process::geteuid(), rustix::process::getegid());
            rustix::fs::fchown(&opened, Some(us), Some(group))?;
        }
        opened.set_permissions(Permissions::from_mode(0o600))?;
        Ok((file, found.len()))
    }

    /// Removes what a job has left, its file included.
    pub(super) fn clear(&self, of: &str) -> io::Result<()> {
        // Neither of them follows a link.
        for path in [self.own().join(of), self.folder.join("taken")] {
            match std::fs::remove_dir_all(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Makes a folder of plain files readable to a lower user who is shown it; its parent hides it from all others.
pub(super) fn open_to_others(folder: &Path) -> io::Result<()> {
    let open = |path: &Path, wanted: u32| {
        let mode = path.symlink_metadata()?.permissions().mode();
        if mode & wanted == wanted {
            Ok(())
        } else {
            std::fs::set_permissions(path, Permissions::from_mode(mode | wanted))
        }
    };
    open(folder, 0o055)?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            open_to_others(&entry.path())?;
        } else if kind.is_file() {
            open(&entry.path(), 0o044)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn scratch() -> (tempfile::TempDir, Scratch) {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(folder.path().join("0"), None).unwrap();
        std::fs::create_dir(scratch.own().join("job")).unwrap();
        (folder, scratch)
    }

    #[test]
    fn a_finished_file_is_taken_out_of_reach() {
        let (_folder, scratch) = scratch();
        std::fs::write(scratch.own().join("job/output.mp4"), "video").unwrap();
        let (file, size) = scratch.take("job", "output.mp4").unwrap();
        assert_eq!((std::fs::read(&file).unwrap(), size), (b"video".to_vec(), 5));
        assert!(!file.starts_with(scratch.own()) && !scratch.own().join("job/output.mp4").exists());
        scratch.clear("job").unwrap();
        assert!(!file.exists() && !scratch.own().join("job").exists());
    }

    #[test]
    fn links_pipes_and_folders_are_no_output_and_what_they_lead_to_stays() {
        let (folder, scratch) = scratch();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "secret").unwrap();
        let output = scratch.own().join("job/output.mp4");
        let plant: [&dyn Fn(); 4] = [
            &|| symlink(&secret, &output).unwrap(),
            &|| std::fs::hard_link(&secret, &output).unwrap(),
            &|| std::fs::create_dir(&output).unwrap(),
            &|| {
                rustix::fs::mknodat(rustix::fs::CWD, &output, rustix::fs::FileType::Fifo, Mode::RUSR, 0)
                    .unwrap();
            },
        ];
        for plant in plant {
            plant();
            scratch.take("job", "output.mp4").unwrap_err();
            scratch.clear("job").unwrap();
            std::fs::create_dir(scratch.own().join("job")).unwrap();
        }
        std::fs::remove_dir(scratch.own().join("job")).unwrap();
        let elsewhere = folder.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::write(elsewhere.join("output.mp4"), "not yours").unwrap();
        symlink(&elsewhere, scratch.own().join("job")).unwrap();
        scratch.take("job", "output.mp4").unwrap_err();
        scratch.clear("job").unwrap();
        assert!(elsewhere.join("output.mp4").exists());
        assert_eq!(std::fs::read(secret).unwrap(), b"secret");
    }
}
