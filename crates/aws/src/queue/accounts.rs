//! People, their sessions, and the tokens of programs.

use async_trait::async_trait;
use jiff::Timestamp;
use lastframe_core::accounts::{
    Accounts, AddUserError, ApiToken, Renewal, Scopes, SecretHash, Session, User,
};
use lastframe_core::ports::QueueError;
use lastframe_core::{TenantId, hex};
use serde::{Deserialize, Serialize};

use super::row::time;
use super::schema::{self, EXPIRES};
use super::table::{Key, Search, Trouble, from_item, n, retrying, storage, to_item};
use super::tx::{If, Tx};
use super::{AwsQueue, Shared};

/// A person, found by their address. All their sessions are of one epoch: another one ends them all.
#[derive(Clone, Serialize, Deserialize)]
struct UserRow {
    v: u64,
    id: String,
    email: String,
    tenant: TenantId,
    scopes: String,
    disabled: bool,
    created_at: i64,
    password: String,
    epoch: u64,
}

/// Whose id that is.
#[derive(Debug, Serialize, Deserialize)]
struct UserOf {
    email: String,
}

#[derive(Clone, Serialize, Deserialize)]
struct SessionRow {
    v: u64,
    user: String,
    secret: String,
    expires_at: i64,
    epoch: u64,
}

#[derive(Clone, Serialize, Deserialize)]
struct TokenRow {
    v: u64,
    id: String,
    name: String,
    tenant: TenantId,
    scopes: String,
    secret: String,
    created_at: i64,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
}

impl UserRow {
    fn user(self) -> Result<User, QueueError> {
        Ok(User {
            id: self.id,
            email: self.email,
            tenant: self.tenant,
            scopes: self.scopes.parse().map_err(storage)?,
            disabled: self.disabled,
            created_at: time(self.created_at),
        })
    }
}

impl TokenRow {
    fn token(self) -> Result<(ApiToken, SecretHash), QueueError> {
        let byte = |index: usize| {
            let digits = self.secret.get(2 * index..2 * index + 2);
            digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())
        };
        let mut secret = SecretHash::default();
        for (index, place) in secret.iter_mut().enumerate() {
            *place = byte(index).ok_or_else(|| storage(format!("token {} has no secret", self.id)))?;
        }
        let token = ApiToken {
            scopes: self.scopes.parse().map_err(storage)?,
            created_at: time(self.created_at),
            expires_at: self.expires_at.map(time),
            revoked_at: self.revoked_at.map(time),
            id: self.id,
            name: self.name,
            tenant: self.tenant,
        };
        Ok((token, secret))
    }
}

#[async_trait]
impl Accounts for AwsQueue {
    async fn add_user(&self, user: User, password: String) -> Result<(), AddUserError> {
        let queue = &*self.shared;
        let key = schema::user(&user.email);
        let row = UserRow {
            v: 0,
            id: user.id.clone(),
            email: user.email.clone(),
            tenant: user.tenant,
            scopes: user.scopes.to_string(),
            disabled: user.disabled,
            created_at: user.created_at.as_millisecond(),
            password,
            epoch: 0,
        };
        let added = retrying(async || {
            if queue.table.get(&key).await?.is_some() {
                return Ok(false);
            }
            let mut tx = Tx::new(queue);
            tx.put_row(&key, &row, If::New)?;
            tx.put_row(&schema::user_id(&user.id), &UserOf { email: user.email.clone() }, If::New)?;
            tx.commit().await?;
            Ok(true)
        });
        if added.await? { Ok(()) } else { Err(AddUserError::Exists) }
    }

    async fn users(&self) -> Result<Vec<User>, QueueError> {
        let found = self.shared.table.find(Search::table("users"), usize::MAX).await?;
        found.into_iter().map(|item| from_item::<UserRow>(item)?.user()).collect()
    }

    async fn user(&self, id: &str) -> Result<Option<User>, QueueError> {
        self.shared.user_of(id).await?.map(UserRow::user).transpose()
    }

    async fn user_by_email(&self, email: &str) -> Result<Option<(User, String)>, QueueError> {
        let row: Option<UserRow> = self.shared.table.row(&schema::user(email)).await?;
        row.map(|row| {
            let password = row.password.clone();
            Ok((row.user()?, password))
        })
        .transpose()
    }

    async fn change_user(
        &self,
        email: &str,
        scopes: Option<Scopes>,
        disabled: Option<bool>,
    ) -> Result<Option<User>, QueueError> {
        let changed = self.shared.change(email, |row| {
            row.scopes = scopes.map_or_else(|| row.scopes.clone(), |scopes| scopes.to_string());
            row.disabled = disabled.unwrap_or(row.disabled);
            row.epoch += u64::from(row.disabled);
        });
        changed.await?.map(UserRow::user).transpose()
    }

    async fn set_password(&self, email: &str, password: String) -> Result<bool, QueueError> {
        let changed = self.shared.change(email, |row| {
            row.password.clone_from(&password);
            row.epoch += 1;
        });
        Ok(changed.await?.is_some())
    }

    async fn start_session(
        &self,
        session: Session,
        secret: SecretHash,
        password: String,
    ) -> Result<bool, QueueError> {
        let queue = &*self.shared;
        retrying(async || {
            let owner = queue.user_of(&session.user).await?;
            let Some(owner) = owner.filter(|owner| !owner.disabled && owner.password == password) else {
                return Ok(false);
            };
            let mut tx = Tx::new(queue);
            // Whoever changes the password meanwhile ends this session too.
            tx.check(&schema::user(&owner.email), owner.v)?;
            let row = SessionRow {
                v: 0,
                user: session.user.clone(),
                secret: hex::encode(&secret),
                expires_at: session.expires_at.as_millisecond(),
                epoch: owner.epoch,
            };
            put_session(&mut tx, &session.id, &row, If::New)?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    async fn renew_session(
        &self,
        id: &str,
        shown: SecretHash,
        next: SecretHash,
        until: Timestamp,
    ) -> Result<Renewal, QueueError> {
        let queue = &*self.shared;
        retrying(async || {
            let key = schema::session(id);
            let Some(before) = queue.table.row::<SessionRow>(&key).await? else {
                return Ok(Renewal::Unknown);
            };
            let mut tx = Tx::new(queue);
            // Hashes of random secrets: how long the comparison takes tells nothing of use.
            let reused = before.secret != hex::encode(&shown);
            let owner = queue.user_of(&before.user).await?;
            let owner = owner.filter(|owner| {
                !owner.disabled && owner.epoch == before.epoch && tx.now < before.expires_at && !reused
            });
            let Some(owner) = owner else {
                tx.delete_version(&key, before.v)?;
                tx.commit().await?;
                return Ok(if reused { Renewal::Reused } else { Renewal::Unknown });
            };
            let row = SessionRow {
                v: before.v + 1,
                secret: hex::encode(&next),
                expires_at: until.as_millisecond(),
                ..before.clone()
            };
            tx.check(&schema::user(&owner.email), owner.v)?;
            put_session(&mut tx, id, &row, If::Version(before.v))?;
            tx.commit().await?;
            Ok(Renewal::Renewed(owner.user()?))
        })
        .await
    }

    async fn end_session(&self, id: &str, shown: SecretHash) -> Result<(), QueueError> {
        let queue = &*self.shared;
        retrying(async || {
            let key = schema::session(id);
            let before: Option<SessionRow> = queue.table.row(&key).await?;
            let Some(before) = before.filter(|before| before.secret == hex::encode(&shown)) else {
                return Ok(());
            };
            let mut tx = Tx::new(queue);
            tx.delete_version(&key, before.v)?;
            tx.commit().await
        })
        .await
    }

    async fn add_token(&self, token: ApiToken, secret: SecretHash) -> Result<(), QueueError> {
        let key = schema::token(&token.id);
        let row = TokenRow {
            v: 0,
            id: token.id,
            name: token.name,
            tenant: token.tenant,
            scopes: token.scopes.to_string(),
            secret: hex::encode(&secret),
            created_at: token.created_at.as_millisecond(),
            expires_at: token.expires_at.map(Timestamp::as_millisecond),
            revoked_at: token.revoked_at.map(Timestamp::as_millisecond),
        };
        let added = self.shared.table.put_new(to_item(&key, &row)?).await?
            // Or it was this one, and only the answer was lost.
            || self.shared.table.row::<TokenRow>(&key).await?.is_some_and(|there| there.secret == row.secret);
        if added { Ok(()) } else { Err(storage(format!("there is a token {} already", key.sk))) }
    }

    async fn tokens(&self) -> Result<Vec<ApiToken>, QueueError> {
        let found = self.shared.table.find(Search::table("tokens"), usize::MAX).await?;
        let rows = found.into_iter().map(from_item::<TokenRow>).collect::<Result<Vec<_>, _>>()?;
        let mut tokens =
            rows.into_iter().map(|row| Ok(row.token()?.0)).collect::<Result<Vec<_>, QueueError>>()?;
        tokens.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(tokens)
    }

    async fn token(&self, id: &str) -> Result<Option<(ApiToken, SecretHash)>, QueueError> {
        self.shared.table.row::<TokenRow>(&schema::token(id)).await?.map(TokenRow::token).transpose()
    }

    async fn revoke_token(&self, id: &str) -> Result<Option<ApiToken>, QueueError> {
        let queue = &*self.shared;
        let revoked = retrying(async || {
            let key = schema::token(id);
            let Some(before) = queue.table.row::<TokenRow>(&key).await? else { return Ok(None) };
            if before.revoked_at.is_some() {
                return Ok(Some(before));
            }
            let mut tx = Tx::new(queue);
            let row = TokenRow { v: before.v + 1, revoked_at: Some(tx.now), ..before.clone() };
            tx.put_row(&key, &row, If::Version(before.v))?;
            tx.commit().await?;
            Ok(Some(row))
        });
        revoked.await?.map(|row| Ok(row.token()?.0)).transpose()
    }
}

fn put_session(tx: &mut Tx<'_>, id: &str, row: &SessionRow, when: If) -> Result<(), QueueError> {
    let mut item = to_item(&schema::session(id), row)?;
    item.insert(EXPIRES.into(), n(row.expires_at / 1_000 + 60));
    tx.put(item, when)
}

impl Shared {
    /// The person of that id.
    async fn user_of(&self, id: &str) -> Result<Option<UserRow>, QueueError> {
        match self.table.row::<UserOf>(&schema::user_id(id)).await? {
            Some(of) => self.table.row(&schema::user(&of.email)).await,
            None => Ok(None),
        }
    }

    /// Changes what is known of the person of that address, if there is somebody.
    async fn change(
        &self,
        email: &str,
        change: impl Fn(&mut UserRow) + Sync,
    ) -> Result<Option<UserRow>, QueueError> {
        let key: Key = schema::user(email);
        retrying(async || {
            let Some(before) = self.table.row::<UserRow>(&key).await? else { return Ok::<_, Trouble>(None) };
            let mut row = before.clone();
            change(&mut row);
            row.v += 1;
            let mut tx = Tx::new(self);
            tx.put_row(&key, &row, If::Version(before.v))?;
            tx.commit().await?;
            Ok(Some(row))
        })
        .await
    }
}
