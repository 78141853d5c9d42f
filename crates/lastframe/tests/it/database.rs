//! What keeps the data folder whole: `check`, `backup`, `restore`.

use std::path::Path;

use serde_json::json;

use crate::server::{Server, run};

fn flip_a_bit(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_flipped_bit_in_an_output_or_a_site_is_found_and_named_and_adding_the_site_again_mends_it() {
    let server = Server::start().await;
    let id = server.submit("tiny", json!({})).await;
    server.succeeded(&id).await;
    let (exit, told, _) = run(&server, &["check"]);
    assert!(exit == 0 && told.contains("all is as it was written"), "{told}");

    flip_a_bit(&server.output_files()[0]);
    let (exit, told, _) = run(&server, &["check"]);
    assert!(exit == 6 && told.contains(&format!("the output of render {id} is damaged")), "{told}");
    assert_eq!(run(&server, &["check", "--database-only"]).0, 0);

    let site = std::fs::read_dir(server.data.path().join("sites")).unwrap().next().unwrap().unwrap();
    flip_a_bit(&site.path().join("index.html"));
    let (_, told, _) = run(&server, &["check"]);
    assert!(told.contains("site test of default") && told.contains("is damaged: add it again"), "{told}");
    server.add_site("test").await;
    let (_, told, _) = run(&server, &["check"]);
    assert!(!told.contains("site test"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_server_brings_back_what_it_held() {
    let mut server = Server::start().await;
    let id = server.submit("tiny", json!({})).await;
    server.succeeded(&id).await;
    let file = server.data.path().join("kept.backup");
    let file = file.to_str().unwrap();
    let (exit, told, _) = run(&server, &["backup", file]);
    assert!(exit == 0 && told.contains("is written"), "{told}");
    let (exit, _, why) = run(&server, &["backup", file]);
    assert!(exit != 0 && why.contains("exists already"), "{why}");
    let later = server.submit("tiny", json!({})).await;
    server.succeeded(&later).await;

    let (exit, _, why) = run(&server, &["restore", file]);
    assert!(exit != 0 && why.contains("another lastframe server has the data folder"), "{why}");
    server.signal("TERM");
    assert!(server.exit().await.success());
    let (exit, told, why) = run(&server, &["restore", file]);
    assert!(exit == 0 && told.contains("what was there is kept in"), "{told}{why}");
    let server = Server::on(server.give_up_data()).await;
    assert_eq!(server.render(&id).await["status"], "succeeded");
    assert_eq!(server.get(&format!("/v1/renders/{later}")).await.status(), 404);
    assert_eq!(server.output_files().len(), 2, "a file that the backup does not know of is kept");
}
