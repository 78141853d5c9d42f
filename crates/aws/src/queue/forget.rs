//! Removing what has ended, with all that is known of it.

use lastframe_core::outbox::DeliveryStatus;
use lastframe_core::ports::QueueError;
use lastframe_core::{RenderId, Status};

use super::Shared;
use super::body::Body;
use super::row::{DeliveryRow, RenderRow};
use super::schema;
use super::table::{Key, Search, Trouble, from_item};
use super::tx::Tx;

/// Items that are removed together with the render itself; what is more goes before it.
const TOGETHER: usize = 80;

impl Shared {
    pub(super) async fn try_forget(&self, id: RenderId) -> Result<bool, Trouble> {
        let Some(row) = self.render_row(id).await?.filter(|row| row.status.is_terminal()) else {
            return Ok(false);
        };
        let mut tx = Tx::new(self);
        // One that failed and holds its group is still waited for.
        if row.blocks
            && row.status == Status::Failed
            && let Some(lane) = self.lane_of(&row).await?
        {
            if lane.held_by == Some(id) {
                return Ok(false);
            }
            tx.check(&lane.key(), lane.v)?;
        }
        // And what is owed to somebody is not dropped.
        let deliveries = self.deliveries_of(&row).await?;
        if deliveries.iter().any(|delivery| delivery.status == DeliveryStatus::Pending) {
            return Ok(false);
        }
        let mut parts = self.table.find(Search::table(row.key().pk), usize::MAX).await?;
        parts.retain(|item| Key::of(item).is_ok_and(|key| key != row.key()));
        let mut objects: Vec<String> = Vec::new();
        for item in &parts {
            if let Ok(body) = from_item::<Body>(item.clone()) {
                objects.extend(body.object().map(str::to_owned));
            }
        }

        let mut deliveries = deliveries.as_slice();
        let mut parts = parts.as_slice();
        while deliveries.len() + parts.len() > TOGETHER {
            let mut before = Tx::new(self);
            let (some, others) = deliveries.split_at(deliveries.len().min(TOGETHER));
            deliveries = others;
            for delivery in some {
                remove(&mut before, delivery)?;
            }
            let (some, others) = parts.split_at(parts.len().min(TOGETHER - some.len()));
            parts = others;
            for item in some {
                before.delete(&Key::of(item)?)?;
            }
            before.commit().await?;
        }
        for delivery in deliveries {
            remove(&mut tx, delivery)?;
        }
        for item in parts {
            tx.delete(&Key::of(item)?)?;
        }
        tx.delete_version(&row.key(), row.v)?;
        tx.count_render(Some(&row), None);
        tx.told.changed.push(id);
        tx.commit().await?;
        for name in objects {
            self.drop_object(&name).await;
        }
        Ok(true)
    }

    /// All that was ever owed for a render.
    pub(super) async fn deliveries_of(&self, row: &RenderRow) -> Result<Vec<DeliveryRow>, QueueError> {
        let keys: Vec<Key> = row.deliveries.iter().map(|number| schema::delivery(*number)).collect();
        let mut found = self.table.get_all(&keys).await?;
        keys.iter().filter_map(|key| found.remove(key)).map(from_item).collect()
    }
}

fn remove(tx: &mut Tx<'_>, delivery: &DeliveryRow) -> Result<(), QueueError> {
    tx.count_delivery(Some(delivery), None);
    tx.delete_version(&delivery.key(), delivery.v)
}
