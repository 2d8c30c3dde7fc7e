//! Writing a zip as upstream's archiver does (`runner-build-lifecycle.md` 4.4).
//!
//! Entries come in sorted order, so the same tree gives the same bytes. Files up to [`SMALL`] are
//! compressed in memory by a few threads and handed over in order; bigger ones pass through as a stream.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use libdeflater::{CompressionLvl, Compressor};
use rawzip::extra_fields::ExtraFieldId;
use rawzip::path::EntryPath;
use rawzip::time::UtcDateTime;
use rawzip::{CompressionMethod, DataDescriptorOutput, Header, ZipArchiveWriter, ZipFileBuilder};

use crate::source::{Source, SourceKind, open_regular};
use crate::{ArchiveError, Level};

/// Files up to this size are compressed in memory (`dependencies.md` 9: two threads then stay below
/// 48 MB, input and output).
const SMALL: u64 = 4 << 20;

/// Compressed and claimed bytes that wait for their turn at most.
const WINDOW: u64 = 16 << 20;

/// From this many files on, threads are worth their start.
const PARALLEL_FROM: usize = 16;

/// How content is packed.
#[derive(Clone, Copy)]
enum Method {
    Store,
    Deflate(u8),
    Zstd(i32),
}

pub(crate) fn write<W: Write + Send>(
    zstd: bool,
    level: Level,
    root: &Path,
    files: &[PathBuf],
    output: &mut W,
) -> Result<(), ArchiveError> {
    let method = if zstd {
        Method::Zstd(level.zip_zstd())
    } else {
        level.deflate().map_or(Method::Store, Method::Deflate)
    };
    let mut archive = ZipArchiveWriter::new(io::BufWriter::with_capacity(256 << 10, output));
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(4);
    if threads > 1 && files.len() >= PARALLEL_FROM {
        in_parallel(&mut archive, method, root, files, threads)?;
    } else {
        let mut packer = Packer::new(method);
        for path in files {
            let packed = packer.pack(root, path)?;
            append(&mut archive, method, root, packed)?;
        }
    }
    archive.finish().map_err(output_error)?;
    Ok(())
}

/// What a packer made of one path.
enum Packed {
    /// A socket, pipe or device.
    Skipped,
    Directory(Source),
    /// Content that is complete and packed.
    Entry {
        source: Source,
        method: CompressionMethod,
        content: Vec<u8>,
        crc: u32,
        size: u64,
    },
    /// Too big for the memory.
    Stream(Source),
}

impl Packed {
    fn bytes(&self) -> u64 {
        match self {
            Self::Entry { content, .. } => content.len() as u64,
            _ => 0,
        }
    }
}

/// Packs small files; buffers and codec state are kept between them.
struct Packer {
    method: Method,
    deflate: Option<Compressor>,
    input: Vec<u8>,
}

impl Packer {
    fn new(method: Method) -> Self {
        let deflate = match method {
            Method::Deflate(level) => CompressionLvl::new(i32::from(level))
                .ok()
                .map(Compressor::new),
            _ => None,
        };
        Self {
            method,
            deflate,
            input: Vec::new(),
        }
    }

    fn pack(&mut self, root: &Path, path: &Path) -> Result<Packed, ArchiveError> {
        let Some(source) = Source::look(root, path)? else {
            return Ok(Packed::Skipped);
        };
        match source.kind {
            SourceKind::Directory => return Ok(Packed::Directory(source)),
            SourceKind::Link => {
                let content = source.target(root)?.as_os_str().as_bytes().to_vec();
                return Ok(Packed::stored(source, content));
            }
            SourceKind::File if source.size > SMALL => return Ok(Packed::Stream(source)),
            SourceKind::File => {}
        }
        self.input.clear();
        // One byte more than allowed shows a file that grew.
        open_regular(root, path)?
            .take(SMALL + 1)
            .read_to_end(&mut self.input)
            .map_err(ArchiveError::io(root.join(path)))?;
        if self.input.len() as u64 > SMALL {
            return Ok(Packed::Stream(source));
        }
        let crc = crc32fast::hash(&self.input);
        let packed = if self.input.is_empty() {
            None
        } else {
            self.compress()?
        };
        Ok(match packed {
            Some((method, content)) if content.len() < self.input.len() => Packed::Entry {
                source,
                method,
                content,
                crc,
                size: self.input.len() as u64,
            },
            _ => Packed::stored(source, self.input.clone()),
        })
    }

    fn compress(&mut self) -> Result<Option<(CompressionMethod, Vec<u8>)>, ArchiveError> {
        match (self.method, &mut self.deflate) {
            (Method::Deflate(_), Some(compressor)) => {
                let mut content = vec![0; compressor.deflate_compress_bound(self.input.len())];
                let length = compressor
                    .deflate_compress(&self.input, &mut content)
                    .map_err(|error| ArchiveError::Output(io::Error::other(error.to_string())))?;
                content.truncate(length);
                content.shrink_to_fit();
                Ok(Some((CompressionMethod::DEFLATE, content)))
            }
            (Method::Zstd(level), _) => {
                let content =
                    zstd::bulk::compress(&self.input, level).map_err(ArchiveError::Output)?;
                Ok(Some((CompressionMethod::ZSTD, content)))
            }
            _ => Ok(None),
        }
    }
}

impl Packed {
    fn stored(source: Source, content: Vec<u8>) -> Self {
        Self::Entry {
            source,
            method: CompressionMethod::STORE,
            crc: crc32fast::hash(&content),
            size: content.len() as u64,
            content,
        }
    }
}

/// What the threads share.
struct Queue {
    /// First path that nobody has claimed.
    next: usize,
    /// Bytes claimed or waiting to be written.
    in_flight: u64,
    done: BTreeMap<usize, Result<Packed, ArchiveError>>,
    /// The writer gave up, or a thread panicked.
    stopped: bool,
}

fn in_parallel<W: Write>(
    archive: &mut ZipArchiveWriter<W>,
    method: Method,
    root: &Path,
    files: &[PathBuf],
    threads: usize,
) -> Result<(), ArchiveError> {
    ordered(
        threads,
        files.len(),
        || {
            let mut packer = Packer::new(method);
            move |index: usize| packer.pack(root, &files[index])
        },
        |packed| append(archive, method, root, packed),
    )
}

/// Packs `0..count` on a few threads, each with a function made by `packer`, and hands the results to
/// `write` in order.
fn ordered<P: FnMut(usize) -> Result<Packed, ArchiveError>>(
    threads: usize,
    count: usize,
    packer: impl Fn() -> P + Sync,
    mut write: impl FnMut(Packed) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let queue = Mutex::new(Queue {
        next: 0,
        in_flight: 0,
        done: BTreeMap::new(),
        stopped: false,
    });
    let changed = Condvar::new();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&queue, &changed, count, packer()));
        }
        let _guard = StopOnPanic(&queue, &changed);
        let result = (0..count).try_for_each(|index| {
            let packed = {
                let mut state = lock(&queue);
                loop {
                    if let Some(packed) = state.done.remove(&index) {
                        break packed?;
                    }
                    if state.stopped {
                        let died = io::Error::other("a thread that packs files panicked");
                        return Err(ArchiveError::Output(died));
                    }
                    state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            };
            let bytes = packed.bytes();
            write(packed)?;
            lock(&queue).in_flight -= bytes;
            changed.notify_all();
            Ok(())
        });
        stop(&queue, &changed);
        result
    })
}

fn stop(queue: &Mutex<Queue>, changed: &Condvar) {
    lock(queue).stopped = true;
    changed.notify_all();
}

/// A thread that panics wakes the others, which would wait for its result for ever; the panic itself
/// then goes on in the caller of the scope.
struct StopOnPanic<'a>(&'a Mutex<Queue>, &'a Condvar);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            stop(self.0, self.1);
        }
    }
}

fn work(
    queue: &Mutex<Queue>,
    changed: &Condvar,
    count: usize,
    mut pack: impl FnMut(usize) -> Result<Packed, ArchiveError>,
) {
    let _guard = StopOnPanic(queue, changed);
    loop {
        let index = {
            let mut state = lock(queue);
            // A claim counts as a full small file until its size is known. The first one always passes.
            while !state.stopped && state.in_flight > 0 && state.in_flight + SMALL > WINDOW {
                state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.stopped || state.next == count {
                return;
            }
            state.next += 1;
            state.in_flight += SMALL;
            state.next - 1
        };
        let packed = pack(index);
        let mut state = lock(queue);
        state.in_flight -= SMALL;
        if let Ok(packed) = &packed {
            state.in_flight += packed.bytes();
        }
        state.done.insert(index, packed);
        changed.notify_all();
    }
}

/// A thread that panicked leaves nothing half done in the queue.
fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds one entry to the archive.
fn append<W: Write>(
    archive: &mut ZipArchiveWriter<W>,
    method: Method,
    root: &Path,
    packed: Packed,
) -> Result<(), ArchiveError> {
    match packed {
        Packed::Skipped => Ok(()),
        Packed::Directory(source) => {
            let name = source.name();
            let fields = ExtraFields::new(&source);
            archive
                .new_dir(entry_path(&name))
                .last_modified(UtcDateTime::from_unix(source.modified))
                .unix_permissions(0o040_000 | source.mode)
                .extra_field(
                    ExtraFieldId::EXTENDED_TIMESTAMP,
                    &fields.timestamp,
                    Header::LOCAL,
                )
                .and_then(|entry| {
                    entry.extra_field(
                        ExtraFieldId::INFO_ZIP_UNIX_UID_GID,
                        &fields.owner,
                        Header::default(),
                    )
                })
                .and_then(|entry| entry.create())
                .map(|_| ())
                .map_err(output_error)
        }
        Packed::Entry {
            source,
            method,
            content,
            crc,
            size,
        } => {
            let name = source.name();
            let (mut entry, _) = describe(archive.new_file(entry_path(&name)), &source)
                .and_then(|entry| entry.compression_method(method).start())
                .map_err(output_error)?;
            entry.write_all(&content).map_err(ArchiveError::Output)?;
            entry
                .finish(DataDescriptorOutput::new(crc, size))
                .map(|_| ())
                .map_err(output_error)
        }
        Packed::Stream(source) => stream(archive, method, root, &source),
    }
}

fn stream<W: Write>(
    archive: &mut ZipArchiveWriter<W>,
    method: Method,
    root: &Path,
    source: &Source,
) -> Result<(), ArchiveError> {
    let mut file = open_regular(root, &source.path)?;
    let name = source.name();
    let wire = match method {
        Method::Store => CompressionMethod::STORE,
        Method::Deflate(_) => CompressionMethod::DEFLATE,
        Method::Zstd(_) => CompressionMethod::ZSTD,
    };
    let (mut entry, config) = describe(archive.new_file(entry_path(&name)), source)
        .and_then(|builder| builder.compression_method(wire).start())
        .map_err(output_error)?;
    let descriptor = match method {
        Method::Store => {
            let mut content = config.wrap(&mut entry);
            copy(&mut file, &mut content, root, source)?;
            content.finish().map_err(output_error)?.1
        }
        Method::Deflate(level) => {
            let level = flate2::Compression::new(level.into());
            let mut content = config.wrap(flate2::write::DeflateEncoder::new(&mut entry, level));
            copy(&mut file, &mut content, root, source)?;
            let (encoder, descriptor) = content.finish().map_err(output_error)?;
            encoder.finish().map_err(ArchiveError::Output)?;
            descriptor
        }
        Method::Zstd(level) => {
            let encoder = zstd::stream::write::Encoder::new(&mut entry, level)
                .map_err(ArchiveError::Output)?;
            let mut content = config.wrap(encoder);
            copy(&mut file, &mut content, root, source)?;
            let (encoder, descriptor) = content.finish().map_err(output_error)?;
            encoder.finish().map_err(ArchiveError::Output)?;
            descriptor
        }
    };
    entry.finish(descriptor).map(|_| ()).map_err(output_error)
}

/// `io::copy` that knows which side failed.
fn copy(
    file: &mut std::fs::File,
    output: &mut impl Write,
    root: &Path,
    source: &Source,
) -> Result<(), ArchiveError> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => output
                .write_all(&buffer[..count])
                .map_err(ArchiveError::Output)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ArchiveError::io(root.join(&source.path))(error)),
        }
    }
}

/// Mode, times and owner of a file or link.
fn describe<'a, 'p, W: Write>(
    builder: ZipFileBuilder<'a, 'p, W>,
    source: &Source,
) -> Result<ZipFileBuilder<'a, 'p, W>, rawzip::Error> {
    let kind = match source.kind {
        SourceKind::Link => 0o120_000,
        _ => 0o100_000,
    };
    let fields = ExtraFields::new(source);
    builder
        .last_modified(UtcDateTime::from_unix(source.modified))
        .unix_permissions(kind | source.mode)
        // rawzip adds the central one itself.
        .extra_field(
            ExtraFieldId::EXTENDED_TIMESTAMP,
            &fields.timestamp,
            Header::LOCAL,
        )?
        .extra_field(
            ExtraFieldId::INFO_ZIP_UNIX_UID_GID,
            &fields.owner,
            Header::default(),
        )
}

/// The two Info-ZIP fields: modification time, and user and group as four bytes each.
struct ExtraFields {
    timestamp: [u8; 5],
    owner: [u8; 11],
}

impl ExtraFields {
    fn new(source: &Source) -> Self {
        let seconds = u32::try_from(source.modified.clamp(0, u32::MAX.into())).unwrap_or(0);
        let mut timestamp = [1; 5];
        timestamp[1..].copy_from_slice(&seconds.to_le_bytes());
        let mut owner = [0; 11];
        (owner[0], owner[1], owner[6]) = (1, 4, 4);
        owner[2..6].copy_from_slice(&source.user.to_le_bytes());
        owner[7..].copy_from_slice(&source.group.to_le_bytes());
        Self { timestamp, owner }
    }
}

/// rawzip would turn backslashes and `./` of a text into something else; only names that need the
/// UTF-8 flag and have neither go that way.
fn entry_path(name: &[u8]) -> EntryPath<'_> {
    match std::str::from_utf8(name) {
        Ok(text) if !text.is_ascii() && !text.contains('\\') => EntryPath::conformant(text),
        _ => EntryPath::verbatim(name),
    }
}

fn output_error(error: rawzip::Error) -> ArchiveError {
    ArchiveError::Output(match error.into_kind() {
        rawzip::ErrorKind::IO(error) => error,
        other => io::Error::other(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So big that packers wait for the writer.
    fn pack(root: &Path) -> Result<Packed, ArchiveError> {
        Ok(Packed::Entry {
            source: Source::look(root, Path::new("file"))?.expect("a file"),
            method: CompressionMethod::STORE,
            content: vec![0; SMALL as usize],
            crc: 0,
            size: SMALL,
        })
    }

    #[test]
    fn a_panic_while_packing_or_writing_ends_the_work() {
        let root = tempfile::tempdir().expect("temporary directory");
        std::fs::write(root.path().join("file"), "").expect("file");
        let run = |bad_pack: usize, bad_write: usize| {
            std::panic::catch_unwind(|| {
                let mut written = 0;
                let packer = || {
                    |index| {
                        assert!(index != bad_pack, "packing panics");
                        pack(root.path())
                    }
                };
                let result = ordered(3, 20, packer, |_| {
                    assert!(written != bad_write, "writing panics");
                    written += 1;
                    Ok(())
                });
                (result.is_ok(), written)
            })
        };
        const NEVER: usize = usize::MAX;
        assert!(run(10, NEVER).is_err());
        assert!(run(NEVER, 10).is_err());
        assert!(matches!(run(NEVER, NEVER), Ok((true, 20))));
    }
}
