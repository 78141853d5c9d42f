//! The files that a sidecar sees: a root of its own, with only what it needs, each where it lies outside.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, StatVfsMountFlags, statvfs};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};

use super::confine::{Plan, failed};

/// What a sidecar has of the machine's devices.
pub(super) const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
/// Settings that are made afresh.
pub(super) const AFRESH: [&str; 2] = ["/etc/hosts", "/etc/passwd"];
/// Folders in memory that are each sidecar's own.
pub(super) const PRIVATE: [&str; 2] = ["/tmp", "/dev/shm"];

/// Changes the root of this process, which has a mount namespace of its own, to what `plan` leaves it.
pub(super) fn build(plan: &Plan) -> io::Result<()> {
    let root = &plan.root;
    // Folders on the way to what is shown are for whoever the sidecar becomes.
    let umask = rustix::process::umask(Mode::WGRP | Mode::WOTH);
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    in_memory(root, c"size=16m,mode=755")?;
    for folder in ["proc", "dev", "etc", "tmp"] {
        fs::create_dir(root.join(folder))?;
    }
    in_memory(&root.join("tmp"), c"size=64m,mode=1777")?;
    let dev = root.join("dev");
    fs::create_dir(dev.join("shm"))?;
    in_memory(&dev.join("shm"), c"size=512m,mode=1777")?;
    for (name, target) in [("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        symlink(format!("/proc/self/{target}"), dev.join(name))?;
    }
    // Of this process namespace: there are no others' processes to be seen.
    let proc = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", root.join("proc"), "proc", proc, None).map_err(|error| failed("mount /proc", error))?;
    let user = plan.user.unwrap_or(rustix::process::geteuid().as_raw());
    fs::write(root.join("etc/passwd"), format!("render:x:{user}:{user}::/:/bin/false\n"))?;
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n")?;

    let mut shown: Vec<(&Path, Shown)> = Vec::new();
    shown.extend(plan.run.iter().chain(&plan.read).map(|path| (path.as_path(), Shown::ReadOnly)));
    shown.extend(DEVICES.map(|device| (Path::new(device), Shown::AsItIs)));
    shown.push((&plan.own, Shown::AsItIs));
    // What lies within another comes after it.
    shown.sort_by_key(|(path, _)| path.components().count());
    for (path, how) in shown {
        show(root, path, how)
            .map_err(|error| failed(&format!("show {} to a sidecar", path.display()), error))?;
    }
    rustix::process::umask(umask);
    std::env::set_current_dir(root)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    let bound = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount("/", bound, c"")?;
    std::env::set_current_dir("/")
}

fn in_memory(at: &Path, options: &std::ffi::CStr) -> io::Result<()> {
    mount("tmpfs", at, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(options))
        .map_err(|error| failed("mount a file system in memory", error))
}

#[derive(Clone, Copy, PartialEq)]
enum Shown {
    AsItIs,
    ReadOnly,
}

/// Lets `path` appear below `root` as what it is; one that does not exist is no fault.
fn show(root: &Path, path: &Path, how: Shown) -> io::Result<()> {
    let found = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let target = below(root, path);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    if found.is_symlink() {
        return match symlink(fs::read_link(path)?, target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        };
    }
    if found.is_dir() {
        fs::create_dir_all(&target)?;
    } else if !target.exists() {
        fs::write(&target, "")?;
    }
    mount_bind_recursive(path, &target)?;
    if how == Shown::ReadOnly {
        mount_remount(
            &target,
            MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | locked(path)?,
            c"",
        )?;
    }
    Ok(())
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The flags of the mount that `path` lies on; in a user namespace they cannot be taken off.
fn locked(path: &Path) -> io::Result<MountFlags> {
    let now = statvfs(path)?.f_flag;
    let pairs = [
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    Ok(pairs.into_iter().filter(|(flag, _)| now.contains(*flag)).map(|(_, flag)| flag).collect())
}
