//! The API as a client meets it: what it accepts, what it refuses and how, what it answers.

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Server, client, project, run};

#[tokio::test(flavor = "multi_thread")]
async fn a_posted_render_becomes_a_file_that_can_be_fetched_whole_or_in_part() {
    let server = Server::start().await;
    let body = json!({"serveUrl": "test", "composition": "tiny", "outName": "my film.mp4", "region": "eu-central-1"});
    let answer = server.request(Method::POST, "/v1/renders").json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let accepted: Value = answer.json().await.unwrap();
    assert_eq!(accepted["ignored"], json!(["region"]));
    let id = accepted["renderId"].as_str().unwrap();
    assert_eq!(location, format!("/v1/renders/{id}"));

    let render = server.succeeded(id).await;
    assert_eq!((&render["overallProgress"], &render["output"]["frameCount"]), (&json!(1.0), &json!(10)));
    for name in ["createdAt", "startedAt", "finishedAt"] {
        render[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    }
    let file = server.output(id).await;
    assert_eq!(render["outputSizeInBytes"], json!(file.len()));
    assert_eq!(&file[4..8], b"ftyp");

    let output = format!("/v1/renders/{id}/output");
    let part = server.request(Method::GET, &output).header("range", "bytes=4-7").send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(
        part.headers()["content-disposition"],
        "inline; filename=\"my film.mp4\"; filename*=UTF-8''my%20film.mp4"
    );
    assert_eq!(part.bytes().await.unwrap(), &file[4..8]);
    let beyond =
        server.request(Method::GET, &output).header("range", "bytes=999999999-").send().await.unwrap();
    assert_eq!(beyond.status(), 416);
    assert_eq!(beyond.headers()["content-range"], format!("bytes */{}", file.len()));
    assert_eq!(beyond.json::<Value>().await.unwrap()["code"], "no_such_range");
    std::fs::remove_dir_all(server.data.path().join("outputs").join(id)).unwrap();
    let gone = server.get(&output).await;
    assert_eq!(
        (gone.status().as_u16(), gone.json::<Value>().await.unwrap()["code"].clone()),
        (410, json!("output_gone"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_curl_works_word_for_word() {
    let server = Server::without_site("[enqueue]\nsite = \"test\"\ncomposition = \"tiny\"").await;
    let enqueue = async |path: &str, body: &str| {
        // curl --data-raw says it is a form; the guide's answer is JSON all the same.
        let request =
            server.request(Method::POST, path).header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body(body.to_owned()).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (status, answer) = enqueue("/dev/enqueue", "{\"message\": \"Hello\"}").await;
    assert_eq!(
        (status, &answer["errors"][0]["pointer"]),
        (422, &json!("/serveUrl")),
        "no site yet: {answer}"
    );

    server.add_site("test").await;
    for path in ["/enqueue", "/dev/enqueue"] {
        let (status, answer) = enqueue(path, "{\n\"message\": \"Hello\"\n}").await;
        assert_eq!(status, 200, "{answer}");
        let id = answer["messageId"].as_str().unwrap();
        assert_eq!(answer["message"], format!("Message sent to the queue. MessageId: {id}"));
        assert_eq!(server.succeeded(id).await["composition"], "tiny");
    }
    let (status, answer) =
        enqueue("/enqueue", "{\"serveUrl\": \"test\", \"composition\": \"props\", \"frameRange\": 0}").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(server.succeeded(answer["renderId"].as_str().unwrap()).await["composition"], "props");
    assert_eq!(enqueue("/enqueue", "[1, 2]").await.0, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_input_is_refused_with_a_problem_that_names_the_field_and_costs_nothing() {
    let server = Server::configured("max_body = 10000").await;
    let ok = json!({"serveUrl": "test", "composition": "tiny"});
    let with = |field: &str, value: Value| {
        let mut body = ok.clone();
        body[field] = value;
        body.to_string().into_bytes()
    };
    let cases: Vec<(Vec<u8>, u16, &str, &str)> = vec![
        (b"{".to_vec(), 400, "invalid_json", ""),
        (b"".to_vec(), 400, "invalid_json", ""),
        (b"{\"serveUrl\": \"\xff\xfe\"}".to_vec(), 400, "invalid_json", ""),
        (vec![b'['; 9_000], 422, "invalid_request", ""),
        (b"[]".to_vec(), 422, "invalid_request", ""),
        (b"{}".to_vec(), 422, "invalid_request", "/composition"),
        (with("serveUrl", json!("nowhere")), 422, "invalid_request", "/serveUrl"),
        (with("serveUrl", json!("../../etc")), 422, "invalid_request", "/serveUrl"),
        (with("composition", json!("nothing")), 422, "invalid_request", "/composition"),
        (with("composition", json!("odd")), 422, "invalid_request", "/forceWidth"),
        (with("composition", json!(7)), 422, "invalid_request", "/composition"),
        (with("unknown", json!(1)), 422, "invalid_request", "/unknown"),
        (with("frameRange", json!([9, 2])), 422, "invalid_request", "/frameRange"),
        (with("queue", json!({"priority": "high"})), 422, "invalid_request", "/queue/priority"),
        (with("inputProps", json!("text")), 422, "invalid_request", "/inputProps"),
        (with("webhook", json!({"url": "ftp://example.com"})), 422, "invalid_request", "/webhook/url"),
        (with("inputProps", json!({"text": "x".repeat(20_000)})), 413, "body_too_large", ""),
    ];
    for (body, status, code, pointer) in cases {
        let shown = String::from_utf8_lossy(&body[..body.len().min(100)]).into_owned();
        let answer = server.request(Method::POST, "/v1/renders").body(body).send().await.unwrap();
        assert_eq!(answer.status(), status, "{shown}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{shown}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(
            (&problem["code"], &problem["status"]),
            (&json!(code), &json!(status)),
            "{shown}: {problem}"
        );
        if status != 413 {
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{shown}: {problem}");
        }
    }
    for (path, status) in [
        ("/v1/renders/%ff", 404),
        ("/v1/sites/%ff", 404),
        ("/v1/renders?limit=1&limit=2", 400),
        ("/v1/renders/00000000-0000-7000-8000-000000000000/log?attempt=abc", 400),
        ("/nowhere", 404),
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{path}");
    }
    let listed: Value = server.get("/v1/renders").await.json().await.unwrap();
    assert_eq!(listed["renders"], json!([]), "none was accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_without_a_good_token_gets_in() {
    let server = Server::without_site("").await;
    let anonymous = client();
    for (path, method) in [
        ("/v1/renders", Method::GET),
        ("/v1/renders", Method::POST),
        ("/enqueue", Method::POST),
        ("/v1/sites", Method::GET),
    ] {
        let answer = anonymous.request(method.clone(), format!("{}{path}", server.url)).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["www-authenticate"].to_str().unwrap()),
            (401, "Bearer")
        );
        for token in ["x", "a.b.c", &format!("{}x", server.token), ""] {
            let request =
                anonymous.request(method.clone(), format!("{}{path}", server.url)).bearer_auth(token);
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 401, "{token}");
            assert!(answer.headers().contains_key("www-authenticate"));
        }
    }
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        assert_eq!(anonymous.get(format!("{}{path}", server.url)).send().await.unwrap().status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_idempotency_key_submits_once() {
    let server = Server::start().await;
    let send = async |key: &str, body: Value| {
        let request = server.request(Method::POST, "/v1/renders").header("idempotency-key", key).json(&body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let body = json!({"serveUrl": "test", "composition": "tiny", "queue": {"runAt": "2999-01-01T00:00:00Z"}});
    let other = json!({"serveUrl": "test", "composition": "props"});
    let (first, again) = (send("k", body.clone()).await, send("k", body.clone()).await);
    assert_eq!((first.0, &first.1["renderId"]), (202, &again.1["renderId"]));
    let (status, problem) = send("k", other).await;
    assert_eq!((status, &problem["code"]), (422, &json!("idempotency_key_reused")));
    assert_ne!(send("l", body).await.1["renderId"], first.1["renderId"]);
    let listed: Value = server.get("/v1/renders").await.json().await.unwrap();
    assert_eq!(listed["renders"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn renders_are_listed_page_by_page_and_filtered() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for index in 0..5 {
        let queue =
            json!({"runAt": "2999-01-01T00:00:00Z", "group": if index % 2 == 0 { "even" } else { "odd" }});
        ids.push(server.submit("tiny", json!({"queue": queue})).await);
    }
    ids.reverse();
    let list =
        async |query: &str| server.get(&format!("/v1/renders?{query}")).await.json::<Value>().await.unwrap();
    let names = |page: &Value| -> Vec<String> {
        page["renders"]
            .as_array()
            .unwrap()
            .iter()
            .map(|render| render["renderId"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = list("limit=3").await;
    assert_eq!(names(&first), ids[..3]);
    let second = list(&format!("limit=3&cursor={}", first["nextCursor"].as_str().unwrap())).await;
    assert_eq!((names(&second), &second["nextCursor"]), (ids[3..].to_vec(), &Value::Null));
    assert_eq!(names(&list("group=odd").await), [ids[1].clone(), ids[3].clone()]);
    assert_eq!(names(&list("status=queued&group=even").await).len(), 3);
    assert_eq!(names(&list("status=failed").await).len(), 0);
    assert_eq!(list("status=lost").await["errors"][0]["pointer"], "/status");
    assert_eq!(list("limit=0").await["errors"][0]["pointer"], "/limit");
    let missing = server.get("/v1/renders/00000000-0000-7000-8000-000000000000").await;
    assert_eq!(missing.status(), 404);
    assert_eq!(server.get("/v1/renders/nonsense").await.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_be_queued_and_queues_nothing() {
    let server = Server::start().await;
    let (status, answer) = server
        .post(
            "/v1/renders",
            &json!({"serveUrl": "test", "composition": "tiny", "dryRun": true, "concurrency": 4}),
        )
        .await;
    assert_eq!(
        (status, &answer["composition"]["id"], &answer["ignored"]),
        (200, &json!("tiny"), &json!(["concurrency"]))
    );
    let listed: Value = server.get("/v1/renders").await.json().await.unwrap();
    assert_eq!(listed["renders"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_needed_stays_and_one_that_is_not_goes_with_its_files() {
    let server = Server::start().await;
    let site: Value = server.get("/v1/sites/test").await.json().await.unwrap();
    let files = server.data.path().join("sites").join(site["version"].as_str().unwrap());
    let broken = site["compositions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|composition| composition["id"] == "metadata-throws");
    assert!(
        broken.unwrap()["error"].as_str().unwrap().contains("points is empty"),
        "one bad composition hides no other"
    );

    let id = server.submit("tiny", json!({"queue": {"runAt": "2999-01-01T00:00:00Z"}})).await;
    let remove =
        async || server.request(Method::DELETE, "/v1/sites/test").send().await.unwrap().status().as_u16();
    assert_eq!(remove().await, 409);
    server.post(&format!("/v1/renders/{id}/cancel"), &json!({})).await;
    assert_eq!((remove().await, files.exists()), (204, false));
    assert_eq!(server.get("/v1/sites/test").await.status(), 404);

    let renderer = project().join("node_modules/@remotion/renderer");
    let upload = async |name: &str, body: &'static [u8], renderer: &str| {
        let request = server
            .request(Method::POST, &format!("/v1/sites/{name}/versions"))
            .query(&[("renderer", renderer)]);
        request.body(body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(upload("bad", b"no archive", renderer.to_str().unwrap()).await, 422);
    assert_eq!(upload("a%20b", b"", renderer.to_str().unwrap()).await, 422);
    assert_eq!(upload("bad", b"", "/tmp").await, 422);
    assert_eq!(std::fs::read_dir(server.data.path().join("incoming")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_of_the_api_names_every_route() {
    let server = Server::without_site("").await;
    let described: Value = server.get("/openapi.json").await.json().await.unwrap();
    let paths: Vec<_> = described["paths"].as_object().unwrap().keys().cloned().collect();
    for path in [
        "/v1/renders",
        "/v1/renders/batch",
        "/v1/renders/{id}",
        "/v1/renders/{id}/request",
        "/v1/renders/{id}/cancel",
        "/v1/renders/{id}/retry",
        "/v1/renders/{id}/events",
        "/v1/events",
        "/metrics",
        "/v1/renders/{id}/log",
        "/v1/renders/{id}/output",
        "/v1/renders/{id}/poster",
        "/v1/renders/{id}/links",
        "/o/{id}",
        "/v1/deliveries",
        "/v1/deliveries/{id}",
        "/v1/deliveries/{id}/redeliver",
        "/v1/stills",
        "/enqueue",
        "/dev/enqueue",
        "/v1/redrive",
        "/v1/groups",
        "/v1/groups/{group}",
        "/v1/groups/{group}/pause",
        "/v1/groups/{group}/resume",
        "/v1/queue",
        "/v1/queue/pause",
        "/v1/queue/resume",
        "/v1/activity",
        "/v1/session",
        "/v1/session/renew",
        "/v1/tenants",
        "/v1/tenants/{tenant}",
        "/v1/tenants/{tenant}/notices",
        "/v1/tenants/{tenant}/webhook-secrets",
        "/v1/tenants/{tenant}/webhook-secrets/{id}",
        "/v1/sites",
        "/v1/sites/{name}",
        "/v1/sites/{name}/versions",
        "/v1/encryption",
        "/v1/encryption/rotate",
        "/v1/audit",
        "/v1/sites/{name}/versions/{version}",
        "/v1/sites/{name}/current",
        "/healthz",
        "/readyz",
    ] {
        assert!(paths.contains(&path.to_owned()), "{path} is missing from {paths:?}");
    }
    let submit = &described["paths"]["/v1/renders"]["post"];
    let answers: Vec<_> = submit["responses"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(answers, ["200", "202", "429", "4XX", "5XX"]);
    let limited = &submit["responses"]["429"];
    assert!(limited["headers"]["Retry-After"].is_object(), "{limited}");
    assert_eq!(
        limited["content"]["application/problem+json"]["schema"]["$ref"],
        "#/components/schemas/Problem"
    );
    assert_eq!(submit["parameters"][0]["name"], "Idempotency-Key");
    let states = &described["components"]["schemas"]["Status"]["enum"];
    assert_eq!(states, &json!(["queued", "rendering", "succeeded", "failed", "cancelled"]));
    let fields = &described["components"]["schemas"]["RenderRequest"]["properties"];
    assert!(fields["inputProps"].is_object() && fields["queue"].is_object(), "{fields}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_renders_shows_and_says_why_not() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out/film.mp4");
    let file = file.to_str().unwrap();
    let rendered = run(
        &server,
        &["render", "test", "tiny", "--props", "{\"text\":\"hi\"}", "--set", "crf=30", "-o", file],
    );
    assert_eq!(rendered.0, 0, "{rendered:?}");
    assert!(rendered.1.contains("10 frames, 128x72"), "{rendered:?}");
    assert_eq!(&std::fs::read(file).unwrap()[4..8], b"ftyp");

    let failed = run(&server, &["render", "test", "throws"]);
    assert_eq!(failed.0, 1, "{failed:?}");
    assert!(failed.2.contains("boom at frame 3") && failed.2.contains("test-site/"), "{failed:?}");
    let refused = run(&server, &["render", "test", "tiny", "--set", "crf=99"]);
    assert_eq!(refused.0, 3);
    assert!(refused.2.contains("/crf: is 99, and must be from 1 to 51"), "{refused:?}");
    assert_eq!(run(&server, &["render", "test", "tiny", "--props", "{"]).0, 2);
    assert_eq!(run(&server, &["list", "--server", "http://127.0.0.1:1"]).0, 4);

    let listed = run(&server, &["list", "--status", "failed", "--json"]);
    let page: Value = serde_json::from_str(&listed.1).unwrap();
    let id = page["renders"][0]["renderId"].as_str().unwrap();
    let shown = run(&server, &["show", id]);
    assert!(shown.1.contains("component_error"), "{shown:?}");
    let logs = run(&server, &["logs", id]);
    assert!(logs.1.contains("--- attempt 1") && logs.1.contains("boom at frame 3"), "{logs:?}");
    let detached =
        run(&server, &["render", "test", "tiny", "--detach", "--set", "queue.runAt=2999-01-01T00:00:00Z"]);
    let waiting = detached.1.trim();
    assert_eq!(run(&server, &["cancel", waiting]).1.trim(), "cancelled");
    assert_eq!(run(&server, &["retry", waiting]).0, 0);
}
