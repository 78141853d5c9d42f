//! What each attempt said, in a file of its own, bounded; or, where files do not stay, in the log of the program.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use lastframe_core::{Clock, RenderId};

/// The longest log of one attempt, in bytes. Beyond it, lines are dropped and the log says so.
const LIMIT: u64 = 1 << 20;

/// The folder of logs: `{render}/{attempt}.log`.
#[derive(Clone, Debug)]
pub struct Logs {
    folder: PathBuf,
    /// Nothing is written there: lines go to the log of the program.
    aloud: bool,
    clock: Arc<dyn Clock>,
}

impl Logs {
    /// Logs below `folder`.
    pub fn new(folder: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self { folder: folder.into(), aloud: false, clock }
    }

    /// Logs that are lines of the program's own, each with its render and attempt. Their folder stays empty.
    pub fn aloud(folder: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self { folder: folder.into(), aloud: true, clock }
    }

    /// Whether they are in the log of the program alone.
    #[must_use]
    pub fn are_aloud(&self) -> bool {
        self.aloud
    }

    /// Where the log of an attempt is, whether or not it exists.
    #[must_use]
    pub fn path(&self, render: RenderId, attempt: u32) -> PathBuf {
        self.folder(render).join(format!("{attempt}.log"))
    }

    /// Where the logs of all its attempts are, if there are any.
    #[must_use]
    pub fn folder(&self, render: RenderId) -> PathBuf {
        self.folder.join(render.to_string())
    }

    /// Removes the logs of renders of which no attempt has said anything since `time`, for who knows of no other reason to
    /// forget them. Returns how many renders they were of.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn forget_before(&self, time: jiff::Timestamp) -> io::Result<usize> {
        let mut forgotten = 0;
        for render in std::fs::read_dir(&self.folder)? {
            let folder = render?.path();
            let said = |file: io::Result<std::fs::DirEntry>| file?.metadata()?.modified();
            let last = std::fs::read_dir(&folder)?.map(said).collect::<io::Result<Vec<_>>>()?.into_iter().max();
            let last = last.map(jiff::Timestamp::try_from).transpose().map_err(io::Error::other)?;
            if last.is_none_or(|last| last < time) {
                std::fs::remove_dir_all(folder)?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    /// Wall time.
    #[must_use]
    pub fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    /// Opens the log of an attempt, at its end.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(&self, render: RenderId, attempt: u32) -> io::Result<AttemptLog> {
        if self.aloud {
            let place = Place::Aloud(render, attempt);
            return Ok(AttemptLog { place, written: 0, clock: Arc::clone(&self.clock) });
        }
        let path = self.path(render, attempt);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let written = file.metadata()?.len();
        Ok(AttemptLog { place: Place::File(file), written, clock: Arc::clone(&self.clock) })
    }
}

/// The log of one attempt, open. Lines are short and rare, so they are written where they come up.
#[derive(Debug)]
pub struct AttemptLog {
    place: Place,
    written: u64,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
enum Place {
    File(File),
    Aloud(RenderId, u32),
}

impl AttemptLog {
    /// Adds a line. A disk that does not take it costs the line, never the render.
    pub fn line(&mut self, source: &str, text: &str) {
        if self.written >= LIMIT {
            return;
        }
        let mut line = format!("{:.3} {source:<8} {text}\n", self.clock.now());
        if self.written + line.len() as u64 > LIMIT {
            line = format!("(the log is cut at {LIMIT} bytes)\n");
            self.written = LIMIT;
        }
        let written = match &mut self.place {
            Place::File(file) => file.write_all(line.as_bytes()),
            Place::Aloud(render, attempt) => {
                tracing::info!(render.id = %render, attempt, source, "{text}");
                Ok(())
            }
        };
        match written {
            Ok(()) => self.written += line.len() as u64,
            Err(error) => {
                tracing::warn!(%error, "the log of the attempt cannot be written");
                self.written = LIMIT;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use lastframe_core::SystemClock;

    use super::*;

    #[test]
    fn logs_are_forgotten_when_nothing_was_said_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::new(folder.path(), Arc::new(SystemClock::new()));
        let render: RenderId = "0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f1a".parse().unwrap();
        logs.create(render, 1).unwrap().line("worker", "hello");
        assert_eq!(logs.forget_before(logs.now() - SignedDuration::from_hours(1)).unwrap(), 0);
        assert!(logs.path(render, 1).exists());
        assert_eq!(logs.forget_before(logs.now() + SignedDuration::from_hours(1)).unwrap(), 1);
        assert!(!logs.folder(render).exists());
    }
}
