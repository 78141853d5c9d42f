//! What others say about the template.

use std::path::Path;
use std::process::Command;

fn template() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("template.yaml")
}

#[test]
fn cfn_lint_finds_nothing_in_any_region() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/venv/bin/cfn-lint");
    let linted = Command::new(&program)
        .args([
            "--regions",
            "us-east-1",
            "eu-central-1",
            "ap-southeast-2",
            "--include-checks",
            "I",
            "--template",
        ])
        .arg(template())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; `scripts/setup tests` installs it", program.display()));
    let said = String::from_utf8_lossy(&[linted.stdout, linted.stderr].concat()).into_owned();
    assert!(linted.status.success() && said.trim().is_empty(), "{said}");
}
