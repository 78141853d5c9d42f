//! Renders of one submit.

use futures_util::StreamExt as _;

use super::{Asks as _, World, key, render};
use crate::TenantId;
use crate::ports::{Change, SubmitError};

pub(super) async fn they_are_accepted_in_the_order_given(world: World) {
    let asked = ["a", "b", "c"].map(render).to_vec();
    let accepted = world.submit(&TenantId::new("ann"), asked, None).await.unwrap().renders;
    assert_eq!(
        accepted.iter().map(|render| render.composition.as_str()).collect::<Vec<_>>(),
        ["a", "b", "c"]
    );
    assert!(accepted.is_sorted_by_key(|render| render.seq));
    world.claims_all_of(&accepted.iter().collect::<Vec<_>>()).await;
}

pub(super) async fn there_may_be_as_many_as_the_queue_says(world: World) {
    let batch = world.capabilities().batch;
    let asked = vec![render("a").in_group("g"); batch];
    let accepted = world.submit(&TenantId::new("ann"), asked, None).await.unwrap().renders;
    assert_eq!(accepted.len(), batch);
    assert_eq!(world.all().await.len(), batch);
}

pub(super) async fn they_are_accepted_all_or_not_at_all(world: World) {
    let mut gone = render("c");
    gone.site_version = "v0".into();
    let (ann, once) = (TenantId::new("ann"), key("k", 1));
    let mut changes = world.changes();
    let asked = vec![render("a"), render("b").in_group("g"), gone];
    let refused = world.submit(&ann, asked.clone(), Some(once.clone())).await;
    assert!(matches!(refused, Err(SubmitError::SiteGone(2))), "{refused:?}");
    assert_eq!(world.all().await, []);
    assert_eq!(world.group_of_ann("g").await, None);
    world.claims_nothing().await;
    // The key was not used up either.
    let accepted = world.submit(&ann, asked[..2].to_vec(), Some(once)).await.unwrap();
    assert!(!accepted.replayed);
    assert_eq!(accepted.renders.len(), 2);
    // Nor has anybody heard of what was undone.
    assert_eq!(changes.next().await, Some(Change { render: accepted.renders[0].id }));
}

pub(super) async fn their_key_stands_for_those_of_them_that_are_not_forgotten(world: World) {
    let (ann, once) = (TenantId::new("ann"), key("k", 1));
    let submit =
        async || world.submit(&ann, vec![render("a"), render("b")], Some(once.clone())).await.unwrap();
    let first = submit().await.renders;
    world.renders_in_turn(&[&first[0], &first[1]]).await;
    assert_eq!(world.forget(vec![first[0].id]).await.unwrap(), 1);
    let again = submit().await;
    assert!(again.replayed);
    assert_eq!(again.renders, [world.look(first[1].id).await]);
}
