-- What is owed when renders end. A notice says who is told; when its render ends, a trigger makes a delivery of it, so that
-- no way of ending one can forget it. Where it goes, and what a webhook is signed with, stands in the request alone.

CREATE TABLE notice (
    seq INTEGER NOT NULL REFERENCES render (seq),
    -- Its place among the request's notices.
    number INTEGER NOT NULL,
    tenant_id INTEGER NOT NULL REFERENCES tenant (id),
    channel TEXT NOT NULL,
    -- Who stands behind the target.
    endpoint TEXT NOT NULL,
    checksum INTEGER NOT NULL AS (row_checksum(seq, number, tenant_id, channel, endpoint)) STORED,
    intact INTEGER AS (checksum = row_checksum(seq, number, tenant_id, channel, endpoint)),
    PRIMARY KEY (seq, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE delivery (
    -- AUTOINCREMENT: a name is never given twice.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    seq INTEGER NOT NULL REFERENCES render (seq),
    number INTEGER NOT NULL,
    tenant_id INTEGER NOT NULL REFERENCES tenant (id),
    channel TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'failed')),
    -- The render as it ended.
    ended TEXT NOT NULL,
    error TEXT,
    output TEXT,
    started_at INTEGER,
    ended_at INTEGER NOT NULL,
    -- Since it was last owed.
    tries INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER CHECK ((status = 'pending') = (next_at IS NOT NULL)),
    -- Counts those who took it: who took it before another changes nothing.
    token INTEGER NOT NULL DEFAULT 0,
    -- Milliseconds of the monotonic clock of the process where somebody has taken it; no hold outlives that process.
    held_until INTEGER CHECK (held_until IS NULL OR status = 'pending'),
    checksum INTEGER NOT NULL AS (row_checksum(id, seq, number, tenant_id, channel, endpoint, status, ended, error, output,
        started_at, ended_at, tries, next_at, token, held_until)) STORED,
    intact INTEGER AS (checksum = row_checksum(id, seq, number, tenant_id, channel, endpoint, status, ended, error, output,
        started_at, ended_at, tries, next_at, token, held_until))
) STRICT;
-- Endpoint by endpoint, so that what one of them cannot take is in no other's way.
CREATE INDEX delivery_due ON delivery (endpoint, next_at) WHERE status = 'pending' AND held_until IS NULL;
CREATE INDEX delivery_next ON delivery (next_at) WHERE status = 'pending' AND held_until IS NULL;
CREATE INDEX delivery_held ON delivery (held_until) WHERE held_until IS NOT NULL;
CREATE INDEX delivery_of ON delivery (seq, status);
CREATE INDEX delivery_by_status ON delivery (status);
CREATE INDEX delivery_by_tenant ON delivery (tenant_id);
CREATE INDEX delivery_by_tenant_and_status ON delivery (tenant_id, status);

-- Each go at a delivery.
CREATE TABLE delivery_try (
    delivery INTEGER NOT NULL REFERENCES delivery (id),
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    -- Milliseconds.
    took INTEGER NOT NULL,
    code INTEGER,
    error TEXT,
    checksum INTEGER NOT NULL AS (row_checksum(delivery, number, at, took, code, error)) STORED,
    intact INTEGER AS (checksum = row_checksum(delivery, number, at, took, code, error)),
    PRIMARY KEY (delivery, number)
) STRICT, WITHOUT ROWID;

-- Counters, kept by the triggers below. A damaged row is left alone by them, because no render must go on for its sake;
-- it is made anew.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    pending INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    checksum INTEGER NOT NULL AS (row_checksum(id, pending, delivered, failed)) STORED,
    intact INTEGER AS (checksum = row_checksum(id, pending, delivered, failed))
) STRICT;
INSERT INTO outbox (id) VALUES (1);

-- What a tenant's renders tell where they do not say it themselves, and what its webhooks are signed with.
CREATE TABLE tenant_notices (
    tenant_id INTEGER PRIMARY KEY REFERENCES tenant (id),
    body ANY NOT NULL,
    checksum INTEGER NOT NULL AS (row_checksum(tenant_id, body)) STORED,
    intact INTEGER AS (checksum = row_checksum(tenant_id, body))
) STRICT;

-- A notice that is damaged is owed all the same: the request says to whom.
CREATE TRIGGER render_ended_owes AFTER UPDATE OF status ON render
WHEN NEW.status IN ('succeeded', 'failed', 'cancelled') AND OLD.status NOT IN ('succeeded', 'failed', 'cancelled') BEGIN
    INSERT INTO delivery (seq, number, tenant_id, channel, endpoint, ended, error, output, started_at, ended_at, next_at)
        SELECT seq, number, iif(intact, tenant_id, NEW.tenant_id), iif(intact, channel, 'webhook'),
            iif(intact, endpoint, '?'), NEW.status, NEW.error, NEW.output, NEW.started_at, NEW.finished_at, NEW.finished_at
        FROM notice WHERE seq = NEW.seq ORDER BY number;
END;

CREATE TRIGGER delivery_owed AFTER INSERT ON delivery BEGIN
    UPDATE outbox SET pending = pending + 1 WHERE intact;
END;
CREATE TRIGGER delivery_moved AFTER UPDATE OF status ON delivery WHEN OLD.status <> NEW.status BEGIN
    UPDATE outbox SET
        pending = pending + (NEW.status = 'pending') - (OLD.status = 'pending'),
        delivered = delivered + (NEW.status = 'delivered') - (OLD.status = 'delivered'),
        failed = failed + (NEW.status = 'failed') - (OLD.status = 'failed')
    WHERE intact;
END;
CREATE TRIGGER delivery_forgotten AFTER DELETE ON delivery BEGIN
    UPDATE outbox SET
        pending = pending - (OLD.status = 'pending'),
        delivered = delivered - (OLD.status = 'delivered'),
        failed = failed - (OLD.status = 'failed')
    WHERE intact;
END;

CREATE TRIGGER notice_damaged BEFORE UPDATE ON notice WHEN NOT OLD.intact BEGIN
    SELECT RAISE(ABORT, 'a notice');
END;
-- All that may be done to a damaged delivery is to give it up.
CREATE TRIGGER delivery_damaged BEFORE UPDATE ON delivery WHEN NOT OLD.intact AND NEW.status <> 'failed' BEGIN
    SELECT RAISE(ABORT, 'a delivery');
END;
CREATE TRIGGER delivery_try_damaged BEFORE UPDATE ON delivery_try WHEN NOT OLD.intact BEGIN
    SELECT RAISE(ABORT, 'a go at a delivery');
END;
CREATE TRIGGER outbox_damaged BEFORE UPDATE ON outbox WHEN NOT OLD.intact BEGIN
    SELECT RAISE(ABORT, 'the outbox');
END;
CREATE TRIGGER tenant_notices_damaged BEFORE UPDATE ON tenant_notices WHEN NOT OLD.intact BEGIN
    SELECT RAISE(ABORT, 'the notices of a tenant');
END;
