//! docs/options.md says of every option of Remotion what becomes of it, and says what is so.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]

use std::collections::BTreeMap;

use lastframe_core::props::{BodyError, Fields};
use lastframe_core::{Kind, RenderRequest};
use serde_json::{Map, Value, json};

const TABLE: &str = include_str!("../../../docs/options.md");
/// The options that Remotion's own types have, by function.
const REMOTIONS: &str = include_str!("remotion-options.json");

struct Row {
    example: String,
    media: String,
    still: String,
}

/// The rows of the table, by option.
fn rows() -> BTreeMap<String, Row> {
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let rows = TABLE.lines().filter(|line| line.starts_with("| `")).map(|line| {
        let cells = cells(line);
        let plain = |index: usize| cells[index].trim_matches('`').to_owned();
        (plain(1), Row { example: plain(2), media: plain(3), still: plain(4) })
    });
    rows.collect()
}

fn functions() -> Map<String, Value> {
    let mut functions: Map<String, Value> = serde_json::from_str(REMOTIONS).unwrap();
    functions.remove("source");
    functions
}

#[test]
fn every_option_of_remotion_is_in_the_table() {
    let rows = rows();
    for (function, options) in functions() {
        for option in options.as_array().unwrap() {
            let option = option.as_str().unwrap();
            assert!(rows.contains_key(option), "{option} of {function}() is missing");
        }
    }
}

/// What the parser makes of an option: a word of the table.
fn verdict(option: &str, example: &str, kind: Kind) -> String {
    let mut body: Map<String, Value> = serde_json::from_str(&format!("{{{example}}}")).unwrap();
    for (name, value) in [("composition", "main"), ("serveUrl", "site")] {
        body.entry(name).or_insert_with(|| json!(value));
    }
    let body = Value::Object(body).to_string();
    match Fields::read(body.as_bytes()).and_then(|fields| RenderRequest::parse(fields, kind)) {
        Ok((request, ignored)) => {
            let kept = serde_json::to_value(&request).unwrap();
            match (kept.get(option).is_some(), ignored.iter().any(|name| name == option)) {
                (true, false) => "honoured".into(),
                (false, true) => "ignored".into(),
                (true, true) => "on Lambda".into(),
                other => panic!("{option} is (kept, ignored) = {other:?}"),
            }
        }
        Err(BodyError::Invalid(errors)) => {
            let named = errors.iter().any(|error| error.pointer == format!("/{option}"));
            assert!(named, "{option} is refused by another name: {errors:?}");
            "refused".into()
        }
        Err(BodyError::NotJson(why)) => panic!("{option}: {why}"),
    }
}

#[test]
fn the_table_says_what_is_so() {
    for (option, row) in rows() {
        for (kind, said) in [(Kind::Media, &row.media), (Kind::Still, &row.still)] {
            // For a still, what only goes with the option in a video is left out.
            let alone: Map<String, Value> = serde_json::from_str(&format!("{{{}}}", row.example)).unwrap();
            let example = match kind {
                Kind::Still if *said == "refused" => format!("\"{option}\": {}", alone[&option]),
                _ => row.example.clone(),
            };
            assert_eq!(&verdict(&option, &example, kind), said, "{option} for {kind:?}");
        }
    }
}

#[test]
fn what_is_honoured_reaches_remotion_unless_it_is_for_lastframe_to_do() {
    for (option, row) in rows() {
        for (kind, said) in [(Kind::Media, &row.media), (Kind::Still, &row.still)] {
            const LASTFRAMES: [&str; 4] = ["outName", "downloadBehavior", "deleteAfter", "webhook"];
            if said != "honoured" || LASTFRAMES.contains(&option.as_str()) {
                continue;
            }
            let mut body: Map<String, Value> = serde_json::from_str(&format!("{{{}}}", row.example)).unwrap();
            for (name, value) in [("composition", "main"), ("serveUrl", "site")] {
                body.entry(name).or_insert_with(|| json!(value));
            }
            let text = Value::Object(body.clone()).to_string();
            let (request, _) = RenderRequest::parse(Fields::read(text.as_bytes()).unwrap(), kind).unwrap();
            let given = serde_json::to_value(request.for_remotion(kind)).unwrap();
            let same = match (given[&option].as_f64(), body[&option].as_f64()) {
                (Some(given), Some(asked)) => given == asked,
                _ => given[&option] == body[&option],
            };
            assert!(same, "{option}: {} became {}", body[&option], given[&option]);
        }
    }
}
