//! An ID token that lies in a file or comes in.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use courser_protocol::Secret;

use crate::failure::{Code, Failure};

/// Far more than a token has.
const LARGEST: u64 = 64 * 1024;

/// The text of a token: from a file, or from standard input where the file is `-`.
pub(super) fn read(path: &Path) -> Result<Secret, Failure> {
    let named = |error: std::io::Error| Failure::invalid(format!("{}: {error}", path.display()));
    let looks_like_token = |path: &Path| path.to_str().is_some_and(|text| text.starts_with("eyJ"));
    if looks_like_token(path) && !path.exists() {
        return Err(Failure::new(
            Code::Usage,
            "that is a token, and not a file with one: arguments are seen by every user of the machine",
        )
        .hint("printf %s \"$TOKEN\" | courser secrets explain"));
    }
    let mut text = String::new();
    let read = if path == Path::new("-") {
        if std::io::stdin().is_terminal() {
            anstream::eprintln!("the token is read from this terminal: paste it, Enter, Ctrl-D");
        }
        std::io::stdin().take(LARGEST + 1).read_to_string(&mut text)
    } else {
        let file = std::fs::File::open(path).map_err(named)?;
        file.take(LARGEST + 1).read_to_string(&mut text)
    };
    read.map_err(named)?;
    if text.len() as u64 > LARGEST {
        return Err(Failure::invalid(format!(
            "{}: larger than {LARGEST} bytes, which no ID token is",
            path.display()
        )));
    }
    Ok(Secret::new(text.trim().to_owned()))
}
