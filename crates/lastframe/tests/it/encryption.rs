//! Secrets in the database: sealed by default, opened by their keys alone, under another key when somebody asks for one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::server::{Server, command, run};

const KEY_FILE: &str = "encryption-key";
/// Stands in the props and in the environment variables of every render here.
const SECRET: &str = "open-sesame";

/// A render whose size and length come from its props, and a secret besides.
async fn submit(server: &Server, frames: u32) -> String {
    let props = json!({"width": 64, "height": 48, "durationInFrames": frames, "note": SECRET});
    let variables = json!({ "GREETING": SECRET });
    server.submit("props", json!({"inputProps": props, "envVariables": variables})).await
}

/// The files of the database in which the secret is to be read.
fn readable_in(folder: &Path) -> Vec<String> {
    let files = ["lastframe.db", "lastframe.db-wal"].map(|name| folder.join(name));
    let shows = |file: &Path| {
        let bytes = std::fs::read(file).unwrap_or_default();
        bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes())
    };
    files.iter().filter(|file| shows(file)).map(|file| file.display().to_string()).collect()
}

async fn encryption(server: &Server) -> Value {
    server.get("/v1/encryption").await.json().await.unwrap()
}

fn states(encryption: &Value) -> Vec<&str> {
    encryption["keys"].as_array().unwrap().iter().map(|key| key["state"].as_str().unwrap()).collect()
}

/// Waits until no key is leaving any more.
async fn settled(server: &Server) -> Value {
    let settled = async {
        loop {
            let now = encryption(server).await;
            if !states(&now).contains(&"leaving") {
                return now;
            }
            // The end of sealing anew has no signal over HTTP; asking again is all there is.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(60), settled).await.expect("everything is sealed anew")
}

/// Starts a server that must refuse to, and gives its exit code and what it said.
fn refusal(data: &Path, variables: &[(&str, &str)]) -> (i32, String) {
    let mut command = command(data);
    // Whatever the key is, it is not among what the server says.
    let output =
        command.env_remove("LASTFRAME_ENCRYPTION_KEY").envs(variables.iter().copied()).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

async fn stopped(mut server: Server) -> tempfile::TempDir {
    server.signal("TERM");
    assert!(server.exit().await.success());
    server.give_up_data()
}

#[tokio::test(flavor = "multi_thread")]
async fn renders_that_wait_while_the_key_is_changed_are_rendered_as_they_were_asked_for() {
    let server = Server::start().await;
    server.request(Method::POST, "/v1/queue/pause").send().await.unwrap();
    let before = submit(&server, 5).await;
    let first = encryption(&server).await;
    assert_eq!((states(&first), &first["enabled"]), (vec!["current"], &json!(true)));

    let (exit, told, why) = run(&server, &["key", "rotate"]);
    assert!(exit == 0 && told.contains("new secrets"), "{told}{why}");
    let after = submit(&server, 7).await;
    let rotated = settled(&server).await;
    assert_eq!(states(&rotated), ["current", "retired"]);
    assert_eq!(rotated["keys"][1]["id"], first["keys"][0]["id"]);
    let file = server.data.path().join(KEY_FILE);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // The server marks the file after it has told; a restart is as good as waiting, and kills it besides.
    let server = server.kill_and_restart().await;
    assert_eq!(settled(&server).await["keys"][0], rotated["keys"][0]);
    server.request(Method::POST, "/v1/queue/resume").send().await.unwrap();
    for (id, frames) in [(before, 5), (after, 7)] {
        assert_eq!(server.succeeded(&id).await["output"]["frameCount"], frames);
    }
    assert_eq!(readable_in(server.data.path()), [""; 0]);
    let (exit, told, _) = run(&server, &["check"]);
    assert!(exit == 0 && told.contains("all is as it was written") && !told.contains("not tried"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_key_the_server_refuses_to_start_and_says_what_it_needs() {
    let server = Server::start().await;
    let id = submit(&server, 5).await;
    server.succeeded(&id).await;
    let needed = encryption(&server).await["keys"][0]["id"].as_str().unwrap().to_owned();
    let data = stopped(server).await;
    let file = data.path().join(KEY_FILE);
    let key = std::fs::read(&file).unwrap();

    std::fs::remove_file(&file).unwrap();
    let (exit, why) = refusal(data.path(), &[]);
    assert!(exit == 2 && why.contains(&needed) && why.contains(KEY_FILE), "{exit}: {why}");
    assert!(!file.exists(), "no other key takes its place");
    let wrong = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let (exit, why) = refusal(data.path(), &[("LASTFRAME_ENCRYPTION_KEY", wrong)]);
    assert!(exit == 2 && why.contains(&needed) && !why.contains(wrong), "{exit}: {why}");
    let (exit, why) = refusal(data.path(), &[("LASTFRAME_ENCRYPTION_KEY", "hunter2")]);
    assert!(exit == 2 && why.contains("base64") && !why.contains("hunter2"), "{exit}: {why}");
    std::fs::write(&file, key).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (exit, why) = refusal(data.path(), &[]);
    assert!(exit == 2 && why.contains("chmod 600"), "{exit}: {why}");

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let server = Server::on(data).await;
    assert_eq!(server.render(&id).await["status"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_without_encryption_is_sealed_when_it_is_turned_on() {
    let server = Server::without_site("[render]\nconcurrency = 1\n[encryption]\nenabled = false").await;
    server.add_site("test").await;
    server.request(Method::POST, "/v1/queue/pause").send().await.unwrap();
    let id = submit(&server, 5).await;
    assert!(!readable_in(server.data.path()).is_empty() && !server.data.path().join(KEY_FILE).exists());
    assert!(server.log().contains("encryption is off"), "{}", server.log());
    let (status, problem) = server.post("/v1/encryption/rotate", &json!({})).await;
    assert!(status == 409 && problem["detail"].as_str().unwrap().contains("enabled = true"), "{problem}");

    let server = server.reconfigured("[render]\nconcurrency = 1").await;
    let sealed = settled(&server).await;
    assert_eq!((states(&sealed), &sealed["enabled"]), (vec!["current"], &json!(true)));
    assert_eq!(readable_in(server.data.path()), [""; 0]);
    server.request(Method::POST, "/v1/queue/resume").send().await.unwrap();
    assert_eq!(server.succeeded(&id).await["output"]["frameCount"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_not_restored_without_its_key() {
    let server = Server::start().await;
    submit(&server, 5).await;
    let backup = server.data.path().join("kept.backup");
    assert_eq!(run(&server, &["backup", backup.to_str().unwrap()]).0, 0);
    let other = Server::without_site("").await;
    let data = stopped(other).await;
    let restore = |command: &mut std::process::Command| {
        let output =
            command.args(["restore", backup.to_str().unwrap()]).env("LASTFRAME_DATA", data.path()).output();
        let output = output.unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let program = || std::process::Command::new(env!("CARGO_BIN_EXE_lastframe"));
    let before = std::fs::read(data.path().join("lastframe.db")).unwrap();
    let (exit, why) = restore(&mut program());
    assert!(exit == 2 && why.contains("needs the encryption key"), "{exit}: {why}");
    assert!(std::fs::read(data.path().join("lastframe.db")).unwrap() == before);
    std::fs::copy(server.data.path().join(KEY_FILE), data.path().join(KEY_FILE)).unwrap();
    let (exit, why) = restore(&mut program());
    assert_eq!((exit, why.as_str()), (0, ""));
}
