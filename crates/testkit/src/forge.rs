//! Makes certificates byte by byte, sound ones and odd ones that no library would make; [`pki`](crate::pki) makes those
//! that tests of other things need.

use std::sync::Arc;

use base64::Engine as _;
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use rustls_pki_types::CertificateDer;

use crate::openssl::OpensslKey;

/// The time at which tests look at certificates.
pub fn now() -> jiff::Timestamp {
    "2026-06-01T12:00:00Z".parse().expect("a time")
}

/// A certificate and its key.
pub struct Identity {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Its key.
    pub key: KeyPair,
    subject: Vec<u8>,
}

impl Identity {
    /// The certificate as PEM.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }
}

/// What a certificate shall say. The default is a version 3 certificate without extensions, valid in 2026.
#[derive(Clone)]
pub struct Draft {
    /// Encoded.
    pub subject: Vec<u8>,
    /// 1 to 3.
    pub version: u8,
    /// Content octets.
    pub serial: Vec<u8>,
    /// First and last moment, GeneralizedTime.
    pub validity: (&'static str, &'static str),
    /// With issuer and subject unique ids.
    pub unique_ids: bool,
    /// Encoded, in their order.
    pub extensions: Vec<Vec<u8>>,
    /// Claims another signature algorithm than the one that signs.
    pub claimed_algorithm: Option<Vec<u8>>,
    /// Puts other bytes in the place of the public key.
    pub key_info: Option<Vec<u8>>,
    /// Puts other bytes in the place of the signature.
    pub signature: Option<Vec<u8>>,
    /// Bits at the end of the signature that shall not count.
    pub unused_signature_bits: u8,
    /// Names another issuer than the one that signs; encoded.
    pub issuer: Option<Vec<u8>>,
    /// Puts other bytes in the place of the validity.
    pub encoded_validity: Option<Vec<u8>>,
    /// Claims another algorithm outside the signed part than inside.
    pub outer_algorithm: Option<Vec<u8>>,
    /// Signs with this key instead of the issuer's, with options of `openssl dgst`.
    pub signer: Option<(Arc<OpensslKey>, &'static [&'static str])>,
}

/// The default, named so.
pub fn draft(common_name: &str) -> Draft {
    Draft {
        subject: name(common_name),
        version: 3,
        serial: vec![1],
        validity: ("20260101000000Z", "20261231235959Z"),
        unique_ids: false,
        extensions: Vec::new(),
        claimed_algorithm: None,
        key_info: None,
        signature: None,
        unused_signature_bits: 0,
        issuer: None,
        encoded_validity: None,
        outer_algorithm: None,
        signer: None,
    }
}

/// A CA certificate with basicConstraints and keyUsage.
pub fn ca(common_name: &str) -> Draft {
    draft(common_name)
        .with(basic_constraints(true, None))
        .with(key_usage(&[5, 6]))
}

/// A server's certificate with one DNS name.
pub fn leaf(dns: &str) -> Draft {
    draft(dns).with(subject_alternative_names(&[(2, dns.as_bytes())]))
}

impl Draft {
    /// And this extension.
    #[must_use]
    pub fn with(mut self, extension: Vec<u8>) -> Self {
        self.extensions.push(extension);
        self
    }

    /// Valid between these moments, GeneralizedTime.
    #[must_use]
    pub fn valid(mut self, from: &'static str, to: &'static str) -> Self {
        self.validity = (from, to);
        self
    }

    /// Of version 1, 2 or 3.
    #[must_use]
    pub fn version(mut self, version: u8) -> Self {
        self.version = version;
        self
    }

    /// With these octets as serial number.
    #[must_use]
    pub fn serial(mut self, serial: &[u8]) -> Self {
        self.serial = serial.to_vec();
        self
    }

    /// Signed with a fresh key of its own, on P-256.
    pub fn self_signed(self) -> Identity {
        let key = KeyPair::generate().expect("a key");
        self.self_signed_with(key)
    }

    /// Signed with this key of its own.
    pub fn self_signed_with(self, key: KeyPair) -> Identity {
        let issuer = self.subject.clone();
        let certificate = self.sign(&key, &issuer, &key);
        Identity {
            certificate,
            subject: self.subject,
            key,
        }
    }

    /// Signed by an issuer, for a fresh key on P-256.
    pub fn issued_by(self, issuer: &Identity) -> Identity {
        let key = KeyPair::generate().expect("a key");
        self.issued_with(key, issuer)
    }

    /// Signed by an issuer, for this key.
    pub fn issued_with(self, key: KeyPair, issuer: &Identity) -> Identity {
        let certificate = self.sign(&key, &issuer.subject, &issuer.key);
        Identity {
            certificate,
            subject: self.subject,
            key,
        }
    }

    fn sign(&self, key: &KeyPair, issuer: &[u8], signer: &KeyPair) -> CertificateDer<'static> {
        let algorithm = self
            .claimed_algorithm
            .clone()
            .unwrap_or_else(|| signature_algorithm(signer));
        let key_info = self
            .key_info
            .clone()
            .unwrap_or_else(|| key.subject_public_key_info());
        let mut fields = Vec::new();
        if self.version > 1 {
            fields.push(der(0xa0, &[&der(2, &[&[self.version - 1]])]));
        }
        fields.push(der(2, &[&self.serial]));
        fields.push(algorithm.clone());
        fields.push(self.issuer.clone().unwrap_or_else(|| issuer.to_vec()));
        let time = |text: &str| der(0x18, &[text.as_bytes()]);
        fields.push(match &self.encoded_validity {
            Some(bytes) => bytes.clone(),
            None => sequence(&[&time(self.validity.0), &time(self.validity.1)]),
        });
        fields.push(self.subject.clone());
        fields.push(key_info);
        if self.unique_ids {
            fields.push(der(0x81, &[&[0, 0xaa]]));
            fields.push(der(0x82, &[&[0, 0xbb]]));
        }
        if !self.extensions.is_empty() {
            let extensions: Vec<&[u8]> = self.extensions.iter().map(Vec::as_slice).collect();
            fields.push(der(0xa3, &[&sequence(&extensions)]));
        }
        let fields: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
        let signed = sequence(&fields);
        let signature = match (&self.signature, &self.signer) {
            (Some(bytes), _) => bytes.clone(),
            (None, Some((key, options))) => key.sign(options, &signed),
            (None, None) => signer.sign(&signed).expect("a signature"),
        };
        let outer = self.outer_algorithm.clone().unwrap_or(algorithm);
        let unused = &[self.unused_signature_bits];
        let whole = sequence(&[&signed, &outer, &der(3, &[unused, &signature])]);
        CertificateDer::from(whole)
    }
}

fn signature_algorithm(signer: &KeyPair) -> Vec<u8> {
    let algorithm = signer.algorithm();
    let ecdsa = |last| sequence(&[&der(6, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, last]])]);
    if *algorithm == rcgen::PKCS_ECDSA_P256_SHA256 {
        ecdsa(2)
    } else if *algorithm == rcgen::PKCS_ECDSA_P384_SHA384 {
        ecdsa(3)
    } else if *algorithm == rcgen::PKCS_ECDSA_P521_SHA512 {
        ecdsa(4)
    } else if *algorithm == rcgen::PKCS_ED25519 {
        sequence(&[&der(6, &[&[0x2b, 101, 112]])])
    } else {
        rsa_algorithm(11)
    }
}

/// PKCS#1 with NULL: 4 is MD5, 5 SHA-1, 11 SHA-256.
pub fn rsa_algorithm(last: u8) -> Vec<u8> {
    sequence(&[
        &der(6, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, last]]),
        &der(5, &[]),
    ])
}

/// An RSA key of that many octets with exponent 65537; nobody knows its private half.
pub fn rsa_key_info(octets: usize) -> Vec<u8> {
    rsa_key_info_with(octets, &[1, 0, 1])
}

/// The same with these octets as public exponent.
pub fn rsa_key_info_with(octets: usize, exponent: &[u8]) -> Vec<u8> {
    let modulus = [&[0][..], &vec![0xc5; octets]].concat();
    let key = sequence(&[&der(2, &[&modulus]), &der(2, &[exponent])]);
    sequence(&[&rsa_algorithm(1), &der(3, &[&[0], &key])])
}

/// A key of an algorithm that signs nothing (X25519).
pub fn x25519_key_info() -> Vec<u8> {
    let algorithm = sequence(&[&der(6, &[&[0x2b, 101, 110]])]);
    sequence(&[&algorithm, &der(3, &[&[0], &[9; 32]])])
}

/// A name with nothing but a common name.
pub fn name(common_name: &str) -> Vec<u8> {
    let attribute = sequence(&[
        &der(6, &[&[0x55, 4, 3]]),
        &der(0x0c, &[common_name.as_bytes()]),
    ]);
    sequence(&[&der(0x31, &[&attribute])])
}

/// An extension of this identifier and value.
pub fn extension(id: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical {
        der(1, &[&[0xff]])
    } else {
        Vec::new()
    };
    sequence(&[&der(6, &[id]), &critical, &der(4, &[value])])
}

/// Critical basicConstraints.
pub fn basic_constraints(ca: bool, path_length: Option<u8>) -> Vec<u8> {
    let ca = if ca { der(1, &[&[0xff]]) } else { Vec::new() };
    let length = path_length.map_or_else(Vec::new, |length| der(2, &[&[length]]));
    extension(&[0x55, 0x1d, 19], true, &sequence(&[&ca, &length]))
}

/// Numbers of bits as in RFC 5280 4.2.1.3; 5 is keyCertSign.
pub fn key_usage(bits: &[u8]) -> Vec<u8> {
    let byte = bits.iter().fold(0u8, |byte, bit| byte | (0x80 >> bit));
    let unused = if byte == 0 {
        0
    } else {
        byte.trailing_zeros() as u8
    };
    extension(&[0x55, 0x1d, 15], true, &der(3, &[&[unused, byte]]))
}

/// id-kp-serverAuth.
pub const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
/// id-kp-clientAuth.
pub const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
/// anyExtendedKeyUsage.
pub const ANY_USAGE: &[u8] = &[0x55, 0x1d, 37, 0];

/// extKeyUsage with these identifiers.
pub fn extended_key_usage(usages: &[&[u8]]) -> Vec<u8> {
    let usages: Vec<Vec<u8>> = usages.iter().map(|usage| der(6, &[usage])).collect();
    let usages: Vec<&[u8]> = usages.iter().map(Vec::as_slice).collect();
    extension(&[0x55, 0x1d, 37], false, &sequence(&usages))
}

/// Pairs of tag number and content: 1 mail, 2 DNS, 6 URI, 7 address.
pub fn subject_alternative_names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let names: Vec<Vec<u8>> = names
        .iter()
        .map(|(tag, name)| der(0x80 | tag, &[name]))
        .collect();
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    extension(&[0x55, 0x1d, 17], false, &sequence(&names))
}

/// One permitted subtree and one excluded one, each with its whole tag.
pub fn name_constraints(
    permitted: Option<(u8, &[u8])>,
    excluded: Option<(u8, &[u8])>,
    critical: bool,
) -> Vec<u8> {
    let list = |tag, subtree: Option<(u8, &[u8])>| {
        subtree.map_or_else(Vec::new, |(kind, base)| {
            der(tag, &[&sequence(&[&der(kind, &[base])])])
        })
    };
    let value = sequence(&[&list(0xa0, permitted), &list(0xa1, excluded)]);
    extension(&[0x55, 0x1d, 30], critical, &value)
}

/// subjectKeyIdentifier.
pub fn subject_key_id(id: &[u8]) -> Vec<u8> {
    extension(&[0x55, 0x1d, 14], false, &der(4, &[id]))
}

/// authorityKeyIdentifier with a key identifier.
pub fn authority_key_id(id: &[u8]) -> Vec<u8> {
    extension(&[0x55, 0x1d, 35], false, &sequence(&[&der(0x80, &[id])]))
}

/// An extension that nobody knows.
pub fn unknown_extension(critical: bool) -> Vec<u8> {
    extension(&[0x2b, 6, 1, 4, 1, 0x83, 0x7f, 1], critical, &der(5, &[]))
}

/// A critical certificatePolicies with one policy.
pub fn policies(policy: &[u8]) -> Vec<u8> {
    extension(
        &[0x55, 0x1d, 32],
        true,
        &sequence(&[&sequence(&[&der(6, &[policy])])]),
    )
}

/// A critical policyConstraints with requireExplicitPolicy 0.
pub fn require_explicit_policy() -> Vec<u8> {
    extension(&[0x55, 0x1d, 36], true, &sequence(&[&der(0x80, &[&[0]])]))
}

/// Policies of the issuer's domain that stand for others in the subject's.
pub fn policy_mapping(issuer: &[u8], subject: &[u8]) -> Vec<u8> {
    let mapping = sequence(&[&der(6, &[issuer]), &der(6, &[subject])]);
    extension(&[0x55, 0x1d, 33], true, &sequence(&[&mapping]))
}

/// A critical inhibitAnyPolicy with skipCerts 0.
pub fn inhibit_any_policy() -> Vec<u8> {
    extension(&[0x55, 0x1d, 54], true, &der(2, &[&[0]]))
}

/// authorityInfoAccess with one `caIssuers` URL.
pub fn issuing_url(url: &str) -> Vec<u8> {
    let method = der(6, &[&[0x2b, 6, 1, 5, 5, 7, 48, 2]]);
    let access = sequence(&[&method, &der(0x86, &[url.as_bytes()])]);
    extension(&[0x2b, 6, 1, 5, 5, 7, 1, 1], false, &sequence(&[&access]))
}

/// A SEQUENCE of encoded parts.
pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    der(0x30, parts)
}

/// Tag, length and the parts as content.
pub fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match content.len() {
        short @ ..0x80 => out.push(short as u8),
        long => {
            let bytes = long.to_be_bytes();
            let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
            out.push(0x80 | (bytes.len() - zeros) as u8);
            out.extend_from_slice(&bytes[zeros..]);
        }
    }
    out.extend(content);
    out
}

/// A PEM block.
pub fn pem(label: &str, bytes: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).expect("base64 is ASCII"))
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}
