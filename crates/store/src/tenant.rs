//! What tenants get, and what is paused.

use lastframe_core::ports::{Counts, Group, Overview, Pausable, Position, QueueError, Tenant};
use lastframe_core::{Limits, TenantId};
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

pub(crate) fn limit(tx: &mut Tx<'_>, tenant: &TenantId, limits: Limits) -> Result<Tenant, QueueError> {
    let id = tenant_id(tx, tenant)?;
    let own = row::to_json(&limits)?;
    tx.db
        .prepare_cached("UPDATE tenant SET limits = ?2 WHERE id = ?1")
        .and_then(|mut sql| sql.execute(params![id, own]))
        .and_then(|_| put_in_force(tx, id, limits))
        .map_err(storage)?;
    get(tx.db, tenant, tx.default_limits)?.ok_or_else(|| storage(rusqlite::Error::QueryReturnedNoRows))
}

/// Makes of a tenant's own limits and the defaults what its row is served by.
fn put_in_force(tx: &mut Tx<'_>, id: i64, own: Limits) -> rusqlite::Result<()> {
    let Limits { weight, max_concurrency, max_queued, .. } = own.or(tx.default_limits);
    let changed = tx
        .db
        .prepare_cached(
            "UPDATE tenant SET weight = ?2, max_concurrency = ?3, max_queued = ?4
             WHERE id = ?1 AND (weight, max_concurrency, max_queued) IS NOT (?2, ?3, ?4)",
        )?
        .execute(params![id, weight, max_concurrency, max_queued])?;
    if changed > 0 {
        tx.claimable();
    }
    Ok(())
}

/// Puts the defaults of now in force, which may not be those of the last start. A damaged row is in nobody's way but
/// its own.
pub(crate) fn renew_limits(tx: &mut Tx<'_>) -> Result<(), QueueError> {
    let tenants = || -> rusqlite::Result<Vec<(i64, Limits)>> {
        let mut sql = tx.db.prepare("SELECT id, limits FROM tenant WHERE intact")?;
        sql.query_map([], |row| Ok((row.get(0)?, row::json(row, 1)?.unwrap_or_default())))?.collect()
    };
    for (id, own) in tenants().map_err(storage)? {
        put_in_force(tx, id, own).map_err(storage)?;
    }
    Ok(())
}

const TENANT: &str =
    "SELECT name, limits, paused, queued, rendering, succeeded, failed, cancelled, intact FROM tenant";

fn tenant(row: &Row<'_>, defaults: Limits) -> rusqlite::Result<Tenant> {
    integrity::check(row, 8, || format!("tenant {}", row.get::<_, String>(0).unwrap_or_default()))?;
    let limits: Limits = row::json(row, 1)?.unwrap_or_default();
    Ok(Tenant {
        id: TenantId::new(row.get::<_, String>(0)?),
        limits,
        effective: limits.or(defaults),
        paused: row.get(2)?,
        counts: Counts {
            queued: row.get(3)?,
            rendering: row.get(4)?,
            succeeded: row.get(5)?,
            failed: row.get(6)?,
            cancelled: row.get(7)?,
        },
    })
}

pub(crate) fn get(db: &Connection, id: &TenantId, defaults: Limits) -> Result<Option<Tenant>, QueueError> {
    db.prepare_cached(&format!("{TENANT} WHERE name = ?1"))
        .and_then(|mut sql| sql.query_row([id.as_str()], |row| tenant(row, defaults)).optional())
        .map_err(storage)
}

pub(crate) fn list(db: &Connection, defaults: Limits) -> Result<Vec<Tenant>, QueueError> {
    db.prepare_cached(&format!("{TENANT} ORDER BY name"))
        .and_then(|mut sql| sql.query_map([], |row| tenant(row, defaults))?.collect())
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
    // Whatever their limits are.
    let counts =
        list(db, Limits::default())?.iter().fold(Counts::default(), |sum, Tenant { counts, .. }| Counts {
            queued: sum.queued + counts.queued,
            rendering: sum.rendering + counts.rendering,
            succeeded: sum.succeeded + counts.succeeded,
            failed: sum.failed + counts.failed,
            cancelled: sum.cancelled + counts.cancelled,
        });
    Ok(Overview { paused, counts })
}

/// Groups of the tenant by name, from after that name on.
pub(crate) fn groups(
    db: &Connection,
    tenant: &TenantId,
    after: &str,
    limit: u32,
) -> Result<Vec<Group>, QueueError> {
    let names: Vec<String> = db
        .prepare_cached(
            "SELECT name FROM render_group WHERE tenant_id = (SELECT id FROM tenant WHERE name = ?1) AND name > ?2
             ORDER BY name LIMIT ?3",
        )
        .and_then(|mut sql| sql.query_map(params![tenant.as_str(), after, limit], |row| row.get(0))?.collect())
        .map_err(storage)?;
    names.iter().filter_map(|name| group(db, tenant, name).transpose()).collect()
}

pub(crate) fn group(db: &Connection, tenant: &TenantId, name: &str) -> Result<Option<Group>, QueueError> {
    // A render that the group's row names and that is not there is as bad as a damaged row.
    let sql = "SELECT render_group.paused, holder.id, first.id,
            render_group.intact AND (held_by IS NULL) = (holder.id IS NULL) AND (head IS NULL) = (first.id IS NULL),
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
