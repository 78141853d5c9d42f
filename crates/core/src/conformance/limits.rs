//! How much of a tenant's may wait, and what holds for a tenant that says nothing.

use futures_util::future::join_all;

use super::{Asks as _, LONG, World, key, passing, render};
use crate::ports::{NewRender, Redrive, SubmitError};
use crate::render::Blocked;
use crate::{HandBack, Limits, Status, TenantId};

fn queued(most: u32) -> Limits {
    Limits { max_queued: Some(most), ..Limits::default() }
}

/// A submit that must be refused for the limit.
async fn refused(world: &World, tenant: &str, renders: Vec<NewRender>, most: u32) {
    let answer = world.submit(&TenantId::new(tenant), renders, None).await;
    assert!(matches!(answer, Err(SubmitError::TooManyQueued(said)) if said == most), "{answer:?}");
}

pub(super) async fn no_more_wait_than_may_and_the_refused_leave_nothing_behind(world: World) {
    world.limits("ann", queued(3)).await;
    let later = render("delayed").not_before(world.now() + LONG);
    // Whatever it is that they wait for.
    let first = world.accept("ann", render("first").in_group("g")).await;
    world.accept("ann", render("behind it").in_group("g")).await;
    if world.capabilities().longest_delay >= LONG {
        world.accept("ann", later).await;
    } else {
        world.accept("ann", render("open")).await;
    }
    let before = world.all().await;
    refused(&world, "ann", vec![render("more").in_group("h")], 3).await;
    assert_eq!(world.all().await, before);
    assert_eq!(world.group_of_ann("h").await, None);
    assert_eq!(world.waiting("ann").await, 3);
    world.claims(&first).await;
    world.accept("ann", render("more")).await;
}

pub(super) async fn of_many_submitted_at_once_no_more_are_accepted_than_may_wait(world: World) {
    world.limits("ann", queued(5)).await;
    let ann = TenantId::new("ann");
    let answers = join_all((0..20).map(|_| world.submit(&ann, vec![render("a")], None))).await;
    let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
    let limited =
        answers.iter().filter(|answer| matches!(answer, Err(SubmitError::TooManyQueued(5)))).count();
    assert_eq!((accepted, limited), (5, 15));
    assert_eq!((world.waiting("ann").await, world.all().await.len()), (5, 5));
}

pub(super) async fn renders_of_one_submit_are_all_or_none_at_the_limit(world: World) {
    if world.capabilities().batch < 3 {
        return;
    }
    world.limits("ann", queued(3)).await;
    world.accept("ann", render("a")).await;
    refused(&world, "ann", vec![render("b"); 3], 3).await;
    assert_eq!(world.waiting("ann").await, 1);
    world.submit(&TenantId::new("ann"), vec![render("b"); 2], None).await.unwrap();
    assert_eq!(world.waiting("ann").await, 3);
}

pub(super) async fn a_limit_counts_the_renders_of_its_tenant_and_no_others(world: World) {
    world.limits("ann", queued(1)).await;
    world.accept_many("bob", 3, render("b")).await;
    world.accept("ann", render("a")).await;
    refused(&world, "ann", vec![render("a")], 1).await;
    world.accept("bob", render("b")).await;
}

pub(super) async fn whatever_takes_a_render_out_of_the_queue_makes_room(world: World) {
    world.limits("ann", queued(1)).await;
    let full = async || refused(&world, "ann", vec![render("more")], 1).await;
    let first = world.accept("ann", render("first")).await;
    full().await;
    // A claim; and no end of its attempt takes the room away again.
    let lease = world.claims(&first).await;
    let second = world.accept("ann", render("second")).await;
    full().await;
    world.succeed(&lease).await;
    full().await;
    world.cancel(second.id).await.unwrap();
    world.accept("ann", render("third")).await;
    full().await;
}

pub(super) async fn a_key_stands_for_its_renders_at_the_limit_too(world: World) {
    world.limits("ann", queued(1)).await;
    let (ann, once) = (TenantId::new("ann"), key("k", 1));
    assert_eq!(world.submitted(&ann, &once).await.unwrap(), None);
    let first = world.accept_once("ann", render("a"), &once).await.unwrap().renders;
    let again = world.accept_once("ann", render("a"), &once).await.unwrap();
    assert!(again.replayed);
    assert_eq!(again.renders, first);
    assert_eq!(world.submitted(&ann, &once).await.unwrap(), Some(first.clone()));
    let reused = world.submitted(&ann, &key("k", 2)).await;
    assert!(matches!(reused, Err(SubmitError::KeyReused)), "{reused:?}");
    // One that is refused is not used up.
    let refused = world.accept_once("ann", render("b"), &key("l", 1)).await;
    assert!(matches!(refused, Err(SubmitError::TooManyQueued(1))), "{refused:?}");
    assert_eq!(world.submitted(&ann, &key("l", 1)).await.unwrap(), None);
    world.claims(&first[0]).await;
    assert!(!world.accept_once("ann", render("b"), &key("l", 1)).await.unwrap().replayed);
}

pub(super) async fn what_was_accepted_once_comes_back_whatever_the_limit(mut world: World) {
    let [failed, cancelled, thrown, lost] =
        world.accept_many("ann", 4, render("a")).await.try_into().unwrap();
    let lease = world.claims(&failed).await;
    world.fail_for_good(&lease).await;
    world.cancel(cancelled.id).await.unwrap();
    let first = world.claims(&thrown).await;
    let second = world.claims(&lost).await;
    world.limits("ann", queued(0)).await;
    assert_eq!(world.end(&first, passing()).await, Status::Queued);
    world.release(lost.id, &second.token, HandBack::Draining).await.unwrap();
    world.claims(&lost).await;
    world.reopen().await;
    assert_eq!(world.status(lost.id).await, Status::Queued);
    world.retry(cancelled.id).await.unwrap();
    let which = Redrive {
        tenant: TenantId::new("ann"),
        ids: None,
        group: None,
        code: None,
        since: None,
        until: None,
        limit: 10,
    };
    assert_eq!(world.redrive(which).await.unwrap().renders, [failed.id]);
    assert_eq!(world.waiting("ann").await, 4);
    refused(&world, "ann", vec![render("more")], 0).await;
}

pub(super) async fn a_limit_of_nothing_takes_nothing_on(world: World) {
    let waits = world.accept("ann", render("a")).await;
    world.limits("ann", queued(0)).await;
    refused(&world, "ann", vec![render("b")], 0).await;
    world.renders_in_turn(&[&waits]).await;
    refused(&world, "ann", vec![render("b")], 0).await;
    world.limits("ann", Limits::default()).await;
    world.accept("ann", render("b")).await;
}

pub(super) async fn what_waits_beyond_a_limit_that_is_lowered_stays(world: World) {
    let waiting = world.accept_many("ann", 3, render("a")).await;
    world.limits("ann", queued(2)).await;
    assert_eq!(world.waiting("ann").await, 3);
    refused(&world, "ann", vec![render("b")], 2).await;
    world.claims(&waiting[0]).await;
    refused(&world, "ann", vec![render("b")], 2).await;
    world.claims(&waiting[1]).await;
    world.accept("ann", render("b")).await;
}

pub(super) async fn a_limit_is_in_force_at_once_and_outlasts_a_restart(mut world: World) {
    world.limits("ann", queued(1)).await;
    world.accept("ann", render("a")).await;
    world.reopen().await;
    refused(&world, "ann", vec![render("b")], 1).await;
    world.limits("ann", queued(2)).await;
    world.accept("ann", render("b")).await;
}

pub(super) async fn who_has_no_limits_of_its_own_has_the_defaults(mut world: World) {
    let waiting = world.accept_many("ann", 2, render("a")).await;
    world.limits("bob", Limits { max_queued: Some(5), max_concurrency: Some(3), ..Limits::default() }).await;
    world.defaults =
        Limits { weight: Some(2), max_queued: Some(1), max_concurrency: Some(1), ..Limits::default() };
    world.reopen().await;
    let told = async |world: &World, name: &str| {
        let tenant = world.tenant(&TenantId::new(name)).await.unwrap().unwrap();
        assert_eq!(tenant.effective, tenant.limits.or(world.defaults));
        tenant.effective
    };
    assert_eq!(told(&world, "ann").await, world.defaults);
    assert_eq!(told(&world, "bob").await.max_queued, Some(5));
    refused(&world, "ann", vec![render("b")], 1).await;
    world.claims(&waiting[0]).await;
    assert_eq!(world.stands(&waiting[1]).await.1, Some(Blocked::TenantLimit));
    world.accept_many("bob", 5, render("b")).await;
    for _ in 0..3 {
        assert_eq!(world.take().await.unwrap().render.tenant.as_str(), "bob");
    }
    world.claims_nothing().await;
    // A limit that it had of its own gives way to the default.
    world.limits("bob", Limits::default()).await;
    refused(&world, "bob", vec![render("b")], 1).await;
    // Whatever the defaults were, those of now hold.
    world.defaults = Limits::default();
    world.reopen().await;
    world.accept_many("ann", 3, render("c")).await;
    assert_eq!(told(&world, "ann").await.weight, Some(1));
    assert_eq!(world.stands(&waiting[1]).await.1, None);
}

pub(super) async fn the_defaults_are_in_force_for_whoever_comes_later(mut world: World) {
    world.defaults = Limits { max_queued: Some(1), max_concurrency: Some(0), ..Limits::default() };
    world.reopen().await;
    world.add_site("dan", "site", "v1").await;
    let dan = world.tenant(&TenantId::new("dan")).await.unwrap().unwrap();
    assert_eq!((dan.limits, dan.effective), (Limits::default(), Limits::default().or(world.defaults)));
    world.accept("dan", render("d")).await;
    refused(&world, "dan", vec![render("d")], 1).await;
    world.claims_nothing().await;
}

pub(super) async fn tenants_are_served_by_the_weight_that_counts(mut world: World) {
    world.gives("ann", 1, None).await;
    world.accept_many("ann", 20, render("a")).await;
    world.accept_many("bob", 20, render("b")).await;
    world.defaults = Limits { weight: Some(3), ..Limits::default() };
    world.reopen().await;
    let mut bob = 0;
    for _ in 0..16 {
        let lease = world.take().await.unwrap();
        world.succeed(&lease).await;
        bob += u32::from(lease.render.tenant.as_str() == "bob");
    }
    assert!((11..=13).contains(&bob), "{bob} of 16");
}

pub(super) async fn limits_that_a_queue_does_not_need_are_kept_for_who_asks(mut world: World) {
    let all = Limits {
        weight: Some(7),
        max_concurrency: Some(6),
        max_queued: Some(5),
        submits_per_minute: Some(4),
        max_body: Some(3_000_000_000_000),
        max_render_seconds: Some(2),
    };
    world.limits("ann", all).await;
    world.reopen().await;
    assert_eq!(world.tenant(&TenantId::new("ann")).await.unwrap().unwrap().limits, all);
}
