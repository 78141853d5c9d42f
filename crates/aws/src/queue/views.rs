//! Looking at tenants, the whole, and what is due for removal.

use futures_util::future::try_join_all;
use jiff::Timestamp;
use lastframe_core::outbox::DeliveryStatus;
use lastframe_core::percent::encode;
use lastframe_core::ports::{Backlog, Busy, Counts, Hour, Overview, QueueError, Tenant};
use lastframe_core::{Limits, Render, RenderId, TenantId};

use super::Shared;
use super::claim::ControlRow;
use super::row::{RenderRow, time};
use super::schema::{self, DUE, ENDED, padded, parts};
use super::submit::TenantRow;
use super::table::{Item, Key, Search, from_item, number, storage, text};
use super::tx::{COUNTED, HOUR, HOURLY};

/// Items of a page where most of them are expected to be passed over.
const PAGE: usize = 100;

impl Shared {
    pub(super) async fn tenant_rows(&self) -> Result<Vec<TenantRow>, QueueError> {
        let found = self.table.find(Search::table("tenants"), usize::MAX).await?;
        found.into_iter().map(from_item).collect()
    }

    /// The counters of a tenant, or of all, added up.
    async fn counted(&self, tenant: Option<&TenantId>) -> Result<[i64; 6], QueueError> {
        Ok(sum(&self.counters(tenant).await?, COUNTED))
    }

    async fn counters(&self, tenant: Option<&TenantId>) -> Result<Vec<Item>, QueueError> {
        let own = tenant.map(|tenant| format!("{}/", encode(tenant.as_str())));
        let searches = parts("counts").map(|part| {
            let search = Search::table(part);
            let search = match &own {
                Some(own) => search.beginning(own),
                None => search,
            };
            self.table.find(search, usize::MAX)
        });
        Ok(try_join_all(searches).await?.into_iter().flatten().collect())
    }

    fn tenant_of(&self, row: TenantRow, counted: [i64; 6]) -> Tenant {
        Tenant {
            id: row.name,
            limits: Limits::default(),
            effective: Limits::default().or(self.options.limits),
            paused: row.paused,
            counts: counts(counted),
        }
    }

    pub(super) async fn tenants(&self) -> Result<Vec<Tenant>, QueueError> {
        let counted = self.counters(None).await?;
        let rows = self.tenant_rows().await?.into_iter();
        Ok(rows
            .map(|row| {
                let name = format!("{}/", encode(row.name.as_str()));
                let own =
                    counted.iter().filter(|item| text(item, "sk").is_ok_and(|sk| sk.starts_with(&name)));
                let own = sum(own, COUNTED);
                self.tenant_of(row, own)
            })
            .collect())
    }

    pub(super) async fn tenant(&self, tenant: &TenantId) -> Result<Option<Tenant>, QueueError> {
        let Some(row) = self.table.row::<TenantRow>(&schema::tenant(tenant)).await? else { return Ok(None) };
        let counted = self.counted(Some(tenant)).await?;
        Ok(Some(self.tenant_of(row, counted)))
    }

    async fn is_paused(&self) -> Result<bool, QueueError> {
        Ok(self.table.row::<ControlRow>(&schema::control()).await?.is_some_and(|queue| queue.paused))
    }

    pub(super) async fn overview(&self) -> Result<Overview, QueueError> {
        Ok(Overview { paused: self.is_paused().await?, counts: counts(self.counted(None).await?) })
    }

    pub(super) async fn hours(
        &self,
        tenant: Option<&TenantId>,
        since: Timestamp,
        count: u32,
    ) -> Result<Vec<Hour>, QueueError> {
        // Whole hours are counted; one that begins in between is told by the hour that it begins in.
        let first = since.as_millisecond() - since.as_millisecond().rem_euclid(HOUR);
        let end = first + i64::from(count) * HOUR;
        let mut found = Vec::new();
        for tenant in self.tenants_of(tenant).await? {
            let search = Search::table(schema::hours(&tenant)).between(padded(first), padded(end));
            found.extend(self.table.find(search, usize::MAX).await?);
        }
        let hour = |number: u32| {
            let at = first + i64::from(number) * HOUR;
            let begins = format!("{}/", padded(at));
            let own = found.iter().filter(|item| text(item, "sk").is_ok_and(|sk| sk.starts_with(&begins)));
            let [accepted, succeeded, failed] = sum(own, HOURLY).map(|sum| u64::try_from(sum).unwrap_or(0));
            let start = since + jiff::SignedDuration::from_hours(i64::from(number));
            Hour { start, accepted, succeeded, failed }
        };
        Ok((0..count).map(hour).collect())
    }

    /// All that stands in a list, in its order within each part.
    async fn whole(&self, list: &str) -> Result<Vec<Item>, QueueError> {
        let searches = parts(list).map(|part| self.table.find(Search::index(DUE, part), usize::MAX));
        Ok(try_join_all(searches).await?.into_iter().flatten().collect())
    }

    pub(super) async fn busy(&self) -> Result<Vec<Busy>, QueueError> {
        let mut holders = Vec::new();
        for item in self.whole("leases").await? {
            let id: RenderId = text(&item, "id")?.parse().map_err(storage)?;
            holders.push((text(&item, "worker")?.to_owned(), number::<i64>(&item, "seq")?, id));
        }
        holders.sort_unstable();
        let mut busy: Vec<Busy> = Vec::new();
        for (worker, _, id) in holders {
            match busy.last_mut() {
                Some(last) if last.worker == worker => last.renders.push(id),
                _ => busy.push(Busy { worker, renders: vec![id] }),
            }
        }
        Ok(busy)
    }

    pub(super) async fn backlog(&self) -> Result<Backlog, QueueError> {
        let leases = self.whole("leases").await?;
        let since = leases.iter().map(|item| number::<i64>(item, "since")).collect::<Result<Vec<_>, _>>()?;
        let rendering_since = since.into_iter().min().map(time);
        if self.is_paused().await? {
            return Ok(Backlog { rendering_since, ..Backlog::default() });
        }
        let paused: Vec<TenantId> =
            self.tenant_rows().await?.into_iter().filter(|row| row.paused).map(|row| row.name).collect();
        let mut claimable = self.counted(None).await?[5];
        for tenant in &paused {
            claimable -= self.counted(Some(tenant)).await?[5];
        }
        let lists = parts("unsent").chain(parts("sent"));
        let first = try_join_all(lists.map(|list| self.first_waiting_since(list, &paused))).await?;
        Ok(Backlog {
            claimable: u64::try_from(claimable).unwrap_or(0),
            waiting_since: first.into_iter().flatten().min().map(time),
            rendering_since,
        })
    }

    /// Since when the first in that list waits whose tenant is not paused.
    async fn first_waiting_since(
        &self,
        list: String,
        paused: &[TenantId],
    ) -> Result<Option<i64>, QueueError> {
        let search = Search::index(DUE, list).page(if paused.is_empty() { 1 } else { PAGE });
        let mut from = None;
        loop {
            let page = self.table.page(&search, from).await?;
            for item in &page.items {
                let tenant = text(item, "tenant")?;
                if !paused.iter().any(|paused| paused.as_str() == tenant) {
                    return number(item, "since").map(Some);
                }
            }
            from = page.next;
            if from.is_none() {
                return Ok(None);
            }
        }
    }

    pub(super) async fn ended_before(&self, at: Timestamp, limit: u32) -> Result<Vec<Render>, QueueError> {
        let end = padded(at.as_millisecond());
        let found = parts("ended").map(|part| {
            self.oldest(
                Search::index(ENDED, part).below(end.clone()),
                limit as usize,
                |row| row.status.is_terminal(),
                true,
            )
        });
        let mut rows: Vec<RenderRow> = try_join_all(found).await?.into_iter().flatten().collect();
        rows.sort_by_key(|row| (row.finished_at, row.seq));
        rows.truncate(limit as usize);
        Ok(rows.into_iter().map(RenderRow::render).collect())
    }

    pub(super) async fn outputs_due(&self, at: Timestamp, limit: u32) -> Result<Vec<Render>, QueueError> {
        let end = format!("{}/~", padded(at.as_millisecond()));
        let found = parts("outputs").map(|part| {
            self.oldest(
                Search::index(DUE, part).up_to(end.clone()),
                limit as usize,
                |row| row.output_due().is_some(),
                false,
            )
        });
        let mut rows: Vec<RenderRow> = try_join_all(found).await?.into_iter().flatten().collect();
        rows.sort_by_key(RenderRow::output_due);
        rows.truncate(limit as usize);
        Ok(rows.into_iter().map(RenderRow::render).collect())
    }

    /// The first renders of a list of which that holds as they are now; without those that owe something, if so asked.
    async fn oldest(
        &self,
        search: Search,
        limit: usize,
        holds: fn(&RenderRow) -> bool,
        owe_nothing: bool,
    ) -> Result<Vec<RenderRow>, QueueError> {
        let search = search.page(PAGE);
        let (mut rows, mut from) = (Vec::new(), None);
        while rows.len() < limit {
            let page = self.table.page(&search, from).await?;
            let keys = page.items.iter().map(Key::of).collect::<Result<Vec<_>, _>>()?;
            for row in self.render_rows(&keys).await? {
                if rows.len() < limit && holds(&row) && !(owe_nothing && self.owes(&row).await?) {
                    rows.push(row);
                }
            }
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        Ok(rows)
    }

    /// Whether something is still owed for that render.
    async fn owes(&self, row: &RenderRow) -> Result<bool, QueueError> {
        let deliveries = self.deliveries_of(row).await?;
        Ok(deliveries.iter().any(|delivery| delivery.status == DeliveryStatus::Pending))
    }
}

/// The counters of these items, added up.
pub(super) fn sum<'a, const N: usize>(
    items: impl IntoIterator<Item = &'a Item>,
    names: [&str; N],
) -> [i64; N] {
    let mut sums = [0; N];
    for item in items {
        for (sum, name) in sums.iter_mut().zip(names) {
            *sum += number::<i64>(item, name).unwrap_or(0);
        }
    }
    sums
}

fn counts(counted: [i64; 6]) -> Counts {
    let [queued, rendering, succeeded, failed, cancelled, _] =
        counted.map(|sum| u64::try_from(sum).unwrap_or(0));
    Counts { queued, rendering, succeeded, failed, cancelled }
}
