//! Certificates to order: authorities, servers, clients; expired, of the wrong use, self-signed.

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, NameConstraints,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SanType, SignatureAlgorithm, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Starting point of certificates that nobody else signs.
pub struct Authority;

/// A certificate being described. Valid from 2024 to 2044 unless said otherwise.
pub struct Order<'a> {
    params: CertificateParams,
    key: &'static SignatureAlgorithm,
    issuer: Option<&'a Issued>,
    /// The key of another certificate; else one is made.
    existing_key: Option<KeyPair>,
}

/// A finished certificate with its key, and the certificates above it.
#[derive(Clone)]
pub struct Issued {
    params: CertificateParams,
    key: Arc<KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    /// From the issuer upwards; the last one signed itself.
    above: Vec<(CertificateDer<'static>, String)>,
}

impl Authority {
    /// A self-signed CA.
    pub fn root(name: &str) -> Order<'static> {
        authority(name, None)
    }

    /// A self-signed server certificate that is no CA.
    pub fn self_signed_server(names: &[&str]) -> Order<'static> {
        end_entity(names, ExtendedKeyUsagePurpose::ServerAuth, None)
    }
}

impl Issued {
    /// A CA below this one.
    pub fn intermediate(&self, name: &str) -> Order<'_> {
        authority(name, Some(self))
    }

    /// Another certificate for an authority that exists: its name and key, vouched for by this one.
    pub fn cross_signed(&self, authority: &Self) -> Order<'_> {
        let mut params = authority.params.clone();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::from_pem(&authority.key.serialize_pem());
        Order {
            params,
            issuer: Some(self),
            key: &PKCS_ECDSA_P256_SHA256,
            existing_key: Some(key.expect("a key that was written can be read")),
        }
    }

    /// The same certificate with the same key, valid again.
    pub fn renewed(&self) -> Order<'static> {
        let mut params = self.params.clone();
        params.not_before = date_time_ymd(2024, 1, 1);
        params.not_after = date_time_ymd(2044, 1, 1);
        let key = KeyPair::from_pem(&self.key.serialize_pem());
        Order {
            params,
            issuer: None,
            key: &PKCS_ECDSA_P256_SHA256,
            existing_key: Some(key.expect("a key that was written can be read")),
        }
    }

    /// A server certificate for DNS names and IP addresses.
    pub fn server(&self, names: &[&str]) -> Order<'_> {
        end_entity(names, ExtendedKeyUsagePurpose::ServerAuth, Some(self))
    }

    /// A client certificate.
    pub fn client(&self, name: &str) -> Order<'_> {
        end_entity(&[name], ExtendedKeyUsagePurpose::ClientAuth, Some(self))
    }

    /// The certificate alone.
    pub fn certificate_pem(&self) -> String {
        self.pem.clone()
    }

    /// What a server should send: the certificate and those above it, without the root.
    pub fn chain_pem(&self) -> String {
        let served = self.above.len().saturating_sub(1);
        let above = self.above[..served].iter().map(|(_, pem)| pem.as_str());
        std::iter::once(self.pem.as_str()).chain(above).collect()
    }

    /// The certificate and all above it, root included.
    pub fn full_chain_pem(&self) -> String {
        let above = self.above.iter().map(|(_, pem)| pem.as_str());
        std::iter::once(self.pem.as_str()).chain(above).collect()
    }

    /// The private key, PKCS#8.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The certificate, DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// [`Self::chain_pem`] as DER.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        let served = self.above.len().saturating_sub(1);
        let above = self.above[..served].iter().map(|(der, _)| der);
        std::iter::once(&self.certificate)
            .chain(above)
            .cloned()
            .collect()
    }

    /// The private key, DER.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

impl Order<'_> {
    /// Valid in 2020 only.
    #[must_use]
    pub fn expired(mut self) -> Self {
        self.params.not_before = date_time_ymd(2020, 1, 1);
        self.params.not_after = date_time_ymd(2021, 1, 1);
        self
    }

    /// Valid from 2090 on.
    #[must_use]
    pub fn not_yet_valid(mut self) -> Self {
        self.params.not_before = date_time_ymd(2090, 1, 1);
        self.params.not_after = date_time_ymd(2095, 1, 1);
        self
    }

    /// Says CA:TRUE, as `openssl req -x509` does for servers.
    #[must_use]
    pub fn marked_as_ca(mut self) -> Self {
        self.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self
    }

    /// Says CA:FALSE.
    #[must_use]
    pub fn marked_as_no_ca(mut self) -> Self {
        self.params.is_ca = IsCa::ExplicitNoCa;
        self
    }

    /// With these extended key usages and no others; none at all leaves the extension out.
    #[must_use]
    pub fn usages(mut self, usages: &[ExtendedKeyUsagePurpose]) -> Self {
        self.params.extended_key_usages = usages.to_vec();
        self
    }

    /// A CA that may have this many CAs below it.
    #[must_use]
    pub fn path_length(mut self, length: u8) -> Self {
        self.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(length));
        self
    }

    /// A CA for names below this domain only.
    #[must_use]
    pub fn only_below(mut self, domain: &str) -> Self {
        self.params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(domain.to_owned())],
            excluded_subtrees: Vec::new(),
        });
        self
    }

    /// With a critical extension that nobody knows.
    #[must_use]
    pub fn odd_critical_extension(mut self) -> Self {
        let mut odd = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55555, 1], vec![5, 0]);
        odd.set_criticality(true);
        self.params.custom_extensions.push(odd);
        self
    }

    /// With an RSA key of 2048 bits instead of one on P-256.
    #[must_use]
    pub fn rsa(mut self) -> Self {
        self.key = &PKCS_RSA_SHA256;
        self
    }

    /// Says that its issuer's certificate lies at these URLs (authority information access, caIssuers).
    #[must_use]
    pub fn issuer_at(mut self, urls: &[&str]) -> Self {
        let descriptions = urls.iter().map(|url| {
            let ca_issuers = element(6, &[&[0x2b, 6, 1, 5, 5, 7, 0x30, 2]]);
            element(0x30, &[&ca_issuers, &element(0x86, &[url.as_bytes()])])
        });
        let descriptions: Vec<u8> = descriptions.flatten().collect();
        let access = CustomExtension::from_oid_content(
            &[1, 3, 6, 1, 5, 5, 7, 1, 1],
            element(0x30, &[&descriptions]),
        );
        self.params.custom_extensions.push(access);
        self
    }

    /// With a subject common name.
    #[must_use]
    pub fn common_name(mut self, name: &str) -> Self {
        self.params
            .distinguished_name
            .push(DnType::CommonName, name);
        self
    }

    /// Makes key and certificate.
    pub fn issue(mut self) -> Issued {
        let key = self
            .existing_key
            .unwrap_or_else(|| KeyPair::generate_for(self.key).expect("a key can be generated"));
        // RFC 5280, 4.2.1.2 (1), as nearly all authorities do; some clients compute what they expect.
        let id = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, key.public_key_raw());
        self.params.key_identifier_method = KeyIdMethod::PreSpecified(id.as_ref().to_vec());
        let (certificate, above) = match self.issuer {
            None => (self.params.self_signed(&key), Vec::new()),
            Some(issuer) => {
                let signer = Issuer::from_params(&issuer.params, &*issuer.key);
                let own = (issuer.certificate.clone(), issuer.pem.clone());
                let above = std::iter::once(own).chain(issuer.above.iter().cloned());
                (self.params.signed_by(&key, &signer), above.collect())
            }
        };
        let certificate = certificate.expect("the parameters describe a certificate");
        Issued {
            params: self.params,
            key: Arc::new(key),
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            above,
        }
    }
}

/// How a PKCS#7 message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// With definite lengths.
    Der,
    /// With indefinite lengths, as streaming writers do.
    Ber,
}

/// A PKCS#7 "certs-only" message, the content of a `.p7c` file.
pub fn certs_only(certificates: &[&Issued], encoding: Encoding) -> Vec<u8> {
    let wrap = match encoding {
        Encoding::Der => element,
        Encoding::Ber => |tag: u8, parts: &[&[u8]]| {
            let content = parts.concat();
            [&[tag, 0x80], content.as_slice(), &[0, 0]].concat()
        },
    };
    let pkcs7 = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7];
    let kind = |number: u8| element(6, &[&pkcs7, &[number]]);
    let bag: Vec<&[u8]> = certificates.iter().map(|one| one.der().as_ref()).collect();
    let signed_data = wrap(
        0x30,
        &[
            &[2, 1, 1],
            &wrap(0x31, &[]),
            &wrap(0x30, &[&kind(1)]),
            &wrap(0xa0, &bag),
            &wrap(0x31, &[]),
        ],
    );
    wrap(0x30, &[&kind(2), &wrap(0xa0, &[&signed_data])])
}

/// One DER element.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len().to_be_bytes();
    let zeros = length.iter().take_while(|byte| **byte == 0).count();
    let octets = &length[zeros..];
    let mut element = vec![tag];
    match content.len() {
        short @ 0..0x80 => element.push(short as u8),
        _ => {
            element.push(0x80 | octets.len() as u8);
            element.extend_from_slice(octets);
        }
    }
    element.extend(content);
    element
}

fn authority<'a>(name: &str, issuer: Option<&'a Issued>) -> Order<'a> {
    let mut order = blank(issuer).common_name(name);
    order.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    order.params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    order
}

fn end_entity<'a>(
    names: &[&str],
    usage: ExtendedKeyUsagePurpose,
    issuer: Option<&'a Issued>,
) -> Order<'a> {
    let mut order = blank(issuer).common_name(names.first().unwrap_or(&"nobody"));
    order.params.subject_alt_names = names
        .iter()
        .map(|name| match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName((*name).try_into().expect("the name is ASCII")),
        })
        .collect();
    order.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    order.params.extended_key_usages = vec![usage];
    order
}

fn blank(issuer: Option<&Issued>) -> Order<'_> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2044, 1, 1);
    params.use_authority_key_identifier_extension = issuer.is_some();
    Order {
        params,
        key: &PKCS_ECDSA_P256_SHA256,
        issuer,
        existing_key: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_leaf_first_and_leave_the_root_out() {
        let root = Authority::root("R").issue();
        let middle = root.intermediate("I").issue();
        let leaf = middle.server(&["a.test", "127.0.0.1"]).issue();
        assert_eq!(
            leaf.chain_pem(),
            leaf.certificate_pem() + &middle.certificate_pem()
        );
        assert_eq!(
            leaf.full_chain_pem(),
            leaf.chain_pem() + &root.certificate_pem()
        );
        assert_eq!(leaf.chain().len(), 2);
        assert_eq!(root.chain_pem(), root.certificate_pem());
    }
}
