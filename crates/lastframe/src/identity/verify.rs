//! What a JSON Web Token must be to be good here, whoever has issued it.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use lastframe_core::accounts::Scopes;
use lastframe_core::request::check_name;
use lastframe_core::{Scope, TenantId};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::jwks::{Fetched, Unreachable};
use super::keys::SigningKeys;

/// Seconds by which the clocks of issuer and server may differ.
const SKEW: f64 = 60.0;
/// What a token may say it is (`typ`). Tokens for logging out, for proofs and for refreshing say something else.
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// Why a token is not good.
#[derive(Debug, thiserror::Error)]
pub(super) enum Reject {
    /// It never was, or is not here.
    #[error("{0}")]
    Bad(&'static str),
    /// It was.
    #[error("it has expired")]
    Expired,
    /// Nobody can say.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
}

/// Whose tokens are good, and what they stand for.
#[derive(Debug)]
pub(super) struct Rules {
    /// `iss`, to the letter.
    pub(super) issuer: String,
    /// One of these must be among `aud`, or be the `client_id` of a Cognito access token.
    pub(super) audience: Vec<String>,
    /// Algorithms that its signatures may have.
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) tenant: TenantRule,
    /// The most that its tokens may allow; what those allow that name no scope of ours.
    pub(super) scopes: Scopes,
    /// A claim, and the word in it that allows everything.
    pub(super) admins: Option<(String, String)>,
}

/// How a token says whose it is.
#[derive(Debug)]
pub(super) enum TenantRule {
    /// All are of one tenant.
    Fixed(TenantId),
    /// A claim says it.
    Claim {
        /// Its name.
        name: String,
        /// Put before what it says, so that two issuers cannot name each other's tenants.
        prefix: String,
    },
}

/// Where the keys of an issuer are.
pub(super) enum Source {
    Own(Arc<SigningKeys>),
    Foreign(Arc<Fetched>),
}

/// An issuer whose tokens are good here.
pub(super) struct Issuer {
    pub(super) rules: Rules,
    pub(super) keys: Source,
}

/// What a token says, found to be true.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) tenant: TenantId,
    pub(super) subject: String,
    pub(super) scopes: Scopes,
    /// Seconds since 1970.
    pub(super) expires: i64,
}

/// A token whose issuer is known from what it says of itself, nothing of it believed yet.
pub(super) struct Unverified<'a> {
    text: &'a str,
    header: Header,
    issuer: String,
}

impl<'a> Unverified<'a> {
    pub(super) fn read(text: &'a str) -> Result<Self, Reject> {
        #[derive(Deserialize)]
        struct Peek {
            iss: String,
        }
        let header =
            jsonwebtoken::decode_header(text).map_err(|_| Reject::Bad("its header cannot be read"))?;
        if header.crit.is_some() {
            return Err(Reject::Bad("it has extensions that must be understood"));
        }
        if header.typ.as_ref().is_some_and(|typ| !TYPES.contains(&typ.to_ascii_lowercase().as_str())) {
            return Err(Reject::Bad("it is a token for something else"));
        }
        let Peek { iss } = jsonwebtoken::dangerous::insecure_decode_claims(text)
            .map_err(|_| Reject::Bad("its claims cannot be read"))?;
        Ok(Self { text, header, issuer: iss })
    }

    /// Among these, the one that it says has issued it.
    pub(super) fn issuer<'i>(
        &self,
        mut issuers: impl Iterator<Item = &'i Issuer>,
    ) -> Result<&'i Issuer, Reject> {
        issuers
            .find(|issuer| issuer.rules.issuer == self.issuer)
            .ok_or(Reject::Bad("its issuer is not one of ours"))
    }

    /// What it says, if that is true at `now`, in seconds since 1970.
    pub(super) async fn verify(self, issuer: &Issuer, now: i64) -> Result<Verified, Reject> {
        let Issuer { rules, keys } = issuer;
        let (kid, algorithm) = (self.header.kid.as_deref(), self.header.alg);
        if !rules.algorithms.contains(&algorithm) {
            return Err(Reject::Bad("its algorithm is not allowed"));
        }
        // Only keys that we have from the issuer itself; what the header brings or points to is not looked at.
        let key = match keys {
            Source::Own(keys) => keys.with(|keys| keys.find(kid, algorithm)),
            Source::Foreign(keys) => keys.find(kid, algorithm).await?,
        };
        let key = key.ok_or(Reject::Bad("its key is not one of its issuer's"))?;
        rules.check(&signed(self.text, &key, algorithm)?.0, now)
    }
}

/// The claims of a token whose signature is good.
fn signed(text: &str, key: &DecodingKey, algorithm: Algorithm) -> Result<Claims, Reject> {
    let mut validation = Validation::new(algorithm);
    // Claims are checked below: the library would ask the system's clock, and knows no `client_id`.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    match jsonwebtoken::decode(text, key, &validation) {
        Ok(token) => Ok(token.claims),
        Err(_) => Err(Reject::Bad("its signature is wrong")),
    }
}

/// What a token says, each thing once: of two that say otherwise another reader may believe the other.
struct Claims(Map<String, Value>);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;

        impl<'de> Visitor<'de> for Once {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("claims")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
                let mut claims = Map::new();
                while let Some((name, value)) = map.next_entry()? {
                    if claims.insert(name, value).is_some() {
                        return Err(A::Error::custom("a claim is made twice"));
                    }
                }
                Ok(Claims(claims))
            }
        }

        deserializer.deserialize_map(Once)
    }
}

impl Rules {
    fn check(&self, claims: &Map<String, Value>, now: i64) -> Result<Verified, Reject> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        if text("iss") != Some(&self.issuer) {
            return Err(Reject::Bad("its issuer is not one of ours"));
        }
        if !self.is_for_us(claims) {
            return Err(Reject::Bad("it is for somebody else"));
        }
        let expires = self.check_time(claims, now)?;
        // It is told to people and to logs; OpenID Connect allows 255 characters.
        let subject = text("sub").filter(|subject| check_name("", subject).is_none());
        let subject = subject.ok_or(Reject::Bad("it does not say who it is for"))?.to_owned();
        Ok(Verified { tenant: self.tenant.of(claims)?, subject, scopes: self.scopes_of(claims), expires })
    }

    fn is_for_us(&self, claims: &Map<String, Value>) -> bool {
        let ours = |audience: &Value| {
            audience.as_str().is_some_and(|name| self.audience.iter().any(|our| our == name))
        };
        match claims.get("aud") {
            Some(Value::Array(all)) => all.iter().any(ours),
            Some(one) => ours(one),
            // Cognito's access tokens have no `aud`.
            None => {
                claims.get("token_use").is_some_and(|usage| usage == "access")
                    && claims.get("client_id").is_some_and(ours)
            }
        }
    }

    fn check_time(&self, claims: &Map<String, Value>, now: i64) -> Result<i64, Reject> {
        let seconds = |name: &'static str| match claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or(Reject::Bad("it has a time that is none")),
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "seconds since 1970 have 34 bits for some centuries to come"
        )]
        let now = now as f64;
        let expires = seconds("exp")?.ok_or(Reject::Bad("it does not say when it expires"))?;
        if [seconds("nbf")?, seconds("iat")?].into_iter().flatten().any(|begin| begin > now + SKEW) {
            return Err(Reject::Bad("it is not good yet"));
        }
        if expires <= now - SKEW {
            return Err(Reject::Expired);
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a time that is too far off becomes the last there is"
        )]
        let expires = (expires + SKEW) as i64;
        Ok(expires)
    }

    /// The scopes of ours among those that it names, but for any that its issuer may not give; all of these when it names
    /// none. Cognito and others write the name of a resource before them, and a slash.
    fn scopes_of(&self, claims: &Map<String, Value>) -> Scopes {
        let words = |value: &Value| -> Vec<String> {
            match value {
                Value::String(text) => text.split_whitespace().map(str::to_owned).collect(),
                Value::Array(all) => all.iter().filter_map(|word| Some(word.as_str()?.to_owned())).collect(),
                _ => Vec::new(),
            }
        };
        if let Some((claim, word)) = &self.admins
            && claims.get(claim).is_some_and(|value| words(value).contains(word))
        {
            return Scopes::from_iter([Scope::Admin]);
        }
        let named: Scopes = ["scope", "scp"]
            .into_iter()
            .filter_map(|claim| claims.get(claim))
            .flat_map(words)
            .filter_map(|word| word.rsplit('/').next()?.parse::<Scope>().ok())
            .collect();
        if named.is_empty() { self.scopes } else { named.and(self.scopes) }
    }
}

impl TenantRule {
    fn of(&self, claims: &Map<String, Value>) -> Result<TenantId, Reject> {
        let (name, prefix) = match self {
            Self::Fixed(tenant) => return Ok(tenant.clone()),
            Self::Claim { name, prefix } => (name, prefix),
        };
        let value = match claims.get(name) {
            // A list of groups, say: with more than one, nobody knows which is meant.
            Some(Value::Array(all)) if all.len() == 1 => all.first(),
            value => value,
        };
        let value = value.and_then(Value::as_str).filter(|value| !value.is_empty());
        let tenant = value.map(|value| format!("{prefix}{value}"));
        let tenant = tenant.filter(|tenant| check_name("", tenant).is_none());
        tenant.map(TenantId::new).ok_or(Reject::Bad("it does not say whose it is"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_the_group_of_admins_may_do_everything_and_nobody_else_by_saying_so() {
        let rules = Rules {
            issuer: "https://issuer.example".into(),
            audience: vec!["app".into()],
            algorithms: vec![Algorithm::RS256],
            tenant: TenantRule::Fixed(TenantId::new("t")),
            scopes: Scopes::USUAL,
            admins: Some(("cognito:groups".into(), "admin".into())),
        };
        let scopes = |claims: Value| rules.scopes_of(claims.as_object().unwrap());
        let admin = |claims: Value| scopes(claims).allow(Scope::Admin);
        assert!(admin(serde_json::json!({"cognito:groups": ["editors", "admin"]})));
        assert_eq!(scopes(serde_json::json!({"cognito:groups": ["administrators"]})), Scopes::USUAL);
        assert!(!admin(serde_json::json!({"groups": ["admin"], "custom:groups": "admin", "scope": "admin"})));
    }

    #[test]
    fn a_claim_that_is_made_twice_is_not_believed() {
        assert!(serde_json::from_str::<Claims>(r#"{"org": "a", "sub": "b"}"#).is_ok());
        assert!(serde_json::from_str::<Claims>(r#"{"org": "a", "org": "b"}"#).is_err());
        assert!(serde_json::from_str::<Claims>(r#"{"org": "a", "\u006frg": "a"}"#).is_err());
        assert!(serde_json::from_str::<Claims>("[]").is_err());
    }
}
