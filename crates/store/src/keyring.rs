//! Which keys the values of a database may be sealed with, as the database itself tells.

use std::path::Path;

use jiff::Timestamp;
use lastframe_core::ports::QueueError;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::connection::{self, OpenError};
use crate::integrity;
use crate::row;
use crate::seal::{KeyId, Keys, Place, Stored};
use crate::writer::storage;

/// Stands for plain values where a key is named.
const NONE: &str = "none";
/// What is sealed to know later whether a key is the right one.
const PROOF: &str = "lastframe";

/// A key that values of a database may be sealed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInUse {
    /// Which one; none stands for values that are plain.
    pub id: Option<KeyId>,
    /// Another one is used for new values, and what is under this one is sealed again.
    pub leaving: bool,
    /// When it came into use, or began to leave.
    pub since: Timestamp,
}

/// How a key is named in the database.
pub(crate) fn name(id: Option<KeyId>) -> String {
    id.map_or_else(|| NONE.to_owned(), |id| id.to_string())
}

/// The keys of the database, the current one first.
pub(crate) fn list(db: &Connection) -> rusqlite::Result<Vec<KeyInUse>> {
    db.prepare_cached("SELECT id, state, since, intact FROM encryption_key ORDER BY state, since, id")?
        .query_map([], |row| {
            integrity::check(row, 3, || "an encryption key".into())?;
            let id = row.get_ref(0)?.as_str()?;
            Ok(KeyInUse {
                id: if id == NONE { None } else { Some(row::parsed(row, 0)?) },
                leaving: row.get_ref(1)?.as_str()? == "leaving",
                since: row::time(row, 2)?.unwrap_or_default(),
            })
        })?
        .collect()
}

/// Makes a database that is being opened use these keys, unless they do not open what is in it.
pub(crate) fn adopt(db: &mut Connection, keys: &Keys, now: i64) -> Result<(), OpenError> {
    fit(db, keys)?;
    let transaction = db.transaction()?;
    switch(&transaction, keys, now)?;
    Ok(transaction.commit()?)
}

/// Refuses keys that do not open what is in the database.
pub(crate) fn fit(db: &Connection, keys: &Keys) -> Result<(), OpenError> {
    for KeyInUse { id, .. } in list(db)? {
        let Some(id) = id else { continue };
        if !keys.has(id) {
            return Err(OpenError::KeyMissing { id, looked: keys.source().to_owned() });
        }
        let proof: Vec<u8> =
            db.query_row("SELECT proof FROM encryption_key WHERE id = ?1", [id.to_string()], |row| {
                row.get(0)
            })?;
        if keys.open(&place(id), ValueRef::Blob(&proof)).as_deref() != Ok(PROOF) {
            return Err(OpenError::Damaged { what: format!("the proof of the encryption key {id}") });
        }
    }
    Ok(())
}

/// Makes the key that seals the current one, if it is not.
pub(crate) fn switch(db: &Connection, keys: &Keys, now: i64) -> Result<(), QueueError> {
    let current = keys.current();
    let is_new: bool = db
        .query_row(
            "SELECT NOT EXISTS (SELECT 1 FROM encryption_key WHERE id = ?1 AND state = 'current')",
            [name(current)],
            |row| row.get(0),
        )
        .map_err(storage)?;
    if !is_new {
        return Ok(());
    }
    let proof = match current {
        Some(id) => match keys.seal(&place(id), PROOF.into())? {
            Stored::Sealed(proof) => Some(proof),
            Stored::Plain(_) => None,
        },
        None => None,
    };
    let written = || -> rusqlite::Result<()> {
        db.execute("UPDATE encryption_key SET state = 'leaving', since = ?1 WHERE state = 'current'", [now])?;
        db.execute(
            "INSERT INTO encryption_key (id, state, proof, since) VALUES (?1, 'current', ?2, ?3)
             ON CONFLICT DO UPDATE SET state = 'current', since = excluded.since",
            params![name(current), proof, now],
        )?;
        // Nothing was written under any, so nothing is left under one.
        let anything = "SELECT EXISTS (SELECT 1 FROM request) OR EXISTS (SELECT 1 FROM site)";
        if !db.query_row(anything, [], |row| row.get(0))? {
            db.execute("DELETE FROM encryption_key WHERE state = 'leaving'", [])?;
        }
        Ok(())
    };
    written().map_err(storage)
}

/// A key that the database of that folder needs; none when it needs none, or is not there.
///
/// # Errors
/// When the database cannot be read.
pub fn needs_key(folder: &Path) -> Result<Option<KeyId>, OpenError> {
    let file = folder.join(crate::Store::FILE);
    if !file.try_exists()? {
        return Ok(None);
    }
    let db = connection::reader(&file)?;
    if !db.table_exists(None, "encryption_key")? {
        return Ok(None);
    }
    Ok(list(&db)?.into_iter().find_map(|key| key.id))
}

/// Takes note that nothing is left under the keys that were leaving; false when another became the current one meanwhile.
pub(crate) fn leave(db: &Connection, current: Option<KeyId>) -> rusqlite::Result<bool> {
    let now: Option<String> = db
        .query_row("SELECT id FROM encryption_key WHERE state = 'current'", [], |row| row.get(0))
        .optional()?;
    if now != Some(name(current)) {
        return Ok(false);
    }
    db.execute("DELETE FROM encryption_key WHERE state = 'leaving'", [])?;
    Ok(true)
}

fn place(id: KeyId) -> Place {
    Place::new("encryption_key.proof", &[&id.to_string()])
}
