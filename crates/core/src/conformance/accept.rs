//! Submitting.

use std::time::Duration;

use serde_json::json;

use super::{Asks as _, MOMENT, World, key, nobody, render};
use crate::ports::{Filter, SubmitError};
use crate::{Render, RenderId, Status, TenantId};

const HOUR: Duration = Duration::from_secs(60 * 60);

fn ids<'a>(renders: impl IntoIterator<Item = &'a Render>) -> Vec<RenderId> {
    renders.into_iter().map(|render| render.id).collect()
}

pub(super) async fn an_accepted_render_is_there_as_it_was_after_a_restart(mut world: World) {
    let mut asked = render("a").in_group("g").with_attempts(9).holding_its_group();
    asked.request.input_props =
        serde_json::from_value(json!({"title": "Grüße", "sizes": [1, 2.5, null]})).unwrap();
    let accepted = world.accept("ann", asked.clone()).await;
    assert_eq!(accepted.status, Status::Queued);
    assert_eq!((accepted.tenant.as_str(), accepted.group.as_deref()), ("ann", Some("g")));
    assert_eq!((accepted.max_attempts, accepted.attempt, accepted.leases), (9, 0, 0));
    assert_eq!((accepted.created_at, accepted.run_at), (world.now(), world.now()));
    world.reopen().await;
    assert_eq!(world.look(accepted.id).await, accepted);
    assert_eq!(world.request(accepted.id).await.unwrap(), Some(asked.request));
    assert_eq!(world.all().await, [accepted]);
}

pub(super) async fn what_the_request_leaves_open_has_its_default(world: World) {
    let accepted = world.accept("ann", render("a")).await;
    assert_eq!((accepted.priority, accepted.max_attempts, accepted.group), (0, 3, None));
}

pub(super) async fn nobody_knows_a_render_that_was_never_accepted(world: World) {
    assert!(world.get(nobody()).await.unwrap().is_none());
    assert!(world.request(nobody()).await.unwrap().is_none());
    assert!(world.position(nobody()).await.unwrap().is_none());
    assert_eq!(world.attempts(nobody()).await.unwrap(), []);
}

pub(super) async fn a_render_of_a_site_that_was_removed_is_refused(world: World) {
    let (ann, bob) = (TenantId::new("ann"), TenantId::new("bob"));
    world.directory().remove_site(&ann, "site").await.unwrap();
    let refused = world.submit(&ann, vec![render("a")], None).await;
    assert!(matches!(refused, Err(SubmitError::SiteGone(0))), "{refused:?}");
    assert_eq!(world.all().await, []);
    // Another tenant's site of that name is another site.
    assert!(world.submit(&bob, vec![render("b")], None).await.is_ok());
    // A name that stands for another version now does not bring the version back.
    world.add_site("ann", "site", "v2").await;
    let refused = world.submit(&ann, vec![render("a")], None).await;
    assert!(matches!(refused, Err(SubmitError::SiteGone(0))), "{refused:?}");
}

pub(super) async fn the_same_key_and_body_stand_for_the_same_renders(mut world: World) {
    let first = world.accept_once("ann", render("a"), &key("k", 1)).await.unwrap();
    assert!(!first.replayed);
    let again = world.accept_once("ann", render("a"), &key("k", 1)).await.unwrap();
    assert!(again.replayed);
    assert_eq!(again.renders, first.renders);
    world.reopen().await;
    world.claims(&first.renders[0]).await;
    let later = world.accept_once("ann", render("a"), &key("k", 1)).await.unwrap();
    assert_eq!(ids(&later.renders), ids(&first.renders));
    assert_eq!(later.renders[0].status, Status::Rendering, "they are told as they are now");
    assert_eq!(world.all().await.len(), 1);
}

pub(super) async fn a_key_stands_for_its_renders_when_their_site_is_gone(world: World) {
    let first = world.accept_once("ann", render("a"), &key("k", 1)).await.unwrap();
    world.succeed(&world.claims(&first.renders[0]).await).await;
    world.directory().remove_site(&TenantId::new("ann"), "site").await.unwrap();
    let again = world.accept_once("ann", render("a"), &key("k", 1)).await.unwrap();
    assert!(again.replayed);
    assert_eq!(ids(&again.renders), ids(&first.renders));
}

pub(super) async fn the_same_key_with_another_body_is_refused(world: World) {
    world.accept_once("ann", render("a"), &key("k", 1)).await.unwrap();
    let refused = world.accept_once("ann", render("b"), &key("k", 2)).await.unwrap_err();
    assert!(matches!(refused, SubmitError::KeyReused), "{refused}");
    assert_eq!(world.all().await.len(), 1);
}

pub(super) async fn a_key_is_forgotten_after_72_hours_and_not_before(mut world: World) {
    world.accept_once("ann", render("a"), &key("k", 1)).await.unwrap();
    world.pass(72 * HOUR - MOMENT).await;
    assert!(world.accept_once("ann", render("a"), &key("k", 1)).await.unwrap().replayed);
    world.reopen().await;
    world.sweep().await;
    assert!(world.accept_once("ann", render("a"), &key("k", 1)).await.unwrap().replayed);
    world.pass(MOMENT).await;
    assert!(!world.accept_once("ann", render("b"), &key("k", 2)).await.unwrap().replayed);
    assert_eq!(world.all().await.len(), 2);
}

pub(super) async fn a_key_is_its_tenants_own(world: World) {
    let ann = world.accept_once("ann", render("a"), &key("k", 1)).await.unwrap();
    let bob = world.accept_once("bob", render("a"), &key("k", 2)).await.unwrap();
    assert!(!bob.replayed);
    assert_ne!(ids(&ann.renders), ids(&bob.renders));
}

pub(super) async fn a_list_is_newest_first_and_can_be_narrowed_and_paged(world: World) {
    let a = world.accept("ann", render("a").in_group("g")).await;
    world.claims(&a).await;
    let b = world.accept("ann", render("b")).await;
    let c = world.accept("ann", render("c").in_group("g")).await;
    let d = world.accept("bob", render("d").in_group("g")).await;
    let ann = || Some(TenantId::new("ann"));
    let any = || Filter { limit: 10, ..Filter::default() };
    for (filter, expected) in [
        (any(), vec![&d, &c, &b, &a]),
        (Filter { tenant: ann(), ..any() }, vec![&c, &b, &a]),
        (Filter { status: Some(Status::Rendering), ..any() }, vec![&a]),
        (Filter { group: Some("g".into()), ..any() }, vec![&d, &c, &a]),
        (Filter { tenant: ann(), status: Some(Status::Queued), ..any() }, vec![&c, &b]),
        (Filter { tenant: ann(), group: Some("g".into()), ..any() }, vec![&c, &a]),
        (Filter { tenant: ann(), group: Some("g".into()), status: Some(Status::Queued), ..any() }, vec![&c]),
        (Filter { tenant: ann(), before: Some(c.seq), ..any() }, vec![&b, &a]),
        (Filter { tenant: ann(), limit: 2, ..any() }, vec![&c, &b]),
        (Filter { tenant: Some(TenantId::new("eve")), ..any() }, vec![]),
        (Filter { text: Some("C".into()), ..any() }, vec![&c]),
        (Filter { text: Some("G".into()), ..any() }, vec![&d, &c, &a]),
        (Filter { text: Some("g".into()), tenant: ann(), limit: 1, ..any() }, vec![&c]),
        (Filter { text: Some("g".into()), before: Some(d.seq), ..any() }, vec![&c, &a]),
        (Filter { text: Some("g".into()), status: Some(Status::Rendering), ..any() }, vec![&a]),
        (Filter { text: Some("a".into()), group: Some("g".into()), ..any() }, vec![&a]),
        (Filter { text: Some(b.id.to_string().to_uppercase()), ..any() }, vec![&b]),
        (Filter { text: Some("gg".into()), ..any() }, vec![]),
        (Filter { text: Some("%".into()), ..any() }, vec![]),
    ] {
        let listed = world.list(filter.clone()).await.unwrap();
        assert_eq!(ids(&listed), ids(expected), "{filter:?}");
    }
}
