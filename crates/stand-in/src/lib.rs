//! What stands in for AWS in tests: MiniStack and moto, each a process of its own, installed by `scripts/setup tests`.
//!
//! Where they differ from what AWS documents, the tests say so, and hold to AWS.
#![expect(clippy::unwrap_used, reason = "in a test, what must not happen is a failure of the test")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// It ends with its standard input, and so with the tests' process, whatever that dies of; its folder goes with it.
const UNTIL_ITS_INPUT_ENDS: &str = "
import os, shutil, sys, threading
def until_its_input_ends():
    sys.stdin.buffer.read()
    shutil.rmtree(os.environ['TMPDIR'], ignore_errors=True)
    os._exit(0)
threading.Thread(target=until_its_input_ends, daemon=True).start()
";

const MINISTACK: &str = "
import runpy
runpy.run_module('ministack', run_name='__main__')
";

// It answers several requests at once, and nothing of it keeps transactions apart; and for each item of a transaction it
// makes a copy of the whole table, of which the first would do.
const MOTO: &str = "
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
main(['-H', os.environ['BIND_HOST'], '-p', os.environ['GATEWAY_PORT']])
";

/// Something that speaks like AWS. It ends with this.
#[derive(Debug)]
pub struct StandIn {
    process: Child,
    folder: PathBuf,
    url: String,
}

impl StandIn {
    /// MiniStack on loopback, which looks at no signature.
    pub fn ministack() -> Self {
        Self::ministack_at(Ipv4Addr::LOCALHOST.into(), &[])
    }

    /// The same at an address of this machine, with those variables in its environment.
    pub fn ministack_at(here: IpAddr, variables: &[(&str, &str)]) -> Self {
        Self::start(MINISTACK, here, variables)
    }

    /// moto on loopback.
    pub fn moto() -> Self {
        Self::start(MOTO, Ipv4Addr::LOCALHOST.into(), &[])
    }

    fn start(program: &str, here: IpAddr, variables: &[(&str, &str)]) -> Self {
        let address = free(here);
        let url = format!("http://{address}");
        let folder = tempfile::Builder::new().prefix("stand-in-").tempdir().unwrap().keep();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/venv/bin/python");
        let process = Command::new(&python)
            .args(["-c", &format!("{UNTIL_ITS_INPUT_ENDS}{program}")])
            // Functions that run in it inherit its environment.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", &folder)
            .env("TMPDIR", &folder)
            .env("STATE_DIR", folder.join("state"))
            .env("GATEWAY_PORT", address.port().to_string())
            .env("BIND_HOST", here.to_string())
            .env("MINISTACK_HOST", here.to_string())
            .env("IOT_MTLS_ENABLED", "0")
            // Where such functions find it.
            .env("AWS_ENDPOINT_URL", &url)
            .envs(variables.iter().copied())
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{}: {error}; `scripts/setup tests` installs it", python.display())
            });
        let mut stand_in = Self { process, folder, url };
        stand_in.listens(address);
        stand_in
    }

    fn listens(&mut self, address: SocketAddr) {
        while TcpStream::connect(address).is_err() {
            assert!(self.process.try_wait().unwrap().is_none(), "it has ended:\n{}", self.log());
            // It cannot signal that it listens; asking again is all there is.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where it listens: `http://ADDRESS:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it has written about itself.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

/// A message of AWS's event streams: its kind, the type of what it holds, and that.
pub fn event(kind: &str, content: &str, payload: &[u8]) -> Vec<u8> {
    let mut headers = Vec::new();
    for (name, value) in [(":event-type", kind), (":content-type", content), (":message-type", "event")] {
        headers.push(u8::try_from(name.len()).unwrap());
        headers.extend(name.bytes());
        // A string.
        headers.push(7);
        headers.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        headers.extend(value.bytes());
    }
    let total = u32::try_from(12 + headers.len() + payload.len() + 4).unwrap();
    let mut message = [total.to_be_bytes(), u32::try_from(headers.len()).unwrap().to_be_bytes()].concat();
    message.extend(crc32fast::hash(&message).to_be_bytes());
    message.extend(headers);
    message.extend(payload);
    message.extend(crc32fast::hash(&message).to_be_bytes());
    message
}

/// An address that nobody listens at, and that no program is given by the kernel before the one that is to listen there does:
/// below the ports that it gives (`ip_local_port_range`), another one each time, and others in each process.
fn free(here: IpAddr) -> SocketAddr {
    const FIRST: u32 = 20_000;
    const PORTS: u32 = 12_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let nth = std::process::id().wrapping_mul(61).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + nth % PORTS).unwrap();
        if let Ok(listener) = TcpListener::bind((here, port)) {
            return listener.local_addr().unwrap();
        }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().ok();
    }
}
