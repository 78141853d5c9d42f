//! Who is asking: the built-in issuer of tokens, and the verifier of every request.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use lastframe_core::TenantId;
use p256::ecdsa::SigningKey;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::data::{ADMIN_TOKEN, DataFolder};

/// `iss` and `aud` of the tokens of the built-in issuer.
const ISSUER: &str = "lastframe";
/// How long an admin token lives; renewed at a start that finds less than [`RENEWED_BEFORE`] left.
const ADMIN_TOKEN_LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);
const RENEWED_BEFORE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// The tenant of the admin token.
const DEFAULT_TENANT: &str = "default";

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// See renders and their outputs.
    RendersRead,
    /// Submit, cancel and retry renders.
    RendersWrite,
    /// Everything; registering a site names code that the worker runs.
    Admin,
}

impl Scope {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::RendersRead => "renders:read",
            Self::RendersWrite => "renders:write",
            Self::Admin => "admin",
        }
    }
}

/// Who a verified token speaks for.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Whose renders these are.
    pub(crate) tenant: TenantId,
    /// Who the token was given to.
    pub(crate) subject: String,
    scopes: Vec<String>,
}

impl Caller {
    /// Whether the token allows it. `admin` allows everything.
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|have| have == scope.as_str() || have == Scope::Admin.as_str())
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    tenant: String,
    scope: String,
    iat: i64,
    exp: i64,
}

/// Verifies tokens, and issues the admin's.
pub(crate) struct Identity {
    encoding: EncodingKey,
    decoding: DecodingKey,
    /// Tokens whose signature was found good, by their SHA-256: a client sends the same one with every request, and
    /// checking a signature takes longer than queueing a render.
    known: Mutex<HashMap<[u8; 32], Known>>,
}

/// Tokens that are remembered; with more, all are forgotten and found good again.
const MOST_KNOWN: usize = 1_000;

struct Known {
    caller: Caller,
    /// Seconds since 1970.
    expires: i64,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// Reads the signing key and the admin token of a data folder, making what is missing.
    pub(crate) fn open(data: &DataFolder, now: Timestamp) -> anyhow::Result<Self> {
        let pem = data.secret("signing-key.pem", new_key)?;
        let key = SigningKey::from_pkcs8_pem(&pem).context("signing-key.pem holds no P-256 key in PKCS#8")?;
        let public = key
            .verifying_key()
            .to_public_key_pem(LineEnding::LF)
            .context("the signing key has no public half")?;
        let identity = Self {
            encoding: EncodingKey::from_ec_pem(pem.as_bytes())?,
            decoding: DecodingKey::from_ec_pem(public.as_bytes())?,
            known: Mutex::default(),
        };
        let token = data.secret(ADMIN_TOKEN, || identity.admin_token(now))?;
        if identity.verify(token.trim(), now + RENEWED_BEFORE).is_none() {
            data.write_secret(ADMIN_TOKEN, &identity.admin_token(now)?)?;
        }
        Ok(identity)
    }

    /// Who the token speaks for; none when it is not good at `now`.
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Option<Caller> {
        let hash = Sha256::digest(token).into();
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known().get(&hash) {
            return (now.as_second() < known.expires).then(|| known.caller.clone());
        }
        let (caller, expires) = self.decode(token)?;
        let mut known = known();
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(hash, Known { caller: caller.clone(), expires });
        (now.as_second() < expires).then_some(caller)
    }

    /// Who a token with a good signature speaks for, and until when.
    fn decode(&self, token: &str) -> Option<(Caller, i64)> {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // The library would ask the system's clock; ours is injected.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation).ok()?.claims;
        let scopes = claims.scope.split_whitespace().map(str::to_owned).collect();
        Some((Caller { tenant: TenantId::new(claims.tenant), subject: claims.sub, scopes }, claims.exp))
    }

    fn admin_token(&self, now: Timestamp) -> anyhow::Result<String> {
        let claims = Claims {
            iss: ISSUER.into(),
            aud: ISSUER.into(),
            sub: "admin".into(),
            tenant: DEFAULT_TENANT.into(),
            scope: Scope::Admin.as_str().into(),
            iat: now.as_second(),
            exp: (now + ADMIN_TOKEN_LIFETIME).as_second(),
        };
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.encoding)?)
    }
}

fn new_key() -> anyhow::Result<String> {
    let mut secret = [0; 32];
    loop {
        getrandom::fill(&mut secret).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        // All but a vanishing few numbers of 256 bits are keys.
        if let Ok(key) = SigningKey::from_slice(&secret) {
            return Ok(key.to_pkcs8_pem(LineEnding::LF)?.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn opened(folder: &std::path::Path, now: Timestamp) -> (Identity, String) {
        let data = DataFolder::open(folder).unwrap();
        let identity = Identity::open(&data, now).unwrap();
        let token = std::fs::read_to_string(data.join(ADMIN_TOKEN)).unwrap();
        (identity, token)
    }

    #[test]
    fn the_admin_token_works_until_it_expires_and_never_with_a_changed_byte() {
        let folder = tempfile::tempdir().unwrap();
        let (identity, token) = opened(folder.path(), at(1_000_000));
        let caller = identity.verify(&token, at(1_000_001)).expect("a fresh token is good");
        assert!(caller.may(Scope::RendersWrite) && caller.tenant.as_str() == DEFAULT_TENANT);
        assert!(identity.verify(&token, at(1_000_000 + 366 * 24 * 3600)).is_none(), "expired");
        for index in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[index] = if forged[index] == b'A' { b'Z' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            // The last character of a segment may carry padding bits that decode to the same bytes.
            if identity.verify(&forged, at(1_000_001)).is_some() {
                let last = token[index..].starts_with('.') || token.len() == index + 1;
                assert!(last, "byte {index} changed and still good");
            }
        }
    }

    #[test]
    fn keys_and_token_stay_the_same_until_the_token_is_about_to_expire() {
        let folder = tempfile::tempdir().unwrap();
        let (_, first) = opened(folder.path(), at(1_000_000));
        let (_, again) = opened(folder.path(), at(1_000_000 + 24 * 3600));
        assert_eq!(first, again);
        let later = at(1_000_000 + 300 * 24 * 3600);
        let (identity, renewed) = opened(folder.path(), later);
        assert_ne!(first, renewed);
        assert!(identity.verify(&first, later).is_some(), "the old one is good until its own end");
    }
}
