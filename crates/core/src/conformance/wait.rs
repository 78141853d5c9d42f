//! Claims that wait, and those who listen.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::{Either, join, join3, select};
use futures_util::{FutureExt as _, StreamExt as _};

use super::{Asks as _, LEASE, World, nobody, render};
use crate::ports::{Change, ControlError};
use crate::{HandBack, Lease, Progress, Render};

/// Far longer than a wake takes, so that a claim that is not woken fails its test.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a claim gets that has looked in vain before `event` happens.
pub(super) async fn woken_by(world: &World, event: impl Future<Output = ()>) -> Lease {
    let claim = world.claim("waiting", PATIENCE);
    // Asked after the claim, so the claim has been told that there is nothing once this is answered.
    let looked_in_vain = async {
        assert!(matches!(world.cancel(nobody()).await, Err(ControlError::NotFound)));
    };
    let claim = match select(claim, Box::pin(looked_in_vain)).await {
        Either::Left((claimed, _)) => panic!("there is something to claim already: {claimed:?}"),
        Either::Right(((), claim)) => claim,
    };
    let (claimed, ()) = join(claim, event).await;
    claimed.unwrap().expect("the claim must be woken")
}

async fn group_of_two(world: &World) -> (Render, Render) {
    let first = world.accept("ann", render("first").in_group("g")).await;
    (first, world.accept("ann", render("second").in_group("g")).await)
}

pub(super) async fn a_waiting_claim_is_woken_by_a_submit(world: World) {
    let woken = woken_by(&world, async { drop(world.accept("ann", render("a")).await) }).await;
    assert_eq!(woken.render.composition, "a");
}

pub(super) async fn a_waiting_claim_is_woken_when_the_one_before_in_the_group_ends(world: World) {
    let (first, second) = group_of_two(&world).await;
    let lease = world.claims(&first).await;
    let woken = woken_by(&world, world.succeed(&lease)).await;
    assert_eq!(woken.render.id, second.id);
}

pub(super) async fn a_waiting_claim_is_woken_when_a_lease_is_lost_or_handed_back(world: World) {
    let a = world.accept("ann", render("a")).await;
    world.claims(&a).await;
    let lease = woken_by(&world, world.pass(LEASE)).await;
    assert_eq!(lease.render.id, a.id);
    let hand_back = async { world.release(a.id, &lease.token, HandBack::Draining).await.unwrap() };
    assert_eq!(woken_by(&world, hand_back).await.render.id, a.id);
}

pub(super) async fn a_waiting_claim_is_woken_by_a_retry(world: World) {
    let a = world.accept("ann", render("a")).await;
    let lease = world.claims(&a).await;
    world.fail_for_good(&lease).await;
    let woken = woken_by(&world, async { drop(world.retry(a.id).await.unwrap()) }).await;
    assert_eq!(woken.render.id, a.id);
}

pub(super) async fn of_two_waiting_claims_each_gets_one_render(world: World) {
    let (one, other, renders) = join3(
        world.claim("one", PATIENCE),
        world.claim("other", PATIENCE),
        world.accept_many("ann", 2, render("a")),
    )
    .await;
    let claimed: HashSet<_> = [one, other].map(|claim| claim.unwrap().unwrap().render.id).into();
    assert_eq!(claimed, renders.iter().map(|render| render.id).collect());
}

pub(super) async fn a_claim_gives_up_when_it_has_waited_long_enough(world: World) {
    assert!(world.claim("worker", Duration::from_millis(1)).await.unwrap().is_none());
}

pub(super) async fn listeners_hear_of_every_change_once_it_is_on_disk(world: World) {
    let mut changes = world.changes();
    let mut hears = async |render: &Render| {
        assert_eq!(changes.next().await, Some(Change { render: render.id }));
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
