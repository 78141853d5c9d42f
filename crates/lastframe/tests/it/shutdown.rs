//! A server that is told to stop.

use serde_json::json;

use crate::server::{Server, command};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_what_runs_finish_within_the_grace_time() {
    let mut server = Server::start().await;
    let id = server.submit("slow", json!({"inputProps": {"frames": 60, "msPerFrame": 50}})).await;
    let waiting = server.submit("tiny", json!({"queue": {"runAt": "2999-01-01T00:00:00Z"}})).await;
    server.under_way(&id).await;
    server.signal("TERM");
    assert!(server.exit().await.success());
    assert_eq!(server.sidecar_processes(), [].into());

    let server = Server::on(server.give_up_data()).await;
    let render = server.render(&id).await;
    assert_eq!((&render["status"], &render["attempts"].as_array().unwrap().len()), (&json!("succeeded"), &1));
    assert_eq!(server.render(&waiting).await["status"], "queued");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_hands_back_at_once_and_the_next_start_goes_on() {
    let mut server = Server::start().await;
    let id = server.submit("slow", json!({"inputProps": {"frames": 60, "msPerFrame": 50}})).await;
    server.under_way(&id).await;
    server.signal("TERM");
    server.stopping().await;
    server.signal("TERM");
    assert!(server.exit().await.success());
    assert_eq!(server.sidecar_processes(), [].into());

    let server = Server::on(server.give_up_data()).await;
    let render = server.succeeded(&id).await;
    assert_eq!((&render["attempt"], &render["attempts"][0]["outcome"]), (&json!(1), &json!("handed_back")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_one_data_folder_refuses_to_start() {
    let server = Server::without_site("").await;
    let second = command(server.data.path()).output().unwrap();
    assert_eq!(second.status.code(), Some(5));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("another lastframe server has the data folder"), "{said}");
    assert_eq!(server.get("/readyz").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_makes_a_folder_and_secrets_that_nobody_else_can_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::without_site("").await;
    let mode = |name: &str| server.data.path().join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("admin-token"), mode("signing-keys.pem")), (0o700, 0o600, 0o600));
}

#[test]
fn a_misspelt_configuration_is_refused_by_name() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("lastframe.toml"), "[queue]\nmax_atempts = 3\n").unwrap();
    let started = command(data.path()).output().unwrap();
    assert_eq!(started.status.code(), Some(2));
    let said = String::from_utf8(started.stderr).unwrap();
    assert!(said.contains("max_atempts") && said.contains("lastframe.toml"), "{said}");
}
