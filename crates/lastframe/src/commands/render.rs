//! `lastframe render` and `still`: submit, follow, fetch.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use lastframe_core::Status;
use reqwest::Method;
use serde_json::{Map, Value};

use super::follow::{describe_end, follow};
use super::site::Add;
use super::within::{Host, Within};
use super::{Server, note, print};
use crate::client::{Client, Failed};
use crate::exit::Exit;
use crate::http::{Accepted, RenderView};

pub(super) const EXAMPLES: &str = "\
Examples:
  lastframe render ./my-project main -o out/main.mp4      bundles the project first
  lastframe render my-site main --props '{\"text\":\"Hello\"}' -o out/hello.mp4
  lastframe render my-site main --props props.json --codec gif --frames 0-59 -o out/hello.gif
  lastframe render my-site main --group customer-7 --set queue.onFailure=block --detach
  lastframe render my-site main --set queue.runAt=2027-01-01T00:00:00Z --detach

Where no server runs on the data folder, the command renders by itself and stops when it is done.
Ctrl-C asks whether to cancel the render; a second one leaves it to the server.";

pub(super) const STILL_EXAMPLES: &str = "\
Examples:
  lastframe still ./my-project poster -o out/poster.png
  lastframe still my-site main --frame 75 --image-format jpeg -o out/frame.jpg
  lastframe still my-site main --frame -1 --set scale=2 -o out/last.png";

/// What is to be rendered, and what becomes of it.
#[derive(Args, Debug)]
struct Job {
    /// The site, by the name it was added under; or a project's folder, with a slash in it: `./my-project`
    #[arg(value_name = "SITE|FOLDER")]
    site: String,
    /// The composition
    composition: String,
    /// Input props: JSON, or the path of a JSON file
    #[arg(long, value_name = "JSON|FILE")]
    props: Option<String>,
    /// Where to put the file [default: not fetched]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Any option of the API, such as `--set crf=18` or `--set queue.priority=5`; values are JSON, or else text
    #[arg(long, value_name = "OPTION=VALUE")]
    set: Vec<String>,
    /// Renders of one group run one after another
    #[arg(long)]
    group: Option<String>,
    /// A URL that is told by a webhook when the render has ended
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
    /// A mail address that is told when the render has ended; may be given again
    #[arg(long, value_name = "ADDRESS")]
    notify: Vec<String>,
    /// Sending the same render again under the same key submits nothing new
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Submit, print the render's id, and do not wait
    #[arg(long, conflicts_with = "output")]
    detach: bool,
    /// Print the render as JSON, as it ended
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Args, Debug)]
pub(super) struct Render {
    /// h264, h264-mkv, h264-ts, h265, av1, vp8, vp9, prores, gif, mp3, aac or wav
    #[arg(long)]
    codec: Option<String>,
    /// Which frames: `42`, `0-149` or `100-`
    #[arg(long, value_name = "RANGE")]
    frames: Option<String>,
    // Last, because its heading of the server holds for all that follows.
    #[command(flatten)]
    job: Job,
}

#[derive(Args, Debug)]
pub(super) struct Still {
    /// Which frame; -1 is the last
    #[arg(long, allow_negative_numbers = true)]
    frame: Option<i64>,
    /// png, jpeg, webp or pdf
    #[arg(long, value_name = "FORMAT")]
    image_format: Option<String>,
    #[command(flatten)]
    job: Job,
}

impl Render {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let mut own = Map::new();
        own.extend(self.codec.map(|codec| ("codec".to_owned(), codec.into())));
        let frames = self.frames.as_deref().map(frame_range).transpose().map_err(usage)?;
        own.extend(frames.map(|frames| ("frameRange".to_owned(), frames)));
        self.job.run("/v1/renders", own).await
    }
}

impl Still {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let mut own = Map::new();
        own.extend(self.frame.map(|frame| ("frame".to_owned(), frame.into())));
        own.extend(self.image_format.map(|format| ("imageFormat".to_owned(), format.into())));
        self.job.run("/v1/stills", own).await
    }
}

impl Job {
    /// Submits to that route, with these fields beside those that all renders have.
    async fn run(self, route: &str, own: Map<String, Value>) -> Result<Exit, Failed> {
        if self.output.as_ref().is_some_and(|file| file.is_dir()) {
            return Err(Failed::new(Exit::Usage, "--output is a folder: name the file in it"));
        }
        let project = Project::named(&self.site)?;
        // Before a server is started for what cannot be submitted.
        let site = project.as_ref().map_or(self.site.as_str(), |project| &project.name);
        let body = self.body(site, own).map_err(usage)?;
        let Host { client, within } = Host::find(&self.server).await?;
        let done = self.submit(route, &client, within.as_ref(), project.as_ref(), &body).await;
        if let Some(within) = within {
            within.stop().await?;
        }
        done
    }

    async fn submit(
        &self,
        route: &str,
        client: &Client,
        within: Option<&Within>,
        project: Option<&Project>,
        body: &Map<String, Value>,
    ) -> Result<Exit, Failed> {
        if within.is_some() && self.detach {
            let message = "--detach needs a server that stays, and none runs: start `lastframe serve`";
            return Err(Failed::new(Exit::Unreachable, message));
        }
        if let Some(Project { folder, name }) = project {
            note(format!("bundling {} as the site {name}", folder.display()));
            Add::of(folder, name, &self.server).add(client).await?;
        }
        let mut request = client.request(Method::POST, route).json(body);
        if let Some(key) = &self.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let accepted: Accepted = client.json(request).await?;
        if !accepted.ignored.is_empty() {
            tracing::warn!(options = accepted.ignored.join(", "), "these options change nothing here");
        }
        let render = accepted.render;
        if self.detach {
            print(self.json, &render, || render.render_id.to_string())?;
            return Ok(Exit::Done);
        }
        note(format!("render {} accepted by {}", render.render_id, client.server()));
        let render = follow(client, render, within.is_some()).await?;
        tokio::select! {
            done = self.conclude(client, &render) => done,
            // Following has taken the signal over for the whole process.
            _ = tokio::signal::ctrl_c() => {
                let message = format!("interrupted; render {} is done, and its file is kept", render.render_id);
                Err(Failed::new(Exit::Interrupted, message))
            }
        }
    }

    /// Says how it ended, and fetches the file if it is wanted.
    async fn conclude(&self, client: &Client, render: &RenderView) -> Result<Exit, Failed> {
        if render.status != Status::Succeeded {
            if self.json {
                print(true, render, String::new)?;
            }
            return Err(Failed::new(Exit::NotWell, describe_failure(render)));
        }
        let place = match &self.output {
            Some(file) => {
                let size = client.download(&format!("/v1/renders/{}/output", render.render_id), file).await?;
                format!("{} ({:.1} MB)", file.display(), size as f64 / 1e6)
            }
            None => render.output_file.clone().unwrap_or_default(),
        };
        print(self.json, render, || format!("{}: {place}", describe_end(render)))?;
        Ok(Exit::Done)
    }

    fn body(&self, site: &str, own: Map<String, Value>) -> anyhow::Result<Map<String, Value>> {
        let mut body = own;
        body.insert("serveUrl".into(), site.into());
        body.insert("composition".into(), self.composition.as_str().into());
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
        if let Some(group) = &self.group {
            put(&mut body, "queue.group", group.as_str().into())?;
        }
        if let Some(url) = &self.webhook {
            put(&mut body, "webhook.url", url.as_str().into())?;
        }
        if !self.notify.is_empty() {
            put(&mut body, "notify.email", self.notify.clone().into())?;
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

/// A Remotion project that is not a site yet.
#[derive(Debug)]
struct Project {
    folder: PathBuf,
    /// What the site is called: as the folder is.
    name: String,
}

impl Project {
    /// The project that a path means; none for the name of a site. A path has a slash, or is a dot.
    fn named(text: &str) -> Result<Option<Self>, Failed> {
        if !text.contains('/') && text != "." && text != ".." {
            return Ok(None);
        }
        let folder = Path::new(text)
            .canonicalize()
            .map_err(|error| Failed::new(Exit::Usage, format!("no project at {text}: {error}")))?;
        if !folder.join("package.json").is_file() {
            let message = format!("{text} is no Remotion project: it has no package.json");
            return Err(Failed::new(Exit::Usage, message));
        }
        let name = folder.file_name().map_or("site".into(), |name| name.to_string_lossy().into_owned());
        Ok(Some(Self { folder, name }))
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

fn describe_failure(render: &RenderView) -> String {
    let mut text = format!("render {} {}", render.render_id, render.status);
    for error in &render.errors {
        text.push_str(&format!("\n  {}: {}", error.code, error.message));
        if let Some(stack) = &error.stack {
            text.push_str(&format!("\n{stack}"));
        }
    }
    text + &format!("\nIts log: lastframe logs {0}\nAgain:   lastframe retry {0}", render.render_id)
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

    #[test]
    fn a_name_is_a_site_and_a_path_is_a_project() {
        assert!(Project::named("remotion-app").unwrap().is_none());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("films");
        std::fs::create_dir(&path).unwrap();
        let error = Project::named(path.to_str().unwrap()).unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        std::fs::write(path.join("package.json"), "{}").unwrap();
        assert_eq!(Project::named(path.to_str().unwrap()).unwrap().unwrap().name, "films");
    }
}
