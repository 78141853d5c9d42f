//! The built-in issuer: people sign in with a password and get tokens.

use std::time::Duration;

use jiff::SignedDuration;
use lastframe_core::TenantId;
use lastframe_core::accounts::{AddUserError, Renewal, Scopes, Session, User};
use lastframe_core::ports::QueueError;
use serde::{Deserialize, Serialize};

use super::secret::{self, Secret};
use super::{AUDIENCE, Identity, password};

/// What somebody gets who signs in.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tokens {
    /// For `Authorization: Bearer`.
    pub(crate) id_token: String,
    /// For new tokens, once: with them comes the next one.
    pub(crate) refresh_token: String,
    /// Seconds until `idToken` expires.
    pub(crate) expires_in: i64,
    /// `Bearer`.
    pub(crate) token_type: String,
}

/// Why nobody was signed in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignInError {
    /// The password is not that of anybody of that address, who is not disabled; or the refresh token is used up.
    #[error("this does not let you in")]
    Wrong,
    /// Passwords were tried for that address too often. How long until the next may be.
    #[error("too many attempts to sign in")]
    TooMany(Duration),
    /// It is them, and something else has to be done first.
    #[error("the user pool wants {0} first")]
    Unfinished(String),
    /// Something failed.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

impl From<QueueError> for SignInError {
    fn from(error: QueueError) -> Self {
        Self::Failed(error.into())
    }
}

#[derive(Debug, Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    email: &'a str,
    tenant: &'a str,
    scope: String,
    iat: i64,
    exp: i64,
}

/// A person who is to be added.
pub(crate) struct NewUser {
    pub(crate) email: String,
    pub(crate) password: String,
    pub(crate) tenant: TenantId,
    pub(crate) scopes: Scopes,
}

/// An e-mail address as it is kept: people do not care for the case of theirs.
pub(crate) fn normal(email: &str) -> String {
    email.trim().to_lowercase()
}

impl Identity {
    /// Adds a person.
    pub(crate) async fn add_user(&self, new: NewUser) -> anyhow::Result<Result<User, AddUserError>> {
        let id = lastframe_core::hex::encode(&secret::random::<16>()?);
        let user = User {
            id,
            email: normal(&new.email),
            tenant: new.tenant,
            scopes: new.scopes,
            disabled: false,
            created_at: self.clock.now(),
        };
        let phc = password::hash(new.password).await?;
        Ok(self.accounts.add_user(user.clone(), phc).await.map(|()| user))
    }

    /// Gives somebody another password, and ends their sessions. Whether there is somebody of that address.
    pub(crate) async fn set_password(&self, email: &str, password: String) -> anyhow::Result<bool> {
        let phc = password::hash(password).await?;
        Ok(self.accounts.set_password(&normal(email), phc).await?)
    }

    /// Starts a session.
    pub(crate) async fn sign_in(&self, email: &str, password: String) -> Result<Tokens, SignInError> {
        let address = normal(email);
        if let Some(cognito) = &self.cognito {
            return cognito.sign_in(&address, &password).await;
        }
        self.attempts.begin(&address).map_err(SignInError::TooMany)?;
        let found = self.accounts.user_by_email(&address).await?;
        let (user, phc) = found.unzip();
        let right = password::verify(password, phc.clone()).await?;
        let (Some(user), Some(phc), true) = (user, phc, right) else { return Err(SignInError::Wrong) };
        let secret = Secret::new(secret::REFRESH, None)?;
        let expires_at = self.clock.now() + self.config.refresh_lifetime;
        let session = Session { id: secret.id, user: user.id.clone(), expires_at };
        // Nobody may have been disabled, and no password changed, while that password was looked at.
        if !self.accounts.start_session(session, secret.hash, phc).await? {
            return Err(SignInError::Wrong);
        }
        self.attempts.succeeded(&address);
        Ok(self.tokens(&user, secret.text)?)
    }

    /// Goes on with a session. A refresh token that was used before ends it: two have it.
    pub(crate) async fn refresh(&self, token: &str) -> Result<Tokens, SignInError> {
        if let Some(cognito) = &self.cognito {
            return cognito.refresh(token).await;
        }
        let (id, shown) = secret::read(secret::REFRESH, token).ok_or(SignInError::Wrong)?;
        let next = Secret::new(secret::REFRESH, Some(id))?;
        let until = self.clock.now() + self.config.refresh_lifetime;
        match self.accounts.renew_session(id, shown, next.hash, until).await? {
            Renewal::Renewed(user) => Ok(self.tokens(&user, next.text)?),
            Renewal::Reused => {
                tracing::warn!(session = id, "a refresh token was used twice; its session is ended");
                Err(SignInError::Wrong)
            }
            Renewal::Unknown => Err(SignInError::Wrong),
        }
    }

    /// Ends a session. Whether there was one is nobody's business.
    pub(crate) async fn sign_out(&self, token: &str) -> anyhow::Result<()> {
        if let Some(cognito) = &self.cognito {
            return cognito.sign_out(token).await;
        }
        match secret::read(secret::REFRESH, token) {
            Some((id, shown)) => Ok(self.accounts.end_session(id, shown).await?),
            None => Ok(()),
        }
    }

    fn tokens(&self, user: &User, refresh_token: String) -> anyhow::Result<Tokens> {
        let now = self.clock.now();
        let lifetime: SignedDuration = self.config.token_lifetime;
        let id_token = self.keys.sign(&Claims {
            iss: &self.own.rules.issuer,
            aud: AUDIENCE,
            sub: &user.id,
            email: &user.email,
            tenant: user.tenant.as_str(),
            scope: user.scopes.to_string(),
            iat: now.as_second(),
            exp: (now + lifetime).as_second(),
        })?;
        let expires_in = lifetime.as_secs();
        Ok(Tokens { id_token, refresh_token, expires_in, token_type: "Bearer".into() })
    }
}
