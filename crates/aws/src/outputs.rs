//! Outputs where Remotion Lambda has put them.

use std::io;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::PresigningConfig;
use lastframe_core::Output;
use lastframe_core::ports::OutputBytes;
use remotion_lambda::{Client, DeleteRenderOptions};

use crate::Accounts;
use crate::render::Address;

/// What keys of such outputs begin with.
const SCHEME: &str = "lambda://";

/// The key of an output: `lambda://ACCOUNT@REGION/BUCKET/PATH`, without `ACCOUNT@` where the usual credentials are good.
pub(crate) fn key(address: &Address, path: &str) -> String {
    let account = address.account.map(|account| format!("{account}@")).unwrap_or_default();
    format!("{SCHEME}{account}{}/{}/{path}", address.region, address.bucket)
}

/// A key, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Key {
    account: Option<u32>,
    region: String,
    bucket: String,
    path: String,
}

impl FromStr for Key {
    type Err = io::Error;

    fn from_str(key: &str) -> io::Result<Self> {
        let parts = || {
            let (host, rest) = key.strip_prefix(SCHEME)?.split_once('/')?;
            let (bucket, path) = rest.split_once('/')?;
            let (account, region) = match host.split_once('@') {
                Some((account, region)) => (Some(account.parse().ok()?), region),
                None => (None, host),
            };
            let whole = !region.is_empty() && !bucket.is_empty() && !path.is_empty();
            let (region, bucket, path) = (region.to_owned(), bucket.to_owned(), path.to_owned());
            whole.then_some(Self { account, region, bucket, path })
        };
        parts().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a key of an output on Lambda"))
    }
}

impl Key {
    /// The render that it belongs to, as Remotion names it.
    fn render_id(&self) -> Option<&str> {
        Some(self.path.strip_prefix("renders/")?.split_once('/')?.0)
    }
}

/// Reads, links to and deletes them.
#[derive(Clone, Debug, Default)]
pub struct LambdaOutputs {
    accounts: Accounts,
}

impl LambdaOutputs {
    async fn open(&self, key: &str) -> io::Result<(Client, Key)> {
        let key: Key = key.parse()?;
        Ok((self.accounts.client(key.account, &key.region).await?, key))
    }

    /// The bytes of `key` in that range; none when there is no such output. Of an empty range, only whether it is there.
    ///
    /// # Errors
    /// When the bucket does not answer.
    pub async fn read(&self, key: &str, range: Range<u64>) -> io::Result<Option<OutputBytes>> {
        let (client, key) = self.open(key).await?;
        if range.is_empty() {
            let nothing = || Box::pin(futures_util::stream::empty()) as OutputBytes;
            return Ok(size(&client, &key.bucket, &key.path).await?.map(|_| nothing()));
        }
        let bytes = format!("bytes={}-{}", range.start, range.end - 1);
        let asked = client.s3().get_object().bucket(key.bucket).key(key.path).range(bytes);
        match asked.send().await {
            Ok(found) => {
                let reader = tokio_util::io::ReaderStream::new(found.body.into_async_read());
                Ok(Some(Box::pin(reader)))
            }
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(fault(error)),
        }
    }

    /// A URL where anybody can fetch it for so long.
    ///
    /// # Errors
    /// When there are no credentials to sign with.
    pub async fn link(&self, output: &Output, disposition: &str, valid: Duration) -> io::Result<String> {
        let (client, key) = self.open(&output.key).await?;
        let signing = PresigningConfig::expires_in(valid).map_err(io::Error::other)?;
        let asked = client
            .s3()
            .get_object()
            .bucket(key.bucket)
            .key(key.path)
            .response_content_disposition(disposition)
            .response_content_type(&output.content_type);
        let signed = asked.presigned(signing).await.map_err(fault)?;
        Ok(signed.uri().to_owned())
    }

    /// Removes it, with everything else that its render has left.
    ///
    /// # Errors
    /// When the bucket does not answer.
    pub async fn delete(&self, key: &str) -> io::Result<()> {
        let (client, key) = self.open(key).await?;
        match key.render_id() {
            Some(render_id) => delete_render(&client, &key.bucket, render_id).await,
            None => {
                let deleted = client.s3().delete_object().bucket(key.bucket).key(key.path).send().await;
                deleted.map(drop).map_err(fault)
            }
        }
    }

    /// What is wrong with it; none when all is well. Only its size is compared.
    ///
    /// # Errors
    /// When the bucket does not answer.
    pub async fn examine(&self, output: &Output) -> io::Result<Option<String>> {
        let (client, key) = self.open(&output.key).await?;
        Ok(match size(&client, &key.bucket, &key.path).await? {
            None => Some("is gone".into()),
            Some(found) if found != output.size_in_bytes => {
                Some(format!("has {found} bytes instead of {}", output.size_in_bytes))
            }
            Some(_) => None,
        })
    }
}

/// Removes everything that a render has in its bucket.
pub(crate) async fn delete_render(client: &Client, bucket: &str, render_id: &str) -> io::Result<()> {
    let options = DeleteRenderOptions {
        bucket_name: bucket.to_owned(),
        render_id: render_id.to_owned(),
        ..DeleteRenderOptions::default()
    };
    match client.delete_render(&options).await {
        Err(remotion_lambda::Error::RenderMissing { .. }) => Ok(()),
        deleted => deleted.map(drop).map_err(|error| crate::fault(&error)),
    }
}

/// Bytes of an object; none when there is no such object, though there is a bucket.
pub(crate) async fn size(client: &Client, bucket: &str, key: &str) -> io::Result<Option<u64>> {
    match client.s3().head_object().bucket(bucket).key(key).send().await {
        Ok(found) => Ok(Some(found.content_length.and_then(|size| u64::try_from(size).ok()).unwrap_or(0))),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(fault(error)),
    }
}

fn is_missing<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    matches!(error.code(), Some("NoSuchKey" | "NotFound"))
}

/// The fault in words that hold no signature, with a kind that says whether it may pass.
#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
pub(crate) fn fault<E>(error: SdkError<E>) -> io::Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    // It also knows the answers to HEAD, which have a status and no words.
    let kind = crate::fault(&remotion_lambda::Error::aws("S3", &error)).kind();
    let message = match error.code() {
        Some(code) => format!("S3 answers {code}: {}", error.message().unwrap_or_default()),
        None => DisplayErrorContext(&error).to_string(),
    };
    io::Error::new(kind, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_words_says_by_its_status_that_nobody_may_look() {
        use aws_sdk_s3::config::http::HttpResponse;
        use aws_sdk_s3::operation::head_object::HeadObjectError;
        use aws_sdk_s3::primitives::SdkBody;
        for (status, kind) in [(403, io::ErrorKind::PermissionDenied), (503, io::ErrorKind::ResourceBusy)] {
            let answer = HttpResponse::new(u16::try_into(status).unwrap(), SdkBody::empty());
            let error = HeadObjectError::generic(aws_sdk_s3::error::ErrorMetadata::builder().build());
            assert_eq!(fault(SdkError::service_error(error, answer)).kind(), kind);
        }
    }

    #[test]
    fn a_key_tells_where_an_output_lies_and_no_other_is_taken_for_one() {
        for account in [None, Some(2)] {
            let address = Address {
                account,
                region: "eu-central-1".into(),
                function: "f".into(),
                bucket: "remotionlambda-a".into(),
            };
            let key: Key = key(&address, "renders/abc/x-1.mp4").parse().unwrap();
            assert_eq!((key.account, key.region.as_str()), (account, "eu-central-1"));
            assert_eq!((key.bucket.as_str(), key.render_id()), ("remotionlambda-a", Some("abc")));
        }
        for wrong in
            ["s3://a/b", "lambda://r/b", "lambda:///b/c", "lambda://x@r/b/c", "lambda://r//c", "id/1.mp4"]
        {
            assert!(wrong.parse::<Key>().is_err(), "{wrong}");
        }
    }
}
