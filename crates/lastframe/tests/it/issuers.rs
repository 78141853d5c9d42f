//! Who is let in by tokens of issuers that this repository did not make, and that nobody else is: the programs are in
//! tests/peers, and `scripts/setup` installs what they need.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use base64::Engine as _;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::peer::Peer;
use crate::server::{Server, client};

/// Whom foreign tokens are for.
const AUDIENCE: &str = "https://renders.example";

/// An HTTP server that tells the same to everybody, and how often it was asked.
async fn teller(body: Value) -> (String, Arc<AtomicU32>) {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let tell = async move || {
        count.fetch_add(1, Ordering::SeqCst);
        axum::Json(body)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, Router::new().fallback(tell)).into_future());
    (url, asked)
}

async fn me(server: &Server, token: &str) -> (u16, Value) {
    let answer = client().get(format!("{}/v1/me", server.url)).bearer_auth(token).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Whoever shows it is told that they must not come in, as RFC 6750 and RFC 9457 have it, and nothing more.
async fn is_refused(server: &Server, name: &str, token: &str) {
    let answer = client()
        .get(format!("{}/v1/renders", server.url))
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .send()
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let header = |header| answer.headers().get(header).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(answer.status(), 401, "{name}: {token}");
    assert!(header(WWW_AUTHENTICATE).is_some_and(|value| value.starts_with("Bearer")), "{name}");
    assert_eq!(header(CONTENT_TYPE).as_deref(), Some("application/problem+json"), "{name}");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(
        (&problem["code"], &problem["detail"]),
        (&json!("token_invalid"), &json!("the token is not valid here, or has expired")),
        "{name}"
    );
}

/// Nothing that could be shown again stands in the log.
fn is_not_logged(server: &Server, tokens: &[&str]) {
    let log = server.log();
    for token in tokens.iter().filter(|token| token.len() > 20) {
        assert!(!log.contains(*token), "{token} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_oidc_provider_are_good_by_configuration_alone_and_its_new_key_is_followed() {
    let mut peer = Peer::node("oidc.mjs", &[AUDIENCE, "renderer", "a secret of the client"]);
    let issuer = peer.line();
    let config = format!(
        "[[issuer]]\nurl = \"{issuer}\"\naudience = [\"{AUDIENCE}\"]\ntenant_claim = \"org\"\ntenant_prefix = \"films-\""
    );
    let server = Server::without_site(&config).await;
    let token = async |scope: &str| {
        let answer = client()
            .post(format!("{issuer}/token"))
            .basic_auth("renderer", Some("a%20secret%20of%20the%20client"))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(format!("grant_type=client_credentials&scope={scope}"))
            .send()
            .await
            .unwrap();
        let tokens: Value = answer.json().await.unwrap();
        tokens["access_token"].as_str().unwrap_or_else(|| panic!("{tokens}")).to_owned()
    };
    let first = token("renders:read").await;
    let caller = json!({
        "subject": format!("{issuer}#renderer"), "tenant": "films-acme", "scopes": ["renders:read"],
    });
    assert_eq!(me(&server, &first).await, (200, caller));

    peer.say("rotate");
    let kid = peer.line();
    let second = token("renders:read%20renders:write").await;
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(second.split_once('.').unwrap().0);
    let header: Value = serde_json::from_slice(&header.unwrap()).unwrap();
    assert_eq!(header["kid"], kid);
    let followed = async {
        while me(&server, &second).await.0 != 200 {
            // Nothing tells a test that the server may ask its issuer again, which it does every half minute at most.
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), followed).await.expect("the new key is followed");
    assert_eq!(me(&server, &second).await.1["scopes"], json!(["renders:read", "renders:write"]));
    assert_eq!(me(&server, &first).await.0, 200);
    is_not_logged(&server, &[&first, &second]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_cognito_user_pool_are_good_and_the_guides_own_curl_works() {
    let mut peer = Peer::python("cognito.py", &[]);
    let pool: Value = serde_json::from_str(&peer.line()).unwrap();
    let text = |name: &str| pool[name].as_str().unwrap();
    let config = format!(
        "[[issuer]]\nurl = \"{}\"\njwks = \"{}\"\naudience = [\"{}\"]\ntenant = \"default\"\n\
         [enqueue]\nsite = \"test\"\ncomposition = \"tiny\"",
        text("issuer"),
        text("jwks"),
        text("client")
    );
    let server = Server::configured(&config).await;
    for token in ["idToken", "accessToken"] {
        let (status, caller) = me(&server, text(token)).await;
        assert_eq!((status, &caller["tenant"]), (200, &json!("default")), "{token}: {caller}");
        assert!(caller["subject"].as_str().unwrap().starts_with(&format!("{}#", text("issuer"))));
    }
    is_refused(&server, "a refresh token of Cognito", text("refreshToken")).await;

    let stranger = server.token_of("acme", &["renders:read"]).await;
    for path in ["/enqueue", "/dev/enqueue"] {
        // As in Remotion's guide, but for the address and the token.
        let curl = format!(
            "curl --location --request POST '{}{path}' \\\n\
             --header 'Authorization: Bearer {}' \\\n\
             --data-raw '{{\n\"message\": \"Hello\"\n}}'",
            server.url,
            text("idToken")
        );
        let said = Command::new("bash").args(["-c", &curl]).env("no_proxy", "*").output().unwrap();
        let answer: Value = serde_json::from_slice(&said.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&said.stderr)));
        let id = answer["renderId"].as_str().unwrap_or_else(|| panic!("{answer}"));
        assert!(answer["message"].as_str().unwrap().contains(id), "{answer}");
        assert_eq!(server.render(id).await["composition"], "tiny");
        let path = format!("{}/v1/renders/{id}", server.url);
        let others = client().get(path).bearer_auth(&stranger).send().await.unwrap();
        assert_eq!(others.status(), 404, "what is another tenant's is not there");
    }
    is_not_logged(&server, &[text("idToken"), text("accessToken")]);
}

/// Forged tokens of an issuer that its attacker knows all public things of, shown to a server; the good one shows that
/// they are refused for what is wrong with them.
async fn all_are_refused(server: &Server, tokens: &Value) {
    let good = tokens["good"].as_str().unwrap();
    assert_eq!(me(server, good).await.0, 200);
    let forged = tokens["forged"].as_array().unwrap();
    assert!(forged.len() > 150, "{} forged tokens", forged.len());
    for forged in forged {
        is_refused(server, forged["name"].as_str().unwrap(), forged["token"].as_str().unwrap()).await;
    }
    assert_eq!(me(server, good).await.0, 200);
    let shown: Vec<_> = forged.iter().filter_map(|forged| forged["token"].as_str()).collect();
    is_not_logged(server, &[&shown[..], &[good]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_forged_or_stale_token_of_a_foreign_issuer_lets_anybody_in() {
    let keys = Peer::python("forge.py", &[]).answer(&json!({"generate": true}));
    let (attacker, called) = teller(keys["jwks"].clone()).await;
    let (issuer, _) = teller(keys["jwks"].clone()).await;
    let config = format!(
        "[[issuer]]\nurl = \"{issuer}\"\njwks = \"{issuer}/jwks\"\naudience = [\"{AUDIENCE}\"]\ntenant_claim = \"org\""
    );
    let server = Server::without_site(&config).await;
    let claims = json!({"iss": issuer, "aud": AUDIENCE, "sub": "bob", "org": "acme"});
    let with = |index: usize, alg: &str, kid: &str| {
        json!({
            "private": keys["private"][index], "alg": alg, "kid": kid, "claims": claims,
            "tenantClaim": "org", "tenantIsBelieved": true,
        })
    };
    let issuers = [with(0, "RS256", "of RSA"), with(1, "ES256", "of P-256")];
    let all = Peer::python("forge.py", &[]).answer(&json!({"attacker": attacker, "issuers": issuers}));
    for tokens in all.as_array().unwrap() {
        all_are_refused(&server, tokens).await;
    }
    assert_eq!(called.load(Ordering::SeqCst), 0, "nobody asks for the keys that a token points to");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_forged_or_stale_token_of_the_built_in_issuer_lets_anybody_in() {
    let (attacker, called) = teller(json!({"keys": []})).await;
    let server = Server::without_site("").await;
    let new = json!({"email": "ana@example.com", "password": "correct horse", "tenant": "acme"});
    assert_eq!(server.post("/v1/users", &new).await.0, 201);
    let (_, tokens) =
        server.post("/v1/token", &json!({"email": "ana@example.com", "password": "correct horse"})).await;
    let id_token = tokens["idToken"].as_str().unwrap();
    let refresh_token = tokens["refreshToken"].as_str().unwrap();
    // What nobody but the server has: with it, tokens can be made that are wrong in a single thing.
    let private = std::fs::read_to_string(server.data.path().join("signing-keys.pem")).unwrap();
    let part = |index| {
        let part = id_token.split('.').nth(index).unwrap();
        let part = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap();
        serde_json::from_slice::<Value>(&part).unwrap()
    };
    let issuer = json!({
        "private": private, "alg": "ES256", "kid": part(0)["kid"], "claims": part(1),
        "tenantClaim": "tenant", "tenantIsBelieved": false,
    });
    let all = Peer::python("forge.py", &[]).answer(&json!({"attacker": attacker, "issuers": [issuer]}));
    all_are_refused(&server, &all[0]).await;
    assert_eq!(called.load(Ordering::SeqCst), 0, "nobody asks for the keys that a token points to");

    is_refused(&server, "a refresh token", refresh_token).await;
    for (name, token) in [("an id token", id_token), ("a token of a program", &server.token)] {
        let (status, problem) = server.post("/v1/token", &json!({"refreshToken": token})).await;
        assert_eq!((status, &problem["code"]), (401, &json!("sign_in_failed")), "{name}");
    }
    is_not_logged(&server, &[refresh_token]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_changed_or_ended_token_of_a_program_lets_anybody_in() {
    let server = Server::without_site("").await;
    let brief = json!({"name": "brief", "tenant": "acme", "expiresInSeconds": 1});
    let brief = server.post("/v1/tokens", &brief).await.1["token"].as_str().unwrap().to_owned();
    let (_, made) = server.post("/v1/tokens", &json!({"name": "ci", "tenant": "acme"})).await;
    let (token, id) = (made["token"].as_str().unwrap(), made["id"].as_str().unwrap());
    let (_, other) = server.post("/v1/tokens", &json!({"name": "other", "tenant": "acme"})).await;
    let other = other["token"].as_str().unwrap();
    assert_eq!((me(&server, token).await.0, me(&server, other).await.0), (200, 200));
    for length in [1, 3, 4, 10, 20, 21, token.len() - 1] {
        is_refused(&server, "cut short", &token[..length]).await;
    }
    let head = &token[..=token.rfind(id).unwrap() + id.len()];
    for (name, changed) in [
        ("with more at its end", format!("{token}A")),
        ("with the secret of another", format!("{head}{}", &other[head.len()..])),
        ("without a secret", head.to_owned()),
        ("of another kind", token.replacen("lft", "lfr", 1)),
        ("in capitals", token.to_uppercase()),
        ("with an id that matches all", token.replacen(id, "%", 1)),
        ("with SQL for an id", token.replacen(id, "' OR '1'='1", 1)),
        ("with the hash of nothing", format!("{head}47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU")),
    ] {
        is_refused(&server, name, &changed).await;
    }
    for at in 0..token.len() {
        let change = if token.as_bytes()[at] == b'a' { "b" } else { "a" };
        is_refused(&server, "changed", &[&token[..at], change, &token[at + 1..]].concat()).await;
    }
    assert_eq!(me(&server, token).await.0, 200);
    let revoked = server.request(reqwest::Method::DELETE, &format!("/v1/tokens/{id}")).send().await.unwrap();
    assert_eq!(revoked.status(), 200);
    is_refused(&server, "revoked", token).await;
    // Nothing tells when its second is over but its end.
    while me(&server, &brief).await.0 == 200 {}
    is_refused(&server, "expired", &brief).await;
    is_not_logged(&server, &[token, other, &brief]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tokens_at_once_are_none() {
    let server = Server::without_site("").await;
    let twice = client()
        .get(format!("{}/v1/me", server.url))
        .bearer_auth(&server.token)
        .header(AUTHORIZATION, "Bearer of another")
        .send()
        .await
        .unwrap();
    assert_eq!(twice.status(), 401);
}
