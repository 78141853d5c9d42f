//! Renders of higher priority go first within their tenant.

use super::{Asks as _, World, render};
use crate::Render;

pub(super) async fn it_is_kept_as_asked_for(mut world: World) {
    let a = world.accept("ann", render("a").with_priority(7)).await;
    world.reopen().await;
    assert_eq!(world.look(a.id).await.priority, 7);
}

pub(super) async fn higher_goes_first_and_among_equals_who_was_accepted_first(world: World) {
    let low = world.accept("ann", render("low").with_priority(-1)).await;
    let first = world.accept("ann", render("first")).await;
    let high = world.accept("ann", render("high").with_priority(5)).await;
    let second = world.accept("ann", render("second")).await;
    world.claims_all_of(&[&high, &first, &second, &low]).await;
}

pub(super) async fn it_does_not_change_the_order_within_a_group(world: World) {
    let first = world.accept("ann", render("first").in_group("g")).await;
    let urgent = world.accept("ann", render("urgent").in_group("g").with_priority(1_000)).await;
    world.renders_in_turn(&[&first, &urgent]).await;
}

pub(super) async fn a_position_counts_who_goes_first(world: World) {
    let low = world.accept("ann", render("low").with_priority(-1)).await;
    let high = world.accept("ann", render("high").with_priority(1)).await;
    let usual = world.accept("ann", render("usual")).await;
    let stand = async |render: &Render| world.stands(render).await;
    assert_eq!(stand(&high).await, (1, None));
    assert_eq!(stand(&usual).await, (2, None));
    assert_eq!(stand(&low).await, (3, None));
}
