use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use super::*;
use crate::Generation;

/// PEM of a self-signed certificate.
fn certificate(name: &str, shape: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    shape(&mut params);
    let key = KeyPair::generate().expect("a key");
    params.self_signed(&key).expect("a certificate").pem()
}

fn root(name: &str) -> String {
    certificate(name, |_| {})
}

fn store(parts: &[(Source, &str)]) -> Store {
    let mut builder = Store::builder();
    for (source, text) in parts {
        builder = builder.add(source.clone(), text.as_bytes());
    }
    builder.build(Generation(1))
}

fn system(text: &str) -> Store {
    store(&[(Source::System("/etc/ssl/bundle.crt".into()), text)])
}

fn configured(text: &str) -> Store {
    store(&[(Source::Configured("/etc/ca.pem".into()), text)])
}

fn names(bundle: &Bundle) -> Vec<String> {
    let subject = |trusted: &TrustedCertificate| trusted.certificate().subject().to_string();
    bundle.private().iter().map(subject).collect()
}

#[test]
fn both_parts_are_in_it_and_the_text_reads_back_as_the_same_certificates() {
    let (public, private) = (root("Public"), root("Private"));
    let bundle = Bundle::compose(&system(&public), &configured(&private), None);
    let text = bundle.pem();
    assert!(
        text.starts_with("# CN=Private\n# configured file /etc/ca.pem, line 1\n-----BEGIN"),
        "{text}"
    );
    assert!(
        text.contains("# CN=Public\n# system store /etc/ssl/bundle.crt, line 1\n"),
        "{text}"
    );
    let read = system(&text);
    let subjects: Vec<_> = read
        .certificates()
        .iter()
        .map(|trusted| trusted.certificate().subject().to_string())
        .collect();
    assert_eq!(subjects, ["CN=Private", "CN=Public"]);
    assert_eq!(read.skipped(), []);
    assert_eq!(text, bundle.pem());
    assert_eq!(bundle.truststore(), bundle.truststore());
}

#[test]
fn only_authorities_for_servers_go_to_other_programs() {
    let root = root("Root");
    let pin = certificate("gitlab.example.com", |params| {
        params.is_ca = IsCa::ExplicitNoCa;
    });
    let cannot_sign = certificate("Cannot sign", |params| {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    let clients = certificate("For clients", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let servers = certificate("For servers", |params| {
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
    });
    let text = [&root, &pin, &cannot_sign, &clients, &servers]
        .map(String::as_str)
        .concat();
    let bundle = Bundle::compose(&Store::default(), &configured(&text), None);
    assert_eq!(names(&bundle), ["CN=Root", "CN=For servers"]);
    let left_out: Vec<_> = bundle
        .left_out()
        .iter()
        .map(|left| {
            (
                left.trusted.certificate().subject().to_string(),
                left.because,
            )
        })
        .collect();
    assert_eq!(
        left_out,
        [
            (
                "CN=gitlab.example.com".to_owned(),
                LeftOutBecause::NotAnAuthority
            ),
            ("CN=Cannot sign".to_owned(), LeftOutBecause::MayNotSign),
            ("CN=For clients".to_owned(), LeftOutBecause::NotForServers),
        ]
    );
    assert!(!bundle.pem().contains("gitlab.example.com"));
}

#[test]
fn the_operator_can_keep_anchors_back() {
    let (one, two) = (root("One"), root("Two"));
    let configured = configured(&(one + &two));
    let wanted = configured.certificates()[1].certificate().fingerprint();
    let bundle = Bundle::compose(&Store::default(), &configured, Some(&[wanted]));
    assert_eq!(names(&bundle), ["CN=Two"]);
    assert_eq!(bundle.left_out()[0].because, LeftOutBecause::KeptBack);
    let said = bundle.left_out()[0].to_string();
    assert!(
        said.starts_with("CN=One (configured file /etc/ca.pem line 1, SHA-256 "),
        "{said}"
    );
}

#[test]
fn a_configured_certificate_that_the_system_has_too_counts_once_and_as_private() {
    let both = root("Both");
    let bundle = Bundle::compose(&system(&both), &configured(&both), None);
    assert_eq!(names(&bundle), ["CN=Both"]);
    assert_eq!(bundle.system_count(), 0);
    assert_eq!(bundle.pem().matches("BEGIN CERTIFICATE").count(), 1);
}

#[test]
fn an_intermediate_without_its_root_is_told_apart() {
    let root_key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&root_key).expect("a certificate").pem();
    let issuer = rcgen::Issuer::from_params(&params, &root_key);
    let mut below = params.clone();
    below.distinguished_name = rcgen::DistinguishedName::new();
    below
        .distinguished_name
        .push(DnType::CommonName, "Intermediate");
    let key = KeyPair::generate().expect("a key");
    let intermediate = below.signed_by(&key, &issuer).expect("a certificate").pem();

    let count = |system_part: &str, text: &str| {
        let bundle = Bundle::compose(&system(system_part), &configured(text), None);
        bundle.without_root().count()
    };
    assert_eq!(count("", &intermediate), 1);
    assert_eq!(count("", &(intermediate.clone() + &root)), 0);
    assert_eq!(count(&root, &intermediate), 0);
    assert_eq!(count("", &root), 0);
}

#[test]
fn what_never_was_a_file_of_the_operator_stays_out() {
    let text = root("Throw-away");
    let inline = store(&[(Source::Inline("in memory".into()), &text)]);
    let bundle = Bundle::compose(&Store::default(), &inline, None);
    assert!(bundle.private().is_empty() && bundle.left_out().is_empty());
}

#[test]
fn a_name_cannot_begin_a_block() {
    let evil = root("x\n-----BEGIN CERTIFICATE-----");
    let text = Bundle::compose(&Store::default(), &configured(&evil), None).pem();
    assert_eq!(text.matches("-----BEGIN").count(), 1, "{text}");
    assert!(text.is_ascii());
    assert_eq!(pem::one_line("Büro\n-----BEGIN"), "B?ro?-?-BEGIN");
}

#[test]
fn a_truststore_names_its_entries_and_keeps_the_certificates_as_they_are() {
    let bundle = Bundle::compose(&Store::default(), &configured(&root("Root")), None);
    let certificate = bundle.private()[0].certificate();
    let store = bundle.truststore();
    let holds = |part: &[u8]| store.windows(part.len()).any(|window| window == part);
    assert!(holds(certificate.der()));
    let alias = format!("private-{}", certificate.fingerprint());
    let alias: Vec<u8> = alias.encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert!(holds(&alias));
    // One element, whose length is the rest of the file.
    assert_eq!(store[..2], [0x30, 0x82]);
    assert_eq!(
        usize::from(u16::from_be_bytes([store[2], store[3]])),
        store.len() - 4
    );
}
