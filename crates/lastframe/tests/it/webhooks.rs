//! Webhooks: what receivers that others made make of them, and what becomes of them with receivers that do not do well.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use hmac::{Hmac, Mac as _};
use lastframe::app::App;
use lastframe::config::Flags;
use lastframe_core::{Clock as _, ManualClock, SystemClock};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha512;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::peer::Peer;
use crate::server::{Server, client, prepared, run, without_renders};

/// Receivers of tests are on this machine.
const CONFIG: &str = "[webhook]\nallow_hosts = [\"127.0.0.1\"]\n[queue]\nretry_delay = \"200ms\"\n";
/// No step takes so long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Ends only by being cancelled.
const LATER: &str = "2999-01-01T00:00:00Z";

/// The API of a server, wherever it runs.
struct Api {
    url: String,
    token: String,
    http: reqwest::Client,
}

impl Api {
    /// The same, for who has a token that was made just now.
    fn with(&self, made: &Value) -> Self {
        let token = made["token"].as_str().unwrap().to_owned();
        Self { url: self.url.clone(), token, http: self.http.clone() }
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.send(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// A render that ends at once, without being made, and owes a webhook to that URL.
    async fn cancelled(&self, url: &str) -> String {
        let body = json!({
            "serveUrl": "test", "composition": "tiny", "queue": {"runAt": LATER},
            "webhook": {"url": url, "secret": "s3cret"},
        });
        let (status, accepted) = self.send(Method::POST, "/v1/renders", Some(&body)).await;
        assert_eq!(status, 202, "{accepted}");
        let id = accepted["renderId"].as_str().unwrap().to_owned();
        let (status, cancelled) = self.send(Method::POST, &format!("/v1/renders/{id}/cancel"), None).await;
        assert_eq!((status, &cancelled["status"]), (202, &json!("cancelled")));
        id
    }

    async fn delivery(&self, render: &str) -> Value {
        self.get(&format!("/v1/deliveries?renderId={render}")).await["deliveries"][0].clone()
    }

    /// The one delivery of a render, once the condition holds.
    async fn delivery_once(&self, render: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                let delivery = self.delivery(render).await;
                if condition(&delivery) {
                    return delivery;
                }
                // A receiver hears before it is written down that it has; nothing signals the latter.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(delivery) => delivery,
            Err(_) => panic!("waited in vain: {}", self.delivery(render).await),
        }
    }

    async fn delivered(&self, render: &str) -> Value {
        self.delivery_once(render, |delivery| delivery["status"] == "delivered").await
    }

    /// Waits until the figures say of webhooks that so many wait, and how often they were retried, delivered and given up.
    async fn figures(&self, pending: u64, outcomes: [u64; 3]) {
        let total = |(outcome, count): (&str, u64)| {
            let series = format!("lastframe_deliveries_total{{channel=\"webhook\",outcome=\"{outcome}\"}}");
            (series, count)
        };
        let mut expected: Vec<_> =
            ["retried", "delivered", "failed"].into_iter().zip(outcomes).map(total).collect();
        expected.push(("lastframe_deliveries_pending".into(), pending));
        let stand = async {
            loop {
                let request = self.http.get(format!("{}/metrics", self.url)).bearer_auth(&self.token);
                let text = request.send().await.unwrap().text().await.unwrap();
                let value = |series: &str| {
                    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse::<u64>().ok())
                };
                if expected.iter().all(|(series, count)| value(series) == Some(*count)) {
                    return;
                }
                // They follow what is written down, and nothing signals that they have.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, stand).await.unwrap_or_else(|_| panic!("never: {expected:?}"));
    }

    async fn tried(&self, render: &str, times: usize) -> Value {
        self.delivery_once(render, |delivery| {
            delivery["log"].as_array().is_some_and(|log| log.len() == times)
        })
        .await
    }
}

/// Waits until the webhook of that render is written down as delivered.
pub(crate) async fn delivered(server: &Server, render: &str) {
    api(server).delivered(render).await;
}

fn api(server: &Server) -> Api {
    Api { url: server.url.clone(), token: server.token.clone(), http: client() }
}

/// A receiver in this process that answers what it is told to; 200 when it is told nothing more. 0 is no answer at all.
pub(crate) struct Receiver {
    pub(crate) url: String,
    heard: mpsc::UnboundedReceiver<(HeaderMap, Value)>,
    answers: Arc<Mutex<VecDeque<u16>>>,
}

impl Receiver {
    pub(crate) async fn answering(answers: &[u16]) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), answers)
    }

    fn on(listener: TcpListener, answers: &[u16]) -> Self {
        let url = format!("http://{}/done?token=T0K3N", listener.local_addr().unwrap());
        let answers = Arc::new(Mutex::new(answers.iter().copied().collect::<VecDeque<_>>()));
        let (hear, heard) = mpsc::unbounded_channel();
        let next = Arc::clone(&answers);
        let receive = async move |headers: HeaderMap, body: axum::body::Bytes| {
            let answer = next.lock().unwrap().pop_front().unwrap_or(200);
            hear.send((headers, serde_json::from_slice(&body).unwrap())).ok();
            if answer == 0 {
                std::future::pending::<()>().await;
            }
            StatusCode::from_u16(answer).unwrap()
        };
        tokio::spawn(axum::serve(listener, Router::new().fallback(receive)).into_future());
        Self { url, heard, answers }
    }

    /// The next webhook: its id, and its body.
    pub(crate) async fn hears(&mut self) -> (String, Value) {
        let heard =
            tokio::time::timeout(PATIENCE, self.heard.recv()).await.expect("something comes").unwrap();
        (heard.0["webhook-id"].to_str().unwrap().to_owned(), heard.1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receivers_of_remotion_and_of_standard_webhooks_take_what_is_sent_and_nothing_else() {
    let server = Server::configured(CONFIG).await;
    let api = api(&server);
    let custom =
        json!({"10": 1, "2": "é\u{2028}", "name": "Zoë 😀", "n": 1.0, "big": 9_007_199_254_740_993_u64});
    let film = json!({"inputProps": {"text": "Grüße 😀"}});
    let cases = [
        ("success", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "tiny", film),
        ("error", "s3cret", "throws", json!({})),
        ("error", "s3cret", "tiny", json!({"queue": {"runAt": LATER}})),
        (
            "timeout",
            "s3cret",
            "slow",
            json!({"inputProps": {"frames": 600}, "queue": {"timeoutInSeconds": 2}}),
        ),
    ];
    // Before the first render ends.
    let mut peers: Vec<_> =
        cases.iter().map(|(_, secret, ..)| Peer::node("receiver.mjs", &[*secret])).collect();
    let mut ids = Vec::new();
    for ((_, secret, composition, fields), peer) in cases.iter().zip(&mut peers) {
        let mut fields = fields.clone();
        fields["webhook"] = json!({"url": peer.line(), "secret": secret, "customData": custom});
        fields["queue"]["maxAttempts"] = json!(1);
        ids.push(server.submit(composition, fields).await);
    }
    server.post(&format!("/v1/renders/{}/cancel", ids[2]), &json!({})).await;
    let mut told = Vec::new();
    for ((kind, ..), (peer, id)) in cases.iter().zip(peers.iter_mut().zip(&ids)) {
        let said: Value = serde_json::from_str(&peer.line()).unwrap();
        assert_eq!(
            said["good"],
            json!({"statuses": [200, 200, 200], "calls": [kind, kind, kind], "valid": true, "verified": true}),
            "{said}"
        );
        assert_eq!(
            said["changed"],
            json!({"statuses": [500, 500, 500], "calls": [], "valid": false, "verified": false}),
            "{said}"
        );
        assert_eq!(
            (&said["mode"], &said["status"], &said["length"]),
            (&json!("production"), &json!(kind), &json!(true))
        );
        let payload = &said["payload"];
        assert_eq!((&payload["type"], &payload["renderId"]), (&json!(kind), &json!(id)));
        let expected =
            json!({"2": "é\u{2028}", "10": 1, "name": "Zoë 😀", "n": 1, "big": 9_007_199_254_740_992_u64});
        assert_eq!(payload["customData"], expected);
        let delivery = api.delivered(id).await;
        assert_eq!(delivery["deliveryId"], said["id"]);
        assert_eq!(
            (&delivery["log"][0]["code"], delivery["log"].as_array().unwrap().len()),
            (&json!(200), 1)
        );
        told.push(said);
    }
    let head = ["type", "renderId", "expectedBucketOwner", "bucketName", "customData"];
    let rest = ["outputUrl", "lambdaErrors", "outputFile", "timeToFinish", "costs"];
    assert_eq!(told[0]["keys"], json!([head.as_slice(), rest.as_slice()].concat()));
    assert_eq!(told[1]["keys"], json!([head.as_slice(), &["errors"]].concat()));
    assert_eq!(told[3]["keys"], json!(head));
    assert_eq!(told[2]["payload"]["errors"][0]["name"], "CancelledError");
    assert!(told[0]["payload"]["timeToFinish"].as_i64().unwrap() > 0);
    // The link needs no token.
    let film = client().get(told[0]["payload"]["outputUrl"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(film.status(), 200);
    assert_eq!(film.bytes().await.unwrap(), server.output(&ids[0]).await);
}

/// A data folder with the test site, for a server that renders nothing.
async fn folder(config: &str) -> tempfile::TempDir {
    prepared(&format!("listen = \"127.0.0.1:0\"\n{config}")).await
}

/// The program in this process, under a clock that the test moves.
async fn under_clock(config: &str) -> (App, Api, Arc<ManualClock>, tempfile::TempDir) {
    let data = folder(config).await;
    let token = std::fs::read_to_string(data.path().join("admin-token")).unwrap();
    let flags = Flags { data: Some(data.path().into()), ..Flags::default() };
    let clock = Arc::new(ManualClock::new(SystemClock::new().now()));
    let app = App::start(without_renders(flags), Arc::clone(&clock) as _).await.unwrap();
    let api = Api { url: format!("http://{}", app.address), token: token.trim().to_owned(), http: client() };
    (app, api, clock, data)
}

/// An address that nobody listens at.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_was_down_for_an_hour_hears_it_once_it_is_up() {
    let (app, api, clock, _data) = under_clock(CONFIG).await;
    let address = nobody().await;
    let id = api.cancelled(&format!("http://{address}/")).await;
    for (tries, minutes) in [(1, 1), (2, 6), (3, 34)] {
        api.tried(&id, tries).await;
        clock.advance(Duration::from_secs(minutes * 60));
    }
    let down = api.tried(&id, 4).await;
    assert_eq!((&down["status"], &down["tries"]), (&json!("pending"), &json!(4)));
    api.figures(1, [4, 0, 0]).await;
    let mut receiver = Receiver::on(TcpListener::bind(address).await.unwrap(), &[503]);
    let next = down["nextTryAt"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let wait = Duration::try_from(next - clock.now()).unwrap();
    assert!((6_400..8_000).contains(&wait.as_secs()), "about two hours: {wait:?}");
    clock.advance(wait);
    let first = receiver.hears().await;
    api.tried(&id, 5).await;
    clock.advance(Duration::from_secs(6 * 60 * 60));
    assert_eq!(receiver.hears().await, first, "the same again, under the same id");
    let up = api.delivered(&id).await;
    assert_eq!(up["deliveryId"], first.0);
    let log: Vec<_> = up["log"].as_array().unwrap().iter().map(|tried| tried["code"].clone()).collect();
    assert_eq!(json!(log), json!([null, null, null, null, 503, 200]));
    assert!(up["log"][0]["error"].as_str().unwrap().starts_with("cannot connect"), "{up}");
    assert_eq!((up.get("nextTryAt"), up["log"][5].get("error")), (None, None));
    api.figures(0, [5, 1, 0]).await;
    app.stop(CancellationToken::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_answer_holds_up_nobody_else_and_may_be_told_again() {
    let (app, api, clock, _data) = under_clock(CONFIG).await;
    let mut hanging = Receiver::answering(&[0; 4]).await;
    let mut stuck = Vec::new();
    for _ in 0..6 {
        stuck.push(api.cancelled(&hanging.url).await);
    }
    for _ in 0..4 {
        hanging.hears().await;
    }
    let mut good = Receiver::answering(&[410]).await;
    let refused = api.cancelled(&good.url).await;
    let (id, _) = good.hears().await;
    let failed = api.tried(&refused, 1).await;
    assert_eq!((&failed["status"], &failed["log"][0]["code"]), (&json!("failed"), &json!(410)));
    api.figures(6, [0, 0, 1]).await;
    assert!(hanging.heard.try_recv().is_err(), "four at once, and no more");
    let page = api.get("/v1/deliveries?status=pending&limit=4").await;
    assert_eq!(page["deliveries"].as_array().unwrap().len(), 4);
    let rest = api
        .get(&format!("/v1/deliveries?status=pending&cursor={}", page["nextCursor"].as_str().unwrap()))
        .await;
    assert_eq!((rest["deliveries"].as_array().unwrap().len(), rest.get("nextCursor")), (2, None));

    let path = format!("/v1/deliveries/{id}");
    let (status, owed) = api.send(Method::POST, &format!("{path}/redeliver"), None).await;
    assert_eq!((status, &owed["deliveryId"]), (202, &json!(id)));
    assert_eq!(good.hears().await.0, id, "under the same id");
    api.delivered(&refused).await;
    assert_eq!(api.get(&path).await["log"].as_array().unwrap().len(), 2);
    let pending = api.delivery(&stuck[0]).await["deliveryId"].as_str().unwrap().to_owned();
    let (status, problem) =
        api.send(Method::POST, &format!("/v1/deliveries/{pending}/redeliver"), None).await;
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")));

    let token = |scopes: &[&str], tenant: &str| json!({"name": tenant, "tenant": tenant, "scopes": scopes});
    for (new, status) in
        [(token(&["renders:write"], "other"), 404), (token(&["renders:read"], "default"), 403)]
    {
        let (made, token) = api.send(Method::POST, "/v1/tokens", Some(&new)).await;
        assert_eq!(made, 201, "{token}");
        let other = api.with(&token);
        assert_eq!(other.send(Method::POST, &format!("{path}/redeliver"), None).await.0, status);
    }
    // An administrator of whatever tenant sees to all of them.
    let (_, admin) = api.send(Method::POST, "/v1/tokens", Some(&token(&["admin"], "other"))).await;
    let admin = api.with(&admin);
    assert_eq!(admin.delivery(&refused).await["deliveryId"], id);
    assert_eq!(admin.get("/v1/deliveries").await["deliveries"], json!([]));
    assert_eq!(admin.get("/v1/deliveries?tenant=default&limit=1").await["deliveries"][0]["deliveryId"], id);
    assert_eq!(admin.send(Method::POST, &format!("{path}/redeliver"), None).await.0, 202);
    assert_eq!(good.hears().await.0, id);
    let (_, reader) = api.send(Method::POST, "/v1/tokens", Some(&token(&["renders:read"], "other"))).await;
    let (status, problem) = api.with(&reader).send(Method::GET, "/v1/deliveries?tenant=default", None).await;
    assert_eq!((status, &problem["code"]), (403, &json!("scope_missing")));
    for (query, pointer) in [("status=done", "/status"), ("limit=0", "/limit"), ("cursor=7", "/cursor")] {
        let (status, problem) = api.send(Method::GET, &format!("/v1/deliveries?{query}"), None).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!(pointer)));
    }
    assert_eq!(api.send(Method::GET, "/v1/deliveries/7", None).await.0, 404);

    // Once their time is over they are tried again, and now somebody answers.
    for id in &stuck {
        api.delivery_once(id, |delivery| {
            delivery["tries"].as_u64() >= Some(1) || delivery["status"] == "delivered"
        })
        .await;
    }
    clock.advance(Duration::from_secs(60));
    for id in &stuck {
        api.delivered(id).await;
    }
    assert!(hanging.answers.lock().unwrap().is_empty());
    app.stop(CancellationToken::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_before_it_has_told_tells_when_it_is_back() {
    let server = Server::on(folder(CONFIG).await).await;
    let mut receiver = Receiver::answering(&[0]).await;
    let id = api(&server).cancelled(&receiver.url).await;
    let first = receiver.hears().await;
    let server = server.kill_and_restart().await;
    assert_eq!(receiver.hears().await, first);
    let api = api(&server);
    let delivery = api.delivered(&id).await;
    assert_eq!(delivery["log"].as_array().unwrap().len(), 1, "of the one before nobody knows how it went");

    let (code, listed, _) = run(&server, &["deliveries", "--render", &id]);
    assert!(code == 0 && listed.contains(&first.0) && listed.contains(" 200 after "), "{listed}");
    let (code, again, _) = run(&server, &["redeliver", &first.0, "--json"]);
    assert_eq!(
        (code, serde_json::from_str::<Value>(&again).unwrap()["deliveryId"].as_str()),
        (0, Some(&*first.0))
    );
    assert_eq!(receiver.hears().await, first);
    api.delivered(&id).await;
    let log = server.log();
    assert!(
        log.contains(&first.0) && log.contains(&id) && !log.contains("T0K3N") && !log.contains("s3cret"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_public_is_not_reached_unless_it_is_allowed() {
    let mut server = Server::on(folder("").await).await;
    let mut receiver = Receiver::answering(&[]).await;
    let (later, url) = (format!("queue.runAt={LATER}"), receiver.url.as_str());
    let submitted = run(&server, &["render", "test", "tiny", "--webhook", url, "--set", &later, "--detach"]);
    let id = submitted.1.trim().to_owned();
    assert_eq!(run(&server, &["cancel", &id]).0, 0, "{submitted:?}");
    let refused = api(&server).tried(&id, 1).await;
    assert_eq!(refused["status"], "pending");
    let why = refused["log"][0]["error"].as_str().unwrap();
    assert!(why.contains("127.0.0.1 is not on the public Internet") && why.contains("allow_hosts"), "{why}");
    assert!(receiver.heard.try_recv().is_err());
    server.signal("TERM");
    assert!(server.exit().await.success());
    let data = server.give_up_data();
    let mut command = crate::server::command(data.path());
    command.env("LASTFRAME_WEBHOOK_ALLOW_PRIVATE", "true");
    let server = Server::started_by(command, data).await;
    receiver.hears().await;
    api(&server).delivered(&id).await;
}

/// As Remotion signs: the body is what JavaScript writes for what it says.
fn signed_by(secret: &Value, body: &Value) -> String {
    let mut mac = Hmac::<Sha512>::new_from_slice(secret.as_str().unwrap().as_bytes()).unwrap();
    mac.update(body.to_string().as_bytes());
    let bytes = mac.finalize().into_bytes();
    format!("sha512={}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_secrets_of_a_tenant_sign_what_goes_to_its_default_and_the_older_one_signs_as_remotion_does() {
    let server = Server::configured(CONFIG).await;
    let api = api(&server);
    let mut receiver = Receiver::answering(&[]).await;
    let set = json!({"webhookUrl": receiver.url});
    assert_eq!(api.send(Method::PUT, "/v1/tenants/default/notices", Some(&set)).await.0, 200);
    let secrets = "/v1/tenants/default/webhook-secrets";
    let first = api.send(Method::POST, secrets, None).await.1;
    let second = api.send(Method::POST, secrets, None).await.1;
    let body = json!({"serveUrl": "test", "composition": "tiny", "queue": {"runAt": LATER}});
    for (signatures, signing) in [(2, &first), (1, &second)] {
        let id = api.send(Method::POST, "/v1/renders", Some(&body)).await.1["renderId"].clone();
        let id = id.as_str().unwrap();
        assert_eq!(api.send(Method::POST, &format!("/v1/renders/{id}/cancel"), None).await.0, 202);
        let heard = tokio::time::timeout(PATIENCE, receiver.heard.recv()).await.unwrap().unwrap();
        let header = |name: &str| heard.0[name].to_str().unwrap();
        assert_eq!(header("webhook-signature").split(' ').count(), signatures);
        assert_eq!(header("x-remotion-signature"), signed_by(&signing["secret"], &heard.1));
        let gone = format!("{}{secrets}/{}", server.url, first["id"].as_str().unwrap());
        client().delete(gone).bearer_auth(&server.token).send().await.unwrap();
    }
}
