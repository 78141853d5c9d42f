//! What the fuzz targets in `fuzz/` call: parsers of what anybody may send. No part of the library's promises.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// Looks at bytes as a bearer token, and says whether they could be one.
#[must_use]
pub fn token(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|token| crate::identity::could_be(token.trim()))
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
