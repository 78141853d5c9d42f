//! What is owed for renders that have ended: taking it, settling it, owing it again.
//!
//! A trigger makes the deliveries (`migrations/0007_outbox.sql`). Which of them are due is looked for on a reader, route by
//! route, so that a hundred thousand on one where nobody answers delay nobody; a command then takes them, if they are still
//! there to be taken.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use lastframe_core::notice::{Channel, Notice};
use lastframe_core::outbox::{
    Delivery, DeliveryCounts, DeliveryFilter, DeliveryId, DeliveryStatus, Due, NoticeDefaults, Outbox,
    RedeliverError, Room, Settled, TenantNotices, TenantSecret, Try,
};
use lastframe_core::ports::QueueError;
use lastframe_core::{Failure, TenantId};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::integrity::{self, is_damage};
use crate::row::to_json;
use crate::writer::{Tx, storage};
use crate::{Store, claim, delivery, notices};

#[async_trait]
impl Outbox for Store {
    async fn take_due(&self, room: Room, hold: Duration) -> Result<Vec<Due>, QueueError> {
        match self.take_now(&room, hold).await {
            Err(QueueError::Damaged { what }) if self.may_mend() => {
                tracing::error!(what, "looking for what is due came upon damage");
                self.writer.run(|tx| claim::mend(tx).map_err(storage)).await?;
                self.take_now(&room, hold).await
            }
            taken => taken,
        }
    }

    async fn settle(
        &self,
        delivery: DeliveryId,
        token: i64,
        tried: Try,
        settled: Settled,
    ) -> Result<bool, QueueError> {
        self.writer.run(move |tx| settle(tx, delivery.0, token, &tried, settled)).await
    }

    async fn next_due(&self, after: Timestamp) -> Result<Option<Timestamp>, QueueError> {
        let (now, monotonic) = (self.clock.now().as_millisecond(), self.monotonic());
        let after = after.as_millisecond();
        let next = self.readers.at_once(move |db| next_due(db, after, now, monotonic)).await?;
        next.map(|at| Timestamp::from_millisecond(at).map_err(storage)).transpose()
    }

    async fn owed(&self) {
        self.signals.owed.told().await;
    }

    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<Delivery>, QueueError> {
        self.readers.run(move |db| delivery::list(db, &filter).map_err(storage)).await
    }

    async fn delivery(&self, delivery: DeliveryId) -> Result<Option<(Delivery, Vec<Try>)>, QueueError> {
        self.readers
            .run(move |db| {
                let Some(found) = delivery::get(db, delivery.0)? else { return Ok(None) };
                Ok(Some((found, delivery::tries(db, delivery.0).map_err(storage)?)))
            })
            .await
    }

    async fn redeliver(&self, delivery: DeliveryId) -> Result<Delivery, RedeliverError> {
        self.writer.run(move |tx| redeliver(tx, delivery.0)).await
    }

    async fn delivery_counts(&self) -> Result<DeliveryCounts, QueueError> {
        self.readers.at_once(delivery::counts).await
    }

    async fn tenant_notices(&self, tenant: &TenantId) -> Result<TenantNotices, QueueError> {
        self.readers.at_once(|db| notices::get(db, &self.ring, tenant)).await
    }

    async fn set_notice_defaults(
        &self,
        tenant: &TenantId,
        defaults: NoticeDefaults,
    ) -> Result<(), QueueError> {
        let tenant = tenant.clone();
        self.writer.run(move |tx| notices::set_defaults(tx, &tenant, defaults)).await
    }

    async fn add_secret(&self, tenant: &TenantId, secret: TenantSecret) -> Result<bool, QueueError> {
        let tenant = tenant.clone();
        self.writer.run(move |tx| notices::add_secret(tx, &tenant, secret)).await
    }

    async fn remove_secret(&self, tenant: &TenantId, id: &str) -> Result<bool, QueueError> {
        let (tenant, id) = (tenant.clone(), id.to_owned());
        self.writer.run(move |tx| notices::remove_secret(tx, &tenant, &id)).await
    }
}

impl Store {
    async fn take_now(&self, room: &Room, hold: Duration) -> Result<Vec<Due>, QueueError> {
        let mut in_vain = 0;
        while in_vain < 2 {
            let (now, monotonic, room) = (self.clock.now().as_millisecond(), self.monotonic(), room.clone());
            if self.readers.at_once(|db| held_until(db, monotonic)).await? {
                self.writer.run(move |tx| release(tx, tx.monotonic)).await?;
            }
            let found = self.readers.run(move |db| due(db, now, &room).map_err(storage)).await?;
            if found.is_empty() {
                return Ok(Vec::new());
            }
            let Taken { held, condemned } = self.writer.run(move |tx| take(tx, &found, hold)).await?;
            in_vain = if held.is_empty() && condemned == 0 { in_vain + 1 } else { 0 };
            // Read apart from the writer: requests may be long.
            let ring = self.ring.clone();
            let taken = self
                .readers
                .run(move |db| {
                    let read =
                        held.into_iter().map(|(id, token)| (id, token, delivery::told(db, &ring, id, token)));
                    Ok(read.collect::<Vec<_>>())
                })
                .await?;
            let mut due = Vec::with_capacity(taken.len());
            for (id, token, read) in taken {
                match read {
                    Ok(one) => due.push(one),
                    Err(error) => {
                        let why = unreadable(error)?;
                        tracing::error!(delivery.id = id, why, "a delivery cannot be read; it is given up");
                        self.writer.run(move |tx| give_up(tx, id, token, &why)).await?;
                    }
                }
            }
            // When none could be read there may be others that can.
            if !due.is_empty() {
                return Ok(due);
            }
        }
        // Once, somebody else may have been faster.
        Err(storage(integrity::damaged("the order of the outbox")))
    }
}

/// Notes whom the end of a render is owed to.
pub(crate) fn promise(tx: &Tx<'_>, seq: i64, tenant: i64, notices: &[Notice]) -> rusqlite::Result<()> {
    for (number, notice) in (0_i64..).zip(notices) {
        tx.db
            .prepare_cached(
                "INSERT INTO notice (seq, number, tenant_id, channel, endpoint) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![seq, number, tenant, notice.channel.as_str(), notice.endpoint()])?;
    }
    Ok(())
}

/// Whether something is still owed for that render.
pub(crate) fn owes(db: &Connection, seq: i64) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM delivery WHERE seq = ?1 AND status = 'pending')")?
        .query_row([seq], |row| row.get(0))
}

/// Removes all that was owed for that render.
pub(crate) fn forget(tx: &Tx<'_>, seq: i64) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM delivery_try WHERE delivery IN (SELECT id FROM delivery WHERE seq = ?1)",
        "DELETE FROM delivery WHERE seq = ?1",
        "DELETE FROM notice WHERE seq = ?1",
    ] {
        tx.db.prepare_cached(sql)?.execute([seq])?;
    }
    Ok(())
}

/// Puts right what an earlier process left: nobody holds anything any more, and a damaged count is made anew.
pub(crate) fn renew(tx: &mut Tx<'_>) -> Result<(), QueueError> {
    if let Err(error) = release(tx, i64::MAX) {
        if !is_damage(&error) {
            return Err(error);
        }
        tracing::error!(%error, "ending the holds of the last process came upon damage");
        claim::mend(tx).map_err(storage)?;
        release(tx, i64::MAX)?;
    }
    let intact: Option<bool> =
        tx.db.query_row("SELECT intact FROM outbox", [], |row| row.get(0)).optional().map_err(storage)?;
    if intact == Some(true) { Ok(()) } else { recount(tx).map_err(storage) }
}

/// Counts the deliveries anew.
pub(crate) fn recount(tx: &Tx<'_>) -> rusqlite::Result<()> {
    tx.db.execute_batch(
        "REPLACE INTO outbox (id, pending, delivered, failed)
            SELECT 1, ifnull(sum(status = 'pending'), 0), ifnull(sum(status = 'delivered'), 0), ifnull(sum(status = 'failed'), 0)
            FROM delivery",
    )
}

/// Whether a hold is over.
fn held_until(db: &Connection, monotonic: i64) -> Result<bool, QueueError> {
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM delivery WHERE held_until <= ?1)")
        .and_then(|mut sql| sql.query_row([monotonic], |row| row.get(0)))
        .map_err(storage)
}

/// Ends the holds that are over by that time.
fn release(tx: &mut Tx<'_>, monotonic: i64) -> Result<(), QueueError> {
    let held: Vec<i64> = tx
        .db
        .prepare_cached("SELECT id FROM delivery WHERE held_until <= ?1")
        .and_then(|mut sql| sql.query_map([monotonic], |row| row.get(0))?.collect())
        .map_err(storage)?;
    for id in held {
        let released = tx
            .db
            .prepare_cached("UPDATE delivery SET held_until = NULL WHERE id = ?1")
            .and_then(|mut sql| sql.execute([id]))
            .map_err(storage);
        match released {
            Err(error) if is_damage(&error) => condemn(tx, id)?,
            released => drop(released?),
        }
    }
    Ok(())
}

const NEXT_ROUTE: &str = "
    SELECT channel, tenant_id, endpoint FROM delivery INDEXED BY delivery_due
    WHERE status = 'pending' AND held_until IS NULL AND (channel, tenant_id, endpoint) > (?1, ?2, ?3)
    ORDER BY channel, tenant_id, endpoint LIMIT 1";

const DUE_ON_ROUTE: &str = "
    SELECT id, next_at FROM delivery INDEXED BY delivery_due
    WHERE status = 'pending' AND held_until IS NULL AND channel = ?1 AND tenant_id = ?2 AND endpoint = ?3 AND next_at <= ?4
    ORDER BY next_at, id LIMIT ?5";

/// A [`Route`](lastframe_core::outbox::Route) as the database has it. Bytes, because what is damaged may be no text any more.
#[derive(PartialEq)]
struct Way {
    channel: Vec<u8>,
    tenant: i64,
    endpoint: Vec<u8>,
}

impl Way {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let bytes = |column| -> rusqlite::Result<_> { Ok(row.get_ref(column)?.as_bytes()?.to_vec()) };
        Ok(Self { channel: bytes(0)?, tenant: row.get(1)?, endpoint: bytes(2)? })
    }

    /// A channel that is none is damage, which whoever takes the delivery finds.
    fn channel(&self) -> Channel {
        let named = |channel: &&Channel| channel.as_str().as_bytes() == self.channel;
        Channel::ALL.iter().find(named).copied().unwrap_or(Channel::Webhook)
    }
}

/// Deliveries that are due and that there is room for, in the order to take them in.
fn due(db: &Connection, now: i64, room: &Room) -> rusqlite::Result<Vec<i64>> {
    let mut named = Vec::with_capacity(room.named.len());
    let mut tenant = db.prepare_cached("SELECT id FROM tenant WHERE name = ?1")?;
    for (route, here) in &room.named {
        let id = tenant.query_row([route.tenant.as_str()], |row| row.get(0)).optional()?;
        let (channel, endpoint) = (route.channel.as_str().into(), route.endpoint.clone().into());
        named.extend(id.map(|tenant| (Way { channel, tenant, endpoint }, *here)));
    }
    let (mut next, mut due) = (db.prepare_cached(NEXT_ROUTE)?, db.prepare_cached(DUE_ON_ROUTE)?);
    let mut found = Vec::new();
    let mut way = Way { channel: Vec::new(), tenant: i64::MIN, endpoint: Vec::new() };
    while let Some(after) =
        next.query_row(params![text(&way.channel), way.tenant, text(&way.endpoint)], Way::read).optional()?
    {
        way = after;
        let here = named.iter().find(|(named, _)| *named == way).map_or(room.each, |(_, here)| *here);
        let channel = way.channel();
        let limit = i64::try_from(here.min(room.by(channel))).unwrap_or(i64::MAX);
        let mut rows = due.query(params![text(&way.channel), way.tenant, text(&way.endpoint), now, limit])?;
        // How many would be under way there before it.
        let mut under_way = room.each.saturating_sub(here);
        while let Some(row) = rows.next()? {
            found.push((under_way, row.get::<_, i64>(1)?, row.get::<_, i64>(0)?, channel));
            under_way += 1;
        }
    }
    found.sort_unstable_by_key(|&(under_way, next_at, id, _)| (under_way, next_at, id));
    let mut room = room.clone();
    Ok(found.into_iter().filter(|(.., channel)| room.take_up(*channel)).map(|(_, _, id, _)| id).collect())
}

fn text(bytes: &[u8]) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(ValueRef::Text(bytes))
}

/// What became of deliveries that were found.
struct Taken {
    /// Their ids, each with the token of its hold.
    held: Vec<(i64, i64)>,
    /// How many were given up, because they are damaged.
    condemned: usize,
}

/// Holds those of them that nobody has taken since they were found.
fn take(tx: &mut Tx<'_>, ids: &[i64], hold: Duration) -> Result<Taken, QueueError> {
    let (mut held, mut condemned) = (Vec::new(), 0);
    for id in ids {
        let taken = tx
            .db
            .prepare_cached(
                "UPDATE delivery SET held_until = ?2, token = token + 1
                 WHERE id = ?1 AND status = 'pending' AND held_until IS NULL RETURNING token",
            )
            .and_then(|mut sql| sql.query_row(params![id, tx.deadline(hold)], |row| row.get(0)).optional())
            .map_err(storage);
        match taken {
            Err(error) if is_damage(&error) => {
                condemn(tx, *id)?;
                condemned += 1;
            }
            taken => held.extend(taken?.map(|token| (*id, token))),
        }
    }
    Ok(Taken { held, condemned })
}

/// The code of a delivery that [`condemn`] has given up. It cannot be owed again: what it told is not known.
const DELIVERY_DAMAGED: &str = "delivery_damaged";

/// Gives up a delivery whose record is damaged.
fn condemn(tx: &mut Tx<'_>, id: i64) -> Result<(), QueueError> {
    let why = "its record was damaged on disk (`lastframe check` looks for more damage)";
    tracing::error!(delivery.id = id, "the record of a delivery is damaged; it is given up");
    let error = to_json(&Failure::new(DELIVERY_DAMAGED, why, false))?;
    tx.db
        .prepare_cached(
            "UPDATE delivery SET status = 'failed', ended = 'failed', error = ?2, output = NULL, started_at = NULL,
                ended_at = ?3, tries = 0, next_at = NULL, token = 0, held_until = NULL,
                (channel, endpoint) = (SELECT ifnull(min(channel), 'webhook'), ifnull(min(endpoint), '?') FROM notice
                    WHERE notice.seq = delivery.seq AND notice.number = delivery.number AND intact)
             WHERE id = ?1",
        )
        .and_then(|mut sql| sql.execute(params![id, error, tx.now]))
        // Its status may be what was damaged.
        .and_then(|_| recount(tx))
        .map_err(storage)?;
    record(tx, id, &untried(tx, why)?)?;
    tx.owed();
    Ok(())
}

/// Gives up a delivery that cannot be told.
fn give_up(tx: &mut Tx<'_>, id: i64, token: i64, why: &str) -> Result<(), QueueError> {
    let tried = untried(tx, why)?;
    settle(tx, id, token, &tried, Settled::Failed)?;
    // There is room for another one.
    tx.owed();
    Ok(())
}

/// A go that came to nothing because of what is here.
fn untried(tx: &Tx<'_>, why: &str) -> Result<Try, QueueError> {
    let at = Timestamp::from_millisecond(tx.now).map_err(storage)?;
    Ok(Try { at, took_ms: 0, code: None, error: Some(why.to_owned()) })
}

fn settle(tx: &mut Tx<'_>, id: i64, token: i64, tried: &Try, settled: Settled) -> Result<bool, QueueError> {
    let (status, next_at) = match settled {
        Settled::Delivered => (DeliveryStatus::Delivered, None),
        Settled::Failed => (DeliveryStatus::Failed, None),
        Settled::Retry(wait) => {
            let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
            (DeliveryStatus::Pending, Some(tx.now.saturating_add(wait).min(farthest())))
        }
    };
    let theirs = tx
        .db
        .prepare_cached(
            "UPDATE delivery SET status = ?3, next_at = ?4, held_until = NULL, tries = tries + 1
             WHERE id = ?1 AND token = ?2 AND status = 'pending' AND intact",
        )
        .and_then(|mut sql| sql.execute(params![id, token, status.as_str(), next_at]))
        .map_err(storage)?
        > 0;
    if theirs {
        record(tx, id, tried)?;
    }
    Ok(theirs)
}

/// The last time that there is, in milliseconds since 1970.
fn farthest() -> i64 {
    Timestamp::MAX.as_millisecond()
}

fn record(tx: &Tx<'_>, id: i64, tried: &Try) -> Result<(), QueueError> {
    tx.db
        .prepare_cached(
            "INSERT INTO delivery_try (delivery, number, at, took, code, error)
             SELECT ?1, ifnull(max(number), 0) + 1, ?2, ?3, ?4, ?5 FROM delivery_try WHERE delivery = ?1",
        )
        .and_then(|mut sql| {
            sql.execute(params![id, tried.at.as_millisecond(), tried.took_ms, tried.code, tried.error])
        })
        .map_err(storage)?;
    Ok(())
}

fn redeliver(tx: &mut Tx<'_>, id: i64) -> Result<Delivery, RedeliverError> {
    let delivery = delivery::get(tx.db, id)?.ok_or(RedeliverError::NotFound)?;
    if delivery.status == DeliveryStatus::Pending {
        return Err(RedeliverError::Pending);
    }
    let condemned: bool = tx
        .db
        .prepare_cached("SELECT ifnull(error ->> '$.code' = ?2, 0) FROM delivery WHERE id = ?1")
        .and_then(|mut sql| sql.query_row(params![id, DELIVERY_DAMAGED], |row| row.get(0)))
        .map_err(storage)?;
    if condemned {
        return Err(QueueError::Damaged { what: format!("delivery {id}") }.into());
    }
    tx.db
        .prepare_cached(
            "UPDATE delivery SET status = 'pending', next_at = ?2, tries = 0, token = token + 1 WHERE id = ?1",
        )
        .and_then(|mut sql| sql.execute([id, tx.now]))
        .map_err(storage)?;
    tx.owed();
    delivery::get(tx.db, id)?.ok_or(RedeliverError::NotFound)
}

fn next_due(db: &Connection, after: i64, now: i64, monotonic: i64) -> Result<Option<i64>, QueueError> {
    let next =
        "SELECT min(next_at) FROM delivery WHERE status = 'pending' AND held_until IS NULL AND next_at > ?1";
    let held = "SELECT min(held_until) FROM delivery WHERE held_until IS NOT NULL AND ?1";
    let ask = |sql: &str, value: i64| -> Result<Option<i64>, QueueError> {
        db.prepare_cached(sql).and_then(|mut sql| sql.query_row([value], |row| row.get(0))).map_err(storage)
    };
    // One that is over already is not missed for being so.
    let released = ask(held, 1)?.map(|until| {
        now.saturating_add(until.saturating_sub(monotonic)).max(after.saturating_add(1)).min(farthest())
    });
    Ok([ask(next, after)?, released].into_iter().flatten().min())
}

/// Why a delivery cannot be read, if it never will be.
fn unreadable(error: QueueError) -> Result<String, QueueError> {
    match &error {
        QueueError::Damaged { .. } => Ok(error.to_string()),
        QueueError::Storage(cause) => match cause.downcast_ref() {
            // What was damaged once may have been ended as it is, and makes no sense.
            Some(rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..)) => {
                Ok(format!("the record of its render makes no sense: {cause}"))
            }
            _ => Err(error),
        },
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_for_what_is_due_is_one_index_seek_for_each_route_and_sorts_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let db = crate::connection::writer(&folder.path().join("queue.db")).unwrap();
        for sql in [NEXT_ROUTE, DUE_ON_ROUTE] {
            let mut explained = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let values = vec![rusqlite::types::Null; explained.parameter_count()];
            let steps = explained.query_map(rusqlite::params_from_iter(values), |row| row.get(3)).unwrap();
            let plan: Vec<String> = steps.collect::<Result<_, _>>().unwrap();
            let plan = plan.join("; ");
            assert!(plan.contains("SEARCH delivery USING INDEX delivery_due ("), "{plan}");
            assert!(!plan.contains("B-TREE"), "{plan}");
        }
    }
}
