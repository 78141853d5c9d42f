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
    hours: u32,
) -> Result<Vec<Hour>, QueueError> {
    let [accepted, ended] = questions(tenant.is_some()).map(|(sql, _)| sql);
    let count = |hour: u32| -> rusqlite::Result<(u64, u64, u64)> {
        let from = since + i64::from(hour) * HOUR;
        let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(from), Box::new(from + HOUR)];
        values.extend(tenant.map(|tenant| Box::new(tenant.as_str().to_owned()) as Box<dyn ToSql>));
        let accepted =
            db.prepare_cached(&accepted)?.query_row(params_from_iter(&values), |row| row.get(0))?;
        let (succeeded, failed) = db
            .prepare_cached(&ended)?
            .query_row(params_from_iter(&values), |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok((accepted, succeeded, failed))
    };
    let hour = |hour: u32| {
        let start = Timestamp::from_millisecond(since + i64::from(hour) * HOUR).map_err(storage)?;
        let (accepted, succeeded, failed) = count(hour).map_err(storage)?;
        Ok(Hour { start, accepted, succeeded, failed })
    };
    (0..hours).map(hour).collect()
}

/// The SQL that counts within an hour, each with the index that holds all it needs. Hour by hour, because that is a walk
/// along the index; all at once, grouped, would be sorted first.
fn questions(of_a_tenant: bool) -> [(String, &'static str); 2] {
    let tenant = if of_a_tenant { " AND tenant_id = (SELECT id FROM tenant WHERE name = ?3)" } else { "" };
    let accepted = format!(
        "SELECT count(*) FROM render INDEXED BY render_accepted_at WHERE created_at >= ?1 AND created_at < ?2{tenant}"
    );
    let ended = format!(
        "SELECT count(*) FILTER (WHERE status = 'succeeded'), count(*) FILTER (WHERE status = 'failed')
         FROM render INDEXED BY render_ended WHERE status IN ('succeeded', 'failed', 'cancelled')
         AND finished_at >= ?1 AND finished_at < ?2{tenant}"
    );
    [(accepted, "render_accepted_at"), (ended, "render_ended")]
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
