//! The store as a subject of the contract, in a folder of its own.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use lastframe_core::conformance::{self, LEASE, RETRY, Subject};
use lastframe_core::outbox::Outbox;
use lastframe_core::ports::{Accounts, Directory, Queue};
use lastframe_core::{Limits, ManualClock};
use lastframe_store::{Key, Keys, Options, Store};
use rusqlite::Connection;
use tempfile::TempDir;
use zeroize::Zeroizing;

pub(crate) type World = conformance::World<Sqlite>;

/// The key that secrets are sealed with here.
pub(crate) fn keys() -> Keys {
    Keys::new(vec![Key::new(&Zeroizing::new([7; 32]))], "the test's own")
}

/// A world whose store seals nothing.
pub(crate) async fn plain() -> World {
    let clock = Arc::new(ManualClock::new("2026-03-01T12:00:00Z".parse().unwrap()));
    let subject = Sqlite::over(tempfile::tempdir().unwrap(), Keys::default(), Arc::clone(&clock)).await;
    let world = World { clock, subject: Box::new(subject), defaults: Limits::default() };
    world.add_site("ann", "site", "v1").await;
    world
}

#[derive(Debug)]
pub(crate) struct Sqlite {
    store: Option<Store>,
    folder: TempDir,
    keys: Keys,
    opened: u64,
}

impl Sqlite {
    /// Opens what is in `folder`.
    pub(crate) async fn over(folder: TempDir, keys: Keys, clock: Arc<ManualClock>) -> Self {
        let mut sqlite = Self { store: None, folder, keys, opened: 0 };
        sqlite.reopen(clock, Limits::default()).await;
        sqlite
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join(Store::FILE)
    }

    /// A connection of the test's own, to look behind the store or to get in its way.
    pub(crate) fn sql(&self) -> Connection {
        Connection::open(self.file()).unwrap()
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }
}

#[async_trait]
impl Subject for Sqlite {
    async fn new(clock: Arc<ManualClock>) -> Self {
        Self::over(tempfile::tempdir().unwrap(), keys(), clock).await
    }

    async fn reopen(&mut self, clock: Arc<ManualClock>, limits: Limits) {
        self.store = None;
        self.opened += 1;
        // Another seed each time, as in life: the ids of one life must not come back in the next.
        let options = Options {
            lease: LEASE,
            retry: RETRY,
            limits,
            seed: Some(self.opened),
            keys: self.keys.clone(),
            ..Options::default()
        };
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

    fn outbox(&self) -> &(dyn Outbox + 'static) {
        self.store()
    }
}

impl Drop for Sqlite {
    /// Whatever a test was about, it leaves a sound database.
    fn drop(&mut self) {
        self.store = None;
        if !std::thread::panicking() {
            let report = lastframe_store::check(self.folder.path(), &self.keys, &mut |_| ()).unwrap();
            assert_eq!((report.problems, report.notes), (Vec::new(), Vec::new()));
        }
    }
}
