//! Whatever dies, nothing that was accepted is lost, nothing counts twice, and nothing is left behind.

use serde_json::{Value, json};

use crate::server::{Server, command, send_signal};

fn slow() -> Value {
    json!({"inputProps": {"frames": 30, "msPerFrame": 50}})
}

/// The render succeeded with all its frames and one output, and the dead have left no files.
async fn assert_whole(server: &Server, id: &str) -> Value {
    let render = server.succeeded(id).await;
    assert_eq!(render["output"]["frameCount"], 30);
    let files = server.output_files();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(server.output(id).await.len() as u64, render["outputSizeInBytes"].as_u64().unwrap());
    render
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_the_server_four_times_in_a_row_costs_no_attempt_and_leaves_nothing() {
    let mut server = Server::start().await;
    let id = server.submit("slow", slow()).await;
    for _ in 0..4 {
        server.under_way(&id).await;
        let before = server.sidecar_processes();
        assert!(!before.is_empty());
        server = server.kill_and_restart().await;
        let after = server.sidecar_processes();
        assert!(
            before.keys().all(|process| !after.contains_key(process)),
            "left running: {before:?} {after:?}"
        );
    }
    let render = assert_whole(&server, &id).await;
    assert_eq!(render["attempt"], 1);
    let outcomes: Vec<_> =
        render["attempts"].as_array().unwrap().iter().map(|attempt| &attempt["outcome"]).collect();
    assert_eq!(outcomes, ["lost", "lost", "lost", "lost", "succeeded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_browser_is_noticed_and_the_render_tried_again() {
    let server = Server::start().await;
    let id = server.submit("slow", slow()).await;
    server.under_way(&id).await;
    send_signal("KILL", server.sidecar_process("--headless", "--type="));
    let render = assert_whole(&server, &id).await;
    assert_eq!(render["attempt"], 2);
    assert_eq!(render["attempts"][0]["error"]["code"], "browser_crashed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_supervisor_leaves_nothing_running() {
    let server = Server::start().await;
    let id = server.submit("slow", slow()).await;
    server.under_way(&id).await;
    let before = server.sidecar_processes();
    send_signal("KILL", server.sidecar_process("supervise ", "no such text"));
    server.succeeded(&id).await;
    let cancelled = server.submit("slow", slow()).await;
    server.under_way(&cancelled).await;
    server.post(&format!("/v1/renders/{cancelled}/cancel"), &json!({})).await;
    server.ended(&cancelled).await;
    let after = server.sidecar_processes();
    assert!(before.keys().all(|process| !after.contains_key(process)), "left running: {after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_render_that_is_cancelled_while_it_runs_stops_with_every_process_of_it() {
    let server = Server::start().await;
    let id = server.submit("slow", json!({"inputProps": {"frames": 600, "msPerFrame": 100}})).await;
    server.under_way(&id).await;
    let (status, _) = server.post(&format!("/v1/renders/{id}/cancel"), &json!({})).await;
    assert_eq!(status, 202);
    let render = server.ended(&id).await;
    assert_eq!(render["status"], "cancelled");
    assert_eq!(render["errors"][0]["name"], "CancelledError");
    assert_eq!(server.sidecar_processes(), [].into());
    assert!(server.output_files().is_empty());

    let (status, answer) = server.post(&format!("/v1/renders/{id}/retry"), &json!({})).await;
    assert_eq!((status, &answer["status"], &answer["renderId"]), (202, &json!("queued"), &json!(id)));
    server.post(&format!("/v1/renders/{id}/cancel"), &json!({})).await;
    assert_eq!(server.ended(&id).await["status"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_render_that_is_cancelled_while_queued_never_starts() {
    let server = Server::start().await;
    let later = json!({"queue": {"runAt": "2999-01-01T00:00:00Z"}});
    let id = server.submit("tiny", later).await;
    assert_eq!(server.render(&id).await["blockedBy"]["reason"], "delayed");
    server.post(&format!("/v1/renders/{id}/cancel"), &json!({})).await;
    let render = server.render(&id).await;
    assert_eq!((&render["status"], &render["startedAt"]), (&json!("cancelled"), &Value::Null));
    let (status, answer) = server.post(&format!("/v1/renders/{id}/cancel"), &json!({})).await;
    assert_eq!((status, &answer["code"]), (409, &json!("conflict")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_stopped_past_its_leases_changes_nothing_that_was_decided_meanwhile() {
    let server = Server::start().await;
    let id = server.submit("slow", slow()).await;
    server.under_way(&id).await;
    server.signal("STOP");
    // Nothing can signal that a lease has run out in a process that stands still: only time passing does it.
    tokio::time::sleep(std::time::Duration::from_secs(7)).await;
    server.signal("CONT");
    let render = assert_whole(&server, &id).await;
    assert_eq!(render["attempt"], 1, "{render}");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_site_fail_at_once_with_its_message_and_its_own_source() {
    let server = Server::start().await;
    // Beside the others, for it takes its time.
    let hangs = json!({"timeoutInMilliseconds": 7000, "queue": {"maxAttempts": 2}});
    let hangs = server.submit("hangs", hangs).await;
    for (composition, codes, message) in [
        ("throws", vec!["component_error"], "boom at frame 3"),
        ("metadata-throws", vec!["calculate_metadata_failed"], "bad data: points is empty"),
        // cancelRender() throws what it was given: where that is noticed first, it looks like any thrown error.
        ("cancels", vec!["render_cancelled", "component_error"], "no such user"),
    ] {
        let id = server.submit(composition, json!({})).await;
        let render = server.ended(&id).await;
        assert_eq!(render["status"], "failed");
        assert_eq!(render["attempts"].as_array().unwrap().len(), 1, "{render}");
        let error = &render["errors"][0];
        assert!(codes.contains(&error["code"].as_str().unwrap()), "{error}");
        assert!(error["message"].as_str().unwrap().contains(message), "{error}");
        assert!(error["stack"].as_str().unwrap().contains("test-site/Root.tsx:"), "{error}");
        let log = server.get(&format!("/v1/renders/{id}/log")).await.text().await.unwrap();
        assert!(log.contains(message), "{log}");
    }
    // A fault that may pass is tried as often as was asked for.
    let render = server.ended(&hangs).await;
    assert_eq!((&render["status"], &render["attempt"]), (&json!("failed"), &json!(2)), "{render}");
    assert_eq!(render["errors"][0]["code"], "delay_render_timeout");
    let id = server
        .submit(
            "slow",
            json!({"inputProps": {"frames": 600}, "queue": {"timeoutInSeconds": 2, "maxAttempts": 1}}),
        )
        .await;
    assert_eq!(server.ended(&id).await["errors"][0]["code"], "render_timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_does_not_take_the_videos_with_it() {
    let mut server = Server::start().await;
    let id = server.submit("tiny", json!({})).await;
    server.succeeded(&id).await;
    server.signal("TERM");
    assert!(server.exit().await.success());
    let data = server.give_up_data();
    let log = data.path().join("lastframe.db-wal").metadata().map_or(0, |log| log.len());
    assert_eq!(log, 0, "a database that was closed in order is one file");
    std::fs::remove_file(data.path().join("lastframe.db")).unwrap();
    let refused = command(data.path()).output().unwrap();
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && why.contains("the database is gone"), "{why}");
    // Who means it removes the mark as well.
    std::fs::remove_file(data.path().join("high-water")).unwrap();
    let server = Server::on(data).await;
    assert_eq!(server.output_files().len(), 1);
    assert!(server.log().contains("outputs of a render that the queue does not know"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_machine_lacks_costs_no_attempt() {
    let server = Server::start().await;
    let logs = server.data.path().join("logs");
    std::fs::remove_dir_all(&logs).unwrap();
    std::fs::write(&logs, "in the way").unwrap();
    let id = server.submit("tiny", json!({"queue": {"maxAttempts": 1}})).await;
    server.follow(&id, |render| render["status"] == "queued" && render["startedAt"].is_string()).await;
    std::fs::remove_file(&logs).unwrap();
    let render = server.succeeded(&id).await;
    assert_eq!((&render["attempt"], &render["attempts"][0]["outcome"]), (&json!(1), &json!("handed_back")));
}
