-- People, their sessions, and the tokens of programs. Of secrets there are only hashes.

CREATE TABLE user (
    id TEXT PRIMARY KEY,
    -- In lower case.
    email TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    scopes TEXT NOT NULL,
    -- PHC string of argon2id.
    password TEXT NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    checksum INTEGER NOT NULL AS (row_checksum(id, email, tenant, scopes, password, disabled, created_at)) STORED,
    intact INTEGER AS (checksum = row_checksum(id, email, tenant, scopes, password, disabled, created_at))
) STRICT, WITHOUT ROWID;

CREATE TABLE session (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES user (id),
    -- SHA-256 of the secret that is good now; whoever shows another one has an old one.
    secret BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    checksum INTEGER NOT NULL AS (row_checksum(id, user_id, secret, expires_at)) STORED,
    intact INTEGER AS (checksum = row_checksum(id, user_id, secret, expires_at))
) STRICT, WITHOUT ROWID;
CREATE INDEX session_end ON session (expires_at);
CREATE INDEX session_of ON session (user_id);

CREATE TABLE token (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    tenant TEXT NOT NULL,
    scopes TEXT NOT NULL,
    secret BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    -- Never when null.
    expires_at INTEGER,
    revoked_at INTEGER,
    checksum INTEGER NOT NULL AS (row_checksum(id, name, tenant, scopes, secret, created_at, expires_at, revoked_at)) STORED,
    intact INTEGER AS (checksum = row_checksum(id, name, tenant, scopes, secret, created_at, expires_at, revoked_at))
) STRICT, WITHOUT ROWID;

CREATE TRIGGER user_damaged BEFORE UPDATE ON user WHEN NOT OLD.intact BEGIN
    SELECT RAISE(ABORT, 'a user');
END;
CREATE TRIGGER session_damaged BEFORE UPDATE ON session WHEN NOT OLD.intact BEGIN
    SELECT RAISE(ABORT, 'a session');
END;
CREATE TRIGGER token_damaged BEFORE UPDATE ON token WHEN NOT OLD.intact BEGIN
    SELECT RAISE(ABORT, 'a token');
END;
