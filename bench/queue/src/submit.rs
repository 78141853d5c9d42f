//! Durable submits of one render each, without groups.

use std::sync::Arc;

use anyhow::Context as _;
use lastframe_core::TenantId;
use lastframe_core::ports::Queue as _;
use lastframe_store::Store;

use crate::closed_loop::{self, Caller, Figures, Until};
use crate::load;

/// Submits that each caller makes before it counts.
const WARM_UP: usize = 20;

struct Submitter {
    store: Arc<Store>,
    tenant: TenantId,
}

impl Caller for Submitter {
    async fn call(&mut self) -> anyhow::Result<()> {
        let submitted = self.store.submit(&self.tenant, vec![load::render(None)], None).await?;
        submitted.renders.first().context("a submit of one render answered with none").map(drop)
    }
}

pub(crate) async fn measure(store: Arc<Store>, callers: usize, until: Until) -> anyhow::Result<Figures> {
    let tenant = load::tenant(&store, "tenant-0".into()).await?;
    let submitter = || Submitter { store: Arc::clone(&store), tenant: tenant.clone() };
    let callers = (0..callers).map(|_| submitter()).collect();
    Ok(closed_loop::run(callers, WARM_UP, until).await?.figures())
}
