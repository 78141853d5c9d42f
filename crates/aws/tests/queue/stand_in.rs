//! What stands in for AWS, on loopback: one process of each for all tests of this program. `scripts/setup tests` installs them.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;

/// Something that speaks like AWS.
pub(crate) trait StandIn: std::fmt::Debug + Send + Sync + 'static {
    /// What Python is to run, with a port as its argument.
    const PROGRAM: &'static str;

    /// Where it listens, once it was started.
    fn once() -> &'static OnceLock<String>;

    /// Where it listens.
    fn url() -> &'static str {
        Self::once().get_or_init(|| start(Self::PROGRAM))
    }
}

#[derive(Debug)]
pub(crate) struct MiniStack;

impl StandIn for MiniStack {
    const PROGRAM: &'static str = "
os.environ.update(GATEWAY_PORT=sys.argv[1], BIND_HOST='127.0.0.1', MINISTACK_HOST='127.0.0.1', IOT_MTLS_ENABLED='0')
import runpy
sys.argv = ['ministack']
runpy.run_module('ministack', run_name='__main__')
";

    fn once() -> &'static OnceLock<String> {
        static URL: OnceLock<String> = OnceLock::new();
        &URL
    }
}

#[derive(Debug)]
pub(crate) struct Moto;

impl StandIn for Moto {
    // It answers several requests at once, and nothing of it keeps transactions apart; and for each item of a transaction it
    // makes a copy of the whole table, of which the first would do.
    const PROGRAM: &'static str = "
import copy
import moto.dynamodb.models as models
from moto.dynamodb.responses import DynamoHandler
guard, answer, copies = threading.Lock(), DynamoHandler.call_action, {}
def one_after_another(self):
    with guard:
        copies.clear()
        return answer(self)
class CopyOnce:
    copy = staticmethod(copy.copy)
    @staticmethod
    def deepcopy(value):
        if not isinstance(value, models.Table):
            return copy.deepcopy(value)
        if id(value) not in copies:
            copies[id(value)] = copy.deepcopy(value)
        return copies[id(value)]
DynamoHandler.call_action, models.copy = one_after_another, CopyOnce
from moto.server import main
main(['-H', '127.0.0.1', '-p', sys.argv[1]])
";

    fn once() -> &'static OnceLock<String> {
        static URL: OnceLock<String> = OnceLock::new();
        &URL
    }
}

/// It ends with its standard input, and so with this process, whatever that dies of.
const UNTIL_ITS_INPUT_ENDS: &str = "
import os, sys, threading
def until_its_input_ends():
    sys.stdin.buffer.read()
    os._exit(0)
threading.Thread(target=until_its_input_ends, daemon=True).start()
";

fn start(program: &str) -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let program = format!("{UNTIL_ITS_INPUT_ENDS}{program}");
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(port.to_string());
    std::fs::create_dir_all(&folder).unwrap();
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/venv/bin/python");
    let mut process = Command::new(&python)
        .args(["-c", &program, &port.to_string()])
        .env("TMPDIR", &folder)
        .env("STATE_DIR", folder.join("state"))
        .current_dir(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; run scripts/setup tests", python.display()));
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(process.try_wait().unwrap().is_none(), "it has ended: has scripts/setup tests been run?");
        // It cannot signal that it listens; asking again is all there is.
        std::thread::sleep(Duration::from_millis(20));
    }
    // Its input ends when this process does.
    std::mem::forget(process);
    format!("http://127.0.0.1:{port}")
}

/// How to reach it.
pub(crate) async fn sdk<A: StandIn>() -> SdkConfig {
    let keys = SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "test"));
    let sdk = lastframe_aws::sdk(None, Some("us-east-1")).await.into_builder();
    sdk.region(Region::new("us-east-1")).endpoint_url(A::url()).credentials_provider(keys).build()
}
