//! A server that writes down what it is asked, and answers as the case says.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use lastframe_stand_in::event;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

/// What a case answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    /// To a call of a function: `status`, `headers`, `body` or `text`.
    pub(crate) answer: Option<Value>,
    /// To a call that streams: messages, each a type and a body.
    pub(crate) stream: Option<Vec<(u32, Value)>>,
    /// How such a stream ends.
    pub(crate) stream_error: Option<Value>,
    /// Objects there are, by bucket and key.
    pub(crate) objects: BTreeMap<String, String>,
    pub(crate) buckets: Vec<String>,
}

/// The server. Who asks is told by the id of the credentials.
pub(crate) struct Capture {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    scripts: HashMap<String, Script>,
    asked: HashMap<String, Vec<Value>>,
}

impl Capture {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = service_fn(move |request| serve(request, Arc::clone(&state)));
                    // A client that goes away has had its answer.
                    http1::Builder::new().serve_connection(TokioIo::new(connection), service).await.ok();
                });
            }
        });
        Self { url: format!("http://{address}"), state }
    }

    pub(crate) fn play(&self, key: &str, script: Script) {
        self.state.lock().unwrap().scripts.insert(key.to_owned(), script);
    }

    /// What was asked with these credentials.
    pub(crate) fn asked(&self, key: &str) -> Vec<Value> {
        self.state.lock().unwrap().asked.remove(key).unwrap_or_default()
    }
}

/// Headers that mean something to Lambda or S3. Checksums and what identifies a client do not.
const HEADERS: [&str; 7] = [
    "content-type",
    "x-amz-acl",
    "x-amz-expected-bucket-owner",
    "x-amz-invocation-type",
    "x-amz-log-type",
    "x-amz-storage-class",
    "if-none-match",
];

async fn serve(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let mut body = body.collect().await.unwrap().to_bytes().to_vec();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    if header("content-encoding").is_some_and(|encoding| encoding.contains("aws-chunked")) {
        body = unchunked(&body);
    }
    let authorization = header("authorization").unwrap_or_default();
    let scope = authorization
        .split_once("Credential=")
        .map(|(_, rest)| rest.split(',').next().unwrap())
        .unwrap_or_default();
    let scope: Vec<&str> = scope.split('/').collect();
    let [key, _, region, service, _] = scope[..] else { return Ok(text(400, "unsigned")) };

    let query = head.uri.query().unwrap_or_default();
    // SDKs differ in what they make of a name without a value, and some say what they call.
    let parts = query.split('&').filter(|part| !part.is_empty() && !part.starts_with("x-id="));
    let mut query: Vec<String> = parts.map(|part| part.trim_end_matches('=').to_owned()).collect();
    query.sort();
    let path = head.uri.path().trim_end_matches('/').to_owned();
    let headers: Map<String, Value> =
        HEADERS.iter().filter_map(|name| Some(((*name).to_owned(), header(name)?.into()))).collect();
    let asked = json!({
        "method": head.method.as_str(),
        "path": path,
        "query": query,
        "service": service,
        "region": region,
        "headers": headers,
        "body": readable(&body),
    });

    let mut state = state.lock().unwrap();
    state.asked.entry(key.to_owned()).or_default().push(asked);
    let script = state.scripts.entry(key.to_owned()).or_default();
    Ok(match service {
        "lambda" => lambda(script, head.method.as_str(), &path, &body),
        "s3" => s3(script, head.method.as_str(), &path, &query),
        "sts" => xml(
            200,
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
             <Arn>arn:aws:iam::123456789012:user/u</Arn><UserId>U</UserId><Account>123456789012</Account>\
             </GetCallerIdentityResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>\
             </GetCallerIdentityResponse>",
        ),
        _ => text(400, "no such service"),
    })
}

/// A body as it can be compared: JSON as a tree, and anything else as text.
fn readable(body: &[u8]) -> Value {
    let text = String::from_utf8_lossy(body);
    serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned()))
}

/// What a body sent in chunks with a checksum behind is.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|pair| pair == b"\r\n") {
        let size = std::str::from_utf8(&body[..end]).unwrap().split(';').next().unwrap().to_owned();
        let size = usize::from_str_radix(&size, 16).unwrap();
        if size == 0 {
            break;
        }
        whole.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 2 + size + 2..];
    }
    whole
}

fn lambda(script: &Script, method: &str, path: &str, body: &[u8]) -> Response<Full<Bytes>> {
    if method == "GET" {
        let function = |name: &str| json!({ "FunctionName": name, "MemorySize": 2048, "Timeout": 120, "EphemeralStorage": { "Size": 10240 } });
        return json_answer(
            200,
            &json!({ "Functions": [
            function("remotion-render-4-0-527-mem2048mb-disk10240mb-120sec"),
            function("remotion-render-4-0-1-mem2048mb-disk10240mb-120sec"),
            function("something-else"),
        ] }),
        );
    }
    if let Some(answer) = &script.answer {
        let body = match &answer["text"] {
            Value::String(text) => text.clone(),
            _ => answer["body"].to_string(),
        };
        let mut response = Response::builder()
            .status(answer["status"].as_u64().map_or(200, |status| u16::try_from(status).unwrap()));
        for (name, value) in answer["headers"].as_object().into_iter().flatten() {
            response = response.header(name, value.as_str().unwrap());
        }
        return response.header("content-type", "application/json").body(Full::new(body.into())).unwrap();
    }
    if path.ends_with("/response-streaming-invocations") {
        return streamed(script);
    }
    let payload: Value = serde_json::from_slice(body).unwrap_or_default();
    let bucket = payload["bucketName"].as_str().unwrap_or("remotionlambda-useast1-abc123defg");
    json_answer(
        200,
        &match payload["type"].as_str().unwrap_or_default() {
            "start" => json!({ "type": "success", "renderId": "abc123defg", "bucketName": bucket }),
            "status" => progress(bucket),
            "still" => still(),
            "info" if path.contains("4-0-527") => json!({ "type": "success", "version": "4.0.527" }),
            "info" => json!({ "type": "success", "version": "4.0.1" }),
            "compositions" => json!({ "type": "success", "compositions": [
            { "id": "main", "width": 1280, "height": 720, "fps": 30, "durationInFrames": 150, "defaultProps": { "a": 1 } },
        ] }),
            other => {
                json!({ "type": "error", "message": format!("Command not found: {other}"), "stack": "" })
            }
        },
    )
}

fn still() -> Value {
    json!({
        "type": "success", "output": "https://s3.us-east-1.amazonaws.com/b/renders/still12345/out.png",
        "outKey": "renders/still12345/out.png", "size": 4711, "sizeInBytes": 4711, "bucketName": "b", "renderId": "still12345",
        "estimatedPrice": { "accruedSoFar": 0.002, "displayCost": "$0.002", "currency": "USD", "disclaimer": "about" },
        "receivedArtifacts": [{ "filename": "a.txt", "sizeInBytes": 3, "s3Url": "https://x/a.txt", "s3Key": "a.txt" }],
    })
}

/// What a function answers of a render under way.
fn progress(bucket: &str) -> Value {
    json!({
        "type": "success", "framesRendered": 75, "chunks": 2, "done": false,
        "encodingStatus": { "framesEncoded": 60, "combinedFrames": 0, "timeToCombine": null },
        "timeToRenderFrames": null, "renderId": "abc123defg", "bucket": bucket, "outputFile": null, "timeToFinish": null,
        "costs": { "accruedSoFar": 0.00123, "displayCost": "$0.001", "currency": "USD", "disclaimer": "about" },
        "renderMetadata": null, "errors": [], "fatalErrorEncountered": false, "currentTime": 1_790_000_000_000_i64,
        "renderSize": 0, "lambdasInvoked": 4, "cleanup": { "doneIn": null, "minFilesToDelete": 0, "filesDeleted": 0 },
        "timeToFinishChunks": null, "overallProgress": 0.5125, "retriesInfo": [{ "chunk": 1, "attempt": 2, "time": 12 }],
        "outKey": null, "outBucket": null, "mostExpensiveFrameRanges": null, "timeToEncode": null,
        "outputSizeInBytes": null, "estimatedBillingDurationInMilliseconds": 2345, "combinedFrames": 0,
        "timeToCombine": null, "timeoutTimestamp": 1_790_000_100_000_i64, "compositionValidated": 1_790_000_000_100_i64,
        "functionLaunched": 1_790_000_000_000_i64, "serveUrlOpened": 1_790_000_000_050_i64, "artifacts": [],
    })
}

fn streamed(script: &Script) -> Response<Full<Bytes>> {
    let messages =
        script.stream.clone().unwrap_or_else(|| vec![(3, json!({ "renderId": "still12345" })), (6, still())]);
    let mut said: Vec<u8> = Vec::new();
    for (kind, body) in messages {
        let body = body.to_string();
        said.extend(format!("remotion_buffer:{kind}:{}:0:{body}", body.len()).bytes());
    }
    let mut body = Vec::new();
    // Lambda cuts where it likes.
    for piece in said.chunks(100) {
        body.extend(event("PayloadChunk", "application/octet-stream", piece));
    }
    let end = script.stream_error.clone().unwrap_or_else(|| json!({}));
    body.extend(event("InvokeComplete", "application/json", end.to_string().as_bytes()));
    let response = Response::builder().header("content-type", "application/vnd.amazon.eventstream");
    response.body(Full::new(body.into())).unwrap()
}

fn s3(script: &mut Script, method: &str, path: &str, query: &[String]) -> Response<Full<Bytes>> {
    const DATE: &str = "2026-11-25T10:00:00.000Z";
    let path = path.trim_start_matches('/').to_owned();
    let asks = |name: &str| query.iter().any(|part| part.split('=').next() == Some(name));
    match (method, path.split_once('/')) {
        ("GET", None) if path.is_empty() => {
            let buckets: String = script
                .buckets
                .iter()
                .map(|name| {
                    format!("<Bucket><Name>{name}</Name><CreationDate>{DATE}</CreationDate></Bucket>")
                })
                .collect();
            xml(
                200,
                &format!(
                    "<ListAllMyBucketsResult><Owner><ID>1</ID></Owner><Buckets>{buckets}</Buckets></ListAllMyBucketsResult>"
                ),
            )
        }
        ("GET", None) if asks("location") => {
            xml(200, "<LocationConstraint xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"/>")
        }
        ("GET", None) if asks("list-type") => {
            let prefix = query
                .iter()
                .find_map(|part| part.strip_prefix("prefix="))
                .unwrap_or_default()
                .replace("%2F", "/");
            let contents: String = script
                .objects
                .iter()
                .filter_map(|(name, body)| Some((name.strip_prefix(&format!("{path}/"))?, body)))
                .filter(|(key, _)| key.starts_with(&prefix))
                .map(|(key, body)| format!("<Contents><Key>{key}</Key><LastModified>{DATE}</LastModified><Size>{}</Size></Contents>", body.len()))
                .collect();
            xml(
                200,
                &format!(
                    "<ListBucketResult><Name>{path}</Name><Prefix>{prefix}</Prefix><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
                ),
            )
        }
        ("GET", Some(_)) => match script.objects.get(&path) {
            Some(body) => Response::new(Full::new(body.clone().into())),
            None => xml(
                404,
                "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>",
            ),
        },
        ("HEAD", Some(_)) => match script.objects.get(&path) {
            // The length is what is asked for; a body is not sent.
            Some(body) => {
                Response::builder().header("content-length", body.len()).body(Full::default()).unwrap()
            }
            None => Response::builder().status(404).body(Full::default()).unwrap(),
        },
        ("DELETE", _) => {
            script.objects.remove(&path);
            Response::builder().status(204).body(Full::default()).unwrap()
        }
        ("PUT", _) => Response::builder().header("etag", "\"e\"").body(Full::default()).unwrap(),
        _ => text(400, "what?"),
    }
}

fn json_answer(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(Full::new(body.to_string().into())).unwrap()
}

fn xml(status: u16, body: &str) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header("content-type", "application/xml");
    response.body(Full::new(format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{body}").into())).unwrap()
}

fn text(status: u16, body: &'static str) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap()
}
