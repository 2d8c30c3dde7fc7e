//! From a verified chain to a full one: which issuer is fetched next, and when enough is known (`runner-tls.md` 3.3).
//!
//! TLS itself never needs this (a verifier must not fetch what a peer names); it is what `FF_RESOLVE_FULL_TLS_CHAIN`
//! promises to Git programs that insist on a self-signed root at the end. [`Completion`] decides, its user fetches:
//!
//! ```
//! # use std::sync::Arc;
//! # use courser_trust::{Certificate, Completion, NextIssuer, Store};
//! # fn fetch(_: &str) -> Vec<u8> { Vec::new() }
//! # fn complete(chain: &[Arc<Certificate>], system: &Store, now: jiff::Timestamp)
//! #     -> Result<Vec<Arc<Certificate>>, Box<dyn std::error::Error>> {
//! let mut completion = Completion::of(chain);
//! while let NextIssuer::Fetch(url) = completion.next_issuer() {
//!     completion.answered(&fetch(&url))?;
//! }
//! let (chain, _end) = completion.verified(system, now)?;
//! # Ok(chain) }
//! ```

use std::sync::Arc;

use crate::certificate::Certificate;
use crate::error::{Reason, VerifyError};
use crate::issuer_answer::{IssuerAnswerError, issuer_in_answer};
use crate::signature::{self, SignatureError};
use crate::store::Store;
use crate::verify::{Usage, verify};

/// Issuers that are fetched for one chain. Upstream counts to 15 and stops before the fifteenth.
const FETCHES: usize = 14;

/// A chain that grows by its missing issuers.
#[derive(Debug)]
pub struct Completion {
    certificates: Vec<Arc<Certificate>>,
    fetched: usize,
    /// The last answer brought nothing new.
    is_exhausted: bool,
}

/// What a [`Completion`] needs next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextIssuer {
    /// The certificate that lies at this `http` or `https` URL.
    Fetch(String),
    /// Nothing: the last certificate signed itself, names no usable URL, or what it names brought nothing new.
    Enough,
    /// Nothing, although the last certificate names a URL: 14 were fetched.
    TooMany,
}

/// How a completed chain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainEnd {
    /// With a certificate that signed itself.
    Root,
    /// With certificates of the system's store, which were added.
    SystemStore,
    /// With a certificate whose issuer is unknown.
    UnknownAuthority,
}

impl Completion {
    /// Starts with a verified chain, leaf first.
    pub fn of(chain: &[Arc<Certificate>]) -> Self {
        Self {
            certificates: chain.to_vec(),
            fetched: 0,
            is_exhausted: false,
        }
    }

    /// The chain so far.
    pub fn certificates(&self) -> &[Arc<Certificate>] {
        &self.certificates
    }

    /// What is needed next. Only the last certificate counts, and of its URLs the first with a scheme that can be
    /// fetched: directories name an `ldap:` URL first, at which upstream gives up.
    pub fn next_issuer(&self) -> NextIssuer {
        let Some(last) = self.certificates.last() else {
            return NextIssuer::Enough;
        };
        if self.is_exhausted || is_self_signed(last) {
            return NextIssuer::Enough;
        }
        let urls = last.issuing_certificate_urls();
        match urls.iter().find(|url| is_fetchable(url)) {
            None => NextIssuer::Enough,
            Some(_) if self.fetched == FETCHES => NextIssuer::TooMany,
            Some(url) => NextIssuer::Fetch(url.clone()),
        }
    }

    /// Takes the answer for the URL that was asked for, and returns the certificate that it added. A certificate that
    /// is in the chain already is a loop, and its end.
    ///
    /// # Errors
    ///
    /// When the answer holds no certificate, and no empty bag either, or when its certificate is no issuer of the last
    /// one: what comes unencrypted from a URL must not become an authority for the job because it came.
    pub fn answered(
        &mut self,
        answer: &[u8],
    ) -> Result<Option<Arc<Certificate>>, IssuerAnswerError> {
        self.fetched += 1;
        let new = issuer_in_answer(answer)?.filter(|issuer| {
            let mut chain = self.certificates.iter();
            !chain.any(|known| known.fingerprint() == issuer.fingerprint())
        });
        let Some(issuer) = new else {
            self.is_exhausted = true;
            return Ok(None);
        };
        if let Some(last) = self.certificates.last() {
            check_issued_by(last, &issuer)?;
        }
        let issuer = Arc::new(issuer);
        self.certificates.push(Arc::clone(&issuer));
        Ok(Some(issuer))
    }

    /// The chain, whose last certificate is now looked for in the system's store: what vouches for it there is added.
    /// An unknown authority leaves the chain as it is.
    ///
    /// # Errors
    ///
    /// Any other refusal of the last certificate, for example because it or the root above it has expired.
    pub fn verified(
        self,
        system: &Store,
        now: jiff::Timestamp,
    ) -> Result<(Vec<Arc<Certificate>>, ChainEnd), VerifyError> {
        let mut chain = self.certificates;
        let end = match chain.last() {
            Some(last) if !is_self_signed(last) => {
                match verify(last.der(), &[], system, None, now, Usage::ServerAuth) {
                    Ok(verified) => {
                        let first = verified.chains().first();
                        let above = first.map_or(&[][..], |chain| &chain.certificates()[1..]);
                        chain.extend(above.iter().cloned());
                        ChainEnd::SystemStore
                    }
                    Err(error) if matches!(error.reason(), Reason::UnknownAuthority { .. }) => {
                        ChainEnd::UnknownAuthority
                    }
                    Err(error) => return Err(error),
                }
            }
            _ => ChainEnd::Root,
        };
        Ok((chain, end))
    }
}

fn check_issued_by(child: &Certificate, issuer: &Certificate) -> Result<(), IssuerAnswerError> {
    let why = if issuer.subject_der() != child.issuer_der() {
        "its subject is another".to_owned()
    } else {
        match signature::check_issued_by(child, issuer) {
            Ok(()) => return Ok(()),
            Err(error) => error.to_string(),
        }
    };
    Err(IssuerAnswerError::NotTheIssuer {
        found: issuer.subject().to_string(),
        child: child.subject().to_string(),
        why,
    })
}

/// Whether its own key signed it, as far as that can be told: signatures of old roots use algorithms that nobody checks
/// any more. Rights and validity do not matter here.
fn is_self_signed(certificate: &Certificate) -> bool {
    certificate.is_self_issued()
        && !matches!(
            signature::check_issued_by(certificate, certificate),
            Err(SignatureError::Wrong(_))
        )
}

fn is_fetchable(url: &str) -> bool {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| {
        scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;
    use crate::pkcs7::tests::{bag, definite};
    use crate::store::{Generation, Source};

    struct Authority {
        params: CertificateParams,
        key: KeyPair,
    }

    /// A CA's name, and where it says that its own issuer lies.
    fn authority(name: &str, urls: &[&str]) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        if !urls.is_empty() {
            params.custom_extensions = vec![issuing_urls(urls)];
        }
        Authority {
            params,
            key: KeyPair::generate().unwrap(),
        }
    }

    fn issuing_urls(urls: &[&str]) -> rcgen::CustomExtension {
        let descriptions = urls.iter().map(|url| {
            let ca_issuers = definite(6, &[&[0x2b, 6, 1, 5, 5, 7, 0x30, 2]]);
            definite(0x30, &[&ca_issuers, &definite(0x86, &[url.as_bytes()])])
        });
        let descriptions: Vec<u8> = descriptions.flatten().collect();
        let content = definite(0x30, &[&descriptions]);
        rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], content)
    }

    impl Authority {
        fn self_signed(&self) -> Vec<u8> {
            self.params.self_signed(&self.key).unwrap().der().to_vec()
        }

        fn signed_by(&self, issuer: &Self) -> Vec<u8> {
            let issuer = Issuer::from_params(&issuer.params, &issuer.key);
            let signed = self.params.signed_by(&self.key, &issuer);
            signed.unwrap().der().to_vec()
        }
    }

    fn parsed(der: &[u8]) -> Arc<Certificate> {
        Arc::new(Certificate::parse(der).unwrap())
    }

    fn fetch(url: &str) -> NextIssuer {
        NextIssuer::Fetch(url.to_owned())
    }

    fn system(der: &[u8]) -> Store {
        Store::builder()
            .add(
                Source::System("/roots".into()),
                crate::pem::encode(der).as_bytes(),
            )
            .build(Generation(1))
    }

    fn now() -> jiff::Timestamp {
        "2026-11-21T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_chain_is_followed_to_the_certificate_that_signed_itself() {
        let root = authority("root", &["http://pki.test/loops"]);
        let middle = authority("middle", &["ldap:///cn=root", "HTTP://pki.test/root"]);
        let leaf = authority("leaf", &["http://pki.test/middle"]).signed_by(&middle);
        let mut completion = Completion::of(&[parsed(&leaf)]);
        assert_eq!(completion.next_issuer(), fetch("http://pki.test/middle"));
        completion
            .answered(&middle.signed_by(&root))
            .unwrap()
            .unwrap();
        assert_eq!(completion.next_issuer(), fetch("HTTP://pki.test/root"));
        completion.answered(&root.self_signed()).unwrap().unwrap();
        assert_eq!(completion.next_issuer(), NextIssuer::Enough);
        let (chain, end) = completion.verified(&Store::default(), now()).unwrap();
        assert_eq!((chain.len(), end), (3, ChainEnd::Root));
    }

    #[test]
    fn fourteen_issuers_are_fetched_and_no_more() {
        let all: Vec<_> = (0..20)
            .map(|n| authority(&n.to_string(), &["http://pki.test/"]))
            .collect();
        let issued = |n: usize| all[n].signed_by(&all[n + 1]);
        let mut completion = Completion::of(&[parsed(&issued(0))]);
        for n in 1..=14 {
            assert_eq!(completion.next_issuer(), fetch("http://pki.test/"));
            completion.answered(&issued(n)).unwrap();
        }
        assert_eq!(completion.next_issuer(), NextIssuer::TooMany);
        assert_eq!(completion.certificates().len(), 15);
    }

    #[test]
    fn loops_and_empty_answers_end_a_chain_without_an_error() {
        let (one, two) = (authority("1", &["http://2"]), authority("2", &["http://1"]));
        let (first, second) = (one.signed_by(&two), two.signed_by(&one));
        let mut completion = Completion::of(&[parsed(&first)]);
        completion.answered(&second).unwrap().unwrap();
        assert!(completion.answered(&first).unwrap().is_none());
        assert_eq!(completion.next_issuer(), NextIssuer::Enough);
        assert_eq!(completion.certificates().len(), 2);
        let mut completion = Completion::of(&[parsed(&first)]);
        assert!(completion.answered(&bag(&[])).unwrap().is_none());
        assert_eq!(completion.next_issuer(), NextIssuer::Enough);
    }

    #[test]
    fn what_did_not_issue_the_last_certificate_is_refused() {
        let (leaf, root) = (authority("leaf", &["http://r"]), authority("root", &[]));
        let other = authority("other", &[]);
        let namesake = authority("root", &[]);
        for (answer, expected) in [
            (
                other.self_signed(),
                "CN=other did not issue CN=leaf: its subject is another",
            ),
            (
                namesake.self_signed(),
                "CN=root did not issue CN=leaf: x509: ECDSA verification failure",
            ),
        ] {
            let mut completion = Completion::of(&[parsed(&leaf.signed_by(&root))]);
            let error = completion.answered(&answer).unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert_eq!(completion.certificates().len(), 1);
        }
    }

    #[test]
    fn the_systems_store_ends_a_chain_that_no_url_does() {
        let (middle, root) = (authority("middle", &[]), authority("root", &[]));
        let chain = [parsed(&middle.signed_by(&root))];
        let (found, end) = Completion::of(&chain)
            .verified(&system(&root.self_signed()), now())
            .unwrap();
        assert_eq!((found.len(), end), (2, ChainEnd::SystemStore));
        let (found, end) = Completion::of(&chain)
            .verified(&Store::default(), now())
            .unwrap();
        assert_eq!((found.len(), end), (1, ChainEnd::UnknownAuthority));
        let mut old = authority("old", &[]);
        old.params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let chain = [parsed(&middle.signed_by(&old))];
        let error = Completion::of(&chain).verified(&system(&old.self_signed()), now());
        assert!(error.unwrap_err().to_string().contains("expired"));
    }
}
