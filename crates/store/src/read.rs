//! Looking without touching.

use lastframe_core::ports::{Filter, Position, QueueError};
use lastframe_core::{Attempt, Blocked, Checkpoint, Render, RenderId, RenderRequest};
use rusqlite::{Connection, OptionalExtension, params};

use crate::row::{self, COLUMNS, Gate};
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
    seq: i64,
) -> Result<Result<RenderRequest, serde_json::Error>, QueueError> {
    let body: String = db
        .prepare_cached("SELECT body FROM request WHERE seq = ?1")
        .and_then(|mut sql| sql.query_row([seq], |row| row.get(0)))
        .map_err(storage)?;
    Ok(serde_json::from_str(&body))
}

pub(crate) fn checkpoint(db: &Connection, seq: i64) -> Result<Option<Checkpoint>, QueueError> {
    db.prepare_cached("SELECT checkpoint FROM render WHERE seq = ?1")
        .and_then(|mut sql| sql.query_row([seq], |row| row::json(row, 0)))
        .map_err(storage)
}

pub(crate) fn attempts(db: &Connection, id: RenderId) -> rusqlite::Result<Vec<Attempt>> {
    db.prepare_cached(
        "SELECT number, worker, attempt.started_at, ended_at, outcome, attempt.error
         FROM attempt JOIN render USING (seq) WHERE render.id = ?1 ORDER BY number",
    )?
    .query_map([id.to_string()], |row| {
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
    let sql = format!(
        "SELECT {COLUMNS} FROM render JOIN tenant ON tenant.id = tenant_id WHERE 1{conditions} ORDER BY seq DESC LIMIT {}",
        filter.limit
    );
    db.prepare_cached(&sql)?.query_map(rusqlite::params_from_iter(values), row::render)?.collect()
}

pub(crate) fn position(db: &Connection, id: RenderId) -> Result<Option<Position>, QueueError> {
    struct Queued {
        seq: i64,
        tenant: i64,
        group: Option<String>,
        gate: i64,
        priority: i32,
        run_at: jiff::Timestamp,
    }
    let queued = db
        .prepare_cached("SELECT seq, tenant_id, group_name, gate, priority, run_at FROM render WHERE id = ?1 AND status = 'queued'")
        .and_then(|mut sql| {
            sql.query_row([id.to_string()], |row| {
                Ok(Queued {
                    seq: row.get(0)?,
                    tenant: row.get(1)?,
                    group: row.get(2)?,
                    gate: row.get(3)?,
                    priority: row.get(4)?,
                    run_at: row::time(row, 5)?.unwrap_or_default(),
                })
            })
            .optional()
        })
        .map_err(storage)?;
    let Some(queued) = queued else { return Ok(None) };
    let ahead: u32 = match &queued.group {
        Some(group) => db
            .prepare_cached(
                "SELECT count(*) FROM (SELECT 1 FROM render INDEXED BY render_line
                 WHERE tenant_id = ?1 AND group_name = ?2 AND status = 'queued' AND seq < ?3 LIMIT ?4)",
            )
            .and_then(|mut sql| {
                sql.query_row(params![queued.tenant, group, queued.seq, Position::COUNTED_UP_TO], |row| {
                    row.get(0)
                })
            }),
        None => db
            .prepare_cached(
                "SELECT count(*) FROM (
                    SELECT 1 FROM render WHERE tenant_id = ?1 AND gate = 0 AND priority > ?2
                    UNION ALL
                    SELECT 1 FROM render WHERE tenant_id = ?1 AND gate = 0 AND priority = ?2 AND seq < ?3
                    LIMIT ?4)",
            )
            .and_then(|mut sql| {
                sql.query_row(
                    params![queued.tenant, queued.priority, queued.seq, Position::COUNTED_UP_TO],
                    |row| row.get(0),
                )
            }),
    }
    .map_err(storage)?;
    let head = |column: &str| -> Result<Option<RenderId>, QueueError> {
        db.prepare_cached(&format!(
            "SELECT render.id FROM render_group JOIN render ON render.seq = {column}
             WHERE render_group.tenant_id = ?1 AND name = ?2"
        ))
        .and_then(|mut sql| {
            sql.query_row(params![queued.tenant, queued.group], |row| row.get::<_, String>(0)).optional()
        })
        .map_err(storage)?
        .map(|text| row::id(&text))
        .transpose()
    };
    let blocked_by = match queued.gate {
        gate if gate == Gate::Delayed as i64 => Some(Blocked::Delayed { run_at: queued.run_at }),
        gate if gate == Gate::Group as i64 => head("head")?.map(|render_id| Blocked::Group { render_id }),
        gate if gate == Gate::Paused as i64 => Some(Blocked::GroupPaused),
        gate if gate == Gate::Held as i64 => {
            head("held_by")?.map(|render_id| Blocked::GroupHeld { render_id })
        }
        _ => None,
    };
    Ok(Some(Position { position: (ahead + 1).min(Position::COUNTED_UP_TO), blocked_by }))
}
