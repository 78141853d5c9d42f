//! Sidecars that misbehave, and the supervisor that outlives them all.

use std::io::{BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::server::{Server, send_signal};

/// A program under supervision, its event pipe at hand.
fn supervised(script: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut supervisor = Command::new(env!("CARGO_BIN_EXE_lastframe"))
        .args(["supervise", "--", "bash", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let events = BufReader::new(supervisor.stdout.take().unwrap());
    (supervisor, events)
}

/// The processes that [`CHILDREN`] starts announce themselves.
fn announced(events: impl std::io::BufRead) -> Vec<i32> {
    events.lines().take(4).map(|line| line.unwrap().parse().unwrap()).collect()
}

fn assert_gone(processes: &[i32]) {
    assert!(!processes.is_empty());
    for process in processes {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
        assert!(stat.is_err(), "{process} lives: {stat:?}");
    }
}

/// Ignores SIGTERM, and so do its children: one with a child in a session of its own, as a browser is, and an orphan.
const CHILDREN: &str = "trap '' TERM HUP INT
    setsid bash -c 'echo $$ >&$LASTFRAME_EVENT_FD; sleep 1000 & echo $! >&$LASTFRAME_EVENT_FD; wait' &
    (sleep 1000 & echo $! >&$LASTFRAME_EVENT_FD)
    echo $$ >&$LASTFRAME_EVENT_FD
    read -r <&$LASTFRAME_COMMAND_FD";

#[test]
fn nothing_survives_when_the_worker_goes_away() {
    let (mut supervisor, events) = supervised(&format!("{CHILDREN}; sleep 1000"));
    let processes = announced(events);
    drop(supervisor.stdin.take());
    supervisor.wait().unwrap();
    assert_gone(&processes);
}

#[test]
fn nothing_survives_the_program_itself() {
    let (mut supervisor, events) = supervised(&format!("{CHILDREN}; exit 7"));
    let processes = announced(events);
    // Held open: a closed pipe would end the program before it ends itself, and waiting closes what is not taken.
    let mut commands = supervisor.stdin.take().unwrap();
    commands.write_all(b"go\n").unwrap();
    assert_eq!(supervisor.wait().unwrap().code(), Some(7));
    drop(commands);
    assert_gone(&processes);
}

#[test]
fn the_end_of_the_program_is_the_end_of_its_events_though_a_child_holds_the_pipe() {
    let (mut supervisor, mut events) = supervised("sleep 1000 & echo last >&$LASTFRAME_EVENT_FD");
    let mut said = String::new();
    events.read_to_string(&mut said).unwrap();
    assert_eq!(said, "last\n");
    assert!(supervisor.wait().unwrap().success());
}

/// A server whose Node is a program of ours, on a data folder that knows the test site already.
async fn with_node(script: &str) -> (Server, tempfile::TempDir) {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    // Sidecars may be another user's.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let node = folder.path().join("node");
    std::fs::write(&node, format!("#!/bin/bash\n{script}\n")).unwrap();
    std::fs::set_permissions(&node, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = format!("[render]\nnode = {node:?}\n[queue]\nlease = \"3s\"\nretry_delay = \"10ms\"");
    (server.reconfigured(&config).await, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_dies_at_once_ends_in_a_failure_that_says_what_it_said() {
    let (server, _folder) = with_node("echo 'node: cannot do this' >&2; exit 3").await;
    let id = server.submit("tiny", json!({})).await;
    let render = server.ended(&id).await;
    assert_eq!((&render["status"], &render["attempt"]), (&json!("failed"), &json!(3)));
    let error = &render["errors"][0];
    assert_eq!(error["code"], "sidecar_gone");
    assert!(error["message"].as_str().unwrap().contains("node: cannot do this"), "{error}");
    assert_eq!(server.sidecar_processes(), [].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_speaks_nonsense_fails_its_render_and_is_ended() {
    let (server, _folder) = with_node("echo '{\"type\":\"ready\"' >&$LASTFRAME_EVENT_FD; sleep 1000").await;
    let id = server.submit("tiny", json!({"queue": {"maxAttempts": 1}})).await;
    let render = server.ended(&id).await;
    assert_eq!(
        (&render["status"], &render["errors"][0]["code"]),
        (&json!("failed"), &json!("internal")),
        "{render}"
    );
    assert_eq!(server.sidecar_processes(), [].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_floods_its_output_is_read_on_and_renders() {
    let (server, _folder) =
        with_node("yes 'a line of noise' | head -c 20000000 >&2; yes | head -c 1000000; exec node \"$@\"")
            .await;
    let id = server.submit("tiny", json!({})).await;
    server.succeeded(&id).await;
    let log = server.get(&format!("/v1/renders/{id}/log")).await.bytes().await.unwrap();
    assert!(log.len() < 2 << 20, "the log is bounded: {}", log.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_falls_silent_is_noticed_and_replaced() {
    let server = Server::start().await;
    let id = server.submit("slow", json!({"inputProps": {"frames": 30, "msPerFrame": 50}})).await;
    server.under_way(&id).await;
    let stopped = server.sidecar_process("sidecar.mjs", "supervise");
    send_signal("STOP", stopped);
    let render = server.succeeded(&id).await;
    assert_eq!(render["attempts"][0]["error"]["code"], "sidecar_unresponsive", "{render}");
    assert_gone(&[stopped]);
}
