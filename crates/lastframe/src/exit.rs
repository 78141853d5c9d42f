//! What the exit codes of `lastframe` mean. The only place that knows.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// It did what was asked for.
    Done = 0,
    /// What was waited for or looked at is not well: a render ended without an output, `doctor` found a fault.
    NotWell = 1,
    /// The command line or a file it names is wrong; clap uses the same code.
    Usage = 2,
    /// The server refused the request.
    Refused = 3,
    /// No server answers.
    Unreachable = 4,
    /// Anything else.
    Internal = 5,
    /// Something on disk is not what was written.
    Damaged = 6,
    /// Interrupted by the person.
    Interrupted = 130,
}

/// The codes, for `--help`.
pub(crate) const TEACH: &str =
    "Exit codes: 0 done, 1 the render failed or was cancelled, or doctor found a fault, 2 wrong
usage, 3 refused by the server, 4 no server answers, 5 any other fault, 6 damage was found,
130 interrupted.";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
