//! tar in Zstandard (`runner-build-lifecycle.md` 4.4, 4.7).

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tar::EntryType;

use crate::destination::{Attributes, Budget, Destination, EntryName, copy_within};
use crate::source::{Source, SourceKind, open_regular};
use crate::{ArchiveError, Level, Limits};

/// Links are kept until all files are there; hostile archives must not fill the memory with them.
const MAX_LINK_BYTES: usize = 64 << 20;

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
        let name = Path::new(std::ffi::OsStr::from_bytes(&name));
        match source.kind {
            SourceKind::Directory => {
                header.set_entry_type(EntryType::Directory);
                builder.append_data(&mut header, name, io::empty())
            }
            SourceKind::Link => {
                header.set_entry_type(EntryType::Symlink);
                builder.append_link(&mut header, name, source.target(root)?)
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
                builder.append_data(&mut header, name, content)
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
    let decoder =
        zstd::stream::read::Decoder::with_buffer(BufReader::new(archive)).map_err(damaged)?;
    let mut archive = tar::Archive::new(decoder);
    let mut destination = Destination::open(root)?;
    // Zstandard packs zeros some ten thousand times: only the total is bounded.
    let mut budget = Budget::new(limits.bytes);
    let mut links: Vec<(EntryName, Vec<u8>)> = Vec::new();
    let mut directories: Vec<(EntryName, Attributes)> = Vec::new();
    let (mut kept_bytes, mut count) = (0, 0);
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        count += 1;
        if count > limits.entries {
            return Err(ArchiveError::Limit {
                what: "entries",
                limit: limits.entries,
            });
        }
        let raw = entry.path_bytes().into_owned();
        let name = EntryName::new(&raw).ok_or_else(|| destination.outside(&raw))?;
        let header = entry.header();
        let attributes = Attributes {
            mode: header.mode().ok(),
            modified: header.mtime().ok().and_then(|time| time.try_into().ok()),
            owner: owner(header),
        };
        let kind = header.entry_type();
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
            let shown = String::from_utf8_lossy(&raw).into_owned();
            copy_within(
                &mut budget,
                &mut entry,
                &mut file,
                |error| ArchiveError::DamagedEntry {
                    name: shown.clone(),
                    reason: error.to_string(),
                },
                ArchiveError::io_again(root.join(&shown)),
            )?;
            destination.finish_file(&file, &name, attributes)?;
        }
    }
    for (name, target) in &links {
        destination.create_link(name, target)?;
    }
    for (name, attributes) in &directories {
        destination.finish_directory(name, *attributes)?;
    }
    destination.finish()
}

fn owner(header: &tar::Header) -> Option<(u32, u32)> {
    let user = header.uid().ok()?.try_into().ok()?;
    let group = header.gid().ok()?.try_into().ok()?;
    Some((user, group))
}
