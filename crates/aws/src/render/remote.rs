//! What a course asks of AWS, and what it is told.

use std::io;

use async_trait::async_trait;
use jiff::Timestamp;
use lastframe_core::ports::Job;
use lastframe_core::site::SiteVersion;
use lastframe_core::{Failure, Kind, Progress};

/// One function of Remotion Lambda, and the buckets that it may use.
#[async_trait]
pub(crate) trait Remote: std::fmt::Debug + Send + Sync {
    /// The bucket that its renders go to when they name none.
    async fn bucket(&self) -> Result<String, Refusal>;

    /// What the function opens for this site, which is brought to the bucket if it is not there.
    async fn serve_url(&self, bucket: &str, site: &SiteVersion) -> Result<String, Refusal>;

    /// A function could not open this site: before the next render it is looked for in the bucket again.
    fn doubt(&self, bucket: &str, site: &SiteVersion);

    /// Starts the render; of a still, returns when it is made. Sends the request once.
    async fn start(&self, order: Order<'_>) -> Result<Started, NotStarted>;

    /// How far it is, from the bucket; none while nothing is written of it.
    async fn look(&self, at: At<'_>) -> io::Result<Option<Seen>>;

    /// The renders that wrote anything since then, and those that hold an output of that name.
    async fn recent(&self, bucket: &str, since: Timestamp, out_name: &str) -> io::Result<Vec<Recent>>;

    /// Asks the functions of the render to stop.
    async fn cancel(&self, at: At<'_>) -> io::Result<()>;

    /// Bytes of an object of the bucket; none when there is no such object.
    async fn size(&self, bucket: &str, key: &str) -> io::Result<Option<u64>>;

    /// Removes everything that the render has in the bucket.
    async fn delete(&self, at: At<'_>) -> io::Result<()>;
}

/// What is to be started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<'a> {
    pub(crate) job: &'a Job,
    pub(crate) bucket: &'a str,
    pub(crate) serve_url: &'a str,
    /// The name that its output gets.
    pub(crate) out_name: &'a str,
}

/// Where a render that was started is found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) render_id: &'a str,
    /// The name of its output. It alone tells that a still is made.
    pub(crate) out_name: &'a str,
    pub(crate) kind: Kind,
}

/// What a start was answered with.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) render_id: String,
    /// What it has cost already, in US dollars: a still is made by now.
    pub(crate) cost_in_usd: f64,
}

/// Why something was not done.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// AWS has no room or cannot be asked now, which is nothing that the render could help.
    Passing(String),
    /// It would be refused again.
    Final(Failure),
}

/// Why a start was not answered with a render.
#[derive(Debug)]
pub(crate) enum NotStarted {
    /// Nothing was started.
    Refused(Refusal),
    /// The answer was lost: it may have been started.
    Unanswered(String),
}

/// A render in the bucket that may be the one looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recent {
    pub(crate) render_id: String,
    /// It holds an output of the name that was asked for.
    pub(crate) has_output: bool,
}

/// A render, as its functions have written of it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The name its output will have, once the composition is known.
    pub(crate) out_name: Option<String>,
    pub(crate) launched_at: Timestamp,
    /// When the time of its main function is over.
    pub(crate) gives_up_at: Timestamp,
    pub(crate) progress: Progress,
    /// Changes whenever anything has happened.
    pub(crate) pulse: u64,
    /// What its functions have cost so far, in US dollars, as Remotion estimates it.
    pub(crate) cost_in_usd: f64,
    /// Width and height in pixels, once the composition is known.
    pub(crate) size: Option<(u32, u32)>,
    pub(crate) state: State,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    /// Nothing yet.
    Running,
    /// It is made.
    Done {
        /// The key of the output in the bucket.
        key: String,
        /// Bytes, as the function counted them; a still's are the object's own.
        size_in_bytes: u64,
    },
    /// It was cancelled.
    Cancelled,
    /// It ended without an output.
    Failed(Failure),
}
