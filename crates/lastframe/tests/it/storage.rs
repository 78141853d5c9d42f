//! Outputs are where they are wanted, whole or not at all, and are fetched by those who may.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::s3::{Fault, S3};
use crate::server::{Server, client, command, run};

/// More than one part of an upload, in a second or two: the sound of 15 seconds.
fn large() -> Value {
    json!({"codec": "wav", "sampleRate": 192_000, "forceDurationInFrames": 450})
}

/// Asks again and again: what the server does by itself, it does not tell a test.
async fn until(condition: impl AsyncFn() -> bool) {
    let come = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), come).await.expect("it comes about");
}

async fn fetch(url: &str) -> Response {
    client().get(url).send().await.unwrap()
}

async fn problem(answer: Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    (status, answer.json::<Value>().await.unwrap()["code"].clone())
}

/// The render succeeded at its first attempt, and the bucket holds its output and nothing else.
async fn assert_one_whole(server: &Server, s3: &S3, id: &str) {
    let render = server.succeeded(id).await;
    assert_eq!(render["attempt"], 1, "{render}");
    let number = render["attempts"].as_array().unwrap().len();
    let objects = s3.objects().await;
    assert_eq!(objects.len(), 1, "{objects:?}");
    assert!(objects[0].starts_with(&format!("videos/{id}/{number}.")), "{objects:?}");
    assert_eq!(s3.unfinished().await, 0);
    let bytes = server.output(id).await;
    assert_eq!(json!(bytes.len()), render["outputSizeInBytes"]);
    assert!(server.output_files().is_empty());
    let (exit, told, _) = run(server, &["check"]);
    assert_eq!(exit, 0, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_in_a_bucket_is_fetched_through_the_server_like_one_on_its_disk() {
    let s3 = S3::start().await;
    let server = Server::configured(&s3.config("")).await;
    let id = server.submit("tiny", json!({"outName": "my film.mp4", "deleteAfter": "1-day"})).await;
    assert_one_whole(&server, &s3, &id).await;
    let whole = server.output(&id).await;
    assert_eq!(&whole[4..8], b"ftyp");
    assert_eq!(server.get(&format!("/v1/renders/{id}/poster")).await.status(), 200, "the picture stays here");

    let path = format!("/v1/renders/{id}/output");
    let asked = async |method: Method, name: &'static str, value: &str| {
        server.request(method, &path).header(name, value).send().await.unwrap()
    };
    let part = asked(Method::GET, "range", "bytes=4-7").await;
    assert_eq!(
        (part.status().as_u16(), part.headers()["content-range"].to_str().unwrap()),
        (206, format!("bytes 4-7/{}", whole.len()).as_str())
    );
    let tag = part.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(part.bytes().await.unwrap(), &whole[4..8]);
    let suffix = asked(Method::GET, "range", "bytes=-999999999").await;
    assert_eq!((suffix.status().as_u16(), suffix.bytes().await.unwrap().len()), (206, whole.len()));
    let several = asked(Method::GET, "range", "bytes=0-1,4-5").await;
    assert_eq!((several.status().as_u16(), several.bytes().await.unwrap().len()), (200, whole.len()));
    let head = asked(Method::HEAD, "range", "bytes=4-7").await;
    assert_eq!((head.status().as_u16(), head.headers()["content-length"].to_str().unwrap()), (206, "4"));
    assert_eq!(
        head.headers()["content-disposition"],
        "inline; filename=\"my film.mp4\"; filename*=UTF-8''my%20film.mp4"
    );
    assert_eq!(asked(Method::GET, "if-none-match", &tag).await.status(), 304);
    let saved = server.get(&format!("{path}?download=1")).await;
    assert!(
        saved.headers()["content-disposition"]
            .to_str()
            .unwrap()
            .starts_with("attachment; filename=\"my film.mp4\"")
    );

    s3.befall(Fault::Away);
    let away = server.get(&path).await;
    assert_eq!(away.headers()["retry-after"], "10");
    assert_eq!(problem(away).await, (503, json!("storage_unavailable")));
    s3.befall(Fault::None);
    s3.remove(&s3.objects().await[0]).await;
    assert_eq!(problem(server.get(&path).await).await, (410, json!("output_gone")));
    let (exit, told, _) = run(&server, &["check"]);
    assert!(exit == 6 && told.contains(&format!("the output of render {id} is gone")), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_is_sent_to_the_storage_if_that_is_wanted_and_needs_no_token_there() {
    let s3 = S3::start().await;
    let server = Server::configured(&s3.config("download = \"redirect\"")).await;
    let id = server.submit("tiny", json!({"outName": "ä.mp4"})).await;
    assert_one_whole(&server, &s3, &id).await;
    let manual = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let path = format!("/v1/renders/{id}/output");
    for url in [format!("{}{path}", server.url), link(&server, &id, json!({})).await] {
        let sent = manual.get(&url).bearer_auth(&server.token).send().await.unwrap();
        assert_eq!(
            (sent.status().as_u16(), sent.headers()["cache-control"].to_str().unwrap()),
            (302, "private, no-store")
        );
        let location = sent.headers()["location"].to_str().unwrap().to_owned();
        let whole = fetch(&location).await;
        assert_eq!(
            (whole.status().as_u16(), whole.headers()["content-type"].to_str().unwrap()),
            (200, "video/mp4")
        );
        assert_eq!(
            whole.headers()["content-disposition"],
            "inline; filename=\"_.mp4\"; filename*=UTF-8''%C3%A4.mp4"
        );
        let whole = whole.bytes().await.unwrap();
        let part = client().get(&location).header("range", "bytes=4-7").send().await.unwrap();
        assert_eq!((part.status().as_u16(), part.bytes().await.unwrap()), (206, whole.slice(4..8)));
        let changed = location.replace("X-Amz-Expires=3600", "X-Amz-Expires=3601");
        assert_eq!((changed != location, fetch(&changed).await.status().as_u16()), (true, 403));
        // A URL that is signed to be read can tell nothing else; the server can.
        let head = manual.head(&url).bearer_auth(&server.token).send().await.unwrap();
        assert_eq!(
            (head.status().as_u16(), head.headers()["content-length"].to_str().unwrap()),
            (200, whole.len().to_string().as_str())
        );
    }
    let file = server.data.path().join("film.mp4");
    let (exit, told, why) = run(&server, &["render", "test", "tiny", "-o", file.to_str().unwrap()]);
    assert_eq!((exit, &std::fs::read(&file).unwrap()[4..8]), (0, b"ftyp".as_slice()), "{told}{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_is_tried_again_and_leaves_no_part_of_itself() {
    let s3 = S3::start().await;
    let server = Server::configured(&s3.config("")).await;
    // More often than one request of the client tries again by itself.
    s3.befall(Fault::Cut(9));
    let id = server.submit("tone", large()).await;
    server.follow(&id, |render| render["phase"] == "uploading").await;
    assert_one_whole(&server, &s3, &id).await;
    let size = server.render(&id).await["outputSizeInBytes"].as_u64().unwrap();
    assert!(size > 8 << 20, "{size} bytes go in one part");
    assert!(matches!(s3.fault(), Fault::Cut(0)));
    assert!(server.log().contains("cannot store the output; trying again"), "{}", server.log());

    s3.remove(&s3.objects().await[0]).await;
    s3.befall(Fault::Refuse(9, 503, "SlowDown"));
    let id = server.submit("tiny", json!({})).await;
    server.succeeded(&id).await;
    assert!(matches!(s3.fault(), Fault::Refuse(0, ..)));
    assert!(server.log().contains("it answers SlowDown"));
    assert_eq!(
        server.output(&id).await.len() as u64,
        server.render(&id).await["outputSizeInBytes"].as_u64().unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_is_slower_than_a_lease_costs_no_lease() {
    let s3 = S3::start().await;
    let server = Server::configured(&s3.config("")).await;
    s3.befall(Fault::Slow(Duration::from_secs(4)));
    let id = server.submit("tiny", json!({})).await;
    server.follow(&id, |render| render["phase"] == "uploading").await;
    let render = server.succeeded(&id).await;
    s3.befall(Fault::None);
    assert_eq!(render["attempts"].as_array().unwrap().len(), 1, "{render}");
    assert_one_whole(&server, &s3, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_render_whose_output_cannot_be_stored_has_failed_and_says_why() {
    let s3 = S3::start().await;
    let server = Server::configured(&s3.config("patience = \"1s\"")).await;
    let id = server.submit("tiny", json!({"queue": {"maxAttempts": 2}})).await;
    s3.befall(Fault::Away);
    let render = server.ended(&id).await;
    assert_eq!(
        (&render["status"], &render["errors"][0]["code"], &render["attempt"]),
        (&json!("failed"), &json!("output_not_stored"), &json!(2)),
        "{render}"
    );
    // One more attempt would not mend credentials.
    s3.befall(Fault::Refuse(99, 403, "InvalidAccessKeyId"));
    server.post(&format!("/v1/renders/{id}/retry"), &json!({})).await;
    let render = server.ended(&id).await;
    let error = &render["errors"][0];
    assert_eq!((&render["status"], &render["attempt"]), (&json!("failed"), &json!(1)), "{render}");
    assert!(error["message"].as_str().unwrap().contains("the access key is wrong"), "{error}");
    assert_eq!((s3.objects().await.len(), server.output_files().len()), (0, 0));

    s3.befall(Fault::None);
    server.post(&format!("/v1/renders/{id}/retry"), &json!({})).await;
    assert_one_whole(&server, &s3, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_while_it_uploads_leaves_one_whole_output_in_the_end() {
    let s3 = S3::start().await;
    let server = Server::configured(&s3.config("")).await;
    s3.befall(Fault::Slow(Duration::from_secs(3)));
    let id = server.submit("tiny", json!({})).await;
    server.follow(&id, |render| render["phase"] == "uploading").await;
    let server = server.kill_and_restart().await;
    s3.befall(Fault::None);
    server.succeeded(&id).await;
    // The upload of the dead may have gone through after all: the next start sweeps it away.
    s3.put(&format!("videos/{id}/1.mp4"), "of the dead").await;
    s3.put("videos/00000000-0000-7000-8000-000000000000/1.mp4", "of a render that nobody knows").await;
    s3.put("elsewhere/1.mp4", "somebody's").await;
    let server = server.reconfigured(&s3.config("")).await;
    until(async || s3.objects().await.len() == 3).await;
    for kept in ["videos/00000000-0000-7000-8000-000000000000/1.mp4", "elsewhere/1.mp4"] {
        assert!(s3.objects().await.contains(&kept.to_owned()), "{kept}");
        s3.remove(kept).await;
    }
    assert_one_whole(&server, &s3, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_cannot_be_used_is_refused_at_the_start_with_what_is_wrong() {
    let s3 = S3::start().await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&secret, "not the secret").unwrap();
    let config = s3.config("");
    let line = config.lines().find(|line| line.starts_with("secret_access_key_file")).unwrap();
    let wrong_secret =
        config.replace(line, &format!("secret_access_key_file = \"{}\"", secret.path().display()));
    let wrong_key = config.replace("access_key_id = \"", "access_key_id = \"X");
    for (config, why) in [
        (wrong_secret, "the secret access key is wrong"),
        (wrong_key, "the access key is wrong"),
        (
            config.replace("s3://my-renders", "s3://my-other-renders"),
            "s3://my-other-renders/videos cannot be used",
        ),
        (config.replace("/videos", "/elsewhere"), "the credentials lack a right"),
        (config.replace("url = \"s3", "url = \"gs"), "must be like s3://bucket/prefix"),
    ] {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("lastframe.toml"), config).unwrap();
        let refused = command(data.path()).output().unwrap();
        let told = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && told.contains(why), "{why}: {told}");
        assert!(!told.contains("not the secret") && !told.contains("Signature="), "{told}");
    }
    // One that is only away may come back.
    s3.befall(Fault::Away);
    let server = Server::configured(&s3.config("")).await;
    assert!(server.log().contains("what is rendered will wait for it"), "{}", server.log());
    let id = server.submit("tiny", json!({})).await;
    server.follow(&id, |render| render["phase"] == "uploading").await;
    s3.befall(Fault::None);
    assert_one_whole(&server, &s3, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_elsewhere_is_still_fetched_when_new_outputs_go_to_another_place() {
    let s3 = S3::start().await;
    let server = Server::configured(&s3.access_only()).await;
    let local = server.submit("tiny", json!({})).await;
    server.succeeded(&local).await;
    let server = server.reconfigured(&s3.config("")).await;
    let remote = server.submit("tiny", json!({})).await;
    server.succeeded(&remote).await;
    assert_eq!((server.output_files().len(), s3.objects().await.len()), (1, 1));
    let server = server.reconfigured(&s3.access_only()).await;
    let again = server.submit("tiny", json!({})).await;
    server.succeeded(&again).await;
    assert_eq!((server.output_files().len(), s3.objects().await.len()), (2, 1));
    for id in [&local, &remote, &again] {
        assert_eq!(&server.output(id).await[4..8], b"ftyp");
    }
    assert_eq!(run(&server, &["check"]).0, 0);
}

async fn link(server: &Server, id: &str, asked: Value) -> String {
    let (status, link) = server.post(&format!("/v1/renders/{id}/links"), &asked).await;
    assert_eq!(status, 200, "{link}");
    link["expiresAt"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    link["url"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_needs_no_token_and_stands_for_one_output_and_one_time() {
    let server = Server::start().await;
    let (id, other) = (server.submit("tiny", json!({})).await, server.submit("tiny", json!({})).await);
    for id in [&id, &other] {
        server.succeeded(id).await;
    }
    let url = link(&server, &id, json!({"expiresInSeconds": 3600})).await;
    assert!(url.starts_with(&format!("{}/o/{id}?", server.url)), "{url}");
    let whole = fetch(&url).await;
    assert_eq!(
        (whole.status().as_u16(), whole.bytes().await.unwrap().to_vec()),
        (200, server.output(&id).await)
    );
    let part = client().get(&url).header("range", "bytes=4-7").send().await.unwrap();
    assert_eq!((part.status().as_u16(), part.bytes().await.unwrap().as_ref()), (206, b"ftyp".as_slice()));
    assert_eq!(client().head(&url).send().await.unwrap().status(), 200);
    assert_eq!(problem(client().post(&url).send().await.unwrap()).await, (405, json!("method_not_allowed")));
    let saved = fetch(&link(&server, &id, json!({"saveAs": "片.mp4"})).await).await;
    assert_eq!(
        saved.headers()["content-disposition"],
        "attachment; filename=\"_.mp4\"; filename*=UTF-8''%E7%89%87.mp4"
    );

    // A render that nobody knows is told from one that is there by nothing.
    let nobody = "00000000-0000-7000-8000-000000000000";
    for wrong in [
        url.replace(&id, &other),
        url.replace(&id, nobody),
        url.replace(&id, "nonsense"),
        url.replace("expires=", "expires=9"),
        format!("{url}A"),
        format!("{url}&as=x"),
        format!("{}/o/{id}", server.url),
    ] {
        assert_eq!(problem(fetch(&wrong).await).await, (403, json!("link_invalid")), "{wrong}");
    }
    let short = link(&server, &id, json!({"expiresInSeconds": 1})).await;
    // The server's clock is the system's: only time passing ends a link.
    until(async || fetch(&short).await.status() != 200).await;
    assert_eq!(problem(fetch(&short).await).await, (410, json!("link_expired")));
    assert!(!server.log().contains("signature="), "a link is as good as a token, and not for the log");

    for (asked, pointer) in [
        (json!({"expiresInSeconds": 0}), "/expiresInSeconds"),
        (json!({"expiresInSeconds": 31 * 86_400}), "/expiresInSeconds"),
        (json!({"saveAs": "a\nb"}), "/saveAs"),
        (json!({"forEver": true}), "/forEver"),
    ] {
        let (status, problem) = server.post(&format!("/v1/renders/{id}/links"), &asked).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!(pointer)), "{problem}");
    }
    let told = run(&server, &["link", &id, "--expires", "7d"]);
    assert_eq!((told.0, fetch(told.1.trim()).await.status().as_u16()), (0, 200), "{told:?}");
    let waiting = server.submit("tiny", json!({"queue": {"runAt": "2999-01-01T00:00:00Z"}})).await;
    assert_eq!(server.post(&format!("/v1/renders/{waiting}/links"), &json!({})).await.1["code"], "no_output");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_on_the_disk_no_render_is_accepted_and_those_that_were_go_on() {
    let server = Server::start().await;
    let id = server.submit("slow", json!({"inputProps": {"frames": 30, "msPerFrame": 50}})).await;
    let server = server.reconfigured("[storage]\nmin_free = \"9999 TiB\"").await;
    let body = json!({"serveUrl": "test", "composition": "tiny"});
    let answer = server.request(Method::POST, "/v1/renders").json(&body).send().await.unwrap();
    assert_eq!(answer.headers()["retry-after"], "60");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!((&problem["status"], &problem["code"]), (&json!(503), &json!("low_disk")));
    assert!(problem["detail"].as_str().unwrap().contains("storage.min_free"), "{problem}");
    let batch = server.post("/v1/renders/batch", &json!({"renders": [body]})).await;
    assert_eq!((batch.0, &batch.1["code"]), (503, &json!("low_disk")));
    let ready = server.get("/readyz").await;
    assert_eq!(
        (ready.status().as_u16(), ready.json::<Value>().await.unwrap()["status"].clone()),
        (503, json!("low disk"))
    );
    server.succeeded(&id).await;
}
