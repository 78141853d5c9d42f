//! `lastframe render`, `show`, `list`, `cancel`, `retry`, `link`, `logs`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use lastframe_core::{Blocked, Phase, Status};
use reqwest::Method;
use serde_json::{Map, Value};

use super::{Server, say};
use crate::client::{Client, Failed};
use crate::config;
use crate::exit::Exit;
use crate::http::{Accepted, LinkView, RenderPage, RenderView};

/// How often a render that is followed is looked at.
const LOOK: Duration = Duration::from_millis(250);

pub(super) const EXAMPLES: &str = "\
Examples:
  lastframe render remotion-app main --props '{\"text\":\"Hello\"}' -o out/hello.mp4
  lastframe render remotion-app main --props props.json --codec gif --frames 0-59 -o out/hello.gif
  lastframe render remotion-app main --group customer-7 --set queue.onFailure=block --detach
  lastframe render remotion-app main --set queue.runAt=2027-01-01T00:00:00Z --detach";

#[derive(Args, Debug)]
pub(super) struct Submit {
    /// The site, by the name it was added under
    site: String,
    /// The composition
    composition: String,
    /// Input props: JSON, or the path of a JSON file
    #[arg(long, value_name = "JSON|FILE")]
    props: Option<String>,
    /// Where to put the video [default: not fetched]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// h264, h265, vp8, vp9, prores, gif, mp3, aac or wav
    #[arg(long)]
    codec: Option<String>,
    /// Which frames: `42`, `0-149` or `100-`
    #[arg(long, value_name = "RANGE")]
    frames: Option<String>,
    /// Any option of the API, such as `--set crf=18` or `--set queue.priority=5`; values are JSON, or else text
    #[arg(long, value_name = "OPTION=VALUE")]
    set: Vec<String>,
    /// Renders of one group run one after another
    #[arg(long)]
    group: Option<String>,
    /// Sending the same render again under the same key submits nothing new
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Submit, print the render's id, and do not wait
    #[arg(long, conflicts_with = "output")]
    detach: bool,
    #[command(flatten)]
    server: Server,
}

impl Submit {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        if self.output.as_ref().is_some_and(|file| file.is_dir()) {
            return Err(Failed::new(Exit::Usage, "--output is a folder: name the file in it"));
        }
        let client = self.server.client()?;
        let mut request = client.request(Method::POST, "/v1/renders").json(&self.body().map_err(usage)?);
        if let Some(key) = &self.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let accepted: Accepted = client.json(request).await?;
        let render = accepted.render;
        if !accepted.ignored.is_empty() {
            tracing::warn!(options = accepted.ignored.join(", "), "these options change nothing here");
        }
        if self.detach {
            say(render.render_id.to_string());
            return Ok(Exit::Done);
        }
        say(format!("render {} accepted by {}", render.render_id, client.server()));
        let followed = tokio::select! {
            followed = follow(&client, render) => followed?,
            _ = tokio::signal::ctrl_c() => {
                return Err(Failed::new(Exit::Interrupted, "interrupted; the render goes on (see `lastframe list`, `lastframe cancel ID`)"));
            }
        };
        conclude(&client, &followed, self.output.as_deref()).await
    }

    fn body(&self) -> anyhow::Result<Map<String, Value>> {
        let mut body = Map::new();
        body.insert("serveUrl".into(), Value::from(self.site.as_str()));
        body.insert("composition".into(), Value::from(self.composition.as_str()));
        if let Some(props) = &self.props {
            let text = if props.trim_start().starts_with('{') {
                props.clone()
            } else {
                std::fs::read_to_string(props)
                    .with_context(|| format!("--props is neither a JSON object nor a file: {props}"))?
            };
            let props: Value = serde_json::from_str(&text).context("--props is not JSON")?;
            body.insert("inputProps".into(), props);
        }
        if let Some(codec) = &self.codec {
            body.insert("codec".into(), Value::from(codec.as_str()));
        }
        if let Some(frames) = &self.frames {
            body.insert("frameRange".into(), frame_range(frames)?);
        }
        if let Some(group) = &self.group {
            put(&mut body, "queue.group", Value::from(group.as_str()))?;
        }
        for option in &self.set {
            let (name, value) =
                option.split_once('=').with_context(|| format!("--set {option} has no `=`"))?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            put(&mut body, name, value)?;
        }
        Ok(body)
    }
}

fn put(body: &mut Map<String, Value>, path: &str, value: Value) -> anyhow::Result<()> {
    match path.split_once('.') {
        None => {
            body.insert(path.to_owned(), value);
            Ok(())
        }
        Some((first, rest)) => match body.entry(first).or_insert_with(|| Value::Object(Map::new())) {
            Value::Object(inner) => put(inner, rest, value),
            _ => anyhow::bail!("--set {path}: {first} is not an object"),
        },
    }
}

fn frame_range(text: &str) -> anyhow::Result<Value> {
    let number = |text: &str| {
        text.trim().parse::<u32>().with_context(|| format!("--frames {text} is not 42, 0-149 or 100-"))
    };
    Ok(match text.split_once('-') {
        None => Value::from(number(text)?),
        Some((from, "")) => Value::from(vec![Value::from(number(from)?), Value::Null]),
        Some((from, to)) => Value::from(vec![number(from)?, number(to)?]),
    })
}

fn usage(error: anyhow::Error) -> Failed {
    Failed { exit: Exit::Usage, error }
}

/// Shows a render's way until it ends.
async fn follow(client: &Client, mut render: RenderView) -> Result<RenderView, Failed> {
    let bar = ProgressBar::new(1_000);
    bar.set_style(ProgressStyle::with_template("{bar:36} {percent:>3}% {msg}")?);
    let mut told = String::new();
    while !render.status.is_terminal() {
        bar.set_position((render.overall_progress * 1_000.0) as u64);
        let state = describe_state(&render);
        bar.set_message(state.clone());
        // Without a terminal there is no bar; say at least what changes.
        let headline = format!(
            "{}{}",
            render.status,
            render.phase.map(|phase| format!(", {phase}")).unwrap_or_default()
        );
        if bar.is_hidden() && headline != told {
            say(&state);
            told = headline;
        }
        tokio::time::sleep(LOOK).await;
        render = look(client, &render, &bar).await?;
    }
    bar.finish_and_clear();
    Ok(render)
}

/// Looks again. A server that is away for a moment, restarted perhaps, is waited for.
async fn look(client: &Client, render: &RenderView, bar: &ProgressBar) -> Result<RenderView, Failed> {
    let patience = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        match client.get(&format!("/v1/renders/{}", render.render_id)).await {
            Err(failed) if failed.exit == Exit::Unreachable && tokio::time::Instant::now() < patience => {
                bar.set_message("the server is away; waiting");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            answer => return answer,
        }
    }
}

fn describe_state(render: &RenderView) -> String {
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

/// Says how it ended, and fetches the video if it is wanted.
async fn conclude(client: &Client, render: &RenderView, output: Option<&Path>) -> Result<Exit, Failed> {
    if render.status != Status::Succeeded {
        let mut text = format!("render {} {}", render.render_id, render.status);
        for error in &render.errors {
            text.push_str(&format!("\n  {}: {}", error.code, error.message));
            if let Some(stack) = &error.stack {
                text.push_str(&format!("\n{stack}"));
            }
        }
        text.push_str(&format!(
            "\nIts log: lastframe logs {0}\nAgain:   lastframe retry {0}",
            render.render_id
        ));
        return Err(Failed::new(Exit::RenderFailed, text));
    }
    let seconds =
        render.time_to_finish.map(|millis| format!(" in {:.1} s", millis as f64 / 1e3)).unwrap_or_default();
    match output {
        Some(file) => {
            let size = client.download(&format!("/v1/renders/{}/output", render.render_id), file).await?;
            say(format!("{}{seconds}: {} ({:.1} MB)", details(render), file.display(), size as f64 / 1e6));
        }
        None => say(format!(
            "{}{seconds}: {}",
            details(render),
            render.output_file.as_deref().unwrap_or_default()
        )),
    }
    Ok(Exit::Done)
}

fn details(render: &RenderView) -> String {
    let Some(output) = &render.output else { return "done".into() };
    let mut parts = Vec::new();
    parts.extend(output.frame_count.map(|frames| format!("{frames} frames")));
    parts.extend(output.width.zip(output.height).map(|(width, height)| format!("{width}x{height}")));
    parts.extend(output.duration_in_seconds.map(|seconds| format!("{seconds:.1} s long")));
    if parts.is_empty() { "done".into() } else { parts.join(", ") }
}

#[derive(Args, Debug)]
pub(super) struct Show {
    /// The render's id
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl Show {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let render: RenderView = self.server.client()?.get(&format!("/v1/renders/{}", self.id)).await?;
        if self.json {
            say(serde_json::to_string_pretty(&render)?);
            return Ok(Exit::Done);
        }
        let mut lines = vec![
            ("render", render.render_id.to_string()),
            ("status", describe_state(&render)),
            ("what", format!("{} of {}", render.composition, render.serve_url)),
            ("accepted", time(render.created_at)),
        ];
        lines.extend(render.group.clone().map(|group| ("group", group)));
        lines.extend(render.started_at.map(|at| ("started", time(at))));
        lines.extend(render.finished_at.map(|at| ("finished", time(at))));
        lines.extend(
            render.output_file.clone().map(|file| ("output", format!("{file} ({})", details(&render)))),
        );
        lines.extend(
            render.errors.iter().map(|error| ("error", format!("{}: {}", error.code, error.message))),
        );
        for attempt in render.attempts.iter().flatten() {
            let end = attempt.outcome.clone().unwrap_or_else(|| "under way".into());
            let why = attempt.error.as_ref().map(|error| format!(": {}", error.message)).unwrap_or_default();
            lines.push((
                "attempt",
                format!(
                    "{} by {} at {}, {end}{why}",
                    attempt.number,
                    attempt.worker,
                    time(attempt.started_at)
                ),
            ));
        }
        for (name, value) in lines {
            say(format!("{name:<9} {value}"));
        }
        Ok(Exit::Done)
    }
}

#[derive(Args, Debug)]
pub(super) struct List {
    /// queued, rendering, succeeded, failed or cancelled
    #[arg(long)]
    status: Option<Status>,
    /// Of this group
    #[arg(long)]
    group: Option<String>,
    /// At most so many, up to 200
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// Where the list before ended
    #[arg(long)]
    cursor: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl List {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let client = self.server.client()?;
        let mut query = vec![("limit", self.limit.to_string())];
        query.extend(self.status.map(|status| ("status", status.to_string())));
        query.extend(self.group.map(|group| ("group", group)));
        query.extend(self.cursor.map(|cursor| ("cursor", cursor)));
        let page: RenderPage = client.json(client.request(Method::GET, "/v1/renders").query(&query)).await?;
        if self.json {
            say(serde_json::to_string_pretty(&page)?);
            return Ok(Exit::Done);
        }
        if page.renders.is_empty() {
            say("no renders");
        }
        for render in &page.renders {
            let name = format!("{}/{}", render.serve_url, render.composition);
            say(format!(
                "{}  {:<9}  {:>3.0}%  {}  {name}",
                render.render_id,
                render.status,
                render.overall_progress * 100.0,
                time(render.created_at)
            ));
        }
        if let Some(cursor) = &page.next_cursor {
            say(format!("(more: --cursor {cursor})"));
        }
        Ok(Exit::Done)
    }
}

#[derive(Args, Debug)]
pub(super) struct Cancel {
    /// The render's id
    id: String,
    #[command(flatten)]
    server: Server,
}

impl Cancel {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let render: RenderView =
            self.server.client()?.post(&format!("/v1/renders/{}/cancel", self.id)).await?;
        say(if render.status == Status::Cancelled { "cancelled" } else { "it is being stopped" });
        Ok(Exit::Done)
    }
}

#[derive(Args, Debug)]
pub(super) struct Retry {
    /// The render's id
    id: String,
    #[command(flatten)]
    server: Server,
}

impl Retry {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let render: RenderView =
            self.server.client()?.post(&format!("/v1/renders/{}/retry", self.id)).await?;
        say(describe_state(&render));
        Ok(Exit::Done)
    }
}

#[derive(Args, Debug)]
pub(super) struct Link {
    /// The render's id
    id: String,
    /// How long it is good, such as 1h or 7d [default: what the server says]
    #[arg(long, value_name = "TIME", value_parser = config::duration)]
    expires: Option<Duration>,
    /// The name under which a browser saves the file
    #[arg(long, value_name = "NAME")]
    save_as: Option<String>,
    #[command(flatten)]
    server: Server,
}

impl Link {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let client = self.server.client()?;
        let mut body = Map::new();
        body.extend(self.expires.map(|life| ("expiresInSeconds".into(), Value::from(life.as_secs()))));
        body.extend(self.save_as.map(|name| ("saveAs".into(), Value::from(name))));
        let request = client.request(Method::POST, &format!("/v1/renders/{}/links", self.id)).json(&body);
        let link: LinkView = client.json(request).await?;
        say(link.url);
        Ok(Exit::Done)
    }
}

#[derive(Args, Debug)]
pub(super) struct Logs {
    /// The render's id
    id: String,
    /// Of this attempt only
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    #[command(flatten)]
    server: Server,
}

impl Logs {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let client = self.server.client()?;
        let query: Vec<_> = self.attempt.map(|attempt| ("attempt", attempt)).into_iter().collect();
        let request = client.request(Method::GET, &format!("/v1/renders/{}/log", self.id)).query(&query);
        say(client.send(request).await?.text().await.context("the log broke off")?.trim_end());
        Ok(Exit::Done)
    }
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_given_as_people_write_them() {
        assert_eq!(frame_range("42").unwrap(), Value::from(42));
        assert_eq!(frame_range("0-149").unwrap(), serde_json::json!([0, 149]));
        assert_eq!(frame_range("100-").unwrap(), serde_json::json!([100, null]));
        assert!(frame_range("a-b").is_err());
    }

    #[test]
    fn an_option_with_dots_lands_inside_its_object() {
        let mut body = Map::new();
        put(&mut body, "queue.priority", Value::from(5)).unwrap();
        put(&mut body, "queue.group", Value::from("a")).unwrap();
        assert_eq!(Value::Object(body.clone()), serde_json::json!({"queue": {"priority": 5, "group": "a"}}));
        assert!(put(&mut body, "queue.group.x", Value::Null).is_err());
    }
}
