//! Accepting renders.

use lastframe_core::ports::{IdempotencyKey, NewRender, QueueError, SubmitError, Submitted};
use lastframe_core::{Limits, OnFailure, Render, RenderId, TenantId, hex};
use rusqlite::{Connection, OptionalExtension, params};

use crate::integrity;
use crate::line;
use crate::outbox;
use crate::read;
use crate::row::{AT_ONCE, Gate, to_json};
use crate::seal::{Place, Ring};
use crate::site;
use crate::writer::{Tx, storage};

pub(crate) fn submit(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    renders: &[NewRender],
    key: Option<&IdempotencyKey>,
) -> Result<Submitted, SubmitError> {
    let tenant_id = tenant_id(tx, tenant)?;
    if let Some(key) = key
        && let Some(renders) = known(tx.db, tx.ring, tenant, tenant_id, key)?
    {
        return Ok(Submitted { renders, replayed: true });
    }
    // Looked up before, yet it may have been removed since; a render under way keeps it from now on.
    let mut last = None;
    for (index, render) in renders.iter().enumerate() {
        let site = Some((render.request.serve_url.as_str(), render.site_version.as_str()));
        if site != last && !site::exists(tx.db, tenant_id, &render.request.serve_url, &render.site_version)? {
            return Err(SubmitError::SiteGone(index));
        }
        last = site;
    }
    if let Some(most) = too_many(tx, tenant_id, renders.len())? {
        return Err(SubmitError::TooManyQueued(most));
    }
    let ids = renders.iter().map(|render| accept(tx, tenant_id, render)).collect::<Result<Vec<_>, _>>()?;
    if let Some(key) = key {
        let hash = tx.ring.keys().seal(&hash_of(tenant, key), hex::encode(&key.body_hash))?;
        tx.db
            .prepare_cached("REPLACE INTO idempotency (tenant_id, key, body_hash, renders, created_at) VALUES (?1, ?2, ?3, ?4, ?5)")
            .and_then(|mut sql| sql.execute(params![tenant_id, key.key, hash, to_json_ids(&ids), tx.now]))
            .map_err(storage)?;
    }
    let renders = ids.iter().map(|id| read::expect(tx.db, *id)).collect::<Result<_, _>>()?;
    Ok(Submitted { renders, replayed: false })
}

/// The row of the tenant, made when it is first seen.
pub(crate) fn tenant_id(tx: &mut Tx<'_>, tenant: &TenantId) -> Result<i64, QueueError> {
    let make = || {
        let Limits { weight, max_concurrency, max_queued, .. } = Limits::default().or(tx.default_limits);
        tx.db
            .prepare_cached(
                "INSERT INTO tenant (name, weight, max_concurrency, max_queued) VALUES (?1, ?2, ?3, ?4) RETURNING id",
            )?
            .query_row(params![tenant.as_str(), weight, max_concurrency, max_queued], |row| row.get(0))
    };
    seen(tx.db, tenant).and_then(|known| known.map_or_else(make, Ok)).map_err(storage)
}

/// The row of the tenant, if it was ever seen.
fn seen(db: &Connection, tenant: &TenantId) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT id FROM tenant WHERE name = ?1")?
        .query_row([tenant.as_str()], |row| row.get(0))
        .optional()
}

/// How many of the tenant's may wait, if with so many more it would be more than that.
fn too_many(tx: &Tx<'_>, tenant: i64, more: usize) -> Result<Option<u32>, QueueError> {
    let more = i64::try_from(more).unwrap_or(i64::MAX);
    tx.db
        .prepare_cached("SELECT max_queued FROM tenant WHERE id = ?1 AND queued + ?2 > max_queued AND intact")
        .and_then(|mut sql| sql.query_row([tenant, more], |row| row.get(0)).optional())
        .map_err(storage)
}

/// The renders that were accepted under the key.
pub(crate) fn submitted(
    db: &Connection,
    ring: &Ring,
    tenant: &TenantId,
    key: &IdempotencyKey,
) -> Result<Option<Vec<Render>>, SubmitError> {
    match seen(db, tenant).map_err(storage)? {
        Some(id) => known(db, ring, tenant, id, key),
        None => Ok(None),
    }
}

/// The renders that the key stands for. It is remembered no longer than the last of them.
fn known(
    db: &Connection,
    ring: &Ring,
    name: &TenantId,
    tenant: i64,
    key: &IdempotencyKey,
) -> Result<Option<Vec<Render>>, SubmitError> {
    let found: Option<(String, String)> = db
        .prepare_cached(
            "SELECT body_hash, renders, intact FROM idempotency WHERE tenant_id = ?1 AND key = ?2",
        )
        .and_then(|mut sql| {
            let known = sql.query_row(params![tenant, key.key], |row| {
                let what = "an idempotency key";
                integrity::check(row, 2, || what.into())?;
                let hash = ring.keys().open(&hash_of(name, key), row.get_ref(0)?);
                Ok((hash.map_err(|why| why.of(what))?, row.get(1)?))
            });
            known.optional()
        })
        .map_err(storage)?;
    let Some((hash, ids)) = found else { return Ok(None) };
    let mut renders = Vec::new();
    for id in serde_json::from_str::<Vec<RenderId>>(&ids).map_err(storage)? {
        renders.extend(read::get(db, id)?);
    }
    if renders.is_empty() {
        return Ok(None);
    }
    if hash != hex::encode(&key.body_hash) { Err(SubmitError::KeyReused) } else { Ok(Some(renders)) }
}

fn accept(tx: &mut Tx<'_>, tenant: i64, new: &NewRender) -> Result<RenderId, QueueError> {
    let request = &new.request;
    let queue = &request.queue.clone().unwrap_or_default();
    let now = jiff::Timestamp::from_millisecond(tx.now).map_err(storage)?;
    let id = RenderId::generate(now, tx.rng);
    let run_at =
        queue.run_at.map(jiff::Timestamp::as_millisecond).filter(|at| *at > tx.now).unwrap_or(AT_ONCE);
    let gate = match &queue.group {
        Some(_) => Gate::Group,
        None if run_at > tx.now => Gate::Delayed,
        None => Gate::Open,
    };
    let body = tx.ring.keys().seal(&Place::new("request.body", &[&id.to_string()]), to_json(request)?)?;
    let written = || -> rusqlite::Result<i64> {
        let seq = tx
            .db
            .prepare_cached(
                "INSERT INTO render (id, tenant_id, group_name, kind, site, site_version, composition, status, gate,
                    priority, on_failure, run_at, max_attempts, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'queued', ?8, ?9, ?10, ?11, ?12, ?13) RETURNING seq",
            )?
            .query_row(
                params![
                    id.to_string(),
                    tenant,
                    queue.group,
                    new.kind.as_str(),
                    request.serve_url,
                    new.site_version,
                    request.composition,
                    gate as i64,
                    queue.priority.unwrap_or(0),
                    queue.on_failure.unwrap_or(OnFailure::Continue).as_str(),
                    run_at,
                    queue.max_attempts.unwrap_or(new.default_max_attempts),
                    tx.now,
                ],
                |row| row.get(0),
            )?;
        tx.db
            .prepare_cached("INSERT INTO request (seq, body) VALUES (?1, ?2)")?
            .execute(params![seq, body])?;
        outbox::promise(tx, seq, tenant, &request.notices())?;
        Ok(seq)
    };
    let seq = written().map_err(storage)?;
    match &queue.group {
        Some(group) => line::enqueue(tx, seq, tenant, Some(group)).map_err(storage)?,
        None if gate == Gate::Open => tx.claimable(),
        None => {}
    }
    tx.changed(id);
    Ok(id)
}

/// Where the hash of a key's body stands.
fn hash_of(tenant: &TenantId, key: &IdempotencyKey) -> Place {
    Place::new("idempotency.body_hash", &[tenant.as_str(), &key.key])
}

fn to_json_ids(ids: &[RenderId]) -> String {
    serde_json::Value::from_iter(ids.iter().map(ToString::to_string)).to_string()
}
