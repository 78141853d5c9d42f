//! The official clients and this crate make the same calls; what they send and what they make of the answers is compared.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_lambda::config::{Credentials, Region};
use remotion_lambda::Client;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::capture::Capture;
use crate::cases::{self, Case};
use crate::differences::{Table, between};
use crate::ours;

/// Buckets that cases name; every other one with a name of Remotion's was made with a random one.
const KNOWN_HASHES: [&str; 2] = ["abc123defg", "hij456klmn"];

/// A client: how its table calls it, and the first letter of its keys.
const JAVASCRIPT: (&str, char) = ("JavaScript", 'J');
const PYTHON: (&str, char) = ("Python", 'P');
const OURS: char = 'R';

/// What one client made of all cases: what it asked and what came of it.
struct Made {
    requests: Vec<Value>,
    outcome: Value,
}

#[tokio::test]
async fn the_same_is_asked_and_the_same_understood_as_by_the_official_clients() {
    let cases = cases::all();
    assert!(cases.len() >= 40);
    let capture = Capture::start().await;
    for (at, case) in cases.iter().enumerate() {
        for letter in [JAVASCRIPT.1, PYTHON.1, OURS] {
            capture.play(&key(letter, at), case.script.clone());
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let (javascript, python, ours) = tokio::join!(
        peer(&capture, &cases, JAVASCRIPT.1, javascript(), folder.path()),
        peer(&capture, &cases, PYTHON.1, python(), folder.path()),
        this_crate(&capture, &cases),
    );

    let table = Table::read();
    let mut unlisted = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        let kind = ours[at].outcome["kind"].as_str();
        let kind_is = |expected: &String| kind.is_some_and(|kind| kind.starts_with(expected.as_str()));
        assert!(
            case.expect.as_ref().map_or(kind.is_none(), kind_is),
            "{}: expected {:?}, came {}",
            case.name,
            case.expect,
            ours[at].outcome
        );
        for ((client, _), theirs) in [(JAVASCRIPT, &javascript[at]), (PYTHON, &python[at])] {
            // Python does not listen to streams.
            let deaf = client == PYTHON.0 && case.script.stream.is_some();
            if theirs.outcome.get("unsupported").is_some() || deaf {
                continue;
            }
            for difference in compared(&ours[at], theirs, client) {
                if !table.has(client, &case.name, &difference.place) {
                    let short = |value: &Value| value.to_string().chars().take(300).collect::<String>();
                    let (one, other) = (short(&difference.ours), short(&difference.theirs));
                    unlisted.push(format!(
                        "{client} {} {}\n    ours   {one}\n    theirs {other}",
                        case.name, difference.place
                    ));
                }
            }
        }
    }
    assert!(
        unlisted.is_empty(),
        "{} differences are not in docs/CONFORMANCE.md:\n{}",
        unlisted.len(),
        unlisted.join("\n")
    );
    assert!(
        table.stale().is_empty(),
        "these rows of docs/CONFORMANCE.md say nothing any more: {:#?}",
        table.stale()
    );
}

fn key(letter: char, at: usize) -> String {
    format!("AK{letter}{at:04}")
}

fn compared(ours: &Made, theirs: &Made, client: &str) -> Vec<crate::differences::Difference> {
    let mut found = Vec::new();
    if ours.requests.len() == theirs.requests.len() {
        for (at, (one, other)) in ours.requests.iter().zip(&theirs.requests).enumerate() {
            between(one, other, &format!("/requests/{at}"), &mut found);
        }
    } else {
        let lines = |made: &Made| {
            made.requests
                .iter()
                .map(|asked| format!("{} {}", asked["method"], asked["path"]))
                .collect::<Value>()
        };
        between(&lines(ours), &lines(theirs), "/requests", &mut found);
    }
    let mut one = ours.outcome.clone();
    let mut other = theirs.outcome.clone();
    for outcome in [&mut one, &mut other] {
        outcome.as_object_mut().unwrap().remove("kind");
    }
    // JavaScript's stack is its own, unless it is the function's.
    if one["stack"].is_null() || client == PYTHON.0 {
        for outcome in [&mut one, &mut other] {
            outcome.as_object_mut().unwrap().remove("stack");
        }
    }
    // The client for Python makes less of answers. What it makes is compared.
    if client == PYTHON.0
        && let Some(part) =
            one.pointer_mut(if one["result"].get("result").is_some() { "/result/result" } else { "/result" })
        && let (Some(fields), Some(known)) = (part.as_object_mut(), theirs.outcome["result"].as_object())
    {
        fields.retain(|name, _| known.contains_key(name));
        one = json!({ "result": part.clone() });
    }
    if one.get("error").is_some() != other.get("error").is_some() {
        between(&one, &other, "/outcome", &mut found);
    } else {
        between(&one, &other, "", &mut found);
    }
    found
}

async fn this_crate(capture: &Capture, cases: &[Case]) -> Vec<Made> {
    let base = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(&capture.url)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .credentials_provider(Credentials::new("unused", "unused", None, None, "test"))
        .load()
        .await;
    let mut made = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        let key = key(OURS, at);
        let client = Client::new(&signing_as(&base, &key)).unwrap();
        let outcome = ours::make(&client, case).await;
        made.push(normal(case, capture.asked(&key), outcome));
    }
    made
}

fn signing_as(base: &SdkConfig, key: &str) -> SdkConfig {
    let credentials = Credentials::new(key, "secret", None, None, "test");
    let provider = aws_sdk_lambda::config::SharedCredentialsProvider::new(credentials);
    base.to_builder().credentials_provider(provider).build()
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers")
}

fn javascript() -> Command {
    let mut node = Command::new("node");
    node.arg(peers().join("drive.mjs"));
    node.env("REMOTION_DISABLE_AWS_CLIENT_CACHE", "true");
    node
}

fn python() -> Command {
    let mut python = Command::new(peers().join("../../../../target/peers/venv/bin/python"));
    python.arg(peers().join("drive.py"));
    // It would wait for long where it is told to.
    python.env("AWS_MAX_ATTEMPTS", "1");
    python
}

async fn peer(
    capture: &Capture,
    cases: &[Case],
    letter: char,
    mut driver: Command,
    folder: &Path,
) -> Vec<Made> {
    let calls: Vec<Value> = cases
        .iter()
        .enumerate()
        .map(|(at, case)| json!({ "key": key(letter, at), "call": case.call, "options": case.options }))
        .collect();
    let (asked, made) = (folder.join(format!("{letter}.json")), folder.join(format!("{letter}-made.json")));
    std::fs::write(&asked, serde_json::to_vec(&calls).unwrap()).unwrap();
    let output = driver
        .arg(&asked)
        .arg(&made)
        .env("HOME", folder)
        .env("AWS_ENDPOINT_URL", &capture.url)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env_remove("AWS_PROFILE")
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap_or_else(|error| {
            panic!("{driver:?}: {error}; `make setup` and `scripts/setup tests` install it")
        });
    assert!(
        output.status.success(),
        "`scripts/setup tests` installs what is missing\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let made: Vec<Value> = serde_json::from_slice(&std::fs::read(&made).unwrap()).unwrap();
    assert_eq!(made.len(), cases.len());
    let made = cases.iter().zip(made).enumerate();
    made.map(|(at, (case, outcome))| normal(case, capture.asked(&key(letter, at)), outcome)).collect()
}

/// Without what is random, what tells the time, and the order of what is asked at once.
fn normal(case: &Case, requests: Vec<Value>, mut outcome: Value) -> Made {
    let mut requests: Vec<Value> = requests.into_iter().map(|request| without_chance(&request)).collect();
    requests.sort_by_key(|request| {
        let part = |name: &str| request[name].to_string();
        (part("service"), part("method"), part("path"), part("query"))
    });
    if case.name.starts_with("bucket/") {
        for moment in ["currentTime", "timeToFinish"] {
            // How long a whole render took is written down, and no matter of the clock.
            if !(case.name.contains("done") && moment == "timeToFinish")
                && let Some(value) = outcome["result"].get_mut(moment)
                && value.is_number()
            {
                *value = Value::from("a moment");
            }
        }
    }
    if case.call == "presignUrl"
        && let Some(url) = outcome["result"].as_str()
    {
        outcome = json!({ "result": taken_apart(url) });
    }
    Made { requests, outcome: without_chance(&outcome) }
}

fn taken_apart(url: &str) -> Value {
    let (path, query) = url.split_once('?').unwrap();
    let query = query.split('&').map(|part| part.split_once('=').unwrap());
    let steady = |name: &str| !matches!(name, "X-Amz-Date" | "X-Amz-Signature" | "X-Amz-Credential");
    let query = query.map(|(name, value)| (name.to_owned(), if steady(name) { value } else { "*" }));
    let (_, path) = path.split_once("127.0.0.1:").unwrap();
    let path = path.split_once('/').unwrap().1;
    json!({ "path": path, "query": query.collect::<std::collections::BTreeMap<_, _>>() })
}

fn without_chance(value: &Value) -> Value {
    match value {
        Value::String(text) => steady(text).into(),
        Value::Array(values) => values.iter().map(without_chance).collect(),
        Value::Object(fields) => {
            let steady = |(name, value): (&String, &Value)| match name.as_str() {
                "hash" => (name.clone(), "HASH".into()),
                "cancelledAt" => (name.clone(), "a moment".into()),
                _ => (name.clone(), without_chance(value)),
            };
            fields.iter().map(steady).collect()
        }
        other => other.clone(),
    }
}

fn steady(text: &str) -> String {
    const BUCKET: &str = "remotionlambda-useast1-";
    if let Some((before, _)) = text.split_once("/input-props/") {
        return format!("{}/input-props/HASH.json", steady(before));
    }
    if text.len() > 10_000 {
        return text.to_owned();
    }
    let mut steady = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BUCKET) {
        steady.push_str(before);
        steady.push_str(BUCKET);
        let end = after.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(after.len());
        steady.push_str(if KNOWN_HASHES.contains(&&after[..end]) { &after[..end] } else { "RANDOM" });
        rest = &after[end..];
    }
    steady.push_str(rest);
    steady
}
