//! Everything that happens to a render while somebody holds its lease, and when nobody does any more.

use lastframe_core::ports::{LeaseError, QueueError};
use lastframe_core::{
    Attempt, Checkpoint, Event, Extended, Failure, HandBack, LeaseToken, Outcome, Output, Progress, RenderId,
    Status,
};

use aws_sdk_dynamodb::types::{Put, TransactWriteItem, Update};

use super::Shared;
use super::body::Body;
use super::outbox::deliveries;
use super::row::{AttemptRow, LaneRow, RenderRow, time};
use super::schema::{self, padded};
use super::table::{
    Trouble, cancelled as why_cancelled, condition_failed, n, retrying, s, storage, to_item, trouble,
};
use super::tx::{If, Tx};

/// The longest message and stack of a failure, in bytes: it stands in the render, the attempt, and all that is owed.
const LONGEST_TEXT: usize = 64 * 1024;

/// What becomes of an attempt that ends with nothing decided.
struct Requeued<'a> {
    outcome: &'static str,
    failure: Option<&'a Failure>,
    /// How long it waits, in milliseconds.
    wait: i64,
    /// Whether the attempt is taken off the count again.
    uncounted: bool,
    /// Leases lost in a row.
    lost: u32,
}

impl Shared {
    pub(super) async fn extend(
        &self,
        render: RenderId,
        token: &LeaseToken,
        progress: Progress,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Extended, LeaseError> {
        let body = match checkpoint {
            Some(checkpoint) => {
                let text = serde_json::to_string(checkpoint).map_err(storage)?;
                // Under a name of its own each time: a late holder must not write over another's.
                let name = || format!("checkpoints/{render}/{}-{}.json", token.0, self.now());
                Some(self.keep(name, text).await?)
            }
            None => None,
        };
        let extended = retrying(|| self.try_extend(render, token, progress, body.as_ref())).await?;
        if extended.is_ok() {
            self.told_of(render);
        }
        extended
    }

    /// One small write, on the condition that it is still the holder's; two when there is a checkpoint.
    async fn try_extend(
        &self,
        render: RenderId,
        token: &LeaseToken,
        progress: Progress,
        checkpoint: Option<&Body>,
    ) -> Result<Result<Extended, LeaseError>, Trouble> {
        const HELD: &str = "#status = :rendering AND #token = :token";
        let key = schema::render(render);
        let until = self.lease_until(self.now());
        let progress = serde_json::to_string(&progress).map_err(storage)?;
        let values = [
            (":rendering", s(Status::Rendering.as_str())),
            (":token", s(&token.0)),
            (":progress", s(progress)),
            (":until", n(until)),
            // The place among those that were accepted does not matter here.
            (":due", s(format!("{}/", padded(until)))),
            (":one", n(1)),
        ];
        let values = values.map(|(name, value)| (name.to_owned(), value)).into();
        let mut change = "SET progress = :progress, lease_until = :until, ds = :due, v = v + :one".to_owned();
        let names = [("#status", "status"), ("#token", "token")];
        let names = names.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let Some(checkpoint) = checkpoint else {
            let extended = self
                .table
                .client
                .update_item()
                .table_name(&self.table.name)
                .set_key(Some(key.item()))
                .update_expression(change)
                .condition_expression(HELD)
                .set_expression_attribute_values(Some(values))
                .set_expression_attribute_names(Some(names))
                .return_values(aws_sdk_dynamodb::types::ReturnValue::AllNew);
            return match extended.send().await {
                Ok(answer) => {
                    let row = answer.attributes.unwrap_or_default();
                    Ok(Ok(Extended { cancel_requested: row.contains_key("cancel_requested_at") }))
                }
                Err(error) if condition_failed(&error) => Ok(Err(LeaseError::Lost)),
                Err(error) => Err(trouble(error)),
            };
        };
        // A transaction tells nothing of what it wrote, so it is on the condition of what was read.
        let held = self.held(render, token).await?;
        let Some(row) = held else { return Ok(Err(LeaseError::Lost)) };
        change.push_str(", #checkpoint = :yes");
        let (mut values, mut names): (std::collections::HashMap<_, _>, std::collections::HashMap<_, _>) =
            (values, names);
        values.insert(":yes".into(), aws_sdk_dynamodb::types::AttributeValue::Bool(true));
        values.insert(":v".into(), n(row.v));
        names.insert("#checkpoint".into(), "checkpoint".into());
        let update = Update::builder()
            .table_name(&self.table.name)
            .set_key(Some(key.item()))
            .update_expression(change)
            .condition_expression(format!("{HELD} AND v = :v"))
            .set_expression_attribute_values(Some(values))
            .set_expression_attribute_names(Some(names));
        let item = to_item(&schema::of_render(render, "checkpoint"), checkpoint)?;
        let put = Put::builder().table_name(&self.table.name).set_item(Some(item));
        let writes = vec![
            TransactWriteItem::builder().update(update.build().map_err(storage)?).build(),
            TransactWriteItem::builder().put(put.build().map_err(storage)?).build(),
        ];
        let request = self.table.client.transact_write_items().set_transact_items(Some(writes));
        request.send().await.map_err(why_cancelled)?;
        Ok(Ok(Extended { cancel_requested: row.cancel_requested_at.is_some() }))
    }

    /// The render, if `token` is the fence of the lease it is under.
    async fn held(&self, render: RenderId, token: &LeaseToken) -> Result<Option<RenderRow>, QueueError> {
        let row: Option<RenderRow> = self.table.row(&schema::render(render)).await?;
        Ok(row.filter(|row| row.status == Status::Rendering && row.token.as_ref() == Some(&token.0)))
    }

    pub(super) async fn release(
        &self,
        render: RenderId,
        token: &LeaseToken,
        why: &HandBack,
    ) -> Result<(), LeaseError> {
        retrying(async || {
            let Some(held) = self.held(render, token).await? else { return Ok(Err(LeaseError::Lost)) };
            if held.cancel_requested_at.is_some() {
                self.end(held, Event::Cancel, None, Some(&Failure::cancelled())).await?;
                return Ok(Ok(()));
            }
            let wait = match why {
                HandBack::Draining => 0,
                HandBack::Throttled { until } => until.as_millisecond() - self.now(),
            };
            // A hand-back says nothing about whether the render kills its workers, so it leaves that count as it is.
            let lost = held.lost;
            let how = Requeued { outcome: "handed_back", failure: None, wait, uncounted: true, lost };
            self.requeue(held, &how).await?;
            Ok(Ok(()))
        })
        .await?
    }

    pub(super) async fn finish(
        &self,
        render: RenderId,
        token: &LeaseToken,
        outcome: &Outcome,
    ) -> Result<Status, LeaseError> {
        retrying(async || {
            let Some(held) = self.held(render, token).await? else { return Ok(Err(LeaseError::Lost)) };
            let ended = match outcome {
                Outcome::Succeeded(output) => self.end(held, Event::Succeed, Some(output), None).await?,
                Outcome::Cancelled => {
                    self.end(held, Event::Cancel, None, Some(&Failure::cancelled())).await?
                }
                // Asked to stop, and it broke instead of stopping: what was asked for has come about.
                Outcome::Failed(_) if held.cancel_requested_at.is_some() => {
                    self.end(held, Event::Cancel, None, Some(&Failure::cancelled())).await?
                }
                Outcome::Failed(failure) if failure.retryable && held.attempt < held.max_attempts => {
                    let wait =
                        self.options.retry.delay(&failure.code, held.attempt, &mut fastrand::Rng::new());
                    let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 2);
                    let how = Requeued {
                        outcome: "failed",
                        failure: Some(failure),
                        wait,
                        uncounted: false,
                        lost: 0,
                    };
                    self.requeue(held, &how).await?
                }
                Outcome::Failed(failure) => self.end(held, Event::Fail, None, Some(failure)).await?,
            };
            Ok(Ok(ended))
        })
        .await?
    }

    /// Takes the lease away, if it is over.
    pub(super) async fn expire(&self, render: RenderId) -> Result<(), QueueError> {
        retrying(async || {
            let row: Option<RenderRow> = self.table.row(&schema::render(render)).await?;
            let over = |row: &RenderRow| {
                row.status == Status::Rendering && row.lease_until.is_none_or(|until| until <= self.now())
            };
            let Some(held) = row.filter(over) else { return Ok(()) };
            let lost = held.lost + 1;
            if held.cancel_requested_at.is_some() {
                self.end_lost(held, Event::Cancel, &Failure::cancelled()).await?;
            } else if lost >= self.options.retry.max_lost {
                self.end_lost(held, Event::Fail, &Failure::worker_lost(lost)).await?;
            } else {
                let how = Requeued { outcome: "lost", failure: None, wait: 0, uncounted: true, lost };
                self.requeue(held, &how).await?;
            }
            Ok(())
        })
        .await
    }

    async fn end_lost(&self, held: RenderRow, event: Event, failure: &Failure) -> Result<Status, Trouble> {
        self.end(held, event, None, Some(failure)).await
    }

    async fn requeue(&self, held: RenderRow, how: &Requeued<'_>) -> Result<Status, Trouble> {
        let mut tx = Tx::new(self);
        close_attempt(&mut tx, &held, how.outcome, how.failure)?;
        let mut row = held.clone();
        row.status = held.status.on(Event::Requeue).map_err(storage)?;
        row.unlease();
        row.attempt -= u32::from(how.uncounted);
        row.lost = how.lost;
        row.backoff_until = if how.wait > 0 { tx.now.saturating_add(how.wait) } else { 0 };
        row.error = how.failure.map(kept).or(row.error);
        row.progress = None;
        row.attempt_started_at = None;
        if let Some(before) = self.lane_of(&row).await? {
            let mut lane = before.clone();
            lane.active = lane.active.filter(|active| *active != row.id);
            self.enter(&mut tx, &mut lane, &row)?;
            tx.lane(Some(&before), lane)?;
        }
        let status = row.status;
        tx.render(Some(&held), row)?;
        tx.commit().await?;
        Ok(status)
    }

    async fn end(
        &self,
        held: RenderRow,
        event: Event,
        output: Option<&Output>,
        failure: Option<&Failure>,
    ) -> Result<Status, Trouble> {
        let mut tx = Tx::new(self);
        let status = held.status.on(event).map_err(storage)?;
        close_attempt(&mut tx, &held, status.as_str(), failure)?;
        let mut row = held.clone();
        row.status = status;
        row.unlease();
        row.lost = 0;
        row.output = output.cloned();
        row.error = failure.map(kept);
        row.finished_at = Some(tx.now);
        if let Some(before) = self.lane_of(&row).await? {
            let mut lane = before.clone();
            lane.active = lane.active.filter(|active| *active != row.id);
            if row.blocks && status == Status::Failed {
                lane.held_by = Some(row.id);
            }
            tx.lane(Some(&before), lane)?;
        }
        self.over(&mut tx, &held, row).await?;
        tx.commit().await?;
        Ok(status)
    }

    /// Writes a render that has ended just now, and what is owed for it.
    pub(super) async fn over(
        &self,
        tx: &mut Tx<'_>,
        before: &RenderRow,
        mut row: RenderRow,
    ) -> Result<RenderRow, Trouble> {
        if row.checkpoint {
            // What an attempt left for the next is of no use once there is no next one.
            let key = schema::of_render(row.id, "checkpoint");
            let body: Option<Body> = self.table.row(&key).await?;
            tx.told.objects.extend(body.and_then(|body| body.object().map(str::to_owned)));
            tx.delete(&key)?;
            row.checkpoint = false;
        }
        if !row.notices.is_empty() {
            let first = self.table.draw("deliveries", row.notices.len()).await?;
            for delivery in deliveries(&row, first, tx.now) {
                row.deliveries.push(delivery.number);
                tx.delivery(None, delivery)?;
            }
        }
        if row.status == Status::Failed {
            tx.told.letters.push((row.id, row.leases));
        }
        Ok(tx.render(Some(before), row)?)
    }

    /// The lane of the render's group, if it has one.
    pub(super) async fn lane_of(&self, row: &RenderRow) -> Result<Option<LaneRow>, QueueError> {
        let Some(group) = &row.group else { return Ok(None) };
        self.table.row(&schema::lane(&row.tenant, group)).await
    }

    /// Lets a render wait in its lane, in the place it has.
    pub(super) fn enter(
        &self,
        tx: &mut Tx<'_>,
        lane: &mut LaneRow,
        row: &RenderRow,
    ) -> Result<(), QueueError> {
        let waiting = row.waiting();
        tx.put_row(&schema::waiting(&lane.key(), row.seq), &waiting, If::Always)?;
        lane.queued += 1;
        if lane.head.as_ref().is_none_or(|head| head.seq > row.seq) {
            lane.head = Some(waiting);
        }
        Ok(())
    }
}

fn close_attempt(
    tx: &mut Tx<'_>,
    held: &RenderRow,
    outcome: &'static str,
    failure: Option<&Failure>,
) -> Result<(), QueueError> {
    let attempt = Attempt {
        number: held.leases,
        worker: held.worker.clone().unwrap_or_default(),
        started_at: time(held.attempt_started_at.unwrap_or_default()),
        ended_at: Some(time(tx.now)),
        outcome: Some(outcome.into()),
        error: failure.map(kept),
    };
    tx.told.outcomes.push(outcome);
    tx.put_row(&schema::attempt(held.id, held.leases), &AttemptRow { body: Some(attempt) }, If::Always)
}

/// What is kept of a failure: all of it, but for what would not fit into an item, and so would let no attempt end.
fn kept(failure: &Failure) -> Failure {
    let cut = |text: &str| {
        let mut end = text.len().min(LONGEST_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text[..end].to_owned()
    };
    Failure { message: cut(&failure.message), stack: failure.stack.as_deref().map(cut), ..failure.clone() }
}
