-- Secrets may be sealed (see seal.rs). In a column of the type ANY, a text is plain and a blob is sealed; what was there is
-- plain, and is sealed by and by. A row that was damaged must stay so, though it is written anew: what it held is
-- replaced by a blob that is no sealed value.

-- The keys that values of this database may be sealed with.
CREATE TABLE encryption_key (
    -- Hex digits; `none` stands for plain values.
    id TEXT NOT NULL PRIMARY KEY,
    -- New values are written with the current one. What is still under a leaving one is written anew by and by; then
    -- the leaving one goes.
    state TEXT NOT NULL CHECK (state IN ('current', 'leaving')),
    -- A known text, sealed with it.
    proof BLOB CHECK ((proof IS NULL) = (id = 'none')),
    -- When it became what it is.
    since INTEGER NOT NULL,
    checksum INTEGER NOT NULL AS (row_checksum(id, state, proof, since)) STORED,
    intact INTEGER AS (checksum = row_checksum(id, state, proof, since))
) STRICT, WITHOUT ROWID;
INSERT INTO encryption_key (id, state, since) VALUES ('none', 'current', 0);

CREATE TABLE new_request (
    seq INTEGER PRIMARY KEY REFERENCES render (seq),
    body ANY NOT NULL,
    checksum INTEGER NOT NULL AS (row_checksum(seq, body)) STORED,
    intact INTEGER AS (checksum = row_checksum(seq, body))
) STRICT;
INSERT INTO new_request (seq, body) SELECT seq, iif(intact, body, x'') FROM request;
DROP TABLE request;
ALTER TABLE new_request RENAME TO request;

-- What the next attempt of a render needs to go on; apart from the render, because it is secret. The column of that name in
-- `render` is not used any more.
CREATE TABLE checkpoint (
    seq INTEGER PRIMARY KEY REFERENCES render (seq),
    body ANY NOT NULL,
    checksum INTEGER NOT NULL AS (row_checksum(seq, body)) STORED,
    intact INTEGER AS (checksum = row_checksum(seq, body))
) STRICT;
INSERT INTO checkpoint (seq, body) SELECT seq, checkpoint FROM render WHERE checkpoint IS NOT NULL AND intact;
UPDATE render SET checkpoint = NULL WHERE checkpoint IS NOT NULL AND intact;

CREATE TABLE new_idempotency (
    tenant_id INTEGER NOT NULL REFERENCES tenant (id),
    key TEXT NOT NULL,
    -- In hex where it is plain. Sealed, because bodies may be guessed.
    body_hash ANY NOT NULL,
    -- The renders, as a JSON array of ids.
    renders TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    checksum INTEGER NOT NULL AS (row_checksum(tenant_id, key, body_hash, renders, created_at)) STORED,
    intact INTEGER AS (checksum = row_checksum(tenant_id, key, body_hash, renders, created_at)),
    PRIMARY KEY (tenant_id, key)
) STRICT, WITHOUT ROWID;
INSERT INTO new_idempotency (tenant_id, key, body_hash, renders, created_at)
    SELECT tenant_id, key, iif(intact, lower(hex(body_hash)), x''), renders, created_at FROM idempotency;
DROP TABLE idempotency;
ALTER TABLE new_idempotency RENAME TO idempotency;
CREATE INDEX idempotency_age ON idempotency (created_at);

CREATE TABLE new_site (
    tenant_id INTEGER NOT NULL REFERENCES tenant (id),
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    current INTEGER NOT NULL,
    body ANY NOT NULL,
    checksum INTEGER NOT NULL AS (row_checksum(tenant_id, name, version, current, body)) STORED,
    intact INTEGER AS (checksum = row_checksum(tenant_id, name, version, current, body)),
    PRIMARY KEY (tenant_id, name, version)
) STRICT, WITHOUT ROWID;
INSERT INTO new_site (tenant_id, name, version, current, body)
    SELECT tenant_id, name, version, current, iif(intact, body, x'') FROM site;
DROP TABLE site;
ALTER TABLE new_site RENAME TO site;
CREATE INDEX site_version ON site (version);

CREATE TRIGGER encryption_key_damaged BEFORE UPDATE ON encryption_key WHEN NOT OLD.intact BEGIN
    SELECT RAISE(ABORT, 'an encryption key');
END;
CREATE TRIGGER request_damaged BEFORE UPDATE ON request WHEN NOT OLD.intact BEGIN
    SELECT RAISE(ABORT, 'a request');
END;
CREATE TRIGGER checkpoint_damaged BEFORE UPDATE ON checkpoint WHEN NOT OLD.intact BEGIN
    SELECT RAISE(ABORT, 'a checkpoint');
END;
CREATE TRIGGER idempotency_damaged BEFORE UPDATE ON idempotency WHEN NOT OLD.intact BEGIN
    SELECT RAISE(ABORT, 'an idempotency key');
END;
CREATE TRIGGER site_damaged BEFORE UPDATE ON site WHEN NOT OLD.intact BEGIN
    SELECT RAISE(ABORT, 'a site');
END;
