//! Starting renders, and asking functions.

use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::function::{self, FunctionName};
use crate::options::{
    EnvVariables, Extra, GetCompositionsOptions, InputProps, LogLevel, Privacy, RenderMediaOptions,
    RenderStillOptions, SentProps, json, utf16_len,
};
use crate::progress::{Artifact, CostsInfo, RenderLocator, RenderProgress};
use crate::region::{Partition, folder_url, insights_url, log_url, progress_url};
use crate::stream::Message;
use crate::{Client, Error, bucket};

/// What a start must leave free for everything but props and environment variables, in UTF-16 units.
const MARGIN: usize = 5_000 + 1_024;

/// What fits into a start: the function passes it on in an event, which Lambda limits.
const MEDIA_LIMIT: usize = 200_000 - MARGIN;

/// What fits into a still, which is rendered within the call.
const STILL_LIMIT: usize = 5_000_000 - MARGIN;

/// How many functions are asked at once for their version.
const ASKED_AT_ONCE: usize = 10;

/// A render that was started. Keep it: everything else about the render is asked for by these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderMediaOutput {
    /// Its id.
    pub render_id: String,
    /// The bucket it is in.
    pub bucket_name: String,
    /// The log of the functions that render chunks, in AWS's console.
    pub cloud_watch_logs: String,
    /// The log of the function that leads, in AWS's console.
    pub cloud_watch_main_logs: String,
    /// Lambda Insights, in AWS's console.
    pub lambda_insights_logs: String,
    /// Its folder, in AWS's console.
    pub folder_in_s3_console: String,
    /// Its `progress.json`, in AWS's console.
    pub progress_json_in_console: String,
}

/// A still that was rendered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderStillOutput {
    /// About what it cost.
    pub estimated_price: CostsInfo,
    /// Where it is.
    pub url: String,
    /// Its key in the bucket.
    pub out_key: String,
    /// Its size.
    pub size_in_bytes: u64,
    /// Its bucket.
    pub bucket_name: String,
    /// Its id.
    pub render_id: String,
    /// The log, in AWS's console.
    pub cloud_watch_logs: String,
    /// What else the composition wrote.
    pub artifacts: Vec<Artifact>,
}

/// A still that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StillInit {
    /// Its id.
    pub render_id: String,
    /// The log, in AWS's console.
    pub cloud_watch_logs: String,
    /// Lambda Insights, in AWS's console.
    pub lambda_insights_url: String,
}

/// A composition of a site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VideoConfig {
    /// Its id.
    pub id: String,
    /// Its width, in pixels.
    pub width: f64,
    /// Its height, in pixels.
    pub height: f64,
    /// Its frames in a second.
    pub fps: f64,
    /// How long it is, in frames.
    pub duration_in_frames: f64,
    /// Everything else, such as `defaultProps`, `props` and `defaultCodec`.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A function of Remotion's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionInfo {
    /// Its name.
    pub function_name: String,
    /// Remotion's version, as the function says it; `None` if it did not answer, or was not asked.
    pub version: Option<String>,
    /// Its memory, in MB.
    pub memory_size_in_mb: u32,
    /// How long it may run, in seconds.
    pub timeout_in_seconds: u32,
    /// Its disk, in MB.
    pub disk_size_in_mb: u32,
}

/// Which functions are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetFunctionsOptions {
    /// Only those of this version of Remotion; others are not asked for theirs if their names tell already. Default: all.
    pub compatible_with: Option<String>,
    /// How much they log. Default: info.
    pub log_level: LogLevel,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Started {
    render_id: String,
    bucket_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rendered {
    output: String,
    out_key: String,
    size: u64,
    bucket_name: String,
    render_id: String,
    estimated_price: CostsInfo,
    #[serde(default)]
    received_artifacts: Vec<Artifact>,
}

impl Client {
    /// Starts a video or a sound. It is rendered when [`RenderProgress::done`] says so, not before.
    ///
    /// Props that are too large for a call are put in the bucket first.
    ///
    /// # Errors
    /// See [`Error`]. It is called once: after an error that [`may_have_happened`](Error::may_have_happened) a render may be
    /// under way whose id nobody knows.
    pub async fn render_media_on_lambda(
        &self,
        options: &RenderMediaOptions,
    ) -> Result<RenderMediaOutput, Error> {
        options.check()?;
        let function = &options.function_name;
        let version = function::version(function, options.version.as_deref())?;
        let size = size(&options.input_props, &options.env_variables)?;
        let bucket = options.bucket_name.as_deref();
        let props =
            self.send_props(&options.input_props, size > MEDIA_LIMIT, bucket, &options.privacy).await?;
        let payload = json(&options.payload(&version, props)?)?.into_bytes();
        let Started { render_id, bucket_name } = self.call(function, &version, payload).await?;

        let region = self.region();
        let renderer = options.renderer_function_name.as_deref().unwrap_or(function);
        let log = |method: &str| log_url(region, renderer, &format!("method={method},renderId={render_id}"));
        Ok(RenderMediaOutput {
            cloud_watch_logs: log("renderer"),
            cloud_watch_main_logs: log("launch"),
            lambda_insights_logs: insights_url(region, function),
            folder_in_s3_console: folder_url(region, &bucket_name, &render_id),
            progress_json_in_console: progress_url(region, &bucket_name, &render_id),
            render_id,
            bucket_name,
        })
    }

    /// Renders a still, and waits for it.
    ///
    /// # Errors
    /// See [`Error`]. It is called once.
    pub async fn render_still_on_lambda(
        &self,
        options: &RenderStillOptions,
    ) -> Result<RenderStillOutput, Error> {
        self.render_still_on_lambda_with(options, |_| {}).await
    }

    /// The same, and tells `on_init` the still's id as soon as there is one.
    ///
    /// # Errors
    /// See [`Error`]. It is called once.
    pub async fn render_still_on_lambda_with(
        &self,
        options: &RenderStillOptions,
        mut on_init: impl FnMut(StillInit) + Send,
    ) -> Result<RenderStillOutput, Error> {
        let function = &options.function_name;
        let version = function::version(function, options.version.as_deref())?;
        let size = size(&options.input_props, &options.env_variables)?;
        let bucket = options.bucket_name.as_deref();
        let props =
            self.send_props(&options.input_props, size > STILL_LIMIT, bucket, &options.privacy).await?;
        let streamed = Partition::of(self.region()).streams();
        let payload = json(&options.payload(&version, props, streamed)?)?.into_bytes();
        let log = |id: &str| log_url(self.region(), function, &format!("method=still,renderId={id}"));
        let mut init = |id: &str| {
            let lambda_insights_url = insights_url(self.region(), function);
            on_init(StillInit { render_id: id.to_owned(), cloud_watch_logs: log(id), lambda_insights_url });
        };
        let still: Rendered = if streamed {
            let hear = |message| match message {
                Message::RenderId(id) => {
                    init(&id);
                    Ok(None)
                }
                Message::Failed { error } => Err(failed(&error, &version)),
                Message::Still(still) => serde_json::from_value(still).map(Some).map_err(|error| {
                    Error::Reply { action: "lambda:InvokeFunction", message: error.to_string() }
                }),
                Message::Other => Ok(None),
            };
            self.call_streaming(function, &version, payload, hear).await?
        } else {
            let still: Rendered = self.call(function, &version, payload).await?;
            init(&still.render_id);
            still
        };
        Ok(RenderStillOutput {
            cloud_watch_logs: log(&still.render_id),
            estimated_price: still.estimated_price,
            url: still.output,
            out_key: still.out_key,
            size_in_bytes: still.size,
            bucket_name: still.bucket_name,
            render_id: still.render_id,
            artifacts: still.received_artifacts,
        })
    }

    /// How far a render is, by calling its function. That costs an invocation, and counts against the account's limit of
    /// functions at once; [`get_render_progress_from_bucket`](Self::get_render_progress_from_bucket) does neither.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_render_progress(&self, render: &RenderLocator) -> Result<RenderProgress, Error> {
        let version = function::version(&render.function_name, render.version.as_deref())?;
        let payload = json!({
            "type": "status",
            "bucketName": render.bucket_name,
            "renderId": render.render_id,
            "version": version,
            "s3OutputProvider": render.s3_output_provider,
            "logLevel": render.log_level,
            "forcePathStyle": render.force_path_style,
        });
        self.call(&render.function_name, &version, payload.to_string().into_bytes()).await
    }

    /// The compositions of a site, as a browser in the function sees them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_compositions_on_lambda(
        &self,
        options: &GetCompositionsOptions,
    ) -> Result<Vec<VideoConfig>, Error> {
        #[derive(Deserialize)]
        struct Found {
            compositions: Vec<VideoConfig>,
        }
        let version = function::version(&options.function_name, options.version.as_deref())?;
        let large = size(&options.input_props, &options.env_variables)? > MEDIA_LIMIT;
        let bucket = options.bucket_name.as_deref();
        let props = self.send_props(&options.input_props, large, bucket, &Privacy::Private).await?;
        let payload = json(&options.payload(&version, props)?)?.into_bytes();
        let found: Found = self.call(&options.function_name, &version, payload).await?;
        Ok(found.compositions)
    }

    /// The version of Remotion that a function says it has.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_function_version(
        &self,
        function_name: &str,
        log_level: &LogLevel,
    ) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Info {
            version: String,
        }
        let payload = json!({ "type": "info", "logLevel": log_level });
        let info: Info = self.call(function_name, "", payload.to_string().into_bytes()).await?;
        Ok(info.version)
    }

    /// The functions of Remotion's in the region.
    ///
    /// # Errors
    /// See [`Error`]. A function that does not answer is no error: it has no version.
    pub async fn get_functions(&self, options: &GetFunctionsOptions) -> Result<Vec<FunctionInfo>, Error> {
        let wanted = options.compatible_with.as_deref();
        let mut found = Vec::new();
        let mut pages = self.lambda.list_functions().into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| Error::aws("lambda:ListFunctions", &error))?;
            for function in page.functions.unwrap_or_default() {
                let Some(name) = function.function_name.filter(|name| function::is_remotion(name)) else {
                    continue;
                };
                let size =
                    |size: Option<i32>| size.and_then(|size| u32::try_from(size).ok()).unwrap_or_default();
                found.push(FunctionInfo {
                    function_name: name,
                    version: None,
                    memory_size_in_mb: size(function.memory_size),
                    timeout_in_seconds: size(function.timeout),
                    disk_size_in_mb: function
                        .ephemeral_storage
                        .map_or(DEFAULT_DISK, |disk| size(Some(disk.size))),
                });
            }
        }
        let asked = stream::iter(found).map(|mut info| async move {
            let named: Option<FunctionName> = info.function_name.parse().ok();
            let other = wanted.zip(named).is_some_and(|(version, name)| !name.is_of_version(version));
            if !other {
                info.version = self.get_function_version(&info.function_name, &options.log_level).await.ok();
            }
            info
        });
        let all: Vec<FunctionInfo> = asked.buffered(ASKED_AT_ONCE).collect().await;
        Ok(all.into_iter().filter(|info| wanted.is_none() || info.version.as_deref() == wanted).collect())
    }

    /// Puts props in the bucket if they do not fit into the call.
    async fn send_props(
        &self,
        props: &InputProps,
        large: bool,
        bucket: Option<&str>,
        privacy: &Privacy,
    ) -> Result<SentProps, Error> {
        let text = props.as_str();
        if !large {
            return Ok(SentProps::Payload { payload: text.to_owned() });
        }
        let bucket_name = match bucket {
            Some(bucket) => bucket.to_owned(),
            None => {
                self.get_or_create_bucket(&bucket::GetOrCreateBucketOptions::default()).await?.bucket_name
            }
        };
        let hash = bucket::random_hash()?;
        let key = format!("input-props/{hash}.json");
        // Where access control lists are turned off, S3 refuses even the one that says "private".
        let acl = *privacy != Privacy::NoAcl;
        self.put_json(&bucket_name, &key, text.to_owned().into_bytes(), None, acl).await?;
        Ok(SentProps::BucketUrl { hash, bucket_name })
    }
}

/// The disk of functions for which Lambda does not say it, in MB.
const DEFAULT_DISK: u32 = 2048;

/// What counts against the limits of a call.
fn size(props: &InputProps, variables: &EnvVariables) -> Result<usize, Error> {
    Ok(utf16_len(props.as_str()) + utf16_len(&json(variables)?))
}

/// A still that failed: one text, the message and JavaScript's stack in one.
fn failed(error: &str, version: &str) -> Error {
    let message = error.split("\n    at ").next().unwrap_or_default();
    Error::from_remotion(message, error, version)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn an_error_of_a_still_is_taken_apart() {
        let error = failed("Error: no such font\nat all\n    at render (a.js:1)\n    at b", "4.0.527");
        let Error::Render { message, stack } = error else { panic!("{error:?}") };
        assert_eq!(message, "Error: no such font\nat all");
        assert!(stack.ends_with("at b"));
    }

    #[test]
    fn values_are_only_known_by_name() {
        let config: VideoConfig = serde_json::from_value(json!({
            "id": "main", "width": 1, "height": 2, "fps": 29.97, "durationInFrames": 3, "defaultProps": { "secret": 1 },
        }))
        .unwrap();
        assert!(format!("{config:?}").contains("defaultProps"));
        assert!(!format!("{config:?}").contains("secret"));
        assert_eq!(config.extra.0["defaultProps"], Value::from_iter([("secret", 1)]));
    }
}
