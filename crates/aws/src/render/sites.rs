//! Bringing bundles to where functions can open them.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ObjectCannedAcl;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::sync::Mutex;

use crate::outputs::fault;

/// Files that are brought at once.
const AT_ONCE: usize = 8;
/// What is brought last: where it is, everything else is.
const LAST: &str = "index.html";

/// Whether a version is in a bucket; locked while it is brought there.
type Known = Arc<Mutex<bool>>;

/// Which versions of sites are known to be in which bucket. One that is being brought holds up those who wait for it alone.
#[derive(Debug, Default)]
pub(crate) struct Published {
    known: std::sync::Mutex<HashMap<(String, String), Known>>,
}

impl Published {
    fn known(&self, bucket: &str, version: &str) -> Arc<Mutex<bool>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry((bucket.to_owned(), version.to_owned())).or_default())
    }

    /// It may have been deleted: the next who needs it looks again.
    pub(crate) fn doubt(&self, bucket: &str, version: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&(bucket.to_owned(), version.to_owned()));
    }

    /// Brings a version's bundle to the bucket if it is not there, and gives the name it has there. Whoever knows a version,
    /// which is the digest of what is in it, can then read it: Remotion's functions open sites by URL.
    pub(crate) async fn publish(
        &self,
        s3: &Client,
        bucket: &str,
        version: &str,
        folder: &Path,
    ) -> io::Result<String> {
        let name = format!("lastframe-{version}");
        let known = self.known(bucket, version);
        let mut known = known.lock().await;
        if *known {
            return Ok(name);
        }
        let prefix = format!("sites/{name}");
        let there = s3.head_object().bucket(bucket).key(format!("{prefix}/{LAST}")).send().await;
        if there.is_err() {
            let (last, others): (Vec<_>, Vec<_>) =
                files(folder)?.into_iter().partition(|file| file == Path::new(LAST));
            let put = |file: PathBuf| put(s3, bucket, &prefix, folder, file);
            futures_util::stream::iter(others).map(Ok).try_for_each_concurrent(AT_ONCE, put).await?;
            for file in last {
                put(file).await?;
            }
            tracing::info!(bucket, site = name, "a site was brought to Remotion Lambda");
        }
        *known = true;
        Ok(name)
    }
}

/// All files below a folder, by their paths within it.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(within) = folders.pop() {
        for entry in std::fs::read_dir(folder.join(&within))? {
            let entry = entry?;
            let path = within.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                found.push(path);
            }
        }
    }
    Ok(found)
}

async fn put(s3: &Client, bucket: &str, prefix: &str, folder: &Path, file: PathBuf) -> io::Result<()> {
    let nameless = || io::Error::new(io::ErrorKind::InvalidInput, "a file without a name");
    let name = file.to_str().ok_or_else(nameless)?;
    // Older buckets of Remotion let strangers read what says so itself, newer ones have a policy for it; some take no lists.
    for acl in [Some(ObjectCannedAcl::PublicRead), None] {
        let listed = acl.is_some();
        let body = ByteStream::from_path(folder.join(&file)).await.map_err(io::Error::other)?;
        let asked = s3.put_object().bucket(bucket).key(format!("{prefix}/{name}")).set_acl(acl);
        match asked.content_type(content_type(name)).body(body).send().await {
            Ok(_) => break,
            Err(error) if listed && error.code() == Some("AccessControlListNotSupported") => {}
            Err(error) => return Err(fault(error)),
        }
    }
    Ok(())
}

/// What a browser must be told of a file of a bundle.
fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "application/javascript",
        "css" => "text/css",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
