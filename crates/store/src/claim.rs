//! Which render is next, and nothing else.
//!
//! Two index seeks, whatever waits: the tenant that has been served least for its weight (`tenant_turn`), and its
//! open render of the highest priority, oldest first (`render_ready`). Group order needs no look here: only the
//! render that has its group's turn can have an open gate (see `line.rs`).

use rusqlite::{OptionalExtension, params};

use crate::integrity;
use crate::writer::Tx;

const NEXT: &str = "
    SELECT seq, tenant_id, group_name, id, intact FROM render
    WHERE gate = 0 AND tenant_id = (
        SELECT id FROM tenant
        WHERE ready > 0 AND paused = 0 AND (max_rendering IS NULL OR rendering < max_rendering)
            AND (SELECT paused FROM queue) = 0
        ORDER BY vtime, id LIMIT 1)
    ORDER BY priority DESC, seq LIMIT 1";

/// What one claim adds to the virtual time of a tenant of weight 1.
const SERVICE: i64 = 1_000_000;

/// The render that was claimed.
pub(crate) struct Claimed {
    pub(crate) seq: i64,
    pub(crate) id: String,
    /// Whether its record is what was written. If not it is not leased.
    pub(crate) intact: bool,
}

/// Leases the next render under `token` until `deadline` on the monotonic clock.
pub(crate) fn claim(
    tx: &mut Tx<'_>,
    worker: &str,
    token: &str,
    deadline: i64,
) -> rusqlite::Result<Option<Claimed>> {
    let next = tx
        .db
        .prepare_cached(NEXT)?
        .query_row([], |row| {
            let claimed = Claimed { seq: row.get(0)?, id: row.get(3)?, intact: row.get(4)? };
            Ok((claimed, row.get::<_, i64>(1)?, row.get::<_, Option<String>>(2)?))
        })
        .optional()?;
    let Some((claimed, tenant, group)) = next else { return Ok(None) };
    if !claimed.intact {
        return Ok(Some(claimed));
    }
    let leased = tx
        .db
        .prepare_cached(
            "UPDATE render SET status = 'rendering', gate = NULL, lease_token = ?2, lease_deadline = ?3,
                attempt = attempt + 1, leases = leases + 1, progress = NULL, backoff_until = NULL,
                started_at = coalesce(started_at, ?4), attempt_started_at = ?4
             WHERE seq = ?1 AND status = 'queued' AND gate = 0",
        )?
        .execute(params![claimed.seq, token, deadline, tx.now])?;
    if leased == 0 {
        return Err(integrity::damaged("the order of the queue"));
    }
    tx.db
        .prepare_cached(
            "INSERT INTO attempt (seq, number, worker, started_at)
             SELECT seq, leases, ?2, ?3 FROM render WHERE seq = ?1",
        )?
        .execute(params![claimed.seq, worker, tx.now])?;
    if let Some(group) = group {
        tx.db
            .prepare_cached("UPDATE render_group SET head = ?3 WHERE tenant_id = ?1 AND name = ?2")?
            .execute(params![tenant, group, claimed.seq])?;
    }
    tx.db
        .prepare_cached("UPDATE queue SET vtime = max(vtime, (SELECT vtime FROM tenant WHERE id = ?1))")?
        .execute([tenant])?;
    tx.db
        .prepare_cached("UPDATE tenant SET vtime = vtime + ?2 / weight WHERE id = ?1")?
        .execute([tenant, SERVICE])?;
    Ok(Some(claimed))
}
