-- Outputs that are to be deleted before their render's record, by the time they are due, in milliseconds. A damaged
-- output may be no JSON any more, and must not keep its row from being changed.
CREATE INDEX render_output_due ON render (
    finished_at + 86400000 * CASE WHEN json_valid(output) THEN output ->> '$.deletion.afterDays' END
) WHERE CASE WHEN json_valid(output) THEN output ->> '$.deletion.afterDays' END IS NOT NULL;
