//! What is accepted, and what is refused by which name.

use serde_json::json;

use super::*;
use crate::site::Composition;

fn read(body: &Value, kind: Kind) -> Result<(RenderRequest, Vec<String>), Vec<FieldError>> {
    let body = body.to_string();
    match Fields::read(body.as_bytes()).and_then(|fields| RenderRequest::parse(fields, kind)) {
        Ok(read) => Ok(read),
        Err(BodyError::Invalid(errors)) => Err(errors),
        Err(BodyError::NotJson(why)) => panic!("{why}"),
    }
}

fn parse(mut fields: Value, kind: Kind) -> Result<(RenderRequest, Vec<String>), Vec<String>> {
    for (name, value) in [("composition", "main"), ("serveUrl", "site")] {
        fields.as_object_mut().unwrap().entry(name).or_insert_with(|| value.into());
    }
    read(&fields, kind).map_err(|errors| errors.into_iter().map(|error| error.pointer).collect())
}

fn pointers(fields: Value) -> Vec<String> {
    parse(fields, Kind::Media).expect_err("must be refused")
}

#[test]
fn a_wrong_field_is_named_by_its_pointer() {
    for (fields, pointer) in [
        (json!({"crf": "high"}), "/crf"),
        (json!({"codec": "h266"}), "/codec"),
        (json!({"deleteAfter": "2-days"}), "/deleteAfter"),
        (json!({"colour": "red"}), "/colour"),
        (json!({"queue": {"groop": "a"}}), "/queue/groop"),
        (json!({"queue": {"group": 7}}), "/queue/group"),
        (json!({"queue": {"runAt": "tomorrow"}}), "/queue/runAt"),
        (json!({"queue": {"maxAttempts": 0}}), "/queue/maxAttempts"),
        (json!({"envVariables": {"A": 1}}), "/envVariables/A"),
        (json!({"inputProps": []}), "/inputProps"),
        (json!({"queue": ["group"]}), "/queue"),
        (json!({"chromiumOptions": []}), "/chromiumOptions"),
        (json!({"frameRange": [10, 5]}), "/frameRange"),
        (json!({"frameRange": [-1, 5]}), "/frameRange"),
        (json!({"frameRange": [1.5, 5]}), "/frameRange"),
        (json!({"frameRange": "all"}), "/frameRange"),
        (json!({"frameRange": [0, 9], "forceDurationInFrames": 9}), "/frameRange"),
        (json!({"scale": 0}), "/scale"),
        (json!({"scale": 17}), "/scale"),
        (json!({"crf": 52}), "/crf"),
        (json!({"crf": 10, "codec": "gif"}), "/crf"),
        (json!({"crf": 10, "videoBitrate": "1M"}), "/videoBitrate"),
        (json!({"videoBitrate": "fast"}), "/videoBitrate"),
        (json!({"audioCodec": "opus"}), "/audioCodec"),
        (json!({"x264Preset": "fast", "codec": "vp9"}), "/x264Preset"),
        (json!({"proResProfile": "hq"}), "/proResProfile"),
        (json!({"pixelFormat": "yuva420p", "imageFormat": "png"}), "/pixelFormat"),
        (json!({"everyNthFrame": 2, "codec": "mp3"}), "/everyNthFrame"),
        (json!({"frameRange": [[0, 5], [5, 9]]}), "/frameRange"),
        (json!({"onProgress": {}}), "/onProgress"),
        (json!({"outName": {"key": "a", "bucketName": "b"}}), "/outName"),
        (json!({"codec": "mp3", "muted": true}), "/muted"),
        (json!({"composition": ""}), "/composition"),
        (json!({"frame": 1}), "/frame"),
        (json!({"webhook": {"secret": "s"}}), "/webhook/url"),
        (json!({"webhook": {"url": "ftp://x"}}), "/webhook/url"),
        (json!({"webhook": {"url": "https://user@x"}}), "/webhook/url"),
        (json!({"webhook": {"url": "https://x", "secret": ""}}), "/webhook/secret"),
        (
            json!({"webhook": {"url": "https://x", "customData": {"a": "x".repeat(1_024)}}}),
            "/webhook/customData",
        ),
        (json!({"webhook": {"url": "https://x", "customData": [1]}}), "/webhook/customData"),
        (json!({"notify": {"email": ["anna@example.com", "anna"]}}), "/notify/email/1"),
        (json!({"notify": {"sms": []}}), "/notify/sms"),
        (json!({"timeoutInMilliseconds": 100}), "/timeoutInMilliseconds"),
        (json!({"chromiumOptions": {"gl": "foo"}}), "/chromiumOptions/gl"),
        (json!({"metadata": {"title": "a\0b"}}), "/metadata"),
    ] {
        assert_eq!(pointers(fields.clone()), [pointer], "{fields}");
    }
    assert_eq!(read(&json!([]), Kind::Media).unwrap_err()[0].pointer, "");
    assert_eq!(read(&json!({"composition": "a"}), Kind::Media).unwrap_err()[0].pointer, "/serveUrl");
    assert_eq!(pointers(json!({"outName": "x".repeat(MAX_OPTIONS)})), [""]);
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    assert_eq!(
        pointers(json!({"webhook": {"url": ""}, "crf": 99, "scale": -1})),
        ["/scale", "/webhook/url", "/crf"]
    );
}

#[test]
fn a_body_for_remotion_lambda_works_and_says_what_was_left_out() {
    let (request, ignored) = parse(
        json!({
            "region": "eu-central-1", "functionName": "f", "framesPerLambda": 20, "privacy": "public", "maxRetries": 1,
            "codec": "h264", "imageFormat": "jpeg", "inputProps": {"text": "Hi"}, "frameRange": [0, 9], "webhook": null,
        }),
        Kind::Media,
    )
    .unwrap();
    assert_eq!(ignored, ["framesPerLambda", "functionName", "maxRetries", "privacy", "region"]);
    assert_eq!(request.frame_range, Some(FrameRange::One((0, Some(9)))));
}

#[test]
fn what_was_accepted_reads_back_the_same_and_only_remotions_options_reach_remotion() {
    let body = json!({
        "composition": "main", "serveUrl": "site", "inputProps": {"ü": [1, 2.5, null]}, "crf": 18.0, "frameRange": [3, null],
        "queue": {"group": "g", "runAt": "2026-01-01T00:00:00Z"}, "outName": "a.mp4",
        "webhook": {"url": "https://example.com", "secret": "s", "customData": {"a": 1}}, "notify": {"email": ["a@b.c"]},
    });
    let (request, _) = read(&body, Kind::Media).unwrap();
    let again = serde_json::from_str(&serde_json::to_string(&request).unwrap()).unwrap();
    assert_eq!(request, again);
    assert_eq!(
        serde_json::to_value(request.for_remotion(Kind::Media)).unwrap(),
        json!({
            "composition": "main", "serveUrl": "site", "codec": "h264", "inputProps": {"ü": [1, 2.5, null]},
            "crf": 18.0, "frameRange": [3, null],
        })
    );
}

#[test]
fn odd_sides_are_refused_where_the_codec_needs_even_ones() {
    let composition = Composition {
        id: "odd".into(),
        width: 65,
        height: 48,
        fps: 30.0,
        duration_in_frames: 1,
        default_props: Value::Null,
        error: None,
    };
    let check = |fields| {
        let (request, _) = parse(fields, Kind::Media).unwrap();
        request
            .check_against(&composition, Kind::Media)
            .into_iter()
            .map(|error| error.pointer)
            .collect::<Vec<_>>()
    };
    assert_eq!(check(json!({})), ["/forceWidth"]);
    assert_eq!(check(json!({"forceWidth": 64, "forceHeight": 49})), ["/forceHeight"]);
    assert_eq!(check(json!({"scale": 2})), [""; 0]);
    assert_eq!(check(json!({"codec": "vp8"})), [""; 0]);
    assert_eq!(check(json!({"forceWidth": 64})), [""; 0]);
}

#[test]
fn a_still_takes_no_options_of_media() {
    assert_eq!(parse(json!({"codec": "h264", "frame": -1}), Kind::Still).unwrap_err(), ["/codec"]);
    assert!(parse(json!({"frame": -1, "imageFormat": "webp"}), Kind::Still).is_ok());
}
