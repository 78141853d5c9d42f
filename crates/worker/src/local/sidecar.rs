//! One sidecar: a Node process with Remotion and a warm browser, under a supervisor.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use lastframe_core::site::Composition;
use lastframe_core::{Failure, Kind, Phase, RenderRequest, verify::Probe};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::time::{Instant, timeout};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

use super::Options;
use super::supervise::{MARK, reap};

/// The longest line of the protocol: a site's compositions with their default props.
const LONGEST_LINE: usize = 64 << 20;
/// How much of what is printed is kept, in lines, until somebody takes it.
const PRINTED: usize = 200;
/// How long a supervisor may take to end what it supervises.
const STOP: Duration = Duration::from_secs(10);
/// How long Node and Remotion may take to come up.
const START: Duration = Duration::from_secs(60);

/// What a sidecar is asked to do.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Command<'a> {
    Render {
        id: &'a str,
        kind: Kind,
        serve_url: &'a Path,
        output_location: &'a Path,
        temporary: &'a Path,
        concurrency: usize,
        options: &'a RenderRequest,
    },
    Compositions {
        id: &'a str,
        serve_url: &'a Path,
        options: &'a Map<String, Value>,
    },
}

/// What it says.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Event {
    Ready {
        remotion_version: String,
    },
    Alive {
        rss_in_bytes: u64,
        #[serde(default)]
        browser_rss_in_bytes: u64,
    },
    Started {
        composition: Composition,
        frame_count: u32,
        width: u32,
        height: u32,
        duration_in_seconds: f64,
    },
    Progress {
        phase: Phase,
        frames_rendered: u32,
        progress: f64,
    },
    Log {
        level: String,
        text: String,
    },
    Finished {
        size_in_bytes: u64,
        probe: Box<Probe>,
    },
    Failed {
        error: Failure,
    },
    Compositions {
        compositions: Vec<Composition>,
    },
}

/// Why a sidecar is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum SidecarError {
    #[error("cannot start the sidecar")]
    Start(#[source] std::io::Error),
    #[error(
        "there is no @remotion/renderer {0} on the server's machine any more: run `lastframe renderer add {0}` there, or add the site \
         again, and retry the render"
    )]
    NoRenderer(String),
    #[error("the sidecar did not come up within {} s", START.as_secs())]
    Slow,
    #[error("the sidecar is gone{}", said(.0))]
    Gone(Vec<String>),
    #[error("the sidecar speaks nonsense")]
    Nonsense(#[source] serde_json::Error),
}

impl SidecarError {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Start(_) | Self::Slow => "sidecar_not_started",
            Self::NoRenderer(_) => "renderer_missing",
            Self::Gone(_) => "sidecar_gone",
            Self::Nonsense(_) => "internal",
        }
    }
}

fn said(lines: &[String]) -> String {
    if lines.is_empty() { String::new() } else { format!("; it last said: {}", lines.join(" | ")) }
}

#[derive(Debug)]
pub(super) struct Sidecar {
    supervisor: Child,
    commands: ChildStdin,
    events: FramedRead<ChildStdout, LinesCodec>,
    printed: Arc<Mutex<VecDeque<String>>>,
    folder: PathBuf,
    sites: PathBuf,
    started_at: Instant,
    pub(super) renders: u32,
    memory: Arc<AtomicU64>,
}

impl Sidecar {
    /// Starts one whose files, browser profile and temporary files live in `folder`.
    pub(super) async fn start(
        options: &Options,
        script: &Path,
        folder: PathBuf,
        renderer: &Path,
    ) -> Result<Self, SidecarError> {
        let home = folder.join("home");
        std::fs::create_dir_all(&home).map_err(SidecarError::Start)?;
        let Some((supervisor, words)) = options.supervisor.split_first() else {
            return Err(SidecarError::Start(std::io::Error::other("no supervisor configured")));
        };
        let mut command = tokio::process::Command::new(supervisor);
        command
            .args(words)
            .arg(&options.node)
            .arg(script)
            // Nothing of the server's environment: it may hold credentials.
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &home)
            .env("TMPDIR", &folder)
            .env("TZ", &options.timezone)
            .env("LANG", &options.locale)
            .env(MARK, &folder)
            .env("LASTFRAME_RENDERER", renderer)
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C at the terminal is for the server; what becomes of its sidecars is the server's decision.
            .process_group(0);
        if let Some(browser) = &options.browser {
            command.env("LASTFRAME_BROWSER", browser);
        }
        let mut supervisor = command.spawn().map_err(SidecarError::Start)?;
        let (Some(commands), Some(events), Some(stderr)) =
            (supervisor.stdin.take(), supervisor.stdout.take(), supervisor.stderr.take())
        else {
            return Err(SidecarError::Start(std::io::Error::other("a pipe is missing")));
        };
        let printed = Arc::new(Mutex::new(VecDeque::new()));
        tokio::spawn(keep_printed(stderr, Arc::clone(&printed)));
        let mut sidecar = Self {
            supervisor,
            commands,
            events: FramedRead::new(events, LinesCodec::new_with_max_length(LONGEST_LINE)),
            printed,
            folder,
            sites: options.sites.clone(),
            started_at: Instant::now(),
            renders: 0,
            memory: Arc::new(AtomicU64::new(0)),
        };
        let ready = timeout(START, async {
            loop {
                match sidecar.next().await? {
                    Event::Ready { remotion_version } => {
                        tracing::debug!(remotion_version, "sidecar ready");
                        return Ok(());
                    }
                    _ => continue,
                }
            }
        });
        match ready.await {
            Ok(Ok(())) => Ok(sidecar),
            Ok(Err(error)) => {
                sidecar.stop().await;
                Err(error)
            }
            Err(_) => {
                sidecar.stop().await;
                Err(SidecarError::Slow)
            }
        }
    }

    pub(super) async fn send(&mut self, command: &Command<'_>) -> Result<(), SidecarError> {
        let mut line = serde_json::to_vec(command).map_err(SidecarError::Nonsense)?;
        // Props come as their author wrote them. A line break between two tokens means no more than a space; within
        // a string JSON has none.
        line.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
        line.push(b'\n');
        let written = async {
            self.commands.write_all(&line).await?;
            self.commands.flush().await
        };
        if written.await.is_err() {
            return Err(self.gone());
        }
        Ok(())
    }

    /// What it says next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Event, SidecarError> {
        let line = match self.events.next().await {
            Some(Ok(line)) => line,
            None | Some(Err(LinesCodecError::Io(_))) => return Err(self.gone()),
            Some(Err(error @ LinesCodecError::MaxLineLengthExceeded)) => {
                return Err(SidecarError::Nonsense(serde::de::Error::custom(error)));
            }
        };
        let event = serde_json::from_str(&line).map_err(SidecarError::Nonsense)?;
        if let Event::Alive { rss_in_bytes, browser_rss_in_bytes } = event {
            self.memory.store(rss_in_bytes + browser_rss_in_bytes, Ordering::Relaxed);
        }
        Ok(event)
    }

    /// Whether there is something to be read from it at once.
    pub(super) fn has_spoken(&self) -> bool {
        let pipe = self.events.get_ref();
        let mut watched = [PollFd::new(pipe, PollFlags::IN)];
        poll(&mut watched, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Ends it with everything it started, and returns when all of that is gone.
    pub(super) async fn stop(self) {
        let Self { mut supervisor, commands, events, folder, .. } = self;
        drop((commands, events));
        if !matches!(timeout(STOP, supervisor.wait()).await, Ok(Ok(_)))
            && let Err(error) = supervisor.kill().await
        {
            tracing::error!(%error, "cannot end a supervisor");
        }
        // Finds something only if the supervisor could not do its work, because it was stopped or killed itself.
        let marked = folder.clone();
        match tokio::task::spawn_blocking(move || reap(&marked)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(processes)) => tracing::warn!(processes, "stopped what a supervisor had left running"),
            Ok(Err(error)) => tracing::error!(%error, "cannot stop what a supervisor had left running"),
            Err(error) => tracing::error!(%error, "looking for leftovers panicked"),
        }
        if let Err(error) = tokio::fs::remove_dir_all(&folder).await {
            tracing::warn!(%error, folder = %folder.display(), "cannot remove the scratch folder of a sidecar");
        }
    }

    /// Where the bundle of that version lies.
    pub(super) fn site(&self, version: &str) -> PathBuf {
        self.sites.join(version)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn age(&self) -> Duration {
        self.started_at.elapsed()
    }

    /// Bytes that it and its browser hold, as it said last.
    pub(super) fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    /// Reads away what it said while it had nothing to do. False when it is of no use any more.
    pub(super) fn catch_up(&mut self) -> bool {
        use futures_util::FutureExt as _;
        loop {
            match self.next().now_or_never() {
                Some(Ok(_)) => {}
                Some(Err(_)) => return false,
                None => return true,
            }
        }
    }

    /// What Remotion, the browser and Node printed since the last time, at most [`PRINTED`] lines of it.
    pub(super) fn take_output(&self) -> Vec<String> {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    fn gone(&self) -> SidecarError {
        let mut lines = self.take_output();
        SidecarError::Gone(lines.split_off(lines.len().saturating_sub(5)))
    }
}

/// Keeps the end of what is printed. Always reads on: a full pipe would stop the sidecar.
async fn keep_printed(mut stderr: ChildStderr, printed: Arc<Mutex<VecDeque<String>>>) {
    let mut chunk = vec![0; 8 << 10];
    let mut line = Vec::new();
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        for byte in &chunk[..read] {
            if *byte == b'\n' {
                let mut printed = printed.lock().unwrap_or_else(PoisonError::into_inner);
                if printed.len() == PRINTED {
                    printed.pop_front();
                }
                printed.push_back(String::from_utf8_lossy(&line).into_owned());
                line.clear();
            } else if line.len() < 2_000 {
                line.push(*byte);
            }
        }
    }
}
