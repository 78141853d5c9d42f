//! Sites: their versions, what renders them, and those that stay where they are.

use std::path::Path;
use std::process::Command;

use axum::Router;
use reqwest::Method;
use serde_json::{Value, json};
use tower_http::services::ServeDir;

use crate::server::{REMOTION, Server, bundle, client, project, run};

/// The test site's bundle, with a file more.
pub(crate) fn bundle_with(name: &str) -> Vec<u8> {
    let folder = unpacked();
    std::fs::write(folder.path().join(name), "").unwrap();
    let packed = Command::new("tar").arg("-cz").arg("-C").arg(folder.path()).arg(".").output().unwrap();
    assert!(packed.status.success());
    packed.stdout
}

fn unpacked() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("bundle.tar.gz");
    std::fs::write(&archive, bundle()).unwrap();
    let done = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(folder.path()).status().unwrap();
    assert!(done.success());
    std::fs::remove_file(archive).unwrap();
    folder
}

pub(crate) async fn upload(
    server: &Server,
    token: &str,
    query: &[(&str, &str)],
    bundle: Vec<u8>,
) -> (u16, Value) {
    let answer = client()
        .post(format!("{}/v1/sites/test/versions", server.url))
        .bearer_auth(token)
        .query(query)
        .body(bundle)
        .send()
        .await
        .unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn versions(server: &Server) -> Vec<(String, bool)> {
    let listed: Value = server.get("/v1/sites/test/versions").await.json().await.unwrap();
    let version = |view: &Value| (view["version"].as_str().unwrap().to_owned(), view["current"] == true);
    listed.as_array().unwrap().iter().map(version).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_rolled_back_and_its_versions_go_one_by_one() {
    let server = Server::start().await;
    server.give_renderer();
    let [(first, true)] = &versions(&server).await[..] else { panic!("one version") };
    let (status, site) = upload(&server, &server.token, &[], bundle_with("second")).await;
    assert_eq!(status, 201, "{site}");
    let second = site["version"].as_str().unwrap().to_owned();
    assert_eq!(versions(&server).await, [(second.clone(), true), (first.clone(), false)]);

    // A render keeps the version it was submitted with; a name with a version submits for that one.
    let later = json!({"runAt": "2999-01-01T00:00:00Z"});
    let id =
        server.submit("tiny", json!({"serveUrl": format!("test@{}", &first[..8]), "queue": later})).await;
    let render = server.render(&id).await;
    assert_eq!((&render["serveUrl"], &render["siteVersion"]), (&json!("test"), &json!(first)), "{render}");
    for serve_url in
        [format!("test@{}", &first[..7]), "test@00000000".into(), format!("other@{}", &first[..8])]
    {
        let (status, problem) =
            server.post("/v1/renders", &json!({"serveUrl": serve_url, "composition": "tiny"})).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/serveUrl")), "{problem}");
    }

    let remove = async |version: &str| {
        let path = format!("/v1/sites/test/versions/{version}");
        server.request(Method::DELETE, &path).send().await.unwrap().status().as_u16()
    };
    assert_eq!(remove(&second).await, 409, "it is the current one");
    assert_eq!(remove(first).await, 409, "a render needs it");
    assert_eq!(remove("none").await, 404);

    let shown = run(&server, &["site", "show", "test"]).1;
    assert!(
        shown.contains(&format!("* {}", &second[..12])) && shown.contains("\"text\":\"tiny\""),
        "{shown}"
    );
    assert_eq!(run(&server, &["site", "rollback", "test", &first[..7]]).0, 2, "too short to be meant");
    assert_eq!(run(&server, &["site", "rollback", "test", &first[..8]]).0, 0);
    assert_eq!(versions(&server).await, [(second.clone(), false), (first.clone(), true)]);
    let files = server.data.path().join("sites").join(&second);
    assert!(files.exists());
    assert_eq!(run(&server, &["site", "remove", "test", "--version", &second[..8]]).0, 0);
    assert!(!files.exists());
    assert_eq!(versions(&server).await, [(first.clone(), true)]);
    assert_eq!(
        server
            .request(Method::PUT, "/v1/sites/test/current")
            .json(&json!({"version": second}))
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_renders_with_its_own_remotion_of_the_bundles_version() {
    let server = Server::without_npm("").await;
    let token = server.token_of("default", &["sites:write"]).await;
    let named = project().join("node_modules/@remotion/renderer");
    let (status, problem) =
        upload(&server, &token, &[("renderer", named.to_str().unwrap())], bundle().to_vec()).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (403, &json!("/renderer")), "{problem}");
    let (status, problem) = upload(&server, &token, &[("remotionVersion", "4.0.1")], bundle().to_vec()).await;
    assert_eq!((status, &problem["code"]), (422, &json!("invalid_bundle")), "{problem}");

    let (status, problem) = upload(&server, &token, &[], bundle().to_vec()).await;
    assert_eq!((status, &problem["code"]), (422, &json!("renderer_missing")), "{problem}");
    let mend = format!("lastframe renderer add {REMOTION}");
    assert!(problem["detail"].as_str().unwrap().contains(&mend), "{problem}");

    server.give_renderer();
    let (status, site) = upload(&server, &token, &[], bundle().to_vec()).await;
    assert_eq!((status, &site["remotionVersion"]), (201, &json!(REMOTION)), "{site}");
    server.succeeded(&server.submit("tiny", json!({})).await).await;
    assert_eq!(run(&server, &["renderer", "list"]).1, format!("{REMOTION}\n"));

    // What a data folder of before says of a folder that is gone by now is no obstacle; having none is.
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(project().join("node_modules"), elsewhere.path().join("node_modules"))
        .unwrap();
    let named = elsewhere.path().join("node_modules/@remotion/renderer");
    let (status, site) =
        upload(&server, &server.token, &[("renderer", named.to_str().unwrap())], bundle_with("named")).await;
    assert_eq!((status, &site["renderer"]), (201, &json!(named)), "{site}");
    drop(elsewhere);
    server.succeeded(&server.submit("tiny", json!({})).await).await;
    let server = server.kill_and_restart().await;
    std::fs::remove_dir_all(server.data.path().join("renderers").join(REMOTION)).unwrap();
    let failed = server.ended(&server.submit("tiny", json!({})).await).await;
    let error = &failed["errors"][0];
    assert_eq!(
        (&failed["status"], &error["code"]),
        (&json!("failed"), &json!("renderer_missing")),
        "{failed}"
    );
    assert!(error["message"].as_str().unwrap().contains(&mend), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_a_site_is_added_or_removed_leaves_no_files_behind() {
    let server = Server::start().await;
    let [(current, _)] = &versions(&server).await[..] else { panic!("one version") };
    let sites = server.data.path().join("sites");
    let (orphan, unknown) = ("0".repeat(64), "1".repeat(64));
    for version in [&orphan, &unknown] {
        std::fs::create_dir(sites.join(version)).unwrap();
        std::fs::write(sites.join(version).join("index.html"), "").unwrap();
    }
    for version in [&orphan, current] {
        std::fs::write(server.data.path().join("incoming").join(format!("{version}.doubt")), "").unwrap();
    }
    let server = server.kill_and_restart().await;
    let is_there = |version: &str| server.data.path().join("sites").join(version).exists();
    assert!(!is_there(&orphan), "it was on its way");
    assert!(is_there(current), "a site has it");
    assert!(is_there(&unknown), "it may belong to a database that was lost");
    assert_eq!(std::fs::read_dir(server.data.path().join("incoming")).unwrap().count(), 0);
}

/// Serves a folder on loopback for as long as the test runs.
async fn serve(folder: &Path) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback_service(ServeDir::new(folder));
    tokio::spawn(async { axum::serve(listener, router).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_may_stay_at_a_url_of_an_allowed_origin() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = unpacked();
    std::fs::rename(bundle.path(), folder.path().join("mine")).unwrap();
    let origin = serve(folder.path()).await;
    let server = Server::without_site(&format!("[sites]\norigins = [\"{origin}\"]")).await;
    server.give_renderer();
    let add = async |url: &str| {
        let answer = server.request(Method::POST, "/v1/sites/far/versions").json(&json!({"url": url})).send();
        let answer = answer.await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let submit = async |serve_url: &str| {
        server.post("/v1/renders", &json!({"serveUrl": serve_url, "composition": "tiny"})).await
    };
    let url = format!("{origin}/mine");
    let (status, problem) = submit(&url).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/serveUrl")), "{problem}");
    assert!(problem["errors"][0]["detail"].as_str().unwrap().contains("lastframe site add"), "{problem}");
    let other = add("https://elsewhere.example/mine/").await;
    assert_eq!((other.0, &other.1["errors"][0]["pointer"]), (422, &json!("/url")), "{other:?}");
    assert!(other.1["errors"][0]["detail"].as_str().unwrap().contains("sites.origins"), "{other:?}");
    assert_eq!(add(&format!("{origin}/nothing")).await.0, 422);

    let added = run(&server, &["site", "add", &url, "--name", "far"]);
    assert_eq!(added.0, 0, "{added:?}");
    // However the URL is written, it is the site; so is the name.
    for serve_url in [url.clone(), format!("{url}/"), format!("{url}/index.html"), "far".into()] {
        let (status, accepted) = submit(&serve_url).await;
        assert_eq!((status, &accepted["serveUrl"]), (202, &json!("far")), "{accepted}");
        server.succeeded(accepted["renderId"].as_str().unwrap()).await;
    }
    assert_eq!(run(&server, &["check"]).0, 0, "what is kept of it is counted among the files");

    // Another bundle lies there now: a render gets the version it was submitted with, or fails.
    let index = folder.path().join("mine/index.html");
    std::fs::write(&index, std::fs::read_to_string(&index).unwrap() + "<!-- new -->").unwrap();
    let (_, accepted) = submit("far").await;
    let failed = server.ended(accepted["renderId"].as_str().unwrap()).await;
    assert_eq!(
        (&failed["status"], &failed["errors"][0]["code"]),
        (&json!("failed"), &json!("site_changed")),
        "{failed}"
    );
    let (status, site) = add(&url).await;
    assert_eq!(status, 201, "{site}");
    let (_, accepted) = submit(&url).await;
    assert_eq!(
        server.succeeded(accepted["renderId"].as_str().unwrap()).await["siteVersion"],
        site["version"]
    );

    // An origin that is not allowed any more.
    let server = server.reconfigured("").await;
    let (status, problem) =
        server.post("/v1/renders", &json!({"serveUrl": "far", "composition": "tiny"})).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/serveUrl")), "{problem}");
}
