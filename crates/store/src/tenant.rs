//! What tenants get, and what is paused.

use lastframe_core::TenantId;
use lastframe_core::ports::{Counts, Group, Overview, Pausable, Position, QueueError, Share, Tenant};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::integrity;
use crate::line;
use crate::row;
use crate::submit::tenant_id;
use crate::writer::{Tx, storage};

pub(crate) fn set_paused(tx: &mut Tx<'_>, what: &Pausable, paused: bool) -> Result<(), QueueError> {
    match what {
        Pausable::Queue => tx
            .db
            .prepare_cached("UPDATE queue SET paused = ?1")
            .and_then(|mut sql| sql.execute([paused]))
            .map_err(storage)
            .map(drop),
        Pausable::Tenant(tenant) => {
            let tenant = tenant_id(tx, tenant)?;
            tx.db
                .prepare_cached("UPDATE tenant SET paused = ?2 WHERE id = ?1")
                .and_then(|mut sql| sql.execute(params![tenant, paused]))
                .map_err(storage)
                .map(drop)
        }
        Pausable::Group(tenant, group) => {
            let tenant = tenant_id(tx, tenant)?;
            let sql = if paused {
                // There need be no render of it yet.
                "INSERT INTO render_group (tenant_id, name, paused) VALUES (?1, ?2, 1)
                 ON CONFLICT DO UPDATE SET paused = 1"
            } else {
                "UPDATE render_group SET paused = 0, held_by = NULL WHERE tenant_id = ?1 AND name = ?2"
            };
            tx.db
                .prepare_cached(sql)
                .and_then(|mut sql| sql.execute(params![tenant, group]))
                .and_then(|_| line::settle(tx, tenant, group))
                .map_err(storage)
        }
    }?;
    tx.claimable();
    Ok(())
}

pub(crate) fn share(tx: &mut Tx<'_>, tenant: &TenantId, share: Share) -> Result<Tenant, QueueError> {
    let id = tenant_id(tx, tenant)?;
    tx.db
        .prepare_cached("UPDATE tenant SET weight = ?2, max_rendering = ?3 WHERE id = ?1")
        .and_then(|mut sql| sql.execute(params![id, share.weight, share.max_rendering]))
        .map_err(storage)?;
    tx.claimable();
    get(tx.db, tenant)?.ok_or_else(|| storage(rusqlite::Error::QueryReturnedNoRows))
}

const TENANT: &str = "SELECT name, weight, max_rendering, paused, queued, rendering, succeeded, failed, cancelled, intact FROM tenant";

fn tenant(row: &Row<'_>) -> rusqlite::Result<Tenant> {
    integrity::check(row, 9, || format!("tenant {}", row.get::<_, String>(0).unwrap_or_default()))?;
    Ok(Tenant {
        id: TenantId::new(row.get::<_, String>(0)?),
        share: Share { weight: row.get(1)?, max_rendering: row.get(2)? },
        paused: row.get(3)?,
        counts: Counts {
            queued: row.get(4)?,
            rendering: row.get(5)?,
            succeeded: row.get(6)?,
            failed: row.get(7)?,
            cancelled: row.get(8)?,
        },
    })
}

pub(crate) fn get(db: &Connection, id: &TenantId) -> Result<Option<Tenant>, QueueError> {
    db.prepare_cached(&format!("{TENANT} WHERE name = ?1"))
        .and_then(|mut sql| sql.query_row([id.as_str()], tenant).optional())
        .map_err(storage)
}

pub(crate) fn list(db: &Connection) -> Result<Vec<Tenant>, QueueError> {
    db.prepare_cached(&format!("{TENANT} ORDER BY name"))
        .and_then(|mut sql| sql.query_map([], tenant)?.collect())
        .map_err(storage)
}

pub(crate) fn overview(db: &Connection) -> Result<Overview, QueueError> {
    let paused = db
        .prepare_cached("SELECT paused, intact FROM queue")
        .and_then(|mut sql| {
            sql.query_row([], |row| {
                integrity::check(row, 1, || "the queue".into())?;
                row.get(0)
            })
        })
        .map_err(storage)?;
    let counts = list(db)?.iter().fold(Counts::default(), |sum, Tenant { counts, .. }| Counts {
        queued: sum.queued + counts.queued,
        rendering: sum.rendering + counts.rendering,
        succeeded: sum.succeeded + counts.succeeded,
        failed: sum.failed + counts.failed,
        cancelled: sum.cancelled + counts.cancelled,
    });
    Ok(Overview { paused, counts })
}

pub(crate) fn group(db: &Connection, tenant: &TenantId, name: &str) -> Result<Option<Group>, QueueError> {
    let sql = "SELECT render_group.paused, holder.id, first.id, render_group.intact,
            (SELECT count(*) FROM (SELECT 1 FROM render INDEXED BY render_line
             WHERE tenant_id = tenant.id AND group_name = ?2 AND status = 'queued' LIMIT ?3))
        FROM render_group JOIN tenant ON tenant.id = render_group.tenant_id
        LEFT JOIN render AS holder ON holder.seq = held_by LEFT JOIN render AS first ON first.seq = head
        WHERE tenant.name = ?1 AND render_group.name = ?2";
    let found = db
        .prepare_cached(sql)
        .and_then(|mut sql| {
            sql.query_row(params![tenant.as_str(), name, Position::COUNTED_UP_TO], |row| {
                integrity::check(row, 3, || format!("group {name}"))?;
                Ok((
                    row.get(0)?,
                    row.get::<_, Option<String>>(1)?,
                    row.get::<_, Option<String>>(2)?,
                    row.get(4)?,
                ))
            })
            .optional()
        })
        .map_err(storage)?;
    let Some((paused, held_by, head, queued)) = found else { return Ok(None) };
    let id = |text: Option<String>| text.map(|text| row::id(&text)).transpose();
    Ok(Some(Group { name: name.to_owned(), paused, held_by: id(held_by)?, head: id(head)?, queued }))
}
