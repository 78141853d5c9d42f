//! Frames to render: what is understood is written as it is read.
#![no_main]

use lastframe_core::request::FrameRange;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    if let Ok(range) = serde_json::from_slice::<FrameRange>(text) {
        if let FrameRange::Between(from, to) = range {
            assert!(from <= to);
        }
        let written = serde_json::to_vec(&range).expect("a range can be written");
        assert_eq!(serde_json::from_slice::<FrameRange>(&written).expect("and read"), range);
    }
});
