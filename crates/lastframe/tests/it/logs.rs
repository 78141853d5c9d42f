//! The server's log, for machines.

use serde_json::{Value, json};

use crate::server::{Server, command};
use crate::webhooks::{Receiver, delivered};

/// The lines that have the id of a render, of their own or from the work that they belong to.
fn lines_of<'a>(lines: &'a [Value], id: &str) -> Vec<&'a Value> {
    let has = |line: &&Value| line["render.id"] == id || line["span"]["render.id"] == id;
    lines.iter().filter(has).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_about_a_render_has_its_id_from_the_request_to_the_end() {
    let data = tempfile::tempdir().unwrap();
    let mut command = command(data.path());
    command.env("LASTFRAME_LOG_FORMAT", "json").env("LASTFRAME_LOG", "info,lastframe_worker=debug");
    command.env("LASTFRAME_WEBHOOK_ALLOW_PRIVATE", "true");
    let server = Server::started_by(command, data).await;
    server.add_site("test").await;
    let receiver = Receiver::answering(&[]).await;
    let answer = server
        .request(reqwest::Method::POST, "/v1/renders")
        .header("X-Request-Id", "order-4711")
        .json(&json!({"serveUrl": "test", "composition": "tiny", "webhook": {"url": receiver.url}}))
        .send()
        .await
        .unwrap();
    let id = answer.json::<Value>().await.unwrap()["renderId"].as_str().unwrap().to_owned();
    server.succeeded(&id).await;
    delivered(&server, &id).await;

    let log = server.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line} is no JSON")))
        .collect();
    let about = lines_of(&lines, &id);
    let with = |message: &str| {
        let found = about.iter().find(|line| line["message"] == message);
        found.unwrap_or_else(|| panic!("`{message}` with {id} is not in\n{log}"))
    };
    let accepted = with("render accepted");
    assert_eq!(accepted["span"]["request.id"], "order-4711");
    assert_eq!(accepted["span"]["path"], "/v1/renders");
    assert_eq!(with("attempt started")["span"]["attempt"], 1);
    with("sidecar ready");
    assert_eq!(with("attempt ended")["render.status"], "succeeded");
    assert_eq!(with("told that a render has ended")["code"], 200);
}
