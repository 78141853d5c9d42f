//! The figures of a server, and the alert rules over them, as Prometheus sees them.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::server::Server;

fn prometheus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/prometheus")
}

/// Runs what Prometheus checks figures and rules with: the one on PATH, or what `scripts/setup tests` has unpacked.
fn promtool(arguments: &[&str], input: &str) {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/promtool");
    let program = if unpacked.exists() { unpacked.canonicalize().unwrap() } else { "promtool".into() };
    let mut checking = Command::new(program)
        .args(arguments)
        .current_dir(prometheus())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("`scripts/setup tests` brings promtool");
    checking.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let checked = checking.wait_with_output().unwrap();
    let said = [checked.stdout, checked.stderr].concat();
    assert!(checked.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&said));
}

async fn figures(server: &Server, token: &str) -> reqwest::Response {
    server.request_with(token, reqwest::Method::GET, "/metrics").send().await.unwrap()
}

/// The value of a series.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

/// The names of our figures in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("lastframe_")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_has_done_stands_in_figures_that_prometheus_takes() {
    let server = Server::start().await;
    let good = server.submit("tiny", json!({})).await;
    server.succeeded(&good).await;
    let bad = server.submit("throws", json!({})).await;
    server.ended(&bad).await;
    server.submit("tiny", json!({"queue": {"runAt": "2999-01-01T00:00:00Z"}})).await;
    assert_eq!(server.get("/v1/renders/none").await.status(), 404);

    let token = server.token_of("acme", &["metrics:read"]).await;
    let answer = figures(&server, &token).await;
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text().await.unwrap();
    for (series, expected) in [
        ("lastframe_renders{status=\"queued\"}", 1.0),
        ("lastframe_renders{status=\"succeeded\"}", 1.0),
        ("lastframe_renders{status=\"failed\"}", 1.0),
        ("lastframe_renders_claimable", 0.0),
        ("lastframe_oldest_render_age_seconds{status=\"queued\"}", 0.0),
        ("lastframe_renders_accepted_total", 3.0),
        ("lastframe_submit_duration_seconds_count", 3.0),
        ("lastframe_attempts_total{outcome=\"succeeded\"}", 1.0),
        ("lastframe_queue_wait_seconds_count", 2.0),
        ("lastframe_render_duration_seconds_count{kind=\"media\"}", 1.0),
        ("lastframe_frames_rendered_total", 10.0),
        ("lastframe_workers", 2.0),
        ("lastframe_workers_busy", 0.0),
        ("lastframe_http_requests_total{method=\"POST\",route=\"/v1/renders\",status=\"2xx\"}", 3.0),
        ("lastframe_http_requests_total{method=\"GET\",route=\"/v1/renders/{id}\",status=\"4xx\"}", 1.0),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
    assert!(value(&text, "lastframe_attempts_total{outcome=\"failed\"}") >= 1.0);
    assert_eq!(
        value(&text, "lastframe_claims_total"),
        value(&text, "lastframe_claim_duration_seconds_count")
    );
    assert!(value(&text, "lastframe_sidecars_started_total") >= 1.0);
    assert!(value(&text, "lastframe_disk_free_bytes") > 0.0);
    assert!(!text.contains("acme") && !text.contains(&good), "no series for a tenant or a render");
    promtool(&["check", "metrics"], &text);

    let page = include_str!("../../../../docs/operate.md");
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(page.contains(&format!("`{name}")), "docs/operate.md does not explain {name}");
    }
    let told = names(&text);
    let rules = std::fs::read_to_string(prometheus().join("lastframe.rules.yml")).unwrap();
    for name in names(&rules) {
        assert!(told.contains(name), "an alert needs {name}, which is not among {told:?}");
    }
    // What is not there before it happens cannot be seen to rise.
    for channel in ["webhook", "email"] {
        for outcome in ["delivered", "retried", "failed"] {
            let series = format!("lastframe_deliveries_total{{channel=\"{channel}\",outcome=\"{outcome}\"}}");
            assert_eq!(value(&text, &series), 0.0, "{series}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_are_for_who_may_read_them() {
    let server = Server::without_site("").await;
    let other = server.token_of("default", &["renders:read", "renders:write", "sites:write"]).await;
    assert_eq!(figures(&server, &other).await.status(), 403);
    assert_eq!(figures(&server, "nonsense").await.status(), 401);
    assert_eq!(figures(&server, &server.token).await.status(), 200);
    let reader = server.token_of("default", &["metrics:read"]).await;
    let renders = server.request_with(&reader, reqwest::Method::GET, "/v1/renders").send().await.unwrap();
    assert_eq!(renders.json::<Value>().await.unwrap()["code"], "scope_missing");
}

#[test]
fn the_alert_rules_speak_when_they_should() {
    promtool(&["check", "rules", "lastframe.rules.yml"], "");
    promtool(&["test", "rules", "lastframe.rules.test.yml"], "");
    promtool(&["check", "config", "--syntax-only", "prometheus.yml"], "");
}
