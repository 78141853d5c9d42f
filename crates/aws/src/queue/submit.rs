//! Accepting renders.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures_util::future::try_join_all;
use lastframe_core::ports::{IdempotencyKey, NewRender, QueueError, SubmitError, Submitted};
use lastframe_core::{OnFailure, Render, RenderId, Status, TenantId, hex};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::body::Body;
use super::row::{Bell, LaneRow, RenderRow};
use super::schema::{self, EXPIRES};
use super::table::{Item, Key, Trouble, from_item, n, retrying, storage, to_item};
use super::tx::{If, Tx};

/// How long an idempotency key is remembered.
const KEY_LIFETIME: Duration = Duration::from_secs(72 * 60 * 60);
/// Renders of one submit at most: a transaction takes 100 items, and each of them may need four: itself, its request, its
/// lane and its place there.
pub(super) const BATCH: usize = 24;

/// What a key stands for.
#[derive(Debug, Serialize, Deserialize)]
struct KeyRow {
    v: u64,
    body_hash: String,
    renders: Vec<RenderId>,
    created_at: i64,
}

/// What is known of a key.
enum Known {
    /// Nothing that counts; the version of what is to be overwritten.
    Nothing(Option<u64>),
    Reused,
    Renders(Vec<Render>),
}

/// A tenant, noted when it is first seen.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TenantRow {
    pub(super) v: u64,
    pub(super) name: TenantId,
    pub(super) paused: bool,
}

/// A render before it has its place.
struct Prepared {
    id: RenderId,
    body: Body,
}

impl Shared {
    pub(super) async fn submit(
        &self,
        tenant: &TenantId,
        renders: &[NewRender],
        key: Option<&IdempotencyKey>,
    ) -> Result<Submitted, SubmitError> {
        if renders.len() > BATCH {
            let why =
                format!("{} renders were submitted at once, and a transaction holds {BATCH}", renders.len());
            return Err(storage(why).into());
        }
        let prepared = try_join_all(renders.iter().map(|render| self.prepare(render))).await?;
        let submitted = retrying(|| self.try_submit(tenant, renders, &prepared, key)).await;
        // Not when it is unclear what became of it.
        let refused = match &submitted {
            Ok(Ok(submitted)) => submitted.replayed,
            Ok(Err(_)) | Err(QueueError::Busy) => true,
            Err(_) => false,
        };
        if refused {
            for name in prepared.iter().filter_map(|prepared| prepared.body.object()) {
                self.drop_object(name).await;
            }
        }
        submitted?
    }

    async fn prepare(&self, new: &NewRender) -> Result<Prepared, QueueError> {
        let id = RenderId::generate(self.clock.now(), &mut fastrand::Rng::new());
        let text = serde_json::to_string(&new.request).map_err(storage)?;
        let body = self.keep(|| format!("requests/{id}.json"), text).await?;
        Ok(Prepared { id, body })
    }

    async fn try_submit(
        &self,
        tenant: &TenantId,
        renders: &[NewRender],
        prepared: &[Prepared],
        key: Option<&IdempotencyKey>,
    ) -> Result<Result<Submitted, SubmitError>, Trouble> {
        // All that a submit depends on, in one question.
        let site = |new: &NewRender| schema::site_version(tenant, &new.request.serve_url, &new.site_version);
        let lane = |new: &NewRender| Some(schema::lane(tenant, new.request.queue.as_ref()?.group.as_ref()?));
        let key_name = key.map(|key| schema::idempotency(tenant, &key.key));
        let mut keys: Vec<Key> = renders.iter().map(site).chain(renders.iter().filter_map(lane)).collect();
        keys.push(schema::tenant(tenant));
        let mine = prepared.first().map(|prepared| schema::render(prepared.id));
        keys.extend(mine.clone());
        keys.extend(key_name.clone());
        keys.sort_unstable();
        keys.dedup();
        let mut found = self.table.get_all(&keys).await?;

        if mine.is_some_and(|mine| found.contains_key(&mine)) {
            // An earlier go stands, though nobody could say so.
            let keys: Vec<Key> = prepared.iter().map(|prepared| schema::render(prepared.id)).collect();
            let renders = self.render_rows(&keys).await?.into_iter().map(RenderRow::render).collect();
            return Ok(Ok(Submitted { renders, replayed: false }));
        }
        let mut overwritten = None;
        if let (Some(key), Some(name)) = (key, &key_name) {
            match self.known(found.remove(name), key).await? {
                Known::Nothing(version) => overwritten = version,
                Known::Reused => return Ok(Err(SubmitError::KeyReused)),
                Known::Renders(renders) => return Ok(Ok(Submitted { renders, replayed: true })),
            }
        }
        if let Some(index) = renders.iter().position(|new| !found.contains_key(&site(new))) {
            return Ok(Err(SubmitError::SiteGone(index)));
        }

        let mut tx = Tx::new(self);
        if !found.contains_key(&schema::tenant(tenant)) {
            tx.put_row(
                &schema::tenant(tenant),
                &TenantRow { v: 0, name: tenant.clone(), paused: false },
                If::New,
            )?;
        }
        let first = self.table.draw("renders", renders.len()).await?;
        let mut lanes: BTreeMap<Key, (Option<LaneRow>, LaneRow)> = BTreeMap::new();
        let mut accepted = Vec::with_capacity(renders.len());
        for ((seq, new), prepared) in (first..).zip(renders).zip(prepared) {
            let row = row(tenant, new, prepared.id, seq, tx.now);
            if let (Some(name), Some(group)) = (lane(new), &row.group) {
                let (before, lane) = match lanes.entry(name.clone()) {
                    std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::btree_map::Entry::Vacant(entry) => {
                        let before: Option<LaneRow> = found.remove(&name).map(from_item).transpose()?;
                        let lane = before.clone().unwrap_or_else(|| LaneRow::new(tenant, group));
                        entry.insert((before, lane))
                    }
                };
                // Somebody who drew a later number was faster: whoever is accepted later has the later place.
                if before.as_ref().is_some_and(|before| before.last > seq) {
                    return Err(Trouble::Again);
                }
                lane.last = seq;
                lane.queued += 1;
                let waiting = row.waiting();
                tx.put_row(&schema::waiting(&name, seq), &waiting, If::Always)?;
                lane.head.get_or_insert(waiting);
            }
            accepted.push(tx.render(None, row)?.render());
            tx.put_row(&schema::of_render(prepared.id, "request"), &prepared.body, If::Always)?;
        }
        for (before, lane) in lanes.into_values() {
            tx.lane(before.as_ref(), lane)?;
        }
        if let (Some(key), Some(name)) = (key, &key_name) {
            let renders = prepared.iter().map(|prepared| prepared.id).collect();
            let v = overwritten.map_or(0, |version| version + 1);
            let row = KeyRow { v, body_hash: hex::encode(&key.body_hash), renders, created_at: tx.now };
            let mut item = to_item(name, &row)?;
            let kept = i64::try_from(KEY_LIFETIME.as_secs()).unwrap_or(i64::MAX);
            item.insert(EXPIRES.into(), n(tx.now / 1_000 + kept + 60));
            tx.put(item, overwritten.map_or(If::New, If::Version))?;
        }
        tx.commit().await?;
        Ok(Ok(Submitted { renders: accepted, replayed: false }))
    }

    pub(super) async fn submitted(
        &self,
        tenant: &TenantId,
        key: &IdempotencyKey,
    ) -> Result<Option<Vec<Render>>, SubmitError> {
        let found = self.table.get(&schema::idempotency(tenant, &key.key)).await?;
        match self.known(found, key).await? {
            Known::Nothing(_) => Ok(None),
            Known::Reused => Err(SubmitError::KeyReused),
            Known::Renders(renders) => Ok(Some(renders)),
        }
    }

    /// What the key stands for. It is remembered no longer than the last of its renders.
    async fn known(&self, found: Option<Item>, key: &IdempotencyKey) -> Result<Known, QueueError> {
        let Some(item) = found else { return Ok(Known::Nothing(None)) };
        let row: KeyRow = from_item(item)?;
        let kept = i64::try_from(KEY_LIFETIME.as_millis()).unwrap_or(i64::MAX);
        if row.created_at.saturating_add(kept) <= self.now() {
            return Ok(Known::Nothing(Some(row.v)));
        }
        let keys: Vec<Key> = row.renders.iter().map(|id| schema::render(*id)).collect();
        let mut found: HashMap<Key, Item> = self.table.get_all(&keys).await?;
        let mut renders = Vec::new();
        for item in keys.iter().filter_map(|key| found.remove(key)) {
            renders.push(from_item::<RenderRow>(item)?.render());
        }
        Ok(if renders.is_empty() {
            Known::Nothing(Some(row.v))
        } else if row.body_hash != hex::encode(&key.body_hash) {
            Known::Reused
        } else {
            Known::Renders(renders)
        })
    }

    /// Notes a tenant that was never seen before.
    pub(super) async fn see(&self, tenant: &TenantId) -> Result<(), QueueError> {
        let key = schema::tenant(tenant);
        if self.table.get(&key).await?.is_none() {
            let row = TenantRow { v: 0, name: tenant.clone(), paused: false };
            self.table.put_new(to_item(&key, &row)?).await?;
        }
        Ok(())
    }
}

fn row(tenant: &TenantId, new: &NewRender, id: RenderId, seq: i64, now: i64) -> RenderRow {
    let request = &new.request;
    let queue = request.queue.clone().unwrap_or_default();
    let run_at = queue.run_at.map(jiff::Timestamp::as_millisecond).filter(|at| *at > now).unwrap_or(0);
    let notices = request.notices().iter().map(|notice| (notice.channel, notice.endpoint())).collect();
    RenderRow {
        v: 0,
        id,
        seq,
        tenant: tenant.clone(),
        group: queue.group,
        kind: new.kind,
        site: request.serve_url.clone(),
        site_version: new.site_version.clone(),
        composition: request.composition.clone(),
        status: Status::Queued,
        blocks: queue.on_failure == Some(OnFailure::Block),
        run_at,
        backoff_until: 0,
        attempt: 0,
        max_attempts: queue.max_attempts.unwrap_or(new.default_max_attempts),
        leases: 0,
        lost: 0,
        created_at: now,
        started_at: None,
        attempt_started_at: None,
        finished_at: None,
        cancel_requested_at: None,
        progress: None,
        error: None,
        output: None,
        token: None,
        lease_until: None,
        worker: None,
        checkpoint: false,
        bell: Bell::default(),
        notices,
        deliveries: Vec::new(),
    }
}
