//! Whom Courser trusts, and why not.
//!
//! In: bytes of certificate files with their sources, what a peer served, its name, the time. Out: [`Store`]
//! generations, [`VerifiedChains`], or a [`VerifyError`] that says which link is missing and what to type. No I/O.
//!
//! The verifier accepts what the Go runner accepts (`dependencies.md` 3.2): every trusted certificate is an anchor, a
//! trusted leaf stands for itself, names come from SANs only, work is bounded.
//!
//! ```
//! use courser_trust::{Generation, PeerName, Source, Store, Usage, verify};
//!
//! let store = Store::builder()
//!     .add(Source::Inline("an example".into()), b"no certificate at all")
//!     .build(Generation(1));
//! assert_eq!(store.skipped()[0].reason.to_string(), "this file has no PEM block");
//!
//! let error = verify(
//!     &[0x30, 0x00][..].into(),
//!     &[],
//!     &store,
//!     Some(&PeerName::from_host("gitlab.example.com")),
//!     jiff::Timestamp::UNIX_EPOCH,
//!     Usage::ServerAuth,
//! )
//! .unwrap_err();
//! assert!(error.to_string().contains("x509: malformed"));
//! ```

mod bundle;
mod certificate;
mod certificate_file;
mod client_verifier;
mod completion;
mod der;
mod description;
mod distinguished_name;
mod error;
mod explain;
mod extensions;
mod host_name;
mod issuance;
mod issuer_answer;
mod merge;
mod moment;
mod name_constraints;
mod path;
mod pem;
mod pkcs12;
mod pkcs7;
mod policies;
mod reload;
mod served_chain;
mod server_verifier;
mod signature;
mod skip_reason;
mod store;
mod subject_hash;
mod truststore;
mod uri;
mod verify;
mod work;

pub use bundle::{Bundle, LeftOut, LeftOutBecause};
pub use certificate::{Certificate, CertificateError, Fingerprint};
pub use certificate_file::{CertificateFile, FileForm, FileItem, ItemContent, PrivateKey};
pub use client_verifier::ClientVerifier;
pub use completion::{ChainEnd, Completion, NextIssuer};
pub use distinguished_name::DistinguishedName;
pub use error::{Reason, VerifyError};
pub use explain::Remedy;
pub use host_name::PeerName;
pub use issuer_answer::{IssuerAnswerError, issuer_in_answer};
pub use merge::{
    KeystoreWork, MergeError, add_to_efi_list, add_to_java_keystore, add_to_pem_bundle,
    certificate_pem, certificates_in_pem,
};
pub use moment::Moment;
pub use pkcs7::certificates_of_pkcs7;
pub use pkcs12::Pkcs12Error;
pub use reload::{Kept, KeptBecause, Reading, Reload, Update};
pub use served_chain::ServedChain;
pub use server_verifier::{Clock, ServerVerifier, find_verify_error};
pub use signature::crypto_provider;
pub use skip_reason::{SkipReason, shell_word};
pub use store::{
    Consulted, Generation, SkippedBlock, Source, SourceContent, Store, StoreBuilder,
    TrustedCertificate,
};
pub use truststore::java_truststore;
pub use verify::{Usage, VerifiedChain, VerifiedChains, chain_pem, verify, verify_at};
