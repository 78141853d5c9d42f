//! Deliveries, as they are read: in lists, one with every go at it, and with all that telling it needs.

use lastframe_core::TenantId;
use lastframe_core::notice::Channel;
use lastframe_core::outbox::{Delivery, DeliveryCounts, DeliveryFilter, DeliveryId, Due, Ended, Secret, Try};
use lastframe_core::ports::QueueError;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use crate::integrity;
use crate::row;
use crate::seal::Ring;
use crate::writer::storage;
use crate::{notices, read};

pub(crate) fn counts(db: &Connection) -> Result<DeliveryCounts, QueueError> {
    db.prepare_cached("SELECT pending, delivered, failed, intact FROM outbox")
        .and_then(|mut sql| {
            sql.query_row([], |row| {
                integrity::check(row, 3, || "the outbox".into())?;
                Ok(DeliveryCounts { pending: row.get(0)?, delivered: row.get(1)?, failed: row.get(2)? })
            })
        })
        .map_err(storage)
}

/// What [`delivery`] reads. Joined in that order, so that the conditions on deliveries decide which index is used.
const DELIVERY: &str = "delivery.id, render.id, tenant.name, channel, endpoint, delivery.status, ended, ended_at, next_at, \
    tries, delivery.intact";
const FROM: &str = "delivery CROSS JOIN render ON render.seq = delivery.seq CROSS JOIN tenant ON tenant.id = delivery.tenant_id";

fn delivery(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    let id = row.get(0)?;
    integrity::check(row, 10, || format!("delivery {id}"))?;
    Ok(Delivery {
        id: DeliveryId(id),
        render: row::parsed(row, 1)?,
        tenant: TenantId::new(row.get::<_, String>(2)?),
        channel: row::parsed(row, 3)?,
        endpoint: row.get(4)?,
        status: row::parsed(row, 5)?,
        ended: row::parsed(row, 6)?,
        created_at: row::time(row, 7)?.unwrap_or_default(),
        next_try_at: row::time(row, 8)?,
        tries: row.get(9)?,
    })
}

pub(crate) fn get(db: &Connection, id: i64) -> Result<Option<Delivery>, QueueError> {
    db.prepare_cached(&format!("SELECT {DELIVERY} FROM {FROM} WHERE delivery.id = ?1"))
        .and_then(|mut sql| sql.query_row([id], delivery).optional())
        .map_err(storage)
}

pub(crate) fn list(db: &Connection, filter: &DeliveryFilter) -> rusqlite::Result<Vec<Delivery>> {
    // Only the conditions that are asked for, so that each combination gets the index made for it.
    let mut conditions = String::new();
    let mut values: Vec<Box<dyn rusqlite::ToSql>> = Vec::new();
    let mut add = |condition: &str, value: Box<dyn rusqlite::ToSql>| {
        values.push(value);
        conditions.push_str(&format!(" AND {}", condition.replace('?', &format!("?{}", values.len()))));
    };
    if let Some(tenant) = &filter.tenant {
        let own = "delivery.tenant_id = (SELECT id FROM tenant WHERE name = ?)";
        add(own, Box::new(tenant.as_str().to_owned()));
    }
    if let Some(render) = filter.render {
        add(
            "delivery.seq = (SELECT seq FROM render WHERE id = ? AND intact AND +id = ?)",
            Box::new(render.to_string()),
        );
    }
    if let Some(status) = filter.status {
        add("delivery.status = ?", Box::new(status.as_str()));
    }
    if let Some(before) = filter.before {
        add("delivery.id < ?", Box::new(before.0));
    }
    // One that is damaged must not hide all others, as with renders.
    let sql = format!(
        "SELECT {DELIVERY} FROM {FROM} WHERE delivery.intact{conditions} ORDER BY delivery.id DESC LIMIT {}",
        filter.limit
    );
    db.prepare_cached(&sql)?.query_map(params_from_iter(values), delivery)?.collect()
}

pub(crate) fn tries(db: &Connection, id: i64) -> rusqlite::Result<Vec<Try>> {
    db.prepare_cached(
        "SELECT at, took, code, error, intact FROM delivery_try WHERE delivery = ?1 ORDER BY number",
    )?
    .query_map([id], |row| {
        integrity::check(row, 4, || format!("a go at delivery {id}"))?;
        Ok(Try {
            at: row::time(row, 0)?.unwrap_or_default(),
            took_ms: row.get(1)?,
            code: row.get(2)?,
            error: row.get(3)?,
        })
    })?
    .collect()
}

/// A delivery with all that telling it needs.
pub(crate) fn told(db: &Connection, ring: &Ring, id: i64, token: i64) -> Result<Due, QueueError> {
    let sql = format!(
        "SELECT {DELIVERY}, delivery.error, delivery.output, delivery.started_at, number, delivery.seq, kind,
            render.created_at, render.intact
         FROM {FROM} WHERE delivery.id = ?1"
    );
    let read = |row: &Row<'_>| -> rusqlite::Result<_> {
        let delivery = delivery(row)?;
        integrity::check(row, 18, || format!("render {}", delivery.render))?;
        let ended = Ended {
            status: delivery.ended,
            error: row::json(row, 11)?,
            output: row::json(row, 12)?,
            created_at: row::time(row, 17)?.unwrap_or_default(),
            started_at: row::time(row, 13)?,
            finished_at: delivery.created_at,
            kind: row::parsed(row, 16)?,
        };
        Ok((delivery, ended, row.get::<_, usize>(14)?, row.get::<_, i64>(15)?))
    };
    let damaged = |what: String| QueueError::Damaged { what };
    let (mut delivery, ended, number, seq) = db
        .prepare_cached(&sql)
        .and_then(|mut sql| sql.query_row([id], read).optional())
        .map_err(storage)?
        .ok_or_else(|| damaged(format!("the render of delivery {id}")))?;
    let request = read::request(db, ring, seq)?.map_err(|error| {
        // A newer version may have written it.
        damaged(format!(
            "the request of render {} cannot be read by this version ({error}); it",
            delivery.render
        ))
    })?;
    let notice = request.notices().into_iter().nth(number);
    let notice = notice.ok_or_else(|| damaged(format!("whom delivery {id} is for")))?;
    // What the request says is what counts, if the note of it was damaged.
    (delivery.channel, delivery.endpoint) = (notice.channel, notice.endpoint());
    let secrets = match (notice.channel, &notice.secret) {
        (Channel::Email, _) => Vec::new(),
        (Channel::Webhook, Some(secret)) => vec![Secret(secret.clone())],
        (Channel::Webhook, None) => {
            let secrets = notices::get(db, ring, &delivery.tenant)?.secrets;
            secrets.into_iter().map(|secret| secret.secret).collect()
        }
    };
    Ok(Due { delivery, token, notice, secrets, ended, request })
}
