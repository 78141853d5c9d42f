//! What a store holds, taken down through its ports; and whether its counters are right, seen from behind.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use lastframe_core::outbox::{DeliveryFilter, Outbox as _};
use lastframe_core::ports::{Filter, Queue as _, QueueError};
use lastframe_core::{Attempt, Render, RenderRequest, Status};
use lastframe_store::Store;
use rusqlite::Connection;

use crate::session::{causes, keys};

pub(crate) type Record = Vec<Stored>;

#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) render: Render,
    pub(crate) request: RenderRequest,
    pub(crate) attempts: Vec<Attempt>,
}

/// # Errors
/// What cannot be read.
pub(crate) async fn take(store: &Store) -> Result<Record, String> {
    let record = read(store).await.map_err(|error| causes(&error))?;
    look_what_is_owed(store, &record).await?;
    Ok(record)
}

/// Whether the last that each render owed is how it ended.
async fn look_what_is_owed(store: &Store, record: &Record) -> Result<(), String> {
    let all = DeliveryFilter { limit: u32::MAX, ..DeliveryFilter::default() };
    let mut last = HashMap::new();
    for delivery in store.deliveries(all).await.map_err(|error| causes(&error))? {
        last.entry(delivery.render).or_insert(delivery);
    }
    for Stored { render, .. } in record {
        let owed = last.get(&render.id).filter(|last| Some(last.created_at) == render.finished_at);
        let ended = render.status.is_terminal().then_some(render.status);
        if owed.map(|owed| owed.ended) != ended {
            return Err(format!("{render:?} owes {owed:?}"));
        }
    }
    Ok(())
}

async fn read(store: &Store) -> Result<Record, QueueError> {
    let mut record = Vec::new();
    for render in store.list(Filter { limit: u32::MAX, ..Filter::default() }).await? {
        let request = store.request(render.id).await?;
        let request = request.ok_or_else(|| QueueError::Storage("a request is not there".into()))?;
        let attempts = store.attempts(render.id).await?;
        record.push(Stored { render, request, attempts });
    }
    Ok(record)
}

/// Whether the store's own check finds its folder whole, and whether what the schema counts is what there is.
pub(crate) fn look_behind(folder: &Path) -> Result<(), String> {
    let report = lastframe_store::check(folder, &keys(), &mut |_| ()).map_err(|error| causes(&error))?;
    if !report.problems.is_empty() {
        return Err(report.problems.join("; "));
    }
    Connection::open(folder.join(Store::FILE))
        .and_then(|sql| look(&sql))
        .map_err(|error| error.to_string())?
}

/// Whether the process that died was changing its encryption key.
pub(crate) fn is_rotating(folder: &Path) -> bool {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let leaving = "SELECT EXISTS (SELECT 1 FROM encryption_key WHERE state = 'leaving')";
    let sql = Connection::open_with_flags(folder.join(Store::FILE), flags);
    sql.and_then(|sql| sql.query_row(leaving, [], |row| row.get(0))).unwrap_or(false)
}

fn look(sql: &Connection) -> rusqlite::Result<Result<(), String>> {
    let counted =
        tenants(sql, "SELECT name, ready, queued, rendering, succeeded, failed, cancelled FROM tenant")?;
    let sums = Status::ALL.iter().map(|status| format!(", coalesce(sum(status = '{status}'), 0)"));
    let recount = format!(
        "SELECT name, coalesce(sum(gate IS 0), 0){} FROM tenant LEFT JOIN render ON tenant_id = tenant.id \
         GROUP BY name",
        sums.collect::<String>()
    );
    let recount = tenants(sql, &recount)?;
    Ok(if counted == recount {
        Ok(())
    } else {
        Err(format!("the counters say {counted:?}, and there is {recount:?}"))
    })
}

fn tenants(sql: &Connection, query: &str) -> rusqlite::Result<BTreeMap<String, Vec<i64>>> {
    let mut query = sql.prepare(query)?;
    let counts = query.column_count();
    let read = |row: &rusqlite::Row<'_>| -> rusqlite::Result<_> {
        Ok((row.get(0)?, (1..counts).map(|column| row.get(column)).collect::<Result<_, _>>()?))
    };
    query.query_map([], read)?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database with one tenant that has one queued render.
    fn database() -> Connection {
        let sql = Connection::open_in_memory().unwrap();
        sql.execute_batch(include_str!("../../src/migrations/0001_queue.sql")).unwrap();
        sql.execute_batch(
            "INSERT INTO tenant (name) VALUES ('ann');
             INSERT INTO render (id, tenant_id, kind, site, site_version, composition, status, gate, on_failure, run_at,
                max_attempts, created_at) VALUES ('a', 1, 'media', 's', 'v', 'c', 'queued', 0, 'continue', 0, 1, 0);",
        )
        .unwrap();
        sql
    }

    #[test]
    fn right_counters_are_accepted_and_wrong_ones_are_not() {
        let sql = database();
        look(&sql).unwrap().unwrap();
        for counter in ["ready", "queued", "rendering", "succeeded", "failed", "cancelled"] {
            let sql = database();
            sql.execute_batch(&format!("UPDATE tenant SET {counter} = {counter} + 1")).unwrap();
            assert!(look(&sql).unwrap().unwrap_err().contains("the counters say"), "{counter}");
        }
    }
}
