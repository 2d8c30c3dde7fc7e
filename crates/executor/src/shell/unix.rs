//! Processes on Unix: a process group for the leader, signals, pipes.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::Exit;

/// Makes the leader the first of a process group of its own.
pub(super) fn set_apart(command: &mut Command) {
    command.process_group(0);
}

/// Asks the leader's group to end. A stopped process could not take notice, and would get a SIGHUP
/// instead when its parent ends: it goes on first.
pub(super) fn ask_to_end(leader: &Child) -> io::Result<()> {
    signal_group(leader, Signal::CONT).ok();
    signal_group(leader, Signal::TERM)
}

/// Returns when the leader has ended, and leaves it to be waited for: until then its group keeps its number, and
/// those in it that did not end with it can be killed.
#[expect(
    clippy::needless_pass_by_ref_mut,
    reason = "Windows needs it, and callers are the same"
)]
pub(super) async fn ended(leader: &mut Child) -> io::Result<()> {
    let Some(pid) = group_of(leader) else {
        return Ok(());
    };
    let mut children = signal(SignalKind::child())?;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while waitid(WaitId::Pid(pid), options)?.is_none() {
        children.recv().await;
    }
    Ok(())
}

/// Kills the leader's group.
pub(super) fn kill(leader: &Child) {
    signal_group(leader, Signal::KILL).ok();
}

/// Only while the leader has not been waited for: afterwards the group's number may be another's.
fn signal_group(leader: &Child, signal: Signal) -> io::Result<()> {
    match group_of(leader) {
        Some(group) => Ok(kill_process_group(group, signal)?),
        None => Ok(()),
    }
}

fn group_of(leader: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(leader.id()?).ok()?)
}

/// One of a stage's two pipes. No buffer is held while nothing comes.
pub(super) struct Pipe(Receiver);

#[expect(
    clippy::needless_pass_by_ref_mut,
    reason = "Windows needs it, and callers are the same"
)]
impl Pipe {
    /// One pipe for both outputs of a command. Its end comes when the command, which holds the other
    /// end, and all processes have gone.
    pub(super) fn shared(command: &mut Command) -> io::Result<Option<Self>> {
        let (end, other_end) = io::pipe()?;
        command.stdout(other_end.try_clone()?).stderr(other_end);
        Ok(Some(Self(Receiver::from_owned_fd(end.into())?)))
    }

    /// Standard output, then standard error of a process that has both.
    pub(super) fn both(leader: &mut Child) -> io::Result<Option<(Self, Self)>> {
        let pipe =
            |end: io::Result<OwnedFd>| Ok::<_, io::Error>(Self(Receiver::from_owned_fd(end?)?));
        match (leader.stdout.take(), leader.stderr.take()) {
            (Some(out), Some(err)) => Ok(Some((
                pipe(out.into_owned_fd())?,
                pipe(err.into_owned_fd())?,
            ))),
            _ => Ok(None),
        }
    }

    /// Returns when there may be something, or the end.
    pub(super) async fn ready(&mut self) -> io::Result<()> {
        self.0.readable().await
    }

    /// What is there; nothing at the end.
    pub(super) fn take(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(piece)
    }
}

/// A file in memory, which a shell reads in blocks; from a pipe it must read byte by byte.
#[cfg(target_os = "linux")]
pub(super) fn standard_input(input: &[u8]) -> io::Result<File> {
    let memory = rustix::fs::memfd_create("courser-stage", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(memory);
    file.write_all(input)?;
    file.rewind()?;
    Ok(file)
}

/// A nameless temporary file.
#[cfg(not(target_os = "linux"))]
pub(super) fn standard_input(input: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(input)?;
    file.rewind()?;
    Ok(file)
}

/// Go's words for an exit status, which users and `allow_failure:exit_codes` know (6.4).
pub(super) fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(0), _) => Exit::Success,
        (Some(code), _) => Exit::Failure {
            code,
            text: format!("exit status {code}"),
        },
        (None, signal) => Exit::Failure {
            code: -1,
            text: format!("signal: {}", signal_name(signal.unwrap_or(0))),
        },
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        10 => "user defined signal 1",
        11 => "segmentation fault",
        12 => "user defined signal 2",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}
