//! tar in Zstandard (`runner-build-lifecycle.md` 4.4, 4.7).

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tar::EntryType;

use crate::destination::{Attributes, Budget, Destination, EntryName, copy_within};
use crate::error::shown;
use crate::source::{Source, SourceKind, open_regular};
use crate::{ArchiveError, Level, Limits, MAX_ZSTD_WINDOW_LOG, platform};

/// Links are kept until all files are there; hostile archives must not fill the memory with them.
const MAX_LINK_BYTES: usize = 64 << 20;

/// Header blocks of one entry: its GNU long names, pax records and sparse map, which `tar` keeps in the
/// memory. Names and links end at 4 KiB on Linux; the rest is room for extended attributes.
const MAX_HEADER_BYTES: u64 = 1 << 20;

pub(crate) fn write<W: Write>(
    level: Level,
    root: &Path,
    files: &[PathBuf],
    output: &mut W,
) -> Result<(), ArchiveError> {
    let encoder =
        zstd::stream::write::Encoder::new(output, level.zstd()).map_err(ArchiveError::Output)?;
    let mut builder = tar::Builder::new(encoder);
    for path in files {
        let Some(source) = Source::look(root, path)? else {
            continue;
        };
        let mut header = tar::Header::new_gnu();
        header.set_mode(source.mode);
        header.set_mtime(u64::try_from(source.modified).unwrap_or(0));
        header.set_uid(source.user.into());
        header.set_gid(source.group.into());
        header.set_size(0);
        let name = source.name();
        let name = platform::from_name(&name);
        match source.kind {
            SourceKind::Directory => {
                header.set_entry_type(EntryType::Directory);
                builder.append_data(&mut header, &name, io::empty())
            }
            SourceKind::Link => {
                header.set_entry_type(EntryType::Symlink);
                builder.append_link(&mut header, &name, source.target(root)?)
            }
            SourceKind::File => {
                let file = open_regular(root, path)?;
                header.set_entry_type(EntryType::Regular);
                header.set_size(source.size);
                // A file that grows meanwhile is cut, one that shrinks is filled: the header is out.
                let content = file
                    .take(source.size)
                    .chain(io::repeat(0))
                    .take(source.size);
                builder.append_data(&mut header, &name, content)
            }
        }
        .map_err(ArchiveError::Output)?;
    }
    builder
        .into_inner()
        .and_then(zstd::stream::write::Encoder::finish)
        .map_err(ArchiveError::Output)?;
    Ok(())
}

pub(crate) fn extract(archive: File, root: &Path, limits: &Limits) -> Result<(), ArchiveError> {
    let damaged = |error: io::Error| ArchiveError::Damaged(error.to_string());
    let mut decoder =
        zstd::stream::read::Decoder::with_buffer(BufReader::new(archive)).map_err(damaged)?;
    decoder
        .window_log_max(MAX_ZSTD_WINDOW_LOG)
        .map_err(damaged)?;
    let left = Rc::new(Cell::new(u64::MAX));
    let mut archive = tar::Archive::new(Metered {
        input: decoder,
        left: Rc::clone(&left),
    });
    let mut destination = Destination::open(root)?;
    // Zstandard packs zeros some ten thousand times: only the total is bounded.
    let budget = Budget::new(limits.bytes);
    let mut links: Vec<(EntryName, Vec<u8>)> = Vec::new();
    let mut directories: Vec<(EntryName, Attributes)> = Vec::new();
    let (mut kept_bytes, mut count) = (0, 0);
    let mut entries = archive.entries().map_err(damaged)?;
    loop {
        left.set(MAX_HEADER_BYTES);
        let Some(entry) = entries.next() else {
            break;
        };
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(_) if left.get() == 0 => {
                return Err(ArchiveError::Limit {
                    what: "bytes of headers of one entry",
                    limit: MAX_HEADER_BYTES,
                });
            }
            Err(error) => return Err(damaged(error)),
        };
        left.set(u64::MAX);
        count += 1;
        if count > limits.entries {
            return Err(ArchiveError::Limit {
                what: "entries",
                limit: limits.entries,
            });
        }
        let raw = entry.path_bytes().into_owned();
        let name = EntryName::new(&raw).map_err(|fault| destination.refuse(&raw, fault))?;
        let header = entry.header();
        let attributes = Attributes {
            mode: header.mode().ok(),
            modified: header.mtime().ok().and_then(|time| time.try_into().ok()),
            owner: owner(header),
        };
        let kind = header.entry_type();
        let path = shown(&raw);
        let read_error = |error: io::Error| ArchiveError::DamagedEntry {
            name: path.clone(),
            reason: error.to_string(),
        };
        if kind.is_dir() || kind.is_symlink() {
            kept_bytes += raw.len() + entry.link_name_bytes().map_or(0, |target| target.len()) + 64;
            if kept_bytes > MAX_LINK_BYTES {
                return Err(ArchiveError::Limit {
                    what: "bytes of links and directories",
                    limit: MAX_LINK_BYTES as u64,
                });
            }
        }
        if kind.is_dir() {
            destination.create_directory(&name)?;
            directories.push((name, attributes));
        } else if kind.is_symlink() && !name.is_root() {
            let target = entry.link_name_bytes().unwrap_or_default().into_owned();
            links.push((name, target));
        } else if kind.is_file() && !name.is_root() {
            let mut file = destination.create_file(&name)?;
            let write_error = ArchiveError::io_again(root.join(&path));
            copy_within(&budget, &mut entry, &mut file, read_error, write_error)?;
            destination.finish_file(&file, &name, attributes)?;
        } else if kind.is_hard_link() {
            // Nobody's caches or artifacts have them: a target would have to be trusted.
            return Err(ArchiveError::DamagedEntry {
                name: path,
                reason: "hard links cannot be extracted".to_owned(),
            });
        }
        // What nobody wants is read here, so that the next header is all that counts as one.
        let never = ArchiveError::io_again(root.join(&path));
        copy_within(&budget, &mut entry, &mut io::sink(), read_error, never)?;
    }
    for (name, target) in &links {
        destination.create_link(name, target)?;
    }
    for (name, attributes) in &directories {
        destination.finish_directory(name, *attributes)?;
    }
    destination.finish()
}

/// A reader that fails after so many bytes; nothing is left then.
pub(crate) struct Metered<R> {
    pub(crate) input: R,
    pub(crate) left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(io::Error::other("more than is read"));
        }
        let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = self.input.read(&mut buffer[..most])?;
        self.left.set(left - count as u64);
        Ok(count)
    }
}

fn owner(header: &tar::Header) -> Option<(u32, u32)> {
    let user = header.uid().ok()?.try_into().ok()?;
    let group = header.gid().ok()?.try_into().ok()?;
    Some((user, group))
}
