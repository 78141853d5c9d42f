//! What time brings about: timers that have run out, and a schedule once a minute.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use lambda_runtime::LambdaEvent;
use lastframe::cloud::Cloud;
use lastframe_aws::queue::AwsQueue;
use lastframe_core::{Clock as _, SystemClock};
use serde_json::Value;
use tokio::time::Instant;

use crate::{Handler, left};

/// The longest that telling somebody may take: it is not begun when less is left.
const LONGEST_GO: Duration = Duration::from_secs(60);

/// What is to be done.
#[async_trait]
pub trait Tending: Debug + Send + Sync {
    /// Sees to a timer that has run out.
    ///
    /// # Errors
    /// When the queue cannot be asked.
    async fn wake(&self, timer: &str) -> anyhow::Result<()>;

    /// Sees to what nobody has seen to in time.
    ///
    /// # Errors
    /// When the queue cannot be asked.
    async fn sweep(&self) -> anyhow::Result<()>;

    /// Tells what is due to be told; nothing is begun after `enough`, and nothing goes on after `most`.
    ///
    /// # Errors
    /// When the queue cannot say what is due.
    async fn tell(&self, enough: Duration, most: Duration) -> anyhow::Result<()>;

    /// Forgets what ended long ago, for so long at most.
    async fn tidy(&self, most: Duration);
}

/// On AWS.
#[derive(Debug)]
pub struct Duties {
    /// The queue.
    pub queue: Arc<AwsQueue>,
    /// All else.
    pub cloud: Arc<Cloud>,
}

#[async_trait]
impl Tending for Duties {
    async fn wake(&self, timer: &str) -> anyhow::Result<()> {
        Ok(self.queue.wake(timer).await?)
    }

    async fn sweep(&self) -> anyhow::Result<()> {
        let (swept, sorted) = (self.queue.sweep().await, self.queue.sort_letters().await);
        Ok(swept.and(sorted)?)
    }

    async fn tell(&self, enough: Duration, most: Duration) -> anyhow::Result<()> {
        self.cloud.tell(enough, most).await
    }

    async fn tidy(&self, most: Duration) {
        self.cloud.tidy(most).await;
    }
}

/// The function that tends the queue.
#[derive(Debug)]
pub struct Function {
    tending: Arc<dyn Tending>,
    timeout: Option<Duration>,
}

impl Function {
    /// Does those duties. `timeout` is how long the function is let run.
    #[must_use]
    pub fn new(tending: Arc<dyn Tending>, timeout: Option<Duration>) -> Self {
        Self { tending, timeout }
    }

    /// Sees to timers; tells which must come again.
    pub async fn timers(&self, event: SqsEvent, left: Duration) -> SqsBatchResponse {
        let mut response = SqsBatchResponse::default();
        let begun = Instant::now();
        let mut notices = Vec::new();
        for message in event.records {
            let (timer, id) = (message.body.unwrap_or_default(), message.message_id.unwrap_or_default());
            match self.tending.wake(&timer).await {
                Ok(()) if is_of_delivery(&timer) => notices.push(id),
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), timer, "a timer comes again");
                    response.add_failure(id);
                }
            }
        }
        if !notices.is_empty()
            && let Err(error) = self.tell(left.saturating_sub(begun.elapsed())).await
        {
            tracing::error!(error = format!("{error:#}"), "cannot look for what is due to be told");
            notices.into_iter().for_each(|id| response.add_failure(id));
        }
        response
    }

    /// Does what is done once a minute.
    ///
    /// # Errors
    /// What did not work; all else was done.
    pub async fn minute(&self, left: Duration) -> anyhow::Result<()> {
        let begun = Instant::now();
        let swept = self.tending.sweep().await;
        let told = self.tell(left.saturating_sub(begun.elapsed()) / 2).await;
        self.tending.tidy(left.saturating_sub(begun.elapsed())).await;
        swept.and(told)
    }

    async fn tell(&self, left: Duration) -> anyhow::Result<()> {
        let enough = left.checked_sub(LONGEST_GO).unwrap_or(left / 2);
        self.tending.tell(enough, left).await
    }
}

fn is_of_delivery(timer: &str) -> bool {
    serde_json::from_str::<Value>(timer).is_ok_and(|timer| timer.get("delivery").is_some())
}

impl Handler for Function {
    async fn handle(&self, event: LambdaEvent<Value>) -> anyhow::Result<Value> {
        let left = left(event.context.deadline, SystemClock::new().now(), self.timeout);
        // Whatever is no message of a queue is the schedule, whichever service of AWS keeps it.
        if event.payload.get("Records").is_none() {
            self.minute(left).await?;
            return Ok(Value::Null);
        }
        let response = self.timers(serde_json::from_value(event.payload)?, left).await;
        Ok(serde_json::to_value(response)?)
    }
}
