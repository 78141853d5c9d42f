//! Between rows and the domain.

use jiff::Timestamp;
use lastframe_core::ports::QueueError;
use lastframe_core::{Render, RenderId, TenantId};
use rusqlite::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::integrity;
use crate::writer::storage;

/// What stands before a queued render. Only an open gate can be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Open = 0,
    /// Its `run_at` has not come.
    Delayed = 1,
    /// Another render of its group has the turn.
    Group = 2,
    /// It has the turn, and its group is paused.
    Paused = 3,
    /// It has the turn, and a failed render holds its group.
    Held = 4,
    /// Its last attempt ended not long enough ago.
    BackingOff = 5,
}

/// The `run_at` of a render that waits for no time: it is not delayed even when the clock is put back.
pub(crate) const AT_ONCE: i64 = 0;

/// The columns that [`render`] reads, from `render` joined with `tenant`.
pub(crate) const COLUMNS: &str = "render.id, render.seq, tenant.name, group_name, kind, site, site_version, composition, status, \
    priority, max(run_at, created_at), attempt, max_attempts, leases, created_at, started_at, attempt_started_at, finished_at, \
    cancel_requested_at, progress, error, output, render.intact";

/// Reads a render from a row of [`COLUMNS`].
pub(crate) fn render(row: &Row<'_>) -> rusqlite::Result<Render> {
    integrity::check(row, 22, || format!("render {}", row.get::<_, String>(0).unwrap_or_default()))?;
    Ok(Render {
        id: parsed(row, 0)?,
        seq: row.get(1)?,
        tenant: TenantId::new(row.get::<_, String>(2)?),
        group: row.get(3)?,
        kind: parsed(row, 4)?,
        site: row.get(5)?,
        site_version: row.get(6)?,
        composition: row.get(7)?,
        status: parsed(row, 8)?,
        priority: row.get(9)?,
        run_at: time(row, 10)?.unwrap_or_default(),
        attempt: row.get(11)?,
        max_attempts: row.get(12)?,
        leases: row.get(13)?,
        created_at: time(row, 14)?.unwrap_or_default(),
        started_at: time(row, 15)?,
        attempt_started_at: time(row, 16)?,
        finished_at: time(row, 17)?,
        cancel_requested_at: time(row, 18)?,
        progress: json(row, 19)?,
        error: json(row, 20)?,
        output: json(row, 21)?,
    })
}

/// Reads a column of text that has a form.
pub(crate) fn parsed<T: std::str::FromStr<Err: ToString>>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    row.get_ref(column)?.as_str()?.parse().map_err(|error: T::Err| malformed(column, error.to_string()))
}

/// Reads a column of milliseconds.
pub(crate) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    row.get::<_, Option<i64>>(column)?
        .map(|millis| {
            Timestamp::from_millisecond(millis).map_err(|error| malformed(column, error.to_string()))
        })
        .transpose()
}

/// Reads a column of JSON.
pub(crate) fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    row.get_ref(column)?
        .as_str_or_null()?
        .map(|text| serde_json::from_str(text).map_err(|error| malformed(column, error.to_string())))
        .transpose()
}

/// Writes a column of JSON.
pub(crate) fn to_json(value: &impl Serialize) -> Result<String, QueueError> {
    serde_json::to_string(value).map_err(storage)
}

/// An id that was read from SQL.
pub(crate) fn id(text: &str) -> Result<RenderId, QueueError> {
    text.parse().map_err(storage)
}

pub(crate) fn malformed(column: usize, why: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, why.into())
}
