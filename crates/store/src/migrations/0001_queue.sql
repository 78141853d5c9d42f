-- Times are milliseconds since 1970 in UTC, unless a name says otherwise.

CREATE TABLE queue (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    paused INTEGER NOT NULL DEFAULT 0,
    -- The virtual time of the tenant served last: where a tenant that comes back from idling starts.
    vtime INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO queue (id) VALUES (1);

CREATE TABLE tenant (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    weight INTEGER NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 1000),
    max_rendering INTEGER NOT NULL DEFAULT 1000000,
    paused INTEGER NOT NULL DEFAULT 0,
    -- What the tenant has been served, divided by its weight: the lowest goes next.
    vtime INTEGER NOT NULL DEFAULT 0,
    -- Counters, kept by the triggers below. `ready` counts the renders whose gate is open.
    ready INTEGER NOT NULL DEFAULT 0,
    queued INTEGER NOT NULL DEFAULT 0,
    rendering INTEGER NOT NULL DEFAULT 0,
    succeeded INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX tenant_turn ON tenant (vtime, id) WHERE ready > 0 AND paused = 0 AND rendering < max_rendering;

-- A group exists while it has renders that are not terminal, or while it is paused or held.
CREATE TABLE render_group (
    tenant_id INTEGER NOT NULL REFERENCES tenant (id),
    name TEXT NOT NULL,
    -- The render that has the turn: rendering, or first of the queued ones.
    head INTEGER,
    paused INTEGER NOT NULL DEFAULT 0,
    -- The render that failed under `onFailure: block`.
    held_by INTEGER,
    PRIMARY KEY (tenant_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE render (
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
    finished_at INTEGER
) STRICT;
CREATE INDEX render_ready ON render (tenant_id, priority DESC, seq) WHERE gate = 0;
CREATE INDEX render_line ON render (tenant_id, group_name, seq) WHERE group_name IS NOT NULL AND status = 'queued';
CREATE INDEX render_due ON render (run_at) WHERE gate = 1;
CREATE INDEX render_lease ON render (lease_deadline) WHERE status = 'rendering';
CREATE INDEX render_by_tenant ON render (tenant_id, seq);
CREATE INDEX render_by_status ON render (tenant_id, status, seq);
CREATE INDEX render_by_group ON render (tenant_id, group_name, seq) WHERE group_name IS NOT NULL;
CREATE INDEX render_by_site ON render (site_version) WHERE status IN ('queued', 'rendering');

-- What is asked for, apart from the small hot rows above.
CREATE TABLE request (
    seq INTEGER PRIMARY KEY REFERENCES render (seq),
    body TEXT NOT NULL
) STRICT;

CREATE TABLE attempt (
    seq INTEGER NOT NULL REFERENCES render (seq),
    number INTEGER NOT NULL,
    worker TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    outcome TEXT,
    error TEXT,
    PRIMARY KEY (seq, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    tenant_id INTEGER NOT NULL REFERENCES tenant (id),
    key TEXT NOT NULL,
    body_hash BLOB NOT NULL,
    -- The renders, as a JSON array of ids.
    renders TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_age ON idempotency (created_at);

CREATE TABLE site (
    tenant_id INTEGER NOT NULL REFERENCES tenant (id),
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    current INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (tenant_id, name, version)
) STRICT, WITHOUT ROWID;
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

-- A tenant that has had nothing to claim, even if something of it was being rendered, is not owed that time.
CREATE TRIGGER tenant_returned AFTER UPDATE OF ready ON tenant
WHEN OLD.ready = 0 AND NEW.ready > 0 BEGIN
    UPDATE tenant SET vtime = max(NEW.vtime, (SELECT vtime FROM queue)) WHERE id = NEW.id;
END;
