//! The functions of Remotion Lambda that are configured, as AWS has them.

use lastframe_aws::Accounts;
use lastframe_aws::inspect::{Sight, inspect};

use super::Finding;
use crate::config::Config;

const WHAT: &str = "lambda";

/// One finding for all that is well with a function, and one for each thing that is not.
pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let accounts = Accounts::of_environment();
    let mut findings = Vec::new();
    for function in crate::lambda::functions(config) {
        let Sight { what, well, doubts, faults } = inspect(&function, &accounts).await;
        if !well.is_empty() {
            findings.push(Finding::ok(WHAT, format!("{what}: {}", well.join(", "))));
        }
        let told = |(found, mend)| (format!("{what}: {found}"), mend);
        findings.extend(
            doubts.into_iter().map(told).map(|(found, mend): (_, String)| Finding::warn(WHAT, found, mend)),
        );
        findings.extend(
            faults.into_iter().map(told).map(|(found, mend): (_, String)| Finding::fail(WHAT, found, mend)),
        );
    }
    findings
}
