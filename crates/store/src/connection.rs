//! How a connection to the database is opened, and how its schema comes up to date.

use std::path::Path;

use lastframe_core::ports::QueueError;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::integrity;
use crate::mark::{Mark, Reached};
use crate::seal::KeyId;

/// Each step's SQL; a database is at the version of the number of steps it has taken. Released steps never change.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_queue.sql"),
    include_str!("migrations/0002_integrity.sql"),
    include_str!("migrations/0003_limits.sql"),
    include_str!("migrations/0004_sealed.sql"),
    include_str!("migrations/0005_accounts.sql"),
    include_str!("migrations/0006_deletion.sql"),
    include_str!("migrations/0007_outbox.sql"),
    include_str!("migrations/0008_found.sql"),
    include_str!("migrations/0009_routes.sql"),
];

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
    /// The database has lost commits that were acknowledged.
    #[error(
        "the database ends at commit {found}, and commit {reached} was acknowledged: it has lost what came between, or an \
         older copy was put in its place. {MEND}"
    )]
    Behind {
        /// The commits that the database knows of.
        found: u64,
        /// The commits that were acknowledged.
        reached: u64,
    },
    /// The high-water mark belongs to another database.
    #[error("the database is not the one that was here: its high-water mark is of another. {MEND}")]
    OtherDatabase,
    /// There is a high-water mark and no database.
    #[error("the database is gone; commit {reached} of it was acknowledged. {MEND}")]
    DatabaseMissing {
        /// The commits that were acknowledged.
        reached: u64,
    },
    /// The database had a high-water mark, and has none that can be read.
    #[error(
        "the high-water mark, the file `high-water` beside the database, is missing or damaged, so nothing says \
         whether the database is whole. {MEND}"
    )]
    NoMark,
    /// Values in it are sealed with a key that is not at hand.
    #[error(
        "the database needs the encryption key {id}, which is not {looked}: put it back. Without it nobody can read what \
         it has sealed"
    )]
    KeyMissing {
        /// The key.
        id: KeyId,
        /// Where it is not.
        looked: String,
    },
    /// What is in it makes no sense.
    #[error("the database is damaged: {what}. {MEND}")]
    Damaged {
        /// What SQLite, or the row that does not fit its checksum, says.
        what: String,
    },
    /// A file could not be read or written.
    #[error("cannot open the database")]
    Io(#[from] std::io::Error),
    /// SQLite says no.
    #[error("cannot open the database")]
    Sqlite(#[source] rusqlite::Error),
    /// It is open, and cannot be worked with.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

const MEND: &str = "Restore a backup with `lastframe restore FILE`; to go on with what is here instead, \
    take one of it first: `lastframe backup FILE`";

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        match integrity::what_is_damaged(&error) {
            Some(_) => Self::Damaged { what: error.to_string() },
            None => Self::Sqlite(error),
        }
    }
}

/// Opens the one connection that writes, creating or migrating the database.
pub(crate) fn writer(path: &Path) -> Result<Connection, OpenError> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    common(&connection)?;
    // The bundled SQLite enforces them from the start.
    connection.pragma_update(None, "foreign_keys", false)?;
    migrate(&mut connection)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

/// Opens a connection that writes to a database that is there and up to date.
pub(crate) fn another(path: &Path) -> Result<Connection, OpenError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    common(&connection)?;
    Ok(connection)
}

/// Opens a connection that only reads.
pub(crate) fn reader(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    common(&connection)?;
    Ok(connection)
}

fn common(connection: &Connection) -> Result<(), rusqlite::Error> {
    integrity::install(connection)?;
    // Plans do not depend on values, or statements that are kept would be planned anew for each render.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    // FULL, not NORMAL: a commit is on disk when it returns, so a 202 survives power loss.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // What undoes one command of a transaction would otherwise be written to a file as well.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -(32 << 10))?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}

/// Needs a connection that does not enforce foreign keys yet: some steps make tables anew.
fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let found = version(connection)?;
    for (known, sql) in (1..).zip(MIGRATIONS) {
        if known > found {
            let transaction = connection.transaction()?;
            transaction.execute_batch(sql)?;
            if transaction.prepare("PRAGMA foreign_key_check")?.exists([])? {
                return Err(OpenError::Damaged { what: "a record refers to one that is not there".into() });
            }
            transaction.pragma_update(None, "user_version", known)?;
            transaction.commit()?;
        }
    }
    Ok(())
}

/// The version of the schema.
///
/// # Errors
/// When it is newer than this program.
fn version(connection: &Connection) -> Result<u32, OpenError> {
    let found = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if found > known { Err(OpenError::NewerSchema { found, known }) } else { Ok(found) }
}

/// Whether no step of the schema is missing.
///
/// # Errors
/// When it is newer than this program.
pub(crate) fn is_up_to_date(connection: &Connection) -> Result<bool, OpenError> {
    Ok(usize::try_from(version(connection)?).is_ok_and(|version| version == MIGRATIONS.len()))
}

/// How far the database has come.
pub(crate) fn reached(connection: &Connection) -> Result<Reached, OpenError> {
    let sql = "SELECT database, commits, intact FROM queue";
    Ok(connection.query_row(sql, [], |row| {
        integrity::check(row, 2, || "the queue".into())?;
        Ok(Reached { database: row.get(0)?, commits: row.get(1)? })
    })?)
}

/// The mark in `folder`, or why it cannot be known.
pub(crate) fn mark(folder: &Path) -> Result<Option<Reached>, OpenError> {
    Mark::read(folder).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => OpenError::NoMark,
        _ => error.into(),
    })
}

/// Refuses a database that has not come as far as its mark.
pub(crate) fn compare(reached: &Reached, mark: Option<&Reached>) -> Result<(), OpenError> {
    match mark {
        // One that has just been made, or comes from a version without marks.
        None if reached.commits == 0 => Ok(()),
        None => Err(OpenError::NoMark),
        Some(mark) if mark.database != reached.database => Err(OpenError::OtherDatabase),
        Some(mark) if mark.commits > reached.commits => {
            Err(OpenError::Behind { found: reached.commits, reached: mark.commits })
        }
        Some(_) => Ok(()),
    }
}
