//! Artifacts in gzip: one member per file (`runner-build-lifecycle.md` 4.4). Reports travel like this.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};

use crate::ArchiveError;
use crate::platform;
use crate::source::{Source, SourceKind, open_regular};

/// Writes the members in the order of `files`; anything but a regular file is an error.
pub(crate) fn write<W: Write>(
    root: &Path,
    files: &[PathBuf],
    output: &mut W,
) -> Result<(), ArchiveError> {
    for path in files {
        let source = Source::look(root, path)?
            .filter(|source| source.kind == SourceKind::File)
            .ok_or_else(|| ArchiveError::NotRegular(path.clone()))?;
        let mut file = open_regular(root, path)?;
        let base = path.file_name().unwrap_or(path.as_os_str());
        let mut member = GzBuilder::new()
            .filename(header_text(&platform::to_name(base)))
            .comment(header_text(&platform::to_name(path.as_os_str())))
            .mtime(u32::try_from(source.modified).unwrap_or(0))
            .write(&mut *output, Compression::default());
        io::copy(&mut file, &mut member)
            .and_then(|_| member.finish())
            .map_err(ArchiveError::Output)?;
    }
    Ok(())
}

/// Header fields are Latin-1 without zero bytes: other names are escaped, segment by segment, and marked.
fn header_text(text: &[u8]) -> Vec<u8> {
    if text.iter().all(|byte| byte.is_ascii() && *byte != b'%') {
        return text.to_vec();
    }
    let mut escaped = String::from("e:");
    for byte in text {
        // What Go's `url.PathEscape` leaves alone, and the separators between segments.
        if byte.is_ascii_alphanumeric() || b"-_.~$&+=:@/".contains(byte) {
            escaped.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            write!(escaped, "%{byte:02X}").ok();
        }
    }
    escaped.into_bytes()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;

    use flate2::bufread::GzDecoder;

    use super::*;

    #[test]
    fn one_member_a_file_with_its_path() {
        let root = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(root.path().join("d")).expect("directory");
        fs::write(root.path().join("d/a.xml"), "first").expect("file");
        fs::write(root.path().join("é 100%"), "second").expect("file");
        let mut output = Vec::new();
        let files = [PathBuf::from("d/a.xml"), PathBuf::from("é 100%")];
        write(root.path(), &files, &mut output).expect("writes");

        let mut rest: &[u8] = &output;
        let expected = [
            ("a.xml", "d/a.xml", "first"),
            ("e:%C3%A9%20100%25", "e:%C3%A9%20100%25", "second"),
        ];
        for (name, comment, content) in expected {
            let mut member = GzDecoder::new(rest);
            let mut text = String::new();
            member.read_to_string(&mut text).expect("inflates");
            let header = member.header().expect("has a header");
            assert_eq!(header.filename(), Some(name.as_bytes()));
            assert_eq!(header.comment(), Some(comment.as_bytes()));
            assert_eq!(text, content);
            rest = member.into_inner();
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn directories_and_links_are_refused() {
        let root = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(root.path().join("d")).expect("directory");
        let error =
            write(root.path(), &[PathBuf::from("d")], &mut Vec::new()).expect_err("refused");
        assert_eq!(error.to_string(), r#"the "d" is not a regular file"#);
    }
}
