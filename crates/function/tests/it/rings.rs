//! Renders, by rings of the queue.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_lambda_events::event::sqs::SqsEvent;
use lastframe_core::ports::{Job, Queue as _, QueueError, Renderer, Run, RunEvent, Stop};
use lastframe_core::{Checkpoint, Lease, Output, Status};
use lastframe_function::render::{Function, Rings};
use lastframe_store::Store;
use serde_json::json;
use tokio::sync::Notify;

use crate::world::World;

/// An event of a FIFO queue as the documentation has it, with so many messages.
fn event(messages: usize) -> SqsEvent {
    let record = |index: usize| {
        json!({
            "messageId": format!("11d6ee51-4cc7-4302-9e22-7cd8afdaadf{index}"),
            "receiptHandle": format!("receipt-{index}"),
            "body": "{\"lane\": \"default/g\", \"generation\": 7}",
            "attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": "1573251510774",
                "SequenceNumber": "18849496460467696128",
                "MessageGroupId": "default/g",
                "SenderId": "AIDAIO23YVJENQZJOL4VO",
                "MessageDeduplicationId": "default/g-7",
                "ApproximateFirstReceiveTimestamp": "1573251510774"
            },
            "messageAttributes": {},
            "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:fifo.fifo",
            "awsRegion": "us-east-2"
        })
    };
    let records: Vec<_> = (0..messages).map(record).collect();
    serde_json::from_value(json!({"Records": records})).unwrap()
}

/// Rings that the queue of one machine answers, and what became of them.
#[derive(Debug)]
struct Bell {
    store: Arc<Store>,
    fails: bool,
    said: Mutex<Vec<String>>,
}

impl Bell {
    fn new(store: &Arc<Store>, fails: bool) -> Arc<Self> {
        Arc::new(Self { store: Arc::clone(store), fails, said: Mutex::default() })
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }
}

#[async_trait]
impl Rings for Bell {
    async fn answer(&self, _: &str, worker: &str) -> Result<Option<Lease>, QueueError> {
        if self.fails { Err(QueueError::Busy) } else { self.store.claim(worker, Duration::ZERO).await }
    }

    async fn answered(&self, receipt: &str) {
        self.said.lock().unwrap().push(format!("answered {receipt}"));
    }

    async fn again(&self, receipt: &str) {
        self.said.lock().unwrap().push(format!("again {receipt}"));
    }
}

/// Renders that come to their end where an earlier attempt has left a checkpoint, and else not at all by themselves.
#[derive(Debug)]
struct Patient {
    /// Told when a checkpoint is on disk.
    kept: Arc<Notify>,
}

#[async_trait]
impl Renderer for Patient {
    async fn start(&self, _: Job, checkpoint: Option<Checkpoint>) -> Box<dyn Run> {
        Box::new(Course { resumed: checkpoint.is_some(), told: false, kept: Arc::clone(&self.kept) })
    }
}

struct Course {
    resumed: bool,
    told: bool,
    kept: Arc<Notify>,
}

#[async_trait]
impl Run for Course {
    async fn next(&mut self) -> RunEvent {
        if self.resumed {
            let output = Output { key: "lambda://r/b/renders/a/1.mp4".into(), ..Output::default() };
            return RunEvent::Stored { output };
        }
        if !std::mem::replace(&mut self.told, true) {
            return RunEvent::Checkpoint(Checkpoint(json!("half")));
        }
        self.kept.notify_one();
        std::future::pending().await
    }

    async fn stop(self: Box<Self>, _: Stop) {}
}

/// The function, and what tells that a checkpoint is on disk.
async fn function(fails: bool) -> (World, Arc<Bell>, Function, Arc<Notify>) {
    let world = World::with("http://127.0.0.1:9", Some("remotion-render-4-0-527-mem2048mb-disk2048mb-120sec")).await;
    let kept = Arc::new(Notify::new());
    let mut worker = world.cloud.worker("lambda:1".into()).unwrap();
    worker.renderer = Arc::new(Patient { kept: Arc::clone(&kept) });
    let bell = Bell::new(&world.store, fails);
    let function = Function::new(Arc::clone(&bell) as _, worker, None);
    (world, bell, function, kept)
}

#[tokio::test]
async fn a_render_that_outlasts_its_invocation_is_handed_back_and_the_next_one_goes_on_from_there() {
    let (world, bell, function, kept) = function(false).await;
    let id = world.render().await;
    let over = Arc::clone(&kept);
    let response = function.answer(event(1), async move { over.notified().await }).await;
    assert!(response.batch_item_failures.is_empty());
    assert_eq!(bell.said(), ["answered receipt-0"]);
    let render = world.store.get(id).await.unwrap().unwrap();
    assert_eq!((render.status, render.attempt), (Status::Queued, 0), "a hand-back costs no attempt");
    function.answer(event(1), std::future::pending()).await;
    let render = world.store.get(id).await.unwrap().unwrap();
    assert_eq!((render.status, render.leases), (Status::Succeeded, 2));
}

#[tokio::test]
async fn a_ring_with_nothing_behind_it_is_done_with() {
    let (_world, bell, function, _) = function(false).await;
    let response = function.answer(event(1), std::future::pending()).await;
    assert!(response.batch_item_failures.is_empty());
    assert_eq!(bell.said(), ["answered receipt-0"]);
}

#[tokio::test]
async fn a_ring_that_cannot_be_answered_comes_back_soon_and_what_is_behind_it_waits() {
    let (_world, bell, function, _) = function(true).await;
    let response = function.answer(event(2), std::future::pending()).await;
    let failed: Vec<_> =
        response.batch_item_failures.iter().map(|failure| failure.item_identifier.as_str()).collect();
    assert_eq!(
        failed,
        ["11d6ee51-4cc7-4302-9e22-7cd8afdaadf0", "11d6ee51-4cc7-4302-9e22-7cd8afdaadf1"]
    );
    assert_eq!(bell.said(), ["again receipt-0"]);
}
