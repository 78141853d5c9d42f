//! The calls that all clients make, from `cases.json`.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac as _};
use serde_json::{Map, Value, json};
use sha2::Sha512;

use crate::capture::Script;

const BUCKET: &str = "remotionlambda-useast1-abc123defg";
const RENDER: &str = "abc123defg";

/// One call.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Its name in JavaScript.
    pub(crate) call: String,
    pub(crate) options: Value,
    /// The error this crate must give, by its name.
    pub(crate) expect: Option<String>,
    pub(crate) script: Script,
}

/// All of them: those of the file, and for every option one with it alone, one with none and one with all.
pub(crate) fn all() -> Vec<Case> {
    let file: Value = serde_json::from_str(include_str!("cases.json")).unwrap();
    let mut cases = Vec::new();
    for (room, call) in [("media", "renderMediaOnLambda"), ("still", "renderStillOnLambda")] {
        let base = &file[room];
        let options = file[format!("{room}Options")].as_object().unwrap();
        let mut add = |name: String, more: Map<String, Value>| {
            let raw = json!({ "name": format!("{room}/{name}"), "call": call, "options": merged(base, &Value::Object(more)) });
            cases.push(case(&raw, &file));
        };
        add("minimal".to_owned(), Map::new());
        for (name, value) in options {
            add(format!("option/{name}"), Map::from_iter([(name.clone(), value.clone())]));
        }
        add("all-options".to_owned(), options.clone());
    }
    cases.extend(file["cases"].as_array().unwrap().iter().map(|raw| case(raw, &file)));
    cases
}

fn case(raw: &Value, file: &Value) -> Case {
    let name = raw["name"].as_str().unwrap().to_owned();
    let mut options = raw["options"].clone();
    let mut call = raw["call"].as_str().unwrap_or_default().to_owned();
    if let Some(more) = raw.get("media") {
        (options, call) = (merged(&file["media"], more), "renderMediaOnLambda".to_owned());
    } else if let Some(more) = raw.get("still") {
        (options, call) = (merged(&file["still"], more), "renderStillOnLambda".to_owned());
    } else if name.starts_with("bucket/") {
        call = "getRenderProgress".to_owned();
        options = json!({ "functionName": "$function", "bucketName": BUCKET, "renderId": RENDER, "skipLambdaInvocation": true });
    }
    let mut script = Script {
        answer: raw.get("answer").cloned(),
        stream: raw.get("stream").map(|stream| serde_json::from_value(stream.clone()).unwrap()),
        stream_error: raw.get("streamError").cloned(),
        objects: raw
            .get("objects")
            .map(|objects| serde_json::from_value(objects.clone()).unwrap())
            .unwrap_or_default(),
        buckets: raw
            .get("buckets")
            .map(|buckets| serde_json::from_value(buckets.clone()).unwrap())
            .unwrap_or_default(),
    };
    if let Some(more) = raw.get("progress") {
        let folder = format!("{BUCKET}/renders/{RENDER}");
        script.objects.insert(format!("{folder}/progress.json"), expanded(&stored(more), file).to_string());
        if let Some(size) = raw["output"].as_u64() {
            script.objects.insert(format!("{folder}/out.mp4"), "x".repeat(usize::try_from(size).unwrap()));
        }
    }
    let expect = raw["expect"].as_str().map(str::to_owned);
    Case { name, call, options: expanded(&options, file), expect, script }
}

/// A render's `progress.json`: as it is when a render starts, with what differs.
fn stored(more: &Value) -> Value {
    let mut base = json!({
        "cancellationEnabled": false, "chunks": [], "framesRendered": 0, "framesEncoded": 0, "combinedFrames": 0,
        "timeToCombine": null, "timeToEncode": null, "lambdasInvoked": 0, "retries": [], "postRenderData": null, "timings": [],
        "renderMetadata": null, "errors": [], "fatalErrorTimestamp": null, "timeToRenderFrames": null,
        "timeoutTimestamp": { "$now": 110_000 }, "functionLaunched": { "$now": -10_000 }, "serveUrlOpened": null,
        "compositionValidated": null, "receivedArtifact": [],
    });
    let mut more = more.clone();
    if more.as_object_mut().unwrap().remove("$rendering").is_some() {
        base = merged(
            &base,
            &json!({
                "chunks": [0, 1, 0], "framesRendered": 80, "framesEncoded": 60, "lambdasInvoked": 3,
                "serveUrlOpened": { "$now": -8_000 }, "compositionValidated": { "$now": -7_000 }, "timeToRenderFrames": 4_000,
                "retries": [{ "chunk": 2, "attempt": 2, "time": 1_234 }],
                "timings": [
                    { "chunk": 0, "start": 1_790_000_000_000_i64, "rendered": 1_790_000_004_000_i64 },
                    { "chunk": 1, "start": 1_790_000_000_500_i64, "rendered": 1_790_000_005_000_i64 },
                    { "chunk": 2, "start": 1_790_000_001_000_i64, "rendered": 1_790_000_004_500_i64 },
                ],
                "renderMetadata": {
                    "type": "video", "siteId": "my-site", "startedDate": { "$now": -9_000 }, "totalChunks": 3,
                    "estimatedTotalLambdaInvokations": 4, "estimatedRenderLambdaInvokations": 3, "compositionId": "main",
                    "codec": "h264", "audioCodec": "aac", "imageFormat": "jpeg", "inputProps": { "type": "payload", "payload": "{}" },
                    "framesPerLambda": 50, "memorySizeInMb": 2048, "functionName": "$function", "rendererFunctionName": "$function",
                    "lambdaVersion": "4.0.527", "region": "us-east-1", "renderId": RENDER, "privacy": "public", "deleteAfter": null,
                    "numberOfGifLoops": null, "audioBitrate": null, "downloadBehavior": { "type": "play-in-browser" },
                    "metadata": null, "dimensions": { "width": 1280, "height": 720 }, "scale": 1, "frameRange": [0, 149],
                    "everyNthFrame": 1, "muted": false, "outputFileIsConditional": null,
                },
            }),
        );
    }
    if more.as_object_mut().unwrap().remove("$done").is_some() {
        base = merged(
            &base,
            &json!({ "postRenderData": {
            "cost": { "estimatedCost": 0.01234, "estimatedDisplayCost": "$0.012", "currency": "USD", "disclaimer": "about" },
            "outputFile": "https://s3.us-east-1.amazonaws.com/b/renders/abc123defg/out.mp4", "outputSize": 123_456,
            "renderSize": 234_567, "timeToFinish": 9_876, "timeToRenderFrames": 4_000, "errors": [], "startTime": 1, "endTime": 2,
            "filesCleanedUp": 6, "timeToEncode": 5_000, "timeToCleanUp": 77, "timeToRenderChunks": 5_000,
            "retriesInfo": [], "mostExpensiveFrameRanges": [{ "chunk": 1, "frameRange": [50, 99], "timeInMilliseconds": 4_500 }],
            "estimatedBillingDurationInMilliseconds": 12_300, "deleteAfter": null, "timeToCombine": 900, "artifactProgress": [],
        } }),
        );
    }
    merged(&base, &more)
}

fn merged(base: &Value, more: &Value) -> Value {
    let (Value::Object(base), Value::Object(more)) = (base, more) else { return more.clone() };
    let mut merged = base.clone();
    for (name, value) in more {
        // What an option holds is one value; only what a render writes is merged deeper.
        let value = if name == "renderMetadata" { self::merged(&merged[name], value) } else { value.clone() };
        merged.insert(name.clone(), value);
    }
    Value::Object(merged)
}

/// Without the marks that stand for what a file cannot hold.
fn expanded(value: &Value, file: &Value) -> Value {
    match value {
        Value::String(text) if text == "$function" => file["media"]["functionName"].clone(),
        Value::String(text) if text == "$sign" => {
            let mut mac = Hmac::<Sha512>::new_from_slice(b"s3cret").unwrap();
            mac.update(r#"{"type":"timeout","renderId":"ä"}"#.as_bytes());
            let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            format!("sha512={hex}").into()
        }
        Value::Array(values) => values.iter().map(|value| expanded(value, file)).collect(),
        Value::Object(fields) => {
            if let Some(offset) = fields.get("$now") {
                return (now() + offset.as_i64().unwrap()).into();
            }
            if let Some(repeat) = fields.get("$repeat") {
                let times = usize::try_from(repeat[1].as_u64().unwrap()).unwrap();
                return repeat[0].as_str().unwrap().repeat(times).into();
            }
            fields.iter().map(|(name, value)| (name.clone(), expanded(value, file))).collect()
        }
        other => other.clone(),
    }
}

#[expect(clippy::disallowed_methods, reason = "the official clients have no clock but the system's")]
fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}
