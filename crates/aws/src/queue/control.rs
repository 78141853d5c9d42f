//! What people ask of renders after they were accepted, and what is let go on or not.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::iter;
use lastframe_core::ports::{ControlError, Pausable, QueueError, Redrive, Redriven};
use lastframe_core::{Deletion, Event, Failure, Output, Render, RenderId, Status, TenantId};

use super::Shared;
use super::claim::ControlRow;
use super::ring::{AT_ONCE, lane_key};
use super::row::{LaneRow, RenderRow, Standing, time};
use super::schema::{self, DUE, STATUS};
use super::submit::TenantRow;
use super::table::{Key, Search, Trouble, fault, from_item, retrying, text, to_item};
use super::tx::{If, Tx};

/// A redrive that has not done all by then says that there is more: the API must answer within half a minute.
const REDRIVES_FOR: Duration = Duration::from_secs(15);
/// Lanes that a resume rings for before it is answered; the sweep rings for the others.
const RESUMED_AT_ONCE: usize = 200;

impl Shared {
    pub(super) async fn render_row(&self, id: RenderId) -> Result<Option<RenderRow>, QueueError> {
        self.table.row(&schema::render(id)).await
    }

    pub(super) async fn cancel(&self, id: RenderId) -> Result<Render, ControlError> {
        retrying(async || self.try_cancel(id).await).await?
    }

    async fn try_cancel(&self, id: RenderId) -> Result<Result<Render, ControlError>, Trouble> {
        let Some(before) = self.render_row(id).await? else { return Ok(Err(ControlError::NotFound)) };
        let status = match before.status.on(Event::Cancel) {
            Ok(status) => status,
            Err(illegal) => return Ok(Err(illegal.into())),
        };
        let mut tx = Tx::new(self);
        let mut row = before.clone();
        row.cancel_requested_at = before.cancel_requested_at.or(Some(tx.now));
        let row = if before.status == Status::Rendering {
            // Its holder ends it, or the sweep when the holder is gone: the state changes only then.
            tx.render(Some(&before), row)?
        } else {
            (row.status, row.finished_at, row.error) = (status, Some(tx.now), Some(Failure::cancelled()));
            row.backoff_until = 0;
            if let Some(lane_before) = self.lane_of(&row).await? {
                let key = lane_before.key();
                let mut lane = lane_before.clone();
                tx.delete(&schema::waiting(&key, row.seq))?;
                lane.queued = lane.queued.saturating_sub(1);
                if lane.head.as_ref().is_some_and(|head| head.id == id) {
                    lane.head = self.first_waiting(&key, row.seq).await?;
                }
                tx.lane(Some(&lane_before), lane)?;
            }
            self.over(&mut tx, &before, row).await?
        };
        tx.commit().await?;
        Ok(Ok(row.render()))
    }

    pub(super) async fn retry(&self, id: RenderId) -> Result<Render, ControlError> {
        retrying(async || self.try_retry(id, false).await).await?
    }

    /// Queues it again; `failed` if only when it has failed.
    pub(super) async fn try_retry(
        &self,
        id: RenderId,
        failed: bool,
    ) -> Result<Result<Render, ControlError>, Trouble> {
        let Some(before) = self.render_row(id).await? else { return Ok(Err(ControlError::NotFound)) };
        let status = match before.status.on(Event::Retry) {
            Ok(status) if before.status == Status::Failed || !failed => status,
            Ok(_) => return Ok(Err(ControlError::NotFound)),
            Err(illegal) => return Ok(Err(illegal.into())),
        };
        let mut tx = Tx::new(self);
        let mut row = before.clone();
        row.status = status;
        (row.attempt, row.lost, row.run_at, row.backoff_until) = (0, 0, 0, 0);
        (row.error, row.progress, row.cancel_requested_at, row.finished_at) = (None, None, None, None);
        row.attempt_started_at = None;
        if let Some(group) = &row.group {
            let lane_before = self.lane_of(&row).await?;
            let mut lane = lane_before.clone().unwrap_or_else(|| LaneRow::new(&row.tenant, group));
            lane.held_by = lane.held_by.filter(|holder| *holder != id);
            lane.last = lane.last.max(row.seq);
            self.enter(&mut tx, &mut lane, &row)?;
            tx.lane(lane_before.as_ref(), lane)?;
        }
        let row = tx.render(Some(&before), row)?;
        tx.commit().await?;
        Ok(Ok(row.render()))
    }

    /// Each in a transaction of its own, the first accepted first.
    pub(super) async fn redrive(&self, which: &Redrive) -> Result<Redriven, QueueError> {
        let enough = self.clock.monotonic() + REDRIVES_FOR;
        let limit = which.limit as usize;
        let mut found: Vec<RenderId> = Vec::new();
        if let Some(ids) = &which.ids {
            let asked: HashSet<RenderId> = ids.iter().copied().collect();
            let keys: Vec<Key> = asked.into_iter().map(schema::render).collect();
            let mut rows = self.render_rows(&keys).await?;
            rows.sort_by_key(|row| row.seq);
            found.extend(rows.iter().filter(|row| is_meant(row, which)).map(|row| row.id));
        } else {
            let search =
                Search::index(STATUS, schema::renders(&which.tenant, Some(Status::Failed))).page(100);
            let mut from = None;
            while found.len() <= limit {
                let page = self.table.page(&search, from).await?;
                let keys = page.items.iter().map(Key::of).collect::<Result<Vec<_>, _>>()?;
                let rows = self.render_rows(&keys).await?;
                found.extend(rows.iter().filter(|row| is_meant(row, which)).map(|row| row.id));
                from = page.next;
                if from.is_none() {
                    break;
                }
            }
        }
        let mut more = found.len() > limit;
        found.truncate(limit);
        let mut renders = Vec::with_capacity(found.len());
        for (index, id) in found.into_iter().enumerate() {
            // One at least, or who asks again would get no further.
            if index > 0 && self.clock.monotonic() >= enough {
                more = true;
                break;
            }
            match retrying(async || self.try_retry(id, true).await).await? {
                Ok(_) => renders.push(id),
                // Somebody has retried or removed it since it was found.
                Err(ControlError::NotFound | ControlError::Illegal(_)) => {}
                Err(ControlError::Queue(error)) => return Err(error),
            }
        }
        Ok(Redriven { renders, more })
    }

    /// Those renders that are there, in the order of their keys.
    pub(super) async fn render_rows(&self, keys: &[Key]) -> Result<Vec<RenderRow>, QueueError> {
        let mut found = self.table.get_all(keys).await?;
        keys.iter().filter_map(|key| found.remove(key)).map(from_item).collect()
    }

    pub(super) async fn set_paused(&self, what: &Pausable, paused: bool) -> Result<(), QueueError> {
        match what {
            Pausable::Queue => {
                retrying(async || {
                    let before: Option<ControlRow> = self.table.row(&schema::control()).await?;
                    let mut tx = Tx::new(self);
                    let v = before.as_ref().map_or(0, |before| before.v + 1);
                    let when = before.map_or(If::New, |before| If::Version(before.v));
                    tx.put_row(&schema::control(), &ControlRow { v, paused }, when)?;
                    tx.commit().await
                })
                .await?;
                if !paused {
                    self.note_resuming(None).await?;
                    self.unpark(None, RESUMED_AT_ONCE).await?;
                }
            }
            Pausable::Tenant(tenant) => {
                self.see(tenant).await?;
                retrying(async || {
                    let key = schema::tenant(tenant);
                    let Some(before) = self.table.row::<TenantRow>(&key).await? else {
                        return Err(Trouble::Again);
                    };
                    let mut tx = Tx::new(self);
                    let version = before.v;
                    tx.put_row(&key, &TenantRow { v: version + 1, paused, ..before }, If::Version(version))?;
                    tx.commit().await
                })
                .await?;
                if !paused {
                    self.note_resuming(Some(tenant)).await?;
                    self.unpark(Some(tenant), RESUMED_AT_ONCE).await?;
                }
            }
            Pausable::Group(tenant, group) => {
                self.see(tenant).await?;
                retrying(async || {
                    let before: Option<LaneRow> = self.table.row(&schema::lane(tenant, group)).await?;
                    // There need be no render of it yet; and nothing to resume is nothing to do.
                    let Some(mut lane) =
                        before.clone().or_else(|| paused.then(|| LaneRow::new(tenant, group)))
                    else {
                        return Ok(());
                    };
                    lane.paused = paused;
                    if !paused {
                        lane.held_by = None;
                    }
                    let mut tx = Tx::new(self);
                    tx.lane(before.as_ref(), lane)?;
                    tx.commit().await
                })
                .await?;
            }
        }
        Ok(())
    }

    /// Notes that lanes may be parked, so that the sweep rings for them once nothing is paused, whoever dies meanwhile.
    pub(super) async fn note_resuming(&self, tenant: Option<&TenantId>) -> Result<(), QueueError> {
        let item =
            to_item(&schema::resuming(tenant), &Resuming { tenant: tenant.cloned(), since: self.now() })?;
        let put = self.table.client.put_item().table_name(&self.table.name).set_item(Some(item));
        put.send().await.map(drop).map_err(fault)
    }

    /// Rings for lanes that were put aside while their tenant was paused, or the whole queue. Whether all were rung for.
    pub(super) async fn unpark(&self, tenant: Option<&TenantId>, most: usize) -> Result<bool, QueueError> {
        let found = self.table.find(Search::index(DUE, schema::parked(tenant)), most).await?;
        let all = found.len() < most;
        let rung: Vec<Result<(), QueueError>> = iter(found)
            .map(|item| async move { self.ring_again(&lane_key(text(&item, "pk")?)).await })
            .buffered(AT_ONCE)
            .collect()
            .await;
        rung.into_iter().collect::<Result<(), _>>()?;
        Ok(all)
    }

    /// Rings anew for a lane whose head could be claimed, if it still stands as one that nobody will claim without that.
    pub(super) async fn ring_again(&self, key: &Key) -> Result<(), QueueError> {
        let lost =
            |bell: &super::row::Bell| matches!(bell.standing, Standing::Parked | Standing::ParkedByAll);
        self.ring_if(key, lost).await
    }

    /// Rings anew for a lane of whose bell that holds.
    pub(super) async fn ring_if(
        &self,
        key: &Key,
        when: impl Fn(&super::row::Bell) -> bool + Sync,
    ) -> Result<(), QueueError> {
        retrying(async || {
            let Some(item) = self.table.get(key).await? else { return Ok(()) };
            let mut tx = Tx::new(self);
            if key.sk == "lane" {
                let before: LaneRow = from_item(item)?;
                let mut lane = before.clone();
                if !when(&lane.bell) {
                    return Ok(());
                }
                let call = lane.bell.again();
                tx.told.calls.push((key.clone(), lane.bell, call));
                tx.lane_as_is(Some(&before), lane)?;
            } else {
                let before: RenderRow = from_item(item)?;
                let mut row = before.clone();
                if !when(&row.bell) {
                    return Ok(());
                }
                let call = row.bell.again();
                tx.told.calls.push((key.clone(), row.bell, call));
                tx.render(Some(&before), row)?;
                // Nothing has happened to it that anybody would see.
                tx.told.changed.clear();
            }
            tx.commit().await
        })
        .await
    }

    pub(super) async fn outputs_deleted(&self, renders: &[RenderId]) -> Result<(), QueueError> {
        for id in renders {
            retrying(async || {
                let Some(before) = self.render_row(*id).await? else { return Ok(()) };
                let Some(output) = before.output.clone() else { return Ok(()) };
                let mut tx = Tx::new(self);
                let deletion = Some(Deletion::Done(time(tx.now)));
                let row = RenderRow { output: Some(Output { deletion, ..output }), ..before.clone() };
                tx.render(Some(&before), row)?;
                tx.commit().await
            })
            .await?;
        }
        Ok(())
    }

    pub(super) async fn forget(&self, renders: &[RenderId]) -> Result<usize, QueueError> {
        let once: HashSet<RenderId> = renders.iter().copied().collect();
        let gone: Vec<Result<bool, QueueError>> = iter(once)
            .map(|id| retrying(move || self.try_forget(id)))
            .buffer_unordered(AT_ONCE / 2)
            .collect()
            .await;
        gone.into_iter().try_fold(0, |sum, gone| Ok(sum + usize::from(gone?)))
    }
}

/// Lanes may be parked, and are rung for once nothing is paused.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Resuming {
    pub(super) tenant: Option<TenantId>,
    pub(super) since: i64,
}

fn is_meant(row: &RenderRow, which: &Redrive) -> bool {
    let ended = row.finished_at.unwrap_or_default();
    row.status == Status::Failed
        && row.tenant == which.tenant
        && which.group.as_ref().is_none_or(|group| row.group.as_ref() == Some(group))
        && which.code.as_ref().is_none_or(|code| row.error.as_ref().is_some_and(|error| error.code == *code))
        && which.since.is_none_or(|since| ended >= since.as_millisecond())
        && which.until.is_none_or(|until| ended < until.as_millisecond())
}
