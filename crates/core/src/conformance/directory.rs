//! Sites and their versions.

use serde_json::json;

use super::{World, passing, render};
use crate::TenantId;
use crate::ports::{NewRender, RemoveSiteError};
use crate::site::SiteVersion;

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

/// A tenant that nobody has put a site of before.
fn eve() -> TenantId {
    TenantId::new("eve")
}

pub(super) async fn a_site_is_there_as_it_was_after_a_restart(mut world: World) {
    world.directory().put_site(&eve(), site("site", "w1")).await.unwrap();
    world.reopen().await;
    assert_eq!(world.directory().site(&eve(), "site").await.unwrap(), Some(site("site", "w1")));
}

pub(super) async fn a_name_stands_for_the_version_put_last_and_the_others_stay(world: World) {
    for version in ["w1", "w2"] {
        world.directory().put_site(&eve(), site("site", version)).await.unwrap();
    }
    assert_eq!(world.directory().site(&eve(), "site").await.unwrap().unwrap().version, "w2");
    for version in ["w1", "w2"] {
        let found = world.directory().site_version(&eve(), "site", version).await.unwrap();
        assert_eq!(found, Some(site("site", version)));
    }
    assert_eq!(world.directory().site_version(&eve(), "site", "w3").await.unwrap(), None);
    // Going back is putting the earlier one again.
    world.directory().put_site(&eve(), site("site", "w1")).await.unwrap();
    assert_eq!(world.directory().site(&eve(), "site").await.unwrap().unwrap().version, "w1");
}

pub(super) async fn sites_are_listed_by_name_each_in_its_current_version(world: World) {
    for (name, version) in [("b", "w1"), ("a", "w1"), ("b", "w2")] {
        world.directory().put_site(&eve(), site(name, version)).await.unwrap();
    }
    assert_eq!(world.directory().sites(&eve()).await.unwrap(), [site("a", "w1"), site("b", "w2")]);
}

pub(super) async fn a_site_is_its_tenants_own(world: World) {
    let bob = TenantId::new("bob");
    world.directory().put_site(&eve(), site("hers", "w1")).await.unwrap();
    assert_eq!(world.directory().site(&bob, "hers").await.unwrap(), None);
    assert_eq!(world.directory().site_version(&bob, "hers", "w1").await.unwrap(), None);
    let bobs = world.directory().sites(&bob).await.unwrap();
    assert_eq!(bobs.iter().map(|site| site.name.as_str()).collect::<Vec<_>>(), ["site"]);
    assert!(matches!(world.directory().remove_site(&bob, "hers").await, Err(RemoveSiteError::NotFound)));
    assert!(world.directory().site(&eve(), "hers").await.unwrap().is_some());
}

pub(super) async fn a_site_that_a_render_still_needs_is_not_removed(world: World) {
    world.directory().put_site(&eve(), site("site", "w1")).await.unwrap();
    // The render keeps to w1, whatever the name comes to stand for.
    let a = world.accept("eve", NewRender { site_version: "w1".into(), ..render("a") }).await;
    world.directory().put_site(&eve(), site("site", "w2")).await.unwrap();
    let in_use = async || match world.directory().remove_site(&eve(), "site").await {
        Err(RemoveSiteError::InUse(id)) => assert_eq!(id, a.id),
        other => panic!("{other:?}"),
    };
    in_use().await;
    let lease = world.claims(&a).await;
    in_use().await;
    world.end(&lease, passing()).await;
    in_use().await;
    world.cancel(a.id).await.unwrap();
    world.directory().remove_site(&eve(), "site").await.unwrap();
    assert_eq!(world.directory().site(&eve(), "site").await.unwrap(), None);
    assert_eq!(world.directory().site_version(&eve(), "site", "w1").await.unwrap(), None);
    assert!(matches!(world.directory().remove_site(&eve(), "site").await, Err(RemoveSiteError::NotFound)));
}

pub(super) async fn another_tenants_render_of_a_site_of_the_same_name_does_not_keep_it(world: World) {
    let bob = TenantId::new("bob");
    for tenant in [&eve(), &bob] {
        world.directory().put_site(tenant, site("site", "w1")).await.unwrap();
    }
    world.accept("bob", NewRender { site_version: "w1".into(), ..render("a") }).await;
    world.directory().remove_site(&eve(), "site").await.unwrap();
    assert!(world.directory().site(&bob, "site").await.unwrap().is_some());
}

pub(super) async fn versions_are_listed_the_last_added_first(world: World) {
    let added =
        |version: &str, at: &str| SiteVersion { created_at: at.parse().unwrap(), ..site("site", version) };
    let versions = [
        added("w3", "2026-01-01T00:00:00Z"),
        added("w1", "2026-01-02T00:00:00Z"),
        added("w2", "2026-01-03T00:00:00Z"),
    ];
    for version in &versions {
        world.directory().put_site(&eve(), version.clone()).await.unwrap();
    }
    world.directory().put_site(&eve(), site("other", "w9")).await.unwrap();
    let listed = world.directory().site_versions(&eve(), "site").await.unwrap();
    assert_eq!(listed.iter().rev().collect::<Vec<_>>(), versions.iter().collect::<Vec<_>>());
    assert_eq!(world.directory().site_versions(&eve(), "none").await.unwrap(), []);
    assert_eq!(world.directory().site_versions(&TenantId::new("nobody"), "site").await.unwrap(), []);
}

pub(super) async fn the_version_that_a_name_stands_for_is_not_removed(world: World) {
    for version in ["w1", "w2"] {
        world.directory().put_site(&eve(), site("site", version)).await.unwrap();
    }
    let refused = world.directory().remove_site_version(&eve(), "site", "w2").await;
    assert!(matches!(refused, Err(RemoveSiteError::Current)), "{refused:?}");
    world.directory().put_site(&eve(), site("site", "w1")).await.unwrap();
    world.directory().remove_site_version(&eve(), "site", "w2").await.unwrap();
    let refused = world.directory().remove_site_version(&eve(), "site", "w1").await;
    assert!(matches!(refused, Err(RemoveSiteError::Current)), "{refused:?}");
}

pub(super) async fn a_version_that_a_render_still_needs_is_not_removed(world: World) {
    world.directory().put_site(&eve(), site("site", "w1")).await.unwrap();
    let a = world.accept("eve", NewRender { site_version: "w1".into(), ..render("a") }).await;
    world.directory().put_site(&eve(), site("site", "w2")).await.unwrap();
    let in_use = async || match world.directory().remove_site_version(&eve(), "site", "w1").await {
        Err(RemoveSiteError::InUse(id)) => assert_eq!(id, a.id),
        other => panic!("{other:?}"),
    };
    in_use().await;
    let lease = world.claims(&a).await;
    in_use().await;
    world.succeed(&lease).await;
    world.directory().remove_site_version(&eve(), "site", "w1").await.unwrap();
}

pub(super) async fn a_removed_version_is_gone_and_the_others_stay(mut world: World) {
    for version in ["w1", "w2", "w3"] {
        world.directory().put_site(&eve(), site("site", version)).await.unwrap();
    }
    world.directory().remove_site_version(&eve(), "site", "w1").await.unwrap();
    world.reopen().await;
    assert_eq!(world.directory().site_version(&eve(), "site", "w1").await.unwrap(), None);
    assert_eq!(world.directory().site(&eve(), "site").await.unwrap(), Some(site("site", "w3")));
    assert_eq!(world.directory().site_versions(&eve(), "site").await.unwrap().len(), 2);
    for (name, version) in [("site", "w1"), ("site", "w4"), ("other", "w2")] {
        let refused = world.directory().remove_site_version(&eve(), name, version).await;
        assert!(matches!(refused, Err(RemoveSiteError::NotFound)), "{name} {version}: {refused:?}");
    }
}

pub(super) async fn a_version_is_there_as_long_as_any_site_has_it(world: World) {
    let bob = TenantId::new("bob");
    for (name, version) in [("site", "w1"), ("site", "w2"), ("other", "w1")] {
        world.directory().put_site(&eve(), site(name, version)).await.unwrap();
    }
    world.directory().put_site(&bob, site("his", "w1")).await.unwrap();
    let has = async |version: &str| world.directory().has_version(version).await.unwrap();
    assert!(has("w1").await && has("w2").await && !has("w3").await);
    world.directory().remove_site(&eve(), "site").await.unwrap();
    assert!(has("w1").await && !has("w2").await);
    world.directory().remove_site(&eve(), "other").await.unwrap();
    assert!(has("w1").await);
    world.directory().remove_site(&bob, "his").await.unwrap();
    assert!(!has("w1").await);
}
