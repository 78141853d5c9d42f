//! A bearer token: none that was not signed here is good.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = lastframe::fuzzing::token(bytes);
});
