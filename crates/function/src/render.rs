//! Rings of the queue. A ring says that a lane has work, and no more: the queue says which render it is, and the worker sees one
//! attempt of that through.
//!
//! An invocation that comes near its end hands the render back with its checkpoint, and the queue rings for the next one. A ring
//! that could not be answered comes back after seconds, not after the visibility of the queue, which is that of the longest
//! invocation.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use lambda_runtime::LambdaEvent;
use lastframe_aws::queue::AwsQueue;
use lastframe_core::ports::QueueError;
use lastframe_core::{Clock as _, Lease, SystemClock};
use lastframe_worker::Worker;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{Handler, left};

/// What rings.
#[async_trait]
pub trait Rings: Debug + Send + Sync {
    /// Leases the render whose turn it is in the lane of a ring, if there is one.
    ///
    /// # Errors
    /// When the queue cannot say.
    async fn answer(&self, ring: &str, worker: &str) -> Result<Option<Lease>, QueueError>;

    /// The ring was answered: it is gone now, and not only when this invocation ends, so that one that dies keeps its lane from
    /// nobody.
    async fn answered(&self, receipt: &str);

    /// The ring could not be answered, and was received so often: it comes back in seconds, and later each time.
    async fn unanswered(&self, receipt: &str, received: u32);
}

/// The rings of the queue on AWS.
#[derive(Debug)]
pub struct Bell {
    queue: Arc<AwsQueue>,
}

impl Bell {
    /// Asks nothing yet.
    #[must_use]
    pub fn new(queue: Arc<AwsQueue>) -> Self {
        Self { queue }
    }
}

#[async_trait]
impl Rings for Bell {
    async fn answer(&self, ring: &str, worker: &str) -> Result<Option<Lease>, QueueError> {
        self.queue.answer(ring, worker).await
    }

    async fn answered(&self, receipt: &str) {
        self.queue.answered(receipt).await;
    }

    async fn unanswered(&self, receipt: &str, received: u32) {
        self.queue.unanswered(receipt, received).await;
    }
}

/// The function that renders.
#[derive(Debug)]
pub struct Function {
    rings: Arc<dyn Rings>,
    worker: Worker,
    timeout: Option<Duration>,
}

impl Function {
    /// Answers rings with that worker. `timeout` is how long the function is let run.
    #[must_use]
    pub fn new(rings: Arc<dyn Rings>, worker: Worker, timeout: Option<Duration>) -> Self {
        Self { rings, worker, timeout }
    }

    /// Sees to the rings of an event, one after another; tells which could not be answered. What is not done when the time is
    /// `over` is handed back.
    pub async fn answer(
        &self,
        event: SqsEvent,
        over: impl Future<Output = ()> + Send + 'static,
    ) -> SqsBatchResponse {
        let hand_back = CancellationToken::new();
        let timer = {
            let hand_back = hand_back.clone();
            tokio::spawn(async move {
                over.await;
                tracing::info!("the time of this invocation is nearly over");
                hand_back.cancel();
            })
        };
        let mut response = SqsBatchResponse::default();
        for message in event.records {
            let id = message.message_id.clone().unwrap_or_default();
            // Of one group: what comes after one that failed waits for it.
            let failed = !response.batch_item_failures.is_empty();
            if failed || !self.ring(message, &hand_back).await {
                response.add_failure(id);
            }
        }
        timer.abort();
        response
    }

    /// Whether it was answered.
    async fn ring(&self, message: SqsMessage, hand_back: &CancellationToken) -> bool {
        let received = message.attributes.get("ApproximateReceiveCount");
        let received = received.and_then(|count| count.parse().ok()).unwrap_or(1);
        let ring = message.body.unwrap_or_default();
        let receipt = message.receipt_handle.unwrap_or_default();
        match self.rings.answer(&ring, &self.worker.options.name).await {
            Ok(lease) => {
                self.rings.answered(&receipt).await;
                match lease {
                    Some(lease) => self.worker.attempt(lease, hand_back).await,
                    None => tracing::info!(ring, "nothing to do in this lane now"),
                }
                true
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    ring,
                    "a ring could not be answered; it comes back"
                );
                self.rings.unanswered(&receipt, received).await;
                false
            }
        }
    }
}

impl Handler for Function {
    async fn handle(&self, event: LambdaEvent<Value>) -> anyhow::Result<Value> {
        let left = left(event.context.deadline, SystemClock::new().now(), self.timeout);
        let over = tokio::time::sleep(left);
        let response = self.answer(serde_json::from_value(event.payload)?, over).await;
        Ok(serde_json::to_value(response)?)
    }
}
