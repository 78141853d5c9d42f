//! Looking without touching.

use lastframe_core::ports::{Filter, QueueError, Redrive, Redriven};
use lastframe_core::{Attempt, Checkpoint, Render, RenderId, RenderRequest};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::find;
use crate::integrity;
use crate::row::{self, COLUMNS, to_json};
use crate::seal::{Place, Ring};
use crate::writer::storage;

pub(crate) fn get(db: &Connection, id: RenderId) -> Result<Option<Render>, QueueError> {
    db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM render JOIN tenant ON tenant.id = tenant_id WHERE render.id = ?1"
    ))
    .and_then(|mut sql| sql.query_row([id.to_string()], row::render).optional())
    .map_err(storage)
}

/// A render that must be there, because the transaction it is read in has just touched it.
pub(crate) fn expect(db: &Connection, id: RenderId) -> Result<Render, QueueError> {
    get(db, id)?.ok_or_else(|| storage(rusqlite::Error::QueryReturnedNoRows))
}

pub(crate) fn request(
    db: &Connection,
    ring: &Ring,
    seq: i64,
) -> Result<Result<RenderRequest, serde_json::Error>, QueueError> {
    let body = db
        .prepare_cached("SELECT body, request.intact, id FROM request JOIN render USING (seq) WHERE seq = ?1")
        .and_then(|mut sql| sql.query_row([seq], |row| secret(row, ring, "request.body")))
        .map_err(storage)?;
    Ok(serde_json::from_str(&body))
}

pub(crate) fn checkpoint(db: &Connection, ring: &Ring, seq: i64) -> Result<Option<Checkpoint>, QueueError> {
    let body = db
        .prepare_cached(
            "SELECT body, checkpoint.intact, id FROM checkpoint JOIN render USING (seq) WHERE seq = ?1",
        )
        .and_then(|mut sql| sql.query_row([seq], |row| secret(row, ring, "checkpoint.body")).optional())
        .map_err(storage)?;
    body.map(|body| serde_json::from_str(&body).map_err(storage)).transpose()
}

/// The secret of a render, from a row of it, whether that is intact, and the render's id.
fn secret(row: &Row<'_>, ring: &Ring, column: &str) -> rusqlite::Result<String> {
    let id: String = row.get(2)?;
    let what = || format!("the {} of render {id}", column.trim_end_matches(".body"));
    integrity::check(row, 1, what)?;
    let place = Place::new(column, &[&id]);
    ring.keys().open(&place, row.get_ref(0)?).map_err(|why| why.of(&what()))
}

pub(crate) fn attempts(db: &Connection, id: RenderId) -> rusqlite::Result<Vec<Attempt>> {
    // The index of ids may be what is damaged, and lead to the attempts of another.
    db.prepare_cached(
        "SELECT number, worker, attempt.started_at, ended_at, outcome, attempt.error,
            attempt.intact AND render.intact AND +render.id = ?1
         FROM attempt JOIN render USING (seq) WHERE render.id = ?1 ORDER BY number",
    )?
    .query_map([id.to_string()], |row| {
        integrity::check(row, 6, || format!("an attempt of render {id}"))?;
        Ok(Attempt {
            number: row.get(0)?,
            worker: row.get(1)?,
            started_at: row::time(row, 2)?.unwrap_or_default(),
            ended_at: row::time(row, 3)?,
            outcome: row.get(4)?,
            error: row::json(row, 5)?,
        })
    })?
    .collect()
}

pub(crate) fn list(db: &Connection, filter: &Filter) -> rusqlite::Result<Vec<Render>> {
    if let Some(text) = &filter.text {
        return find::list(db, filter, text);
    }
    // Only the conditions that are asked for, so that each combination gets the index made for it.
    let mut conditions = String::new();
    let mut values: Vec<Box<dyn rusqlite::ToSql>> = Vec::new();
    let mut add = |condition: &str, value: Box<dyn rusqlite::ToSql>| {
        values.push(value);
        conditions.push_str(&format!(" AND {condition} ?{}", values.len()));
    };
    if let Some(tenant) = &filter.tenant {
        add("tenant.name =", Box::new(tenant.as_str().to_owned()));
    }
    if let Some(status) = filter.status {
        add("status =", Box::new(status.as_str()));
    }
    if let Some(group) = &filter.group {
        add("group_name =", Box::new(group.clone()));
    }
    if let Some(before) = filter.before {
        add("seq <", Box::new(before));
    }
    // One that is damaged must not hide all others. Who asks for it by its id hears of it, and so does who checks.
    let sql = format!(
        "SELECT {COLUMNS} FROM render JOIN tenant ON tenant.id = tenant_id WHERE render.intact{conditions} ORDER BY seq DESC LIMIT {}",
        filter.limit
    );
    db.prepare_cached(&sql)?.query_map(rusqlite::params_from_iter(values), row::render)?.collect()
}

/// The failed renders that a redrive is about, oldest first, and whether there are more.
pub(crate) fn failed(db: &Connection, which: &Redrive) -> Result<Redriven, QueueError> {
    // Only the conditions that are asked for; the checksum last, because it costs the most.
    let (mut from, mut conditions) = ("render", String::new());
    let mut values: Vec<Box<dyn rusqlite::ToSql>> = vec![Box::new(which.tenant.as_str().to_owned())];
    let mut add = |condition: &str, value: Box<dyn rusqlite::ToSql>| {
        values.push(value);
        conditions.push_str(&format!(" AND {}", condition.replace('?', &format!("?{}", values.len()))));
    };
    if let Some(ids) = &which.ids {
        from = "(SELECT DISTINCT value FROM json_each(?2)) AS asked CROSS JOIN render ON render.id = asked.value";
        add("? IS NOT NULL", Box::new(to_json(ids)?));
    }
    if let Some(group) = &which.group {
        add("group_name = ?", Box::new(group.clone()));
    }
    if let Some(since) = which.since {
        add("finished_at >= ?", Box::new(since.as_millisecond()));
    }
    if let Some(until) = which.until {
        add("finished_at < ?", Box::new(until.as_millisecond()));
    }
    if let Some(code) = &which.code {
        add("error ->> '$.code' = ?", Box::new(code.clone()));
    }
    let sql = format!(
        "SELECT render.id FROM {from} JOIN tenant ON tenant.id = tenant_id
         WHERE tenant.name = ?1 AND status = 'failed'{conditions} AND render.intact ORDER BY seq LIMIT {}",
        which.limit.saturating_add(1)
    );
    let found: Vec<String> = db
        .prepare_cached(&sql)
        .and_then(|mut sql| sql.query_map(rusqlite::params_from_iter(values), |row| row.get(0))?.collect())
        .map_err(storage)?;
    let mut renders = found.iter().map(|id| row::id(id)).collect::<Result<Vec<_>, _>>()?;
    let more = renders.len() > which.limit as usize;
    renders.truncate(which.limit as usize);
    Ok(Redriven { renders, more })
}

/// Terminal renders that ended before that time and owe nothing, the oldest first.
pub(crate) fn ended_before(db: &Connection, time: i64, limit: u32) -> rusqlite::Result<Vec<Render>> {
    db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM render INDEXED BY render_ended JOIN tenant ON tenant.id = tenant_id
         WHERE status IN ('succeeded', 'failed', 'cancelled') AND finished_at < ?1 AND render.intact
            AND NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.seq = render.seq AND delivery.status = 'pending')
         ORDER BY finished_at, seq LIMIT ?2"
    ))?
    .query_map(params![time, limit], row::render)?
    .collect()
}

/// Renders whose output was to be deleted by that time and is not yet, the longest due first.
pub(crate) fn outputs_due(db: &Connection, time: i64, limit: u32) -> rusqlite::Result<Vec<Render>> {
    const AFTER_DAYS: &str = "CASE WHEN json_valid(output) THEN output ->> '$.deletion.afterDays' END";
    db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM render INDEXED BY render_output_due JOIN tenant ON tenant.id = tenant_id
         WHERE {AFTER_DAYS} IS NOT NULL AND finished_at + 86400000 * {AFTER_DAYS} <= ?1 AND render.intact
         ORDER BY finished_at + 86400000 * {AFTER_DAYS} LIMIT ?2"
    ))?
    .query_map(params![time, limit], row::render)?
    .collect()
}
