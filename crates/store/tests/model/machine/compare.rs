//! Everything that can be seen of the store, against the reference.

use std::collections::BTreeMap;

use lastframe_core::outbox::{Due, Outbox as _, Room, Settled, Try};
use lastframe_core::ports::{Filter, Position, Queue as _};
use lastframe_core::{Render, RenderId, Status};
use proptest::prelude::*;

use super::{Machine, Wrong, fault, seen, untold};
use crate::command::{GROUPS, TENANTS};
use crate::reference::LEASE;

/// Beginnings of compositions and of groups.
const TEXTS: [&str; 4] = ["STEP-1", "G", "step-", "h"];

impl Machine<'_> {
    pub(crate) async fn compare(&mut self) -> Result<(), Wrong> {
        let positions = self.compare_renders().await?;
        for (id, position) in &positions {
            self.model.hear(*id, position.blocked_by.as_ref())?;
        }
        self.settle_turns()?;
        for (id, position) in positions {
            let expected = self.model.entry(id).and_then(|entry| self.model.position(entry));
            prop_assert_eq!(Some(&position), expected.as_ref(), "where {} stands", id);
            self.tally.note_blocked(position.blocked_by.as_ref());
        }
        self.compare_tenants().await?;
        self.compare_groups().await?;
        self.compare_deliveries().await?;
        self.compare_lists().await
    }

    /// All of them in one list, and one by one those that have just changed. Returns where each that waits stands.
    async fn compare_renders(&mut self) -> Result<BTreeMap<RenderId, Position>, Wrong> {
        let everything = Filter { limit: u32::MAX, ..Filter::default() };
        let listed = self.store().list(everything.clone()).await.map_err(fault)?;
        prop_assert_eq!(seen(listed), seen(self.model.list(&everything)));
        let mut positions = BTreeMap::new();
        for entry in &self.model.entries {
            let (store, id) = (self.store(), entry.render.id);
            if self.compared.get(&id) != Some(&entry.render) {
                let render = store.get(id).await.map_err(fault)?;
                prop_assert_eq!(seen(render), seen([entry.render.clone()]));
                let request = store.request(id).await.map_err(fault)?;
                prop_assert_eq!(request.as_ref(), Some(&entry.request));
                let mut attempts = store.attempts(id).await.map_err(fault)?;
                for attempt in &mut attempts {
                    attempt.error = attempt.error.take().map(|error| untold(&error));
                }
                prop_assert_eq!(&attempts, &entry.attempts, "the attempts of {}", id);
            }
            let position = store.position(id).await.map_err(fault)?;
            prop_assert_eq!(position.is_some(), entry.render.status == Status::Queued);
            positions.extend(position.map(|position| (id, position)));
        }
        let has_ended = |render: Option<&Render>| render.is_some_and(|render| render.status.is_terminal());
        let ended = self.model.entries.iter().filter(|entry| {
            has_ended(Some(&entry.render)) && !has_ended(self.compared.get(&entry.render.id))
        });
        self.ended = ended.map(|entry| entry.render.id).collect();
        self.compared =
            self.model.entries.iter().map(|entry| (entry.render.id, entry.render.clone())).collect();
        Ok(positions)
    }

    fn settle_turns(&mut self) -> Result<(), Wrong> {
        let tenants = 0..self.model.tenants.len();
        let standing: Vec<_> = tenants
            .map(|tenant| (self.model.can_be_served(tenant), self.model.tenants[tenant].weight()))
            .collect();
        self.model.turns.settle(&standing);
        let claims = self.model.turns.are_fair()?;
        self.tally.note_if(claims >= 6, "six claims while two tenants wait");
        Ok(())
    }

    async fn compare_tenants(&self) -> Result<(), Wrong> {
        let store = self.store();
        let mut expected: Vec<_> = (0..TENANTS.len()).map(|tenant| self.model.tenant(tenant)).collect();
        expected.sort_by(|one, other| one.id.cmp(&other.id));
        for tenant in &expected {
            let one = store.tenant(&tenant.id).await.map_err(fault)?;
            prop_assert_eq!(one.as_ref(), Some(tenant));
        }
        prop_assert_eq!(store.tenants().await.map_err(fault)?, expected);
        prop_assert_eq!(store.overview().await.map_err(fault)?, self.model.overview());
        Ok(())
    }

    async fn compare_groups(&self) -> Result<(), Wrong> {
        for tenant in &self.model.tenants {
            for group in GROUPS {
                let seen = self.store().group(&tenant.id, group).await.map_err(fault)?;
                prop_assert_eq!(seen, self.model.group(&(tenant.id.clone(), group.into())));
            }
        }
        Ok(())
    }

    /// Each end of a render that tells somebody is owed once, as it was. Then it is delivered.
    async fn compare_deliveries(&self) -> Result<(), Wrong> {
        let room = Room::for_each(usize::MAX);
        let due = self.store().take_due(room, LEASE).await.map_err(fault)?;
        let mut owed: Vec<_> = due.iter().map(|due| due.delivery.render).collect();
        owed.sort();
        let mut expected = self.ended.clone();
        expected.retain(|id| self.model.entry(*id).is_some_and(|entry| entry.request.webhook.is_some()));
        expected.sort();
        prop_assert_eq!(owed, expected);
        for Due { delivery, token, ended, request, .. } in due {
            let entry = self.model.entry(delivery.render);
            let told = entry.map(|entry| {
                let Render { status, error, output, started_at, finished_at, .. } = entry.render.clone();
                (status, error, output, started_at, finished_at, entry.request.clone())
            });
            let error = ended.error.as_ref().map(untold);
            let finished_at = Some(ended.finished_at);
            prop_assert_eq!(
                Some((ended.status, error, ended.output, ended.started_at, finished_at, request)),
                told
            );
            let tried = Try { at: self.model.wall, took_ms: 1, code: Some(200), error: None };
            let settled = self.store().settle(delivery.id, token, tried, Settled::Delivered).await;
            prop_assert!(settled.map_err(fault)?);
            self.tally.note("owe");
        }
        Ok(())
    }

    /// As one filter after the other has it.
    async fn compare_lists(&self) -> Result<(), Wrong> {
        let step = self.steps;
        let pick = |every: usize, of: usize| step.is_multiple_of(every).then_some(step / every % of);
        let filter = Filter {
            tenant: pick(2, TENANTS.len()).map(|tenant| self.model.tenants[tenant].id.clone()),
            status: pick(3, Status::ALL.len()).map(|status| Status::ALL[status]),
            group: pick(5, GROUPS.len()).map(|group| GROUPS[group].into()),
            text: pick(7, TEXTS.len()).map(|text| TEXTS[text].into()),
            before: pick(4, self.model.entries.len().max(1))
                .and_then(|entry| Some(self.model.entries.get(entry)?.render.seq)),
            limit: 5,
        };
        let listed = self.store().list(filter.clone()).await.map_err(fault)?;
        prop_assert_eq!(seen(listed), seen(self.model.list(&filter)), "{:?}", filter);
        let now = self.model.wall;
        let ended = self.store().ended_before(now, 5).await.map_err(fault)?;
        prop_assert_eq!(seen(ended), seen(self.model.ended_before(now, 5)));
        Ok(())
    }
}
