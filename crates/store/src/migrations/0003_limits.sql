-- Limits of a tenant: its own, each of which may be absent, and beside them what counts.

DROP TRIGGER render_accepted;
DROP TRIGGER render_moved;
DROP TRIGGER render_forgotten;
DROP TRIGGER tenant_returned;

-- A copy would give a damaged row a checksum that fits: the trigger that guards it refuses.
UPDATE tenant SET paused = paused;

CREATE TABLE new_tenant (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- What was set for this tenant, as JSON. What is absent is the default of the configuration.
    limits TEXT NOT NULL DEFAULT '{}',
    -- What counts of them, or of the defaults: put in force when either changes.
    weight INTEGER NOT NULL CHECK (weight BETWEEN 1 AND 1000),
    -- Renders at once, and renders that wait; no limit when null.
    max_concurrency INTEGER,
    max_queued INTEGER,
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
    checksum INTEGER NOT NULL AS (row_checksum(id, name, limits, weight, max_concurrency, max_queued, paused, vtime,
        ready, queued, rendering, succeeded, failed, cancelled)) STORED,
    intact INTEGER AS (checksum = row_checksum(id, name, limits, weight, max_concurrency, max_queued, paused, vtime,
        ready, queued, rendering, succeeded, failed, cancelled))
) STRICT;
-- A weight of 1 was the default, and stays it.
INSERT INTO new_tenant (id, name, limits, weight, max_concurrency, paused, vtime, ready, queued, rendering, succeeded,
        failed, cancelled)
    SELECT id, name,
        json_patch('{}', json_object('weight', nullif(weight, 1), 'maxConcurrency', max_rendering)),
        weight, max_rendering, paused, vtime, ready, queued, rendering, succeeded, failed, cancelled
    FROM tenant;
DROP TABLE tenant;
ALTER TABLE new_tenant RENAME TO tenant;
CREATE INDEX tenant_turn ON tenant (vtime, id)
    WHERE ready > 0 AND paused = 0 AND (max_concurrency IS NULL OR rendering < max_concurrency);

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
CREATE TRIGGER tenant_returned AFTER UPDATE OF ready, paused, max_concurrency, rendering ON tenant
WHEN (NEW.ready > 0 AND NEW.paused = 0 AND (NEW.max_concurrency IS NULL OR NEW.rendering < NEW.max_concurrency))
    AND NOT (OLD.ready > 0 AND OLD.paused = 0 AND (OLD.max_concurrency IS NULL OR OLD.rendering < OLD.max_concurrency))
BEGIN
    UPDATE tenant SET vtime = max(NEW.vtime, (SELECT vtime FROM queue)) WHERE id = NEW.id;
END;

CREATE TRIGGER tenant_damaged BEFORE UPDATE ON tenant WHEN NOT OLD.intact BEGIN
    SELECT RAISE(ABORT, 'a tenant');
END;
