//! What time alone brings about: leases end, delays and back-offs pass, idempotency keys expire.
//!
//! What is due is looked for on a reader, so that an idle queue writes nothing. Each render is then a command of its own:
//! one whose record is damaged keeps no other waiting.

use std::time::Duration;

use lastframe_core::RetryPolicy;
use lastframe_core::ports::QueueError;
use rusqlite::{Connection, OptionalExtension, params};

use crate::integrity::is_damage;
use crate::lease;
use crate::line;
use crate::writer::{Tx, storage};

/// How long an idempotency key is remembered. The renders it stands for must not be forgotten before.
pub const KEY_LIFETIME: Duration = Duration::from_secs(72 * 60 * 60);

/// What one sweep takes on at most, of each sort: others need not wait long for theirs.
const AT_A_TIME: u32 = 500;

/// What time has brought about and nobody has seen to yet.
#[derive(Debug, Default)]
pub(crate) struct Due {
    /// Renders whose lease may be over.
    pub(crate) leases: Vec<i64>,
    /// Renders that may start now.
    pub(crate) waits: Vec<i64>,
    /// There are idempotency keys to forget.
    pub(crate) keys: bool,
}

/// What is due at that time.
pub(crate) fn due(db: &Connection, now: i64, monotonic: i64) -> Result<Due, QueueError> {
    let leases = "SELECT seq FROM render WHERE status = 'rendering' AND lease_deadline <= ?1 LIMIT ?2";
    let delays = "SELECT seq FROM render WHERE gate = 1 AND run_at <= ?1 LIMIT ?2";
    let backoffs = "SELECT seq FROM render WHERE backoff_until <= ?1 LIMIT ?2";
    let mut waits = seqs(db, delays, now, AT_A_TIME)?;
    waits.extend(seqs(db, backoffs, monotonic, AT_A_TIME)?);
    let keys = db
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM idempotency WHERE created_at <= ?1)")
        .and_then(|mut sql| sql.query_row([key_horizon(now)], |row| row.get(0)))
        .map_err(storage)?;
    Ok(Due { leases: seqs(db, leases, monotonic, AT_A_TIME)?, waits, keys })
}

/// What an earlier process has left: all its leases and back-offs, for none of its workers lives and its clock is gone.
pub(crate) fn left(db: &Connection) -> Result<Due, QueueError> {
    let leases = "SELECT seq FROM render INDEXED BY render_lease WHERE status = 'rendering' AND ?1 ORDER BY seq LIMIT ?2";
    let waits = "SELECT seq FROM render WHERE backoff_until IS NOT NULL AND ?1 LIMIT ?2";
    let (leases, waits) = (seqs(db, leases, 1, u32::MAX)?, seqs(db, waits, 1, u32::MAX)?);
    Ok(Due { leases, waits, keys: false })
}

/// Takes the lease away, if it is over; `always`, whatever its deadline says.
pub(crate) fn expire(tx: &mut Tx<'_>, seq: i64, always: bool, policy: RetryPolicy) -> Result<(), QueueError> {
    let deadline: Option<i64> = tx
        .db
        .prepare_cached("SELECT lease_deadline FROM render WHERE seq = ?1 AND status = 'rendering'")
        .and_then(|mut sql| sql.query_row([seq], |row| row.get(0)).optional())
        .map_err(storage)?;
    if deadline.is_none_or(|deadline| deadline > tx.monotonic && !always) {
        return Ok(());
    }
    match lease::lose(tx, seq, policy) {
        Err(error) if is_damage(&error) => lease::condemn(tx, seq),
        lost => lost,
    }
}

/// Lets the render go, unless its back-off ends later; `always`, whatever that says.
pub(crate) fn wake(tx: &mut Tx<'_>, seq: i64, always: bool) -> Result<(), QueueError> {
    let until = if always { i64::MAX } else { tx.monotonic };
    let woken = tx
        .db
        .prepare_cached(
            "UPDATE render SET backoff_until = iif(backoff_until > ?2, backoff_until, NULL)
             WHERE seq = ?1 RETURNING tenant_id, group_name",
        )
        .and_then(|mut sql| {
            let line = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, Option<String>>(1)?));
            sql.query_row([seq, until], line).optional()
        })
        .and_then(|woken| match woken {
            Some((tenant, group)) => line::enqueue(tx, seq, tenant, group.as_deref()),
            None => Ok(()),
        })
        .map_err(storage);
    match woken {
        Err(error) if is_damage(&error) => lease::condemn(tx, seq),
        woken => woken,
    }
}

/// Forgets some of the idempotency keys that have expired.
pub(crate) fn forget_keys(tx: &mut Tx<'_>) -> Result<(), QueueError> {
    tx.db
        .prepare_cached(
            "DELETE FROM idempotency WHERE (tenant_id, key) IN
                (SELECT tenant_id, key FROM idempotency WHERE created_at <= ?1 LIMIT ?2)",
        )
        .and_then(|mut sql| sql.execute(params![key_horizon(tx.now), AT_A_TIME]))
        .map_err(storage)?;
    Ok(())
}

fn key_horizon(now: i64) -> i64 {
    now - i64::try_from(KEY_LIFETIME.as_millis()).unwrap_or(i64::MAX)
}

fn seqs(db: &Connection, sql: &str, time: i64, limit: u32) -> Result<Vec<i64>, QueueError> {
    db.prepare_cached(sql)
        .and_then(|mut sql| sql.query_map(params![time, limit], |row| row.get(0))?.collect())
        .map_err(storage)
}
