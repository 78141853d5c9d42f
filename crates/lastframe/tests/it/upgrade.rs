//! Data folders that earlier versions wrote; see tests/fixtures/make.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::server::{Server, command, run};

/// A data folder as that version left it when its machine lost power.
fn written(name: &str) -> tempfile::TempDir {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.tar.gz"));
    let data = tempfile::tempdir().unwrap();
    let unpacked = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(data.path()).status().unwrap();
    assert!(unpacked.success());
    std::fs::write(data.path().join("lastframe.toml"), "[queue]\nlease = \"3s\"\nretry_delay = \"200ms\"\n")
        .unwrap();
    data
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_before_there_were_accounts_opens_with_all_that_was_in_it_and_goes_on() {
    let data = written("schema-2");
    let old_token = std::fs::read_to_string(data.path().join("admin-token")).unwrap();
    let server = Server::on(data).await;
    let (exit, told, why) = run(&server, &["check", "--database-only"]);
    assert_eq!(exit, 0, "{told}{why}");

    let page = server.get("/v1/renders").await.json::<serde_json::Value>().await.unwrap();
    let renders = page["renders"].as_array().unwrap();
    assert_eq!(renders.len(), 8);
    // Newest first; what could start has started and fails for want of the bundle, which the archive leaves out.
    let [open, slow, paused, cancelled, delayed, behind, holder, done] = renders.as_slice() else {
        unreachable!()
    };
    for (render, status) in [
        (paused, "queued"),
        (cancelled, "cancelled"),
        (delayed, "queued"),
        (behind, "queued"),
        (holder, "failed"),
        (done, "succeeded"),
    ] {
        assert_eq!(render["status"], status, "{render}");
    }
    let id = |render: &serde_json::Value| render["renderId"].as_str().unwrap().to_owned();
    assert_eq!((&delayed["priority"], &delayed["runAt"]), (&json!(5), &json!("2999-01-01T00:00:00Z")));
    assert_eq!(holder["errors"][0]["code"], "component_error");
    let behind = server.render(&id(behind)).await;
    assert_eq!(behind["blockedBy"]["reason"], "groupHeld", "{behind}");
    assert_eq!(server.output(&id(done)).await.len() as u64, done["outputSizeInBytes"].as_u64().unwrap());
    let said = server.get(&format!("/v1/renders/{}/log", id(holder))).await.text().await.unwrap();
    assert!(said.contains("--- attempt 1"), "{said}");

    for (render, lost) in [(slow, true), (open, false)] {
        let render = server.ended(&id(render)).await;
        assert_eq!(render["status"], "failed", "{render}");
        let why = render["errors"][0]["message"].as_str().unwrap();
        assert!(why.contains("add the site again"), "{why}");
        assert_eq!(render["attempts"][0]["outcome"] == "lost", lost, "{render}");
    }

    // An admin token of the kind that was then signed is not good any more, and has been replaced.
    assert_ne!(server.token, old_token);
    server.add_site("test").await;
    // The same key and body as of `done`: by now, and for ever, the time of that key is over.
    let again = json!({"serveUrl": "test", "composition": "tiny", "inputProps": {"text": "kept"}});
    let again =
        server.request(reqwest::Method::POST, "/v1/renders").header("idempotency-key", "kept").json(&again);
    let again = again.send().await.unwrap();
    assert_eq!(again.status(), 202);
    let fresh = again.json::<serde_json::Value>().await.unwrap()["renderId"].as_str().unwrap().to_owned();
    assert_ne!(fresh, id(done));
    server.succeeded(&fresh).await;
    assert_eq!(run(&server, &["group", "resume", "paused"]).0, 0);
    server.ended(&id(paused)).await;
    let tenants = server.get("/v1/tenants").await.text().await.unwrap();
    assert!(tenants.contains("\"weight\":3"), "{tenants}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_a_newer_version_is_refused_by_name_and_left_as_it_is() {
    let mut server = Server::without_site("").await;
    server.signal("TERM");
    assert!(server.exit().await.success());
    let data = server.give_up_data();
    let file = data.path().join("lastframe.db");
    // The version of the schema is at a fixed place of an SQLite file: bytes 60 to 63.
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[60..64].copy_from_slice(&1_000_u32.to_be_bytes());
    std::fs::write(&file, &bytes).unwrap();

    let started = command(data.path()).output().unwrap();
    let why = String::from_utf8(started.stderr).unwrap();
    assert_eq!(started.status.code(), Some(5), "{why}");
    assert!(why.contains("schema version 1000") && why.contains("use a newer Lastframe"), "{why}");
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
}
