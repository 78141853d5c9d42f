//! `lastframe doctor`, on a machine that is well and on such that are not.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::server::Server;

/// Its exit code and findings, with these variables in its environment.
fn doctor(data: &Path, environment: &[(&str, &str)]) -> (i32, Vec<Value>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastframe"));
    command.args(["doctor", "--json"]).env("LASTFRAME_DATA", data).env("LASTFRAME_LISTEN", "127.0.0.1:0");
    let output = command.envs(environment.iter().copied()).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), told["findings"].as_array().unwrap().clone())
}

/// The finding of that word that is worst: FAIL, warn, ok in this order.
fn worst(findings: &[Value], what: &str) -> Value {
    let rank = |finding: &&Value| ["ok", "warn", "fail"].iter().position(|state| finding["state"] == *state);
    findings.iter().filter(|finding| finding["what"] == what).max_by_key(rank).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_renders_is_well_with_a_server_and_without() {
    let mut server = Server::start().await;
    let (exit, findings) = doctor(server.data.path(), &[]);
    assert_eq!(exit, 0, "{findings:?}");
    for what in ["kernel", "clock", "config", "node", "browser", "data", "server", "token", "remotion"] {
        assert_eq!(worst(&findings, what)["state"], "ok", "{findings:?}");
    }
    // How fast it is does not depend on the program.
    let sync = worst(&findings, "sync");
    assert!(sync["state"] != "fail" && sync["found"].as_str().unwrap().contains("synced in"), "{sync}");
    assert!(worst(&findings, "remotion")["found"].as_str().unwrap().contains("ffprobe version"));

    server.signal("TERM");
    assert!(server.exit().await.success());
    let (exit, findings) = doctor(server.data.path(), &[]);
    assert_eq!(exit, 0, "{findings:?}");
    assert!(worst(&findings, "server")["found"].as_str().unwrap().contains("none runs"));
    assert_eq!(worst(&findings, "port")["state"], "ok");
}

#[test]
fn each_thing_that_is_broken_is_named_with_its_mend() {
    let data = tempfile::tempdir().unwrap();
    let nothing = tempfile::tempdir().unwrap();
    let expect = |findings: &(i32, Vec<Value>), what: &str, part: &str| {
        let found = worst(&findings.1, what);
        assert_eq!((findings.0, &found["state"]), (1, &json!("fail")), "{findings:?}");
        let text = format!("{} {}", found["found"], found["mend"]);
        assert!(text.contains(part), "{text}");
    };

    let bare = doctor(data.path(), &[("PATH", nothing.path().to_str().unwrap())]);
    expect(&bare, "node", "install Node 20");
    let missing = doctor(data.path(), &[("LASTFRAME_BROWSER", "/nowhere/chrome")]);
    expect(&missing, "config", "/nowhere/chrome");
    let broken = doctor(data.path(), &[("LASTFRAME_BROWSER", "/bin/false")]);
    expect(&broken, "browser", "does not run");
    // Where even root cannot write.
    let unwritable = doctor(Path::new("/proc/self/lastframe"), &[]);
    expect(&unwritable, "sync", "cannot write");
    let file = nothing.path().join("file");
    std::fs::write(&file, "").unwrap();
    expect(&doctor(&file, &[]), "data", "not a folder");
    expect(&doctor(data.path(), &[("LASTFRAME_SERVER", "http://127.0.0.1:1")]), "server", "does not answer");

    std::fs::write(data.path().join("lastframe.toml"), "[queue]\nmax_atempts = 3\n").unwrap();
    let misspelt = doctor(data.path(), &[]);
    expect(&misspelt, "config", "max_atempts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_and_a_token_that_is_not_good_are_named() {
    let data = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (exit, findings) = doctor(data.path(), &[("LASTFRAME_LISTEN", &address)]);
    assert_eq!((exit, &worst(&findings, "port")["state"]), (1, &json!("fail")));

    let server = Server::without_site("").await;
    let (exit, findings) = doctor(server.data.path(), &[("LASTFRAME_TOKEN", "nonsense")]);
    assert_eq!((exit, &worst(&findings, "token")["state"]), (1, &json!("fail")));
}
