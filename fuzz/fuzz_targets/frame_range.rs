//! Frames to render: what is understood is written as it is read, and goes forward.
#![no_main]

use lastframe_core::frame_range::FrameRange;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    if let Ok(frames) = serde_json::from_slice::<FrameRange>(text) {
        let ranges = match &frames {
            FrameRange::Single(_) => &[][..],
            FrameRange::One(range) => std::slice::from_ref(range),
            FrameRange::Several(ranges) => ranges,
        };
        assert!(ranges.iter().all(|(from, to)| to.is_none_or(|to| *from <= to)));
        let written = serde_json::to_vec(&frames).expect("frames can be written");
        assert_eq!(serde_json::from_slice::<FrameRange>(&written).expect("and read"), frames);
    }
});
