//! The port of the queue.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use lastframe_core::ports::{
    Backlog, Busy, Capabilities, Changes, ControlError, Filter, Group, Hour, IdempotencyKey, LeaseError,
    NewRender, Overview, Pausable, Position, Queue, QueueError, Redrive, Redriven, SteerError, SubmitError,
    Submitted, Tenant,
};
use lastframe_core::{
    Attempt, Checkpoint, Extended, HandBack, Lease, LeaseToken, Limits, Outcome, Progress, Render, RenderId,
    RenderRequest, Status, TenantId,
};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::BroadcastStream;

use super::AwsQueue;
use super::row::RenderRow;
use super::submit::BATCH;

#[async_trait]
impl Queue for AwsQueue {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            priorities: false,
            fair_share: false,
            in_order: false,
            // As long as renders are kept.
            longest_delay: Duration::MAX,
            pauses: true,
            batch: BATCH,
            notices: true,
            shared: true,
        }
    }
    async fn submit(
        &self,
        tenant: &TenantId,
        renders: Vec<NewRender>,
        key: Option<IdempotencyKey>,
    ) -> Result<Submitted, SubmitError> {
        let (queue, asked_at) = (&self.shared, self.shared.clock.monotonic());
        let submitted = queue.submit(tenant, &renders, key.as_ref()).await?;
        if !submitted.replayed {
            queue.observer.accepted(renders.len(), queue.clock.monotonic().saturating_sub(asked_at));
        }
        Ok(submitted)
    }
    async fn submitted(
        &self,
        tenant: &TenantId,
        key: &IdempotencyKey,
    ) -> Result<Option<Vec<Render>>, SubmitError> {
        self.shared.submitted(tenant, key).await
    }
    async fn claim(&self, worker: &str, wait: Duration) -> Result<Option<Lease>, QueueError> {
        self.claim_one(worker, wait).await
    }
    async fn extend(
        &self,
        render: RenderId,
        token: &LeaseToken,
        progress: Progress,
        checkpoint: Option<Checkpoint>,
    ) -> Result<Extended, LeaseError> {
        self.shared.extend(render, token, progress, checkpoint.as_ref()).await
    }
    async fn release(&self, render: RenderId, token: &LeaseToken, why: HandBack) -> Result<(), LeaseError> {
        self.shared.release(render, token, &why).await
    }
    async fn finish(
        &self,
        render: RenderId,
        token: &LeaseToken,
        outcome: Outcome,
    ) -> Result<Status, LeaseError> {
        self.shared.finish(render, token, &outcome).await
    }
    async fn cancel(&self, render: RenderId) -> Result<Render, ControlError> {
        self.shared.cancel(render).await
    }
    async fn retry(&self, render: RenderId) -> Result<Render, ControlError> {
        self.shared.retry(render).await
    }
    async fn redrive(&self, which: Redrive) -> Result<Redriven, QueueError> {
        self.shared.redrive(&which).await
    }
    async fn pause(&self, what: Pausable) -> Result<(), SteerError> {
        Ok(self.shared.set_paused(&what, true).await?)
    }
    async fn resume(&self, what: Pausable) -> Result<(), SteerError> {
        Ok(self.shared.set_paused(&what, false).await?)
    }
    async fn limit(&self, _: &TenantId, _: Limits) -> Result<Tenant, SteerError> {
        Err(SteerError::Unsupported("limits"))
    }
    async fn tenants(&self) -> Result<Vec<Tenant>, QueueError> {
        self.shared.tenants().await
    }
    async fn tenant(&self, tenant: &TenantId) -> Result<Option<Tenant>, QueueError> {
        self.shared.tenant(tenant).await
    }
    async fn group(&self, tenant: &TenantId, name: &str) -> Result<Option<Group>, QueueError> {
        self.shared.group(tenant, name).await
    }
    async fn groups(
        &self,
        tenant: &TenantId,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<Group>, QueueError> {
        self.shared.groups(tenant, after, limit).await
    }
    async fn hours(
        &self,
        tenant: Option<&TenantId>,
        since: Timestamp,
        count: u32,
    ) -> Result<Vec<Hour>, QueueError> {
        self.shared.hours(tenant, since, count).await
    }
    async fn busy(&self) -> Result<Vec<Busy>, QueueError> {
        self.shared.busy().await
    }
    async fn overview(&self) -> Result<Overview, QueueError> {
        self.shared.overview().await
    }
    async fn backlog(&self) -> Result<Backlog, QueueError> {
        self.shared.backlog().await
    }
    async fn ended_before(&self, time: Timestamp, limit: u32) -> Result<Vec<Render>, QueueError> {
        self.shared.ended_before(time, limit).await
    }
    async fn outputs_due(&self, time: Timestamp, limit: u32) -> Result<Vec<Render>, QueueError> {
        self.shared.outputs_due(time, limit).await
    }
    async fn outputs_deleted(&self, renders: Vec<RenderId>) -> Result<(), QueueError> {
        self.shared.outputs_deleted(&renders).await
    }
    async fn forget(&self, renders: Vec<RenderId>) -> Result<usize, QueueError> {
        self.shared.forget(&renders).await
    }
    async fn get(&self, render: RenderId) -> Result<Option<Render>, QueueError> {
        Ok(self.shared.render_row(render).await?.map(RenderRow::render))
    }
    async fn request(&self, render: RenderId) -> Result<Option<RenderRequest>, QueueError> {
        self.shared.request(render).await
    }
    async fn attempts(&self, render: RenderId) -> Result<Vec<Attempt>, QueueError> {
        self.shared.attempts(render).await
    }
    async fn position(&self, render: RenderId) -> Result<Option<Position>, QueueError> {
        self.shared.position(render).await
    }
    async fn list(&self, filter: Filter) -> Result<Vec<Render>, QueueError> {
        self.shared.list(&filter).await
    }
    fn changes(&self) -> Changes {
        // Whoever is too slow is told so by the end of what is told.
        let changes = BroadcastStream::new(self.shared.changes.subscribe());
        Box::pin(changes.map_while(Result::ok))
    }
}
