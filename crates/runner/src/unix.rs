//! Files of the spool on Unix.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::process::geteuid;

/// Makes directories that only the user can look into, with those above.
pub(crate) fn private_directories() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder
}

/// Opens files that only the user can read; a link in their place is an error.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32);
    options
}

/// Why a directory cannot be trusted to hold only this user's files: an error that says so.
pub(crate) fn check_owner(directory: &Path) -> io::Result<()> {
    let data = directory.metadata()?;
    let (owner, user) = (data.uid(), geteuid().as_raw());
    if owner != user {
        return Err(io::Error::other(format!(
            "it belongs to user {owner}, not to {user}"
        )));
    }
    if data.mode() & 0o022 != 0 {
        return Err(io::Error::other("others can write there"));
    }
    Ok(())
}

/// Reads from a place, whatever other threads read.
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(buffer, offset)
}

/// Writes at a place; how many bytes.
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    file.write_at(bytes, offset)
}
