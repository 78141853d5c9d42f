//! What differs between two values, and the table of what may: `docs/CONFORMANCE.md`.

use std::cell::Cell;

use serde_json::Value;

/// One place where this crate and another client differ.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) place: String,
    pub(crate) ours: Value,
    pub(crate) theirs: Value,
}

/// Every place where two values differ. What is missing is not the same as `null`.
pub(crate) fn between(ours: &Value, theirs: &Value, place: &str, found: &mut Vec<Difference>) {
    let missing = Value::String("(missing)".to_owned());
    match (ours, theirs) {
        (Value::Object(one), Value::Object(other)) => {
            for (name, value) in one {
                between(value, other.get(name).unwrap_or(&missing), &format!("{place}/{name}"), found);
            }
            for (name, value) in other.iter().filter(|(name, _)| !one.contains_key(*name)) {
                between(&missing, value, &format!("{place}/{name}"), found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                between(one, other, &format!("{place}/{index}"), found);
            }
        }
        // JavaScript has one kind of number.
        (Value::Number(one), Value::Number(other)) if one.as_f64() == other.as_f64() => {}
        _ if ours == theirs => {}
        _ => found.push(Difference { place: place.to_owned(), ours: ours.clone(), theirs: theirs.clone() }),
    }
}

/// The rows of the table.
pub(crate) struct Table(Vec<Row>);

struct Row {
    client: String,
    calls: Vec<String>,
    places: Vec<String>,
    used: Cell<bool>,
}

impl Table {
    pub(crate) fn read() -> Self {
        let (_, table) =
            include_str!("../../docs/CONFORMANCE.md").split_once("| --- | --- | --- | --- |\n").unwrap();
        let row = |line: &str| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [client, calls, places, why] = cells[..] else { panic!("not four cells: {line}") };
            assert!(!why.is_empty(), "no reason: {line}");
            // Code is between every other pair of marks.
            let codes =
                |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
            Row {
                client: client.to_owned(),
                calls: codes(calls),
                places: codes(places),
                used: Cell::new(false),
            }
        };
        Self(table.lines().take_while(|line| line.starts_with('|')).map(row).collect())
    }

    /// Whether the table has it.
    pub(crate) fn has(&self, client: &str, case: &str, place: &str) -> bool {
        let any = |patterns: &[String], text: &str| patterns.iter().any(|pattern| fits(pattern, text));
        let mut rows = self
            .0
            .iter()
            .filter(|row| row.client == client && any(&row.calls, case) && any(&row.places, place));
        rows.next().inspect(|row| row.used.set(true)).is_some()
    }

    /// Rows that say nothing any more.
    pub(crate) fn stale(&self) -> Vec<String> {
        let stale = self.0.iter().filter(|row| !row.used.get());
        stale.map(|row| format!("{} {:?} {:?}", row.client, row.calls, row.places)).collect()
    }
}

/// Whether a text is of a pattern, where `*` is anything.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| fits(rest, &text[at..]))
        }),
    }
}

#[test]
fn patterns_fit() {
    for (pattern, text, expected) in [
        ("a/*", "a/b/c", true),
        ("a/*/c", "a/b/c", true),
        ("*c", "a/b/c", true),
        ("a/*/d", "a/b/c", false),
        ("a", "ab", false),
        ("a*", "a", true),
    ] {
        assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
    }
}
