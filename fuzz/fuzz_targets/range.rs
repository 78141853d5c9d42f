//! The headers of a request for an output: conditions, and parts of a file of 1,000 bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    std::hint::black_box(lastframe::fuzzing::conditions(bytes));
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(ranges) = http_range_header::parse_range_header(text).and_then(|ranges| ranges.validate(1_000))
    {
        for range in ranges {
            assert!(range.start() <= range.end() && *range.end() < 1_000);
        }
    }
});
