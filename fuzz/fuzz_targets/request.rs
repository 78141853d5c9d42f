//! A body of `POST /v1/renders` or `/v1/stills`: what is accepted reads back as it is kept.
#![no_main]

use lastframe_core::props::Fields;
use lastframe_core::{Kind, RenderRequest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    for kind in [Kind::Media, Kind::Still] {
        let Ok(fields) = Fields::read(body) else { return };
        if let Ok((request, _)) = RenderRequest::parse(fields, kind) {
            let kept = serde_json::to_string(&request).expect("a request can be kept");
            let read = serde_json::from_str(&kept).expect("what is kept can be read");
            assert_eq!(request, read);
            std::hint::black_box(request.for_remotion(kind));
            std::hint::black_box(request.content_type(kind));
        }
    }
});
