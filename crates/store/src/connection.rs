//! How a connection to the database is opened, and how its schema comes up to date.

use std::path::Path;

use lastframe_core::ports::QueueError;
use rusqlite::{Connection, OpenFlags};

/// Each step's SQL; a database is at the version of the number of steps it has taken. Released steps never change.
const MIGRATIONS: &[&str] = &[include_str!("migrations/0001_queue.sql")];

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database was written by a newer Lastframe.
    #[error(
        "the database has schema version {found}, this program knows up to {known}: use a newer Lastframe"
    )]
    NewerSchema {
        /// The version it has.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },
    /// SQLite says no.
    #[error("cannot open the database")]
    Sqlite(#[from] rusqlite::Error),
    /// It is open, and cannot be worked with.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Opens the one connection that writes, creating or migrating the database.
pub(crate) fn writer(path: &Path) -> Result<Connection, OpenError> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL, not NORMAL: a commit is on disk when it returns, so a 202 survives power loss.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    common(&connection)?;
    migrate(&mut connection)?;
    Ok(connection)
}

/// Opens a connection that only reads.
pub(crate) fn reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    common(&connection)?;
    Ok(connection)
}

fn common(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cache_size", -(32 << 10))?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}

fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let mut known = 0;
    for sql in MIGRATIONS {
        known += 1;
        if known > found {
            let transaction = connection.transaction()?;
            transaction.execute_batch(sql)?;
            transaction.pragma_update(None, "user_version", known)?;
            transaction.commit()?;
        }
    }
    if found > known {
        return Err(OpenError::NewerSchema { found, known });
    }
    Ok(())
}
