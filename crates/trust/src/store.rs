//! The trusted certificates, each with where it came from. A store never changes; a new generation replaces it.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::certificate::{Certificate, Fingerprint};
use crate::explain::Remedy;
use crate::issuance::Issuances;
use crate::pem;
use crate::skip_reason::SkipReason;

/// Where trusted certificates were read from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A file of the platform's own store.
    System(PathBuf),
    /// A file that the configuration names, such as `tls-ca-file`.
    Configured(PathBuf),
    /// A predefined file `<certificate directory>/<host>.crt`.
    Predefined(PathBuf),
    /// Text that never was a file; the label says whose.
    Inline(String),
}

impl Source {
    /// How the source is called in a command: its path, or its label.
    pub fn name(&self) -> String {
        match self {
            Self::System(path) | Self::Configured(path) | Self::Predefined(path) => {
                path.display().to_string()
            }
            Self::Inline(label) => label.clone(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::System(_) => "system store",
            Self::Configured(_) => "configured file",
            Self::Predefined(_) => "predefined file",
            Self::Inline(_) => "inline certificates",
        };
        write!(f, "{kind} {}", self.name())
    }
}

/// Number of a store in the life of a process; greater is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A trusted certificate and where it stands.
#[derive(Debug, Clone)]
pub struct TrustedCertificate {
    certificate: Arc<Certificate>,
    source: Arc<Source>,
    line: usize,
}

impl TrustedCertificate {
    /// The certificate.
    pub fn certificate(&self) -> &Arc<Certificate> {
        &self.certificate
    }

    /// The first source that holds it.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Line of its `BEGIN` in that source, counted from 1.
    pub fn line(&self) -> usize {
        self.line
    }
}

/// A part of a source that gave no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedBlock {
    /// The source.
    pub source: Arc<Source>,
    /// Line counted from 1.
    pub line: usize,
    /// Why.
    pub reason: SkipReason,
}

impl SkippedBlock {
    /// What to do about it, with the command to type where there is one.
    pub fn repair(&self) -> Remedy {
        self.reason.repair(&self.source.name())
    }
}

impl fmt::Display for SkippedBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {}; {}",
            self.source.name(),
            self.line,
            self.reason,
            self.repair()
        )
    }
}

/// A source and what it gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consulted {
    /// The source.
    pub source: Arc<Source>,
    /// Certificates in it, those included that an earlier source had as well.
    pub certificates: usize,
    /// Blocks that were skipped although somebody may have meant them as certificates.
    pub skipped: usize,
    /// Whether the source is there and could be read.
    pub found: bool,
}

/// One generation of trusted certificates.
#[derive(Debug, Default)]
pub struct Store {
    generation: Generation,
    certificates: Vec<TrustedCertificate>,
    by_subject: HashMap<Box<[u8]>, Vec<usize>>,
    by_fingerprint: HashMap<Fingerprint, usize>,
    consulted: Vec<Consulted>,
    skipped: Vec<SkippedBlock>,
    issuances: Issuances,
}

impl Store {
    /// A builder without certificates.
    pub fn builder() -> StoreBuilder {
        StoreBuilder::default()
    }

    /// Which generation this is.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// All trusted certificates, in the order of their sources and lines.
    pub fn certificates(&self) -> &[TrustedCertificate] {
        &self.certificates
    }

    /// Blocks that gave no certificate.
    pub fn skipped(&self) -> &[SkippedBlock] {
        &self.skipped
    }

    /// The sources in order, with counts.
    pub fn consulted(&self) -> &[Consulted] {
        &self.consulted
    }

    /// The trusted certificate with this fingerprint.
    pub fn find(&self, fingerprint: Fingerprint) -> Option<&TrustedCertificate> {
        let index = *self.by_fingerprint.get(&fingerprint)?;
        Some(&self.certificates[index])
    }

    /// The trusted certificates with this encoded subject.
    pub fn with_subject<'a>(
        &'a self,
        subject_der: &[u8],
    ) -> impl Iterator<Item = &'a TrustedCertificate> + use<'a> {
        let indexes = self
            .by_subject
            .get(subject_der)
            .map_or(&[][..], Vec::as_slice);
        indexes.iter().map(|&index| &self.certificates[index])
    }

    /// The signatures that were checked against this store.
    pub(crate) fn issuances(&self) -> &Issuances {
        &self.issuances
    }

    /// Whether both trust the same certificates.
    pub fn trusts_the_same(&self, other: &Self) -> bool {
        self.certificates.len() == other.certificates.len()
            && self
                .by_fingerprint
                .keys()
                .all(|fingerprint| other.by_fingerprint.contains_key(fingerprint))
    }
}

/// Certificates and skipped blocks of one source, read once.
#[derive(Debug, Clone)]
pub struct SourceContent {
    source: Arc<Source>,
    certificates: Vec<(usize, Arc<Certificate>)>,
    skipped: Vec<SkippedBlock>,
}

impl SourceContent {
    /// Reads PEM text.
    pub fn read(source: Source, bytes: &[u8]) -> Self {
        let source = Arc::new(source);
        let bundle = pem::read(bytes);
        let skipped = bundle
            .skipped
            .into_iter()
            .map(|(line, reason)| SkippedBlock {
                source: Arc::clone(&source),
                line,
                reason,
            });
        Self {
            skipped: skipped.collect(),
            certificates: bundle
                .certificates
                .into_iter()
                .map(|(line, certificate)| (line, Arc::new(certificate)))
                .collect(),
            source,
        }
    }

    /// These certificates, with the skipped blocks of a later reading of the same source.
    pub(crate) fn with_skipped_of(&self, later: Option<&Self>) -> Self {
        Self {
            skipped: later.map_or_else(Vec::new, |later| later.skipped.clone()),
            ..self.clone()
        }
    }

    /// Where it was read from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// How many certificates it holds.
    pub fn count(&self) -> usize {
        self.certificates.len()
    }

    /// Blocks that gave no certificate.
    pub fn skipped(&self) -> &[SkippedBlock] {
        &self.skipped
    }
}

/// Collects sources for a [`Store`].
#[derive(Debug, Default)]
pub struct StoreBuilder {
    store: Store,
}

impl StoreBuilder {
    /// Adds the certificates of PEM text.
    #[must_use]
    pub fn add(self, source: Source, bytes: &[u8]) -> Self {
        self.add_content(&SourceContent::read(source, bytes))
    }

    /// Adds what was read before. A certificate that is there already is not added again.
    #[must_use]
    pub fn add_content(mut self, content: &SourceContent) -> Self {
        let worrying = content
            .skipped
            .iter()
            .filter(|block| !block.reason.is_harmless());
        self.store.consulted.push(Consulted {
            source: Arc::clone(&content.source),
            certificates: content.certificates.len(),
            skipped: worrying.count(),
            found: true,
        });
        self.store.skipped.extend(content.skipped.iter().cloned());
        for (line, certificate) in &content.certificates {
            self.push(TrustedCertificate {
                certificate: Arc::clone(certificate),
                source: Arc::clone(&content.source),
                line: *line,
            });
        }
        self
    }

    /// Remembers a source that was looked for and is not there, so that errors can say where it was looked for.
    #[must_use]
    pub fn add_absent(mut self, source: Source) -> Self {
        self.store.consulted.push(Consulted {
            source: Arc::new(source),
            certificates: 0,
            skipped: 0,
            found: false,
        });
        self
    }

    /// Adds everything that another store trusts; nothing is parsed again.
    #[must_use]
    pub fn include(mut self, other: &Store) -> Self {
        self.store.consulted.extend(other.consulted.iter().cloned());
        self.store.skipped.extend(other.skipped.iter().cloned());
        for certificate in &other.certificates {
            self.push(certificate.clone());
        }
        self
    }

    /// The finished store.
    pub fn build(mut self, generation: Generation) -> Store {
        self.store.generation = generation;
        self.store
    }

    fn push(&mut self, trusted: TrustedCertificate) {
        let index = self.store.certificates.len();
        let certificate = &trusted.certificate;
        if self
            .store
            .by_fingerprint
            .contains_key(&certificate.fingerprint())
        {
            return;
        }
        self.store
            .by_fingerprint
            .insert(certificate.fingerprint(), index);
        self.store
            .by_subject
            .entry(certificate.subject_der().into())
            .or_default()
            .push(index);
        self.store.certificates.push(trusted);
    }
}
