//! Every column that holds secrets, and what is done to all of them: sealing anew, and trying whether they open.

use std::collections::BTreeMap;
use std::fmt;

use futures_util::future::{FutureExt as _, join_all};
use lastframe_core::ports::QueueError;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Row, params_from_iter};

use crate::Store;
use crate::integrity;
use crate::keyring::{self, KeyInUse};
use crate::seal::{HEADER, KeyId, Keys, Place, Unopened, sealed_with};
use crate::writer::{Tx, storage};

/// A column whose values may be sealed. Its table has the columns `intact` and a trigger that refuses to change what is damaged.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) table: &'static str,
    column: &'static str,
    /// The primary key, as it is written in SQL.
    key: &'static str,
    /// How many columns that has.
    keys: usize,
    /// SQL for what identifies the row for ever, which is what values are bound to; as many texts as `rows` says.
    row: &'static str,
    rows: usize,
}

/// All of them. A secret in a column that is not listed here would stay under a key that has left.
pub(crate) const COLUMNS: &[Column] = &[
    Column {
        table: "request",
        column: "body",
        key: "seq",
        keys: 1,
        row: "(SELECT id FROM render WHERE render.seq = request.seq)",
        rows: 1,
    },
    Column {
        table: "checkpoint",
        column: "body",
        key: "seq",
        keys: 1,
        row: "(SELECT id FROM render WHERE render.seq = checkpoint.seq)",
        rows: 1,
    },
    Column {
        table: "idempotency",
        column: "body_hash",
        key: "tenant_id, key",
        keys: 2,
        row: "(SELECT name FROM tenant WHERE id = tenant_id), key",
        rows: 2,
    },
    Column {
        table: "site",
        column: "body",
        key: "tenant_id, name, version",
        keys: 3,
        row: "(SELECT tenant.name FROM tenant WHERE id = tenant_id), site.name, version",
        rows: 3,
    },
    Column {
        table: "tenant_notices",
        column: "body",
        key: "tenant_id",
        keys: 1,
        row: "(SELECT name FROM tenant WHERE id = tenant_id)",
        rows: 1,
    },
];

/// What sealing anew has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Values that were written anew.
    pub values: u64,
    /// Values that are damaged and left as they were, under a key that therefore stays in use.
    pub damaged: u64,
}

impl Store {
    /// Seals with other keys from now on. They must open all that the keys of before opened; what those have sealed is
    /// sealed anew by [`Store::reseal`].
    ///
    /// # Errors
    /// When they do not, or the storage fails; nothing has changed then.
    pub async fn seal_with(&self, keys: Keys) -> Result<(), QueueError> {
        self.writer
            .run(move |tx| {
                keyring::fit(tx.db, &keys).map_err(storage)?;
                keyring::switch(tx.db, &keys, tx.now)?;
                tx.seal_with(keys);
                Ok(())
            })
            .await
    }

    /// The keys that values of the database may be sealed with, the current one first.
    ///
    /// # Errors
    /// When the storage fails.
    pub async fn keys_in_use(&self) -> Result<Vec<KeyInUse>, QueueError> {
        self.readers.at_once(|db| keyring::list(db).map_err(storage)).await
    }

    /// Seals anew, batch by batch, what is not under the current key; then the keys that were leaving are not needed any
    /// more. Of a database that held plain secrets, no trace of them is left in its files. May be dropped at any moment, and
    /// goes on where it was when it is called again.
    ///
    /// # Errors
    /// When the storage fails; nothing is lost.
    pub async fn reseal(&self) -> Result<Resealed, QueueError> {
        let mut done = Resealed::default();
        loop {
            let in_use = self.keys_in_use().await?;
            if !in_use.iter().any(|key| key.leaving) {
                return Ok(done);
            }
            let current = self.ring.keys().current();
            done.damaged = 0;
            for column in COLUMNS {
                self.reseal_column(column, current, &mut done).await?;
            }
            if done.damaged > 0 {
                return Ok(done);
            }
            if in_use.iter().any(|key| key.leaving && key.id.is_none()) {
                self.writer.alone(scrub).await?;
            }
            // If another key has become the current one meanwhile, it begins again.
            self.writer.run(move |tx| keyring::leave(tx.db, current).map_err(storage)).await?;
        }
    }

    async fn reseal_column(
        &self,
        column: &'static Column,
        current: Option<KeyId>,
        done: &mut Resealed,
    ) -> Result<(), QueueError> {
        let mut after = None;
        loop {
            let batch = self.readers.run(move |db| behind(db, column, current, after)).await?;
            after = batch.last().cloned();
            if after.is_none() {
                return Ok(());
            }
            // Each in a command of its own, as in a sweep: they share commits with whatever else is written.
            let commands =
                batch.into_iter().map(|key| self.writer.run(move |tx| reseal(tx, column, &key)).boxed());
            for resealed in join_all(commands).await {
                match resealed {
                    Ok(written) => done.values += u64::from(written),
                    Err(error @ QueueError::Damaged { .. }) => {
                        tracing::error!(%error, "a secret cannot be sealed anew");
                        done.damaged += 1;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

/// Writes the database anew without anything that is left between its values, and empties its log.
fn scrub(db: &Connection) -> Result<(), QueueError> {
    let scrubbed = || -> rusqlite::Result<bool> {
        // The copy in between may be larger than memory.
        db.pragma_update(None, "temp_store", "FILE")?;
        let vacuumed = db.execute_batch("VACUUM");
        db.pragma_update(None, "temp_store", "MEMORY")?;
        vacuumed?;
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
    };
    if scrubbed().map_err(storage)? {
        return Err(storage(std::io::Error::other("a reader keeps what is in the write-ahead log")));
    }
    Ok(())
}

/// The values of one batch: so many, or so many bytes, whatever comes first.
const AT_A_TIME: usize = 64;
const BYTES_AT_A_TIME: i64 = 4 << 20;

/// The primary key of a row.
pub(crate) type RowKey = Vec<Value>;

/// Some rows after that one whose value is not under `current`, in the order of their keys.
pub(crate) fn behind(
    db: &Connection,
    column: &Column,
    current: Option<KeyId>,
    after: Option<RowKey>,
) -> Result<Vec<RowKey>, QueueError> {
    let Column { table, column, key, keys, .. } = column;
    let mut values = vec![current.map_or(Value::Null, |id| Value::Blob(id.header().to_vec()))];
    let later = after.map_or_else(String::new, |after| {
        values.extend(after);
        format!("AND ({key}) > ({})", marks(2, *keys))
    });
    let sql = format!(
        "SELECT octet_length({column}), {key} FROM {table}
         WHERE iif(typeof({column}) = 'text', NULL, substr({column}, 1, {HEADER})) IS NOT ?1 {later}
         ORDER BY {key} LIMIT {AT_A_TIME}"
    );
    let read = || -> rusqlite::Result<Vec<RowKey>> {
        let mut sql = db.prepare_cached(&sql)?;
        let mut rows = sql.query(params_from_iter(values))?;
        let (mut found, mut bytes) = (Vec::new(), 0);
        while bytes < BYTES_AT_A_TIME
            && let Some(row) = rows.next()?
        {
            bytes += row.get::<_, i64>(0)?;
            found.push((1..=*keys).map(|index| row.get(index)).collect::<Result<_, _>>()?);
        }
        Ok(found)
    };
    read().map_err(storage)
}

/// Writes the value of that row anew, under the key that seals now. False when it is gone, or was so already.
pub(crate) fn reseal(tx: &mut Tx<'_>, column: &Column, key: &[Value]) -> Result<bool, QueueError> {
    let keys = tx.ring.keys();
    let Column { table, column: name, key: columns, keys: count, .. } = column;
    let found = tx
        .db
        .prepare_cached(&format!("{} WHERE ({columns}) = ({})", column.select(), marks(1, *count)))
        .and_then(|mut sql| {
            let opened = sql.query_row(params_from_iter(key), |row| {
                integrity::check(row, 0, || column.what(row))?;
                if under(row.get_ref(1)?) == Ok(keys.current()) {
                    return Ok(None);
                }
                let place = column.place(row)?;
                let text = keys.open(&place, row.get_ref(1)?).map_err(|why| why.of(&column.what(row)))?;
                Ok(Some((place, text)))
            });
            opened.optional()
        })
        .map_err(storage)?;
    let Some((place, text)) = found.flatten() else { return Ok(false) };
    let stored = keys.seal(&place, text)?;
    let sql = format!("UPDATE {table} SET {name} = ?1 WHERE ({columns}) = ({})", marks(2, *count));
    let values = std::iter::once(&stored as &dyn rusqlite::ToSql).chain(key.iter().map(|value| value as _));
    tx.db.prepare_cached(&sql).and_then(|mut sql| sql.execute(params_from_iter(values))).map_err(storage)?;
    Ok(true)
}

/// What trying all values has found.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    /// Those that do not open.
    pub(crate) problems: Vec<String>,
    /// How many could not be tried, by the key that is not at hand.
    pub(crate) untried: BTreeMap<KeyId, u64>,
}

/// Tries whether the values of that column open. Rows that do not fit their checksum are told elsewhere.
pub(crate) fn try_all(db: &Connection, column: &Column, keys: &Keys) -> rusqlite::Result<Tried> {
    let in_use: Vec<_> = keyring::list(db)?.into_iter().map(|key| key.id).collect();
    let mut tried = Tried::default();
    let mut sql = db.prepare(&format!("{} WHERE {}.intact", column.select(), column.table))?;
    let mut rows = sql.query([])?;
    while let Some(row) = rows.next()? {
        let value = row.get_ref(1)?;
        // What it is bound to may be damaged itself, and is told as that.
        let opened = match column.place(row) {
            Ok(place) => keys.open(&place, value).map(drop),
            Err(_) => continue,
        };
        match (opened, under(value)) {
            (Err(Unopened::Damaged), _) | (_, Err(_)) => {
                tried.problems.push(format!("{} does not open", column.what(row)));
            }
            (_, Ok(id)) if !in_use.contains(&id) => {
                let id = keyring::name(id);
                tried
                    .problems
                    .push(format!("{} is under the key {id}, which is not in use", column.what(row)));
            }
            (Err(Unopened::KeyMissing(id)), _) => *tried.untried.entry(id).or_default() += 1,
            (Ok(()), _) => {}
        }
    }
    Ok(tried)
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.table, self.column)
    }
}

impl Column {
    /// `intact`, the value, and what it is bound to.
    fn select(&self) -> String {
        let Self { table, column, row, .. } = self;
        format!("SELECT {table}.intact, {column}, {row} FROM {table}")
    }

    fn bound_to(&self, row: &Row<'_>) -> rusqlite::Result<Vec<String>> {
        (2..2 + self.rows).map(|index| row.get(index)).collect()
    }

    fn place(&self, row: &Row<'_>) -> rusqlite::Result<Place> {
        let parts = self.bound_to(row)?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Ok(Place::new(&self.to_string(), &parts))
    }

    fn what(&self, row: &Row<'_>) -> String {
        format!("the {} of {}", self.table, self.bound_to(row).unwrap_or_default().join(" "))
    }
}

/// The key that a value is under, if it makes sense; none when it is plain.
fn under(value: ValueRef<'_>) -> Result<Option<KeyId>, Unopened> {
    match value {
        ValueRef::Text(_) => Ok(None),
        ValueRef::Blob(sealed) => sealed_with(sealed).map(Some).ok_or(Unopened::Damaged),
        _ => Err(Unopened::Damaged),
    }
}

fn marks(from: usize, count: usize) -> String {
    (from..from + count).map(|number| format!("?{number}")).collect::<Vec<_>>().join(", ")
}
