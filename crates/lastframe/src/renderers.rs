//! Which renderer a render goes to: this machine's, or Remotion Lambda.

use std::sync::Arc;

use async_trait::async_trait;
use lastframe_core::ports::{Job, Renderer, Run, RunEvent, Stop};
use lastframe_core::{Checkpoint, Failure, FieldError, Kind, RenderRequest, RendererName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{Config, LambdaFunction};
use crate::lambda;

/// All renderers, behind the one port. Each has room for so many renders at once; more wait under their leases.
#[derive(Debug)]
pub(crate) struct Renderers {
    local: Room,
    lambda: Option<Room>,
    /// Makes everything, whatever the renders say.
    always: Option<RendererName>,
}

#[derive(Clone, Debug)]
struct Room {
    renderer: Arc<dyn Renderer>,
    seats: Arc<Semaphore>,
}

impl Renderers {
    pub(crate) fn new(config: &Config, local: Arc<dyn Renderer>, lambda: Option<Arc<dyn Renderer>>) -> Self {
        let room = |renderer, seats| Room { renderer, seats: Arc::new(Semaphore::new(seats)) };
        Self {
            local: room(local, config.concurrency),
            lambda: lambda.map(|lambda| room(lambda, config.lambda.concurrency)),
            always: None,
        }
    }

    /// The same, of which this one makes everything that has not begun elsewhere.
    #[cfg(feature = "stack")]
    pub(crate) fn always(self, renderer: RendererName) -> Self {
        Self { always: Some(renderer), ..self }
    }
}

#[async_trait]
impl Renderer for Renderers {
    async fn start(&self, job: Job, checkpoint: Option<Checkpoint>) -> Box<dyn Run> {
        // What has begun on Lambda is followed there, whatever the configuration says by now; but whoever makes everything
        // here and knows no functions begins anew.
        let began = checkpoint.as_ref().is_some_and(lambda::is_on_lambda)
            && (self.lambda.is_some() || self.always != Some(RendererName::Local));
        let is_for_lambda = began || self.always.or(job.request.renderer()) == Some(RendererName::Lambda);
        let room = match &self.lambda {
            _ if !is_for_lambda => &self.local,
            Some(lambda) => lambda,
            None => return Box::new(Nowhere { told: false }),
        };
        if began {
            return room.renderer.start(job, checkpoint).await;
        }
        Box::new(Seated { room: room.clone(), state: State::Waiting(Box::new(job), checkpoint) })
    }
}

/// The run of a render that was accepted for Lambda, by a server that has no functions any more.
struct Nowhere {
    told: bool,
}

#[async_trait]
impl Run for Nowhere {
    async fn next(&mut self) -> RunEvent {
        if std::mem::replace(&mut self.told, true) {
            std::future::pending::<()>().await;
        }
        let message = "it was accepted for Remotion Lambda, and no function is configured any more: configure one and retry it, \
                       or submit it again";
        RunEvent::Failed(Failure::new("lambda_not_configured", message, false))
    }

    async fn stop(self: Box<Self>, _why: Stop) {}
}

/// A run that begins when there is a seat for it.
struct Seated {
    room: Room,
    state: State,
}

enum State {
    Waiting(Box<Job>, Option<Checkpoint>),
    Running(Box<dyn Run>, OwnedSemaphorePermit),
    /// Nobody gives out seats any more.
    Closed,
}

#[async_trait]
impl Run for Seated {
    async fn next(&mut self) -> RunEvent {
        if let State::Waiting(..) = &self.state {
            let seat = Arc::clone(&self.room.seats).acquire_owned().await;
            // A renderer starts at once: nothing can come in between.
            let waiting = std::mem::replace(&mut self.state, State::Closed);
            if let (Ok(seat), State::Waiting(job, checkpoint)) = (seat, waiting) {
                self.state = State::Running(self.room.renderer.start(*job, checkpoint).await, seat);
            }
        }
        match &mut self.state {
            State::Running(run, _) => run.next().await,
            _ => std::future::pending().await,
        }
    }

    async fn stop(self: Box<Self>, why: Stop) {
        if let State::Running(run, _seat) = self.state {
            run.stop(why).await;
        }
    }
}

/// What makes the render: what it says itself, or else what is configured for its site, or for all.
pub(crate) fn renderer_of(config: &Config, request: &RenderRequest) -> RendererName {
    let site = request.serve_url.split('@').next().unwrap_or_default();
    let of_site = config.site_renderers.get(&request.serve_url).or_else(|| config.site_renderers.get(site));
    request.renderer().or(of_site.copied()).unwrap_or(config.renderer)
}

/// Everything that the renderer of a request cannot do with it.
pub(crate) fn check(
    config: &Config,
    request: &RenderRequest,
    kind: Kind,
    remotion_version: &str,
) -> Vec<FieldError> {
    let renderer = renderer_of(config, request);
    if config.renderer_alone && renderer != config.renderer {
        let detail = match config.renderer {
            RendererName::Lambda => "this queue renders on Remotion Lambda alone: leave it out",
            RendererName::Local => {
                "this queue has no function of Remotion Lambda, its own machines render: leave it out"
            }
        };
        return vec![FieldError::new("/queue/renderer", detail)];
    }
    match renderer {
        RendererName::Local => request.check_on_this_machine(),
        RendererName::Lambda => {
            let mut errors = request.check_on_lambda(kind);
            errors.extend(nowhere(config, request, remotion_version));
            errors.extend(dearer(config, request));
            errors
        }
    }
}

/// More money than the configuration lets everybody spend.
fn dearer(config: &Config, request: &RenderRequest) -> Option<FieldError> {
    let asked = request.queue.as_ref().and_then(|queue| queue.max_cost)?;
    let most = config.lambda.max_cost.filter(|most| asked > *most)?;
    let detail = format!("is {asked}, and may be {most} at most (lambda.max_cost)");
    Some(FieldError::new("/queue/maxCost", detail))
}

/// Why no function that is configured takes the request.
fn nowhere(config: &Config, request: &RenderRequest, remotion_version: &str) -> Option<FieldError> {
    let all = &config.lambda.functions;
    if all.is_empty() {
        let detail = "this server has no function of Remotion Lambda: [[lambda.function]] in its configuration names them";
        return Some(FieldError::new("/queue/renderer", detail));
    }
    let in_region: Vec<_> = all
        .iter()
        .filter(|function| request.region.as_ref().is_none_or(|region| *region == function.region))
        .collect();
    if in_region.is_empty() {
        let regions: Vec<_> = all.iter().map(|function| function.region.as_str()).collect();
        let detail = format!("no function is configured there; there are some in {}", regions.join(", "));
        return Some(FieldError::new("/region", detail));
    }
    let named: Vec<_> = in_region
        .iter()
        .filter(|function| request.function_name.as_ref().is_none_or(|name| *name == function.name))
        .collect();
    if named.is_empty() {
        let names: Vec<_> = in_region.iter().map(|function| function.name.as_str()).collect();
        let detail = format!("it is not configured; there are {}", names.join(", "));
        return Some(FieldError::new("/functionName", detail));
    }
    let with_bucket: Vec<_> = named
        .into_iter()
        .filter(|function| {
            request.force_bucket_name.as_ref().is_none_or(|bucket| Some(bucket) == function.bucket.as_ref())
        })
        .collect();
    if with_bucket.is_empty() {
        let detail = "none of the functions that fit is configured with this bucket ([[lambda.function]]): leave it out";
        return Some(FieldError::new("/forceBucketName", detail));
    }
    // One function calls another in its own region and account alone.
    let reaches = |function: &LambdaFunction, name: &String| {
        let place = (&function.region, function.account);
        all.iter().any(|other| other.name == *name && (&other.region, other.account) == place)
    };
    let with_helper: Vec<_> = with_bucket
        .into_iter()
        .filter(|function| request.renderer_function_name.as_ref().is_none_or(|name| reaches(function, name)))
        .collect();
    if with_helper.is_empty() {
        let detail = "it is not configured in the region and account of a function that fits ([[lambda.function]]): leave it out";
        return Some(FieldError::new("/rendererFunctionName", detail));
    }
    let versions: Vec<_> = with_helper.iter().map(|function| lambda::version_of(&function.name)).collect();
    let fits =
        versions.iter().any(|version| version.as_deref().is_none_or(|version| version == remotion_version));
    (!fits).then(|| {
        let versions: Vec<_> = versions.into_iter().flatten().collect();
        let detail = format!(
            "the site was bundled with Remotion {remotion_version}, and the functions have {}: deploy a function of that \
             version, or add the site again",
            versions.join(", ")
        );
        FieldError::new("/serveUrl", detail)
    })
}

#[cfg(test)]
mod tests {
    use lastframe_core::QueueOptions;

    use super::*;
    use crate::config::Flags;

    #[test]
    fn a_render_says_what_makes_it_or_its_site_does_or_one_is_for_all() {
        let load = |file: &str| {
            let data = tempfile::tempdir().unwrap();
            std::fs::write(data.path().join("lastframe.toml"), file).unwrap();
            Config::load(Flags { data: Some(data.path().into()), ..Flags::default() })
        };
        let films = "[sites.renderer]\nfilms = \"lambda\"\n";
        assert!(load(films).unwrap_err().to_string().contains("sites.renderer"));
        let function = "[[lambda.function]]\nname = \"remotion-render-4-0-527-mem2048mb-disk2048mb-120sec\"\nregion = \"eu-central-1\"\n";
        let config = load(&format!("{films}{function}")).unwrap();
        let of = |site: &str, said: Option<RendererName>| {
            let queue = Some(QueueOptions { renderer: said, ..QueueOptions::default() });
            renderer_of(&config, &RenderRequest { serve_url: site.into(), queue, ..RenderRequest::default() })
        };
        assert_eq!(of("films", None), RendererName::Lambda);
        assert_eq!(of("films@0192", None), RendererName::Lambda);
        assert_eq!(of("films", Some(RendererName::Local)), RendererName::Local);
        assert_eq!(of("others", None), RendererName::Local);
    }

    #[test]
    fn a_bucket_and_a_function_for_the_parts_must_go_with_one_function() {
        let function = |name: &str, region: &str, more: &str| {
            format!(
                "[[lambda.function]]\nname = \"remotion-render-4-0-527-{name}\"\nregion = \"{region}\"\n{more}\n"
            )
        };
        let (small, large) = ("mem2048mb-disk2048mb-120sec", "mem3008mb-disk2048mb-120sec");
        let bucket = "remotionlambda-useast1-abcdefghij";
        let data = tempfile::tempdir().unwrap();
        let file = [
            function(small, "eu-central-1", ""),
            function(large, "us-east-1", &format!("bucket = \"{bucket}\"")),
        ];
        std::fs::write(data.path().join("lastframe.toml"), file.concat()).unwrap();
        let config = Config::load(Flags { data: Some(data.path().into()), ..Flags::default() }).unwrap();
        let pointer = |region: Option<&str>, bucket: Option<&str>, renderer: Option<&str>| {
            let request = RenderRequest {
                serve_url: "films".into(),
                composition: "main".into(),
                region: region.map(Into::into),
                force_bucket_name: bucket.map(Into::into),
                renderer_function_name: renderer.map(|name| format!("remotion-render-4-0-527-{name}")),
                queue: Some(QueueOptions { renderer: Some(RendererName::Lambda), ..QueueOptions::default() }),
                ..RenderRequest::default()
            };
            let errors = check(&config, &request, Kind::Media, "4.0.527");
            errors.into_iter().map(|error| error.pointer).collect::<Vec<_>>()
        };
        let (none, eu) = (Vec::<String>::new(), Some("eu-central-1"));
        assert_eq!(pointer(None, Some(bucket), None), none);
        assert_eq!(pointer(None, Some(bucket), Some(large)), none);
        assert_eq!(pointer(eu, None, Some(small)), none);
        assert_eq!(pointer(eu, Some(bucket), None), ["/forceBucketName"]);
        assert_eq!(pointer(None, Some(bucket), Some(small)), ["/rendererFunctionName"]);
        assert_eq!(pointer(eu, None, Some(large)), ["/rendererFunctionName"]);
    }
}
