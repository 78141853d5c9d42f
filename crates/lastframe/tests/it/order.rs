//! Renders of one group run one after another; nothing else waits.

use serde_json::{Value, json};

use crate::server::{Server, send_signal};

fn time(render: &Value, name: &str) -> jiff::Timestamp {
    render[name].as_str().unwrap_or_else(|| panic!("no {name} in {render}")).parse().unwrap()
}

/// Each started only after the one before had finished.
fn assert_one_after_another(renders: &[Value]) {
    for pair in renders.windows(2) {
        let (finished, started) = (time(&pair[0], "finishedAt"), time(&pair[1], "startedAt"));
        assert!(finished <= started, "{} started at {started}, before {finished}", pair[1]["renderId"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_runs_in_order_and_another_does_not_wait_for_it() {
    let server = Server::start().await;
    let grouped =
        |group: &str| json!({"inputProps": {"frames": 10, "msPerFrame": 20}, "queue": {"group": group}});
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(server.submit("slow", grouped("a")).await);
    }
    let other = server.submit("slow", grouped("b")).await;
    let second = server.render(&ids[1]).await;
    assert_eq!(second["blockedBy"], json!({"reason": "group", "renderId": ids[0]}));

    let other = server.succeeded(&other).await;
    let mut renders = Vec::new();
    for id in &ids {
        renders.push(server.succeeded(id).await);
    }
    assert_one_after_another(&renders);
    assert!(time(&other, "startedAt") < time(&renders[0], "finishedAt"), "the other group waited");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_render_blocks_its_group_until_it_is_terminal() {
    // Long enough to be seen waiting.
    let server = Server::configured("[render]\nconcurrency = 2\n[queue]\nretry_delay = \"5s\"\n").await;
    let group = json!({"group": "a", "maxAttempts": 2});
    let first =
        server.submit("slow", json!({"inputProps": {"frames": 20, "msPerFrame": 50}, "queue": group})).await;
    let second = server.submit("tiny", json!({"queue": group})).await;
    server.under_way(&first).await;
    send_signal("KILL", server.sidecar_process("sidecar.mjs", "supervise"));
    let queued = server.follow(&first, |render| render["status"] == "queued").await;
    assert_eq!(queued["errors"][0]["code"], "sidecar_gone");
    assert_eq!(server.render(&second).await["status"], "queued");

    let renders = [server.succeeded(&first).await, server.succeeded(&second).await];
    assert_one_after_another(&renders);
    assert_eq!(renders[0]["attempt"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_render_lets_its_group_go_on_or_holds_it_as_asked() {
    let server = Server::start().await;
    let group = |name: &str, on_failure: &str| json!({"queue": {"group": name, "onFailure": on_failure}});
    let failing = server.submit("throws", group("go", "continue")).await;
    let next = server.submit("tiny", group("go", "continue")).await;
    let blocking = server.submit("throws", group("hold", "block")).await;
    let held = server.submit("tiny", group("hold", "block")).await;

    let failed = server.ended(&failing).await;
    assert_one_after_another(&[failed, server.succeeded(&next).await]);
    assert_eq!(server.ended(&blocking).await["status"], "failed");
    let held = server.render(&held).await;
    assert_eq!(held["status"], "queued");
    assert_eq!(held["blockedBy"], json!({"reason": "groupHeld", "renderId": blocking}));
}
