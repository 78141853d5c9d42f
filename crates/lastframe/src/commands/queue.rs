//! `lastframe queue`, `group`, `tenant`, `redrive`: hold on, go on, limit tenants, try again what failed.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use lastframe_core::{Limits, RenderId, percent};
use reqwest::Method;

use super::{Ask, Server, note, notices, print, say};
use crate::client::{Client, Failed};
use crate::exit::Exit;
use crate::http::{GroupView, QueueView, RedriveRequest, Redriven, Settings, TenantView, Tenants};

/// How often a queue that is drained is looked at.
const LOOK: Duration = Duration::from_millis(250);

pub(super) const QUEUE_EXAMPLES: &str = "\
Before the machine is worked on:
  lastframe queue drain     let what is being rendered finish, and start nothing more
  lastframe queue resume    go on afterwards";

pub(super) const GROUP_EXAMPLES: &str = "\
A render with `--set queue.onFailure=block` that fails for good holds its group. Then one of these:
  lastframe retry ID                    try it again, in its place
  lastframe group resume customer-7     go on without it";

pub(super) const TENANT_EXAMPLES: &str = "\
Examples:
  lastframe tenant set acme --weight 3               three turns for each one of the others
  lastframe tenant set acme --max-concurrency 2      never more than two renders at once
  lastframe tenant set acme --max-queued 1000 --submits-per-minute 60
  lastframe tenant set acme --unset max-queued       what the server's configuration says
  lastframe tenant set acme --pause

`tenant list` shows what counts; what is a tenant's own, and no default, has a star.";

pub(super) const REDRIVE_EXAMPLES: &str = "\
All conditions must hold; each render keeps its id and its place in its group:
  lastframe redrive --code browser_crashed --since 2026-03-01T00:00:00Z
  lastframe redrive --group customer-7
  lastframe redrive --id ID --id ID
  lastframe redrive --all";

#[derive(Debug, Subcommand)]
pub(super) enum Queue {
    /// Say whether it is paused, and how many renders are in which state
    Status(Ask),
    /// Start nothing more; what is being rendered goes on
    Pause(Ask),
    /// Go on
    Resume(Ask),
    /// Pause, and wait until nothing is being rendered
    Drain(Ask),
}

impl Queue {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let (look, request) = match &self {
            Self::Status(look) => (look, (Method::GET, "/v1/queue")),
            Self::Pause(look) => (look, (Method::POST, "/v1/queue/pause")),
            Self::Resume(look) => (look, (Method::POST, "/v1/queue/resume")),
            Self::Drain(look) => return drain(look).await,
        };
        let client = look.server.client()?;
        let queue: QueueView = client.json(client.request(request.0, request.1)).await?;
        print(look.json, &queue, || describe_queue(&queue))?;
        Ok(Exit::Done)
    }
}

fn describe_queue(queue: &QueueView) -> String {
    let counts = queue.counts;
    let state = if queue.paused { "the queue is paused: nothing more starts" } else { "the queue is open" };
    format!(
        "{state}\nqueued    {}\nrendering {}\nsucceeded {}\nfailed    {}\ncancelled {}",
        counts.queued, counts.rendering, counts.succeeded, counts.failed, counts.cancelled
    )
}

async fn drain(look: &Ask) -> Result<Exit, Failed> {
    let client = &look.server.client()?;
    let queue: QueueView = client.post("/v1/queue/pause").await?;
    let drained = tokio::select! {
        // The signal is ours before anything is said.
        biased;
        _ = tokio::signal::ctrl_c() => {
            let message = "interrupted; the queue stays paused (go on with `lastframe queue resume`)";
            return Err(Failed::new(Exit::Interrupted, message));
        }
        drained = await_idle(client, queue) => drained?,
    };
    print(look.json, &drained, || {
        format!(
            "drained: nothing is being rendered and {} wait. The queue stays paused until `lastframe queue resume`",
            drained.counts.queued
        )
    })?;
    Ok(Exit::Done)
}

/// Shows how many are left until none is.
async fn await_idle(client: &Client, mut queue: QueueView) -> Result<QueueView, Failed> {
    let bar = ProgressBar::new(queue.counts.rendering);
    bar.set_style(ProgressStyle::with_template("{bar:36} {msg}")?);
    let mut told = 0;
    while queue.counts.rendering > 0 {
        let left = queue.counts.rendering;
        let message = format!("{left} still being rendered");
        bar.set_position(bar.length().unwrap_or(left).saturating_sub(left));
        bar.set_message(message.clone());
        if bar.is_hidden() && left != told {
            note(message);
            told = left;
        }
        tokio::time::sleep(LOOK).await;
        queue = client.get("/v1/queue").await?;
    }
    bar.finish_and_clear();
    Ok(queue)
}

#[derive(Debug, Subcommand)]
pub(super) enum Group {
    /// Say what it does and what stands in its way
    Show(OneGroup),
    /// Start nothing more of it; what is being rendered goes on
    Pause(OneGroup),
    /// Go on, without the render that failed and holds it if one does
    Resume(OneGroup),
}

#[derive(Args, Debug)]
pub(super) struct OneGroup {
    /// The group
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl Group {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let (group, method, verb) = match &self {
            Self::Show(group) => (group, Method::GET, ""),
            Self::Pause(group) => (group, Method::POST, "/pause"),
            Self::Resume(group) => (group, Method::POST, "/resume"),
        };
        let client = group.server.client()?;
        let path = format!("/v1/groups/{}{verb}", percent::encode(&group.name));
        let view: GroupView = client.json(client.request(method, &path)).await?;
        say(if group.json { serde_json::to_string_pretty(&view)? } else { describe_group(&view) });
        Ok(Exit::Done)
    }
}

fn describe_group(group: &GroupView) -> String {
    let mut parts = vec![format!("{} wait in group {}", group.queued, group.group)];
    parts.extend(group.head.map(|id| format!("it is the turn of {id}")));
    parts.extend(group.paused.then(|| "it is paused".to_owned()));
    parts.extend(group.held_by.map(|id| {
        format!("it is held by {id}, which failed: `lastframe retry {id}`, or resume the group to go on without it")
    }));
    parts.join("; ")
}

#[derive(Debug, Subcommand)]
pub(super) enum Tenant {
    /// List tenants with their limits and renders
    List(Ask),
    /// Change what a tenant gets; what is not said stays as it is
    #[command(after_help = TENANT_EXAMPLES)]
    Set(Set),
    /// Show or change whom its renders tell when they have ended, where they do not say it themselves
    #[command(after_help = notices::NOTICES_EXAMPLES)]
    Notices(notices::Notices),
    /// Make, list and remove what its webhooks are signed with
    #[command(subcommand, after_help = notices::SECRET_EXAMPLES)]
    Secret(notices::SigningSecret),
}

#[derive(Args, Debug)]
pub(super) struct Set {
    /// The tenant
    name: String,
    /// Turns that it has for each one of a tenant of weight 1, while both wait: 1 to 1000
    #[arg(long, value_name = "N")]
    weight: Option<u32>,
    /// Renders of it at once, at most; 0 lets none start
    #[arg(long, value_name = "N")]
    max_concurrency: Option<u32>,
    /// Renders of it that wait, at most; 0 takes none on
    #[arg(long, value_name = "N")]
    max_queued: Option<u32>,
    /// Renders of it that are accepted in a minute, at most; 0 takes none on
    #[arg(long, value_name = "N")]
    submits_per_minute: Option<u32>,
    /// The largest body of a request
    #[arg(long, value_name = "BYTES")]
    max_body: Option<u64>,
    /// The longest that one attempt may take
    #[arg(long, value_name = "SECONDS")]
    max_render_seconds: Option<u32>,
    /// Go back to the default of the server's configuration; may be said many times
    #[arg(long, value_name = "LIMIT")]
    unset: Vec<Limit>,
    /// Start nothing more of it
    #[arg(long)]
    pause: bool,
    /// Go on
    #[arg(long, conflicts_with = "pause")]
    resume: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// One of a tenant's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Limit {
    Weight,
    MaxConcurrency,
    MaxQueued,
    SubmitsPerMinute,
    MaxBody,
    MaxRenderSeconds,
}

impl Tenant {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        match self {
            Self::List(look) => {
                let tenants: Tenants = look.server.client()?.get("/v1/tenants").await?;
                if look.json {
                    say(serde_json::to_string_pretty(&tenants)?);
                } else if tenants.tenants.is_empty() {
                    say("no tenants yet: one is there once it has submitted a render");
                } else {
                    tenants.tenants.iter().map(describe_tenant).for_each(say);
                }
            }
            Self::Set(set) => {
                let json = set.json;
                let tenant = set.run().await?;
                print(json, &tenant, || describe_tenant(&tenant))?;
            }
            Self::Notices(notices) => notices.run().await?,
            Self::Secret(secret) => secret.run().await?,
        }
        Ok(Exit::Done)
    }
}

impl Set {
    async fn run(self) -> Result<TenantView, Failed> {
        let client = self.server.client()?;
        let path = format!("/v1/tenants/{}", percent::encode(&self.name));
        let known: Tenants = client.get("/v1/tenants").await?;
        let known = known.tenants.into_iter().find(|tenant| tenant.tenant == self.name);
        let (own, paused) = known.map_or_else(Default::default, |tenant| (tenant.limits, tenant.paused));
        let paused = if self.pause || self.resume { self.pause } else { paused };
        let settings = Settings::new(self.change(own), paused);
        client.json(client.request(Method::PUT, &path).json(&settings)).await
    }

    /// The limits with what is said here.
    fn change(&self, own: Limits) -> Limits {
        let kept = |limit| !self.unset.contains(&limit);
        Limits {
            weight: self.weight.or(own.weight.filter(|_| kept(Limit::Weight))),
            max_concurrency: self
                .max_concurrency
                .or(own.max_concurrency.filter(|_| kept(Limit::MaxConcurrency))),
            max_queued: self.max_queued.or(own.max_queued.filter(|_| kept(Limit::MaxQueued))),
            submits_per_minute: self
                .submits_per_minute
                .or(own.submits_per_minute.filter(|_| kept(Limit::SubmitsPerMinute))),
            max_body: self.max_body.or(own.max_body.filter(|_| kept(Limit::MaxBody))),
            max_render_seconds: self
                .max_render_seconds
                .or(own.max_render_seconds.filter(|_| kept(Limit::MaxRenderSeconds))),
        }
    }
}

/// Its limits as they count; those that are its own and no defaults have a star.
fn describe_tenant(tenant: &TenantView) -> String {
    let (own, counts) = (tenant.limits, tenant.effective);
    let limit = |words: &str, value: Option<u64>, is_own: bool| {
        let star = if is_own { "*" } else { "" };
        value.map(|value| words.replace('N', &format!("{value}{star}")))
    };
    let limits = [
        limit("weight N", counts.weight.map(u64::from), own.weight.is_some()),
        limit("N at once", counts.max_concurrency.map(u64::from), own.max_concurrency.is_some()),
        limit("N waiting", counts.max_queued.map(u64::from), own.max_queued.is_some()),
        limit("N a minute", counts.submits_per_minute.map(u64::from), own.submits_per_minute.is_some()),
        limit("N bytes", counts.max_body, own.max_body.is_some()),
        limit("N s", counts.max_render_seconds.map(u64::from), own.max_render_seconds.is_some()),
        tenant.paused.then(|| "paused".to_owned()),
    ];
    let limits: Vec<_> = limits.into_iter().flatten().collect();
    format!(
        "{:<20} {}: {} queued, {} rendering",
        tenant.tenant,
        limits.join(", "),
        tenant.counts.queued,
        tenant.counts.rendering
    )
}

#[derive(Args, Debug)]
pub(super) struct Redrive {
    /// This render, if it failed; may be said many times
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<RenderId>,
    /// Of this group
    #[arg(long)]
    group: Option<String>,
    /// Failed with this code, such as browser_crashed
    #[arg(long)]
    code: Option<String>,
    /// Failed at this time or later, such as 2026-03-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Failed before this time [default: now]
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// All that failed
    #[arg(long, conflicts_with_all = ["ids", "group", "code", "since", "until"])]
    all: bool,
    /// Print JSON, when all are queued
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl Redrive {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let client = self.server.client()?;
        let mut asked = RedriveRequest {
            all: self.all.then_some(true),
            ids: (!self.ids.is_empty()).then_some(self.ids),
            group: self.group,
            code: self.code,
            since: self.since,
            until: self.until,
            limit: None,
        };
        let mut renders = Vec::new();
        loop {
            let redriven: Redriven =
                client.json(client.request(Method::POST, "/v1/redrive").json(&asked)).await?;
            if !self.json {
                redriven.renders.iter().map(RenderId::to_string).for_each(say);
            }
            renders.extend(redriven.renders);
            if !redriven.more {
                break;
            }
            // From now on a condition of its own: what fails again meanwhile is not tried again for ever.
            (asked.all, asked.until) = (None, Some(redriven.until));
        }
        if self.json {
            print(true, &serde_json::json!({"renders": renders}), String::new)?;
        } else if renders.is_empty() {
            say("no failed renders of that kind");
        }
        Ok(Exit::Done)
    }
}
