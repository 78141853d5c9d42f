//! What the dashboard asks, of a store with many renders that have ended.

use std::sync::Arc;
use std::time::Duration;

use lastframe_core::ports::{Filter, Queue as _};
use lastframe_core::{Clock as _, Failure, Outcome, Status, SystemClock};
use lastframe_store::Store;
use serde::Serialize;
use tokio::time::Instant;

use crate::closed_loop::{self, Caller, Until};
use crate::load::{self, Shape};
use crate::work::Worker;

/// One page and the one that says whether there are more.
const PAGE: u32 = 51;
/// How often each question is asked.
const ROUNDS: usize = 40;
/// Callers that end renders; they share commits.
const WORKERS: usize = 64;
/// One of so many fails.
const FAILS: usize = 100;

/// How long the answer to a question took, in milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Asked {
    question: String,
    median_ms: f64,
    worst_ms: f64,
    found: usize,
}

struct Ender(Worker, usize);

impl Caller for Ender {
    async fn call(&mut self) -> anyhow::Result<()> {
        let lease = self.0.claim().await?;
        self.1 += 1;
        if self.1.is_multiple_of(FAILS) { self.0.fail(&lease).await } else { self.0.complete(&lease).await }
    }
}

impl Worker {
    async fn fail(&self, lease: &lastframe_core::Lease) -> anyhow::Result<()> {
        let failed = Outcome::Failed(Failure::new("component_error", "it throws", false));
        self.store.finish(lease.render.id, &lease.token, failed).await?;
        Ok(())
    }
}

/// Fills the store with that many renders of one tenant, ends nine of ten, and asks.
pub(crate) async fn measure(store: Arc<Store>, renders: usize) -> anyhow::Result<Vec<Asked>> {
    load::fill(&store, Shape::One, 0, renders).await?;
    let callers = (0..WORKERS).map(|number| Ender(Worker::new(&store, number), number)).collect();
    closed_loop::run(callers, 1, Until { passed: Duration::MAX, calls: renders / 10 * 9 }).await?;

    let tenant = load::tenant(&store, "tenant-0".into()).await?;
    let newest = Filter { tenant: Some(tenant.clone()), limit: PAGE, ..Filter::default() };
    let page = store.list(newest.clone()).await?;
    let text = |text: &str| Filter { text: Some(text.to_owned()), ..newest.clone() };
    let status = |filter: Filter, status| Filter { status: Some(status), ..filter };
    let middle = Some(i64::try_from(renders / 2).unwrap_or(i64::MAX));
    let id = page.first().map(|render| render.id.to_string()).unwrap_or_default();
    let mut asked = Vec::new();
    for (question, filter) in [
        ("the newest", newest.clone()),
        ("in the middle", Filter { before: middle, ..newest.clone() }),
        ("succeeded", status(newest.clone(), Status::Succeeded)),
        ("failed", status(newest.clone(), Status::Failed)),
        ("of a group", Filter { group: Some("group-7".into()), ..newest.clone() }),
        ("text that all begin with", text("MAIN")),
        ("text that all begin with, failed", status(text("main"), Status::Failed)),
        ("text that all begin with, cancelled: none", status(text("main"), Status::Cancelled)),
        ("text of a hundred groups", text("group-7")),
        ("text of an id", text(&id)),
        ("text that nothing begins with", text("nothing")),
    ] {
        asked.push(time(question, async || Ok(store.list(filter.clone()).await?.len())).await?);
    }
    let since = SystemClock::new().now() - jiff::SignedDuration::from_hours(23);
    asked.push(
        time("hours of a tenant", async || Ok(store.hours(Some(&tenant), since, 24).await?.len())).await?,
    );
    asked.push(time("hours of all", async || Ok(store.hours(None, since, 24).await?.len())).await?);
    asked.push(time("groups", async || Ok(store.groups(&tenant, None, PAGE).await?.len())).await?);
    Ok(asked)
}

async fn time(question: &str, ask: impl AsyncFn() -> anyhow::Result<usize>) -> anyhow::Result<Asked> {
    let (mut took, mut found) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        found = ask().await?;
        took.push(start.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    Ok(Asked { question: question.into(), median_ms: took[ROUNDS / 2], worst_ms: took[ROUNDS - 1], found })
}
