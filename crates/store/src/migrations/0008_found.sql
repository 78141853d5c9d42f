-- Indexes to find renders by what people type, whatever the case of its ASCII letters, and to count them by the hour. None
-- of the questions they are for needs a row to be answered.

CREATE INDEX render_by_composition ON render (tenant_id, composition COLLATE NOCASE, seq);
CREATE INDEX render_by_group_text ON render (tenant_id, group_name COLLATE NOCASE, seq) WHERE group_name IS NOT NULL;
CREATE INDEX render_accepted_at ON render (created_at, tenant_id);

DROP INDEX render_ended;
CREATE INDEX render_ended ON render (finished_at, seq, tenant_id, status) WHERE status IN ('succeeded', 'failed', 'cancelled');
