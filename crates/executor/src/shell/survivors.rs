//! Finding every process of a stage, also those that left its process group.
//!
//! A child inherits an environment variable whose name is unique to the stage. A process that made
//! its own session (`setsid`, `nohup … &` under job control, daemons) still has it. Only a process
//! that both leaves the group and starts with a cleared environment is out of reach.
//! `PR_SET_CHILD_SUBREAPER` would find those too, but it is process-wide and several jobs share this
//! process.

use std::time::Duration;

use rustix::process::{Pid, Signal};

/// Name of the variable that marks the processes of one stage.
#[derive(Debug, Clone)]
pub(super) struct Marker(String);

impl Marker {
    /// A mark no other process has. The name, not the value, is unique, so that Courser inside a job
    /// of Courser adds its own mark beside the outer one.
    pub(super) fn new() -> Self {
        Self(format!("COURSER_STAGE_{}", uuid::Uuid::new_v4().simple()))
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// Every marked process that lives.
    ///
    /// A process is held by its pidfd before its environment is read, so a number that is used again
    /// meanwhile cannot stand for a stranger.
    #[cfg(target_os = "linux")]
    pub(super) fn find(&self) -> Vec<Survivor> {
        let Ok(processes) = std::fs::read_dir("/proc") else {
            return Vec::new();
        };
        processes
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(Pid::from_raw)
            .filter_map(|pid| self.hold(pid))
            .collect()
    }

    #[cfg(target_os = "linux")]
    fn hold(&self, pid: Pid) -> Option<Survivor> {
        use rustix::process::{PidfdFlags, pidfd_open};

        let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let environment = std::fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).ok()?;
        let marked = environment.split(|byte| *byte == 0).any(|variable| {
            variable
                .strip_prefix(self.0.as_bytes())
                .is_some_and(|rest| rest.starts_with(b"="))
        });
        marked.then_some(Survivor { pid, handle })
    }

    /// Without `/proc` there is only the process group.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn find(&self) -> Vec<Survivor> {
        Vec::new()
    }

    /// Kills until none is found twice: a process may start others while it is looked for, and one
    /// that replaces its program (`exec`) shows no environment for a moment.
    pub(super) fn kill_all(&self) {
        const ROUNDS: usize = 20;
        let mut none_before = false;
        for _ in 0..ROUNDS {
            let survivors = self.find();
            if survivors.is_empty() && none_before {
                return;
            }
            none_before = survivors.is_empty();
            for survivor in survivors {
                survivor.signal(Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A living process of the stage.
#[derive(Debug)]
pub(super) struct Survivor {
    pid: Pid,
    #[cfg(target_os = "linux")]
    handle: std::os::fd::OwnedFd,
}

impl Survivor {
    /// Whether it is in the process group `group`.
    pub(super) fn is_in_group(&self, group: Pid) -> bool {
        rustix::process::getpgid(Some(self.pid)) == Ok(group)
    }

    /// Signals it; a process that has ended meanwhile is none of our business.
    pub(super) fn signal(&self, signal: Signal) {
        #[cfg(target_os = "linux")]
        rustix::process::pidfd_send_signal(&self.handle, signal).ok();
        #[cfg(not(target_os = "linux"))]
        rustix::process::kill_process(self.pid, signal).ok();
    }
}
