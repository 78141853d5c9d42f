//! Looking at tenants, groups, the whole, and what has ended.

use jiff::SignedDuration;

use super::group::line;
use super::{Asks as _, LEASE, LONG, MINUTE, World, passing, render};
use crate::ports::{Backlog, Busy, Counts, Group, Hour, Overview, Tenant};
use crate::{Limits, Outcome, Status, TenantId};

pub(super) async fn tenants_are_told_by_name_with_what_they_get(world: World) {
    world.add_site("aaron", "site", "v1").await;
    let tenants = world.tenants().await.unwrap();
    let names: Vec<_> = tenants.iter().map(|tenant| tenant.id.as_str()).collect();
    assert_eq!(names, ["aaron", "ann", "bob", "cid"]);
    for tenant in tenants {
        let untouched = Tenant {
            id: tenant.id.clone(),
            limits: Limits::default(),
            effective: Limits { weight: Some(1), ..Limits::default() },
            paused: false,
            counts: Counts::default(),
        };
        assert_eq!(tenant, untouched);
        assert_eq!(world.tenant(&tenant.id).await.unwrap(), Some(tenant));
    }
    assert_eq!(world.tenant(&TenantId::new("nobody")).await.unwrap(), None);
}

pub(super) async fn counts_follow_every_render(mut world: World) {
    let ann = TenantId::new("ann");
    let counted = async |world: &World| {
        let counts = world.tenant(&ann).await.unwrap().unwrap().counts;
        [counts.queued, counts.rendering, counts.succeeded, counts.failed, counts.cancelled]
    };
    let [first, second, third] = line(&world).await;
    assert_eq!(counted(&world).await, [3, 0, 0, 0, 0]);
    let lease = world.claims(&first).await;
    assert_eq!(counted(&world).await, [2, 1, 0, 0, 0]);
    assert_eq!(world.end(&lease, passing()).await, Status::Queued);
    assert_eq!(counted(&world).await, [3, 0, 0, 0, 0]);
    world.pass(LONG).await;
    world.fail_for_good(&world.claims(&first).await).await;
    assert_eq!(counted(&world).await, [2, 0, 0, 1, 0]);
    world.claims(&second).await;
    world.dies().await;
    assert_eq!(counted(&world).await, [2, 0, 0, 1, 0]);
    world.succeed(&world.claims(&second).await).await;
    world.cancel(third.id).await.unwrap();
    assert_eq!(counted(&world).await, [0, 0, 1, 1, 1]);
    world.retry(third.id).await.unwrap();
    world.retry(first.id).await.unwrap();
    assert_eq!(counted(&world).await, [2, 0, 1, 0, 0]);
    let bob = world.accept("bob", render("bob's")).await;
    world.cancel(bob.id).await.unwrap();
    let counts = Counts { queued: 2, succeeded: 1, cancelled: 1, ..Counts::default() };
    assert_eq!(world.overview().await.unwrap(), Overview { paused: false, counts });
}

pub(super) async fn the_backlog_is_what_could_be_claimed_and_how_long_it_waits(world: World) {
    assert_eq!(world.backlog().await.unwrap(), Backlog::default());
    let began = world.now();
    let first = world.accept("ann", render("first").in_group("g")).await;
    world.accept("ann", render("second").in_group("g")).await;
    world.pass(MINUTE).await;
    world.accept("bob", render("bob's")).await;
    let waiting = Backlog { claimable: 2, waiting_since: Some(began), rendering_since: None };
    assert_eq!(world.backlog().await.unwrap(), waiting, "what is behind its group cannot be claimed");
    let lease = world.claims(&first).await;
    let later = world.now();
    let under_way = Backlog { claimable: 1, waiting_since: Some(later), rendering_since: Some(later) };
    assert_eq!(world.backlog().await.unwrap(), under_way);
    world.succeed(&lease).await;
    let both = Backlog { claimable: 2, waiting_since: Some(began), rendering_since: None };
    assert_eq!(world.backlog().await.unwrap(), both);
}

pub(super) async fn a_group_is_there_while_it_has_something_left_to_do(world: World) {
    assert_eq!(world.group_of_ann("g").await, None);
    let [first, second] = line(&world).await;
    let mut expected =
        Group { name: "g".into(), paused: false, held_by: None, head: Some(first.id), queued: 2 };
    assert_eq!(world.group_of_ann("g").await, Some(expected.clone()));
    assert_eq!(world.group(&TenantId::new("bob"), "g").await.unwrap(), None);
    let lease = world.claims(&first).await;
    expected.queued = 1;
    assert_eq!(world.group_of_ann("g").await, Some(expected.clone()));
    world.succeed(&lease).await;
    expected.head = Some(second.id);
    assert_eq!(world.group_of_ann("g").await, Some(expected.clone()));
    let lease = world.claims(&second).await;
    expected.queued = 0;
    assert_eq!(world.group_of_ann("g").await, Some(expected));
    world.succeed(&lease).await;
    assert_eq!(world.group_of_ann("g").await, None);
}

pub(super) async fn a_group_says_who_holds_it(world: World) {
    let first = world.accept("ann", render("first").in_group("g").holding_its_group()).await;
    world.fail_for_good(&world.claims(&first).await).await;
    let mut expected =
        Group { name: "g".into(), paused: false, held_by: Some(first.id), head: None, queued: 0 };
    assert_eq!(world.group_of_ann("g").await, Some(expected.clone()));
    let [second] = line(&world).await;
    (expected.head, expected.queued) = (Some(second.id), 1);
    assert_eq!(world.group_of_ann("g").await, Some(expected));
}

pub(super) async fn what_has_ended_is_told_in_the_order_it_ended(world: World) {
    let [a, b, c, d] = world.accept_many("ann", 4, render("a")).await.try_into().unwrap();
    let [first, second, third, fourth] = world.claims_all_of(&[&a, &b, &c, &d]).await.try_into().unwrap();
    let long_ago = world.now();
    world.succeed(&fourth).await;
    world.clock.advance(LEASE / 4);
    world.cancel(b.id).await.unwrap();
    assert_eq!(world.end(&second, Outcome::Cancelled).await, Status::Cancelled);
    world.clock.advance(LEASE / 4);
    let now = world.now();
    world.fail_for_good(&first).await;
    let ended = async |before, limit| {
        let renders = world.ended_before(before, limit).await.unwrap();
        renders.into_iter().map(|render| render.id).collect::<Vec<_>>()
    };
    let moment = SignedDuration::from_millis(1);
    assert_eq!(ended(now + moment, 10).await, [d.id, b.id, a.id]);
    assert_eq!(ended(now, 10).await, [d.id, b.id]);
    assert_eq!(ended(now + moment, 2).await, [d.id, b.id]);
    assert_eq!(ended(long_ago, 10).await, []);
    // What is retried has not ended.
    world.retry(b.id).await.unwrap();
    assert_eq!(ended(now + moment, 10).await, [d.id, a.id]);
    world.claims(&b).await;
    world.succeed(&third).await;
    let bob = world.failed("bob", render("bob's")).await;
    let everybodys = ended(world.now() + moment, 10).await;
    assert_eq!(everybodys.len(), 4);
    assert!(everybodys.contains(&c.id) && everybodys.contains(&bob.id));
}

pub(super) async fn groups_are_told_by_name_and_from_a_name_on(world: World) {
    for name in ["b", "a", "c"] {
        world.accept("ann", render("first").in_group(name)).await;
    }
    world.accept("bob", render("bob's").in_group("d")).await;
    let ann = TenantId::new("ann");
    let told = async |after: Option<&str>, limit| {
        let groups = world.groups(&ann, after.map(str::to_owned), limit).await.unwrap();
        groups.into_iter().map(|group| group.name).collect::<Vec<_>>()
    };
    assert_eq!(told(None, 10).await, ["a", "b", "c"]);
    assert_eq!(told(None, 2).await, ["a", "b"]);
    assert_eq!(told(Some("b"), 10).await, ["c"]);
    let whole = world.groups(&ann, None, 1).await.unwrap();
    assert_eq!(Some(&whole[0]), world.group_of_ann("a").await.as_ref());
}

pub(super) async fn hours_tell_what_was_accepted_and_how_it_ended(world: World) {
    let ann = TenantId::new("ann");
    let start = world.now() - SignedDuration::from_hours(1);
    let [a, b] = world.accept_many("ann", 2, render("a")).await.try_into().unwrap();
    world.succeed(&world.claims(&a).await).await;
    world.fail_for_good(&world.claims(&b).await).await;
    let bob = world.accept("bob", render("bob's")).await;
    let quiet = |start| Hour { start, accepted: 0, succeeded: 0, failed: 0 };
    let now = start + SignedDuration::from_hours(1);
    let anns = Hour { accepted: 2, succeeded: 1, failed: 1, ..quiet(now) };
    assert_eq!(world.hours(Some(&ann), start, 2).await.unwrap(), [quiet(start), anns]);
    let all = Hour { accepted: 3, ..anns };
    assert_eq!(world.hours(None, start, 2).await.unwrap(), [quiet(start), all]);
    assert_eq!(world.hours(None, start, 1).await.unwrap(), [quiet(start)]);
    // What is queued again has not failed.
    world.cancel(bob.id).await.unwrap();
    world.retry(b.id).await.unwrap();
    let anns = Hour { failed: 0, ..anns };
    assert_eq!(world.hours(Some(&ann), start, 2).await.unwrap(), [quiet(start), anns]);
}

pub(super) async fn who_holds_leases_is_busy(world: World) {
    assert_eq!(world.busy().await.unwrap(), []);
    let [a, b] = world.accept_many("ann", 2, render("a")).await.try_into().unwrap();
    let leases = world.claims_all_of(&[&a, &b]).await;
    let busy = world.busy().await.unwrap();
    let renders: Vec<_> = busy.iter().flat_map(|Busy { renders, .. }| renders.clone()).collect();
    assert_eq!(renders, [a.id, b.id]);
    for lease in &leases {
        world.succeed(lease).await;
    }
    assert_eq!(world.busy().await.unwrap(), []);
}
