//! Processes on Windows, type-checked only (`cargo xtask check-platforms`): nothing of this has run yet.
//!
//! A console process cannot be asked to end without code that is `unsafe` in Rust, so a stage is killed at
//! once, by `taskkill`, with all that it started and that is still below it.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::process::ExitStatus;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use crate::Exit;

/// Gives the leader a group of its own, so that a Ctrl-C for the runner is not one for the job.
pub(super) fn set_apart(command: &mut Command) {
    const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
    command.creation_flags(CREATE_NEW_PROCESS_GROUP);
}

/// There is no polite way.
pub(super) fn ask_to_end(_leader: &Child) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Returns when the leader has ended.
pub(super) async fn ended(leader: &mut Child) -> io::Result<()> {
    leader.wait().await.map(drop)
}

/// Kills the leader and all below it.
pub(super) fn kill(leader: &Child) {
    let Some(pid) = leader.id() else { return };
    let killed = std::process::Command::new("taskkill")
        .args(["/F", "/T", "/PID", &pid.to_string()])
        .output();
    if let Err(error) = killed {
        tracing::warn!(pid, "cannot start taskkill: {error}");
    }
}

/// One of a stage's two pipes.
pub(super) struct Pipe {
    end: Box<dyn AsyncRead + Send + Unpin>,
    read: Vec<u8>,
}

impl Pipe {
    const PIECE: usize = 16 * 1024;

    fn new(end: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self {
            end: Box::new(end),
            read: Vec::new(),
        }
    }

    /// There is no pipe that two outputs share and that is read without a thread.
    #[expect(
        clippy::unnecessary_wraps,
        reason = "Unix needs it, and callers are the same"
    )]
    pub(super) fn shared(_command: &mut Command) -> io::Result<Option<Self>> {
        Ok(None)
    }

    /// Standard output, then standard error of a process that has both.
    pub(super) fn both(leader: &mut Child) -> io::Result<Option<(Self, Self)>> {
        Ok(match (leader.stdout.take(), leader.stderr.take()) {
            (Some(out), Some(err)) => Some((Self::new(out), Self::new(err))),
            _ => None,
        })
    }

    /// Returns when there is something, or the end.
    pub(super) async fn ready(&mut self) -> io::Result<()> {
        if self.read.is_empty() {
            let mut piece = Vec::with_capacity(Self::PIECE);
            self.end.read_buf(&mut piece).await?;
            self.read = piece;
        }
        Ok(())
    }

    /// What is there; nothing at the end.
    pub(super) fn take(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let length = self.read.len().min(piece.len());
        piece[..length].copy_from_slice(&self.read[..length]);
        self.read.drain(..length);
        Ok(length)
    }
}

/// A nameless temporary file.
pub(super) fn standard_input(input: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(input)?;
    file.rewind()?;
    Ok(file)
}

/// A status is a DWORD: 0xFFFFFFFF is -1 (1.8).
pub(super) fn exit_of(status: ExitStatus) -> Exit {
    match status.code() {
        Some(0) => Exit::Success,
        code => {
            let code = code.unwrap_or(-1);
            Exit::Failure {
                code,
                text: format!("exit status {code}"),
            }
        }
    }
}
