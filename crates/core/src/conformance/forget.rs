//! Removing what has ended.

use std::time::Duration;

use futures_util::StreamExt as _;

use super::group::line;
use super::{Asks as _, World, key, nobody, permanent, render, succeeded};
use crate::ports::{Change, Counts};
use crate::{Deletion, Outcome, Output, Status, TenantId};

async fn counts(world: &World) -> Counts {
    let ann = world.tenant(&TenantId::new("ann")).await.unwrap().unwrap();
    assert_eq!(world.overview().await.unwrap().counts, ann.counts);
    ann.counts
}

pub(super) async fn what_is_forgotten_is_gone_with_all_that_was_known_of_it(mut world: World) {
    let a = world.accept("ann", render("a")).await;
    world.succeed(&world.claims(&a).await).await;
    let b = world.failed("ann", render("b")).await;
    let c = world.accept("ann", render("c")).await;
    world.cancel(c.id).await.unwrap();
    assert_eq!(counts(&world).await, Counts { succeeded: 1, failed: 1, cancelled: 1, ..Counts::default() });
    assert_eq!(world.forget(vec![a.id, b.id]).await.unwrap(), 2);
    world.reopen().await;
    for id in [a.id, b.id] {
        assert_eq!(world.get(id).await.unwrap(), None);
        assert_eq!(world.request(id).await.unwrap(), None);
        assert_eq!(world.attempts(id).await.unwrap(), []);
        assert_eq!(world.position(id).await.unwrap(), None);
        assert!(world.retry(id).await.is_err());
    }
    assert_eq!(world.all().await, [world.look(c.id).await]);
    assert_eq!(counts(&world).await, Counts { cancelled: 1, ..Counts::default() });
}

pub(super) async fn listeners_hear_of_what_is_forgotten(world: World) {
    let mut changes = world.changes();
    let a = world.accept("ann", render("a")).await;
    world.cancel(a.id).await.unwrap();
    assert_eq!(world.forget(vec![a.id]).await.unwrap(), 1);
    for what in ["accepted", "cancelled", "forgotten"] {
        assert_eq!(changes.next().await, Some(Change { render: a.id }), "{what}");
    }
}

pub(super) async fn only_what_has_ended_is_forgotten(world: World) {
    let rendering = world.accept("ann", render("rendering")).await;
    let lease = world.claims(&rendering).await;
    let queued = world.accept("ann", render("queued").in_group("g")).await;
    let before = (world.all().await, counts(&world).await);
    assert_eq!(world.forget(vec![rendering.id, queued.id, nobody()]).await.unwrap(), 0);
    assert_eq!(world.forget(vec![]).await.unwrap(), 0);
    assert_eq!((world.all().await, counts(&world).await), before);
    world.succeed(&lease).await;
    world.renders_in_turn(&[&queued]).await;
    assert_eq!(world.forget(vec![rendering.id, rendering.id, queued.id]).await.unwrap(), 2);
    assert_eq!(world.all().await, []);
}

pub(super) async fn the_order_of_those_that_are_left_stays(mut world: World) {
    let [first, second, third] = line(&world).await;
    world.succeed(&world.claims(&first).await).await;
    let lease = world.claims(&second).await;
    assert_eq!(world.forget(vec![first.id]).await.unwrap(), 1);
    world.claims_nothing().await;
    world.fail_for_good(&lease).await;
    world.retry(second.id).await.unwrap();
    world.renders_in_turn(&[&second, &third]).await;
    // A place is never given twice, not even the last one.
    assert_eq!(world.forget(vec![second.id, third.id]).await.unwrap(), 2);
    world.reopen().await;
    assert!(world.accept("ann", render("fourth")).await.seq > third.seq);
}

pub(super) async fn one_that_holds_its_group_is_left(world: World) {
    let first = world.accept("ann", render("first").in_group("g").holding_its_group()).await;
    let second = world.accept("ann", render("second").in_group("g")).await;
    assert_eq!(world.end(&world.claims(&first).await, permanent()).await, Status::Failed);
    assert_eq!(world.forget(vec![first.id]).await.unwrap(), 0);
    world.claims_nothing().await;
    assert_eq!(world.group_of_ann("g").await.unwrap().held_by, Some(first.id));
    world.retry(first.id).await.unwrap();
    world.renders_in_turn(&[&first, &second]).await;
    assert_eq!(world.forget(vec![first.id]).await.unwrap(), 1);
}

pub(super) async fn a_key_is_free_when_its_render_is_forgotten(world: World) {
    let first = world.accept_once("ann", render("a"), &key("k", 1)).await.unwrap().renders;
    world.renders_in_turn(&[&first[0]]).await;
    assert_eq!(world.forget(vec![first[0].id]).await.unwrap(), 1);
    let afresh = world.accept_once("ann", render("a"), &key("k", 2)).await.unwrap();
    assert!(!afresh.replayed);
    world.renders_in_turn(&[&afresh.renders[0]]).await;
    let again = world.accept_once("ann", render("a"), &key("k", 2)).await.unwrap();
    assert!(again.replayed);
    assert_eq!(again.renders, [world.look(afresh.renders[0].id).await]);
}

pub(super) async fn a_site_whose_renders_are_forgotten_can_be_removed(world: World) {
    let a = world.accept("ann", render("a")).await;
    world.succeed(&world.claims(&a).await).await;
    assert_eq!(world.forget(vec![a.id]).await.unwrap(), 1);
    world.directory().remove_site(&TenantId::new("ann"), "site").await.unwrap();
}

pub(super) async fn an_output_that_is_not_kept_is_due_in_its_time_until_it_is_deleted(mut world: World) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let [a, b, kept] = world.accept_many("ann", 3, render("a")).await.try_into().unwrap();
    let Outcome::Succeeded(output) = succeeded() else { unreachable!() };
    for (render, days) in [(&a, 3), (&b, 1)] {
        let lease = world.claims(render).await;
        let deletion = Some(Deletion::AfterDays(days));
        world.end(&lease, Outcome::Succeeded(Output { deletion, ..output.clone() })).await;
    }
    world.succeed(&world.claims(&kept).await).await;
    let due = async |world: &World| {
        let renders = world.outputs_due(world.now(), 10).await.unwrap();
        renders.into_iter().map(|render| render.id).collect::<Vec<_>>()
    };
    world.clock.advance(DAY - Duration::from_millis(1));
    assert_eq!(due(&world).await, []);
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(due(&world).await, [b.id]);
    world.clock.advance(2 * DAY);
    assert_eq!(due(&world).await, [b.id, a.id], "the longest due first");
    assert_eq!(world.outputs_due(world.now(), 1).await.unwrap().len(), 1);

    world.outputs_deleted(vec![b.id, nobody()]).await.unwrap();
    world.reopen().await;
    assert_eq!(due(&world).await, [a.id]);
    let deleted = world.look(b.id).await;
    let deletion = Some(Deletion::Done(world.now()));
    assert_eq!((deleted.status, deleted.output), (Status::Succeeded, Some(Output { deletion, ..output })));
}
