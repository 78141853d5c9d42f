//! In the place of `lambda`, where this program is built without AWS.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lastframe_core::ports::{OutputBytes, Renderer};
use lastframe_core::{Checkpoint, Clock, Output};
use lastframe_worker::logs::Logs;

use crate::config::Config;

const UNKNOWN: &str = "this program was built without its feature `aws`, and knows no Remotion Lambda";

/// None.
#[derive(Debug, Default)]
pub(crate) struct LambdaOutputs;

impl LambdaOutputs {
    pub(crate) async fn read(&self, _: &str, _: Range<u64>) -> io::Result<Option<OutputBytes>> {
        Err(unknown())
    }

    pub(crate) async fn link(&self, _: &Output, _: &str, _: Duration) -> io::Result<String> {
        Err(unknown())
    }

    pub(crate) async fn delete(&self, _: &str) -> io::Result<()> {
        Err(unknown())
    }

    pub(crate) async fn examine(&self, _: &Output) -> io::Result<Option<String>> {
        Err(unknown())
    }
}

/// None, unless functions are configured: then a server must not start that would not use them.
pub(crate) fn renderer(
    config: &Config,
    _: PathBuf,
    _: Logs,
    _: Arc<dyn Clock>,
) -> anyhow::Result<Option<Arc<dyn Renderer>>> {
    anyhow::ensure!(config.lambda.functions.is_empty(), UNKNOWN);
    Ok(None)
}

pub(crate) fn is_on_lambda(_: &Checkpoint) -> bool {
    false
}

pub(crate) fn version_of(_: &str) -> Option<String> {
    None
}

fn unknown() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, UNKNOWN)
}
