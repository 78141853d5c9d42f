//! What time alone brings about: leases end, delays pass, idempotency keys expire.

use std::time::Duration;

use lastframe_core::RetryPolicy;
use lastframe_core::ports::QueueError;
use rusqlite::Connection;

use crate::integrity::is_damage;
use crate::lease;
use crate::line;
use crate::writer::{Tx, storage};

/// How long an idempotency key is remembered. The renders it stands for must not be forgotten before.
pub const KEY_LIFETIME: Duration = Duration::from_secs(72 * 60 * 60);

/// Renders that one transaction puts back or wakes, so that others need not wait long for theirs.
const AT_A_TIME: u32 = 1_000;

/// Whether there is anything to sweep. Asked on a reader, so that an idle queue writes nothing.
pub(crate) fn is_due(db: &Connection, now: i64, monotonic: i64) -> rusqlite::Result<bool> {
    db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM render WHERE gate = 1 AND run_at <= ?1)
             OR EXISTS (SELECT 1 FROM render WHERE backoff_until <= ?2)
             OR EXISTS (SELECT 1 FROM render WHERE status = 'rendering' AND lease_deadline <= ?2)
             OR EXISTS (SELECT 1 FROM idempotency WHERE created_at <= ?3)",
    )?
    .query_row([now, monotonic, key_horizon(now)], |row| row.get(0))
}

pub(crate) fn sweep(tx: &mut Tx<'_>, policy: RetryPolicy) -> Result<(), QueueError> {
    for seq in seqs(
        tx,
        "SELECT seq FROM render WHERE status = 'rendering' AND lease_deadline <= ?1",
        [tx.monotonic],
    )? {
        lose(tx, seq, policy)?;
    }
    for seq in seqs(
        tx,
        "SELECT seq FROM render WHERE gate = 1 AND run_at <= ?1 LIMIT ?2",
        [tx.now, AT_A_TIME.into()],
    )? {
        wake(tx, seq, tx.monotonic)?;
    }
    for seq in seqs(
        tx,
        "SELECT seq FROM render WHERE backoff_until <= ?1 LIMIT ?2",
        [tx.monotonic, AT_A_TIME.into()],
    )? {
        wake(tx, seq, tx.monotonic)?;
    }
    tx.db
        .prepare_cached("DELETE FROM idempotency WHERE created_at <= ?1")
        .and_then(|mut sql| sql.execute([key_horizon(tx.now)]))
        .map_err(storage)?;
    Ok(())
}

/// Ends every lease and every back-off that an earlier process gave: none of its workers lives, and its clock is gone.
/// Returns how many leases there were.
pub(crate) fn recover(tx: &mut Tx<'_>, policy: RetryPolicy) -> Result<usize, QueueError> {
    let leased = seqs(
        tx,
        "SELECT seq FROM render INDEXED BY render_lease WHERE status = 'rendering' ORDER BY seq",
        [],
    )?;
    for seq in &leased {
        lose(tx, *seq, policy)?;
    }
    for seq in seqs(tx, "SELECT seq FROM render WHERE backoff_until IS NOT NULL", [])? {
        wake(tx, seq, i64::MAX)?;
    }
    Ok(leased.len())
}

fn lose(tx: &mut Tx<'_>, seq: i64, policy: RetryPolicy) -> Result<(), QueueError> {
    match lease::lose(tx, seq, policy) {
        Err(error) if is_damage(&error) => lease::condemn(tx, seq),
        lost => lost,
    }
}

/// Lets the render go, unless its back-off ends after `monotonic`.
fn wake(tx: &mut Tx<'_>, seq: i64, monotonic: i64) -> Result<(), QueueError> {
    let woken = tx
        .db
        .prepare_cached(
            "UPDATE render SET backoff_until = iif(backoff_until > ?2, backoff_until, NULL)
             WHERE seq = ?1 RETURNING tenant_id, group_name",
        )
        .and_then(|mut sql| {
            sql.query_row([seq, monotonic], |row| Ok((row.get(0)?, row.get::<_, Option<String>>(1)?)))
        })
        .and_then(|(tenant, group)| line::enqueue(tx, seq, tenant, group.as_deref()))
        .map_err(storage);
    match woken {
        Err(error) if is_damage(&error) => lease::condemn(tx, seq),
        woken => woken,
    }
}

fn key_horizon(now: i64) -> i64 {
    now - i64::try_from(KEY_LIFETIME.as_millis()).unwrap_or(i64::MAX)
}

fn seqs(tx: &Tx<'_>, sql: &str, params: impl rusqlite::Params) -> Result<Vec<i64>, QueueError> {
    tx.db
        .prepare_cached(sql)
        .and_then(|mut sql| sql.query_map(params, |row| row.get(0))?.collect())
        .map_err(storage)
}
