//! A copy of the database to keep elsewhere, and putting one back.
//!
//! The database says what was asked for and what became of it. Outputs, bundles of sites and keys are files beside it that
//! are written once: whatever copies files may copy them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, Progress, StepResult};
use rusqlite::{Connection, OpenFlags};

use crate::Store;
use crate::check::{self, Report};
use crate::connection::{self, OpenError};
use crate::integrity;
use crate::keyring;
use crate::mark::{self, Mark};
use crate::seal::Keys;

/// Pages that are copied between two words about how far it is.
const PAGES_AT_A_TIME: i32 = 4_096;

/// Why a backup was not taken, or not put back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file that was to be written is there already.
    #[error("{0} exists already: choose another name")]
    Exists(PathBuf),
    /// The backup is damaged.
    #[error("the backup is damaged: {}", .0.join("; "))]
    Damaged(Vec<String>),
    /// The database, or the backup, cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<rusqlite::Error> for BackupError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Open(error.into())
    }
}

/// Copies the database of `folder` into `file`, as it is at one moment, whether or not a server works on it. On disk when it
/// returns. Secrets stay sealed; `keys` are for looking whether they open. `step` is told the share that is copied, then what is looked at.
///
/// # Errors
/// When something cannot be read or written. Damage of the copy is in the report: a damaged backup may be better than none.
pub fn backup(
    folder: &Path,
    file: &Path,
    keys: &Keys,
    step: &mut dyn FnMut(&str),
) -> Result<Report, BackupError> {
    if file.try_exists()? {
        return Err(BackupError::Exists(file.to_owned()));
    }
    let source = folder.join(Store::FILE);
    if !source.try_exists()? {
        return Err(io::Error::new(io::ErrorKind::NotFound, "there is no database to copy").into());
    }
    let source = connection::reader(&source)?;
    let unfinished = beside(file, ".unfinished");
    let copied = copy(&source, &unfinished, keys, step);
    if copied.is_err() {
        // What was wrong with the copy is what matters.
        drop(fs::remove_file(&unfinished));
    }
    let report = copied?;
    fs::rename(&unfinished, file)?;
    sync_folder(file)?;
    Ok(report)
}

/// Puts the backup in the place of the database of `folder`, which no server may have open. What was there is moved into a
/// folder beside it, whose path is returned. The only thing that lowers the high-water mark.
///
/// # Errors
/// When `keys` do not open what is in it; when the backup is damaged and `even_if_damaged` is not set; when something cannot be read or written. A restore that
/// breaks off leaves a folder that no server opens, until it is done again.
pub fn restore(
    folder: &Path,
    file: &Path,
    keys: &Keys,
    even_if_damaged: bool,
    step: &mut dyn FnMut(&str),
) -> Result<Option<PathBuf>, BackupError> {
    // Not as a reader of a database in use: nothing is written beside a backup.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(file, flags)?;
    integrity::install(&source)?;
    let database = folder.join(Store::FILE);
    let unfinished = beside(&database, ".unfinished");
    let report = copy(&source, &unfinished, keys, step)?;
    if let Err(error) = connection::another(&unfinished).and_then(|copy| keyring::fit(&copy, keys)) {
        fs::remove_file(&unfinished)?;
        return Err(error.into());
    }
    if !report.problems.is_empty() && !even_if_damaged {
        fs::remove_file(&unfinished)?;
        return Err(BackupError::Damaged(report.problems));
    }
    let reached = become_another(&unfinished)?;
    let replaced = put_aside(folder)?;
    fs::rename(&unfinished, &database)?;
    sync_folder(&database)?;
    Mark::set(folder, reached)?;
    Ok(replaced)
}

fn copy(
    source: &Connection,
    file: &Path,
    keys: &Keys,
    step: &mut dyn FnMut(&str),
) -> Result<Report, BackupError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    // Not for other users, whatever is in it.
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    // Held while pages are copied, so that all are of one moment.
    let snapshot = source.unchecked_transaction()?;
    snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    copy_pages(&snapshot, &mut Connection::open(file)?, step)?;
    drop(snapshot);
    let copy = connection::writer(file)?;
    // One file, that needs no other beside it.
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    let report = check::inspect(&copy, keys, step)?;
    copy.close().map_err(|(_, error)| error)?;
    File::open(file)?.sync_all()?;
    Ok(report)
}

fn copy_pages(from: &Connection, to: &mut Connection, step: &mut dyn FnMut(&str)) -> rusqlite::Result<()> {
    let backup = Backup::new(from, to)?;
    while backup.step(PAGES_AT_A_TIME)? == StepResult::More {
        let Progress { remaining, pagecount } = backup.progress();
        step(&format!("copying, {} %", 100 - i64::from(remaining) * 100 / i64::from(pagecount.max(1))));
    }
    Ok(())
}

/// Gives the database a name of its own: what it will do from here on is not what the one it was copied from did.
fn become_another(file: &Path) -> Result<mark::Reached, BackupError> {
    let connection = connection::another(file)?;
    connection.execute("UPDATE queue SET database = lower(hex(randomblob(8)))", [])?;
    Ok(connection::reached(&connection)?)
}

/// Moves the database and all that belongs to it out of the way.
fn put_aside(folder: &Path) -> io::Result<Option<PathBuf>> {
    let database = folder.join(Store::FILE);
    // The log goes first: without the database it is of no use, and beside another one it would be in the way.
    let files: Vec<_> = ["-wal", "-shm", ""].iter().map(|suffix| beside(&database, suffix)).collect();
    let files: Vec<_> = files.into_iter().filter(|file| file.exists()).collect();
    if files.is_empty() {
        return Ok(None);
    }
    let aside = (1..).map(|number| folder.join(format!("replaced-{number}"))).find(|aside| !aside.exists());
    let aside = aside.ok_or_else(|| io::Error::other("no name is left for what is replaced"))?;
    fs::create_dir(&aside)?;
    for file in files {
        if let Some(name) = file.file_name() {
            fs::rename(&file, aside.join(name))?;
        }
    }
    File::open(&aside)?.sync_all()?;
    // On disk before another database comes to lie where the old log was.
    File::open(folder)?.sync_all()?;
    Ok(Some(aside))
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
