//! Renders, by rings of the queue.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_lambda_events::event::sqs::SqsEvent;
use lastframe_aws::queue::{AwsQueue, Options};
use lastframe_core::ports::{Job, Queue as _, QueueError, Renderer, Run, RunEvent, Stop};
use lastframe_core::{Checkpoint, Lease, Limits, Output, RetryPolicy, Status, SystemClock};
use lastframe_function::render::{Function, Rings};
use lastframe_store::Store;
use lastframe_worker::Shutdown;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

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

    async fn unanswered(&self, receipt: &str, received: u32) {
        self.said.lock().unwrap().push(format!("unanswered {receipt} {received}"));
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

/// Renders that never end, and when each of them was stopped.
#[derive(Debug, Default)]
struct Endless {
    begun: Arc<Notify>,
    stopped: Arc<Mutex<Option<Instant>>>,
}

#[async_trait]
impl Renderer for Endless {
    async fn start(&self, _: Job, _: Option<Checkpoint>) -> Box<dyn Run> {
        self.begun.notify_one();
        Box::new(Standing(Arc::clone(&self.stopped)))
    }
}

struct Standing(Arc<Mutex<Option<Instant>>>);

#[async_trait]
impl Run for Standing {
    async fn next(&mut self) -> RunEvent {
        std::future::pending().await
    }

    async fn stop(self: Box<Self>, _: Stop) {
        *self.0.lock().unwrap() = Some(Instant::now());
    }
}

/// A queue on AWS where connections are taken and each goes on as that says, and when they were.
async fn at_a_bad_peer(hangs: bool) -> (Arc<AwsQueue>, Arc<Mutex<Vec<Instant>>>) {
    drop(rustls::crypto::ring::default_provider().install_default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let taken = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&taken);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((peer, _)) = listener.accept().await {
            note.lock().unwrap().push(Instant::now());
            if hangs {
                kept.push(peer);
            }
        }
    });
    let keys = aws_sdk_sqs::config::Credentials::new("test", "test", None, None, "test");
    let sdk = lastframe_aws::sdk(None, Some("us-east-1"))
        .await
        .into_builder()
        .endpoint_url(&url)
        .credentials_provider(aws_sdk_sqs::config::SharedCredentialsProvider::new(keys))
        .build();
    let options = Options {
        table: "table".into(),
        queue_url: format!("{url}/1/queue.fifo"),
        dead_letters_url: None,
        timers_url: None,
        bucket: "bucket".into(),
        lease: Duration::from_secs(60),
        retry: RetryPolicy::default(),
        limits: Limits::default(),
    };
    let queue = AwsQueue::open(&sdk, options, Arc::new(SystemClock::new()), Arc::new(())).await.unwrap();
    (Arc::new(queue), taken)
}

/// The function, and what tells that a checkpoint is on disk.
async fn function(fails: bool) -> (World, Arc<Bell>, Function, Arc<Notify>) {
    let world =
        World::with("http://127.0.0.1:9", Some("remotion-render-4-0-527-mem2048mb-disk2048mb-120sec")).await;
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
    assert_eq!(failed, ["11d6ee51-4cc7-4302-9e22-7cd8afdaadf0", "11d6ee51-4cc7-4302-9e22-7cd8afdaadf1"]);
    assert_eq!(bell.said(), ["unanswered receipt-0 1"]);
}

#[tokio::test]
async fn a_queue_that_does_not_answer_keeps_no_attempt_beyond_its_invocation_or_its_lease() {
    const INVOCATION: Duration = Duration::from_secs(12);
    for handed_back in [true, false] {
        let (world, ..) = function(false).await;
        world.render().await;
        let lease = world.store.claim("lambda:1", Duration::ZERO).await.unwrap().unwrap();
        let endless = Endless::default();
        let (begun, stopped) = (Arc::clone(&endless.begun), Arc::clone(&endless.stopped));
        let mut worker = world.cloud.worker("lambda:1".into()).unwrap();
        worker.renderer = Arc::new(endless);
        worker.queue = at_a_bad_peer(true).await.0;
        worker.options.heartbeat = Duration::from_secs(10);
        let most = if handed_back { INVOCATION } else { lease.duration };
        let hand_back = CancellationToken::new();
        let attempt = worker.attempt(lease, &hand_back);
        tokio::pin!(attempt);
        tokio::select! {
            () = &mut attempt => panic!("it ended before it began"),
            () = begun.notified() => {}
        }
        // From here on nothing but time passes.
        tokio::time::pause();
        let before = Instant::now();
        if handed_back {
            tokio::select! {
                () = &mut attempt => panic!("nothing ended it"),
                () = tokio::time::sleep(INVOCATION) => hand_back.cancel(),
            }
        }
        timeout(Duration::from_secs(3600), attempt).await.expect("the attempt ends");
        let stopped = stopped.lock().unwrap().expect("the render is stopped") - before;
        assert!(stopped <= most + Duration::from_millis(100), "{handed_back}: {stopped:?}");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_worker_that_cannot_claim_asks_ever_more_seldom_and_stops_when_it_is_told() {
    let (world, ..) = function(false).await;
    let (queue, taken) = at_a_bad_peer(false).await;
    let mut worker = world.cloud.worker("machine".into()).unwrap();
    worker.queue = queue;
    tokio::time::pause();
    let shutdown = Shutdown::default();
    let working = tokio::spawn(Arc::new(worker).run(shutdown.clone()));
    tokio::time::sleep(Duration::from_secs(300)).await;
    shutdown.drain.cancel();
    timeout(Duration::from_secs(60), working).await.expect("it stops").unwrap();
    let taken = taken.lock().unwrap();
    let longest = taken.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest >= Duration::from_secs(15), "{longest:?}");
}
