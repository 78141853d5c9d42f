//! The renderer on Remotion Lambda.
//!
//! [`LambdaRenderer`] turns a job into a run; `course` is one attempt from top to bottom, `stop` ends it before its time, `trace` what the next attempt
//! must know of it, `search` finds a start that was not answered, `patience` bears with storage, `fleet` has the functions there are, `remote` what is asked of AWS and `client` how, `sites` brings
//! bundles to the bucket, `compositions` looks into one, `cause` explains what went wrong.

mod cause;
mod client;
mod compositions;
mod course;
mod fleet;
mod patience;
mod remote;
mod run;
mod search;
mod sites;
mod stop;
#[cfg(test)]
mod tests;
mod trace;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lastframe_core::ports::{Job, Renderer, Run, RunEvent};
use lastframe_core::{Checkpoint, Clock};
use lastframe_worker::logs::Logs;

use self::client::Deployed;
use self::course::{Course, Habits};
use self::fleet::{Fleet, Load, Place};
use self::run::Ends;
use self::trace::Trace;
use crate::{Accounts, Function};

pub use self::compositions::compositions;
pub(crate) use self::trace::Address;
pub use self::trace::is_on_lambda;

/// The longest that Lambda lets a function run.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// How long to wait when this machine cannot even write the log of an attempt.
const LACK: Duration = Duration::from_secs(15);

/// What the renderer on Lambda needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where renders go: each to the function of its site's version that has the fewest under way.
    pub functions: Vec<Function>,
    /// Where bundles lie, each in a folder named by its version.
    pub sites: PathBuf,
    /// How long a start that was not answered is looked for before there is another one.
    pub settle: Duration,
    /// A render in which nothing happens for so long is given up.
    pub stall: Duration,
    /// What a render may cost at most, in US dollars; its request may say less.
    pub max_cost: Option<f64>,
}

/// Renders on Remotion Lambda.
#[derive(Clone, Debug)]
pub struct LambdaRenderer {
    fleet: Arc<Fleet>,
    habits: Habits,
    logs: Logs,
    clock: Arc<dyn Clock>,
}

impl LambdaRenderer {
    /// Asks nothing of AWS yet.
    ///
    /// # Errors
    /// When the keys of an account are not in the environment.
    pub fn new(options: Options, accounts: &Accounts, logs: Logs, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let Options { functions, sites, settle, stall, max_cost } = options;
        let place = |function: Function| {
            Accounts::check(function.account)?;
            let named = function.name.parse::<remotion_lambda::FunctionName>().ok();
            let seconds = named.as_ref().map(remotion_lambda::FunctionName::timeout_in_seconds);
            let timeout = seconds.map_or(LONGEST, |seconds| Duration::from_secs(seconds.into()));
            Ok(Arc::new(Place {
                account: function.account,
                region: function.region.clone(),
                function: function.name.clone(),
                bucket: function.bucket.clone(),
                version: named.and_then(|name| name.version()),
                timeout,
                remote: Arc::new(Deployed::new(function, timeout, accounts.clone(), sites.clone())),
                load: Load::default(),
            }))
        };
        let places: io::Result<_> = functions.into_iter().map(place).collect();
        Ok(Self { fleet: Arc::new(Fleet(places?)), habits: Habits { settle, stall, max_cost }, logs, clock })
    }
}

#[async_trait]
impl Renderer for LambdaRenderer {
    async fn start(&self, job: Job, checkpoint: Option<Checkpoint>) -> Box<dyn Run> {
        let (ends, mut tell, stop) = Ends::new();
        let task = match self.logs.create(job.render, job.attempt) {
            Ok(log) => {
                let course = Course {
                    job,
                    fleet: Arc::clone(&self.fleet),
                    habits: self.habits,
                    clock: Arc::clone(&self.clock),
                    log,
                    tell,
                    trace: checkpoint.as_ref().and_then(Trace::read),
                };
                tokio::spawn(course.run(stop))
            }
            Err(error) => {
                tracing::error!(%error, "cannot write the log of an attempt; waiting");
                let until = self.clock.now() + LACK;
                tokio::spawn(async move {
                    tell.event(RunEvent::Throttled { until }).await.ok();
                })
            }
        };
        Box::new(ends.run(task))
    }
}
