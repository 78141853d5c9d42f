//! A small network of its own: machines that are network namespaces, on one bridge, with no way to anywhere else.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

/// A bridge that this process has the first address of. It goes, with the machines on it, when this is dropped.
pub(crate) struct Network {
    bridge: String,
    subnet: [u8; 3],
    machines: u8,
}

/// A machine on the bridge, from which nothing else can be reached.
pub(crate) struct Machine {
    /// Holds the namespace, and ends with its standard input.
    holder: Child,
    /// Its end of the cable that is on the bridge.
    port: String,
}

impl Network {
    /// None where namespaces cannot be made, with a line that says so.
    pub(crate) fn new() -> Option<Self> {
        let tried =
            Command::new("unshare").args(["--net", "true"]).output().expect("util-linux is installed");
        if !tried.status.success() {
            let why = String::from_utf8_lossy(&tried.stderr);
            writeln!(std::io::stderr(), "skipped: network namespaces are denied here: {}", why.trim()).ok();
            return None;
        }
        let process = std::process::id();
        // Of the range for trying out networks. One process, one network: tests of several may run at once.
        let subnet = [198, 18, u8::try_from(process % 250).unwrap()];
        let network = Self { bridge: format!("lf{process}"), subnet, machines: 1 };
        ip(&["link", "add", &network.bridge, "type", "bridge"]);
        let address = format!("{}/24", network.address(1));
        ip(&["address", "add", &address, "dev", &network.bridge]);
        ip(&["link", "set", &network.bridge, "up"]);
        Some(network)
    }

    /// Where everybody on the bridge reaches this process.
    pub(crate) fn here(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// One more machine, on the bridge.
    pub(crate) fn machine(&mut self) -> Machine {
        self.machines += 1;
        let number = self.machines;
        let mut holder = Command::new("unshare")
            // It says when it is within.
            .args(["--net", "sh", "-c", "echo; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let port = format!("{}p{number}", self.bridge);
        let machine = Machine { holder, port };
        let process = machine.holder.id().to_string();
        let plug = format!("{}m{number}", self.bridge);
        ip(&["link", "add", &machine.port, "type", "veth", "peer", "name", &plug]);
        ip(&["link", "set", &machine.port, "master", &self.bridge, "up"]);
        ip(&["link", "set", &plug, "netns", &process]);
        let address = format!("{}/24", self.address(number));
        for words in [
            &["address", "add", &address, "dev", &plug][..],
            &["link", "set", &plug, "up"],
            &["link", "set", "lo", "up"],
        ] {
            let done = machine.command("ip").args(words).status().unwrap();
            assert!(done.success(), "ip {words:?} within");
        }
        machine
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, host)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        Command::new("ip").args(["link", "delete", &self.bridge]).status().ok();
    }
}

impl Machine {
    /// A command that runs there. The process that is started becomes the program.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id())).arg(program);
        command
    }

    /// Pulls the cable, or puts it back in.
    pub(crate) fn cut_off(&self, cut: bool) {
        ip(&["link", "set", &self.port, if cut { "down" } else { "up" }]);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The cable goes with the namespace.
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}

fn ip(words: &[&str]) {
    let done = Command::new("ip").args(words).output().expect("`scripts/setup tests` installs iproute2");
    assert!(done.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&done.stderr));
}
