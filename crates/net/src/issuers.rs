//! Fetching the issuers that a chain lacks (`runner-tls.md` 3.3): the rim around [`courser_trust::Completion`].
//!
//! Only `FF_RESOLVE_FULL_TLS_CHAIN` and `courser trust fetch --complete` ask for it; no handshake does. What a
//! certificate names is untrusted: `http` and `https` only, no change of scheme on the way, bounded in size and time,
//! and an answer counts only if its key signed the certificate that named it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use courser_trust::{
    Certificate, ChainEnd, Completion, Generation, NextIssuer, VerifiedChains, chain_pem,
};
use http::{Method, StatusCode};
use tokio::time::Instant;
use url::Url;

use crate::addresses::Addresses;
use crate::client::{Call, Client, ClientSettings, Redirects, Retry, Timeouts};

/// How much work the issuers of one server may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerLimits {
    /// One fetch with its redirects. Upstream: 15 s.
    pub fetch: Duration,
    /// All fetches for all chains of one connection: no job waits longer. Upstream has no such bound, and so waits up
    /// to 210 s for each chain.
    pub total: Duration,
    /// Bytes of one answer.
    pub size: usize,
}

impl Default for IssuerLimits {
    fn default() -> Self {
        Self {
            fetch: Duration::from_secs(15),
            total: Duration::from_secs(20),
            size: 1024 * 1024,
        }
    }
}

/// How long an answer is used again. A failure too, or a dead issuer would delay every job.
const GOOD_FOR: Duration = Duration::from_secs(24 * 60 * 60);
const BAD_FOR: Duration = Duration::from_secs(60);
/// Answers kept, and their bytes together; more than any chain of sane certificates needs.
const KEPT: usize = 64;
const KEPT_BYTES: usize = 4 * 1024 * 1024;

/// Completes chains, and remembers what it fetched for as long as the same certificates are trusted.
pub struct Issuers {
    client: Client,
    limits: IssuerLimits,
    answers: Mutex<Answers>,
}

#[derive(Default)]
struct Answers {
    generation: Generation,
    by_url: HashMap<String, Answer>,
}

struct Answer {
    /// The bytes, or why there are none.
    result: Result<Bytes, String>,
    at: Instant,
}

/// A chain that could not be completed. `Display` is upstream's text with its layers.
#[derive(Debug, thiserror::Error)]
#[error(
    "couldn't build CA Chain: error while fetching certificates from TLS ConnectionState: \
     error while fetching certificates into the CA Chain: \
     couldn't resolve certificates chain from the leaf certificate: {0}"
)]
pub struct CompletionError(Failure);

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(
        "error while resolving certificates chain with URL: error while fetching issuer certificate: {0}"
    )]
    Url(Issuer),
    #[error(
        "error while resolving certificates chain with verification: \
         error while verifying last certificate from the chain: {0}"
    )]
    Verification(String),
}

#[derive(Debug, thiserror::Error)]
enum Issuer {
    #[error("remote fetch failure: {0}")]
    Fetch(String),
    #[error("decoding failure: {0}")]
    Decoding(String),
}

impl Issuers {
    /// Fetches with this trust, which should be [`Legs::issuers`](crate::Legs::issuers), and these proxies.
    pub fn new(settings: ClientSettings, addresses: Addresses, limits: IssuerLimits) -> Self {
        Self {
            client: Client::restricted_to(settings, addresses),
            limits,
            answers: Mutex::default(),
        }
    }

    /// The certificates of all chains, each followed to its root, in order and with repetitions.
    ///
    /// # Errors
    ///
    /// When an issuer cannot be had within the limits, is no issuer, or the system's store refuses the last
    /// certificate of a chain for another reason than an unknown authority. All is said in the log as well.
    pub async fn complete(
        &self,
        chains: &VerifiedChains,
    ) -> Result<Vec<Arc<Certificate>>, CompletionError> {
        let deadline = Instant::now() + self.limits.total;
        self.answers().keep_for(chains.generation());
        let mut all = Vec::new();
        for chain in chains.chains() {
            all.extend(self.complete_one(chain.certificates(), deadline).await?);
        }
        Ok(all)
    }

    /// [`complete`](Self::complete) as the text of `CI_SERVER_TLS_CA_FILE`: PEM, each signature once.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn full_chain_pem(&self, chains: &VerifiedChains) -> Result<String, CompletionError> {
        Ok(chain_pem(&self.complete(chains).await?))
    }

    /// As [`complete`](Self::complete), for certificates that nobody has verified, leaf first.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn complete_unverified(
        &self,
        chain: &[Arc<Certificate>],
    ) -> Result<Vec<Arc<Certificate>>, CompletionError> {
        let deadline = Instant::now() + self.limits.total;
        self.complete_one(chain, deadline).await
    }

    async fn complete_one(
        &self,
        chain: &[Arc<Certificate>],
        deadline: Instant,
    ) -> Result<Vec<Arc<Certificate>>, CompletionError> {
        let mut completion = Completion::of(chain);
        loop {
            let url = match completion.next_issuer() {
                NextIssuer::Fetch(url) => url,
                NextIssuer::Enough => break,
                NextIssuer::TooMany => {
                    tracing::warn!(
                        context = CONTEXT,
                        "urlResolver loop limit exceeded; exiting the loop"
                    );
                    break;
                }
            };
            let last = completion.certificates().last().map(Arc::clone);
            let answer = match self.answer(&url, deadline).await {
                Ok(answer) => answer,
                Err(error) => {
                    warn_of(last.as_deref(), &error, "Remote certificate fetching error");
                    return Err(CompletionError(Failure::Url(Issuer::Fetch(error))));
                }
            };
            match completion.answered(&answer) {
                Ok(Some(issuer)) => tracing::debug!(
                    context = CONTEXT,
                    newCert_Subject = issuer.subject().common_name(),
                    newCert_Issuer = issuer.issuer().common_name(),
                    newCert_Serial = issuer.serial_decimal(),
                    newCert_IssuerCertURL = ?issuer.issuing_certificate_urls(),
                    "Appending the certificate to the chain"
                ),
                Ok(None) => {}
                Err(error) => {
                    let error = format!("{}: {error}", url.escape_debug());
                    warn_of(last.as_deref(), &error, "Certificate decoding error");
                    return Err(CompletionError(Failure::Url(Issuer::Decoding(error))));
                }
            }
        }
        let last = completion.certificates().last().map(Arc::clone);
        let (system, now) = self.client.system_store().await;
        match completion.verified(&system, now) {
            Ok((chain, end)) => {
                if let (ChainEnd::UnknownAuthority, Some(last)) = (end, last) {
                    tracing::warn!(
                        context = CONTEXT,
                        Subject = last.subject().common_name(),
                        Issuer = last.issuer().common_name(),
                        Serial = last.serial_decimal(),
                        IssuerCertURL = ?last.issuing_certificate_urls(),
                        "Last certificate signed by unknown authority; will not update the chain"
                    );
                }
                Ok(chain)
            }
            Err(error) => Err(CompletionError(Failure::Verification(error.to_string()))),
        }
    }

    /// What lies at `url`, from memory where that is fresh enough.
    async fn answer(&self, url: &str, deadline: Instant) -> Result<Bytes, String> {
        if let Some(known) = self.answers().fresh(url) {
            return known;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let fetching = tokio::time::timeout_at(deadline, self.fetch(url));
        let result = fetching.await.unwrap_or_else(|_| {
            Err(format!(
                "{} had not answered when the {} s that the issuers of a chain may take were over",
                url.escape_debug(),
                self.limits.total.as_secs_f64()
            ))
        });
        // A URL is not held to be silent when those before it had used up the time.
        if result.is_ok() || left >= self.limits.fetch.min(self.limits.total) / 2 {
            self.answers().remember(url, &result);
        }
        result
    }

    async fn fetch(&self, url: &str) -> Result<Bytes, String> {
        let parsed = Url::parse(url).map_err(|error| format!("{}: {error}", url.escape_debug()))?;
        let call = Call {
            timeouts: Timeouts {
                response_header: self.limits.fetch,
                total: self.limits.fetch,
            },
            retry: Retry::Never,
            redirects: Redirects::FollowSameScheme,
            ..Call::new(Method::GET, parsed)
        };
        let answer = self.client.send(call).await.map_err(|e| e.to_string())?;
        if answer.status != StatusCode::OK {
            let code = answer.status.as_u16();
            return Err(format!(
                "{}: HTTP request failed with status code: {code}",
                url.escape_debug()
            ));
        }
        answer
            .bytes(self.limits.size)
            .await
            .map_err(|error| error.to_string())
    }

    fn answers(&self) -> std::sync::MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answers {
    /// Another generation forgets what was fetched under the last one.
    fn keep_for(&mut self, generation: Generation) {
        if self.generation != generation {
            self.generation = generation;
            self.by_url.clear();
        }
    }

    fn fresh(&self, url: &str) -> Option<Result<Bytes, String>> {
        let known = self.by_url.get(url)?;
        let limit = if known.result.is_ok() {
            GOOD_FOR
        } else {
            BAD_FOR
        };
        (known.at.elapsed() < limit).then(|| known.result.clone())
    }

    fn remember(&mut self, url: &str, result: &Result<Bytes, String>) {
        let length = |result: &Result<Bytes, String>| result.as_ref().map_or(0, Bytes::len);
        let kept: usize = self
            .by_url
            .values()
            .map(|known| length(&known.result))
            .sum();
        if self.by_url.len() >= KEPT || kept + length(result) > KEPT_BYTES {
            self.by_url.clear();
        }
        let answer = Answer {
            result: result.clone(),
            at: Instant::now(),
        };
        self.by_url.insert(url.to_owned(), answer);
    }
}

const CONTEXT: &str = "certificate-chain-build";

fn warn_of(last: Option<&Certificate>, error: &str, message: &str) {
    let Some(last) = last else { return };
    tracing::warn!(
        context = CONTEXT,
        Subject = last.subject().common_name(),
        Issuer = last.issuer().common_name(),
        Serial = last.serial_decimal(),
        IssuerCertURL = ?last.issuing_certificate_urls(),
        error,
        "{message}"
    );
}
