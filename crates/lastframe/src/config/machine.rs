//! What this machine has: memory, and programs.

use std::path::PathBuf;

/// What one render takes at its peak: 705 MB were measured for 1080p, with Node, browser and encoder.
const MEMORY_PER_RENDER: u64 = 1 << 30;

/// As many renders as cores, and as memory that is free now.
pub(super) fn fitting(cores: usize) -> usize {
    let by_memory = meminfo("MemAvailable:")
        .map_or(cores, |bytes| usize::try_from(bytes / MEMORY_PER_RENDER).unwrap_or(cores));
    cores.min(by_memory).max(1)
}

/// What a render may take of this machine's memory: its share of four fifths, yet never less than it needs.
pub(super) fn memory_for_each(concurrency: usize) -> u64 {
    let shares = u64::try_from(concurrency).unwrap_or(u64::MAX);
    meminfo("MemTotal:").map_or(u64::MAX, |bytes| (bytes / 5 * 4 / shares).max(2 * MEMORY_PER_RENDER))
}

/// A figure of the kernel's about memory, in bytes.
fn meminfo(name: &str) -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find(|line| line.starts_with(name))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// The program of that name.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|file| {
        file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}
