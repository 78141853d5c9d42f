//! The dashboard: what people do on it, in a real browser (tests/dashboard), and what its cookie must not be good for.

use std::path::Path;
use std::process::Command;

use reqwest::Method;
use reqwest::header::{COOKIE, ORIGIN, SET_COOKIE};
use serde_json::{Value, json};

use crate::server::{Server, client, project};
use crate::sites::{bundle_with, upload};

#[tokio::test(flavor = "multi_thread")]
async fn people_do_all_of_it_in_a_browser() {
    // The receiver of webhooks is on this machine.
    let server = Server::configured("[render]\nconcurrency = 2\n[webhook]\nallow_private = true").await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dashboard");
    let mut node = Command::new("node");
    node.args(["--test", "--test-reporter=spec", "dashboard.test.mjs"])
        .current_dir(folder)
        .env("LASTFRAME_URL", &server.url)
        .env("LASTFRAME_TOKEN", &server.token)
        // What the tests' own runner says to programs that it starts is not meant for this one.
        .env_remove("NODE_TEST_CONTEXT");
    let ran = tokio::task::spawn_blocking(move || node.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let complained = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}\n{complained}\nthe server's log:\n{}", server.log());
}

/// Signs in to the dashboard, and gives the cookies as a browser sends them.
async fn cookies(server: &Server, credentials: &Value) -> String {
    let begin = client().post(format!("{}/v1/session", server.url)).header("x-lastframe-dashboard", "1");
    let answer = begin.json(credentials).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let set = answer.headers().get_all(SET_COOKIE).iter().map(|cookie| cookie.to_str().unwrap());
    let pairs = set.map(|cookie| {
        assert!(cookie.contains("; Path=/; HttpOnly; SameSite=Strict"), "{cookie}");
        cookie.split(';').next().unwrap()
    });
    pairs.filter(|pair| !pair.ends_with('=')).collect::<Vec<_>>().join("; ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_counts_for_what_the_dashboard_itself_asks_and_for_nothing_else() {
    let server = Server::without_site("").await;
    let cookies = cookies(&server, &json!({"token": server.token})).await;
    let host = server.url.split_once("://").unwrap().1.to_owned();
    let foreign = "https://evil.example".to_owned();
    let ask = async |method: Method, headers: &[(&str, &str)]| {
        let mut request = client().request(method, format!("{}/v1/queue/pause", server.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.header(COOKIE, &cookies).send().await.unwrap().status().as_u16()
    };
    let own = ("x-lastframe-dashboard", "1");
    let origin = format!("http://{host}");
    assert_eq!(ask(Method::POST, &[own, ("sec-fetch-site", "same-origin"), ("origin", &origin)]).await, 200);
    assert_eq!(ask(Method::POST, &[own]).await, 200);
    for headers in [
        vec![],
        vec![("sec-fetch-site", "same-origin"), ("origin", origin.as_str())],
        vec![own, ("sec-fetch-site", "cross-site")],
        vec![own, ("sec-fetch-site", "same-site")],
        vec![own, ("sec-fetch-site", "none")],
        vec![own, ("origin", foreign.as_str())],
        vec![own, ("origin", "null")],
        vec![own, ("origin", "http://127.0.0.1:1")],
    ] {
        assert_eq!(ask(Method::POST, &headers).await, 401, "{headers:?}");
    }
    let look = async |site: &str, cookies: &str| {
        let look = client().get(format!("{}/v1/me", server.url)).header("sec-fetch-site", site);
        look.header(COOKIE, cookies).send().await.unwrap().status().as_u16()
    };
    assert_eq!(look("same-origin", &cookies).await, 200);
    assert_eq!(look("none", &cookies).await, 200);
    assert_eq!(look("cross-site", &cookies).await, 401);
    assert_eq!(look("same-site", &cookies).await, 401);
    // Of two, one was planted.
    assert_eq!(look("same-origin", &format!("{cookies}; lastframe=x")).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_signed_in_from_another_page() {
    let server = Server::without_site("").await;
    let begin = async |header: bool, origin: &str| {
        let mut begin = client().post(format!("{}/v1/session", server.url)).header(ORIGIN, origin);
        if header {
            begin = begin.header("x-lastframe-dashboard", "1");
        }
        let answer = begin.json(&json!({"token": server.token})).send().await.unwrap();
        (answer.status().as_u16(), answer.headers().contains_key(SET_COOKIE))
    };
    assert_eq!(begin(true, &server.url).await, (200, true));
    assert_eq!(begin(false, &server.url).await, (403, false));
    assert_eq!(begin(true, "https://evil.example").await, (403, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_ends_the_session_and_not_only_the_cookie() {
    let server = Server::without_site("").await;
    let ana = json!({"email": "ana@example.com", "password": "correct horse"});
    assert_eq!(server.post("/v1/users", &ana).await.0, 201);
    let cookies = cookies(&server, &ana).await;
    let ask = async |method: Method, path: &str| {
        let request = client().request(method, format!("{}{path}", server.url));
        let request = request.header("x-lastframe-dashboard", "1").header(COOKIE, &cookies);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask(Method::GET, "/v1/me").await, 200);
    assert_eq!(ask(Method::DELETE, "/v1/session").await, 204);
    assert_eq!(ask(Method::POST, "/v1/session/renew").await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_are_for_https_alone_where_people_come_by_it() {
    let server = Server::without_site("public_url = \"https://renders.example.com\"").await;
    let begin = client().post(format!("{}/v1/session", server.url)).header("x-lastframe-dashboard", "1");
    let begin = begin.header(ORIGIN, "https://renders.example.com").json(&json!({"token": server.token}));
    let answer = begin.send().await.unwrap();
    let cookie = answer.headers()[SET_COOKIE].to_str().unwrap();
    assert!(cookie.starts_with("__Host-lastframe=") && cookie.contains("; Secure"), "{cookie}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_go_names_a_render_of_the_same_tenant() {
    let server = Server::start().await;
    let first = server.submit("tiny", json!({})).await;
    let next = server.submit("tiny", json!({"queue": {"retryOf": first}})).await;
    assert_eq!(server.render(&next).await["retryOf"], json!(first));
    assert_eq!(server.render(&first).await.get("retryOf"), None);

    // Nobody is shown where a webhook goes, so another go takes it over.
    let hook = json!({"url": "http://127.0.0.1:9/T0K3N", "secret": "s3cr3t"});
    let later = json!({"runAt": "2099-01-01T00:00:00Z"});
    let told = server.submit("tiny", json!({"webhook": hook, "licenseKey": "l1c3nc3", "queue": later})).await;
    let shown: Value = server.get(&format!("/v1/renders/{told}/request")).await.json().await.unwrap();
    assert_eq!((shown.get("webhook"), shown.get("licenseKey")), (None, None), "{shown}");
    let again =
        server.submit("tiny", json!({"queue": {"retryOf": told, "runAt": "2099-01-01T00:00:00Z"}})).await;
    assert_eq!(server.post(&format!("/v1/renders/{again}/cancel"), &json!({})).await.0, 202);
    let owed: Value = server.get(&format!("/v1/deliveries?renderId={again}")).await.json().await.unwrap();
    assert_eq!(owed["deliveries"][0]["endpoint"], "127.0.0.1:9", "{owed}");

    let other = server.token_of("other", &["renders:read", "renders:write", "sites:write"]).await;
    server.add_site_of(&server.token, "test").await;
    let body = json!({"serveUrl": "test", "composition": "tiny", "queue": {"retryOf": first}});
    let answer = client().post(format!("{}/v1/renders", server.url)).bearer_auth(other).json(&body);
    let problem: Value = answer.send().await.unwrap().json().await.unwrap();
    let pointers: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|error| error["pointer"].clone()).collect();
    assert!(pointers.contains(&json!("/queue/retryOf")), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_go_has_the_environment_of_the_one_before_as_long_as_it_runs_the_same_code() {
    let server = Server::start().await;
    let usual = server.token_of("default", &["renders:read", "renders:write"]).await;
    let later = json!({"runAt": "2999-01-01T00:00:00Z"});
    let surroundings = (json!({"REMOTION_GREETING": "hunter2"}), json!({"gl": "angle"}));
    let fields = json!({"envVariables": surroundings.0, "chromiumOptions": surroundings.1, "queue": later});
    let first = server.submit("env", fields).await;
    let requested = async |token: &str, id: &str| -> Value {
        let asked = server.request_with(token, Method::GET, &format!("/v1/renders/{id}/request"));
        asked.send().await.unwrap().json().await.unwrap()
    };
    // Another go at a render, with other props, and what that gives its browser.
    let again = async |token: &str, earlier: &str, site: &str, composition: &str, fields: Value| {
        let mut body = json!({
            "serveUrl": site, "composition": composition, "inputProps": {"other": true},
            "queue": {"retryOf": earlier, "runAt": "2999-01-01T00:00:00Z"},
        });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let answer =
            server.request_with(token, Method::POST, "/v1/renders").json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 202, "{}", answer.text().await.unwrap());
        let accepted: Value = answer.json().await.unwrap();
        let id = accepted["renderId"].as_str().unwrap().to_owned();
        let asked = requested(&server.token, &id).await;
        (id, (asked["envVariables"].clone(), asked["chromiumOptions"].clone()))
    };
    let none = (Value::Null, Value::Null);

    let (next, given) = again(&usual, &first, "test", "env", json!({})).await;
    assert_eq!(given, surroundings);
    // It may have what it is not told, and hand it on.
    assert_eq!(requested(&usual, &next).await["envVariables"], json!({"REMOTION_GREETING": ""}));
    assert_eq!(again(&usual, &next, "test", "env", json!({})).await.1, surroundings);
    let dry = json!({"serveUrl": "test", "composition": "env", "dryRun": true, "queue": {"retryOf": first}});
    let dry = server.request_with(&usual, Method::POST, "/v1/renders").json(&dry).send().await.unwrap();
    assert_eq!(dry.json::<Value>().await.unwrap()["request"].get("envVariables"), None);

    assert_eq!(again(&usual, &first, "test", "tiny", json!({})).await.1, none, "another composition");
    server.add_site("twin").await;
    assert_eq!(again(&usual, &first, "twin", "env", json!({})).await.1, none, "another site");
    let blind = server.token_of("default", &["renders:write"]).await;
    assert_eq!(again(&blind, &first, "test", "env", json!({})).await.1, none, "who sees no renders");
    // Who may say what they are has said it.
    assert_eq!(again(&server.token, &first, "test", "env", json!({})).await.1, none);
    let own = json!({"envVariables": {"REMOTION_GREETING": "mine"}});
    let given = again(&server.token, &first, "test", "env", own).await.1;
    assert_eq!(given, (json!({"REMOTION_GREETING": "mine"}), Value::Null));

    let renderer = project().join("node_modules/@remotion/renderer");
    let query = [("renderer", renderer.to_str().unwrap())];
    let (status, site) = upload(&server, &server.token, &query, bundle_with("more.txt")).await;
    assert_eq!(status, 201, "{site}");
    assert_eq!(again(&usual, &first, "test", "env", json!({})).await.1, none, "another version");
    let before = server.render(&first).await["siteVersion"].as_str().unwrap().to_owned();
    let pinned = format!("test@{before}");
    assert_eq!(again(&usual, &first, &pinned, "env", json!({})).await.1, surroundings, "the version of then");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_sees_the_renders_of_all_tenants_and_nobody_else_does() {
    let server = Server::start().await;
    let id = server.submit("tiny", json!({"envVariables": {"SECRET": "hunter2"}})).await;
    let other = server.token_of("other", &["renders:read"]).await;
    let ask = async |token: &str, path: &str| {
        let answer = client().get(format!("{}{path}", server.url)).bearer_auth(token).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    assert_eq!(ask(&other, &format!("/v1/renders/{id}")).await.0, 404);
    assert_eq!(ask(&other, &format!("/v1/renders/{id}/request")).await.0, 404);
    for path in ["/v1/renders?tenant=default", "/v1/groups?tenant=default", "/v1/activity?tenant=default"] {
        assert_eq!(ask(&other, path).await.0, 403, "{path}");
        assert_eq!(ask(&server.token, path).await.0, 200, "{path}");
    }
    let (_, activity) = ask(&other, "/v1/activity").await;
    assert_eq!((&activity["tenant"], activity.get("workers")), (&json!("other"), None));
    assert_eq!(activity["hours"].as_array().unwrap().len(), 24);
    let admin = server.token_of("other", &["admin"]).await;
    assert_eq!(ask(&admin, &format!("/v1/renders/{id}")).await.1["tenant"], json!("default"));
    // What an environment holds is for who may fill one.
    let reader = server.token_of("default", &["renders:read"]).await;
    let request = ask(&reader, &format!("/v1/renders/{id}/request")).await.1;
    assert_eq!(request["envVariables"], json!({"SECRET": ""}));
    assert_eq!(
        ask(&admin, &format!("/v1/renders/{id}/request")).await.1["envVariables"]["SECRET"],
        "hunter2"
    );
}
