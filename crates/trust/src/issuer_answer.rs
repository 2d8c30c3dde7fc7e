//! What a server answers where a certificate says that its issuer lies (`runner-tls.md` 3.4).

use crate::certificate::{Certificate, CertificateError};
use crate::pem;
use crate::pkcs7::certificates_of_pkcs7;

/// Why an answer holds no issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerAnswerError {
    /// It is no certificate. The words are upstream's.
    #[error("invalid certificate: {0}")]
    Invalid(String),
    /// It is a certificate whose key did not sign the one that named it.
    #[error("{found} did not issue {child}: {why}")]
    NotTheIssuer {
        /// Subject of what was found.
        found: String,
        /// Subject of the certificate whose issuer was looked for.
        child: String,
        /// Why not.
        why: String,
    },
}

/// The certificate in an answer: of PEM the first block, DER as it is, of PKCS#7 the first one. `None` for a PKCS#7
/// message without certificates.
///
/// # Errors
///
/// When it is none of these. PEM around PKCS#7 is refused as upstream refuses it.
pub fn issuer_in_answer(bytes: &[u8]) -> Result<Option<Certificate>, IssuerAnswerError> {
    let block = pem::looks_like_pem(bytes).then(|| pem::blocks(bytes).next());
    let der = match &block {
        None => bytes,
        Some(None) => return Err(IssuerAnswerError::Invalid("empty PEM block".to_owned())),
        Some(Some((label, _))) if label != "CERTIFICATE" => {
            return Err(IssuerAnswerError::Invalid(
                "non-certificate PEM block".to_owned(),
            ));
        }
        Some(Some((_, body))) => body,
    };
    let error = match Certificate::parse(der) {
        Ok(certificate) => return Ok(Some(certificate)),
        Err(error) => error,
    };
    match certificates_of_pkcs7(der) {
        Ok(bag) => Ok(bag.into_iter().next()),
        Err(_) => Err(unreadable(&error)),
    }
}

fn unreadable(error: &CertificateError) -> IssuerAnswerError {
    IssuerAnswerError::Invalid(format!("x509: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_pem_der_or_a_bag() {
        let params = rcgen::CertificateParams::new(["issuer.test".to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = params.self_signed(&key).unwrap();
        let (der, pem) = (issuer.der().to_vec(), issuer.pem());
        for bytes in [
            der.clone(),
            pem.clone().into_bytes(),
            (pem + "-----BEGIN CERTIFICATE-----\nrest").into_bytes(),
            crate::pkcs7::tests::bag(&[&der]),
        ] {
            let found = issuer_in_answer(&bytes).unwrap().expect("a certificate");
            assert_eq!(found.der().as_ref(), der);
        }
        assert!(
            issuer_in_answer(&crate::pkcs7::tests::bag(&[]))
                .unwrap()
                .is_none()
        );
        let bag = pem::encode(&crate::pkcs7::tests::bag(&[&der]));
        for (bytes, expected) in [
            (
                "-----BEGIN CERTIFICATE-----\nno end",
                "invalid certificate: empty PEM block",
            ),
            (
                &bag.replace("CERTIFICATE", "PKCS7"),
                "invalid certificate: non-certificate PEM block",
            ),
            (
                "<html>404</html>",
                "invalid certificate: x509: malformed certificate",
            ),
            ("", "invalid certificate: x509: malformed certificate"),
        ] {
            let error = issuer_in_answer(bytes.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
