//! What keeps a render to itself on this machine: found out once, at the server's start, and the same for all sidecars.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::Options;
use super::confine::{Landlock, Namespaces, Plan};
use super::scratch::{Scratch, open_to_others};
use super::sidecar::Site;
use super::{BROWSER, SCRIPT};

/// How strictly renders are kept to themselves.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Sandbox {
    /// With every wall that the machine allows.
    #[default]
    Auto,
    /// With every wall, or not at all.
    Required,
    /// Not: sites are trusted with everything that the server's user may do.
    Off,
}

/// What holds of the walls around a render, and what does not.
#[derive(Clone, Debug, Serialize)]
pub struct Walls {
    /// All walls there could be.
    pub walls: Vec<Wall>,
    #[serde(skip)]
    namespaces: Option<Namespaces>,
    #[serde(skip)]
    lower_user: bool,
    #[serde(skip)]
    off: bool,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wall {
    /// What it keeps renders from.
    pub name: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// By what means, or why not.
    pub how: String,
}

/// System folders with programs, libraries and fonts.
const RUN: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store"];

/// Of the system's settings, what a browser reads; none of it is secret.
const READ: [&str; 22] = [
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/chromium",
    "/etc/chromium.d",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/pki",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
    "/var/cache/fontconfig",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    // Where there are no namespaces; else they are made afresh.
    "/etc/hosts",
    "/etc/passwd",
    "/etc/resolv.conf",
];

/// How many of the last are made afresh.
const MADE_AFRESH: usize = 3;

impl Walls {
    /// Tries what this machine allows.
    ///
    /// # Errors
    /// When a wall is required and does not hold, or trying fails for want of what every sidecar needs.
    pub(super) fn find(options: &Options) -> io::Result<Self> {
        if options.sandbox == Sandbox::Off {
            let wall = |name| Wall { name, holds: false, how: "render.sandbox is off".into() };
            let walls = ["files", "processes", "network", "user"].map(wall).into();
            return Ok(Self { walls, namespaces: None, lower_user: false, off: true });
        }
        let root = rustix::process::geteuid().is_root();
        let candidates: &[_] = if root {
            &[Some(Namespaces::Privileged), Some(Namespaces::User), None]
        } else {
            &[Some(Namespaces::User), None]
        };
        let mut refused = Vec::new();
        for namespaces in candidates {
            let lower_user = *namespaces == Some(Namespaces::Privileged);
            let mut walls = Self { walls: Vec::new(), namespaces: *namespaces, lower_user, off: false };
            match walls.probe(options) {
                Ok(landlock) => {
                    walls.walls = describe(*namespaces, landlock, &refused.join("; "));
                    return walls.strict_enough(options.sandbox);
                }
                Err(error) => refused.push(error.to_string()),
            }
        }
        Err(io::Error::other(format!("cannot start a sidecar: {}", refused.join("; "))))
    }

    fn strict_enough(self, sandbox: Sandbox) -> io::Result<Self> {
        let missing = self.missing();
        if sandbox == Sandbox::Required && !missing.is_empty() {
            let why =
                format!("render.sandbox is required, but this machine does not allow all of it: {missing}");
            return Err(io::Error::other(why));
        }
        Ok(self)
    }

    /// Says in the log, in one line, what holds.
    pub(super) fn announce(&self) {
        let held = self.walls.iter().filter(|wall| wall.holds);
        let held = held.map(|wall| format!("{}: {}", wall.name, wall.how)).collect::<Vec<_>>().join("; ");
        let missing = self.missing();
        if self.off {
            tracing::warn!("render.sandbox is off: a site can do whatever the server's user can");
        } else if missing.is_empty() {
            tracing::info!(held, "renders are walled in");
        } else {
            tracing::warn!(held, missing, "renders are walled in, though not on all sides");
        }
    }

    fn missing(&self) -> String {
        let missing = self.walls.iter().filter(|wall| !wall.holds);
        missing.map(|wall| format!("{}: {}", wall.name, wall.how)).collect::<Vec<_>>().join("; ")
    }

    /// Sends the supervisor through the plan, up to the program.
    fn probe(&self, options: &Options) -> io::Result<Landlock> {
        let scratch =
            Scratch::create(options.work.join("probe"), self.lower_user.then_some(options.first_user))?;
        let plan = Plan { probe: true, ..self.plan(options, &scratch, None, Vec::new())? };
        let Some((supervisor, words)) = options.supervisor.split_first() else {
            return Err(io::Error::other("no supervisor configured"));
        };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let tried = Command::new(supervisor)
            .args(words)
            .arg("--walls")
            .arg(serde_json::to_string(&plan)?)
            .args(["--", "true"])
            .env_clear()
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .output();
        drop(ours);
        std::fs::remove_dir_all(scratch.folder())?;
        let tried = tried?;
        if !tried.status.success() {
            let why = String::from_utf8_lossy(&tried.stderr);
            return Err(io::Error::other(why.trim().trim_start_matches("lastframe: ").to_owned()));
        }
        Ok(serde_json::from_slice(&tried.stdout)?)
    }

    /// Whether there are none.
    pub(super) fn are_off(&self) -> bool {
        self.off
    }

    /// Whether a sidecar has a network of its own.
    pub(super) fn own_network(&self) -> bool {
        self.namespaces.is_some()
    }

    /// The user for a sidecar: one that no other has at the time.
    pub(super) fn user(&self, users: &Users) -> Option<User> {
        self.lower_user.then(|| users.take())
    }

    /// The plan for a sidecar that renders `site`.
    pub(super) fn plan(
        &self,
        options: &Options,
        scratch: &Scratch,
        site: Option<&Site<'_>>,
        ports: Vec<u16>,
    ) -> io::Result<Plan> {
        let mut run: Vec<PathBuf> = RUN.map(PathBuf::from).into();
        run.push(options.work.join(BROWSER));
        for program in [Some(&options.node), options.browser.as_ref()].into_iter().flatten() {
            // As it is called, and where that leads to.
            let file = program.canonicalize()?;
            run.extend([program.clone(), file.clone()]);
            run.extend(file.parent().map(Path::to_owned));
        }
        run.extend(site.map(|site| packages(site.renderer)));
        let settings = if self.namespaces.is_some() { READ.len() - MADE_AFRESH } else { READ.len() };
        let mut shown: Vec<PathBuf> = READ[..settings].iter().map(PathBuf::from).collect();
        shown.push(options.work.join(SCRIPT));
        shown.extend(site.map(|site| site.bundle.to_owned()));
        let data = options.work.parent().unwrap_or(&options.work);
        if let Some(open) = run.iter().find(|path| data.starts_with(path)) {
            return Err(io::Error::other(format!(
                "the data folder {} lies within {}, which every render can read: move it",
                data.display(),
                open.display()
            )));
        }
        if let (Some(_), Some(site)) = (scratch.user(), site) {
            open_to_others(site.bundle)?;
        }
        Ok(Plan {
            namespaces: self.namespaces,
            user: scratch.user(),
            root: scratch.root(),
            own: scratch.own(),
            run,
            read: shown,
            ports,
            max_file: options.max_file,
            probe: false,
        })
    }
}

/// The outermost `node_modules` that a package lies in: it may need any other package there.
fn packages(package: &Path) -> PathBuf {
    let outermost =
        package.ancestors().filter(|folder| folder.file_name().is_some_and(|name| name == "node_modules"));
    outermost.last().unwrap_or(package).to_owned()
}

fn describe(namespaces: Option<Namespaces>, landlock: Landlock, refused: &str) -> Vec<Wall> {
    let spaces = namespaces.is_some();
    let or = |held: Vec<&str>, lacking: &str| {
        let why = if refused.is_empty() { lacking.to_owned() } else { format!("{lacking} ({refused})") };
        (!held.is_empty(), if held.is_empty() { why } else { held.join(", ") })
    };
    let part = |has: bool, what: &'static str| has.then_some(what);
    let has_landlock = landlock != Landlock::None;
    let signals = landlock == Landlock::FilesPortsAndSignals;
    let files = [part(spaces, "a root of its own"), part(has_landlock, "Landlock")];
    let processes = [part(spaces, "a process namespace"), part(signals, "Landlock")];
    let ports = matches!(landlock, Landlock::FilesAndPorts | Landlock::FilesPortsAndSignals);
    let user = match namespaces {
        Some(Namespaces::Privileged) => vec!["one of its own, without capabilities"],
        Some(Namespaces::User) => vec!["a user namespace, without capabilities"],
        None => vec![],
    };
    let network = if ports {
        "only the proxy's and two more TCP ports, yet UDP"
    } else {
        "everything but what the browser is told"
    };
    let (network, user) = (
        or(
            part(spaces, "a network namespace, out through the proxy").into_iter().collect(),
            &format!("open: {network}"),
        ),
        or(user, "the server's own, without capabilities"),
    );
    [
        ("files", or(files.into_iter().flatten().collect(), "whatever the server's user may read")),
        (
            "processes",
            or(processes.into_iter().flatten().collect(), "those of the server's user can be signalled"),
        ),
        ("network", network),
        ("user", user),
    ]
    .map(|(name, (holds, how))| Wall { name, holds, how })
    .into()
}

/// The users that sidecars have when the server is root; each its own.
#[derive(Debug)]
pub(super) struct Users {
    first: u32,
    taken: std::sync::Arc<Mutex<Vec<u32>>>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct User {
    pub(super) number: u32,
    taken: std::sync::Arc<Mutex<Vec<u32>>>,
}

impl Users {
    pub(super) fn new(first: u32) -> Self {
        Self { first, taken: std::sync::Arc::default() }
    }

    fn take(&self) -> User {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut number = self.first;
        while taken.contains(&number) {
            number += 1;
        }
        taken.push(number);
        User { number, taken: std::sync::Arc::clone(&self.taken) }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).retain(|number| *number != self.number);
    }
}

/// A port that nobody listens on.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
