//! Makes sure that nothing of a sidecar outlives its use: neither Node, nor the browser with its many processes, nor
//! an encoder.
//!
//! The browser leaves its parent's process group, so killing a group is not enough, and a parent-death signal
//! reaches one generation only. Instead the sidecar runs under a small process of ours, a *supervisor*, that adopts
//! every orphan among its descendants (`PR_SET_CHILD_SUBREAPER`). When the sidecar ends, or when the pipe that the
//! worker holds open closes, be it by `kill -9`, the supervisor kills its children, and theirs as they are handed to
//! it, until there are none. It exits last: whoever waits for it knows that all are gone.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

use super::confine::{SUPERVISED, separate};

/// In the environment of everything that belongs to a sidecar: its folder. Found again after a crash.
pub(crate) const MARK: &str = "LASTFRAME_SIDECAR";

/// How long a process may take to die of SIGKILL: it may be within a write to a slow disk.
const DEATH: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// The role of supervisor: runs `program`, with our standard input and output as its command and event pipes, within
/// `walls` if there are any: a plan that the worker has made.
///
/// Returns when the program and all its descendants are gone.
///
/// # Errors
/// When the program cannot be started, or the kernel refuses what supervising needs.
pub fn supervise(walls: Option<&str>, program: &[OsString]) -> io::Result<ExitCode> {
    let Some((name, arguments)) = program.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program given"));
    };
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut child = match walls {
        None => start(name, arguments, None)?,
        Some(plan) => {
            separate(&serde_json::from_str(plan)?)?;
            // It does the rest to itself, and has our pipes to pass on.
            let mut supervised = Command::new(std::env::current_exe()?);
            supervised.args([SUPERVISED, "--walls", plan, "--"]).args(program);
            let child = supervised.spawn()?;
            leave_events()?;
            child
        }
    };
    let gone = rustix::process::pidfd_open(pid(&child)?, PidfdFlags::empty())?;
    wait_for_either(&gone)?;
    // First the program itself: it would take what happens to its children for faults.
    child.kill()?;
    let status = child.wait()?;
    end_descendants()?;
    Ok(exit_code(status.code()))
}

/// The exit code of a program; 1 when a signal ended it.
pub(super) fn exit_code(code: Option<i32>) -> ExitCode {
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Starts a program with our pipes as its own, and the port of its `proxy`.
pub(super) fn start(name: &OsString, arguments: &[OsString], proxy: Option<u16>) -> io::Result<Child> {
    // Duplicates, because they must stay open across exec, and their numbers are told to the program.
    let (commands, events) = (rustix::io::dup(io::stdin())?, rustix::io::dup(io::stdout())?);
    let mut command = Command::new(name);
    if let Some(proxy) = proxy {
        command.env("LASTFRAME_PROXY", proxy.to_string());
    }
    let child = command
        .args(arguments)
        .env("LASTFRAME_COMMAND_FD", commands.as_raw_fd().to_string())
        .env("LASTFRAME_EVENT_FD", events.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .stderr(Stdio::inherit())
        .spawn()?;
    leave_events()?;
    Ok(child)
}

/// Leaves the event pipe to the program: its end is the end of the events.
fn leave_events() -> io::Result<()> {
    let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdout(nowhere)?)
}

/// Waits until the program is gone, or nobody holds the other end of the command pipe any more.
fn wait_for_either(gone: &impl AsFd) -> io::Result<()> {
    let stdin = io::stdin();
    loop {
        // No events are asked for on the pipe: what comes in belongs to the program. Its hang-up is always told.
        let mut watched = [PollFd::new(gone, PollFlags::IN), PollFd::new(&stdin, PollFlags::empty())];
        match poll(&mut watched, None) {
            Ok(_) if watched.iter().any(|fd| !fd.revents().is_empty()) => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Kills children until there are none; the children of each come to us when it dies.
fn end_descendants() -> io::Result<()> {
    let us = rustix::process::getpid();
    loop {
        for process in processes()? {
            if parent(process) == Some(us) {
                kill(process);
            }
        }
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Kills what sidecars whose folder is `folder`, or lies below it, have left running, and returns how many processes
/// that were once they are gone. Finds something only when a supervisor was killed, or is at its work still.
///
/// # Errors
/// When the processes cannot be listed, or one of them does not die.
pub(crate) fn reap(folder: &Path) -> io::Result<usize> {
    let mut reaped = 0;
    loop {
        let marked = marked(folder)?;
        if marked.is_empty() {
            return Ok(reaped);
        }
        for process in &marked {
            match rustix::process::pidfd_send_signal(process, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for process in &marked {
            if poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&DEATH))? == 0 {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "a killed process does not die"));
            }
        }
        reaped += marked.len();
    }
}

/// The processes that carry the mark of a sidecar in `folder`.
fn marked(folder: &Path) -> io::Result<Vec<OwnedFd>> {
    let carries = |variable: &[u8]| {
        std::str::from_utf8(variable)
            .ok()
            .and_then(|variable| variable.strip_prefix(MARK)?.strip_prefix('='))
            .is_some_and(|value| Path::new(value).starts_with(folder))
    };
    let ours = |process: Pid| {
        // Held before it is looked at: the number could not be given to a stranger in between.
        let handle = rustix::process::pidfd_open(process, PidfdFlags::empty()).ok()?;
        // Those of other users are unreadable, and not ours.
        let environment = std::fs::read(format!("/proc/{}/environ", process.as_raw_nonzero())).ok()?;
        environment.split(|byte| *byte == 0).any(carries).then_some(handle)
    };
    Ok(processes()?.into_iter().filter_map(ours).collect())
}

fn processes() -> io::Result<Vec<Pid>> {
    let entries = std::fs::read_dir("/proc")?;
    Ok(entries
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .collect())
}

fn parent(process: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
    // The name stands in parentheses and may hold anything; after it come state and parent.
    Pid::from_raw(stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?)
}

pub(super) fn pid(child: &Child) -> io::Result<Pid> {
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("the child has no process id"))
}

/// One that is gone already is what we want.
fn kill(process: Pid) {
    if let Err(error) = rustix::process::kill_process(process, Signal::KILL)
        && error != rustix::io::Errno::SRCH
    {
        tracing::warn!(%error, process = process.as_raw_nonzero(), "cannot kill");
    }
}
