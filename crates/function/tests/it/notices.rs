//! Who is told of the end of a render, and when.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use lastframe_core::notice::{NotifyOptions, WebhookOptions};
use lastframe_core::outbox::{DeliveryFilter, DeliveryStatus, Outbox as _};
use lastframe_core::ports::Queue as _;
use lastframe_core::{Failure, Outcome, RenderRequest};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::world::World;

const LONG: Duration = Duration::from_secs(300);

#[tokio::test]
async fn one_pass_tells_all_that_is_due_and_what_comes_too_late_is_owed_still() {
    let (told, mut heard) = mpsc::channel(1);
    let hear = async |State(told): State<mpsc::Sender<Value>>, body: String| {
        told.send(serde_json::from_str(&body).unwrap()).await.unwrap();
    };
    let router = Router::new().route("/hook", post(hear)).with_state(told);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await });
    let world = World::at("http://127.0.0.1:9").await;
    let id = world
        .render_with(RenderRequest {
            webhook: Some(WebhookOptions { url, secret: None, custom_data: None }),
            notify: Some(NotifyOptions { email: vec!["ana@example.com".into()] }),
            ..RenderRequest::default()
        })
        .await;
    let lease = world.store.claim("worker", Duration::ZERO).await.unwrap().unwrap();
    let failed = Outcome::Failed(Failure::new("component_error", "boom", false));
    world.store.finish(id, &lease.token, failed).await.unwrap();
    // An invocation that has no time left begins nothing.
    world.cloud.tell(Duration::ZERO, Duration::ZERO).await.unwrap();
    world.cloud.tell(LONG, LONG).await.unwrap();
    let webhook = heard.recv().await.unwrap();
    assert_eq!(webhook["renderId"], id.to_string());
    let letters = world.letters.0.lock().unwrap().clone();
    assert_eq!(letters.len(), 1);
    assert!(
        letters[0].0 == "ana@example.com" && letters[0].1.contains("From: Renders <renders@example.com>")
    );
    let deliveries =
        world.store.deliveries(DeliveryFilter { limit: 9, ..DeliveryFilter::default() }).await.unwrap();
    assert_eq!(deliveries.len(), 2);
    assert!(deliveries.iter().all(|delivery| delivery.status == DeliveryStatus::Delivered), "{deliveries:?}");
}
