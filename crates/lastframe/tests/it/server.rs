//! A server in a process of its own, on a data folder of its own, with the test site at hand.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use lastframe::config::{Config, Flags};
use lastframe_worker::local::Sandbox;
use reqwest::{Method, RequestBuilder, Response};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// No step of a test takes so long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Renders of a few small frames, and leases short enough to be outlived in a test.
const CONFIG: &str = r#"
[render]
concurrency = 2
[queue]
lease = "6s"
retry_delay = "200ms"
"#;

pub(crate) struct Server {
    process: Child,
    pub(crate) data: tempfile::TempDir,
    pub(crate) url: String,
    pub(crate) token: String,
    http: reqwest::Client,
}

impl Server {
    /// A fresh server that knows the test site as `test`.
    pub(crate) async fn start() -> Self {
        Self::configured(CONFIG).await
    }

    pub(crate) async fn configured(config: &str) -> Self {
        Self::on(prepared(config).await).await
    }

    pub(crate) async fn without_site(config: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("lastframe.toml"), config).unwrap();
        Self::on(data).await
    }

    /// A server on a data folder that may have been used before.
    pub(crate) async fn on(data: tempfile::TempDir) -> Self {
        Self::reached_by(data, client()).await
    }

    /// A server that a command starts on a data folder, as the process that the command begins with.
    pub(crate) async fn started_by(command: Command, data: tempfile::TempDir) -> Self {
        Self::begun(command, data, client()).await
    }

    /// The same, for a client that may trust what others do not.
    pub(crate) async fn reached_by(data: tempfile::TempDir, http: reqwest::Client) -> Self {
        let command = command(data.path());
        Self::begun(command, data, http).await
    }

    /// A server that has Node and a browser, and no npm: what it renders with lies in its data folder already.
    pub(crate) async fn without_npm(config: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("lastframe.toml"), config).unwrap();
        let programs = data.path().join("programs");
        std::fs::create_dir(&programs).unwrap();
        for program in ["node", "chromium-headless-shell", "chromium", "google-chrome"] {
            let path = std::env::var_os("PATH").unwrap();
            let found =
                std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.exists());
            if let Some(found) = found {
                std::os::unix::fs::symlink(found.canonicalize().unwrap(), programs.join(program)).unwrap();
            }
        }
        let mut command = command(data.path());
        command.env("PATH", &programs);
        Self::started_by(command, data).await
    }

    /// Puts the Remotion of the test project where the server keeps its own.
    pub(crate) fn give_renderer(&self) {
        let prefix = self.data.path().join("renderers").join(REMOTION);
        std::fs::create_dir_all(&prefix).unwrap();
        std::os::unix::fs::symlink(project().join("node_modules"), prefix.join("node_modules")).unwrap();
    }

    async fn begun(mut command: Command, data: tempfile::TempDir, http: reqwest::Client) -> Self {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(data.path().join("server.log"))
            .unwrap();
        let process = command.stderr(log).stdout(Stdio::null()).spawn().unwrap();
        let mut server = Self { process, data, url: String::new(), token: String::new(), http };
        server.await_ready().await;
        server
    }

    async fn await_ready(&mut self) {
        let (address, token) = (self.data.path().join("address"), self.data.path().join("admin-token"));
        let ready = async {
            loop {
                if let Some(status) = self.process.try_wait().unwrap() {
                    panic!("the server ended with {status}:\n{}", self.log());
                }
                if let (Ok(url), Ok(token)) =
                    (std::fs::read_to_string(&address), std::fs::read_to_string(&token))
                    && self
                        .http
                        .get(format!("{url}/healthz"))
                        .send()
                        .await
                        .is_ok_and(|answer| answer.status() == 200)
                {
                    return (url, token);
                }
                // The server cannot signal a test that it listens; asking again is all there is.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        (self.url, self.token) = timeout(PATIENCE, ready).await.expect("the server comes up");
    }

    pub(crate) async fn add_site(&self, name: &str) {
        self.add_site_of(&self.token, name).await;
    }

    /// Adds the test site to those of the tenant whose token this is.
    pub(crate) async fn add_site_of(&self, token: &str, name: &str) {
        let renderer = project().join("node_modules/@remotion/renderer");
        let answer = self
            .http
            .post(format!("{}/v1/sites/{name}/versions", self.url))
            .bearer_auth(token)
            .query(&[("renderer", renderer.to_str().unwrap())])
            .body(bundle().to_vec())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request_with(&self.token, method, path)
    }

    pub(crate) fn request_with(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(token)
    }

    /// A token of a program of that tenant, good for these scopes alone.
    pub(crate) async fn token_of(&self, tenant: &str, scopes: &[&str]) -> String {
        let new = json!({"name": format!("test of {tenant}"), "tenant": tenant, "scopes": scopes});
        let (status, made) = self.post("/v1/tokens", &new).await;
        assert_eq!(status, 201, "{made}");
        made["token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.request(Method::POST, path).json(body).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap())
    }

    /// Submits a render of the test site that must be accepted, and gives its id.
    pub(crate) async fn submit(&self, composition: &str, fields: Value) -> String {
        let mut body = json!({"serveUrl": "test", "composition": composition});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let (status, answer) = self.post("/v1/renders", &body).await;
        assert_eq!(status, 202, "{answer}");
        answer["renderId"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn render(&self, id: &str) -> Value {
        self.get(&format!("/v1/renders/{id}")).await.json().await.unwrap()
    }

    /// Follows the render's live events until one satisfies the condition.
    pub(crate) async fn follow(&self, id: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let follow = async {
            let mut events = self.get(&format!("/v1/renders/{id}/events")).await;
            assert_eq!(events.status(), 200);
            let (mut text, mut last) = (String::new(), Value::Null);
            while let Some(chunk) = events.chunk().await.expect("the stream goes on") {
                text.push_str(std::str::from_utf8(&chunk).unwrap());
                while let Some((event, rest)) = text.split_once("\n\n") {
                    if let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) {
                        last = serde_json::from_str(data).unwrap();
                        if condition(&last) {
                            return last;
                        }
                    }
                    text = rest.to_owned();
                }
            }
            panic!("the stream ended before the condition came about; last: {last}");
        };
        timeout(PATIENCE, follow)
            .await
            .unwrap_or_else(|_| panic!("waited in vain; the server's log:\n{}", self.log()))
    }

    pub(crate) async fn ended(&self, id: &str) -> Value {
        self.follow(id, |render| {
            ["succeeded", "failed", "cancelled"].contains(&render["status"].as_str().unwrap())
        })
        .await;
        self.render(id).await
    }

    pub(crate) async fn succeeded(&self, id: &str) -> Value {
        let render = self.ended(id).await;
        assert_eq!(render["status"], "succeeded", "{render}\n{}", self.log());
        render
    }

    /// Waits until frames of it have been made.
    pub(crate) async fn under_way(&self, id: &str) -> Value {
        self.follow(id, |render| {
            render["status"] == "rendering" && render["framesRendered"].as_u64().unwrap() > 0
        })
        .await
    }

    pub(crate) async fn output(&self, id: &str) -> Vec<u8> {
        let answer = self.get(&format!("/v1/renders/{id}/output")).await;
        assert_eq!(answer.status(), 200);
        answer.bytes().await.unwrap().to_vec()
    }

    /// The files among the outputs, of finished and unfinished attempts alike; not their posters.
    pub(crate) fn output_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for render in std::fs::read_dir(self.data.path().join("outputs")).unwrap() {
            files.extend(std::fs::read_dir(render.unwrap().path()).unwrap().map(|file| file.unwrap().path()));
            files.retain(|file| !file.to_string_lossy().ends_with(".poster.jpg"));
        }
        files
    }

    /// The processes that belong to this server's sidecars, with their command lines.
    pub(crate) fn sidecar_processes(&self) -> HashMap<i32, String> {
        let mark = format!("LASTFRAME_SIDECAR={}", self.data.path().display());
        std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| {
                let process: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
                let environment = std::fs::read(format!("/proc/{process}/environ")).ok()?;
                environment
                    .split(|byte| *byte == 0)
                    .any(|variable| variable.starts_with(mark.as_bytes()))
                    .then_some(())?;
                let command = std::fs::read(format!("/proc/{process}/cmdline")).ok()?;
                Some((process, String::from_utf8_lossy(&command).replace('\0', " ")))
            })
            .collect()
    }

    /// Stops the server and starts it again under another configuration.
    pub(crate) async fn reconfigured(mut self, config: &str) -> Self {
        self.signal("TERM");
        assert!(self.exit().await.success());
        let data = self.give_up_data();
        std::fs::write(data.path().join("lastframe.toml"), config).unwrap();
        Self::on(data).await
    }

    /// One of the sidecars' processes whose command line holds `part`, and not `other`.
    pub(crate) fn sidecar_process(&self, part: &str, other: &str) -> i32 {
        let processes = self.sidecar_processes();
        let found = processes.iter().find(|(_, command)| command.contains(part) && !command.contains(other));
        *found.unwrap_or_else(|| panic!("no {part} among {processes:?}")).0
    }

    pub(crate) fn process(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn signal(&self, signal: &str) {
        send_signal(signal, i32::try_from(self.process.id()).unwrap());
    }

    /// Waits until the server has taken notice of a signal to stop.
    pub(crate) async fn stopping(&self) {
        let stopping = async { while self.get("/readyz").await.status() == 200 {} };
        timeout(PATIENCE, stopping).await.expect("the server takes notice");
    }

    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let exited = async {
            loop {
                if let Some(status) = self.process.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, exited).await.expect("the server exits")
    }

    /// `kill -9`, and a new server on the same data folder.
    pub(crate) async fn kill_and_restart(mut self) -> Self {
        self.signal("KILL");
        self.exit().await;
        Self::on(self.give_up_data()).await
    }

    /// The data folder, with no server on it any more.
    pub(crate) fn give_up_data(&mut self) -> tempfile::TempDir {
        std::mem::replace(&mut self.data, tempfile::tempdir().unwrap())
    }

    /// Files that the server has open, connections among them.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    /// Bytes that the server holds in memory.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.data.path().join("server.log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM first: it takes the sidecars along, and a test that failed should not leave a browser behind.
        if self.process.try_wait().is_ok_and(|status| status.is_none()) {
            self.process.kill().ok();
            self.process.wait().ok();
        }
    }
}

/// A data folder of its own that knows the test site as `test`.
pub(crate) async fn prepared(config: &str) -> tempfile::TempDir {
    static WITH_SITE: Prepared = Prepared::new();
    WITH_SITE.folder(config, async |server| server.add_site("test").await).await
}

/// A data folder that is made once, and copied for each test that wants to begin with it: to look into a site takes a browser,
/// and seconds. Keys and the admin's token are therefore the same in all copies.
pub(crate) struct Prepared(OnceCell<Vec<u8>>);

impl Prepared {
    pub(crate) const fn new() -> Self {
        Self(OnceCell::const_new())
    }

    /// A copy with that configuration; for the first, `make` tells a server on it what all shall know.
    pub(crate) async fn folder(&self, config: &str, make: impl AsyncFnOnce(&Server)) -> tempfile::TempDir {
        let pack = async || {
            let mut server = Server::without_site("").await;
            make(&server).await;
            server.signal("TERM");
            assert!(server.exit().await.success(), "{}", server.log());
            std::fs::remove_file(server.data.path().join("server.log")).unwrap();
            let mut archive = tar::Builder::new(Vec::new());
            archive.append_dir_all(".", server.data.path()).unwrap();
            archive.into_inner().unwrap()
        };
        let packed = self.0.get_or_init(pack).await;
        let data = tempfile::tempdir().unwrap();
        let mut archive = tar::Archive::new(packed.as_slice());
        archive.set_preserve_permissions(true);
        archive.unpack(data.path()).unwrap();
        std::fs::write(data.path().join("lastframe.toml"), config).unwrap();
        data
    }
}

/// What a server within the test's own process is told. It makes no renders: a program that tests has not the roles that
/// the program itself has for them.
pub(crate) fn without_renders(flags: Flags) -> Config {
    Config { sandbox: Sandbox::Off, ..Config::load(flags).unwrap() }
}

/// The command that starts a server on a data folder.
pub(crate) fn command(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastframe"));
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("LASTFRAME_DATA", data)
        .env("A_SECRET_OF_THE_SERVER", "hunter2");
    command
}

/// Runs a command of the program against a server, and gives its exit code and what it printed.
pub(crate) fn run(server: &Server, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lastframe"))
        .args(arguments)
        .env("LASTFRAME_DATA", server.data.path())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

pub(crate) fn send_signal(signal: &str, process: i32) {
    let signal = match signal {
        "STOP" => Signal::STOP,
        "CONT" => Signal::CONT,
        "TERM" => Signal::TERM,
        "INT" => Signal::INT,
        "HUP" => Signal::HUP,
        "KILL" => Signal::KILL,
        other => panic!("no test sends {other}"),
    };
    kill_process(Pid::from_raw(process).unwrap(), signal).unwrap();
}

pub(crate) fn client() -> reqwest::Client {
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder().timeout(PATIENCE).build().unwrap()
}

/// The Remotion project whose test site is rendered.
pub(crate) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../remotion-app").canonicalize().unwrap()
}

/// The Remotion version of the project.
pub(crate) const REMOTION: &str = "4.0.527";

/// The test site, bundled once for all tests.
pub(crate) fn bundle() -> &'static [u8] {
    static BUNDLE: OnceLock<Vec<u8>> = OnceLock::new();
    BUNDLE.get_or_init(|| {
        let out = tempfile::tempdir().unwrap();
        let bundled = Command::new("node")
            .arg(project().join("node_modules/@remotion/cli/remotion-cli.js"))
            .args(["bundle", "test-site/index.ts", "--out-dir"])
            .arg(out.path().join("bundle"))
            .current_dir(project())
            .output()
            .expect("node is installed");
        assert!(bundled.status.success(), "{}", String::from_utf8_lossy(&bundled.stderr));
        let packed = Command::new("tar")
            .arg("-cz")
            .arg("-C")
            .arg(out.path().join("bundle"))
            .arg(".")
            .output()
            .unwrap();
        assert!(packed.status.success());
        packed.stdout
    })
}

/// A program of the ffmpeg that comes with Remotion.
pub(crate) fn ffmpeg(program: &str) -> Command {
    let folder = project().join("node_modules/@remotion/compositor-linux-x64-gnu");
    let mut command = Command::new(folder.join(program));
    command.env("LD_LIBRARY_PATH", folder);
    command
}

/// What ffprobe says of a file, its frames decoded and counted.
pub(crate) fn probe(file: &Path) -> Value {
    let probed = ffmpeg("ffprobe")
        .args(["-v", "error", "-count_frames", "-show_streams", "-show_format", "-of", "json"])
        .arg(file)
        .output()
        .unwrap();
    assert!(probed.status.success(), "{}", String::from_utf8_lossy(&probed.stderr));
    serde_json::from_slice(&probed.stdout).unwrap()
}
