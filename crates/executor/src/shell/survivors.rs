//! Finding every living process of a job, wherever it went: to another process group or session, to
//! another parent, with a cleared environment. Known by its [marks](Mark), or as a child of one that has them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use super::mark::Mark;

/// Between two looks at the processes that are being killed.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

/// Every process of the job that lives.
#[cfg(target_os = "linux")]
pub(super) fn find(mark: &Mark) -> Vec<Survivor> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let seen: Vec<Seen> = processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Seen::look)
        .collect();
    let marked = seen.iter().filter(|process| process.carries(mark));
    let mut members: HashSet<i32> = marked.map(|process| process.pid).collect();
    let mut children: HashMap<i32, Vec<&Seen>> = HashMap::new();
    for process in &seen {
        children.entry(process.parent).or_default().push(process);
    }
    let mut parents: Vec<i32> = members.iter().copied().collect();
    while let Some(parent) = parents.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            if members.insert(child.pid) {
                parents.push(child.pid);
            }
        }
    }
    let own = getpid().as_raw_nonzero().get();
    seen.iter()
        .filter(|process| members.contains(&process.pid) && process.pid != own && process.lives())
        .map(|process| Survivor {
            pid: process.pid,
            name: process.name.clone(),
            group: process.group,
            started: process.started,
        })
        .collect()
}

/// Without `/proc` there is only the process group.
#[cfg(not(target_os = "linux"))]
pub(super) fn find(_mark: &Mark) -> Vec<Survivor> {
    Vec::new()
}

/// Kills until none is found twice in a row, or `patience` is over: a process may start others while it
/// is looked for, and one that replaces its program (`exec`) shows no environment for a moment. Gives
/// those that were killed, then those that live nevertheless.
pub(super) fn kill_all(mark: &Mark, patience: Duration) -> (Vec<Survivor>, Vec<Survivor>) {
    let deadline = Instant::now() + patience;
    let mut killed: Vec<Survivor> = Vec::new();
    let mut pause = FIRST_PAUSE;
    let mut none_before = false;
    loop {
        let survivors = find(mark);
        if survivors.is_empty() && none_before {
            return (killed, Vec::new());
        }
        for survivor in &survivors {
            survivor.signal(Signal::KILL);
        }
        if Instant::now() > deadline {
            killed.retain(|process| !survivors.contains(process));
            return (killed, survivors);
        }
        none_before = survivors.is_empty();
        for survivor in survivors {
            if !killed.contains(&survivor) {
                killed.push(survivor);
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A process as `/proc/<pid>/stat` shows it.
struct Seen {
    pid: i32,
    name: String,
    state: char,
    parent: i32,
    group: i32,
    /// Clock ticks since the machine was started; with the number it names one process.
    started: u64,
}

impl Seen {
    fn look(pid: i32) -> Option<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(pid, &String::from_utf8_lossy(&stat))
    }

    /// `<pid> (<name>) <state> <parent> <group> …`; a name may hold anything, also `)`.
    fn parse(pid: i32, stat: &str) -> Option<Self> {
        let (before, fields) = stat.rsplit_once(") ")?;
        let (_, name) = before.split_once(" (")?;
        let mut fields = fields.split(' ');
        Some(Self {
            pid,
            name: name.to_owned(),
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
            // Field 22 of all, counted from the state, which is field 3.
            started: fields.nth(16)?.parse().ok()?,
        })
    }

    fn carries(&self, mark: &Mark) -> bool {
        const KERNEL_THREADS: i32 = 2;
        if self.pid == KERNEL_THREADS || self.parent == KERNEL_THREADS {
            return false;
        }
        let read = |file: &str| fs::read(format!("/proc/{}/{file}", self.pid)).unwrap_or_default();
        mark.is_in_limits(&String::from_utf8_lossy(&read("limits")))
            || mark.is_in_environment(&read("environ"))
    }

    /// Whether anything of it can still run: a zombie whose first thread alone has ended can.
    fn lives(&self) -> bool {
        match self.state {
            'Z' | 'X' => {
                let threads = fs::read_dir(format!("/proc/{}/task", self.pid));
                threads.is_ok_and(|threads| threads.count() > 1)
            }
            _ => true,
        }
    }
}

/// A living process of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Survivor {
    pub(super) pid: i32,
    pub(super) name: String,
    group: i32,
    started: u64,
}

impl Survivor {
    /// Whether it is in the process group `group`.
    pub(super) fn is_in_group(&self, group: Pid) -> bool {
        self.group == group.as_raw_nonzero().get()
    }

    /// Signals it. One that has ended meanwhile is none of our business, and whoever has its number now
    /// even less: the process is held before it is looked at again.
    pub(super) fn signal(&self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return;
        };
        let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else {
            return;
        };
        if Seen::look(self.pid).is_some_and(|now| now.started == self.started) {
            pidfd_send_signal(&held, signal).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_does_not_confuse() {
        let stat = "42 (a) S 1 (b) R 7 8 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 12345 100 200";
        let seen = Seen::parse(42, stat).expect("a process");
        assert_eq!(
            (
                seen.name.as_str(),
                seen.state,
                seen.parent,
                seen.group,
                seen.started
            ),
            ("a) S 1 (b", 'R', 7, 8, 12345)
        );
        assert!(Seen::parse(42, "42 (short) R 7").is_none());
    }

    #[test]
    fn a_number_that_is_anothers_now_is_left_alone() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep starts");
        let pid = i32::try_from(child.id()).expect("a process number");
        let seen = Seen::look(pid).expect("it lives");
        let before = Survivor {
            pid,
            name: seen.name,
            group: seen.group,
            started: seen.started - 1,
        };
        before.signal(Signal::KILL);
        assert_eq!(child.try_wait().expect("it is ours"), None);
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
    }
}
