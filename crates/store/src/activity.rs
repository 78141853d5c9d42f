//! What has been going on: renders by the hour, and who is at work.

use jiff::Timestamp;
use lastframe_core::TenantId;
use lastframe_core::ports::{Busy, Hour, QueueError};
use rusqlite::types::ToSql;
use rusqlite::{Connection, params_from_iter};

use crate::integrity;
use crate::row;
use crate::writer::storage;

/// Milliseconds.
const HOUR: i64 = 60 * 60 * 1000;

/// Renders of the tenant, or of all, in so many hours from `since` on.
pub(crate) fn hours(
    db: &Connection,
    tenant: Option<&TenantId>,
    since: i64,
    count: u32,
) -> Result<Vec<Hour>, QueueError> {
    let start = |hour: i64| Timestamp::from_millisecond(since + hour * HOUR).map_err(storage);
    let mut hours = (0..i64::from(count))
        .map(|hour| Ok(Hour { start: start(hour)?, accepted: 0, succeeded: 0, failed: 0 }))
        .collect::<Result<Vec<_>, QueueError>>()?;
    for (sql, _) in questions(tenant.is_some()) {
        let mut values: Vec<Box<dyn ToSql>> =
            vec![Box::new(since), Box::new(since + i64::from(count) * HOUR)];
        values.extend(tenant.map(|tenant| Box::new(tenant.as_str().to_owned()) as Box<dyn ToSql>));
        let counted: Vec<(usize, String, u64)> = db
            .prepare_cached(&sql)
            .and_then(|mut sql| {
                let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
                sql.query_map(params_from_iter(values), row)?.collect()
            })
            .map_err(storage)?;
        for (hour, what, count) in counted {
            let Some(hour) = hours.get_mut(hour) else { continue };
            match what.as_str() {
                "accepted" => hour.accepted = count,
                "succeeded" => hour.succeeded = count,
                "failed" => hour.failed = count,
                _ => {}
            }
        }
    }
    Ok(hours)
}

/// The SQL that counts, each with the index that holds all it needs.
fn questions(of_a_tenant: bool) -> [(String, &'static str); 2] {
    let tenant = if of_a_tenant { " AND tenant_id = (SELECT id FROM tenant WHERE name = ?3)" } else { "" };
    let ask = |time: &str, what: &str, index: &'static str, which: &str| {
        let sql = format!(
            "SELECT ({time} - ?1) / {HOUR} AS hour, {what} AS what, count(*) FROM render INDEXED BY {index}
             WHERE {which}{time} >= ?1 AND {time} < ?2{tenant} GROUP BY hour, what"
        );
        (sql, index)
    };
    [
        ask("created_at", "'accepted'", "render_accepted_at", ""),
        ask("finished_at", "status", "render_ended", "status IN ('succeeded', 'failed', 'cancelled') AND "),
    ]
}

/// Who holds leases, and of which renders.
pub(crate) fn busy(db: &Connection) -> Result<Vec<Busy>, QueueError> {
    let sql = "SELECT worker, render.id, attempt.intact FROM render INDEXED BY render_lease
        JOIN attempt ON attempt.seq = render.seq AND attempt.number = render.leases
        WHERE status = 'rendering' ORDER BY worker, render.seq";
    let found: Vec<(String, String)> = db
        .prepare_cached(sql)
        .and_then(|mut sql| {
            let found = sql.query_map([], |row| {
                let id: String = row.get(1)?;
                integrity::check(row, 2, || format!("an attempt of render {id}"))?;
                Ok((row.get(0)?, id))
            });
            found?.collect()
        })
        .map_err(storage)?;
    let mut busy: Vec<Busy> = Vec::new();
    for (worker, id) in found {
        let id = row::id(&id)?;
        match busy.last_mut() {
            Some(last) if last.worker == worker => last.renders.push(id),
            _ => busy.push(Busy { worker, renders: vec![id] }),
        }
    }
    Ok(busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_counted_without_looking_at_a_row() {
        let folder = tempfile::tempdir().unwrap();
        let db = crate::connection::writer(&folder.path().join("queue.db")).unwrap();
        for of_a_tenant in [false, true] {
            for (sql, index) in questions(of_a_tenant) {
                let values = ["0", "1", "ann"].into_iter().take(if of_a_tenant { 3 } else { 2 });
                let plan: Vec<String> = db
                    .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                    .unwrap()
                    .query_map(params_from_iter(values), |row| row.get(3))
                    .unwrap()
                    .collect::<Result<_, _>>()
                    .unwrap();
                assert!(
                    plan.iter().any(|step| step.contains(&format!("COVERING INDEX {index}"))),
                    "{plan:#?}"
                );
            }
        }
    }
}
