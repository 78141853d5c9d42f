//! Claims that wait, and those who listen.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use lastframe_core::ports::{Change, ControlError, Queue as _};
use lastframe_core::{HandBack, Lease, Progress, Render, RenderId, Status};

use crate::world::{Asks as _, LEASE, World, passing, render};

/// Far longer than a wake takes, so that a claim that is not woken fails its test.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a claim gets that has looked in vain before `event` happens.
async fn woken_by(world: &World, event: impl Future<Output = ()>) -> Lease {
    let mut claim = world.claim("waiting", PATIENCE);
    // The writer answers in order: once it has answered somebody else, the claim has been told that there is nothing.
    let looked_in_vain = async {
        let nobody = RenderId::generate(world.now(), &mut fastrand::Rng::with_seed(0));
        assert!(matches!(world.cancel(nobody).await, Err(ControlError::NotFound)));
    };
    tokio::select! {
        biased;
        claimed = &mut claim => panic!("there is something to claim already: {claimed:?}"),
        () = looked_in_vain => {}
    }
    let (claimed, ()) = tokio::join!(claim, event);
    claimed.unwrap().expect("the claim must be woken")
}

async fn group_of_two(world: &World) -> (Render, Render) {
    let first = world.accept("ann", render("first").in_group("g")).await;
    (first, world.accept("ann", render("second").in_group("g")).await)
}

#[tokio::test]
async fn a_waiting_claim_is_woken_by_a_submit() {
    let world = World::new().await;
    let woken = woken_by(&world, async { drop(world.accept("ann", render("a")).await) }).await;
    assert_eq!(woken.render.composition, "a");
}

#[tokio::test]
async fn a_waiting_claim_is_woken_when_the_one_before_in_the_group_ends() {
    let world = World::new().await;
    let (first, second) = group_of_two(&world).await;
    let lease = world.claims(&first).await;
    let woken = woken_by(&world, world.succeed(&lease)).await;
    assert_eq!(woken.render.id, second.id);
}

#[tokio::test]
async fn a_waiting_claim_is_woken_when_the_one_before_in_the_group_is_cancelled_in_the_queue() {
    let world = World::new().await;
    let first = world.accept("ann", render("first").in_group("g").not_before(world.now() + LEASE)).await;
    let second = world.accept("ann", render("second").in_group("g")).await;
    let woken = woken_by(&world, async { drop(world.cancel(first.id).await.unwrap()) }).await;
    assert_eq!(woken.render.id, second.id);
}

#[tokio::test]
async fn a_waiting_claim_is_woken_when_a_delay_has_passed() {
    let world = World::new().await;
    let later = world.accept("ann", render("later").not_before(world.now() + Duration::from_secs(60))).await;
    let woken = woken_by(&world, world.pass(Duration::from_secs(60))).await;
    assert_eq!(woken.render.id, later.id);
}

#[tokio::test]
async fn a_waiting_claim_is_woken_when_a_lease_is_lost_or_handed_back() {
    let world = World::new().await;
    let a = world.accept("ann", render("a")).await;
    world.claims(&a).await;
    let lease = woken_by(&world, world.pass(LEASE)).await;
    assert_eq!(lease.render.id, a.id);
    let hand_back = async { world.release(a.id, &lease.token, HandBack::Draining).await.unwrap() };
    assert_eq!(woken_by(&world, hand_back).await.render.id, a.id);
}

#[tokio::test]
async fn a_waiting_claim_is_woken_by_a_retry() {
    let world = World::new().await;
    let a = world.accept("ann", render("a")).await;
    let lease = world.claims(&a).await;
    world.fail_for_good(&lease).await;
    let woken = woken_by(&world, async { drop(world.retry(a.id).await.unwrap()) }).await;
    assert_eq!(woken.render.id, a.id);
}

#[tokio::test]
async fn a_waiting_claim_is_woken_when_a_tenant_at_its_limit_has_room_again() {
    let world = World::new().await;
    let a = world.accept("ann", render("a")).await;
    let b = world.accept("ann", render("b")).await;
    world.sql().execute_batch("UPDATE tenant SET max_rendering = 1").unwrap();
    let lease = world.claims(&a).await;
    // It waits for another attempt, so only the room it leaves can be what wakes.
    let woken =
        woken_by(&world, async { assert_eq!(world.end(&lease, passing()).await, Status::Queued) }).await;
    assert_eq!(woken.render.id, b.id);
}

#[tokio::test]
async fn of_two_waiting_claims_each_gets_one_render() {
    let world = World::new().await;
    let (one, other, renders) = tokio::join!(
        world.claim("one", PATIENCE),
        world.claim("other", PATIENCE),
        world.accept_many("ann", 2, render("a")),
    );
    let claimed: HashSet<_> = [one, other].map(|claim| claim.unwrap().unwrap().render.id).into();
    assert_eq!(claimed, renders.iter().map(|render| render.id).collect());
}

#[tokio::test]
async fn a_claim_gives_up_when_it_has_waited_long_enough() {
    let world = World::new().await;
    assert!(world.claim("worker", Duration::from_millis(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn listeners_hear_of_every_change_once_it_is_on_disk() {
    let world = World::new().await;
    let mut changes = world.changes();
    let mut hears = async |render: &Render| {
        let change = tokio::time::timeout(PATIENCE, changes.next()).await.unwrap();
        assert_eq!(change, Some(Change { render: render.id }));
    };
    let a = world.accept("ann", render("a")).await;
    hears(&a).await;
    let lease = world.claims(&a).await;
    hears(&a).await;
    world.extend(a.id, &lease.token, Progress::START, None).await.unwrap();
    hears(&a).await;
    world.release(a.id, &lease.token, HandBack::Draining).await.unwrap();
    hears(&a).await;
    let lease = world.claims(&a).await;
    hears(&a).await;
    world.fail_for_good(&lease).await;
    hears(&a).await;
    world.retry(a.id).await.unwrap();
    hears(&a).await;
    world.claims(&a).await;
    hears(&a).await;
    world.pass(LEASE).await;
    hears(&a).await;
    world.cancel(a.id).await.unwrap();
    hears(&a).await;
    // What was refused changed nothing.
    world.cancel(a.id).await.unwrap_err();
    let b = world.accept("ann", render("b")).await;
    hears(&b).await;
    assert_eq!(changes.next().now_or_never(), None);
}
