//! Whose turn it is among renders of one tenant that do not wait for one another.

use super::{Asks as _, World, render};
use crate::Status;
use crate::ports::Position;

pub(super) async fn renders_without_a_group_are_rendered_at_the_same_time(world: World) {
    let renders = world.accept_many("ann", 3, render("a")).await;
    world.claims_all_of(&renders.iter().collect::<Vec<_>>()).await;
    for render in &renders {
        assert_eq!(world.status(render.id).await, Status::Rendering);
    }
}

pub(super) async fn only_a_queued_render_has_a_position(world: World) {
    let a = world.accept("ann", render("a")).await;
    assert_eq!(world.position(a.id).await.unwrap(), Some(Position { position: 1, blocked_by: None }));
    let lease = world.claims(&a).await;
    assert_eq!(world.position(a.id).await.unwrap(), None);
    world.succeed(&lease).await;
    assert_eq!(world.position(a.id).await.unwrap(), None);
}

pub(super) async fn a_position_counts_what_its_tenant_has_before_it_and_nothing_of_others(world: World) {
    world.accept_many("bob", 5, render("other")).await;
    let first = world.accept("ann", render("first")).await;
    let line = world.accept_many("ann", 2, render("line").in_group("g")).await;
    let second = world.accept("ann", render("second")).await;
    assert_eq!(world.stands(&first).await, (1, None));
    assert_eq!(world.stands(&line[0]).await, (1, None));
    // Of a group, only the one that could go now is before anybody else.
    assert_eq!(world.stands(&second).await, (3, None));
}
