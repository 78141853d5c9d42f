//! No tenant takes from another: what each gets, how far each may go, and what it is told when it has got there.

use std::sync::Arc;
use std::time::Duration;

use lastframe::app::App;
use lastframe::config::Flags;
use lastframe_core::{Clock as _, ManualClock, SystemClock};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::server::{Prepared, Server, client, run, without_renders};

/// Somebody who uses a server, with a site `test` of its own.
struct Tenant {
    name: &'static str,
    url: String,
    token: String,
}

impl Tenant {
    async fn of(server: &Server, name: &'static str) -> Self {
        let token = server.token_of(name, &["renders:read", "renders:write"]).await;
        Self { name, url: server.url.clone(), token }
    }

    async fn send(&self, path: &str, key: Option<&str>, body: &Value) -> Response {
        let mut request = client().post(format!("{}{path}", self.url)).bearer_auth(&self.token).json(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        request.send().await.unwrap()
    }

    /// Submits a render that must be accepted, and gives its id.
    async fn submits(&self, body: &Value) -> String {
        let answer = self.send("/v1/renders", None, body).await;
        assert_eq!(answer.status(), 202, "{}", answer.text().await.unwrap());
        let answer: Value = answer.json().await.unwrap();
        answer["renderId"].as_str().unwrap().to_owned()
    }

    /// Submits what must be refused for a limit; gives what `Retry-After` says.
    async fn is_refused(&self, path: &str, body: &Value, limit: &str, value: u32) -> Option<u64> {
        let answer = self.send(path, None, body).await;
        assert_eq!(answer.status(), 429);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let after = answer.headers().get("retry-after").map(|after| after.to_str().unwrap().parse().unwrap());
        let problem: Value = answer.json().await.unwrap();
        let told = ["status", "code", "limit", "value", "tenant"].map(|member| problem[member].clone());
        assert_eq!(json!(told), json!([429, "limit_reached", limit, value, self.name]));
        assert!(problem["detail"].as_str().unwrap().contains(limit), "{problem}");
        after
    }
}

/// Sets all limits of a tenant, as an administrator.
async fn put(server: &Server, tenant: &str, settings: Value) {
    let path = format!("/v1/tenants/{tenant}");
    let answer = server.request(Method::PUT, &path).json(&settings).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
}

/// A server that starts nothing, and two tenants of it.
async fn paused(config: &str) -> (Server, Tenant, Tenant) {
    static WITH_SITES: Prepared = Prepared::new();
    let add = async |server: &Server| {
        for name in ["acme", "bolt"] {
            server.add_site_of(&server.token_of(name, &["admin"]).await, "test").await;
        }
    };
    let server = Server::on(WITH_SITES.folder(config, add).await).await;
    server.post("/v1/queue/pause", &Value::Null).await;
    let (acme, bolt) = (Tenant::of(&server, "acme").await, Tenant::of(&server, "bolt").await);
    (server, acme, bolt)
}

fn tiny() -> Value {
    json!({"serveUrl": "test", "composition": "tiny"})
}

fn with(field: &str, value: Value) -> Value {
    let mut body = tiny();
    body[field] = value;
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_wait_as_may_and_the_next_is_told_when_to_come_again() {
    let (server, acme, bolt) =
        paused("[limits]\nmax_queued = 3\n[enqueue]\nsite = \"test\"\ncomposition = \"tiny\"").await;
    let told: Value = server.get("/v1/tenants/acme").await.json().await.unwrap();
    assert_eq!(told["effective"], json!({"weight": 1, "maxQueued": 3}), "the default of the configuration");
    put(&server, "acme", json!({"maxQueued": 2})).await;
    let first = acme.submits(&tiny()).await;
    let keyed: Value = acme.send("/v1/renders", Some("k"), &tiny()).await.json().await.unwrap();
    for path in ["/v1/renders", "/v1/stills"] {
        assert_eq!(acme.is_refused(path, &tiny(), "maxQueued", 2).await, Some(10), "{path}");
    }
    assert_eq!(acme.is_refused("/enqueue", &json!({"text": "a"}), "maxQueued", 2).await, Some(10));
    let batch = |count: usize| json!({"renders": vec![tiny(); count]});
    assert_eq!(acme.is_refused("/v1/renders/batch", &batch(2), "maxQueued", 2).await, Some(10));
    let never = acme.is_refused("/v1/renders/batch", &batch(3), "maxQueued", 2).await;
    assert_eq!(never, None, "that many are never accepted, however long one waits");
    // What was accepted before, what only asks, and what others submit is refused for nobody's limit.
    let again: Value = acme.send("/v1/renders", Some("k"), &tiny()).await.json().await.unwrap();
    assert_eq!(again["renderId"], keyed["renderId"]);
    assert_eq!(acme.send("/v1/renders", None, &with("dryRun", json!(true))).await.status(), 200);
    for _ in 0..3 {
        bolt.submits(&tiny()).await;
    }
    assert_eq!(bolt.is_refused("/v1/renders", &tiny(), "maxQueued", 3).await, Some(10));

    // Live, and for nobody else.
    put(&server, "acme", json!({"maxQueued": 3})).await;
    acme.submits(&tiny()).await;
    acme.is_refused("/v1/renders", &tiny(), "maxQueued", 3).await;
    let cancel =
        async || acme.send(&format!("/v1/renders/{first}/cancel"), None, &Value::Null).await.status();
    assert!(cancel().await.is_success());
    acme.submits(&tiny()).await;
    // It was accepted before the queue was full.
    let retried = acme.send(&format!("/v1/renders/{first}/retry"), None, &Value::Null).await;
    assert!(retried.status().is_success());
    let told: Value = server.get("/v1/tenants/acme").await.json().await.unwrap();
    assert_eq!((&told["counts"]["queued"], &told["maxQueued"]), (&json!(4), &json!(3)));
    put(&server, "acme", json!({"maxQueued": 0})).await;
    assert_eq!(acme.is_refused("/v1/renders", &tiny(), "maxQueued", 0).await, None);

    // Another default, by a restart; what was set for a tenant stays.
    let server = server.reconfigured("[limits]\nmax_queued = 4").await;
    let (acme, bolt) =
        (Tenant { url: server.url.clone(), ..acme }, Tenant { url: server.url.clone(), ..bolt });
    bolt.submits(&tiny()).await;
    bolt.is_refused("/v1/renders", &tiny(), "maxQueued", 4).await;
    acme.is_refused("/v1/renders", &tiny(), "maxQueued", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_submits_that_race_no_more_are_accepted_than_may_wait() {
    let (server, acme, _) = paused("").await;
    put(&server, "acme", json!({"maxQueued": 7})).await;
    let body = tiny();
    let answers =
        futures_util::future::join_all((0..40).map(|_| acme.send("/v1/renders", None, &body))).await;
    let accepted = answers.iter().filter(|answer| answer.status() == 202).count();
    let refused = answers.iter().filter(|answer| answer.status() == 429).count();
    assert_eq!((accepted, refused), (7, 33));
    let told: Value = server.get("/v1/tenants/acme").await.json().await.unwrap();
    assert_eq!(told["counts"]["queued"], 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_are_accepted_in_a_minute_than_may_be() {
    let (mut server, acme, bolt) = paused("").await;
    put(&server, "acme", json!({"submitsPerMinute": 4})).await;
    put(&server, "bolt", json!({"submitsPerMinute": 0})).await;
    server.signal("TERM");
    assert!(server.exit().await.success());
    let data = server.give_up_data();
    std::fs::write(data.path().join("lastframe.toml"), "listen = \"127.0.0.1:0\"").unwrap();
    // The same program in this process, where its clock stands.
    let flags = Flags { data: Some(data.path().into()), ..Flags::default() };
    let clock = Arc::new(ManualClock::new(SystemClock::new().now()));
    let app = App::start(without_renders(flags), Arc::clone(&clock) as _).await.unwrap();
    let url = format!("http://{}", app.address);
    let (acme, bolt) = (Tenant { url: url.clone(), ..acme }, Tenant { url: url.clone(), ..bolt });
    let limit = "submitsPerMinute";

    // A burst as large as the rate. Nothing that is not accepted counts.
    for wrong in [with("composition", json!("nothing")), with("crf", json!(99))] {
        assert_eq!(acme.send("/v1/renders", None, &wrong).await.status(), 422);
    }
    assert_eq!(acme.send("/v1/renders", None, &with("dryRun", json!(true))).await.status(), 200);
    for _ in 0..3 {
        assert_eq!(acme.send("/v1/renders", Some("k"), &tiny()).await.status(), 202);
    }
    let batch = |count: usize| json!({"renders": vec![tiny(); count]});
    assert_eq!(acme.is_refused("/v1/renders/batch", &batch(4), limit, 4).await, Some(15));
    assert_eq!(acme.send("/v1/renders/batch", None, &batch(3)).await.status(), 202, "each of a batch counts");
    assert_eq!(acme.is_refused("/v1/renders", &tiny(), limit, 4).await, Some(15));
    assert_eq!(acme.send("/v1/renders", Some("k"), &tiny()).await.status(), 202, "it is accepted already");
    assert_eq!(acme.is_refused("/v1/renders/batch", &batch(5), limit, 4).await, None, "never");
    assert_eq!(bolt.is_refused("/v1/renders", &tiny(), limit, 0).await, None, "never");

    clock.advance(Duration::from_millis(14_100));
    assert_eq!(acme.is_refused("/v1/renders", &tiny(), limit, 4).await, Some(1), "a part of a second is one");
    clock.advance(Duration::from_millis(900));
    acme.submits(&tiny()).await;
    assert_eq!(acme.is_refused("/v1/renders", &tiny(), limit, 4).await, Some(15));

    // A full queue does not use the rate up.
    let set = async |settings: Value| {
        let request = client().put(format!("{url}/v1/tenants/acme")).bearer_auth(&server.token);
        assert_eq!(request.json(&settings).send().await.unwrap().status(), 200);
    };
    set(json!({"submitsPerMinute": 2, "maxQueued": 5})).await;
    for _ in 0..3 {
        acme.is_refused("/v1/renders", &tiny(), "maxQueued", 5).await;
    }
    set(json!({"submitsPerMinute": 2})).await;
    acme.submits(&tiny()).await;
    acme.submits(&tiny()).await;
    assert_eq!(acme.is_refused("/v1/renders", &tiny(), limit, 2).await, Some(30));
    set(json!({})).await;
    for _ in 0..5 {
        acme.submits(&tiny()).await;
    }
    app.stop(CancellationToken::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_or_a_time_beyond_what_the_tenant_may_have_is_refused() {
    let (server, acme, bolt) = paused("[render]\ntimeout = \"10m\"").await;
    put(&server, "acme", json!({"maxBody": 2_000, "maxRenderSeconds": 60})).await;
    let large = with("inputProps", json!({"text": "a".repeat(3_000)}));
    let answer = acme.send("/v1/renders", None, &large).await;
    assert_eq!(answer.status(), 413);
    let problem: Value = answer.json().await.unwrap();
    let told = (&problem["code"], &problem["detail"]);
    assert_eq!(told, (&json!("body_too_large"), &json!("the body is larger than 2000 bytes")));
    // Nor by not saying how large it is.
    let chunks = futures_util::stream::iter(vec![Ok::<_, std::io::Error>(large.to_string())]);
    let unsaid = client().post(format!("{}/v1/renders", acme.url)).bearer_auth(&acme.token);
    let unsaid = unsaid.body(reqwest::Body::wrap_stream(chunks)).send().await.unwrap();
    assert_eq!(unsaid.status(), 413);
    bolt.submits(&large).await;
    acme.submits(&with("inputProps", json!({"text": "a".repeat(1_500)}))).await;

    let timeout = |seconds: u32| with("queue", json!({"timeoutInSeconds": seconds}));
    let answer = acme.send("/v1/renders", None, &timeout(61)).await;
    assert_eq!(answer.status(), 422);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["errors"][0]["pointer"], "/queue/timeoutInSeconds");
    assert!(problem["errors"][0]["detail"].as_str().unwrap().contains("may be 60 at most"), "{problem}");
    let batch = json!({"renders": [tiny(), timeout(61)]});
    let problem: Value = acme.send("/v1/renders/batch", None, &batch).await.json().await.unwrap();
    assert_eq!(problem["errors"][0]["pointer"], "/renders/1/queue/timeoutInSeconds");
    acme.submits(&timeout(60)).await;
    bolt.submits(&timeout(61)).await;
    let dry = async |tenant: &Tenant| {
        let answer = tenant.send("/v1/renders", None, &with("dryRun", json!(true))).await;
        answer.json::<Value>().await.unwrap()["request"]["queue"].clone()
    };
    assert_eq!(dry(&acme).await, json!({"timeoutInSeconds": 60}), "who says nothing gets what may be");
    assert_eq!(dry(&bolt).await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_render_takes_no_longer_than_its_tenant_may() {
    let server = Server::start().await;
    put(&server, "default", json!({"maxRenderSeconds": 2})).await;
    let slow = json!({"inputProps": {"frames": 200, "msPerFrame": 50}, "queue": {"maxAttempts": 1}});
    let id = server.submit("slow", slow).await;
    let render = server.ended(&id).await;
    assert_eq!(
        (&render["status"], &render["errors"][0]["code"]),
        (&json!("failed"), &json!("render_timeout"))
    );
}

/// Waits for renders of those tenants, all of which must succeed; gives when each started and ended, in that order.
async fn ended(
    server: &mut Server,
    tenants: &[&Tenant],
    renders: &[(&'static str, String)],
) -> Vec<([jiff::Timestamp; 2], &'static str)> {
    let admin = server.token.clone();
    let mut ended = Vec::new();
    for (name, id) in renders {
        let tenant = tenants.iter().find(|tenant| tenant.name == *name).unwrap();
        server.token.clone_from(&tenant.token);
        ended.push((times(&server.succeeded(id).await), *name));
    }
    server.token = admin;
    ended.sort_unstable();
    ended
}

/// When a render started and ended.
fn times(render: &Value) -> [jiff::Timestamp; 2] {
    ["startedAt", "finishedAt"].map(|time| render[time].as_str().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_get_their_share_by_weight_and_never_more_at_once_than_they_may() {
    let config = "[render]\nconcurrency = 1";
    let (mut server, acme, bolt) = paused(config).await;
    put(&server, "acme", json!({"weight": 3})).await;
    let resume = async |server: &Server| server.post("/v1/queue/resume", &Value::Null).await;
    let mut renders = Vec::new();
    for tenant in [&bolt, &acme] {
        for _ in 0..6 {
            renders.push((tenant.name, tenant.submits(&tiny()).await));
        }
    }
    resume(&server).await;
    let order = ended(&mut server, &[&acme, &bolt], &renders).await;
    let of_acme = order[..8].iter().filter(|(_, name)| *name == "acme").count();
    assert!((5..=6).contains(&of_acme), "{order:?}");

    // With two at once: acme may have one, and bolt is served beside it.
    let mut server = server.reconfigured("[render]\nconcurrency = 2").await;
    let (acme, bolt) =
        (Tenant { url: server.url.clone(), ..acme }, Tenant { url: server.url.clone(), ..bolt });
    put(&server, "acme", json!({"maxConcurrency": 1})).await;
    server.post("/v1/queue/pause", &Value::Null).await;
    let slow =
        json!({"serveUrl": "test", "composition": "slow", "inputProps": {"frames": 20, "msPerFrame": 50}});
    let mut renders = Vec::new();
    for tenant in [&acme, &acme, &acme, &bolt, &bolt] {
        renders.push((tenant.name, tenant.submits(&slow).await));
    }
    resume(&server).await;
    let order = ended(&mut server, &[&acme, &bolt], &renders).await;
    let of = |tenant: &str| -> Vec<_> {
        order.iter().filter(|(_, name)| *name == tenant).map(|(times, _)| *times).collect()
    };
    assert!(of("acme").windows(2).all(|two| two[0][1] <= two[1][0]), "one after another: {order:?}");
    let together =
        |one: &[jiff::Timestamp; 2], other: &[jiff::Timestamp; 2]| one[0] < other[1] && other[0] < one[1];
    let shared = of("bolt").iter().any(|one| of("acme").iter().any(|other| together(one, other)));
    assert!(shared, "while others are served: {order:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_changes_what_is_named_and_says_what_stands_in_the_way() {
    let server = Server::configured("[limits]\nmax_queued = 50\nmax_concurrency = 2").await;
    server.post("/v1/queue/pause", &Value::Null).await;
    let limits = async || {
        let mut told: Value = server.get("/v1/tenants/acme").await.json().await.unwrap();
        let told = told.as_object_mut().unwrap();
        told.retain(|name, _| !["tenant", "counts", "paused"].contains(&name.as_str()));
        Value::Object(told.clone())
    };
    let set = |arguments: &[&str]| run(&server, &[&["tenant", "set", "acme"], arguments].concat());
    assert_eq!(set(&["--max-queued", "100", "--submits-per-minute", "60", "--max-body", "5000"]).0, 0);
    let said = set(&["--weight", "2", "--max-queued", "200", "--max-render-seconds", "90"]);
    assert!(
        said.1.contains("weight 2*, 2 at once, 200* waiting, 60* a minute, 5000* bytes, 90* s: 0 queued"),
        "{said:?}"
    );
    let own = json!({"weight": 2, "maxQueued": 200, "submitsPerMinute": 60, "maxBody": 5_000, "maxRenderSeconds": 90});
    let mut expected = own.clone();
    expected["effective"] = own;
    expected["effective"]["maxConcurrency"] = json!(2);
    assert_eq!(limits().await, expected);
    let unset =
        set(&["--unset", "max-queued", "--unset", "weight", "--unset", "max-body", "--max-concurrency", "3"]);
    assert_eq!(unset.0, 0, "{unset:?}");
    let expected = json!({"maxConcurrency": 3, "submitsPerMinute": 60, "maxRenderSeconds": 90,
        "effective": {"weight": 1, "maxConcurrency": 3, "maxQueued": 50, "submitsPerMinute": 60, "maxRenderSeconds": 90}});
    assert_eq!(limits().await, expected);
    assert_eq!(set(&["--unset", "nothing"]).0, 2);
    assert_eq!(set(&["--max-body", "9"]).0, 3);

    assert_eq!(run(&server, &["tenant", "set", "default", "--max-queued", "1"]).0, 0);
    server.submit("tiny", json!({})).await;
    let refused = run(&server, &["render", "test", "tiny"]);
    let told = "at most 1 of the renders of the tenant `default` may wait (maxQueued): try again in 10 s";
    assert!(refused.0 == 3 && refused.2.contains(told), "{refused:?}");
}
