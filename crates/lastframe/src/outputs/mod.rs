//! Where outputs lie: in the data folder, in a bucket, or where Remotion Lambda has put them. Their keys say where.

mod local;
#[cfg(feature = "s3")]
mod object;
#[cfg(not(feature = "s3"))]
#[path = "no_object.rs"]
mod object;
mod sweep;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use lastframe_core::Output;
use lastframe_core::ports::{OutputBytes, Outputs, Queue};

use self::local::Folder;
use self::object::Buckets;
pub(crate) use self::object::Unfit;
use crate::config::Storage;
use crate::lambda::LambdaOutputs;

/// All places where outputs may lie. New ones go to the one that is configured; the others are read from and deleted in.
#[derive(Debug)]
pub(crate) struct Places {
    folder: Folder,
    buckets: Buckets,
    lambda: LambdaOutputs,
}

impl Places {
    /// # Errors
    /// When the configured place is none that this program knows, or its secret cannot be read.
    pub(crate) fn open(folder: PathBuf, storage: &Storage) -> io::Result<Self> {
        Ok(Self {
            folder: Folder::new(folder),
            buckets: Buckets::open(storage)?,
            lambda: LambdaOutputs::default(),
        })
    }

    /// Tries whether new outputs can be put, read and deleted.
    pub(crate) async fn probe(&self) -> Result<(), Unfit> {
        self.buckets.probe().await
    }

    /// Removes what attempts have left that died before their output was committed. Attempts may go on meanwhile.
    pub(crate) async fn sweep(&self, queue: &dyn Queue) -> io::Result<usize> {
        Ok(self.folder.sweep(queue).await? + self.buckets.sweep(queue).await?)
    }

    /// What is wrong with an output; none when all is well. Of one in a bucket, its size and the digest that it was put
    /// with are compared: its bytes are the storage's to keep.
    pub(crate) async fn examine(&self, output: &Output) -> io::Result<Option<String>> {
        if is_on_lambda(&output.key) {
            self.lambda.examine(output).await
        } else if is_url(&output.key) {
            self.buckets.examine(output).await
        } else {
            self.folder.examine(output).await
        }
    }
}

fn is_on_lambda(key: &str) -> bool {
    key.starts_with("lambda://")
}

fn is_url(key: &str) -> bool {
    key.contains("://")
}

#[async_trait]
impl Outputs for Places {
    fn key(&self, name: &str) -> String {
        self.buckets.key(name).unwrap_or_else(|| name.to_owned())
    }

    async fn put(&self, output: &Output, disposition: &str, file: &Path) -> io::Result<()> {
        if is_url(&output.key) {
            self.buckets.put(output, disposition, file).await
        } else {
            self.folder.put(&output.key, file).await
        }
    }

    async fn read(&self, key: &str, range: Range<u64>) -> io::Result<Option<OutputBytes>> {
        match key {
            _ if is_on_lambda(key) => self.lambda.read(key, range).await,
            _ if is_url(key) => self.buckets.read(key, range).await,
            _ => self.folder.read(key, range).await,
        }
    }

    async fn link(&self, output: &Output, disposition: &str, valid: Duration) -> io::Result<Option<String>> {
        match output.key.as_str() {
            key if is_on_lambda(key) => self.lambda.link(output, disposition, valid).await.map(Some),
            key if is_url(key) => self.buckets.link(output, disposition, valid).await,
            _ => Ok(None),
        }
    }

    async fn delete(&self, key: &str) -> io::Result<()> {
        match key {
            _ if is_on_lambda(key) => self.lambda.delete(key).await,
            _ if is_url(key) => self.buckets.delete(key).await,
            _ => self.folder.delete(key).await,
        }
    }
}
