//! `lastframe show`, `list`, `cancel`, `retry`, `link`, `logs`.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use lastframe_core::Status;
use reqwest::Method;
use serde_json::{Map, Value};

use super::follow::{describe_state, details};
use super::{Paging, Server, print, say};
use crate::client::Failed;
use crate::config;
use crate::exit::Exit;
use crate::http::{LinkView, RenderPage, RenderView};

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
    #[command(flatten)]
    paging: Paging,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl List {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let client = self.server.client()?;
        let mut query = self.paging.query();
        query.extend(self.status.map(|status| ("status", status.to_string())));
        query.extend(self.group.map(|group| ("group", group)));
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
        Paging::say_more(page.next_cursor.as_deref());
        Ok(Exit::Done)
    }
}

#[derive(Args, Debug)]
pub(super) struct Cancel {
    /// The render's id
    id: String,
    /// Print the render as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl Cancel {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let render: RenderView =
            self.server.client()?.post(&format!("/v1/renders/{}/cancel", self.id)).await?;
        print(self.json, &render, || {
            if render.status == Status::Cancelled { "cancelled" } else { "it is being stopped" }.into()
        })?;
        Ok(Exit::Done)
    }
}

#[derive(Args, Debug)]
pub(super) struct Retry {
    /// The render's id
    id: String,
    /// Print the render as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl Retry {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let render: RenderView =
            self.server.client()?.post(&format!("/v1/renders/{}/retry", self.id)).await?;
        print(self.json, &render, || describe_state(&render))?;
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
    /// Print JSON
    #[arg(long)]
    json: bool,
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
        print(self.json, &link, || link.url.clone())?;
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

pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}
