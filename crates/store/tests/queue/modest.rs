//! A queue that can do no more than every queue must: the contract asks nothing else of it, and sees that it refuses the
//! rest.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use lastframe_core::conformance::Subject;
use lastframe_core::ports::{
    Accounts, Backlog, Busy, Capabilities, Changes, ControlError, Directory, Filter, Group, Hour,
    IdempotencyKey, LeaseError, NewRender, Overview, Pausable, Position, Queue, QueueError, Redrive,
    Redriven, SteerError, SubmitError, Submitted, Tenant,
};
use lastframe_core::{
    Attempt, Checkpoint, Clock as _, Extended, HandBack, Lease, LeaseToken, Limits, ManualClock, Outcome,
    Progress, Render, RenderId, RenderRequest, Status, TenantId,
};

use crate::world::Sqlite;

lastframe_core::conformance!(Modest);

/// The store, behind a door through which not everything goes.
#[derive(Debug)]
struct Modest {
    behind: Sqlite,
    clock: Arc<ManualClock>,
}

#[async_trait]
impl Subject for Modest {
    async fn new(clock: Arc<ManualClock>) -> Self {
        Self { behind: Sqlite::new(Arc::clone(&clock)).await, clock }
    }

    async fn reopen(&mut self, clock: Arc<ManualClock>, defaults: Limits) {
        self.clock = Arc::clone(&clock);
        self.behind.reopen(clock, defaults).await;
    }

    async fn sweep(&self) {
        self.behind.sweep().await;
    }

    fn queue(&self) -> &(dyn Queue + 'static) {
        self
    }

    fn directory(&self) -> &(dyn Directory + 'static) {
        self.behind.directory()
    }

    fn accounts(&self) -> &(dyn Accounts + 'static) {
        self.behind.accounts()
    }
}

#[async_trait]
impl Queue for Modest {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            priorities: false,
            fair_share: false,
            in_order: true,
            longest_delay: Duration::ZERO,
            pauses: false,
            batch: 1,
            notices: false,
            shared: false,
        }
    }

    async fn submit(
        &self,
        tenant: &TenantId,
        renders: Vec<NewRender>,
        key: Option<IdempotencyKey>,
    ) -> Result<Submitted, SubmitError> {
        let can = self.capabilities();
        assert!(renders.len() <= can.batch, "more was asked for than was declared");
        for render in &renders {
            assert_eq!(render.request.check_supported(&can, self.clock.now()), []);
        }
        self.behind.queue().submit(tenant, renders, key).await
    }

    async fn pause(&self, _: Pausable) -> Result<(), SteerError> {
        Err(SteerError::Unsupported("pauses"))
    }

    async fn resume(&self, _: Pausable) -> Result<(), SteerError> {
        Err(SteerError::Unsupported("pauses"))
    }

    async fn limit(&self, _: &TenantId, _: Limits) -> Result<Tenant, SteerError> {
        Err(SteerError::Unsupported("limits"))
    }

    async fn submitted(
        &self,
        tenant: &TenantId,
        key: &IdempotencyKey,
    ) -> Result<Option<Vec<Render>>, SubmitError> {
        self.behind.queue().submitted(tenant, key).await
    }

    async fn claim(&self, worker: &str, wait: Duration) -> Result<Option<Lease>, QueueError> {
        self.behind.queue().claim(worker, wait).await
    }

    async fn extend(
        &self,
        render: RenderId,
        token: &LeaseToken,
        progress: Progress,
        checkpoint: Option<Checkpoint>,
    ) -> Result<Extended, LeaseError> {
        self.behind.queue().extend(render, token, progress, checkpoint).await
    }

    async fn release(&self, render: RenderId, token: &LeaseToken, why: HandBack) -> Result<(), LeaseError> {
        self.behind.queue().release(render, token, why).await
    }

    async fn finish(
        &self,
        render: RenderId,
        token: &LeaseToken,
        outcome: Outcome,
    ) -> Result<Status, LeaseError> {
        self.behind.queue().finish(render, token, outcome).await
    }

    async fn cancel(&self, render: RenderId) -> Result<Render, ControlError> {
        self.behind.queue().cancel(render).await
    }

    async fn retry(&self, render: RenderId) -> Result<Render, ControlError> {
        self.behind.queue().retry(render).await
    }

    async fn redrive(&self, which: Redrive) -> Result<Redriven, QueueError> {
        self.behind.queue().redrive(which).await
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, QueueError> {
        self.behind.queue().tenants().await
    }

    async fn tenant(&self, tenant: &TenantId) -> Result<Option<Tenant>, QueueError> {
        self.behind.queue().tenant(tenant).await
    }

    async fn group(&self, tenant: &TenantId, name: &str) -> Result<Option<Group>, QueueError> {
        self.behind.queue().group(tenant, name).await
    }

    async fn groups(
        &self,
        tenant: &TenantId,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<Group>, QueueError> {
        self.behind.queue().groups(tenant, after, limit).await
    }

    async fn hours(
        &self,
        tenant: Option<&TenantId>,
        since: Timestamp,
        count: u32,
    ) -> Result<Vec<Hour>, QueueError> {
        self.behind.queue().hours(tenant, since, count).await
    }

    async fn busy(&self) -> Result<Vec<Busy>, QueueError> {
        self.behind.queue().busy().await
    }

    async fn overview(&self) -> Result<Overview, QueueError> {
        self.behind.queue().overview().await
    }

    async fn backlog(&self) -> Result<Backlog, QueueError> {
        self.behind.queue().backlog().await
    }

    async fn ended_before(&self, time: Timestamp, limit: u32) -> Result<Vec<Render>, QueueError> {
        self.behind.queue().ended_before(time, limit).await
    }

    async fn outputs_due(&self, time: Timestamp, limit: u32) -> Result<Vec<Render>, QueueError> {
        self.behind.queue().outputs_due(time, limit).await
    }

    async fn outputs_deleted(&self, renders: Vec<RenderId>) -> Result<(), QueueError> {
        self.behind.queue().outputs_deleted(renders).await
    }

    async fn forget(&self, renders: Vec<RenderId>) -> Result<usize, QueueError> {
        self.behind.queue().forget(renders).await
    }

    async fn get(&self, render: RenderId) -> Result<Option<Render>, QueueError> {
        self.behind.queue().get(render).await
    }

    async fn request(&self, render: RenderId) -> Result<Option<RenderRequest>, QueueError> {
        self.behind.queue().request(render).await
    }

    async fn attempts(&self, render: RenderId) -> Result<Vec<Attempt>, QueueError> {
        self.behind.queue().attempts(render).await
    }

    async fn position(&self, render: RenderId) -> Result<Option<Position>, QueueError> {
        self.behind.queue().position(render).await
    }

    async fn list(&self, filter: Filter) -> Result<Vec<Render>, QueueError> {
        self.behind.queue().list(filter).await
    }

    fn changes(&self) -> Changes {
        self.behind.queue().changes()
    }
}
