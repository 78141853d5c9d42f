//! How long the first render of a tenant that comes anew waits behind what others have queued.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Context as _;
use lastframe_core::ports::Queue as _;
use lastframe_store::Store;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::load;
use crate::work::Worker;

/// What was measured: waits from the answer to the submit until the render is claimed.
#[derive(Debug, Serialize)]
pub(crate) struct Turns {
    tenants: usize,
    /// Claims of other renders in that time, for each tenant.
    claims_before: Vec<usize>,
    waits_ms: Vec<f64>,
}

/// Lets `workers` work through a loaded queue while `tenants` come one after another, each with one render.
pub(crate) async fn measure(store: Arc<Store>, workers: usize, tenants: usize) -> anyhow::Result<Turns> {
    let (claims, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (claimed, mut first_claims) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for number in 0..workers {
        let (worker, claimed) = (Worker::new(&store, number), claimed.clone());
        let (claims, stop) = (Arc::clone(&claims), Arc::clone(&stop));
        tasks.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let lease = worker.claim().await?;
                let before = claims.fetch_add(1, Ordering::Relaxed);
                if lease.render.group.is_none() {
                    claimed.send((before, Instant::now()))?;
                }
                worker.complete(&lease).await?;
            }
            anyhow::Ok(())
        });
    }
    // Were a worker to fail, its sender would go, and with the last of them the wait below ends.
    drop(claimed);
    let mut turns = Vec::new();
    for number in 0..tenants {
        let tenant = load::tenant(&store, format!("new-{}-{number}", std::process::id())).await?;
        store.submit(&tenant, vec![load::render(None)], None).await?;
        let (accepted, counted) = (Instant::now(), claims.load(Ordering::Relaxed));
        let (before, at) = first_claims.recv().await.context("no worker is left")?;
        // It may have been claimed before this task heard of the commit.
        let waited = at.saturating_duration_since(accepted);
        turns.push((before.saturating_sub(counted), waited.as_secs_f64() * 1e3));
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let (claims_before, waits_ms) = turns.into_iter().unzip();
    Ok(Turns { tenants, claims_before, waits_ms })
}
