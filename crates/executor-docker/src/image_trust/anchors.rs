//! What is added to images: the private CAs of a runner, and the system's certificates for images that have none.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use courser_job::ToolTrust;
use courser_trust::{
    Bundle, Certificate, Generation, Source, Store, TrustedCertificate, certificate_pem,
};
use sha2::{Digest, Sha256};

/// Certificates of one generation of a runner's trust.
#[derive(Debug, Clone)]
pub struct Anchors {
    /// CA certificates only, each once; never empty.
    pub(super) private: Vec<Arc<Certificate>>,
    pub(super) system: Vec<Arc<Certificate>>,
    /// Of all of them.
    pub(super) digest: [u8; 32],
}

impl Anchors {
    /// `None` when there is no private CA among them: images stay as they are then.
    pub fn of(bundle: &Bundle) -> Option<Self> {
        let certificates = |list: &[TrustedCertificate]| {
            let mut all: Vec<Arc<Certificate>> = Vec::with_capacity(list.len());
            for trusted in list {
                let certificate = trusted.certificate();
                let same = |other: &Arc<Certificate>| other.der() == certificate.der();
                if !all.iter().any(same) {
                    all.push(Arc::clone(certificate));
                }
            }
            all
        };
        let private = certificates(bundle.private());
        if private.is_empty() {
            return None;
        }
        let system = certificates(bundle.system());
        let mut digest = Sha256::new();
        for (part, list) in [(0_u8, &private), (1, &system)] {
            for certificate in list {
                digest.update([part]);
                digest.update(certificate.fingerprint().0);
            }
        }
        Some(Self {
            private,
            system,
            digest: digest.finalize().into(),
        })
    }

    /// The same out of what a job carries for its tools.
    pub fn of_tools(tools: &ToolTrust) -> Option<Self> {
        let store = |source, text: &str| {
            let builder = Store::builder().add(source, text.as_bytes());
            builder.build(Generation(0))
        };
        // Whatever its file was: only files of the operator are in there.
        let private = store(Source::Configured(PathBuf::new()), &tools.private_bundle);
        let system = store(Source::System(PathBuf::new()), &tools.bundle);
        Self::of(&Bundle::compose(&system, &private, None))
    }

    pub(super) fn private(&self) -> Vec<&Certificate> {
        self.private.iter().map(AsRef::as_ref).collect()
    }
}

/// The name, without its ending, of a certificate's own file.
pub(super) fn file_name(certificate: &Certificate) -> String {
    let fingerprint = certificate.fingerprint().to_string();
    format!("courser-{}", &fingerprint[..16])
}

/// A file of these certificates.
pub(super) fn pem_file<'a>(certificates: impl IntoIterator<Item = &'a Certificate>) -> Bytes {
    let text: String = certificates.into_iter().map(certificate_pem).collect();
    text.into()
}
