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

pub(crate) fn remove(tx: &mut Tx<'_>, tenant: &TenantId, name: &str) -> Result<Vec<String>, RemoveSiteError> {
    let tenant = tenant_id(tx, tenant)?;
    let versions: Vec<String> = tx
        .db
        .prepare_cached("SELECT version FROM site WHERE tenant_id = ?1 AND name = ?2")
        .and_then(|mut sql| sql.query_map(params![tenant, name], |row| row.get(0))?.collect())
        .map_err(storage)?;
    if versions.is_empty() {
        return Err(RemoveSiteError::NotFound);
    }
    let user: Option<String> = tx
        .db
        .prepare_cached(
            "SELECT id FROM render INDEXED BY render_by_site WHERE status IN ('queued', 'rendering') AND tenant_id = ?1 AND site = ?2
             AND site_version IN (SELECT version FROM site WHERE tenant_id = ?1 AND name = ?2) LIMIT 1",
        )
        .and_then(|mut sql| sql.query_row(params![tenant, name], |row| row.get(0)).optional())
        .map_err(storage)?;
    if let Some(user) = user {
        return Err(RemoveSiteError::InUse(row::id(&user)?));
    }
    tx.db
        .prepare_cached("DELETE FROM site WHERE tenant_id = ?1 AND name = ?2")
        .and_then(|mut sql| sql.execute(params![tenant, name]))
        .map_err(storage)?;
    unused(tx, versions).map_err(Into::into)
}

/// A version of a tenant's site.
pub(crate) struct Version {
    tenant: i64,
    name: String,
    version: String,
}

/// Versions for which no name stands, and which no render needs or would need if it were retried.
pub(crate) fn unneeded(db: &Connection) -> Result<Vec<Version>, QueueError> {
    let version =
        |row: &Row<'_>| Ok(Version { tenant: row.get(0)?, name: row.get(1)?, version: row.get(2)? });
    db.prepare_cached(
        "SELECT tenant_id, name, version FROM site WHERE NOT current AND intact AND NOT EXISTS
            (SELECT 1 FROM render INDEXED BY render_by_status WHERE render.tenant_id = site.tenant_id AND render.site = site.name
                AND site_version = site.version AND status IN ('queued', 'rendering', 'failed', 'cancelled'))",
    )
    .and_then(|mut sql| sql.query_map([], version)?.collect())
    .map_err(storage)
}

/// Forgets them, but for those that have come to be needed since. Returns what no site uses any more.
pub(crate) fn prune(tx: &mut Tx<'_>, versions: &[Version]) -> Result<Vec<String>, QueueError> {
    let mut gone = Vec::new();
    for Version { tenant, name, version } in versions {
        let forgotten = tx
            .db
            .prepare_cached(
                "DELETE FROM site WHERE tenant_id = ?1 AND name = ?2 AND version = ?3 AND NOT current AND NOT EXISTS
                    (SELECT 1 FROM render INDEXED BY render_by_site WHERE status IN ('queued', 'rendering')
                        AND render.tenant_id = ?1 AND render.site = ?2 AND site_version = ?3)",
            )
            .and_then(|mut sql| sql.execute(params![tenant, name, version]))
            .map_err(storage)?;
        if forgotten > 0 {
            gone.push(version.clone());
        }
    }
    unused(tx, gone)
}

/// Those of the versions that no site uses.
fn unused(tx: &Tx<'_>, versions: Vec<String>) -> Result<Vec<String>, QueueError> {
    let mut unused = Vec::new();
    for version in versions {
        let used: bool = tx
            .db
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM site WHERE version = ?1)")
            .and_then(|mut sql| sql.query_row([&version], |row| row.get(0)))
            .map_err(storage)?;
        if !used {
            unused.push(version);
        }
    }
    Ok(unused)
}
