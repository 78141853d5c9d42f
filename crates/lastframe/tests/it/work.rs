//! A fleet: machines in networks of their own that work for one queue on AWS, or what stands in for it.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use axum::Router;
use lastframe_aws::queue::{AwsQueue, Options, schema};
use lastframe_core::ports::{Directory as _, NewRender, Queue as _};
use lastframe_core::site::SiteVersion;
use lastframe_core::{
    Kind, Limits, Render, RenderId, RenderRequest, RetryPolicy, Status, SystemClock, TenantId,
};
use lastframe_stand_in::StandIn;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tower_http::services::ServeDir;

use crate::network::{Machine, Network};
use crate::server::{PATIENCE, REMOTION, bundle, client, probe, project, send_signal};

const REGION: &str = "eu-central-1";
const TABLE: &str = "fleet";
const BUCKET: &str = "fleet-bucket";
const KEY: &str = "test";
const SECRET: &str = "test";
/// The stand-in looks at no signature.
const SIGNED: &str =
    "AWS4-HMAC-SHA256 Credential=test/20260101/eu-central-1/s3/aws4_request, SignedHeaders=host, Signature=x";
/// How soon a machine that is not heard of has lost what it was rendering.
const LEASE: &str = "4s";

/// What stands in for AWS, where everybody on the network reaches it; with a queue, its bucket, and the test site.
struct Cloud {
    _aws: StandIn,
    url: String,
    queue: AwsQueue,
    /// What the environment of a worker says of the queue.
    variables: Vec<(&'static str, String)>,
    _site: tempfile::TempDir,
}

impl Cloud {
    async fn start(here: Ipv4Addr) -> Self {
        let aws = StandIn::ministack_at(here.into(), &[]);
        let url = aws.url().to_owned();
        let sdk = lastframe_aws::sdk(None, Some(REGION)).await.into_builder().endpoint_url(&url);
        let keys = Credentials::new(KEY, SECRET, None, None, "test");
        let sdk = sdk.credentials_provider(SharedCredentialsProvider::new(keys)).build();
        let place = format!(
            "<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
        );
        let made = client().put(format!("{url}/{BUCKET}")).header("authorization", SIGNED).body(place);
        let made = made.send().await.unwrap();
        assert_eq!(made.status(), 200);
        let queues = schema::create(&sdk, TABLE).await.unwrap();
        let variables = vec![
            ("AWS_ENDPOINT_URL", url.clone()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("LASTFRAME_TABLE", TABLE.to_owned()),
            ("LASTFRAME_QUEUE_URL", queues.queue_url.clone()),
            ("LASTFRAME_DEAD_LETTERS_URL", queues.dead_letters_url.clone()),
            ("LASTFRAME_TIMERS_URL", queues.timers_url.clone()),
            ("LASTFRAME_BUCKET", BUCKET.to_owned()),
        ];
        let options = Options {
            table: TABLE.into(),
            queue_url: queues.queue_url,
            dead_letters_url: Some(queues.dead_letters_url),
            timers_url: Some(queues.timers_url),
            bucket: BUCKET.into(),
            lease: Duration::from_secs(60),
            retry: RetryPolicy::default(),
            limits: Limits::default(),
        };
        let queue = AwsQueue::open(&sdk, options, Arc::new(SystemClock::new()), Arc::new(())).await.unwrap();
        let site = site();
        let listener = TcpListener::bind((here, 0)).await.unwrap();
        let place = format!("http://{}/", listener.local_addr().unwrap());
        let files = Router::new().fallback_service(ServeDir::new(site.path()));
        tokio::spawn(async { axum::serve(listener, files).await });
        queue.put_site(&tenant(), version(site.path(), place)).await.unwrap();
        Self { _aws: aws, url, queue, variables, _site: site }
    }

    /// Submits a render of so many slow frames, in a group.
    async fn submit(&self, group: &str, frames: u32) -> RenderId {
        let request = json!({
            "serveUrl": "test", "composition": "slow", "inputProps": {"frames": frames, "msPerFrame": 100},
            "queue": {"group": group},
        });
        let request: RenderRequest = serde_json::from_value(request).unwrap();
        let version = self.queue.site(&tenant(), "test").await.unwrap().unwrap().version;
        let new = NewRender { kind: Kind::Media, site_version: version, request, default_max_attempts: 3 };
        self.queue.submit(&tenant(), vec![new], None).await.unwrap().renders[0].id
    }

    /// Asks for the render until it is as it should be; other machines cannot signal.
    async fn when(&self, id: RenderId, condition: impl Fn(&Render) -> bool) -> Render {
        let asked = async {
            loop {
                let render = self.queue.get(id).await.unwrap().unwrap();
                if condition(&render) {
                    return render;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        match timeout(PATIENCE, asked).await {
            Ok(render) => render,
            Err(_) => panic!("waited in vain for {:?}", self.queue.get(id).await),
        }
    }

    async fn succeeded(&self, id: RenderId) -> Render {
        let render = self.when(id, |render| render.status.is_terminal()).await;
        assert_eq!(render.status, Status::Succeeded, "{:?}", render.error);
        render
    }

    /// Waits until frames of it have been made, and says by whom.
    async fn under_way(&self, id: RenderId) -> String {
        self.when(id, |render| render.progress.is_some_and(|progress| progress.frames_rendered > 0)).await;
        self.queue.attempts(id).await.unwrap().pop().unwrap().worker
    }

    /// Who had the render, and how that ended, the first first.
    async fn attempts(&self, id: RenderId) -> Vec<(String, String)> {
        let attempts = self.queue.attempts(id).await.unwrap().into_iter();
        attempts.map(|attempt| (attempt.worker, attempt.outcome.unwrap_or_default())).collect()
    }

    async fn objects(&self) -> Vec<String> {
        let listed = client().get(format!("{}/{BUCKET}?list-type=2&prefix=outputs/", self.url));
        let listed = listed.header("authorization", SIGNED).send().await.unwrap().text().await.unwrap();
        let mut keys: Vec<_> =
            listed.split("<Key>").skip(1).map(|key| key.split_once('<').unwrap().0.to_owned()).collect();
        keys.sort();
        keys
    }

    async fn object(&self, key: &str) -> Vec<u8> {
        let asked = client().get(format!("{}/{BUCKET}/{key}", self.url)).header("authorization", SIGNED);
        let answer = asked.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{key}");
        answer.bytes().await.unwrap().to_vec()
    }
}

/// A process that ends with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// `lastframe work` on a machine.
struct Worker {
    process: Running,
    data: tempfile::TempDir,
}

impl Worker {
    fn start(machine: &Machine, cloud: &Cloud, name: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let prefix = data.path().join("renderers").join(REMOTION);
        std::fs::create_dir_all(&prefix).unwrap();
        std::os::unix::fs::symlink(project().join("node_modules"), prefix.join("node_modules")).unwrap();
        let here = cloud.url.split([':', '/']).nth(3).unwrap();
        let config = format!(
            "[render]\nallow_hosts = [\"{here}\"]\n[queue]\nlease = \"{LEASE}\"\nretry_delay = \"200ms\"\n"
        );
        std::fs::write(data.path().join("lastframe.toml"), config).unwrap();
        let log = std::fs::File::create(data.path().join("worker.log")).unwrap();
        let mut command = machine.command(env!("CARGO_BIN_EXE_lastframe"));
        command.args(["work", "--name", name, "--concurrency", "1"]).env("LASTFRAME_DATA", data.path());
        command.envs(cloud.variables.iter().map(|(name, value)| (name, value)));
        let process = command.stderr(log.try_clone().unwrap()).stdout(log).spawn().unwrap();
        Self { process: Running(process), data }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.data.path().join("worker.log")).unwrap()
    }

    fn signal(&self, signal: &str) {
        send_signal(signal, i32::try_from(self.process.0.id()).unwrap());
    }

    async fn exit(&mut self) -> ExitStatus {
        let exited = async {
            loop {
                if let Some(status) = self.process.0.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match timeout(PATIENCE, exited).await {
            Ok(status) => status,
            Err(_) => panic!("it does not end:\n{}", self.log()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            writeln!(std::io::stderr(), "what a worker said:\n{}", self.log()).ok();
        }
    }
}

fn tenant() -> TenantId {
    TenantId::new("default")
}

/// The test site as `npm run deploy` puts it into a bucket.
fn site() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bundle.tar.gz"), bundle()).unwrap();
    let mut tar = Command::new("tar");
    let done = tar.args(["-xzf", "bundle.tar.gz"]).current_dir(folder.path()).status().unwrap();
    assert!(done.success());
    folder
}

/// What is kept of a site at a URL: the digest of two of its files, by which it is known again.
fn version(site: &Path, url: String) -> SiteVersion {
    let mut digest = Sha256::new();
    let mut size_in_bytes = 0;
    for name in ["bundle.js", "index.html"] {
        let content = std::fs::read(site.join(name)).unwrap();
        size_in_bytes += content.len() as u64;
        for part in [name.as_bytes(), &content] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
    }
    SiteVersion {
        name: "test".into(),
        version: format!("{:x}", digest.finalize()),
        remotion_version: REMOTION.into(),
        renderer: None,
        url: Some(url),
        size_in_bytes,
        compositions: Vec::new(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_share_a_queue_and_one_that_dies_or_is_cut_off_loses_nothing() {
    let Some(mut network) = Network::new() else { return };
    let (north, south) = (network.machine(), network.machine());
    let cloud = Cloud::start(network.here()).await;
    let mut workers = [("north", &north), ("south", &south)]
        .map(|(name, machine)| (name, machine, Worker::start(machine, &cloud, name)));

    // Killed in the middle of a render: the other one takes it over once the lease ends, and the group keeps its order.
    let group =
        [cloud.submit("films", 40).await, cloud.submit("films", 5).await, cloud.submit("films", 5).await];
    let first = cloud.under_way(group[0]).await;
    let (killed, other) = if first == "north" { (0, 1) } else { (1, 0) };
    workers[killed].2.signal("KILL");
    workers[killed].2.exit().await;
    let mut renders = Vec::new();
    for id in group {
        renders.push(cloud.succeeded(id).await);
    }
    let survivor = workers[other].0.to_owned();
    assert_eq!(
        cloud.attempts(group[0]).await,
        [(first.clone(), "lost".to_owned()), (survivor.clone(), "succeeded".to_owned())]
    );
    for pair in renders.windows(2) {
        assert!(pair[0].finished_at <= pair[1].started_at, "{pair:?}");
    }

    // Cut off in the middle of a render: what it still does changes nothing, neither before nor after it is back.
    let name = workers[killed].0;
    workers[killed].2 = Worker::start(workers[killed].1, &cloud, name);
    let again = [cloud.submit("films", 40).await, cloud.submit("films", 5).await];
    let first = cloud.under_way(again[0]).await;
    let (cut, other) = if first == "north" { (0, 1) } else { (1, 0) };
    workers[cut].1.cut_off(true);
    let taken_over = cloud.succeeded(again[0]).await;
    renders.push(taken_over.clone());
    renders.push(cloud.succeeded(again[1]).await);
    workers[cut].1.cut_off(false);
    assert_eq!(
        cloud.attempts(again[0]).await,
        [(first, "lost".to_owned()), (workers[other].0.to_owned(), "succeeded".to_owned())]
    );
    for (_, _, worker) in &mut workers {
        worker.signal("TERM");
        assert!(worker.exit().await.success(), "{}", worker.log());
    }
    assert!(workers[cut].2.log().contains("the lease is lost"), "{}", workers[cut].2.log());
    assert_eq!(cloud.queue.get(again[0]).await.unwrap().unwrap(), taken_over);

    // In the bucket: a video of each and its poster, and nothing of those who were late.
    let mut expected = Vec::new();
    for render in &renders {
        let output = render.output.as_ref().unwrap();
        let key = output.key.strip_prefix(&format!("s3://{BUCKET}/")).unwrap();
        expected.push(key.to_owned());
        expected.push(key.replace(".mp4", ".poster.jpg"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), cloud.object(key).await).unwrap();
        let frames = &probe(file.path())["streams"][0]["nb_read_frames"];
        assert_eq!(frames, &Value::from(output.frame_count.unwrap().to_string()), "{key}");
    }
    expected.sort();
    assert_eq!(cloud.objects().await, expected);
}
