//! What is owed for renders that have ended: taking it, settling it, owing it again.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use lastframe_core::notice::Channel;
use lastframe_core::outbox::{
    Delivery, DeliveryCounts, DeliveryFilter, DeliveryId, DeliveryStatus, Due, NoticeDefaults, Outbox,
    RedeliverError, Room, Route, Secret, Settled, TenantNotices, TenantSecret, Try,
};
use lastframe_core::ports::QueueError;
use lastframe_core::{TenantId, error_chain};
use serde::{Deserialize, Serialize};

use super::row::{DeliveryRow, RenderRow, time};
use super::schema::{self, COUNTERS, DUE, LISTED, STATUS, padded, parts};
use super::table::{Key, Search, Trouble, from_item, retrying, storage, text};
use super::tx::{DELIVERIES, If, Tx};
use super::views::sum;
use super::{AwsQueue, Shared};

/// What a tenant has set.
#[derive(Serialize, Deserialize)]
struct NoticesRow {
    v: u64,
    body: String,
}

/// What is owed for a render that has just ended, by numbers from `first` on.
pub(super) fn deliveries(row: &RenderRow, first: i64, now: i64) -> impl Iterator<Item = DeliveryRow> + use<> {
    let row = row.clone();
    (first..).zip(row.notices.clone()).enumerate().map(move |(notice, (number, (channel, endpoint)))| {
        DeliveryRow {
            v: 0,
            number,
            render: row.id,
            tenant: row.tenant.clone(),
            channel,
            endpoint,
            notice,
            status: DeliveryStatus::Pending,
            ended: row.status,
            error: row.error.clone(),
            output: row.output.clone(),
            kind: row.kind,
            created_at: row.created_at,
            started_at: row.started_at,
            ended_at: now,
            tries: 0,
            next_at: now,
            held_until: 0,
            token: 0,
            went: Vec::new(),
        }
    })
}

#[async_trait]
impl Outbox for AwsQueue {
    async fn take_due(&self, room: Room, hold: Duration) -> Result<Vec<Due>, QueueError> {
        let (mut due, mut left) = (Vec::new(), room.clone());
        for (channel, key) in self.shared.due_deliveries(&room).await? {
            if left.by(channel) > 0
                && let Some(taken) = self.shared.take(&key, hold).await?
            {
                left.take_up(channel);
                due.push(taken);
            }
        }
        Ok(due)
    }

    async fn settle(
        &self,
        delivery: DeliveryId,
        token: i64,
        tried: Try,
        settled: Settled,
    ) -> Result<bool, QueueError> {
        self.shared.settle(delivery, token, &tried, settled).await
    }

    async fn next_due(&self, after: Timestamp) -> Result<Option<Timestamp>, QueueError> {
        let after = format!("{}/~", padded(after.as_millisecond()));
        let lists = parts("owed").map(|list| {
            let search = Search::index(DUE, list).above(after.clone());
            self.shared.table.find(search, 1)
        });
        let mut first: Option<i64> = None;
        for item in try_join_all(lists).await?.into_iter().flatten() {
            let at = text(&item, "ds")?.split('/').next().and_then(|at| at.parse().ok());
            first = [first, at].into_iter().flatten().min();
        }
        Ok(first.map(time))
    }

    async fn owed(&self) {
        self.shared.owed.notified().await;
    }

    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<Delivery>, QueueError> {
        let limit = filter.limit as usize;
        let tenant = filter.tenant.as_ref();
        let rows = match (filter.render, filter.status) {
            (Some(render), _) => match self.shared.render_row(render).await? {
                Some(row) => self.shared.deliveries_of(&row).await?,
                None => Vec::new(),
            },
            (None, status) => {
                let index = if status.is_some() { STATUS } else { LISTED };
                let list = |tenant: &TenantId| schema::deliveries(tenant, status);
                let before = filter.before.map(|before| before.0);
                let keys = self.shared.newest(index, list, tenant, before, limit).await?;
                let mut found = self.shared.table.get_all(&keys).await?;
                keys.iter().filter_map(|key| found.remove(key)).map(from_item).collect::<Result<_, _>>()?
            }
        };
        let mut rows: Vec<DeliveryRow> = rows
            .into_iter()
            .filter(|row| {
                tenant.is_none_or(|tenant| row.tenant == *tenant)
                    && filter.status.is_none_or(|status| row.status == status)
                    && filter.before.is_none_or(|before| row.number < before.0)
            })
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.number));
        rows.truncate(limit);
        Ok(rows.iter().map(DeliveryRow::delivery).collect())
    }

    async fn delivery(&self, delivery: DeliveryId) -> Result<Option<(Delivery, Vec<Try>)>, QueueError> {
        let row: Option<DeliveryRow> = self.shared.table.row(&schema::delivery(delivery.0)).await?;
        row.map(|row| Ok((row.delivery(), row.tries()?))).transpose()
    }

    async fn redeliver(&self, delivery: DeliveryId) -> Result<Delivery, RedeliverError> {
        let queue = &*self.shared;
        retrying(async || {
            let Some(before) = queue.table.row::<DeliveryRow>(&schema::delivery(delivery.0)).await? else {
                return Ok(Err(RedeliverError::NotFound));
            };
            if before.status == DeliveryStatus::Pending {
                return Ok(Err(RedeliverError::Pending));
            }
            let mut tx = Tx::new(queue);
            let mut row = before.clone();
            (row.status, row.tries, row.next_at, row.held_until) = (DeliveryStatus::Pending, 0, tx.now, 0);
            row.token += 1;
            let again = row.delivery();
            tx.delivery(Some(&before), row)?;
            tx.commit().await?;
            Ok(Ok(again))
        })
        .await?
    }

    async fn delivery_counts(&self) -> Result<DeliveryCounts, QueueError> {
        let search = Search::table(schema::delivery_counts(0).pk);
        let found = self.shared.table.find(search, COUNTERS as usize).await?;
        let [pending, delivered, failed] = sum(&found, DELIVERIES).map(|sum| u64::try_from(sum).unwrap_or(0));
        Ok(DeliveryCounts { pending, delivered, failed })
    }

    async fn tenant_notices(&self, tenant: &TenantId) -> Result<TenantNotices, QueueError> {
        Ok(self.shared.notices(tenant).await?.1)
    }

    async fn set_notice_defaults(
        &self,
        tenant: &TenantId,
        defaults: NoticeDefaults,
    ) -> Result<(), QueueError> {
        self.shared
            .set_notices(tenant, |set| {
                set.defaults.clone_from(&defaults);
                true
            })
            .await
            .map(drop)
    }

    async fn add_secret(&self, tenant: &TenantId, secret: TenantSecret) -> Result<bool, QueueError> {
        self.shared
            .set_notices(tenant, |set| {
                let full = set.secrets.len() >= TenantNotices::MAX_SECRETS;
                if full || set.secrets.iter().any(|known| known.id == secret.id) {
                    return false;
                }
                set.secrets.push(secret.clone());
                true
            })
            .await
    }

    async fn remove_secret(&self, tenant: &TenantId, id: &str) -> Result<bool, QueueError> {
        self.shared
            .set_notices(tenant, |set| {
                let before = set.secrets.len();
                set.secrets.retain(|secret| secret.id != id);
                set.secrets.len() < before
            })
            .await
    }
}

impl Shared {
    /// Deliveries that are due and that there is room for, in the order to take them in: first where the least is under
    /// way, then who has waited longest.
    async fn due_deliveries(&self, room: &Room) -> Result<Vec<(Channel, Key)>, QueueError> {
        if room.is_full() {
            return Ok(Vec::new());
        }
        let end = format!("{}/~", padded(self.now()));
        // All that is due is looked through, so that what one route cannot take hides nothing of another's.
        let lists = parts("owed")
            .map(|list| self.table.find(Search::index(DUE, list).up_to(end.clone()), usize::MAX));
        let mut found = Vec::new();
        for item in try_join_all(lists).await?.into_iter().flatten() {
            let route = Route {
                channel: text(&item, "channel")?.parse().map_err(storage)?,
                tenant: TenantId::new(text(&item, "tenant")?),
                endpoint: text(&item, "endpoint")?.to_owned(),
            };
            found.push((text(&item, "ds")?.to_owned(), Key::of(&item)?, route));
        }
        found.sort_unstable_by(|(a, key_a, _), (b, key_b, _)| (a, key_a).cmp(&(b, key_b)));
        let mut taken: HashMap<Route, usize> = HashMap::new();
        let mut due = Vec::new();
        for (at, key, route) in found {
            let (channel, here) = (route.channel, room.on(&route));
            let taken = taken.entry(route).or_default();
            if *taken < here {
                // How many would be under way there before it.
                due.push((room.each.saturating_sub(here) + *taken, at, key, channel));
                *taken += 1;
            }
        }
        due.sort_unstable_by(|(a, a_at, a_key, _), (b, b_at, b_key, _)| {
            (a, a_at, a_key).cmp(&(b, b_at, b_key))
        });
        Ok(due.into_iter().map(|(_, _, key, channel)| (channel, key)).collect())
    }

    /// Holds a delivery, unless somebody else was faster, and reads all that telling it needs.
    async fn take(&self, key: &Key, hold: Duration) -> Result<Option<Due>, QueueError> {
        let hold = i64::try_from(hold.as_millis()).unwrap_or(i64::MAX);
        let taken = retrying(async || {
            let Some(before) = self.table.row::<DeliveryRow>(key).await? else { return Ok(None) };
            let mut tx = Tx::new(self);
            if before.status != DeliveryStatus::Pending || before.due() > tx.now {
                return Ok(None);
            }
            let mut row = before.clone();
            row.held_until = tx.now.saturating_add(hold);
            row.token += 1;
            tx.delivery(Some(&before), row.clone())?;
            tx.commit().await?;
            Ok(Some(row))
        })
        .await?;
        let Some(row) = taken else { return Ok(None) };
        match self.told(&row).await {
            Ok(due) => Ok(Some(due)),
            Err(error) => {
                tracing::error!(
                    delivery.id = row.number,
                    error = error_chain(&error),
                    "a delivery cannot be read; it is given up"
                );
                let tried =
                    Try { at: self.clock.now(), took_ms: 0, code: None, error: Some(error_chain(&error)) };
                self.settle(DeliveryId(row.number), row.token, &tried, Settled::Failed).await?;
                Ok(None)
            }
        }
    }

    /// A delivery with all that telling it needs.
    async fn told(&self, row: &DeliveryRow) -> Result<Due, QueueError> {
        let gone = || storage(format!("the request of render {} is not there", row.render));
        let request = self.request(row.render).await?.ok_or_else(gone)?;
        let notice = request.notices().into_iter().nth(row.notice).ok_or_else(gone)?;
        let secrets = match (notice.channel, &notice.secret) {
            (Channel::Email, _) => Vec::new(),
            (Channel::Webhook, Some(secret)) => vec![Secret(secret.clone())],
            (Channel::Webhook, None) => {
                let secrets = self.notices(&row.tenant).await?.1.secrets;
                secrets.into_iter().map(|secret| secret.secret).collect()
            }
        };
        Ok(Due { delivery: row.delivery(), token: row.token, notice, secrets, ended: row.ended(), request })
    }

    async fn settle(
        &self,
        delivery: DeliveryId,
        token: i64,
        tried: &Try,
        settled: Settled,
    ) -> Result<bool, QueueError> {
        let went = serde_json::to_string(tried).map_err(storage)?;
        retrying(async || {
            let before: Option<DeliveryRow> = self.table.row(&schema::delivery(delivery.0)).await?;
            let theirs = |row: &DeliveryRow| row.token == token && row.status == DeliveryStatus::Pending;
            let Some(before) = before.filter(theirs) else { return Ok(false) };
            let mut tx = Tx::new(self);
            let mut row = before.clone();
            row.held_until = 0;
            row.tries += 1;
            row.went.push(went.clone());
            match settled {
                Settled::Delivered => row.status = DeliveryStatus::Delivered,
                Settled::Failed => row.status = DeliveryStatus::Failed,
                Settled::Retry(wait) => {
                    let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
                    row.next_at = tx.now.saturating_add(wait).min(Timestamp::MAX.as_millisecond());
                }
            }
            tx.delivery(Some(&before), row)?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    /// What the tenant has set, and of which version that is.
    async fn notices(&self, tenant: &TenantId) -> Result<(Option<u64>, TenantNotices), QueueError> {
        match self.table.row::<NoticesRow>(&schema::notices(tenant)).await? {
            Some(row) => Ok((Some(row.v), serde_json::from_str(&row.body).map_err(storage)?)),
            None => Ok((None, TenantNotices::default())),
        }
    }

    /// Changes what the tenant has set; whether there was something to change.
    async fn set_notices(
        &self,
        tenant: &TenantId,
        change: impl Fn(&mut TenantNotices) -> bool + Sync,
    ) -> Result<bool, QueueError> {
        self.see(tenant).await?;
        retrying(async || {
            let (version, mut set) = self.notices(tenant).await?;
            if !change(&mut set) {
                return Ok::<_, Trouble>(false);
            }
            let mut tx = Tx::new(self);
            let body = serde_json::to_string(&set).map_err(storage)?;
            let row = NoticesRow { v: version.map_or(0, |version| version + 1), body };
            tx.put_row(&schema::notices(tenant), &row, version.map_or(If::New, If::Version))?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }
}
