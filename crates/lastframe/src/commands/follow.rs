//! Watching a render until it ends, and what Ctrl-C means meanwhile.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use lastframe_core::{Blocked, Phase, RenderId, Status};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::note;
use crate::client::{Client, Failed, Later};
use crate::exit::Exit;
use crate::http::RenderView;

/// How often a render that is followed is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// The same where nothing is streamed: there each look is paid for, and limited.
const LOOK_SELDOM: Duration = Duration::from_secs(2);
/// How long to wait for a server that is away, when it does not say, and at most.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_AT_MOST: Duration = Duration::from_secs(15);
/// How long a server may be away, restarting perhaps, while its renders are followed.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Shows a render's way until it ends. `here`: its server ends with this command.
pub(super) async fn follow(client: &Client, render: RenderView, here: bool) -> Result<RenderView, Failed> {
    let id = render.render_id;
    let mut interrupts = Interrupts::listen()?;
    let bar = bar();
    let following = show(client, render, &bar);
    tokio::pin!(following);
    loop {
        tokio::select! {
            followed = &mut following => {
                bar.finish_and_clear();
                return followed;
            }
            () = interrupts.next() => {}
        }
        let answer = if can_ask() {
            bar.suspend(|| ask("Cancel the render? [y/N; Ctrl-C again leaves it] "));
            tokio::select! {
                answer = read_answer() => answer,
                () = interrupts.next() => Answer::Leave,
            }
        } else {
            Answer::Leave
        };
        // Nobody would go on with what this command leaves behind.
        match answer {
            Answer::GoOn => {}
            Answer::Cancel => cancel(client, id).await?,
            Answer::Leave if here => {
                cancel(client, id).await?;
                return Err(Failed::new(Exit::Interrupted, format!("interrupted; render {id} is cancelled")));
            }
            Answer::Leave => {
                let message = format!("interrupted; render {id} goes on. To stop it: lastframe cancel {id}");
                return Err(Failed::new(Exit::Interrupted, message));
            }
        }
    }
}

async fn cancel(client: &Client, id: RenderId) -> Result<(), Failed> {
    client.post::<RenderView>(&format!("/v1/renders/{id}/cancel")).await?;
    Ok(())
}

/// SIGINT of a person, SIGTERM of a machine that goes down.
pub(super) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    pub(super) fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

enum Answer {
    GoOn,
    Cancel,
    Leave,
}

/// Whether there is a person to ask.
pub(super) fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Puts a question, whose answer [`read_line`] reads.
pub(super) fn ask(question: &str) {
    let mut stderr = std::io::stderr();
    // Nobody reads it then.
    drop(write!(stderr, "\n{question}").and_then(|()| stderr.flush()));
}

async fn read_answer() -> Answer {
    match read_line().await {
        Some(line) if is_yes(&line) => Answer::Cancel,
        Some(_) => Answer::GoOn,
        None => Answer::Leave,
    }
}

pub(super) fn is_yes(line: &str) -> bool {
    ["y", "yes"].contains(&line.trim().to_lowercase().as_str())
}

/// A line that a person types; `None` when there is no more. It is read on a thread that nobody waits for: reading from a
/// terminal cannot be called off.
pub(super) async fn read_line() -> Option<String> {
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        drop(tell.send(read.map(|bytes| (bytes > 0).then_some(line))));
    });
    told.await.ok()?.ok()?
}

/// A bar for one render; hidden where there is no terminal.
pub(super) fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix}{bar:36} {percent:>3}% {msg}");
    ProgressBar::new(1_000).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Shows on a bar how far a render is.
pub(super) fn draw(bar: &ProgressBar, render: &RenderView) {
    bar.set_position((render.overall_progress * 1_000.0) as u64);
    bar.set_message(describe_state(render));
}

/// What a render is busy with, without what changes all the time.
pub(super) fn headline(render: &RenderView) -> String {
    format!("{}{}", render.status, render.phase.map(|phase| format!(", {phase}")).unwrap_or_default())
}

async fn show(client: &Client, mut render: RenderView, bar: &ProgressBar) -> Result<RenderView, Failed> {
    let mut told = String::new();
    let mut known = None;
    while !render.status.is_terminal() {
        draw(bar, &render);
        // Without a terminal there is no bar; say at least what changes.
        if bar.is_hidden() && headline(&render) != told {
            note(describe_state(&render));
            told = headline(&render);
        }
        if known.is_none() {
            known = pace(client, render.render_id).await;
        }
        tokio::time::sleep(known.unwrap_or(LOOK_SELDOM)).await;
        render = patiently(&format!("/v1/renders/{}", render.render_id), client, bar).await?;
    }
    Ok(render)
}

/// How often to look at a render: whether its server has streams tells what it is. Not known where it has no room now.
async fn pace(client: &Client, id: RenderId) -> Option<Duration> {
    match client.events(&format!("/v1/renders/{id}/events"), None).await {
        Ok(None) => Some(LOOK_SELDOM),
        Err(failed) if failed.error.is::<Later>() => None,
        _ => Some(LOOK),
    }
}

/// Asks. A server that is away for a moment, or has no room for the question, is waited for.
pub(super) async fn patiently<T: serde::de::DeserializeOwned>(
    path: &str,
    client: &Client,
    bar: &ProgressBar,
) -> Result<T, Failed> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let failed = match client.get(path).await {
            Err(failed) if tokio::time::Instant::now() < until => failed,
            answer => return answer,
        };
        let wait = match failed.error.downcast_ref::<Later>() {
            Some(later) => later.after.unwrap_or(AGAIN).clamp(AGAIN, AGAIN_AT_MOST),
            None if failed.exit == Exit::Unreachable => AGAIN,
            None => return Err(failed),
        };
        bar.set_message("the server is away; waiting");
        tokio::time::sleep(wait).await;
    }
}

pub(super) fn describe_state(render: &RenderView) -> String {
    match render.status {
        Status::Queued => {
            let place =
                render.position.map(|position| format!(", number {position} in line")).unwrap_or_default();
            let reason = match &render.blocked_by {
                Some(Blocked::Delayed { run_at }) => format!(", not before {run_at}"),
                Some(Blocked::Group { render_id }) => format!(", after {render_id} of its group"),
                Some(Blocked::GroupPaused) => ", its group is paused".into(),
                Some(Blocked::TenantPaused) => ", its tenant is paused".into(),
                Some(Blocked::QueuePaused) => ", the queue is paused".into(),
                Some(Blocked::TenantLimit) => ", its tenant has as many under way as it may".into(),
                Some(Blocked::GroupHeld { render_id }) => {
                    format!(", its group is held by {render_id}, which failed")
                }
                None => String::new(),
            };
            let error =
                render.errors.first().map(|error| format!(", after: {}", error.message)).unwrap_or_default();
            format!("queued{place}{reason}{error}")
        }
        Status::Rendering => {
            let phase = render.phase.unwrap_or(Phase::Bundling);
            let frames = render
                .frame_count
                .map(|count| format!(" {}/{count} frames", render.frames_rendered))
                .unwrap_or_default();
            let eta = render
                .eta_at
                .map(|eta| format!(", done at {}", eta.strftime("%H:%M:%S UTC")))
                .unwrap_or_default();
            let attempt = if render.attempt > 1 {
                format!(", attempt {} of {}", render.attempt, render.max_attempts)
            } else {
                String::new()
            };
            format!("{phase}{frames}{eta}{attempt}")
        }
        terminal => terminal.to_string(),
    }
}

/// What came out, and how long it took.
pub(super) fn describe_end(render: &RenderView) -> String {
    let seconds = render.time_to_finish.map(|millis| format!(" in {:.1} s", millis as f64 / 1e3));
    format!("{}{}", details(render), seconds.unwrap_or_default())
}

/// What a file holds.
pub(super) fn details(render: &RenderView) -> String {
    let Some(output) = &render.output else { return "done".into() };
    let mut parts = Vec::new();
    parts.extend(output.frame_count.map(|frames| format!("{frames} frames")));
    parts.extend(output.width.zip(output.height).map(|(width, height)| format!("{width}x{height}")));
    parts.extend(output.duration_in_seconds.map(|seconds| format!("{seconds:.1} s long")));
    if parts.is_empty() { "done".into() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU16, Ordering};

    use axum::http::StatusCode;
    use axum::response::IntoResponse as _;

    use super::*;
    use crate::http::{NO_STREAMS, Problem};

    async fn serve(router: axum::Router) -> Client {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, router).await });
        Client::new(&server, "token".into(), None).unwrap()
    }

    /// Answers with that status twice, then well.
    async fn twice(status: u16) -> (Client, Arc<AtomicU16>) {
        let asked = Arc::new(AtomicU16::new(0));
        let counted = asked.clone();
        let answer = async move || {
            if counted.fetch_add(1, Ordering::SeqCst) < 2 {
                (StatusCode::from_u16(status).unwrap(), [("retry-after", "0")], "").into_response()
            } else {
                axum::Json("well").into_response()
            }
        };
        (serve(axum::Router::new().route("/", axum::routing::get(answer))).await, asked)
    }

    #[tokio::test]
    async fn who_follows_waits_for_a_server_without_room_and_not_for_one_that_refuses() {
        let follow = async |status: u16| {
            let (client, asked) = twice(status).await;
            let answer: Result<String, Failed> = patiently("/", &client, &ProgressBar::hidden()).await;
            (answer.map_err(|failed| failed.exit), asked.load(Ordering::SeqCst))
        };
        let waited = [429, 502, 503, 504].map(&follow);
        for answered in futures_util::future::join_all(waited).await {
            assert_eq!(answered, (Ok("well".to_owned()), 3));
        }
        for status in [401, 403, 404, 500] {
            assert_eq!(follow(status).await, (Err(Exit::Refused), 1), "{status}");
        }
    }

    #[tokio::test]
    async fn one_looks_seldom_where_nothing_is_streamed() {
        let id = RenderId::generate(jiff::Timestamp::UNIX_EPOCH, &mut fastrand::Rng::with_seed(1));
        let path = "/v1/renders/{id}/events";
        let problem = async || {
            let problem = Problem { status: 404, code: NO_STREAMS.into(), ..Problem::default() };
            (StatusCode::NOT_FOUND, axum::Json(problem))
        };
        let client = serve(axum::Router::new().route(path, axum::routing::get(problem))).await;
        assert_eq!(pace(&client, id).await, Some(LOOK_SELDOM));
        let client = serve(axum::Router::new().route(path, axum::routing::get(async || ""))).await;
        assert_eq!(pace(&client, id).await, Some(LOOK));
        let full = async || (StatusCode::TOO_MANY_REQUESTS, "");
        let client = serve(axum::Router::new().route(path, axum::routing::get(full))).await;
        assert_eq!(pace(&client, id).await, None);
    }
}
