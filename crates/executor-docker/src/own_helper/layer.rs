//! Layers of the image: their digests, and their bytes as they are sent.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use futures_util::Stream;
use tar::{EntryType, Header};
use tokio::sync::mpsc;

use super::OwnHelperError;

/// More is no root file system of ours.
const LARGEST_ROOT: u64 = 1 << 30;

/// Where the program lies in a helper container.
pub(crate) const PROGRAM: &str = "/usr/bin/courser";

/// Names of upstream's that scripts call it by.
const LINKS: [&str; 2] = ["usr/bin/gitlab-runner-helper", "usr/bin/gitlab-runner"];

/// Bytes that are sent at a time.
const PIECE: usize = 256 * 1024;

/// A layer as images have it: a tar archive by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    /// `sha256:…`
    pub(super) digest: String,
    /// Bytes of the archive.
    pub(super) size: u64,
}

/// The root file system, in a file.
#[derive(Debug)]
pub(super) struct RootLayer {
    pub(super) layer: Layer,
    file: PathBuf,
    /// Of the file when it was read.
    length: u64,
    modified: SystemTime,
}

impl RootLayer {
    /// Reads the file, unless it is the one that is known.
    pub(super) fn read(
        file: PathBuf,
        known: Option<Arc<Self>>,
    ) -> Result<Arc<Self>, OwnHelperError> {
        let failed = |source| OwnHelperError::Root {
            file: file.clone(),
            source,
        };
        let opened = File::open(&file).map_err(failed)?;
        let data = opened.metadata().map_err(failed)?;
        let (length, modified) = (data.len(), data.modified().map_err(failed)?);
        if let Some(known) = known
            && (&known.file, known.length, known.modified) == (&file, length, modified)
        {
            return Ok(known);
        }
        let mut counted = Counted::new(io::sink());
        unpack(opened, &mut counted).map_err(failed)?;
        Ok(Arc::new(Self {
            layer: counted.layer(),
            length,
            modified,
            file,
        }))
    }

    /// Writes the archive; fails when the file is not the one any more that was read.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut counted = Counted::new(out);
        unpack(File::open(&self.file)?, &mut counted)?;
        if counted.layer() == self.layer {
            return Ok(());
        }
        let text = format!("{} was changed meanwhile", self.file.display());
        Err(io::Error::other(text))
    }
}

fn unpack(file: File, out: &mut dyn Write) -> io::Result<()> {
    let unpacked = zstd::Decoder::new(BufReader::new(file))?;
    let copied = io::copy(&mut unpacked.take(LARGEST_ROOT + 1), out)?;
    if copied > LARGEST_ROOT {
        return Err(io::Error::other("it is larger than 1 GiB unpacked"));
    }
    Ok(())
}

/// This program, with its other names.
#[derive(Debug)]
pub(super) struct ProgramLayer {
    pub(super) layer: Layer,
    /// One at a time reads it: it has one place.
    program: Mutex<File>,
    length: u64,
}

impl ProgramLayer {
    pub(super) fn read(program: File) -> io::Result<Self> {
        let length = program.metadata()?.len();
        let mut read = Self {
            layer: Layer {
                digest: String::new(),
                size: 0,
            },
            program: Mutex::new(program),
            length,
        };
        let mut counted = Counted::new(io::sink());
        read.archive(&mut counted)?;
        read.layer = counted.layer();
        Ok(read)
    }

    /// Writes the archive; fails when the program's file was written to.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut counted = Counted::new(out);
        self.archive(&mut counted)?;
        if counted.layer() == self.layer {
            return Ok(());
        }
        Err(io::Error::other(
            "this program's file was changed meanwhile",
        ))
    }

    fn archive(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(out);
        for directory in ["usr/", "usr/bin/"] {
            let mut header = header(EntryType::Directory, 0o755, 0);
            archive.append_data(&mut header, directory, io::empty())?;
        }
        let mut program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        program.rewind()?;
        let mut header_of_program = header(EntryType::Regular, 0o755, self.length);
        let path = PROGRAM.trim_start_matches('/');
        archive.append_data(&mut header_of_program, path, (&*program).take(self.length))?;
        for link in LINKS {
            let mut header = header(EntryType::Symlink, 0o777, 0);
            archive.append_link(&mut header, link, "courser")?;
        }
        archive.finish()
    }
}

/// Root's, and as old as time: the same content has the same digest.
pub(super) fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

/// Passes bytes on, and knows their digest.
struct Counted<W> {
    out: W,
    digest: Context,
    size: u64,
}

impl<W: Write> Counted<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            digest: Context::new(&SHA256),
            size: 0,
        }
    }

    fn layer(self) -> Layer {
        Layer {
            digest: format!("sha256:{}", hex::encode(self.digest.finish())),
            size: self.size,
        }
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Runs work that reads files beside the asynchronous ones.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OwnHelperError> + Send + 'static,
) -> Result<T, OwnHelperError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(OwnHelperError::Program(io::Error::other(error))))
}

/// What `write` writes, a piece at a time, while it is read.
pub(super) fn stream(
    write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let (sender, receiver) = mpsc::channel(4);
    // It ends with the receiver: then nothing can be sent any more.
    drop(tokio::task::spawn_blocking(move || {
        let mut pieces = io::BufWriter::with_capacity(PIECE, Pieces(sender.clone()));
        let written = write(&mut pieces).and_then(|()| pieces.flush());
        // Without its last piece, what arrives is no archive: nothing may follow an error.
        let (_, _unsent) = pieces.into_parts();
        if let Err(error) = written {
            sender.blocking_send(Err(error)).ok();
        }
    }));
    futures_util::stream::unfold(receiver, async |mut receiver| {
        let piece = receiver.recv().await?;
        Some((piece, receiver))
    })
}

struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
