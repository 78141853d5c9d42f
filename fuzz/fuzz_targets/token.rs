//! A bearer token: none that was not signed here is good.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert!(!lastframe::fuzzing::token(bytes).expect("keys can be made"));
});
