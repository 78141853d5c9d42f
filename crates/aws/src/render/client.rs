//! What is asked of AWS, by way of the client for Remotion Lambda.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::operation::get_object::GetObjectError;
use jiff::Timestamp;
use lastframe_core::site::SiteVersion;
use lastframe_core::{Failure, Kind, Phase, Progress, RenderRequest};
use remotion_lambda::{
    CancelRenderOptions, Client, CostsInfo, Error, GetOrCreateBucketOptions, OutName, RenderLocator,
    RenderMediaOptions, RenderMetadata, RenderProgress, RenderStillOptions, RenderStillOutput,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use super::remote::{At, NotStarted, Order, Recent, Refusal, Remote, Seen, Started, State};
use super::{cause, sites};
use crate::outputs::{delete_render, fault, size};
use crate::{Accounts, Function};

/// How long the answer to the start of a video is waited for: the function is started, may have to look for its bucket, and
/// starts another one.
const ANSWER: Duration = Duration::from_secs(60);

/// A function that is deployed.
#[derive(Debug)]
pub(crate) struct Deployed {
    function: Function,
    /// The longest that one invocation takes.
    timeout: Duration,
    accounts: Accounts,
    /// Where bundles lie.
    sites: PathBuf,
    bucket: OnceCell<String>,
    published: sites::Published,
}

impl Deployed {
    pub(crate) fn new(function: Function, timeout: Duration, accounts: Accounts, sites: PathBuf) -> Self {
        let (bucket, published) = (OnceCell::new(), sites::Published::default());
        Self { function, timeout, accounts, sites, bucket, published }
    }

    async fn client(&self) -> io::Result<Client> {
        self.accounts.client(self.function.account, &self.function.region).await
    }

    /// The options of a request under Remotion's names, with those that only this renderer has a say in.
    fn options<T: DeserializeOwned>(&self, order: Order<'_>) -> Result<T, Failure> {
        let request = &order.job.request;
        let mut options = under_remotions_names(request, order.job.kind)?;
        options.insert("functionName".into(), self.function.name.clone().into());
        options.insert("serveUrl".into(), order.serve_url.into());
        options.insert("forceBucketName".into(), order.bucket.into());
        options.insert("outName".into(), order.out_name.into());
        options.entry("privacy").or_insert_with(|| "private".into());
        let internal = |error: serde_json::Error| Failure::new("internal", error.to_string(), false);
        serde_json::from_value(Value::Object(options)).map_err(internal)
    }

    async fn start_media(&self, client: &Client, order: Order<'_>) -> Result<Started, NotStarted> {
        let mut options: RenderMediaOptions = self.options(order).map_err(refused)?;
        options.input_props = props(&order.job.request)?;
        options.enable_cancellation = true;
        match tokio::time::timeout(ANSWER, client.render_media_on_lambda(&options)).await {
            Ok(Ok(started)) => Ok(Started { render_id: started.render_id, cost_in_usd: 0.0 }),
            Ok(Err(error)) => Err(not_started(&error)),
            Err(_) => Err(NotStarted::Unanswered(format!("no answer within {} s", ANSWER.as_secs()))),
        }
    }

    async fn start_still(&self, client: &Client, order: Order<'_>) -> Result<Started, NotStarted> {
        let mut options: RenderStillOptions = self.options(order).map_err(refused)?;
        options.input_props = props(&order.job.request)?;
        let made = client.render_still_on_lambda(&options).await;
        let started = |made: RenderStillOutput| Started {
            render_id: made.render_id,
            cost_in_usd: dollars(&made.estimated_price),
        };
        made.map(started).map_err(|error| not_started(&error))
    }

    /// A still has no progress: it is there, or it is not yet.
    async fn look_at_still(&self, client: &Client, at: At<'_>) -> io::Result<Option<Seen>> {
        let key = format!("renders/{}/progress.json", at.render_id);
        let found = client.s3().get_object().bucket(at.bucket).key(&key).send().await;
        let written: Written = match found {
            Ok(found) => {
                let bytes = found.body.collect().await.map_err(io::Error::other)?.into_bytes();
                serde_json::from_slice(&bytes)?
            }
            Err(error) if error.as_service_error().is_some_and(GetObjectError::is_no_such_key) => {
                return Ok(None);
            }
            Err(error) => return Err(fault(error)),
        };
        let out_name = written.render_metadata.as_ref().and_then(name_of);
        let key = format!("renders/{}/{}", at.render_id, at.out_name);
        let made = match &out_name {
            Some(name) if name == at.out_name => size(client, at.bucket, &key).await?,
            _ => None,
        };
        let started = written.render_metadata.as_ref().map(|metadata| metadata.started_date);
        let launched_at = moment(written.function_launched.or(started).unwrap_or(0));
        Ok(Some(Seen {
            out_name,
            launched_at,
            // What a still writes as its `timeoutTimestamp` is no moment, but how long it had left.
            gives_up_at: launched_at + self.timeout,
            progress: Progress { phase: Phase::Rendering, frames_rendered: 0, frame_count: 1, overall: 0.5 },
            pulse: made.unwrap_or(0),
            cost_in_usd: 0.0,
            size: written.render_metadata.as_ref().and_then(pixels),
            state: made.map_or(State::Running, |size_in_bytes| State::Done { key, size_in_bytes }),
        }))
    }
}

#[async_trait]
impl Remote for Deployed {
    async fn bucket(&self) -> Result<String, Refusal> {
        if let Some(bucket) = &self.function.bucket {
            return Ok(bucket.clone());
        }
        let find = || async {
            let client = self.client().await.map_err(|error| Refusal::Final(unreachable(&error)))?;
            let found = client.get_or_create_bucket(&GetOrCreateBucketOptions::default()).await;
            // Whether one was made or not, asking again finds it.
            found.map(|found| found.bucket_name).map_err(|error| {
                if error.is_transient() {
                    Refusal::Passing(error.to_string())
                } else {
                    Refusal::Final(refusal(&error))
                }
            })
        };
        self.bucket.get_or_try_init(find).await.cloned()
    }

    async fn serve_url(&self, bucket: &str, site: &SiteVersion) -> Result<String, Refusal> {
        if let Some(url) = &site.url {
            return Ok(format!("{url}index.html"));
        }
        let client = self.client().await.map_err(|error| Refusal::Final(unreachable(&error)))?;
        let folder = self.sites.join(&site.version);
        let published = self.published.publish(client.s3(), bucket, &site.version, &folder).await;
        published.map_err(|error| {
            let message = format!("the site cannot be brought to s3://{bucket}: {error}");
            match error.kind() {
                io::ErrorKind::ResourceBusy => Refusal::Passing(message),
                kind => {
                    let retryable = matches!(kind, io::ErrorKind::Other | io::ErrorKind::InvalidData);
                    Refusal::Final(Failure::new("site_not_published", message, retryable))
                }
            }
        })
    }

    fn doubt(&self, bucket: &str, site: &SiteVersion) {
        self.published.doubt(bucket, &site.version);
    }

    async fn start(&self, order: Order<'_>) -> Result<Started, NotStarted> {
        let client = self.client().await.map_err(|error| refused(unreachable(&error)))?;
        match order.job.kind {
            Kind::Media => self.start_media(&client, order).await,
            Kind::Still => self.start_still(&client, order).await,
        }
    }

    async fn look(&self, at: At<'_>) -> io::Result<Option<Seen>> {
        let client = self.client().await?;
        if at.kind == Kind::Still {
            return self.look_at_still(&client, at).await;
        }
        let render = RenderLocator {
            function_name: self.function.name.clone(),
            bucket_name: at.bucket.to_owned(),
            render_id: at.render_id.to_owned(),
            ..RenderLocator::default()
        };
        match client.get_render_progress_from_bucket(&render).await {
            Ok(progress) => Ok(progress.as_ref().map(seen)),
            // A still of somebody else's, met in the search for a render.
            Err(Error::Invalid { .. }) => Ok(None),
            Err(error) => Err(crate::fault(&error)),
        }
    }

    async fn recent(&self, bucket: &str, since: Timestamp, out_name: &str) -> io::Result<Vec<Recent>> {
        let client = self.client().await?;
        let mut pages =
            client.s3().list_objects_v2().bucket(bucket).prefix("renders/").into_paginator().send();
        let (mut recent, mut with_output) = (BTreeSet::new(), BTreeSet::new());
        while let Some(page) = pages.next().await {
            for object in page.map_err(fault)?.contents.unwrap_or_default() {
                let parts = object.key().and_then(|key| key.strip_prefix("renders/")?.split_once('/'));
                let Some((render_id, file)) = parts else { continue };
                if file == out_name {
                    with_output.insert(render_id.to_owned());
                }
                let written = object.last_modified().map_or(0, aws_sdk_s3::primitives::DateTime::secs);
                if file == "progress.json" && written >= since.as_second() {
                    recent.insert(render_id.to_owned());
                }
            }
        }
        recent.extend(with_output.iter().cloned());
        let recent = recent.into_iter().map(|render_id| {
            let has_output = with_output.contains(&render_id);
            Recent { render_id, has_output }
        });
        Ok(recent.collect())
    }

    async fn cancel(&self, at: At<'_>) -> io::Result<()> {
        if at.kind == Kind::Still {
            // Nothing asks for it before it is made, and nobody is listening until then.
            return Ok(());
        }
        let client = self.client().await?;
        let options =
            CancelRenderOptions { bucket_name: at.bucket.to_owned(), render_id: at.render_id.to_owned() };
        client.cancel_render_on_lambda(&options).await.map_err(|error| crate::fault(&error))
    }

    async fn size(&self, bucket: &str, key: &str) -> io::Result<Option<u64>> {
        size(&self.client().await?, bucket, key).await
    }

    async fn delete(&self, at: At<'_>) -> io::Result<()> {
        delete_render(&self.client().await?, at.bucket, at.render_id).await
    }
}

/// The request as Remotion's own clients take it, without its props: those are not read into a tree. Of what is not Remotion's
/// nothing comes to it, a webhook least of all: it would send that itself, for attempts that nobody should hear of.
fn under_remotions_names(request: &RenderRequest, kind: Kind) -> Result<Map<String, Value>, Failure> {
    let bare = RenderRequest {
        input_props: None,
        // What only Lambda understands, but for where the render goes: that is settled.
        renderer_function_name: request.renderer_function_name.clone(),
        frames_per_lambda: request.frames_per_lambda,
        concurrency: request.concurrency.clone(),
        concurrency_per_lambda: request.concurrency_per_lambda,
        max_retries: request.max_retries,
        privacy: request.privacy,
        storage_class: request.storage_class.clone(),
        ..request.for_remotion(kind)
    };
    match serde_json::to_value(bare) {
        Ok(Value::Object(mut options)) => {
            for name in ["enforceAudioTrack", "forSeamlessAacConcatenation", "disallowParallelEncoding"] {
                options.remove(name);
            }
            Ok(options)
        }
        Ok(_) => Ok(Map::new()),
        Err(error) => Err(Failure::new("internal", error.to_string(), false)),
    }
}

fn props(request: &RenderRequest) -> Result<remotion_lambda::InputProps, NotStarted> {
    match &request.input_props {
        None => Ok(remotion_lambda::InputProps::default()),
        Some(props) => {
            remotion_lambda::InputProps::from_json(props.as_str()).map_err(|error| refused(refusal(&error)))
        }
    }
}

fn refused(failure: Failure) -> NotStarted {
    NotStarted::Refused(Refusal::Final(failure))
}

fn not_started(error: &Error) -> NotStarted {
    if error.may_have_happened() {
        NotStarted::Unanswered(error.to_string())
    } else if error.is_transient() {
        NotStarted::Refused(Refusal::Passing(error.to_string()))
    } else {
        refused(refusal(error))
    }
}

/// Where prices are in another currency, nothing is known of dollars.
fn dollars(costs: &CostsInfo) -> f64 {
    if costs.currency == "USD" { costs.accrued_so_far } else { 0.0 }
}

/// Why AWS or Remotion did not do what it was asked.
pub(super) fn refusal(error: &Error) -> Failure {
    let (code, retryable) = match error {
        Error::Render { message, stack } => return cause::fatal("Error", message, Some(stack)),
        Error::FunctionMissing { .. } => ("lambda_function_missing", false),
        Error::VersionMismatch { .. } | Error::VersionUnknown { .. } => ("lambda_version", false),
        Error::Credentials { .. } => ("lambda_credentials", false),
        Error::AccessDenied { .. } => ("lambda_denied", false),
        Error::SeveralBuckets { .. } => ("lambda_not_configured", false),
        Error::Invalid { .. } => ("invalid_option", false),
        error => ("lambda_unreachable", error.is_transient()),
    };
    let advice = error.advice().map(|advice| format!(" ({advice})")).unwrap_or_default();
    Failure::new(code, format!("{error}{advice}"), retryable)
}

pub(super) fn unreachable(error: &io::Error) -> Failure {
    let retryable = matches!(error.kind(), io::ErrorKind::Other | io::ErrorKind::ResourceBusy);
    Failure::new("lambda_unreachable", error.to_string(), retryable)
}

/// What a render has written, as far as a still writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    function_launched: Option<i64>,
    #[serde(default)]
    render_metadata: Option<RenderMetadata>,
}

fn name_of(metadata: &RenderMetadata) -> Option<String> {
    match &metadata.out_name {
        Some(OutName::Name(name)) => Some(name.clone()),
        Some(OutName::Place { key, .. }) => Some(key.clone()),
        // It has a composition, and so a name, though none was asked for.
        None => Some(String::new()),
    }
}

fn pixels(metadata: &RenderMetadata) -> Option<(u32, u32)> {
    let dimensions = metadata.dimensions.as_ref()?;
    let side = |pixels: f64| pixels.round() as u32;
    Some((side(dimensions.width), side(dimensions.height)))
}

fn moment(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// What there is to see in a progress.
fn seen(progress: &RenderProgress) -> Seen {
    let metadata = progress.render_metadata.as_ref();
    let frame_count = metadata.and_then(|metadata| {
        let (from, to) = metadata.frame_range?;
        let step = metadata.every_nth_frame.unwrap_or(1).max(1);
        u32::try_from(to.checked_sub(from)? / step + 1).ok()
    });
    let whole = |frames: u64| u32::try_from(frames).unwrap_or(u32::MAX);
    let frames_rendered = whole(progress.frames_rendered);
    let launched_at = progress.function_launched.map_or(Timestamp::UNIX_EPOCH, moment);
    Seen {
        out_name: metadata.and_then(name_of),
        launched_at,
        gives_up_at: progress.timeout_timestamp.map_or(launched_at + super::LONGEST, moment),
        progress: Progress {
            phase: match metadata {
                None => Phase::Bundling,
                Some(_) if progress.combined_frames > 0 => Phase::Stitching,
                Some(_) => Phase::Rendering,
            },
            frames_rendered,
            frame_count: frame_count.unwrap_or(0),
            overall: progress.overall_progress.clamp(0.0, 1.0),
        },
        pulse: pulse(progress),
        cost_in_usd: dollars(&progress.costs),
        size: metadata.and_then(pixels),
        state: state(progress),
    }
}

fn state(progress: &RenderProgress) -> State {
    if progress.done {
        return State::Done {
            key: progress.out_key.clone().unwrap_or_default(),
            size_in_bytes: progress.output_size_in_bytes.unwrap_or(0),
        };
    }
    if progress.is_cancelled() {
        return State::Cancelled;
    }
    if !progress.fatal_error_encountered {
        return State::Running;
    }
    let error = progress.fatal_error();
    let mut failure = error.map_or_else(
        || Failure::new("lambda_failed", "it failed, and does not say why", true),
        |error| cause::fatal(&error.name, &error.message, Some(&error.stack)),
    );
    if progress.is_timed_out() {
        failure.code = "lambda_timeout".into();
        failure.retryable = false;
    }
    State::Failed(failure)
}

/// A number that is another one whenever something has happened.
fn pulse(progress: &RenderProgress) -> u64 {
    let mut hasher = DefaultHasher::new();
    let parts =
        (progress.frames_rendered, progress.frames_encoded(), progress.combined_frames, progress.chunks);
    (parts, progress.lambdas_invoked, progress.errors.len(), progress.retries_info.len()).hash(&mut hasher);
    (progress.serve_url_opened, progress.composition_validated, progress.is_over()).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lastframe_core::notice::NotifyOptions;
    use lastframe_core::{Privacy, QueueOptions};
    use serde_json::json;

    use super::*;

    #[test]
    fn remotion_is_given_what_is_its_own_and_nothing_else() {
        let text = || Some("x".to_owned());
        let request = RenderRequest {
            serve_url: "site".into(),
            composition: "main".into(),
            jpeg_quality: Some(70),
            env_variables: Some(BTreeMap::from([("A".into(), "b".into())])),
            region: text(),
            function_name: text(),
            renderer_function_name: text(),
            force_bucket_name: text(),
            frames_per_lambda: Some(20),
            concurrency_per_lambda: Some(2),
            max_retries: Some(3),
            privacy: Some(Privacy::Public),
            storage_class: text(),
            queue: Some(QueueOptions::default()),
            webhook: serde_json::from_value(json!({"url": "https://example.com/"})).unwrap(),
            notify: Some(NotifyOptions::default()),
            dry_run: Some(false),
            out_name: text(),
            ..RenderRequest::default()
        };
        let options = under_remotions_names(&request, Kind::Media).unwrap();
        for name in [
            "codec",
            "composition",
            "concurrencyPerLambda",
            "envVariables",
            "framesPerLambda",
            "jpegQuality",
            "maxRetries",
            "privacy",
            "rendererFunctionName",
            "storageClass",
        ] {
            assert!(options.contains_key(name), "{name} in {options:?}");
        }
        for name in [
            "webhook",
            "notify",
            "queue",
            "dryRun",
            "outName",
            "deleteAfter",
            "downloadBehavior",
            "region",
            "functionName",
            "forceBucketName",
            "inputProps",
        ] {
            assert!(!options.contains_key(name), "{name} in {options:?}");
        }
        assert!(!under_remotions_names(&request, Kind::Still).unwrap().contains_key("codec"));
    }

    #[test]
    fn what_passes_by_itself_is_told_from_what_stays() {
        let throttled = Error::Throttled { message: String::new(), retry_after: None };
        let expired = Error::Credentials { message: "ExpiredToken".into(), passing: true };
        let unsent = Error::Unreachable { action: "a", message: String::new(), sent: false };
        for passing in [throttled, expired, unsent] {
            assert!(matches!(not_started(&passing), NotStarted::Refused(Refusal::Passing(_))), "{passing:?}");
            assert_eq!(crate::fault(&passing).kind(), io::ErrorKind::ResourceBusy);
        }
        let wrong = Error::Credentials { message: "InvalidAccessKeyId".into(), passing: false };
        let NotStarted::Refused(Refusal::Final(failure)) = not_started(&wrong) else { panic!("{wrong:?}") };
        assert_eq!((failure.code.as_str(), failure.retryable), ("lambda_credentials", false));
        assert_eq!(crate::fault(&wrong).kind(), io::ErrorKind::PermissionDenied);
        let lost = Error::TimedOut { action: "a" };
        assert!(matches!(not_started(&lost), NotStarted::Unanswered(_)));
    }
}
