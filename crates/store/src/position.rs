//! Where a queued render stands, and what stands before it.

use jiff::Timestamp;
use lastframe_core::ports::{Position, QueueError};
use lastframe_core::{Blocked, RenderId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::integrity;
use crate::row::{self, Gate};
use crate::writer::storage;

struct Queued {
    seq: i64,
    tenant: i64,
    group: Option<String>,
    gate: i64,
    priority: i32,
    run_at: i64,
    backoff_until: i64,
    /// What may stand before an open gate, as flags: the queue is paused, the tenant is, it has all it may have.
    closed: [bool; 3],
}

const QUEUED: &str = "SELECT seq, tenant_id, group_name, gate, priority, run_at, coalesce(backoff_until, 0),
        (SELECT paused FROM queue), tenant.paused, coalesce(tenant.rendering >= max_concurrency, 0), render.intact
    FROM render JOIN tenant ON tenant.id = tenant_id WHERE render.id = ?1 AND status = 'queued'";

fn queued(row: &Row<'_>) -> rusqlite::Result<Queued> {
    integrity::check(row, 10, || "a render".into())?;
    Ok(Queued {
        seq: row.get(0)?,
        tenant: row.get(1)?,
        group: row.get(2)?,
        gate: row.get(3)?,
        priority: row.get(4)?,
        run_at: row.get(5)?,
        backoff_until: row.get(6)?,
        closed: [row.get(7)?, row.get(8)?, row.get(9)?],
    })
}

/// Where the render stands at that time; none unless it is queued.
pub(crate) fn position(
    db: &Connection,
    id: RenderId,
    now: i64,
    monotonic: i64,
) -> Result<Option<Position>, QueueError> {
    let queued = db
        .prepare_cached(QUEUED)
        .and_then(|mut sql| sql.query_row([id.to_string()], queued).optional())
        .map_err(storage)?;
    let Some(queued) = queued else { return Ok(None) };
    let position = (ahead(db, &queued).map_err(storage)? + 1).min(Position::COUNTED_UP_TO);
    let delayed = |until: i64| {
        Ok::<_, QueueError>(Blocked::Delayed { run_at: Timestamp::from_millisecond(until).map_err(storage)? })
    };
    let blocked_by = match queued.gate {
        gate if gate == Gate::Delayed as i64 => Some(delayed(queued.run_at)?),
        gate if gate == Gate::BackingOff as i64 => {
            Some(delayed(now.saturating_add(queued.backoff_until.saturating_sub(monotonic)))?)
        }
        gate if gate == Gate::Group as i64 => {
            in_group(db, &queued, "head")?.map(|render_id| Blocked::Group { render_id })
        }
        gate if gate == Gate::Paused as i64 => Some(Blocked::GroupPaused),
        gate if gate == Gate::Held as i64 => {
            in_group(db, &queued, "held_by")?.map(|render_id| Blocked::GroupHeld { render_id })
        }
        _ => match queued.closed {
            [true, ..] => Some(Blocked::QueuePaused),
            [_, true, _] => Some(Blocked::TenantPaused),
            [.., true] => Some(Blocked::TenantLimit),
            _ => None,
        },
    };
    Ok(Some(Position { position, blocked_by }))
}

/// How many go before it in its line.
fn ahead(db: &Connection, queued: &Queued) -> rusqlite::Result<u32> {
    match &queued.group {
        Some(group) => db
            .prepare_cached(
                "SELECT count(*) FROM (SELECT 1 FROM render INDEXED BY render_line
                 WHERE tenant_id = ?1 AND group_name = ?2 AND status = 'queued' AND seq < ?3 LIMIT ?4)",
            )?
            .query_row(params![queued.tenant, group, queued.seq, Position::COUNTED_UP_TO], |row| row.get(0)),
        None => db
            .prepare_cached(
                "SELECT count(*) FROM (
                    SELECT 1 FROM render WHERE tenant_id = ?1 AND gate = 0 AND priority > ?2
                    UNION ALL
                    SELECT 1 FROM render WHERE tenant_id = ?1 AND gate = 0 AND priority = ?2 AND seq < ?3
                    LIMIT ?4)",
            )?
            .query_row(params![queued.tenant, queued.priority, queued.seq, Position::COUNTED_UP_TO], |row| {
                row.get(0)
            }),
    }
}

/// The render that this column of its group names.
fn in_group(db: &Connection, queued: &Queued, column: &str) -> Result<Option<RenderId>, QueueError> {
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
}
