//! Queueing many failed renders again.

use jiff::SignedDuration;

use super::group::line;
use super::{Asks as _, MINUTE, World, nobody, permanent, render};
use crate::ports::{Redrive, Redriven};
use crate::{Failure, Outcome, Render, RenderId, Status, TenantId};

/// Whatever ann's failed.
fn all() -> Redrive {
    Redrive {
        tenant: TenantId::new("ann"),
        ids: None,
        group: None,
        code: None,
        since: None,
        until: None,
        limit: 100,
    }
}

/// Redrives `which` and tells what came of it, with all else as it was.
async fn redriven(world: &World, which: Redrive) -> (Vec<RenderId>, bool) {
    let before = world.all().await;
    let Redriven { renders, more } = world.redrive(which.clone()).await.unwrap();
    for (before, after) in before.into_iter().zip(world.all().await) {
        if renders.contains(&before.id) {
            assert_eq!((before.status, after.status), (Status::Failed, Status::Queued), "{which:?}");
            assert_eq!(
                (after.seq, after.attempt, after.error, after.finished_at),
                (before.seq, 0, None, None)
            );
        } else {
            assert_eq!(after, before, "{which:?}");
        }
    }
    (renders, more)
}

fn ids(renders: &[&Render]) -> Vec<RenderId> {
    renders.iter().map(|render| render.id).collect()
}

pub(super) async fn the_failed_renders_of_the_tenant_are_queued_again_and_no_others(world: World) {
    let queued_before = world.accept("bob", render("bob's")).await;
    world.fail_for_good(&world.claims(&queued_before).await).await;
    let a = world.failed("ann", render("a").with_attempts(1)).await;
    let cancelled = world.accept("ann", render("cancelled")).await;
    world.cancel(cancelled.id).await.unwrap();
    let done = world.accept("ann", render("done")).await;
    world.succeed(&world.claims(&done).await).await;
    let b = world.failed("ann", render("b")).await;
    let rendering = world.accept("ann", render("rendering")).await;
    world.claims(&rendering).await;
    let queued = world.accept("ann", render("queued")).await;
    assert_eq!(redriven(&world, all()).await, (ids(&[&a, &b]), false));
    world.claims_all_of(&[&a, &b, &queued]).await;
    assert_eq!(world.outcomes(a.id).await, ["failed", "goes on"]);
}

pub(super) async fn what_was_retried_already_is_left_as_it_is(world: World) {
    let a = world.failed("ann", render("a")).await;
    let b = world.failed("ann", render("b")).await;
    world.retry(a.id).await.unwrap();
    let lease = world.claims(&a).await;
    assert_eq!(redriven(&world, all()).await, (ids(&[&b]), false));
    assert_eq!(redriven(&world, Redrive { ids: Some(ids(&[&a, &b])), ..all() }).await, (vec![], false));
    world.succeed(&lease).await;
}

pub(super) async fn it_can_be_narrowed_to_renders_to_a_group_and_to_a_fault(world: World) {
    let a = world.failed("ann", render("a").in_group("g")).await;
    let b = world.failed("ann", render("b").in_group("h")).await;
    let c = world.failed("bob", render("c").in_group("g")).await;
    let d = world.accept("ann", render("d").in_group("g")).await;
    let failure = Failure::new("composition_threw", "it threw", false);
    assert_eq!(world.end(&world.claims(&d).await, Outcome::Failed(failure)).await, Status::Failed);
    let (group, code) = (|name: &str| Some(name.to_owned()), |code: &str| Some(code.to_owned()));
    for (which, expected) in [
        (Redrive { ids: Some(vec![]), ..all() }, vec![]),
        (Redrive { ids: Some(vec![nobody(), c.id]), ..all() }, vec![]),
        (Redrive { group: group("nowhere"), ..all() }, vec![]),
        (Redrive { code: code("no_such_code"), ..all() }, vec![]),
        (Redrive { group: group("h"), code: code("composition_threw"), ..all() }, vec![]),
        (Redrive { ids: Some(ids(&[&b, &c])), ..all() }, vec![&b]),
        (Redrive { group: group("g"), code: code("composition_threw"), ..all() }, vec![&d]),
        (Redrive { code: code("composition_not_found"), ..all() }, vec![&a]),
    ] {
        assert_eq!(redriven(&world, which).await, (ids(&expected), false));
    }
    let bobs = Redrive { tenant: TenantId::new("bob"), group: group("g"), ..all() };
    assert_eq!(redriven(&world, bobs).await, (ids(&[&c]), false));
}

pub(super) async fn it_can_be_narrowed_to_a_time(world: World) {
    let mut failed = Vec::new();
    for name in ["a", "b", "c"] {
        failed.push(world.failed("ann", render(name)).await);
        world.pass(MINUTE).await;
    }
    let at = |index: usize| failed[index].finished_at;
    let moment = SignedDuration::from_millis(1);
    let after = |index: usize| at(index).map(|time| time + moment);
    for (since, until, expected) in [
        (after(2), None, vec![]),
        (None, at(0), vec![]),
        (after(0), at(1), vec![]),
        // From a time on, and up to a time.
        (at(1), at(2), vec![1]),
        (None, after(0), vec![0]),
        (at(2), None, vec![2]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(|index: usize| failed[index].id).collect();
        assert_eq!(redriven(&world, Redrive { since, until, ..all() }).await, (expected, false));
    }
}

pub(super) async fn it_goes_no_further_than_its_limit_and_says_that_there_is_more(world: World) {
    let mut failed = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        failed.push(world.failed("ann", render(name)).await.id);
    }
    let two = || Redrive { limit: 2, ..all() };
    assert_eq!(redriven(&world, two()).await, (failed[..2].to_vec(), true));
    assert_eq!(redriven(&world, two()).await, (failed[2..4].to_vec(), true));
    assert_eq!(redriven(&world, two()).await, (failed[4..].to_vec(), false));
    assert_eq!(redriven(&world, two()).await, (vec![], false));
}

pub(super) async fn a_limit_that_is_just_met_leaves_no_more(world: World) {
    let a = world.failed("ann", render("a")).await;
    let b = world.failed("ann", render("b")).await;
    assert_eq!(redriven(&world, Redrive { limit: 2, ..all() }).await, (ids(&[&a, &b]), false));
}

pub(super) async fn each_has_its_place_in_its_group_again(world: World) {
    let [first, second, third, fourth] = line(&world).await;
    world.fail_for_good(&world.claims(&first).await).await;
    let lease = world.claims(&second).await;
    world.fail_for_good(&lease).await;
    let lease = world.claims(&third).await;
    assert_eq!(redriven(&world, all()).await, (ids(&[&first, &second]), false));
    world.claims_nothing().await;
    world.succeed(&lease).await;
    world.renders_in_turn(&[&first, &second, &fourth]).await;
}

pub(super) async fn it_ends_the_hold_of_those_it_queues_again_and_of_no_others(world: World) {
    let mut held = Vec::new();
    for name in ["g", "h"] {
        let holder = world.accept("ann", render(name).in_group(name).holding_its_group()).await;
        let next = world.accept("ann", render(name).in_group(name)).await;
        assert_eq!(world.end(&world.claims(&holder).await, permanent()).await, Status::Failed);
        held.push((holder, next));
    }
    let [(g, after_g), (h, after_h)] = held.try_into().unwrap();
    assert_eq!(redriven(&world, Redrive { group: Some("g".into()), ..all() }).await, (ids(&[&g]), false));
    world.renders_in_turn(&[&g, &after_g]).await;
    assert_eq!(redriven(&world, all()).await, (ids(&[&h]), false));
    world.renders_in_turn(&[&h, &after_h]).await;
}
