//! dotenv reports: `KEY=VALUE` lines that become variables of later jobs.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes of a report, unpacked.
const LIMIT: u64 = 64 << 10;

/// Why a report is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DotenvError {
    /// The file, or what is packed in it.
    #[error("dotenv report: {0}")]
    Read(#[from] io::Error),
    /// Larger than [`LIMIT`].
    #[error("dotenv report: larger than {LIMIT} bytes")]
    TooLarge,
    /// A line is neither blank nor a comment nor a variable.
    #[error("dotenv report: line {0} is not KEY=VALUE")]
    Line(usize),
}

/// The variables of an uploaded report.
pub(crate) fn read(path: &Path, gzip: bool) -> Result<Vec<(String, String)>, DotenvError> {
    let file = File::open(path)?;
    let mut text = String::new();
    let reader: Box<dyn Read> = if gzip {
        Box::new(flate2::read::MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let read = reader.take(LIMIT + 1).read_to_string(&mut text)?;
    if read as u64 > LIMIT {
        return Err(DotenvError::TooLarge);
    }
    parse(&text).map_err(DotenvError::Line)
}

/// Blank lines and comments are skipped; quotes are part of the value, as on GitLab.
fn parse(text: &str) -> Result<Vec<(String, String)>, usize> {
    let lines = text.lines().map(str::trim).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(index, line)| {
            let (key, value) = line.split_once('=').ok_or(index + 1)?;
            let key = key.trim();
            let plain =
                !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if plain {
                Ok((key.to_owned(), value.trim().to_owned()))
            } else {
                Err(index + 1)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_lines_of_key_and_value() {
        let parsed = parse("A=1\n\n# note\n B = x=y \nC=\"q\"\n").unwrap();
        let expected = [("A", "1"), ("B", "x=y"), ("C", "\"q\"")];
        assert_eq!(parsed, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(parse("A=1\noops\n"), Err(2));
        assert_eq!(parse("A-B=1\n"), Err(1));
    }
}
