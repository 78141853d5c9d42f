//! Answering rings: the head of the lane is leased, whatever rang.

use std::collections::HashMap;
use std::time::Duration;

use lastframe_core::ports::QueueError;
use lastframe_core::{
    Attempt, Checkpoint, Failure, Lease, LeaseToken, Outcome, RenderId, RenderRequest, Status, TenantId,
};
use serde::{Deserialize, Serialize};

use super::body::Body;
use super::ring::{Ring, lane_key};
use super::row::{AttemptRow, LaneRow, RenderRow, Standing, Waiting, time};
use super::schema;
use super::submit::TenantRow;
use super::table::{Item, Key, Search, Trouble, fault, from_item, retrying, storage};
use super::tx::{If, Tx};
use super::{AwsQueue, Shared};

/// How long a message that is being answered is kept from others, in seconds.
const ANSWERING: i32 = 30;
/// The longest that SQS waits for a message, in seconds.
const LONGEST_WAIT: u64 = 20;

/// The queue as a whole.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct ControlRow {
    pub(super) v: u64,
    pub(super) paused: bool,
}

/// What a claim came to.
enum Claimed {
    Nothing,
    Lease(Box<Lease>),
    /// It is leased, but what it asks for cannot be read.
    Unreadable(RenderId, LeaseToken, Failure),
}

impl AwsQueue {
    pub(super) async fn claim_one(&self, worker: &str, wait: Duration) -> Result<Option<Lease>, QueueError> {
        let mut left = wait.as_secs();
        loop {
            let seconds = left.min(LONGEST_WAIT);
            let received = self
                .shared
                .sqs
                .receive_message()
                .queue_url(&self.shared.options.queue_url)
                .max_number_of_messages(1)
                .wait_time_seconds(i32::try_from(seconds).unwrap_or(0))
                .visibility_timeout(ANSWERING);
            let messages = received.send().await.map_err(fault)?.messages.unwrap_or_default();
            if messages.is_empty() {
                left -= seconds;
                if left == 0 {
                    return Ok(None);
                }
            }
            for message in messages {
                let lease = self.answer(message.body().unwrap_or_default(), worker).await?;
                self.answered(message.receipt_handle().unwrap_or_default()).await;
                if lease.is_some() {
                    return Ok(lease);
                }
            }
        }
    }
}

impl Shared {
    pub(super) async fn answer(&self, ring: &str, worker: &str) -> Result<Option<Lease>, QueueError> {
        let asked_at = self.clock.monotonic();
        let lane = match serde_json::from_str(ring) {
            Ok(Ring::Lane { lane, .. }) => lane_key(&lane),
            Ok(Ring::Letter { render }) => {
                // It was moved back from the dead letters. Its lane rings by itself then.
                return match self.retry(render).await {
                    Ok(_)
                    | Err(
                        lastframe_core::ports::ControlError::NotFound
                        | lastframe_core::ports::ControlError::Illegal(_),
                    ) => Ok(None),
                    Err(lastframe_core::ports::ControlError::Queue(error)) => Err(error),
                };
            }
            Err(error) => {
                // It would be no ring the next time either.
                tracing::error!(%error, "a message of the queue is no ring; it is dropped");
                return Ok(None);
            }
        };
        match retrying(|| self.try_claim(&lane, worker)).await? {
            Claimed::Nothing => Ok(None),
            Claimed::Lease(lease) => {
                self.observer.claimed(&lease.render, self.clock.monotonic().saturating_sub(asked_at));
                Ok(Some(*lease))
            }
            Claimed::Unreadable(render, token, failure) => {
                // Left where it is, one that cannot be read would be next for ever.
                let failed = Outcome::Failed(failure);
                self.finish(render, &token, &failed).await.map_err(storage)?;
                Ok(None)
            }
        }
    }

    async fn try_claim(&self, key: &Key, worker: &str) -> Result<Claimed, Trouble> {
        let mut tx = Tx::new(self);
        let lane: Option<(LaneRow, Waiting)> = if key.sk == "lane" {
            let Some(lane) = self.table.row::<LaneRow>(key).await? else { return Ok(Claimed::Nothing) };
            let closed = lane.active.is_some() || lane.paused || lane.held_by.is_some();
            let Some(head) = lane.head.clone().filter(|head| !closed && head.not_before <= tx.now) else {
                return Ok(Claimed::Nothing);
            };
            Some((lane, head))
        } else {
            None
        };
        let pk = lane.as_ref().map_or(key.pk.clone(), |(_, head)| schema::render(head.id).pk);
        let of = |what: &str| Key::new(pk.clone(), what);
        let mut keys = vec![of("render"), of("request"), of("checkpoint"), schema::control()];
        keys.extend(lane.as_ref().map(|(lane, _)| schema::tenant(&lane.tenant)));
        let mut found = self.table.get_all(&keys).await?;
        let Some(item) = found.remove(&of("render")) else { return Ok(Claimed::Nothing) };
        let before: RenderRow = from_item(item)?;
        if before.status != Status::Queued || before.not_before() > tx.now {
            // The lane may have changed since it was read.
            return if lane.is_some() { Err(Trouble::Again) } else { Ok(Claimed::Nothing) };
        }
        if lane.is_none() {
            found.extend(self.table.get_all(&[schema::tenant(&before.tenant)]).await?);
        }
        if let Some(parked) = paused(&found, &before.tenant)? {
            self.park(lane.map(|(lane, _)| lane), before, parked).await?;
            return Ok(Claimed::Nothing);
        }

        let token = self.next_token();
        let row = self.leased(&before, &token, worker, tx.now);
        if let Some((before, head)) = &lane {
            tx.delete(&schema::waiting(key, head.seq))?;
            let lane = LaneRow {
                active: Some(head.id),
                head: self.first_waiting(key, head.seq).await?,
                queued: before.queued.saturating_sub(1),
                ..before.clone()
            };
            tx.lane(Some(before), lane)?;
        }
        let attempt = Attempt {
            number: row.leases,
            worker: worker.into(),
            started_at: time(tx.now),
            ended_at: None,
            outcome: None,
            error: None,
        };
        tx.put_row(&schema::attempt(row.id, row.leases), &AttemptRow { body: Some(attempt) }, If::Always)?;
        let row = tx.render(Some(&before), row)?;
        tx.commit().await?;

        let id = row.id;
        let mut read = async || -> Result<(RenderRequest, Option<Checkpoint>), Failure> {
            let unreadable = |why: &dyn std::fmt::Display| {
                Failure::new("request_unreadable", format!("its request cannot be read: {why}"), false)
            };
            let mut body = async |what: &str| match found.remove(&of(what)) {
                Some(item) => {
                    let body: Body = from_item(item).map_err(|error| unreadable(&error))?;
                    self.open(body).await.map(Some).map_err(|error| unreadable(&error))
                }
                None => Ok(None),
            };
            let request = body("request").await?.ok_or_else(|| unreadable(&"it is not there"))?;
            let request = serde_json::from_str(&request).map_err(|error| unreadable(&error))?;
            let checkpoint = body("checkpoint").await?;
            let checkpoint = checkpoint.map(|text| serde_json::from_str(&text)).transpose();
            Ok((request, checkpoint.map_err(|error| unreadable(&error))?))
        };
        match read().await {
            Ok((request, checkpoint)) => {
                let duration = self.options.lease;
                let lease = Lease { render: row.render(), request, token, duration, checkpoint };
                Ok(Claimed::Lease(Box::new(lease)))
            }
            Err(failure) => Ok(Claimed::Unreadable(id, token, failure)),
        }
    }

    fn leased(&self, before: &RenderRow, token: &LeaseToken, worker: &str, now: i64) -> RenderRow {
        RenderRow {
            status: Status::Rendering,
            token: Some(token.0.clone()),
            lease_until: Some(self.lease_until(now)),
            worker: Some(worker.into()),
            attempt: before.attempt + 1,
            leases: before.leases + 1,
            progress: None,
            backoff_until: 0,
            started_at: before.started_at.or(Some(now)),
            attempt_started_at: Some(now),
            ..before.clone()
        }
    }

    /// When a lease ends that is given or extended at that time.
    pub(super) fn lease_until(&self, now: i64) -> i64 {
        now.saturating_add(i64::try_from(self.options.lease.as_millis()).unwrap_or(i64::MAX))
    }

    /// The first that waits in the lane behind that place.
    pub(super) async fn first_waiting(&self, lane: &Key, behind: i64) -> Result<Option<Waiting>, QueueError> {
        let search = Search::table(&lane.pk).above(schema::waiting(lane, behind).sk);
        self.table.find(search, 1).await?.pop().map(from_item).transpose()
    }

    /// Puts a lane aside until the pause ends that its ring came in.
    async fn park(
        &self,
        lane: Option<LaneRow>,
        render: RenderRow,
        standing: Standing,
    ) -> Result<(), Trouble> {
        let tenant = render.tenant.clone();
        let mut tx = Tx::new(self);
        let key = match lane {
            Some(before) => {
                let mut lane = before.clone();
                lane.bell.standing = standing;
                tx.lane_as_is(Some(&before), lane)?;
                before.key()
            }
            None => {
                let mut row = render.clone();
                row.bell.standing = standing;
                tx.render(Some(&render), row)?;
                render.key()
            }
        };
        // Nothing has happened to the render that anybody would see.
        tx.told.changed.clear();
        tx.commit().await?;
        // A resume that came in between has not seen it.
        let found = self.table.get_all(&[schema::control(), schema::tenant(&tenant)]).await?;
        if paused(&found, &tenant)?.is_none() {
            self.ring_again(&key).await?;
        }
        Ok(())
    }
}

/// How a lane of the tenant stands when its ring comes now and nothing is to start.
fn paused(found: &HashMap<Key, Item>, tenant: &TenantId) -> Result<Option<Standing>, QueueError> {
    if let Some(item) = found.get(&schema::control())
        && from_item::<ControlRow>(item.clone())?.paused
    {
        return Ok(Some(Standing::ParkedByAll));
    }
    if let Some(item) = found.get(&schema::tenant(tenant))
        && from_item::<TenantRow>(item.clone())?.paused
    {
        return Ok(Some(Standing::Parked));
    }
    Ok(None)
}
