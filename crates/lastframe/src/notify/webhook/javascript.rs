//! JSON as JavaScript writes it: `JSON.stringify(JSON.parse(text))` gives the text again.
//!
//! Remotion's own receivers sign what they have parsed, so the bytes that are sent must survive that.

use std::io;

use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer as JsonSerializer};

/// The value as JavaScript writes it.
///
/// # Errors
/// None that can happen: everything in a [`Value`] can be written.
pub(crate) fn stringify(value: &Value) -> serde_json::Result<String> {
    let mut text = Vec::new();
    Ordered(value).serialize(&mut JsonSerializer::with_formatter(&mut text, JavaScript))?;
    String::from_utf8(text).map_err(serde::ser::Error::custom)
}

/// Numbers as JavaScript has them, each of which is a double. Its texts are those of `serde_json`: raw but for quotes,
/// backslashes and control characters.
struct JavaScript;

impl JavaScript {
    fn write<W: io::Write + ?Sized>(writer: &mut W, number: f64) -> io::Result<()> {
        writer.write_all(ryu_js::Buffer::new().format_finite(number).as_bytes())
    }
}

impl Formatter for JavaScript {
    fn write_f64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        Self::write(writer, value)
    }

    fn write_i64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: i64) -> io::Result<()> {
        Self::write(writer, value as f64)
    }

    fn write_u64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        Self::write(writer, value as f64)
    }
}

/// A value whose keys come in the order that an object of JavaScript has them: those that are indices first, by number.
/// `__proto__` is a key like any other to `JSON.parse`.
struct Ordered<'a>(&'a Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Array(items) => serializer.collect_seq(items.iter().map(Ordered)),
            Value::Object(fields) => {
                let mut indices: Vec<_> =
                    fields.iter().filter_map(|field| Some((index(field.0)?, field))).collect();
                indices.sort_by_key(|(index, _)| *index);
                let others = fields.iter().filter(|(key, _)| index(key).is_none());
                let all = indices.into_iter().map(|(_, field)| field).chain(others);
                serializer.collect_map(all.map(|(key, value)| (key, Ordered(value))))
            }
            plain => plain.serialize(serializer),
        }
    }
}

/// The index that a key is, written in the one way that counts.
fn index(key: &str) -> Option<u32> {
    let canonical = key == "0" || (key.bytes().all(|byte| byte.is_ascii_digit()) && !key.starts_with('0'));
    key.parse().ok().filter(|index| canonical && *index < u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_and_keys_are_as_javascript_has_them() {
        for (text, expected) in [
            ("1.0", "1"),
            ("-0.0", "0"),
            ("-0", "0"),
            ("1e21", "1e+21"),
            ("100000000000000000000", "100000000000000000000"),
            ("0.000001", "0.000001"),
            ("1e-7", "1e-7"),
            ("9007199254740993", "9007199254740992"),
            ("18446744073709551615", "18446744073709552000"),
            ("-9223372036854775808", "-9223372036854776000"),
            (r#"{"b":1,"2":1,"a":1,"10":1,"01":1,"-1":1}"#, r#"{"2":1,"10":1,"b":1,"a":1,"01":1,"-1":1}"#),
            (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
            (r#"{"__proto__":{"x":1},"constructor":null}"#, r#"{"__proto__":{"x":1},"constructor":null}"#),
            (r#""\u00e9\u2028\/\u007f\u001f\b""#, "\"é\u{2028}/\u{7f}\\u001f\\b\""),
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(stringify(&value).unwrap(), expected, "{text}");
        }
    }

    /// Odd values, the same each time.
    struct Odd(fastrand::Rng);

    impl Odd {
        fn number(&mut self) -> Value {
            let rng = &mut self.0;
            match rng.u8(..6) {
                0 => json!(rng.u64(..)),
                1 => json!(rng.i64(..)),
                2 => json!(rng.i16(..)),
                3 => json!(f64::from(rng.i32(..)) / 1e3),
                4 => json!(10_f64.powi(rng.i32(-320..308)) * rng.f64()),
                _ => Some(f64::from_bits(rng.u64(..))).filter(|number| number.is_finite()).into(),
            }
        }

        fn text(&mut self) -> String {
            const PARTS: [&str; 16] = [
                "a",
                "\"",
                "\\",
                "/",
                "\n",
                "\u{0}",
                "\u{1f}",
                "\u{7f}",
                "é",
                "\u{2028}",
                "\u{2029}",
                "\u{feff}",
                "\u{ffff}",
                "😀",
                "</script>",
                "\u{85}",
            ];
            (0..self.0.u8(..6)).map(|_| PARTS[self.0.usize(..PARTS.len())]).collect()
        }

        fn key(&mut self) -> String {
            const KEYS: [&str; 14] = [
                "0",
                "00",
                "1",
                "01",
                "-1",
                "1.5",
                "4294967293",
                "4294967294",
                "4294967295",
                "4294967296",
                "__proto__",
                "toString",
                "9007199254740992",
                "",
            ];
            match self.0.u8(..3) {
                0 => KEYS[self.0.usize(..KEYS.len())].to_owned(),
                1 => self.0.u32(..200).to_string(),
                _ => self.text(),
            }
        }

        fn value(&mut self, depth: u8) -> Value {
            match self.0.u8(..if depth == 0 { 4 } else { 8 }) {
                0 => self.number(),
                1 | 2 => self.text().into(),
                3 => [Value::Null, true.into(), false.into()][self.0.usize(..3)].clone(),
                4 => (0..self.0.u8(..5)).map(|_| self.value(depth - 1)).collect(),
                _ => {
                    Value::Object((0..self.0.u8(..7)).map(|_| (self.key(), self.value(depth - 1))).collect())
                }
            }
        }
    }

    #[test]
    fn what_node_parses_it_writes_again_byte_for_byte() {
        let mut odd = Odd(fastrand::Rng::with_seed(7));
        let texts: Vec<_> = (0..2_000).map(|_| stringify(&odd.value(4)).unwrap()).collect();
        let script = "const lines = require('fs').readFileSync(0, 'utf8').split('\\n').filter(Boolean);
            const odd = lines.filter((line) => JSON.stringify(JSON.parse(line)) !== line);
            console.log(JSON.stringify([lines.length, odd.slice(0, 3)]));";
        let node =
            Command::new("node").args(["-e", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut node = node.expect("node is installed");
        node.stdin.take().unwrap().write_all(texts.join("\n").as_bytes()).unwrap();
        let said = String::from_utf8(node.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(said.trim(), format!("[{},[]]", texts.len()));
    }
}
