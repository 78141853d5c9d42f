-- Every table again, with a checksum on each row: `checksum` is stored with the row whenever it changes, `intact` works it
-- out afresh whenever the row is read. SQLite itself does not notice a flipped bit within a value.
-- Also new: the count of commits that the high-water mark is compared with, back-off apart from `run_at`, limits that
-- may be absent, and the index that retention needs.

DROP TRIGGER render_accepted;
DROP TRIGGER render_moved;
DROP TRIGGER tenant_returned;

CREATE TABLE new_queue (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- Tells this database from any other.
    database TEXT NOT NULL,
    -- Transactions that were committed.
    commits INTEGER NOT NULL DEFAULT 0,
    paused INTEGER NOT NULL DEFAULT 0,
    -- The virtual time of the tenant served last: where a tenant that comes back from idling starts.
    vtime INTEGER NOT NULL DEFAULT 0,
    checksum INTEGER NOT NULL AS (row_checksum(id, database, commits, paused, vtime)) STORED,
    intact INTEGER AS (checksum = row_checksum(id, database, commits, paused, vtime))
) STRICT;
INSERT INTO new_queue (id, database, paused, vtime) SELECT id, lower(hex(randomblob(8))), paused, vtime FROM queue;
DROP TABLE queue;
ALTER TABLE new_queue RENAME TO queue;

CREATE TABLE new_tenant (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    weight INTEGER NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 1000),
    -- Renders at once; no limit of its own when null.
    max_rendering INTEGER,
    paused INTEGER NOT NULL DEFAULT 0,
    -- What the tenant has been served, divided by its weight: the lowest goes next.
    vtime INTEGER NOT NULL DEFAULT 0,
    -- Counters, kept by the triggers below. `ready` counts the renders whose gate is open.
    ready INTEGER NOT NULL DEFAULT 0,
    queued INTEGER NOT NULL DEFAULT 0,
    rendering INTEGER NOT NULL DEFAULT 0,
    succeeded INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    checksum INTEGER NOT NULL AS (row_checksum(id, name, weight, max_rendering, paused, vtime, ready, queued,
        rendering, succeeded, failed, cancelled)) STORED,
    intact INTEGER AS (checksum = row_checksum(id, name, weight, max_rendering, paused, vtime, ready, queued,
        rendering, succeeded, failed, cancelled))
) STRICT;
INSERT INTO new_tenant (id, name, weight, max_rendering, paused, vtime, ready, queued, rendering, succeeded, failed, cancelled)
    SELECT id, name, weight, nullif(max_rendering, 1000000), paused, vtime, ready, queued, rendering, succeeded, failed, cancelled
    FROM tenant;
DROP TABLE tenant;
ALTER TABLE new_tenant RENAME TO tenant;
CREATE INDEX tenant_turn ON tenant (vtime, id)
    WHERE ready > 0 AND paused = 0 AND (max_rendering IS NULL OR rendering < max_rendering);

-- A group exists while it has renders that are not terminal, or while it is paused or held.
CREATE TABLE new_render_group (
    tenant_id INTEGER NOT NULL REFERENCES tenant (id),
    name TEXT NOT NULL,
    -- The render that has the turn: rendering, or first of the queued ones.
    head INTEGER,
    paused INTEGER NOT NULL DEFAULT 0,
    -- The render that failed under `onFailure: block`.
    held_by INTEGER,
    checksum INTEGER NOT NULL AS (row_checksum(tenant_id, name, head, paused, held_by)) STORED,
    intact INTEGER AS (checksum = row_checksum(tenant_id, name, head, paused, held_by)),
    PRIMARY KEY (tenant_id, name)
) STRICT, WITHOUT ROWID;
INSERT INTO new_render_group (tenant_id, name, head, paused, held_by)
    SELECT tenant_id, name, head, paused, held_by FROM render_group;
DROP TABLE render_group;
ALTER TABLE new_render_group RENAME TO render_group;

CREATE TABLE new_render (
    -- The order of acceptance. AUTOINCREMENT: a place is never given twice.
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    tenant_id INTEGER NOT NULL REFERENCES tenant (id),
    group_name TEXT,
    kind TEXT NOT NULL,
    site TEXT NOT NULL,
    site_version TEXT NOT NULL,
    composition TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('queued', 'rendering', 'succeeded', 'failed', 'cancelled')),
    -- Of a queued render, what stands before it: see Gate. Only an open gate can be claimed.
    gate INTEGER CHECK ((status = 'queued') = (gate IS NOT NULL)),
    priority INTEGER NOT NULL DEFAULT 0,
    on_failure TEXT NOT NULL,
    -- Not before; 0 is at once.
    run_at INTEGER NOT NULL,
    -- Of a queued render, milliseconds of the monotonic clock of the process that put it back: not before, either. No
    -- back-off outlives that process.
    backoff_until INTEGER,
    attempt INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL,
    leases INTEGER NOT NULL DEFAULT 0,
    -- Leases lost in a row, their holder dead.
    lost INTEGER NOT NULL DEFAULT 0,
    lease_token TEXT CHECK ((status = 'rendering') = (lease_token IS NOT NULL)),
    -- Milliseconds of the monotonic clock of the process that gave the lease; no lease outlives that process.
    lease_deadline INTEGER,
    cancel_requested_at INTEGER,
    progress TEXT,
    checkpoint TEXT,
    error TEXT,
    output TEXT,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    attempt_started_at INTEGER,
    finished_at INTEGER,
    checksum INTEGER NOT NULL AS (row_checksum(seq, id, tenant_id, group_name, kind, site, site_version, composition,
        status, gate, priority, on_failure, run_at, backoff_until, attempt, max_attempts, leases, lost, lease_token,
        lease_deadline, cancel_requested_at, progress, checkpoint, error, output, created_at, started_at,
        attempt_started_at, finished_at)) STORED,
    intact INTEGER AS (checksum = row_checksum(seq, id, tenant_id, group_name, kind, site, site_version, composition,
        status, gate, priority, on_failure, run_at, backoff_until, attempt, max_attempts, leases, lost, lease_token,
        lease_deadline, cancel_requested_at, progress, checkpoint, error, output, created_at, started_at,
        attempt_started_at, finished_at))
) STRICT;
INSERT INTO new_render (seq, id, tenant_id, group_name, kind, site, site_version, composition, status, gate, priority,
        on_failure, run_at, attempt, max_attempts, leases, lost, lease_token, lease_deadline, cancel_requested_at,
        progress, checkpoint, error, output, created_at, started_at, attempt_started_at, finished_at)
    SELECT seq, id, tenant_id, group_name, kind, site, site_version, composition, status, gate, priority,
        on_failure, run_at, attempt, max_attempts, leases, lost, lease_token, lease_deadline, cancel_requested_at,
        progress, checkpoint, error, output, created_at, started_at, attempt_started_at, finished_at
    FROM render;
DROP TABLE render;
ALTER TABLE new_render RENAME TO render;
CREATE INDEX render_ready ON render (tenant_id, priority DESC, seq) WHERE gate = 0;
CREATE INDEX render_line ON render (tenant_id, group_name, seq) WHERE group_name IS NOT NULL AND status = 'queued';
CREATE INDEX render_due ON render (run_at) WHERE gate = 1;
CREATE INDEX render_backoff ON render (backoff_until) WHERE backoff_until IS NOT NULL;
CREATE INDEX render_lease ON render (lease_deadline) WHERE status = 'rendering';
CREATE INDEX render_ended ON render (finished_at) WHERE status IN ('succeeded', 'failed', 'cancelled');
CREATE INDEX render_by_tenant ON render (tenant_id, seq);
CREATE INDEX render_by_status ON render (tenant_id, status, seq);
CREATE INDEX render_by_group ON render (tenant_id, group_name, seq) WHERE group_name IS NOT NULL;
CREATE INDEX render_by_site ON render (site_version) WHERE status IN ('queued', 'rendering');

-- What is asked for, apart from the small hot rows above.
CREATE TABLE new_request (
    seq INTEGER PRIMARY KEY REFERENCES render (seq),
    body TEXT NOT NULL,
    checksum INTEGER NOT NULL AS (row_checksum(seq, body)) STORED,
    intact INTEGER AS (checksum = row_checksum(seq, body))
) STRICT;
INSERT INTO new_request (seq, body) SELECT seq, body FROM request;
DROP TABLE request;
ALTER TABLE new_request RENAME TO request;

CREATE TABLE new_attempt (
    seq INTEGER NOT NULL REFERENCES render (seq),
    number INTEGER NOT NULL,
    worker TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    outcome TEXT,
    error TEXT,
    checksum INTEGER NOT NULL AS (row_checksum(seq, number, worker, started_at, ended_at, outcome, error)) STORED,
    intact INTEGER AS (checksum = row_checksum(seq, number, worker, started_at, ended_at, outcome, error)),
    PRIMARY KEY (seq, number)
) STRICT, WITHOUT ROWID;
INSERT INTO new_attempt (seq, number, worker, started_at, ended_at, outcome, error)
    SELECT seq, number, worker, started_at, ended_at, outcome, error FROM attempt;
DROP TABLE attempt;
ALTER TABLE new_attempt RENAME TO attempt;

CREATE TABLE new_idempotency (
    tenant_id INTEGER NOT NULL REFERENCES tenant (id),
    key TEXT NOT NULL,
    body_hash BLOB NOT NULL,
    -- The renders, as a JSON array of ids.
    renders TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    checksum INTEGER NOT NULL AS (row_checksum(tenant_id, key, body_hash, renders, created_at)) STORED,
    intact INTEGER AS (checksum = row_checksum(tenant_id, key, body_hash, renders, created_at)),
    PRIMARY KEY (tenant_id, key)
) STRICT, WITHOUT ROWID;
INSERT INTO new_idempotency (tenant_id, key, body_hash, renders, created_at)
    SELECT tenant_id, key, body_hash, renders, created_at FROM idempotency;
DROP TABLE idempotency;
ALTER TABLE new_idempotency RENAME TO idempotency;
CREATE INDEX idempotency_age ON idempotency (created_at);

CREATE TABLE new_site (
    tenant_id INTEGER NOT NULL REFERENCES tenant (id),
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    current INTEGER NOT NULL,
    body TEXT NOT NULL,
    checksum INTEGER NOT NULL AS (row_checksum(tenant_id, name, version, current, body)) STORED,
    intact INTEGER AS (checksum = row_checksum(tenant_id, name, version, current, body)),
    PRIMARY KEY (tenant_id, name, version)
) STRICT, WITHOUT ROWID;
INSERT INTO new_site (tenant_id, name, version, current, body) SELECT tenant_id, name, version, current, body FROM site;
DROP TABLE site;
ALTER TABLE new_site RENAME TO site;
CREATE INDEX site_version ON site (version);

CREATE TRIGGER render_accepted AFTER INSERT ON render BEGIN
    UPDATE tenant SET queued = queued + 1, ready = ready + (NEW.gate = 0) WHERE id = NEW.tenant_id;
END;

CREATE TRIGGER render_moved AFTER UPDATE OF status, gate ON render
WHEN OLD.status <> NEW.status OR OLD.gate IS NOT NEW.gate BEGIN
    UPDATE tenant SET
        ready = ready + (NEW.gate IS 0) - (OLD.gate IS 0),
        queued = queued + (NEW.status = 'queued') - (OLD.status = 'queued'),
        rendering = rendering + (NEW.status = 'rendering') - (OLD.status = 'rendering'),
        succeeded = succeeded + (NEW.status = 'succeeded') - (OLD.status = 'succeeded'),
        failed = failed + (NEW.status = 'failed') - (OLD.status = 'failed'),
        cancelled = cancelled + (NEW.status = 'cancelled') - (OLD.status = 'cancelled')
    WHERE id = NEW.tenant_id;
END;

CREATE TRIGGER render_forgotten AFTER DELETE ON render BEGIN
    UPDATE tenant SET
        ready = ready - (OLD.gate IS 0),
        queued = queued - (OLD.status = 'queued'),
        rendering = rendering - (OLD.status = 'rendering'),
        succeeded = succeeded - (OLD.status = 'succeeded'),
        failed = failed - (OLD.status = 'failed'),
        cancelled = cancelled - (OLD.status = 'cancelled')
    WHERE id = OLD.tenant_id;
END;

-- A tenant that could not have been served, even if something of it was being rendered, is not owed that time. The same
-- conditions as those of `tenant_turn`.
CREATE TRIGGER tenant_returned AFTER UPDATE OF ready, paused, max_rendering, rendering ON tenant
WHEN (NEW.ready > 0 AND NEW.paused = 0 AND (NEW.max_rendering IS NULL OR NEW.rendering < NEW.max_rendering))
    AND NOT (OLD.ready > 0 AND OLD.paused = 0 AND (OLD.max_rendering IS NULL OR OLD.rendering < OLD.max_rendering))
BEGIN
    UPDATE tenant SET vtime = max(NEW.vtime, (SELECT vtime FROM queue)) WHERE id = NEW.id;
END;

-- A change would give a damaged row a checksum that fits. All that may be done to a damaged render is to end it.
CREATE TRIGGER queue_damaged BEFORE UPDATE ON queue WHEN NOT OLD.intact BEGIN
    SELECT RAISE(ABORT, 'the queue');
END;
CREATE TRIGGER tenant_damaged BEFORE UPDATE ON tenant WHEN NOT OLD.intact BEGIN
    SELECT RAISE(ABORT, 'a tenant');
END;
CREATE TRIGGER render_group_damaged BEFORE UPDATE ON render_group WHEN NOT OLD.intact BEGIN
    SELECT RAISE(ABORT, 'a group');
END;
CREATE TRIGGER render_damaged BEFORE UPDATE ON render WHEN NOT OLD.intact AND NEW.status <> 'failed' BEGIN
    SELECT RAISE(ABORT, 'a render');
END;
CREATE TRIGGER attempt_damaged BEFORE UPDATE ON attempt WHEN NOT OLD.intact BEGIN
    SELECT RAISE(ABORT, 'an attempt');
END;
CREATE TRIGGER site_damaged BEFORE UPDATE ON site WHEN NOT OLD.intact BEGIN
    SELECT RAISE(ABORT, 'a site');
END;
