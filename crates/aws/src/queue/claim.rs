//! Answering rings: the head of the lane is leased, whatever rang.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use lastframe_core::ports::{ControlError, QueueError};
use lastframe_core::{
    Attempt, Checkpoint, Failure, Lease, LeaseToken, Outcome, RenderId, RenderRequest, Status, TenantId,
};
use serde::{Deserialize, Serialize};

use super::ring::{Ring, lane_key};
use super::row::{AttemptRow, Bell, LaneRow, RenderRow, Standing, Waiting, time};
use super::schema;
use super::submit::TenantRow;
use super::table::{Item, Key, Search, Trouble, fault, from_item, retrying, storage};
use super::tx::{If, Tx};
use super::{ALL_GOES, AwsQueue, ONE_GO, Shared};
use crate::sdk::within;

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
                .visibility_timeout(ANSWERING)
                .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
                .customize()
                .config_override(aws_sdk_sqs::Config::builder().timeout_config({
                    let wait = Duration::from_secs(seconds);
                    within(wait + ONE_GO, wait + ALL_GOES)
                }));
            let messages = received.send().await.map_err(fault)?.messages.unwrap_or_default();
            if messages.is_empty() {
                left -= seconds;
                if left == 0 {
                    return Ok(None);
                }
            }
            for message in messages {
                let receipt = message.receipt_handle().unwrap_or_default();
                match self.answer(message.body().unwrap_or_default(), worker).await {
                    Ok(lease) => {
                        self.answered(receipt).await;
                        if lease.is_some() {
                            return Ok(lease);
                        }
                    }
                    Err(error) => {
                        // Others may be able to: they must get it soon, and its receives must last for a while.
                        self.unanswered(receipt, received_so_often(&message)).await;
                        return Err(error);
                    }
                }
            }
        }
    }
}

fn received_so_often(message: &Message) -> u32 {
    let count = message
        .attributes()
        .and_then(|attributes| attributes.get(&MessageSystemAttributeName::ApproximateReceiveCount));
    count.and_then(|count| count.parse().ok()).unwrap_or(1)
}

impl Shared {
    pub(super) async fn answer(&self, ring: &str, worker: &str) -> Result<Option<Lease>, QueueError> {
        let asked_at = self.clock.monotonic();
        let lane = match serde_json::from_str(ring) {
            Ok(Ring::Lane { lane, .. }) => lane_key(&lane),
            Ok(Ring::Letter { render }) => {
                // It was moved back from the dead letters. Its lane rings by itself then.
                // One that was cancelled since stays cancelled.
                return match retrying(async || self.try_retry(render, true).await).await? {
                    Ok(_) | Err(ControlError::NotFound | ControlError::Illegal(_)) => Ok(None),
                    Err(ControlError::Queue(error)) => Err(error),
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
            let Some(head) =
                lane.head.clone().filter(|head| !closed && is_open(&lane.bell, head.not_before, tx.now))
            else {
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
        match &lane {
            // The lane has changed since it was read.
            Some(_) if before.status != Status::Queued => return Err(Trouble::Again),
            Some(_) => {}
            None if before.status == Status::Queued && is_open(&before.bell, before.not_before(), tx.now) => {
            }
            None => return Ok(Claimed::Nothing),
        }
        if lane.is_none() {
            found.extend(self.table.get_all(&[schema::tenant(&before.tenant)]).await?);
        }
        if let Some(parked) = paused(&found, &before.tenant)? {
            self.park(lane.map(|(lane, _)| lane), before, parked).await?;
            return Ok(Claimed::Nothing);
        }

        // Before anything is leased: they never change, and the bucket may not answer now.
        let asked = self.read(&mut found, &of("request"), &of("checkpoint")).await?;
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
        Ok(match asked {
            Ok((request, checkpoint)) => {
                let duration = self.options.lease;
                Claimed::Lease(Box::new(Lease { render: row.render(), request, token, duration, checkpoint }))
            }
            Err(failure) => Claimed::Unreadable(id, token, failure),
        })
    }

    /// What is to be made, and what is left of the attempt before; or why nobody will ever be able to read it.
    async fn read(
        &self,
        found: &mut HashMap<Key, Item>,
        request: &Key,
        checkpoint: &Key,
    ) -> Result<Result<(RenderRequest, Option<Checkpoint>), Failure>, QueueError> {
        let unreadable = |why: &dyn std::fmt::Display| {
            let why = format!("what it asks for cannot be read: {why}");
            Failure::new("request_unreadable", why, false)
        };
        let request = match found.remove(request) {
            Some(item) => self.open(from_item(item)?).await?,
            None => None,
        };
        let checkpoint = match found.remove(checkpoint) {
            Some(item) => self.open(from_item(item)?).await?,
            None => None,
        };
        let Some(request) = request else { return Ok(Err(unreadable(&"it is not there"))) };
        let checkpoint = checkpoint.map(|text| serde_json::from_str(&text)).transpose();
        Ok(match (serde_json::from_str(&request), checkpoint) {
            (Ok(request), Ok(checkpoint)) => Ok((request, checkpoint)),
            (Err(error), _) | (_, Err(error)) => Err(unreadable(&error)),
        })
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
        // Whatever dies from here on: the sweep looks at what is parked as long as that is noted.
        let whose = (standing == Standing::Parked).then_some(&tenant);
        self.note_resuming(whose).await?;
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

/// Whether a head can be claimed. Who rang has said so by its own clock; one that is behind by a little must not drop the ring.
fn is_open(bell: &Bell, not_before: i64, now: i64) -> bool {
    bell.standing.is_ready() || not_before <= now
}

/// How a lane of the tenant stands when its ring comes now and nothing is to start.
pub(super) fn paused(found: &HashMap<Key, Item>, tenant: &TenantId) -> Result<Option<Standing>, QueueError> {
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
