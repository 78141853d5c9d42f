//! Outputs in a folder of this machine.

use std::io;
use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use lastframe_core::ports::{Location, Outputs, Queue};
use lastframe_core::{RenderId, Status};

/// A folder of finished files: `{render}/{attempt}.{extension}`.
#[derive(Clone, Debug)]
pub(crate) struct LocalOutputs {
    folder: PathBuf,
}

impl LocalOutputs {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Keys are made by the worker, yet a key that climbs out of the folder must not exist.
    fn path(&self, key: &str) -> io::Result<PathBuf> {
        let key = Path::new(key);
        if key.components().all(|part| matches!(part, Component::Normal(_))) {
            Ok(self.folder.join(key))
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a key of an output"))
        }
    }

    /// Removes what attempts have left that died before their output was committed. Attempts may go on meanwhile.
    pub(crate) async fn sweep(&self, queue: &dyn Queue) -> io::Result<usize> {
        let mut removed = 0;
        let mut renders = tokio::fs::read_dir(&self.folder).await?;
        while let Some(render) = renders.next_entry().await? {
            let name = render.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            match self.sweep_render(queue, id).await {
                Ok(files) => removed += files,
                Err(error) => {
                    tracing::error!(render.id = %id, %error, "cannot sweep the outputs of a render");
                }
            }
        }
        Ok(removed)
    }

    async fn sweep_render(&self, queue: &dyn Queue, id: RenderId) -> io::Result<usize> {
        // The files before the record: one that an attempt has put there and that was there before we asked is either
        // of a render that is still being rendered, or was decided about.
        let mut keys = Vec::new();
        let mut files = match tokio::fs::read_dir(self.folder.join(id.to_string())).await {
            // Retention was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            files => files?,
        };
        while let Some(file) = files.next_entry().await? {
            keys.push(format!("{id}/{}", file.file_name().display()));
        }
        let Some(known) = queue.get(id).await.map_err(io::Error::other)? else {
            // Not ours to judge: a database that was lost or restored must not take the videos with it.
            tracing::warn!(render.id = %id, "there are outputs of a render that the queue does not know; they are kept");
            return Ok(0);
        };
        if known.status == Status::Rendering {
            return Ok(0);
        }
        let mut removed = 0;
        for key in keys {
            // One of a later lease than the queue knows of was made before the database was restored.
            let is_of_a_known_lease = lease(&key).is_some_and(|lease| lease <= known.leases);
            if is_of_a_known_lease && known.output.as_ref().is_none_or(|output| output.key != key) {
                self.delete(&key).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// The lease under which an output was made.
fn lease(key: &str) -> Option<u32> {
    Path::new(key).file_stem()?.to_str()?.parse().ok()
}

#[async_trait]
impl Outputs for LocalOutputs {
    async fn put(&self, key: &str, file: &Path) -> io::Result<()> {
        let (to, from) = (self.path(key)?, file.to_owned());
        // Moving is enough, because the scratch space lies in the same data folder. Both the bytes and the names
        // are on disk before the queue hears of it.
        tokio::task::spawn_blocking(move || {
            std::fs::File::open(&from)?.sync_all()?;
            let folder = to.parent().ok_or_else(|| io::Error::other("a key has a folder"))?;
            std::fs::create_dir_all(folder)?;
            std::fs::rename(&from, &to)?;
            std::fs::File::open(folder)?.sync_all()?;
            folder.parent().map_or(Ok(()), |above| std::fs::File::open(above)?.sync_all())
        })
        .await
        .map_err(io::Error::other)?
    }

    async fn locate(&self, key: &str) -> io::Result<Option<Location>> {
        let path = self.path(key)?;
        Ok(tokio::fs::try_exists(&path).await?.then_some(Location::File(path)))
    }

    async fn delete(&self, key: &str) -> io::Result<()> {
        let path = self.path(key)?;
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The folder goes with its last file; one that still holds something stays.
        if let Some(folder) = path.parent() {
            drop(tokio::fs::remove_dir(folder).await);
        }
        Ok(())
    }
}
