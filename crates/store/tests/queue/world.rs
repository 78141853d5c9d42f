//! The store as a subject of the contract, in a folder of its own.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use lastframe_core::ManualClock;
use lastframe_core::conformance::{self, LEASE, RETRY, Subject};
use lastframe_core::ports::{Accounts, Directory, Queue};
use lastframe_store::{Options, Store};
use rusqlite::Connection;
use tempfile::TempDir;

pub(crate) type World = conformance::World<Sqlite>;

#[derive(Debug)]
pub(crate) struct Sqlite {
    store: Option<Store>,
    folder: TempDir,
    opened: u64,
}

impl Sqlite {
    /// Opens what is in `folder`.
    pub(crate) async fn over(folder: TempDir, clock: Arc<ManualClock>) -> Self {
        let mut sqlite = Self { store: None, folder, opened: 0 };
        sqlite.reopen(clock).await;
        sqlite
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join(Store::FILE)
    }

    /// A connection of the test's own, to look behind the store or to get in its way.
    pub(crate) fn sql(&self) -> Connection {
        Connection::open(self.file()).unwrap()
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }
}

#[async_trait]
impl Subject for Sqlite {
    async fn new(clock: Arc<ManualClock>) -> Self {
        Self::over(tempfile::tempdir().unwrap(), clock).await
    }

    async fn reopen(&mut self, clock: Arc<ManualClock>) {
        self.store = None;
        self.opened += 1;
        // Another seed each time, as in life: the ids of one life must not come back in the next.
        let options = Options { lease: LEASE, retry: RETRY, seed: Some(self.opened) };
        self.store = Some(Store::open(self.folder.path(), clock, options).await.unwrap());
    }

    async fn sweep(&self) {
        self.store().sweep().await.unwrap();
    }

    fn queue(&self) -> &(dyn Queue + 'static) {
        self.store()
    }

    fn directory(&self) -> &(dyn Directory + 'static) {
        self.store()
    }

    fn accounts(&self) -> &(dyn Accounts + 'static) {
        self.store()
    }
}

impl Drop for Sqlite {
    /// Whatever a test was about, it leaves a sound database.
    fn drop(&mut self) {
        self.store = None;
        if !std::thread::panicking() {
            let report = lastframe_store::check(self.folder.path(), &mut |_| ()).unwrap();
            assert_eq!(report.problems, [""; 0]);
        }
    }
}
