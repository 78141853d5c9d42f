//! What people and programs may tell the queue, and what it remembers of what it made.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lastframe::app::App;
use lastframe::config::Flags;
use lastframe_core::{Clock as _, ManualClock, SystemClock};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::server::{Server, client, run, send_signal, without_renders};

/// A server that knows the test site and starts nothing.
async fn paused() -> Server {
    let server = Server::start().await;
    assert_eq!(server.post("/v1/queue/pause", &Value::Null).await.1["paused"], true);
    server
}

async fn get(server: &Server, path: &str) -> Value {
    server.get(path).await.json().await.unwrap()
}

async fn put(server: &Server, path: &str, body: Value) -> (u16, Value) {
    let answer = server.request(Method::PUT, path).json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn tiny() -> Value {
    json!({"serveUrl": "test", "composition": "tiny"})
}

fn pointers(problem: &Value) -> Vec<&str> {
    problem["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_accepted_whole_or_not_at_all_and_once_under_a_key() {
    let server = paused().await;
    let with = |field: &str, value: Value| {
        let mut body = tiny();
        body[field] = value;
        body
    };
    for (items, expected) in [
        (
            vec![tiny(), with("composition", json!("nothing")), with("serveUrl", json!("nowhere"))],
            vec!["/renders/1/composition", "/renders/2/serveUrl"],
        ),
        (
            vec![with("crf", json!(99)), tiny(), with("dryRun", json!(true))],
            vec!["/renders/0/crf", "/renders/2/dryRun"],
        ),
        (vec![with("composition", json!("odd"))], vec!["/renders/0/forceWidth", "/renders/0/forceHeight"]),
        (vec![tiny(); 1_001], vec!["/renders"]),
        (vec![], vec!["/renders"]),
    ] {
        let (status, problem) = server.post("/v1/renders/batch", &json!({"renders": items})).await;
        assert_eq!((status, pointers(&problem)), (422, expected), "{problem}");
    }
    assert_eq!(get(&server, "/v1/queue").await["counts"]["queued"], 0, "none was accepted");

    let send = async |body: &Value| {
        let request = server.request(Method::POST, "/v1/renders/batch").header("idempotency-key", "k");
        let answer = request.json(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let ids = |answer: &Value| -> Vec<Value> {
        answer["renders"].as_array().unwrap().iter().map(|render| render["renderId"].clone()).collect()
    };
    let body = json!({"renders": [with("region", json!("eu")), with("composition", json!("props")), tiny()]});
    let (status, first) = send(&body).await;
    assert_eq!(status, 202, "{first}");
    assert_eq!(first["renders"][0]["ignored"], json!(["region"]));
    assert_eq!(first["renders"][1]["composition"], "props", "in the order given");
    assert_eq!(ids(&send(&body).await.1), ids(&first));
    assert_eq!(send(&json!({"renders": [tiny()]})).await.1["code"], "idempotency_key_reused");
    assert_eq!(get(&server, "/v1/queue").await["counts"]["queued"], 3);

    let (status, answer) = server.post("/v1/renders/batch", &json!({"renders": vec![tiny(); 1_000]})).await;
    assert_eq!((status, ids(&answer).len()), (202, 1_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paused_starts_nothing_says_so_and_goes_on_when_resumed() {
    let server = paused().await;
    // A name that a path could take for something else.
    let (name, path) = ("a/b?ü 100%", "/v1/groups/a%2Fb%3F%C3%BC%20100%25");
    let grouped = server.submit("tiny", json!({"queue": {"group": name}})).await;
    let single = server.submit("tiny", json!({})).await;
    let reason = async |id: &str| server.render(id).await["blockedBy"]["reason"].clone();
    assert_eq!(reason(&single).await, "queuePaused");

    let server = server.kill_and_restart().await;
    assert_eq!(get(&server, "/v1/queue").await["paused"], true, "a pause outlives the server");
    let reason = async |id: &str| server.render(id).await["blockedBy"]["reason"].clone();
    let (status, group) = server.post(&format!("{path}/pause"), &Value::Null).await;
    let expected = json!({"group": name, "paused": true, "head": grouped, "queued": 1});
    assert_eq!((status, group), (200, expected));
    assert_eq!(reason(&grouped).await, "groupPaused");
    for (settings, expected) in [
        (json!({"paused": true}), json!("tenantPaused")),
        (json!({"maxConcurrency": 0}), json!("tenantLimit")),
    ] {
        assert_eq!(put(&server, "/v1/tenants/default", settings).await.0, 200);
        server.post("/v1/queue/resume", &Value::Null).await;
        assert_eq!(reason(&single).await, expected);
    }
    assert_eq!(server.render(&single).await["startedAt"], Value::Null);
    assert_eq!(put(&server, "/v1/tenants/default", json!({})).await.0, 200);
    server.succeeded(&single).await;
    let render = server.render(&grouped).await;
    assert_eq!((&render["status"], &render["startedAt"]), (&json!("queued"), &Value::Null));
    server.post(&format!("{path}/resume"), &Value::Null).await;
    server.succeeded(&grouped).await;
    assert_eq!(get(&server, path).await, json!({"group": name, "paused": false, "queued": 0}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_group_goes_on_when_resumed_and_what_failed_can_be_tried_again() {
    let server = Server::start().await;
    let failing = server.submit("throws", json!({"queue": {"group": "g", "onFailure": "block"}})).await;
    let next = server.submit("tiny", json!({"queue": {"group": "g"}})).await;
    assert_eq!(server.ended(&failing).await["status"], "failed");
    let blocked = server.render(&next).await["blockedBy"].clone();
    assert_eq!(blocked, json!({"reason": "groupHeld", "renderId": failing}));
    assert_eq!(get(&server, "/v1/groups/g").await["heldBy"], json!(failing));
    assert!(run(&server, &["group", "show", "g"]).1.contains(&format!("it is held by {failing}")));
    assert_eq!(run(&server, &["group", "resume", "g"]).0, 0);
    server.succeeded(&next).await;

    server.post("/v1/queue/pause", &Value::Null).await;
    for (body, pointer) in [
        (json!({}), ""),
        (json!({"limit": 5}), ""),
        (json!({"all": true, "group": "g"}), "/all"),
        (json!({"all": true, "limit": 0}), "/limit"),
        (json!({"all": true, "limit": 1_001}), "/limit"),
        (json!({"ids": ["nonsense"]}), "/ids/0"),
        (json!({"since": "yesterday"}), "/since"),
        (json!({"grup": "g"}), "/grup"),
    ] {
        let (status, problem) = server.post("/v1/redrive", &body).await;
        assert_eq!((status, pointers(&problem)), (422, vec![pointer]), "{problem}");
    }
    for nothing in [
        json!({"code": "other"}),
        json!({"group": "h"}),
        json!({"ids": [next]}),
        json!({"until": "2000-01-01T00:00:00Z"}),
    ] {
        assert_eq!(server.post("/v1/redrive", &nothing).await.1["renders"], json!([]), "{nothing}");
    }
    let (status, redriven) =
        server.post("/v1/redrive", &json!({"code": "component_error", "group": "g"})).await;
    assert_eq!((status, &redriven["renders"], &redriven["more"]), (200, &json!([failing]), &json!(false)));
    let render = server.render(&failing).await;
    assert_eq!((&render["status"], &render["attempt"]), (&json!("queued"), &json!(0)));
    assert!(run(&server, &["redrive", "--all"]).1.contains("no failed renders"));
    server.post("/v1/queue/resume", &Value::Null).await;
    server.ended(&failing).await;
    assert_eq!(run(&server, &["redrive", "--id", &failing]).1.trim(), failing);
    assert_eq!(run(&server, &["redrive"]).0, 3, "it must be said which");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_gets_what_was_put_and_defaults_for_the_rest() {
    let server = Server::without_site("").await;
    for (body, pointer) in [
        (json!({"weight": 0}), "/weight"),
        (json!({"weight": 1_001}), "/weight"),
        (json!({"weight": "high"}), "/weight"),
        (json!({"maxConcurrency": -1}), "/maxConcurrency"),
        (json!({"maxQueued": 0.5}), "/maxQueued"),
        (json!({"maxBody": 1_023}), "/maxBody"),
        (json!({"maxRenderSeconds": 0}), "/maxRenderSeconds"),
        (json!({"wait": 1}), "/wait"),
        (json!([]), ""),
    ] {
        let (status, problem) = put(&server, "/v1/tenants/acme", body).await;
        assert_eq!((status, pointers(&problem)), (422, vec![pointer]), "{problem}");
    }
    assert_eq!(server.get("/v1/tenants/acme").await.status(), 404);
    let settings = json!({"weight": 3, "maxConcurrency": 2, "paused": true});
    let (status, tenant) = put(&server, "/v1/tenants/acme", settings).await;
    let none = json!({"queued": 0, "rendering": 0, "succeeded": 0, "failed": 0, "cancelled": 0});
    let expected = json!({"tenant": "acme", "weight": 3, "maxConcurrency": 2, "effective": {"weight": 3, "maxConcurrency": 2},
            "paused": true, "counts": none});
    assert_eq!((status, &tenant), (200, &expected));
    assert_eq!(get(&server, "/v1/tenants/acme").await, expected);
    assert_eq!(get(&server, "/v1/tenants").await, json!({"tenants": [expected]}));

    let set = run(&server, &["tenant", "set", "acme", "--unset", "max-concurrency", "--resume"]);
    assert!(set.1.contains("weight 3*:"), "{set:?}");
    let expected =
        json!({"tenant": "acme", "weight": 3, "effective": {"weight": 3}, "paused": false, "counts": none});
    assert_eq!(get(&server, "/v1/tenants/acme").await, expected);
    let expected = json!({"tenant": "acme", "effective": {"weight": 1}, "paused": false, "counts": none});
    assert_eq!(put(&server, "/v1/tenants/acme", json!({})).await.1, expected);
    assert!(run(&server, &["tenant", "list"]).1.starts_with("acme "));
    assert_eq!(run(&server, &["tenant", "set", "acme", "--weight", "0"]).0, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_long_ago_is_forgotten_with_its_files() {
    let mut server = Server::start().await;
    let id = server.submit("tiny", json!({})).await;
    server.succeeded(&id).await;
    server.signal("TERM");
    assert!(server.exit().await.success());
    let data = server.give_up_data();
    std::fs::write(
        data.path().join("lastframe.toml"),
        "listen = \"127.0.0.1:0\"\n[queue]\nretention = \"30d\"",
    )
    .unwrap();
    let files = ["outputs", "logs"].map(|folder| data.path().join(folder).join(&id));
    assert!(files.iter().all(|folder| folder.is_dir()));

    // The same program in this process, where its clock can stand a month ahead.
    let flags = Flags { data: Some(data.path().into()), ..Flags::default() };
    let now = SystemClock::new().now() + Duration::from_secs(31 * 24 * 60 * 60);
    let app = App::start(without_renders(flags), Arc::new(ManualClock::new(now))).await.unwrap();
    let gone = async {
        let render = format!("http://{}/v1/renders/{id}", app.address);
        while client().get(&render).bearer_auth(&server.token).send().await.unwrap().status() != 404 {}
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("it is forgotten");
    assert!(files.iter().all(|folder| !folder.exists()));
    app.stop(CancellationToken::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_drains_while_somebody_watches_or_not() {
    let server = Server::start().await;
    let slow = json!({"inputProps": {"frames": 40, "msPerFrame": 50}});
    let first = server.submit("slow", slow.clone()).await;
    server.under_way(&first).await;
    let mut drain = Command::new(env!("CARGO_BIN_EXE_lastframe"))
        .args(["queue", "drain"])
        .env("LASTFRAME_DATA", server.data.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut notes = BufReader::new(drain.stderr.take().unwrap());
    notes.read_line(&mut line).unwrap();
    assert_eq!(line, "1 still being rendered\n");
    send_signal("INT", i32::try_from(drain.id()).unwrap());
    assert_eq!(drain.wait().unwrap().code(), Some(130));
    let mut said = String::new();
    notes.read_to_string(&mut said).unwrap();
    assert!(said.contains("the queue stays paused"), "{said}");

    let second = server.submit("tiny", json!({})).await;
    let drained = run(&server, &["queue", "drain"]);
    assert!(drained.0 == 0 && drained.1.contains("nothing is being rendered and 1 wait"), "{drained:?}");
    assert_eq!(server.render(&first).await["status"], "succeeded");
    assert_eq!(server.render(&second).await["blockedBy"]["reason"], "queuePaused");
    assert!(run(&server, &["queue", "status"]).1.starts_with("the queue is paused"));
    assert_eq!(run(&server, &["queue", "resume"]).0, 0);
    server.succeeded(&second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_that_was_damaged_since_it_was_verified_is_not_fetched_for_a_good_one() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("film.mp4");
    let fetch = || {
        let file = file.to_str().unwrap();
        run(&server, &["render", "test", "tiny", "--idempotency-key", "k", "-o", file])
    };
    let rendered = fetch();
    assert_eq!(rendered.0, 0, "{rendered:?}");
    let page = get(&server, "/v1/renders").await;
    let render = &page["renders"][0];
    let hash = Sha256::digest(std::fs::read(&file).unwrap());
    let hex = format!("{hash:x}");
    assert_eq!(render["output"]["sha256"], hex);

    let path = format!("/v1/renders/{}/output", render["renderId"].as_str().unwrap());
    let part = server.request(Method::GET, &path).header("range", "bytes=0-1");
    for (answer, status) in [(server.get(&path).await, 200), (part.send().await.unwrap(), 206)] {
        assert_eq!(answer.status(), status);
        let named = answer.headers()["repr-digest"].to_str().unwrap();
        let named = named.strip_prefix("sha-256=:").unwrap().strip_suffix(':').unwrap();
        assert_eq!(base64::Engine::decode(&base64::prelude::BASE64_STANDARD, named).unwrap(), hash.to_vec());
        assert_eq!(answer.headers()["etag"], format!("\"{hex}\""));
    }
    let known = server.request(Method::GET, &path).header("if-none-match", format!("\"{hex}\""));
    assert_eq!(known.send().await.unwrap().status(), 304);

    std::fs::remove_file(&file).unwrap();
    let stored = server.output_files().remove(0);
    let mut bytes = std::fs::read(&stored).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&stored, bytes).unwrap();
    let fetched = fetch();
    assert_eq!(fetched.0, 5, "{fetched:?}");
    assert!(fetched.2.contains("is damaged") && !file.exists(), "{fetched:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing of it is left");
}
