//! Looking for damage: everything that can be said about a database without the files that belong to its renders.

use std::collections::BTreeMap;
use std::path::Path;

use lastframe_core::{Output, RenderId, TenantId};
use rusqlite::Connection;

use crate::connection::{self, OpenError};
use crate::reseal::{self, COLUMNS};
use crate::row;
use crate::seal::Keys;

/// Problems of one kind that are told one by one; more are only counted.
const TOLD: usize = 20;

/// What a check has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows that were looked at.
    pub rows: u64,
    /// What is wrong, in sentences; empty when nothing is.
    pub problems: Vec<String>,
    /// What could not be looked at and need not be wrong, in sentences.
    pub notes: Vec<String>,
}

/// A file that a database counts on.
#[derive(Clone, Debug, PartialEq)]
pub enum Belonging {
    /// The output of a render.
    Output(RenderId, Box<Output>),
    /// A version of a site of a tenant, under a name.
    Site(TenantId, String, String),
}

/// What every row must be, beside intact: the newest table it is about, a title, and SQL that gives a line for each row
/// that is not.
const RULES: &[(&str, &str, &str)] = &[
    (
        "tenant",
        "a tenant's counters are not what a count gives",
        "WITH counted AS (
            SELECT tenant_id, sum(gate IS 0) AS ready, sum(status = 'queued') AS queued,
                sum(status = 'rendering') AS rendering, sum(status = 'succeeded') AS succeeded,
                sum(status = 'failed') AS failed, sum(status = 'cancelled') AS cancelled
            FROM render GROUP BY tenant_id)
         SELECT name FROM tenant LEFT JOIN counted ON tenant_id = tenant.id
         WHERE (tenant.ready, tenant.queued, tenant.rendering, tenant.succeeded, tenant.failed, tenant.cancelled)
            IS NOT (ifnull(counted.ready, 0), ifnull(counted.queued, 0), ifnull(counted.rendering, 0),
                ifnull(counted.succeeded, 0), ifnull(counted.failed, 0), ifnull(counted.cancelled, 0))",
    ),
    (
        "request",
        "a render has no request",
        "SELECT id FROM render LEFT JOIN request USING (seq) WHERE request.seq IS NULL",
    ),
    (
        "render_group",
        "a render waits in a group that does not exist",
        "SELECT id FROM render LEFT JOIN render_group
            ON render_group.tenant_id = render.tenant_id AND name = group_name
         WHERE group_name IS NOT NULL AND status IN ('queued', 'rendering') AND name IS NULL",
    ),
    (
        "render_group",
        "two renders of a group are being rendered at once",
        "SELECT group_name FROM render WHERE status = 'rendering' AND group_name IS NOT NULL
         GROUP BY tenant_id, group_name HAVING count(*) > 1",
    ),
    (
        "render_group",
        "a group's turn is not with the render that must have it",
        "SELECT name FROM render_group WHERE head IS NOT ifnull(
            (SELECT seq FROM render WHERE render.tenant_id = render_group.tenant_id AND group_name = name
                AND status = 'rendering'),
            (SELECT min(seq) FROM render WHERE render.tenant_id = render_group.tenant_id AND group_name = name
                AND status = 'queued'))",
    ),
    (
        "render_group",
        "what stands before a queued render is not what must",
        "SELECT id FROM render LEFT JOIN render_group
            ON render_group.tenant_id = render.tenant_id AND name = group_name
         WHERE status = 'queued' AND NOT CASE
            WHEN group_name IS NULL THEN gate IN (0, 1, 5)
            WHEN head IS NOT seq THEN gate = 2
            WHEN held_by IS NOT NULL THEN gate = 4
            WHEN paused THEN gate = 3
            ELSE gate IN (0, 1, 5) END",
    ),
    (
        "outbox",
        "the counters of the outbox are not what a count gives",
        "SELECT 'all deliveries' FROM outbox WHERE (pending, delivered, failed) IS NOT
            (SELECT ifnull(sum(status = 'pending'), 0), ifnull(sum(status = 'delivered'), 0), ifnull(sum(status = 'failed'), 0)
             FROM delivery)",
    ),
    (
        "delivery",
        "a render has ended, and a notice of it was never owed",
        "SELECT id FROM notice JOIN render USING (seq)
         WHERE status IN ('succeeded', 'failed', 'cancelled') AND NOT EXISTS
            (SELECT 1 FROM delivery WHERE delivery.seq = notice.seq AND delivery.number = notice.number)",
    ),
];

/// Every table, and how a person finds a row of it.
const TABLES: &[(&str, &str)] = &[
    ("queue", "'the queue'"),
    ("tenant", "'tenant ' || name"),
    ("render_group", "'group ' || name"),
    ("render", "'render ' || id"),
    ("request", "'the request of render ' || ifnull((SELECT id FROM render WHERE seq = request.seq), seq)"),
    ("attempt", "'an attempt of render ' || ifnull((SELECT id FROM render WHERE seq = attempt.seq), seq)"),
    ("idempotency", "'idempotency key ' || key"),
    ("site", "'site ' || name || ' version ' || version"),
    ("user", "'user ' || email"),
    ("session", "'a session'"),
    ("token", "'token ' || id"),
    (
        "checkpoint",
        "'the checkpoint of render ' || ifnull((SELECT id FROM render WHERE seq = checkpoint.seq), seq)",
    ),
    ("encryption_key", "'encryption key ' || id"),
    ("notice", "'a notice of render ' || ifnull((SELECT id FROM render WHERE seq = notice.seq), seq)"),
    ("delivery", "'delivery ' || id"),
    ("delivery_try", "'a go at delivery ' || delivery"),
    ("outbox", "'the outbox'"),
    (
        "tenant_notices",
        "'the notices of tenant ' || ifnull((SELECT name FROM tenant WHERE id = tenant_id), tenant_id)",
    ),
];

/// Looks at everything in the database of that folder, whether or not a server has it open; secrets as far as `keys` open
/// them. `step` is told what is looked at.
///
/// # Errors
/// When the database cannot be read at all. What is wrong with one that can is in the report.
pub fn check(folder: &Path, keys: &Keys, step: &mut dyn FnMut(&str)) -> Result<Report, OpenError> {
    // The mark first: the database may only be further than it was when the mark was read.
    let mark = connection::mark(folder);
    let file = folder.join(crate::Store::FILE);
    if !file.try_exists()? {
        return Err(match mark? {
            Some(mark) => OpenError::DatabaseMissing { reached: mark.commits },
            None => std::io::Error::new(std::io::ErrorKind::NotFound, "there is no database").into(),
        });
    }
    let connection = connection::reader(&file)?;
    let mut report = inspect(&connection, keys, step)?;
    let compared =
        mark.and_then(|mark| connection::compare(&connection::reached(&connection)?, mark.as_ref()));
    if let Err(error) = compared {
        report.problems.push(error.to_string());
    }
    Ok(report)
}

/// Looks at everything in a database, whatever its folder holds.
pub(crate) fn inspect(
    connection: &Connection,
    keys: &Keys,
    step: &mut dyn FnMut(&str),
) -> Result<Report, OpenError> {
    let is_of_before = !connection::is_up_to_date(connection)?;
    // One snapshot: a server may be at work.
    let snapshot = connection.unchecked_transaction()?;
    let mut report = Report::default();
    step("pages and indexes");
    report.told(
        "",
        list(&snapshot, "PRAGMA integrity_check(20)")
            .map(|lines| lines.into_iter().filter(|line| line != "ok").collect()),
    );
    let is_there = |table: &str| !is_of_before || snapshot.table_exists(None, table).unwrap_or(true);
    for (table, name) in TABLES.iter().filter(|(table, _)| is_there(table)) {
        step(&format!("rows of {table}"));
        let count = snapshot
            .query_row(&format!("SELECT count(*) FROM {table} NOT INDEXED"), [], |row| row.get::<_, u64>(0));
        report.rows += count.unwrap_or(0);
        report.told(
            "damaged: ",
            list(&snapshot, &format!("SELECT {name} FROM {table} NOT INDEXED WHERE NOT intact")),
        );
    }
    if is_there("encryption_key") {
        step("secrets");
        report.try_secrets(&snapshot, keys, is_there);
    }
    step("rules");
    let dangling =
        "SELECT \"table\" || ' refers to a ' || parent || ' that is not there' FROM pragma_foreign_key_check";
    report.told("", list(&snapshot, dangling));
    for (_, title, rule) in RULES.iter().filter(|(table, ..)| is_there(table)) {
        report.told(&format!("{title}: "), list(&snapshot, rule));
    }
    Ok(report)
}

/// The files that the database of that folder counts on, told one by one.
///
/// # Errors
/// When the database cannot be read.
pub fn belongings(folder: &Path, tell: &mut dyn FnMut(Belonging)) -> Result<(), OpenError> {
    let connection = connection::reader(&folder.join(crate::Store::FILE))?;
    let snapshot = connection.unchecked_transaction()?;
    let mut outputs =
        snapshot.prepare("SELECT id, output FROM render WHERE output IS NOT NULL AND intact")?;
    let mut rows = outputs.query([])?;
    while let Some(row) = rows.next()? {
        let output: Option<Output> = row::json(row, 1)?;
        if let Some(output) = output.filter(|output| output.deleted_at().is_none()) {
            tell(Belonging::Output(row::parsed(row, 0)?, Box::new(output)));
        }
    }
    let mut sites = snapshot.prepare(
        "SELECT tenant.name, site.name, version FROM site JOIN tenant ON tenant.id = tenant_id WHERE site.intact",
    )?;
    let mut rows = sites.query([])?;
    while let Some(row) = rows.next()? {
        tell(Belonging::Site(TenantId::new(row.get::<_, String>(0)?), row.get(1)?, row.get(2)?));
    }
    Ok(())
}

impl Report {
    fn try_secrets(&mut self, snapshot: &Connection, keys: &Keys, is_there: impl Fn(&str) -> bool) {
        for column in COLUMNS.iter().filter(|column| is_there(column.table)) {
            let (problems, untried) = match reseal::try_all(snapshot, column, keys) {
                Ok(tried) => (Ok(tried.problems), tried.untried),
                Err(error) => (Err(error), BTreeMap::new()),
            };
            self.told("", problems);
            for (key, count) in untried {
                self.notes.push(format!(
                    "{count} values in {column} are sealed with the key {key}, which is not {}: whether they open was not tried",
                    keys.source()
                ));
            }
        }
    }

    /// Adds what a question found, or that it could not be answered.
    fn told(&mut self, title: &str, found: rusqlite::Result<Vec<String>>) {
        match found {
            Ok(found) => {
                self.problems.extend(found.iter().take(TOLD).map(|line| format!("{title}{line}")));
                if found.len() > TOLD {
                    self.problems.push(format!("{title}and {} more", found.len() - TOLD));
                }
            }
            Err(error) => self.problems.push(format!("{title}cannot be looked at: {error}")),
        }
    }
}

fn list(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare(sql)?
        .query_map([], |row| {
            let text = row.get_ref(0)?.as_bytes_or_null()?.unwrap_or_default();
            Ok(String::from_utf8_lossy(text).into_owned())
        })?
        .collect()
}
