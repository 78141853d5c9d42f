//! How long storage is borne with that does not say how far a render is.

use std::io;
use std::time::Duration;

use lastframe_core::Failure;
use tokio::time::Instant;

/// How long storage that refuses is asked again: a right that was given a moment ago takes its time.
const LONGEST: Duration = Duration::from_secs(60);

/// Storage that is away is waited for, however long it takes: what is being rendered is paid for. One that refuses will refuse
/// in an hour, too.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    refused_since: Option<Instant>,
}

impl Patience {
    /// What to fail with, once it has been tried for too long.
    pub(crate) fn tried_by(&mut self, error: &io::Error, bucket: &str) -> Option<Failure> {
        let Some(failure) = refused(error, bucket) else {
            self.refused_since = None;
            return None;
        };
        let since = *self.refused_since.get_or_insert_with(Instant::now);
        (since.elapsed() >= LONGEST).then_some(failure)
    }
}

/// The cause of what does not pass by itself.
fn refused(error: &io::Error, bucket: &str) -> Option<Failure> {
    use io::ErrorKind::{InvalidData, InvalidInput, NotFound, PermissionDenied, UnexpectedEof};
    let (code, message, retryable) = match error.kind() {
        PermissionDenied => (
            "lambda_denied",
            format!(
                "the bucket {bucket} cannot be read: {error} (allow the server's keys s3:GetObject and s3:ListBucket there)"
            ),
            false,
        ),
        NotFound => ("lambda_gone", format!("the bucket {bucket} is not there any more: {error}"), true),
        InvalidInput => ("lambda_not_configured", error.to_string(), false),
        InvalidData | UnexpectedEof => {
            ("lambda_failed", format!("what its functions have written cannot be read: {error}"), true)
        }
        _ => return None,
    };
    Some(Failure::new(code, message, retryable))
}
