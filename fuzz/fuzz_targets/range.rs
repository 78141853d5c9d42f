//! The header `Range` of a request for an output of 1,000 bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(part) = lastframe::fuzzing::range(text, 1_000) {
        assert!(part.start < part.end && part.end <= 1_000);
    }
});
