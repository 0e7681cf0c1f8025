//! How much memory is free for decoded images.

use std::fs;
use std::path::Path;

/// Bytes for decoded images: `share` of what this machine, or the container that this process is in, has free.
pub fn budget(share: f64) -> u64 {
    (available().unwrap_or(u64::MAX / 2) as f64 * share) as u64
}

fn available() -> Option<u64> {
    let machine = meminfo(&fs::read_to_string("/proc/meminfo").ok()?);
    machine.into_iter().chain(container()).min()
}

/// `MemAvailable` in bytes.
fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// What the limit of this process's control group leaves; `None` where there is no limit.
fn container() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = Path::new("/sys/fs/cgroup").join(group);
    let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    // Without a limit the file says "max".
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_is_read_in_bytes() {
        let text = "MemTotal:       100 kB\nMemFree:          10 kB\nMemAvailable:     48 kB\n";
        assert_eq!(meminfo(text), Some(48 << 10));
        assert_eq!(meminfo("MemTotal: 100 kB\n"), None);
        assert!(budget(0.5) > 1 << 20);
        assert_eq!(budget(0.0), 0);
    }
}
