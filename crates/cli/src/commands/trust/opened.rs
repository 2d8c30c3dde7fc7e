//! A file that somebody names, read in whatever form it is, with its password where it needs one.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use courser_trust::{CertificateFile, Pkcs12Error};

use super::named_file;
use crate::failure::Failure;
use crate::platform;
use crate::session::Session;

/// Where the password of a PKCS#12 file is.
#[derive(Debug, clap::Args)]
pub(super) struct PasswordOption {
    /// File whose first line is the password of a PKCS#12 file [default: none, the empty one, or asked]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// A file and its bytes.
pub(super) struct Opened {
    pub(super) bytes: Vec<u8>,
    pub(super) file: CertificateFile,
}

/// Reads a file; on a terminal the password of a PKCS#12 file is asked for.
pub(super) fn open(
    path: &Path,
    password: &PasswordOption,
    session: &Session,
) -> Result<Opened, Failure> {
    let bytes = named_file::read(path, session)?;
    let given = match &password.password_file {
        Some(file) => Some(first_line(&named_file::read(file, session)?, file)?),
        None => None,
    };
    let mut file = CertificateFile::read(&bytes, given.as_deref());
    let needed = file.locked == Some(Pkcs12Error::PasswordNeeded);
    if needed && std::io::stdin().is_terminal() {
        let typed = ask(path)?;
        file = CertificateFile::read(&bytes, Some(&typed));
    }
    Ok(Opened { bytes, file })
}

fn first_line(bytes: &[u8], path: &Path) -> Result<String, Failure> {
    let line = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    String::from_utf8(line.to_vec())
        .map_err(|_| Failure::invalid(format!("the password in {} is no UTF-8", path.display())))
}

/// Asks without showing what is typed.
fn ask(path: &Path) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    let unreadable = |error: std::io::Error| Failure::invalid(format!("cannot ask: {error}"));
    eprint!("Password of {}: ", path.display());
    std::io::stderr().flush().map_err(unreadable)?;
    let hidden = platform::Typing::hidden().map_err(unreadable)?;
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    // Whatever was read, the terminal must show again what is typed.
    drop(hidden);
    eprintln!();
    read.map_err(unreadable)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
