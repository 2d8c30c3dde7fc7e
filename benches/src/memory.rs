//! Memory as /proc tells it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// Between two looks at a tree of processes.
const PAUSE: Duration = Duration::from_millis(2);

/// Resident bytes of a process now.
pub(crate) fn resident(pid: i32) -> Result<u64> {
    field(pid, "status", "VmRSS:").with_context(|| format!("memory of process {pid}"))
}

/// Peak of [`resident`] so far.
pub(crate) fn peak_resident(pid: i32) -> Result<u64> {
    field(pid, "status", "VmHWM:").with_context(|| format!("memory of process {pid}"))
}

/// Peak of what a process and all below it hold together, a shared page counted by its share (PSS),
/// until the process has ended.
pub(crate) fn peak_of_tree(pid: i32) -> u64 {
    let mut peak = 0;
    loop {
        match field(pid, "smaps_rollup", "Pss:") {
            // A finished process that nobody has waited for yet has no memory.
            None => return peak,
            Some(own) => peak = peak.max(own + below(pid)),
        }
        std::thread::sleep(PAUSE);
    }
}

fn below(pid: i32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|children| {
            let numbers = children.split_whitespace().map(str::parse::<i32>);
            numbers.filter_map(Result::ok).collect::<Vec<_>>()
        })
        .map(|child| field(child, "smaps_rollup", "Pss:").unwrap_or(0) + below(child))
        .sum()
}

/// A field of `/proc/<pid>/<file>` in kB, as bytes.
fn field(pid: i32, file: &str, name: &str) -> Option<u64> {
    let path = Path::new("/proc").join(pid.to_string()).join(file);
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}
