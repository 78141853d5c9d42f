//! What runs on AWS Lambda, one program for three functions. `LASTFRAME_FUNCTION` says which one it is:
//!
//! - [`api`] answers the gateway's requests by the same router as a server;
//! - [`render`] takes one ring of the queue, and sees one attempt of one render through, or hands it back before its own time
//!   is over;
//! - [`tend`] does what time brings about: it rings again, sweeps, tells who is owed a notice, and forgets.

pub mod api;
mod environment;
pub mod render;
mod ses;
pub mod tend;
mod time;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use lambda_runtime::{LambdaEvent, service_fn};
use lastframe::cloud::{self, Around, Cloud, Ports};
use lastframe_aws::queue::{AwsQueue, Options};
use lastframe_core::{Clock, SystemClock};

pub use self::environment::{Environment, Role};
pub use self::ses::Ses;
pub use self::time::left;

/// The name under which all functions have the key of links.
const LINK_KEY: &str = "link-key";

/// Serves what Lambda sends until Lambda ends it.
#[must_use]
pub fn main() -> ExitCode {
    cloud::start_log();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let served = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(serve()));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "this function cannot work");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> anyhow::Result<()> {
    let environment = Environment::read(|name| std::env::var(name).ok())?;
    let config = environment.settings.config()?;
    let sdk = lastframe_aws::sdk(None, Some(&environment.settings.region)).await;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let options = Options {
        table: environment.table.clone(),
        queue_url: environment.queue_url.clone(),
        dead_letters_url: environment.dead_letters_url.clone(),
        timers_url: environment.timers_url.clone(),
        bucket: environment.settings.bucket.clone(),
        lease: config.lease,
        retry: config.retry,
        limits: config.limits,
    };
    let queue = AwsQueue::open(&sdk, options, Arc::clone(&clock), Arc::new(())).await;
    let queue = Arc::new(queue.context("cannot use the queue")?);
    let new_key = cloud::new_link_key()?;
    let link_key = match environment.role {
        Role::Render => new_key,
        Role::Api | Role::Tend => {
            queue.secret(LINK_KEY, || new_key).await.context("cannot read the key of links")?
        }
    };
    let ports = Ports {
        queue: Arc::clone(&queue) as _,
        directory: Arc::clone(&queue) as _,
        accounts: Arc::clone(&queue) as _,
        outbox: Arc::clone(&queue) as _,
    };
    let around = Around { ports, link_key, post: Arc::new(Ses::new(&sdk)), clock };
    let cloud = Arc::new(Cloud::open(&environment.settings, config, around)?);
    let timeout = environment.timeout;
    match environment.role {
        Role::Api => run(api::Function::new(cloud.router())).await,
        Role::Render => {
            let worker = cloud.worker(environment.instance.clone()).context(
                "LASTFRAME_REMOTION_FUNCTION names no function: own machines make the renders of this queue (`lastframe work`), \
                 and its mapping to this function must be off",
            )?;
            let bell = render::Bell::new(queue);
            run(render::Function::new(Arc::new(bell), worker, timeout)).await
        }
        Role::Tend => run(tend::Function::new(Arc::new(tend::Duties { queue, cloud }), timeout)).await,
    }
}

/// What a function does with an event.
trait Handler: Send + Sync {
    fn handle(
        &self,
        event: LambdaEvent<serde_json::Value>,
    ) -> impl Future<Output = anyhow::Result<serde_json::Value>> + Send;
}

async fn run(function: impl Handler) -> anyhow::Result<()> {
    let function = &function;
    let serving = lambda_runtime::run(service_fn(|event: LambdaEvent<serde_json::Value>| async move {
        function.handle(event).await.map_err(|error| {
            tracing::error!(error = format!("{error:#}"), "an event could not be handled");
            lambda_runtime::Error::from(format!("{error:#}"))
        })
    }));
    serving.await.map_err(|error| anyhow::anyhow!("the runtime of Lambda failed: {error}"))
}
