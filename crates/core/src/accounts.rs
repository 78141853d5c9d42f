//! Who may ask: people, the tokens of programs, and what each may do.

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ports::QueueError;
use crate::render::{TenantId, words};

words! {
    /// A kind of thing that a token may be good for.
    Scope {
        /// See renders and their outputs, and the sites they are made from.
        RendersRead = "renders:read",
        /// Submit, cancel and retry renders, and steer their groups.
        RendersWrite = "renders:write",
        /// Give a render `envVariables` and `chromiumOptions`.
        RendersEnvironment = "renders:environment",
        /// Add and remove sites: code that is run in a browser here.
        SitesWrite = "sites:write",
        /// Read the figures of the server as a whole, at `/metrics`.
        MetricsRead = "metrics:read",
        /// Everything, for all tenants.
        Admin = "admin",
    }
}

/// A set of [`Scope`]s. As text: their words, with spaces between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// None.
    pub const NONE: Self = Self(0);
    /// All there are.
    pub const ALL: Self = Self((1 << Scope::ALL.len()) - 1);
    /// What a person or a program needs that renders what others have set up.
    pub const USUAL: Self = Self(1 << Scope::RendersRead as u8 | 1 << Scope::RendersWrite as u8);

    /// Whether it holds that scope. Admin stands for every other.
    #[must_use]
    pub const fn allow(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8 | 1 << Scope::Admin as u8) != 0
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that both hold.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Its scopes, in the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.0 & (1 << *scope as u8) != 0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | 1 << scope as u8))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

impl FromStr for Scopes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split_whitespace().map(str::parse).collect::<Result<_, _>>()
    }
}

/// A person who signs in with the built-in issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Never given to another: what tokens carry as `sub`.
    pub id: String,
    /// In lower case; what the person signs in with.
    pub email: String,
    /// Whose renders are theirs.
    pub tenant: TenantId,
    /// What they may do.
    pub scopes: Scopes,
    /// Whether they can sign in, and whether tokens they have are good.
    pub disabled: bool,
    /// When they were added.
    pub created_at: Timestamp,
}

/// The long-lived right of a program to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// Its public half, by which it is named and found.
    pub id: String,
    /// What a person calls it.
    pub name: String,
    /// Whose renders are its own.
    pub tenant: TenantId,
    /// What it may do.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; never when absent.
    pub expires_at: Option<Timestamp>,
    /// When somebody ended it.
    pub revoked_at: Option<Timestamp>,
}

/// The right of a signed-in person to new tokens, until it ends. Each use replaces its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its public half.
    pub id: String,
    /// The [`User::id`].
    pub user: String,
    /// When it ends unless it is used.
    pub expires_at: Timestamp,
}

/// SHA-256 of a secret of at least 128 random bits. Passwords need more: they are kept as a PHC string of argon2id.
pub type SecretHash = [u8; 32];

/// Why a person was not added.
#[derive(Debug, thiserror::Error)]
pub enum AddUserError {
    /// There is one with that address.
    #[error("there is a user with that e-mail address")]
    Exists,
    /// The storage cannot answer now.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// What came of showing the secret of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It was good, and has been replaced.
    Renewed(User),
    /// It had been replaced before: somebody else may have it, so the session was ended.
    Reused,
    /// There is no such session, or it has expired, or its user is disabled.
    Unknown,
}

/// People and tokens. Every method that changes something is on disk when it returns.
#[async_trait]
pub trait Accounts: fmt::Debug + Send + Sync {
    /// Adds a person, with the PHC string of their password.
    async fn add_user(&self, user: User, password: String) -> Result<(), AddUserError>;

    /// Everybody, by address.
    async fn users(&self) -> Result<Vec<User>, QueueError>;

    /// The person of that id.
    async fn user(&self, id: &str) -> Result<Option<User>, QueueError>;

    /// The person of that address, with the PHC string of their password.
    async fn user_by_email(&self, email: &str) -> Result<Option<(User, String)>, QueueError>;

    /// Replaces what the person may do, or whether they may do anything; an end of that ends their sessions. None when
    /// there is nobody of that address.
    async fn change_user(
        &self,
        email: &str,
        scopes: Option<Scopes>,
        disabled: Option<bool>,
    ) -> Result<Option<User>, QueueError>;

    /// Replaces the PHC string of their password and ends their sessions. Whether there is somebody of that address.
    async fn set_password(&self, email: &str, password: String) -> Result<bool, QueueError>;

    /// Starts a session, if its user is not disabled and that is still the PHC string of their password. Whether it was
    /// started. Sessions that have expired are forgotten.
    async fn start_session(
        &self,
        session: Session,
        secret: SecretHash,
        password: String,
    ) -> Result<bool, QueueError>;

    /// Replaces the secret `shown` of a session by `next`, and puts its end off to `until`.
    async fn renew_session(
        &self,
        id: &str,
        shown: SecretHash,
        next: SecretHash,
        until: Timestamp,
    ) -> Result<Renewal, QueueError>;

    /// Ends the session, if that is its secret.
    async fn end_session(&self, id: &str, shown: SecretHash) -> Result<(), QueueError>;

    /// Adds a token.
    async fn add_token(&self, token: ApiToken, secret: SecretHash) -> Result<(), QueueError>;

    /// All tokens, revoked and expired ones too, oldest first.
    async fn tokens(&self) -> Result<Vec<ApiToken>, QueueError>;

    /// The token of that id.
    async fn token(&self, id: &str) -> Result<Option<(ApiToken, SecretHash)>, QueueError>;

    /// Ends the token; one that has ended stays as it is. None when there is no such token.
    async fn revoke_token(&self, id: &str) -> Result<Option<ApiToken>, QueueError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_words_with_spaces_between_and_admin_allows_all() {
        let scopes: Scopes = "sites:write  renders:read".parse().unwrap();
        assert_eq!(scopes.to_string(), "renders:read sites:write");
        assert!(scopes.allow(Scope::SitesWrite) && !scopes.allow(Scope::RendersWrite));
        assert!(
            "renders:reed"
                .parse::<Scopes>()
                .unwrap_err()
                .starts_with("`renders:reed` is not one of renders:read, ")
        );
        let admin: Scopes = "admin".parse().unwrap();
        assert!(Scope::ALL.iter().all(|scope| admin.allow(*scope)) && admin != Scopes::ALL);
        assert_eq!(Scopes::ALL.iter().collect::<Scopes>(), Scopes::ALL);
        assert!("".parse::<Scopes>().unwrap().is_empty());
        assert_eq!(Scopes::ALL.and(Scopes::USUAL).to_string(), "renders:read renders:write");
    }
}
