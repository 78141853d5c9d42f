//! Who is asking. Tokens are of three kinds: JSON Web Tokens of the built-in issuer, those of foreign issuers that the
//! configuration names, and the long-lived ones of programs. `Identity::verify` takes them all.

mod attempts;
mod cognito;
mod issue;
mod jwks;
mod keys;
mod known;
mod password;
mod secret;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;

use jiff::Timestamp;
use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::JwkSet;
use lastframe_core::accounts::{Accounts, ApiToken, Scopes, User};
use lastframe_core::ports::QueueError;
use lastframe_core::{Clock, Scope, TenantId};
use sha2::{Digest as _, Sha256};

use self::attempts::Attempts;
use self::keys::SigningKeys;
use self::known::Known;
use self::secret::Secret;
use self::verify::{Issuer, Reject, Rules, Source, TenantRule, Unverified};
use crate::config::{IdentityConfig, IssuerConfig, TenantSource};
use crate::data::{ADMIN_TOKEN, DataFolder};

pub(crate) use self::cognito::Cognito;
pub(crate) use self::issue::{NewUser, SignInError, Tokens, normal};
pub(crate) use self::jwks::check_url;
pub(crate) use self::password::{LONGEST as LONGEST_PASSWORD, SHORTEST as SHORTEST_PASSWORD};

/// `aud` of the tokens of the built-in issuer.
const AUDIENCE: &str = "lastframe";
/// The tenant of the admin token, and of people of whom nobody says another.
pub(crate) const DEFAULT_TENANT: &str = "default";

/// Who a verified token speaks for.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Whose renders these are.
    pub(crate) tenant: TenantId,
    /// Who it is, for the audit log: `user:ana@example.com`, `token:ci`, `https://issuer#sub`.
    pub(crate) subject: String,
    /// The id of the token, of a program's.
    pub(crate) token: Option<String>,
    /// What they may do.
    pub(crate) scopes: Scopes,
}

/// Why nobody is let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The token is not good.
    #[error("the token is not valid here, or has expired")]
    Token,
    /// Its issuer has never told its keys, and does not tell them now.
    #[error("the issuer of the token cannot be reached; try again")]
    Unreachable,
    /// Who has which token cannot be read.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Verifies tokens, and issues them.
pub(crate) struct Identity {
    accounts: Arc<dyn Accounts>,
    clock: Arc<dyn Clock>,
    keys: Arc<SigningKeys>,
    /// Has the people, where they are not ours.
    cognito: Option<Cognito>,
    own: Issuer,
    foreign: Vec<Issuer>,
    config: IdentityConfig,
    known: Arc<Known>,
    attempts: Attempts,
}

/// The longest token, in bytes. Those of large providers have some three thousand.
const LONGEST: usize = 16 << 10;

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// Reads the signing keys and the admin token of a data folder, making what is missing. `url` is what the built-in
    /// issuer is called, without a slash at the end.
    pub(crate) async fn open(
        data: Arc<DataFolder>,
        accounts: Arc<dyn Accounts>,
        clock: Arc<dyn Clock>,
        url: &str,
        config: IdentityConfig,
    ) -> anyhow::Result<Self> {
        let identity = Self::of(Arc::clone(&data), accounts, clock, url, config, None)?;
        let token = data.secret(ADMIN_TOKEN, || Ok(String::new()))?;
        if identity.verify(token.trim()).await.is_err() {
            let usual = NewToken {
                name: "admin".into(),
                tenant: TenantId::new(DEFAULT_TENANT),
                scopes: Scopes::from_iter([Scope::Admin]),
                expires_at: None,
            };
            let (_, text) = identity.create_token(usual).await?;
            data.write_secret(ADMIN_TOKEN, &text)?;
        }
        Ok(identity)
    }

    /// Where all people are a user pool's: nothing is signed here, and there is no admin token. The pool's group of admins
    /// may do everything.
    pub(crate) fn of_pool(
        data: Arc<DataFolder>,
        accounts: Arc<dyn Accounts>,
        clock: Arc<dyn Clock>,
        url: &str,
        config: IdentityConfig,
        cognito: Cognito,
    ) -> anyhow::Result<Self> {
        Self::of(data, accounts, clock, url, config, Some(cognito))
    }

    /// Whether people are added and changed elsewhere.
    pub(crate) fn has_people_elsewhere(&self) -> bool {
        self.cognito.is_some()
    }

    fn of(
        data: Arc<DataFolder>,
        accounts: Arc<dyn Accounts>,
        clock: Arc<dyn Clock>,
        url: &str,
        config: IdentityConfig,
        cognito: Option<Cognito>,
    ) -> anyhow::Result<Self> {
        let keys = Arc::new(SigningKeys::open(data)?);
        let rules = Rules {
            issuer: url.to_owned(),
            audience: vec![AUDIENCE.to_owned()],
            algorithms: vec![Algorithm::ES256],
            tenant: TenantRule::Claim { name: "tenant".into(), prefix: String::new() },
            scopes: Scopes::ALL,
            admins: None,
        };
        let own = Issuer { rules, keys: Source::Own(Arc::clone(&keys)) };
        let http = jwks::http()?;
        let foreign = config.issuers.iter().map(|issuer| foreign(issuer, &http, &clock)).collect();
        let attempts = Attempts::new(Arc::clone(&clock));
        let known = Arc::default();
        Ok(Self { accounts, clock, keys, cognito, own, foreign, config, known, attempts })
    }

    /// Who the token speaks for now.
    pub(crate) async fn verify(&self, token: &str) -> Result<Caller, Refused> {
        if token.len() > LONGEST {
            return Err(Refused::Token);
        }
        let (now, monotonic) = (self.clock.now().as_second(), self.clock.monotonic());
        let hash = Sha256::digest(token).into();
        let generation = match self.known.find(&hash, now, monotonic) {
            Ok(caller) => return Ok(caller),
            Err(generation) => generation,
        };
        let (caller, expires) = self.examine(token, now).await?;
        // Where there are others like this one, nobody tells it that one of them has ended a token.
        if self.cognito.is_none() || caller.token.is_none() {
            self.known.remember(hash, generation, caller.clone(), expires, monotonic);
        }
        Ok(caller)
    }

    /// Who it speaks for, and until when.
    async fn examine(&self, token: &str, now: i64) -> Result<(Caller, i64), Refused> {
        if let Some((id, shown)) = secret::read(secret::API, token) {
            return match self.accounts.token(id).await? {
                // Hashes of random secrets: how long the comparison takes tells nothing of use.
                Some((token, secret)) if secret == shown => good_token(token, now),
                _ => Err(Refused::Token),
            };
        }
        match self.examine_jwt(token, now).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(Reject::Unreachable(_))) => Err(Refused::Unreachable),
            Ok(Err(why)) => {
                tracing::debug!(%why, "a token was refused");
                Err(Refused::Token)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn examine_jwt(&self, token: &str, now: i64) -> Result<Result<(Caller, i64), Reject>, QueueError> {
        let verified = async {
            let token = Unverified::read(token)?;
            let issuer = token.issuer(std::iter::once(&self.own).chain(&self.foreign))?;
            Ok((issuer, token.verify(issuer, now).await?))
        };
        let (issuer, verified) = match verified.await {
            Ok(verified) => verified,
            Err(why) => return Ok(Err(why)),
        };
        let verify::Verified { tenant, subject, scopes, expires } = verified;
        if matches!(issuer.keys, Source::Foreign(_)) {
            let subject = format!("{}#{subject}", issuer.rules.issuer);
            return Ok(Ok((Caller { tenant, subject, token: None, scopes }, expires)));
        }
        // What a person may do is what is true now, not when they signed in.
        let user = self.accounts.user(&subject).await?.filter(|user| !user.disabled);
        let caller = user.map(|user| Caller {
            subject: format!("user:{}", user.email),
            token: None,
            tenant: user.tenant,
            scopes: user.scopes,
        });
        Ok(caller.map(|caller| (caller, expires)).ok_or(Reject::Bad("its user is not there any more")))
    }

    /// Ends the token of a program. None when there is no such token.
    pub(crate) async fn revoke_token(&self, id: String) -> anyhow::Result<Option<ApiToken>> {
        let accounts = Arc::clone(&self.accounts);
        self.change(async move { accounts.revoke_token(&id).await }).await
    }

    /// Changes what a person may do, or whether they may do anything. None when there is nobody of that address.
    pub(crate) async fn change_user(
        &self,
        email: &str,
        scopes: Option<Scopes>,
        disabled: Option<bool>,
    ) -> anyhow::Result<Option<User>> {
        let (accounts, email) = (Arc::clone(&self.accounts), normal(email));
        self.change(async move { accounts.change_user(&email, scopes, disabled).await }).await
    }

    /// Makes a change after which tokens may be good no more, and forgets what was remembered of them. A task of its
    /// own: whoever asked for it may hang up when the change is made and nothing is forgotten.
    async fn change<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, QueueError>> + Send + 'static,
    ) -> anyhow::Result<T> {
        let known = Arc::clone(&self.known);
        let change = tokio::spawn(async move {
            let changed = change.await;
            known.forget();
            changed
        });
        Ok(change.await??)
    }

    /// Makes a token for a program. Its text is told this once.
    pub(crate) async fn create_token(&self, new: NewToken) -> anyhow::Result<(ApiToken, String)> {
        let secret = Secret::new(secret::API, None)?;
        let token = ApiToken {
            id: secret.id,
            name: new.name,
            tenant: new.tenant,
            scopes: new.scopes,
            created_at: self.clock.now(),
            expires_at: new.expires_at,
            revoked_at: None,
        };
        self.accounts.add_token(token.clone(), secret.hash).await?;
        Ok((token, secret.text))
    }

    /// The public keys of the built-in issuer.
    pub(crate) fn public_keys(&self) -> JwkSet {
        self.keys.public()
    }

    /// Signs with a new key from now on; see [`SigningKeys::rotate`].
    pub(crate) fn rotate(&self, distrust: bool) -> anyhow::Result<Vec<String>> {
        let keys = self.keys.rotate(distrust)?;
        self.known.forget();
        Ok(keys)
    }
}

/// Whether text could be a token. Nothing of it is believed.
pub(crate) fn could_be(text: &str) -> bool {
    secret::read(secret::API, text).is_some() || Unverified::read(text).is_ok()
}

/// A token of a program that is to be made.
pub(crate) struct NewToken {
    pub(crate) name: String,
    pub(crate) tenant: TenantId,
    pub(crate) scopes: Scopes,
    pub(crate) expires_at: Option<Timestamp>,
}

fn good_token(token: ApiToken, now: i64) -> Result<(Caller, i64), Refused> {
    let expires = token.expires_at.map_or(i64::MAX, Timestamp::as_second);
    if token.revoked_at.is_some() || expires <= now {
        return Err(Refused::Token);
    }
    let subject = format!("token:{}", token.name);
    Ok((Caller { tenant: token.tenant, subject, token: Some(token.id), scopes: token.scopes }, expires))
}

fn foreign(config: &IssuerConfig, http: &reqwest::Client, clock: &Arc<dyn Clock>) -> Issuer {
    let rules = Rules {
        issuer: config.issuer.clone(),
        audience: config.audience.clone(),
        algorithms: config.algorithms.clone(),
        tenant: match &config.tenant {
            TenantSource::Fixed(tenant) => TenantRule::Fixed(TenantId::new(tenant.clone())),
            TenantSource::Claim { name, prefix } => {
                TenantRule::Claim { name: name.clone(), prefix: prefix.clone() }
            }
        },
        scopes: config.scopes,
        admins: config.admins.clone(),
    };
    let keys = jwks::Fetched::new(config.url.clone(), config.jwks.clone(), http.clone(), Arc::clone(clock));
    Issuer { rules, keys: Source::Foreign(Arc::new(keys)) }
}
