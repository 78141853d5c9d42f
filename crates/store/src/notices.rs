//! What tenants have set about the ends of their renders, and what their webhooks are signed with.

use lastframe_core::TenantId;
use lastframe_core::outbox::{NoticeDefaults, TenantNotices, TenantSecret};
use lastframe_core::ports::QueueError;
use rusqlite::{Connection, OptionalExtension, params};

use crate::integrity;
use crate::row::to_json;
use crate::seal::{Place, Ring};
use crate::submit::tenant_id;
use crate::writer::{Tx, storage};

pub(crate) fn get(db: &Connection, ring: &Ring, tenant: &TenantId) -> Result<TenantNotices, QueueError> {
    let what = || format!("the notices of tenant {tenant}");
    let body = db
        .prepare_cached(
            "SELECT body, tenant_notices.intact FROM tenant_notices JOIN tenant ON tenant.id = tenant_id WHERE name = ?1",
        )
        .and_then(|mut sql| {
            let opened = sql.query_row([tenant.as_str()], |row| {
                integrity::check(row, 1, what)?;
                ring.keys().open(&place(tenant), row.get_ref(0)?).map_err(|why| why.of(&what()))
            });
            opened.optional()
        })
        .map_err(storage)?;
    body.map_or_else(|| Ok(TenantNotices::default()), |body| serde_json::from_str(&body).map_err(storage))
}

pub(crate) fn set_defaults(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    defaults: NoticeDefaults,
) -> Result<(), QueueError> {
    let known = match get(tx.db, tx.ring, tenant) {
        // What is set anew need not be known. The secrets are lost, and have to be made anew as well.
        Err(error) if integrity::is_damage(&error) => {
            tracing::error!(%error, "what a tenant had set is damaged; it is set anew, without secrets");
            TenantNotices::default()
        }
        known => known?,
    };
    put(tx, tenant, &TenantNotices { defaults, ..known })
}

pub(crate) fn add_secret(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    secret: TenantSecret,
) -> Result<bool, QueueError> {
    let mut set = get(tx.db, tx.ring, tenant)?;
    if set.secrets.len() >= TenantNotices::MAX_SECRETS
        || set.secrets.iter().any(|known| known.id == secret.id)
    {
        return Ok(false);
    }
    set.secrets.push(secret);
    put(tx, tenant, &set).map(|()| true)
}

pub(crate) fn remove_secret(tx: &mut Tx<'_>, tenant: &TenantId, id: &str) -> Result<bool, QueueError> {
    let mut set = get(tx.db, tx.ring, tenant)?;
    let before = set.secrets.len();
    set.secrets.retain(|secret| secret.id != id);
    if set.secrets.len() == before {
        return Ok(false);
    }
    put(tx, tenant, &set).map(|()| true)
}

fn put(tx: &mut Tx<'_>, tenant: &TenantId, set: &TenantNotices) -> Result<(), QueueError> {
    let id = tenant_id(tx, tenant)?;
    let body = tx.ring.keys().seal(&place(tenant), to_json(set)?)?;
    let sql = "REPLACE INTO tenant_notices (tenant_id, body) VALUES (?1, ?2)";
    tx.db.prepare_cached(sql).and_then(|mut sql| sql.execute(params![id, body])).map_err(storage)?;
    Ok(())
}

fn place(tenant: &TenantId) -> Place {
    Place::new("tenant_notices.body", &[tenant.as_str()])
}
