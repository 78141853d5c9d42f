//! What a tenant's renders tell when they do not say it themselves, and what its webhooks are signed with.

use std::sync::Arc;

use lastframe_core::SystemClock;
use lastframe_core::outbox::{DeliveryFilter, Outbox as _};
use lastframe_store::{Keys, Options, Store};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::server::{Server, client, run};

/// A server that sends mail, or would if anybody listened there.
const MAIL: &str =
    "[email]\nhost = \"127.0.0.1\"\nport = 9\ntls = \"none\"\nfrom = \"renders@example.com\"\n";

async fn send(server: &Server, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
    let request = server.request(method, path);
    let answer = match body {
        Some(body) => request.json(body),
        None => request,
    };
    told(answer.send().await.unwrap()).await
}

async fn told(answer: Response) -> (u16, Value) {
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_are_checked_when_they_are_set_and_shown_to_an_admin_alone() {
    let server = Server::without_site(MAIL).await;
    let path = "/v1/tenants/acme/notices";
    let nothing = json!({"email": [], "secrets": []});
    assert_eq!(send(&server, Method::GET, path, None).await, (200, nothing.clone()));
    let wrong = json!({"webhookUrl": "ftp://example.com", "email": ["anna@example.com", "anna"]});
    let (status, problem) = send(&server, Method::PUT, path, Some(&wrong)).await;
    let pointers: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|error| &error["pointer"]).collect();
    assert_eq!((status, json!(pointers)), (422, json!(["/webhookUrl", "/email/1"])));
    let (status, problem) = send(&server, Method::PUT, path, Some(&json!({"sms": []}))).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/sms")));
    assert_eq!(send(&server, Method::GET, path, None).await, (200, nothing));

    let defaults = json!({"webhookUrl": "https://example.com/token", "email": ["anna@example.com"]});
    let set =
        json!({"webhookUrl": "https://example.com/token", "email": ["anna@example.com"], "secrets": []});
    assert_eq!(send(&server, Method::PUT, path, Some(&defaults)).await, (200, set.clone()));
    let server = server.kill_and_restart().await;
    assert_eq!(send(&server, Method::GET, path, None).await, (200, set));
    let other = send(&server, Method::GET, "/v1/tenants/bolt/notices", None).await;
    assert_eq!(other, (200, json!({"email": [], "secrets": []})));

    let token = server.token_of("acme", &["renders:read", "renders:write", "sites:write"]).await;
    let secrets = "/v1/tenants/acme/webhook-secrets";
    let one = format!("{secrets}/a");
    for (method, path) in
        [(Method::GET, path), (Method::PUT, path), (Method::POST, secrets), (Method::DELETE, &one)]
    {
        let request = client().request(method.clone(), format!("{}{path}", server.url)).bearer_auth(&token);
        let (status, problem) = told(request.json(&json!({})).send().await.unwrap()).await;
        assert_eq!((status, &problem["code"]), (403, &json!("scope_missing")), "{method} {path}");
    }
    let audit: Value = server.get("/v1/audit").await.json().await.unwrap();
    let put = audit["entries"].as_array().unwrap().iter().find(|entry| entry["status"] == 200).unwrap();
    assert_eq!(put["action"], "PUT /v1/tenants/{tenant}/notices");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_told_once_and_another_takes_over_from_it() {
    let server = Server::without_site("").await;
    let path = "/v1/tenants/acme/webhook-secrets";
    let (status, first) = send(&server, Method::POST, path, None).await;
    assert_eq!(status, 201);
    let text = first["secret"].as_str().unwrap();
    assert!(text.starts_with("whsec_") && text.len() == 50, "{text}");
    let (_, second) = send(&server, Method::POST, path, None).await;
    assert_ne!(first["secret"], second["secret"]);
    let (status, problem) = send(&server, Method::POST, path, None).await;
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")));
    let notices = async || send(&server, Method::GET, "/v1/tenants/acme/notices", None).await.1;
    let ids = |notices: &Value| -> Vec<Value> {
        notices["secrets"].as_array().unwrap().iter().map(|secret| secret["id"].clone()).collect()
    };
    let both = notices().await;
    assert_eq!(ids(&both), [first["id"].clone(), second["id"].clone()], "the oldest first");
    assert!(!both.to_string().contains("whsec_"), "{both}");
    let one = format!("{path}/{}", first["id"].as_str().unwrap());
    assert_eq!(send(&server, Method::DELETE, &one, None).await.0, 204);
    assert_eq!(send(&server, Method::DELETE, &one, None).await.0, 404);
    assert_eq!(ids(&notices().await), [second["id"].clone()]);
    for file in ["lastframe.db", "lastframe.db-wal"] {
        let bytes = std::fs::read(server.data.path().join(file)).unwrap();
        assert!(!bytes.windows(6).any(|part| part == b"whsec_"), "{file} shows a secret");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_sets_shows_and_rotates() {
    let server = Server::without_site(MAIL).await;
    let url = "https://example.com/done";
    let set = ["tenant", "notices", "acme", "--webhook-url", url, "--email", "a@b.co", "--email", "c@d.co"];
    let (exit, told, why) = run(&server, &set);
    assert!(exit == 0 && told.contains(url) && told.contains("a@b.co, c@d.co"), "{told}{why}");
    let (_, told, _) = run(&server, &["tenant", "notices", "acme", "--unset", "email", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told, json!({"webhookUrl": url, "email": [], "secrets": []}));
    let (exit, _, why) = run(&server, &["tenant", "notices", "acme", "--email", "nobody"]);
    assert!(exit == 3 && why.contains("/email/0"), "{exit} {why}");

    let (_, made, _) = run(&server, &["tenant", "secret", "add", "acme", "--json"]);
    let made: Value = serde_json::from_str(&made).unwrap();
    let id = made["id"].as_str().unwrap();
    let (_, told, _) = run(&server, &["tenant", "secret", "list", "acme"]);
    assert!(told.contains(id) && !told.contains("whsec_"), "{told}");
    let (exit, told, _) = run(&server, &["tenant", "secret", "remove", "acme", id]);
    assert!(exit == 0 && told.contains(id), "{told}");
    assert_eq!(run(&server, &["tenant", "secret", "remove", "acme", id]).0, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_render_that_says_nothing_itself_owes_what_its_tenant_tells_by_default() {
    let mut server = Server::without_site(&format!("[encryption]\nenabled = false\n{MAIL}")).await;
    server.add_site("test").await;
    server.post("/v1/queue/pause", &Value::Null).await;
    let path = "/v1/tenants/default/notices";
    let defaults = json!({"webhookUrl": "http://127.0.0.1:9/default", "email": ["anna@example.com"]});
    assert_eq!(send(&server, Method::PUT, path, Some(&defaults)).await.0, 200);
    let dry = server.request(Method::POST, "/v1/renders");
    let body = json!({"serveUrl": "test", "composition": "tiny", "dryRun": true});
    let (status, dry) = told(dry.json(&body).send().await.unwrap()).await;
    assert!(status == 200 && !dry.to_string().contains("/default"), "a dry run shows no default: {dry}");
    let own = json!({"webhook": {"url": "http://127.0.0.1:9/own"}});
    let mut ids = Vec::new();
    for fields in [json!({}), json!({"webhook": null}), own, json!({"notify": {}})] {
        let id = server.submit("tiny", fields).await;
        // It ends, and needs no browser for it.
        server.post(&format!("/v1/renders/{id}/cancel"), &Value::Null).await;
        ids.push(id);
    }
    server.signal("TERM");
    assert!(server.exit().await.success());
    let clock = Arc::new(SystemClock::new());
    let options = Options { keys: Keys::default(), ..Options::default() };
    let store = Store::open(server.data.path(), clock, options).await.unwrap();
    let mut owed = Vec::new();
    for id in ids {
        let render = Some(id.parse().unwrap());
        let filter = DeliveryFilter { render, limit: 10, ..DeliveryFilter::default() };
        let found = store.deliveries(filter).await.unwrap();
        owed.push(found.into_iter().rev().map(|delivery| delivery.endpoint).collect::<Vec<_>>());
    }
    let both = vec!["127.0.0.1:9".to_owned(), "example.com".to_owned()];
    assert_eq!(owed, [both.clone(), both, vec!["127.0.0.1:9".to_owned()], Vec::new()]);
}
