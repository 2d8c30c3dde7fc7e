//! What `cli` asks of Unix: modes of files, users, signals, the terminal, pipes.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use std::os::fd::AsFd as Stream;

pub(crate) use tokio::signal::unix::Signal;

/// Makes new files that only the user can read.
pub(crate) fn new_private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
}

/// Makes directories that only the user can look into.
pub(crate) fn private_directory() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

/// Lets the user into a directory, to remove what is in it.
pub(crate) fn open_up(directory: &Path) -> io::Result<()> {
    std::fs::set_permissions(directory, Permissions::from_mode(0o700))
}

/// The mode of a file that others than its owner can do something with.
pub(crate) fn mode_for_others(metadata: &Metadata) -> Option<u32> {
    let mode = metadata.mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

/// Gives a new file the owner and the mode of the one that it replaces; without one everybody may read it.
pub(crate) fn take_after(file: &File, old: Option<&Metadata>) -> io::Result<()> {
    let permissions = match old {
        Some(old) => {
            // Only root may give files away; for others a replaced file becomes their own.
            fchown(file, Some(old.uid()), Some(old.gid())).ok();
            old.permissions()
        }
        None => Permissions::from_mode(0o644),
    };
    file.set_permissions(permissions)
}

/// Number of the user who runs this process; root has 0.
pub(crate) fn user() -> u32 {
    rustix::process::getuid().as_raw()
}

/// Keeps this process' memory out of core dumps, and away from other processes of the user, such as jobs. Root can
/// still look; programs that it starts are not affected. Elsewhere than on Linux the user's limit for core files counts.
pub(crate) fn keep_memory_private() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        // The kernel takes this value from anybody.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).ok();
    }
}

/// Name of this machine.
pub(crate) fn host_name(_variable: impl Fn(&'static str) -> Option<String>) -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// Ticks of a second and bytes of a page, as `/proc` counts.
pub(crate) fn units_of_proc() -> (u64, usize) {
    (
        rustix::param::clock_ticks_per_second(),
        rustix::param::page_size(),
    )
}

/// A process' code; of one that a signal ended, what a shell makes of it.
pub(crate) fn exit_code(status: ExitStatus) -> Option<i32> {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
}

/// Ctrl-C.
pub(crate) fn interrupts() -> io::Result<Signal> {
    signal(SignalKind::interrupt())
}

/// What asks a program to end.
pub(crate) fn terminations() -> io::Result<Signal> {
    signal(SignalKind::terminate())
}

/// What asks a runner to end after its jobs.
pub(crate) fn quits() -> io::Result<Signal> {
    signal(SignalKind::quit())
}

/// What asks a runner to look at its configuration.
pub(crate) fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// What tells that the terminal is gone; `None` where it is to be ignored, as under `nohup`.
pub(crate) fn terminal_hangups() -> io::Result<Option<Signal>> {
    // Nothing else tells without code that is `unsafe` in Rust; elsewhere than on Linux it is not told.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    match ignored {
        Some(mask) if mask & 1 != 0 => Ok(None),
        _ => hangups().map(Some),
    }
}

/// Nothing more is written to a terminal that is gone.
pub(crate) fn leave_terminal() -> io::Result<()> {
    use std::io::IsTerminal as _;

    let nowhere = OpenOptions::new().write(true).open("/dev/null")?;
    if io::stdout().is_terminal() {
        rustix::stdio::dup2_stdout(&nowhere)?;
    }
    if io::stderr().is_terminal() {
        rustix::stdio::dup2_stderr(&nowhere)?;
    }
    Ok(())
}

/// Whether a stream is a pipe.
pub(crate) fn is_pipe(stream: &impl Stream) -> bool {
    fstat(stream).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

/// Whether something in a pipe has not been read.
pub(crate) fn has_unread(pipe: &impl Stream) -> bool {
    rustix::io::ioctl_fionread(pipe).is_ok_and(|unread| unread > 0)
}

/// Makes a pipe with a name, for the user only.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn make_fifo(path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, mknodat};

    let mode = Mode::RUSR | Mode::WUSR;
    Ok(mknodat(CWD, path, FileType::Fifo, mode, 0)?)
}

/// No safe call makes a pipe with a name there.
#[cfg(target_vendor = "apple")]
pub(crate) fn make_fifo(path: &Path) -> io::Result<()> {
    let made = std::process::Command::new("mkfifo")
        .args(["-m", "600"])
        .arg(path)
        .status()?;
    if made.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("mkfifo ended with {made}")))
    }
}

/// Opens the reading end of a pipe without waiting for a writer.
pub(crate) fn open_fifo(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// The terminal has another size.
pub(crate) fn resizes() -> io::Result<Signal> {
    signal(SignalKind::window_change())
}

/// Lines and columns of the terminal.
pub(crate) fn terminal_size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Columns of the terminal.
pub(crate) fn terminal_columns() -> Option<usize> {
    let size = termios::tcgetwinsize(stdout()).ok()?;
    Some(usize::from(size.ws_col))
}

/// The terminal shows what is typed in another way while this lives.
pub(crate) struct Typing {
    before: Termios,
    /// In the background it is left to who has the terminal now.
    yields: bool,
}

impl Typing {
    /// It does not write `^C`: that would move the cursor. `None` in the background, where a process that changes the
    /// terminal is stopped by the system.
    pub(crate) fn without_control_keys() -> Option<Self> {
        if !in_foreground() {
            return None;
        }
        Self::without(LocalModes::ECHOCTL, OptionalActions::Now, true).ok()
    }

    /// It shows nothing at all.
    pub(crate) fn hidden() -> io::Result<Self> {
        Self::without(LocalModes::ECHO, OptionalActions::Flush, false)
    }

    /// Every key is somebody else's business, Ctrl-C too.
    pub(crate) fn handed_on() -> io::Result<Self> {
        let before = termios::tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Self {
            before,
            yields: false,
        })
    }

    fn without(modes: LocalModes, when: OptionalActions, yields: bool) -> io::Result<Self> {
        let before = termios::tcgetattr(stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(modes);
        termios::tcsetattr(stdin(), when, &silent)?;
        Ok(Self { before, yields })
    }
}

impl Drop for Typing {
    fn drop(&mut self) {
        if !self.yields || in_foreground() {
            termios::tcsetattr(stdin(), OptionalActions::Now, &self.before).ok();
        }
    }
}

fn in_foreground() -> bool {
    termios::tcgetpgrp(stdin()).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// From now on new files and directories are for all users: those of a job's containers (`executor-docker.md` 11.3).
pub(crate) fn open_files_to_all() {
    rustix::process::umask(Mode::empty());
}
