//! What a certificate says beside what trust needs: its key, its purposes, for people to read.

use crate::certificate::{Certificate, KeyKind};
use crate::der::{self, Reader};
use crate::signature;

impl Certificate {
    /// Kind and size of its key, such as `RSA 2048` or `ECDSA P-256`; another kind is its object identifier.
    pub fn key_name(&self) -> String {
        if let KeyKind::Rsa { bits, .. } = self.key_kind() {
            return format!("RSA {bits}");
        }
        let mut algorithm = Reader::new(self.key_algorithm());
        let Ok(kind) = algorithm.object_identifier("key") else {
            return "unknown".to_owned();
        };
        let curve = algorithm.object_identifier("curve").unwrap_or_default();
        let name = match (kind, curve) {
            ([0x2b, 101, 112], _) => "Ed25519",
            ([0x2b, 101, 113], _) => "Ed448",
            ([0x2a, 0x86, 0x48, 0xce, 0x38, 4, 1], _) => "DSA",
            (_, [0x2b, 0x81, 4, 0, 33]) => "ECDSA P-224",
            (_, [0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]) => "ECDSA P-256",
            (_, [0x2b, 0x81, 4, 0, 34]) => "ECDSA P-384",
            (_, [0x2b, 0x81, 4, 0, 35]) => "ECDSA P-521",
            _ => return der::dotted(kind),
        };
        name.to_owned()
    }

    /// Its extended key usages by their names of RFC 5280, else dotted; empty when it names none.
    pub fn extended_key_usages(&self) -> Vec<String> {
        let name = |id: &Vec<u8>| match id.as_slice() {
            [0x2b, 6, 1, 5, 5, 7, 3, 1] => "serverAuth".to_owned(),
            [0x2b, 6, 1, 5, 5, 7, 3, 2] => "clientAuth".to_owned(),
            [0x2b, 6, 1, 5, 5, 7, 3, 3] => "codeSigning".to_owned(),
            [0x2b, 6, 1, 5, 5, 7, 3, 4] => "emailProtection".to_owned(),
            [0x2b, 6, 1, 5, 5, 7, 3, 8] => "timeStamping".to_owned(),
            [0x2b, 6, 1, 5, 5, 7, 3, 9] => "OCSPSigning".to_owned(),
            [0x55, 0x1d, 37, 0] => "any".to_owned(),
            other => der::dotted(other),
        };
        self.extensions()
            .extended_key_usages
            .iter()
            .map(name)
            .collect()
    }

    /// Whether it is signed with its own key. A signature of a kind that nobody verifies any more counts when the
    /// names agree, as in old roots.
    pub fn is_self_signed(&self) -> bool {
        use signature::SignatureError::{Insecure, RsaSize, Unsupported};
        self.is_self_issued()
            && match signature::check_issued_by(self, self) {
                Ok(()) | Err(Insecure(_) | RsaSize(_) | Unsupported) => true,
                Err(_) => false,
            }
    }

    /// Whether `issuer` has the name and the key that signed it.
    pub fn is_issued_by(&self, issuer: &Self) -> bool {
        self.issuer_der() == issuer.subject_der()
            && signature::check_issued_by(self, issuer).is_ok()
    }

    /// It as a PEM block with its final newline.
    pub fn to_pem(&self) -> String {
        crate::pem::encode(self.der())
    }
}
