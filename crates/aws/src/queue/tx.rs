//! One transaction: what it writes, what it counts, and what is told once it stands.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{ConditionCheck, Delete, Put, TransactWriteItem, Update};
use lastframe_core::outbox::DeliveryStatus;
use lastframe_core::ports::QueueError;
use lastframe_core::{RenderId, Status, TenantId};
use serde::Serialize;

use super::Shared;
use super::row::{Bell, Call, DeliveryRow, LaneRow, RenderRow};
use super::schema::{self, COUNTERS, EXPIRES, padded};
use super::table::{Item, Key, Trouble, cancelled, n, storage, to_item};

/// An hour in milliseconds.
pub(super) const HOUR: i64 = 60 * 60 * 1_000;
/// How long it is remembered what was in an hour, in seconds.
const HOURS_KEPT: i64 = 400 * 24 * 60 * 60;

/// The counters of a tenant, in this order: renders by state, and lanes whose head could be claimed.
pub(super) const COUNTED: [&str; 6] = ["queued", "rendering", "succeeded", "failed", "cancelled", "ready"];
/// The counters of an hour.
pub(super) const HOURLY: [&str; 3] = ["accepted", "succeeded", "failed"];
/// The counters of all deliveries.
pub(super) const DELIVERIES: [&str; 3] = ["pending", "delivered", "failed"];

/// What is told once a transaction stands.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Renders that are not what they were.
    pub(super) changed: Vec<RenderId>,
    /// Lanes that have work, now or later.
    pub(super) calls: Vec<(Key, Bell, Call)>,
    /// Renders that failed, each with the number of the lease that it failed under.
    pub(super) letters: Vec<(RenderId, u32)>,
    /// Deliveries that are owed from that time on.
    pub(super) owed: Vec<(i64, i64)>,
    /// Objects of the bucket that nothing names any more.
    pub(super) objects: Vec<String>,
    /// How attempts ended.
    pub(super) outcomes: Vec<&'static str>,
}

/// On what condition an item is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum If {
    /// There is none yet.
    New,
    /// It is still of that version.
    Version(u64),
    /// Whatever is there.
    Always,
}

/// Says nothing of itself in logs, for it has whole items.
pub(super) struct Tx<'a> {
    queue: &'a Shared,
    /// Milliseconds since 1970: one moment for all that it writes.
    pub(super) now: i64,
    writes: Vec<TransactWriteItem>,
    counts: BTreeMap<TenantId, [i64; 6]>,
    hours: BTreeMap<(TenantId, i64), [i64; 3]>,
    deliveries: [i64; 3],
    pub(super) told: Told,
}

fn index(status: Status) -> usize {
    match status {
        Status::Queued => 0,
        Status::Rendering => 1,
        Status::Succeeded => 2,
        Status::Failed => 3,
        Status::Cancelled => 4,
    }
}

impl<'a> Tx<'a> {
    pub(super) fn new(queue: &'a Shared) -> Self {
        Self {
            queue,
            now: queue.now(),
            writes: Vec::new(),
            counts: BTreeMap::new(),
            hours: BTreeMap::new(),
            deliveries: [0; 3],
            told: Told::default(),
        }
    }

    pub(super) fn put(&mut self, item: Item, when: If) -> Result<(), QueueError> {
        let put = Put::builder().table_name(&self.queue.table.name).set_item(Some(item));
        let put = match when {
            If::New => put.condition_expression("attribute_not_exists(pk)"),
            If::Version(version) => {
                put.condition_expression("v = :v").expression_attribute_values(":v", n(version))
            }
            If::Always => put,
        };
        self.writes.push(TransactWriteItem::builder().put(put.build().map_err(storage)?).build());
        Ok(())
    }

    pub(super) fn put_row(&mut self, key: &Key, row: &impl Serialize, when: If) -> Result<(), QueueError> {
        self.put(to_item(key, row)?, when)
    }

    pub(super) fn delete(&mut self, key: &Key) -> Result<(), QueueError> {
        let delete = Delete::builder().table_name(&self.queue.table.name).set_key(Some(key.item()));
        self.writes.push(TransactWriteItem::builder().delete(delete.build().map_err(storage)?).build());
        Ok(())
    }

    /// Deletes it if it is still of that version.
    pub(super) fn delete_version(&mut self, key: &Key, version: u64) -> Result<(), QueueError> {
        let delete = Delete::builder()
            .table_name(&self.queue.table.name)
            .set_key(Some(key.item()))
            .condition_expression("v = :v")
            .expression_attribute_values(":v", n(version));
        self.writes.push(TransactWriteItem::builder().delete(delete.build().map_err(storage)?).build());
        Ok(())
    }

    /// All of this only if that item is still of that version.
    pub(super) fn check(&mut self, key: &Key, version: u64) -> Result<(), QueueError> {
        let check = ConditionCheck::builder()
            .table_name(&self.queue.table.name)
            .set_key(Some(key.item()))
            .condition_expression("v = :v")
            .expression_attribute_values(":v", n(version));
        self.writes
            .push(TransactWriteItem::builder().condition_check(check.build().map_err(storage)?).build());
        Ok(())
    }

    /// Writes a render that was `before`, or is new, and counts what that changes. Returns it as it is written.
    pub(super) fn render(
        &mut self,
        before: Option<&RenderRow>,
        mut row: RenderRow,
    ) -> Result<RenderRow, QueueError> {
        if row.group.is_none() {
            let head = (row.status == Status::Queued).then(|| row.not_before());
            if let Some(call) = row.bell.settle(head, self.now) {
                self.told.calls.push((row.key(), row.bell, call));
            }
        }
        self.count_render(before, Some(&row));
        let when = before.map_or(If::New, |before| If::Version(before.v));
        row.v = before.map_or(0, |before| before.v + 1);
        self.put(row.item()?, when)?;
        self.told.changed.push(row.id);
        Ok(row)
    }

    /// Counts what becomes of a render.
    pub(super) fn count_render(&mut self, before: Option<&RenderRow>, after: Option<&RenderRow>) {
        for (row, sign) in [(before, -1), (after, 1)] {
            let Some(row) = row else { continue };
            let counts = self.counts.entry(row.tenant.clone()).or_default();
            counts[index(row.status)] += sign;
            counts[5] += if row.bell.standing.is_ready() { sign } else { 0 };
            let mut hour = |at: i64, which: usize| {
                self.hours.entry((row.tenant.clone(), at - at.rem_euclid(HOUR))).or_default()[which] += sign;
            };
            hour(row.created_at, 0);
            match (row.status, row.finished_at) {
                (Status::Succeeded, Some(at)) => hour(at, 1),
                (Status::Failed, Some(at)) => hour(at, 2),
                _ => {}
            }
        }
    }

    /// Writes a lane that was `before`, or is new, once it is clear whose turn it is.
    pub(super) fn lane(&mut self, before: Option<&LaneRow>, mut row: LaneRow) -> Result<(), QueueError> {
        if let Some(call) = row.settle(self.now) {
            self.told.calls.push((row.key(), row.bell, call));
        }
        self.lane_as_is(before, row)
    }

    /// Writes a lane whose bell stands as it must.
    pub(super) fn lane_as_is(
        &mut self,
        before: Option<&LaneRow>,
        mut row: LaneRow,
    ) -> Result<(), QueueError> {
        let was_ready = before.is_some_and(|before| before.bell.standing.is_ready());
        let counts = self.counts.entry(row.tenant.clone()).or_default();
        counts[5] += i64::from(row.bell.standing.is_ready()) - i64::from(was_ready);
        let when = before.map_or(If::New, |before| If::Version(before.v));
        row.v = before.map_or(0, |before| before.v + 1);
        self.put(row.item(self.now)?, when)
    }

    /// Writes a delivery that was `before`, or is new.
    pub(super) fn delivery(
        &mut self,
        before: Option<&DeliveryRow>,
        mut row: DeliveryRow,
    ) -> Result<(), QueueError> {
        self.count_delivery(before, Some(&row));
        if row.status == DeliveryStatus::Pending && row.held_until == 0 {
            self.told.owed.push((row.number, row.next_at));
        }
        let when = before.map_or(If::New, |before| If::Version(before.v));
        row.v = before.map_or(0, |before| before.v + 1);
        self.put(row.item()?, when)
    }

    /// Counts what becomes of a delivery.
    pub(super) fn count_delivery(&mut self, before: Option<&DeliveryRow>, after: Option<&DeliveryRow>) {
        for (row, sign) in [(before, -1), (after, 1)] {
            if let Some(row) = row {
                self.deliveries[row.status as usize] += sign;
            }
        }
    }

    /// Adds to the counters of an item, if there is something to add.
    fn add(
        &mut self,
        key: &Key,
        names: &[&str],
        add: &[i64],
        expires: Option<i64>,
    ) -> Result<(), QueueError> {
        if add.iter().all(|add| *add == 0) {
            return Ok(());
        }
        let mut update = Update::builder().table_name(&self.queue.table.name).set_key(Some(key.item()));
        let mut sums = Vec::new();
        for (index, (name, add)) in names.iter().zip(add).enumerate().filter(|(_, (_, add))| **add != 0) {
            sums.push(format!("#n{index} :n{index}"));
            update = update
                .expression_attribute_names(format!("#n{index}"), *name)
                .expression_attribute_values(format!(":n{index}"), n(add));
        }
        let mut expression = format!("ADD {}", sums.join(", "));
        if let Some(expires) = expires {
            expression = format!("SET {EXPIRES} = :expires {expression}");
            update = update.expression_attribute_values(":expires", n(expires));
        }
        let update = update.update_expression(expression).build().map_err(storage)?;
        self.writes.push(TransactWriteItem::builder().update(update).build());
        Ok(())
    }

    /// Makes all of it stand, or nothing, and then tells of it.
    pub(super) async fn commit(mut self) -> Result<(), Trouble> {
        let counter = fastrand::u32(0..COUNTERS);
        for (tenant, add) in std::mem::take(&mut self.counts) {
            self.add(&schema::counts(&tenant, counter), &COUNTED, &add, None)?;
        }
        for ((tenant, hour), add) in std::mem::take(&mut self.hours) {
            let key = Key::new(schema::hours(&tenant), format!("{}/{counter}", padded(hour)));
            self.add(&key, &HOURLY, &add, Some(hour / 1_000 + HOURS_KEPT))?;
        }
        let add = self.deliveries;
        self.add(&schema::delivery_counts(counter), &DELIVERIES, &add, None)?;
        let request = self.queue.table.client.transact_write_items().set_transact_items(Some(self.writes));
        request.send().await.map_err(cancelled)?;
        self.queue.tell(self.told).await;
        Ok(())
    }
}
