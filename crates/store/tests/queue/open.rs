//! Opening what is there already.

use std::sync::Arc;

use lastframe_core::ManualClock;
use lastframe_core::conformance::render;
use lastframe_store::{OpenError, Options, Store};

use crate::world::{World, keys};

async fn open(folder: &std::path::Path) -> Result<Store, OpenError> {
    let clock = ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
    Store::open(folder, Arc::new(clock), Options { keys: keys(), ..Options::default() }).await
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_and_left_as_it_is() {
    let world = World::new().await;
    world.accept("ann", render("a")).await;
    let folder = world.subject.file().parent().unwrap().to_owned();
    let sql = world.subject.sql();
    let known: u32 = sql.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    sql.pragma_update(None, "user_version", known + 1).unwrap();
    match open(&folder).await {
        Err(OpenError::NewerSchema { found, known: told }) => assert_eq!((found, told), (known + 1, known)),
        other => panic!("{other:?}"),
    }
    let version: u32 = sql.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, known + 1);
    sql.pragma_update(None, "user_version", known).unwrap();
}

#[tokio::test]
async fn what_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join(Store::FILE),
        "no database, however long this text is made to be ".repeat(50),
    )
    .unwrap();
    assert!(matches!(open(folder.path()).await, Err(OpenError::Damaged { .. })));
    assert!(matches!(open(&folder.path().join("nowhere")).await, Err(OpenError::Sqlite(_))));
}

#[tokio::test]
async fn what_is_written_is_on_disk_before_it_is_answered() {
    let world = World::new().await;
    let sql = world.subject.sql();
    let journal: String = sql.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(journal, "wal");
    let a = world.accept("ann", render("a")).await;
    let seen: String = sql.query_one("SELECT id FROM render", [], |row| row.get(0)).unwrap();
    assert_eq!(seen, a.id.to_string());
}
