//! Programs that a test makes and runs.
//!
//! Linux refuses to execute a file that anybody has open for writing (`ETXTBSY`). A test program has many threads, and
//! whatever one of them has open is also open, until its `execve`, in each process that another one starts at that
//! moment. So the file is never open in the test program itself: a process of its own writes it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes a program (a script with its `#!` line, or a binary) that everybody may execute, directories included.
pub fn write_program(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    let path = path.as_ref();
    let directory = path.parent().expect("a file lies in a directory");
    std::fs::create_dir_all(directory).expect("directories can be made");
    let mut writer = Command::new("/bin/sh")
        .args(["-c", "umask 022 && cat > \"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell starts");
    let mut input = writer.stdin.take().expect("it is piped");
    input.write_all(content.as_ref()).expect("the shell reads");
    drop(input);
    let status = writer.wait().expect("the shell ends");
    assert!(status.success(), "{}: {status}", path.display());
}

/// Copies a program, with its mode.
pub fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let (from, to) = (from.as_ref(), to.as_ref());
    let status = Command::new("/bin/cp").arg(from).arg(to).status();
    let status = status.expect("cp starts");
    assert!(status.success(), "{} to {}", from.display(), to.display());
}
