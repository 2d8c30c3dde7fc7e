//! A file that an argument names: a regular one, a pipe (`<(openssl …)`), or `-` for standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::failure::Failure;
use crate::session::Session;

/// A bundle of all roots of the world has a quarter of this.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Its bytes.
pub(super) fn read(path: &Path, session: &Session) -> Result<Vec<u8>, Failure> {
    let read = || {
        let source: Box<dyn Read> = if path.as_os_str() == "-" {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(
                session.environment.working_directory.join(path),
            )?)
        };
        let mut bytes = Vec::new();
        let length = source.take(LARGEST + 1).read_to_end(&mut bytes)?;
        if length as u64 > LARGEST {
            return Err(io::Error::other(format!("larger than {LARGEST} bytes")));
        }
        Ok(bytes)
    };
    let shown = path.display();
    read().map_err(|error| {
        Failure::invalid(match error.kind() {
            io::ErrorKind::NotFound => format!("{shown} does not exist"),
            _ => format!("cannot read {shown}: {error}"),
        })
    })
}
