//! The program `bootstrap`: what Lambda starts.

fn main() -> std::process::ExitCode {
    lastframe_function::main()
}
