//! A body of `POST /v1/renders/batch`.
#![no_main]

use lastframe_core::batch;
use lastframe_core::props::Fields;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    if let Ok(requests) = Fields::read(body).and_then(|fields| batch::parse(fields, 3)) {
        assert!((1..=3).contains(&requests.len()));
    }
});
