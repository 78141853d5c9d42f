//! The header `Repr-Digest` (RFC 9530): what the bytes of a file must hash to.

use axum::http::HeaderName;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// The header's name.
pub(crate) const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// The header in which S3 tells the SHA-256, in hex, that an output was put with.
pub(crate) const STORED_SHA256: HeaderName = HeaderName::from_static("x-amz-meta-sha256");

/// The header's value for a SHA-256.
pub(crate) fn of(sha256: &[u8]) -> String {
    format!("sha-256=:{}:", BASE64_STANDARD.encode(sha256))
}

/// The same, for one in hex; none for what is not hex.
pub(crate) fn of_hex(sha256: &str) -> Option<String> {
    let bytes =
        sha256.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    let bytes: Option<Vec<u8>> = bytes.collect();
    bytes.filter(|bytes| bytes.len() == 32).map(|bytes| of(&bytes))
}

/// The SHA-256 among the digests that the header names.
pub(crate) fn find(header: &str) -> Option<&str> {
    header.split(',').map(str::trim).find(|digest| digest.starts_with("sha-256="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_written_and_found_as_the_standard_has_it() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let value = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
        assert_eq!(of_hex(empty).as_deref(), Some(value));
        assert_eq!(find(&format!("sha-512=:YQ==:, {value}")), Some(value));
        assert_eq!(find("sha-512=:YQ==:"), None);
        for wrong in ["", "e3b0", "zz", &empty.replace('e', "é")] {
            assert_eq!(of_hex(wrong), None, "{wrong}");
        }
    }
}
