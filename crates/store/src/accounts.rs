//! People, their sessions, and the tokens of programs.

use async_trait::async_trait;
use jiff::Timestamp;
use lastframe_core::TenantId;
use lastframe_core::accounts::{
    Accounts, AddUserError, ApiToken, Renewal, Scopes, SecretHash, Session, User,
};
use lastframe_core::ports::QueueError;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::Store;
use crate::integrity;
use crate::row;
use crate::writer::{Tx, storage};

const USER: &str = "SELECT id, email, tenant, scopes, disabled, created_at, intact, password FROM user";
const TOKEN: &str =
    "SELECT id, name, tenant, scopes, created_at, expires_at, revoked_at, intact, secret FROM token";

fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    integrity::check(row, 6, || format!("user {}", row.get::<_, String>(1).unwrap_or_default()))?;
    Ok(User {
        id: row.get(0)?,
        email: row.get(1)?,
        tenant: TenantId::new(row.get::<_, String>(2)?),
        scopes: row::parsed(row, 3)?,
        disabled: row.get(4)?,
        created_at: row::time(row, 5)?.unwrap_or_default(),
    })
}

fn token(row: &Row<'_>) -> rusqlite::Result<ApiToken> {
    integrity::check(row, 7, || format!("token {}", row.get::<_, String>(0).unwrap_or_default()))?;
    Ok(ApiToken {
        id: row.get(0)?,
        name: row.get(1)?,
        tenant: TenantId::new(row.get::<_, String>(2)?),
        scopes: row::parsed(row, 3)?,
        created_at: row::time(row, 4)?.unwrap_or_default(),
        expires_at: row::time(row, 5)?,
        revoked_at: row::time(row, 6)?,
    })
}

/// The one row for which `column` has that value.
fn find<T>(
    db: &Connection,
    select: &str,
    column: &str,
    value: &str,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, QueueError> {
    db.prepare_cached(&format!("{select} WHERE {column} = ?1"))
        .and_then(|mut sql| sql.query_row([value], read).optional())
        .map_err(storage)
}

fn list<T>(
    db: &Connection,
    select: &str,
    order: &str,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, QueueError> {
    db.prepare_cached(&format!("{select} ORDER BY {order}"))
        .and_then(|mut sql| sql.query_map([], read)?.collect())
        .map_err(storage)
}

fn execute(tx: &Tx<'_>, sql: &str, values: impl rusqlite::Params) -> Result<usize, QueueError> {
    tx.db.prepare_cached(sql).and_then(|mut sql| sql.execute(values)).map_err(storage)
}

/// Ends all sessions of the person of that address.
fn end_sessions(tx: &Tx<'_>, email: &str) -> Result<(), QueueError> {
    execute(tx, "DELETE FROM session WHERE user_id = (SELECT id FROM user WHERE email = ?1)", [email])
        .map(drop)
}

fn add_user(tx: &Tx<'_>, new: &User, password: &str) -> Result<(), AddUserError> {
    let added = execute(
        tx,
        "INSERT INTO user (id, email, tenant, scopes, password, disabled, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (email) DO NOTHING",
        params![
            new.id,
            new.email,
            new.tenant.as_str(),
            new.scopes.to_string(),
            password,
            new.disabled,
            new.created_at.as_millisecond()
        ],
    )?;
    if added == 0 { Err(AddUserError::Exists) } else { Ok(()) }
}

fn change_user(
    tx: &Tx<'_>,
    email: &str,
    scopes: Option<Scopes>,
    disabled: Option<bool>,
) -> Result<Option<User>, QueueError> {
    execute(
        tx,
        "UPDATE user SET scopes = coalesce(?2, scopes), disabled = coalesce(?3, disabled) WHERE email = ?1",
        params![email, scopes.map(|scopes| scopes.to_string()), disabled],
    )?;
    let changed = find(tx.db, USER, "email", email, user)?;
    if changed.as_ref().is_some_and(|user| user.disabled) {
        end_sessions(tx, email)?;
    }
    Ok(changed)
}

fn start_session(
    tx: &Tx<'_>,
    session: &Session,
    secret: &SecretHash,
    password: &str,
) -> Result<bool, QueueError> {
    execute(tx, "DELETE FROM session WHERE expires_at <= ?1", [tx.now])?;
    let owner = find(tx.db, USER, "id", &session.user, |row| Ok((user(row)?, row.get::<_, String>(7)?)))?;
    if !owner.is_some_and(|(owner, current)| !owner.disabled && current == password) {
        return Ok(false);
    }
    execute(
        tx,
        "INSERT INTO session (id, user_id, secret, expires_at) VALUES (?1, ?2, ?3, ?4)",
        params![session.id, session.user, secret, session.expires_at.as_millisecond()],
    )?;
    Ok(true)
}

fn renew_session(
    tx: &Tx<'_>,
    id: &str,
    shown: &SecretHash,
    next: &SecretHash,
    until: Timestamp,
) -> Result<Renewal, QueueError> {
    let found = find(
        tx.db,
        "SELECT user_id, secret, expires_at, intact FROM session",
        "id",
        id,
        |row| -> rusqlite::Result<(String, SecretHash, i64)> {
            integrity::check(row, 3, || "a session".into())?;
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        },
    )?;
    let Some((user_id, secret, expires_at)) = found else { return Ok(Renewal::Unknown) };
    // Hashes of random secrets: how long the comparison takes tells nothing of use.
    if secret != *shown {
        execute(tx, "DELETE FROM session WHERE id = ?1", [id])?;
        return Ok(Renewal::Reused);
    }
    let owner = find(tx.db, USER, "id", &user_id, user)?.filter(|user| !user.disabled);
    let Some(owner) = owner.filter(|_| tx.now < expires_at) else {
        execute(tx, "DELETE FROM session WHERE id = ?1", [id])?;
        return Ok(Renewal::Unknown);
    };
    execute(
        tx,
        "UPDATE session SET secret = ?2, expires_at = ?3 WHERE id = ?1",
        params![id, next, until.as_millisecond()],
    )?;
    Ok(Renewal::Renewed(owner))
}

#[async_trait]
impl Accounts for Store {
    async fn add_user(&self, user: User, password: String) -> Result<(), AddUserError> {
        self.writer.run(move |tx| add_user(tx, &user, &password)).await
    }

    async fn users(&self) -> Result<Vec<User>, QueueError> {
        self.readers.run(|db| list(db, USER, "email", user)).await
    }

    async fn user(&self, id: &str) -> Result<Option<User>, QueueError> {
        self.readers.at_once(|db| find(db, USER, "id", id, user)).await
    }

    async fn user_by_email(&self, email: &str) -> Result<Option<(User, String)>, QueueError> {
        self.readers.at_once(|db| find(db, USER, "email", email, |row| Ok((user(row)?, row.get(7)?)))).await
    }

    async fn change_user(
        &self,
        email: &str,
        scopes: Option<Scopes>,
        disabled: Option<bool>,
    ) -> Result<Option<User>, QueueError> {
        let email = email.to_owned();
        self.writer.run(move |tx| change_user(tx, &email, scopes, disabled)).await
    }

    async fn set_password(&self, email: &str, password: String) -> Result<bool, QueueError> {
        let email = email.to_owned();
        self.writer
            .run(move |tx| {
                end_sessions(tx, &email)?;
                let sql = "UPDATE user SET password = ?2 WHERE email = ?1";
                Ok(execute(tx, sql, [&email, &password])? > 0)
            })
            .await
    }

    async fn start_session(
        &self,
        session: Session,
        secret: SecretHash,
        password: String,
    ) -> Result<bool, QueueError> {
        self.writer.run(move |tx| start_session(tx, &session, &secret, &password)).await
    }

    async fn renew_session(
        &self,
        id: &str,
        shown: SecretHash,
        next: SecretHash,
        until: Timestamp,
    ) -> Result<Renewal, QueueError> {
        let id = id.to_owned();
        self.writer.run(move |tx| renew_session(tx, &id, &shown, &next, until)).await
    }

    async fn end_session(&self, id: &str, shown: SecretHash) -> Result<(), QueueError> {
        let id = id.to_owned();
        self.writer
            .run(move |tx| {
                execute(tx, "DELETE FROM session WHERE id = ?1 AND secret = ?2", params![id, shown]).map(drop)
            })
            .await
    }

    async fn add_token(&self, token: ApiToken, secret: SecretHash) -> Result<(), QueueError> {
        self.writer
            .run(move |tx| {
                execute(
                    tx,
                    "INSERT INTO token (id, name, tenant, scopes, secret, created_at, expires_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![
                        token.id,
                        token.name,
                        token.tenant.as_str(),
                        token.scopes.to_string(),
                        secret,
                        token.created_at.as_millisecond(),
                        token.expires_at.map(Timestamp::as_millisecond)
                    ],
                )
                .map(drop)
            })
            .await
    }

    async fn tokens(&self) -> Result<Vec<ApiToken>, QueueError> {
        self.readers.run(|db| list(db, TOKEN, "created_at, id", token)).await
    }

    async fn token(&self, id: &str) -> Result<Option<(ApiToken, SecretHash)>, QueueError> {
        self.readers.at_once(|db| find(db, TOKEN, "id", id, |row| Ok((token(row)?, row.get(8)?)))).await
    }

    async fn revoke_token(&self, id: &str) -> Result<Option<ApiToken>, QueueError> {
        let id = id.to_owned();
        self.writer
            .run(move |tx| {
                execute(
                    tx,
                    "UPDATE token SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL",
                    params![id, tx.now],
                )?;
                find(tx.db, TOKEN, "id", &id, token)
            })
            .await
    }
}
