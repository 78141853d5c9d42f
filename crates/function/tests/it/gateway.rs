//! The API, behind an HTTP API of API Gateway.

use axum::Router;
use axum::routing::get;
use lambda_http::{Context, LambdaEvent};
use lastframe_core::accounts::Accounts as _;
use lastframe_function::api::Function;
use serde_json::{Value, json};

use crate::world::World;

/// An event as the documentation has it (payload format 2.0), for that method and path.
fn event(method: &str, path: &str) -> Value {
    json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {
            "accept": "*/*",
            "content-length": "0",
            "host": "r3pmxmplak.execute-api.eu-central-1.amazonaws.com",
            "user-agent": "curl/8.5.0",
            "x-amzn-trace-id": "Root=1-5e6722a7-cc56xmpl46db7ae02d4da47e",
            "x-forwarded-for": "205.255.255.176",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https"
        },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "r3pmxmplak",
            "domainName": "r3pmxmplak.execute-api.eu-central-1.amazonaws.com",
            "domainPrefix": "r3pmxmplak",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "205.255.255.176",
                "userAgent": "curl/8.5.0"
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "$default",
            "stage": "$default",
            "time": "10/Mar/2020:05:16:23 +0000",
            "timeEpoch": 1_583_817_383_220_i64
        },
        "isBase64Encoded": false
    })
}

#[expect(clippy::needless_pass_by_value, reason = "it is written where it is used")]
fn with(mut event: Value, headers: Value, body: Option<&str>) -> Value {
    event["headers"].as_object_mut().unwrap().extend(headers.as_object().unwrap().clone());
    if let Some(body) = body {
        event["body"] = body.into();
    }
    event
}

async fn send(function: &Function, event: Value) -> Value {
    function.answer(LambdaEvent::new(event, Context::default())).await.unwrap()
}

fn body(answer: &Value) -> Value {
    assert_eq!(answer["isBase64Encoded"], false, "{answer}");
    serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
}

/// A bucket with a site in it, as `npx remotion lambda sites create` makes it.
async fn bucket() -> String {
    let index = get(async || "<script>window.remotion_version = '4.0.527';</script>");
    let router = Router::new()
        .route("/remotionlambda-eucentral1-abc/sites/my-video/index.html", index)
        .route("/remotionlambda-eucentral1-abc/sites/my-video/bundle.js", get(async || "bundle"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await });
    url
}

const NOWHERE: &str = "http://127.0.0.1:9";

#[tokio::test]
async fn a_request_of_the_gateway_is_answered_like_any_other() {
    let world = World::at(NOWHERE).await;
    let function = Function::new(world.cloud.router());
    let answer = send(&function, event("GET", "/healthz")).await;
    assert_eq!((answer["statusCode"].as_u64(), body(&answer)["status"].as_str()), (Some(200), Some("ok")));
    assert_eq!(answer["headers"]["x-content-type-options"], "nosniff");
    let answer = send(&function, event("GET", "/v1/renders")).await;
    assert_eq!(answer["statusCode"], 401);
    assert_eq!(answer["headers"]["content-type"], "application/problem+json");
    let authorization = json!({"authorization": World::bearer()});
    let mut listing = with(event("GET", "/v1/renders"), authorization, None);
    listing["rawQueryString"] = "status=queued&limit=5".into();
    world.render().await;
    let answer = send(&function, listing).await;
    assert_eq!(body(&answer)["renders"].as_array().unwrap().len(), 1, "{answer}");
}

#[tokio::test]
async fn what_belongs_to_one_machine_is_refused_with_what_there_is_instead() {
    let world = World::at(NOWHERE).await;
    let function = Function::new(world.cloud.router());
    let id = world.render().await;
    for (method, path, code, instead) in [
        ("GET", "/v1/events".to_owned(), "no_streams", "ask for the render"),
        ("GET", format!("/v1/renders/{id}/events"), "no_streams", "ask for the render"),
        ("GET", format!("/v1/renders/{id}/log"), "not_here", "CloudWatch"),
        ("GET", "/v1/audit".into(), "not_here", "CloudWatch"),
        ("GET", "/metrics".into(), "not_here", "CloudWatch"),
        ("GET", "/v1/encryption".into(), "not_here", "AWS encrypts"),
        ("POST", "/v1/encryption/rotate".into(), "not_here", "AWS encrypts"),
        ("POST", "/v1/signing-keys/rotate".into(), "not_here", "Cognito"),
        ("POST", "/v1/users".into(), "not_here", "lastframe aws user add"),
        ("POST", "/v1/sites/mine/versions".into(), "not_here", "npm run deploy"),
    ] {
        let sent =
            if path == "/v1/users" { r#"{"email": "a@example.com", "password": "12345678"}"# } else { "{}" };
        let sent = if path.starts_with("/v1/sites") { "\u{1f}\u{8b}" } else { sent };
        let authorization = json!({"authorization": World::bearer()});
        let answer = send(&function, with(event(method, &path), authorization, Some(sent))).await;
        let problem = body(&answer);
        assert_eq!(
            (answer["statusCode"].as_u64(), problem["code"].as_str()),
            (Some(404), Some(code)),
            "{path}: {answer}"
        );
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with("not on this queue: ") && detail.contains(instead), "{path}: {detail}");
    }
}

#[tokio::test]
async fn a_site_of_the_bucket_needs_no_adding_and_one_elsewhere_is_refused() {
    let endpoint = bucket().await;
    let world = World::at(&endpoint).await;
    let function = Function::new(world.cloud.router());
    let headers = json!({"authorization": World::bearer(), "content-type": "application/json"});
    let submit = |serve_url: &str| {
        let sent = json!({"serveUrl": serve_url, "composition": "main", "inputProps": {"text": "hello"}});
        with(event("POST", "/v1/renders"), headers.clone(), Some(&sent.to_string()))
    };
    let answer = send(&function, submit("my-video")).await;
    assert_eq!(answer["statusCode"], 202, "{answer}");
    let by_name = body(&answer);
    let url = format!("{endpoint}/remotionlambda-eucentral1-abc/sites/my-video/index.html");
    let by_url = body(&send(&function, submit(&url)).await);
    assert_eq!(by_name["serveUrl"], by_url["serveUrl"]);
    assert!(by_url["serveUrl"].as_str().unwrap().starts_with("my-video-"), "{by_url}");
    for (serve_url, why) in [
        ("https://elsewhere.example/sites/a/", "sites.origins"),
        ("another", "cannot be fetched"),
        ("../a", "there is no site"),
    ] {
        let answer = send(&function, submit(serve_url)).await;
        let detail = body(&answer)["errors"][0]["detail"].as_str().unwrap_or_default().to_owned();
        assert!(answer["statusCode"] == 422 && detail.contains(why), "{serve_url}: {answer}");
    }
    // No function of Remotion Lambda is named here, so machines of one's own render.
    let sent = json!({"serveUrl": "my-video", "composition": "main", "queue": {"renderer": "lambda"}});
    let refused = with(event("POST", "/v1/renders"), headers, Some(&sent.to_string()));
    assert_eq!(body(&send(&function, refused).await)["errors"][0]["pointer"], "/queue/renderer");
}

#[tokio::test]
async fn a_token_that_another_instance_has_revoked_is_good_no_more() {
    let world = World::at(NOWHERE).await;
    let function = Function::new(world.cloud.router());
    let asked = with(event("GET", "/v1/me"), json!({"authorization": World::bearer()}), None);
    assert_eq!(send(&function, asked.clone()).await["statusCode"], 200);
    world.store.revoke_token("0123").await.unwrap();
    assert_eq!(send(&function, asked).await["statusCode"], 401);
}

#[tokio::test]
async fn odd_requests_are_answered_and_kill_nothing() {
    let world = World::at(NOWHERE).await;
    let function = Function::new(world.cloud.router());
    for host in ["1.2.3.4.5", "1.2.3.999", "a b", "[", ""] {
        let mut odd = with(event("GET", "/healthz"), json!({"host": host}), None);
        assert_eq!(send(&function, odd.clone()).await["statusCode"], 200, "{host}");
        odd["requestContext"]["domainName"] = host.into();
        odd["headers"].as_object_mut().unwrap().remove("host");
        assert_eq!(send(&function, odd).await["statusCode"], 200, "{host}");
    }
    let odd = with(event("GET", "/healthz"), json!({"x-forwarded-proto": "1://"}), None);
    assert_eq!(send(&function, odd).await["statusCode"], 200);
    let mut odd = event("GET", "/v1/renders");
    odd["rawQueryString"] = "q=a b<>".into();
    assert_eq!(send(&function, odd).await["statusCode"], 400);
    assert_eq!(send(&function, event("GET", "/v1/renders/../../healthz")).await["statusCode"], 404);
    // A body that is not text comes in Base64.
    let mut binary = with(event("POST", "/enqueue"), json!({"authorization": World::bearer()}), Some("/w=="));
    binary["isBase64Encoded"] = true.into();
    assert_eq!(body(&send(&function, binary).await)["code"], "invalid_json");
}
