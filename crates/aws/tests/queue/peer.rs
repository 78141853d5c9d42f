//! What the queue does when AWS has a fault that no stand-in can be made to have.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use lastframe_aws::queue::{AwsQueue, Options};
use lastframe_core::conformance::{LEASE, RETRY};
use lastframe_core::ports::{LeaseError, Queue as _, QueueError};
use lastframe_core::{LeaseToken, Limits, ManualClock, Progress, RenderId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::stand_in::sdk_at;

/// More than anything here may take. The time of these tests passes as soon as nothing else happens.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// What it was asked: the name of the operation, and the body.
type Asked = Arc<Mutex<Vec<(String, String)>>>;
/// The status and the body for an operation; none where it never answers.
type Answers = fn(&str) -> Option<(u16, &'static str)>;

/// The queue, if AWS answers like that.
async fn queue(answers: Answers) -> (AwsQueue, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Asked::default();
    let note = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((peer, _)) = listener.accept().await {
            tokio::spawn(serve(peer, answers, Arc::clone(&note)));
        }
    });
    let options = Options {
        table: "table".into(),
        queue_url: format!("{url}/1/queue.fifo"),
        dead_letters_url: None,
        timers_url: None,
        bucket: "bucket".into(),
        lease: LEASE,
        retry: RETRY,
        limits: Limits::default(),
    };
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let queue = AwsQueue::open(&sdk_at(&url).await, options, clock, Arc::new(())).await.unwrap();
    (queue, asked)
}

async fn serve(mut peer: TcpStream, answers: Answers, asked: Asked) {
    let mut got = Vec::new();
    while peer.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&got).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let header = |name: &str| {
            let line = head
                .lines()
                .find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)));
            line.map(|(_, value)| value).unwrap_or_default()
        };
        if body.len() < header("content-length").parse().unwrap_or(0) {
            continue;
        }
        let operation = header("x-amz-target").rsplit('.').next().unwrap_or_default().to_owned();
        let answer = answers(&operation);
        asked.lock().unwrap().push((operation, body.to_owned()));
        let Some((status, body)) = answer else { return std::future::pending().await };
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status} -\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        peer.write_all(answer.as_bytes()).await.unwrap();
        got.clear();
    }
}

fn some_render() -> RenderId {
    RenderId::generate(Timestamp::UNIX_EPOCH, &mut fastrand::Rng::with_seed(1))
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_for_a_connection_that_says_nothing_any_more() {
    let (queue, asked) = queue(|_| None).await;
    let begun = Instant::now();
    let claim = tokio::time::timeout(FOR_EVER, queue.claim("one", Duration::from_secs(1)));
    claim.await.expect("a claim ends").unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let begun = Instant::now();
    let token = LeaseToken("token".into());
    let extend = tokio::time::timeout(FOR_EVER, queue.extend(some_render(), &token, Progress::START, None));
    assert!(matches!(extend.await.expect("so does a heartbeat"), Err(LeaseError::Queue(_))));
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let operations: Vec<String> =
        asked.lock().unwrap().iter().map(|(operation, _)| operation.clone()).collect();
    assert!(
        operations.contains(&"ReceiveMessage".into()) && operations.contains(&"UpdateItem".into()),
        "{operations:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_empty_queue_may_take_the_time_that_it_was_given_to_say_so() {
    let (queue, _) = queue(|_| None).await;
    let begun = Instant::now();
    let claim = tokio::time::timeout(FOR_EVER, queue.claim("one", Duration::from_secs(20)));
    claim.await.expect("a claim ends").unwrap_err();
    assert!(begun.elapsed() >= Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_aws_wants_slower_is_busy_and_no_fault() {
    let (queue, _) = queue(|_| {
        Some((400, r#"{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"slower"}"#))
    })
    .await;
    let got = queue.get(some_render()).await;
    assert!(matches!(got, Err(QueueError::Busy)), "{got:?}");
    let counted = queue.overview().await.map(drop);
    assert!(matches!(counted, Err(QueueError::Busy)), "{counted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_ring_that_one_machine_can_take_and_not_claim_is_the_others_soon_and_later_each_time() {
    let (queue, asked) = queue(|operation| {
        Some(match operation {
            "ReceiveMessage" => (
                200,
                r#"{"Messages":[{"MessageId":"m","ReceiptHandle":"r","Body":"{\"lane\":\"render/x\",\"generation\":1}","Attributes":{"ApproximateReceiveCount":"3"}}]}"#,
            ),
            "ChangeMessageVisibility" => (200, "{}"),
            _ => (400, r#"{"__type":"com.amazonaws.dynamodb.v20120810#AccessDeniedException","message":"no"}"#),
        })
    })
    .await;
    queue.claim("one", Duration::from_secs(1)).await.unwrap_err();
    let asked = asked.lock().unwrap();
    let received = asked.iter().find(|(operation, _)| operation == "ReceiveMessage").unwrap();
    assert!(received.1.contains("ApproximateReceiveCount"), "{}", received.1);
    let changed = asked.iter().find(|(operation, _)| operation == "ChangeMessageVisibility");
    let changed: serde_json::Value =
        serde_json::from_str(&changed.expect("it is shown to others").1).unwrap();
    assert_eq!((&changed["ReceiptHandle"], &changed["VisibilityTimeout"]), (&"r".into(), &60.into()));
}
