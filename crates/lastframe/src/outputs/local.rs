//! Outputs in a folder of this machine.

use std::io::{self, SeekFrom};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use axum::body::Bytes;
use futures_util::TryStreamExt as _;
use lastframe_core::ports::{OutputBytes, Queue};
use lastframe_core::{Output, RenderId};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::sweep::leftovers;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// A folder of finished files, `{render}/{attempt}.{extension}`, and of posters, `{render}/{attempt}.poster.jpg`.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Keys are made by the worker, yet a key that climbs out of the folder must not exist.
    fn path(&self, key: &str) -> io::Result<PathBuf> {
        let key = Path::new(key);
        if key.components().all(|part| matches!(part, Component::Normal(_))) {
            Ok(self.path.join(key))
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a key of an output"))
        }
    }

    pub(super) async fn put(&self, key: &str, file: &Path) -> io::Result<()> {
        let (to, from) = (self.path(key)?, file.to_owned());
        // Moving is enough, because the scratch space lies in the same data folder. Both the bytes and the names
        // are on disk before the queue hears of it.
        blocking(move || {
            std::fs::File::open(&from)?.sync_all()?;
            let folder = to.parent().ok_or_else(|| io::Error::other("a key has a folder"))?;
            std::fs::create_dir_all(folder)?;
            std::fs::rename(&from, &to)?;
            std::fs::File::open(folder)?.sync_all()?;
            folder.parent().map_or(Ok(()), |above| std::fs::File::open(above)?.sync_all())
        })
        .await
    }

    pub(super) async fn read(&self, key: &str, range: Range<u64>) -> io::Result<Option<OutputBytes>> {
        let mut file = match tokio::fs::File::open(self.path(key)?).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        file.seek(SeekFrom::Start(range.start)).await?;
        let part = file.take(range.end.saturating_sub(range.start));
        Ok(Some(Box::pin(ReaderStream::with_capacity(part, CHUNK).into_stream())))
    }

    /// The bytes of something small.
    pub(super) async fn whole(&self, key: &str) -> io::Result<Option<Bytes>> {
        match tokio::fs::read(self.path(key)?).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            bytes => bytes.map(|bytes| Some(bytes.into())),
        }
    }

    pub(super) async fn delete(&self, key: &str) -> io::Result<()> {
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

    pub(super) async fn sweep(&self, queue: &dyn Queue) -> io::Result<usize> {
        let mut removed = 0;
        let mut renders = tokio::fs::read_dir(&self.path).await?;
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
        let mut keys = Vec::new();
        let mut files = match tokio::fs::read_dir(self.path.join(id.to_string())).await {
            // Retention was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            files => files?,
        };
        while let Some(file) = files.next_entry().await? {
            keys.push(format!("{id}/{}", file.file_name().display()));
        }
        let left = leftovers(queue, id, keys).await?;
        for key in &left {
            self.delete(key).await?;
        }
        Ok(left.len())
    }

    pub(super) async fn examine(&self, output: &Output) -> io::Result<Option<String>> {
        let file = self.path(&output.key)?;
        let digest = blocking(move || {
            let mut hash = Sha256::new();
            let size = io::copy(&mut std::fs::File::open(file)?, &mut hash)?;
            Ok((size, format!("{:x}", hash.finalize())))
        });
        let (size, sha256) = match digest.await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some("is gone".into())),
            digest => digest?,
        };
        // Of before digests were taken.
        let is_same = output.sha256.is_empty() || sha256 == output.sha256;
        Ok(match size == output.size_in_bytes {
            false => Some(format!("has {size} bytes instead of {}", output.size_in_bytes)),
            true => (!is_same).then(|| "is damaged".into()),
        })
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
