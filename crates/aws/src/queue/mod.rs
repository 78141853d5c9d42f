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

mod accounts;
mod body;
mod claim;
mod control;
mod directory;
mod forget;
mod lease;
mod outbox;
mod port;
mod read;
mod ring;
mod row;
pub mod schema;
mod submit;
mod sweep;
mod table;
mod tx;
mod views;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_config::SdkConfig;
use lastframe_core::ports::{Change, QueueError};
use lastframe_core::{Clock, Lease, LeaseToken, Limits, Observer, RenderId, RetryPolicy};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, broadcast};

use self::table::{Table, from_item, storage, to_item};
use crate::sdk::within;

/// The longest that one go at a request waits for its answer.
const ONE_GO: Duration = Duration::from_secs(10);
/// The longest that all goes at a request take: less than the half minute in which the API must answer.
const ALL_GOES: Duration = Duration::from_secs(25);
/// The longest that an object of the bucket takes, of which requests with large props are the largest.
const ONE_OBJECT: Duration = Duration::from_secs(60);

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
    table: Table,
    sqs: aws_sdk_sqs::Client,
    s3: aws_sdk_s3::Client,
    changes: broadcast::Sender<Change>,
    owed: Notify,
    /// Random, so that no token of this process is one of another's.
    epoch: String,
    tokens: AtomicU64,
}

/// What is kept under a name for ever.
#[derive(Serialize, Deserialize)]
struct SecretRow {
    value: String,
}

impl AwsQueue {
    /// Opens the queue. Nothing is asked of AWS yet.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    pub async fn open(
        sdk: &SdkConfig,
        options: Options,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, QueueError> {
        let mut epoch = [0; 8];
        getrandom::fill(&mut epoch).map_err(storage)?;
        let asked = within(ONE_GO, ALL_GOES);
        let db = aws_sdk_dynamodb::config::Builder::from(sdk).timeout_config(asked.clone()).build();
        let sqs = aws_sdk_sqs::config::Builder::from(sdk).timeout_config(asked).build();
        let s3 = aws_sdk_s3::config::Builder::from(sdk)
            // Stand-ins for AWS have no name for each bucket.
            .force_path_style(sdk.endpoint_url().is_some())
            .timeout_config(within(ONE_OBJECT, 2 * ONE_OBJECT))
            .build();
        let shared = Shared {
            table: Table { client: aws_sdk_dynamodb::Client::from_conf(db), name: options.table.clone() },
            sqs: aws_sdk_sqs::Client::from_conf(sqs),
            s3: aws_sdk_s3::Client::from_conf(s3),
            options,
            clock,
            observer,
            changes: broadcast::channel(4096).0,
            owed: Notify::new(),
            epoch: lastframe_core::hex::encode(&epoch),
            tokens: AtomicU64::new(0),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Answers a ring: leases the head of its lane, if that can be claimed. `ring` is the body of a message. When this
    /// returns without an error the message has done its work and is to be deleted, however long the render takes.
    ///
    /// # Errors
    /// When AWS cannot answer now: the message should come again.
    pub async fn answer(&self, ring: &str, worker: &str) -> Result<Option<Lease>, QueueError> {
        self.shared.answer(ring, worker).await
    }

    /// Deletes the message of a ring that was answered. Best effort: one that comes again claims nothing.
    pub async fn answered(&self, receipt_handle: &str) {
        let queue = &self.shared;
        let delete =
            queue.sqs.delete_message().queue_url(&queue.options.queue_url).receipt_handle(receipt_handle);
        if let Err(error) = delete.send().await.map_err(table::fault) {
            tracing::warn!(
                error = lastframe_core::error_chain(&error),
                "the message of a ring could not be deleted; it comes again"
            );
        }
    }

    /// Brings a ring back that could not be answered and was received so often: in seconds, and later each time. Best effort:
    /// else it comes when its time is over.
    pub async fn unanswered(&self, receipt_handle: &str, received: u32) {
        let queue = &self.shared;
        let change = queue
            .sqs
            .change_message_visibility()
            .queue_url(&queue.options.queue_url)
            .receipt_handle(receipt_handle)
            .visibility_timeout(ring::comes_back_in(received));
        if let Err(error) = change.send().await.map_err(table::fault) {
            tracing::warn!(
                error = lastframe_core::error_chain(&error),
                "cannot bring a ring back soon; it comes when its time is over"
            );
        }
    }

    /// Does what a message of the timers was sent for: rings for a lane whose time has come. A delivery is for the notifier,
    /// who is woken again if it is not yet where the notifier looks.
    ///
    /// # Errors
    /// When AWS cannot answer now: the message should come again.
    pub async fn wake(&self, timer: &str) -> Result<(), QueueError> {
        self.shared.wake(timer).await
    }

    /// Does what time has brought about: leases that are over, lanes whose time has come, rings that were never sent. Once a
    /// minute is enough.
    ///
    /// # Errors
    /// When AWS cannot answer now; nothing is lost, the next sweep tries again.
    pub async fn sweep(&self) -> Result<(), QueueError> {
        self.shared.sweep().await
    }

    /// Takes out of the dead letters what nobody need look into any more: letters of renders that are no longer failed, and
    /// rings of lanes that have rung since. Once a minute is enough, and one process: it looks at ten of them, and every ten
    /// minutes at all.
    ///
    /// # Errors
    /// When AWS cannot answer now; the next time does it.
    pub async fn sort_letters(&self) -> Result<(), QueueError> {
        self.shared.sort_letters().await
    }

    /// The secret of that name, the same for all who ask; made by whoever asks first.
    ///
    /// # Errors
    /// When AWS cannot answer now.
    pub async fn secret(
        &self,
        name: &str,
        make: impl FnOnce() -> String + Send,
    ) -> Result<String, QueueError> {
        let (table, key) = (&self.shared.table, schema::secret(name));
        let found = match table.get(&key).await? {
            Some(item) => item,
            None => {
                let made = SecretRow { value: make() };
                if table.put_new(to_item(&key, &made)?).await? {
                    return Ok(made.value);
                }
                // Somebody else was faster.
                table.get(&key).await?.ok_or(QueueError::Busy)?
            }
        };
        Ok(from_item::<SecretRow>(found)?.value)
    }
}

impl Shared {
    /// Milliseconds since 1970. Times are wall times, for there is no other that several machines have in common.
    fn now(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    fn next_token(&self) -> LeaseToken {
        LeaseToken(format!("{}-{}", self.epoch, self.tokens.fetch_add(1, Ordering::Relaxed)))
    }

    /// Tells whoever listens here.
    fn told_of(&self, render: RenderId) {
        // Nobody may be listening.
        drop(self.changes.send(Change { render }));
    }
}
