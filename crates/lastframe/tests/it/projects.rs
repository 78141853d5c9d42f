//! Projects as strangers write them, added from afar to a server that has no npm, and looked at.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::server::{Server, ffmpeg, project};

/// A project with its packages at hand, in a place that stays the same, so that bundling it again is quick.
fn installed(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/projects").join(name);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("projects").join(name);
    copy(&source, &folder);
    let packages = folder.join("node_modules");
    if !packages.exists() {
        std::os::unix::fs::symlink(project().join("node_modules"), &packages).unwrap();
    }
    folder
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The pixels of a PNG, three bytes each, row by row.
fn pixels(picture: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, picture).unwrap();
    let drawn = ffmpeg("ffmpeg")
        .args(["-v", "error", "-f", "image2pipe", "-c:v", "png", "-i"])
        .arg(file.path())
        .args(["-vf", "format=rgb24", "-frames:v", "1", "-c:v", "rawvideo", "-f", "image2pipe", "-"])
        .output()
        .unwrap();
    assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
    drawn.stdout
}

fn pixel(pixels: &[u8], width: usize, x: usize, y: usize) -> [u8; 3] {
    pixels[(y * width + x) * 3..][..3].try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_of_strangers_are_added_from_afar_and_look_as_they_were_written() {
    let server = Server::without_npm("").await;
    server.give_renderer();
    let token = server.token_of("default", &["sites:write", "renders:read"]).await;
    let add = async |name: &'static str, options: &'static [&'static str]| {
        let folder = installed(name);
        let (url, token) = (server.url.clone(), token.clone());
        let added = tokio::task::spawn_blocking(move || {
            Command::new(env!("CARGO_BIN_EXE_lastframe"))
                .args(["site", "add"])
                .arg(folder)
                .args(["--name", name, "--server", &url, "--token", &token])
                .args(options)
                .output()
                .unwrap()
        });
        let added = added.await.unwrap();
        assert!(added.status.success(), "{name}: {}", String::from_utf8_lossy(&added.stderr));
    };
    tokio::join!(add("plain-js", &["--entry", "src/index.jsx"]), add("tailwind", &[]), add("fonts", &[]));
    let still = async |site: &str, composition: &str, fields: Value| {
        let mut body = json!({"serveUrl": site, "composition": composition});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let (status, answer) = server.post("/v1/stills", &body).await;
        assert_eq!(status, 202, "{answer}");
        let id = answer["renderId"].as_str().unwrap();
        server.succeeded(id).await;
        pixels(&server.output(id).await)
    };

    let first = still("plain-js", "fade", json!({})).await;
    let last = still("plain-js", "fade", json!({"frame": -1, "inputProps": {"to": "#ff0000"}})).await;
    assert_eq!(pixel(&first, 128, 64, 36), [0, 0, 255]);
    assert_eq!(pixel(&last, 128, 64, 36), [255, 0, 0]);

    let styled = still("tailwind", "card", json!({})).await;
    let bare = still("tailwind", "card", json!({"inputProps": {"styled": false}})).await;
    assert_eq!(pixel(&styled, 128, 2, 2), [255, 128, 0], "a colour of the project's own theme");
    assert_eq!(pixel(&styled, 128, 64, 36), [0, 0, 0], "centred by flex, sized by a class");
    assert_eq!(pixel(&styled, 128, 64 + 20, 36), [255, 128, 0]);
    assert_ne!(pixel(&bare, 128, 2, 2), [255, 128, 0]);

    let paper = still("fonts", "paper", json!({})).await;
    assert_eq!(pixel(&paper, 160, 80, 36), [0x40, 0xc0, 0x80], "a colour that is imported by an alias");
    let sign = async |text: &str, font: &str| {
        still("fonts", "sign", json!({"inputProps": {"text": text, "font": font}})).await
    };
    let (world, japan) = (sign("世界", "DotGothic16").await, sign("日本", "DotGothic16").await);
    assert_ne!(world, japan, "the font has these letters, and no box for each");
    assert_ne!(world, sign("世界", "of the machine").await, "they are drawn in the font from npm");
    let dark = world.chunks(3).filter(|pixel| pixel[0] < 64).count();
    assert!(dark > 200, "{dark} dark pixels");
}
