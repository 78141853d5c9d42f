//! Logs of the program itself: structured, on standard error.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Starts logging. `LASTFRAME_LOG` filters, in the form of `tracing`'s directives (`info`, `lastframe=debug`); `usual` does
/// where it says nothing.
pub(crate) fn start(format: LogFormat, usual: &str) {
    // The SDK warns of every place where it finds no region and no keys; what comes of that is an error, which says so once.
    let usual = || EnvFilter::new(format!("{usual},aws_config=error"));
    let filter = EnvFilter::try_from_env("LASTFRAME_LOG").unwrap_or_else(|_| usual());
    let logs =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let started = match format {
        LogFormat::Text => logs.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    // Only a test that starts two servers comes here twice; the first logger serves both.
    drop(started);
}
