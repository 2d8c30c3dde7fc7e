//! What is on the stream between runner and agent.

use std::io;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Longest content of a frame. What is longer is split.
pub(super) const LONGEST: usize = 64 * 1024;

/// A byte, and two numbers of four, big-endian.
const HEADER: usize = 9;

/// One message of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// Number of the run, chosen by the runner.
    pub(super) run: u32,
    pub(super) kind: Kind,
    pub(super) content: Vec<u8>,
}

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// To the agent: a [`Start`] as JSON.
    Start,
    /// To the agent: bytes for standard input.
    Input,
    /// To the agent: standard input is complete.
    InputEnd,
    /// To the agent: SIGTERM, and SIGKILL after so many milliseconds (decimal text).
    Stop,
    /// To the agent: SIGKILL.
    Kill,
    /// From the agent: bytes of standard output.
    Stdout,
    /// From the agent: bytes of standard error.
    Stderr,
    /// From the agent: it ended, with this status (decimal text).
    Exit,
    /// From the agent: it was not started, or not followed, and why.
    Failed,
    /// From the agent: somebody wants a connection; the number is its own from here on, chosen by the agent.
    Connect,
    /// Either way: bytes of a connection.
    Bytes,
    /// Either way: a connection has no more bytes in this direction.
    BytesEnd,
    /// Either way: so many bytes of a connection (decimal text) were handed on.
    Taken,
    /// Either way: a connection is gone.
    Closed,
}

const KINDS: [(u8, Kind); 14] = [
    (b'S', Kind::Start),
    (b'I', Kind::Input),
    (b'E', Kind::InputEnd),
    (b'T', Kind::Stop),
    (b'K', Kind::Kill),
    (b'o', Kind::Stdout),
    (b'e', Kind::Stderr),
    (b'x', Kind::Exit),
    (b'f', Kind::Failed),
    (b'c', Kind::Connect),
    (b'b', Kind::Bytes),
    (b'z', Kind::BytesEnd),
    (b't', Kind::Taken),
    (b'q', Kind::Closed),
];

/// What is run, and how.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) program: Program,
    /// Both outputs share a pipe: the order of what is written matters more than where it was written.
    pub(super) streams_together: bool,
}

/// What reads the input of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Program {
    /// Bash, where the container has it, or sh.
    Shell,
    /// `courser helper run`.
    Helper,
}

impl Kind {
    /// Whether it is about a connection, not about a run.
    pub(super) fn is_of_connection(self) -> bool {
        matches!(
            self,
            Self::Connect | Self::Bytes | Self::BytesEnd | Self::Taken | Self::Closed
        )
    }
}

impl Frame {
    pub(super) fn new(run: u32, kind: Kind, content: impl Into<Vec<u8>>) -> Self {
        Self {
            run,
            kind,
            content: content.into(),
        }
    }

    /// The next one, or nothing at the end of the stream.
    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let mut header = [0; HEADER];
        if stream.read(&mut header[..1]).await? == 0 {
            return Ok(None);
        }
        stream.read_exact(&mut header[1..]).await?;
        let [kind, run @ .., l0, l1, l2, l3] = header;
        let kind = KINDS.iter().find(|(byte, _)| *byte == kind);
        let Some((_, kind)) = kind else {
            return Err(invalid("no frame"));
        };
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if length > LONGEST {
            return Err(invalid("a frame that is too long"));
        }
        let mut content = vec![0; length];
        stream.read_exact(&mut content).await?;
        Ok(Some(Self {
            run: u32::from_be_bytes(run),
            kind: *kind,
            content,
        }))
    }

    /// Writes it; longer content is cut, which only [`LONGEST`] prevents.
    pub(super) async fn write(&self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let content = &self.content[..self.content.len().min(LONGEST)];
        let kind = KINDS.iter().find(|(_, kind)| *kind == self.kind);
        let mut bytes = Vec::with_capacity(HEADER + content.len());
        bytes.push(kind.map_or(0, |(byte, _)| *byte));
        bytes.extend_from_slice(&self.run.to_be_bytes());
        bytes.extend_from_slice(&(content.len() as u32).to_be_bytes());
        bytes.extend_from_slice(content);
        stream.write_all(&bytes).await?;
        stream.flush().await
    }

    /// Content that is text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
