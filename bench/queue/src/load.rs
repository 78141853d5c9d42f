//! A store in a folder, and how its queue is filled.

use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use lastframe_core::ports::{Directory as _, NewRender, Queue as _};
use lastframe_core::props::Props;
use lastframe_core::request::QueueOptions;
use lastframe_core::site::{Composition, SiteVersion};
use lastframe_core::{Clock as _, Kind, RenderRequest, SystemClock, TenantId};
use lastframe_store::{Key, Keys, Options, Store};
use serde::Serialize;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Tenants of a filled queue.
const TENANTS: usize = 10;
/// Groups of each tenant, where renders share them.
const GROUPS: usize = 1_000;
/// Renders in one submit.
const BATCH: usize = 1_000;
/// Bytes of a request's body, about.
const BODY: usize = 1_000;

const SITE: &str = "bench";
const VERSION: &str = "1";
const COMPOSITION: &str = "main";

/// How the renders of a filled queue are spread. There are ten tenants, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// Over a thousand groups of each tenant.
    Even,
    /// Half of all in one group, the others even.
    Hot,
    /// Each is a group of its own.
    Own,
    /// Even, and all of one tenant.
    One,
}

/// What filling took.
#[derive(Debug, Serialize)]
pub(crate) struct Filled {
    renders: usize,
    seconds: f64,
    per_second: f64,
}

/// Opens the store, with system time and all defaults of the server; with a key that everybody knows.
pub(crate) async fn open(data: &Path) -> anyhow::Result<Arc<Store>> {
    std::fs::create_dir_all(data)?;
    let plain = std::env::var_os(PLAIN).is_some();
    let known = if plain { Vec::new() } else { vec![Key::new(&Zeroizing::new([0; 32]))] };
    let options = Options { keys: Keys::new(known, "in the benchmark"), ..Options::default() };
    Ok(Arc::new(Store::open(data, Arc::new(SystemClock::new()), options).await?))
}

/// Set to measure without encryption.
const PLAIN: &str = "BENCH_PLAIN";

/// The tenant of that number, with its site.
pub(crate) async fn tenant(store: &Store, name: String) -> anyhow::Result<TenantId> {
    let tenant = TenantId::new(name);
    store.put_site(&tenant, site()).await?;
    Ok(tenant)
}

/// Adds `count` renders. `from` numbers them, so that what is added later spreads like what was there.
pub(crate) async fn fill(store: &Store, shape: Shape, from: usize, count: usize) -> anyhow::Result<Filled> {
    let start = Instant::now();
    let mut tenants = Vec::new();
    for number in 0..TENANTS {
        tenants.push(tenant(store, format!("tenant-{number}")).await?);
    }
    let life = SystemClock::new().now().as_millisecond();
    let batch = BATCH.min(count.div_ceil(TENANTS)).max(1);
    let mut next = from;
    while next < from + count {
        let numbers = next..(next + batch).min(from + count);
        let tenant = if shape == Shape::One { &tenants[0] } else { &tenants[next / batch % TENANTS] };
        next = numbers.end;
        let (hot, others): (Vec<_>, Vec<_>) =
            numbers.partition(|number| shape == Shape::Hot && number.is_multiple_of(2));
        let group = |number: usize| match shape {
            Shape::Even | Shape::Hot | Shape::One => format!("group-{}", number % GROUPS),
            Shape::Own => format!("group-{life}-{number}"),
        };
        let others: Vec<_> = others.into_iter().map(|number| render(Some(group(number)))).collect();
        let hot = hot.into_iter().map(|_| render(Some("hot".into()))).collect();
        for (tenant, renders) in [(tenant, others), (&tenants[0], hot)] {
            if !renders.is_empty() {
                store.submit(tenant, renders, None).await?;
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Filled { renders: count, seconds, per_second: count as f64 / seconds })
}

/// A request of about a kilobyte.
pub(crate) fn render(group: Option<String>) -> NewRender {
    let props = serde_json::json!({ "text": "x".repeat(BODY - 130) }).to_string();
    NewRender {
        kind: Kind::Media,
        site_version: VERSION.into(),
        request: RenderRequest {
            composition: COMPOSITION.into(),
            serve_url: SITE.into(),
            input_props: Some(serde_json::from_str::<Props>(&props).expect("an object in JSON is props")),
            queue: Some(QueueOptions { group, ..QueueOptions::default() }),
            ..RenderRequest::default()
        },
        default_max_attempts: 3,
    }
}

fn site() -> SiteVersion {
    let composition = Composition {
        id: COMPOSITION.into(),
        width: 1920,
        height: 1080,
        fps: 30.0,
        duration_in_frames: 150,
        default_props: serde_json::Value::Null,
        error: None,
    };
    SiteVersion {
        name: SITE.into(),
        version: VERSION.into(),
        remotion_version: "4.0.527".into(),
        renderer: None,
        url: None,
        size_in_bytes: 1,
        compositions: vec![composition],
        created_at: SystemClock::new().now(),
    }
}
