//! The program itself, run by Lambda's own protocol against a stand-in for AWS.

use std::process::{Child, Command};
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use lastframe::cloud::{Fault, Post as _};
use lastframe_function::Ses;
use lastframe_stand_in::StandIn;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};

async fn sdk(aws: &StandIn) -> aws_config::SdkConfig {
    drop(rustls::crypto::ring::default_provider().install_default());
    let keys = aws_sdk_sqs::config::Credentials::new("test", "test", None, None, "test");
    lastframe_aws::sdk(None, Some("us-east-1"))
        .await
        .into_builder()
        .endpoint_url(aws.url())
        .credentials_provider(aws_sdk_sqs::config::SharedCredentialsProvider::new(keys))
        .build()
}

#[tokio::test]
async fn ses_takes_a_mail_and_says_of_whom_it_takes_none() {
    let aws = StandIn::ministack();
    let sdk = sdk(&aws).await;
    let client = aws_sdk_sesv2::Client::new(&sdk);
    client.create_email_identity().email_identity("renders@example.com").send().await.unwrap();
    let ses = Ses::new(&sdk);
    let (from, to) = ("renders@example.com".parse().unwrap(), "ana@example.com".parse().unwrap());
    let mail = b"From: renders@example.com\r\nTo: ana@example.com\r\nSubject: Done\r\n\r\nIt is.\r\n";
    assert_eq!(ses.send(&from, &to, mail).await.unwrap(), 200);
    let sent: Value =
        reqwest::get(format!("{}/_ministack/ses/messages", aws.url())).await.unwrap().json().await.unwrap();
    assert!(sent.to_string().contains("Done"), "{sent}");
    // An identity that nobody has verified may be verified yet: that is tried again.
    let nobody = "nobody@elsewhere.example".parse().unwrap();
    let fault = ses.send(&nobody, &to, mail).await.unwrap_err();
    assert!(matches!(fault, Fault::Passing { code: Some(400), .. }), "{fault:?}");
}

/// The runtime API of Lambda: gives events, takes answers.
struct Runtime {
    address: String,
    events: mpsc::Sender<Value>,
    answers: mpsc::Receiver<Value>,
}

struct Ends {
    events: Mutex<mpsc::Receiver<Value>>,
    answers: mpsc::Sender<Value>,
}

impl Runtime {
    async fn start() -> Self {
        let (events, next) = mpsc::channel(1);
        let (answered, answers) = mpsc::channel(1);
        let ends = Arc::new(Ends { events: Mutex::new(next), answers: answered });
        let answer = async |State(ends): State<Arc<Ends>>, answer: String| {
            ends.answers.send(serde_json::from_str(&answer).unwrap()).await.unwrap();
        };
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next_event))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(answer))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(answer))
            .route("/2018-06-01/runtime/init/error", post(answer))
            .with_state(ends);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async { axum::serve(listener, router).await });
        Self { address, events, answers }
    }

    async fn answer(&mut self, event: Value) -> Value {
        self.events.send(event).await.unwrap();
        self.answers.recv().await.unwrap()
    }
}

async fn next_event(State(ends): State<Arc<Ends>>) -> Response {
    let Some(event) = ends.events.lock().await.recv().await else { return std::future::pending().await };
    let mut headers = HeaderMap::new();
    let deadline = jiff::Timestamp::now().as_millisecond() + 30_000;
    for (name, value) in [
        ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd".to_owned()),
        ("lambda-runtime-deadline-ms", deadline.to_string()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:000000000000:function:f".into()),
    ] {
        headers.insert(name, HeaderValue::try_from(value).unwrap());
    }
    (headers, Json(event)).into_response()
}

/// The program, as one of the functions. Each has a runtime of its own: what an earlier one still asks for is not its.
struct Bootstrap {
    process: Child,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Bootstrap {
    async fn start(aws: &StandIn, queues: &lastframe_aws::queue::schema::Queues, role: &str) -> Self {
        let (runtime, folder) = (Runtime::start().await, tempfile::tempdir().unwrap());
        let process = Command::new(env!("CARGO_BIN_EXE_bootstrap"))
            .env_clear()
            .envs([
                ("LASTFRAME_FUNCTION", role),
                ("LASTFRAME_TABLE", "renders"),
                ("LASTFRAME_QUEUE_URL", &queues.queue_url),
                ("LASTFRAME_DEAD_LETTERS_URL", &queues.dead_letters_url),
                ("LASTFRAME_TIMERS_URL", &queues.timers_url),
                ("LASTFRAME_BUCKET", "bucket"),
                ("LASTFRAME_PUBLIC_URL", "https://api.example"),
                ("LASTFRAME_USER_POOL_ID", "us-east-1_abc"),
                ("LASTFRAME_USER_POOL_CLIENT_ID", "client"),
                ("LASTFRAME_REMOTION_FUNCTION", "remotion-render-4-0-527-mem2048mb-disk2048mb-120sec"),
                ("LASTFRAME_REMOTION_BUCKET", "remotionlambda-useast1-abc"),
                ("LASTFRAME_TIMEOUT", "30"),
                ("AWS_ENDPOINT_URL", aws.url()),
                ("AWS_REGION", "us-east-1"),
                ("AWS_ACCESS_KEY_ID", "test"),
                ("AWS_SECRET_ACCESS_KEY", "test"),
                ("AWS_LAMBDA_RUNTIME_API", &runtime.address),
                ("AWS_LAMBDA_FUNCTION_NAME", "f"),
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
                ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
                ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/f"),
                ("AWS_LAMBDA_LOG_STREAM_NAME", "2026/03/01/[$LATEST]0123"),
                ("TMPDIR", folder.path().to_str().unwrap()),
            ])
            .spawn();
        Self { process: process.unwrap(), runtime, _folder: folder }
    }
}

impl Drop for Bootstrap {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[tokio::test]
async fn the_program_is_each_of_the_functions() {
    let aws = StandIn::ministack();
    let queues = lastframe_aws::queue::schema::create(&sdk(&aws).await, "renders").await.unwrap();
    let mut api = Bootstrap::start(&aws, &queues, "api").await;
    let request = json!({
        "version": "2.0", "routeKey": "$default", "rawPath": "/readyz", "rawQueryString": "",
        "headers": {"host": "r3pmxmplak.execute-api.us-east-1.amazonaws.com"},
        "requestContext": {
            "accountId": "123456789012", "apiId": "r3pmxmplak", "requestId": "JKJaXmPLvHcESHA=", "routeKey": "$default",
            "domainName": "r3pmxmplak.execute-api.us-east-1.amazonaws.com", "stage": "$default",
            "http": {"method": "GET", "path": "/readyz", "protocol": "HTTP/1.1", "sourceIp": "205.255.255.176", "userAgent": "curl"},
            "time": "10/Mar/2020:05:16:23 +0000", "timeEpoch": 1_583_817_383_220_i64
        },
        "isBase64Encoded": false
    });
    let answer = api.runtime.answer(request).await;
    assert_eq!(answer["statusCode"], 200, "{answer}");
    drop(api);
    let mut tend = Bootstrap::start(&aws, &queues, "tend").await;
    let schedule = json!({
        "version": "0", "id": "cdc73f9d-aea9-11e3-9d5a-835b769c0d9c", "detail-type": "Scheduled Event", "source": "aws.events",
        "account": "123456789012", "time": "1970-01-01T00:00:00Z", "region": "us-east-1",
        "resources": ["arn:aws:events:us-east-1:123456789012:rule/tend"], "detail": {}
    });
    assert_eq!(tend.runtime.answer(schedule).await, Value::Null);
    drop(tend);
    let mut render = Bootstrap::start(&aws, &queues, "render").await;
    let ring = json!({"Records": [{
        "messageId": "m1", "receiptHandle": "r1", "body": "{\"lane\": \"default/g\", \"generation\": 1}", "attributes": {},
        "messageAttributes": {}, "md5OfBody": "", "eventSource": "aws:sqs", "awsRegion": "us-east-1",
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:q.fifo"
    }]});
    assert_eq!(render.runtime.answer(ring).await, json!({"batchItemFailures": []}));
    drop(render);
}
