//! A throw-away certificate authority: root, intermediate and the leaf the coordinator serves.
//!
//! All keys are made in memory and never written anywhere. The served chain is leaf and
//! intermediate, as a well-configured public server does it, so that a runner which was given the
//! root alone has to build a path.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use secrecy::SecretString;

/// Makes leaves, and what a client needs to trust them.
pub(crate) struct Authority {
    /// The root certificate, PEM: what clients are given.
    pub(crate) root_pem: String,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

/// A leaf with its key.
pub(crate) struct Leaf {
    /// Leaf and intermediate, PEM, leaf first.
    pub(crate) chain_pem: String,
    /// The leaf's key, PEM.
    pub(crate) key_pem: SecretString,
}

/// Days the certificates are valid; a generated authority lives as long as its process.
const VALID_DAYS: i64 = 397;
/// Days of a certificate that is kept.
const KEPT_DAYS: i64 = 3650;

impl Authority {
    /// Makes root and intermediate.
    pub(crate) fn generate(now: Timestamp) -> Result<Self, rcgen::Error> {
        let root = CertifiedIssuer::self_signed(
            issuer("Courser throw-away root", 1, now),
            KeyPair::generate()?,
        )?;
        let intermediate = CertifiedIssuer::signed_by(
            issuer("Courser throw-away intermediate", 0, now),
            KeyPair::generate()?,
            &root,
        )?;
        Ok(Self {
            root_pem: root.pem(),
            intermediate,
        })
    }

    /// Makes a leaf for DNS names or IP addresses.
    pub(crate) fn leaf(&self, names: &[String], now: Timestamp) -> Result<Leaf, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut leaf = CertificateParams::new(names.to_vec())?;
        subject(&mut leaf, "Courser coordinator", now, VALID_DAYS);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        let leaf = leaf.signed_by(&key, &self.intermediate)?;
        Ok(Leaf {
            chain_pem: format!("{}{}", leaf.pem(), self.intermediate.pem()),
            key_pem: key.serialize_pem().into(),
        })
    }
}

/// A certificate that is nobody's but its own, for these names, for a place whose certificate has to stay the same.
pub(crate) fn self_signed(names: &[String], now: Timestamp) -> Result<Leaf, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(names.to_vec())?;
    subject(&mut leaf, "Courser OIDC issuer", now, KEPT_DAYS);
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = leaf.self_signed(&key)?;
    Ok(Leaf {
        chain_pem: leaf.pem(),
        key_pem: key.serialize_pem().into(),
    })
}

fn issuer(name: &str, path_length: u8, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    subject(&mut params, name, now, VALID_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

/// Names the certificate and dates it from yesterday, so that a clock a little behind accepts it.
fn subject(params: &mut CertificateParams, name: &str, now: Timestamp, valid_days: i64) {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Courser");
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    let day = |offset: i64| {
        let date = now
            .saturating_add(jiff::SignedDuration::from_hours(24 * offset))
            .unwrap_or(now)
            .to_zoned(TimeZone::UTC)
            .date();
        rcgen::date_time_ymd(
            i32::from(date.year()),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    params.not_before = day(-1);
    params.not_after = day(valid_days);
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use x509_parser::pem::Pem;
    use x509_parser::prelude::*;

    use super::*;

    #[test]
    fn the_chain_leads_from_leaf_over_intermediate_to_the_root_and_names_all_hosts() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let authority = Authority::generate(now).unwrap();
        let served = authority.leaf(&names, now).unwrap();
        let pems = |text: &str| -> Vec<Vec<u8>> {
            Pem::iter_from_buffer(text.as_bytes())
                .map(|pem| pem.unwrap().contents)
                .collect()
        };
        let chain = pems(&served.chain_pem);
        let root = pems(&authority.root_pem);
        assert_eq!((chain.len(), root.len()), (2, 1));
        let leaf = X509Certificate::from_der(&chain[0]).unwrap().1;
        let intermediate = X509Certificate::from_der(&chain[1]).unwrap().1;
        let root = X509Certificate::from_der(&root[0]).unwrap().1;
        assert_eq!(leaf.issuer(), intermediate.subject());
        assert_eq!(intermediate.issuer(), root.subject());
        assert_eq!(root.issuer(), root.subject());
        assert!(!leaf.is_ca() && intermediate.is_ca() && root.is_ca());
        let at = ASN1Time::from_timestamp(now.as_second()).unwrap();
        assert!(
            [&leaf, &intermediate, &root]
                .iter()
                .all(|c| c.validity().is_valid_at(at))
        );
        let san = leaf.subject_alternative_name().unwrap().unwrap();
        assert_eq!(san.value.general_names.len(), 3);
        assert!(served.key_pem.expose_secret().contains("PRIVATE KEY"));
        assert!(!served.chain_pem.contains("PRIVATE KEY"));
    }

    #[test]
    fn every_authority_has_keys_of_its_own() {
        let now = Timestamp::UNIX_EPOCH;
        let first = Authority::generate(now).unwrap();
        let second = Authority::generate(now).unwrap();
        assert_ne!(first.root_pem, second.root_pem);
    }
}
