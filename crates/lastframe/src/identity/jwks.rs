//! The public keys of an issuer: those of a foreign one are fetched, kept, and fetched again when they may have changed.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use jsonwebtoken::jwk::{
    AlgorithmParameters as Parameters, EllipticCurve, Jwk, JwkSet, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use lastframe_core::Clock;
use reqwest::redirect::Policy;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

/// Keys are fetched again when they are older.
const FRESH: Duration = Duration::from_secs(10 * 60);
/// Keys that are older are not taken at their word: who comes waits for what the issuer says now.
const STALE: Duration = Duration::from_secs(60 * 60);
/// The least time between two fetches, so that tokens with invented key ids cost the issuer nothing.
const LEAST_BETWEEN: Duration = Duration::from_secs(30);
/// How long an issuer may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes.
const LONGEST: usize = 1 << 20;
/// The shortest modulus of an RSA key, in bytes (RFC 7518, section 3.3).
const SHORTEST_RSA: usize = 256;

/// Public keys.
#[derive(Default)]
pub(super) struct Keys(Vec<Key>);

struct Key {
    /// What tokens call it, if its issuer gave it a name.
    id: Option<String>,
    key: DecodingKey,
    /// What it can verify.
    algorithms: &'static [Algorithm],
    /// The only one that it is for, if its issuer says so.
    only: Option<Algorithm>,
}

impl Keys {
    pub(super) fn new(set: &JwkSet) -> Self {
        Self(set.keys.iter().filter_map(Key::new).collect())
    }

    /// The key for a token that names `kid`, or none, and is signed by `algorithm`. None where there is a choice.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let named = |key: &&Key| kid.is_none_or(|kid| key.id.as_deref() == Some(kid));
        let mut fitting = self.0.iter().filter(|key| key.is_for(algorithm)).filter(named);
        let key = fitting.next()?;
        fitting.next().is_none().then(|| key.key.clone())
    }
}

impl Key {
    /// None of a key that is secret, weak, not for verifying, or of a kind we do not know.
    fn new(jwk: &Jwk) -> Option<Self> {
        let verifies =
            jwk.common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature)
                && jwk.common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
        // A curve has one algorithm. With another one its points would be read as those of another curve.
        let algorithms: &[Algorithm] = match &jwk.algorithm {
            Parameters::RSA(key) if key.n.len() * 3 / 4 >= SHORTEST_RSA => AlgorithmFamily::Rsa.algorithms(),
            Parameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => &[Algorithm::ES256],
            Parameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => &[Algorithm::ES384],
            Parameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
            _ => return None,
        };
        let only = match jwk.common.key_algorithm {
            Some(algorithm) => Some(algorithm.to_string().parse().ok()?),
            None => None,
        };
        let key = DecodingKey::from_jwk(jwk).ok()?;
        verifies.then(|| Self { id: jwk.common.key_id.clone(), key, algorithms, only })
    }

    fn is_for(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm) && self.only.is_none_or(|only| only == algorithm)
    }
}

/// The issuer has never told its keys, and does not tell them now.
#[derive(Debug, thiserror::Error)]
#[error("the issuer of the token cannot be reached")]
pub(super) struct Unreachable;

/// The keys of a foreign issuer.
pub(super) struct Fetched {
    issuer: Url,
    /// Where its keys are; asked of its discovery document when absent.
    jwks: Option<Url>,
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
    /// None until it has told them.
    keys: RwLock<Option<Keys>>,
    times: Mutex<Times>,
    /// Whoever has it fetches.
    turn: tokio::sync::Mutex<()>,
}

/// On the monotonic clock.
#[derive(Clone, Copy, Default)]
struct Times {
    tried: Option<Duration>,
    fetched: Option<Duration>,
}

/// What issuers are asked with.
pub(super) fn http() -> anyhow::Result<reqwest::Client> {
    // What is asked of an https:// URL must not be answered by whatever it points to.
    crate::client::http().redirect(Policy::none()).build().context("cannot set up HTTP")
}

impl Fetched {
    pub(super) fn new(issuer: Url, jwks: Option<Url>, http: reqwest::Client, clock: Arc<dyn Clock>) -> Self {
        Self {
            issuer,
            jwks,
            http,
            clock,
            keys: RwLock::default(),
            times: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// The key for such a token; none when the issuer has no such key.
    ///
    /// # Errors
    /// When no key of the issuer was ever seen.
    pub(super) async fn find(
        self: &Arc<Self>,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Option<DecodingKey>, Unreachable> {
        let known = self.known(kid, algorithm);
        let is_known = matches!(known, Ok(Some(_)));
        if is_known && !self.is_older(FRESH) {
            return known;
        }
        let this = Arc::clone(self);
        let age = if is_known { FRESH } else { Duration::ZERO };
        // A task of its own: who hangs up must not end the fetch that others wait for.
        let refresh = tokio::spawn(async move { this.refresh(age).await });
        // Behind the caller's back: whether the issuer answers is no matter to who has a key that is known.
        if is_known && !self.is_older(STALE) {
            return known;
        }
        if let Err(error) = refresh.await {
            tracing::error!(%error, "fetching the keys of an issuer panicked");
        }
        self.known(kid, algorithm)
    }

    fn known(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Option<DecodingKey>, Unreachable> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        Ok(keys.as_ref().ok_or(Unreachable)?.find(kid, algorithm))
    }

    fn times(&self) -> std::sync::MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether that much time has passed since then.
    fn has_passed(&self, time: Duration, since: Option<Duration>) -> bool {
        since.is_none_or(|since| self.clock.monotonic().saturating_sub(since) >= time)
    }

    fn is_older(&self, age: Duration) -> bool {
        self.has_passed(age, self.times().fetched)
    }

    /// Fetches the keys, if those that are there have that age and the last try was not just now. Keys that are known
    /// stay when it fails. Who comes while somebody fetches waits for what comes of that.
    async fn refresh(&self, age: Duration) {
        let _turn = self.turn.lock().await;
        if !self.is_older(age) || !self.has_passed(LEAST_BETWEEN, self.times().tried) {
            return;
        }
        let now = self.clock.monotonic();
        self.times().tried = Some(now);
        let issuer = self.issuer.as_str();
        match self.fetch().await {
            Ok(keys) => {
                if keys.0.is_empty() {
                    tracing::warn!(issuer, "an issuer has no key that can be used");
                }
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(keys);
                self.times().fetched = Some(now);
            }
            Err(error) => {
                tracing::warn!(issuer, error = format!("{error:#}"), "cannot fetch the keys of an issuer");
            }
        }
    }

    async fn fetch(&self) -> anyhow::Result<Keys> {
        let jwks = match &self.jwks {
            Some(jwks) => jwks.clone(),
            None => self.discover().await?,
        };
        let set: RawSet = self.get(jwks).await?;
        // One by one: a key of a kind we do not know must not hide the others.
        let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect();
        Ok(Keys::new(&JwkSet { keys }))
    }

    async fn discover(&self) -> anyhow::Result<Url> {
        let issuer = self.issuer.as_str().trim_end_matches('/');
        let document: Discovery =
            self.get(format!("{issuer}/.well-known/openid-configuration").parse()?).await?;
        anyhow::ensure!(
            document.issuer.trim_end_matches('/') == issuer,
            "its discovery document is that of {}",
            document.issuer
        );
        check_url(&document.jwks_uri)?;
        let elsewhere = self.issuer.scheme() == "https" && document.jwks_uri.scheme() != "https";
        anyhow::ensure!(!elsewhere, "{} must begin with https://", document.jwks_uri);
        Ok(document.jwks_uri)
    }

    async fn get<T: DeserializeOwned>(&self, url: Url) -> anyhow::Result<T> {
        let asked = url.to_string();
        let fetched = async {
            let mut answer = self.http.get(url).send().await?;
            anyhow::ensure!(answer.status() == reqwest::StatusCode::OK, "it answers {}", answer.status());
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await? {
                body.extend_from_slice(&chunk);
                anyhow::ensure!(body.len() <= LONGEST, "it is longer than {LONGEST} bytes");
            }
            Ok(serde_json::from_slice(&body)?)
        };
        let fetched = tokio::time::timeout(PATIENCE, fetched).await;
        fetched
            .context("it does not answer in time")
            .flatten()
            .with_context(|| format!("cannot read {asked}"))
    }
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: Url,
}

/// Keys that come over an open connection can be anybody's.
pub(crate) fn check_url(url: &Url) -> anyhow::Result<()> {
    let host = url.host_str().unwrap_or_default();
    let loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let safe = url.scheme() == "https" || (url.scheme() == "http" && loopback);
    anyhow::ensure!(safe, "{url} must begin with https:// (http:// is for loopback alone)");
    Ok(())
}
