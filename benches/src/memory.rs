//! Memory, and CPU of single processes, as /proc tells them.

use std::time::Duration;

use anyhow::{Context, Result};

/// Between two looks at a tree of processes.
const PAUSE: Duration = Duration::from_millis(2);

/// Resident bytes of a process now.
pub(crate) fn resident(pid: i32) -> Result<u64> {
    status(pid, "VmRSS:")
}

/// Peak of [`resident`] so far.
pub(crate) fn peak_resident(pid: i32) -> Result<u64> {
    status(pid, "VmHWM:")
}

/// CPU seconds of a process alone, without what it started.
pub(crate) fn cpu_of(pid: i32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    // Behind the name, which may hold anything: state is the third field, user and system time 14 and 15.
    let fields = text.rsplit_once(") ").context("no stat of a process")?.1;
    let ticks: f64 = fields
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    Ok(ticks / 100.0)
}

/// Peak of what a process and all below it hold together, a shared page counted by its share (PSS),
/// until the process has ended.
pub(crate) fn peak_of_tree(pid: i32) -> u64 {
    let mut peak = 0;
    // A finished process that nobody has waited for yet has no memory.
    while let Some(root) = Share::of(pid) {
        peak = peak.max(root.pss + below(pid, &root));
        std::thread::sleep(PAUSE);
    }
    peak
}

/// A process's memory, and what tells whose it is.
struct Share {
    /// First and last address.
    range: String,
    rss: u64,
    pss: u64,
}

impl Share {
    fn of(pid: i32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        Some(Self {
            range: text.split_whitespace().next()?.to_owned(),
            rss: kibibytes(&text, "Rss:")?,
            pss: kibibytes(&text, "Pss:")?,
        })
    }

    /// Between `vfork` and `exec` a child lives in its parent's memory, which must not count twice.
    fn is_that_of(&self, parent: &Self) -> bool {
        self.range == parent.range && self.rss.abs_diff(parent.rss) < parent.rss / 20
    }
}

fn below(pid: i32, share: &Share) -> u64 {
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
        .filter_map(|child| Some((child, Share::of(child)?)))
        .filter(|(_, held)| !held.is_that_of(share))
        .map(|(child, held)| held.pss + below(child, &held))
        .sum()
}

/// A field of `/proc/<pid>/status`, as bytes.
fn status(pid: i32, name: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    kibibytes(&text, name).with_context(|| format!("{path} has no {name}"))
}

/// The value of `<name> <number> kB`, as bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(number * 1024)
}
