//! What the fuzz targets in `fuzz/` call: parsers of what anybody may send. No part of the library's promises.

use std::sync::OnceLock;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use crate::data::DataFolder;
use crate::identity::Identity;

/// Looks at bytes as a bearer token, and says whether it is good. It never is.
///
/// # Errors
/// When no temporary folder can be made for the keys.
pub fn token(bytes: &[u8]) -> anyhow::Result<bool> {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    let now = Timestamp::UNIX_EPOCH;
    let identity = match IDENTITY.get() {
        Some(identity) => identity,
        None => {
            let folder = tempfile::tempdir()?;
            let identity = Identity::open(&DataFolder::open(folder.path())?, now)?;
            IDENTITY.get_or_init(|| identity)
        }
    };
    Ok(std::str::from_utf8(bytes).is_ok_and(|token| identity.verify(token.trim(), now).is_some()))
}

/// Looks at lines as the headers of a request for an output, and says whether its client has the file already.
#[must_use]
pub fn conditions(bytes: &[u8]) -> bool {
    let mut headers: HeaderMap = bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = HeaderName::from_bytes(&line[..colon]).ok()?;
            Some((name, HeaderValue::from_bytes(&line[colon + 1..]).ok()?))
        })
        .collect();
    crate::http::has_it(&mut headers, Some(&HeaderValue::from_static("\"abc\"")))
}
