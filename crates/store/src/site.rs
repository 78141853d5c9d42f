//! Sites: what a name stands for, and what it stood for before.

use lastframe_core::TenantId;
use lastframe_core::ports::{QueueError, RemoveSiteError};
use lastframe_core::site::SiteVersion;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::integrity;
use crate::row::{self, to_json};
use crate::seal::{Place, Ring};
use crate::submit::tenant_id;
use crate::writer::{Tx, storage};

pub(crate) fn put(tx: &mut Tx<'_>, tenant: &TenantId, site: &SiteVersion) -> Result<(), QueueError> {
    let body = tx.ring.keys().seal(&place(tenant, &site.name, &site.version), to_json(site)?)?;
    let tenant = tenant_id(tx, tenant)?;
    let written = || -> rusqlite::Result<()> {
        tx.db
            .prepare_cached("UPDATE site SET current = 0 WHERE tenant_id = ?1 AND name = ?2")?
            .execute(params![tenant, site.name])?;
        tx.db
            .prepare_cached(
                "INSERT INTO site (tenant_id, name, version, current, body) VALUES (?1, ?2, ?3, 1, ?4)
                 ON CONFLICT DO UPDATE SET current = 1, body = excluded.body",
            )?
            .execute(params![tenant, site.name, site.version, body])?;
        Ok(())
    };
    written().map_err(storage)
}

/// Whether that version of the tenant's site is there.
pub(crate) fn exists(db: &Connection, tenant: i64, name: &str, version: &str) -> Result<bool, QueueError> {
    db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM site WHERE tenant_id = ?1 AND name = ?2 AND version = ?3)",
    )
    .and_then(|mut sql| sql.query_row(params![tenant, name, version], |row| row.get(0)))
    .map_err(storage)
}

/// The version asked for, else the current one.
pub(crate) fn get(
    db: &Connection,
    ring: &Ring,
    tenant: &TenantId,
    name: &str,
    version: Option<&str>,
) -> Result<Option<SiteVersion>, QueueError> {
    db.prepare_cached(
        "SELECT body, site.intact, site.name, version FROM site JOIN tenant ON tenant.id = tenant_id
             WHERE tenant.name = ?1 AND site.name = ?2 AND iif(?3 IS NULL, current, version = ?3)",
    )
    .and_then(|mut sql| {
        sql.query_row(params![tenant.as_str(), name, version], |row| body(row, ring, tenant)).optional()
    })
    .map_err(storage)
}

fn body(row: &Row<'_>, ring: &Ring, tenant: &TenantId) -> rusqlite::Result<SiteVersion> {
    let what = || format!("site {}", row.get::<_, String>(2).unwrap_or_default());
    integrity::check(row, 1, what)?;
    let place = place(tenant, row.get_ref(2)?.as_str()?, row.get_ref(3)?.as_str()?);
    let body = ring.keys().open(&place, row.get_ref(0)?).map_err(|why| why.of(&what()))?;
    serde_json::from_str(&body).map_err(|error| row::malformed(0, error.to_string()))
}

fn place(tenant: &TenantId, name: &str, version: &str) -> Place {
    Place::new("site.body", &[tenant.as_str(), name, version])
}

pub(crate) fn list(db: &Connection, ring: &Ring, tenant: &TenantId) -> Result<Vec<SiteVersion>, QueueError> {
    db.prepare_cached(
        "SELECT body, site.intact, site.name, version FROM site JOIN tenant ON tenant.id = tenant_id
         WHERE tenant.name = ?1 AND current ORDER BY site.name",
    )
    .and_then(|mut sql| sql.query_map([tenant.as_str()], |row| body(row, ring, tenant))?.collect())
    .map_err(storage)
}

/// All versions of a site, the last added first.
pub(crate) fn versions(
    db: &Connection,
    ring: &Ring,
    tenant: &TenantId,
    name: &str,
) -> Result<Vec<SiteVersion>, QueueError> {
    let mut versions: Vec<SiteVersion> = db
        .prepare_cached(
            "SELECT body, site.intact, site.name, version FROM site JOIN tenant ON tenant.id = tenant_id
             WHERE tenant.name = ?1 AND site.name = ?2",
        )
        .and_then(|mut sql| sql.query_map([tenant.as_str(), name], |row| body(row, ring, tenant))?.collect())
        .map_err(storage)?;
    versions.sort_by_key(|site| std::cmp::Reverse(site.created_at));
    Ok(versions)
}

/// Whether a site of any tenant has that version.
pub(crate) fn has(db: &Connection, version: &str) -> Result<bool, QueueError> {
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM site WHERE version = ?1)")
        .and_then(|mut sql| sql.query_row([version], |row| row.get(0)))
        .map_err(storage)
}

/// Removes a site, or one version of it that is not the current one.
pub(crate) fn remove(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    name: &str,
    version: Option<&str>,
) -> Result<(), RemoveSiteError> {
    let tenant = tenant_id(tx, tenant)?;
    let current: Option<bool> = tx
        .db
        .prepare_cached(
            "SELECT max(current) FROM site WHERE tenant_id = ?1 AND name = ?2 AND version = ifnull(?3, version)",
        )
        .and_then(|mut sql| sql.query_row(params![tenant, name, version], |row| row.get(0)))
        .map_err(storage)?;
    match (current, version) {
        (None, _) => return Err(RemoveSiteError::NotFound),
        (Some(true), Some(_)) => return Err(RemoveSiteError::Current),
        _ => {}
    }
    let user: Option<String> = tx
        .db
        .prepare_cached(
            "SELECT id FROM render INDEXED BY render_by_site WHERE status IN ('queued', 'rendering') AND tenant_id = ?1 AND site = ?2
             AND site_version IN (SELECT version FROM site WHERE tenant_id = ?1 AND name = ?2 AND version = ifnull(?3, version))
             LIMIT 1",
        )
        .and_then(|mut sql| sql.query_row(params![tenant, name, version], |row| row.get(0)).optional())
        .map_err(storage)?;
    if let Some(user) = user {
        return Err(RemoveSiteError::InUse(row::id(&user)?));
    }
    tx.db
        .prepare_cached(
            "DELETE FROM site WHERE tenant_id = ?1 AND name = ?2 AND version = ifnull(?3, version)",
        )
        .and_then(|mut sql| sql.execute(params![tenant, name, version]))
        .map_err(storage)?;
    Ok(())
}
