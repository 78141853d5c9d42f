//! What tenants get while they all wait.

use super::wait::woken_by;
use super::{Asks as _, LONG, World, passing, render, tenant};
use crate::ports::Pausable;
use crate::render::Blocked;
use crate::{HandBack, Limits, Outcome, Status, TenantId};

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
    assert!(ann + bob == served.len() && ann.abs_diff(bob) <= 2, "{served:?}");
}

pub(super) async fn a_tenant_with_many_queued_does_not_keep_the_first_of_another_waiting(world: World) {
    world.accept_many("ann", 100, render("many")).await;
    served(&world, 10).await;
    world.accept("bob", render("one")).await;
    assert_eq!(share(&served(&world, 2).await, "bob"), 1);
}

pub(super) async fn tenants_that_all_have_work_get_the_same(world: World) {
    for tenant in ["ann", "bob", "cid"] {
        world.accept_many(tenant, 20, render("a")).await;
    }
    let served = served(&world, 30).await;
    for tenant in ["ann", "bob", "cid"] {
        assert_eq!(share(&served, tenant), 10, "{tenant} of {served:?}");
    }
}

pub(super) async fn priority_takes_nothing_from_other_tenants(world: World) {
    if !world.capabilities().priorities {
        return;
    }
    world.accept_many("ann", 4, render("urgent").with_priority(1_000)).await;
    world.accept_many("bob", 4, render("usual")).await;
    assert_eq!(share(&served(&world, 4).await, "bob"), 2);
}

pub(super) async fn a_tenant_that_comes_back_is_not_owed_the_time_it_had_nothing(world: World) {
    world.accept("bob", render("early")).await;
    served(&world, 1).await;
    world.accept_many("ann", 40, render("a")).await;
    served(&world, 20).await;
    world.accept_many("bob", 10, render("b")).await;
    assert_takes_turns(&served(&world, 10).await);
}

pub(super) async fn a_tenant_that_had_one_long_render_is_not_owed_that_time_either(world: World) {
    let long = world.accept("bob", render("long")).await;
    let lease = world.claims(&long).await;
    world.accept_many("ann", 40, render("a")).await;
    served(&world, 20).await;
    world.accept_many("bob", 10, render("b")).await;
    assert_takes_turns(&served(&world, 10).await);
    world.succeed(&lease).await;
}

pub(super) async fn a_tenant_that_was_paused_is_not_owed_that_time_either(world: World) {
    if !world.capabilities().pauses {
        return;
    }
    // Where all that bob has is in one group, pausing that is as good as pausing bob.
    let group = Pausable::Group(TenantId::new("bob"), "g".into());
    for (what, render_of_bob) in [(tenant("bob"), render("b")), (group, render("b").in_group("g"))] {
        let bobs = world.accept_many("bob", 10, render_of_bob).await;
        world.pauses(&what).await;
        world.accept_many("ann", 30, render("a")).await;
        assert_eq!(share(&served(&world, 20).await, "ann"), 20, "{what:?}");
        world.resumes(&what).await;
        assert_takes_turns(&served(&world, 10).await);
        for render in bobs {
            if world.status(render.id).await == Status::Queued {
                world.cancel(render.id).await.unwrap();
            }
        }
    }
}

pub(super) async fn a_tenant_that_its_limit_kept_behind_does_not_make_others_owed_that_time(world: World) {
    world.gives("cid", 1, Some(1)).await;
    let limited = world.accept_many("cid", 2, render("limited")).await;
    let lease = world.claims(&limited[0]).await;
    world.accept_many("ann", 40, render("a")).await;
    served(&world, 20).await;
    world.succeed(&lease).await;
    assert_eq!(served(&world, 1).await, ["cid"]);
    world.accept_many("bob", 10, render("b")).await;
    assert_takes_turns(&served(&world, 10).await);
}

pub(super) async fn tenants_that_wait_are_served_by_weight(mut world: World) {
    world.gives("bob", 3, None).await;
    for tenant in ["ann", "bob"] {
        world.accept_many(tenant, 60, render("a")).await;
    }
    // At any time, not only in the long run, and whoever starts the queue again.
    let mut ann = 0;
    for _ in 0..4 {
        let served = served(&world, 8).await;
        assert!((1..=3).contains(&share(&served, "ann")), "{served:?}");
        ann += share(&served, "ann");
        world.reopen().await;
    }
    assert!((7..=9).contains(&ann), "{ann} of 32");
    world.gives("ann", 3, None).await;
    assert_takes_turns(&served(&world, 20).await);
}

pub(super) async fn a_tenant_alone_is_served_whatever_its_weight(world: World) {
    world.gives("bob", Limits::MAX_WEIGHT, None).await;
    world.accept_many("ann", 5, render("a")).await;
    assert_eq!(share(&served(&world, 5).await, "ann"), 5);
}

pub(super) async fn a_tenant_at_its_limit_starts_no_more_until_it_has_room(mut world: World) {
    world.gives("ann", 1, Some(2)).await;
    let [a, b, c, d] = world.accept_many("ann", 4, render("a")).await.try_into().unwrap();
    let [first, _] = world.claims_all_of(&[&a, &b]).await.try_into().unwrap();
    assert_eq!(world.stands(&c).await, (1, Some(Blocked::TenantLimit)));
    let other = world.accept("bob", render("other")).await;
    let other = world.claims(&other).await;
    world.succeed(&first).await;
    world.claims_all_of(&[&c]).await;
    assert_eq!(world.stands(&d).await, (1, Some(Blocked::TenantLimit)));
    world.succeed(&other).await;
    // The limit outlives a restart; what was under way then does not count against it.
    world.reopen().await;
    world.claims_all_of(&[&b, &c]).await;
    assert_eq!(world.tenant(&TenantId::new("ann")).await.unwrap().unwrap().counts.rendering, 2);
}

pub(super) async fn every_way_an_attempt_can_end_makes_room(world: World) {
    world.gives("ann", 1, Some(1)).await;
    let a = world.accept("ann", render("a")).await;
    let b = world.accept("ann", render("b")).await;
    let lease = world.claims_all_of(&[&a]).await.remove(0);
    assert_eq!(world.end(&lease, passing()).await, Status::Queued);
    let lease = world.claims_all_of(&[&b]).await.remove(0);
    world.release(b.id, &lease.token, HandBack::Draining).await.unwrap();
    world.claims_all_of(&[&b]).await;
    world.pass(LONG).await;
    let lease = world.claims_all_of(&[&a]).await.remove(0);
    world.fail_for_good(&lease).await;
    let lease = world.claims_all_of(&[&b]).await.remove(0);
    world.cancel(b.id).await.unwrap();
    world.claims_nothing().await;
    assert_eq!(world.end(&lease, Outcome::Cancelled).await, Status::Cancelled);
    let c = world.accept("ann", render("c")).await;
    world.claims(&c).await;
}

pub(super) async fn a_limit_of_nothing_lets_nothing_start_and_stops_nothing(world: World) {
    let a = world.accept("ann", render("a")).await;
    let lease = world.claims(&a).await;
    world.gives("ann", 1, Some(0)).await;
    let b = world.accept("ann", render("b")).await;
    world.claims_nothing().await;
    assert_eq!(world.stands(&b).await, (1, Some(Blocked::TenantLimit)));
    world.succeed(&lease).await;
    world.claims_nothing().await;
    world.gives("ann", 1, None).await;
    assert_eq!(world.stands(&b).await, (1, None));
    world.claims(&b).await;
}

pub(super) async fn a_limit_that_is_raised_does_not_make_up_for_the_time_it_was_low(world: World) {
    world.gives("bob", 1, Some(0)).await;
    world.accept_many("bob", 20, render("b")).await;
    world.accept_many("ann", 40, render("a")).await;
    assert_eq!(share(&served(&world, 20).await, "ann"), 20);
    world.gives("bob", 1, Some(5)).await;
    // Nor does it start all that it may at once.
    let mut taken = Vec::new();
    for _ in 0..6 {
        taken.push(world.take().await.unwrap().render.tenant.to_string());
    }
    assert_takes_turns(&taken);
    assert_takes_turns(&served(&world, 8).await);
}

pub(super) async fn a_tenant_that_was_never_seen_can_be_given_its_share(world: World) {
    let dan = TenantId::new("dan");
    assert_eq!(world.tenant(&dan).await.unwrap(), None);
    world.gives("dan", 5, Some(1)).await;
    assert_eq!(
        world.tenant(&dan).await.unwrap().map(|dan| dan.limits),
        Some(Limits { weight: Some(5), max_concurrency: Some(1), ..Limits::default() })
    );
}

pub(super) async fn a_waiting_claim_is_woken_when_a_tenant_at_its_limit_has_room_again(world: World) {
    let a = world.accept("ann", render("a")).await;
    let b = world.accept("ann", render("b")).await;
    world.gives("ann", 1, Some(1)).await;
    let lease = world.claims(&a).await;
    // It waits for another attempt, so only the room it leaves can be what wakes.
    let fails = async { assert_eq!(world.end(&lease, passing()).await, Status::Queued) };
    assert_eq!(woken_by(&world, fails).await.render.id, b.id);
}

pub(super) async fn a_waiting_claim_is_woken_when_a_limit_is_raised(world: World) {
    world.gives("ann", 1, Some(0)).await;
    let a = world.accept("ann", render("a")).await;
    assert_eq!(woken_by(&world, world.gives("ann", 1, Some(1))).await.render.id, a.id);
}
