//! `lastframe aws logs`.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use lastframe_core::{Clock as _, SystemClock};
use lastframe_stack::look::{LOGS, Line, Reading};

use super::{Which, failed};
use crate::client::Failed;
use crate::commands::follow::Interrupts;
use crate::commands::say;
use crate::config::duration;
use crate::exit::Exit;

/// How often logs that are followed are asked for. CloudWatch itself is some seconds behind.
const LOOK: Duration = Duration::from_secs(2);

pub(super) const EXAMPLES: &str = "\
Examples:
  lastframe aws logs                                of the last ten minutes
  lastframe aws logs --function render --since 2h
  lastframe aws logs --function render --filter ID  of one render
  lastframe aws logs --follow --filter ERROR
  lastframe aws logs --function access              what the gateway answered";

#[derive(Args, Debug)]
pub(in crate::commands) struct Logs {
    /// Which function; may be repeated. `access` is the gateway's log [default: api, render and tend]
    #[arg(long = "function", value_name = "NAME", value_parser = LOGS)]
    functions: Vec<String>,
    /// How far back, such as 30s, 10m, 2h or 1d
    #[arg(long, default_value = "10m", value_parser = duration)]
    since: Duration,
    /// Only what matches this pattern of CloudWatch, such as a word or the id of a render
    #[arg(long, value_name = "PATTERN")]
    filter: Option<String>,
    /// Go on until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Print JSON, a line for each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

impl Logs {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let stack = self.which.stack().await?;
        let wanted = |log: &&'static str| match self.functions.as_slice() {
            [] => *log != "access",
            some => some.iter().any(|name| name == log),
        };
        let logs: Vec<&'static str> = LOGS.into_iter().filter(wanted).collect();
        let since = i64::try_from(self.since.as_millis()).unwrap_or(i64::MAX);
        let mut reading = Reading::from(SystemClock::new().now().as_millisecond().saturating_sub(since));
        let mut interrupts = Interrupts::listen()?;
        loop {
            let read = async {
                for line in stack.lines(&logs, self.filter.as_deref(), &mut reading).await.map_err(failed)? {
                    say(if self.json { serde_json::to_string(&line)? } else { words(&line) });
                }
                if self.follow {
                    tokio::time::sleep(LOOK).await;
                }
                Ok::<_, Failed>(())
            };
            tokio::select! {
                read = read => read?,
                () = interrupts.next() => return Ok(Exit::Interrupted),
            }
            if !self.follow {
                return Ok(Exit::Done);
            }
        }
    }
}

fn words(line: &Line) -> String {
    let at = Timestamp::from_millisecond(line.at).map(|at| format!("{at:.3}")).unwrap_or_default();
    format!("{at} {:<6} {}", line.log, line.text)
}
