//! What `make demo` promises.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::server::{Server, ffmpeg, probe, project};

/// How different two pictures are: the mean difference of their bytes, scaled down to grey.
fn difference(one: &[u8], other: &[u8]) -> f64 {
    assert_eq!(one.len(), other.len());
    let sum: u64 = one.iter().zip(other).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / one.len() as f64
}

/// What a video shows after so many seconds, or a picture at 0, small and grey.
fn picture(file: &Path, seconds: u32) -> Vec<u8> {
    let drawn = ffmpeg("ffmpeg")
        .args(["-v", "error", "-ss", &seconds.to_string(), "-i"])
        .arg(file)
        .args([
            "-vf",
            "scale=480:270,format=gray",
            "-frames:v",
            "1",
            "-c:v",
            "rawvideo",
            "-f",
            "image2pipe",
            "-",
        ])
        .output()
        .unwrap();
    assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
    drawn.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_makes_150_frames_that_show_the_text_that_was_posted() {
    const TEXT: &str = "Grüße, 世界";
    const SECONDS: u32 = 3;
    let data = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    let video = out.path().join("demo.mp4");
    let demo = Command::new(project().join("../scripts/demo"))
        .arg(TEXT)
        .env("LASTFRAME_PROGRAM", env!("CARGO_BIN_EXE_lastframe"))
        .env("LASTFRAME_DEMO_DATA", data.path())
        .env("LASTFRAME_DEMO_OUT", &video)
        .output()
        .unwrap();
    assert!(demo.status.success(), "{}", String::from_utf8_lossy(&demo.stderr));
    let stream = &probe(&video)["streams"][0];
    assert_eq!(stream["codec_name"], "h264");
    assert_eq!(
        (&stream["width"], &stream["height"], &stream["nb_read_frames"]),
        (&json!(1920), &json!(1080), &json!("150"))
    );

    let server = Server::on(data).await;
    let frame = async |props: Value| {
        let body = json!({"serveUrl": "remotion-app", "composition": "main", "frameRange": SECONDS * 30, "inputProps": props});
        let (status, answer) = server.post("/v1/renders", &body).await;
        assert_eq!(status, 202, "{answer}");
        let id = answer["renderId"].as_str().unwrap();
        server.succeeded(id).await;
        let file = out.path().join(id);
        std::fs::write(&file, server.output(id).await).unwrap();
        picture(&file, 0)
    };
    let shown = picture(&video, SECONDS);
    let same = difference(&shown, &frame(json!({"text": TEXT})).await);
    let without = difference(&shown, &frame(json!({"text": ""})).await);
    assert!(same < 2.0 && without > 3.0 * same, "with the text {same}, without it {without}");
    // The body of Remotion's guide shows in the same place.
    assert!(difference(&shown, &frame(json!({"message": TEXT})).await) < 2.0);
}
