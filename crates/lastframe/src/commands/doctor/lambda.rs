//! The functions of Remotion Lambda that are configured, as AWS has them; and the queue that `lastframe work` would find in
//! the environment.

use lastframe_aws::Accounts;
use lastframe_aws::inspect::{Sight, inspect, inspect_queue};
use lastframe_core::SystemClock;

use super::Finding;
use crate::config::Config;

const WHAT: &str = "lambda";

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let accounts = Accounts::of_environment();
    let mut findings = Vec::new();
    for function in crate::lambda::functions(config) {
        findings.extend(told(WHAT, inspect(&function, &accounts).await));
    }
    findings
}

/// None where the environment names no queue.
pub(super) async fn look_at_queue() -> Vec<Finding> {
    let said = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (Some(table), Some(queue_url)) = (said("LASTFRAME_TABLE"), said("LASTFRAME_QUEUE_URL")) else {
        return Vec::new();
    };
    let sdk = lastframe_aws::sdk(None, None).await;
    told("queue", inspect_queue(&sdk, &table, &queue_url, &SystemClock::new()).await)
}

/// One finding for all that is well, and one for each thing that is not.
fn told(what: &'static str, sight: Sight) -> Vec<Finding> {
    let Sight { what: whose, well, doubts, faults } = sight;
    let mut findings = Vec::new();
    if !well.is_empty() {
        findings.push(Finding::ok(what, format!("{whose}: {}", well.join(", "))));
    }
    let told = |(found, mend): (String, String)| (format!("{whose}: {found}"), mend);
    findings.extend(doubts.into_iter().map(told).map(|(found, mend)| Finding::warn(what, found, mend)));
    findings.extend(faults.into_iter().map(told).map(|(found, mend)| Finding::fail(what, found, mend)));
    findings
}
