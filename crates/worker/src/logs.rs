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
                tracing::info!(target: "render.log", render.id = %render, attempt, source, "{text}");
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
