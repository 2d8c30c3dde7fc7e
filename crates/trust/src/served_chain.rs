//! What a peer would send, out of a file: PEM, leaf first.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use crate::pem;
use crate::store::{SkippedBlock, Source};

/// The certificates of a chain file in their order.
///
/// Unlike a file of trusted certificates, one that cannot be parsed stays in: a peer that sends it fails the handshake,
/// and [`verify`](crate::verify()) says so.
#[derive(Debug, Clone)]
pub struct ServedChain {
    certificates: Vec<CertificateDer<'static>>,
    skipped: Vec<SkippedBlock>,
}

impl ServedChain {
    /// Reads PEM text. A byte-order mark before it is passed over: the leaf must not get lost.
    pub fn read(source: Source, bytes: &[u8]) -> Self {
        let source = Arc::new(source);
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let sections = pem::sections(bytes);
        let skipped = sections.skipped.into_iter();
        Self {
            certificates: sections
                .bodies
                .into_iter()
                .map(|(_, body)| CertificateDer::from(body))
                .collect(),
            skipped: skipped
                .map(|(line, reason)| SkippedBlock {
                    source: Arc::clone(&source),
                    line,
                    reason,
                })
                .collect(),
        }
    }

    /// The certificates, leaf first. When there is none, [`skipped`](Self::skipped) says why.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// Blocks that gave no certificate, harmless ones (private keys) included.
    pub fn skipped(&self) -> &[SkippedBlock] {
        &self.skipped
    }
}
