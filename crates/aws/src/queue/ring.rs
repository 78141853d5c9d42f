//! Telling SQS, once a transaction stands: rings for lanes that have work, timers for those that have it later, letters for
//! renders that failed.
//!
//! None of it can undo the transaction. What could not be sent stands in a list, and the sweep sends it.

use std::time::Duration;

use aws_sdk_dynamodb::error::ProvideErrorMetadata as _;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use futures_util::StreamExt as _;
use futures_util::future::join;
use futures_util::stream::iter;
use lastframe_core::ports::QueueError;
use lastframe_core::{RenderId, error_chain};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::row::{Bell, Call, Standing};
use super::schema::part;
use super::table::{Key, digest, fault, n, s, storage};
use super::tx::Told;

/// Messages of one batch, as SQS takes them.
pub(super) const TOGETHER: usize = 10;
/// The longest that SQS holds a message back.
pub(super) const LONGEST_TIMER: Duration = Duration::from_secs(15 * 60);
/// When a ring that could not be answered comes back, in seconds, the first time; it doubles.
const AGAIN: i32 = 15;
/// At most: the receives that a queue allows a message are to last for hours.
const LATEST: i32 = 15 * 60;
/// Requests that are under way at once.
pub(super) const AT_ONCE: usize = 16;

/// The body of a message in the FIFO queue: a lane has work. Or a letter that came back from the dead letters: its render is
/// to have another go.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Ring {
    Lane { lane: String, generation: u64 },
    Letter { render: RenderId },
}

/// The body of a message of the timers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Timer {
    Lane { lane: String },
    Delivery { delivery: i64 },
}

/// The key of the lane of that name.
pub(super) fn lane_key(name: &str) -> Key {
    Key::new(name, if name.starts_with("render/") { "render" } else { "lane" })
}

fn body(message: &impl Serialize) -> Result<String, QueueError> {
    serde_json::to_string(message).map_err(storage)
}

impl Shared {
    /// Tells whoever listens here, and then SQS.
    pub(super) async fn tell(&self, told: Told) {
        for render in told.changed {
            self.told_of(render);
        }
        for outcome in told.outcomes {
            self.observer.attempt_recorded(outcome);
        }
        let now = self.now();
        if told.owed.iter().any(|(_, at)| *at <= now) {
            self.owed.notify_one();
        }
        let mut timers: Vec<(i64, Timer)> =
            told.owed.into_iter().map(|(delivery, at)| (at - now, Timer::Delivery { delivery })).collect();
        let mut rings = Vec::new();
        for (key, bell, call) in told.calls {
            match call {
                Call::Ring => rings.push((key, bell)),
                Call::At(at) => timers.push((at - now, Timer::Lane { lane: key.pk })),
            }
        }
        let quietly = async {
            iter(told.objects)
                .for_each_concurrent(AT_ONCE, |name| async move { self.drop_object(&name).await })
                .await;
            iter(timers).for_each_concurrent(AT_ONCE, |(wait, timer)| self.set_timer(wait, timer)).await;
            iter(told.letters)
                .for_each_concurrent(AT_ONCE, |(render, lease)| self.write_letter(render, lease))
                .await;
        };
        join(self.ring(rings), quietly).await;
    }

    /// Rings for these lanes, in this order, and notes for which of them it worked.
    pub(super) async fn ring(&self, rings: Vec<(Key, Bell)>) {
        for rings in rings.chunks(TOGETHER) {
            match self.send_rings(rings).await {
                Ok(sent) => {
                    let sent: Vec<_> = sent.into_iter().filter_map(|index| rings.get(index)).collect();
                    iter(sent).for_each_concurrent(AT_ONCE, |(key, bell)| self.note_sent(key, bell)).await;
                }
                Err(error) => {
                    tracing::warn!(
                        error = error_chain(&error),
                        "rings could not be sent; the next sweep sends them"
                    );
                }
            }
        }
    }

    /// Which of them were sent.
    async fn send_rings(&self, rings: &[(Key, Bell)]) -> Result<Vec<usize>, QueueError> {
        let mut request = self.sqs.send_message_batch().queue_url(&self.options.queue_url);
        for (index, (key, bell)) in rings.iter().enumerate() {
            let generation = bell.generation;
            let group = group(&key.pk, generation);
            let entry = SendMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .message_body(body(&Ring::Lane { lane: key.pk.clone(), generation })?)
                .message_deduplication_id(&group)
                .message_group_id(group);
            request = request.entries(entry.build().map_err(storage)?);
        }
        let answer = request.send().await.map_err(fault)?;
        for failed in &answer.failed {
            tracing::warn!(code = failed.code, "a ring could not be sent; the next sweep sends it");
        }
        Ok(answer.successful.iter().filter_map(|sent| sent.id.parse().ok()).collect())
    }

    /// Takes the lane out of the list of what is unsent, if nothing has happened to it since.
    async fn note_sent(&self, key: &Key, bell: &Bell) {
        let noted = self
            .table
            .client
            .update_item()
            .table_name(&self.table.name)
            .set_key(Some(key.item()))
            .update_expression("SET bell.standing = :sent, bell.rung_at = :now, dp = :list")
            .condition_expression("bell.generation = :generation AND bell.standing = :unsent")
            .expression_attribute_values(":sent", s(Standing::Sent.word()))
            .expression_attribute_values(":unsent", s(Standing::Unsent.word()))
            .expression_attribute_values(":now", n(self.now()))
            .expression_attribute_values(":list", s(part("sent", &key.pk)))
            .expression_attribute_values(":generation", n(bell.generation));
        if let Err(error) = noted.send().await {
            // It was claimed meanwhile, or it will be rung for once more, which claims nothing.
            tracing::debug!(code = error.code(), "a ring was not noted as sent");
        }
    }

    /// Has somebody look again after so many milliseconds. Longer ones than SQS can hold are left to the sweep.
    pub(super) async fn set_timer(&self, wait: i64, timer: Timer) {
        let Some(url) = &self.options.timers_url else { return };
        // Rounded up: who comes too early would have to come again.
        let seconds = wait.max(0).saturating_add(999) / 1_000;
        let Some(seconds) =
            i32::try_from(seconds).ok().filter(|wait| *wait <= LONGEST_TIMER.as_secs() as i32)
        else {
            return;
        };
        let sent = match body(&timer) {
            Ok(body) => {
                let request =
                    self.sqs.send_message().queue_url(url).message_body(body).delay_seconds(seconds);
                request.send().await.map(drop).map_err(fault)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            tracing::warn!(error = error_chain(&error), "a timer could not be set; the sweep looks instead");
        }
    }

    /// Lays a letter for a render that failed under that lease where Amazon's console and alarms see it.
    async fn write_letter(&self, render: RenderId, lease: u32) {
        let Some(url) = &self.options.dead_letters_url else { return };
        let sent = match body(&Ring::Letter { render }) {
            Ok(body) => {
                let request = self.sqs.send_message().queue_url(url).message_body(body);
                let request = request
                    .message_group_id(render.to_string())
                    .message_deduplication_id(format!("{render}-{lease}"));
                request.send().await.map(drop).map_err(fault)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            tracing::warn!(render.id = %render, error = error_chain(&error), "a dead letter could not be written");
        }
    }
}

/// When a ring comes back that was received so often and could not be answered, in seconds.
pub(super) fn comes_back_in(received: u32) -> i32 {
    AGAIN.saturating_mul(1 << received.saturating_sub(1).min(10)).min(LATEST)
}

/// The message group of a ring, of a length and of letters that SQS takes. Each ring of a lane has one of its own: SQS keeps a
/// message from everybody while one before it in its group is in the hands of somebody, who may have died. The order of a
/// lane is the table's.
fn group(lane: &str, generation: u64) -> String {
    lastframe_core::hex::encode(&digest(&format!("{lane} {generation}"))[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_receives_last_for_hours() {
        let waits: Vec<_> = (1..=10).map(comes_back_in).collect();
        assert_eq!(waits[..7], [15, 30, 60, 120, 240, 480, 900]);
        assert!(waits.iter().sum::<i32>() > 75 * 60, "{waits:?}");
        assert_eq!((comes_back_in(0), comes_back_in(u32::MAX)), (15, 900));
    }
}
