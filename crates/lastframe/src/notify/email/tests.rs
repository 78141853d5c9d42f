use lastframe_core::notice::{Channel, Notice};
use lastframe_core::outbox::{Delivery, DeliveryId, DeliveryStatus, Ended};
use lastframe_core::{Failure, Kind, ManualClock, Output, RenderId, RenderRequest, TenantId};

use super::*;
use crate::config::MailTls;

fn now() -> Timestamp {
    "2026-03-01T12:00:30Z".parse().unwrap()
}

fn render() -> RenderId {
    RenderId::generate(now(), &mut fastrand::Rng::with_seed(1))
}

fn due(composition: &str, status: Status) -> Due {
    let ended = Ended {
        status,
        error: (status == Status::Failed).then(|| Failure::new("component_error", "Boom", false)),
        output: (status == Status::Succeeded).then(|| Output {
            key: "id/1.mp4".into(),
            size_in_bytes: 1_234_567,
            content_type: "video/mp4".into(),
            frame_count: Some(150),
            width: Some(1_920),
            height: Some(1_080),
            duration_in_seconds: Some(5.0),
            ..Output::default()
        }),
        created_at: "2026-03-01T12:00:00Z".parse().unwrap(),
        started_at: Some("2026-03-01T12:00:18Z".parse().unwrap()),
        finished_at: now(),
        kind: Kind::Media,
    };
    Due {
        delivery: Delivery {
            id: DeliveryId(7),
            render: render(),
            tenant: TenantId::new("ann"),
            channel: Channel::Email,
            endpoint: "example.com".into(),
            status: DeliveryStatus::Pending,
            ended: status,
            created_at: now(),
            next_try_at: None,
            tries: 0,
        },
        token: 1,
        notice: Notice {
            channel: Channel::Email,
            target: "anna@example.com".into(),
            secret: None,
            custom_data: None,
        },
        secrets: Vec::new(),
        ended,
        request: RenderRequest {
            serve_url: "shop".into(),
            composition: composition.into(),
            ..RenderRequest::default()
        },
    }
}

fn link() -> Option<Link> {
    let url = "https://renders.example/o/1?expires=2&signature=a".into();
    Some(Link { url, until: "2026-03-08T12:00:30Z".parse().unwrap() })
}

fn sender() -> Sender {
    let config = Email {
        host: "127.0.0.1".into(),
        port: 1,
        tls: MailTls::None,
        ca: None,
        login: None,
        from: "Renders <renders@example.org>".parse().unwrap(),
        reply_to: Some("help@example.org".parse().unwrap()),
        timeout: Duration::from_secs(1),
    };
    Sender::open(&config, "https://renders.example", Arc::new(ManualClock::new(now()))).unwrap()
}

/// The mail as it goes over the wire, without the picture.
fn mail(due: &Due) -> String {
    let to = recipient(&due.notice.target).unwrap();
    let letter = Letter::new(due, link().filter(|_| due.ended.status == Status::Succeeded));
    let message = sender().message(&to, &name(&due.delivery), &letter, None).unwrap();
    String::from_utf8(message.formatted()).unwrap()
}

#[test]
fn a_letter_says_what_was_made_and_how_long_it_took() {
    let letter = Letter::new(&due("chart", Status::Succeeded), link());
    let text = letter.text();
    assert_eq!(letter.subject, "chart is ready");
    for said in [
        "All 150 frames",
        "1920 × 1080",
        "0:05, 150 frames",
        "1.2 MB",
        "12 s, after 18 s in the queue",
        "https://renders.example/o/1?expires=2&signature=a",
        "good until 8 March 2026, 12:00 UTC",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let html = html::html(&letter, true);
    assert!(html.contains("href=\"https://renders.example/o/1?expires=2&amp;signature=a\""), "{html}");
    assert!(html.contains("src=\"cid:poster@lastframe\""), "{html}");
    assert_eq!(html.matches("http").count(), 2, "nothing is fetched, and only the output is linked to");
}

#[test]
fn a_letter_about_a_failure_says_why_and_what_to_do() {
    let letter = Letter::new(&due("chart", Status::Failed), None);
    assert_eq!(letter.subject, "chart failed: Boom");
    let text = letter.text();
    for said in
        ["component_error", "  | Boom", "it is the project's code", "lastframe retry", "Another go fails"]
    {
        assert!(text.contains(said), "{said}: {text}");
    }
    let cancelled = Letter::new(&due("chart", Status::Cancelled), None);
    assert_eq!(cancelled.subject, "chart was cancelled");
    assert!(cancelled.text().contains("lastframe retry"));
}

#[test]
fn a_mail_has_the_headers_of_one_that_no_robot_answers() {
    let mail = mail(&due("chart", Status::Succeeded));
    for header in [
        "From: Renders <renders@example.org>\r\n",
        "To: anna@example.com\r\n",
        "Reply-To: help@example.org\r\n",
        "Subject: chart is ready\r\n",
        "Date: Sun, 01 Mar 2026 12:00:30 +0000\r\n",
        "Auto-Submitted: auto-generated\r\n",
    ] {
        assert!(mail.contains(header), "{header}: {mail}");
    }
    let id = format!("Message-ID: <dlv_{}_7@example.org>\r\n", render().to_string().replace('-', ""));
    assert!(mail.contains(&id), "{mail}");
}

#[test]
fn names_of_strangers_add_no_header_no_line_and_no_html() {
    for name in [
        "x\r\nBcc: eve@example.net\r\n\r\nhello",
        "<script>alert(1)</script><img src=x onerror=y>",
        "\u{202e}gnp.exe\u{2028}Subject: no",
        "=?utf-8?q?=0D=0ABcc:=20eve=40example.net?=",
        &"ü".repeat(5_000),
    ] {
        for status in [Status::Succeeded, Status::Failed, Status::Cancelled] {
            let mut due = due(name, status);
            if let Some(error) = &mut due.ended.error {
                error.message = format!("{name}\r\n.\r\nMAIL FROM:<eve@example.net>");
                error.code = name.to_owned();
            }
            let mail = mail(&due);
            let (head, _) = mail.split_once("\r\n\r\n").unwrap();
            let names: Vec<_> =
                head.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
            assert!(!head.to_ascii_lowercase().contains("\nbcc"), "{head}");
            assert_eq!(names.iter().filter(|name| **name == "Subject").count(), 1, "{head}");
            assert!(mail.is_ascii() && mail.lines().all(|line| line.len() <= 998), "{mail}");
            let letter = Letter::new(&due, None);
            let html = html::html(&letter, true);
            assert!(!html.contains("<script") && !html.contains("<img src=x"), "{html}");
            assert!(
                !letter.subject.contains(['\r', '\n', '\u{202e}']) && letter.subject.chars().count() <= 200
            );
        }
    }
}

#[test]
fn an_address_is_written_as_mail_servers_read_it() {
    assert_eq!(recipient("anna@exämple.de").unwrap().to_string(), "anna@xn--exmple-cua.de");
    assert_eq!(recipient("jürgen@example.de").unwrap().to_string(), "jürgen@example.de");
    recipient("anna").unwrap_err();
}
