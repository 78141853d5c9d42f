//! What Remotion Lambda says went wrong, as causes that a person understands.

use lastframe_core::Failure;

/// Words of a message, the code they stand for, and whether another attempt may mend it. The first that fits counts. The
/// codes of a page's own faults are those of renders on this machine.
const MESSAGES: &[(&[&str], &str, bool)] = &[
    (&["could not find composition with id", "no composition with the id"], "composition_not_found", false),
    (
        &["rate exceeded", "concurrency limit", "toomanyrequests", "too many requests"],
        "lambda_throttled",
        true,
    ),
    (
        &["the main function timed out", "function timed out", "task timed out", "is about to time out"],
        "lambda_timeout",
        false,
    ),
    (&["too many functions"], "invalid_option", false),
    (
        &["incompatible site", "version mismatch", "verify that it is a remotion project"],
        "lambda_version",
        false,
    ),
    (&["enospc", "no space left on device"], "lambda_no_space", false),
    (&["enomem", "cannot allocate memory", "out of memory", "signal: killed"], "out_of_memory", false),
    (&["access denied", "accessdenied", "is not authorized to perform"], "lambda_denied", false),
    (
        &["net::err_", "but the status code was", "but got no response", "error while getting compositions"],
        "site_unreachable",
        true,
    ),
    (
        &["was called but not cleared after", "exceeded rendering the component", "timed out evaluating"],
        "delay_render_timeout",
        true,
    ),
    (
        &["error while downloading", "error loading image with src", "failed to fetch", "could not play "],
        "asset_failed",
        true,
    ),
    (
        &["page crashed!", "target closed", "session closed", "failed to launch the browser"],
        "browser_crashed",
        true,
    ),
    (&["ffmpeg"], "encoder_failed", false),
];

/// The cause of an error that ended a render on Lambda.
pub(crate) fn fatal(name: &str, message: &str, stack: Option<&str>) -> Failure {
    let lower = message.to_ascii_lowercase();
    let known = MESSAGES.iter().find(|(words, ..)| words.iter().any(|word| lower.contains(word)));
    let (code, retryable) = known.map_or(("lambda_failed", true), |(_, code, retryable)| (*code, *retryable));
    let mut failure = Failure::new(code, explained(code, message), retryable);
    if !name.is_empty() {
        name.clone_into(&mut failure.name);
    }
    failure.stack = stack.filter(|stack| !stack.is_empty()).map(ToOwned::to_owned);
    failure
}

/// The message, with what to do about it where Remotion's own words do not say.
fn explained(code: &str, message: &str) -> String {
    let advice = match code {
        "lambda_throttled" => {
            "the parts of the render found no room: ask AWS for more concurrent executions, or raise `framesPerLambda`"
        }
        "lambda_timeout" => {
            "deploy a function with a longer timeout, or lower `framesPerLambda` so that each has less to do"
        }
        "lambda_no_space" => "deploy a function with a larger disk",
        "out_of_memory" => "deploy a function with more memory, or lower `concurrencyPerLambda`",
        "lambda_denied" => {
            "compare the rights of the function's role with https://www.remotion.dev/docs/lambda/permissions"
        }
        _ => return message.to_owned(),
    };
    format!("{message} ({advice})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remotion_says_becomes_a_cause_and_says_whether_to_try_again() {
        for (message, code, retryable) in [
            ("Could not find composition with ID main", "composition_not_found", false),
            ("AWS Concurrency limit reached (Original Error: Rate Exceeded.)", "lambda_throttled", true),
            ("The main function timed out after 120000ms.", "lambda_timeout", false),
            ("2026 abc Task timed out after 120.01 seconds", "lambda_timeout", false),
            ("Error: Runtime exited with error: signal: killed", "out_of_memory", false),
            ("ENOSPC: no space left on device, write", "lambda_no_space", false),
            ("A delayRender() was called but not cleared after 28000ms.", "delay_render_timeout", true),
            ("Visited \"https://x\" but got no response.", "site_unreachable", true),
            ("Error loading image with src: https://x/a.png", "asset_failed", true),
            ("something else", "lambda_failed", true),
        ] {
            let failure = fatal("Error", message, Some("at x"));
            assert_eq!((failure.code.as_str(), failure.retryable), (code, retryable), "{message}");
            assert!(failure.message.starts_with(message) && failure.stack.is_some());
        }
        assert!(fatal("", "Task timed out", None).message.contains("longer timeout"));
    }
}
