//! The program `lastframe`.

use std::process::ExitCode;

fn main() -> ExitCode {
    lastframe::commands::main()
}
