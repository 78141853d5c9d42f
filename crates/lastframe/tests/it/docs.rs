//! The documents tell the truth: their samples are run, and what may go wrong is in them.

use std::path::Path;
use std::process::Command;

use crate::server::{Server, run};

/// The samples of a page in their order: blocks of `language`, and checks that a reader does not see. Blocks of `shell` are
/// for people alone.
fn samples(page: &str, language: &str, check: &str) -> String {
    let (mut script, mut within) = (String::new(), false);
    for line in page.lines() {
        if let Some(hidden) = line.strip_prefix(&format!("<!-- {check}: ")) {
            script.push_str(hidden.strip_suffix(" -->").expect("a check is one line"));
            script.push('\n');
        } else if line.starts_with("```") {
            within = line == format!("```{language}");
        } else if within {
            script.push_str(line);
            script.push('\n');
        }
    }
    script
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sample_of_the_api_page_works_as_it_stands_there() {
    let page = include_str!("../../../../docs/api.md");
    let server = Server::without_site("[enqueue]\nsite = \"my-site\"\n").await;
    server.add_site("my-site").await;
    let folder = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_lastframe")).parent().unwrap().to_owned();
    let path = std::env::join_paths(
        std::iter::once(program).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let path = path.unwrap();
    let script = format!("set -euo pipefail\n{}", samples(page, "sh", "check-sh"));
    let module = samples(page, "js", "check-js");
    assert!(script.matches("curl ").count() > 10 && module.matches("await ").count() > 10);
    std::fs::write(folder.path().join("samples.mjs"), module).unwrap();
    std::fs::write(folder.path().join("samples.sh"), script).unwrap();
    // With curl first: there somebody is added who then signs in from JavaScript.
    for (program, file) in [("bash", "samples.sh"), ("node", "samples.mjs")] {
        let mut command = Command::new(program);
        command.arg(file).current_dir(folder.path()).env("PATH", &path).env("LASTFRAME", &server.url);
        command.env("TOKEN", &server.token).env("LASTFRAME_DATA", server.data.path());
        let ran = command.output().unwrap();
        let (said, why) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{file}: {said}\n{why}\n{}", server.log());
    }
}

/// The codes that stand between such quotes.
fn codes(source: &str, quote: char) -> impl Iterator<Item = &str> {
    let code = |text: &&str| {
        !text.is_empty() && text.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')
    };
    source.split(quote).skip(1).step_by(2).filter(code)
}

/// The text between two others.
fn between<'a>(source: &'a str, begin: &str, end: &str) -> &'a str {
    source.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).unwrap().0
}

#[test]
fn every_code_that_the_api_answers_or_a_render_fails_with_is_explained() {
    let page = include_str!("../../../../docs/troubleshooting.md");
    let api = between(include_str!("../../src/http/error.rs"), "fn status_and_code", "fn header");
    let sidecar = include_str!("../../../worker/src/local/sidecar.rs");
    let sidecar = between(sidecar, "fn code(&self)", "\n}");
    let classes = include_str!("../../../worker/src/local/sidecar.mjs");
    let classes = between(classes, "const MESSAGES", "\n}").lines();
    // What stands before it on a line is the pattern of a message.
    let told =
        classes.clone().filter(|line| line.starts_with("  [/")).filter_map(|line| line.rsplit_once('/'));
    let classified = classes.filter(|line| line.contains("code: "));
    let rooms = [
        include_str!("../../../worker/src/attempt.rs"),
        include_str!("../../../worker/src/local/mod.rs"),
        include_str!("../../../worker/src/local/remote.rs"),
        include_str!("../../../core/src/render.rs"),
        include_str!("../../../core/src/verify.rs"),
        include_str!("../../../aws/src/render/course.rs"),
        include_str!("../../../aws/src/render/client.rs"),
        include_str!("../../../aws/src/queue/claim.rs"),
        include_str!("../../../aws/src/queue/lease.rs"),
        include_str!("../../../store/src/lease.rs"),
        include_str!("../../src/sites/bring.rs"),
    ];
    let new = |room: &'static str| {
        ["Failure::new(", "Self::new("].into_iter().flat_map(|by| room.split(by).skip(1))
    };
    let failures = rooms.into_iter().flat_map(new);
    let failures = failures.filter_map(|call| call.trim_start().strip_prefix('"')?.split('"').next());

    let mut all: Vec<&str> = codes(api, '"').chain(codes(sidecar, '"')).chain(failures).collect();
    all.extend(told.flat_map(|(_, code)| codes(code, '\'')));
    // Beside the codes there are the stages that they depend on.
    all.extend(classified.flat_map(|line| codes(line, '\'')).filter(|word| word.contains('_')));
    let on_lambda = include_str!("../../../aws/src/render/cause.rs");
    all.extend(codes(between(on_lambda, "const MESSAGES", "];"), '"').filter(|word| word.contains('_')));
    let refusals = include_str!("../../../aws/src/render/client.rs");
    all.extend(codes(between(refusals, "fn refusal", "\n}"), '"').filter(|word| word.starts_with("lambda_")));
    for known in [
        "lambda_stuck",
        "lambda_version",
        "lambda_no_space",
        "token_missing",
        "sidecar_gone",
        "worker_lost",
        "asset_failed",
        "component_error",
    ] {
        assert!(all.contains(&known), "{known} is not found in the sources: {all:?}");
    }
    for code in all {
        assert!(page.contains(&format!("| `{code}` |")), "docs/troubleshooting.md does not explain `{code}`");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_that_a_document_shows_is_one() {
    let server = Server::without_site("").await;
    let pages = [
        include_str!("../../../../README.md"),
        include_str!("../../../../docs/api.md"),
        include_str!("../../../../docs/aws.md"),
        include_str!("../../../../docs/configuration.md"),
        include_str!("../../../../docs/identity.md"),
        include_str!("../../../../docs/install.md"),
        include_str!("../../../../docs/lambda.md"),
        include_str!("../../../../docs/notices.md"),
        include_str!("../../../../docs/operate.md"),
        include_str!("../../../../docs/scale.md"),
        include_str!("../../../../docs/sites.md"),
        include_str!("../../../../docs/storage.md"),
        include_str!("../../../../docs/troubleshooting.md"),
    ];
    let mut shown = std::collections::BTreeSet::new();
    for page in pages {
        for (at, _) in page.match_indices("lastframe ") {
            let before = page[..at].chars().next_back();
            let mut words = page[at..].split_whitespace().skip(1);
            let is_word = |word: &str| {
                !word.is_empty() && word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-')
            };
            // In code alone; prose has the name as well.
            if before.is_none_or(|before| before == '`' || before == '\n' || before == '(')
                && let Some(command) = words.next().filter(|word| is_word(word))
            {
                shown.insert(command.to_owned());
            }
        }
    }
    assert!(shown.len() > 10, "{shown:?}");
    for command in shown {
        assert_eq!(run(&server, &[&command, "--help"]).0, 0, "lastframe {command}");
    }
}
