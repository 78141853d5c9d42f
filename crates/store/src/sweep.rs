//! What time alone brings about: leases end, delays pass, idempotency keys expire.

use std::time::Duration;

use lastframe_core::RetryPolicy;
use lastframe_core::ports::QueueError;
use rusqlite::Connection;

use crate::lease;
use crate::line;
use crate::writer::{Tx, storage};

/// How long an idempotency key is remembered.
pub(crate) const KEY_LIFETIME: Duration = Duration::from_secs(72 * 60 * 60);

/// Whether there is anything to sweep. Asked on a reader, so that an idle queue writes nothing.
pub(crate) fn is_due(db: &Connection, now: i64, monotonic: i64) -> rusqlite::Result<bool> {
    db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM render WHERE gate = 1 AND run_at <= ?1)
             OR EXISTS (SELECT 1 FROM render WHERE status = 'rendering' AND lease_deadline <= ?2)
             OR EXISTS (SELECT 1 FROM idempotency WHERE created_at <= ?3)",
    )?
    .query_row([now, monotonic, key_horizon(now)], |row| row.get(0))
}

pub(crate) fn sweep(tx: &mut Tx<'_>, policy: RetryPolicy) -> Result<(), QueueError> {
    expire(tx, policy)?;
    wake(tx).map_err(storage)?;
    forget(tx).map_err(storage)
}

/// Ends every lease that an earlier process gave: none of its workers lives.
pub(crate) fn recover(tx: &mut Tx<'_>, policy: RetryPolicy) -> Result<usize, QueueError> {
    let lost = seqs(
        tx,
        "SELECT seq FROM render INDEXED BY render_lease WHERE status = 'rendering' ORDER BY seq",
        [],
    )
    .map_err(storage)?;
    for seq in &lost {
        lease::lose(tx, *seq, policy)?;
    }
    Ok(lost.len())
}

fn expire(tx: &mut Tx<'_>, policy: RetryPolicy) -> Result<(), QueueError> {
    let expired = seqs(
        tx,
        "SELECT seq FROM render WHERE status = 'rendering' AND lease_deadline <= ?1",
        [tx.monotonic],
    )
    .map_err(storage)?;
    for seq in expired {
        lease::lose(tx, seq, policy)?;
    }
    Ok(())
}

fn wake(tx: &mut Tx<'_>) -> rusqlite::Result<()> {
    for seq in seqs(tx, "SELECT seq FROM render WHERE gate = 1 AND run_at <= ?1 LIMIT 1000", [tx.now])? {
        let (tenant, group): (i64, Option<String>) = tx
            .db
            .prepare_cached("SELECT tenant_id, group_name FROM render WHERE seq = ?1")?
            .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))?;
        line::enqueue(tx, seq, tenant, group.as_deref())?;
    }
    Ok(())
}

fn forget(tx: &mut Tx<'_>) -> rusqlite::Result<()> {
    tx.db.prepare_cached("DELETE FROM idempotency WHERE created_at <= ?1")?.execute([key_horizon(tx.now)])?;
    Ok(())
}

fn key_horizon(now: i64) -> i64 {
    now - i64::try_from(KEY_LIFETIME.as_millis()).unwrap_or(i64::MAX)
}

fn seqs(tx: &Tx<'_>, sql: &str, params: impl rusqlite::Params) -> rusqlite::Result<Vec<i64>> {
    tx.db.prepare_cached(sql)?.query_map(params, |row| row.get(0))?.collect()
}
