//! Folds the write-ahead log into the database, off the writer's path, and keeps it short.
//!
//! A thread of its own copies and syncs while commits go on. What was committed meanwhile is little; the writer copies that
//! itself after its next commit, and with all of the log in the database, SQLite starts it again from the beginning.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use crate::connection;

/// Pages of the log that are worth folding in: 4 MiB.
const WORTH_IT: u32 = 1_000;

/// The writer's side.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    /// Pages in the log after the last commit.
    pages: Arc<AtomicU32>,
    /// The thread is through with what was there when it began.
    folded: Arc<AtomicBool>,
    /// How long the log was when it was last asked for.
    asked_at: u32,
    ask: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Watches the log of `writer`, the connection that commits, and folds it in through another.
    pub(crate) fn start(path: &Path, writer: &mut Connection) -> Result<Self, connection::OpenError> {
        let connection = connection::another(path)?;
        let (pages, folded) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let (ask, asked) = sync_channel(1);
        let watched = Arc::clone(&pages);
        // Having a hook of our own also turns off SQLite's, which would fold the log in before a commit is answered.
        writer.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, length: std::ffi::c_int| {
            watched.store(u32::try_from(length).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        let done = Arc::clone(&folded);
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || run(&connection, &asked, &done))
            .map_err(crate::writer::storage)?;
        Ok(Self { pages, folded, asked_at: 0, ask: Some(ask), thread: Some(thread) })
    }

    /// Called by the writer between its commits.
    pub(crate) fn after_commit(&mut self, writer: &Connection) {
        if self.folded.swap(false, Ordering::Relaxed) {
            fold(writer, "PASSIVE");
        }
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < self.asked_at {
            // It has begun anew.
            self.asked_at = 0;
        }
        if pages >= self.asked_at + WORTH_IT
            && let Some(ask) = &self.ask
            && ask.try_send(()).is_ok()
        {
            self.asked_at = pages;
        }
    }

    /// Folds all of it in. A database that was closed in order is one file: what is copied then is whole.
    pub(crate) fn end(mut self, writer: &Connection) {
        self.ask = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        fold(writer, "TRUNCATE");
    }
}

fn run(connection: &Connection, asked: &Receiver<()>, done: &AtomicBool) {
    while asked.recv().is_ok() {
        fold(connection, "PASSIVE");
        done.store(true, Ordering::Relaxed);
    }
}

fn fold(connection: &Connection, how: &str) {
    if let Err(error) = connection.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |_| Ok(())) {
        tracing::warn!(%error, "the write-ahead log could not be folded in; it grows until it can");
    }
}
