//! Timers and the schedule.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_lambda_events::event::sqs::SqsEvent;
use lastframe_function::tend::{Function, Tending};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

/// Writes down what is asked of it.
#[derive(Debug, Default)]
struct Duties {
    said: Mutex<Vec<String>>,
    fails: Vec<&'static str>,
}

impl Duties {
    fn did(&self, what: String) -> anyhow::Result<()> {
        let fails = self.fails.iter().any(|fails| what.contains(fails));
        self.said.lock().unwrap().push(what);
        anyhow::ensure!(!fails, "busy");
        Ok(())
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }
}

#[async_trait]
impl Tending for Duties {
    async fn wake(&self, timer: &str) -> anyhow::Result<()> {
        self.did(format!("wake {timer}"))
    }

    async fn sweep(&self) -> anyhow::Result<()> {
        self.did("sweep".into())
    }

    async fn tell(&self, enough: Duration, most: Duration) -> anyhow::Result<()> {
        assert!(enough < most);
        self.did("tell".into())
    }

    async fn tidy(&self, _: Duration) {
        self.did("tidy".into()).ok();
    }
}

fn function(fails: &[&'static str]) -> (Arc<Duties>, Function) {
    let duties = Arc::new(Duties { fails: fails.to_vec(), ..Duties::default() });
    (Arc::clone(&duties), Function::new(Arc::clone(&duties) as _, None))
}

/// An event of a standard queue as the documentation has it.
fn timers(bodies: &[&str]) -> SqsEvent {
    let record = |(index, body): (usize, &&str)| {
        json!({
            "messageId": format!("m{index}"),
            "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...",
            "body": body,
            "attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": "1545082649183",
                "SenderId": "AIDAIENQZJOLO23YVJ4VO",
                "ApproximateFirstReceiveTimestamp": "1545082649185"
            },
            "messageAttributes": {},
            "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:my-queue",
            "awsRegion": "us-east-2"
        })
    };
    let records: Vec<Value> = bodies.iter().enumerate().map(record).collect();
    serde_json::from_value(json!({"Records": records})).unwrap()
}

#[tokio::test]
async fn every_timer_is_woken_and_those_that_fail_come_again_alone() {
    let (duties, function) = function(&["b"]);
    let event = timers(&[r#"{"lane": "a"}"#, r#"{"lane": "b"}"#, r#"{"lane": "c"}"#]);
    let response = function.timers(event, MINUTE).await;
    let failed: Vec<_> = response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect();
    assert_eq!(failed, ["m1"]);
    assert_eq!(duties.said().len(), 3, "nobody is told anything for lanes: {:?}", duties.said());
}

#[tokio::test]
async fn deliveries_are_told_in_one_go_and_all_come_again_if_nobody_knows_what_is_due() {
    let event = || timers(&[r#"{"lane": "a"}"#, r#"{"delivery": 7}"#, r#"{"delivery": 8}"#]);
    let (duties, works) = function(&[]);
    assert!(works.timers(event(), MINUTE).await.batch_item_failures.is_empty());
    assert_eq!(duties.said().iter().filter(|said| *said == "tell").count(), 1);
    let (_, fails) = function(&["tell"]);
    let failed = fails.timers(event(), MINUTE).await.batch_item_failures;
    assert_eq!(failed.into_iter().map(|failure| failure.item_identifier).collect::<Vec<_>>(), ["m1", "m2"]);
}

#[tokio::test]
async fn once_a_minute_all_is_done_whatever_fails_and_the_fault_is_told() {
    let (duties, works) = function(&[]);
    works.minute(MINUTE).await.unwrap();
    assert_eq!(duties.said(), ["sweep", "tell", "tidy"]);
    let (duties, fails) = function(&["sweep"]);
    assert!(fails.minute(MINUTE).await.is_err());
    assert_eq!(duties.said(), ["sweep", "tell", "tidy"]);
}
