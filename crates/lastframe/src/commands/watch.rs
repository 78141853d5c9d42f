//! `lastframe watch`: several renders at once, live, until they end.

use std::collections::BTreeMap;

use clap::Args;
use indicatif::{MultiProgress, ProgressBar};
use lastframe_core::{RenderId, Status};

use super::follow::{LOOK, bar, describe_end, describe_state, draw, headline, patiently};
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
            watched = self.watch(&client) => watched,
            _ = tokio::signal::ctrl_c() => {
                Err(Failed::new(Exit::Interrupted, "interrupted; the renders go on"))
            }
        }
    }

    async fn watch(&self, client: &Client) -> Result<Exit, Failed> {
        let mut screen = Screen { json: self.json, bars: MultiProgress::new(), seen: BTreeMap::new() };
        let hidden = ProgressBar::hidden();
        let mut exit = Exit::Done;
        let mut open: Vec<RenderId> = self.ids.clone();
        loop {
            if self.ids.is_empty() {
                for render in unfinished(client).await? {
                    if !open.contains(&render.render_id) {
                        open.push(render.render_id);
                    }
                }
            }
            let mut left = Vec::new();
            for id in open {
                let render: RenderView = patiently(&format!("/v1/renders/{id}"), client, &hidden).await?;
                screen.show(&render)?;
                match render.status {
                    Status::Succeeded => {}
                    Status::Failed | Status::Cancelled => exit = Exit::NotWell,
                    Status::Queued | Status::Rendering => left.push(id),
                }
            }
            open = left;
            if open.is_empty() {
                if screen.seen.is_empty() {
                    note("nothing is queued or being rendered");
                }
                return Ok(exit);
            }
            tokio::time::sleep(LOOK).await;
        }
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
