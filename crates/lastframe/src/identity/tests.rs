//! Time, keys and revocations, with a foreign issuer on loopback that does what it is told.

use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use jiff::SignedDuration;
use lastframe_core::{Clock as _, ManualClock};
use lastframe_store::Store;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;

const HOUR: i64 = 3_600;

struct World {
    clock: Arc<ManualClock>,
    identity: Arc<Identity>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new(issuers: Vec<IssuerConfig>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new("2026-03-01T12:00:00Z".parse().unwrap()));
        let data = Arc::new(DataFolder::open(folder.path()).unwrap());
        let options = lastframe_store::Options::default();
        let store = Store::open(folder.path(), Arc::clone(&clock) as Arc<dyn Clock>, options).await.unwrap();
        let config = IdentityConfig {
            token_lifetime: SignedDuration::from_hours(1),
            refresh_lifetime: SignedDuration::from_hours(24),
            issuers,
        };
        let url = "https://lastframe.example";
        let time = Arc::clone(&clock) as Arc<dyn Clock>;
        let identity = Identity::open(data, Arc::new(store), time, url, config).await.unwrap();
        Self { clock, identity: Arc::new(identity), _folder: folder }
    }

    async fn is_good(&self, token: &str) -> bool {
        match self.identity.verify(token).await {
            Ok(_) => true,
            Err(Refused::Token) => false,
            Err(other) => panic!("{other}"),
        }
    }

    async fn token(&self, lives_for: Option<Duration>) -> (ApiToken, String) {
        let new = NewToken {
            name: "ci".into(),
            tenant: TenantId::new("acme"),
            scopes: Scopes::USUAL,
            expires_at: lives_for.map(|time| self.clock.now() + time),
        };
        self.identity.create_token(new).await.unwrap()
    }

    async fn ana(&self) -> Tokens {
        let new = NewUser {
            email: "ana@example.com".into(),
            password: "correct horse".into(),
            tenant: TenantId::new("acme"),
            scopes: Scopes::USUAL,
        };
        self.identity.add_user(new).await.unwrap().unwrap();
        self.identity.sign_in("ana@example.com", "correct horse".into()).await.unwrap()
    }

    fn seconds_pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

/// What a foreign issuer does when it is asked for its keys.
#[derive(Clone)]
enum Answer {
    Keys(Value),
    Down,
    /// To where its keys are.
    Redirect,
}

/// A foreign issuer.
struct Peer {
    url: url::Url,
    keys: SigningKeys,
    answer: watch::Sender<Answer>,
    /// How often it was asked.
    asked: watch::Receiver<u32>,
    /// It answers while this holds no.
    is_held: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

impl Peer {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = SigningKeys::open(Arc::new(DataFolder::open(folder.path()).unwrap())).unwrap();
        let (answer, answers) = watch::channel(Answer::Keys(json!(keys.public())));
        let (count, asked) = watch::channel(0);
        let (is_held, held) = watch::channel(false);
        let jwks = get(async move || -> Response {
            count.send_modify(|count| *count += 1);
            held.clone().wait_for(|held| !held).await.unwrap();
            let answer = answers.borrow().clone();
            match answer {
                Answer::Keys(keys) => axum::Json(keys).into_response(),
                Answer::Down => StatusCode::BAD_GATEWAY.into_response(),
                Answer::Redirect => (StatusCode::FOUND, [(header::LOCATION, "/elsewhere")]).into_response(),
            }
        });
        let public = json!(keys.public());
        let elsewhere = get(async move || axum::Json(public));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().route("/jwks", jwks).route("/elsewhere", elsewhere);
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { url, keys, answer, asked, is_held, _folder: folder }
    }

    fn config(&self) -> IssuerConfig {
        IssuerConfig {
            admins: None,
            issuer: "https://issuer.example".into(),
            url: self.url.clone(),
            audience: vec!["app".into()],
            algorithms: vec![Algorithm::ES256, Algorithm::EdDSA],
            tenant: TenantSource::Claim { name: "org".into(), prefix: "peer-".into() },
            scopes: Scopes::USUAL,
            jwks: Some(self.url.join("/jwks").unwrap()),
        }
    }

    async fn world(&self) -> World {
        World::new(vec![self.config()]).await
    }

    /// A token for an hour from now, but for what is said otherwise.
    fn token(&self, world: &World, claims: &Value) -> String {
        let now = world.clock.now().as_second();
        let mut all = json!({
            "iss": "https://issuer.example", "aud": "app", "sub": "bob", "org": "acme", "exp": now + HOUR,
        });
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        self.keys.sign(&all).unwrap()
    }

    /// Signs with another key, and tells that one alone.
    fn rotate(&self) {
        self.keys.rotate(true).unwrap();
        self.answer.send_replace(Answer::Keys(json!(self.keys.public())));
    }

    fn asked(&self) -> u32 {
        *self.asked.borrow()
    }

    async fn is_asked_again(&self, before: u32) {
        self.asked.clone().wait_for(|asked| *asked > before).await.unwrap();
    }
}

#[tokio::test]
async fn the_token_of_a_program_ends_at_its_time_though_it_is_remembered() {
    let world = World::new(Vec::new()).await;
    let (_, token) = world.token(Some(Duration::from_secs(10))).await;
    assert!(world.is_good(&token).await);
    world.seconds_pass(9);
    assert!(world.is_good(&token).await);
    world.seconds_pass(1);
    assert!(!world.is_good(&token).await);
}

#[tokio::test]
async fn an_id_token_ends_at_its_time_and_a_minute_though_it_is_remembered() {
    let world = World::new(Vec::new()).await;
    let token = world.ana().await.id_token;
    for seconds in [0, 3_500, 159] {
        world.seconds_pass(seconds);
        assert!(world.is_good(&token).await);
    }
    world.seconds_pass(1);
    assert!(!world.is_good(&token).await);
}

#[tokio::test]
async fn a_session_ends_a_day_after_it_was_used_last() {
    let world = World::new(Vec::new()).await;
    let mut token = world.ana().await.refresh_token;
    for _ in 0..2 {
        world.seconds_pass(24 * 3_600 - 1);
        token = world.identity.refresh(&token).await.unwrap().refresh_token;
    }
    world.seconds_pass(24 * 3_600);
    assert!(matches!(world.identity.refresh(&token).await, Err(SignInError::Wrong)));
}

#[tokio::test]
async fn what_is_revoked_is_good_no_more_though_it_is_remembered() {
    let world = World::new(Vec::new()).await;
    let (token, text) = world.token(None).await;
    let id_token = world.ana().await.id_token;
    assert!(world.is_good(&text).await && world.is_good(&id_token).await);
    assert!(world.identity.revoke_token(token.id).await.unwrap().unwrap().revoked_at.is_some());
    assert!(!world.is_good(&text).await);
    let disable = async |disabled| {
        world.identity.change_user("Ana@example.com", None, Some(disabled)).await.unwrap().unwrap();
    };
    disable(true).await;
    assert!(!world.is_good(&id_token).await);
    disable(false).await;
    assert!(world.is_good(&id_token).await);
    world.identity.rotate(true).unwrap();
    assert!(!world.is_good(&id_token).await);
}

#[tokio::test]
async fn what_is_revoked_is_good_no_more_though_whoever_asked_for_it_has_hung_up() {
    let world = World::new(Vec::new()).await;
    let (token, text) = world.token(None).await;
    assert!(world.is_good(&text).await);
    let revoked = futures_util::future::poll_immediate(world.identity.revoke_token(token.id)).await;
    assert!(revoked.is_none(), "it waits for the disk");
    let forgotten = async {
        while world.is_good(&text).await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), forgotten).await.expect("it is not good any more");
}

#[tokio::test]
async fn a_remembered_token_is_looked_at_again_whatever_the_wall_clock_says() {
    let peer = Peer::new().await;
    let world = peer.world().await;
    let token = peer.token(&world, &json!({}));
    assert!(world.is_good(&token).await);
    peer.rotate();
    world.clock.jump_to(world.clock.now() - SignedDuration::from_hours(1));
    // Another key makes the server ask.
    world.seconds_pass(40);
    assert!(world.is_good(&peer.token(&world, &json!({}))).await);
    assert!(world.is_good(&token).await, "it is remembered");
    world.seconds_pass(300 - 40);
    assert!(!world.is_good(&token).await);
}

#[tokio::test]
async fn clocks_may_differ_by_a_minute() {
    let peer = Peer::new().await;
    let world = peer.world().await;
    let now = world.clock.now().as_second();
    for (claims, good) in [
        (json!({"exp": now - 59}), true),
        (json!({"exp": now - 60}), false),
        (json!({"nbf": now + 60, "iat": now + 60}), true),
        (json!({"nbf": now + 61}), false),
        (json!({"iat": now + 61}), false),
        (json!({"exp": "tomorrow"}), false),
        (json!({"exp": null}), false),
        (json!({"nbf": [1]}), false),
        (json!({"exp": 1e300}), true),
        (json!({"exp": -1e300}), false),
    ] {
        let token = peer.token(&world, &claims);
        assert_eq!(world.is_good(&token).await, good, "{claims}");
    }
}

#[tokio::test]
async fn a_token_must_say_whose_it_is_and_who_it_is_for() {
    let peer = Peer::new().await;
    let world = peer.world().await;
    for (claims, tenant) in [
        (json!({}), Some("peer-acme")),
        (json!({"org": ["acme"]}), Some("peer-acme")),
        (json!({"org": ["acme", "other"]}), None),
        (json!({"org": ""}), None),
        (json!({"org": [""]}), None),
        (json!({"org": []}), None),
        (json!({"org": 7}), None),
        (json!({"org": "ac\u{0}me"}), None),
        (json!({"sub": "bob\n{\"level\":\"ERROR\"}"}), None),
        (json!({"sub": "b".repeat(257)}), None),
        (json!({"sub": ""}), None),
        (json!({"aud": ["other", "app"]}), Some("peer-acme")),
        (json!({"aud": ["other"]}), None),
        (json!({"aud": []}), None),
        (json!({"aud": null, "token_use": "access", "client_id": "app"}), None),
        (json!({"aud": "other", "token_use": "access", "client_id": "app"}), None),
    ] {
        let found = world.identity.verify(&peer.token(&world, &claims)).await.ok();
        assert_eq!(found.as_ref().map(|caller| caller.tenant.as_str()), tenant, "{claims}");
    }
    let caller = world.identity.verify(&peer.token(&world, &json!({}))).await.unwrap();
    assert_eq!((caller.subject.as_str(), caller.scopes), ("https://issuer.example#bob", Scopes::USUAL));
}

#[tokio::test]
async fn a_scope_that_the_issuer_may_not_give_is_not_given() {
    let peer = Peer::new().await;
    let world = peer.world().await;
    for (claims, scopes) in [
        (json!({"scope": "openid profile"}), Scopes::USUAL),
        (json!({"scope": "admin"}), Scopes::NONE),
        (json!({"scope": "openid renders:read admin"}), Scopes::from_iter([Scope::RendersRead])),
        (json!({"scp": ["api/renders:write"]}), Scopes::from_iter([Scope::RendersWrite])),
    ] {
        let caller = world.identity.verify(&peer.token(&world, &claims)).await.unwrap();
        assert_eq!(caller.scopes, scopes, "{claims}");
    }
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_but_not_more_often_than_every_half_minute() {
    let peer = Peer::new().await;
    let world = peer.world().await;
    let old = peer.token(&world, &json!({}));
    assert!(world.is_good(&old).await);
    peer.rotate();
    let new = peer.token(&world, &json!({}));
    assert_eq!((world.is_good(&new).await, peer.asked()), (false, 1));
    world.seconds_pass(30);
    assert_eq!((world.is_good(&new).await, peer.asked()), (true, 2));
    for _ in 0..20 {
        peer.keys.rotate(true).unwrap();
        assert!(!world.is_good(&peer.token(&world, &json!({}))).await);
    }
    assert_eq!(peer.asked(), 2);
}

#[tokio::test]
async fn keys_that_are_known_outlive_an_issuer_that_is_down_and_others_wait_for_it() {
    let peer = Peer::new().await;
    let world = peer.world().await;
    peer.answer.send_replace(Answer::Down);
    let token = peer.token(&world, &json!({"exp": world.clock.now().as_second() + 100 * HOUR}));
    assert!(matches!(world.identity.verify(&token).await, Err(Refused::Unreachable)));
    peer.answer.send_replace(Answer::Keys(json!(peer.keys.public())));
    assert!(
        matches!(world.identity.verify(&token).await, Err(Refused::Unreachable)),
        "it was asked just now"
    );
    world.seconds_pass(30);
    assert!(world.is_good(&token).await);
    peer.answer.send_replace(Answer::Down);
    for seconds in [10 * 60, 3_600, 24 * 3_600] {
        world.seconds_pass(seconds);
        assert!(world.is_good(&token).await, "{seconds}");
    }
}

#[tokio::test]
async fn a_key_that_was_withdrawn_is_good_no_more_once_the_issuer_was_asked() {
    let peer = Peer::new().await;
    let world = peer.world().await;
    let token = peer.token(&world, &json!({}));
    assert!(world.is_good(&token).await);
    peer.rotate();
    world.seconds_pass(10 * 60);
    let asked = peer.asked();
    assert!(world.is_good(&token).await, "nobody waits for the issuer");
    peer.is_asked_again(asked).await;
    // Who has a key that is not known waits for what comes of that.
    assert!(world.is_good(&peer.token(&world, &json!({}))).await);
    world.seconds_pass(5 * 60);
    assert!(!world.is_good(&token).await);
}

#[tokio::test]
async fn keys_that_nobody_asked_for_in_an_hour_are_not_taken_at_their_word() {
    let peer = Peer::new().await;
    let world = peer.world().await;
    let token = peer.token(&world, &json!({"exp": world.clock.now().as_second() + 100 * HOUR}));
    assert!(world.is_good(&token).await);
    peer.rotate();
    world.seconds_pass(3_600);
    assert!(!world.is_good(&token).await);
}

#[tokio::test]
async fn an_issuer_that_withdraws_all_its_keys_is_believed() {
    let peer = Peer::new().await;
    let world = peer.world().await;
    let token = peer.token(&world, &json!({"exp": world.clock.now().as_second() + 100 * HOUR}));
    assert!(world.is_good(&token).await);
    peer.answer.send_replace(Answer::Keys(json!({"keys": []})));
    world.seconds_pass(3_600);
    assert!(!world.is_good(&token).await);
}

#[tokio::test]
async fn who_hangs_up_does_not_end_the_fetch_that_others_wait_for() {
    let peer = Peer::new().await;
    let world = peer.world().await;
    let token = peer.token(&world, &json!({}));
    peer.is_held.send_replace(true);
    let (identity, shown) = (Arc::clone(&world.identity), token.clone());
    let impatient = tokio::spawn(async move { identity.verify(&shown).await.map(drop) });
    peer.is_asked_again(0).await;
    impatient.abort();
    assert!(impatient.await.unwrap_err().is_cancelled());
    peer.is_held.send_replace(false);
    assert!(world.is_good(&token).await, "another fetch would have to wait for half a minute");
    assert_eq!(peer.asked(), 1);
}

#[tokio::test]
async fn nobody_is_redirected_to_other_keys() {
    let peer = Peer::new().await;
    let world = peer.world().await;
    peer.answer.send_replace(Answer::Redirect);
    let token = peer.token(&world, &json!({}));
    assert!(matches!(world.identity.verify(&token).await, Err(Refused::Unreachable)));
}

#[tokio::test]
async fn odd_keys_hide_no_good_one() {
    let peer = Peer::new().await;
    let world = peer.world().await;
    let good = json!(peer.keys.public().keys[0]);
    let with = |changes: Value| {
        let mut key = good.clone();
        key.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        key
    };
    let odd = [
        json!("no key"),
        json!({"kty": "from the future", "kid": good["kid"]}),
        json!({"kty": "oct", "k": "c2VjcmV0", "kid": good["kid"]}),
        json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": good["kid"]}),
        json!({"kty": "OKP", "crv": "X25519", "x": "AQAB", "kid": good["kid"]}),
        with(json!({"use": "enc"})),
        with(json!({"key_ops": ["encrypt"]})),
        with(json!({"alg": "RSA-OAEP"})),
        with(json!({"crv": "P-384"})),
        with(json!({"kid": "another"})),
    ];
    for (keys, is_good) in [
        ([&odd[..], std::slice::from_ref(&good)].concat(), true),
        ([std::slice::from_ref(&good), &odd[..]].concat(), true),
        (odd.to_vec(), false),
        // Nobody knows which one is meant.
        (vec![good.clone(), good.clone()], false),
    ] {
        peer.answer.send_replace(Answer::Keys(json!({"keys": keys})));
        world.seconds_pass(3_600);
        assert_eq!(world.is_good(&peer.token(&world, &json!({}))).await, is_good, "{keys:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_a_token_is_looked_at_no_further() {
    let world = World::new(Vec::new()).await;
    let (_, token) = world.token(None).await;
    for text in ["", ".", "..", "lft_", "lft__", "lfr_0011223344556677_x", "a.b.c", &"a".repeat(1 << 20)] {
        assert!(!world.is_good(text).await, "{text:.40}");
    }
    for cut in 0..token.len() {
        assert!(!world.is_good(&token[..cut]).await);
    }
    assert!(world.is_good(&token).await);
}
