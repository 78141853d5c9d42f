//! The renderer of this machine: Remotion in a Node sidecar, with a warm browser.
//!
//! `sidecar.mjs` speaks to Remotion, `sidecar` speaks to it, `supervise` makes sure that nothing of it outlives its
//! use, `pool` keeps sidecars warm, `renderers` has Remotion in every version that sites need, `remote` watches over sites
//! at a URL, and this file turns one job into one run.
//!
//! A site is somebody's code. `walls` finds out how far a sidecar can be kept to itself on this machine, `confine` and
//! `root` do that, `proxy` is its way out, `scratch` takes from it what it has made, `memory` sees what it takes.

mod confine;
mod memory;
mod pool;
mod private;
mod proxy;
pub mod remote;
mod renderers;
mod root;
mod scratch;
mod sidecar;
mod supervise;
mod walls;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lastframe_core::net::HostRule;
use lastframe_core::ports::{Job, Renderer, Run, RunEvent, Stop};
use lastframe_core::site::Composition;
use lastframe_core::{Checkpoint, Failure, Kind, Output, Phase, Progress, verify};
use serde_json::Map;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::pool::Pool;
use self::scratch::Scratch;
use self::sidecar::{Command, Event, Sidecar, SidecarError, Site};
use crate::logs::{AttemptLog, Logs};

pub use self::confine::{SUPERVISED, has_landlock, supervised};
pub use self::renderers::{RendererError, Renderers, version_of};
pub use self::supervise::supervise;
pub use self::walls::{Sandbox, Wall, Walls};

/// What Node runs, in the scratch space.
const SCRIPT: &str = "sidecar.mjs";
/// What starts the browser, beside it.
const BROWSER: &str = "browser.sh";
/// How often the memory of a sidecar is looked at.
const WATCH: Duration = Duration::from_millis(500);

/// What the sidecar calls the picture of its file.
const POSTER: &str = "poster.jpg";
/// Bytes.
const LARGEST_POSTER: u64 = 512 << 10;
/// Pixels.
const WIDEST_POSTER: usize = 640;

/// A sidecar whose main loop says nothing for so long is hung or stopped.
const SILENCE: Duration = Duration::from_secs(20);

/// How long to wait when the machine lacks what every render needs: files, processes, disk.
const LACK: Duration = Duration::from_secs(15);

/// What the local renderer needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where bundles lie, each in a folder named by its version.
    pub sites: PathBuf,
    /// Remotion, by version.
    pub renderers: Arc<Renderers>,
    /// Looks at sites that lie at a URL. Should follow no redirects, and have a timeout.
    pub http: reqwest::Client,
    /// Scratch space: belongs to this renderer alone, and is emptied at start.
    pub work: PathBuf,
    /// Starts a program under [`supervise()`]: the words before the program's own.
    pub supervisor: Vec<OsString>,
    /// Node.
    pub node: PathBuf,
    /// The browser; Remotion's own when absent.
    pub browser: Option<PathBuf>,
    /// `TZ` of the browser.
    pub timezone: String,
    /// `LANG` of the browser.
    pub locale: String,
    /// Renders at once; as many sidecars are kept warm.
    pub concurrency: usize,
    /// Cores that the renders share.
    pub cores: usize,
    /// What a warm browser may come to before it is replaced.
    pub recycle: Recycle,
    /// How strictly sites are kept to themselves.
    pub sandbox: Sandbox,
    /// What sites may reach although it is not public.
    pub allow_hosts: Arc<[HostRule]>,
    /// The first of the users that sidecars become when we are root; as many as there are sidecars follow it.
    pub first_user: u32,
    /// What one render may hold in memory, in bytes, before it is ended.
    pub max_memory: u64,
    /// The longest file that a render may write, in bytes.
    pub max_file: u64,
}

/// When a warm sidecar is replaced.
#[derive(Clone, Copy, Debug)]
pub struct Recycle {
    /// Renders.
    pub renders: u32,
    /// Time since its start.
    pub age: Duration,
    /// Memory of Node and browser, in bytes.
    pub memory: u64,
    /// Time without work.
    pub idle: Duration,
}

impl Default for Recycle {
    fn default() -> Self {
        Self {
            renders: 100,
            age: Duration::from_secs(60 * 60),
            memory: 2 << 30,
            idle: Duration::from_secs(10 * 60),
        }
    }
}

/// How many sidecars there were since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sidecars {
    /// Started.
    pub started: u64,
    /// Given up because something was wrong: they did not come up, died, or an attempt failed that may succeed with another.
    pub given_up: u64,
}

/// Renders on this machine.
#[derive(Clone, Debug)]
pub struct LocalRenderer {
    pool: Arc<Pool>,
    logs: Logs,
}

/// How often the scratch space is emptied again, and after which wait.
const EMPTYING: (u32, Duration) = (100, Duration::from_millis(50));

/// Ends what sidecars of an earlier process have left running in `work`, and empties it. Returns how many processes there were.
fn take_over(work: &Path) -> std::io::Result<usize> {
    let (mut reaped, mut tries) = (0, EMPTYING.0);
    loop {
        reaped += supervise::reap(work)?;
        match std::fs::remove_dir_all(work) {
            // One that is just dying, or just beginning, shows no mark, and may still have put a file there.
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty && tries > 0 => {
                tries -= 1;
                std::thread::sleep(EMPTYING.1);
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => break,
        }
    }
    std::fs::create_dir_all(work)?;
    Ok(reaped)
}

impl LocalRenderer {
    /// Takes the scratch folder over, empty, and gets rid of what a crash left running there.
    ///
    /// # Errors
    /// When the scratch folder cannot be emptied or written, or a wall is required and does not hold.
    pub fn new(options: Options, logs: Logs) -> std::io::Result<Self> {
        let reaped = take_over(&options.work)?;
        if reaped > 0 {
            tracing::warn!(processes = reaped, "stopped what an earlier process had left running");
        }
        Ok(Self { pool: Arc::new(Pool::new(options)?), logs })
    }

    /// The compositions of the bundle in a folder or at a URL, worked out with their default props.
    ///
    /// # Errors
    /// What Remotion or the bundle says.
    pub async fn compositions(
        &self,
        bundle: &Path,
        url: Option<&str>,
        renderer: &Path,
    ) -> Result<Vec<Composition>, Failure> {
        let mut sidecar = self.pool.start(Site { renderer, bundle, url }).await.map_err(Failure::from)?;
        let bundle = url.map_or(bundle, Path::new);
        let (watched, most) = (sidecar.process(), self.pool.max_memory());
        let answer = tokio::select! {
            answer = compositions(&mut sidecar, bundle) => answer,
            held = too_much(watched, most) => Err(out_of_memory(held, most)),
        };
        sidecar.stop().await;
        answer
    }

    /// What holds of the walls around renders.
    #[must_use]
    pub fn walls(&self) -> &Walls {
        self.pool.walls()
    }

    /// The sidecars so far.
    #[must_use]
    pub fn sidecars(&self) -> Sidecars {
        self.pool.count()
    }

    /// The machine lacks what every render needs. That is no fault of this one, so it costs no attempt.
    fn not_now(&self) -> RunEvent {
        RunEvent::Throttled { until: self.logs.now() + LACK }
    }

    /// Stops sidecars that have had nothing to do for long.
    pub async fn stop_idle(&self) {
        self.pool.stop_idle().await;
    }

    /// Stops every sidecar that is not rendering.
    pub async fn stop(&self) {
        self.pool.stop().await;
    }
}

async fn compositions(sidecar: &mut Sidecar, bundle: &Path) -> Result<Vec<Composition>, Failure> {
    sidecar
        .send(&Command::Compositions { id: "compositions", serve_url: bundle, options: &Map::new() })
        .await?;
    loop {
        match next(sidecar).await? {
            Event::Compositions { compositions } => return Ok(compositions),
            Event::Failed { error } => return Err(error),
            _ => {}
        }
    }
}

#[async_trait]
impl Renderer for LocalRenderer {
    async fn start(&self, job: Job, _checkpoint: Option<Checkpoint>) -> Box<dyn Run> {
        let (events, received) = mpsc::channel(64);
        let stop = CancellationToken::new();
        // What it logs belongs to the attempt.
        let task = tokio::spawn(run(self.clone(), job, events, stop.clone()).in_current_span());
        Box::new(LocalRun { events: received, stop, task })
    }
}

/// A run is a task of its own, so that following it can be interrupted at any point.
struct LocalRun {
    events: mpsc::Receiver<RunEvent>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

#[async_trait]
impl Run for LocalRun {
    async fn next(&mut self) -> RunEvent {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// Both ways of stopping end here in the same: nobody can attach to a local render.
    async fn stop(self: Box<Self>, _why: Stop) {
        self.stop.cancel();
        drop(self.events);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a run panicked");
        }
    }
}

async fn run(renderer: LocalRenderer, job: Job, events: mpsc::Sender<RunEvent>, stop: CancellationToken) {
    let mut log = match renderer.logs.create(job.render, job.attempt) {
        Ok(log) => log,
        Err(error) => {
            tracing::error!(%error, "cannot write the log of an attempt; waiting");
            return drop(events.send(renderer.not_now()).await);
        }
    };
    let seat = renderer.pool.take_seat();
    // Not raced against the stop: a sidecar half started would be ended by nobody we can wait for.
    let mut sidecar = match renderer.pool.checkout(&job).await {
        Ok(sidecar) => sidecar,
        Err(error @ SidecarError::Start(_)) => {
            tracing::error!(error = lastframe_core::error_chain(&error), "waiting");
            return drop(events.send(renderer.not_now()).await);
        }
        Err(error) => return drop(events.send(RunEvent::Failed(error.into())).await),
    };
    let watched = sidecar.process();
    let rendered = tokio::select! {
        rendered = render(&mut sidecar, &job, seat.frames_at_once(), &events, &mut log, renderer.pool.http()) => rendered,
        held = too_much(watched, renderer.pool.max_memory()) => Err(out_of_memory(held, renderer.pool.max_memory())),
        () = stop.cancelled() => {
            log.line("worker", "stopped");
            return sidecar.stop().await;
        }
    };
    for line in sidecar.take_output() {
        log.line("sidecar", &line);
    }
    let event = match rendered {
        Ok((file, poster, output)) => {
            log.line("worker", "finished and verified");
            RunEvent::Finished { file, poster, output }
        }
        Err(failure) => {
            log.line("worker", &format!("failed: {failure}"));
            if let Some(stack) = &failure.stack {
                log.line("worker", stack);
            }
            RunEvent::Failed(failure)
        }
    };
    // Announced only once the sidecar is free or gone: who sees the end finds nothing left behind. A finished file
    // lies in the sidecar's folder until it is taken away, so there the order is the other way round.
    match event {
        RunEvent::Finished { .. } => {
            drop(events.send(event).await);
            events.closed().await;
            renderer.pool.checkin(&job, sidecar).await;
        }
        // A fault that may pass may lie in the sidecar itself: the next attempt gets a new one.
        RunEvent::Failed(ref failure) if failure.retryable => {
            renderer.pool.give_up(sidecar).await;
            drop(events.send(event).await);
        }
        event => {
            renderer.pool.checkin(&job, sidecar).await;
            drop(events.send(event).await);
        }
    }
}

/// Returns when a sidecar holds more than `most` bytes, with how many.
async fn too_much(supervisor: Option<u32>, most: u64) -> u64 {
    let mut watch = tokio::time::interval(WATCH);
    loop {
        watch.tick().await;
        let held = supervisor.map_or(0, memory::held);
        if held > most {
            return held;
        }
    }
}

fn out_of_memory(held: u64, most: u64) -> Failure {
    let mib = |bytes: u64| bytes >> 20;
    let message = format!(
        "the render took {} MiB of memory, and may have {} (render.max_memory)",
        mib(held),
        mib(most)
    );
    Failure::new("out_of_memory", message, true)
}

/// Renders the job and looks at what came out.
async fn render(
    sidecar: &mut Sidecar,
    job: &Job,
    frames_at_once: usize,
    events: &mpsc::Sender<RunEvent>,
    log: &mut AttemptLog,
    http: &reqwest::Client,
) -> Result<(PathBuf, Option<PathBuf>, Output), Failure> {
    let id = format!("{}-{}", job.render, job.attempt);
    let temporary = sidecar.scratch().own().join(&id);
    let name = format!("output.{}", job.request.extension(job.kind));
    let file = temporary.join(&name);
    let options = job.request.for_remotion(job.kind);
    let folder = sidecar.site(&job.site.version);
    let serve_url = match &job.site.url {
        Some(url) => {
            remote::unchanged(http, url, &folder).await?;
            Path::new(url)
        }
        None => &folder,
    };
    let command = Command::Render {
        id: &id,
        kind: job.kind,
        serve_url,
        output_location: &file,
        temporary: &temporary,
        concurrency: frames_at_once,
        options: &options,
    };
    sidecar.send(&command).await?;
    let mut expected = None;
    let mut last = Progress::START;
    loop {
        match next(sidecar).await? {
            Event::Started { composition, frame_count, width, height, duration_in_seconds } => {
                log.line(
                    "worker",
                    &format!("composition {}: {frame_count} frames of {width}x{height}", composition.id),
                );
                last = Progress { phase: Phase::Rendering, frame_count, ..last };
                expected = Some(verify::Expected { frame_count, width, height, duration_in_seconds });
                drop(events.send(RunEvent::Progress(last)).await);
            }
            Event::Progress { phase, frames_rendered, progress } => {
                last = Progress { phase, frames_rendered, overall: progress, ..last };
                drop(events.send(RunEvent::Progress(last)).await);
            }
            Event::Log { level, text } => log.line(&level, &text),
            Event::Finished { mut probe, poster: drawn } => {
                let expected =
                    expected.ok_or_else(|| Failure::new("internal", "finished before it started", true))?;
                let (file, size_in_bytes) = sidecar.scratch().take(&id, &name).map_err(|error| {
                    Failure::new("output_not_stored", format!("cannot take the output: {error}"), true)
                })?;
                if job.kind == Kind::Still {
                    probe.streams = picture(&file);
                }
                let output = verify::verify(&job.request, job.kind, &expected, &probe, size_in_bytes)?;
                let poster = if drawn { poster(sidecar.scratch(), &id) } else { None };
                return Ok((file, poster, output));
            }
            Event::Failed { error } => return Err(error),
            Event::Ready { .. } | Event::Alive { .. } | Event::Compositions { .. } => {}
        }
    }
}

/// A still as a stream of one picture. Remotion's ffprobe does not know every format that a still can have.
fn picture(file: &Path) -> Vec<verify::Stream> {
    let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
    let stream = |size: imagesize::ImageSize| verify::Stream {
        codec_type: "video".into(),
        width: side(size.width),
        height: side(size.height),
        ..verify::Stream::default()
    };
    imagesize::size(file).map(stream).into_iter().collect()
}

/// The picture that the sidecar has drawn of its file, if it is one: what lies there may be anything. A render does not fail
/// for want of it.
fn poster(scratch: &Scratch, id: &str) -> Option<PathBuf> {
    let (file, size) = match scratch.take(id, POSTER) {
        Ok(taken) => taken,
        Err(error) => {
            tracing::warn!(%error, "cannot take a poster");
            return None;
        }
    };
    let is_jpeg = std::fs::read(&file).is_ok_and(|bytes| {
        size <= LARGEST_POSTER
            && imagesize::image_type(&bytes).is_ok_and(|kind| kind == imagesize::ImageType::Jpeg)
            && imagesize::blob_size(&bytes).is_ok_and(|size| size.width <= WIDEST_POSTER)
    });
    is_jpeg.then_some(file)
}

/// What the sidecar says next, or why it will say nothing more.
async fn next(sidecar: &mut Sidecar) -> Result<Event, Failure> {
    loop {
        match timeout(SILENCE, sidecar.next()).await {
            Ok(Ok(Event::Alive { .. })) => {}
            Ok(Ok(event)) => return Ok(event),
            Ok(Err(error)) => return Err(sidecar.heard_out(error).await.into()),
            // What it said while we ourselves stood still is waiting to be read.
            Err(_) if sidecar.has_spoken() => {}
            Err(_) => {
                let message = format!("the sidecar has said nothing for {} s", SILENCE.as_secs());
                return Err(Failure::new("sidecar_unresponsive", message, true));
            }
        }
    }
}

impl From<SidecarError> for Failure {
    fn from(error: SidecarError) -> Self {
        // Somebody has to bring the renderer first: another attempt would not.
        let retryable = !matches!(error, SidecarError::NoRenderer(_));
        Self::new(error.code(), lastframe_core::error_chain(&error), retryable)
    }
}
