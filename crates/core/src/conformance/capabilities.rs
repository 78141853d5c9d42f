//! What a queue says that it cannot do it refuses, and what was asked for is as it was.

use super::{Asks as _, World, group, render, tenant};
use crate::ports::{Pausable, SteerError};
use crate::{Limits, TenantId};

pub(super) async fn pauses_are_refused_where_there_are_none(world: World) {
    if world.capabilities().pauses {
        return;
    }
    let a = world.accept("ann", render("a").in_group("g")).await;
    for what in [Pausable::Queue, tenant("ann"), group("g")] {
        let (paused, resumed) = (world.pause(what.clone()).await, world.resume(what).await);
        assert!(matches!(paused, Err(SteerError::Unsupported(_))), "{paused:?}");
        assert!(matches!(resumed, Err(SteerError::Unsupported(_))), "{resumed:?}");
    }
    world.claims(&a).await;
}

pub(super) async fn limits_are_refused_where_there_are_none(world: World) {
    if world.capabilities().fair_share {
        return;
    }
    let a = world.accept("ann", render("a")).await;
    let limits = Limits { weight: Some(2), max_concurrency: Some(0), ..Limits::default() };
    let refused = world.limit(&TenantId::new("ann"), limits).await;
    assert!(matches!(refused, Err(SteerError::Unsupported(_))), "{refused:?}");
    world.claims(&a).await;
}
