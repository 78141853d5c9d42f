//! `lastframe work`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use lastframe_aws::SdkConfig;
use lastframe_aws::inspect::{Sight, inspect_queue};
use lastframe_core::{RendererName, SystemClock};
use lastframe_stack::Stack;
use rustix::fs::Mode;

use super::aws::failed;
use super::say;
use super::serve::{raise_open_files, shown};
use super::signals::Signals;
use crate::client::Failed;
use crate::config::{self, Config, Flags, LambdaFunction, OF_STACK};
use crate::exit::Exit;
use crate::fleet::{Member, Post};
use crate::machine;
use crate::telemetry::LogFormat;

pub(super) const EXAMPLES: &str = "\
Examples:
  lastframe work                                         for the stack that `lastframe aws deploy` made
  lastframe work --stack films --region eu-central-1 --concurrency 4 --name attic
  lastframe work --renderer lambda                       start and follow them on Remotion Lambda instead
  lastframe work --table T --queue-url URL --bucket B    without looking at a stack

It needs Node and a browser, as a server does (`lastframe doctor`), a way out to AWS, and no open port. As many machines
as you like may work for one queue: each group's renders are made in their order, whoever makes them. What a machine has
begun when it dies goes to another once its lease ends (queue.lease in lastframe.toml, 30s). Leases go by the machines'
clocks: keep them right (NTP).

Credentials are found as other programs for AWS find them: AWS_ACCESS_KEY_ID and its secret, AWS_PROFILE, a role.

SIGTERM or Ctrl-C takes nothing more, lets what is rendered finish within the grace time, and hands the rest back to the
queue; a second one hands it back at once.";

/// Takes renders from a queue on AWS, makes them here, and puts the files into the queue's bucket.
#[derive(Args, Debug)]
pub(super) struct Work {
    /// What makes the renders
    #[arg(long, env = "LASTFRAME_WORK_RENDERER", value_enum, default_value_t, value_name = "RENDERER")]
    renderer: Maker,
    /// Renders at once [default: from cores and memory; on Remotion Lambda, lambda.concurrency]
    #[arg(long, env = "LASTFRAME_CONCURRENCY", value_name = "N")]
    concurrency: Option<usize>,
    /// What this machine is called where renders are shown [default: its host name and process]
    #[arg(long, env = "LASTFRAME_NAME", value_name = "NAME")]
    name: Option<String>,
    /// How long a stopping worker lets renders go on before it hands them back to the queue [default: 30s]
    #[arg(long, env = "LASTFRAME_GRACE", value_name = "TIME", value_parser = config::duration)]
    grace: Option<Duration>,
    /// The browser to render with [default: chromium-headless-shell, chromium or google-chrome on PATH]
    #[arg(long, env = "LASTFRAME_BROWSER", value_name = "FILE")]
    browser: Option<PathBuf>,
    /// The data folder: versions of Remotion, logs, scratch space. Made if missing; one for each worker
    #[arg(long, env = "LASTFRAME_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// The configuration file [default: lastframe.toml in the data folder, if there is one]
    #[arg(long, env = "LASTFRAME_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// How log lines look
    #[arg(long, env = "LASTFRAME_LOG_FORMAT", value_enum, default_value_t)]
    pub(super) log_format: LogFormat,
    #[command(flatten)]
    queue: QueueArgs,
}

/// Which queue.
#[derive(Args, Debug)]
#[command(next_help_heading = "Which queue")]
struct QueueArgs {
    /// The stack that has it; what follows needs no saying then [default: lastframe, unless the rest is said]
    #[arg(long, env = "LASTFRAME_STACK", value_name = "NAME")]
    stack: Option<String>,
    /// Its table
    #[arg(long, env = "LASTFRAME_TABLE", value_name = "NAME")]
    table: Option<String>,
    /// Its queue of SQS
    #[arg(long, env = "LASTFRAME_QUEUE_URL", value_name = "URL")]
    queue_url: Option<String>,
    /// Where what failed is told of
    #[arg(long, env = "LASTFRAME_DEAD_LETTERS_URL", value_name = "URL")]
    dead_letters_url: Option<String>,
    /// Where what is due later waits
    #[arg(long, env = "LASTFRAME_TIMERS_URL", value_name = "URL")]
    timers_url: Option<String>,
    /// Its bucket, which finished files go to
    #[arg(long, env = "LASTFRAME_BUCKET", value_name = "NAME")]
    bucket: Option<String>,
    /// The function of Remotion Lambda for `--renderer lambda` [default: those of lastframe.toml]
    #[arg(long, env = "LASTFRAME_REMOTION_FUNCTION", value_name = "NAME")]
    remotion_function: Option<String>,
    /// The bucket of its renders [default: Remotion's own]
    #[arg(long, env = "LASTFRAME_REMOTION_BUCKET", value_name = "NAME")]
    remotion_bucket: Option<String>,
    /// The profile of AWS's files to take credentials from
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// The region of AWS [default: AWS_REGION, or the profile's]
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Maker {
    /// This machine's browser
    #[default]
    Local,
    /// Remotion Lambda
    Lambda,
}

impl From<Maker> for RendererName {
    fn from(maker: Maker) -> Self {
        match maker {
            Maker::Local => Self::Local,
            Maker::Lambda => Self::Lambda,
        }
    }
}

impl QueueArgs {
    async fn sdk(&self) -> SdkConfig {
        lastframe_aws::sdk(self.profile.as_deref(), self.region.as_deref()).await
    }

    /// Fills in what nobody said, from what the stack tells others.
    async fn complete(&mut self, sdk: &SdkConfig) -> Result<(), Failed> {
        let is_complete = self.table.is_some() && self.queue_url.is_some() && self.bucket.is_some();
        if is_complete && self.stack.is_none() {
            return Ok(());
        }
        let name = self.stack.get_or_insert_with(|| STACK.into());
        let stack = Stack::new(sdk, name).map_err(failed)?;
        let mut outputs = stack.outputs().await.map_err(failed)?;
        let described = stack.describe().await.map_err(failed)?;
        let mut parameters = described.map(|found| found.parameters).unwrap_or_default();
        let given = |values: &mut BTreeMap<String, String>, name: &str| {
            values.remove(name).filter(|value| !value.is_empty())
        };
        for (value, output) in [
            (&mut self.table, "tableName"),
            (&mut self.queue_url, "queueurl"),
            (&mut self.dead_letters_url, "deadLettersUrl"),
            (&mut self.timers_url, "timersUrl"),
            (&mut self.bucket, "bucketName"),
        ] {
            if value.is_none() {
                *value = given(&mut outputs, output);
            }
        }
        if self.remotion_function.is_none() {
            self.remotion_function = given(&mut parameters, "RemotionFunction");
            self.remotion_bucket = self.remotion_bucket.take().or(given(&mut parameters, "RemotionBucket"));
        }
        Ok(())
    }
}

/// The stack that is meant when none is named, as for `lastframe aws`.
const STACK: &str = "lastframe";

/// What neither a flag nor a variable nor the stack said.
fn lacking(flag: &str, variable: &str) -> Failed {
    Failed::new(Exit::Usage, format!("the stack does not say which queue: say {flag} ({variable})"))
}

impl Work {
    pub(super) async fn run(mut self) -> Result<Exit, Failed> {
        // Nothing that is written is for other users.
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
        raise_open_files();
        let signals = Signals::listen()?;
        let sdk = self.queue.sdk().await;
        self.queue.complete(&sdk).await?;
        let config = self.config(&sdk)?;
        let queue = self.queue;
        let table = queue.table.ok_or_else(|| lacking("--table NAME", "LASTFRAME_TABLE"))?;
        let queue_url = queue.queue_url.ok_or_else(|| lacking("--queue-url URL", "LASTFRAME_QUEUE_URL"))?;
        let bucket = queue.bucket.ok_or_else(|| lacking("--bucket NAME", "LASTFRAME_BUCKET"))?;
        let clock = Arc::new(SystemClock::new());
        let sight = inspect_queue(&sdk, &table, &queue_url, clock.as_ref()).await;
        if let Some(failed) = refused(&sight) {
            return Err(failed);
        }
        let post = Post {
            sdk,
            table,
            queue_url,
            dead_letters_url: queue.dead_letters_url,
            timers_url: queue.timers_url,
            bucket,
            name: self.name.unwrap_or_else(machine::name),
            renderer: self.renderer.into(),
        };
        let told = told(&config, &post, &sight.what);
        let member = Member::start(config, post, clock).await?;
        say(told);
        member.stop(signals.first().await).await?;
        Ok(Exit::Done)
    }

    /// The configuration of this machine, as a server reads it, for this work.
    fn config(&self, sdk: &SdkConfig) -> Result<Config, Failed> {
        let usage = |error| Failed { exit: Exit::Usage, error };
        let here = self.renderer == Maker::Local;
        let flags = Flags {
            data: self.data.clone(),
            config: self.config.clone(),
            concurrency: self.concurrency.filter(|_| here),
            browser: self.browser.clone(),
            grace: self.grace,
            ..Flags::default()
        };
        let mut config = Config::load(flags).map_err(usage)?;
        if let Some(name) = &self.queue.remotion_function {
            let region = sdk.region().map(ToString::to_string).unwrap_or_default();
            let bucket = self.queue.remotion_bucket.clone();
            config.lambda.functions =
                vec![LambdaFunction { name: name.clone(), region, bucket, account: None }];
        }
        if here {
            return Ok(config);
        }
        if config.lambda.functions.is_empty() {
            let lacking = "which function of Remotion Lambda? Say --remotion-function NAME (LASTFRAME_REMOTION_FUNCTION), or name it in \
                           [[lambda.function]] of lastframe.toml";
            return Err(Failed::new(Exit::Usage, lacking));
        }
        if let Some(concurrency) = self.concurrency {
            if concurrency == 0 {
                return Err(Failed::new(Exit::Usage, "--concurrency must be at least 1"));
            }
            config.lambda.concurrency = concurrency;
        }
        Ok(config)
    }
}

/// Why the queue cannot be worked for, and what would mend that.
fn refused(sight: &Sight) -> Option<Failed> {
    for (found, mend) in &sight.doubts {
        tracing::warn!("the queue {}: {found}; {mend}", sight.what);
    }
    let (found, mend) = sight.faults.first()?;
    Some(Failed::new(Exit::Unreachable, format!("the queue {}: {found}\n  -> {mend}", sight.what)))
}

/// What it will do, and where.
fn told(config: &Config, post: &Post, queue: &str) -> String {
    let renders = match post.renderer {
        RendererName::Local => format!(
            "on this machine, {} at once (--concurrency)\n  browser       {}",
            config.concurrency,
            shown(config.browser.as_deref())
        ),
        RendererName::Lambda => {
            let names: Vec<_> =
                config.lambda.functions.iter().map(|function| function.name.as_str()).collect();
            let at_once = config.lambda.concurrency;
            format!(
                "on Remotion Lambda, {at_once} at once (--concurrency)\n  functions     {}",
                names.join(", ")
            )
        }
    };
    format!(
        "Lastframe {} takes renders from the queue {queue}
  as            {} (--name)
  renders       {renders}
  files go to   s3://{}/{OF_STACK}
  table         {}
  data folder   {}

It listens on no port. SIGTERM or Ctrl-C lets what runs finish within {} s, or hands it back; a second one hands it back at once.",
        env!("CARGO_PKG_VERSION"),
        post.name,
        post.bucket,
        post.table,
        config.data.display(),
        config.grace.as_secs(),
    )
}
