//! The guide's system on AWS, from the deployment to the video: everything that answers is the program itself, in functions
//! that may do what the template says.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cloud::{Cloud, FROM, SITE, Stack};
use crate::function::{FRAMES, Faults};
use crate::peer::Peer;
use crate::server::{PATIENCE, send_signal};
use crate::webhooks::Receiver;

const SECRET: &str = "s3cret";

/// What all of them need.
fn settings() -> String {
    format!(
        "[enqueue]\nsite = \"{SITE}\"\ncomposition = \"main\"\n[queue]\nlease = \"10s\"\nretry_delay = \"200ms\"\n\
         [webhook]\nallow_hosts = [\"127.0.0.1\"]\n[lambda]\nsettle = \"3s\"\n"
    )
}

async fn deployed() -> Stack {
    Cloud::start().await.deploy(&settings(), &[]).await
}

fn time(attempt: &Value, name: &str) -> jiff::Timestamp {
    attempt[name].as_str().unwrap_or_else(|| panic!("no {name} in {attempt}")).parse().unwrap()
}

fn outcomes(render: &Value) -> Vec<&str> {
    let attempts = render["attempts"].as_array().unwrap();
    attempts.iter().map(|attempt| attempt["outcome"].as_str().unwrap_or("goes on")).collect()
}

/// The guide's request, as its reader types it.
async fn curl(stack: &Stack, token: Option<&str>, body: &str) -> (u16, Value) {
    let url = format!("{}dev/enqueue", stack.output("apiUrl"));
    let mut curl = tokio::process::Command::new("curl");
    curl.args(["--silent", "--write-out", "\n%{http_code}", "--location", "--request", "POST", &url]);
    if let Some(token) = token {
        curl.arg("--header").arg(format!("Authorization: Bearer {token}"));
    }
    let told = curl.args(["--data-raw", body]).output().await.unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let (answer, status) = told.rsplit_once('\n').unwrap();
    let answer = serde_json::from_str(answer).unwrap_or_else(|_| panic!("{told}\n{}", stack.cloud.s3.log()));
    (status.parse().unwrap(), answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_curl_makes_a_video_and_tells_whoever_waits_for_it_and_destroy_leaves_nothing() {
    let mut receiver = Peer::node("receiver.mjs", &[SECRET]);
    let hook = receiver.line();
    let stack = deployed().await;

    // Nobody comes in without a token, or with one that somebody else has signed.
    let forged = stack.token.rsplit_once('.').unwrap().0.to_owned() + ".AAAA";
    for token in [None, Some(forged.as_str())] {
        let (status, answer) = curl(&stack, token, r#"{"message": "Hello"}"#).await;
        assert_eq!(status, 401, "{answer}");
    }

    let (status, answer) = curl(&stack, Some(&stack.token), r#"{"message": "Hello"}"#).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("MessageId"), "{answer}");
    let render = stack.succeeded(answer["renderId"].as_str().unwrap()).await;
    assert_eq!(
        (&render["attempt"], &render["output"]["frameCount"]),
        (&json!(1), &json!(FRAMES)),
        "{render}"
    );
    assert_eq!(render["output"]["costInUsd"], 0.001_23);
    let asked = &stack.cloud.remotion.starts()[0];
    assert_eq!(asked["inputProps"]["payload"], r#"{"message": "Hello"}"#);
    assert_eq!(asked["composition"], "main");
    assert!(asked["serveUrl"].as_str().unwrap().ends_with("/sites/test/index.html"), "{asked}");

    // Whoever asks for the file is sent to the bucket.
    let id = render["renderId"].as_str().unwrap();
    let sent = stack.request(Method::GET, &format!("/v1/renders/{id}/output")).send().await.unwrap();
    assert_eq!(sent.status(), 302);
    let file = reqwest::get(sent.headers()["location"].to_str().unwrap()).await.unwrap();
    assert_eq!(file.status(), 200);
    let file = file.bytes().await.unwrap();
    assert_eq!((&file[4..8], json!(file.len())), (&b"ftyp"[..], render["outputSizeInBytes"].clone()));

    // A webhook that Remotion's own handlers take, and a mail, from AWS.
    let id = stack
        .submit(json!({
            "outName": "my film.mp4", "webhook": {"url": hook, "secret": SECRET, "customData": {"a": "é"}},
            "notify": {"email": ["max@example.org"]},
        }))
        .await;
    let heard = tokio::task::spawn_blocking(move || (receiver.line(), receiver));
    let (heard, _receiver) = timeout(PATIENCE, heard).await.expect("the webhook comes").unwrap();
    let heard: Value = serde_json::from_str(&heard).unwrap();
    assert_eq!(
        (&heard["good"]["valid"], &heard["good"]["verified"]),
        (&json!(true), &json!(true)),
        "{heard}"
    );
    assert_eq!((&heard["changed"]["valid"], &heard["status"]), (&json!(false), &json!("success")), "{heard}");
    assert_eq!(
        (&heard["payload"]["renderId"], &heard["payload"]["customData"]),
        (&json!(id), &json!({"a": "é"}))
    );
    let mail = timeout(PATIENCE, mail_to(&stack, "max@example.org")).await.expect("the mail comes");
    assert!(mail["Source"].as_str().unwrap().contains(FROM), "{mail}");
    assert!(mail["Subject"].as_str().unwrap().contains("is ready"), "{mail}");

    let there = stack.cloud.left().await;
    for service in
        ["dynamodb", "sqs", "cognito-idp", "events", "logs", "lambda", "apigateway", "iam", "monitoring"]
    {
        assert!(there.iter().any(|name| name.starts_with(&format!("{service} "))), "{service} in {there:?}");
    }
    stack.cloud.run(&["aws", "destroy", "--delete-data", "--yes"]).await;
    assert_eq!(stack.cloud.left().await, <Vec<String>>::new());
    stack.cloud.run(&["aws", "destroy", "--delete-data", "--yes"]).await;
}

async fn mail_to(stack: &Stack, address: &str) -> Value {
    loop {
        let mails = stack.mails().await;
        if let Some(mail) = mails.iter().find(|mail| mail["To"] == json!([address])) {
            return mail.clone();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What the event source gives a function for these messages.
fn event(stack: &Stack, messages: &[Value]) -> Value {
    let record = |message: &Value| {
        json!({
            "messageId": message["MessageId"], "receiptHandle": message["ReceiptHandle"], "body": message["Body"],
            "attributes": {
                "ApproximateReceiveCount": "1", "SentTimestamp": "1767225600000", "SenderId": "000000000000",
                "ApproximateFirstReceiveTimestamp": "1767225600000", "MessageGroupId": "x", "SequenceNumber": "1",
                "MessageDeduplicationId": "x",
            },
            "messageAttributes": {}, "md5OfBody": message["MD5OfBody"], "eventSource": "aws:sqs",
            "eventSourceARN": stack.output("queuearn"), "awsRegion": "us-east-1",
        })
    };
    json!({"Records": messages.iter().map(record).collect::<Vec<_>>()})
}

#[tokio::test(flavor = "multi_thread")]
async fn renders_of_a_group_never_overlap_however_often_it_is_rung_for_them() {
    let stack = deployed().await;
    // Somebody listens to the rings before the functions do.
    stack.listen(false).await;
    let mut ids = Vec::new();
    for number in 0..3 {
        ids.push(stack.submit(json!({"inputProps": {"n": number}, "queue": {"group": "a"}})).await);
    }
    let alone = stack.submit(json!({"inputProps": {"n": "alone"}})).await;
    let rings = stack.rings().await;
    assert_eq!(rings.len(), 2, "a lane is rung for once: {rings:?}");
    stack.listen(true).await;
    // Each comes many times over, to functions that run beside one another.
    let again = async {
        let events = rings.iter().cycle().take(6).map(|ring| event(&stack, std::slice::from_ref(ring)));
        let answers = futures_util::future::join_all(events.map(|event| {
            let stack = &stack;
            async move { stack.invoke("render", &event).await }
        }));
        for answer in answers.await {
            assert_eq!(answer["batchItemFailures"], json!([]), "{answer}");
        }
    };
    let ended = async {
        let mut renders = Vec::new();
        for id in &ids {
            renders.push(stack.succeeded(id).await);
        }
        renders
    };
    let (renders, ()) = tokio::join!(ended, again);
    stack.succeeded(&alone).await;
    for pair in renders.windows(2) {
        let (finished, started) = (time(&pair[0], "finishedAt"), time(&pair[1], "startedAt"));
        assert!(finished <= started, "{} began at {started}, before {finished}", pair[1]);
    }
    let starts = stack.cloud.remotion.starts();
    let asked: Vec<_> = starts.iter().map(|start| start["inputProps"]["payload"].as_str().unwrap()).collect();
    let of_the_group: Vec<_> = asked.iter().copied().filter(|props| !props.contains("alone")).collect();
    assert_eq!(of_the_group, [r#"{"n":0}"#, r#"{"n":1}"#, r#"{"n":2}"#], "each is paid for once");
    assert_eq!(asked.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_error_ends_in_the_dead_letters_and_redrive_brings_it_back() {
    let mut receiver = Receiver::answering(&[503]).await;
    let stack = deployed().await;
    stack.cloud.remotion.befall(Faults { fatal: true, ..Faults::default() });
    let webhook = json!({"url": receiver.url, "secret": SECRET});
    let id = stack.submit(json!({"queue": {"maxAttempts": 2}, "webhook": webhook})).await;
    let render = stack.ended(&id).await;
    assert_eq!(
        (&render["status"], &render["errors"][0]["code"], outcomes(&render)),
        (&json!("failed"), &json!("asset_failed"), vec!["failed", "failed"]),
        "{render}"
    );
    let dead = stack.output("deadLettersUrl");
    let letters = async { while stack.messages(dead).await != 1 {} };
    timeout(PATIENCE, letters).await.expect("a letter comes to the dead-letter queue");

    // Who does not take the notice gets it again, from a function that a message with a delay has woken.
    let (refused, taken) = (receiver.hears().await, receiver.hears().await);
    assert_eq!((&refused.0, &refused.1["type"]), (&taken.0, &json!("error")), "{refused:?} {taken:?}");

    stack.cloud.remotion.befall(Faults::default());
    let told = stack.client(&["redrive", "--id", &id]).await;
    assert!(told.contains(&id), "{told}");
    let render = stack.succeeded(&id).await;
    assert_eq!(outcomes(&render).last(), Some(&"succeeded"), "{render}");
    // The next minute takes the letter away: nobody need look into it any more.
    stack.minute().await;
    assert_eq!(stack.messages(dead).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_render_outlives_the_time_of_its_functions_and_their_death() {
    let stack = deployed().await;
    // It hands back when a third of its time is left.
    stack.configure("render", &json!({"Timeout": 12})).await;
    stack.cloud.remotion.halt(true);
    let id = stack.submit(json!({"inputProps": {"n": "long"}})).await;
    stack
        .until(&id, |render| {
            outcomes(render).iter().filter(|outcome| **outcome == "handed_back").count() >= 2
        })
        .await;

    // A function that is killed loses its lease, and the next minute finds that.
    let before = stack.until(&id, |render| outcomes(render).last() == Some(&"goes on")).await;
    stack.kill("render");
    let attempts = outcomes(&before).len();
    let lost = async {
        loop {
            stack.minute().await;
            let render = stack.render(&id).await;
            if outcomes(&render).get(attempts - 1) == Some(&"lost") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(PATIENCE, lost).await.expect("a dead function is noticed");
    stack.until(&id, |render| outcomes(render).last() == Some(&"goes on")).await;
    stack.cloud.remotion.halt(false);
    let render = stack.succeeded(&id).await;
    assert_eq!(stack.cloud.remotion.starts().len(), 1, "it is paid for once: {render}");
    assert_eq!(stack.messages(stack.output("deadLettersUrl")).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_start_renders_on_lambda_where_no_function_does_and_one_goes_on_for_another() {
    let stack = Cloud::start().await.deploy(&settings(), &["RenderOnLambda=no"]).await;
    stack.cloud.remotion.halt(true);
    let id = stack.submit(json!({"queue": {"group": "a"}})).await;
    let behind = stack.submit(json!({"queue": {"group": "a"}})).await;
    let mut first = stack.cloud.work("first");
    stack.until(&id, |render| render["phase"] == "rendering").await;
    first.kill().await.unwrap();
    let mut second = stack.cloud.work("second");
    stack.until(&id, |render| outcomes(render) == ["lost", "goes on"]).await;
    assert_eq!(stack.render(&behind).await["status"], "queued");
    stack.cloud.remotion.halt(false);
    let render = stack.succeeded(&id).await;
    let attempts = render["attempts"].as_array().unwrap().iter();
    let by: Vec<_> = attempts.map(|attempt| attempt["worker"].as_str().unwrap()).collect();
    assert_eq!(by, ["first", "second"], "{render}");
    stack.succeeded(&behind).await;
    assert_eq!(stack.cloud.remotion.starts().len(), 2, "each is paid for once");
    assert!(stack.processes("render").is_empty(), "no function renders");

    send_signal("TERM", i32::try_from(second.id().unwrap()).unwrap());
    assert!(timeout(PATIENCE, second.wait()).await.expect("it ends").unwrap().success());
}
