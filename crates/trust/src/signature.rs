//! The crypto provider. No other module of Courser names it: aws-lc-rs, see `dependencies.md` 3.1.

use std::sync::Arc;
use std::sync::LazyLock;

use rustls::DigitallySignedStruct;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};

use crate::certificate::{Certificate, KeyKind};
use crate::der::{self, Reader};

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));

/// The provider for every TLS configuration of this process.
pub fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// Bits of RSA keys that can be used: what the provider verifies.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The greatest public exponent, as in Go; the provider would take one bit more.
const RSA_EXPONENT: u64 = (1 << 31) - 1;

/// Why a signature was not accepted. The words are those that Go uses, people search for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignatureError {
    #[error("x509: cannot verify signature: insecure algorithm {0}")]
    Insecure(&'static str),
    #[error("x509: cannot verify signature: algorithm unimplemented")]
    Unsupported,
    #[error("x509: RSA key of {0} bits, at least 2048 and at most 8192 are needed")]
    RsaSize(usize),
    #[error("{0}")]
    Wrong(&'static str),
}

/// Whether `issuer`'s key signed `certificate`. Nothing but the signature is looked at.
pub(crate) fn check_issued_by(
    certificate: &Certificate,
    issuer: &Certificate,
) -> Result<(), SignatureError> {
    let algorithm = certificate.signature_algorithm();
    let id = identifier(algorithm).ok_or(SignatureError::Unsupported)?;
    if let Some(name) = insecure(id) {
        return Err(SignatureError::Insecure(name));
    }
    check_rsa(issuer)?;
    let wrong = || {
        SignatureError::Wrong(match issuer.key_kind() {
            KeyKind::Rsa { .. } => "crypto/rsa: verification error",
            _ if id == ED25519 => "x509: Ed25519 verification failure",
            _ => "x509: ECDSA verification failure",
        })
    };
    if !certificate.signature_is_whole() {
        return Err(wrong());
    }
    let verifier = PROVIDER
        .signature_verification_algorithms
        .all
        .iter()
        .find(|candidate| {
            let signature_id = candidate.signature_alg_id();
            // Parameters matter for PSS alone; for the others Go looks at the identifier only.
            let same = if id == RSA_PSS {
                signature_id.as_ref() == algorithm
            } else {
                identifier(&signature_id) == Some(id)
            };
            same && candidate.public_key_alg_id().as_ref() == issuer.key_algorithm()
        })
        .ok_or(SignatureError::Unsupported)?;
    verifier
        .verify_signature(issuer.key(), certificate.signed(), certificate.signature())
        .map_err(|_| wrong())
}

/// About how many microseconds [`check_issued_by`] takes at most, on a machine of 2026.
pub(crate) fn price(certificate: &Certificate, issuer: &Certificate) -> u32 {
    let of_key = match issuer.key_kind() {
        KeyKind::Rsa { bits, exponent } => {
            // Squarings and multiplications of that many bits.
            let steps = exponent.ilog2() + exponent.count_ones();
            let kilobits = bits.min(*RSA_BITS.end()).div_ceil(1024) as u32;
            4 + kilobits * kilobits * steps / 6
        }
        KeyKind::EllipticCurve { octets: 66 } => 240,
        KeyKind::EllipticCurve { octets: 48 } => 140,
        KeyKind::EllipticCurve { .. } | KeyKind::Other => 35,
    };
    // Hashing, some 500 bytes in a microsecond.
    of_key + (certificate.signed().len() / 500) as u32
}

/// Whether an uncompressed point lies on the curve with coordinates of that many octets; `true` for curves that the
/// provider does not have.
pub(crate) fn is_on_curve(octets: usize, point: &[u8]) -> bool {
    let algorithm = match octets {
        32 => &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1,
        48 => &aws_lc_rs::signature::ECDSA_P384_SHA384_ASN1,
        66 => &aws_lc_rs::signature::ECDSA_P521_SHA512_ASN1,
        _ => return true,
    };
    aws_lc_rs::signature::ParsedPublicKey::new(algorithm, point).is_ok()
}

/// The bits of an RSA key that is larger than any that can be used.
pub(crate) fn too_many_rsa_bits(certificate: &Certificate) -> Option<usize> {
    match certificate.key_kind() {
        KeyKind::Rsa { bits, .. } if bits > *RSA_BITS.end() => Some(bits),
        _ => None,
    }
}

/// Whether a handshake with this key can succeed at all.
pub(crate) fn check_own_key(certificate: &Certificate) -> Result<(), SignatureError> {
    check_rsa(certificate)?;
    let mut known = PROVIDER.signature_verification_algorithms.all.iter();
    if known.any(|candidate| candidate.public_key_alg_id().as_ref() == certificate.key_algorithm())
    {
        Ok(())
    } else {
        Err(SignatureError::Unsupported)
    }
}

/// Schemes to offer in a handshake.
pub(crate) fn supported_schemes() -> Vec<SignatureScheme> {
    PROVIDER
        .signature_verification_algorithms
        .supported_schemes()
}

/// A TLS 1.3 handshake signature, checked with the certificate's key alone: rustls would parse the whole certificate
/// once more with webpki, which refuses some that are pinned.
pub(crate) fn check_tls13_signature(
    message: &[u8],
    der: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    rustls::crypto::verify_tls13_signature_with_raw_key(
        message,
        &SubjectPublicKeyInfoDer::from(parsed(der)?.key_info()),
        signed,
        &PROVIDER.signature_verification_algorithms,
    )
}

/// A TLS 1.2 handshake signature: rustls first; when webpki cannot parse the certificate, the same check with its key.
pub(crate) fn check_tls12_signature(
    message: &[u8],
    der: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let certificate = parsed(der)?;
    let algorithms = &PROVIDER.signature_verification_algorithms;
    let first = rustls::crypto::verify_tls12_signature(message, der, signed, algorithms);
    let Err(rustls::Error::InvalidCertificate(why)) = &first else {
        return first;
    };
    if *why == rustls::CertificateError::BadSignature {
        return first;
    }
    let of_scheme = algorithms
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == signed.scheme)
        .map_or(&[][..], |(_, candidates)| candidates);
    for candidate in of_scheme {
        if candidate.public_key_alg_id().as_ref() == certificate.key_algorithm()
            && candidate
                .verify_signature(certificate.key(), message, signed.signature())
                .is_ok()
        {
            return Ok(HandshakeSignatureValid::assertion());
        }
    }
    first
}

fn parsed(der: &CertificateDer<'_>) -> Result<Certificate, rustls::Error> {
    Certificate::parse(der)
        .map_err(|_| rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding))
}

fn check_rsa(certificate: &Certificate) -> Result<(), SignatureError> {
    match certificate.key_kind() {
        KeyKind::Rsa { bits, .. } if !RSA_BITS.contains(&bits) => {
            Err(SignatureError::RsaSize(bits))
        }
        KeyKind::Rsa { exponent, .. } if exponent > RSA_EXPONENT => Err(SignatureError::Wrong(
            "crypto/rsa: public exponent too large",
        )),
        _ => Ok(()),
    }
}

const ED25519: &[u8] = &[0x2b, 101, 112];
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];

/// The object identifier at the start of an `AlgorithmIdentifier`'s content.
fn identifier(algorithm: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(algorithm);
    let element = reader.read(der::OBJECT_IDENTIFIER, "algorithm").ok()?;
    algorithm.get(element.content_range())
}

fn insecure(id: &[u8]) -> Option<&'static str> {
    Some(match id {
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 2] => "MD2-RSA",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4] => "MD5-RSA",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5] | [0x2b, 14, 3, 2, 29] => "SHA1-RSA",
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1] => "ECDSA-SHA1",
        _ => return None,
    })
}
