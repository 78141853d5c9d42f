//! Who is let in, and how far.

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Server, client, run};

/// Asks with a token of its own.
async fn ask(server: &Server, token: &str, method: Method, path: &str, body: &str) -> (u16, Value) {
    let request = client().request(method, format!("{}{path}", server.url));
    let answer = request.bearer_auth(token).body(body.to_owned()).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or_default())
}

async fn status(server: &Server, token: &str, path: &str) -> u16 {
    ask(server, token, Method::GET, path, "").await.0
}

async fn sign_in(server: &Server, body: Value) -> (u16, Value) {
    ask(server, "", Method::POST, "/v1/token", &body.to_string()).await
}

fn text(tokens: &Value, name: &str) -> String {
    tokens[name].as_str().unwrap().to_owned()
}

/// Somebody of the tenant acme, and their tokens.
async fn ana(server: &Server) -> Value {
    let new = json!({"email": "Ana@Example.com", "password": "correct horse", "tenant": "acme"});
    let (status, user) = server.post("/v1/users", &new).await;
    assert_eq!(
        (status, &user["email"], &user["tenant"], &user["scopes"]),
        (201, &json!("ana@example.com"), &json!("acme"), &json!(["renders:read", "renders:write"]))
    );
    assert_eq!(server.post("/v1/users", &new).await.0, 409);
    let (status, tokens) =
        sign_in(server, json!({"email": "ana@example.com", "password": "correct horse"})).await;
    assert_eq!(status, 200, "{tokens}");
    tokens
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_and_goes_on_with_refresh_tokens_that_are_good_once() {
    let server = Server::without_site("").await;
    let tokens = ana(&server).await;
    assert_eq!((&tokens["expiresIn"], &tokens["tokenType"]), (&json!(3600), &json!("Bearer")));
    let (status, me) = ask(&server, &text(&tokens, "idToken"), Method::GET, "/v1/me", "").await;
    let expected = json!({
        "subject": "user:ana@example.com", "tenant": "acme", "scopes": ["renders:read", "renders:write"],
    });
    assert_eq!((status, me), (200, expected));

    let first = json!({"refreshToken": tokens["refreshToken"]});
    let (status, next) = sign_in(&server, first.clone()).await;
    assert_eq!(status, 200, "{next}");
    assert_ne!(next["refreshToken"], tokens["refreshToken"]);
    // Whoever has the first one, one of the two is not Ana.
    assert_eq!(sign_in(&server, first).await.0, 401);
    assert_eq!(sign_in(&server, json!({"refreshToken": next["refreshToken"]})).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_belong_is_told_nothing() {
    let server = Server::without_site("").await;
    ana(&server).await;
    let refused = |body| async { sign_in(&server, body).await };
    let wrong = refused(json!({"email": "ana@example.com", "password": "correct house"})).await;
    assert_eq!((wrong.0, &wrong.1["code"]), (401, &json!("sign_in_failed")));
    let nobody = refused(json!({"email": "bob@example.com", "password": "correct horse"})).await;
    assert_eq!(nobody, wrong, "whether somebody is known here is nobody's business");
    for body in [
        json!({}),
        json!({"email": "ana@example.com"}),
        json!({"email": "a", "password": "longenough", "refreshToken": "x"}),
    ] {
        assert_eq!(refused(body).await.0, 422);
    }
    assert_eq!(refused(json!({"refreshToken": "lfr_0011223344556677_x"})).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_for_an_address_are_tried_ten_times_whether_or_not_somebody_has_it() {
    let server = Server::without_site("").await;
    ana(&server).await;
    let wrong = |email: &'static str| json!({"email": email, "password": "correct house"});
    let limited = async |body: &Value| {
        let answer = client().post(format!("{}/v1/token", server.url)).body(body.to_string()).send().await;
        let answer = answer.unwrap();
        let wait = answer.headers().get("retry-after").map(|wait| wait.to_str().unwrap().parse::<u32>());
        let (status, wait) = (answer.status(), wait.unwrap().unwrap());
        let problem: Value = answer.json().await.unwrap();
        assert!(
            status == 429 && problem["code"] == "too_many_attempts" && (1..=90).contains(&wait),
            "{problem}"
        );
    };
    for email in ["ana@example.com", "nobody@example.com"] {
        for _ in 0..10 {
            assert_eq!(sign_in(&server, wrong(email)).await.0, 401);
        }
        limited(&wrong(email)).await;
    }
    // However it is written; and guessing right does not help either.
    limited(&json!({"email": " ANA@example.com", "password": "correct horse"})).await;
    let new = json!({"email": "bob@example.com", "password": "correct horse"});
    assert_eq!(server.post("/v1/users", &new).await.0, 201);
    assert_eq!(sign_in(&server, new).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn disabling_and_changing_somebody_takes_effect_at_once() {
    let server = Server::without_site("").await;
    let tokens = ana(&server).await;
    let id = text(&tokens, "idToken");
    assert_eq!(status(&server, &id, "/v1/renders").await, 200);
    assert_eq!(run(&server, &["user", "disable", "ana@example.com"]).0, 0);
    assert_eq!(status(&server, &id, "/v1/renders").await, 401);
    assert_eq!(sign_in(&server, json!({"refreshToken": tokens["refreshToken"]})).await.0, 401);
    assert_eq!(
        sign_in(&server, json!({"email": "ana@example.com", "password": "correct horse"})).await.0,
        401
    );
    assert_eq!(run(&server, &["user", "enable", "ana@example.com"]).0, 0);
    assert_eq!(status(&server, &id, "/v1/renders").await, 200);

    assert_eq!(status(&server, &id, "/v1/users").await, 403);
    assert_eq!(run(&server, &["user", "set", "ana@example.com", "--scope", "admin"]).0, 0);
    assert_eq!(status(&server, &id, "/v1/users").await, 200);

    // Another password ends what the one before has begun.
    let (_, tokens) =
        sign_in(&server, json!({"email": "ana@example.com", "password": "correct horse"})).await;
    let change = json!({"password": "battery staple"}).to_string();
    assert_eq!(
        ask(&server, &server.token, Method::PATCH, "/v1/users/ana%40example.com", &change).await.0,
        200
    );
    assert_eq!(sign_in(&server, json!({"refreshToken": tokens["refreshToken"]})).await.0, 401);
    assert_eq!(
        sign_in(&server, json!({"email": "ana@example.com", "password": "battery staple"})).await.0,
        200
    );
    assert_eq!(run(&server, &["user", "disable", "nobody@example.com"]).0, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_ends_the_session() {
    let server = Server::without_site("").await;
    let refresh = json!({"refreshToken": ana(&server).await["refreshToken"]});
    for _ in 0..2 {
        assert_eq!(ask(&server, "", Method::POST, "/v1/token/revoke", &refresh.to_string()).await.0, 204);
    }
    assert_eq!(sign_in(&server, refresh).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_program_is_good_until_it_is_revoked_and_after_a_restart() {
    let server = Server::without_site("").await;
    let create = ["token", "create", "--name", "ci", "--tenant", "acme", "--expires", "90d", "--quiet"];
    let (code, token, _) = run(&server, &create);
    let token = token.trim();
    assert!(code == 0 && token.starts_with("lft_"), "{token}");
    assert_eq!(status(&server, token, "/v1/renders").await, 200);
    let server = server.kill_and_restart().await;
    assert_eq!(status(&server, token, "/v1/renders").await, 200);

    let list = run(&server, &["token", "list", "--json"]).1;
    assert!(!list.contains(token) && !list.contains(token.rsplit('_').next().unwrap()), "{list}");
    let list: Value = serde_json::from_str(&list).unwrap();
    let ci = list.as_array().unwrap().iter().find(|token| token["name"] == "ci").unwrap();
    assert!(ci["expiresAt"].is_string() && ci["tenant"] == "acme", "{ci}");
    assert_eq!(run(&server, &["token", "revoke", ci["id"].as_str().unwrap()]).0, 0);
    assert_eq!(status(&server, token, "/v1/renders").await, 401);
    assert_eq!(run(&server, &["token", "revoke", "ffffffffffffffff"]).0, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_signing_key_logs_nobody_out_unless_the_old_one_is_distrusted() {
    // The issuer's name: by its address it would be another one after a restart on another port.
    let server = Server::without_site("public_url = \"https://renders.example\"").await;
    let tokens = ana(&server).await;
    let old = text(&tokens, "idToken");
    let keys = async || {
        let keys: Value = client()
            .get(format!("{}/.well-known/jwks.json", server.url))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        assert!(keys["keys"].as_array().unwrap().iter().all(|key| key["d"].is_null()), "{keys}");
        keys["keys"].as_array().unwrap().len()
    };
    assert_eq!(keys().await, 1);
    assert_eq!(run(&server, &["token", "rotate-keys"]).0, 0);
    assert_eq!((keys().await, status(&server, &old, "/v1/renders").await), (2, 200));
    let server = server.kill_and_restart().await;
    assert_eq!(status(&server, &old, "/v1/renders").await, 200);
    assert_eq!(run(&server, &["token", "rotate-keys", "--distrust"]).0, 0);
    assert_eq!(status(&server, &old, "/v1/renders").await, 401);
    let (_, next) = sign_in(&server, json!({"refreshToken": tokens["refreshToken"]})).await;
    assert_eq!(status(&server, &text(&next, "idToken"), "/v1/renders").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_built_in_issuer_can_be_discovered() {
    let server = Server::without_site("").await;
    let document: Value = client()
        .get(format!("{}/.well-known/openid-configuration", server.url))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(document["issuer"], json!(server.url));
    assert_eq!(document["jwks_uri"], json!(format!("{}/.well-known/jwks.json", server.url)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_another_tenants_is_not_there() {
    let server = Server::start().await;
    let id = server.submit("tiny", json!({"queue": {"runAt": "2100-01-01T00:00:00Z"}})).await;
    let other = server.token_of("acme", &["renders:read", "renders:write", "sites:write"]).await;
    for (method, path) in [
        (Method::GET, format!("/v1/renders/{id}")),
        (Method::GET, format!("/v1/renders/{id}/events")),
        (Method::GET, format!("/v1/renders/{id}/log")),
        (Method::GET, format!("/v1/renders/{id}/output")),
        (Method::POST, format!("/v1/renders/{id}/cancel")),
        (Method::POST, format!("/v1/renders/{id}/retry")),
        (Method::GET, "/v1/sites/test".into()),
        (Method::DELETE, "/v1/sites/test".into()),
    ] {
        assert_eq!(ask(&server, &other, method.clone(), &path, "").await.0, 404, "{method} {path}");
    }
    assert_eq!(ask(&server, &other, Method::GET, "/v1/renders", "").await.1["renders"], json!([]));
    let redriven = ask(&server, &other, Method::POST, "/v1/redrive", &json!({"ids": [id]}).to_string()).await;
    assert_eq!(redriven.1["renders"], json!([]));
    let submitted = json!({"serveUrl": "test", "composition": "tiny"}).to_string();
    assert_eq!(ask(&server, &other, Method::POST, "/v1/renders", &submitted).await.0, 422);
    assert_eq!(server.render(&id).await["status"], "queued");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_reaches_no_further_than_its_scope() {
    let server = Server::without_site("").await;
    let scopes =
        ["renders:read", "renders:write", "renders:environment", "sites:write", "metrics:read", "admin"];
    let mut tokens = Vec::new();
    for scope in scopes {
        tokens.push((scope, server.token_of("default", &[scope]).await));
    }
    for (method, path, needed) in [
        (Method::GET, "/v1/renders", "renders:read"),
        (Method::GET, "/v1/sites", "renders:read"),
        (Method::GET, "/v1/groups/g", "renders:read"),
        (Method::POST, "/v1/groups/g/pause", "renders:write"),
        (Method::POST, "/v1/groups/g/resume", "renders:write"),
        (Method::POST, "/v1/renders", "renders:write"),
        (Method::POST, "/v1/renders/batch", "renders:write"),
        (Method::POST, "/v1/stills", "renders:write"),
        (Method::POST, "/enqueue", "renders:write"),
        (Method::POST, "/v1/redrive", "renders:write"),
        (Method::GET, "/v1/sites/none/versions", "renders:read"),
        (Method::POST, "/v1/sites/none/versions", "sites:write"),
        (Method::PUT, "/v1/sites/none/current", "sites:write"),
        (Method::DELETE, "/v1/sites/none/versions/v", "sites:write"),
        (Method::DELETE, "/v1/sites/none", "sites:write"),
        (Method::GET, "/metrics", "metrics:read"),
        (Method::GET, "/v1/queue", "admin"),
        (Method::POST, "/v1/queue/pause", "admin"),
        (Method::POST, "/v1/queue/resume", "admin"),
        (Method::GET, "/v1/tenants", "admin"),
        (Method::GET, "/v1/tenants/default", "admin"),
        (Method::PUT, "/v1/tenants/default", "admin"),
        (Method::GET, "/v1/users", "admin"),
        (Method::POST, "/v1/users", "admin"),
        (Method::PATCH, "/v1/users/a%40b", "admin"),
        (Method::GET, "/v1/tokens", "admin"),
        (Method::POST, "/v1/tokens", "admin"),
        (Method::DELETE, "/v1/tokens/none", "admin"),
        (Method::POST, "/v1/signing-keys/rotate", "admin"),
    ] {
        for (scope, token) in &tokens {
            let (status, problem) = ask(&server, token, method.clone(), path, "{}").await;
            let refused = status == 403;
            assert_eq!(refused, *scope != needed && *scope != "admin", "{method} {path} with {scope}");
            if refused {
                assert_eq!(problem["detail"], format!("the token lacks the scope `{needed}`"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browsers_surroundings_need_a_scope_of_their_own() {
    let server = Server::start().await;
    let usual = server.token_of("default", &["renders:write"]).await;
    let trusted = server.token_of("default", &["renders:write", "renders:environment"]).await;
    let body = json!({"serveUrl": "test", "composition": "tiny", "dryRun": true, "envVariables": {"A": "1"}, "chromiumOptions": {"gl": "angle"}});
    let (status, problem) = ask(&server, &usual, Method::POST, "/v1/renders", &body.to_string()).await;
    let pointers: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|error| &error["pointer"]).collect();
    assert_eq!((status, pointers), (403, vec![&json!("/envVariables"), &json!("/chromiumOptions")]));
    assert_eq!(ask(&server, &trusted, Method::POST, "/v1/renders", &body.to_string()).await.0, 200);
}
