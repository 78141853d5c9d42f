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
use axum::body::Bytes;
use lastframe_core::Output;
#[cfg(feature = "stack")]
use lastframe_core::RenderId;
use lastframe_core::ports::{OutputBytes, Outputs, Queue};

use self::local::Folder;
use self::object::Buckets;
pub(crate) use self::object::Unfit;
use crate::config::Storage;
use crate::lambda::LambdaOutputs;

/// What a poster's name ends with.
const POSTER: &str = ".poster.jpg";

/// Where the poster of an output lies: in the folder, wherever the output is.
fn poster_of(key: &str) -> io::Result<String> {
    let mut parts = key.rsplit('/');
    let name = parts.next().and_then(|file| file.split_once('.')).zip(parts.next());
    let ((attempt, _), render) =
        name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a key of an output"))?;
    Ok(format!("{render}/{attempt}{POSTER}"))
}

/// Where the poster of an output in a bucket lies when other machines are to find it: beside the output.
fn beside(key: &str) -> io::Result<String> {
    let folder = key.rfind('/').map_or("", |end| &key[..end]);
    let poster = poster_of(key)?;
    Ok(format!("{folder}/{}", poster.rsplit('/').next().unwrap_or_default()))
}

/// All places where outputs may lie. New ones go to the one that is configured; the others are read from and deleted in.
#[derive(Debug)]
pub(crate) struct Places {
    folder: Folder,
    buckets: Buckets,
    lambda: LambdaOutputs,
    /// Whether posters of what lies in a bucket lie there, too: then whoever reads the bucket has them.
    posters_beside: bool,
}

impl Places {
    /// # Errors
    /// When the configured place is none that this program knows, or its secret cannot be read.
    pub(crate) fn open(folder: PathBuf, storage: &Storage) -> io::Result<Self> {
        Ok(Self {
            folder: Folder::new(folder),
            buckets: Buckets::open(storage)?,
            lambda: LambdaOutputs::default(),
            posters_beside: storage.posters_beside,
        })
    }

    /// Tries whether new outputs can be put, read and deleted.
    pub(crate) async fn probe(&self) -> Result<(), Unfit> {
        self.buckets.probe().await
    }

    /// Removes what attempts have left that died before their output was committed. Attempts may go on meanwhile.
    pub(crate) async fn sweep(&self, queue: &dyn Queue) -> io::Result<usize> {
        Ok(self.folder.sweep(queue).await? + self.buckets.sweep(queue, None).await?)
    }

    /// The same for one render, among the outputs in a bucket.
    #[cfg(feature = "stack")]
    pub(crate) async fn sweep_render(&self, queue: &dyn Queue, render: RenderId) -> io::Result<usize> {
        self.buckets.sweep(queue, Some(render)).await
    }

    /// Where the poster of what lies in a bucket is, if it lies there.
    fn poster_in_bucket(&self, key: &str) -> io::Result<Option<String>> {
        let is_there = self.posters_beside && is_url(key) && !is_on_lambda(key);
        if is_there { beside(key).map(Some) } else { Ok(None) }
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

    async fn put_poster(&self, key: &str, file: &Path) -> io::Result<()> {
        match self.poster_in_bucket(key)? {
            Some(poster) => self.buckets.put_poster(&poster, file).await,
            None => self.folder.put(&poster_of(key)?, file).await,
        }
    }

    async fn poster(&self, key: &str) -> io::Result<Option<Bytes>> {
        match self.poster_in_bucket(key)? {
            Some(poster) => self.buckets.whole(&poster).await,
            None => self.folder.whole(&poster_of(key)?).await,
        }
    }

    async fn delete(&self, key: &str) -> io::Result<()> {
        match key {
            _ if is_on_lambda(key) => self.lambda.delete(key).await?,
            _ if is_url(key) => self.buckets.delete(key).await?,
            _ => self.folder.delete(key).await?,
        }
        match (self.poster_in_bucket(key), poster_of(key)) {
            (Ok(Some(poster)), _) => self.buckets.delete(&poster).await,
            (_, Ok(poster)) => self.folder.delete(&poster).await,
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_poster_lies_beside_its_output_and_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let places = Places::open(folder.path().join("outputs"), &Storage::default()).unwrap();
        let file = |name: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, name).unwrap();
            file
        };
        let output = Output { key: "render/2.mp4".into(), ..Output::default() };
        places.put(&output, "", &file("video")).await.unwrap();
        assert_eq!(places.poster(&output.key).await.unwrap(), None);
        places.put_poster(&output.key, &file("poster")).await.unwrap();
        assert_eq!(places.poster(&output.key).await.unwrap().unwrap(), "poster");
        assert!(folder.path().join("outputs/render/2.poster.jpg").exists());
        places.delete(&output.key).await.unwrap();
        assert!(!folder.path().join("outputs/render").exists());
    }

    #[test]
    fn the_poster_of_an_output_in_a_bucket_is_on_this_machine() {
        assert_eq!(poster_of("s3://bucket/prefix/render/2.mp4").unwrap(), "render/2.poster.jpg");
        poster_of("2.mp4").unwrap_err();
    }

    #[test]
    fn the_poster_of_a_fleets_output_lies_beside_it() {
        assert_eq!(
            beside("s3://bucket/prefix/render/2.mp4").unwrap(),
            "s3://bucket/prefix/render/2.poster.jpg"
        );
        beside("2.mp4").unwrap_err();
    }
}
