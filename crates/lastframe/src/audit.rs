//! Who did what: one line for each request that changes something, and for each that was refused.
//!
//! Lines go to `audit/YYYY-MM.jsonl` of the data folder through a queue and a thread of their own. They are not synced:
//! power loss may cost the last seconds of them, and no request waits for the disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use lastframe_core::{Clock, RenderId};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Lines that may wait for the disk. What comes when so many do is lost, and counted.
const WAITING: usize = 10_000;
/// Lines about nobody in particular, for each minute: who has no token shall not fill the disk.
const ANONYMOUS: u32 = 600;
/// The longest path that is written down, in bytes.
const LONGEST_PATH: usize = 300;
/// The most that is read to answer one question, in bytes.
const MOST_READ: u64 = 256 << 20;
/// What is read at a time.
const PIECE: u64 = 64 << 10;
/// How often old months are looked for.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// How far a clock may have gone back between two lines.
const DISORDER: SignedDuration = SignedDuration::from_hours(1);

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditEntry)]
pub(crate) struct Entry {
    /// When it was answered.
    pub(crate) time: Timestamp,
    /// The answer's `X-Request-Id`; log lines have it too.
    pub(crate) request_id: String,
    /// Whose token it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    /// Who the token was given to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    /// Which token, where it has a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_id: Option<String>,
    /// Method and route, such as `POST /v1/renders/{id}/cancel`.
    pub(crate) action: String,
    /// The path itself, percent-encoded, without its query.
    pub(crate) path: String,
    /// Renders that were accepted, or queued again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub(crate) renders: Vec<RenderId>,
    /// What was answered; absent when the client left before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    /// The answer's `code`, where it was a problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    /// The other end of the connection: a proxy's address where there is a proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remote: Option<String>,
    /// So many lines about nobody in particular were left out before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) omitted: Option<u64>,
}

impl Entry {
    /// As much of a path as is written down.
    pub(crate) fn shorten(path: &str) -> String {
        // Paths are ASCII, so every byte is the end of a character.
        path.get(..LONGEST_PATH).unwrap_or(path).to_owned()
    }

    /// Makes it a line of the log, its fields under the names that the file has.
    fn say(&self) {
        let renders: Vec<_> = self.renders.iter().map(RenderId::to_string).collect();
        tracing::info!(
            target: "audit",
            requestId = self.request_id,
            tenant = self.tenant,
            subject = self.subject,
            tokenId = self.token_id,
            action = self.action,
            path = self.path,
            renders = (!renders.is_empty()).then(|| renders.join(" ")),
            status = self.status,
            code = self.code,
            remote = self.remote,
            omitted = self.omitted,
            "audit"
        );
    }
}

tokio::task_local! {
    /// What the request under way has told about itself.
    pub(crate) static TRAIL: Arc<Trail>;
}

/// What becomes known about a request while it is worked on.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    actor: OnceLock<Actor>,
    renders: Mutex<Vec<RenderId>>,
}

/// Who is asking.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    pub(crate) tenant: String,
    pub(crate) subject: String,
    pub(crate) token_id: Option<String>,
}

impl Trail {
    pub(crate) fn actor(&self) -> Option<&Actor> {
        self.actor.get()
    }

    pub(crate) fn take_renders(&self) -> Vec<RenderId> {
        std::mem::take(&mut self.renders.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Tells who is behind the request under way.
pub(crate) fn acts(actor: Actor) {
    // A second time it is the same one; outside a request nobody asks.
    drop(TRAIL.try_with(|trail| trail.actor.set(actor)));
}

/// Tells which renders the request under way has put into the queue.
pub(crate) fn queued(renders: impl IntoIterator<Item = RenderId>) {
    let told = |trail: &Arc<Trail>| {
        trail.renders.lock().unwrap_or_else(PoisonError::into_inner).extend(renders);
    };
    TRAIL.try_with(told).ok();
}

/// The log, open.
#[derive(Clone, Debug)]
pub(crate) struct Audit {
    folder: Arc<Path>,
    /// None where lines go to the log of the program.
    words: Option<SyncSender<Word>>,
    lost: Arc<AtomicU64>,
    anonymous: Arc<Mutex<Minute>>,
}

enum Word {
    Write(Box<Entry>),
    Flush(oneshot::Sender<()>),
}

/// How many lines about nobody in particular a minute has had.
#[derive(Debug, Default)]
struct Minute {
    number: i64,
    lines: u32,
    omitted: u64,
}

impl Audit {
    /// Lines that are the log's own: for where files do not stay. They cannot be read here.
    pub(crate) fn aloud() -> Self {
        Self { folder: Path::new("").into(), words: None, lost: Arc::default(), anonymous: Arc::default() }
    }

    /// Whether they are in the log of the program alone.
    pub(crate) fn is_aloud(&self) -> bool {
        self.words.is_none()
    }

    /// Makes the folder if it is missing, and starts the thread.
    pub(crate) fn open(folder: PathBuf) -> anyhow::Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let (words, heard) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer { folder: folder.clone(), lost: Arc::clone(&lost), open: None };
        std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || writer.run(&heard))
            .context("cannot start the thread of the audit log")?;
        Ok(Self { folder: folder.into(), words: Some(words), lost, anonymous: Arc::default() })
    }

    /// Writes a line, soon. Never waits.
    pub(crate) fn record(&self, mut entry: Entry) {
        {
            let mut minute = self.anonymous.lock().unwrap_or_else(PoisonError::into_inner);
            let number = entry.time.as_second().div_euclid(60);
            if minute.number != number {
                (minute.number, minute.lines) = (number, 0);
            }
            if entry.subject.is_none() {
                if minute.lines >= ANONYMOUS {
                    minute.omitted += 1;
                    return;
                }
                minute.lines += 1;
            }
            entry.omitted = Some(std::mem::take(&mut minute.omitted)).filter(|omitted| *omitted > 0);
        }
        let Some(words) = &self.words else { return entry.say() };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            words.try_send(Word::Write(Box::new(entry)))
            && self.lost.fetch_add(1, Ordering::Relaxed) == 0
        {
            tracing::error!("the audit log is not written fast enough: lines are lost, and counted");
        }
    }

    /// Returns when all that was recorded is written.
    pub(crate) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        let Some(words) = self.words.clone() else { return };
        // The queue may be full, and a full queue is waited for.
        let sent = tokio::task::spawn_blocking(move || words.send(Word::Flush(done))).await;
        if matches!(sent, Ok(Ok(()))) {
            drop(written.await);
        }
    }

    /// Lines that could not be written since the start.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// What was written, newest first.
    pub(crate) async fn read(&self, question: Question) -> io::Result<Page> {
        self.flush().await;
        let folder = Arc::clone(&self.folder);
        tokio::task::spawn_blocking(move || question.answer(&folder)).await.map_err(io::Error::other)?
    }

    /// Removes months of which even the last line is older than `keep`, now and every hour, until told to stop.
    pub(crate) async fn forget(self, keep: Duration, clock: Arc<dyn Clock>, close: CancellationToken) {
        let keep = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
        let mut every = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                () = close.cancelled() => return,
                _ = every.tick() => {}
            }
            let Ok(horizon) = clock.now().checked_sub(keep) else { continue };
            if let Err(error) = forget(&self.folder, horizon) {
                tracing::error!(%error, "cannot remove old months of the audit log");
            }
        }
    }
}

fn forget(folder: &Path, horizon: Timestamp) -> io::Result<()> {
    for month in months(folder)?.into_iter().filter(|month| *month < month_of(horizon)) {
        std::fs::remove_file(file_of(folder, &month))?;
        tracing::info!(month, "an old month of the audit log was removed");
    }
    Ok(())
}

/// In UTC, so that names are in order.
fn month_of(time: Timestamp) -> String {
    time.strftime("%Y-%m").to_string()
}

fn file_of(folder: &Path, month: &str) -> PathBuf {
    folder.join(format!("{month}.jsonl"))
}

/// The months there are, newest first.
fn months(folder: &Path) -> io::Result<Vec<String>> {
    let mut months = Vec::new();
    for file in std::fs::read_dir(folder)? {
        let name = file?.file_name();
        let month = name.to_str().and_then(|name| name.strip_suffix(".jsonl"));
        months.extend(month.filter(|month| month.len() == "2026-03".len()).map(str::to_owned));
    }
    months.sort_unstable_by(|one, other| other.cmp(one));
    Ok(months)
}

/// The other end of the queue.
struct Writer {
    folder: PathBuf,
    lost: Arc<AtomicU64>,
    open: Option<(String, File)>,
}

impl Writer {
    fn run(mut self, heard: &Receiver<Word>) {
        while let Ok(first) = heard.recv() {
            let (mut month, mut text, mut lines) = (String::new(), Vec::new(), 0);
            let mut flushed = Vec::new();
            for word in std::iter::once(first).chain(heard.try_iter().take(WAITING)) {
                match word {
                    Word::Flush(done) => flushed.push(done),
                    Word::Write(entry) => {
                        let now = month_of(entry.time);
                        if now != month {
                            self.write(&month, &mut text, &mut lines);
                            month = now;
                        }
                        if serde_json::to_writer(&mut text, &entry).is_ok() {
                            text.push(b'\n');
                            lines += 1;
                        }
                    }
                }
            }
            self.write(&month, &mut text, &mut lines);
            for done in flushed {
                // Who asked may have gone.
                done.send(()).ok();
            }
        }
    }

    fn write(&mut self, month: &str, text: &mut Vec<u8>, lines: &mut u64) {
        if text.is_empty() {
            return;
        }
        if let Err(error) = self.append(month, text) {
            // Opened anew next time, so that half a line is noticed.
            self.open = None;
            self.lost.fetch_add(*lines, Ordering::Relaxed);
            tracing::error!(%error, lines, "the audit log cannot be written: these lines are lost");
        }
        (*lines, *text) = (0, Vec::new());
    }

    fn append(&mut self, month: &str, text: &[u8]) -> io::Result<()> {
        let (_, file) = match self.open.take().filter(|(open, _)| open == month) {
            Some(open) => self.open.insert(open),
            None => {
                let path = file_of(&self.folder, month);
                let mut file =
                    OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
                let size = file.metadata()?.len();
                let mut last = [b'\n'];
                if size > 0 {
                    file.read_exact_at(&mut last, size - 1)?;
                }
                if last != *b"\n" {
                    file.write_all(b"\n")?;
                }
                self.open.insert((month.to_owned(), file))
            }
        };
        file.write_all(text)
    }
}

/// Which lines are wanted.
#[derive(Debug, Default)]
pub(crate) struct Question {
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) tenant: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) limit: usize,
}

/// Some lines.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Newest first.
    pub(crate) entries: Vec<Entry>,
    /// Where to go on with what is older.
    pub(crate) next_until: Option<Timestamp>,
}

impl Question {
    fn answer(&self, folder: &Path) -> io::Result<Page> {
        let mut page = Page::default();
        let (from, to) = (self.since.map(month_of), self.until.map(month_of));
        let mut left = MOST_READ;
        for month in months(folder)? {
            if to.as_ref().is_some_and(|to| month > *to) {
                continue;
            }
            if from.as_ref().is_some_and(|from| month < *from) {
                break;
            }
            let mut lines = Backwards::open(&file_of(folder, &month))?;
            while let Some(line) = lines.next()? {
                // Half a line of a crash, or somebody's own.
                let Ok(entry) = serde_json::from_slice::<Entry>(&line) else { continue };
                let time = entry.time;
                if self.since.is_some_and(|since| time < since.saturating_sub(DISORDER).unwrap_or(since)) {
                    return Ok(page);
                }
                left = left.saturating_sub(line.len() as u64 + 1);
                if self.wants(&entry) {
                    page.entries.push(entry);
                }
                if page.entries.len() >= self.limit || left == 0 {
                    page.next_until = Some(time);
                    return Ok(page);
                }
            }
        }
        Ok(page)
    }

    fn wants(&self, entry: &Entry) -> bool {
        self.since.is_none_or(|since| entry.time >= since)
            && self.until.is_none_or(|until| entry.time < until)
            && (self.tenant.is_none() || self.tenant == entry.tenant)
            && (self.subject.is_none() || self.subject == entry.subject)
    }
}

/// The lines of a file, last first.
struct Backwards {
    file: File,
    /// Where what is read begins.
    at: u64,
    read: Vec<u8>,
}

impl Backwards {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let at = file.metadata()?.len();
        Ok(Self { file, at, read: Vec::new() })
    }

    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.read.iter().rposition(|byte| *byte == b'\n') {
                let line = self.read.split_off(end + 1);
                self.read.pop();
                return Ok(Some(line));
            }
            if self.at == 0 {
                return Ok(Some(std::mem::take(&mut self.read)).filter(|line| !line.is_empty()));
            }
            let size = self.at.min(PIECE);
            self.at -= size;
            self.file.seek(SeekFrom::Start(self.at))?;
            let mut piece = Vec::new();
            (&self.file).take(size).read_to_end(&mut piece)?;
            piece.append(&mut self.read);
            self.read = piece;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(time: &str, subject: Option<&str>) -> Entry {
        Entry {
            time: time.parse().unwrap(),
            request_id: "r".into(),
            tenant: subject.map(|_| "acme".into()),
            subject: subject.map(str::to_owned),
            token_id: None,
            action: "POST /v1/renders".into(),
            path: "/v1/renders".into(),
            renders: Vec::new(),
            status: Some(202),
            code: None,
            remote: None,
            omitted: None,
        }
    }

    fn times(page: &Page) -> Vec<String> {
        page.entries.iter().map(|entry| entry.time.to_string()).collect()
    }

    #[tokio::test]
    async fn what_was_written_is_read_newest_first_month_after_month_and_page_after_page() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path().join("audit")).unwrap();
        let written =
            ["2026-01-31T23:59:59Z", "2026-02-01T00:00:00Z", "2026-02-02T00:00:00Z", "2026-03-01T00:00:00Z"];
        for (index, time) in written.into_iter().enumerate() {
            audit.record(entry(time, Some(if index % 2 == 0 { "ann" } else { "bob" })));
        }
        let all = audit.read(Question { limit: 10, ..Question::default() }).await.unwrap();
        let mut newest_first = written.to_vec();
        newest_first.reverse();
        assert_eq!(
            (times(&all), all.next_until),
            (newest_first.iter().map(ToString::to_string).collect(), None)
        );
        let first = audit.read(Question { limit: 3, ..Question::default() }).await.unwrap();
        assert_eq!(times(&first), newest_first[..3]);
        let rest = Question { limit: 3, until: first.next_until, ..Question::default() };
        assert_eq!(times(&audit.read(rest).await.unwrap()), newest_first[3..]);
        let ann = Question { subject: Some("ann".into()), limit: 9, ..Question::default() };
        assert_eq!(times(&audit.read(ann).await.unwrap()), [written[2], written[0]]);
        let february = Question {
            since: Some("2026-02-01T00:00:00Z".parse().unwrap()),
            until: Some("2026-03-01T00:00:00Z".parse().unwrap()),
            limit: 9,
            ..Question::default()
        };
        assert_eq!(times(&audit.read(february).await.unwrap()), [written[2], written[1]]);
        forget(&folder.path().join("audit"), "2026-03-01T00:00:00Z".parse().unwrap()).unwrap();
        let kept = audit.read(Question { limit: 9, ..Question::default() }).await.unwrap();
        assert_eq!(times(&kept), [written[3]]);
        assert_eq!(audit.lost(), 0);
    }

    #[tokio::test]
    async fn half_a_line_of_a_crash_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("2026-03.jsonl"), "{\"time\": \"2026-03-01T").unwrap();
        let audit = Audit::open(folder.path().into()).unwrap();
        let long = Entry { code: Some("x".repeat(200_000)), ..entry("2026-03-02T00:00:00Z", Some("ann")) };
        audit.record(long);
        audit.record(entry("2026-03-03T00:00:00Z", Some("ann")));
        let page = audit.read(Question { limit: 9, ..Question::default() }).await.unwrap();
        assert_eq!(times(&page), ["2026-03-03T00:00:00Z", "2026-03-02T00:00:00Z"]);
    }

    #[tokio::test]
    async fn who_has_no_token_cannot_fill_the_disk_and_how_much_was_left_out_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path().into()).unwrap();
        for _ in 0..ANONYMOUS + 7 {
            audit.record(entry("2026-03-01T00:00:00Z", None));
        }
        audit.record(entry("2026-03-01T00:00:01Z", Some("ann")));
        audit.record(entry("2026-03-01T00:01:00Z", None));
        let page = audit.read(Question { limit: 10_000, ..Question::default() }).await.unwrap();
        assert_eq!(page.entries.len(), ANONYMOUS as usize + 2);
        assert_eq!((page.entries[0].omitted, page.entries[1].omitted), (None, Some(7)));
    }

    #[tokio::test]
    async fn lines_that_cannot_be_written_are_counted_and_later_ones_are_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path().into()).unwrap();
        let month = folder.path().join("2026-03.jsonl");
        std::fs::create_dir(&month).unwrap();
        audit.record(entry("2026-03-01T00:00:00Z", Some("ann")));
        audit.flush().await;
        assert_eq!(audit.lost(), 1);
        std::fs::remove_dir(&month).unwrap();
        audit.record(entry("2026-03-02T00:00:00Z", Some("ann")));
        let page = audit.read(Question { limit: 9, ..Question::default() }).await.unwrap();
        assert_eq!(times(&page), ["2026-03-02T00:00:00Z"]);
    }
}
