//! The process between supervisor and Node: gives up what a render does not need, and then starts it.
//!
//! It is alone in its process and has one thread, so it can change what a whole process is: its namespaces, its user,
//! its rights. In a process namespace it is process 1: it buries what is orphaned there, and everything ends with it.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, LandlockStatus, NetPort, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, Scope, path_beneath_rules,
};
use nix::sched::{CloneFlags, unshare};
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketType};
use rustix::process::{Gid, Resource, Rlimit, Signal, Uid, WaitOptions};
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use super::root;
use super::supervise::{exit_code, pid, start};

/// The word that gives this program the role of [`supervised`].
pub const SUPERVISED: &str = "supervised";

/// The newest rules that we ask Landlock for; an older kernel takes those that it knows.
const NEWEST: ABI = ABI::V6;
/// Open files of a process.
const FILES: u64 = 16_384;
/// Processes and threads of a user that runs one sidecar.
const PROCESSES: u64 = 8_192;

/// How a program is walled in. The supervisor gets it as JSON and hands it on.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Plan {
    /// Namespaces of its own: files, processes, network.
    pub(super) namespaces: Option<Namespaces>,
    /// The user that it becomes.
    pub(super) user: Option<u32>,
    /// Where its view of the files is built; empty.
    pub(super) root: PathBuf,
    /// All that it may write.
    pub(super) own: PathBuf,
    /// What it may run and read. What does not exist is left out.
    pub(super) run: Vec<PathBuf>,
    /// What it may read.
    pub(super) read: Vec<PathBuf>,
    /// Where it may connect to, on any address, when it has no network of its own. The proxy comes on top.
    pub(super) ports: Vec<u16>,
    /// The longest file that it may write, in bytes.
    pub(super) max_file: u64,
    /// Whether only to try: the answer is printed, and no program started.
    pub(super) probe: bool,
}

/// By what right namespaces are made.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Namespaces {
    /// As root.
    Privileged,
    /// As root of a user namespace in which there is nobody else.
    User,
}

/// What Landlock of this kernel holds, as a probe finds it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) enum Landlock {
    None,
    Files,
    FilesAndPorts,
    FilesPortsAndSignals,
}

/// Whether this kernel has Landlock, and it is not turned off. Restricts nothing.
#[must_use]
pub fn has_landlock() -> bool {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(Ruleset::create)
        .is_ok()
}

/// The supervisor's part: what its child is to find when it starts.
pub(super) fn separate(plan: &Plan) -> io::Result<()> {
    let Some(namespaces) = plan.namespaces else { return Ok(()) };
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if namespaces == Namespaces::User {
        unshare(CloneFlags::CLONE_NEWUSER).map_err(|error| failed("make a user namespace", error))?;
        // The same number inside as outside: who may do more than this user is not there.
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    }
    unshare(CloneFlags::CLONE_NEWPID).map_err(|error| failed("make a process namespace", error))?;
    if namespaces == Namespaces::User {
        keep_rights()?;
    }
    Ok(())
}

/// Lets the rights that the user namespace gives outlive the exec of a program; it gives them up itself.
fn keep_rights() -> io::Result<()> {
    let now = rustix::thread::capabilities(None)?;
    let inheritable = CapabilitySets { inheritable: now.permitted, ..now };
    rustix::thread::set_capabilities(None, inheritable)?;
    for capability in now.permitted.iter() {
        match rustix::thread::configure_capability_in_ambient_set(capability, true) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The role of what a supervisor starts: gives up all that `plan` does not leave it, and runs `program`.
///
/// # Errors
/// When the kernel refuses a part of the plan, or the program cannot be started.
pub fn supervised(plan: &str, program: &[OsString]) -> io::Result<ExitCode> {
    let plan: Plan = serde_json::from_str(plan)?;
    let Some((name, arguments)) = program.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program given"));
    };
    let proxy = confine(&plan)?;
    let Some(proxy) = proxy else { return Ok(ExitCode::SUCCESS) };
    let child = pid(&start(name, arguments, Some(proxy))?)?;
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((ended, status))) if ended == child => return Ok(exit_code(status.exit_status())),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Gives everything up, and returns the port of the proxy; none when this was a probe.
fn confine(plan: &Plan) -> io::Result<Option<u16>> {
    // Ends with its supervisor. Set again below: a change of user undoes it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if plan.namespaces.is_some() {
        let own = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC;
        unshare(own).map_err(|error| failed("make namespaces of files and network", error))?;
        bring_loopback_up().map_err(|error| failed("bring up a loopback interface", error))?;
        root::build(plan)?;
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let proxy = listener.local_addr()?.port();
    if !plan.probe {
        hand_over(&listener)?;
    }
    drop(listener);
    limit(plan)?;
    give_up_rights(plan.user)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let landlock = restrict(plan, proxy).map_err(|error| failed("restrict itself with Landlock", error))?;
    std::env::set_current_dir(&plan.own)?;
    if plan.probe {
        serde_json::to_writer(io::stdout(), &landlock)?;
        return Ok(None);
    }
    Ok(Some(proxy))
}

pub(super) fn failed(what: &str, error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("cannot {what}: {error}"))
}

/// Sends the proxy's end of the network to the server, through the pipe of commands.
fn hand_over(listener: &TcpListener) -> io::Result<()> {
    let descriptors = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    rustix::net::sendmsg(io::stdin(), &[IoSlice::new(b"p")], &mut control, SendFlags::empty())?;
    Ok(())
}

/// A new network has one interface, which is down: one message to the kernel, as `ip link set lo up` sends it.
fn bring_loopback_up() -> io::Result<()> {
    const NEW_LINK: u16 = 16;
    const REQUEST_AND_ACKNOWLEDGE: u16 = 0x1 | 0x4;
    const LOOPBACK: i32 = 1;
    const UP: u32 = 0x1;
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    let mut message = Vec::with_capacity(32);
    message.extend(32u32.to_ne_bytes());
    message.extend(NEW_LINK.to_ne_bytes());
    message.extend(REQUEST_AND_ACKNOWLEDGE.to_ne_bytes());
    message.extend([0; 8]); // sequence and sender
    message.extend([0; 4]); // family and type: any
    message.extend(LOOPBACK.to_ne_bytes());
    message.extend(UP.to_ne_bytes()); // the flags
    message.extend(UP.to_ne_bytes()); // those that change
    let kernel = rustix::net::netlink::SocketAddrNetlink::new(0, 0);
    rustix::net::sendto(&socket, &message, SendFlags::empty(), &kernel)?;
    let mut answer = [0; 256];
    let (length, _) = rustix::net::recv(&socket, &mut answer[..], rustix::net::RecvFlags::empty())?;
    // After the header of 16 bytes: zero, or a negative number of an error.
    match answer.get(16..20).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes) {
        Some(0) if length >= 20 => Ok(()),
        Some(code) if length >= 20 => Err(io::Error::from_raw_os_error(-code)),
        _ => Err(io::Error::other("the kernel's answer is too short")),
    }
}

fn limit(plan: &Plan) -> io::Result<()> {
    let set = |resource, most: u64| {
        let now = rustix::process::getrlimit(resource);
        let most = Some(now.maximum.map_or(most, |maximum| maximum.min(most)));
        rustix::process::setrlimit(resource, Rlimit { current: most, maximum: most })
    };
    set(Resource::Core, 0)?;
    set(Resource::Nofile, FILES)?;
    set(Resource::Fsize, plan.max_file)?;
    // Counted for each user, so it makes sense only where the user is the sidecar's alone.
    if plan.user.is_some() {
        set(Resource::Nproc, PROCESSES)?;
    }
    Ok(())
}

/// Becomes the user, if any, and gives up every capability for good.
fn give_up_rights(user: Option<u32>) -> io::Result<()> {
    for capability in CapabilitySet::all().iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // One that this kernel does not know, or a user that has none.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(user) = user {
        let (group, user) = (Gid::from_raw(user), Uid::from_raw(user));
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(group, group, group)?;
        rustix::thread::set_thread_res_uid(user, user, user)?;
    }
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: none, permitted: none, inheritable: none },
    )?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

/// The last wall, and the first where there are no namespaces: Landlock.
fn restrict(plan: &Plan, proxy: u16) -> Result<Landlock, landlock::RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let run = read | AccessFs::Execute;
    let write = AccessFs::from_all(NEWEST) & !AccessFs::Execute;
    let device = read | AccessFs::WriteFile | AccessFs::IoctlDev;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?;
    let mut ports: Vec<Result<_, landlock::RulesetError>> = Vec::new();
    if plan.namespaces.is_none() {
        ruleset = ruleset.handle_access(AccessNet::ConnectTcp)?;
        let allowed = plan.ports.iter().copied().chain([proxy]);
        ports.extend(allowed.map(|port| Ok(NetPort::new(port, AccessNet::ConnectTcp))));
    }
    let (afresh, private) =
        if plan.namespaces.is_some() { (&root::AFRESH[..], &root::PRIVATE[..]) } else { (&[][..], &[][..]) };
    let status = ruleset
        .create()?
        .add_rules(path_beneath_rules(&plan.run, run))?
        .add_rules(path_beneath_rules(&plan.read, read))?
        .add_rules(path_beneath_rules(["/proc"], read))?
        .add_rules(path_beneath_rules(afresh, read))?
        .add_rules(path_beneath_rules(root::DEVICES, device))?
        .add_rules(path_beneath_rules(private.iter().map(Path::new), write))?
        .add_rules(path_beneath_rules([&plan.own], write))?
        .add_rules(ports)?
        .restrict_self()?;
    Ok(match status.landlock {
        LandlockStatus::Available { effective_abi, .. } if effective_abi >= ABI::V6 => {
            Landlock::FilesPortsAndSignals
        }
        LandlockStatus::Available { effective_abi, .. } if effective_abi >= ABI::V4 => {
            Landlock::FilesAndPorts
        }
        LandlockStatus::Available { .. } => Landlock::Files,
        _ => Landlock::None,
    })
}
