//! How much memory a sidecar takes, as the kernel counts it and not as the sidecar says.

use std::fs;

/// Bytes that a process and all its descendants hold of their own: not files that are mapped.
///
/// What processes share counts for each of them. Zero when the process is gone.
pub(super) fn held(process: u32) -> u64 {
    let own = fs::read_to_string(format!("/proc/{process}/status")).map_or(0, |status| own(&status));
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return own };
    let children =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    children.fold(own, |sum, children| {
        sum + children.split_whitespace().filter_map(|child| child.parse().ok()).map(held).sum::<u64>()
    })
}

fn own(status: &str) -> u64 {
    let kib = |line: &str| {
        let (name, value) = line.split_once(':')?;
        matches!(name, "RssAnon" | "RssShmem").then_some(())?;
        value.split_whitespace().next()?.parse::<u64>().ok()
    };
    status.lines().filter_map(kib).sum::<u64>() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_its_own_counts_and_mapped_files_do_not() {
        let status = "VmRSS:\t  9000 kB\nRssAnon:\t    100 kB\nRssFile:\t   8000 kB\nRssShmem:\t     20 kB\n";
        assert_eq!(own(status), 120 * 1024);
        assert!(held(std::process::id()) > 100_000);
        assert_eq!(held(u32::MAX), 0);
    }
}
