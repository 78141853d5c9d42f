//! What time alone brings about, and what a death in the middle has left.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_sqs::types::ChangeMessageVisibilityBatchRequestEntry;
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use futures_util::stream::iter;
use lastframe_core::outbox::DeliveryStatus;
use lastframe_core::ports::QueueError;
use lastframe_core::{RenderId, Status, TenantId, error_chain};

use super::Shared;
use super::claim::paused;
use super::control::Resuming;
use super::ring::{AT_ONCE, LONGEST_TIMER, Ring, TOGETHER, Timer, lane_key};
use super::row::{Bell, DeliveryRow, LaneRow, RenderRow, Standing};
use super::schema::{self, DUE, padded, parts};
use super::table::{Item, Key, Search, condition_failed, fault, from_item, n, retrying, storage, text};
use super::tx::Tx;

/// What one sweep takes on at most, of each part of each list.
const AT_A_TIME: usize = 500;
/// Lanes of each part that have waited the longest, and are looked at for a ring that was lost. Those behind them are looked at
/// when these are gone.
const LOOKED_AT: usize = 100;
/// After so many milliseconds without a claim a lane is rung for anew: SQS may have dropped the message, as too old or as
/// one that nobody could handle.
const RING_ANEW: i64 = 30 * 60 * 1_000;
/// Letters that are looked at, the oldest, every so many minutes; one batch of them else. Whoever leaves them lying pays for
/// each look.
const LETTERS: usize = 500;
const ALL_LETTERS_EVERY: i64 = 10;
/// When somebody looks again for a delivery that is not in its list yet, in milliseconds.
const SOON: i64 = 1_000;
/// The longest that the clocks of two machines are taken to differ, in milliseconds.
const CLOCKS_DIFFER: i64 = 60_000;
/// For so many milliseconds the list of parked lanes may not show what was written before.
const SETTLED: i64 = 30_000;

impl Shared {
    /// Each list for itself: what goes wrong in one of them, or with one item, keeps nothing else.
    pub(super) async fn sweep(&self) -> Result<(), QueueError> {
        let now = self.now();
        let done = [
            self.end_leases(now).await,
            self.open_lanes(now).await,
            self.send_unsent().await,
            self.ring_anew(now).await,
            self.go_on(now).await,
        ];
        done.into_iter().collect()
    }

    /// Leases that are over.
    async fn end_leases(&self, now: i64) -> Result<(), QueueError> {
        let over = self.due("leases", now, AT_A_TIME).await?;
        self.each(over, |item| async move {
            let id: RenderId = text(&item, "id")?.parse().map_err(storage)?;
            self.expire(id).await
        })
        .await
    }

    /// Lanes whose time has come.
    async fn open_lanes(&self, now: i64) -> Result<(), QueueError> {
        let due = self.due("later", now, AT_A_TIME).await?;
        self.each(due, |item| async move { self.open_lane(&lane_key(text(&item, "pk")?)).await.map(drop) })
            .await
    }

    /// Rings that perhaps were never sent, whenever that was to be.
    async fn send_unsent(&self) -> Result<(), QueueError> {
        let unsent = self.due("unsent", i64::MAX, AT_A_TIME).await?;
        self.each(unsent, |item| async move { self.send_again(&lane_key(text(&item, "pk")?)).await }).await
    }

    /// Rings that were sent and lost.
    async fn ring_anew(&self, now: i64) -> Result<(), QueueError> {
        let long_ago = now - RING_ANEW;
        let waiting = self.due("sent", long_ago, LOOKED_AT).await?;
        let lost = move |bell: &Bell| bell.standing == Standing::Sent && bell.rung_at <= long_ago;
        self.each(waiting, |item| async move { self.ring_if(&lane_key(text(&item, "pk")?), lost).await })
            .await
    }

    /// Lanes that are parked while nothing is paused.
    async fn go_on(&self, now: i64) -> Result<(), QueueError> {
        let noted = self.table.find(Search::table(schema::RESUMING), AT_A_TIME).await?;
        self.each(noted, |item| async move {
            let key = Key::of(&item)?;
            let Resuming { tenant, since } = from_item(item)?;
            let whose = tenant.clone().unwrap_or_else(|| TenantId::new(""));
            let mut keys = vec![schema::control()];
            keys.extend(tenant.as_ref().map(schema::tenant));
            let on = paused(&self.table.get_all(&keys).await?, &whose)?.is_none();
            if on && self.unpark(tenant.as_ref(), 4 * AT_A_TIME).await? && since < now - SETTLED {
                self.delete(&key, since).await?;
            }
            Ok(())
        })
        .await
    }

    /// Does that with each of the items, in about this order; one that fails keeps no other.
    async fn each<F>(&self, items: Vec<Item>, work: impl Fn(Item) -> F) -> Result<(), QueueError>
    where
        F: Future<Output = Result<(), QueueError>>,
    {
        let done = iter(items).map(|item| {
            let key = text(&item, "pk").unwrap_or("an item without a key").to_owned();
            let done = work(item);
            async move {
                let done = done.await;
                if let Err(error) = &done {
                    tracing::error!(key, error = error_chain(error), "the sweep goes on without one");
                }
                done
            }
        });
        let done: Vec<_> = done.buffered(AT_ONCE).collect().await;
        done.into_iter().collect()
    }

    /// What is due in a list by that time, the longest due first in each part.
    async fn due(&self, list: &str, now: i64, most: usize) -> Result<Vec<Item>, QueueError> {
        let searches = parts(list).map(|part| {
            let search = Search::index(DUE, part).up_to(format!("{}/~", padded(now)));
            self.table.find(search, most)
        });
        let mut found: Vec<Item> = try_join_all(searches).await?.into_iter().flatten().collect();
        found.sort_by(|a, b| text(a, "ds").ok().cmp(&text(b, "ds").ok()));
        Ok(found)
    }

    /// Lets a lane go whose time has come. How long it has to wait yet, in milliseconds.
    async fn open_lane(&self, key: &Key) -> Result<Option<i64>, QueueError> {
        retrying(async || {
            let Some(item) = self.table.get(key).await? else { return Ok(None) };
            let mut tx = Tx::new(self);
            if key.sk == "lane" {
                let before: LaneRow = from_item(item)?;
                if before.bell.standing != Standing::Later {
                    return Ok(None);
                }
                if before.bell.until > tx.now {
                    return Ok(Some(before.bell.until - tx.now));
                }
                tx.lane(Some(&before), before.clone())?;
            } else {
                let before: RenderRow = from_item(item)?;
                if before.status != Status::Queued || before.bell.standing != Standing::Later {
                    return Ok(None);
                }
                if before.bell.until > tx.now {
                    return Ok(Some(before.bell.until - tx.now));
                }
                tx.render(Some(&before), before.clone())?;
                tx.told.changed.clear();
            }
            tx.commit().await?;
            Ok(None)
        })
        .await
    }

    /// Sends a ring that perhaps was never sent. The same one: SQS drops it if it was, unless that is minutes ago.
    async fn send_again(&self, key: &Key) -> Result<(), QueueError> {
        let Some(item) = self.table.get(key).await? else { return Ok(()) };
        let bell = if key.sk == "lane" {
            from_item::<LaneRow>(item)?.bell
        } else {
            from_item::<RenderRow>(item)?.bell
        };
        if bell.standing == Standing::Unsent {
            self.ring(vec![(key.clone(), bell)]).await;
        }
        Ok(())
    }

    pub(super) async fn wake(&self, timer: &str) -> Result<(), QueueError> {
        match serde_json::from_str(timer) {
            Ok(Timer::Lane { lane }) => {
                let wait = self.open_lane(&lane_key(&lane)).await?;
                if let Some(wait) = wait.filter(|wait| *wait <= LONGEST_TIMER.as_millis() as i64) {
                    self.set_timer(wait, Timer::Lane { lane }).await;
                }
            }
            Ok(Timer::Delivery { delivery }) => {
                // Who wakes the notifier must not be kept from it; and once a minute it looks by itself.
                if let Err(error) = self.not_yet_due(delivery).await {
                    tracing::warn!(
                        error = error_chain(&error),
                        "cannot tell whether a delivery can be found"
                    );
                }
            }
            Err(error) => tracing::error!(%error, "a message of the timers is none; it is dropped"),
        }
        Ok(())
    }

    /// Has somebody look again for a delivery that is owed now and cannot be found yet: indexes follow the table after a
    /// moment, and clocks differ.
    async fn not_yet_due(&self, delivery: i64) -> Result<(), QueueError> {
        let now = self.now();
        let Some(row) = self.table.row::<DeliveryRow>(&schema::delivery(delivery)).await? else {
            return Ok(());
        };
        if row.status != DeliveryStatus::Pending || row.held_until > now {
            return Ok(());
        }
        let mut wait = row.due() - now;
        if wait <= 0 {
            let item = row.item()?;
            let at = text(&item, "ds")?;
            let search = Search::index(DUE, text(&item, "dp")?).between(at, at);
            if self.table.count(search, 1).await? > 0 {
                return Ok(());
            }
            wait = SOON;
        }
        if wait <= CLOCKS_DIFFER {
            self.set_timer(wait, Timer::Delivery { delivery }).await;
        }
        Ok(())
    }

    /// Takes a note away that has not been made anew meanwhile.
    async fn delete(&self, key: &Key, since: i64) -> Result<(), QueueError> {
        let delete = self.table.client.delete_item().table_name(&self.table.name).set_key(Some(key.item()));
        let delete =
            delete.condition_expression("since = :since").expression_attribute_values(":since", n(since));
        match delete.send().await {
            Err(error) if condition_failed(&error) => Ok(()),
            deleted => deleted.map(drop).map_err(fault),
        }
    }

    pub(super) async fn sort_letters(&self) -> Result<(), QueueError> {
        let Some(url) = &self.options.dead_letters_url else { return Ok(()) };
        let all = self.now() / 60_000 % ALL_LETTERS_EVERY == 0;
        let most = if all { LETTERS } else { TOGETHER };
        let mut kept = Vec::new();
        let mut looked_at = 0;
        while looked_at < most {
            let received = self.sqs.receive_message().queue_url(url).max_number_of_messages(10);
            let received = received.visibility_timeout(30).send().await.map_err(fault)?;
            let messages = received.messages.unwrap_or_default();
            if messages.is_empty() {
                break;
            }
            looked_at += messages.len();
            let letters: Vec<(Option<Ring>, String)> = messages
                .into_iter()
                .map(|message| {
                    let letter = serde_json::from_str(message.body.as_deref().unwrap_or_default()).ok();
                    (letter, message.receipt_handle.unwrap_or_default())
                })
                .collect();
            let keys: BTreeSet<Key> =
                letters.iter().filter_map(|(letter, _)| Some(about(letter.as_ref()?))).collect();
            let found = self.table.get_all(&Vec::from_iter(keys)).await?;
            for (letter, receipt) in letters {
                // What is neither is for people to look at.
                if letter.is_none_or(|letter| stands(&letter, &found)) {
                    kept.push(receipt);
                } else {
                    let delete = self.sqs.delete_message().queue_url(url).receipt_handle(receipt);
                    delete.send().await.map_err(fault)?;
                }
            }
        }
        // Whoever looks for them finds them at once.
        for receipts in kept.chunks(TOGETHER) {
            let mut show = self.sqs.change_message_visibility_batch().queue_url(url);
            for (index, receipt) in receipts.iter().enumerate() {
                let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(index.to_string())
                    .receipt_handle(receipt)
                    .visibility_timeout(0);
                show = show.entries(entry.build().map_err(storage)?);
            }
            drop(show.send().await);
        }
        Ok(())
    }
}

/// The item that says whether a message still has to lie in the dead letters.
fn about(letter: &Ring) -> Key {
    match letter {
        Ring::Letter { render } => schema::render(*render),
        Ring::Lane { lane, .. } => lane_key(lane),
    }
}

/// Whether it has to: a letter while its render is failed, a ring while it is the last of a lane that waits.
fn stands(letter: &Ring, found: &HashMap<Key, Item>) -> bool {
    let key = about(letter);
    let Some(item) = found.get(&key).cloned() else { return false };
    let rings = |bell: Bell, generation| bell.standing.is_ready() && bell.generation == generation;
    let stands = match letter {
        Ring::Letter { .. } => from_item::<RenderRow>(item).map(|row| row.status == Status::Failed),
        Ring::Lane { generation, .. } if key.sk == "lane" => {
            from_item::<LaneRow>(item).map(|lane| rings(lane.bell, *generation))
        }
        Ring::Lane { generation, .. } => from_item::<RenderRow>(item).map(|row| rings(row.bell, *generation)),
    };
    // What cannot be read is for people as well.
    stands.unwrap_or(true)
}
