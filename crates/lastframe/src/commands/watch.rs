//! `lastframe watch`: several renders at once, live, until they end.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use indicatif::{MultiProgress, ProgressBar};
use lastframe_core::{RenderId, Status};
use tokio::time::{Instant, timeout};

use super::follow::{PATIENCE, bar, describe_end, describe_state, draw, headline, patiently};
use super::{Server, note, say};
use crate::client::{Client, Failed};
use crate::exit::Exit;
use crate::http::{RenderPage, RenderView};

pub(super) const EXAMPLES: &str = "\
Examples:
  lastframe watch                  everything that is queued or being rendered
  lastframe watch ID ID            these
  lastframe watch --json | jq .status     a line for every change

Its exit code is 1 when one of them failed or was cancelled. Ctrl-C leaves; the renders go on.";

/// How often is looked where there is no stream.
const LOOK: Duration = Duration::from_secs(2);
/// How long to wait when the stream has broken off.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a stream may say nothing: three times as long as a server does.
const SILENCE: Duration = Duration::from_secs(45);
/// Queued renders that are shown at once; the others come up as they are rendered.
const SHOWN: usize = 10;

#[derive(Args, Debug)]
pub(super) struct Watch {
    /// The renders' ids [default: all of yours that have not ended]
    ids: Vec<RenderId>,
    /// Print a line of JSON for every change
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl Watch {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let client = self.server.client()?;
        tokio::select! {
            // The signal is ours before anything is said.
            biased;
            _ = tokio::signal::ctrl_c() => {
                Err(Failed::new(Exit::Interrupted, "interrupted; the renders go on"))
            }
            watched = self.watch(&client) => watched,
        }
    }

    async fn watch(&self, client: &Client) -> Result<Exit, Failed> {
        let screen = Screen { json: self.json, bars: MultiProgress::new(), seen: BTreeMap::new() };
        let mut watched =
            Watched { all: self.ids.is_empty(), open: self.ids.clone(), screen, exit: Exit::Done };
        let mut place: Option<String> = None;
        let mut until = Instant::now() + PATIENCE;
        loop {
            match client.events("/v1/events", place.as_deref()).await {
                Ok(None) => return watched.poll(client).await,
                Ok(Some(mut events)) => {
                    // A stream that says nothing for so long is a connection that nobody has closed.
                    while let Ok(Some(event)) = timeout(SILENCE, events.next()).await {
                        match event.name.as_str() {
                            "reset" => watched.look(client).await?,
                            "render" => watched.hear(&serde_json::from_str(&event.data)?)?,
                            _ => {}
                        }
                        place = event.id.or(place);
                        if watched.open.is_empty() {
                            watched.look(client).await?;
                        }
                        if watched.open.is_empty() {
                            return Ok(watched.exit);
                        }
                    }
                    // The server was there until now, however long ago the stream began.
                    until = Instant::now() + PATIENCE;
                }
                Err(failed) if failed.exit == Exit::Unreachable && Instant::now() < until => {}
                Err(failed) => return Err(failed),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// The renders that are watched, and how they are.
struct Watched {
    /// Whatever is queued or being rendered; else what was named.
    all: bool,
    open: Vec<RenderId>,
    screen: Screen,
    exit: Exit,
}

impl Watched {
    /// Looks at all of them.
    async fn look(&mut self, client: &Client) -> Result<(), Failed> {
        if self.all {
            for render in unfinished(client).await? {
                if !self.open.contains(&render.render_id) {
                    self.open.push(render.render_id);
                }
            }
        }
        let hidden = ProgressBar::hidden();
        for id in self.open.clone() {
            let render: RenderView = patiently(&format!("/v1/renders/{id}"), client, &hidden).await?;
            self.hear(&render)?;
        }
        if self.screen.seen.is_empty() {
            note("nothing is queued or being rendered");
        }
        Ok(())
    }

    /// Looks again and again until all have ended.
    async fn poll(mut self, client: &Client) -> Result<Exit, Failed> {
        loop {
            self.look(client).await?;
            if self.open.is_empty() {
                return Ok(self.exit);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Shows how a render is, if it is one of them.
    fn hear(&mut self, render: &RenderView) -> Result<(), Failed> {
        let id = render.render_id;
        if !self.open.contains(&id) {
            let comes_up = match render.status {
                Status::Rendering => true,
                Status::Queued => self.open.len() < SHOWN,
                Status::Succeeded | Status::Failed | Status::Cancelled => false,
            };
            if !self.all || !comes_up {
                return Ok(());
            }
            self.open.push(id);
        }
        self.screen.show(render)?;
        if render.status.is_terminal() {
            self.open.retain(|open| *open != id);
            if render.status != Status::Succeeded {
                self.exit = Exit::NotWell;
            }
        }
        Ok(())
    }
}

/// What is being rendered, and some of what is queued.
async fn unfinished(client: &Client) -> Result<Vec<RenderView>, Failed> {
    let mut all: RenderPage = client.get("/v1/renders?status=rendering&limit=200").await?;
    let queued: RenderPage = client.get(&format!("/v1/renders?status=queued&limit={SHOWN}")).await?;
    all.renders.extend(queued.renders);
    Ok(all.renders)
}

/// What has been shown of each.
struct Screen {
    json: bool,
    bars: MultiProgress,
    seen: BTreeMap<RenderId, Seen>,
}

struct Seen {
    headline: String,
    frames: u32,
    bar: ProgressBar,
}

impl Screen {
    fn show(&mut self, render: &RenderView) -> Result<(), Failed> {
        let name = format!("{} {}/{}", render.render_id, render.serve_url, render.composition);
        let seen = self.seen.entry(render.render_id).or_insert_with(|| {
            let bar = if self.json { ProgressBar::hidden() } else { self.bars.add(bar()) };
            bar.set_prefix(format!("{name} "));
            Seen { headline: String::new(), frames: 0, bar }
        });
        let headline = headline(render);
        let changed = headline != seen.headline;
        if self.json {
            if changed || render.frames_rendered != seen.frames {
                say(serde_json::to_string(render)?);
            }
        } else if !render.status.is_terminal() {
            draw(&seen.bar, render);
        }
        if changed && !self.json {
            let ended = match render.status {
                Status::Succeeded => Some(describe_end(render)),
                Status::Failed | Status::Cancelled => Some(describe_failure(render)),
                Status::Queued | Status::Rendering => seen.bar.is_hidden().then(|| describe_state(render)),
            };
            if render.status.is_terminal() {
                seen.bar.finish_and_clear();
            }
            if let Some(text) = ended {
                self.bars.suspend(|| say(format!("{name}: {text}")));
            }
        }
        seen.headline = headline;
        seen.frames = render.frames_rendered;
        Ok(())
    }
}

fn describe_failure(render: &RenderView) -> String {
    let why = render.errors.first().map(|error| format!(": {}", error.message)).unwrap_or_default();
    format!("{}{why}", render.status)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Reads what the command asks, and gives it this.
    async fn answer(server: &TcpListener, kind: &str, body: &str) -> TcpStream {
        let (mut connection, _) = server.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            assert_ne!(connection.read_buf(&mut asked).await.unwrap(), 0);
        }
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n");
        connection.write_all((head + body).as_bytes()).await.unwrap();
        connection
    }

    #[tokio::test]
    async fn a_server_may_be_away_for_a_minute_however_long_it_was_listened_to() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        let client = Client::new(&url, "token".into(), None).unwrap();
        let id: RenderId = "01890000-0000-7000-8000-000000000001".parse().unwrap();
        let nowhere = Server { server: None, token: None, ca: None, data: None };
        let watch = Watch { ids: vec![id], json: true, server: nowhere };
        let mut watching = tokio::spawn(async move { watch.watch(&client).await });

        let stream = answer(&server, "text/event-stream", "event: reset\nid: 1\ndata: {}\n\n").await;
        // It looks at the render, so it has the stream.
        let render = json!({
            "renderId": id, "status": "rendering", "kind": "media", "serveUrl": "site", "siteVersion": "", "composition": "main",
            "priority": 0, "attempt": 1, "maxAttempts": 3, "overallProgress": 0.5, "framesRendered": 5, "errors": [],
            "runAt": "2026-01-01T00:00:00Z", "createdAt": "2026-01-01T00:00:00Z",
        });
        drop(answer(&server, "application/json", &render.to_string()).await);
        tokio::time::pause();
        tokio::time::advance(PATIENCE + AGAIN).await;
        drop((server, stream));

        let early = timeout(PATIENCE - 2 * AGAIN, &mut watching).await;
        assert!(early.is_err(), "it goes on asking, but: {early:?}");
        let failed = watching.await.unwrap().unwrap_err();
        assert_eq!(failed.exit, Exit::Unreachable, "{failed:?}");
    }
}
