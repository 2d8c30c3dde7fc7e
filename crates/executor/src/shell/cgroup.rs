//! A control group (version 2) for each job, where this process may make one: below its own, as root or by
//! systemd's `Delegate=`. No controller is used. Membership is inherited, whatever a process does to
//! itself, and `cgroup.kill` reaches all members at once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Once;

use serde::{Deserialize, Serialize};

use super::mark::Mark;

/// Beginning of the names of jobs' groups.
const PREFIX: &str = "courser-job-";

/// Where this process makes its jobs' groups.
#[derive(Debug, Clone)]
pub(super) struct Cgroups {
    own: PathBuf,
}

impl Cgroups {
    /// `None` where control groups of version 2 are not mounted. Whether groups can be made shows with
    /// the first job.
    pub(super) fn of_this_process() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let memberships = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own_group(&mounts, &memberships)?;
        let groups = Self { own };
        // Once: later, an empty group may be that of a job between two stages.
        static OF_DEAD_RUNNERS: Once = Once::new();
        OF_DEAD_RUNNERS.call_once(|| groups.remove_empty());
        Some(groups)
    }

    /// Makes the group of a job; `None` where that is not allowed.
    pub(super) fn of_job(&self, mark: &Mark) -> Option<Cgroup> {
        let path = self.own.join(format!("{PREFIX}{}", mark.identity()));
        fs::create_dir(&path).ok()?;
        Some(Cgroup { path })
    }

    /// Groups whose daemons have ended since their job and its runner did.
    fn remove_empty(&self) {
        let Ok(entries) = fs::read_dir(&self.own) else {
            return;
        };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                fs::remove_dir(entry.path()).ok();
            }
        }
    }
}

/// The group of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Puts a process in, and what it has started: the kernel may take some milliseconds for it.
    pub(super) fn take(&self, process: u32) {
        let mut outside = vec![process];
        while let Some(process) = outside.pop() {
            if let Err(error) = self.enter(process) {
                tracing::debug!("a job's process is not in its control group: {error}");
                return;
            }
            outside.extend(children(process));
        }
    }

    /// Makes the group again if it is gone: between two stages it is empty, and another runner of this machine,
    /// starting, removes empty ones.
    fn enter(&self, process: u32) -> io::Result<()> {
        let enter = || fs::write(self.path.join("cgroup.procs"), process.to_string());
        match enter() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&self.path)?;
                enter()
            }
            other => other,
        }
    }

    /// Numbers of its processes, and of those in groups that the job made below it.
    pub(super) fn processes(&self) -> Vec<i32> {
        const DEPTH: usize = 8;
        let mut numbers = Vec::new();
        collect(&self.path, DEPTH, &mut numbers);
        numbers
    }

    /// Stops all where they are, or lets them go on; since Linux 5.2. Who is killed dies all the same.
    pub(super) fn freeze(&self, frozen: bool) {
        let state = if frozen { "1" } else { "0" };
        fs::write(self.path.join("cgroup.freeze"), state).ok();
    }

    /// Kills all at once, also those that are being started; since Linux 5.14.
    pub(super) fn kill(&self) {
        fs::write(self.path.join("cgroup.kill"), "1").ok();
    }

    /// Removes it, unless processes live in it.
    pub(super) fn remove(&self) {
        remove_tree(&self.path);
    }
}

fn collect(group: &Path, depth: usize, numbers: &mut Vec<i32>) {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    numbers.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    if depth > 0 {
        for below in groups_below(group) {
            collect(&below, depth - 1, numbers);
        }
    }
}

/// Groups are directories whose files cannot be removed; they go with them.
fn remove_tree(group: &Path) {
    for below in groups_below(group) {
        remove_tree(&below);
    }
    fs::remove_dir(group).ok();
}

fn groups_below(group: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
}

/// What the first thread of a process has started.
fn children(process: u32) -> Vec<u32> {
    let path = format!("/proc/{process}/task/{process}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

/// The directory of this process's group, from `/proc/self/mountinfo` and `/proc/self/cgroup`.
fn own_group(mounts: &str, memberships: &str) -> Option<PathBuf> {
    let membership = memberships
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))?;
    mounts.lines().find_map(|line| {
        // `<id> <parent> <device> <root> <mount point> … - <type> …`
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let is_ours = kind.starts_with("cgroup2 ");
        let below = Path::new("/").join(membership);
        let below = below.strip_prefix(root).ok()?;
        is_ours.then(|| Path::new(point).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURE: &str = "25 1 0:22 / /proc rw - proc proc rw\n\
        30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const HYBRID: &str = "31 25 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const BIND: &str = "99 1 0:38 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";

    #[test]
    fn the_own_group_is_where_the_mount_shows_it() {
        for (mounts, memberships, expected) in [
            (
                PURE,
                "0::/system.slice/r.service\n",
                Some("/sys/fs/cgroup/system.slice/r.service"),
            ),
            (
                HYBRID,
                "4:memory:/x\n0::/\n",
                Some("/sys/fs/cgroup/unified"),
            ),
            (BIND, "0::/docker/abc/inner", Some("/sys/fs/cgroup/inner")),
            (BIND, "0::/elsewhere", None),
            ("", "0::/", None),
            (PURE, "4:memory:/x\n", None),
        ] {
            let own = own_group(mounts, memberships);
            assert_eq!(own.as_deref(), expected.map(Path::new), "{memberships}");
        }
    }

    #[test]
    fn a_group_is_asked_through_its_files_and_removed_when_it_is_empty() {
        let world = tempfile::tempdir().expect("a directory");
        let groups = Cgroups {
            own: world.path().to_owned(),
        };
        let group = groups.of_job(&Mark::new()).expect("it can be made");
        fs::write(group.path.join("cgroup.procs"), "77").expect("writable");
        group.kill();
        group.freeze(true);
        for file in ["cgroup.kill", "cgroup.freeze"] {
            assert_eq!(fs::read(group.path.join(file)).expect("written"), b"1");
        }
        let below = group.path.join("job made this");
        fs::create_dir(&below).expect("writable");
        fs::write(below.join("cgroup.procs"), "78\n79\n").expect("writable");
        assert_eq!(group.processes(), [77, 78, 79]);

        group.remove();
        assert!(group.path.exists(), "it is not empty");
        fs::remove_dir_all(&group.path).expect("ours");
        fs::create_dir(&group.path).expect("writable");
        groups.remove_empty();
        assert!(!group.path.exists());
        // The next stage of its job has it again.
        let nobody = u32::MAX;
        group.take(nobody);
        let members = fs::read_to_string(group.path.join("cgroup.procs"));
        assert_eq!(members.expect("written"), nobody.to_string());
    }
}
