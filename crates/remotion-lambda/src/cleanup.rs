//! Ending renders, and removing what they left.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use crate::options::S3OutputProvider;
use crate::progress::{Stored, expected_output};
use crate::{Client, Error};

/// How many objects are deleted at once.
const DELETED_AT_ONCE: usize = 10;

/// Which render is cancelled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CancelRenderOptions {
    /// Its bucket.
    pub bucket_name: String,
    /// Its id.
    pub render_id: String,
}

/// Which render is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRenderOptions {
    /// Its bucket.
    pub bucket_name: String,
    /// Its id.
    pub render_id: String,
    /// Credentials for the output, if it went to another service than AWS.
    pub custom_credentials: Option<S3OutputProvider>,
}

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeleteRenderOutput {
    /// How much was freed in the render's folder, in bytes.
    pub freed_bytes: u64,
}

impl Client {
    /// Asks a render to stop. Its functions look every second; when they have stopped, its progress has a fatal error that
    /// [`is_cancelled`](crate::RenderProgress::is_cancelled). What is done by then stays done.
    ///
    /// # Errors
    /// [`Error::NotCancellable`] if it was not started with `enable_cancellation`, [`Error::RenderMissing`] if there is no such
    /// render; and see [`Error`].
    pub async fn cancel_render_on_lambda(&self, options: &CancelRenderOptions) -> Result<(), Error> {
        let CancelRenderOptions { bucket_name, render_id } = options;
        let owner = self.account().await?;
        let stored = self.stored(bucket_name, render_id, Some(owner)).await?;
        let stored = stored.ok_or_else(|| missing(bucket_name, render_id))?;
        if stored.cancellation_enabled != Some(true) {
            return Err(Error::NotCancellable { render_id: render_id.clone() });
        }
        let key = format!("renders/{render_id}/cancel.json");
        let signal = json!({ "cancelledAt": self.now() }).to_string();
        self.put_json(bucket_name, &key, signal.into_bytes(), Some(owner), true).await
    }

    /// Deletes a render's output and everything in its folder. Stop it before: what still runs writes again.
    ///
    /// A render that never got to know its composition has nothing, and stays as it is.
    ///
    /// # Errors
    /// [`Error::RenderMissing`] if there is no such render; and see [`Error`].
    pub async fn delete_render(&self, options: &DeleteRenderOptions) -> Result<DeleteRenderOutput, Error> {
        let DeleteRenderOptions { bucket_name, render_id, custom_credentials } = options;
        let owner = self.account().await?;
        let stored = self.stored(bucket_name, render_id, Some(owner)).await?;
        let stored = stored.ok_or_else(|| missing(bucket_name, render_id))?;
        let Some(metadata) = &stored.render_metadata else { return Ok(DeleteRenderOutput::default()) };
        let output = expected_output(metadata, bucket_name)?;
        let elsewhere = match (&output.endpoint, custom_credentials) {
            (None, _) => None,
            (Some(endpoint), Some(given)) => {
                Some(S3OutputProvider { endpoint: endpoint.clone(), ..given.clone() })
            }
            (Some(endpoint), None) => {
                let message = format!("the output is at {endpoint}, which needs its own");
                return Err(Error::Invalid { option: "customCredentials", message });
            }
        };
        delete(&self.storage(elsewhere.as_ref()), &output.bucket, &output.key).await?;

        let folder = format!("renders/{render_id}");
        let mut freed_bytes = 0;
        loop {
            let objects = self.list_objects(bucket_name, &folder, owner).await?;
            // Another render's id may begin with this one.
            let ours = |key: &str| key.strip_prefix(&folder).is_some_and(|rest| rest.starts_with('/'));
            let objects: Vec<_> =
                objects.into_iter().filter(|object| object.key().is_some_and(ours)).collect();
            if objects.is_empty() {
                return Ok(DeleteRenderOutput { freed_bytes });
            }
            freed_bytes +=
                objects.iter().filter_map(|object| u64::try_from(object.size()?).ok()).sum::<u64>();
            // Keys of their own: futures over borrowed ones could not be sent between threads.
            let keys: Vec<String> = objects.into_iter().filter_map(|object| object.key).collect();
            stream::iter(keys)
                .map(|key| async move { delete(&self.s3, bucket_name, &key).await })
                .buffer_unordered(DELETED_AT_ONCE)
                .try_collect::<()>()
                .await?;
        }
    }

    /// A render's `progress.json`.
    pub(crate) async fn stored(
        &self,
        bucket: &str,
        render_id: &str,
        owner: Option<&str>,
    ) -> Result<Option<Stored>, Error> {
        let Some(text) =
            self.read_object(bucket, &format!("renders/{render_id}/progress.json"), owner).await?
        else {
            return Ok(None);
        };
        let odd = |message: String| Error::Reply {
            action: "s3:GetObject",
            message: format!("progress.json: {message}"),
        };
        // A list would be read as fields in a row.
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err(odd("it is no object".to_owned()));
        }
        serde_json::from_slice(&text).map(Some).map_err(|error| odd(error.to_string()))
    }
}

fn missing(bucket_name: &str, render_id: &str) -> Error {
    Error::RenderMissing { render_id: render_id.to_owned(), bucket_name: bucket_name.to_owned() }
}

async fn delete(s3: &aws_sdk_s3::Client, bucket: &str, key: &str) -> Result<(), Error> {
    let deleted = s3.delete_object().bucket(bucket).key(key).send().await;
    deleted.map(|_| ()).map_err(|error| Error::aws("s3:DeleteObject", &error))
}
