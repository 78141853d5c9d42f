//! Signals to stop: the first one gently, the second at once.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// SIGTERM and SIGINT, heard from here on: made before anything is started, so that none finds us half-way.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
        })
    }

    /// Waits for the first, and gives what the second cancels.
    pub(super) async fn first(mut self) -> CancellationToken {
        self.next().await;
        tracing::info!("stopping; a second signal stops at once");
        let now = CancellationToken::new();
        let hurry = now.clone();
        tokio::spawn(async move {
            self.next().await;
            hurry.cancel();
        });
        now
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
