//! Mail about renders that have ended, taken by a mail server that others made, and read by Python.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::peer::Peer;
use crate::server::{Server, probe, run};

const PASSWORD: &str = "correct horse";

/// A mail server: see tests/peers/smtp.py.
struct MailServer {
    peer: Peer,
    folder: tempfile::TempDir,
    port: String,
    how: &'static str,
}

impl MailServer {
    fn start(how: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let issued = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let file = |name: &str, text: String| {
            let file = folder.path().join(name);
            std::fs::write(&file, text).unwrap();
            file.to_str().unwrap().to_owned()
        };
        let cert = file("cert.pem", issued.cert.pem());
        let key = file("key.pem", issued.signing_key.serialize_pem());
        file("password", format!("{PASSWORD}\n"));
        let mut peer = Peer::python("smtp.py", &[&cert, &key, "lastframe", PASSWORD, how]);
        let port = peer.line();
        Self { peer, folder, port, how }
    }

    /// The configuration of a server that sends mail here.
    fn config(&self) -> String {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        format!(
            "[email]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"{}\"\nca = \"{}\"\nusername = \"lastframe\"\npassword_file = \"{}\"\n\
             from = \"Renders <renders@example.org>\"\nreply_to = \"help@example.org\"\n",
            self.port,
            self.how,
            file("cert.pem"),
            file("password"),
        )
    }

    /// What it says next about a mail or a recipient.
    fn says(&mut self) -> Value {
        serde_json::from_str(&self.peer.line()).unwrap()
    }

    /// The next mail that it takes, whatever it answers before.
    fn mail(&mut self) -> Value {
        loop {
            let said = self.says();
            if said["headers"].is_array() {
                assert_eq!(said["defects"], json!([]), "{said}");
                return said;
            }
        }
    }
}

fn header<'a>(mail: &'a Value, name: &str) -> &'a str {
    let mut found = mail["headers"].as_array().unwrap().iter().filter(|header| header[0] == name);
    let value = found.next().unwrap_or_else(|| panic!("no {name}: {mail}"))[1].as_str().unwrap();
    assert!(found.next().is_none(), "{name} twice: {mail}");
    value
}

fn part<'a>(mail: &'a Value, kind: &str) -> &'a Value {
    mail["parts"]
        .as_array()
        .unwrap()
        .iter()
        .find(|part| part["type"] == kind)
        .unwrap_or_else(|| panic!("{mail}"))
}

fn content<'a>(mail: &'a Value, kind: &str) -> &'a str {
    part(mail, kind)["content"].as_str().unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// A render that is cancelled before it begins: it owes a mail, and needs no browser.
async fn cancelled(server: &Server, to: &[&str]) -> String {
    let id = server
        .submit("tiny", json!({"notify": {"email": to}, "queue": {"runAt": "2999-01-01T00:00:00Z"}}))
        .await;
    assert_eq!(server.post(&format!("/v1/renders/{id}/cancel"), &json!({})).await.0, 202);
    id
}

/// The one delivery of a render, once it is no longer pending, or has been tried so often.
async fn delivery(server: &Server, render: &str, tries: u64) -> Value {
    let settled = async {
        loop {
            let found: Value =
                server.get(&format!("/v1/deliveries?renderId={render}")).await.json().await.unwrap();
            let delivery = found["deliveries"][0].clone();
            if delivery["status"] != "pending" || delivery["tries"].as_u64().unwrap() >= tries {
                return delivery;
            }
            // Nothing signals the end of a delivery to a client.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(30), settled).await.expect("it is settled")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_tells_of_a_video_a_failure_and_a_cancelled_render() {
    let mut mails = MailServer::start("starttls");
    let server = Server::configured(&mails.config()).await;
    let notify = json!({"notify": {"email": ["anna@example.com"]}});

    let id = server.submit("tiny", notify.clone()).await;
    server.succeeded(&id).await;
    let mail = mails.mail();
    assert_eq!((&mail["encrypted"], &mail["user"]), (&json!(true), &json!("lastframe")));
    assert_eq!((&mail["sender"], &mail["to"]), (&json!("renders@example.org"), &json!(["anna@example.com"])));
    assert_eq!(header(&mail, "Subject"), "tiny is ready");
    assert_eq!(header(&mail, "From"), "Renders <renders@example.org>");
    assert_eq!(header(&mail, "Reply-To"), "help@example.org");
    assert_eq!(header(&mail, "Auto-Submitted"), "auto-generated");
    let shape =
        json!(["multipart/alternative", "text/plain", "multipart/related", "text/html", "image/jpeg"]);
    assert_eq!(mail["shape"], shape);
    let poster = part(&mail, "image/jpeg");
    assert_eq!((&poster["id"], &poster["disposition"]), (&json!("<poster@lastframe>"), &json!("inline")));
    let poster = bytes(content(&mail, "image/jpeg"));
    let html = content(&mail, "text/html");
    assert!(html.contains("src=\"cid:poster@lastframe\""), "{html}");
    assert_eq!(
        html.matches("://").count(),
        html.matches(&format!("href=\"{}", server.url)).count(),
        "{html}"
    );

    // The picture in it is the poster, and the link in it leads to the video, without a token.
    let route = format!("/v1/renders/{id}/poster");
    let served = server.get(&route).await;
    assert_eq!(
        (served.status().as_u16(), &served.headers()["content-type"]),
        (200, &"image/jpeg".parse().unwrap())
    );
    let tag = served.headers()["etag"].clone();
    assert_eq!(served.bytes().await.unwrap(), poster);
    let known =
        server.request(reqwest::Method::GET, &route).header("If-None-Match", tag).send().await.unwrap();
    assert_eq!(known.status(), 304);
    let text = content(&mail, "text/plain");
    let link = text.lines().find(|line| line.starts_with(&server.url)).unwrap_or_else(|| panic!("{text}"));
    let video = crate::server::client().get(link).send().await.unwrap();
    assert_eq!(video.bytes().await.unwrap(), server.output(&id).await);
    let delivered = delivery(&server, &id, u64::MAX).await;
    assert_eq!((&delivered["status"], &delivered["log"][0]["code"]), (&json!("delivered"), &json!(250)));
    let message = format!("<{}@example.org>", delivered["deliveryId"].as_str().unwrap());
    assert_eq!(header(&mail, "Message-ID"), message);

    let message = "no <b>points</b>\r\nBcc: eve@example.net\r\n\r\n<script>alert(1)</script>";
    let fields =
        json!({"inputProps": {"message": message}, "queue": {"maxAttempts": 1}, "notify": notify["notify"]});
    let id = server.submit("throws", fields).await;
    assert_eq!(server.ended(&id).await["status"], "failed");
    let mail = mails.mail();
    assert!(header(&mail, "Subject").starts_with("throws failed: no <b>points</b>"), "{mail}");
    assert_eq!(mail["to"], json!(["anna@example.com"]));
    assert!(!mail["headers"].to_string().contains("Bcc\""), "{mail}");
    let (text, html) = (content(&mail, "text/plain"), content(&mail, "text/html"));
    assert!(text.contains("component_error") && text.contains("it is the project's code"), "{text}");
    assert!(html.contains("&lt;script&gt;") && !html.contains("<script") && !html.contains("<b>"), "{html}");

    let id = cancelled(&server, &["anna@example.com"]).await;
    let mail = mails.mail();
    assert_eq!(header(&mail, "Subject"), "tiny was cancelled");
    assert!(content(&mail, "text/plain").contains(&id), "{mail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_pass_is_tried_again_what_will_not_is_given_up_and_the_record_says_why() {
    let mut mails = MailServer::start("tls");
    let server = Server::configured(&mails.config()).await;
    let never = cancelled(&server, &["never@example.com"]).await;
    let spam = cancelled(&server, &["spam@spam.example"]).await;
    let later = cancelled(&server, &["later@later.example"]).await;
    for (id, code, why) in [(&never, 550, "no such user here"), (&spam, 554, "this looks like spam")] {
        let failed = delivery(&server, id, u64::MAX).await;
        let tried = &failed["log"][0];
        assert_eq!(
            (&failed["status"], &failed["tries"], &tried["code"]),
            (&json!("failed"), &json!(1), &json!(code))
        );
        assert!(tried["error"].as_str().unwrap().contains(why), "{failed}");
    }
    assert_eq!(header(&mails.mail(), "To"), "later@later.example");
    let delivered = delivery(&server, &later, u64::MAX).await;
    let codes: Vec<_> = delivered["log"].as_array().unwrap().iter().map(|tried| &tried["code"]).collect();
    assert_eq!((&delivered["status"], codes), (&json!("delivered"), vec![&json!(450), &json!(250)]));
    let log = server.log();
    assert!(log.contains("come back later") && log.contains("no such user here"), "{log}");
    assert!(!log.contains(PASSWORD), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_wrong_is_no_fault_of_who_gets_the_mail() {
    let mails = MailServer::start("starttls");
    std::fs::write(mails.folder.path().join("password"), "wrong").unwrap();
    let server = Server::configured(&mails.config()).await;
    let id = cancelled(&server, &["anna@example.com"]).await;
    let pending = delivery(&server, &id, 1).await;
    assert_eq!((&pending["status"], &pending["log"][0]["code"]), (&json!("pending"), &json!(535)));
    assert!(pending["log"][0]["error"].as_str().unwrap().contains("does not let us in"), "{pending}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_goes_as_far_as_the_password_and_sends_a_mail_when_told_to() {
    let mut mails = MailServer::start("starttls");
    let server = Server::without_site(&mails.config()).await;
    let found = |arguments: &[&str]| {
        let (_, out, _) = run(&server, &[&["doctor", "--json"], arguments].concat());
        let findings: Value = serde_json::from_str(&out).unwrap();
        findings["findings"]
            .as_array()
            .unwrap()
            .iter()
            .find(|finding| finding["what"] == "mail")
            .unwrap()
            .clone()
    };
    let looked = found(&[]);
    assert_eq!(looked["state"], "ok", "{looked}");
    assert!(looked["found"].as_str().unwrap().ends_with("answers, encrypted, let us in"), "{looked}");
    let sent = found(&["--mail-to", "anna@example.com"]);
    assert_eq!(sent["state"], "ok", "{sent}");
    assert_eq!(header(&mails.mail(), "Subject"), "Lastframe can send mail");
    let refused = found(&["--mail-to", "never@example.com"]);
    assert_eq!(refused["state"], "fail", "{refused}");
    assert!(refused["found"].as_str().unwrap().contains("550"), "{refused}");
    std::fs::write(mails.folder.path().join("password"), "wrong").unwrap();
    let wrong = found(&[]);
    assert!(wrong["state"] == "fail" && wrong["found"].as_str().unwrap().contains("535"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_sends_no_mail_takes_no_render_that_wants_one() {
    let server = Server::start().await;
    let body = json!({"serveUrl": "test", "composition": "tiny", "notify": {"email": ["anna@example.com"]}});
    let (status, problem) = server.post("/v1/renders", &body).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/notify/email")));
    assert!(problem["errors"][0]["detail"].as_str().unwrap().contains("set [email]"), "{problem}");
    let (status, problem) = server.post("/v1/renders/batch", &json!({"renders": [body]})).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/renders/0/notify/email")));
    let defaults = json!({"email": ["anna@example.com"]});
    let answer = server
        .request(reqwest::Method::PUT, "/v1/tenants/acme/notices")
        .json(&defaults)
        .send()
        .await
        .unwrap();
    let problem: Value = answer.json().await.unwrap();
    assert_eq!((&problem["status"], &problem["errors"][0]["pointer"]), (&json!(422), &json!("/email")));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_has_a_picture_has_a_poster_which_goes_with_the_output() {
    let server = Server::configured("[render]\nconcurrency = 2\n").await;
    let renders = [
        ("tiny", "/v1/renders", json!({"codec": "gif"})),
        ("tiny", "/v1/renders", json!({"codec": "vp8", "deleteAfter": "1-day"})),
        ("tiny", "/v1/stills", json!({"imageFormat": "png", "scale": 12})),
    ];
    for (composition, route, fields) in renders {
        let mut body = json!({"serveUrl": "test", "composition": composition});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let (status, accepted) = server.post(route, &body).await;
        assert_eq!(status, 202, "{accepted}");
        let id = accepted["renderId"].as_str().unwrap();
        server.succeeded(id).await;
        let answer = server.get(&format!("/v1/renders/{id}/poster")).await;
        assert_eq!(answer.status(), 200, "{body}: {}", server.log());
        let file = server.data.path().join("poster.jpg");
        std::fs::write(&file, answer.bytes().await.unwrap()).unwrap();
        let width = picture(&file);
        assert!((1..=640).contains(&width), "{body}: {width}");
    }
    let id = server.submit("tone", json!({"codec": "mp3"})).await;
    server.succeeded(&id).await;
    let none: Value = server.get(&format!("/v1/renders/{id}/poster")).await.json().await.unwrap();
    assert_eq!((&none["status"], &none["code"]), (&json!(404), &json!("no_poster")));
}

fn picture(file: &Path) -> u64 {
    let probed = probe(file);
    assert_eq!(probed["streams"][0]["codec_name"], "mjpeg", "{probed}");
    probed["streams"][0]["width"].as_u64().unwrap()
}
