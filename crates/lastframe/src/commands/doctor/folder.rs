//! The data folder: whose it is, whether it can be written, how fast, and how much still fits.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use lastframe_core::{Clock as _, SystemClock};

use super::Finding;

/// Below this, warn: some hours of video.
const ROOM: u64 = 5 << 30;
/// Below this, the next render may not fit.
const LEAST_ROOM: u64 = 512 << 20;
/// Each render takes a handful of files.
const LEAST_FILES: u64 = 10_000;
/// Every accepted render waits for two of these.
const SLOW_SYNC: Duration = Duration::from_millis(100);

pub(super) fn look(data: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    match std::fs::metadata(data) {
        Ok(meta) if meta.is_dir() => findings.push(owner(data, &meta)),
        Ok(_) => {
            let found = format!("{} is not a folder", data.display());
            return vec![Finding::fail("data", found, "name another with --data or LASTFRAME_DATA")];
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            findings.push(Finding::ok("data", format!("{} will be made by the first start", data.display())));
        }
        Err(error) => {
            let found = format!("{}: {error}", data.display());
            return vec![Finding::fail("data", found, "run doctor as the user that runs the server")];
        }
    }
    // What is not there yet is made in the nearest folder that is.
    let Some(folder) = data.ancestors().find(|folder| folder.is_dir()) else { return findings };
    findings.push(sync(folder));
    findings.extend(room(folder));
    findings
}

fn owner(data: &Path, meta: &std::fs::Metadata) -> Finding {
    let us = rustix::process::geteuid().as_raw();
    let mode = meta.permissions().mode() & 0o777;
    let found = format!("{}, of user {}, mode {mode:o}", data.display(), meta.uid());
    if meta.uid() != us {
        let mend = format!(
            "you are user {us}: run as its owner, or chown -R {us} {} while no server runs",
            data.display()
        );
        return Finding::fail("data", found, mend);
    }
    if mode & 0o077 != 0 {
        let mend = format!("chmod 700 {}: keys and videos are in it", data.display());
        return Finding::warn("data", found, mend);
    }
    Finding::ok("data", found)
}

/// Whether what is written reaches the disk, and how fast.
fn sync(folder: &Path) -> Finding {
    let clock = SystemClock::new();
    let write = || -> std::io::Result<Duration> {
        let mut file = tempfile::Builder::new().prefix(".lastframe-doctor-").tempfile_in(folder)?;
        file.write_all(&[0; 4096])?;
        let begun = clock.monotonic();
        file.as_file().sync_all()?;
        Ok(clock.monotonic().saturating_sub(begun))
    };
    match write() {
        Ok(took) => {
            let found = format!("4 KiB synced in {:.1} ms", took.as_secs_f64() * 1e3);
            if took > SLOW_SYNC {
                let mend = "every accepted render waits for two: put the data folder on a local disk";
                return Finding::warn("sync", found, mend);
            }
            Finding::ok("sync", found)
        }
        Err(error) => {
            let mend = "nothing can be accepted so: make the folder writable for this user, or make room";
            Finding::fail("sync", format!("cannot write in {}: {error}", folder.display()), mend)
        }
    }
}

fn room(folder: &Path) -> Vec<Finding> {
    let stat = match rustix::fs::statvfs(folder) {
        Ok(stat) => stat,
        Err(error) => {
            let found = format!("unknown in {}: {error}", folder.display());
            return vec![Finding::warn("disk", found, "look at it with df")];
        }
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let found = format!("{} free", size(free));
    let mend = "make room, or let old renders go: queue.retention in lastframe.toml";
    let mut findings = vec![match free {
        free if free < LEAST_ROOM => Finding::fail("disk", found, mend),
        free if free < ROOM => Finding::warn("disk", found, mend),
        _ => Finding::ok("disk", found),
    }];
    // Some file systems make inodes as they need them, and count none.
    if stat.f_files > 0 && stat.f_favail < LEAST_FILES {
        let found = format!("{} inodes free", stat.f_favail);
        findings.push(Finding::warn("disk", found, "remove many small files, or use a larger file system"));
    }
    findings
}

/// Bytes, for a person.
pub(super) fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    if bytes < 1e9 { format!("{:.0} MB", bytes / 1e6) } else { format!("{:.1} GB", bytes / 1e9) }
}
