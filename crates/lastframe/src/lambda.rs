//! Remotion Lambda, as far as the program has to know that it is there.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use lastframe_aws::render::{LambdaRenderer, Options};
use lastframe_aws::{Accounts, Function};
use lastframe_core::Clock;
use lastframe_core::ports::Renderer;
use lastframe_core::site::Composition;
use lastframe_worker::local::Sidecars;
use lastframe_worker::logs::Logs;

use crate::config::Config;
use crate::sites::{Bundle, BundleError, Look};

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

/// Looks into sites with a function of Remotion Lambda, where there is one.
#[derive(Debug)]
pub(crate) struct LambdaLook {
    pub(crate) function: Option<Function>,
    pub(crate) accounts: Accounts,
}

#[async_trait]
impl Look for LambdaLook {
    async fn compositions(&self, bundle: Bundle<'_>) -> Result<Vec<Composition>, BundleError> {
        let (Some(function), Some(url)) = (&self.function, bundle.url) else { return Ok(Vec::new()) };
        match lastframe_aws::render::compositions(function, &self.accounts, url).await {
            Ok(compositions) => Ok(compositions),
            Err(failure) if failure.retryable => Err(BundleError::Remotion(failure)),
            // One that throws with its default props hides all others, and may still render with better ones.
            Err(failure) => {
                tracing::warn!(url, %failure, "the function cannot tell what is in a site; its renders will show");
                Ok(Vec::new())
            }
        }
    }

    fn takes_uploads(&self) -> bool {
        false
    }

    fn clear(&self) -> std::io::Result<()> {
        Ok(())
    }

    fn sidecars(&self) -> Option<Sidecars> {
        None
    }
}
