//! The edge holds against anybody: the slow, the many, the malformed and the curious.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::malformed::Malformed;
use crate::server::{Server, client, command, project, run};

/// Limits that a test can outlive.
const SHORT: &str =
    "[http]\nheader_timeout = \"2s\"\nread_timeout = \"2s\"\nbody_timeout = \"4s\"\nwrite_timeout = \"2s\"\n";
/// A healthy client is answered within this, whatever others do.
const AT_ONCE: Duration = Duration::from_secs(15);

fn address(server: &Server) -> SocketAddr {
    server.url.rsplit_once("//").unwrap().1.parse().unwrap()
}

/// What the server answers to these bytes, until it closes the connection.
async fn raw(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address(server)).await.unwrap();
    // It may answer, and close, before it has read everything.
    stream.write_all(bytes).await.ok();
    let mut answer = Vec::new();
    let read = async {
        let mut piece = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut piece).await {
            answer.extend_from_slice(&piece[..read]);
        }
    };
    timeout(Duration::from_secs(60), read).await.expect("the server closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

/// As many files as the system lets a process open: this one holds the other end of every connection.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

async fn connected(server: &Server, count: usize, head: &str) -> Vec<TcpStream> {
    let connect = async || {
        let socket = TcpSocket::new_v4().unwrap();
        // Small, so that an answer that nobody reads does not vanish in the buffers of the system.
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(address(server)).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    join_all((0..count).map(|_| connect())).await
}

/// Waits until the server has no more open files than `most`.
async fn cut(server: &Server, most: usize) {
    let fewer = async {
        while server.open_files() > most {
            // The server cannot signal that it has closed a connection to a client that does not read.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let open = || format!("{} files are open, {most} were", server.open_files());
    timeout(Duration::from_secs(60), fewer).await.unwrap_or_else(|_| panic!("{}", open()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_slow_connections_do_not_stop_a_healthy_client_and_are_cut() {
    raise_open_files();
    let server = Server::without_site(SHORT).await;
    let before = server.open_files();
    let half_a_head = "GET /v1/renders HTTP/1.1\r\nHost: x\r\nX-Slow: ";
    let half_a_body = format!(
        "POST /v1/renders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 1000\r\n\r\n{{\"a",
        server.token
    );
    let unread = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(60);
    let slow = [
        connected(&server, 400, half_a_head).await,
        connected(&server, 300, &half_a_body).await,
        connected(&server, 200, &unread).await,
        connected(&server, 100, "").await,
    ];
    for _ in 0..20 {
        // A connection of its own each time, like clients that come one after another.
        let answer = timeout(AT_ONCE, client().get(format!("{}/readyz", server.url)).send()).await;
        assert_eq!(answer.expect("a healthy client is answered").unwrap().status(), 200);
    }
    cut(&server, before + 5).await;
    let mut answer = Vec::new();
    let mut slow = slow.into_iter().map(|mut streams| streams.pop().unwrap());
    slow.nth(1).unwrap().read_to_end(&mut answer).await.ok();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body_too_slow"), "{answer}");
    assert_eq!(server.get("/readyz").await.status(), 200);
}

async fn ask(stream: &mut TcpStream) {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.ok();
}

/// The status of what is answered over a connection that is kept; none when the connection is closed instead.
async fn answer(stream: &mut TcpStream) -> Option<u16> {
    let mut answer = String::new();
    while !answer.ends_with('}') {
        let mut piece = [0; 4096];
        let read =
            timeout(AT_ONCE, stream.read(&mut piece)).await.expect("there is an answer, or an end").ok()?;
        answer.push_str(std::str::from_utf8(&piece[..read]).unwrap());
        if read == 0 {
            return None;
        }
    }
    answer.split(' ').nth(1)?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stood_still_answers_over_the_connections_that_were_free_meanwhile() {
    let server = Server::without_site(SHORT).await;
    let mut meanwhile = TcpStream::connect(address(&server)).await.unwrap();
    let mut afterwards = TcpStream::connect(address(&server)).await.unwrap();
    for stream in [&mut meanwhile, &mut afterwards] {
        ask(stream).await;
        assert_eq!(answer(stream).await, Some(200));
    }
    server.signal("STOP");
    // Longer than a free connection is kept. A process that stands still signals nothing.
    tokio::time::sleep(Duration::from_secs(3)).await;
    ask(&mut meanwhile).await;
    server.signal("CONT");
    ask(&mut afterwards).await;
    assert_eq!(answer(&mut meanwhile).await, Some(200), "asked while it stood still");
    assert_eq!(answer(&mut afterwards).await, Some(200), "asked as soon as it went on");
    let read = timeout(Duration::from_secs(60), meanwhile.read(&mut [0])).await;
    assert_eq!(read.unwrap().unwrap(), 0, "a connection that stays free is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_every_connection_taken_the_one_that_waits_longest_makes_room() {
    raise_open_files();
    let server = Server::without_site("[http]\nmax_connections = 50\n").await;
    let before = server.open_files();
    let slow = connected(&server, 500, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
    for _ in 0..20 {
        let answer = timeout(AT_ONCE, client().get(format!("{}/readyz", server.url)).send()).await;
        assert_eq!(answer.expect("a healthy client is answered").unwrap().status(), 200);
    }
    cut(&server, before + 55).await;
    drop(slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_malformed_bodies_are_refused_one_by_one_and_cost_nothing() {
    let server = Server::start().await;
    server.get("/v1/renders").await;
    let before = server.memory();
    let bodies = Malformed::new(7);
    let send = async |(path, body): (&str, Vec<u8>)| {
        let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        let answer = server.request(Method::POST, path).body(body).send().await.unwrap();
        let status = answer.status().as_u16();
        assert!((400..500).contains(&status), "{path} {shown}: {status}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{shown}");
    };
    let mut bodies = bodies.take(10_000).peekable();
    while bodies.peek().is_some() {
        join_all(bodies.by_ref().take(16).map(&send)).await;
    }
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 100 << 20, "the server has grown by {grown} bytes");
    let queue: Value = server.get("/v1/queue").await.json().await.unwrap();
    for count in queue["counts"].as_object().unwrap().values() {
        assert_eq!(count, 0, "none was accepted: {queue}");
    }
    assert_eq!(server.sidecar_processes(), [].into(), "no attempt was started");
    let audit: Value = server.get("/v1/audit?limit=1000").await.json().await.unwrap();
    let entries = audit["entries"].as_array().unwrap();
    assert_eq!((entries.len(), &audit["lost"]), (1000, &json!(0)));
    assert!(
        entries
            .iter()
            .all(|entry| entry["subject"] == "token:admin" && entry["status"].as_u64() >= Some(400))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_no_http_is_refused_before_it_costs_anything() {
    let server = Server::without_site("max_body = 10000\n").await;
    let head = |line: &str, more: &str| {
        format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n").into_bytes()
    };
    let status = async |bytes: &[u8]| {
        let answer = raw(&server, bytes).await;
        answer.split(' ').nth(1).unwrap_or("none").to_owned()
    };
    assert_eq!(status(&head("GET /healthz", "")).await, "200");
    assert_eq!(status(&head("GET /healthz", &format!("X-Long: {}\r\n", "x".repeat(200_000)))).await, "431");
    assert_eq!(status(&head("GET /healthz", &"X-Many: x\r\n".repeat(200))).await, "431");
    assert_eq!(status(&head(&format!("GET /{}", "x".repeat(70_000)), "")).await, "414");
    assert_eq!(status(&head("GET /healthz", "Bad Name: x\r\n")).await, "400");
    assert_eq!(status(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n").await, "400");
    let token = format!("Authorization: Bearer {}\r\n", server.token);
    let large =
        [head("POST /v1/renders", &format!("{token}Content-Length: 1000000\r\n")), vec![b' '; 20_000]]
            .concat();
    assert_eq!(status(&large).await, "413");
    let both = format!("{token}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n");
    assert_eq!(status(&[head("POST /v1/renders", &both), b"0\r\n\r\n".to_vec()].concat()).await, "400");
    for (method, path, status) in
        [(Method::PATCH, "/v1/renders", 405), (Method::GET, "/nowhere", 404), (Method::POST, "/healthz", 405)]
    {
        let answer = server.request(method, path).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_leads_out_of_the_api_and_no_name_into_a_header() {
    let server = Server::without_site("").await;
    let cases = [
        ("GET", "/../admin-token", 404),
        ("GET", "/%2e%2e/admin-token", 404),
        ("GET", "//etc/passwd", 404),
        ("GET", "/openapi.json/../admin-token", 404),
        ("GET", "/v1/renders/..%2f..%2fadmin-token/output", 404),
        ("GET", "/v1/renders/%2e%2e/log", 404),
        ("GET", "/v1/renders/%00/output", 404),
        ("GET", "/v1/renders/x%0d%0aSet-Cookie:%20a=b/events", 404),
        ("GET", "/v1/sites/..%2F..%2Fadmin-token", 404),
        ("GET", "/v1/sites/%00", 404),
        ("DELETE", "/v1/sites/..%2f..%2foutputs", 404),
        ("POST", "/v1/sites/..%2fx/versions?renderer=/", 422),
        ("POST", "/v1/sites/..%5cx/versions?renderer=/", 422),
        ("POST", "/v1/sites/x%00/versions?renderer=/", 422),
        ("POST", "/v1/sites/x/versions?renderer=../../etc", 422),
        ("POST", "/v1/sites/x/versions?renderer=/proc/self/root", 422),
        ("POST", "/v1/groups/%0d%0aSet-Cookie:%20a=b/pause", 422),
        ("POST", "/v1/groups/a%00b/pause", 422),
        ("GET", "/v1/groups/..%2f..%2fx", 200),
        ("GET", "/v1/tenants/..%2f..%2fx", 404),
    ];
    for (method, path, status) in cases {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Length: 0\r\n\r\n",
            server.token
        );
        let answer = raw(&server, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {answer}");
        assert!(!answer.contains(&server.token), "{method} {path}: {answer}");
        assert!(!answer.to_ascii_lowercase().contains("\r\nset-cookie"), "{method} {path}: {answer}");
        let data = server.data.path().to_str().unwrap();
        assert!(!answer.contains(data), "{method} {path} tells where the data folder is: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_name_of_a_client_stays_a_file_name_and_a_failure_tells_nothing_of_the_server() {
    let server = Server::start().await;
    let name = "../../etc/x\"\r\nSet-Cookie: a=b\u{0}.png";
    let body = json!({"serveUrl": "test", "composition": "tiny", "outName": name});
    let (status, answer) = server.post("/v1/stills", &body).await;
    let failing = server.submit("throws", json!({})).await;
    if status == 202 {
        let id = answer["renderId"].as_str().unwrap();
        server.succeeded(id).await;
        let output = server.get(&format!("/v1/renders/{id}/output")).await;
        let disposition = output.headers()["content-disposition"].to_str().unwrap();
        assert!(disposition.starts_with("inline; filename=\"x___Set-Cookie: a=b_.png\";"), "{disposition}");
        assert!(output.headers().get("set-cookie").is_none());
        assert!(output.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    } else {
        assert_eq!((status, &answer["errors"][0]["pointer"]), (422, &json!("/outName")));
    }
    let failed = server.ended(&failing).await.to_string();
    assert!(
        failed.contains("boom at frame 3") && failed.contains("test-site/"),
        "the user's own stack: {failed}"
    );
    let log = server.get(&format!("/v1/renders/{failing}/log")).await.text().await.unwrap();
    for path in [server.data.path().to_str().unwrap(), project().to_str().unwrap()] {
        assert!(!failed.contains(path), "{path} in {failed}");
        assert!(!log.contains(path), "{path} in {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_an_id_and_keeps_browsers_from_making_more_of_it() {
    let server = Server::without_site("").await;
    for path in ["/healthz", "/v1/renders", "/nowhere", "/openapi.json"] {
        let answer = server.get(path).await;
        let header = |name: &str| answer.headers()[name].to_str().unwrap();
        assert_eq!((header("x-content-type-options"), header("referrer-policy")), ("nosniff", "no-referrer"));
        assert_eq!(header("content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("x-request-id").len(), 16, "{path}");
        assert!(!answer.headers().contains_key("strict-transport-security"), "that is for TLS");
        assert!(!answer.headers().contains_key("access-control-allow-origin"), "nobody was allowed");
    }
    for (sent, taken) in [("abc-1.2_x", true), ("a b", false), ("x\"y", false), (&"x".repeat(65), false)] {
        let answer =
            server.request(Method::GET, "/healthz").header("x-request-id", sent).send().await.unwrap();
        assert_eq!(answer.headers()["x-request-id"] == *sent, taken, "{sent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_an_allowed_origin_may_use_the_api_and_no_other() {
    let server = Server::without_site("[http]\ncors_origins = [\"https://app.example.com\"]\n").await;
    let preflight = async |origin: &str| {
        let request = client().request(Method::OPTIONS, format!("{}/v1/renders", server.url));
        let request = request.header("origin", origin).header("access-control-request-method", "POST");
        request
            .header("access-control-request-headers", "authorization,content-type,idempotency-key")
            .send()
            .await
            .unwrap()
    };
    let answer = preflight("https://app.example.com").await;
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_ascii_lowercase();
    assert_eq!(answer.status(), 200, "without a token");
    assert_eq!(header("access-control-allow-origin"), "https://app.example.com");
    assert!(header("access-control-allow-methods").contains("post"));
    assert!(header("access-control-allow-headers").contains("idempotency-key"));
    assert!(!answer.headers().contains_key("access-control-allow-credentials"));
    assert!(
        !preflight("https://evil.example.com").await.headers().contains_key("access-control-allow-origin")
    );
    let answer = server
        .request(Method::GET, "/v1/renders")
        .header("origin", "https://app.example.com")
        .send()
        .await
        .unwrap();
    let exposed = answer.headers()["access-control-expose-headers"].to_str().unwrap();
    for name in ["location", "retry-after", "repr-digest", "content-range", "x-request-id"] {
        assert!(exposed.contains(name), "{name} in {exposed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_tls_a_trusting_client_gets_in_a_stopped_handshake_is_cut_and_a_new_certificate_is_taken_up() {
    let data = tempfile::tempdir().unwrap();
    let (cert, key) = (data.path().join("cert.pem"), data.path().join("key.pem"));
    let issue = || {
        let issued = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(&cert, issued.cert.pem()).unwrap();
        std::fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
        reqwest::Certificate::from_pem(issued.cert.pem().as_bytes()).unwrap()
    };
    let trusting = |certificate| {
        client();
        reqwest::Client::builder().tls_certs_only([certificate]).build().unwrap()
    };
    let first = trusting(issue());
    let config = format!("{SHORT}[tls]\ncert = {cert:?}\nkey = {key:?}\n");
    std::fs::write(data.path().join("lastframe.toml"), config).unwrap();
    let server = Server::reached_by(data, first.clone()).await;
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    let answer = server.get("/v1/renders").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["strict-transport-security"], "max-age=31536000");
    assert!(client().get(format!("{}/healthz", server.url)).send().await.is_err(), "nobody vouches for it");
    let cert_path = cert.to_str().unwrap();
    assert_eq!(run(&server, &["list", "--ca", cert_path]).0, 0);
    assert_ne!(run(&server, &["list"]).0, 0);

    let mut stopped = TcpStream::connect(address(&server)).await.unwrap();
    stopped.write_all(b"\x16\x03\x01\x02\x00").await.unwrap();
    let cut = timeout(Duration::from_secs(30), stopped.read(&mut [0; 1])).await.expect("it is cut");
    assert!(matches!(cut, Ok(0) | Err(_)));

    let renewed = issue();
    let health = format!("{}/healthz", server.url);
    assert_eq!(trusting(renewed.clone()).get(&health).send().await.unwrap().status(), 200);
    std::fs::write(&key, "no key").unwrap();
    // A client of its own connects anew.
    let answer = trusting(renewed).get(&health).send().await.unwrap();
    assert_eq!(answer.status(), 200, "a bad one does not replace a good one");
    assert!(server.log().contains("a new certificate is not used"), "{}", server.log());
}

#[test]
fn a_certificate_that_is_not_its_keys_is_refused_at_the_start() {
    let data = tempfile::tempdir().unwrap();
    let (cert, key) = (data.path().join("cert.pem"), data.path().join("key.pem"));
    let issued = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&cert, issued().cert.pem()).unwrap();
    std::fs::write(&key, issued().signing_key.serialize_pem()).unwrap();
    std::fs::write(data.path().join("lastframe.toml"), format!("[tls]\ncert = {cert:?}\nkey = {key:?}\n"))
        .unwrap();
    let started = command(data.path()).output().unwrap();
    let said = String::from_utf8(started.stderr).unwrap();
    assert!(!started.status.success() && said.contains("cannot be used together (tls)"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_did_what_is_written_down_and_neither_bodies_nor_tokens_nor_queries_are() {
    let server = Server::start().await;
    let body = json!({
        "serveUrl": "test", "composition": "tiny", "inputProps": {"secret": "hunter2"},
        "queue": {"runAt": "2999-01-01T00:00:00Z"}
    });
    let request =
        server.request(Method::POST, "/v1/renders?token=hunter2").header("x-request-id", "mine").json(&body);
    let accepted: Value = request.send().await.unwrap().json().await.unwrap();
    let id = accepted["renderId"].as_str().unwrap();
    server.post(&format!("/v1/renders/{id}/cancel"), &json!({})).await;
    server.post(&format!("/v1/renders/{id}/cancel"), &json!({})).await;
    let anonymous = client().delete(format!("{}/v1/sites/test", server.url)).send().await.unwrap();
    assert_eq!(anonymous.status(), 401);
    client().get(format!("{}/v1/queue", server.url)).bearer_auth("stolen").send().await.unwrap();
    server.get("/v1/renders").await;

    let page: Value = server.get("/v1/audit?limit=5").await.json().await.unwrap();
    let seen: Vec<_> = page["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            (
                entry["action"].as_str().unwrap(),
                entry["subject"].as_str(),
                entry["status"].as_u64().unwrap(),
                entry["code"].as_str(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("GET /v1/queue", None, 401, Some("token_invalid")),
            ("DELETE /v1/sites/{name}", None, 401, Some("token_missing")),
            ("POST /v1/renders/{id}/cancel", Some("token:admin"), 409, Some("conflict")),
            ("POST /v1/renders/{id}/cancel", Some("token:admin"), 202, None),
            ("POST /v1/renders", Some("token:admin"), 202, None),
        ]
    );
    let submitted = &page["entries"][4];
    assert_eq!((&submitted["renders"], &submitted["requestId"]), (&json!([id]), &json!("mine")));
    assert_eq!((&submitted["tenant"], &submitted["remote"]), (&json!("default"), &json!("127.0.0.1")));
    assert_eq!(page["entries"][3]["path"], format!("/v1/renders/{id}/cancel"));
    let earlier = page["nextUntil"].as_str().unwrap();
    let rest: Value = server.get(&format!("/v1/audit?until={earlier}")).await.json().await.unwrap();
    assert_eq!(rest["entries"][0]["action"], "POST /v1/sites/{name}/versions");
    let (code, printed, _) = run(&server, &["audit", "--subject", "token:admin", "--limit", "1"]);
    assert!(
        code == 0 && printed.contains("token:admin@default") && printed.contains("conflict"),
        "{printed}"
    );

    for wrong in ["since=yesterday", "limit=0", "limit=1001", "until=x"] {
        assert_eq!(server.get(&format!("/v1/audit?{wrong}")).await.status(), 422, "{wrong}");
    }
    let folder = server.data.path().join("audit");
    let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let written = std::fs::read_to_string(file).unwrap();
    for secret in ["hunter2", "stolen", &server.token] {
        assert!(!written.contains(secret), "{secret} in {written}");
    }
}
