//! The programs that rendering runs, and the fonts that they draw with.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use super::Finding;
use crate::commands::SUPERVISE;
use crate::config::{BROWSERS, on_path};

/// The oldest Node that Remotion's renderer and the sidecar are run with.
const NODE: u32 = 20;
/// How long a program may take to say what it is. A browser's first start on a slow disk takes several seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a browser that works prints of its page.
const PAGE: &str = "data:text/html,<p>lastframe-%64octor</p>";
const SHOWN: &str = "lastframe-doctor";

/// What a program prints, standard error included; why it cannot be run.
async fn run(program: &Path, arguments: &[&str]) -> Result<Output, String> {
    let run = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    match tokio::time::timeout(PATIENCE, run).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("it says nothing for {} s", PATIENCE.as_secs())),
    }
}

fn first_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().trim().to_owned()
}

/// `configured`: what the configuration has settled on, if it could be read.
pub(super) async fn node(configured: Option<&Path>) -> Finding {
    const WHAT: &str = "node";
    let mend = format!("install Node {NODE} or later (https://nodejs.org), or name one as render.node");
    let Some(node) = configured.map(Path::to_owned).or_else(|| on_path("node")) else {
        return Finding::fail(WHAT, "not on PATH", mend);
    };
    let version = match run(&node, &["--version"]).await {
        Ok(output) => first_line(&output.stdout),
        Err(why) => return Finding::fail(WHAT, format!("{} does not run: {why}", node.display()), mend),
    };
    let found = format!("{} {version}", node.display());
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
    if major.is_some_and(|major: u32| major >= NODE) {
        Finding::ok(WHAT, found)
    } else {
        Finding::fail(WHAT, found, mend)
    }
}

pub(super) async fn npm() -> Finding {
    const WHAT: &str = "npm";
    let mend = "install npm where Remotion projects are added as sites; a server alone needs none";
    let Some(npm) = on_path("npm") else { return Finding::warn(WHAT, "not on PATH", mend) };
    match run(&npm, &["--version"]).await {
        Ok(output) if output.status.success() => {
            Finding::ok(WHAT, format!("{} {}", npm.display(), first_line(&output.stdout)))
        }
        Ok(output) => Finding::warn(WHAT, first_line(&output.stderr), mend),
        Err(why) => Finding::warn(WHAT, why, mend),
    }
}

/// Finds it, and lets it show a page.
pub(super) async fn browser(configured: Option<&Path>) -> Finding {
    const WHAT: &str = "browser";
    let install = "install one: apt-get install chromium-headless-shell; or name one as render.browser";
    let found = BROWSERS.iter().find_map(|name| on_path(name));
    let Some(browser) = configured.map(Path::to_owned).or(found) else {
        let found = "none found; from within its walls a render cannot download one";
        return Finding::fail(WHAT, found, install);
    };
    let version = match run(&browser, &["--version"]).await {
        Ok(output) if output.status.success() => first_line(&output.stdout),
        Ok(output) => {
            let found = format!("{} does not run: {}", browser.display(), first_line(&output.stderr));
            return Finding::fail(WHAT, found, install);
        }
        Err(why) => {
            return Finding::fail(WHAT, format!("{} does not run: {why}", browser.display()), install);
        }
    };
    let found = format!("{} {version}", browser.display());
    match show_a_page(&browser).await {
        Ok(()) => Finding::ok(WHAT, format!("{found}, shows a page")),
        Err(why) => {
            let found = format!("{found} shows no page: {why}");
            Finding::fail(
                WHAT,
                found,
                "start it by hand with --headless --dump-dom about:blank, and see what it lacks",
            )
        }
    }
}

/// Under a supervisor: a browser is many processes, and one that hangs must not outlive the question.
async fn show_a_page(browser: &Path) -> Result<(), String> {
    let ourselves = std::env::current_exe().map_err(|error| error.to_string())?;
    let profile = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut command = Command::new(ourselves);
    command.arg(SUPERVISE).arg("--").arg(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", profile.path().display())).arg(PAGE);
    // What it supervises writes to standard error; the end of standard input ends it.
    let shown = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = shown.spawn().map_err(|error| error.to_string())?;
    let open = child.stdin.take();
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    drop(open);
    let output = output.map_err(|_| format!("none within {} s", PATIENCE.as_secs()))?;
    let said = output.map_err(|error| error.to_string())?.stderr;
    if String::from_utf8_lossy(&said).contains(SHOWN) { Ok(()) } else { Err(first_line(&said)) }
}

/// Scripts that a font must have, a question to fontconfig for it, and Debian's package that has one.
const SCRIPTS: [(&str, &str, &str); 4] = [
    ("Chinese", ":lang=zh-cn", "fonts-noto-cjk"),
    ("Japanese", ":lang=ja", "fonts-noto-cjk"),
    ("Korean", ":lang=ko", "fonts-noto-cjk"),
    ("emoji", ":charset=1f600", "fonts-noto-color-emoji"),
];

pub(super) async fn fonts() -> Vec<Finding> {
    const WHAT: &str = "fonts";
    let Some(fc_list) = on_path("fc-list") else {
        let mend = "install fontconfig and some fonts: apt-get install fontconfig fonts-liberation";
        return vec![Finding::warn(WHAT, "unknown: fc-list is not on PATH", mend)];
    };
    let count = async |pattern: &str| match run(&fc_list, &[pattern, "family"]).await {
        Ok(output) => output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count(),
        Err(_) => 0,
    };
    let all = count(":").await;
    if all == 0 {
        return vec![Finding::fail(WHAT, "none: no text is drawn", "apt-get install fonts-liberation")];
    }
    let mut findings = vec![Finding::ok(WHAT, format!("{all} families"))];
    let mut missing: Vec<(&str, Vec<&str>)> = Vec::new();
    for (script, pattern, package) in SCRIPTS {
        if count(pattern).await > 0 {
            continue;
        }
        match missing.iter_mut().find(|(known, _)| *known == package) {
            Some((_, scripts)) => scripts.push(script),
            None => missing.push((package, vec![script])),
        }
    }
    findings.extend(missing.into_iter().map(|(package, scripts)| {
        let found = format!("none has {}: it is drawn as boxes", scripts.join(", "));
        Finding::warn(WHAT, found, format!("apt-get install {package}, where sites bring none of their own"))
    }));
    findings
}

/// The compositor and its ffmpeg beside a `@remotion/renderer`.
pub(super) async fn compositor(site: &str, renderer: &Path) -> Finding {
    const WHAT: &str = "remotion";
    let mend = "install its packages again (npm ci), and add the site again: lastframe site add";
    let name = format!("compositor-{}", platform());
    // Beside the renderer, or in a folder of packages of the renderer's own.
    let places = [
        renderer.parent().map(|scope| scope.join(&name)),
        Some(renderer.join("node_modules/@remotion").join(&name)),
    ];
    let Some(folder) = places.into_iter().flatten().find(|folder| folder.is_dir()) else {
        let found = format!("site {site}: no @remotion/{name} beside {}", renderer.display());
        return Finding::fail(WHAT, found, mend);
    };
    let probe = Command::new(folder.join("ffprobe"))
        .arg("-version")
        .env("LD_LIBRARY_PATH", &folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(PATIENCE, probe).await {
        Ok(Ok(output)) if output.status.success() => {
            let version = first_line(&output.stdout);
            let version = version.split(" Copyright").next().unwrap_or_default();
            Finding::ok(WHAT, format!("site {site}: {version}"))
        }
        Ok(Ok(output)) => {
            let found = format!("site {site}: ffprobe fails: {}", first_line(&output.stderr));
            Finding::fail(WHAT, found, mend)
        }
        Ok(Err(error)) => Finding::fail(WHAT, format!("site {site}: ffprobe does not run: {error}"), mend),
        Err(_) => Finding::fail(WHAT, format!("site {site}: ffprobe hangs"), mend),
    }
}

/// As npm calls the package for this machine.
fn platform() -> String {
    let processor = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let library = if Path::new("/lib/ld-musl-x86_64.so.1").exists()
        || Path::new("/lib/ld-musl-aarch64.so.1").exists()
    {
        "musl"
    } else {
        "gnu"
    };
    format!("linux-{processor}-{library}")
}
