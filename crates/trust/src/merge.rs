//! Certificates put into what other programs keep theirs in: PEM bundles, Java keystores, EFI signature lists.
//!
//! What is there stays there, byte for byte where the format allows it; what is there already is not added again. Both
//! come from images of strangers: nothing is believed, and work is bounded by the size of the input.

mod jks;

use crate::certificate::Certificate;
use crate::pem;
use crate::pkcs12::{self, Pkcs12Error};

/// Why certificates could not be added to a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// A Java keystore whose integrity check is made with another password than those that everybody knows.
    #[error("its password is not \"changeit\"")]
    UnknownPassword,
    /// Neither JKS nor PKCS#12, or a kind of them that is not known here.
    #[error("{0}")]
    UnknownFormat(String),
    /// The bytes break off or contradict themselves.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

/// Passwords of a truststore that anybody may read: the JDK's own, and what packagers use in its place.
const PASSWORDS: [&str; 3] = ["changeit", "changeme", ""];

/// Rounds of key derivation that the keystores of one image may ask for together, whatever their passwords: two seconds at
/// most. An honest one asks for some ten thousand.
const ROUNDS: u64 = 2_500_000;

/// What may still be spent on opening keystores of one stranger.
#[derive(Debug)]
pub struct KeystoreWork(pkcs12::Work);

impl Default for KeystoreWork {
    fn default() -> Self {
        Self(pkcs12::Work::of(ROUNDS))
    }
}

/// A PEM bundle with those of `certificates` that are not in it at its end; `None` when all of them are.
pub fn add_to_pem_bundle(bundle: &[u8], certificates: &[&Certificate]) -> Option<Vec<u8>> {
    let blocks: Vec<_> = pem::blocks(bundle).collect();
    let missing = certificates.iter().filter(|certificate| {
        // OpenSSL's TRUSTED CERTIFICATE has its conditions behind the certificate.
        let is_it = |(_, body): &(String, Vec<u8>)| body.starts_with(certificate.der());
        !blocks.iter().any(is_it)
    });
    let mut bytes = bundle.to_vec();
    for certificate in missing {
        if bytes.last().is_some_and(|last| *last != b'\n') {
            bytes.push(b'\n');
        }
        bytes.extend(certificate_pem(certificate).bytes());
    }
    (bytes.len() > bundle.len()).then_some(bytes)
}

/// The certificate as PEM with its subject as a comment before it.
pub fn certificate_pem(certificate: &Certificate) -> String {
    let subject = pem::one_line(&certificate.subject().to_string());
    format!("# {subject}\n{}", pem::encode(certificate.der()))
}

/// How many certificates a PEM bundle has, those with OpenSSL's conditions too.
pub fn certificates_in_pem(bundle: &[u8]) -> usize {
    let labels = pem::blocks(bundle).map(|(label, _)| label);
    labels
        .filter(|label| {
            matches!(
                label.as_str(),
                "CERTIFICATE" | "TRUSTED CERTIFICATE" | "X509 CERTIFICATE"
            )
        })
        .count()
}

/// A Java keystore, JKS or PKCS#12, with those of `certificates` that are not in it; `None` when all of them are.
///
/// # Errors
///
/// See [`MergeError`]; the file is then best left as it is.
pub fn add_to_java_keystore(
    keystore: &[u8],
    certificates: &[&Certificate],
    work: &mut KeystoreWork,
) -> Result<Option<Vec<u8>>, MergeError> {
    let entries: Vec<(String, &Certificate)> = certificates
        .iter()
        .map(|certificate| {
            (
                format!("courser-{}", certificate.fingerprint()),
                *certificate,
            )
        })
        .collect();
    if keystore.starts_with(&jks::MAGIC) {
        return jks::add(keystore, &PASSWORDS, &entries);
    }
    pkcs12::add(keystore, &PASSWORDS, &entries, &mut work.0).map_err(|error| match error {
        Pkcs12Error::WrongPassword | Pkcs12Error::PasswordNeeded => MergeError::UnknownPassword,
        Pkcs12Error::NotPkcs12 => {
            MergeError::UnknownFormat("it is no keystore of the forms JKS and PKCS#12".to_owned())
        }
        other => MergeError::UnknownFormat(other.to_string()),
    })
}

/// An EFI signature list (`cacerts.bin` of edk2), each certificate a list of its own, with those of `certificates` that
/// are not in it; `None` when all of them are.
///
/// # Errors
///
/// [`MergeError::Damaged`] when the lists do not add up.
pub fn add_to_efi_list(
    lists: &[u8],
    certificates: &[&Certificate],
) -> Result<Option<Vec<u8>>, MergeError> {
    /// `EFI_CERT_X509_GUID`.
    const X509: [u8; 16] = [
        0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0,
        0x72,
    ];
    /// Kind, size of the list, of its header, of each signature.
    const HEADER: usize = 28;
    /// Who put a signature there, as p11-kit writes it.
    const OWNER: [u8; 16] = [
        0x50, 0x3b, 0xdd, 0xdc, 0x05, 0xf4, 0xfd, 0x43, 0x96, 0xbe, 0xbd, 0x33, 0xb1, 0x73, 0x47,
        0x76,
    ];
    let damaged = MergeError::Damaged("its lists do not add up");
    let mut rest = lists;
    while !rest.is_empty() {
        let size = rest.get(16..20).and_then(|size| size.first_chunk());
        let size = size.map_or(0, |size| u32::from_le_bytes(*size)) as usize;
        if size < HEADER {
            return Err(damaged);
        }
        rest = rest.get(size..).ok_or_else(|| damaged.clone())?;
    }
    let mut bytes = lists.to_vec();
    for certificate in certificates {
        let der: &[u8] = certificate.der();
        if memchr::memmem::find(&bytes, der).is_some() {
            continue;
        }
        let size = u32::try_from(der.len() + OWNER.len()).map_err(|_| damaged.clone())?;
        bytes.extend(X509);
        bytes.extend((size + HEADER as u32).to_le_bytes());
        bytes.extend(0_u32.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes.extend(OWNER);
        bytes.extend(der);
    }
    Ok((bytes.len() > lists.len()).then_some(bytes))
}

#[cfg(test)]
mod tests;
