//! Bodies that are wrong, each in a way of its own; the same ones for the same seed.

use serde_json::{Value, json};

pub(crate) struct Malformed {
    random: fastrand::Rng,
    made: usize,
}

/// Names of options, each with a value of a type that it never has.
const WRONG_TYPES: &[(&str, &str)] = &[
    ("serveUrl", "7"),
    ("serveUrl", "null"),
    ("composition", "[\"tiny\"]"),
    ("inputProps", "[]"),
    ("inputProps", "\"{}\""),
    ("codec", "\"h266\""),
    ("codec", "{}"),
    ("crf", "\"18\""),
    ("frameRange", "\"0-9\""),
    ("frameRange", "[0, 1, 2]"),
    ("frameRange", "[-1, 2]"),
    ("frameRange", "[1.5, 2]"),
    ("scale", "true"),
    ("muted", "1"),
    ("envVariables", "{\"A\": 1}"),
    ("metadata", "[]"),
    ("chromiumOptions", "{\"__proto__\": 1}"),
    ("chromiumOptions", "7"),
    ("queue", "[]"),
    ("queue", "{\"group\": 1}"),
    ("queue", "{\"group\": \"a\\u0000b\"}"),
    ("queue", "{\"maxAttempts\": -1}"),
    ("queue", "{\"runAt\": \"soon\"}"),
    ("queue", "{\"priority\": 1e300}"),
    ("downloadBehavior", "\"download\""),
    ("licenseKey", "{}"),
    ("dryRun", "\"yes\""),
    ("webhook", "{}"),
];

/// Numbers that nothing here can have.
const NUMBERS: &[&str] = &[
    "1e999",
    "-1e999",
    "1e308",
    "-1",
    "99999999999999999999999999",
    "0.1e-400",
    "18446744073709551616",
    "-0.0",
];
const NUMERIC: &[&str] =
    &["jpegQuality", "gopSize", "forceWidth", "everyNthFrame", "sampleRate", "timeoutInMilliseconds"];

/// What JavaScript finds in every object.
const PROTOTYPE: &[&str] =
    &["__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "valueOf", "__defineGetter__"];

impl Malformed {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), made: 0 }
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.random.usize(..from.len())]
    }

    fn good(&mut self) -> Value {
        json!({
            "serveUrl": "test",
            "composition": "tiny",
            "inputProps": {"text": "x".repeat(self.random.usize(..40)), "list": [1, {"a": null}]},
            "frameRange": [0, self.random.u8(..9)],
            "metadata": {"title": "t"},
        })
    }

    /// A good body but for this.
    fn with(&mut self, name: &str, value: &str) -> Vec<u8> {
        let mut body = self.good();
        body.as_object_mut().unwrap().remove(name);
        let body = body.to_string();
        format!("{},\"{name}\":{value}}}", &body[..body.len() - 1]).into_bytes()
    }

    fn body(&mut self) -> Vec<u8> {
        let depth = self.random.usize(129..20_000);
        match self.made % 11 {
            0 => {
                let mut cut = self.good().to_string().into_bytes();
                cut.truncate(self.random.usize(..cut.len()));
                cut
            }
            1 => "[".repeat(depth).into_bytes(),
            2 => format!("{{\"a\":{}", "{\"a\":".repeat(depth)).into_bytes(),
            3 => {
                let nested = format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
                let name = *self.pick(&["inputProps", "queue", "metadata", "unknown", "webhook"]);
                self.with(name, &nested)
            }
            4 => {
                let (name, number) = (*self.pick(NUMERIC), *self.pick(NUMBERS));
                self.with(name, number)
            }
            5 => {
                let mut body = self.good().to_string().into_bytes();
                let at = self.random.usize(..body.len());
                body[at] = *self.pick(&[0xff, 0xc0, 0xf8, 0x80]);
                body
            }
            6 => {
                let (name, value) = *self.pick(WRONG_TYPES);
                self.with(name, value)
            }
            7 => {
                let mut body = self.good().to_string().into_bytes();
                body.insert(self.random.usize(..body.len()), 0);
                body
            }
            8 => {
                let name = *self.pick(&["composition", "serveUrl", "codec", "queue"]);
                let twice = self.with(name, "null");
                let twice = String::from_utf8(twice).unwrap();
                format!("{},\"{name}\":null}}", &twice[..twice.len() - 1]).into_bytes()
            }
            9 => {
                let name = *self.pick(PROTOTYPE);
                self.with(name, "{\"polluted\": true}")
            }
            _ => (0..self.random.usize(..300)).map(|_| self.random.u8(..)).collect(),
        }
    }
}

impl Iterator for Malformed {
    type Item = (&'static str, Vec<u8>);

    /// A body, and where to send it.
    fn next(&mut self) -> Option<Self::Item> {
        let body = self.body();
        self.made += 1;
        // A batch of one, or what else the body makes of it.
        Some(match self.made % 4 {
            0 => ("/v1/renders/batch", [b"{\"renders\":[".as_slice(), &body, b"]}"].concat()),
            1 => ("/v1/stills", body),
            _ => ("/v1/renders", body),
        })
    }
}
