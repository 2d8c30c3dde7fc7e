//! Extracting a zip of unknown origin (`runner-build-lifecycle.md` 4.7).
//!
//! The central directory is read again and again instead of being kept: by each of a few threads for files
//! and directories, then for links (so that no file can be written through a link of the same archive),
//! then for what directories look like. Memory does not grow with the number of entries. Which thread
//! extracts an entry depends on its name alone, so that entries of one name keep their order.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Builder;

use libdeflater::Decompressor;
use rawzip::extra_fields::ExtraFieldId;
use rawzip::time::ZipDateTimeKind;
use rawzip::{
    CompressionMethod, FileReader, MAX_CENTRAL_DIRECTORY_RECORD_SIZE, ZipArchive,
    ZipFileHeaderRecord,
};

use crate::destination::{Attributes, Budget, Destination, EntryName, components, copy_within};
use crate::error::shown;
use crate::{ArchiveError, Limits, MAX_ZSTD_WINDOW_LOG, platform, processors};

/// Entries up to this size, packed and unpacked, are inflated in memory.
const SMALL: u64 = 4 << 20;

/// Longest target of a link (`PATH_MAX`).
const MAX_TARGET: u64 = 4096;

/// From this many entries on, threads are worth their start.
const PARALLEL_FROM: u64 = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Files, and directories as far as they have to exist: the share of one of so many threads.
    Files {
        thread: u64,
        of: u64,
    },
    Links,
    Directories,
}

enum Kind {
    File,
    Link,
    Directory,
    /// Sockets, devices, pipes.
    Special,
}

pub(crate) fn extract(file: File, root: &Path, limits: &Limits) -> Result<(), ArchiveError> {
    let unreadable = |error: std::io::Error| ArchiveError::Damaged(error.to_string());
    let archive_bytes = file.metadata().map_err(unreadable)?.len();
    let content = file.try_clone().map_err(unreadable)?;
    // The largest record the format allows, so that no name is too long for the buffer.
    let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
    let directory = ZipArchive::from_file(file, &mut buffer).map_err(damaged)?;
    let archive = Archive {
        threads: if directory.entries_hint() < PARALLEL_FROM {
            1
        } else {
            processors() as u64
        },
        directory,
        content,
        root,
        max_entries: limits.entries,
        budget: Budget::new(limits.total(archive_bytes)),
        stopped: AtomicBool::new(false),
    };
    archive.extract()
}

/// What the threads share.
struct Archive<'a> {
    directory: ZipArchive<FileReader>,
    /// The same file, for packed bytes.
    content: File,
    root: &'a Path,
    max_entries: u64,
    budget: Budget,
    threads: u64,
    /// A thread has failed.
    stopped: AtomicBool,
}

/// Which kinds of entries a pass met.
#[derive(Clone, Copy, Default)]
struct Met {
    links: bool,
    directories: bool,
}

impl Archive<'_> {
    fn extract(&self) -> Result<(), ArchiveError> {
        let mut extraction = Extraction::new(self)?;
        let met = std::thread::scope(|scope| {
            let share = |thread| Pass::Files {
                thread,
                of: self.threads,
            };
            let (mut others, mut own) = (Vec::new(), vec![0]);
            for thread in 1..self.threads {
                let work = move || Extraction::new(self)?.run(share(thread));
                match Builder::new().spawn_scoped(scope, work) {
                    Ok(other) => others.push(other),
                    // The machine has no more threads for us: this one does its share too.
                    Err(_) => own.push(thread),
                }
            }
            let mut shares = own.into_iter().map(|thread| extraction.run(share(thread)));
            let first = shares.try_fold(Met::default(), |_, met| met);
            // An error of the first thread wins; the others have stopped because of it.
            others.into_iter().fold(first, |result, other| {
                let other = other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result.and_then(|met| other.map(|_| met))
            })
        })?;
        if met.links {
            extraction.run(Pass::Links)?;
        }
        if met.directories {
            extraction.run(Pass::Directories)?;
        }
        extraction.destination.finish()
    }
}

/// The work of one thread, with its buffers.
struct Extraction<'a> {
    archive: &'a Archive<'a>,
    destination: Destination,
    inflate: Decompressor,
    packed: Vec<u8>,
    content: Vec<u8>,
}

impl<'a> Extraction<'a> {
    fn new(archive: &'a Archive<'a>) -> Result<Self, ArchiveError> {
        Ok(Self {
            archive,
            destination: Destination::open(archive.root)?,
            inflate: Decompressor::new(),
            packed: Vec::new(),
            content: Vec::new(),
        })
    }

    /// Goes through the whole directory once. The first error stops all threads.
    fn run(&mut self, pass: Pass) -> Result<Met, ArchiveError> {
        let result = self.entries(pass);
        if result.is_err() {
            self.archive.stopped.store(true, Ordering::Relaxed);
        }
        result
    }

    fn entries(&mut self, pass: Pass) -> Result<Met, ArchiveError> {
        let archive = self.archive;
        let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
        let mut entries = archive.directory.entries(&mut buffer);
        let (mut count, mut met) = (0, Met::default());
        while let Some(record) = entries.next_entry().map_err(damaged)? {
            count += 1;
            if count > archive.max_entries {
                return Err(ArchiveError::Limit {
                    what: "entries",
                    limit: archive.max_entries,
                });
            }
            if archive.stopped.load(Ordering::Relaxed) {
                break;
            }
            let kind = kind(&record);
            met.links |= matches!(kind, Kind::Link);
            met.directories |= matches!(kind, Kind::Directory);
            let is_ours = match pass {
                Pass::Files { thread, of } => {
                    of == 1 || share_of(record.file_path().as_bytes()) % of == thread
                }
                Pass::Links | Pass::Directories => true,
            };
            if is_ours {
                self.entry(&record, &kind, pass)?;
            }
        }
        Ok(met)
    }

    fn entry(
        &mut self,
        record: &ZipFileHeaderRecord<'_>,
        kind: &Kind,
        pass: Pass,
    ) -> Result<(), ArchiveError> {
        let path = record.file_path();
        let raw = path.as_bytes();
        let name = EntryName::new(raw).map_err(|fault| self.destination.refuse(raw, fault))?;
        match (kind, pass) {
            (Kind::Directory, Pass::Files { .. }) => self.destination.create_directory(&name),
            (Kind::Directory, Pass::Directories) => {
                self.destination.finish_directory(&name, attributes(record))
            }
            (Kind::File | Kind::Link, _) if name.is_root() => Err(self.destination.outside(raw)),
            (Kind::File, Pass::Files { .. }) => {
                self.check_method(raw, record)?;
                let mut file = self.destination.create_file(&name)?;
                self.content(record, raw, &mut file)?;
                self.destination
                    .finish_file(&file, &name, attributes(record))
            }
            (Kind::Link, Pass::Links) => {
                self.check_method(raw, record)?;
                let size = record.uncompressed_size_hint();
                if size == 0 || size > MAX_TARGET || record.compressed_size_hint() > SMALL {
                    return Err(damaged_entry(raw, "no target of a link"));
                }
                self.unpack(record, raw)?;
                self.destination.create_link(&name, &self.content)
            }
            _ => Ok(()),
        }
    }

    fn check_method(
        &self,
        raw: &[u8],
        record: &ZipFileHeaderRecord<'_>,
    ) -> Result<(), ArchiveError> {
        if record.flags().is_encrypted() {
            return Err(damaged_entry(raw, "encrypted entries cannot be extracted"));
        }
        match record.compression_method() {
            CompressionMethod::STORE | CompressionMethod::DEFLATE | CompressionMethod::ZSTD => {
                Ok(())
            }
            other => Err(ArchiveError::UnsupportedMethod {
                name: shown(raw),
                method: other.as_u16(),
            }),
        }
    }

    fn content(
        &mut self,
        record: &ZipFileHeaderRecord<'_>,
        raw: &[u8],
        file: &mut File,
    ) -> Result<(), ArchiveError> {
        let path = || self.archive.root.join(shown(raw));
        if record.uncompressed_size_hint() <= SMALL && record.compressed_size_hint() <= SMALL {
            self.unpack(record, raw)?;
            return file
                .write_all(&self.content)
                .map_err(|error| ArchiveError::io(path())(error));
        }
        let directory = &self.archive.directory;
        let entry = directory.get_entry(record.wayfinder()).map_err(damaged)?;
        let packed = std::io::BufReader::with_capacity(128 << 10, entry.reader());
        let unpacked: Box<dyn Read + '_> = match record.compression_method() {
            CompressionMethod::DEFLATE => Box::new(flate2::bufread::DeflateDecoder::new(packed)),
            CompressionMethod::ZSTD => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)
                    .map_err(|error| damaged_entry(raw, error))?;
                decoder
                    .window_log_max(MAX_ZSTD_WINDOW_LOG)
                    .map_err(|error| damaged_entry(raw, error))?;
                Box::new(decoder)
            }
            _ => Box::new(packed),
        };
        // Checks length and sum at the end; more than announced is stopped by `take`.
        let announced = record.uncompressed_size_hint();
        let mut verified = entry.verifying_reader(unpacked.take(announced.saturating_add(1)));
        copy_within(
            &self.archive.budget,
            &mut verified,
            file,
            |error| damaged_entry(raw, error),
            ArchiveError::io_again(path()),
        )
    }

    /// Reads a small entry into `self.content` and checks it.
    fn unpack(&mut self, record: &ZipFileHeaderRecord<'_>, raw: &[u8]) -> Result<(), ArchiveError> {
        let archive = self.archive;
        let size = record.uncompressed_size_hint();
        archive.budget.take(size)?;
        let entry = archive
            .directory
            .get_entry(record.wayfinder())
            .map_err(damaged)?;
        let (start, end) = entry.compressed_data_range();
        let packed_size = record.compressed_size_hint();
        if end.checked_sub(start) != Some(packed_size) {
            return Err(damaged_entry(raw, "cut short"));
        }
        let is_stored = record.compression_method() == CompressionMethod::STORE;
        if is_stored && packed_size != size {
            return Err(damaged_entry(raw, "not as long as announced"));
        }
        let packed = if is_stored {
            &mut self.content
        } else {
            &mut self.packed
        };
        packed.resize(packed_size as usize, 0);
        platform::read_exact_at(&archive.content, packed, start).map_err(|error| {
            match error.kind() {
                std::io::ErrorKind::UnexpectedEof => damaged_entry(raw, "cut short"),
                _ => damaged_entry(raw, error),
            }
        })?;
        if !is_stored {
            self.inflate(record.compression_method(), size as usize, raw)?;
        }
        if crc32fast::hash(&self.content) != record.crc32() {
            return Err(damaged_entry(raw, "checksum does not match"));
        }
        Ok(())
    }

    /// Unpacks `self.packed` into `self.content`, which has to become exactly so long.
    fn inflate(
        &mut self,
        method: CompressionMethod,
        size: usize,
        raw: &[u8],
    ) -> Result<(), ArchiveError> {
        self.content.resize(size, 0);
        let length = match method {
            CompressionMethod::ZSTD => {
                zstd::bulk::decompress_to_buffer(&self.packed, &mut self.content)
                    .map_err(|error| damaged_entry(raw, error))?
            }
            _ => self
                .inflate
                .deflate_decompress(&self.packed, &mut self.content)
                .map_err(|error| damaged_entry(raw, error))?,
        };
        if length != size {
            return Err(damaged_entry(raw, "not as long as announced"));
        }
        Ok(())
    }
}

/// The same for all names that become one [`EntryName`], and for all that a file system may take for one: it folds
/// cases and, beyond ASCII, much more.
fn share_of(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for component in components(name) {
        hasher.write_u8(b'/');
        for byte in component.iter().filter(|byte| byte.is_ascii()) {
            hasher.write_u8(byte.to_ascii_lowercase());
        }
    }
    hasher.finish()
}

fn kind(record: &ZipFileHeaderRecord<'_>) -> Kind {
    if record.is_dir() {
        return Kind::Directory;
    }
    match record.mode().value() & 0o170_000 {
        0 | 0o100_000 => Kind::File,
        0o040_000 => Kind::Directory,
        0o120_000 => Kind::Link,
        _ => Kind::Special,
    }
}

fn attributes(record: &ZipFileHeaderRecord<'_>) -> Attributes {
    let modified = match record.last_modified() {
        ZipDateTimeKind::Utc(time) => Some(time.to_unix()),
        // A time without a zone; upstream reads it as UTC too.
        ZipDateTimeKind::Local(time) => rawzip::time::UtcDateTime::from_components(
            time.year(),
            time.month(),
            time.day(),
            time.hour(),
            time.minute(),
            time.second(),
            0,
        )
        .map(|time| time.to_unix()),
    };
    let permissions = record.mode().value() & 0o777;
    // Some programs leave the field empty: that is no mode.
    let is_told = permissions != 0 || record.external_attributes() >> 16 != 0;
    Attributes {
        mode: is_told.then_some(permissions),
        modified,
        owner: record
            .extra_fields()
            .find(|(id, _)| *id == ExtraFieldId::INFO_ZIP_UNIX_UID_GID)
            .and_then(|(_, data)| owner(data)),
    }
}

/// Version 1, then length and number of user and of group; only four-byte numbers are written by anyone.
fn owner(data: &[u8]) -> Option<(u32, u32)> {
    let [1, 4, rest @ ..] = data else { return None };
    let (user, rest) = rest.split_first_chunk::<4>()?;
    let [4, rest @ ..] = rest else { return None };
    let (group, _) = rest.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*user), u32::from_le_bytes(*group)))
}

fn damaged(error: rawzip::Error) -> ArchiveError {
    ArchiveError::Damaged(error.to_string())
}

fn damaged_entry(raw: &[u8], reason: impl ToString) -> ArchiveError {
    ArchiveError::DamagedEntry {
        name: shown(raw),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_file_are_one_threads_work() {
        let share = share_of(b"a/b");
        for name in ["./a/b", "a//b", "a/./b", "A/B", "a/b/", "a/b/."] {
            assert_eq!(share_of(name.as_bytes()), share, "{name}");
        }
        assert_ne!(share_of(b"ab"), share);
    }
}
