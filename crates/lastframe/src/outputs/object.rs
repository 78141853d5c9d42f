//! Outputs in buckets of S3, or of what speaks like it.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt as _, TryStreamExt as _};
use lastframe_core::ports::{OutputBytes, Queue};
use lastframe_core::{Output, RenderId};
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredential};
use object_store::client::CredentialProvider;
use object_store::path::Path as ObjectPath;
use object_store::signer::{Method, SignedUrlOptions, Signer as _};
use object_store::{
    Attribute, Attributes, BackoffConfig, ClientOptions, Error, GetOptions, GetRange, MultipartUpload,
    ObjectStore as _, ObjectStoreExt as _, PutMultipartOptions, PutOptions, RetryConfig,
};
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::sweep::leftovers;
use crate::config::{AccessKey, AccessKeys, Place, Storage};

/// The least that a part of an upload has, but for the last: bytes that are in memory for each part under way.
const PART: u64 = 8 << 20;
/// Parts of one upload under way at once.
const PARTS_AT_ONCE: usize = 3;
/// S3 takes no more parts than that.
const MOST_PARTS: u64 = 10_000;
/// How long a storage may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a storage may say nothing, the time in which it takes in a part included.
const SILENCE: Duration = Duration::from_secs(120);
/// The same, where somebody waits for the server to start.
const SILENCE_AT_START: Duration = Duration::from_secs(5);
/// How long a key that was found is used before it is looked for again: those that end are good for longer.
const KEY_GOOD_FOR: Duration = Duration::from_secs(4 * 60);
/// The metadata that holds an output's digest.
const SHA256: &str = "sha256";

/// Buckets of one storage, under one set of credentials.
#[derive(Debug)]
pub(super) struct Buckets {
    storage: Storage,
    secret: Option<String>,
    /// Where new outputs go, if they go here at all.
    place: Option<Place>,
    open: Mutex<HashMap<String, Arc<AmazonS3>>>,
}

/// Why new outputs cannot go where they should.
#[derive(Debug, thiserror::Error)]
#[error("the storage {place} cannot be used: {cause}")]
pub(crate) struct Unfit {
    place: Place,
    cause: io::Error,
}

impl Unfit {
    /// The storage may only be away; its settings may be right.
    pub(crate) fn may_pass(&self) -> bool {
        use io::ErrorKind::{InvalidInput, NotFound, PermissionDenied};
        !matches!(self.cause.kind(), InvalidInput | NotFound | PermissionDenied)
    }
}

impl Buckets {
    pub(super) fn open(storage: &Storage) -> io::Result<Self> {
        let read = |file: &std::path::PathBuf| {
            std::fs::read_to_string(file).map(|secret| secret.trim().to_owned()).map_err(|error| {
                let message =
                    format!("cannot read storage.secret_access_key_file {}: {error}", file.display());
                io::Error::new(error.kind(), message)
            })
        };
        let secret = storage.secret_access_key_file.as_ref().map(read).transpose()?;
        let place = storage.place.clone();
        Ok(Self { storage: storage.clone(), secret, place, open: Mutex::default() })
    }

    pub(super) fn key(&self, name: &str) -> Option<String> {
        self.place.as_ref().map(|place| format!("{place}/{name}"))
    }

    fn client(&self, bucket: &str, silence: Duration, retries: usize) -> io::Result<AmazonS3> {
        // Somebody in this process may have installed the same one.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = ClientOptions::new()
            .with_connect_timeout(CONNECT)
            .with_timeout_disabled()
            .with_read_timeout(silence);
        let retry = RetryConfig {
            backoff: BackoffConfig { init_backoff: Duration::from_millis(200), ..BackoffConfig::default() },
            max_retries: retries,
            retry_timeout: silence,
        };
        // Credentials that are not in the file come from AWS_*, a web identity, the container or the machine.
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_client_options(client)
            .with_retry(retry)
            // Not every service knows how to delete many at once.
            .with_disable_bulk_delete(true);
        if let Some(endpoint) = &self.storage.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        if let Some(region) = &self.storage.region {
            builder = builder.with_region(region);
        }
        if let (Some(id), Some(secret)) = (&self.storage.access_key_id, &self.secret) {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        }
        if let Some(keys) = &self.storage.keys {
            builder = builder
                .with_credentials(Arc::new(Signing { keys: Arc::clone(keys), last: Mutex::default() }));
        }
        builder.build().map_err(fault)
    }

    fn bucket(&self, name: &str) -> io::Result<Arc<AmazonS3>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = open.get(name) {
            return Ok(Arc::clone(bucket));
        }
        let bucket = Arc::new(self.client(name, SILENCE, 3)?);
        open.insert(name.to_owned(), Arc::clone(&bucket));
        Ok(bucket)
    }

    /// The bucket of a key, and the path in it.
    fn object(&self, key: &str) -> io::Result<(Arc<AmazonS3>, ObjectPath)> {
        let parts = key.strip_prefix("s3://").and_then(|key| key.split_once('/'));
        let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "not a key of an output");
        let (bucket, path) = parts.ok_or_else(wrong)?;
        Ok((self.bucket(bucket)?, ObjectPath::parse(path).map_err(|_| wrong())?))
    }

    /// Puts something small, reads it and deletes it.
    pub(super) async fn probe(&self) -> Result<(), Unfit> {
        let Some(place) = &self.place else { return Ok(()) };
        let try_out = async {
            let bucket = self.client(&place.bucket, SILENCE_AT_START, 1)?;
            // A name of its own: machines of a fleet start at once, and one must not delete what another is to read.
            let path = path_in(place, &format!("/.lastframe-probe-{:016x}", fastrand::u64(..)));
            bucket.put(&path, "lastframe was here".into()).await.map_err(fault)?;
            bucket.head(&path).await.map_err(fault)?;
            bucket.delete(&path).await.map_err(fault)
        };
        try_out.await.map_err(|cause| Unfit { place: place.clone(), cause })
    }

    pub(super) async fn put(&self, output: &Output, disposition: &str, file: &Path) -> io::Result<()> {
        let (bucket, path) = self.object(&output.key)?;
        let given_up = CancellationToken::new();
        let _give_up = given_up.clone().drop_guard();
        let upload = Upload {
            bucket: Arc::clone(&bucket),
            path: path.clone(),
            attributes: attributes(output, disposition),
            size: output.size_in_bytes,
            given_up,
        };
        // A task of its own: of an upload that nobody waits for any more, the parts are still to be removed.
        let upload = tokio::spawn(upload.run(tokio::fs::File::open(file).await?).in_current_span());
        upload.await.map_err(io::Error::other)??;
        match self.examine(output).await? {
            None => {}
            Some(wrong) => {
                return Err(io::Error::other(format!("what was uploaded {wrong}")));
            }
        }
        tokio::fs::remove_file(file).await
    }

    pub(super) async fn read(&self, key: &str, range: Range<u64>) -> io::Result<Option<OutputBytes>> {
        let (bucket, path) = self.object(key)?;
        let options = GetOptions {
            head: range.is_empty(),
            range: (!range.is_empty()).then_some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        match bucket.get_opts(&path, options).await {
            Ok(found) => Ok(Some(Box::pin(found.into_stream().map_err(fault)))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(fault(error)),
        }
    }

    pub(super) async fn link(
        &self,
        output: &Output,
        disposition: &str,
        valid: Duration,
    ) -> io::Result<Option<String>> {
        if !self.storage.redirect {
            return Ok(None);
        }
        let (bucket, path) = self.object(&output.key)?;
        let told = SignedUrlOptions::default().with_query([("response-content-disposition", disposition)]);
        let url = bucket.signed_url_opts(Method::GET, &path, valid, &told).await.map_err(fault)?;
        Ok(Some(url.into()))
    }

    pub(super) async fn delete(&self, key: &str) -> io::Result<()> {
        let (bucket, path) = self.object(key)?;
        match bucket.delete(&path).await {
            Err(error) if !is_missing(&error) => Err(fault(error)),
            _ => Ok(()),
        }
    }

    pub(super) async fn put_poster(&self, key: &str, file: &Path) -> io::Result<()> {
        let (bucket, path) = self.object(key)?;
        let attributes = Attributes::from_iter([
            (Attribute::ContentType, "image/jpeg"),
            (Attribute::CacheControl, "private, no-cache"),
        ]);
        let options = PutOptions { attributes, ..PutOptions::default() };
        let bytes = tokio::fs::read(file).await?;
        bucket.put_opts(&path, bytes.into(), options).await.map_err(fault)?;
        tokio::fs::remove_file(file).await
    }

    /// The bytes of something small.
    pub(super) async fn whole(&self, key: &str) -> io::Result<Option<Bytes>> {
        let (bucket, path) = self.object(key)?;
        match bucket.get(&path).await {
            Ok(found) => found.bytes().await.map(Some).map_err(fault),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(fault(error)),
        }
    }

    /// Looks below the prefix of new outputs alone, and there at what is called like an output of a render, or of that one.
    pub(super) async fn sweep(&self, queue: &dyn Queue, of: Option<RenderId>) -> io::Result<usize> {
        let Some(place) = &self.place else { return Ok(0) };
        let bucket = self.bucket(&place.bucket)?;
        let prefix = path_in(place, "");
        let below = of.map(|render| path_in(place, &format!("/{render}")));
        let mut objects = bucket.list(Some(below.as_ref().unwrap_or(&prefix)));
        let mut removed = 0;
        // A listing is in order: what belongs to a render comes together.
        let mut together: Option<(RenderId, Vec<String>)> = None;
        loop {
            let object = objects.try_next().await.map_err(fault)?;
            let named = object.as_ref().and_then(|object| {
                let mut parts = object.location.prefix_match(&prefix)?;
                let (render, file) = (parts.next()?, parts.next()?);
                let id: RenderId = render.as_ref().parse().ok()?;
                parts.next().is_none().then(|| (id, format!("{place}/{id}/{}", file.as_ref())))
            });
            match (&mut together, named) {
                (Some((same, keys)), Some((id, key))) if *same == id => keys.push(key),
                (_, named) => {
                    let next = named.map(|(id, key)| (id, vec![key]));
                    if let Some((id, keys)) = std::mem::replace(&mut together, next) {
                        for key in leftovers(queue, id, keys).await? {
                            self.delete(&key).await?;
                            removed += 1;
                        }
                    }
                }
            }
            if object.is_none() {
                return Ok(removed);
            }
        }
    }

    pub(super) async fn examine(&self, output: &Output) -> io::Result<Option<String>> {
        let (bucket, path) = self.object(&output.key)?;
        let found = match bucket.get_opts(&path, GetOptions { head: true, ..GetOptions::default() }).await {
            Ok(found) => found,
            Err(error) if is_missing(&error) => return Ok(Some("is gone".into())),
            Err(error) => return Err(fault(error)),
        };
        if found.meta.size != output.size_in_bytes {
            return Ok(Some(format!("has {} bytes instead of {}", found.meta.size, output.size_in_bytes)));
        }
        let sha256 = found.attributes.get(&Attribute::Metadata(SHA256.into()));
        let is_other = sha256.is_some_and(|sha256| sha256.as_ref() != output.sha256);
        Ok(is_other.then(|| "is another file".into()))
    }
}

/// Keys that somebody else finds, kept for a while.
#[derive(Debug)]
struct Signing {
    keys: Arc<dyn AccessKeys>,
    last: Mutex<Option<(Instant, Arc<AwsCredential>)>>,
}

#[async_trait]
impl CredentialProvider for Signing {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((found_at, key)) = last
            && found_at.elapsed() < KEY_GOOD_FOR
        {
            return Ok(key);
        }
        let found = self.keys.find().await;
        let AccessKey { id, secret, session } =
            found.map_err(|error| Error::Unauthenticated { path: String::new(), source: error.into() })?;
        let key = Arc::new(AwsCredential { key_id: id, secret_key: secret, token: session });
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), Arc::clone(&key)));
        Ok(key)
    }
}

/// A path in the place's bucket, below its prefix.
fn path_in(place: &Place, below: &str) -> ObjectPath {
    ObjectPath::from(format!("{}{below}", place.prefix))
}

fn attributes(output: &Output, disposition: &str) -> Attributes {
    Attributes::from_iter([
        (Attribute::ContentType, output.content_type.clone()),
        (Attribute::ContentDisposition, disposition.to_owned()),
        (Attribute::CacheControl, "private, no-cache".to_owned()),
        (Attribute::Metadata(SHA256.into()), output.sha256.clone()),
    ])
}

/// One upload, which is whole at its end or not there at all.
struct Upload {
    bucket: Arc<AmazonS3>,
    path: ObjectPath,
    attributes: Attributes,
    /// Bytes.
    size: u64,
    given_up: CancellationToken,
}

impl Upload {
    async fn run(self, mut file: tokio::fs::File) -> io::Result<()> {
        let given_up = || io::Error::new(io::ErrorKind::Interrupted, "the upload was given up");
        if self.size <= PART {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).await?;
            let options = PutOptions { attributes: self.attributes, ..PutOptions::default() };
            let put = self.bucket.put_opts(&self.path, bytes.into(), options);
            return tokio::select! {
                put = put => put.map(drop).map_err(fault),
                () = self.given_up.cancelled() => Err(given_up()),
            };
        }
        let options = PutMultipartOptions { attributes: self.attributes, ..PutMultipartOptions::default() };
        let mut upload = self.bucket.put_multipart_opts(&self.path, options).await.map_err(fault)?;
        let sent = tokio::select! {
            sent = send(upload.as_mut(), file, PART.max(self.size.div_ceil(MOST_PARTS))) => sent,
            () = self.given_up.cancelled() => Err(given_up()),
        };
        if sent.is_err()
            && let Err(error) = upload.abort().await
        {
            let error = fault(error);
            tracing::warn!(%error, "parts of an upload could not be removed; a lifecycle rule of the bucket should");
        }
        sent
    }
}

async fn send(upload: &mut dyn MultipartUpload, mut file: tokio::fs::File, part: u64) -> io::Result<()> {
    let mut under_way = FuturesUnordered::new();
    loop {
        let mut bytes = Vec::with_capacity(usize::try_from(part).map_err(io::Error::other)?);
        (&mut file).take(part).read_to_end(&mut bytes).await?;
        if bytes.is_empty() {
            break;
        }
        if under_way.len() == PARTS_AT_ONCE {
            under_way.next().await.transpose().map_err(fault)?;
        }
        under_way.push(upload.put_part(bytes.into()));
    }
    while under_way.try_next().await.map_err(fault)?.is_some() {}
    upload.complete().await.map(drop).map_err(fault)
}

/// Whether there is no such object, though there is a bucket.
fn is_missing(error: &Error) -> bool {
    matches!(error, Error::NotFound { .. }) && code(&error.to_string()) != Some("NoSuchBucket")
}

/// The fault, in words that hold neither the request nor its signature, with a kind that says whether it may pass.
#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn fault(error: Error) -> io::Error {
    use io::ErrorKind::{InvalidInput, NotFound, Other, PermissionDenied};
    let told = error.to_string();
    let code = code(&told);
    let refuses = matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. });
    let kind = match (&error, code) {
        // Not for good, whatever the status.
        (_, Some("RequestTimeTooSkewed" | "RequestTimeout" | "SlowDown")) => Other,
        (_, Some("PermanentRedirect" | "AuthorizationHeaderMalformed" | "InvalidBucketName")) => InvalidInput,
        _ if refuses || told.contains(METADATA_SERVICE) => PermissionDenied,
        (Error::NotFound { .. }, _) => NotFound,
        (Error::InvalidPath { .. } | Error::UnknownConfigurationKey { .. }, _) => InvalidInput,
        _ => Other,
    };
    let message = match code {
        Some(code) => format!("it answers {code}{}", hint(code)),
        None if told.contains(METADATA_SERVICE) => {
            "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or storage.access_key_id and \
             storage.secret_access_key_file"
                .into()
        }
        None if refuses => "it refuses: the credentials are wrong, or lack a right".into(),
        None if matches!(error, Error::NotFound { .. }) => "it has no such object".into(),
        None => root(&error),
    };
    io::Error::new(kind, message)
}

/// Where credentials are asked for when there are none.
const METADATA_SERVICE: &str = "169.254.169.254";

/// The word for what went wrong, in an answer of S3.
fn code(told: &str) -> Option<&str> {
    let (_, code) = told.split_once("<Code>")?;
    let (code, _) = code.split_once("</Code>")?;
    (code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(code)
}

fn hint(code: &str) -> &'static str {
    match code {
        "NoSuchBucket" => ": there is no such bucket",
        "InvalidAccessKeyId" | "InvalidToken" => ": the access key is wrong",
        "SignatureDoesNotMatch" => ": the secret access key is wrong",
        "ExpiredToken" => ": the credentials have expired",
        "AccessDenied" => ": the credentials lack a right",
        "PermanentRedirect" | "AuthorizationHeaderMalformed" => ": the region is wrong",
        "RequestTimeTooSkewed" => ": this machine's clock is wrong",
        _ => "",
    }
}

/// The innermost cause, which names no URL.
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: &str, body: &str) -> Error {
        let source = format!(
            "Error performing PUT http://host/b/k in 1ms - Server returned non-2xx status code: {status}: {body}"
        );
        match status {
            "403" => Error::PermissionDenied { path: "k".into(), source: source.into() },
            "404" => Error::NotFound { path: "k".into(), source: source.into() },
            _ => Error::Generic { store: "S3", source: source.into() },
        }
    }

    #[test]
    fn a_fault_of_the_storage_is_told_without_what_was_signed_and_says_whether_it_may_pass() {
        use io::ErrorKind::{InvalidInput, NotFound, Other, PermissionDenied};
        let secret = "<AWSAccessKeyId>AKIA</AWSAccessKeyId><StringToSign>x</StringToSign></Error>";
        for (status, code, kind) in [
            ("403", "SignatureDoesNotMatch", PermissionDenied),
            ("403", "InvalidAccessKeyId", PermissionDenied),
            ("403", "RequestTimeTooSkewed", Other),
            ("404", "NoSuchBucket", NotFound),
            ("301", "PermanentRedirect", InvalidInput),
            ("503", "SlowDown", Other),
            ("500", "InternalError", Other),
        ] {
            let found = fault(answered(status, &format!("<Error><Code>{code}</Code>{secret}")));
            assert_eq!(found.kind(), kind, "{code}");
            let told = found.to_string();
            assert!(told.contains(code) && !told.contains("AKIA") && !told.contains("host"), "{told}");
        }
        assert!(is_missing(&answered("404", "<Code>NoSuchKey</Code>")));
        assert!(!is_missing(&answered("404", "<Code>NoSuchBucket</Code>")));
        assert_eq!(fault(answered("403", "")).kind(), PermissionDenied);
    }

    #[test]
    fn keys_say_where_an_output_lies_and_no_others_are_taken() {
        let place: Place = "s3://bucket/a/b".parse().unwrap();
        let storage =
            Storage { place: Some(place), region: Some("eu-central-1".into()), ..Storage::default() };
        let buckets = Buckets::open(&storage).unwrap();
        let key = buckets.key("id/1.mp4").unwrap();
        assert_eq!(key, "s3://bucket/a/b/id/1.mp4");
        let (_, path) = buckets.object(&key).unwrap();
        assert_eq!(path.as_ref(), "a/b/id/1.mp4");
        for wrong in ["s3://bucket", "gs://bucket/a", "s3://bucket/a/../b", "id/1.mp4"] {
            assert!(buckets.object(wrong).is_err(), "{wrong}");
        }
    }
}
