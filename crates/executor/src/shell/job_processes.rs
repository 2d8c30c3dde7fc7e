//! Every living process of a job, wherever it went: to another process group or session, to another
//! parent, with a cleared environment. Known by its [marks](Mark), by its [control group](Cgroup), or as
//! a child of one that is known.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::cgroup::{Cgroup, Cgroups};
use super::mark::Mark;

/// Between two looks at processes that are being killed.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

/// Times that new processes are looked for in one go of killing.
const CHASE: usize = 32;

/// Makes what jobs are known by.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    /// Where control groups can be had.
    cgroups: Option<Cgroups>,
}

impl Marks {
    pub(super) fn of_this_process() -> Self {
        Self {
            cgroups: Cgroups::of_this_process(),
        }
    }

    /// Those of a new job.
    pub(super) fn new_job(&self) -> JobProcesses {
        let mark = Mark::new();
        let cgroup = self
            .cgroups
            .as_ref()
            .and_then(|groups| groups.of_job(&mark));
        JobProcesses::new(mark, cgroup)
    }
}

/// What finds the processes of one job, also from another process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JobProcesses {
    mark: Mark,
    /// Where this process may make control groups.
    cgroup: Option<Cgroup>,
    #[serde(skip)]
    known: Arc<Mutex<HashMap<Identity, Kind>>>,
}

/// Number and start, which name one process.
type Identity = (i32, u64);

/// What was found out about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Kept: one that took off its marks is known by its parent only while that lives.
    OfJob,
    /// Kept, because looking is dear: marks are inherited or never there.
    Stranger,
    /// Without marks, but in the middle of something (`exec`) that hides them.
    Unclear,
}

impl JobProcesses {
    /// Those of a new job: none yet. Only with `cgroup` is one within reach that took off both marks and
    /// lost its parent before it was looked for.
    pub(super) fn new(mark: Mark, cgroup: Option<Cgroup>) -> Self {
        Self {
            mark,
            cgroup,
            known: Arc::default(),
        }
    }

    /// Part of a job's, known by their variable alone: the other marks are the job's.
    pub(super) fn part() -> Self {
        Self::new(Mark::new(), None)
    }

    /// The variable that a process of the job is started with.
    pub(super) fn variable(&self) -> String {
        self.mark.variable()
    }

    /// Takes up a process that was just started. What it starts from now on is the job's too.
    pub(super) fn adopt(&self, leader: u32) {
        let number = leader.cast_signed();
        if let Some(leader) = Pid::from_raw(number) {
            self.mark.put_on(leader);
        }
        if let Some(cgroup) = &self.cgroup {
            cgroup.take(leader);
        }
        self.known().retain(|(pid, _), _| *pid != number);
    }

    /// Every process of the job that lives.
    pub(super) fn find(&self) -> Vec<Survivor> {
        self.look(1, |_| {})
    }

    /// Finds every process of the job that lives; those with a mark are handed to `at_once` as they are
    /// seen. The newest come first, and up to `rounds` times those that began meanwhile: one that only
    /// starts its successor is gone in a moment.
    fn look(&self, rounds: usize, mut at_once: impl FnMut(&Seen)) -> Vec<Survivor> {
        let mut known = self.known();
        let mut looked_at: HashSet<i32> = HashSet::from([getpid().as_raw_nonzero().get()]);
        let mut seen: Vec<(Seen, Kind)> = Vec::new();
        for _ in 0..rounds {
            let mut new = process_numbers();
            new.retain(|number| looked_at.insert(*number));
            if new.is_empty() {
                break;
            }
            for process in new.into_iter().rev().filter_map(Seen::look) {
                if !process.lives() {
                    continue;
                }
                let kind = match known.get(&process.identity()) {
                    Some(kind) => *kind,
                    None => process.kind(&self.mark),
                };
                if kind == Kind::OfJob {
                    at_once(&process);
                }
                seen.push((process, kind));
            }
        }
        let grouped: HashSet<i32> = self.cgroup.iter().flat_map(Cgroup::processes).collect();
        let mut members = HashSet::new();
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        for (process, kind) in &seen {
            if *kind == Kind::OfJob || grouped.contains(&process.pid) {
                members.insert(process.pid);
            }
            children
                .entry(process.parent)
                .or_default()
                .push(process.pid);
        }
        let mut parents: Vec<i32> = members.iter().copied().collect();
        while let Some(parent) = parents.pop() {
            for child in children.get(&parent).into_iter().flatten() {
                if members.insert(*child) {
                    parents.push(*child);
                }
            }
        }
        known.clear();
        let mut found = Vec::new();
        for (process, kind) in &seen {
            if members.contains(&process.pid) {
                known.insert(process.identity(), Kind::OfJob);
                found.push(Survivor::from(process));
            } else if *kind == Kind::Stranger {
                known.insert(process.identity(), Kind::Stranger);
            }
        }
        found
    }

    /// Asks all to end, those of process group `asked` excepted. One that is stopped goes on: it could
    /// not take notice.
    pub(super) fn terminate(&self, asked: u32) {
        let asked = asked.cast_signed();
        for survivor in self.find().iter().filter(|process| process.group != asked) {
            survivor.signal(Signal::CONT).ok();
            survivor.signal(Signal::TERM).ok();
        }
    }

    /// Holds all that can be held at once, until [`Self::kill`]: they start nothing any more, and take no time
    /// from whoever looks for them.
    pub(super) fn hold(&self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.freeze(true);
        }
    }

    /// Kills until none is found twice in a row, or `patience` is over: a process may start others while
    /// it is looked for, and one that replaces its program (`exec`) shows no environment for a moment.
    /// Those that are known as children only should have been found before their parents are killed.
    pub(super) fn kill(&self, patience: Duration) -> Killed {
        let deadline = Instant::now() + patience;
        let mut killed: Vec<Survivor> = Vec::new();
        let mut refused: Vec<Survivor> = Vec::new();
        let mut pause = FIRST_PAUSE;
        let mut none_before = false;
        loop {
            if let Some(cgroup) = &self.cgroup {
                // Looked at first: once they are killed nothing tells what they were.
                let members = cgroup.processes().into_iter().filter_map(Seen::look);
                for member in members.filter(Seen::lives) {
                    let member = Survivor::from(&member);
                    if !killed.contains(&member) {
                        killed.push(member);
                    }
                }
                cgroup.kill();
            }
            let mut survivors = self.look(CHASE, |process| {
                Survivor::from(process).signal(Signal::KILL).ok();
            });
            survivors.retain(|process| !refused.contains(process));
            let none = survivors.is_empty();
            if (none && none_before) || Instant::now() > deadline {
                if let Some(cgroup) = &self.cgroup {
                    cgroup.freeze(false);
                }
                killed.retain(|process| !survivors.contains(process));
                survivors.append(&mut refused);
                return Killed {
                    killed,
                    left: survivors,
                };
            }
            none_before = none;
            for survivor in survivors {
                match survivor.signal(Signal::KILL) {
                    // Another user's, by way of `sudo`, say.
                    Err(Errno::PERM) => refused.push(survivor),
                    _ if killed.contains(&survivor) => {}
                    _ => killed.push(survivor),
                }
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Identity, Kind>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back what a job without processes needs no more; processes that live on are left alone.
    pub(super) fn forget(&self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.remove();
        }
    }
}

/// What [`JobProcesses::kill`] did.
#[derive(Debug, Default)]
pub(super) struct Killed {
    pub(super) killed: Vec<Survivor>,
    /// Those that live nevertheless.
    pub(super) left: Vec<Survivor>,
}

fn process_numbers() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// A process as `/proc/<pid>/stat` shows it.
struct Seen {
    pid: i32,
    name: String,
    state: char,
    parent: i32,
    group: i32,
    /// The kernel's, which never runs a program.
    is_kernel_thread: bool,
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
        const PF_KTHREAD: u32 = 0x0020_0000;
        let (before, fields) = stat.rsplit_once(") ")?;
        let (_, name) = before.split_once(" (")?;
        let mut fields = fields.split(' ');
        Some(Self {
            pid,
            name: name.to_owned(),
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
            // Fields 9 and 22 of all; the state is field 3.
            is_kernel_thread: fields.nth(3)?.parse::<u32>().ok()? & PF_KTHREAD != 0,
            started: fields.nth(12)?.parse().ok()?,
        })
    }

    fn identity(&self) -> Identity {
        (self.pid, self.started)
    }

    /// What its marks say.
    fn kind(&self, mark: &Mark) -> Kind {
        if self.is_kernel_thread {
            return Kind::Stranger;
        }
        let environment = fs::read(format!("/proc/{}/environ", self.pid));
        let shows = environment.as_ref().is_ok_and(|text| !text.is_empty());
        if environment.is_ok_and(|text| mark.is_in_environment(&text)) {
            return Kind::OfJob;
        }
        let limits = fs::read(format!("/proc/{}/limits", self.pid)).unwrap_or_default();
        if mark.is_in_limits(&String::from_utf8_lossy(&limits)) {
            Kind::OfJob
        } else if shows {
            Kind::Stranger
        } else {
            Kind::Unclear
        }
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

impl From<&Seen> for Survivor {
    fn from(seen: &Seen) -> Self {
        Self {
            pid: seen.pid,
            name: seen.name.clone(),
            group: seen.group,
            started: seen.started,
        }
    }
}

impl Survivor {
    /// Signals it. One that has ended meanwhile is none of our business, and whoever has its number now
    /// even less: the process is held before it is looked at again.
    fn signal(&self, signal: Signal) -> Result<(), Errno> {
        let pid = Pid::from_raw(self.pid).ok_or(Errno::SRCH)?;
        let held = pidfd_open(pid, PidfdFlags::empty())?;
        match Seen::look(self.pid) {
            Some(now) if now.started == self.started => pidfd_send_signal(&held, signal),
            _ => Err(Errno::SRCH),
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

    /// In a container, process 2 and its children are anything.
    #[test]
    fn threads_of_the_kernel_are_known_by_their_flag() {
        for (parent, flags, expected) in [(2, 4_194_560, false), (0, 2_129_984, true)] {
            let stat = format!(
                "42 (sh) S {parent} 42 42 0 -1 {flags} 1 2 3 4 5 6 7 8 20 0 1 0 12345 100 200"
            );
            let seen = Seen::parse(42, &stat).expect("a process");
            assert_eq!((seen.is_kernel_thread, seen.started), (expected, 12345));
        }
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
            started: seen.started - 1,
            ..Survivor::from(&seen)
        };
        assert_eq!(before.signal(Signal::KILL), Err(Errno::SRCH));
        assert_eq!(child.try_wait().expect("it is ours"), None);
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
    }
}
