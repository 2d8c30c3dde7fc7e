//! A file of trusted certificates that is made or added to.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use courser_net::read_trust_file;
use courser_trust::{Certificate, Generation, Reading, Source, SourceContent, Store};

use super::fingerprint::colons;
use crate::failure::Failure;
use crate::platform;

/// A certificate as PEM below comments that say whose it is.
pub(super) fn commented(certificate: &Certificate) -> String {
    format!(
        "# {}\n# SHA-256 {}\n{}",
        certificate.subject(),
        colons(certificate.fingerprint()),
        certificate.to_pem()
    )
}

/// What a trust file holds before something is added.
pub(super) struct TrustFile {
    text: Vec<u8>,
    content: Option<SourceContent>,
}

impl TrustFile {
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = match read_trust_file(path) {
            Reading::Absent => {
                return Ok(Self {
                    text: Vec::new(),
                    content: None,
                });
            }
            Reading::Unreadable(error) => {
                let file = path.display();
                return Err(Failure::invalid(format!("cannot read {file}: {error}")));
            }
            Reading::Bytes(bytes) => bytes,
        };
        let content = SourceContent::read(Source::Configured(path.to_owned()), &bytes);
        // Text without certificates, an empty file among it, can be added to; a damaged one must be repaired first.
        let damaged = content
            .skipped()
            .iter()
            .find(|block| !block.reason.is_harmless() && block.repair().command.is_some());
        if let Some(block) = damaged {
            return Err(Failure::invalid(format!(
                "{}:{}: {}; nothing was written",
                path.display(),
                block.line,
                block.reason
            ))
            .hint(block.repair().to_string()));
        }
        Ok(Self {
            text: bytes,
            content: Some(content),
        })
    }

    /// Adds what is not there yet; a new file takes the place of the old one at once. How many were added.
    pub(super) fn add(self, path: &Path, wanted: &[Arc<Certificate>]) -> Result<usize, Failure> {
        let known = self
            .content
            .iter()
            .fold(Store::builder(), |known, content| {
                known.add_content(content)
            });
        let known = known.build(Generation(1));
        let is_known = |one: &Arc<Certificate>| known.find(one.fingerprint()).is_some();
        let new: Vec<_> = wanted
            .iter()
            .filter(|one| !is_known(one))
            .cloned()
            .collect();
        if new.is_empty() {
            return Ok(0);
        }
        let mut text = self.text;
        if text.last().is_some_and(|byte| *byte != b'\n') {
            text.push(b'\n');
        }
        for one in &new {
            text.extend_from_slice(commented(one).as_bytes());
        }
        write(path, &text).map_err(|error| {
            Failure::invalid(format!("cannot write {}: {error}", path.display()))
                .hint("--to names another file")
        })?;
        Ok(new.len())
    }
}

/// Writes a file that everybody may read, since jobs run as other users. A file that is there keeps its owner and mode; a
/// device or a pipe is written to, never replaced.
pub(super) fn write(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let old = std::fs::metadata(path).ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        let mut there = std::fs::OpenOptions::new().write(true).open(path)?;
        return there.write_all(text);
    }
    // Behind a link it is the linked file that is replaced, not the link.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(directory)?;
    let mut fresh = tempfile::NamedTempFile::new_in(directory)?;
    fresh.write_all(text)?;
    platform::take_after(fresh.as_file(), old.as_ref())?;
    fresh.as_file().sync_all()?;
    fresh.persist(&path)?;
    Ok(())
}
