//! Room on the disk: taken beforehand for what must not fail, given back for what was sent.

use std::fs::File;
use std::io;

/// Makes sure that the first `bytes` of a file can be written, whatever becomes of the disk.
#[cfg(target_os = "linux")]
pub(super) fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes) {
        // Not every file system can.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        result => Ok(result?),
    }
}

/// Not known how here.
#[cfg(not(target_os = "linux"))]
pub(super) fn reserve(_: &File, _: u64) -> io::Result<()> {
    Ok(())
}

/// Gives the bytes `from..to` back. `false`: the file system cannot.
#[cfg(target_os = "linux")]
pub(super) fn give_back(file: &File, from: u64, to: u64) -> bool {
    use rustix::fs::{FallocateFlags, fallocate};
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(file, hole, from, to - from).is_ok()
}

/// Not known how here.
#[cfg(not(target_os = "linux"))]
pub(super) fn give_back(_: &File, _: u64, _: u64) -> bool {
    false
}
