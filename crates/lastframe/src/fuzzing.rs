//! What the fuzz targets in `fuzz/` call: parsers of what anybody may send. No part of the library's promises.

/// Looks at bytes as a bearer token, and says whether they could be one.
#[must_use]
pub fn token(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|token| crate::identity::could_be(token.trim()))
}

/// Looks at text as a `Range` of a file of `size` bytes: the part that it asks for; none when that is no part, or all.
#[must_use]
pub fn range(text: &str, size: u64) -> Option<std::ops::Range<u64>> {
    match crate::http::part(text, size) {
        crate::http::Part::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}
