//! Pausing the queue, a tenant or a group, and resuming it.

use super::group::{assert_wait_behind, line};
use super::wait::woken_by;
use super::{Asks as _, LEASE, LONG, World, behind, group, held_by, passing, permanent, render, tenant};
use crate::ports::{Group, Pausable, Tenant};
use crate::render::Blocked;
use crate::{HandBack, Outcome, Progress, Render, Status, TenantId};

/// All that stands before the renders of ann's group `g`, each with what those say that it stops.
fn pauses() -> [(Pausable, Blocked); 3] {
    [
        (Pausable::Queue, Blocked::QueuePaused),
        (tenant("ann"), Blocked::TenantPaused),
        (group("g"), Blocked::GroupPaused),
    ]
}

/// Each time a queue that has nothing to do: what the time before has left is seen through.
async fn each_pause(world: &mut World, promise: impl AsyncFn(&mut World, &Pausable, Blocked)) {
    for (what, blocked) in pauses() {
        promise(world, &what, blocked).await;
        world.resumes(&what).await;
        while let Some(lease) = world.take().await {
            world.succeed(&lease).await;
        }
    }
}

pub(super) async fn nothing_of_what_is_paused_starts_and_the_order_is_kept(mut world: World) {
    each_pause(&mut world, async |world, what, blocked| {
        let [first, second, third] = line(world).await;
        world.pauses(what).await;
        world.claims_nothing().await;
        let fourth = world.accept("ann", render("fourth").in_group("g")).await;
        world.claims_nothing().await;
        assert_eq!(world.stands(&first).await, (1, Some(blocked)));
        assert_wait_behind(world, &first, &[(&second, 2), (&third, 3), (&fourth, 4)]).await;
        world.resumes(what).await;
        assert_eq!(world.stands(&first).await, (1, None));
        world.renders_in_turn(&[&first, &second, &third, &fourth]).await;
    })
    .await;
}

pub(super) async fn what_is_being_rendered_goes_on(mut world: World) {
    each_pause(&mut world, async |world, what, blocked| {
        let [first, second] = line(world).await;
        let lease = world.claims(&first).await;
        world.pauses(what).await;
        world.pass(LEASE / 2).await;
        world.extend(first.id, &lease.token, Progress::START, None).await.unwrap();
        world.pass(LEASE / 2).await;
        assert_eq!(world.stands(&second).await, (1, behind(&first)));
        world.succeed(&lease).await;
        assert_eq!(world.stands(&second).await, (1, Some(blocked)));
        world.claims_nothing().await;
    })
    .await;
}

pub(super) async fn what_comes_back_while_it_is_paused_stays_queued(mut world: World) {
    each_pause(&mut world, async |world, what, blocked| {
        let [first, second] = line(world).await;
        let lease = world.claims(&first).await;
        world.pauses(what).await;
        world.release(first.id, &lease.token, HandBack::Draining).await.unwrap();
        assert_eq!(world.stands(&first).await, (1, Some(blocked.clone())));
        world.claims_nothing().await;
        world.resumes(what).await;
        let lease = world.claims(&first).await;
        world.pauses(what).await;
        assert_eq!(world.end(&lease, passing()).await, Status::Queued);
        // A wait that ends during the pause has ended.
        world.pass(LONG).await;
        assert_eq!(world.stands(&first).await, (1, Some(blocked.clone())));
        world.claims_nothing().await;
        world.resumes(what).await;
        world.claims(&first).await;
        world.pauses(what).await;
        world.pass(LEASE).await;
        assert_eq!(world.stands(&first).await, (1, Some(blocked)));
        world.claims_nothing().await;
        world.resumes(what).await;
        world.renders_in_turn(&[&first, &second]).await;
    })
    .await;
}

pub(super) async fn what_is_paused_can_be_cancelled_and_retried(mut world: World) {
    each_pause(&mut world, async |world, what, blocked| {
        let [first, second, third] = line(world).await;
        world.pauses(what).await;
        world.cancel(first.id).await.unwrap();
        assert_eq!(world.stands(&second).await, (1, Some(blocked.clone())));
        world.retry(first.id).await.unwrap();
        assert_eq!(world.stands(&first).await, (1, Some(blocked)));
        assert_wait_behind(world, &first, &[(&second, 2), (&third, 3)]).await;
        world.claims_nothing().await;
        world.resumes(what).await;
        world.renders_in_turn(&[&first, &second, &third]).await;
    })
    .await;
}

pub(super) async fn pausing_twice_is_pausing_once_and_so_is_resuming(mut world: World) {
    each_pause(&mut world, async |world, what, _| {
        world.resumes(what).await;
        let [first] = line(world).await;
        for _ in 0..2 {
            world.pauses(what).await;
            world.claims_nothing().await;
        }
        world.resumes(what).await;
        let lease = world.claims(&first).await;
        world.resumes(what).await;
        world.claims_nothing().await;
        world.succeed(&lease).await;
    })
    .await;
}

pub(super) async fn a_pause_outlasts_a_restart(mut world: World) {
    each_pause(&mut world, async |world, what, blocked| {
        let [first, second] = line(world).await;
        world.claims(&first).await;
        world.pauses(what).await;
        world.reopen().await;
        world.pass(LONG).await;
        assert_eq!(world.stands(&first).await, (1, Some(blocked)));
        world.claims_nothing().await;
        world.resumes(what).await;
        world.reopen().await;
        world.renders_in_turn(&[&first, &second]).await;
    })
    .await;
}

pub(super) async fn one_pause_does_not_end_another(world: World) {
    let [first] = line(&world).await;
    let all = pauses().map(|(what, _)| what);
    for what in &all {
        world.pauses(what).await;
    }
    for what in &all {
        world.claims_nothing().await;
        assert!(world.stands(&first).await.1.is_some());
        world.resumes(what).await;
    }
    world.claims(&first).await;
}

pub(super) async fn what_is_not_paused_goes_on(world: World) {
    let ann = world.accept("ann", render("ann's").in_group("g")).await;
    let loner = world.accept("ann", render("loner")).await;
    let bob = world.accept("bob", render("bob's").in_group("g")).await;
    world.pauses(&group("g")).await;
    assert_eq!(world.stands(&loner).await, (1, None));
    let mut taken: Vec<Render> = Vec::new();
    for lease in [world.take().await.unwrap(), world.take().await.unwrap()] {
        world.succeed(&lease).await;
        taken.push(lease.render);
    }
    taken.sort_by_key(|render| render.seq);
    assert_eq!(taken.iter().map(|render| render.id).collect::<Vec<_>>(), [loner.id, bob.id]);
    world.claims_nothing().await;
    world.pauses(&tenant("ann")).await;
    world.resumes(&group("g")).await;
    let other = world.accept("bob", render("other")).await;
    world.renders_in_turn(&[&other]).await;
    assert_eq!(world.stands(&ann).await, (1, Some(Blocked::TenantPaused)));
}

pub(super) async fn a_waiting_claim_is_woken_by_a_resume(mut world: World) {
    each_pause(&mut world, async |world, what, _| {
        let [first] = line(world).await;
        world.pauses(what).await;
        let lease = woken_by(world, world.resumes(what)).await;
        assert_eq!(lease.render.id, first.id);
        world.succeed(&lease).await;
    })
    .await;
}

pub(super) async fn a_paused_group_with_nothing_in_it_is_there_until_it_is_resumed(mut world: World) {
    let paused = Group { name: "g".into(), paused: true, held_by: None, head: None, queued: 0 };
    world.pauses(&group("g")).await;
    assert_eq!(world.group_of_ann("g").await, Some(paused.clone()));
    world.reopen().await;
    assert_eq!(world.group_of_ann("g").await, Some(paused.clone()));
    let [first] = line(&world).await;
    world.claims_nothing().await;
    let waiting = Group { head: Some(first.id), queued: 1, ..paused.clone() };
    assert_eq!(world.group_of_ann("g").await, Some(waiting));
    world.cancel(first.id).await.unwrap();
    assert_eq!(world.group_of_ann("g").await, Some(paused));
    world.resumes(&group("g")).await;
    assert_eq!(world.group_of_ann("g").await, None);
}

pub(super) async fn a_tenant_that_was_never_seen_can_be_paused(world: World) {
    world.pauses(&tenant("dan")).await;
    world.add_site("dan", "site", "v1").await;
    let a = world.accept("dan", render("a")).await;
    world.claims_nothing().await;
    world.resumes(&tenant("dan")).await;
    world.claims(&a).await;
}

pub(super) async fn who_looks_sees_what_is_paused(world: World) {
    let ann = TenantId::new("ann");
    let paused = async || {
        let tenant: Tenant = world.tenant(&ann).await.unwrap().unwrap();
        (world.overview().await.unwrap().paused, tenant.paused)
    };
    assert_eq!(paused().await, (false, false));
    world.pauses(&Pausable::Queue).await;
    assert_eq!(paused().await, (true, false));
    world.pauses(&tenant("ann")).await;
    world.resumes(&Pausable::Queue).await;
    assert_eq!(paused().await, (false, true));
    world.resumes(&tenant("ann")).await;
    assert_eq!(paused().await, (false, false));
}

pub(super) async fn resuming_a_group_that_is_held_lets_it_go_on_without_the_one_that_failed(
    mut world: World,
) {
    let first = world.accept("ann", render("first").in_group("g").holding_its_group()).await;
    let [second, third] = line(&world).await;
    world.fail_for_good(&world.claims(&first).await).await;
    world.reopen().await;
    world.claims_nothing().await;
    let lease = woken_by(&world, world.resumes(&group("g"))).await;
    assert_eq!(lease.render.id, second.id);
    world.claims_nothing().await;
    assert_eq!(world.status(first.id).await, Status::Failed);
    // It can be retried all the same, and has its place again.
    world.retry(first.id).await.unwrap();
    assert_wait_behind(&world, &second, &[(&first, 1), (&third, 2)]).await;
    world.succeed(&lease).await;
    assert_eq!(world.end(&world.claims(&first).await, permanent()).await, Status::Failed);
    // It was asked to hold its group whenever it fails.
    assert_eq!(world.stands(&third).await, (1, held_by(&first)));
    world.resumes(&group("g")).await;
    world.renders_in_turn(&[&third]).await;
    assert_eq!(world.group_of_ann("g").await, None);
}

pub(super) async fn resuming_its_tenant_or_the_queue_does_not_end_a_hold(world: World) {
    let first = world.accept("ann", render("first").in_group("g").holding_its_group()).await;
    let [second] = line(&world).await;
    world.fail_for_good(&world.claims(&first).await).await;
    for what in [tenant("ann"), Pausable::Queue] {
        world.pauses(&what).await;
        world.resumes(&what).await;
        assert_eq!(world.stands(&second).await, (1, held_by(&first)));
        world.claims_nothing().await;
    }
}

pub(super) async fn a_group_that_is_paused_and_held_goes_on_when_both_have_ended(world: World) {
    let first = world.accept("ann", render("first").in_group("g").holding_its_group()).await;
    let [second] = line(&world).await;
    let lease = world.claims(&first).await;
    world.pauses(&group("g")).await;
    world.fail_for_good(&lease).await;
    let group_now = world.group_of_ann("g").await.unwrap();
    assert_eq!((group_now.paused, group_now.held_by), (true, Some(first.id)));
    world.retry(first.id).await.unwrap();
    world.claims_nothing().await;
    assert_eq!(world.stands(&first).await, (1, Some(Blocked::GroupPaused)));
    world.resumes(&group("g")).await;
    let lease = world.claims(&first).await;
    world.cancel(first.id).await.unwrap();
    assert_eq!(world.end(&lease, Outcome::Cancelled).await, Status::Cancelled);
    world.renders_in_turn(&[&second]).await;
}
