//! The queue on AWS: DynamoDB is the truth, SQS rings.
//!
//! Every verb is one transaction of DynamoDB on a few items, each on the condition that nobody has changed it since it was
//! read. A *lane* is what is rendered one after another: a group of a tenant, or a render without a group by itself. When a
//! lane has something to claim, a *ring* goes to an SQS queue that keeps order: "this lane has work", no more. Whoever gets it
//! claims the lane's head, whatever rang. A ring that comes late or twice claims nothing. Between the transaction and the ring
//! the lane stands in a list of what is unsent, so that a death in between is mended by [`AwsQueue::sweep`].
//!
//! Where to look: `schema` has the table's keys and indexes, `row` its items, `table` asks and transacts, `lane` decides whose
//! turn it is, `ring` tells SQS.

pub mod schema;
mod table;

use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use lastframe_core::ports::QueueError;
use lastframe_core::{Clock, Lease, Limits, Observer, RetryPolicy};

/// What the queue is made of, and how it behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The DynamoDB table.
    pub table: String,
    /// The FIFO queue of rings.
    pub queue_url: String,
    /// The FIFO queue where a letter lies for each failed render; none are written when absent.
    pub dead_letters_url: Option<String>,
    /// The queue of what has to wait for seconds or minutes; without it, it waits for the sweep.
    pub timers_url: Option<String>,
    /// The bucket of what is too large for the table.
    pub bucket: String,
    /// How long a lease holds without an extension.
    pub lease: Duration,
    /// When failed attempts are tried again.
    pub retry: RetryPolicy,
    /// The limits of tenants, for those who ask. The queue itself keeps to none of them.
    pub limits: Limits,
}

/// The queue, of which any number of processes may have one open.
#[derive(Clone, Debug)]
pub struct AwsQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
}

impl AwsQueue {
    /// Opens the queue. Nothing is asked of AWS yet.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    #[expect(clippy::unused_async, reason = "it may come to look whether the table is there")]
    pub async fn open(
        _sdk: &SdkConfig,
        options: Options,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, QueueError> {
        Ok(Self { shared: Arc::new(Shared { options, clock, observer }) })
    }

    /// Answers a ring: leases the head of its lane, if that can be claimed. `ring` is the body of a message. When this
    /// returns without an error the message has done its work and is to be deleted.
    ///
    /// # Errors
    /// When AWS cannot answer now: the message should come again.
    pub async fn answer(&self, ring: &str, worker: &str) -> Result<Option<Lease>, QueueError> {
        todo!("{ring} {worker}")
    }

    /// Deletes the message of a ring that was answered, so that its lane can ring again. Best effort: one that comes again
    /// claims nothing.
    pub async fn answered(&self, receipt_handle: &str) {
        todo!("{receipt_handle}")
    }

    /// Does what a message of the timers was sent for: rings for a lane whose time has come. A delivery is for the notifier.
    ///
    /// # Errors
    /// When AWS cannot answer now: the message should come again.
    pub async fn wake(&self, timer: &str) -> Result<(), QueueError> {
        todo!("{timer}")
    }

    /// Does what time has brought about: leases that are over, lanes whose time has come, rings that were never sent, letters
    /// of renders that are no longer failed. Once a minute is enough.
    ///
    /// # Errors
    /// When AWS cannot answer now; nothing is lost, the next sweep tries again.
    pub async fn sweep(&self) -> Result<(), QueueError> {
        todo!()
    }

    /// The secret of that name, the same for all who ask; made by whoever asks first.
    ///
    /// # Errors
    /// When AWS cannot answer now.
    pub async fn secret(&self, name: &str, make: impl FnOnce() -> String + Send) -> Result<String, QueueError> {
        drop((name, make));
        todo!()
    }
}

mod stub;
