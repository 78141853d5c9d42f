//! `lastframe aws status`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use lastframe_aws::SdkConfig;
use lastframe_aws::queue::{AwsQueue, Options};
use lastframe_core::ports::{Backlog, Queue as _, QueueError};
use lastframe_core::{Limits, RetryPolicy, SystemClock};
use lastframe_stack::{Stack, look};
use serde::Serialize;

use super::{Which, failed};
use crate::client::Failed;
use crate::commands::print;
use crate::exit::Exit;

#[derive(Args, Debug)]
pub(in crate::commands) struct Status {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

/// What the stack is, and what waits in its queue.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(flatten)]
    stack: look::Status,
    /// Renders that only lack somebody to make them.
    claimable: Option<u64>,
    /// Since when the first of them waits.
    waiting_since: Option<Timestamp>,
    /// When the longest attempt under way began.
    rendering_since: Option<Timestamp>,
}

impl Status {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let sdk = self.which.sdk().await;
        let stack = Stack::new(&sdk, &self.which.stack).map_err(failed)?;
        let mut status = stack.status().await.map_err(failed)?;
        let mut waits = Backlog::default();
        let mut is_known = false;
        if !status.queues.is_empty() {
            // Who may look at the stack may not be allowed to look into its table.
            match backlog(&sdk, &status.outputs).await {
                Ok(found) => (waits, is_known) = (found, true),
                Err(error) => status.hints.push(format!("what waits in the queue is not known: {error}")),
            }
        }
        let shown = Shown {
            stack: status,
            claimable: is_known.then_some(waits.claimable),
            waiting_since: waits.waiting_since,
            rendering_since: waits.rendering_since,
        };
        print(self.json, &shown, || words(&shown))?;
        let well = ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE"];
        Ok(if well.contains(&shown.stack.status.as_str()) { Exit::Done } else { Exit::NotWell })
    }
}

async fn backlog(sdk: &SdkConfig, outputs: &BTreeMap<String, String>) -> Result<Backlog, QueueError> {
    let output = |name: &str| outputs.get(name).cloned().unwrap_or_default();
    let options = Options {
        table: output("tableName"),
        queue_url: output("queueurl"),
        dead_letters_url: None,
        timers_url: None,
        bucket: output("bucketName"),
        // Nothing is claimed here.
        lease: Duration::from_secs(60),
        retry: RetryPolicy::default(),
        limits: Limits::default(),
    };
    AwsQueue::open(sdk, options, Arc::new(SystemClock::new()), Arc::new(())).await?.backlog().await
}

fn words(shown: &Shown) -> String {
    let status = &shown.stack;
    let reason = status.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let mut lines = vec![format!("{} in {}: {}{reason}", status.stack, status.region, status.status)];
    if let Some(url) = status.outputs.get("apiUrl") {
        lines.push(format!("  {url}"));
    }
    for function in &status.functions {
        let look::Function { name, state, architecture, memory, timeout, size, changed, .. } = function;
        lines.push(format!(
            "  {name:<28} {state:<8} {architecture:<7} {memory:>5} MB {timeout:>4} s  code {:.1} MB, of {changed}",
            *size as f64 / 1e6
        ));
    }
    for queue in &status.queues {
        let look::Queue { role, waiting, in_flight, delayed } = queue;
        let what = match role.as_str() {
            "deadLetters" => "dead letters",
            "timers" => "timers",
            _ => "queue",
        };
        lines.push(format!("  {what:<28} {waiting} waiting, {in_flight} in flight, {delayed} delayed"));
    }
    if let Some(claimable) = shown.claimable {
        let since = |what: &str, time: Option<Timestamp>| {
            time.map(|time| format!(", {what} since {time:.0}")).unwrap_or_default()
        };
        lines.push(format!(
            "  {:<28} {claimable} could start now{}{}",
            "renders",
            since("the oldest waits", shown.waiting_since),
            since("the longest goes on", shown.rendering_since)
        ));
    }
    if !status.functions.is_empty() {
        lines.push(match status.maximum_concurrency {
            Some(most) => format!("  {:<28} {most} by the render function", "renders at once"),
            None => format!(
                "  {:<28} none by the render function: `lastframe work` makes them",
                "renders at once"
            ),
        });
    }
    if let Some(most) = status.account_concurrency {
        lines.push(format!("  {:<28} {most} in the account", "functions at once"));
    }
    lines.extend(status.hints.iter().map(|hint| format!("! {hint}")));
    lines.join("\n")
}
