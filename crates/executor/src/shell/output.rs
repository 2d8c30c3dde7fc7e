//! Reading a stage's pipes without holding a buffer while nothing comes.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::time::Instant;

use super::platform::Pipe;
use crate::{Output, Stream};

/// Read at most this much between two looks at the other pipe: all that a pipe holds.
const PIECE: usize = 64 * 1024;

thread_local! {
    /// Room for one piece, which nobody holds beyond a call: jobs of a thread share it.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How long a background process that holds the pipe open may delay the end of its stage.
const DRAIN_IDLE: Duration = Duration::from_secs(1);
const DRAIN_TOTAL: Duration = Duration::from_secs(10);

/// Standard output and standard error of a stage.
pub(super) struct Pipes {
    stdout: Option<Pipe>,
    stderr: Option<Pipe>,
    /// The one that is looked at first: each in turn, so that a flood on one does not hold up the other,
    /// and standard output to begin with, where a script's commands are echoed.
    turn: Stream,
}

impl Pipes {
    pub(super) fn new(stdout: Pipe, stderr: Pipe) -> Self {
        Self {
            stdout: Some(stdout),
            stderr: Some(stderr),
            turn: Stream::Stdout,
        }
    }

    /// Both in one pipe; all of it counts as standard output.
    pub(super) fn shared(both: Pipe) -> Self {
        Self {
            stdout: Some(both),
            stderr: None,
            turn: Stream::Stdout,
        }
    }

    /// Hands on what comes next. Pends forever once both pipes are at their end.
    pub(super) async fn forward(&mut self, output: &mut dyn Output) -> io::Result<()> {
        let stdout = readable(self.stdout.as_mut(), Stream::Stdout);
        let stderr = readable(self.stderr.as_mut(), Stream::Stderr);
        let stream = match self.turn {
            Stream::Stdout => first_of(stdout, stderr).await?,
            Stream::Stderr => first_of(stderr, stdout).await?,
        };
        let (pipe, next) = match stream {
            Stream::Stdout => (&mut self.stdout, Stream::Stderr),
            Stream::Stderr => (&mut self.stderr, Stream::Stdout),
        };
        self.turn = next;
        take(pipe, stream, output)
    }

    /// Whether nothing more can come.
    pub(super) fn at_end(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// Reads on after the leader has gone: to the end, or until the processes that still hold a pipe
    /// have been quiet for a second, or for ten seconds. Says whether the end was reached.
    pub(super) async fn drain(&mut self, output: &mut dyn Output) -> io::Result<bool> {
        let deadline = Instant::now() + DRAIN_TOTAL;
        while !self.at_end() {
            let idle = (Instant::now() + DRAIN_IDLE).min(deadline);
            match tokio::time::timeout_at(idle, self.forward(output)).await {
                Ok(result) => result?,
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }
}

async fn readable(pipe: Option<&mut Pipe>, stream: Stream) -> io::Result<Stream> {
    match pipe {
        Some(pipe) => pipe.ready().await.map(|()| stream),
        None => std::future::pending().await,
    }
}

/// What is ready; of two that are, the first.
async fn first_of<T>(first: impl Future<Output = T>, second: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        ready = first => ready,
        ready = second => ready,
    }
}

fn take(pipe: &mut Option<Pipe>, stream: Stream, output: &mut dyn Output) -> io::Result<()> {
    let Some(open) = pipe else {
        return Ok(());
    };
    let at_end = ROOM.with_borrow_mut(|piece| {
        piece.resize(PIECE, 0);
        match open.take(piece) {
            Ok(0) => return Ok(true),
            Ok(length) => output.write(stream, &piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(false)
    })?;
    if at_end {
        *pipe = None;
    }
    Ok(())
}
