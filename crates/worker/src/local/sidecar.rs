//! One sidecar: a Node process with Remotion and a warm browser, under a supervisor.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use lastframe_core::net::HostRule;
use lastframe_core::site::Composition;
use lastframe_core::{Failure, Kind, Phase, RenderRequest, verify::Probe};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpListener, UnixStream};
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::private::Private;
use super::scratch::Scratch;
use super::supervise::{MARK, reap};
use super::walls::{User, Walls, free_port};
use super::{BROWSER, Options, SCRIPT, proxy};

/// The longest line of the protocol: a site's compositions with their default props.
const LONGEST_LINE: usize = 64 << 20;
/// How much of what is printed is kept, in lines, until somebody takes it.
const PRINTED: usize = 200;
/// How long a supervisor may take to end what it supervises.
const STOP: Duration = Duration::from_secs(10);
/// How long what it printed may still be on its way when it is gone.
const LAST_WORDS: Duration = Duration::from_secs(1);
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
        probe: Box<Probe>,
        /// Whether there is a picture of it, beside it.
        #[serde(default)]
        poster: bool,
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

/// What a sidecar is for: one version of a site, with the `@remotion/renderer` of its project.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site<'a> {
    pub(super) renderer: &'a Path,
    pub(super) bundle: &'a Path,
    /// Where the rest of it is, of a site at a URL: its browser must be let through to there.
    pub(super) url: Option<&'a str>,
}

impl Site<'_> {
    /// What it may reach although it is not public.
    fn allowed(&self, always: &Arc<[HostRule]>) -> Arc<[HostRule]> {
        let origin = self
            .url
            .and_then(|url| Url::parse(url).ok())
            .and_then(|url| format!("{}:{}", url.host_str()?, url.port_or_known_default()?).parse().ok());
        match origin {
            Some(origin) => always.iter().cloned().chain([origin]).collect(),
            None => Arc::clone(always),
        }
    }
}

#[derive(Debug)]
pub(super) struct Sidecar {
    supervisor: Child,
    commands: UnixStream,
    events: FramedRead<ChildStdout, LinesCodec>,
    printed: Printed,
    printing: JoinHandle<()>,
    scratch: Scratch,
    sites: PathBuf,
    private: Private,
    started_at: Instant,
    pub(super) renders: u32,
    memory: Arc<AtomicU64>,
    /// Ends with it.
    proxy: Option<AbortOnDropHandle<()>>,
    user: Option<User>,
}

impl Sidecar {
    /// Starts one whose files, browser profile and temporary files live in `folder`.
    pub(super) async fn start(
        options: &Options,
        walls: &Walls,
        user: Option<User>,
        folder: PathBuf,
        site: Site<'_>,
    ) -> Result<Self, SidecarError> {
        let scratch =
            Scratch::create(folder, user.as_ref().map(|user| user.number)).map_err(SidecarError::Start)?;
        let (commands, theirs) = std::os::unix::net::UnixStream::pair().map_err(SidecarError::Start)?;
        commands.set_nonblocking(true).map_err(SidecarError::Start)?;
        let commands = UnixStream::from_std(commands).map_err(SidecarError::Start)?;
        // With its end of the commands, which only the supervisor may hold from here on.
        let mut supervisor = command(options, walls, &scratch, site)
            .and_then(|mut command| command.stdin(OwnedFd::from(theirs)).spawn())
            .map_err(SidecarError::Start)?;
        let (Some(events), Some(stderr)) = (supervisor.stdout.take(), supervisor.stderr.take()) else {
            return Err(SidecarError::Start(std::io::Error::other("a pipe is missing")));
        };
        let printed = Printed::default();
        let printing = tokio::spawn(keep_printed(stderr, printed.clone()));
        let mut sidecar = Self {
            supervisor,
            commands,
            events: FramedRead::new(events, LinesCodec::new_with_max_length(LONGEST_LINE)),
            printed,
            printing,
            scratch,
            sites: options.sites.clone(),
            private: Private::new(&options.sites, site.renderer),
            started_at: Instant::now(),
            renders: 0,
            memory: Arc::new(AtomicU64::new(0)),
            proxy: None,
            user,
        };
        let allowed = site.allowed(&options.allow_hosts);
        let ready = timeout(START, async {
            if !walls.are_off() {
                let Some(listener) = receive_listener(&sidecar.commands).await else {
                    // It says why before it goes.
                    return Err(sidecar.next().await.err().unwrap_or_else(|| sidecar.gone()));
                };
                let proxy = proxy::serve(listener, allowed, sidecar.printed.clone());
                sidecar.proxy = Some(AbortOnDropHandle::new(tokio::spawn(proxy)));
            }
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
                let error = sidecar.heard_out(error).await;
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
        let mut event = serde_json::from_str(&line).map_err(SidecarError::Nonsense)?;
        if let Event::Alive { rss_in_bytes, browser_rss_in_bytes } = event {
            self.memory.store(rss_in_bytes + browser_rss_in_bytes, Ordering::Relaxed);
        }
        self.private.cut_event(&mut event);
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
        let Self { mut supervisor, commands, events, scratch, proxy, user, .. } = self;
        drop((commands, events));
        if !matches!(timeout(STOP, supervisor.wait()).await, Ok(Ok(_)))
            && let Err(error) = supervisor.kill().await
        {
            tracing::error!(%error, "cannot end a supervisor");
        }
        // Finds something only if the supervisor could not do its work, because it was stopped or killed itself.
        let marked = scratch.folder().to_owned();
        match tokio::task::spawn_blocking(move || reap(&marked)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(processes)) => tracing::warn!(processes, "stopped what a supervisor had left running"),
            Ok(Err(error)) => tracing::error!(%error, "cannot stop what a supervisor had left running"),
            Err(error) => tracing::error!(%error, "looking for leftovers panicked"),
        }
        drop(proxy);
        if let Err(error) = tokio::fs::remove_dir_all(scratch.folder()).await {
            tracing::warn!(%error, folder = %scratch.folder().display(), "cannot remove the scratch folder of a sidecar");
        }
        // Not given to another before nothing of it is left.
        drop(user);
    }

    /// Where the bundle of that version lies.
    pub(super) fn site(&self, version: &str) -> PathBuf {
        self.sites.join(version)
    }

    pub(super) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The supervisor, from which everything of it descends.
    pub(super) fn process(&self) -> Option<u32> {
        self.supervisor.id()
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
        let mut lines = self.printed.take();
        lines.iter_mut().for_each(|line| self.private.cut(line));
        lines
    }

    /// The error with what the sidecar said last, should that still be on its way.
    pub(super) async fn heard_out(&mut self, error: SidecarError) -> SidecarError {
        match error {
            SidecarError::Gone(said) if said.is_empty() && !self.printing.is_finished() => {
                drop(timeout(LAST_WORDS, &mut self.printing).await);
                self.gone()
            }
            error => error,
        }
    }

    fn gone(&self) -> SidecarError {
        let mut lines = self.take_output();
        SidecarError::Gone(lines.split_off(lines.len().saturating_sub(5)))
    }
}

/// The command that starts a sidecar, without its end of the commands.
fn command(
    options: &Options,
    walls: &Walls,
    scratch: &Scratch,
    site: Site<'_>,
) -> std::io::Result<tokio::process::Command> {
    let Some((supervisor, words)) = options.supervisor.split_first() else {
        return Err(std::io::Error::other("no supervisor configured"));
    };
    let mut command = tokio::process::Command::new(supervisor);
    command
        .args(words)
        // Nothing of the server's environment: it may hold credentials.
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", scratch.home())
        .env("TMPDIR", scratch.temporary())
        .env("TZ", &options.timezone)
        .env("LANG", &options.locale)
        .env(MARK, scratch.folder())
        .env("LASTFRAME_RENDERER", site.renderer)
        .current_dir(scratch.own())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A Ctrl-C at the terminal is for the server; what becomes of its sidecars is the server's decision.
        .process_group(0);
    if let Some(browser) = &options.browser {
        command.env("LASTFRAME_BROWSER", browser);
    }
    if !walls.are_off() {
        // Where Remotion serves the bundle. In a network of its own, any is free.
        let bundle_port = if walls.own_network() { 3000 } else { free_port()? };
        command.env("LASTFRAME_BUNDLE_PORT", bundle_port.to_string());
        command.env("LASTFRAME_BROWSER_STARTER", options.work.join(BROWSER));
        let mut ports = vec![bundle_port];
        if !walls.own_network() {
            let debugging_port = free_port()?;
            command.env("LASTFRAME_DEBUGGING_PORT", debugging_port.to_string());
            ports.push(debugging_port);
        }
        let plan = walls.plan(options, scratch, Some(&site), ports)?;
        command.arg("--walls").arg(serde_json::to_string(&plan)?);
    }
    command.arg("--").arg(&options.node).arg(options.work.join(SCRIPT));
    Ok(command)
}

/// The proxy's end of the sidecar's network, which it sends before anything else; none when it goes without that.
async fn receive_listener(commands: &UnixStream) -> Option<TcpListener> {
    let receive = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let flags = RecvFlags::CMSG_CLOEXEC;
        rustix::net::recvmsg(commands, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
        let descriptors = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        Ok(descriptors.and_then(|mut descriptors| descriptors.next()))
    };
    let descriptor = commands.async_io(Interest::READABLE, receive).await.ok()??;
    let listener = std::net::TcpListener::from(descriptor);
    listener.set_nonblocking(true).ok()?;
    TcpListener::from_std(listener).ok()
}

/// The end of what is printed.
#[derive(Clone, Debug, Default)]
pub(super) struct Printed(Arc<Mutex<VecDeque<String>>>);

impl Printed {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == PRINTED {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// Keeps a line unless it stands there already.
    pub(super) fn once(&self, line: String) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&line);
        if !known {
            self.push(line);
        }
    }

    pub(super) fn take(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}

/// Keeps the end of what is printed. Always reads on: a full pipe would stop the sidecar.
async fn keep_printed(mut stderr: ChildStderr, printed: Printed) {
    let mut chunk = vec![0; 8 << 10];
    let mut line = Vec::new();
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        for byte in &chunk[..read] {
            if *byte == b'\n' {
                printed.push(String::from_utf8_lossy(&line).into_owned());
                line.clear();
            } else if line.len() < 2_000 {
                line.push(*byte);
            }
        }
    }
}
