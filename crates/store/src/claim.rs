//! Which render is next, and nothing else.
//!
//! Two index seeks, whatever waits: the tenant that has been served least for its weight (`tenant_turn`), and its
//! open render of the highest priority, oldest first (`render_ready`). Group order needs no look here: only the
//! render that has its group's turn can have an open gate (see `line.rs`).

use std::time::Duration;

use rusqlite::{OptionalExtension, params};

use crate::integrity;
use crate::outbox;
use crate::writer::Tx;

const NEXT: &str = "
    SELECT seq, tenant_id, group_name, id, intact FROM render
    WHERE gate = 0 AND tenant_id = (
        SELECT id FROM tenant
        WHERE ready > 0 AND paused = 0 AND (max_concurrency IS NULL OR rendering < max_concurrency)
            AND intact AND (SELECT paused FROM queue) = 0
        ORDER BY vtime, id LIMIT 1)
    ORDER BY priority DESC, seq LIMIT 1";

/// Whether [`NEXT`] must find something, by the counters.
const WAITS: &str = "
    SELECT EXISTS (SELECT 1 FROM tenant
        WHERE ready > 0 AND paused = 0 AND (max_concurrency IS NULL OR rendering < max_concurrency)
            AND intact AND (SELECT paused FROM queue) = 0)";

/// What is damaged when rows, indexes and counters do not agree.
const ORDER: &str = "the order of the queue";

/// Makes indexes and counters anew from the rows. With a million renders that takes seconds, and is better than to serve
/// nobody because of one damaged row.
pub(crate) fn mend(tx: &mut Tx<'_>) -> rusqlite::Result<()> {
    tracing::error!("rows, indexes and counters of the queue do not agree: making indexes and counters anew");
    tx.db.execute_batch(
        "REINDEX;
         UPDATE tenant SET (ready, queued, rendering, succeeded, failed, cancelled) =
            (SELECT ifnull(sum(gate IS 0), 0), ifnull(sum(status = 'queued'), 0), ifnull(sum(status = 'rendering'), 0),
                ifnull(sum(status = 'succeeded'), 0), ifnull(sum(status = 'failed'), 0), ifnull(sum(status = 'cancelled'), 0)
             FROM render WHERE tenant_id = tenant.id)
         WHERE intact",
    )?;
    outbox::recount(tx)
}

/// What one claim adds to the virtual time of a tenant of weight 1.
const SERVICE: i64 = 1_000_000;

/// The render that was claimed.
pub(crate) struct Claimed {
    pub(crate) seq: i64,
    pub(crate) id: String,
    /// Whether its record is what was written. If not it is not leased.
    pub(crate) intact: bool,
}

/// Leases the next render under `token` for `duration`.
pub(crate) fn claim(
    tx: &mut Tx<'_>,
    worker: &str,
    token: &str,
    duration: Duration,
) -> rusqlite::Result<Option<Claimed>> {
    let next = tx
        .db
        .prepare_cached(NEXT)?
        .query_row([], |row| {
            // Nothing else of a row that is not what was written.
            if !row.get::<_, bool>(4)? {
                let claimed = Claimed { seq: row.get(0)?, id: String::new(), intact: false };
                return Ok((claimed, 0, None));
            }
            let claimed = Claimed { seq: row.get(0)?, id: row.get(3)?, intact: true };
            Ok((claimed, row.get::<_, i64>(1)?, row.get::<_, Option<String>>(2)?))
        })
        .optional()?;
    let Some((claimed, tenant, group)) = next else {
        let waits: bool = tx.db.prepare_cached(WAITS)?.query_row([], |row| row.get(0))?;
        return if waits { Err(integrity::damaged(ORDER)) } else { Ok(None) };
    };
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
        .execute(params![claimed.seq, token, tx.deadline(duration), tx.now])?;
    if leased == 0 {
        return Err(integrity::damaged(ORDER));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_two_index_seeks_and_sorts_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let db = crate::connection::writer(&folder.path().join("queue.db")).unwrap();
        let plan = |sql: &str| -> Vec<String> {
            let mut explained = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            explained.query_map([], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap()
        };
        let uses = |plan: &[String], index: &str| plan.iter().any(|step| step.contains(index));
        let next = plan(NEXT);
        assert!(uses(&next, "SEARCH render USING INDEX render_ready (tenant_id=?)"), "{next:?}");
        assert!(uses(&next, "SCAN tenant USING INDEX tenant_turn"), "{next:?}");
        assert!(!uses(&next, "B-TREE"), "{next:?}");
        let waits = plan(WAITS);
        assert!(uses(&waits, "tenant_turn"), "{waits:?}");
    }
}
