//! Requests of the gateway, answered by the same router as a server's.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use lambda_http::request::LambdaRequest;
use lambda_http::{Adapter, LambdaEvent, RequestExt as _};
use serde_json::{Value, json};
use tower::{Service as _, ServiceExt as _};
use url::Url;

use crate::Handler;

/// The function of the API.
#[derive(Clone, Debug)]
pub struct Function {
    router: Router,
}

impl Function {
    /// Answers by that router.
    #[must_use]
    pub fn new(router: Router) -> Self {
        Self { router }
    }

    /// The answer to an event of an HTTP API, version 2.0.
    ///
    /// # Errors
    /// When the event is none.
    pub async fn answer(&self, event: LambdaEvent<Value>) -> anyhow::Result<Value> {
        let LambdaEvent { mut payload, context } = event;
        if !mend(&mut payload) {
            let problem = json!({"title": "Bad Request", "status": 400, "code": "invalid_query", "detail": "this is no URL"});
            let headers = json!({"content-type": "application/problem+json"});
            return Ok(json!({"statusCode": 400, "headers": headers, "body": problem.to_string(), "isBase64Encoded": false}));
        }
        let remote = payload["requestContext"]["http"]["sourceIp"].as_str().and_then(|ip| ip.parse().ok());
        let request: LambdaRequest =
            serde_json::from_value(payload).context("this is no event of an HTTP API")?;
        let router = self.router.clone();
        let answer = tower::service_fn(move |request: lambda_http::Request| {
            let router = router.clone();
            async move { router.oneshot(of_gateway(request, remote)).await }
        });
        let mut adapter = Adapter::from(answer);
        let answered = adapter.call(LambdaEvent::new(request, context)).await;
        Ok(serde_json::to_value(answered.map_err(|never| match never {})?)?)
    }
}

impl Handler for Function {
    async fn handle(&self, event: LambdaEvent<Value>) -> anyhow::Result<Value> {
        self.answer(event).await
    }
}

/// The request as a connection would have brought it.
fn of_gateway(request: lambda_http::Request, remote: Option<IpAddr>) -> axum::http::Request<Body> {
    let path = request.raw_http_path().to_owned();
    let (mut parts, body) = request.into_parts();
    // The path as it was sent: a URL's own rules would take `..` out of it, and a stage before it.
    let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    if let Ok(uri) = format!("{path}{query}").parse() {
        parts.uri = uri;
    }
    if let Some(remote) = remote {
        parts.extensions.insert(ConnectInfo(SocketAddr::new(remote, 0)));
    }
    let body = match body {
        lambda_http::Body::Text(text) => Body::from(text),
        lambda_http::Body::Binary(bytes) => Body::from(bytes),
        _ => Body::empty(),
    };
    axum::http::Request::from_parts(parts, body)
}

/// Takes out what `lambda_http` would panic of: it makes a URL of what the client has sent. Whether it is a request at all.
fn mend(event: &mut Value) -> bool {
    let parses = |host: &str| Url::parse(&format!("https://{host}/")).is_ok();
    let domain = event["requestContext"]["domainName"].as_str().filter(|host| parses(host)).map(str::to_owned);
    if domain.is_none()
        && let Some(context) = event["requestContext"].as_object_mut()
    {
        context.remove("domainName");
    }
    if let Some(headers) = event["headers"].as_object_mut() {
        // Their names are in lower case there.
        if headers.get("host").is_some_and(|host| !host.as_str().is_some_and(parses)) {
            headers.remove("host");
        }
        if headers.get("x-forwarded-proto").is_some_and(|proto| proto != "http") {
            headers.insert("x-forwarded-proto".into(), "https".into());
        }
    }
    let path = event["rawPath"].as_str().unwrap_or_default();
    let query = event["rawQueryString"].as_str().unwrap_or_default();
    path.starts_with('/') && format!("https://localhost{path}?{query}").parse::<axum::http::Uri>().is_ok()
}
