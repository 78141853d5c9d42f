//! What a mail says, once: `text` and `html` write the same letter down in two ways.
//!
//! Names and messages come from strangers. They are plain text everywhere: bounded, on one line where a line is meant, and
//! escaped in HTML.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lastframe_core::outbox::{Due, Ended};
use lastframe_core::{Failure, Kind, Output, RenderId, Status};

/// The longest name of a composition in a line, in characters.
const NAME: usize = 80;
/// The longest reason of a failure in a subject, in characters.
const REASON_IN_SUBJECT: usize = 100;
/// The longest reason of a failure, in characters.
const REASON: usize = 1_200;

/// A mail, before it is written down.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Letter {
    pub(super) subject: String,
    pub(super) outcome: Status,
    pub(super) title: String,
    pub(super) lead: String,
    /// What the render said when it failed.
    pub(super) reason: Option<Reason>,
    pub(super) button: Option<Button>,
    /// What is known of it, by name.
    pub(super) facts: Vec<(&'static str, String)>,
    /// What else there is to know.
    pub(super) notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reason {
    pub(super) code: String,
    pub(super) message: String,
    /// What it means, and what to do about it.
    pub(super) advice: Option<(String, String)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Button {
    pub(super) label: &'static str,
    pub(super) url: String,
}

/// A link to an output.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) url: String,
    pub(super) until: Timestamp,
}

impl Letter {
    /// About a render that has ended, with a link to its output where it has one.
    pub(super) fn new(due: &Due, link: Option<Link>) -> Self {
        let (ended, id) = (&due.ended, due.delivery.render);
        let name = one_line(&due.request.composition, NAME);
        let mut facts = Vec::new();
        let mut letter = match (ended.status, &ended.output, &ended.error) {
            (Status::Succeeded, Some(output), _) => succeeded(&name, ended, output, &mut facts),
            (Status::Cancelled, ..) => Self {
                title: format!("{name} was cancelled"),
                lead: "Somebody stopped it before it was done, so there is no file.".into(),
                ..Self::empty(Status::Cancelled)
            },
            (_, _, error) => failed(&name, error.as_ref()),
        };
        facts.push(("Site", one_line(&due.request.serve_url, NAME)));
        facts.push(("Ended", moment(ended.finished_at)));
        facts.push(("Render", id.to_string()));
        letter.facts = facts;
        if letter.subject.is_empty() {
            letter.subject = letter.title.clone();
        }
        match link {
            Some(Link { url, until }) => {
                letter.button = Some(Button { label: label(ended), url });
                letter.notes.push(format!(
                    "The link is good until {}, for everybody who has it: pass this mail on with care.",
                    moment(until)
                ));
            }
            None if ended.status != Status::Succeeded => letter.notes.extend(another_go(id)),
            None => letter
                .notes
                .push("The file is gone by now: it was kept for as long as the request says.".into()),
        }
        letter
    }

    fn empty(outcome: Status) -> Self {
        Self {
            subject: String::new(),
            outcome,
            title: String::new(),
            lead: String::new(),
            reason: None,
            button: None,
            facts: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// One line for a test of the settings.
    pub(super) fn test(server: &str, now: Timestamp) -> Self {
        Self {
            subject: "Lastframe can send mail".into(),
            title: "Lastframe can send mail".into(),
            lead: "This is the mail that `lastframe doctor --mail-to` sends. Nothing is to be done.".into(),
            facts: vec![("Server", one_line(server, NAME)), ("Sent", moment(now))],
            ..Self::empty(Status::Succeeded)
        }
    }
}

fn succeeded(name: &str, ended: &Ended, output: &Output, facts: &mut Vec<(&'static str, String)>) -> Letter {
    if let (Some(width), Some(height)) = (output.width, output.height) {
        facts.push(("Picture", format!("{width} × {height}")));
    }
    if let Some(seconds) = output.duration_in_seconds.filter(|_| ended.kind == Kind::Media) {
        let frames = output.frame_count.map(|frames| format!(", {frames} frames")).unwrap_or_default();
        facts.push(("Length", format!("{}{frames}", clock_face(seconds))));
    }
    facts.push(("Size", size(output.size_in_bytes)));
    let since =
        |from: Timestamp| Duration::try_from(ended.finished_at.duration_since(from)).unwrap_or_default();
    let (all, started) = (since(ended.created_at), ended.started_at.unwrap_or(ended.created_at));
    let rendering = since(started);
    let waited = all.saturating_sub(rendering);
    let after = if waited >= Duration::from_secs(1) {
        format!(", after {} in the queue", spoken(waited))
    } else {
        String::new()
    };
    facts.push(("Took", format!("{}{after}", spoken(rendering))));
    let lead = match (ended.kind, output.frame_count) {
        (Kind::Media, Some(frames)) if frames != 1 => {
            format!("All {frames} frames of it are there, counted in the file.")
        }
        _ => "The file is whole.".to_owned(),
    };
    Letter { title: format!("{name} is ready"), lead, ..Letter::empty(Status::Succeeded) }
}

fn failed(name: &str, error: Option<&Failure>) -> Letter {
    let unknown = Failure::new("internal", "it is not known why", true);
    let error = error.unwrap_or(&unknown);
    let first = error.message.lines().find(|line| !line.trim().is_empty()).unwrap_or(&error.code);
    let lead = if error.retryable {
        "It was tried as often as it may be, and failed each time. Faults of this kind may pass: another go may help."
    } else {
        "Another go fails in the same way, until what is wrong is put right."
    };
    Letter {
        subject: format!("{name} failed: {}", one_line(first, REASON_IN_SUBJECT)),
        title: format!("{name} failed"),
        lead: lead.into(),
        reason: Some(Reason {
            code: one_line(&error.code, NAME),
            message: bounded(&plain(&error.message, true), REASON),
            advice: super::advice::of(&error.code),
        }),
        ..Letter::empty(Status::Failed)
    }
}

fn another_go(id: RenderId) -> [String; 2] {
    [format!("Its log: `lastframe logs {id}`"), format!("Another go: `lastframe retry {id}`")]
}

fn label(ended: &Ended) -> &'static str {
    let kind = ended.output.as_ref().map_or("", |output| output.content_type.as_str());
    match kind.split('/').next() {
        Some("video") => "Watch the video",
        Some("image") => "See the picture",
        Some("audio") => "Listen to it",
        _ => "Open the file",
    }
}

/// Text without what would make a line of a mail say something else: ends of lines, and characters that turn the direction
/// of what is read.
fn plain(text: &str, lines: bool) -> String {
    let keep = |c: char| match c {
        '\n' if lines => Some('\n'),
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => None,
        '\u{2028}' | '\u{2029}' => Some(' '),
        c if c.is_control() => Some(' '),
        c => Some(c),
    };
    text.chars().filter_map(keep).collect::<String>().trim().to_owned()
}

fn bounded(text: &str, most: usize) -> String {
    if text.chars().nth(most).is_none() {
        return text.to_owned();
    }
    let cut: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", cut.trim_end())
}

fn one_line(text: &str, most: usize) -> String {
    let words = plain(text, false);
    bounded(&words.split_whitespace().collect::<Vec<_>>().join(" "), most)
}

fn moment(time: Timestamp) -> String {
    time.strftime("%-d %B %Y, %H:%M UTC").to_string()
}

/// `0:05`, `1:02:03`.
fn clock_face(seconds: f64) -> String {
    let tenths = SignedDuration::try_from_secs_f64((seconds * 10.0).round() / 10.0).unwrap_or_default();
    let (whole, rest) = (tenths.as_secs(), tenths.subsec_millis() / 100);
    let fraction = if rest == 0 { String::new() } else { format!(".{rest}") };
    let (hours, minutes, seconds) = (whole / 3_600, whole / 60 % 60, whole % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}{fraction}")
    } else {
        format!("{minutes}:{seconds:02}{fraction}")
    }
}

/// `0.8 s`, `12 s`, `3 min 5 s`, `2 h 10 min`.
fn spoken(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

/// `12 kB`, `3.4 MB`.
fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "it is rounded anyway")]
    let exact = bytes as f64;
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.0} kB", exact / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", exact / 1e6),
        _ => format!("{:.2} GB", exact / 1e9),
    }
}

impl Letter {
    /// For readers of text.
    pub(super) fn text(&self) -> String {
        let mut text =
            format!("{}\n{}\n\n{}\n", self.title, "=".repeat(self.title.chars().count().min(72)), self.lead);
        let mut line = |line: std::fmt::Arguments<'_>| text.push_str(&format!("{line}\n"));
        if let Some(Button { label, url }) = &self.button {
            line(format_args!("\n{label}:\n{url}"));
        }
        if let Some(Reason { code, message, advice }) = &self.reason {
            line(format_args!("\n{code}:"));
            for said in message.lines() {
                line(format_args!("  | {said}"));
            }
            if let Some((means, act)) = advice {
                line(format_args!("\nWhat it means: {means}\nWhat to do: {act}"));
            }
        }
        line(format_args!(""));
        for (name, value) in &self.facts {
            line(format_args!("{:<13}{value}", format!("{name}:")));
        }
        for note in &self.notes {
            line(format_args!("\n{note}"));
        }
        line(format_args!(
            "\n-- \nLastframe, the render queue. You get this because the render names your address."
        ));
        text
    }
}
