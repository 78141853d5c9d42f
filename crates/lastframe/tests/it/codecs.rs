//! Every codec and picture format comes out whole, as another program sees it.

use serde_json::{Value, json};

use crate::server::{Server, ffmpeg, probe};

#[tokio::test(flavor = "multi_thread")]
async fn every_codec_comes_out_as_asked() {
    let server = Server::start().await;
    let cases = [
        ("tiny", json!({}), "h264", "video/mp4"),
        ("tiny", json!({"codec": "h265"}), "hevc", "video/mp4"),
        ("tiny", json!({"codec": "vp8"}), "vp8", "video/webm"),
        ("tiny", json!({"codec": "vp9"}), "vp9", "video/webm"),
        (
            "tiny",
            json!({"codec": "prores", "proResProfile": "4444", "imageFormat": "png", "pixelFormat": "yuva444p10le"}),
            "prores",
            "video/quicktime",
        ),
        ("tiny", json!({"codec": "gif", "everyNthFrame": 2, "numberOfGifLoops": 1}), "gif", "image/gif"),
        ("tiny", json!({"codec": "h264-mkv"}), "h264", "video/x-matroska"),
        ("tone", json!({"audioCodec": "pcm-16"}), "h264", "video/x-matroska"),
        ("tone", json!({"codec": "mp3"}), "mp3", "audio/mpeg"),
        ("tone", json!({"codec": "aac"}), "aac", "audio/aac"),
        ("tone", json!({"codec": "wav"}), "pcm_s16le", "audio/wav"),
    ];
    let mut ids = Vec::new();
    for (composition, options, ..) in &cases {
        ids.push(server.submit(composition, options.clone()).await);
    }
    for (id, (_, options, codec, content_type)) in ids.iter().zip(&cases) {
        let render = server.succeeded(id).await;
        let answer = server.get(&format!("/v1/renders/{id}/output")).await;
        assert_eq!(answer.headers()["content-type"], *content_type, "{options}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, answer.bytes().await.unwrap()).unwrap();
        let probed = probe(file.path());
        let names: Vec<_> =
            probed["streams"].as_array().unwrap().iter().map(|stream| &stream["codec_name"]).collect();
        assert!(names.contains(&&json!(codec)), "{options}: {probed}");
        let video =
            probed["streams"].as_array().unwrap().iter().find(|stream| stream["codec_type"] == "video");
        if let Some(video) = video {
            let frames: u64 = video["nb_read_frames"].as_str().unwrap().parse().unwrap();
            assert_eq!(json!(frames), render["output"]["frameCount"], "{options}");
            assert_eq!(frames, if *codec == "gif" { 5 } else { 10 }, "{options}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_reach_remotion() {
    let server = Server::start().await;
    let cases = [
        (json!({"frameRange": [2, 5]}), json!({"frameCount": 4})),
        (json!({"frameRange": 3}), json!({"frameCount": 1})),
        (json!({"frameRange": [8, null]}), json!({"frameCount": 2})),
        (json!({"frameRange": [[0, 2], [5, 7]]}), json!({"frameCount": 6, "durationInSeconds": 0.2})),
        (json!({"frameRange": [[0, 0], [8, null]]}), json!({"frameCount": 3})),
        (json!({"scale": 0.7}), json!({"frameCount": 10, "width": 90, "height": 50})),
        (json!({"scale": 2}), json!({"frameCount": 10, "width": 256, "height": 144})),
        (
            json!({"forceWidth": 32, "forceHeight": 48, "forceDurationInFrames": 3}),
            json!({"frameCount": 3, "width": 32, "height": 48}),
        ),
    ];
    for (options, expected) in cases {
        let id = server.submit("tiny", options.clone()).await;
        let render = server.succeeded(&id).await;
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&render["output"][name], value, "{options}: {render}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stills_show_the_props_and_come_in_every_format() {
    let server = Server::start().await;
    let mut pictures = Vec::new();
    for (text, format) in
        [("one", "png"), ("one", "png"), ("two", "png"), ("one", "jpeg"), ("one", "webp"), ("one", "pdf")]
    {
        let body = json!({"serveUrl": "test", "composition": "tiny", "inputProps": {"text": text}, "imageFormat": format, "frame": 3});
        let (status, answer) = server.post("/v1/stills", &body).await;
        assert_eq!(status, 202, "{answer}");
        let id = answer["renderId"].as_str().unwrap();
        server.succeeded(id).await;
        pictures.push(server.output(id).await);
    }
    let [one, again, two, jpeg, webp, pdf] = &pictures[..] else { panic!("six pictures") };
    assert_eq!(one, again, "the same props give the same picture");
    assert_ne!(one, two, "the text shows");
    assert!(one.starts_with(b"\x89PNG") && jpeg.starts_with(b"\xff\xd8") && pdf.starts_with(b"%PDF"));
    assert_eq!(&webp[8..12], b"WEBP");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_composition_sees_its_variables_and_nothing_of_the_server() {
    let server = Server::start().await;
    let still = async |greeting: &str| {
        let body = json!({"serveUrl": "test", "composition": "env", "envVariables": {"REMOTION_GREETING": greeting}});
        let (status, answer) = server.post("/v1/stills", &body).await;
        assert_eq!(status, 202, "{answer}");
        let id = answer["renderId"].as_str().unwrap().to_owned();
        server.succeeded(&id).await;
        server.output(&id).await
    };
    assert_ne!(still("hello").await, still("bye").await);

    let id = server.submit("slow", json!({})).await;
    server.under_way(&id).await;
    for process in server.sidecar_processes().keys() {
        let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        assert!(
            !environment.windows(7).any(|part| part == b"hunter2"),
            "the server's secrets reach process {process}"
        );
    }
    let ended: Value = server.succeeded(&id).await;
    assert_eq!(ended["output"]["frameCount"], 30);
}

/// What ffprobe says of the streams of a render's output that must come out.
async fn streams(server: &Server, id: &str, options: &Value) -> Vec<Value> {
    let file = tempfile::NamedTempFile::new().unwrap();
    server.succeeded(id).await;
    std::fs::write(&file, server.output(id).await).unwrap();
    let probed = probe(file.path());
    let mut streams = probed["streams"].as_array().unwrap_or_else(|| panic!("{options}")).clone();
    streams.push(probed["format"].clone());
    streams
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_of_the_encoder_shows_in_the_file() {
    let server = Server::start().await;
    let prores = |profile: &str| json!({"codec": "prores", "proResProfile": profile});
    let cases = [
        // The names that QuickTime has for the profiles.
        ("tiny", prores("proxy"), json!({"codec_tag_string": "apco"})),
        ("tiny", prores("light"), json!({"codec_tag_string": "apcs"})),
        ("tiny", prores("standard"), json!({"codec_tag_string": "apcn"})),
        ("tiny", prores("hq"), json!({"codec_tag_string": "apch"})),
        ("tiny", prores("4444"), json!({"codec_tag_string": "ap4h"})),
        ("tiny", prores("4444-xq"), json!({"codec_tag_string": "ap4x"})),
        ("tiny", json!({"codec": "av1"}), json!({"codec_name": "av1", "nb_read_frames": "10"})),
        ("tiny", json!({"codec": "h264-ts"}), json!({"codec_name": "h264", "nb_read_frames": "10"})),
        ("tiny", json!({"pixelFormat": "yuv444p10le"}), json!({"pix_fmt": "yuv444p10le"})),
        ("tiny", json!({"everyNthFrame": 2}), json!({"nb_read_frames": "5", "avg_frame_rate": "15/1"})),
        ("tiny", json!({"everyNthFrame": 3}), json!({"nb_read_frames": "4", "avg_frame_rate": "10/1"})),
        ("tiny", json!({"forceFps": 10}), json!({"nb_read_frames": "10", "avg_frame_rate": "10/1"})),
        ("tiny", json!({"colorSpace": "bt709"}), json!({"color_space": "bt709"})),
        ("tiny", json!({"metadata": {"title": "A title"}}), json!({"tags": {"title": "A title"}})),
        ("tiny", json!({"enforceAudioTrack": true}), json!({"codec_name": "aac"})),
        ("tone", json!({"sampleRate": 44_100}), json!({"codec_name": "aac", "sample_rate": "44100"})),
        ("tone", json!({"codec": "h265", "audioCodec": "pcm-16"}), json!({"codec_name": "pcm_s16le"})),
        ("tone", json!({"codec": "vp9", "audioCodec": "opus"}), json!({"codec_name": "opus"})),
        ("tone", json!({"audioCodec": "mp3"}), json!({"codec_name": "mp3"})),
        ("tone", json!({"codec": "aac", "preferLossless": true}), json!({"codec_name": "pcm_s16le"})),
    ];
    let mut ids = Vec::new();
    for (composition, options, _) in &cases {
        ids.push(server.submit(composition, options.clone()).await);
    }
    for (id, (_, options, expected)) in ids.iter().zip(&cases) {
        let streams = streams(&server, id, options).await;
        let fits = |stream: &Value| {
            expected.as_object().unwrap().iter().all(|(name, value)| match value.as_object() {
                Some(tags) => tags.iter().all(|(tag, value)| &stream[name][tag] == value),
                None => &stream[name] == value,
            })
        };
        assert!(streams.iter().any(fits), "{options}: {streams:?}");
    }
    for (composition, options) in [("tone", json!({"muted": true})), ("tiny", json!({}))] {
        let id = server.submit(composition, options.clone()).await;
        let streams = streams(&server, &id, &options).await;
        assert!(streams.iter().all(|stream| stream["codec_type"] != "audio"), "{options}: {streams:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_transparent_stays_transparent() {
    let server = Server::start().await;
    for (codec, pixel_format, decoder) in [
        ("prores", "yuva444p10le", "prores"),
        ("vp8", "yuva420p", "libvpx"),
        ("vp9", "yuva420p", "libvpx-vp9"),
    ] {
        let mut options = json!({
            "codec": codec, "pixelFormat": pixel_format, "imageFormat": "png", "frameRange": 0,
            "inputProps": {"color": "transparent", "text": "tiny"},
        });
        if codec == "prores" {
            options["proResProfile"] = json!("4444");
        }
        let id = server.submit("tiny", options).await;
        server.succeeded(&id).await;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, server.output(&id).await).unwrap();
        let drawn = ffmpeg("ffmpeg")
            .args(["-v", "error", "-c:v", decoder, "-i"])
            .arg(file.path())
            .args(["-vf", "format=rgba", "-frames:v", "1", "-c:v", "rawvideo", "-f", "image2pipe", "-"])
            .output()
            .unwrap();
        assert!(drawn.status.success(), "{codec}: {}", String::from_utf8_lossy(&drawn.stderr));
        let alpha: Vec<u8> = drawn.stdout.chunks(4).map(|pixel| pixel[3]).collect();
        assert_eq!(alpha.len(), 128 * 72, "{codec}");
        assert!(alpha[alpha.len() - 1] < 8, "{codec}: the ground is {}", alpha[alpha.len() - 1]);
        assert!(alpha.iter().any(|alpha| *alpha > 200), "{codec}: the text is there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn props_of_twenty_megabytes_are_rendered() {
    let server = Server::start().await;
    let id = server
        .submit(
            "tiny",
            json!({"frameRange": 0, "inputProps": {"text": "much", "data": "x".repeat(20_000_000)}}),
        )
        .await;
    assert_eq!(server.succeeded(&id).await["output"]["frameCount"], 1);
}
