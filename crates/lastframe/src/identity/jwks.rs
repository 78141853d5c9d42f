//! The public keys of an issuer: those of a foreign one are fetched, kept, and fetched again when they may have changed.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use lastframe_core::Clock;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use url::Url;

/// Keys are fetched again when they are older.
const FRESH: Duration = Duration::from_secs(10 * 60);
/// The least time between two fetches, so that tokens with invented key ids cost the issuer nothing.
const LEAST_BETWEEN: Duration = Duration::from_secs(30);
/// How long an issuer may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes.
const LONGEST: usize = 1 << 20;

/// Public keys, by their ids.
#[derive(Default)]
pub(super) struct Keys {
    named: HashMap<String, Key>,
    /// Those that their issuer gave no id.
    nameless: Vec<Key>,
}

struct Key {
    key: DecodingKey,
    /// The only algorithm it is for, if its issuer says so.
    algorithm: Option<Algorithm>,
}

impl Keys {
    pub(super) fn new(set: &JwkSet) -> Self {
        let mut keys = Self::default();
        for jwk in &set.keys {
            let Some(key) = Key::new(jwk) else { continue };
            match &jwk.common.key_id {
                Some(id) => drop(keys.named.insert(id.clone(), key)),
                None => keys.nameless.push(key),
            }
        }
        keys
    }

    /// The key for a token that names `kid`, or none, and is signed by `algorithm`.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let key = match kid {
            Some(kid) => self.named.get(kid)?,
            // Only where there is no choice.
            None => match (self.nameless.as_slice(), self.named.len()) {
                ([key], 0) => key,
                ([], 1) => self.named.values().next()?,
                _ => return None,
            },
        };
        let fits =
            key.key.family() == family(algorithm) && key.algorithm.is_none_or(|only| only == algorithm);
        fits.then(|| key.key.clone())
    }

    fn is_empty(&self) -> bool {
        self.named.is_empty() && self.nameless.is_empty()
    }
}

impl Key {
    /// None of a key that is secret, or not for signatures, or of a kind we do not know.
    fn new(jwk: &Jwk) -> Option<Self> {
        let for_signatures =
            jwk.common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature);
        if matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_)) || !for_signatures {
            return None;
        }
        let algorithm = match jwk.common.key_algorithm {
            Some(algorithm) => Some(algorithm.to_string().parse().ok()?),
            None => None,
        };
        Some(Self { key: DecodingKey::from_jwk(jwk).ok()?, algorithm })
    }
}

fn family(algorithm: Algorithm) -> AlgorithmFamily {
    use Algorithm as A;
    match algorithm {
        A::ES256 | A::ES384 => AlgorithmFamily::Ec,
        A::EdDSA => AlgorithmFamily::Ed,
        A::RS256 | A::RS384 | A::RS512 | A::PS256 | A::PS384 | A::PS512 => AlgorithmFamily::Rsa,
        _ => AlgorithmFamily::Hmac,
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
    keys: RwLock<Arc<Keys>>,
    times: Mutex<Times>,
}

/// On the monotonic clock.
#[derive(Default)]
struct Times {
    tried: Option<Duration>,
    fetched: Option<Duration>,
}

impl Fetched {
    pub(super) fn new(issuer: Url, jwks: Option<Url>, http: reqwest::Client, clock: Arc<dyn Clock>) -> Self {
        Self { issuer, jwks, http, clock, keys: RwLock::default(), times: Mutex::default() }
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
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
        if let Some(key) = self.keys().find(kid, algorithm) {
            // Behind the caller's back: whether the issuer answers is no matter to who has a key that is known.
            if let Ok(times) = self.times.try_lock()
                && self.is_due(&times)
            {
                drop(times);
                let this = Arc::clone(self);
                tokio::spawn(async move { this.refresh(FRESH).await });
            }
            return Ok(Some(key));
        }
        self.refresh(Duration::ZERO).await;
        let keys = self.keys();
        if keys.is_empty() { Err(Unreachable) } else { Ok(keys.find(kid, algorithm)) }
    }

    fn is_due(&self, times: &Times) -> bool {
        let now = self.clock.monotonic();
        times.fetched.is_none_or(|at| now.saturating_sub(at) >= FRESH) && self.may_try(times)
    }

    fn may_try(&self, times: &Times) -> bool {
        let now = self.clock.monotonic();
        times.tried.is_none_or(|at| now.saturating_sub(at) >= LEAST_BETWEEN)
    }

    /// Fetches the keys, if those that are there have that age and the last try was not just now. Keys that are known
    /// stay when it fails. Who comes while somebody fetches waits for what comes of that.
    async fn refresh(&self, age: Duration) {
        let mut times = self.times.lock().await;
        let old = times.fetched.is_none_or(|at| self.clock.monotonic().saturating_sub(at) >= age);
        if !old || !self.may_try(&times) {
            return;
        }
        times.tried = Some(self.clock.monotonic());
        match self.fetch().await {
            Ok(keys) => {
                times.fetched = times.tried;
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
            }
            Err(error) => {
                let issuer = self.issuer.as_str();
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
        let keys = Keys::new(&JwkSet { keys });
        anyhow::ensure!(!keys.is_empty(), "none of its keys can be used");
        Ok(keys)
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
        Ok(document.jwks_uri)
    }

    async fn get<T: DeserializeOwned>(&self, url: Url) -> anyhow::Result<T> {
        let asked = url.to_string();
        let fetched = async {
            let mut answer = self.http.get(url).send().await?.error_for_status()?;
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
