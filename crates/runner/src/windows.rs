//! Files of the spool on Windows, type-checked only (`cargo xtask check-platforms`): nothing of this has run yet.
//!
//! There are no modes: who may read a file follows from the directory that it is in.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// `winbase.h`: a link is opened itself, and has nothing to read.
const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;

/// Makes directories, with those above.
pub(crate) fn private_directories() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    builder
}

/// Opens files; a link in their place is not followed.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(FILE_FLAG_OPEN_REPARSE_POINT);
    options
}

/// Nothing is known against a directory here.
pub(crate) fn check_owner(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Reads from a place; moves the file's own one, which nobody here uses.
pub(crate) fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.seek_read(buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffer = &mut buffer[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes at a place; how many bytes.
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    file.seek_write(bytes, offset)
}
