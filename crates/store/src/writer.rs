//! The one thread that writes. Commands that wait together are committed together, with one fsync.
//!
//! A command is answered only after its commit, and after the high-water mark has followed it (a mark that cannot be written is
//! logged, and the commit stands: it is on disk). One that fails, or
//! panics, is rolled back alone; when the transaction itself fails, all who wait are told why, and the next one starts
//! afresh.

use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use fastrand::Rng;
use lastframe_core::ports::{Change, QueueError};
use lastframe_core::{Clock, Limits, Observer, RenderId};
use rusqlite::Connection;
use rusqlite::hooks::Action;
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, oneshot};

use crate::checkpoint::Checkpointer;
use crate::integrity;
use crate::mark::Mark;
use crate::seal::{Keys, Ring};

/// Commands that may wait to be written.
const WAITING: usize = 1024;
/// Renders that may wait to be accepted. More are refused as busy, so that leases are extended in time.
const SUBMITTED: usize = 4096;
/// Renders whose commands share one commit. Bounds how long the first of them waits for the last.
const COMMITTED_TOGETHER: usize = 256;

/// What a command sees while it runs: the open transaction and one `now` for all it writes.
pub(crate) struct Tx<'a> {
    pub(crate) db: &'a Connection,
    /// Wall time, in milliseconds since 1970.
    pub(crate) now: i64,
    /// Monotonic time of this process, in milliseconds.
    pub(crate) monotonic: i64,
    pub(crate) rng: &'a mut Rng,
    /// Of tenants that have none of their own.
    pub(crate) default_limits: Limits,
    /// What secrets are sealed and opened with. The same during the whole transaction.
    pub(crate) ring: &'a Ring,
    effects: &'a mut Effects,
    owed: &'a Owed,
}

impl Tx<'_> {
    /// The monotonic time, in milliseconds, when a lease of that duration ends that is given now.
    pub(crate) fn deadline(&self, duration: Duration) -> i64 {
        self.monotonic.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    }

    /// Tells listeners, after the commit, that this render is not what it was.
    pub(crate) fn changed(&mut self, render: RenderId) {
        self.effects.changed.push(render);
    }

    /// Tells waiting workers, after the commit, that a render may be claimed.
    pub(crate) fn claimable(&mut self) {
        self.effects.claimable = true;
    }

    /// Tells whoever waits to deliver, after the commit, that there may be something for them. A new delivery tells it
    /// by itself.
    pub(crate) fn owed(&self) {
        self.owed.mark();
    }

    /// Tells whoever counts, after the commit, how an attempt ended.
    pub(crate) fn attempt_ended(&mut self, outcome: &'static str) {
        self.effects.attempts.push(outcome);
    }

    /// Seals with these keys once the transaction is committed.
    pub(crate) fn seal_with(&mut self, keys: Keys) {
        self.effects.keys = Some(keys);
    }
}

#[derive(Default)]
struct Effects {
    changed: Vec<RenderId>,
    /// Outcomes of attempts that ended.
    attempts: Vec<&'static str>,
    claimable: bool,
    keys: Option<Keys>,
    /// Why nothing of this transaction can be committed.
    fault: Option<Fault>,
}

/// An error that several callers hear of.
type Fault = Arc<dyn Error + Send + Sync>;

/// What the writer writes to.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) connection: Connection,
    pub(crate) mark: Mark,
    pub(crate) checkpointer: Checkpointer,
}

/// What is to be written.
struct Command {
    /// How many renders it writes about.
    weight: usize,
    /// Runs within the transaction; what it returns runs after the commit, with its result.
    run: Box<dyn FnOnce(&mut Tx<'_>) -> Reply + Send>,
}

/// What the writer is asked to do.
enum Order {
    Write(Command),
    /// Between two transactions, which it keeps waiting.
    Alone(Box<dyn FnOnce(&Connection) + Send>),
}
type Reply = Box<dyn FnOnce(Result<(), &Fault>) + Send>;

#[derive(Debug)]
pub(crate) struct Writer {
    commands: Option<mpsc::Sender<Order>>,
    submitted: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

/// What the writer tells the world after a commit.
#[derive(Clone, Debug)]
pub(crate) struct Signals {
    pub(crate) changes: broadcast::Sender<Change>,
    pub(crate) claimable: Arc<Notify>,
    pub(crate) owed: Arc<Owed>,
    pub(crate) observer: Arc<dyn Observer>,
}

/// That there may be something to deliver, for one who waits; it hears of what came while it did not.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    marked: AtomicBool,
    waiting: Notify,
}

impl Owed {
    /// To be told with the next commit.
    fn mark(&self) {
        self.marked.store(true, Ordering::Relaxed);
    }

    fn committed(&self) {
        if self.marked.swap(false, Ordering::Relaxed) {
            self.waiting.notify_one();
        }
    }

    /// Returns when it was told.
    pub(crate) async fn told(&self) {
        self.waiting.notified().await;
    }
}

impl Writer {
    pub(crate) fn start(
        mut files: Files,
        ring: Arc<Ring>,
        clock: Arc<dyn Clock>,
        rng: Rng,
        default_limits: Limits,
        signals: Signals,
    ) -> std::io::Result<Self> {
        let (commands, waiting) = mpsc::channel(WAITING);
        // Whatever ended a render: a trigger has made the delivery.
        let owed = Arc::clone(&signals.owed);
        let hook = move |action, _: &str, table: &str, _| {
            if action == Action::SQLITE_INSERT && table == "delivery" {
                owed.mark();
            }
        };
        files.connection.update_hook(Some(hook)).map_err(std::io::Error::other)?;
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || {
            run(files, waiting, &ring, clock.as_ref(), rng, default_limits, &signals);
        })?;
        Ok(Self {
            commands: Some(commands),
            submitted: Arc::new(Semaphore::new(SUBMITTED)),
            thread: Some(thread),
        })
    }

    /// Runs `command` in a transaction and returns what it returned once that is on disk.
    ///
    /// # Errors
    /// What the command returned, its writes undone; or that the storage failed.
    pub(crate) async fn run<T, E>(
        &self,
        command: impl FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Error + From<QueueError> + Send + Sync + 'static,
    {
        let (command, answer) = package(1, command);
        let Some(commands) = &self.commands else { return Err(gone().into()) };
        if commands.send(Order::Write(command)).await.is_err() {
            return Err(gone().into());
        }
        answer.await.unwrap_or_else(|_| Err(gone().into()))
    }

    /// Lets `work` have the connection outside of any transaction. Nothing else is written meanwhile.
    pub(crate) async fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let (answer, answered) = oneshot::channel();
        let work = Box::new(move |db: &Connection| {
            let worked = catch_unwind(AssertUnwindSafe(|| work(db)));
            // Nobody waits any more when the caller went away; the work is done all the same.
            drop(answer.send(worked.unwrap_or_else(|panic| Err(panicked(&*panic)))));
        });
        let Some(commands) = &self.commands else { return Err(gone()) };
        if commands.send(Order::Alone(work)).await.is_err() {
            return Err(gone());
        }
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Like [`Writer::run`], for a command that accepts so many renders; refused as busy when too many wait already.
    pub(crate) async fn run_unless_busy<T, E>(
        &self,
        renders: usize,
        command: impl FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Error + From<QueueError> + Send + Sync + 'static,
    {
        // One that is larger than all that may wait goes alone.
        let weight = u32::try_from(renders.clamp(1, SUBMITTED)).unwrap_or(u32::MAX);
        let Ok(permit) = Arc::clone(&self.submitted).try_acquire_many_owned(weight) else {
            return Err(QueueError::Busy.into());
        };
        // Held by the command: it waits on when its caller goes away.
        let (command, answer) = package(renders, move |tx| {
            let _permit = permit;
            command(tx)
        });
        let Some(commands) = &self.commands else { return Err(gone().into()) };
        match commands.try_send(Order::Write(command)) {
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
    weight: usize,
    command: impl FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
) -> (Command, oneshot::Receiver<Result<T, E>>)
where
    T: Send + 'static,
    E: Error + From<QueueError> + Send + Sync + 'static,
{
    let (answer, answered) = oneshot::channel();
    let run = Box::new(move |tx: &mut Tx<'_>| -> Reply {
        let result = in_savepoint(tx, command).unwrap_or_else(|fault| {
            let result = Err(shared(&fault).into());
            tx.effects.fault = Some(fault);
            result
        });
        Box::new(move |committed| {
            let result = match committed {
                Ok(()) => result,
                Err(fault) => Err(shared(fault).into()),
            };
            // Nobody waits any more when the caller went away; the write stands all the same.
            drop(answer.send(result));
        })
    });
    (Command { weight, run }, answered)
}

/// What the command returned, its writes undone if that is an error; or why the whole transaction is beyond use.
fn in_savepoint<T, E>(
    tx: &mut Tx<'_>,
    command: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
) -> Result<Result<T, E>, Fault>
where
    E: Error + From<QueueError> + Send + Sync + 'static,
{
    if let Some(fault) = &tx.effects.fault {
        return Err(Arc::clone(fault));
    }
    let db = tx.db;
    let execute = |sql| match db.prepare_cached(sql).and_then(|mut sql| sql.execute([])) {
        Ok(_) => Ok(()),
        Err(error) => Err(Arc::new(error) as Fault),
    };
    execute("SAVEPOINT command")?;
    let (changed, attempts) = (tx.effects.changed.len(), tx.effects.attempts.len());
    let (claimable, keys) = (tx.effects.claimable, tx.effects.keys.clone());
    let result =
        catch_unwind(AssertUnwindSafe(|| command(tx))).unwrap_or_else(|panic| Err(panicked(&*panic).into()));
    let undone = if result.is_ok() {
        Ok(())
    } else {
        tx.effects.changed.truncate(changed);
        tx.effects.attempts.truncate(attempts);
        tx.effects.claimable = claimable;
        tx.effects.keys = keys;
        execute("ROLLBACK TO command")
    };
    match (undone.and_then(|()| execute("RELEASE command")), result) {
        (Ok(()), result) => Ok(result),
        // On some errors, a full disk for one, SQLite rolls back everything: the command's own error is the cause.
        (Err(_), Err(error)) => Err(Arc::new(error)),
        (Err(fault), Ok(_)) => Err(fault),
    }
}

fn run(
    Files { connection, mut mark, mut checkpointer }: Files,
    mut waiting: mpsc::Receiver<Order>,
    ring: &Ring,
    clock: &dyn Clock,
    mut rng: Rng,
    default_limits: Limits,
    signals: &Signals,
) {
    let db = &connection;
    let mut postponed = None;
    while let Some(first) = postponed.take().or_else(|| waiting.blocking_recv()) {
        let first = match first {
            Order::Write(command) => command,
            Order::Alone(work) => {
                work(db);
                continue;
            }
        };
        let changes = db.total_changes();
        let mut effects = Effects::default();
        if let Err(error) = db.execute_batch("BEGIN IMMEDIATE") {
            effects.fault = Some(Arc::new(error));
        }
        let mut replies = Vec::new();
        let mut weight = 0;
        let mut next = Some(first);
        while let Some(command) = next {
            weight += command.weight;
            let monotonic = i64::try_from(clock.monotonic().as_millis()).unwrap_or(i64::MAX);
            let now = clock.now().as_millisecond();
            replies.push((command.run)(&mut Tx {
                db,
                now,
                monotonic,
                rng: &mut rng,
                default_limits,
                ring,
                effects: &mut effects,
                owed: &signals.owed,
            }));
            next = match waiting.try_recv() {
                Ok(Order::Write(command)) if weight < COMMITTED_TOGETHER => Some(command),
                Ok(order) => {
                    postponed = Some(order);
                    None
                }
                Err(_) => None,
            };
        }
        let committed = match effects.fault {
            None => commit(db, changes).map_err(|error| Arc::new(error) as Fault),
            Some(fault) => Err(fault),
        };
        if let Ok(Some(commits)) = committed
            // The commit itself is on disk, and is not taken back: only the mark lags, until the next one.
            && let Err(error) = mark.raise(commits)
        {
            tracing::error!(%error, "the high-water mark could not be raised");
        }
        if let Err(fault) = &committed {
            tracing::error!(error = fault as &dyn Error, commands = replies.len(), "a transaction failed");
            if !db.is_autocommit()
                && let Err(error) = db.execute_batch("ROLLBACK")
            {
                tracing::error!(%error, "a rollback failed");
            }
        }
        if committed.is_ok()
            && let Some(keys) = effects.keys.take()
        {
            ring.replace(keys);
        }
        // Before anybody is answered: who has heard that a render has ended finds that it is owed.
        if committed.is_ok() {
            signals.owed.committed();
        }
        for reply in replies {
            reply(committed.as_ref().map(drop));
        }
        if committed.is_ok() {
            for render in effects.changed {
                // No listener is no fault.
                drop(signals.changes.send(Change { render }));
            }
            for outcome in effects.attempts {
                signals.observer.attempt_recorded(outcome);
            }
            if effects.claimable {
                signals.claimable.notify_waiters();
            }
        }
        checkpointer.after_commit(db);
    }
    checkpointer.end(db);
}

/// Commits, and counts that if anything was changed since `changes` was read. Returns the new count.
fn commit(db: &Connection, changes: u64) -> rusqlite::Result<Option<u64>> {
    let counted = if db.total_changes() == changes {
        None
    } else {
        Some(
            db.prepare_cached("UPDATE queue SET commits = commits + 1 RETURNING commits")?
                .query_row([], |row| row.get(0))?,
        )
    };
    db.execute_batch("COMMIT")?;
    Ok(counted)
}

/// Any fault of the storage, as the queue's callers see it.
pub(crate) fn storage(error: impl Error + Send + Sync + 'static) -> QueueError {
    kind(&error).unwrap_or(Kind::Other).of(Box::new(error))
}

fn shared(fault: &Fault) -> QueueError {
    kind(fault.as_ref()).unwrap_or(Kind::Other).of(Box::new(Arc::clone(fault)))
}

/// What sort of fault callers can tell apart.
enum Kind {
    NoSpace,
    Damaged(String),
    Other,
}

impl Kind {
    fn of(self, error: Box<dyn Error + Send + Sync>) -> QueueError {
        match self {
            Self::NoSpace => QueueError::NoSpace(error),
            Self::Damaged(what) => QueueError::Damaged { what },
            Self::Other => QueueError::Storage(error),
        }
    }
}

/// Looks for SQLite's word among the causes.
fn kind(error: &(dyn Error + 'static)) -> Option<Kind> {
    if let Some(QueueError::Damaged { what }) = error.downcast_ref() {
        return Some(Kind::Damaged(what.clone()));
    }
    let Some(sqlite) = error.downcast_ref::<rusqlite::Error>() else { return kind(error.source()?) };
    if sqlite.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
        return Some(Kind::NoSpace);
    }
    integrity::what_is_damaged(sqlite).map(Kind::Damaged)
}

#[derive(Debug, thiserror::Error)]
#[error("the store has stopped")]
struct Gone;

fn gone() -> QueueError {
    storage(Gone)
}

#[derive(Debug, thiserror::Error)]
#[error("a write panicked: {0}")]
struct Panicked(String);

fn panicked(panic: &(dyn Any + Send)) -> QueueError {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    storage(Panicked(message.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use lastframe_core::ManualClock;
    use rusqlite::hooks::{AuthAction, AuthContext, Authorization, TransactionOperation};

    use super::*;
    use crate::mark::Reached;

    /// Derefs to its writer.
    struct Notes {
        writer: Option<Writer>,
        folder: tempfile::TempDir,
    }

    impl std::ops::Deref for Notes {
        type Target = Writer;

        fn deref(&self) -> &Writer {
            self.writer.as_ref().unwrap()
        }
    }

    /// A writer over a table of notes that `prepare` has had its hands on.
    fn writer(prepare: impl FnOnce(&mut Connection)) -> Notes {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.db");
        let mut connection = Connection::open(&path).unwrap();
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL;
                CREATE TABLE queue (commits INTEGER NOT NULL);
                INSERT INTO queue VALUES (0);
                CREATE TABLE note (text TEXT NOT NULL CHECK (text <> 'wrong'))",
            )
            .unwrap();
        prepare(&mut connection);
        let checkpointer = Checkpointer::start(&path, &mut connection).unwrap();
        let mark = Mark::set(folder.path(), Reached { database: "notes".into(), commits: 0 }).unwrap();
        let files = Files { connection, mark, checkpointer };
        let signals = Signals {
            changes: broadcast::channel(16).0,
            claimable: Arc::new(Notify::new()),
            owed: Arc::default(),
            observer: Arc::new(()),
        };
        let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let ring = Arc::new(Ring::new(Keys::default()));
        let writer =
            Writer::start(files, ring, clock, Rng::with_seed(1), Limits::default(), signals).unwrap();
        Notes { writer: Some(writer), folder }
    }

    async fn note(writer: &Writer, text: &'static str) -> Result<(), QueueError> {
        writer
            .run(move |tx| tx.db.execute("INSERT INTO note VALUES (?1)", [text]).map(drop).map_err(storage))
            .await
    }

    async fn notes(writer: &Writer) -> Vec<String> {
        writer
            .run(|tx| {
                let mut sql = tx.db.prepare("SELECT text FROM note").map_err(storage)?;
                sql.query_map([], |row| row.get(0)).and_then(Iterator::collect).map_err(storage)
            })
            .await
            .unwrap()
    }

    fn why(result: Result<(), QueueError>) -> String {
        lastframe_core::error_chain(&result.unwrap_err())
    }

    /// Keeps the writer from its next command until the sender is dropped, so that what is sent meanwhile shares
    /// one transaction.
    async fn hold(
        writer: &Writer,
    ) -> (impl Future<Output = Result<(), QueueError>>, std::sync::mpsc::Sender<()>) {
        let (release, released) = std::sync::mpsc::channel();
        let (started, has_started) = oneshot::channel();
        let (command, held) = package::<(), QueueError>(1, move |_| {
            started.send(()).unwrap();
            released.recv().unwrap_err();
            Ok(())
        });
        assert!(writer.commands.as_ref().unwrap().send(Order::Write(command)).await.is_ok());
        has_started.await.unwrap();
        (async { held.await.unwrap() }, release)
    }

    #[tokio::test]
    async fn a_command_that_fails_is_undone_alone() {
        let writer = writer(|_| ());
        let (held, release) = hold(&writer).await;
        let together = async {
            tokio::join!(held, note(&writer, "a"), note(&writer, "wrong"), note(&writer, "b"), async {
                drop(release);
            })
        };
        let (held, a, wrong, b, ()) = together.await;
        assert!(held.is_ok() && a.is_ok() && b.is_ok());
        assert!(why(wrong).contains("CHECK constraint failed"));
        assert_eq!(notes(&writer).await, ["a", "b"]);
    }

    #[tokio::test]
    async fn a_command_that_panics_is_undone_alone_and_its_caller_hears_of_it() {
        let writer = writer(|_| ());
        let panics = writer.run(|tx| -> Result<(), QueueError> {
            tx.db.execute("INSERT INTO note VALUES ('half')", []).map_err(storage)?;
            panic!("out of luck")
        });
        assert!(why(panics.await).contains("a write panicked: out of luck"));
        assert!(note(&writer, "a").await.is_ok());
        assert_eq!(notes(&writer).await, ["a"]);
    }

    #[tokio::test]
    async fn when_a_transaction_cannot_begin_its_caller_hears_why_and_the_next_one_can() {
        let writer = writer(|db| db.execute_batch("BEGIN").unwrap());
        assert!(why(note(&writer, "a").await).contains("cannot start a transaction within a transaction"));
        assert!(note(&writer, "b").await.is_ok());
        assert_eq!(notes(&writer).await, ["b"]);
    }

    #[tokio::test]
    async fn when_a_commit_fails_nothing_of_it_is_there_and_its_caller_hears_why() {
        let mut fails = true;
        let writer = writer(|db| db.commit_hook(Some(move || std::mem::take(&mut fails))).unwrap());
        assert!(why(note(&writer, "a").await).contains("constraint failed"));
        assert!(note(&writer, "b").await.is_ok());
        assert_eq!(notes(&writer).await, ["b"]);
    }

    #[tokio::test]
    async fn when_sqlite_gives_up_the_transaction_all_in_it_hear_why_and_nothing_of_them_is_there() {
        let give_up = "CREATE TRIGGER give_up BEFORE INSERT ON note WHEN NEW.text = 'full' \
            BEGIN SELECT RAISE(ROLLBACK, 'the disk is full'); END";
        let writer = writer(|db| db.execute_batch(give_up).unwrap());
        let (held, release) = hold(&writer).await;
        let together = async {
            tokio::join!(held, note(&writer, "a"), note(&writer, "full"), note(&writer, "b"), async {
                drop(release);
            })
        };
        let (held, a, full, b, ()) = together.await;
        for result in [held, a, full, b] {
            assert!(why(result).contains("the disk is full"));
        }
        assert!(note(&writer, "c").await.is_ok());
        assert_eq!(notes(&writer).await, ["c"]);
    }

    #[tokio::test]
    async fn what_cannot_be_undone_alone_is_never_committed() {
        let deny = |context: AuthContext<'_>| match context.action {
            AuthAction::Savepoint { operation: TransactionOperation::Rollback, .. } => Authorization::Deny,
            _ => Authorization::Allow,
        };
        let writer = writer(|db| db.authorizer(Some(deny)).unwrap());
        let half = writer.run(|tx| -> Result<(), QueueError> {
            tx.db.execute("INSERT INTO note VALUES ('half')", []).map_err(storage)?;
            Err(QueueError::Busy)
        });
        assert!(why(half.await).contains("the queue is busy"));
        assert!(note(&writer, "a").await.is_ok());
        assert_eq!(notes(&writer).await, ["a"]);
    }

    #[tokio::test]
    async fn work_that_needs_to_be_alone_finds_no_transaction_and_what_was_asked_before_it_written() {
        let writer = writer(|_| ());
        let (held, release) = hold(&writer).await;
        let work = writer.alone(|db| {
            assert!(db.is_autocommit());
            db.query_row("SELECT count(*) FROM note", [], |row| row.get(0)).map_err(storage)
        });
        let together = async {
            tokio::join!(held, note(&writer, "a"), work, note(&writer, "b"), async { drop(release) })
        };
        let (held, a, seen, b, ()) = together.await;
        assert!(held.is_ok() && a.is_ok() && b.is_ok());
        let seen: i64 = seen.unwrap();
        assert_eq!(seen, 1);
        assert_eq!(notes(&writer).await, ["a", "b"]);
    }

    #[tokio::test]
    async fn what_was_sent_before_the_end_is_written_before_the_end() {
        let mut writer = writer(|_| ());
        let (command, answer) =
            package(1, |tx: &mut Tx<'_>| tx.db.execute("INSERT INTO note VALUES ('a')", []).map_err(storage));
        assert!(writer.commands.as_ref().unwrap().try_send(Order::Write(command)).is_ok());
        writer.writer = None;
        assert_eq!(answer.await.unwrap().unwrap(), 1);
    }

    #[tokio::test]
    async fn the_mark_follows_every_commit_that_changed_something_before_anybody_is_answered() {
        let writer = writer(|_| ());
        for commits in 1..=3 {
            assert!(note(&writer, "a").await.is_ok());
            assert_eq!(Mark::read(writer.folder.path()).unwrap().unwrap().commits, commits);
            assert_eq!(notes(&writer).await.len() as u64, commits);
        }
    }

    #[tokio::test]
    async fn the_log_stays_short_however_much_is_written() {
        let writer = writer(|_| ());
        let log = writer.folder.path().join("notes.db-wal");
        for _ in 0..1_000 {
            let text = "x".repeat(60_000);
            let written = writer.run(move |tx| {
                tx.db.execute("INSERT INTO note VALUES (?1)", [text]).map(drop).map_err(storage)
            });
            written.await.unwrap();
        }
        let length = std::fs::metadata(log).unwrap().len();
        assert!(length < 16 << 20, "60 MB were written, and {length} bytes are in the log");
    }
}
