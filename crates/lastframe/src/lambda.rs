//! Remotion Lambda, as far as the program has to know that it is there.

use std::path::PathBuf;
use std::sync::Arc;

use lastframe_aws::render::{LambdaRenderer, Options};
use lastframe_aws::{Accounts, Function};
use lastframe_core::Clock;
use lastframe_core::ports::Renderer;
use lastframe_worker::logs::Logs;

use crate::config::Config;

pub(crate) use lastframe_aws::outputs::LambdaOutputs;
pub(crate) use lastframe_aws::render::is_on_lambda;
pub(crate) use lastframe_aws::version_of;

/// The renderer, if functions are configured. `sites` is where bundles lie.
pub(crate) fn renderer(
    config: &Config,
    sites: PathBuf,
    logs: Logs,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Option<Arc<dyn Renderer>>> {
    if config.lambda.functions.is_empty() {
        return Ok(None);
    }
    let lambda = &config.lambda;
    let options = Options {
        functions: functions(config),
        sites,
        settle: lambda.settle,
        stall: lambda.stall,
        max_cost: lambda.max_cost,
    };
    let renderer = LambdaRenderer::new(options, &Accounts::of_environment(), logs, clock)?;
    Ok(Some(Arc::new(renderer)))
}

/// The functions that are configured.
pub(crate) fn functions(config: &Config) -> Vec<Function> {
    let function = |function: &crate::config::LambdaFunction| Function {
        name: function.name.clone(),
        region: function.region.clone(),
        bucket: function.bucket.clone(),
        account: function.account,
    };
    config.lambda.functions.iter().map(function).collect()
}
