//! Programs that others made, for tests to be held against. They are in tests/peers, and `scripts/setup tests` installs what
//! they need.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

/// A program of tests/peers. It ends with its standard input.
pub(crate) struct Peer {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Peer {
    fn start(mut program: Command) -> Self {
        let started = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut process = started.unwrap_or_else(|error| panic!("{program:?}: {error}; run scripts/setup"));
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, input, output }
    }

    pub(crate) fn node(script: &str, arguments: &[&str]) -> Self {
        let mut node = Command::new("node");
        node.arg(folder().join(script)).args(arguments);
        Self::start(node)
    }

    pub(crate) fn python(script: &str, arguments: &[&str]) -> Self {
        let venv = folder().join("../../../../target/peers/venv");
        let mut python = Command::new(venv.join("bin/python"));
        python.arg(folder().join(script)).args(arguments);
        Self::start(python)
    }

    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "it has ended: has scripts/setup been run?");
        line.trim().to_owned()
    }

    /// The line of JSON that it makes of this one.
    pub(crate) fn answer(mut self, question: &Value) -> Value {
        self.say(&question.to_string());
        self.input = None;
        serde_json::from_str(&self.line()).unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/peers")
}
