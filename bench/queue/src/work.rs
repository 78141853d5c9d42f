//! Claim and complete, each durable, at a depth that stays what it is.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use lastframe_core::ports::Queue as _;
use lastframe_core::{Lease, Outcome, Output};
use lastframe_store::Store;

use crate::closed_loop::{self, Caller, Figures, Measured, Until};
use crate::load::{self, Shape};

/// How long a worker waits for a render. There is always one, so nobody should.
const WAIT: Duration = Duration::from_secs(10);

pub(crate) struct Worker {
    pub(crate) store: Arc<Store>,
    name: String,
}

impl Worker {
    pub(crate) fn new(store: &Arc<Store>, number: usize) -> Self {
        Self { store: Arc::clone(store), name: format!("worker-{number}") }
    }

    pub(crate) async fn claim(&self) -> anyhow::Result<Lease> {
        self.store.claim(&self.name, WAIT).await?.context("nothing could be claimed")
    }

    pub(crate) async fn complete(&self, lease: &Lease) -> anyhow::Result<()> {
        let output = Output {
            key: format!("{}/{}.mp4", lease.render.id, lease.render.leases),
            size_in_bytes: 1_000_000,
            content_type: "video/mp4".into(),
            frame_count: Some(150),
            width: Some(1920),
            height: Some(1080),
            duration_in_seconds: Some(5.0),
            sha256: "0".repeat(64),
            deletion: None,
            cost_in_usd: None,
        };
        self.store.finish(lease.render.id, &lease.token, Outcome::Succeeded(output)).await?;
        Ok(())
    }
}

impl Caller for Worker {
    async fn call(&mut self) -> anyhow::Result<()> {
        let lease = self.claim().await?;
        self.complete(&lease).await
    }
}

/// Works off a quarter of the queue and fills it up again, uncounted, until `passed` was measured.
pub(crate) async fn measure(
    store: Arc<Store>,
    shape: Shape,
    depth: usize,
    workers: usize,
    passed: Duration,
) -> anyhow::Result<Figures> {
    let mut measured = Measured::default();
    while measured.passed() < passed {
        let until = Until { passed: passed - measured.passed(), calls: depth / 4 };
        let callers = (0..workers).map(|number| Worker::new(&store, number)).collect();
        let pass = closed_loop::run(callers, 1, until).await?;
        load::fill(&store, shape, depth + measured.answered(), pass.answered()).await?;
        measured.add(pass);
    }
    Ok(measured.figures())
}
