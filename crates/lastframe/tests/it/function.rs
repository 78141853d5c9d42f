//! Something that behaves like the function of Remotion Lambda 4.0.527: it answers Lambda's API, writes `progress.json` as
//! Remotion's function does, looks for `cancel.json`, and puts a real video where its name says.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path as Name, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use lastframe_core::{Clock as _, SystemClock};
use lastframe_stand_in::event;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use crate::s3::S3;
use crate::server::ffmpeg;

/// Its name, which tells how it was deployed.
pub(crate) const FUNCTION: &str = "remotion-render-4-0-527-mem2048mb-disk10240mb-120sec";
/// Frames of every render, and how long one takes.
pub(crate) const FRAMES: u64 = 30;
const FRAME: Duration = Duration::from_millis(30);
/// What lies in the bucket of a still. Nobody looks into it.
pub(crate) const STILL: &[u8] = b"\x89PNG\r\n\x1a\n: a still";
/// It says how far it is every so many frames.
const TOLD: u64 = 6;
/// How long it takes until the composition is known.
const OPENING: Duration = Duration::from_millis(400);

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// So many starts are turned away.
    pub(crate) throttled: u32,
    /// So many starts happen, and their answers are lost.
    pub(crate) lost: u32,
    /// A part of the render fails for good.
    pub(crate) fatal: bool,
    /// After half of the frames, nothing happens any more.
    pub(crate) stuck: bool,
}

/// The function, and all that it was asked for.
pub(crate) struct Function {
    pub(crate) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    s3: Arc<S3>,
    faults: Mutex<Faults>,
    /// What was asked for with each start that happened.
    starts: Mutex<Vec<Value>>,
    /// How many starts were asked for, and whether their answers are held back.
    asked: watch::Sender<u32>,
    held: watch::Sender<bool>,
    /// Whether renders stand still in their middle.
    halted: watch::Sender<bool>,
    /// The functions there are, by name.
    deployed: Mutex<BTreeSet<String>>,
    clock: SystemClock,
    video: Vec<u8>,
}

impl Function {
    pub(crate) async fn deployed(s3: &Arc<S3>) -> Self {
        let shared = Arc::new(Shared {
            s3: Arc::clone(s3),
            faults: Mutex::default(),
            starts: Mutex::default(),
            asked: watch::Sender::new(0),
            held: watch::Sender::new(false),
            halted: watch::Sender::new(false),
            deployed: Mutex::new(BTreeSet::from([FUNCTION.to_owned()])),
            clock: SystemClock::new(),
            video: video().await,
        });
        let routes = Router::new()
            .route("/2015-03-31/functions/{name}/invocations", post(invoke))
            .route("/2021-11-15/functions/{name}/response-streaming-invocations", post(stream))
            .route("/", post(passed_on))
            .route("/2015-03-31/functions/{name}/configuration", get(configuration))
            .route("/2015-03-31/functions", get(list).post(create))
            .route("/2015-03-31/functions/", get(list).post(create))
            .route("/2015-03-31/functions/{name}", get(described).delete(remove))
            // Tags, retries and runtimes.
            .fallback(async || axum::Json(json!({})))
            .route("/2016-08-19/account-settings", get(settings))
            .route("/2016-08-19/account-settings/", get(settings))
            // A function comes as a file of some megabytes.
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, shared }
    }

    pub(crate) fn befall(&self, faults: Faults) {
        *self.shared.faults.lock().unwrap() = faults;
    }

    /// Answers nothing until it is let go on.
    pub(crate) fn hold(&self, held: bool) {
        self.shared.held.send_replace(held);
    }

    /// Lets renders stand still in their middle until they are let go on.
    pub(crate) fn halt(&self, halted: bool) {
        self.shared.halted.send_replace(halted);
    }

    /// Waits until so many starts were asked for, answered or not.
    pub(crate) async fn asked(&self, times: u32) {
        self.shared.asked.subscribe().wait_for(|asked| *asked >= times).await.unwrap();
    }

    /// The functions there are.
    pub(crate) fn functions(&self) -> Vec<String> {
        self.shared.deployed.lock().unwrap().iter().cloned().collect()
    }

    /// What was asked for with each start that happened.
    pub(crate) fn starts(&self) -> Vec<Value> {
        self.shared.starts.lock().unwrap().clone()
    }
}

/// A video of as many frames as every render has.
async fn video() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.mp4");
    let mut encoder = tokio::process::Command::from(ffmpeg("ffmpeg"))
        .args([
            "-v",
            "error",
            "-f",
            "image2pipe",
            "-c:v",
            "rawvideo",
            "-pixel_format",
            "rgb24",
            "-video_size",
            "64x48",
        ])
        .args(["-frame_size", "9216", "-framerate", "30", "-i", "-"])
        .args(["-c:v", "libx264", "-pix_fmt", "yuv420p"])
        .arg(&file)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut frames = encoder.stdin.take().unwrap();
    for frame in 0..FRAMES {
        frames.write_all(&vec![frame as u8 * 8; 64 * 48 * 3]).await.unwrap();
    }
    drop(frames);
    assert!(encoder.wait().await.unwrap().success());
    std::fs::read(Path::new(&file)).unwrap()
}

async fn configuration() -> Response {
    let role = "arn:aws:iam::000000000000:role/remotion-lambda-role";
    axum::Json(json!({"FunctionName": FUNCTION, "MemorySize": 2048, "Timeout": 120, "Role": role}))
        .into_response()
}

async fn list(State(shared): State<Arc<Shared>>) -> Response {
    let described = |name: &String| {
        let timeout: u32 = name.rsplit_once('-').unwrap().1.trim_end_matches("sec").parse().unwrap();
        json!({"FunctionName": name, "MemorySize": 2048, "Timeout": timeout, "EphemeralStorage": {"Size": 10240}})
    };
    let functions: Vec<_> = shared.deployed.lock().unwrap().iter().map(described).collect();
    axum::Json(json!({"Functions": functions})).into_response()
}

async fn create(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let name = asked["FunctionName"].as_str().unwrap().to_owned();
    assert!(asked["Role"].as_str().unwrap().ends_with(":role/remotion-lambda-role"), "{}", asked["Role"]);
    let arn = format!("arn:aws:lambda:us-east-1:000000000000:function:{name}");
    shared.deployed.lock().unwrap().insert(name.clone());
    (StatusCode::CREATED, axum::Json(json!({"FunctionName": name, "FunctionArn": arn}))).into_response()
}

async fn described(Name(name): Name<String>) -> Response {
    axum::Json(json!({"Configuration": {"FunctionName": name, "State": "Active"}})).into_response()
}

async fn remove(State(shared): State<Arc<Shared>>, Name(name): Name<String>) -> StatusCode {
    assert!(shared.deployed.lock().unwrap().remove(&name), "there is no {name}");
    StatusCode::NO_CONTENT
}

async fn settings() -> Response {
    axum::Json(json!({"AccountLimit": {"ConcurrentExecutions": 10}, "AccountUsage": {}})).into_response()
}

fn take(left: &mut u32) -> bool {
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}

async fn invoke(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    assert!(headers.contains_key("authorization"), "it is signed");
    answer(&shared, &body).await
}

/// What came to somebody who looks at signatures and rights already.
async fn passed_on(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    answer(&shared, &body).await
}

async fn answer(shared: &Arc<Shared>, body: &[u8]) -> Response {
    let asked: Value = serde_json::from_slice(body).unwrap();
    match asked["type"].as_str().unwrap() {
        "info" => axum::Json(json!({"type": "success", "version": "4.0.527"})).into_response(),
        "start" => start(shared, asked).await,
        "compositions" => axum::Json(json!({"type": "success", "compositions": [{
            "id": "main", "width": 64, "height": 48, "fps": 30, "durationInFrames": FRAMES, "defaultProps": {},
            "props": {}, "defaultCodec": null, "defaultOutName": null,
        }]}))
        .into_response(),
        other => panic!("nobody asks for {other}"),
    }
}

async fn start(shared: &Arc<Shared>, asked: Value) -> Response {
    assert_eq!(asked["version"], "4.0.527");
    shared.asked.send_modify(|asked| *asked += 1);
    if take(&mut shared.faults.lock().unwrap().throttled) {
        let kind = [("x-amzn-errortype", "TooManyRequestsException")];
        let body = json!({"Reason": "ConcurrentInvocationLimitExceeded", "message": "Rate Exceeded."});
        return (StatusCode::TOO_MANY_REQUESTS, kind, axum::Json(body)).into_response();
    }
    let (bucket, id) = (asked["bucketName"].as_str().unwrap().to_owned(), {
        let mut starts = shared.starts.lock().unwrap();
        starts.push(asked.clone());
        format!("abcdefgh{:02}", starts.len())
    });
    let mut render = Render { shared: Arc::clone(shared), id: id.clone(), asked, progress: Value::Null };
    // It is written before the answer, and goes on whether or not anybody hears that: whoever asked may be dead by now.
    let (opened, opening) = oneshot::channel();
    drop(tokio::spawn(async move {
        let began = render.open().await;
        opened.send(()).ok();
        render.launch(began).await;
    }));
    opening.await.unwrap();
    let mut held = shared.held.subscribe();
    held.wait_for(|held| !held).await.unwrap();
    if take(&mut shared.faults.lock().unwrap().lost) {
        // What a load balancer between here and there says when the connection broke.
        return (StatusCode::BAD_GATEWAY, "").into_response();
    }
    axum::Json(json!({"type": "success", "bucketName": bucket, "renderId": id})).into_response()
}

/// Stills are made within the call, and told of bit by bit.
async fn stream(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    assert!(headers.contains_key("authorization"), "it is signed");
    let asked: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&asked["type"], &asked["version"], &asked["streamed"]),
        (&json!("still"), &json!("4.0.527"), &json!(true))
    );
    shared.asked.send_modify(|asked| *asked += 1);
    let id = {
        let mut starts = shared.starts.lock().unwrap();
        starts.push(asked.clone());
        format!("abcdefgh{:02}", starts.len())
    };
    let mut render = Render { shared: Arc::clone(&shared), id: id.clone(), asked, progress: Value::Null };
    // It is made whether or not anybody listens.
    let (made, making) = oneshot::channel();
    drop(tokio::spawn(async move {
        made.send(render.still().await).ok();
    }));
    let still = making.await.unwrap();
    if take(&mut shared.faults.lock().unwrap().lost) {
        return (StatusCode::BAD_GATEWAY, "").into_response();
    }
    let mut said = Vec::new();
    for (kind, body) in [(3, json!({"renderId": id})), (6, still)] {
        let body = body.to_string();
        said.extend(format!("remotion_buffer:{kind}:{}:0:{body}", body.len()).bytes());
    }
    let mut events = event("PayloadChunk", "application/octet-stream", &said);
    events.extend(event("InvokeComplete", "application/json", b"{}"));
    ([("content-type", "application/vnd.amazon.eventstream")], events).into_response()
}

struct Render {
    shared: Arc<Shared>,
    id: String,
    asked: Value,
    progress: Value,
}

impl Render {
    fn now(&self) -> i64 {
        self.shared.clock.now().as_millisecond()
    }

    fn bucket(&self) -> &str {
        self.asked["bucketName"].as_str().unwrap()
    }

    fn key(&self, name: &str) -> String {
        format!("renders/{}/{name}", self.id)
    }

    async fn write(&mut self, changes: Value) {
        self.progress.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        self.shared.s3.put_in(self.bucket(), &self.key("progress.json"), self.progress.to_string()).await;
    }

    async fn fail(&mut self, name: &str, message: &str) {
        let error = json!({
            "type": "renderer", "message": message, "name": name, "stack": format!("{name}: {message}\n    at f (bundle.js:1)"),
            "frame": null, "chunk": 0, "isFatal": true, "attempt": 1, "willRetry": false, "totalAttempts": 1, "tmpDir": null,
        });
        let now = self.now();
        self.write(json!({"errors": [error], "fatalErrorTimestamp": now})).await;
    }

    /// Makes a still, and gives what Remotion says of one. It writes of it once, when its composition is known.
    async fn still(&mut self) -> Value {
        let began = self.begin();
        let name = self.asked["outName"].as_str().unwrap().to_owned();
        let metadata = json!({
            "startedDate": began, "totalChunks": 1, "estimatedTotalLambdaInvokations": 1,
            "estimatedRenderLambdaInvokations": 1, "compositionId": self.asked["composition"],
            "siteId": self.asked["serveUrl"], "codec": null, "type": "still", "imageFormat": self.asked["imageFormat"],
            "inputProps": self.asked["inputProps"], "lambdaVersion": "4.0.527", "framesPerLambda": 1,
            "memorySizeInMb": 2048, "region": "us-east-1", "renderId": self.id, "outName": name,
            "privacy": self.asked["privacy"], "audioCodec": null, "deleteAfter": null, "numberOfGifLoops": null,
            "downloadBehavior": {"type": "play-in-browser"}, "audioBitrate": null, "metadata": null,
            "functionName": FUNCTION, "dimensions": {"width": 64, "height": 48}, "rendererFunctionName": FUNCTION,
            "scale": 1, "outputFileIsConditional": null,
        });
        // Remotion writes how long it has left where it should write until when.
        self.write(json!({"renderMetadata": metadata, "timeoutTimestamp": 119_900})).await;
        tokio::time::sleep(FRAME).await;
        let key = self.key(&name);
        self.shared.s3.put_in(self.bucket(), &key, STILL).await;
        json!({
            "type": "success", "output": format!("https://s3.us-east-1.amazonaws.com/bucket/{key}"), "outKey": key,
            "size": STILL.len(), "sizeInBytes": STILL.len(), "bucketName": self.bucket(), "renderId": self.id,
            "estimatedPrice": {"accruedSoFar": 0.000_4, "displayCost": "<$0.001", "currency": "USD", "disclaimer": ""},
            "receivedArtifacts": [],
        })
    }

    /// Writes that there is a render, of which nothing is known yet.
    async fn open(&mut self) -> i64 {
        let now = self.begin();
        self.write(json!({})).await;
        now
    }

    fn begin(&mut self) -> i64 {
        let now = self.now();
        self.progress = json!({
            "cancellationEnabled": self.asked["enableCancellation"], "chunks": [], "framesRendered": 0, "framesEncoded": 0,
            "combinedFrames": 0, "timeToCombine": null, "timeToEncode": null, "lambdasInvoked": 0, "retries": [],
            "postRenderData": null, "timings": [], "renderMetadata": null, "errors": [], "fatalErrorTimestamp": null,
            "timeToRenderFrames": null, "timeoutTimestamp": now + 120_000, "functionLaunched": now,
            "serveUrlOpened": null, "compositionValidated": null, "receivedArtifact": [],
        });
        now
    }

    async fn launch(mut self, now: i64) {
        // What a function does takes its time; nobody but the clock says when it is done.
        tokio::time::sleep(OPENING).await;
        let metadata = json!({
            "startedDate": now, "totalChunks": 1, "estimatedTotalLambdaInvokations": 2, "estimatedRenderLambdaInvokations": 1,
            "compositionId": self.asked["composition"], "siteId": self.asked["serveUrl"], "codec": self.asked["codec"],
            "type": "video", "imageFormat": self.asked["imageFormat"], "inputProps": self.asked["inputProps"],
            "lambdaVersion": "4.0.527", "framesPerLambda": FRAMES, "memorySizeInMb": 2048, "region": "us-east-1",
            "renderId": self.id, "outName": self.asked["outName"], "privacy": self.asked["privacy"],
            "everyNthFrame": 1, "frameRange": [0, FRAMES - 1], "audioCodec": null, "deleteAfter": null,
            "numberOfGifLoops": null, "downloadBehavior": {"type": "play-in-browser"}, "audioBitrate": null, "muted": false,
            "metadata": null, "functionName": FUNCTION, "dimensions": {"width": 64, "height": 48},
            "rendererFunctionName": FUNCTION, "scale": 1, "outputFileIsConditional": true,
        });
        let later = self.now();
        self.write(json!({
            "serveUrlOpened": later, "compositionValidated": later, "renderMetadata": metadata, "lambdasInvoked": 1,
        }))
        .await;
        for frame in 1..=FRAMES {
            tokio::time::sleep(FRAME).await;
            if frame == FRAMES / 2 {
                let mut halted = self.shared.halted.subscribe();
                halted.wait_for(|halted| !halted).await.unwrap();
            }
            if frame % TOLD == 0 {
                if self.shared.s3.objects_in(self.bucket()).await.contains(&self.key("cancel.json")) {
                    return self.fail("CancelledError", "renderMedia() got cancelled").await;
                }
                let faults = *self.shared.faults.lock().unwrap();
                if frame > FRAMES / 2 && faults.fatal {
                    return self
                        .fail("Error", "Error loading image with src: https://example.com/a.png")
                        .await;
                }
                if frame < FRAMES / 2 || !faults.stuck {
                    self.write(json!({"framesRendered": frame, "framesEncoded": frame - 2})).await;
                }
            }
        }
        while self.shared.faults.lock().unwrap().stuck {
            tokio::time::sleep(FRAME).await;
            if self.shared.s3.objects_in(self.bucket()).await.contains(&self.key("cancel.json")) {
                return self.fail("CancelledError", "renderMedia() got cancelled").await;
            }
        }
        self.finish(now).await;
    }

    async fn finish(mut self, began: i64) {
        let (name, video) = (self.asked["outName"].as_str().unwrap_or("out.mp4"), self.shared.video.clone());
        let (key, size) = (self.key(name), video.len());
        self.shared.s3.put_in(self.bucket(), &key, video).await;
        let now = self.now();
        let cost = json!({"currency": "USD", "disclaimer": "", "estimatedCost": 0.00123, "estimatedDisplayCost": "$0.001"});
        self.write(json!({
            "chunks": [0], "framesEncoded": FRAMES, "combinedFrames": FRAMES, "timeToCombine": 10, "timeToEncode": 10,
            "timeToRenderFrames": now - began, "timings": [{"chunk": 0, "start": began, "rendered": now}],
            "postRenderData": {
                "cost": cost, "outputFile": format!("https://s3.us-east-1.amazonaws.com/bucket/{key}"), "outputSize": size,
                "renderSize": size, "timeToFinish": now - began, "errors": [], "startTime": began, "endTime": now,
                "filesCleanedUp": 0, "timeToEncode": 10, "timeToCleanUp": 0, "timeToRenderChunks": now - began,
                "timeToRenderFrames": now - began, "retriesInfo": [], "mostExpensiveFrameRanges": [], "deleteAfter": null,
                "estimatedBillingDurationInMilliseconds": now - began, "timeToCombine": 10, "artifactProgress": [],
            },
        }))
        .await;
    }
}
