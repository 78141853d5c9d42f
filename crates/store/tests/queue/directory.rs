//! Sites and their versions.

use lastframe_core::TenantId;
use lastframe_core::ports::{Directory as _, Queue as _, RemoveSiteError};
use lastframe_core::site::SiteVersion;
use serde_json::json;

use crate::world::{World, passing, render};

fn site(name: &str, version: &str) -> SiteVersion {
    let composition = json!({
        "id": "main", "width": 1920, "height": 1080, "fps": 29.97, "durationInFrames": 150,
        "defaultProps": {"title": "Grüße"},
    });
    serde_json::from_value(json!({
        "name": name, "version": version, "remotionVersion": "4.0.0", "renderer": "/opt/renderer", "sizeInBytes": 1_000,
        "compositions": [composition], "createdAt": "2026-01-01T00:00:00Z",
    }))
    .unwrap()
}

fn ann() -> TenantId {
    TenantId::new("ann")
}

#[tokio::test]
async fn a_site_is_there_as_it_was_after_the_store_is_opened_again() {
    let mut world = World::new().await;
    world.put_site(&ann(), site("site", "v1")).await.unwrap();
    world.reopen().await;
    assert_eq!(world.site(&ann(), "site").await.unwrap(), Some(site("site", "v1")));
}

#[tokio::test]
async fn a_name_stands_for_the_version_put_last_and_the_others_stay() {
    let world = World::new().await;
    for version in ["v1", "v2"] {
        world.put_site(&ann(), site("site", version)).await.unwrap();
    }
    assert_eq!(world.site(&ann(), "site").await.unwrap().unwrap().version, "v2");
    for version in ["v1", "v2"] {
        let found = world.site_version(&ann(), "site", version).await.unwrap();
        assert_eq!(found, Some(site("site", version)));
    }
    assert_eq!(world.site_version(&ann(), "site", "v3").await.unwrap(), None);
    // Going back is putting the earlier one again.
    world.put_site(&ann(), site("site", "v1")).await.unwrap();
    assert_eq!(world.site(&ann(), "site").await.unwrap().unwrap().version, "v1");
}

#[tokio::test]
async fn sites_are_listed_by_name_each_in_its_current_version() {
    let world = World::new().await;
    for (name, version) in [("b", "v1"), ("a", "v1"), ("b", "v2")] {
        world.put_site(&ann(), site(name, version)).await.unwrap();
    }
    assert_eq!(world.sites(&ann()).await.unwrap(), [site("a", "v1"), site("b", "v2")]);
}

#[tokio::test]
async fn a_site_is_its_tenants_own() {
    let world = World::new().await;
    let bob = TenantId::new("bob");
    world.put_site(&ann(), site("site", "v1")).await.unwrap();
    assert_eq!(world.site(&bob, "site").await.unwrap(), None);
    assert_eq!(world.site_version(&bob, "site", "v1").await.unwrap(), None);
    assert_eq!(world.sites(&bob).await.unwrap(), []);
    assert!(matches!(world.remove_site(&bob, "site").await, Err(RemoveSiteError::NotFound)));
    assert!(world.site(&ann(), "site").await.unwrap().is_some());
}

#[tokio::test]
async fn a_site_that_a_render_still_needs_is_not_removed() {
    let world = World::new().await;
    world.put_site(&ann(), site("site", "v1")).await.unwrap();
    // The render keeps to v1, whatever the name comes to stand for.
    let a = world.accept("ann", render("a")).await;
    world.put_site(&ann(), site("site", "v2")).await.unwrap();
    let in_use = async || match world.remove_site(&ann(), "site").await {
        Err(RemoveSiteError::InUse(id)) => assert_eq!(id, a.id),
        other => panic!("{other:?}"),
    };
    in_use().await;
    let lease = world.claims(&a).await;
    in_use().await;
    world.end(&lease, passing()).await;
    in_use().await;
    world.cancel(a.id).await.unwrap();
    let mut unused = world.remove_site(&ann(), "site").await.unwrap();
    unused.sort();
    assert_eq!(unused, ["v1", "v2"]);
    assert_eq!(world.site(&ann(), "site").await.unwrap(), None);
    assert_eq!(world.site_version(&ann(), "site", "v1").await.unwrap(), None);
    assert!(matches!(world.remove_site(&ann(), "site").await, Err(RemoveSiteError::NotFound)));
}

#[tokio::test]
async fn another_tenants_render_of_a_site_of_the_same_name_does_not_keep_it() {
    let world = World::new().await;
    let bob = TenantId::new("bob");
    for tenant in [&ann(), &bob] {
        world.put_site(tenant, site("site", "v1")).await.unwrap();
    }
    world.accept("bob", render("a")).await;
    let unused = world.remove_site(&ann(), "site").await.unwrap();
    assert_eq!(unused, [""; 0], "bob's site has the same files");
    assert!(world.site(&bob, "site").await.unwrap().is_some());
}

#[tokio::test]
async fn a_version_that_another_site_uses_is_not_told_as_unused() {
    let world = World::new().await;
    for (name, version) in [("site", "v1"), ("site", "v2"), ("other", "v1")] {
        world.put_site(&ann(), site(name, version)).await.unwrap();
    }
    assert_eq!(world.remove_site(&ann(), "site").await.unwrap(), ["v2"]);
    assert_eq!(world.remove_site(&ann(), "other").await.unwrap(), ["v1"]);
}
