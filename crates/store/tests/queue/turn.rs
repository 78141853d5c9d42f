//! Whose turn it is among renders that do not wait for one another.

use std::time::Duration;

use lastframe_core::ports::{Position, Queue as _};
use lastframe_core::{Render, Status};

use crate::world::{Asks as _, World, render};

/// The tenants of the next `count` claims; what is claimed succeeds at once.
async fn served(world: &World, count: usize) -> Vec<String> {
    let mut tenants = Vec::new();
    for _ in 0..count {
        let lease = world.take().await.unwrap();
        world.succeed(&lease).await;
        tenants.push(lease.render.tenant.to_string());
    }
    tenants
}

fn share(served: &[String], tenant: &str) -> usize {
    served.iter().filter(|name| *name == tenant).count()
}

/// Who comes back starts level with who was served last, so it may be one ahead, and never more.
fn assert_takes_turns(served: &[String]) {
    let (ann, bob) = (share(served, "ann"), share(served, "bob"));
    assert!(ann + bob == 10 && ann.abs_diff(bob) <= 2, "{served:?}");
}

#[tokio::test]
async fn renders_without_a_group_are_rendered_at_the_same_time() {
    let world = World::new().await;
    let renders = world.accept_many("ann", 3, render("a")).await;
    for render in &renders {
        world.claims(render).await;
    }
    world.claims_nothing().await;
    for render in &renders {
        assert_eq!(world.status(render.id).await, Status::Rendering);
    }
}

#[tokio::test]
async fn higher_priority_goes_first_and_among_equals_who_was_accepted_first() {
    let world = World::new().await;
    let low = world.accept("ann", render("low").with_priority(-1)).await;
    let first = world.accept("ann", render("first")).await;
    let high = world.accept("ann", render("high").with_priority(5)).await;
    let second = world.accept("ann", render("second")).await;
    for render in [&high, &first, &second, &low] {
        world.claims(render).await;
    }
}

#[tokio::test]
async fn priority_orders_within_a_tenant_and_takes_nothing_from_others() {
    let world = World::new().await;
    world.accept_many("ann", 4, render("urgent").with_priority(1_000)).await;
    world.accept_many("bob", 4, render("usual")).await;
    assert_eq!(share(&served(&world, 4).await, "bob"), 2);
}

#[tokio::test]
async fn a_tenant_with_many_queued_does_not_keep_the_first_of_another_waiting() {
    let world = World::new().await;
    world.accept_many("ann", 100, render("many")).await;
    served(&world, 10).await;
    world.accept("bob", render("one")).await;
    assert_eq!(share(&served(&world, 2).await, "bob"), 1);
}

#[tokio::test]
async fn tenants_that_all_have_work_get_the_same_share() {
    let world = World::new().await;
    for tenant in ["ann", "bob", "cid"] {
        world.accept_many(tenant, 20, render("a")).await;
    }
    let served = served(&world, 30).await;
    for tenant in ["ann", "bob", "cid"] {
        assert_eq!(share(&served, tenant), 10, "{tenant} of {served:?}");
    }
}

#[tokio::test]
async fn a_tenant_that_comes_back_is_not_owed_the_time_it_had_nothing() {
    let world = World::new().await;
    world.accept("bob", render("early")).await;
    served(&world, 1).await;
    world.accept_many("ann", 40, render("a")).await;
    served(&world, 20).await;
    world.accept_many("bob", 10, render("b")).await;
    assert_takes_turns(&served(&world, 10).await);
}

#[tokio::test]
async fn a_tenant_that_had_one_long_render_is_not_owed_that_time_either() {
    let world = World::new().await;
    let long = world.accept("bob", render("long")).await;
    let lease = world.claims(&long).await;
    world.accept_many("ann", 40, render("a")).await;
    served(&world, 20).await;
    world.accept_many("bob", 10, render("b")).await;
    assert_takes_turns(&served(&world, 10).await);
    world.succeed(&lease).await;
}

#[tokio::test]
async fn a_tenant_that_its_limit_kept_behind_does_not_make_others_owed_that_time() {
    let world = World::new().await;
    let limited = world.accept_many("lim", 2, render("limited")).await;
    world.sql().execute_batch("UPDATE tenant SET max_rendering = 1").unwrap();
    let lease = world.claims(&limited[0]).await;
    world.accept_many("ann", 40, render("a")).await;
    served(&world, 20).await;
    world.succeed(&lease).await;
    assert_eq!(served(&world, 1).await, ["lim"]);
    world.accept_many("bob", 10, render("b")).await;
    assert_takes_turns(&served(&world, 10).await);
}

#[tokio::test]
async fn a_position_counts_what_its_tenant_has_before_it() {
    let world = World::new().await;
    world.accept_many("bob", 5, render("other")).await;
    let low = world.accept("ann", render("low").with_priority(-1)).await;
    let high = world.accept("ann", render("high").with_priority(1)).await;
    let usual = world.accept("ann", render("usual")).await;
    let later = world.accept("ann", render("later").not_before(world.now() + Duration::from_secs(60))).await;
    let stand = async |renders: [&Render; 3]| {
        let mut positions = Vec::new();
        for render in renders {
            let (position, blocked_by) = world.stands(render).await;
            assert_eq!(blocked_by, None);
            positions.push(position);
        }
        positions
    };
    assert_eq!(stand([&high, &usual, &low]).await, [1, 2, 3]);
    world.pass(Duration::from_secs(60)).await;
    assert_eq!(stand([&high, &usual, &low]).await, [1, 2, 4]);
    assert_eq!(world.stands(&later).await.0, 3);
}

#[tokio::test]
async fn only_a_queued_render_has_a_position() {
    let world = World::new().await;
    let a = world.accept("ann", render("a")).await;
    assert_eq!(world.position(a.id).await.unwrap(), Some(Position { position: 1, blocked_by: None }));
    let lease = world.claims(&a).await;
    assert_eq!(world.position(a.id).await.unwrap(), None);
    world.succeed(&lease).await;
    assert_eq!(world.position(a.id).await.unwrap(), None);
}

#[tokio::test]
async fn a_request_that_this_version_cannot_read_fails_and_keeps_nobody_waiting() {
    let world = World::new().await;
    let odd = world.accept("ann", render("odd").in_group("g")).await;
    let next = world.accept("ann", render("next").in_group("g")).await;
    let change = "UPDATE request SET body = json_set(body, '$.fromTheFuture', 1) WHERE seq = ?1";
    world.sql().execute(change, [odd.seq]).unwrap();
    world.claims(&next).await;
    let odd = world.look(odd.id).await;
    assert_eq!(
        (odd.status, odd.error.map(|error| error.code)),
        (Status::Failed, Some("request_unreadable".into()))
    );
}
