//! A render on Remotion Lambda is started once, followed to its end, and paid for once, whatever dies meanwhile.

use std::process::Command;
use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use crate::function::{FRAMES, FUNCTION, Faults, Function, STILL};
use crate::s3::{Fault, S3};
use crate::server::{Server, command, project, run};

/// As Remotion names buckets; the documentation's policy is for such names.
const BUCKET: &str = "remotionlambda-useast1-abcdefghij";

/// AWS, with a function that is deployed, and a server that knows of it.
struct Aws {
    s3: Arc<S3>,
    function: Function,
}

impl Aws {
    async fn start() -> Self {
        Self::with(BUCKET).await
    }

    async fn with(bucket: &str) -> Self {
        let policy = include_str!("../../../../docs/lambda.md").split_once("```json\n").unwrap().1;
        let s3 = Arc::new(S3::with(bucket, policy.split_once("```").unwrap().0).await);
        let function = Function::deployed(&s3).await;
        Self { s3, function }
    }

    fn config(&self, more: &str) -> String {
        format!(
            "[render]\nrenderer = \"lambda\"\nconcurrency = 1\n[queue]\nlease = \"3s\"\nretry_delay = \"200ms\"\n\
             [lambda]\nsettle = \"3s\"\n{more}\n[[lambda.function]]\nname = \"{FUNCTION}\"\nregion = \"us-east-1\"\n"
        )
    }

    fn command(&self, data: &std::path::Path) -> Command {
        let mut command = command(data);
        self.point(&mut command);
        command
    }

    /// Lets a program find this AWS, with the rights that the documentation gives a server.
    fn point(&self, command: &mut Command) {
        let (key, secret) = self.s3.keys();
        for (name, value) in [
            ("AWS_ENDPOINT_URL_LAMBDA", self.function.url.as_str()),
            ("AWS_ENDPOINT_URL_S3", &self.s3.relayed()),
            ("AWS_ENDPOINT_URL_STS", &self.s3.relayed()),
            ("AWS_ACCESS_KEY_ID", &key),
            ("AWS_SECRET_ACCESS_KEY", &secret),
        ] {
            command.env(name, value);
        }
    }

    async fn server(&self, more: &str) -> Server {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("lastframe.toml"), self.config(more)).unwrap();
        let server = Server::started_by(self.command(data.path()), data).await;
        server.add_site("test").await;
        server
    }

    /// `kill -9`, and a new server on the same data folder.
    async fn kill_and_restart(&self, mut server: Server) -> Server {
        server.signal("KILL");
        server.exit().await;
        let data = server.give_up_data();
        Server::started_by(self.command(data.path()), data).await
    }

    /// What the bucket holds of renders, but for what is written about them.
    async fn videos(&self) -> Vec<String> {
        let objects = self.s3.objects().await;
        objects.into_iter().filter(|key| key.starts_with("renders/") && !key.ends_with(".json")).collect()
    }

    /// The render succeeded at its first attempt, was started once, and its video is the one in the bucket.
    async fn assert_once(&self, server: &Server, id: &str) -> Value {
        let render = server.succeeded(id).await;
        assert_eq!(
            (&render["attempt"], self.function.starts().len()),
            (&json!(1), 1),
            "{render}\n{}",
            server.log()
        );
        assert_eq!(render["output"]["frameCount"], FRAMES);
        assert_eq!(self.videos().await.len(), 1);
        assert_eq!(server.output(id).await.len() as u64, render["outputSizeInBytes"].as_u64().unwrap());
        render
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_render_on_lambda_says_how_far_it_is_what_it_cost_and_where_its_file_is() {
    let aws = Aws::start().await;
    let server = aws.server("[webhook]\nallow_hosts = [\"127.0.0.1\"]").await;
    let body = json!({
        "serveUrl": "test", "composition": "tiny", "inputProps": {"text": "ü"}, "framesPerLambda": 10, "region": "us-east-1",
        "maxRetries": 2, "outName": "my film.mp4",
        "webhook": {"url": "http://127.0.0.1:9/", "secret": "s3cret"}, "jpegQuality": 70, "envVariables": {"A": "b"}, "verbose": true,
    });
    aws.function.halt(true);
    let (status, accepted) = server.post("/v1/renders", &body).await;
    assert_eq!((status, &accepted["ignored"]), (202, &json!(["verbose"])), "{accepted}");
    let id = accepted["renderId"].as_str().unwrap();
    server.under_way(id).await;
    aws.function.halt(false);
    let render = aws.assert_once(&server, id).await;
    assert_eq!(
        (&render["output"]["costInUsd"], &render["output"]["width"], &render["output"]["contentType"]),
        (&json!(0.00123), &json!(64), &json!("video/mp4"))
    );
    let asked = &aws.function.starts()[0];
    let site = format!("lastframe-{}", render["siteVersion"].as_str().unwrap());
    for (name, value) in [
        ("serveUrl", json!(site)),
        ("composition", json!("tiny")),
        ("inputProps", json!({"type": "payload", "payload": "{\"text\":\"ü\"}"})),
        ("framesPerLambda", json!(10)),
        ("maxRetries", json!(2)),
        ("jpegQuality", json!(70)),
        ("envVariables", json!({"A": "b"})),
        ("enableCancellation", json!(true)),
        ("privacy", json!("private")),
        ("outName", json!(format!("{id}-1.mp4"))),
        ("bucketName", json!(BUCKET)),
    ] {
        assert_eq!(asked[name], value, "{name}");
    }
    // Who is told of the end is told by the server, once and after it has looked.
    assert!(asked["webhook"].is_null() && asked["notify"].is_null(), "{asked}");
    assert!(!asked.to_string().contains("s3cret"), "{asked}");
    let objects = aws.s3.objects().await;
    assert!(objects.contains(&format!("sites/{site}/index.html")), "{objects:?}");

    // Whoever asks is sent to the bucket; what is signed tells the name that was asked for.
    let manual = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let sent = manual.get(format!("{}/v1/renders/{id}/output", server.url)).bearer_auth(&server.token);
    let sent = sent.send().await.unwrap();
    assert_eq!(sent.status(), 302);
    let location = sent.headers()["location"].to_str().unwrap().to_owned();
    let file = manual.get(&location).send().await.unwrap();
    assert!(file.headers()["content-disposition"].to_str().unwrap().contains("my film.mp4"));
    assert_eq!(&file.bytes().await.unwrap()[4..8], b"ftyp");
    let head = server.request(Method::HEAD, &format!("/v1/renders/{id}/output")).send().await.unwrap();
    assert_eq!(head.headers()["content-length"].to_str().unwrap(), render["outputSizeInBytes"].to_string());
    let log = server.get(&format!("/v1/renders/{id}/log")).await.text().await.unwrap();
    assert!(log.contains("started abcdefgh01 at"), "{log}");

    let mut doctor = Command::new(env!("CARGO_BIN_EXE_lastframe"));
    doctor.arg("doctor").env("LASTFRAME_DATA", server.data.path());
    aws.point(&mut doctor);
    let told = String::from_utf8(doctor.output().unwrap().stdout).unwrap();
    for words in [FUNCTION, "Remotion 4.0.527", BUCKET, "role remotion-lambda-role", "10 functions at once"] {
        assert!(told.contains(words), "{words} in\n{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_still_on_lambda_says_what_it_cost_and_is_made_once_though_its_answer_is_lost() {
    let aws = Aws::start().await;
    let server = aws.server("").await;
    for lost in [0, 1] {
        aws.function.befall(Faults { lost, ..Faults::default() });
        let body =
            json!({"serveUrl": "test", "composition": "tiny", "frame": 3, "inputProps": {"text": "ü"}});
        let (status, accepted) = server.post("/v1/stills", &body).await;
        assert_eq!(status, 202, "{accepted}");
        let id = accepted["renderId"].as_str().unwrap();
        let render = server.succeeded(id).await;
        let asked = aws.function.starts().pop().unwrap();
        for (name, value) in [
            ("type", json!("still")),
            ("frame", json!(3)),
            ("streamed", json!(true)),
            ("imageFormat", json!("png")),
            ("privacy", json!("private")),
            ("outName", json!(format!("{id}-1.png"))),
            ("bucketName", json!(BUCKET)),
        ] {
            assert_eq!(asked[name], value, "{name}");
        }
        // What a lost answer would have said nobody knows.
        let cost = if lost == 0 { json!(0.000_4) } else { Value::Null };
        let output = &render["output"];
        assert_eq!(
            (&render["attempt"], &output["costInUsd"], &output["contentType"], &output["width"]),
            (&json!(1), &cost, &json!("image/png"), &json!(64)),
            "{render}"
        );
        assert_eq!(server.output(id).await, STILL);
    }
    assert_eq!(aws.function.starts().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_at_any_moment_of_a_render_on_lambda_goes_on_with_it() {
    let aws = Aws::start().await;
    let mut server = aws.server("").await;

    // While the start is on its way: it happens, and nobody hears of it.
    aws.function.hold(true);
    aws.function.halt(true);
    let id = server.submit("tiny", json!({})).await;
    aws.function.asked(1).await;
    server = aws.kill_and_restart(server).await;
    aws.function.hold(false);
    // When frames are made, twice.
    for _ in 0..2 {
        server.under_way(&id).await;
        server = aws.kill_and_restart(server).await;
    }
    aws.function.halt(false);
    let render = aws.assert_once(&server, &id).await;
    let outcomes: Vec<_> =
        render["attempts"].as_array().unwrap().iter().map(|attempt| &attempt["outcome"]).collect();
    assert_eq!(outcomes, ["lost", "lost", "lost", "succeeded"]);

    // While nobody is there at all, it is finished.
    aws.function.halt(true);
    let id = server.submit("tiny", json!({})).await;
    server.under_way(&id).await;
    aws.function.halt(false);
    server.signal("KILL");
    server.exit().await;
    let data = server.give_up_data();
    while aws.videos().await.len() < 2 {
        tokio::task::yield_now().await;
    }
    let server = Server::started_by(aws.command(data.path()), data).await;
    server.succeeded(&id).await;
    assert_eq!(aws.function.starts().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_a_busy_account_and_a_slow_bucket_cost_no_attempt_and_no_second_start() {
    let aws = Aws::start().await;
    let server = aws.server("").await;
    aws.function.befall(Faults { lost: 1, throttled: 2, ..Faults::default() });
    aws.s3.befall(Fault::Slow(std::time::Duration::from_millis(150)));
    let id = server.submit("tiny", json!({})).await;
    server.succeeded(&id).await;
    aws.s3.befall(Fault::None);
    aws.assert_once(&server, &id).await;
    let log = server.get(&format!("/v1/renders/{id}/log")).await.text().await.unwrap();
    assert!(
        log.contains("takes nothing now: throttled by AWS")
            && log.contains("the answer to the start was lost"),
        "{log}"
    );

    // A bucket that is away while frames are made is waited for.
    aws.function.halt(true);
    let id = server.submit("tiny", json!({})).await;
    server.under_way(&id).await;
    aws.s3.befall(Fault::Away);
    aws.function.halt(false);
    let blind = async {
        let path = format!("/v1/renders/{id}/log");
        while !server.get(&path).await.text().await.unwrap().contains("cannot read the progress") {}
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), blind).await.unwrap();
    aws.s3.befall(Fault::None);
    assert_eq!(server.succeeded(&id).await["attempt"], 1);
    assert_eq!(aws.function.starts().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_on_lambda_says_why_and_what_is_cancelled_stops_there() {
    let aws = Aws::start().await;
    let server = aws.server("stall = \"10s\"").await;
    aws.function.befall(Faults { fatal: true, ..Faults::default() });
    let id = server.submit("tiny", json!({"queue": {"maxAttempts": 2}})).await;
    let render = server.ended(&id).await;
    assert_eq!(
        (&render["status"], &render["errors"][0]["code"], &render["attempt"]),
        (&json!("failed"), &json!("asset_failed"), &json!(2)),
        "{render}"
    );
    assert_eq!(aws.function.starts().len(), 2, "each attempt starts its own");

    aws.function.befall(Faults { stuck: true, ..Faults::default() });
    let id = server.submit("tiny", json!({})).await;
    server.under_way(&id).await;
    let (status, _) = server.post(&format!("/v1/renders/{id}/cancel"), &json!({})).await;
    assert_eq!(status, 202);
    assert_eq!(server.ended(&id).await["status"], "cancelled");
    let log = server.get(&format!("/v1/renders/{id}/log")).await.text().await.unwrap();
    assert!(log.contains("abcdefgh03 has stopped"), "{log}");
    let left = aws.s3.objects().await;
    assert!(!left.iter().any(|key| key.starts_with("renders/abcdefgh03/")), "{left:?}");

    let id = server.submit("tiny", json!({"queue": {"maxCost": 0.000_01}})).await;
    let render = server.ended(&id).await;
    assert_eq!(render["errors"][0]["code"], "cost_exceeded", "{render}");

    for (fields, pointer) in [
        (json!({"codec": "av1"}), "/codec"),
        (json!({"region": "eu-central-1"}), "/region"),
        (json!({"functionName": "other"}), "/functionName"),
        (json!({"queue": {"renderer": "local", "maxCost": 1}}), "/queue/maxCost"),
    ] {
        let mut body = json!({"serveUrl": "test", "composition": "tiny"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let (status, answer) = server.post("/v1/renders", &body).await;
        assert_eq!((status, &answer["errors"][0]["pointer"]), (422, &json!(pointer)), "{answer}");
    }
    // Beside all that, this machine still renders what it is asked to.
    let id = server.submit("tiny", json!({"queue": {"renderer": "local"}})).await;
    server.succeeded(&id).await;
    assert_eq!(server.output_files().len(), 1);
    let (exit, told, _) = run(&server, &["site", "list"]);
    assert_eq!(exit, 0, "{told}");
}

/// Bundles a project and puts thousands of small requests to a service that is not made for it: `make test-lambda` runs it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes a minute or two"]
async fn the_project_is_deployed_renders_and_is_deleted_again_and_again() {
    let aws = Aws::with("somebody-elses").await;
    let npm = async |arguments: &[&str]| {
        let mut command = tokio::process::Command::new("npm");
        command.args(["--silent", "run"]).args(arguments).current_dir(project());
        for (name, value) in [
            ("AWS_ENDPOINT_URL", aws.s3.url()),
            ("AWS_ENDPOINT_URL_LAMBDA", aws.function.url.as_str()),
            ("REMOTION_REGIONS", "us-east-1"),
            // The owner, who may do everything.
            ("AWS_KEY_1", "test"),
            ("AWS_SECRET_1", "test"),
        ] {
            command.env(name, value);
        }
        let output = command.output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let told = text(output.stdout) + &text(output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        told
    };
    let name = "remotion-render-4-0-527-mem2048mb-disk10240mb-240sec";
    let told = npm(&["deploy"]).await;
    for words in [
        "account 1, us-east-1: bucket remotionlambda-useast1-",
        " is made",
        &format!("function {name} is deployed"),
        "site https://",
        &format!("[[lambda.function]]\nname = \"{name}\"\nregion = \"us-east-1\"\naccount = 1"),
    ] {
        assert!(told.contains(words), "{words} in\n{told}");
    }
    assert!(aws.function.functions().contains(&name.to_owned()));
    let buckets = aws.s3.buckets().await;
    let bucket = buckets.iter().find(|name| name.starts_with("remotionlambda-")).unwrap();
    let told = npm(&["deploy"]).await;
    assert!(
        told.contains(&format!("function {name} was there")) && told.contains("(0 files brought"),
        "{told}"
    );

    let told = npm(&["render", "--", "main", "--props", "{\"text\": \"Hello\"}"]).await;
    assert!(told.contains("abcdefgh01 is started by") && told.contains("https://s3.us-east-1"), "{told}");
    assert_eq!(aws.function.starts()[0]["serveUrl"], "remotion-app");

    let told = npm(&["delete"]).await;
    assert!(
        told.contains("site remotion-app is deleted")
            && told.contains(&format!("function {name} is deleted")),
        "{told}"
    );
    let told = npm(&["delete"]).await;
    assert!(told.contains("there was no site") && told.contains("there was no function"), "{told}");
    let left = aws.s3.objects_in(bucket).await;
    assert!(!left.iter().any(|key| key.starts_with("sites/")), "{left:?}");
    assert!(left.iter().any(|key| key.ends_with(".mp4")), "renders stay: {left:?}");
}
