//! What the queue can do, measured in-process; and the load generator for whatever answers HTTP.
//!
//! Each subcommand measures one thing once and prints one line of JSON. `bench/queue.mjs` runs them in turn with
//! their peers. Nothing here is random except the ids that the store makes.

mod closed_loop;
mod http;
mod load;
mod look;
mod submit;
mod turn;
mod work;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use lastframe_core::ports::{Pausable, Queue as _};
use serde::Serialize;
use tokio::time::Instant;

use crate::closed_loop::Until;
use crate::load::Shape;

/// Measure the queue of Lastframe.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Subcommand)]
enum Measure {
    /// Submit one render at a time from each caller, in-process.
    Submit {
        #[arg(long)]
        data: PathBuf,
        #[arg(long)]
        callers: usize,
        /// Measured seconds.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        /// Stop after so many.
        #[arg(long, default_value_t = usize::MAX)]
        calls: usize,
    },
    /// Fill an empty queue.
    Load {
        #[arg(long)]
        data: PathBuf,
        #[arg(long)]
        shape: Shape,
        #[arg(long)]
        depth: usize,
    },
    /// Claim and complete from a queue that was loaded, and fill it up again.
    Work {
        #[arg(long)]
        data: PathBuf,
        #[arg(long)]
        shape: Shape,
        /// What the queue was loaded with.
        #[arg(long)]
        depth: usize,
        #[arg(long)]
        workers: usize,
        /// Measured seconds.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
    /// Pause the queue, so that a server can be started on it and renders nothing.
    Pause {
        #[arg(long)]
        data: PathBuf,
    },
    /// The time to open the store.
    Open {
        #[arg(long)]
        data: PathBuf,
    },
    /// What the dashboard asks, of an empty store that is filled first.
    Look {
        #[arg(long)]
        data: PathBuf,
        #[arg(long, default_value_t = 100_000)]
        renders: usize,
    },
    /// The wait of a new tenant's first render behind a loaded queue.
    Turn {
        #[arg(long)]
        data: PathBuf,
        #[arg(long)]
        workers: usize,
        /// New tenants, one after another.
        #[arg(long, default_value_t = 20)]
        tenants: usize,
    },
    /// Post the same body again and again over connections that are kept open.
    Http {
        /// `http://HOST:PORT/PATH`.
        #[arg(long)]
        url: String,
        /// A file with the body.
        #[arg(long)]
        body: PathBuf,
        /// A bearer token.
        #[arg(long)]
        token: Option<String>,
        #[arg(long)]
        connections: usize,
        /// Measured seconds.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().measure {
        Measure::Submit { data, callers, seconds, calls } => {
            let until = Until { passed: Duration::from_secs_f64(seconds), calls };
            print(&submit::measure(load::open(&data).await?, callers, until).await?)
        }
        Measure::Load { data, shape, depth } => {
            let store = load::open(&data).await?;
            print(&load::fill(&store, shape, 0, depth).await?)
        }
        Measure::Work { data, shape, depth, workers, seconds } => {
            let store = load::open(&data).await?;
            print(&work::measure(store, shape, depth, workers, Duration::from_secs_f64(seconds)).await?)
        }
        Measure::Pause { data } => {
            let store = load::open(&data).await?;
            store.pause(Pausable::Queue).await?;
            print(&store.overview().await?.counts.queued)
        }
        Measure::Open { data } => {
            let start = Instant::now();
            let store = load::open(&data).await?;
            let opened = print(&Opened { ms: start.elapsed().as_secs_f64() * 1e3 });
            drop(store);
            opened
        }
        Measure::Look { data, renders } => {
            let store = load::open(&data).await?;
            look::measure(store, renders).await?.iter().try_for_each(print)
        }
        Measure::Turn { data, workers, tenants } => {
            print(&turn::measure(load::open(&data).await?, workers, tenants).await?)
        }
        Measure::Http { url, body, token, connections, seconds } => {
            let request = http::Request::post(&url, token.as_deref(), &std::fs::read(body)?)?;
            let until = Until { passed: Duration::from_secs_f64(seconds), calls: usize::MAX };
            print(&http::measure(request, connections, until).await?)
        }
    }
}

#[derive(Serialize)]
struct Opened {
    ms: f64,
}

fn print(figures: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(figures)?;
    line.push(b'\n');
    Ok(std::io::stdout().write_all(&line)?)
}
