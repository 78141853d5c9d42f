//! What a site's code can reach, as code that means harm would try it: within the browser, and within Node.
//!
//! Each attack has a control arm, without walls, in which it gets something: it is the walls that hold, and not the attack
//! that is lame.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::Query;
use axum::response::Redirect;
use axum::routing::get;
use serde_json::{Value, json};

use crate::server::{Server, command, project, send_signal};

/// A server of somebody else: media, redirects to wherever one likes, and a count of how often it was asked.
struct Host {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Host {
    async fn start(ip: Ipv4Addr) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, clip) = (Arc::clone(&asked), std::fs::read(project().join("public/clip.mp4")).unwrap());
        let redirect = async |Query(query): Query<HashMap<String, String>>| Redirect::temporary(&query["to"]);
        let router = Router::new()
            .route("/text", get(async || "something of value"))
            .route("/clip.mp4", get(async || ([("content-type", "video/mp4")], clip)))
            .route("/redirect", get(redirect))
            .layer(axum::middleware::map_request(move |request: axum::extract::Request| {
                count.fetch_add(1, Ordering::Relaxed);
                std::future::ready(request)
            }));
        let listener = tokio::net::TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { address, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// What the page of the test site got for each of the URLs, with the browser's own rules for pages off.
async fn ask(server: &Server, urls: &[String]) -> (Vec<String>, String) {
    let options = json!({"inputProps": {"urls": urls}, "chromiumOptions": {"disableWebSecurity": true}});
    let id = server.submit("asks", options).await;
    server.succeeded(&id).await;
    let log = server.get(&format!("/v1/renders/{id}/log")).await.text().await.unwrap();
    let line = log.lines().find_map(|line| line.split_once("asked: ")).unwrap_or_else(|| panic!("{log}"));
    (serde_json::from_str(line.1).unwrap(), log)
}

fn config(allowed: SocketAddr, sandbox: &str) -> String {
    format!(
        "[render]\nconcurrency = 2\nsandbox = \"{sandbox}\"\nallow_hosts = [\"{allowed}\"]\n[queue]\nretry_delay = \"10ms\""
    )
}

/// URLs that are none of a site's business, on the machine of that server.
fn forbidden(server: &Server, allowed: &Host, metadata: &Host) -> Vec<String> {
    let (port, data) = (server.url.rsplit_once(':').unwrap().1, server.data.path().display());
    let api = format!("{}/healthz", server.url);
    let mut urls: Vec<_> =
        ["127.0.0.1", "localhost", "0.0.0.0", "2130706433", "0x7f.1", "0177.0.0.1", "[::ffff:127.0.0.1]"]
            .map(|host| format!("http://{host}:{port}/healthz"))
            .into();
    urls.extend([
        format!("http://{}/text", metadata.address),
        format!("http://{}/redirect?to={api}", allowed.address),
        // Remotion's own server fetches for a page: by Node, and not by the browser.
        format!("/proxy?src={api}&time=0&transparent=false&toneMapped=false"),
        format!(
            "/proxy?src=http://{}/redirect%3Fto%3D{api}&time=0&transparent=false&toneMapped=false",
            allowed.address
        ),
        format!("file://{data}/lastframe.db"),
        format!("file://{data}/admin-token"),
        format!("file:///proc/{}/environ", server.process()),
        "file:///proc/self/environ".into(),
    ]);
    urls
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_reaches_what_is_allowed_and_nothing_of_the_machine() {
    let (allowed, metadata) =
        (Host::start(Ipv4Addr::LOCALHOST).await, Host::start(Ipv4Addr::new(127, 0, 0, 2)).await);
    let server = Server::without_site(&config(allowed.address, "required")).await;
    server.add_site("test").await;
    let mut urls = forbidden(&server, &allowed, &metadata);
    let harmless = urls.len();
    urls.push(format!("http://{}/text", allowed.address));
    urls.push(format!(
        "/proxy?src=http://{}/clip.mp4&time=0&transparent=false&toneMapped=false",
        allowed.address
    ));
    let (answers, log) = ask(&server, &urls).await;
    for (url, answer) in urls.iter().zip(&answers[..harmless]) {
        assert!(
            answer.starts_with("403 ") || answer.starts_with("none") || answer.starts_with("500 "),
            "{url}: {answer}\n{log}"
        );
    }
    assert_eq!(answers[harmless], "200 something of value", "{log}");
    assert!(answers[harmless + 1].starts_with("200 "), "{}\n{log}", answers[harmless + 1]);
    assert_eq!(metadata.asked(), 0);
    let refused = format!("the proxy refused {}: 127.0.0.2 is not public", metadata.address);
    assert!(log.contains(&refused), "{log}");

    let server = server.reconfigured(&config(allowed.address, "off")).await;
    assert!(server.log().contains("render.sandbox is off"));
    let urls = forbidden(&server, &allowed, &metadata);
    let (answers, log) = ask(&server, &urls).await;
    let got = |url: &str| {
        let place = urls.iter().position(|asked| asked.contains(url)).unwrap();
        assert!(answers[place].starts_with("200 "), "without walls, {url} gives {}\n{log}", answers[place]);
    };
    got("http://127.0.0.1:");
    got("http://2130706433:");
    got("127.0.0.2");
    got("redirect?to=http");
    assert!(metadata.asked() > 0);
}

/// What code within Node tries: prints the names of what it got, and ends.
const ATTACK: &str = r#"
import fs from 'node:fs';
import net from 'node:net';
const { data, server, port, metadata, socket, planted } = JSON.parse(fs.readFileSync(new URL('target.json', import.meta.url)));
const connected = (options) => new Promise((resolve, reject) => {
  const client = net.connect(options, () => { client.destroy(); resolve(true); });
  client.on('error', reject);
});
const everywhere = (what) => fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name)).some((process) => {
  try { return what(process); } catch { return false; }
});
const tries = {
  database: () => fs.readFileSync(`${data}/lastframe.db`),
  key: () => fs.readFileSync(`${data}/admin-token`),
  'data folder': () => fs.readdirSync(data).includes('lastframe.db'),
  outputs: () => fs.readdirSync(`${data}/outputs`).length > 0 && fs.readFileSync(`${data}/outputs/${fs.readdirSync(`${data}/outputs`)[0]}/1.mp4`),
  'another site': () => fs.readFileSync(`${data}/sites/other/index.html`),
  'scratch of others': () => fs.readFileSync(`${data}/work/other/own/secret`),
  'shared folder': () => fs.readFileSync(`${data}/../lastframe-shared-${server}`),
  'environment of the server': () => fs.readFileSync(`/proc/${server}/environ`).length > 0,
  'a secret in an environment': () => everywhere((process) => fs.readFileSync(`/proc/${process}/environ`).includes('hunter2')),
  'memory of the server': () => fs.closeSync(fs.openSync(`/proc/${server}/mem`)) ?? true,
  'files of the server': () => fs.readlinkSync(`/proc/${server}/fd/0`),
  signal: () => process.kill(server, 'SIGCONT'),
  api: () => connected({ port, host: '127.0.0.1' }),
  metadata: () => connected(metadata),
  socket: () => connected(socket),
};
const got = [];
for (const [name, attempt] of Object.entries(tries)) {
  try { if (await attempt()) got.push(name); } catch {}
}
// Judged from outside: what is written to a folder that is there for the sidecar alone harms nobody.
for (const path of planted) {
  try { fs.mkdirSync(new URL('.', `file://${path}`), { recursive: true }); fs.writeFileSync(path, ''); } catch {}
}
let own = 'cannot write';
try { fs.writeFileSync(`${process.env.TMPDIR}/x`, ''); fs.writeFileSync(`${process.env.HOME}/x`, ''); own = 'own'; } catch {}
console.error(`got: ${JSON.stringify([...got, own])}`);
process.exit(3);
"#;

/// What the attack got on that server, of which `prefix` begins the command.
async fn attack(prefix: &[&str], owner: Option<u32>, sandbox: &str) -> (Vec<String>, Server) {
    let metadata = Host::start(Ipv4Addr::new(127, 0, 0, 2)).await;
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    open(folder.path());
    let node = folder.path().join("node");
    // Honest until the file is there: the site has to be added first.
    let script = format!(
        "#!/bin/bash\nif [ -e {0}/target.json ]; then exec node {0}/attack.mjs; fi\nexec node \"$@\"\n",
        folder.path().display()
    );
    std::fs::write(&node, script).unwrap();
    open(&node);
    std::fs::write(folder.path().join("attack.mjs"), ATTACK).unwrap();

    let data = tempfile::tempdir().unwrap();
    let config = format!(
        "[render]\nnode = {node:?}\nsandbox = \"{sandbox}\"\n[queue]\nretry_delay = \"10ms\"\nmax_attempts = 1"
    );
    std::fs::write(data.path().join("lastframe.toml"), config).unwrap();
    std::os::unix::fs::chown(data.path(), owner, owner).unwrap();
    let honest = command(data.path());
    let mut started = Command::new(prefix.first().map_or(honest.get_program(), |program| program.as_ref()));
    if let [_, words @ ..] = prefix {
        started.args(words).arg(honest.get_program());
    }
    started.args(honest.get_args());
    started.envs(honest.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let server = Server::started_by(started, data).await;
    server.add_site("test").await;
    let first = server.submit("tiny", json!({})).await;
    server.succeeded(&first).await;

    let data = server.data.path();
    for (path, text) in [("sites/other/index.html", "another's"), ("work/other/own/secret", "another's")] {
        let path = data.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let shared = data.with_file_name(format!("lastframe-shared-{}", server.process()));
    std::fs::write(&shared, "everybody's").unwrap();
    // As the server itself makes its files: its user's alone.
    let owned =
        Command::new("chown").arg("-R").arg(owner.unwrap_or_else(euid).to_string()).arg(data).status();
    assert!(owned.unwrap().success());
    let socket = data.with_file_name(format!("lastframe-socket-{}", server.process()));
    let listener = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o777)).unwrap();
    let version = server.render(&first).await["siteVersion"].as_str().unwrap().to_owned();
    let name = format!("lastframe-planted-{}", server.process());
    let planted = [
        data.join(&name),
        data.join("sites").join(version).join(&name),
        data.with_file_name(&name),
        project().join("node_modules/@remotion/renderer").join(&name),
        folder.path().join(&name),
    ];
    let target = json!({
        "planted": planted,
        "data": data,
        "server": server.process(),
        "port": server.url.rsplit_once(':').unwrap().1.parse::<u16>().unwrap(),
        "metadata": {"host": metadata.address.ip(), "port": metadata.address.port()},
        "socket": {"path": socket},
    });
    std::fs::write(folder.path().join("target.json"), target.to_string()).unwrap();
    // The warm sidecar is an honest one: it goes first, and all of it, or it would take the next render in its last moment.
    send_signal("KILL", server.sidecar_process("sidecar.mjs", "supervise"));
    while !server.sidecar_processes().is_empty() {
        // Its end is told to the server, and not to a test.
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let id = server.submit("tiny", json!({})).await;
    let render = server.ended(&id).await;
    let message = render["errors"][0]["message"].as_str().unwrap_or_default().to_owned();
    let got = message.split_once("got: ").unwrap_or_else(|| panic!("{render}\n{}", server.log())).1;
    let mut got = serde_json::Deserializer::from_str(got).into_iter::<Vec<String>>().next().unwrap().unwrap();
    got.extend(planted.iter().filter(|path| path.exists()).map(|path| format!("write {}", path.display())));
    drop(listener);
    for file in planted.into_iter().chain([socket, shared]) {
        std::fs::remove_file(file).ok();
    }
    (got, server)
}

fn euid() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[tokio::test(flavor = "multi_thread")]
async fn code_within_node_gets_nothing_that_is_not_its_own() {
    let (got, server) = attack(&[], None, "required").await;
    assert_eq!(got, ["own"], "{}", server.log());
    assert!(server.log().contains("renders are walled in "), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_walls_the_same_code_gets_all_of_it() {
    let (got, _) = attack(&[], None, "off").await;
    let tried = ATTACK.lines().filter(|line| line.starts_with("  ") && line.contains(": () =>")).count();
    let written = got.iter().filter(|got| got.starts_with("write ")).count();
    assert_eq!((got.len(), written), (tried + 1 + 5, 5), "{got:?}");
}

/// Nobody, where the tests run as somebody who can become that; else whoever runs them.
fn nobody() -> (Vec<&'static str>, Option<u32>) {
    if !rustix::process::geteuid().is_root() {
        return (vec![], None);
    }
    (vec!["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], Some(65_534))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_rights_walls_its_renders_in_by_user_namespaces() {
    let (prefix, owner) = nobody();
    let (got, server) = attack(&prefix, owner, "required").await;
    assert_eq!(got, ["own"], "{}", server.log());
    assert!(server.log().contains("a user namespace, without capabilities"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_namespaces_are_denied_landlock_alone_leaves_no_more_than_it_says() {
    // In a user namespace that may have none within it; root of it, yet with no right over anything outside.
    let (mut prefix, owner) = nobody();
    let deny = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all \"$@\"";
    prefix.extend(["unshare", "--user", "--map-root-user", "sh", "-c", deny, "sh"]);
    let (got, server) = attack(&prefix, owner, "auto").await;
    assert_eq!(got, ["socket", "own"], "{}", server.log());
    let log = server.log();
    assert!(log.contains("renders are walled in, though not on all sides"), "{log}");
    assert!(log.contains("network: open: only the proxy's and two more TCP ports, yet UDP"), "{log}");

    // Where all of it is required, such a machine gets no server.
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("lastframe.toml"), "[render]\nsandbox = \"required\"").unwrap();
    std::os::unix::fs::chown(data.path(), owner, owner).unwrap();
    let serve = command(data.path());
    let refused = Command::new(prefix[0])
        .args(&prefix[1..])
        .arg(serve.get_program())
        .args(serve.get_args())
        .env("LASTFRAME_DATA", data.path())
        .output()
        .unwrap();
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && why.contains("render.sandbox is required"), "{why}");
    assert!(why.contains("network: ") && why.contains("user: "), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_render_that_takes_too_much_memory_ends_and_says_so() {
    let server = Server::configured("[render]\nmax_memory = 1000000000\n[queue]\nmax_attempts = 1").await;
    let id = server.submit("hoards", json!({"inputProps": {"mebibytes": 1500}})).await;
    let render: Value = server.ended(&id).await;
    assert_eq!(
        (&render["status"], &render["errors"][0]["code"]),
        (&json!("failed"), &json!("out_of_memory")),
        "{render}"
    );
    assert!(render["errors"][0]["message"].as_str().unwrap().contains("render.max_memory"), "{render}");
    assert_eq!(server.sidecar_processes(), [].into());
    let id = server.submit("tiny", json!({})).await;
    server.succeeded(&id).await;
}
