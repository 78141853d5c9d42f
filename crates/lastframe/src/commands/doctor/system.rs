//! The machine: kernel, memory, clock.

use std::path::Path;

use lastframe_core::{Clock as _, SystemClock};

use super::Finding;

/// What one render takes at its peak, with a browser and an encoder.
const RENDER: u64 = 1 << 30;
/// A clock before this was never set. Nothing of Lastframe is older.
const YEARS: std::ops::RangeInclusive<i16> = 2026..=2099;

/// What the kernel is, and what it has for walls around renders.
pub(super) fn kernel() -> Finding {
    let name = rustix::system::uname();
    let (system, release) = (name.sysname().to_string_lossy(), name.release().to_string_lossy());
    let walls =
        [("Landlock", Some(lastframe_worker::local::has_landlock())), ("user namespaces", user_namespaces())];
    let walls = walls.map(|(name, there)| match there {
        Some(true) => format!("{name} yes"),
        Some(false) => format!("{name} no"),
        None => format!("{name} unknown"),
    });
    let found = format!("{system} {release} on {}; {}", name.machine().to_string_lossy(), walls.join(", "));
    if system == "Linux" {
        Finding::ok("kernel", found)
    } else {
        Finding::fail("kernel", found, "run it on Linux: what supervises browsers needs it")
    }
}

/// Whether any user may make one.
fn user_namespaces() -> Option<bool> {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let most = number("/proc/sys/user/max_user_namespaces")?;
    let forbidden = number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0)
        || number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1);
    Some(most > 0 && !forbidden)
}

pub(super) fn memory() -> Finding {
    let (Some(all), Some(free)) = (meminfo("MemTotal:"), meminfo("MemAvailable:")) else {
        return Finding::warn("memory", "unknown: /proc/meminfo cannot be read", "mount /proc");
    };
    let found = format!("{} of {} free", super::folder::size(free), super::folder::size(all));
    // A control group may allow less than the machine has.
    let allowed = Path::new("/sys/fs/cgroup/memory.max");
    let allowed = std::fs::read_to_string(allowed).ok().and_then(|text| text.trim().parse::<u64>().ok());
    if allowed.unwrap_or(u64::MAX).min(free) < RENDER {
        let mend = "a render of 1080p takes up to 1 GB: give it more, or set render.concurrency = 1";
        return Finding::warn("memory", found, mend);
    }
    Finding::ok("memory", found)
}

/// Bytes.
fn meminfo(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

pub(super) fn clock() -> Finding {
    let now = SystemClock::new().now();
    let found = now.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    if YEARS.contains(&now.to_zoned(jiff::tz::TimeZone::UTC).year()) {
        return Finding::ok("clock", found);
    }
    Finding::fail("clock", found, "set it: timedatectl set-ntp true. Tokens and delays follow it")
}
