//! Whose turn it is within a group: completed-before-next, in the order of acceptance.
//!
//! At most one render of a group has the turn. While one is rendering it keeps it; else it belongs to the queued one
//! accepted first, whether or not that one can start now. All others stand behind [`Gate::Group`]. Every operation
//! that may move the turn ends with [`settle`], which derives it afresh, so no operation can leave it wrong.

use rusqlite::{OptionalExtension, params};

use crate::integrity;
use crate::row::Gate;
use crate::writer::Tx;

/// Opens or closes the gate of a render that has just become queued, and of its group.
pub(crate) fn enqueue(tx: &mut Tx<'_>, seq: i64, tenant: i64, group: Option<&str>) -> rusqlite::Result<()> {
    match group {
        Some(group) => {
            tx.db
                .prepare_cached(
                    "INSERT INTO render_group (tenant_id, name) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                )?
                .execute(params![tenant, group])?;
            settle(tx, tenant, group)
        }
        None => {
            let (run_at, backoff_until) = tx
                .db
                .prepare_cached("SELECT run_at, backoff_until FROM render WHERE seq = ?1")?
                .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let gate = timed(tx, run_at, backoff_until);
            set_gate(tx, seq, gate)
        }
    }
}

/// Lets the group go on after a render of it that had the turn has ended, or holds it.
pub(crate) fn leave(
    tx: &mut Tx<'_>,
    seq: i64,
    tenant: i64,
    group: &str,
    holds: bool,
) -> rusqlite::Result<()> {
    tx.db
        .prepare_cached(
            "UPDATE render_group SET head = NULL, held_by = iif(?3, ?4, held_by)
             WHERE tenant_id = ?1 AND name = ?2 AND head = ?4",
        )?
        .execute(params![tenant, group, holds, seq])?;
    settle(tx, tenant, group)
}

/// Gives the turn to the render that must have it now.
pub(crate) fn settle(tx: &mut Tx<'_>, tenant: i64, group: &str) -> rusqlite::Result<()> {
    let Some((head, paused, held)) = tx
        .db
        .prepare_cached(
            "SELECT head, paused, held_by IS NOT NULL, intact FROM render_group WHERE tenant_id = ?1 AND name = ?2",
        )?
        .query_row(params![tenant, group], |row| {
            integrity::check(row, 3, || format!("group {group}"))?;
            Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, bool>(1)?, row.get::<_, bool>(2)?))
        })
        .optional()?
    else {
        return Ok(());
    };
    let head_is_rendering = match head {
        None => false,
        Some(head) => tx
            .db
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM render WHERE seq = ?1 AND status = 'rendering')")?
            .query_row([head], |row| row.get(0))?,
    };
    if head_is_rendering {
        return Ok(());
    }
    let first: Option<(i64, i64, Option<i64>)> = tx
        .db
        .prepare_cached(
            // By name, because the planner would rather walk all that the group ever rendered.
            "SELECT seq, run_at, backoff_until FROM render INDEXED BY render_line \
             WHERE tenant_id = ?1 AND group_name = ?2 AND status = 'queued' ORDER BY seq LIMIT 1",
        )?
        .query_row(params![tenant, group], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    if let Some(head) = head
        && first.is_none_or(|(first, ..)| first != head)
    {
        set_gate(tx, head, Gate::Group)?;
    }
    match first {
        Some((first, run_at, backoff_until)) => {
            let gate = if held {
                Gate::Held
            } else if paused {
                Gate::Paused
            } else {
                timed(tx, run_at, backoff_until)
            };
            set_gate(tx, first, gate)?;
            if head != Some(first) {
                tx.db
                    .prepare_cached("UPDATE render_group SET head = ?3 WHERE tenant_id = ?1 AND name = ?2")?
                    .execute(params![tenant, group, first])?;
            }
        }
        None if !paused && !held => {
            tx.db
                .prepare_cached("DELETE FROM render_group WHERE tenant_id = ?1 AND name = ?2")?
                .execute(params![tenant, group])?;
        }
        None => {
            tx.db
                .prepare_cached("UPDATE render_group SET head = NULL WHERE tenant_id = ?1 AND name = ?2")?
                .execute(params![tenant, group])?;
        }
    }
    Ok(())
}

/// The gate of a render that nothing but time stands before.
fn timed(tx: &Tx<'_>, run_at: i64, backoff_until: Option<i64>) -> Gate {
    if run_at > tx.now {
        Gate::Delayed
    } else if backoff_until.is_some_and(|until| until > tx.monotonic) {
        Gate::BackingOff
    } else {
        Gate::Open
    }
}

/// Changes nothing for a render that is not queued.
fn set_gate(tx: &mut Tx<'_>, seq: i64, gate: Gate) -> rusqlite::Result<()> {
    tx.db
        .prepare_cached("UPDATE render SET gate = ?2 WHERE seq = ?1 AND status = 'queued' AND gate <> ?2")?
        .execute(params![seq, gate as i64])?;
    if gate == Gate::Open {
        tx.claimable();
    }
    Ok(())
}
