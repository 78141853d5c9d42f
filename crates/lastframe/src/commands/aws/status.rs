//! `lastframe aws status`.

use clap::Args;
use lastframe_stack::look;

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

impl Status {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let stack = self.which.stack().await?;
        let status = stack.status().await.map_err(failed)?;
        print(self.json, &status, || words(&status))?;
        let well = ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE"];
        Ok(if well.contains(&status.status.as_str()) { Exit::Done } else { Exit::NotWell })
    }
}

fn words(status: &look::Status) -> String {
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
