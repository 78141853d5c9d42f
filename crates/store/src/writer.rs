//! The one thread that writes. Commands that wait together are committed together, with one fsync.
//!
//! A command is answered only after its commit. One that fails is rolled back alone; a commit that fails fails
//! every command in it.

use std::sync::Arc;
use std::thread::JoinHandle;

use fastrand::Rng;
use lastframe_core::ports::{Change, QueueError};
use lastframe_core::{Clock, RenderId};
use rusqlite::Connection;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};

/// Commands that may wait to be written. More are refused as busy.
const WAITING: usize = 1024;
/// Commands in one commit. Bounds how long the first of them waits for the last.
const COMMITTED_TOGETHER: usize = 256;

/// What a command sees while it runs: the open transaction and one `now` for all it writes.
pub(crate) struct Tx<'a> {
    pub(crate) db: &'a Connection,
    /// Wall time, in milliseconds since 1970.
    pub(crate) now: i64,
    /// Monotonic time of this process, in milliseconds.
    pub(crate) monotonic: i64,
    pub(crate) rng: &'a mut Rng,
    effects: &'a mut Effects,
}

impl Tx<'_> {
    /// Tells listeners, after the commit, that this render is not what it was.
    pub(crate) fn changed(&mut self, render: RenderId) {
        self.effects.changed.push(render);
    }

    /// Tells waiting workers, after the commit, that a render may be claimed.
    pub(crate) fn claimable(&mut self) {
        self.effects.claimable = true;
    }
}

#[derive(Default)]
struct Effects {
    changed: Vec<RenderId>,
    claimable: bool,
}

/// Runs within the transaction; what it returns runs after the commit, with its result.
type Command = Box<dyn FnOnce(&mut Tx<'_>) -> Reply + Send>;
type Reply = Box<dyn FnOnce(Result<(), &Arc<rusqlite::Error>>) + Send>;

#[derive(Debug)]
pub(crate) struct Writer {
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

/// What the writer tells the world after a commit.
#[derive(Clone, Debug)]
pub(crate) struct Signals {
    pub(crate) changes: broadcast::Sender<Change>,
    pub(crate) claimable: Arc<Notify>,
}

impl Writer {
    pub(crate) fn start(connection: Connection, clock: Arc<dyn Clock>, rng: Rng, signals: Signals) -> std::io::Result<Self> {
        let (commands, waiting) = mpsc::channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || run(&connection, waiting, clock.as_ref(), rng, &signals))?;
        Ok(Self { commands: Some(commands), thread: Some(thread) })
    }

    /// Runs `command` in a transaction and returns what it returned once that is on disk.
    ///
    /// # Errors
    /// What the command returned, its writes undone; or that the storage failed.
    pub(crate) async fn run<T, E>(&self, command: impl FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<QueueError> + Send + 'static,
    {
        let (command, answer) = package(command);
        let Some(commands) = &self.commands else { return Err(gone().into()) };
        if commands.send(command).await.is_err() {
            return Err(gone().into());
        }
        answer.await.unwrap_or_else(|_| Err(gone().into()))
    }

    /// Like [`Writer::run`], but refused as busy when too much waits already.
    pub(crate) async fn run_unless_busy<T, E>(&self, command: impl FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<QueueError> + Send + 'static,
    {
        let (command, answer) = package(command);
        let Some(commands) = &self.commands else { return Err(gone().into()) };
        match commands.try_send(command) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(gone().into())),
            Err(mpsc::error::TrySendError::Full(_)) => Err(QueueError::Busy.into()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(gone().into()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writer thread panicked");
        }
    }
}

fn package<T, E>(
    command: impl FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
) -> (Command, oneshot::Receiver<Result<T, E>>)
where
    T: Send + 'static,
    E: From<QueueError> + Send + 'static,
{
    let (answer, answered) = oneshot::channel();
    let command: Command = Box::new(move |tx| {
        let result = in_savepoint(tx, command);
        Box::new(move |commit| {
            let result = match commit {
                Ok(()) => result,
                Err(error) => Err(QueueError::Storage(Box::new(Arc::clone(error))).into()),
            };
            // Nobody waits any more when the caller went away; the write stands all the same.
            drop(answer.send(result));
        })
    });
    (command, answered)
}

fn in_savepoint<T, E: From<QueueError>>(tx: &mut Tx<'_>, command: impl FnOnce(&mut Tx<'_>) -> Result<T, E>) -> Result<T, E> {
    tx.db.prepare_cached("SAVEPOINT command").and_then(|mut sql| sql.execute([])).map_err(storage)?;
    let (changed, claimable) = (tx.effects.changed.len(), tx.effects.claimable);
    let result = command(tx);
    if result.is_err() {
        tx.effects.changed.truncate(changed);
        tx.effects.claimable = claimable;
        tx.db.prepare_cached("ROLLBACK TO command").and_then(|mut sql| sql.execute([])).map_err(storage)?;
    }
    tx.db.prepare_cached("RELEASE command").and_then(|mut sql| sql.execute([])).map_err(storage)?;
    result
}

fn run(db: &Connection, mut waiting: mpsc::Receiver<Command>, clock: &dyn Clock, mut rng: Rng, signals: &Signals) {
    while let Some(first) = waiting.blocking_recv() {
        let mut replies = Vec::new();
        let mut effects = Effects::default();
        let mut begun = db.execute_batch("BEGIN IMMEDIATE");
        if begun.is_ok() {
            let mut next = Some(first);
            while let Some(command) = next {
                let monotonic = i64::try_from(clock.monotonic().as_millis()).unwrap_or(i64::MAX);
                let now = clock.now().as_millisecond();
                replies.push(command(&mut Tx { db, now, monotonic, rng: &mut rng, effects: &mut effects }));
                next = if replies.len() < COMMITTED_TOGETHER { waiting.try_recv().ok() } else { None };
            }
            begun = db.execute_batch("COMMIT");
        } else {
            // The command never ran; dropping it answers its caller that the store is gone, so say why here.
            drop(first);
        }
        let committed = begun.map_err(Arc::new);
        if let Err(error) = &committed {
            tracing::error!(%error, "a commit failed");
            if !db.is_autocommit()
                && let Err(error) = db.execute_batch("ROLLBACK")
            {
                tracing::error!(%error, "a rollback failed");
            }
        }
        for reply in replies {
            reply(committed.as_ref().map(|()| ()));
        }
        if committed.is_ok() {
            for render in effects.changed {
                // No listener is no fault.
                drop(signals.changes.send(Change { render }));
            }
            if effects.claimable {
                signals.claimable.notify_waiters();
            }
        }
    }
}

/// Any fault of the storage, as the queue's callers see it.
pub(crate) fn storage(error: impl std::error::Error + Send + Sync + 'static) -> QueueError {
    QueueError::Storage(Box::new(error))
}

#[derive(Debug, thiserror::Error)]
#[error("the store has stopped")]
struct Gone;

fn gone() -> QueueError {
    storage(Gone)
}
