//! Finding renders by the beginning of what they are called.
//!
//! Each place where the text may stand has an index in which the renders that begin with it are neighbours, so what is
//! looked through is what is found. The newest of all places together are then read as rows.

use lastframe_core::Render;
use lastframe_core::ports::Filter;
use rusqlite::{Connection, ToSql, params_from_iter};

use crate::row::{self, COLUMNS};

/// Where the text may stand, each with its index. `id` is in lower case always.
const PLACES: [(&str, &str); 3] = [
    ("id", "sqlite_autoindex_render_1"),
    ("composition COLLATE NOCASE", "render_by_composition"),
    ("group_name COLLATE NOCASE", "render_by_group_text"),
];

/// The renders that the filter is about, newest first.
pub(crate) fn list(db: &Connection, filter: &Filter, text: &str) -> rusqlite::Result<Vec<Render>> {
    let (mut found, mut before, limit) = (Vec::new(), filter.before, filter.limit as usize);
    // One that is damaged must not hide all others; where there are some, the next ones take their places.
    while found.len() < limit {
        let filter = Filter { before, ..filter.clone() };
        let seqs = newest(db, &filter, text)?;
        before = seqs.last().copied();
        let sql = format!(
            "SELECT {COLUMNS} FROM render JOIN tenant ON tenant.id = tenant_id
             WHERE seq IN (SELECT value FROM json_each(?1)) AND render.intact ORDER BY seq DESC"
        );
        let rows = serde_json::Value::from(seqs.clone()).to_string();
        let mut sql = db.prepare_cached(&sql)?;
        for render in sql.query_map([rows], row::render)? {
            found.push(render?);
        }
        if seqs.len() < limit {
            break;
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// The places in the order of acceptance, the newest first, of those that begin with the text.
fn newest(db: &Connection, filter: &Filter, text: &str) -> rusqlite::Result<Vec<i64>> {
    let (sql, values) = question(filter, text);
    db.prepare_cached(&sql)?.query_map(params_from_iter(values), |row| row.get(0))?.collect()
}

/// The SQL for it, with only the conditions that are asked for.
fn question(filter: &Filter, text: &str) -> (String, Vec<Box<dyn ToSql>>) {
    let lower = text.to_ascii_lowercase();
    // No text is greater than this one and begins with the same.
    let end = format!("{lower}{}", char::MAX);
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(lower), Box::new(end)];
    let mut conditions = String::from(" AND tenant_id IN (SELECT id FROM tenant)");
    if let Some(tenant) = &filter.tenant {
        conditions = " AND tenant_id = (SELECT id FROM tenant WHERE name = ?3)".into();
        values.push(Box::new(tenant.as_str().to_owned()));
    }
    let mut add = |condition: &str, value: Box<dyn ToSql>| {
        values.push(value);
        conditions.push_str(&format!(" AND {condition} ?{}", values.len()));
    };
    if let Some(status) = filter.status {
        add("status =", Box::new(status.as_str()));
    }
    if let Some(group) = &filter.group {
        add("group_name =", Box::new(group.clone()));
    }
    if let Some(before) = filter.before {
        add("seq <", Box::new(before));
    }
    let limit = filter.limit;
    let places = PLACES.map(|(place, index)| {
        format!(
            "SELECT seq FROM (SELECT seq FROM render INDEXED BY {index}
             WHERE {place} >= ?1 AND {place} < ?2{conditions} ORDER BY seq DESC LIMIT {limit})"
        )
    });
    (format!("{} ORDER BY seq DESC LIMIT {limit}", places.join(" UNION ")), values)
}

#[cfg(test)]
mod tests {
    use lastframe_core::{Status, TenantId};

    use super::*;

    #[test]
    fn every_question_is_answered_from_the_index_that_is_made_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let db = crate::connection::writer(&folder.path().join("queue.db")).unwrap();
        for tenant in [None, Some(TenantId::new("ann"))] {
            for status in [None, Some(Status::Failed)] {
                for before in [None, Some(7)] {
                    let filter =
                        Filter { tenant: tenant.clone(), status, before, limit: 50, group: None, text: None };
                    let (sql, values) = question(&filter, "Chart");
                    let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
                    let plan: Vec<String> = plan
                        .query_map(params_from_iter(values), |row| row.get(3))
                        .unwrap()
                        .collect::<Result<_, _>>()
                        .unwrap();
                    for (_, index) in PLACES {
                        let used = plan.iter().any(|step| step.starts_with("SEARCH") && step.contains(index));
                        assert!(used, "{index} is not searched: {plan:#?}");
                    }
                    assert!(!plan.iter().any(|step| step.starts_with("SCAN render")), "{plan:#?}");
                }
            }
        }
    }
}
