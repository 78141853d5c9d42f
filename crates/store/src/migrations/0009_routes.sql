-- A host may be shared by many, each with a path of their own: what is owed is looked through tenant by tenant, too.

DROP INDEX delivery_due;
CREATE INDEX delivery_due ON delivery (channel, tenant_id, endpoint, next_at)
    WHERE status = 'pending' AND held_until IS NULL;
