//! What a worker could claim now, and how long has been waited: for those who watch over the queue.

use lastframe_core::ports::Backlog;
use rusqlite::Connection;

use crate::row;

/// The tenants that could be served now: the conditions of `tenant_turn`, which is the index for it.
macro_rules! served {
    () => {
        "FROM tenant WHERE ready > 0 AND paused = 0 AND (max_concurrency IS NULL OR rendering < max_concurrency)
            AND intact AND (SELECT paused FROM queue) = 0"
    };
}

const CLAIMABLE: &str = concat!("SELECT ifnull(sum(ready), 0) ", served!());

/// The first in line of each priority of each tenant, one seek for each.
const WAITING: &str = concat!(
    "WITH RECURSIVE line (tenant, priority) AS (
        SELECT id, (SELECT priority FROM render WHERE gate = 0 AND tenant_id = tenant.id
            ORDER BY priority DESC LIMIT 1) ",
    served!(),
    " UNION ALL
        SELECT tenant, (SELECT priority FROM render WHERE gate = 0 AND tenant_id = line.tenant
            AND priority < line.priority ORDER BY priority DESC LIMIT 1)
        FROM line WHERE priority IS NOT NULL)
     SELECT min((SELECT max(run_at, created_at) FROM render
        WHERE gate = 0 AND tenant_id = line.tenant AND priority = line.priority AND intact ORDER BY seq LIMIT 1))
     FROM line WHERE priority IS NOT NULL"
);

/// As many as there are workers.
const RENDERING: &str = "SELECT min(attempt_started_at) FROM render INDEXED BY render_lease WHERE status = 'rendering' AND intact";

pub(crate) fn backlog(db: &Connection) -> rusqlite::Result<Backlog> {
    let since = |sql| db.prepare_cached(sql)?.query_row([], |row| row::time(row, 0));
    Ok(Backlog {
        claimable: db.prepare_cached(CLAIMABLE)?.query_row([], |row| row.get(0))?,
        waiting_since: since(WAITING)?,
        rendering_since: since(RENDERING)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_costs_index_seeks_however_much_waits() {
        let folder = tempfile::tempdir().unwrap();
        let db = crate::connection::writer(&folder.path().join("queue.db")).unwrap();
        for (sql, seeks) in [(CLAIMABLE, 0), (WAITING, 3), (RENDERING, 0)] {
            let mut explained = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let plan: Vec<String> =
                explained.query_map([], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
            let found = plan.iter().filter(|step| step.contains("render_ready (tenant_id=?"));
            assert_eq!(found.count(), seeks, "{plan:?}");
            let scans = plan.iter().filter(|step| step.starts_with("SCAN"));
            for scan in scans {
                let few = ["tenant_turn", "render_lease", "SCAN queue", "SCAN line", "CONSTANT ROW"];
                assert!(few.iter().any(|few| scan.contains(few)), "{plan:?}");
            }
            assert!(!plan.iter().any(|step| step.contains("B-TREE")), "{plan:?}");
        }
    }
}
