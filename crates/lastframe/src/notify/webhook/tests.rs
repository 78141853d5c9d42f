use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::header::LOCATION;
use axum::routing::any;
use futures_util::FutureExt as _;
use lastframe_core::notice::{Channel, Notice};
use lastframe_core::outbox::{Delivery, DeliveryId, DeliveryStatus, Ended, Secret};
use lastframe_core::props::Fields;
use lastframe_core::{Failure, Kind, ManualClock, Output, RenderId, RenderRequest, Status, TenantId};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::reach::Lookup;
use super::*;
use crate::data::DataFolder;

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Another address of this machine that is no more public.
const THERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

pub(in crate::notify) fn due(url: &str) -> Due {
    let now = Timestamp::UNIX_EPOCH;
    let body = json!({"serveUrl": "test", "composition": "tiny"}).to_string();
    let (request, _) = RenderRequest::parse(Fields::read(body.as_bytes()).unwrap(), Kind::Media).unwrap();
    Due {
        delivery: Delivery {
            id: DeliveryId(7),
            render: RenderId::generate(now, &mut fastrand::Rng::with_seed(1)),
            tenant: TenantId::new("acme"),
            channel: Channel::Webhook,
            endpoint: "host:1".into(),
            status: DeliveryStatus::Pending,
            ended: Status::Cancelled,
            created_at: now,
            next_try_at: Some(now),
            tries: 0,
        },
        token: 1,
        notice: Notice { channel: Channel::Webhook, target: url.into(), secret: None, custom_data: None },
        secrets: vec![Secret("s3cret".into())],
        ended: Ended {
            status: Status::Cancelled,
            error: None,
            output: None,
            created_at: now,
            started_at: None,
            finished_at: now,
            kind: Kind::Media,
        },
        request,
    }
}

/// A courier under these rules of the configuration.
fn courier(allow: &[&str], lookup: impl Lookup + 'static) -> WebhookCourier {
    let data = tempfile::tempdir().unwrap();
    let links =
        Links::open(&DataFolder::open(data.path()).unwrap(), "https://renders.example".into()).unwrap();
    let allow_hosts = allow.iter().map(|rule| rule.parse().unwrap()).collect();
    let rules = Webhooks { allow_private: false, allow_hosts };
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let mut courier = WebhookCourier::new(rules, links, Duration::from_secs(60), None, clock).unwrap();
    courier.reach.lookup = Arc::new(lookup);
    courier
}

/// A name server that says something else every time.
#[derive(Debug)]
struct Rebinding(Vec<Vec<Ipv4Addr>>, AtomicUsize);

impl Rebinding {
    fn to<const N: usize>(answers: [&[Ipv4Addr]; N]) -> Self {
        Self(answers.iter().map(|answer| answer.to_vec()).collect(), AtomicUsize::new(0))
    }
}

#[async_trait]
impl Lookup for Rebinding {
    async fn lookup(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let answer = &self.0[self.1.fetch_add(1, Ordering::Relaxed)];
        Ok(answer.iter().map(|address| (*address).into()).collect())
    }
}

async fn listen(address: Ipv4Addr, port: u16) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((address, port)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn serve(listener: TcpListener, router: Router) {
    tokio::spawn(async move { axum::serve(listener, router).await });
}

/// Whether nobody has connected.
fn is_untouched(listener: &TcpListener) -> bool {
    listener.accept().now_or_never().is_none()
}

fn error(told: Told) -> String {
    match told {
        Told::Retry { error, .. } => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_the_next_time_is_not_followed_there() {
    let (here, address) = listen(HERE, 0).await;
    let (there, _) = listen(THERE, address.port()).await;
    serve(here, Router::new().fallback(any(async || "")));
    let answers = Rebinding::to([&[HERE], &[THERE], &[THERE, HERE], &[]]);
    let courier = courier(&["127.0.0.1"], answers);
    let due = due(&format!("http://rebinding.example:{}/", address.port()));
    assert_eq!(courier.deliver(&due).await, Told::Delivered { code: Some(200) });
    let refused = error(courier.deliver(&due).await);
    assert!(refused.contains("rebinding.example is not on the public Internet"), "{refused}");
    assert!(refused.contains("`allow_hosts`") && !refused.contains("127.0.0"), "{refused}");
    assert_eq!(
        courier.deliver(&due).await,
        Told::Delivered { code: Some(200) },
        "by the address that may be"
    );
    assert!(error(courier.deliver(&due).await).contains("not on the public"));
    assert!(is_untouched(&there));
}

#[tokio::test]
async fn an_address_that_is_not_public_is_refused_however_it_is_written() {
    let (listener, address) = listen(HERE, 0).await;
    let port = address.port();
    let courier = courier(&["127.0.0.1:1", "media.internal"], System);
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.0.0.1.",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "localhost",
        "169.254.169.254",
        "10.0.0.1",
    ] {
        let refused = error(courier.deliver(&due(&format!("http://{host}:{port}/"))).await);
        assert!(refused.contains("is not on the public Internet"), "{host}: {refused}");
    }
    assert!(is_untouched(&listener));
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let (secret, private) = listen(HERE, 0).await;
    let (listener, address) = listen(HERE, 0).await;
    let location = format!("http://{private}/");
    serve(
        listener,
        Router::new().fallback(any(async move || (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location)]))),
    );
    let courier = courier(&["127.0.0.0/8"], System);
    let said = error(courier.deliver(&due(&format!("http://{address}/"))).await);
    assert_eq!(said, "answered 307; redirects are not followed");
    assert!(is_untouched(&secret));
}

#[tokio::test]
async fn what_a_receiver_answers_decides_and_nothing_it_does_takes_long() {
    let answering = |status: u16, header: Option<&'static str>| {
        let headers = header.map(|value| (RETRY_AFTER, value));
        any(async move || (StatusCode::from_u16(status).unwrap(), axum::response::AppendHeaders(headers)))
    };
    let endless = async || {
        let chunks = futures_util::stream::repeat(Ok::<_, std::convert::Infallible>(vec![0_u8; 64 << 10]));
        axum::body::Body::from_stream(chunks)
    };
    let router = Router::new()
        .route("/204", answering(204, None))
        .route("/410", answering(410, None))
        .route("/500", answering(500, None))
        .route("/429", answering(429, Some("120")))
        .route("/503", answering(503, Some("Thu, 01 Jan 1970 00:01:40 GMT")))
        .route("/endless", any(endless))
        .route("/hang", any(async || std::future::pending::<()>().await));
    let (listener, address) = listen(HERE, 0).await;
    serve(listener, router);
    let (closing, closed) = listen(HERE, 0).await;
    tokio::spawn(async move { while closing.accept().await.is_ok() {} });
    let mut courier = courier(&["127.0.0.1"], System);
    let deliver =
        async |path: &str| courier.deliver(&due(&format!("http://{address}{path}?token=T0K3N"))).await;
    let retry = |code, error: &str, after: Option<u64>| Told::Retry {
        code,
        error: error.into(),
        after: after.map(Duration::from_secs),
    };
    assert_eq!(deliver("/204").await, Told::Delivered { code: Some(204) });
    assert!(matches!(deliver("/410").await, Told::Refused { code: Some(410), .. }));
    assert_eq!(deliver("/500").await, retry(Some(500), "answered 500", None));
    assert_eq!(deliver("/429").await, retry(Some(429), "answered 429", Some(120)));
    assert_eq!(deliver("/503").await, retry(Some(503), "answered 503", Some(100)), "a date, seen from 1970");
    assert_eq!(deliver("/endless").await, Told::Delivered { code: Some(200) }, "and read no further");
    let broken = error(courier.deliver(&due(&format!("http://{closed}/?token=T0K3N"))).await);
    assert!(broken.starts_with("the answer broke off: ") && !broken.contains("T0K3N"), "{broken}");
    let (unused, nobody) = listen(HERE, 0).await;
    drop(unused);
    let refused = error(courier.deliver(&due(&format!("http://{nobody}/?token=T0K3N"))).await);
    assert!(refused.starts_with("cannot connect: ") && !refused.contains("T0K3N"), "{refused}");
    courier.timeout = Duration::from_millis(50);
    let hung = error(courier.deliver(&due(&format!("http://{address}/hang"))).await);
    assert!(hung.starts_with("no answer within"), "{hung}");
}

/// Takes what comes by TLS, and answers 204.
fn serve_tls(listener: TcpListener, name: &str) -> rustls::pki_types::CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                assert!(stream.read(&mut [0; 4_096]).await.is_ok_and(|read| read > 0));
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            }
        }
    });
    certificate
}

#[tokio::test]
async fn a_certificate_must_be_trusted_and_have_the_name_in_the_url() {
    let (listener, address) = listen(HERE, 0).await;
    let certificate = serve_tls(listener, "hooks.example");
    let answers = Rebinding::to([&[HERE], &[HERE], &[HERE]]);
    let mut courier = courier(&["127.0.0.1"], answers);
    let url = |name: &str| due(&format!("https://{name}:{}/", address.port()));
    let untrusted = error(courier.deliver(&url("hooks.example")).await);
    assert!(untrusted.starts_with("cannot connect: invalid peer certificate"), "{untrusted}");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    courier.tls = tls.with_root_certificates(roots).with_no_client_auth();
    assert_eq!(courier.deliver(&url("hooks.example")).await, Told::Delivered { code: Some(204) });
    let other = error(courier.deliver(&url("other.example")).await);
    assert!(other.starts_with("cannot connect: invalid peer certificate"), "{other}");
}

#[test]
fn bodies_have_the_fields_of_remotions_in_their_order() {
    let body = |change: &dyn Fn(&mut Due)| {
        let mut due = due("https://example.com");
        change(&mut due);
        let body = payload(&due, "lastframe", |output| format!("https://renders.example/{}", output.key));
        javascript::stringify(&body).unwrap()
    };
    let id = due("https://x").delivery.render;
    let head = |kind: &str, bucket: &str, data: &str| {
        format!(
            r#"{{"type":"{kind}","renderId":"{id}","expectedBucketOwner":"","bucketName":"{bucket}","customData":{data}"#
        )
    };
    assert_eq!(
        body(&|_| ()),
        head("error", "lastframe", "null")
            + r#","errors":[{"message":"The render was cancelled","name":"CancelledError","stack":"CancelledError: The render was cancelled"}]}"#
    );
    let failed = |code: &str| Failure { name: "TypeError".into(), ..Failure::new(code, "no \"ö\"", false) };
    let fails = |due: &mut Due, code: &str| {
        due.ended.status = Status::Failed;
        due.ended.error = Some(failed(code));
        due.notice.custom_data = json!({"b": 1.0, "1": "é"}).as_object().cloned();
    };
    assert_eq!(
        body(&|due| fails(due, "render_failed")),
        head("error", "lastframe", r#"{"1":"é","b":1}"#)
            + r#","errors":[{"message":"no \"ö\"","name":"TypeError","stack":"TypeError: no \"ö\""}]}"#
    );
    assert_eq!(
        body(&|due| fails(due, "render_timeout")),
        head("timeout", "lastframe", r#"{"1":"é","b":1}"#) + "}"
    );
    let succeeded = body(&|due| {
        due.ended.status = Status::Succeeded;
        due.ended.output = Some(Output { key: "s3://films/x/1.mp4".into(), ..Output::default() });
        due.ended.started_at = Some(Timestamp::UNIX_EPOCH);
        due.ended.finished_at = Timestamp::from_millisecond(1_234).unwrap();
    });
    let link = "https://renders.example/s3://films/x/1.mp4";
    let rest = format!(
        r#","outputUrl":"{link}","lambdaErrors":[],"outputFile":"{link}","timeToFinish":1234,"costs":{{"estimatedCost":0,"#
    );
    assert!(succeeded.starts_with(&(head("success", "films", "null") + &rest)), "{succeeded}");
}

#[test]
fn headers_are_remotions_and_those_of_standard_webhooks() {
    let at = Timestamp::from_second(1_000).unwrap();
    let mut due = due("https://example.com");
    let (headers, _) = signed(&due, &json!({}), at).unwrap();
    let header =
        |headers: &HeaderMap, name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let id = format!("dlv_{}_7", due.delivery.render.to_string().replace('-', ""));
    for (name, value) in [
        ("content-type", "application/json"),
        ("x-remotion-mode", "production"),
        ("x-remotion-status", "error"),
        ("webhook-id", &id),
        ("webhook-timestamp", "1000"),
    ] {
        assert_eq!(header(&headers, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(header(&headers, "x-remotion-signature").unwrap().len(), "sha512=".len() + 128);
    assert!(header(&headers, "webhook-signature").unwrap().starts_with("v1,"));
    due.secrets.clear();
    let (headers, _) = signed(&due, &json!({}), at).unwrap();
    assert_eq!(header(&headers, "x-remotion-signature").as_deref(), Some("NO_SECRET_PROVIDED"));
    assert_eq!(header(&headers, "webhook-signature"), None);
}
