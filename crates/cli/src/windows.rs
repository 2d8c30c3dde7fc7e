//! What `cli` asks of Windows, type-checked only (`cargo xtask check-platforms`): nothing of this has run yet.
//!
//! There are no modes: who may read a file follows from the directory that it is in, and a user's own directories are
//! that user's only.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::path::Path;
use std::process::ExitStatus;

use tokio::signal::windows::{CtrlBreak, CtrlC, CtrlShutdown, ctrl_break, ctrl_c, ctrl_shutdown};

pub(crate) use std::os::windows::io::AsHandle as Stream;

/// Makes new files.
pub(crate) fn new_private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    options
}

/// Makes directories.
pub(crate) fn private_directory() -> DirBuilder {
    DirBuilder::new()
}

/// No mode keeps the user out of a directory.
pub(crate) fn open_up(_directory: &Path) -> io::Result<()> {
    Ok(())
}

/// What others can do with a file is not in its mode.
pub(crate) fn mode_for_others(_metadata: &Metadata) -> Option<u32> {
    None
}

/// Who may read a new file follows from its directory.
pub(crate) fn take_after(_file: &File, _old: Option<&Metadata>) -> io::Result<()> {
    Ok(())
}

/// Users have no numbers; nobody is root.
pub(crate) fn user() -> u32 {
    u32::MAX
}

/// Whether there are dumps is the machine's setting.
pub(crate) fn keep_memory_private() {}

/// Name of this machine.
pub(crate) fn host_name(variable: impl Fn(&'static str) -> Option<String>) -> String {
    variable("COMPUTERNAME").unwrap_or_default()
}

/// There is no `/proc`.
pub(crate) fn units_of_proc() -> (u64, usize) {
    (1, 1)
}

/// A process' code.
pub(crate) fn exit_code(status: ExitStatus) -> Option<i32> {
    status.code()
}

/// Events of the console that stand for signals.
pub(crate) enum Signal {
    Interrupt(CtrlC),
    Break(CtrlBreak),
    Shutdown(CtrlShutdown),
    /// Nothing stands for it.
    Never,
}

impl Signal {
    /// Waits for the next one.
    pub(crate) async fn recv(&mut self) -> Option<()> {
        match self {
            Self::Interrupt(signal) => signal.recv().await,
            Self::Break(signal) => signal.recv().await,
            Self::Shutdown(signal) => signal.recv().await,
            Self::Never => std::future::pending().await,
        }
    }
}

/// Ctrl-C.
pub(crate) fn interrupts() -> io::Result<Signal> {
    ctrl_c().map(Signal::Interrupt)
}

/// What asks a program to end.
pub(crate) fn terminations() -> io::Result<Signal> {
    ctrl_shutdown().map(Signal::Shutdown)
}

/// What asks a runner to end after its jobs.
pub(crate) fn quits() -> io::Result<Signal> {
    ctrl_break().map(Signal::Break)
}

/// The configuration is looked at every few seconds anyway.
pub(crate) fn hangups() -> io::Result<Signal> {
    Ok(Signal::Never)
}

/// A console that is closed ends its programs.
pub(crate) fn terminal_hangups() -> io::Result<Option<Signal>> {
    Ok(None)
}

/// Never asked for.
pub(crate) fn leave_terminal() -> io::Result<()> {
    Ok(())
}

/// How much of a pipe has been read cannot be asked without code that is `unsafe` in Rust.
pub(crate) fn is_pipe(_stream: &impl Stream) -> bool {
    false
}

/// See [`is_pipe`].
pub(crate) fn has_unread(_pipe: &impl Stream) -> bool {
    false
}

/// Pipes with names are no files there.
pub(crate) fn make_fifo(_path: &Path) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "`courser shell` is not built for Windows",
    ))
}

/// See [`make_fifo`].
pub(crate) fn open_fifo(_path: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// It does not tell.
pub(crate) fn resizes() -> io::Result<Signal> {
    Ok(Signal::Never)
}

/// Not asked.
pub(crate) fn terminal_size() -> Option<(u16, u16)> {
    None
}

/// Not asked.
pub(crate) fn terminal_columns() -> Option<usize> {
    None
}

/// The terminal shows what is typed in another way while this lives.
pub(crate) struct Typing;

impl Typing {
    /// Control keys are not shown anyway.
    pub(crate) fn without_control_keys() -> Option<Self> {
        None
    }

    /// A console cannot be made raw without code that is `unsafe` in Rust.
    pub(crate) fn handed_on() -> io::Result<Self> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a terminal in a container is not built for Windows; give a command and redirect its input",
        ))
    }

    /// What is typed cannot be hidden without code that is `unsafe` in Rust: nobody is asked.
    pub(crate) fn hidden() -> io::Result<Self> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "what is typed cannot be hidden on Windows; use --password-file",
        ))
    }
}

/// There are no modes to open.
pub(crate) fn open_files_to_all() {}
