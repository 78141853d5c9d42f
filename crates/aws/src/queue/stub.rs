//! To be replaced.
use std::time::Duration;
use async_trait::async_trait;
use jiff::Timestamp;
use lastframe_core::accounts::*;
use lastframe_core::outbox::*;
use lastframe_core::ports::*;
use lastframe_core::site::SiteVersion;
use lastframe_core::*;
use super::AwsQueue;

#[async_trait]
impl Queue for AwsQueue {
    fn capabilities(&self) -> Capabilities { todo!() }
    async fn submit(
        &self,
        tenant: &TenantId,
        renders: Vec<NewRender>,
        key: Option<IdempotencyKey>,
    ) -> Result<Submitted, SubmitError> { todo!() }
    async fn submitted(
        &self,
        tenant: &TenantId,
        key: &IdempotencyKey,
    ) -> Result<Option<Vec<Render>>, SubmitError> { todo!() }
    async fn claim(&self, worker: &str, wait: Duration) -> Result<Option<Lease>, QueueError> { todo!() }
    async fn extend(
        &self,
        render: RenderId,
        token: &LeaseToken,
        progress: Progress,
        checkpoint: Option<Checkpoint>,
    ) -> Result<Extended, LeaseError> { todo!() }
    async fn release(&self, render: RenderId, token: &LeaseToken, why: HandBack) -> Result<(), LeaseError> { todo!() }
    async fn finish(
        &self,
        render: RenderId,
        token: &LeaseToken,
        outcome: Outcome,
    ) -> Result<Status, LeaseError> { todo!() }
    async fn cancel(&self, render: RenderId) -> Result<Render, ControlError> { todo!() }
    async fn retry(&self, render: RenderId) -> Result<Render, ControlError> { todo!() }
    async fn redrive(&self, which: Redrive) -> Result<Redriven, QueueError> { todo!() }
    async fn pause(&self, what: Pausable) -> Result<(), SteerError> { todo!() }
    async fn resume(&self, what: Pausable) -> Result<(), SteerError> { todo!() }
    async fn limit(&self, tenant: &TenantId, limits: Limits) -> Result<Tenant, SteerError> { todo!() }
    async fn tenants(&self) -> Result<Vec<Tenant>, QueueError> { todo!() }
    async fn tenant(&self, tenant: &TenantId) -> Result<Option<Tenant>, QueueError> { todo!() }
    async fn group(&self, tenant: &TenantId, name: &str) -> Result<Option<Group>, QueueError> { todo!() }
    async fn groups(
        &self,
        tenant: &TenantId,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<Group>, QueueError> { todo!() }
    async fn hours(
        &self,
        tenant: Option<&TenantId>,
        since: Timestamp,
        count: u32,
    ) -> Result<Vec<Hour>, QueueError> { todo!() }
    async fn busy(&self) -> Result<Vec<Busy>, QueueError> { todo!() }
    async fn overview(&self) -> Result<Overview, QueueError> { todo!() }
    async fn backlog(&self) -> Result<Backlog, QueueError> { todo!() }
    async fn ended_before(&self, time: Timestamp, limit: u32) -> Result<Vec<Render>, QueueError> { todo!() }
    async fn outputs_due(&self, time: Timestamp, limit: u32) -> Result<Vec<Render>, QueueError> { todo!() }
    async fn outputs_deleted(&self, renders: Vec<RenderId>) -> Result<(), QueueError> { todo!() }
    async fn forget(&self, renders: Vec<RenderId>) -> Result<usize, QueueError> { todo!() }
    async fn get(&self, render: RenderId) -> Result<Option<Render>, QueueError> { todo!() }
    async fn request(&self, render: RenderId) -> Result<Option<RenderRequest>, QueueError> { todo!() }
    async fn attempts(&self, render: RenderId) -> Result<Vec<Attempt>, QueueError> { todo!() }
    async fn position(&self, render: RenderId) -> Result<Option<Position>, QueueError> { todo!() }
    async fn list(&self, filter: Filter) -> Result<Vec<Render>, QueueError> { todo!() }
    fn changes(&self) -> Changes { todo!() }
}

#[async_trait]
impl Directory for AwsQueue {
    async fn put_site(&self, tenant: &TenantId, site: SiteVersion) -> Result<(), QueueError> { todo!() }
    async fn site(&self, tenant: &TenantId, name: &str) -> Result<Option<SiteVersion>, QueueError> { todo!() }
    async fn site_version(
        &self,
        tenant: &TenantId,
        name: &str,
        version: &str,
    ) -> Result<Option<SiteVersion>, QueueError> { todo!() }
    async fn site_versions(&self, tenant: &TenantId, name: &str) -> Result<Vec<SiteVersion>, QueueError> { todo!() }
    async fn has_version(&self, version: &str) -> Result<bool, QueueError> { todo!() }
    async fn sites(&self, tenant: &TenantId) -> Result<Vec<SiteVersion>, QueueError> { todo!() }
    async fn remove_site(&self, tenant: &TenantId, name: &str) -> Result<(), RemoveSiteError> { todo!() }
    async fn remove_site_version(
        &self,
        tenant: &TenantId,
        name: &str,
        version: &str,
    ) -> Result<(), RemoveSiteError> { todo!() }
}

#[async_trait]
impl Outbox for AwsQueue {
    async fn take_due(&self, room: Room, hold: Duration) -> Result<Vec<Due>, QueueError> { todo!() }
    async fn settle(
        &self,
        delivery: DeliveryId,
        token: i64,
        tried: Try,
        settled: Settled,
    ) -> Result<bool, QueueError> { todo!() }
    async fn next_due(&self, after: Timestamp) -> Result<Option<Timestamp>, QueueError> { todo!() }
    async fn owed(&self) { todo!() }
    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<Delivery>, QueueError> { todo!() }
    async fn delivery(&self, delivery: DeliveryId) -> Result<Option<(Delivery, Vec<Try>)>, QueueError> { todo!() }
    async fn redeliver(&self, delivery: DeliveryId) -> Result<Delivery, RedeliverError> { todo!() }
    async fn delivery_counts(&self) -> Result<DeliveryCounts, QueueError> { todo!() }
    async fn tenant_notices(&self, tenant: &TenantId) -> Result<TenantNotices, QueueError> { todo!() }
    async fn set_notice_defaults(
        &self,
        tenant: &TenantId,
        defaults: NoticeDefaults,
    ) -> Result<(), QueueError> { todo!() }
    async fn add_secret(&self, tenant: &TenantId, secret: TenantSecret) -> Result<bool, QueueError> { todo!() }
    async fn remove_secret(&self, tenant: &TenantId, id: &str) -> Result<bool, QueueError> { todo!() }
}

#[async_trait]
impl lastframe_core::ports::Accounts for AwsQueue {
    async fn add_user(&self, user: User, password: String) -> Result<(), AddUserError> { todo!() }
    async fn users(&self) -> Result<Vec<User>, QueueError> { todo!() }
    async fn user(&self, id: &str) -> Result<Option<User>, QueueError> { todo!() }
    async fn user_by_email(&self, email: &str) -> Result<Option<(User, String)>, QueueError> { todo!() }
    async fn change_user(
        &self,
        email: &str,
        scopes: Option<Scopes>,
        disabled: Option<bool>,
    ) -> Result<Option<User>, QueueError> { todo!() }
    async fn set_password(&self, email: &str, password: String) -> Result<bool, QueueError> { todo!() }
    async fn start_session(
        &self,
        session: Session,
        secret: SecretHash,
        password: String,
    ) -> Result<bool, QueueError> { todo!() }
    async fn renew_session(
        &self,
        id: &str,
        shown: SecretHash,
        next: SecretHash,
        until: Timestamp,
    ) -> Result<Renewal, QueueError> { todo!() }
    async fn end_session(&self, id: &str, shown: SecretHash) -> Result<(), QueueError> { todo!() }
    async fn add_token(&self, token: ApiToken, secret: SecretHash) -> Result<(), QueueError> { todo!() }
    async fn tokens(&self) -> Result<Vec<ApiToken>, QueueError> { todo!() }
    async fn token(&self, id: &str) -> Result<Option<(ApiToken, SecretHash)>, QueueError> { todo!() }
    async fn revoke_token(&self, id: &str) -> Result<Option<ApiToken>, QueueError> { todo!() }
}

