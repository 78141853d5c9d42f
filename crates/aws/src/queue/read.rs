//! Looking at renders and groups without touching them.

use futures_util::StreamExt as _;
use futures_util::stream::iter;
use lastframe_core::ports::{Filter, Group, Position, QueueError};
use lastframe_core::{Attempt, Blocked, Render, RenderId, RenderRequest, Status, TenantId};

use super::Shared;
use super::body::Body;
use super::claim::ControlRow;
use super::ring::AT_ONCE;
use super::row::{AttemptRow, LaneRow, RenderRow, time};
use super::schema::{self, GROUPED, Index, LISTED, STATUS, padded};
use super::submit::TenantRow;
use super::table::{Item, Key, Search, from_item, s, storage};

/// Keys that are read at once.
const PAGE: usize = 100;

impl Shared {
    pub(super) async fn request(&self, id: RenderId) -> Result<Option<RenderRequest>, QueueError> {
        let Some(body) = self.table.row::<Body>(&schema::of_render(id, "request")).await? else {
            return Ok(None);
        };
        let Some(text) = self.open(body).await? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(storage)
    }

    pub(super) async fn attempts(&self, id: RenderId) -> Result<Vec<Attempt>, QueueError> {
        let search = Search::table(schema::render(id).pk).beginning("attempt/");
        let found = self.table.find(search, usize::MAX).await?;
        let rows = found.into_iter().map(from_item::<AttemptRow>);
        rows.filter_map(|row| row.map(|row| row.body).transpose()).collect()
    }

    pub(super) async fn position(&self, id: RenderId) -> Result<Option<Position>, QueueError> {
        let Some(row) = self.render_row(id).await?.filter(|row| row.status == Status::Queued) else {
            return Ok(None);
        };
        let most = Position::COUNTED_UP_TO as usize;
        let (ahead, blocked_by) = match self.lane_of(&row).await? {
            Some(lane) => {
                let key = lane.key();
                let before = schema::waiting(&key, row.seq - 1).sk;
                let ahead = self.table.count(Search::table(&key.pk).between("waits/", before), most).await?;
                let blocked_by = match (lane.active, &lane.head) {
                    (Some(active), _) => Some(Blocked::Group { render_id: active }),
                    (None, Some(head)) if head.id != id => Some(Blocked::Group { render_id: head.id }),
                    _ => match lane.held_by {
                        Some(holder) => Some(Blocked::GroupHeld { render_id: holder }),
                        None if lane.paused => Some(Blocked::GroupPaused),
                        None => self.closed(&row).await?,
                    },
                };
                (ahead, blocked_by)
            }
            None => {
                let open = Search::index(GROUPED, schema::open(&row.tenant)).below(padded(row.seq));
                (self.table.count(open, most).await?, self.closed(&row).await?)
            }
        };
        let position =
            u32::try_from(ahead).unwrap_or(u32::MAX).saturating_add(1).min(Position::COUNTED_UP_TO);
        Ok(Some(Position { position, blocked_by }))
    }

    /// What stands before a render that has the turn in its lane.
    async fn closed(&self, row: &RenderRow) -> Result<Option<Blocked>, QueueError> {
        if row.not_before() > self.now() {
            return Ok(Some(Blocked::Delayed { run_at: time(row.not_before()) }));
        }
        let tenant = schema::tenant(&row.tenant);
        let mut found = self.table.get_all(&[schema::control(), tenant.clone()]).await?;
        let queue: Option<ControlRow> = found.remove(&schema::control()).map(from_item).transpose()?;
        let tenant: Option<TenantRow> = found.remove(&tenant).map(from_item).transpose()?;
        Ok(if queue.is_some_and(|queue| queue.paused) {
            Some(Blocked::QueuePaused)
        } else {
            tenant.is_some_and(|tenant| tenant.paused).then_some(Blocked::TenantPaused)
        })
    }

    pub(super) async fn group(&self, tenant: &TenantId, name: &str) -> Result<Option<Group>, QueueError> {
        Ok(self.table.row(&schema::lane(tenant, name)).await?.and_then(group))
    }

    pub(super) async fn groups(
        &self,
        tenant: &TenantId,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<Group>, QueueError> {
        let search = Search::index(LISTED, schema::groups(tenant));
        let search = match after {
            Some(after) => search.above(after),
            None => search,
        };
        let found = self.table.find(search, limit as usize).await?;
        let keys = found.iter().map(Key::of).collect::<Result<Vec<_>, _>>()?;
        let mut lanes = self.table.get_all(&keys).await?;
        let lanes = keys.iter().filter_map(|key| lanes.remove(key)).map(from_item);
        lanes.filter_map(|lane| lane.map(group).transpose()).collect()
    }

    /// Renders, newest first. Where none is named, those of all tenants, which are as many questions.
    pub(super) async fn list(&self, filter: &Filter) -> Result<Vec<Render>, QueueError> {
        let found: Vec<Result<Vec<RenderRow>, QueueError>> =
            iter(self.tenants_of(filter.tenant.as_ref()).await?)
                .map(|tenant| async move { self.list_of(&tenant, filter).await })
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
        let mut rows = Vec::new();
        for found in found {
            rows.extend(found?);
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.seq));
        rows.truncate(filter.limit as usize);
        Ok(rows.into_iter().map(RenderRow::render).collect())
    }

    async fn list_of(&self, tenant: &TenantId, filter: &Filter) -> Result<Vec<RenderRow>, QueueError> {
        let search = match (&filter.group, filter.status) {
            (Some(group), _) => Search::index(GROUPED, schema::renders_of(tenant, group)),
            (None, Some(status)) => Search::index(STATUS, schema::renders(tenant, Some(status))),
            (None, None) => Search::index(LISTED, schema::renders(tenant, None)),
        };
        let mut search = search.backwards();
        if let Some(before) = filter.before {
            search = search.below(padded(before));
        }
        if let Some(text) = &filter.text {
            let text = s(text.to_ascii_lowercase());
            // What is not found is passed over by DynamoDB, a thousand at a time.
            search = search
                .only("begins_with(id, :f0) OR begins_with(fc, :f0) OR begins_with(fg, :f0)", vec![text]);
        } else {
            search = search.page(PAGE.min(filter.limit as usize));
        }
        let limit = filter.limit as usize;
        let (mut rows, mut from): (Vec<RenderRow>, Option<Item>) = (Vec::new(), None);
        while rows.len() < limit {
            let page = self.table.page(&search, from).await?;
            for keys in page.items.chunks(PAGE) {
                let keys = keys.iter().map(Key::of).collect::<Result<Vec<_>, _>>()?;
                // As they are now, which the index may not know yet.
                let as_asked = |row: &RenderRow| {
                    filter.status.is_none_or(|status| row.status == status)
                        && filter.group.as_ref().is_none_or(|group| row.group.as_ref() == Some(group))
                };
                rows.extend(self.render_rows(&keys).await?.into_iter().filter(as_asked));
                if rows.len() >= limit {
                    break;
                }
            }
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        rows.truncate(limit);
        Ok(rows)
    }

    /// That tenant, or all.
    pub(super) async fn tenants_of(&self, tenant: Option<&TenantId>) -> Result<Vec<TenantId>, QueueError> {
        match tenant {
            Some(tenant) => Ok(vec![tenant.clone()]),
            None => Ok(self.tenant_rows().await?.into_iter().map(|row| row.name).collect()),
        }
    }

    /// Items of one kind in an index, newest first, of a tenant or of all: their keys.
    pub(super) async fn newest(
        &self,
        index: Index,
        list: impl Fn(&TenantId) -> String,
        tenant: Option<&TenantId>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Key>, QueueError> {
        let mut found: Vec<Item> = Vec::new();
        for tenant in self.tenants_of(tenant).await? {
            let search = Search::index(index, list(&tenant)).backwards();
            let search = match before {
                Some(before) => search.below(padded(before)),
                None => search,
            };
            found.extend(self.table.find(search, limit).await?);
        }
        let mut keys = found.iter().map(Key::of).collect::<Result<Vec<_>, _>>()?;
        keys.sort_unstable_by(|a, b| b.cmp(a));
        keys.truncate(limit);
        Ok(keys)
    }
}

/// A lane as others see it; none when it has nothing left to do and nothing stands in its way.
fn group(lane: LaneRow) -> Option<Group> {
    let there = !lane.is_idle();
    there.then(|| Group {
        paused: lane.paused,
        held_by: lane.held_by,
        head: lane.active.or(lane.head.map(|head| head.id)),
        queued: lane.queued.min(Position::COUNTED_UP_TO),
        name: lane.name,
    })
}
