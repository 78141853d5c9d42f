//! Renders, live: who hears of what, and what is told to who comes back.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::server::{PATIENCE, Server};

/// A stream of server-sent events, as a client has it.
struct Stream {
    response: reqwest::Response,
    text: String,
}

#[derive(Debug, PartialEq)]
struct Event {
    name: String,
    id: String,
    data: Value,
}

impl Event {
    /// Which render it is about, and how that is.
    fn render(&self) -> (&str, &str) {
        assert_eq!(self.name, "render", "{self:?}");
        (self.data["renderId"].as_str().unwrap(), self.data["status"].as_str().unwrap())
    }
}

impl Stream {
    async fn open(server: &Server, path: &str, last: Option<&str>) -> Self {
        Self::open_with(server, &server.token, path, last).await
    }

    async fn open_with(server: &Server, token: &str, path: &str, last: Option<&str>) -> Self {
        let response = ask(server, token, path, last).await;
        assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
        Self { response, text: String::new() }
    }

    /// The next event that says something; none when the stream is over.
    async fn next(&mut self) -> Option<Event> {
        let next = async {
            loop {
                while let Some((event, rest)) = self.text.split_once("\n\n") {
                    let field = |name: &str| {
                        let line = event.lines().find_map(|line| line.strip_prefix(name));
                        line.map(|value| value.trim_start().to_owned())
                    };
                    let (name, id, data) = (field("event:"), field("id:"), field("data:"));
                    self.text = rest.to_owned();
                    if let Some(data) = data {
                        let data = serde_json::from_str(&data).unwrap();
                        return Some(Event { name: name.unwrap(), id: id.unwrap(), data });
                    }
                }
                let chunk = self.response.chunk().await.expect("the stream ends in good order")?;
                self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        };
        timeout(PATIENCE, next).await.expect("something happens")
    }

    async fn told(&mut self) -> Event {
        self.next().await.expect("the stream goes on")
    }
}

async fn ask(server: &Server, token: &str, path: &str, last: Option<&str>) -> reqwest::Response {
    let mut request = reqwest::Client::new().get(format!("{}{path}", server.url)).bearer_auth(token);
    if let Some(last) = last {
        request = request.header("Last-Event-ID", last);
    }
    request.send().await.unwrap()
}

/// A render that stays queued until somebody does something about it.
async fn submit(server: &Server, token: &str) -> String {
    let body = json!({"serveUrl": "test", "composition": "tiny", "queue": {"runAt": "2999-01-01T00:00:00Z"}});
    let accepted = server.request_with(token, Method::POST, "/v1/renders").json(&body).send().await.unwrap();
    assert_eq!(accepted.status(), 202);
    accepted.json::<Value>().await.unwrap()["renderId"].as_str().unwrap().to_owned()
}

async fn cancel(server: &Server, token: &str, id: &str) {
    let path = format!("/v1/renders/{id}/cancel");
    assert_eq!(server.request_with(token, Method::POST, &path).send().await.unwrap().status(), 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_hears_of_every_change_of_its_renders_and_of_nobody_elses() {
    let server = Server::start().await;
    let acme = server.token_of("acme", &["renders:read", "renders:write"]).await;
    let mut own = Stream::open(&server, "/v1/events", None).await;
    let mut all = Stream::open(&server, "/v1/events?tenants=all", None).await;
    assert_eq!((own.told().await.name, all.told().await.name), ("reset".into(), "reset".into()));

    let admin = server.token.clone();
    let first = submit(&server, &admin).await;
    assert_eq!(own.told().await.render(), (first.as_str(), "queued"));
    server.add_site_of(&server.token_of("acme", &["admin"]).await, "test").await;
    let theirs = submit(&server, &acme).await;
    cancel(&server, &admin, &first).await;
    let told = own.told().await;
    assert_eq!(told.render(), (first.as_str(), "cancelled"));
    assert_eq!(told.data["tenant"], "default");

    for (id, tenant) in [(&first, "default"), (&theirs, "acme"), (&first, "default")] {
        let told = all.told().await;
        assert_eq!((told.render().0, &told.data["tenant"]), (id.as_str(), &json!(tenant)));
    }
    assert_eq!(ask(&server, &acme, "/v1/events?tenants=all", None).await.status(), 403);
    assert_eq!(ask(&server, &acme, "/v1/events?tenants=other", None).await.status(), 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_hears_of_what_was_missed_and_after_a_restart_reads_anew() {
    let server = Server::start().await;
    let admin = server.token.clone();
    let mut stream = Stream::open(&server, "/v1/events", None).await;
    assert_eq!(stream.told().await.name, "reset");
    let first = submit(&server, &admin).await;
    let seen = stream.told().await;
    drop(stream);

    let second = submit(&server, &admin).await;
    cancel(&server, &admin, &second).await;
    cancel(&server, &admin, &first).await;
    let mut again = Stream::open(&server, "/v1/events", Some(&seen.id)).await;
    assert_eq!(again.told().await.render(), (second.as_str(), "cancelled"));
    let last = again.told().await;
    assert_eq!(last.render(), (first.as_str(), "cancelled"));

    let server = server.kill_and_restart().await;
    let mut anew = Stream::open(&server, "/v1/events", Some(&last.id)).await;
    assert_eq!(anew.told().await.name, "reset");
    let third = submit(&server, &admin).await;
    assert_eq!(anew.told().await.render(), (third.as_str(), "queued"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_under_a_token_that_is_good_no_more() {
    let server = Server::start().await;
    let admin = server.token.clone();
    let token = server.token_of("default", &["renders:read"]).await;
    let id = submit(&server, &admin).await;
    let mut all = Stream::open_with(&server, &token, "/v1/events", None).await;
    let mut one = Stream::open_with(&server, &token, &format!("/v1/renders/{id}/events"), None).await;
    assert_eq!((all.told().await.name, one.told().await.name), ("reset".into(), "render".into()));
    let token = token.split('_').nth(1).unwrap();
    let revoked = server.request(Method::DELETE, &format!("/v1/tokens/{token}")).send().await.unwrap();
    assert!(revoked.status().is_success());
    cancel(&server, &admin, &id).await;
    assert_eq!((all.next().await, one.next().await), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_render_goes_on_being_followed_where_it_was_and_its_end_is_told_once() {
    let server = Server::start().await;
    let admin = server.token.clone();
    let id = submit(&server, &admin).await;
    let path = format!("/v1/renders/{id}/events");
    let first = Stream::open(&server, &path, None).await.told().await;
    assert_eq!(first.render().1, "queued");
    let mut again = Stream::open(&server, &path, Some(&first.id)).await;
    cancel(&server, &admin, &id).await;
    let last = again.told().await;
    assert_eq!(last.render().1, "cancelled", "what was told before is not told again");
    assert_eq!(again.next().await, None);

    let server = server.kill_and_restart().await;
    let over = ask(&server, &admin, &path, Some(&last.id)).await;
    assert_eq!(over.status(), StatusCode::NO_CONTENT, "which says not to come back");
    assert_eq!(Stream::open(&server, &path, Some(&first.id)).await.told().await.render().1, "cancelled");
    server.post(&format!("/v1/renders/{id}/retry"), &Value::Null).await;
    let retried = Stream::open(&server, &path, Some(&last.id)).await.told().await;
    assert_ne!(retried.render().1, "cancelled", "and is true no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_more_streams_than_there_may_be_and_requests_get_through() {
    let server = Server::without_site("[http]\nmax_streams = 4\n").await;
    let (own, path) = (server.token.clone(), "/v1/events");
    let acme = server.token_of("acme", &["renders:read"]).await;
    let bolt = server.token_of("bolt", &["renders:read"]).await;
    let refused = async |token: &str| {
        let answer = ask(&server, token, path, None).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["retry-after"]),
            (503, &"10".parse().unwrap())
        );
        let why: Value = answer.json().await.unwrap();
        assert_eq!(why["code"], "too_many_streams");
        why["detail"].as_str().unwrap().to_owned()
    };
    let streams = [Stream::open(&server, path, None).await, Stream::open(&server, path, None).await];
    assert!(
        refused(&own).await.starts_with("2 streams of your tenant are open"),
        "half of all is for others"
    );
    let mut others = Vec::new();
    for _ in 0..2 {
        others.push(Stream::open_with(&server, &acme, path, None).await);
    }
    assert!(refused(&bolt).await.starts_with("4 streams are open"));
    assert_eq!(server.get("/v1/renders").await.status(), 200);
    drop(streams);
    let room = async { while ask(&server, &bolt, path, None).await.status() != 200 {} };
    timeout(PATIENCE, room).await.expect("who leaves makes room");
}
