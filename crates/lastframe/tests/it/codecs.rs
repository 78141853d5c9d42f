//! Every codec and picture format comes out whole, as another program sees it.

use serde_json::{Value, json};

use crate::server::{Server, probe};

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
