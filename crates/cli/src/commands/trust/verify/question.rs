//! What is asked, the same for files and for lines of a batch.

use std::sync::Arc;

use courser_trust::{
    Certificate, Moment, PeerName, ServedChain, SkipReason, SkippedBlock, Source, SourceContent,
    Store, Usage, VerifiedChains, VerifyError,
};

/// What the peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Purpose {
    /// A server that was called by name
    #[default]
    Server,
    /// A client; it has no name
    Client,
}

/// Why a question cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    /// Text without a single certificate, or with a damaged one.
    #[error("{}: {}", place(.0), .0.reason)]
    Pem(Box<SkippedBlock>),
    /// No block, and nothing to say about it.
    #[error("no certificate")]
    Nothing,
    /// A name where there must be none, or none where there must be one.
    #[error("{0}")]
    Host(&'static str),
}

fn place(block: &SkippedBlock) -> String {
    format!("line {}", block.line)
}

/// A chain, its roots, its name, its time.
pub(super) struct Question {
    store: Arc<Store>,
    chain: ServedChain,
    name: Option<PeerName>,
    at: Moment,
    purpose: Purpose,
}

impl Question {
    /// Reads the chain and checks that name and purpose fit.
    pub(super) fn new(
        store: Arc<Store>,
        source: Source,
        chain: &[u8],
        host: Option<&str>,
        at: Moment,
        purpose: Purpose,
    ) -> Result<Self, Unusable> {
        let host = host.filter(|host| !host.is_empty());
        let name = match (purpose, host) {
            (Purpose::Server, Some(host)) => Some(PeerName::from_host(host)),
            (Purpose::Server, None) => {
                return Err(Unusable::Host(
                    "a server is judged with the name it was called by: host is missing",
                ));
            }
            (Purpose::Client, Some(_)) => {
                return Err(Unusable::Host("a client has no name: leave host out"));
            }
            (Purpose::Client, None) => None,
        };
        let chain = ServedChain::read(source, chain);
        // A chain with a hole is another chain.
        if let Some(block) = worrying(chain.skipped()) {
            return Err(Unusable::Pem(Box::new(block.clone())));
        }
        if chain.certificates().is_empty() {
            return Err(nothing(chain.skipped()));
        }
        Ok(Self {
            store,
            chain,
            name,
            at,
            purpose,
        })
    }

    /// The verdict.
    pub(super) fn answer(&self) -> Result<VerifiedChains, VerifyError> {
        let usage = match self.purpose {
            Purpose::Server => Usage::ServerAuth,
            Purpose::Client => Usage::ClientAuth,
        };
        let (leaf, intermediates) = self
            .chain
            .certificates()
            .split_first()
            .unwrap_or_else(|| unreachable!("checked when the question was made"));
        courser_trust::verify_at(
            leaf,
            intermediates,
            &self.store,
            self.name.as_ref(),
            self.at,
            usage,
        )
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn name(&self) -> Option<&PeerName> {
        self.name.as_ref()
    }

    pub(super) fn at(&self) -> Moment {
        self.at
    }

    pub(super) fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The certificates of the chain that can be read.
    pub(super) fn received(&self) -> impl Iterator<Item = Certificate> {
        let all = self.chain.certificates().iter();
        all.filter_map(|der| Certificate::parse(der).ok())
    }
}

/// Trusted certificates that can be used: as in the runner, damaged blocks beside good ones only lack, and one that is
/// PEM but no certificate that Go would take is passed over. A file without any block is unusable.
pub(super) fn trusted(content: SourceContent) -> Result<SourceContent, Unusable> {
    let unparsable = |block: &SkippedBlock| matches!(block.reason, SkipReason::Unparsable(_));
    if content.count() > 0 || content.skipped().iter().any(unparsable) {
        return Ok(content);
    }
    match worrying(content.skipped()) {
        Some(block) => Err(Unusable::Pem(Box::new(block.clone()))),
        None => Err(nothing(content.skipped())),
    }
}

fn worrying(skipped: &[SkippedBlock]) -> Option<&SkippedBlock> {
    skipped.iter().find(|block| !block.reason.is_harmless())
}

fn nothing(skipped: &[SkippedBlock]) -> Unusable {
    match skipped.first() {
        Some(block) => Unusable::Pem(Box::new(block.clone())),
        None => Unusable::Nothing,
    }
}
