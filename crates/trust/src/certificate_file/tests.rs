use proptest::prelude::*;

use super::*;
use crate::pkcs7::tests::bag;

fn authority(name: &str) -> (String, Vec<u8>, String) {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (
        certificate.pem(),
        certificate.der().to_vec(),
        key.serialize_pem(),
    )
}

fn read(bytes: &[u8]) -> (FileForm, Vec<String>) {
    let file = CertificateFile::read(bytes, None);
    let names = file.certificates();
    let names = names.map(|one| one.subject().to_string()).collect();
    (file.form, names)
}

#[test]
fn certificates_are_found_in_every_form_that_people_have() {
    let (pem, der, key) = authority("one");
    let (_, other_der, _) = authority("two");
    let pem = pem.replace("\r\n", "\n");
    let body: String = pem.lines().filter(|line| !line.contains('-')).collect();
    let wide: Vec<u8> = std::iter::once(0xfeff)
        .chain(pem.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    let indented: String = pem.lines().map(|line| format!("    {line}\n")).collect();
    let trusted = pem.replace(" CERTIFICATE", " TRUSTED CERTIFICATE");
    let message = bag(&[&der]);
    let message_pem = crate::pem::encode_as("PKCS7", &message);
    let one = ["CN=one".to_owned()];
    let cases: [(&str, Vec<u8>, FileForm); 15] = [
        ("plain", pem.clone().into(), FileForm::Pem),
        ("with a key", format!("{key}{pem}").into(), FileForm::Pem),
        ("CRLF", pem.replace('\n', "\r\n").into(), FileForm::Pem),
        ("CR", pem.replace('\n', "\r").into(), FileForm::Pem),
        ("BOM", format!("\u{feff}{pem}").into(), FileForm::Pem),
        ("indented", indented.into(), FileForm::Pem),
        (
            "escaped",
            format!("\"{}\"", pem.replace('\n', "\\n")).into(),
            FileForm::Pem,
        ),
        ("trusted", trusted.into(), FileForm::Pem),
        ("UTF-16", wide, FileForm::Pem),
        ("PKCS#7 in PEM", message_pem.into(), FileForm::Pem),
        (
            "cut off",
            pem.replace("-----END CERTIFICATE-----\n", "").into(),
            FileForm::Pem,
        ),
        ("bare", body.into(), FileForm::BareBase64),
        ("DER", der.clone(), FileForm::Der),
        (
            "DER and a line end",
            [&der[..], b"\n"].concat(),
            FileForm::Der,
        ),
        ("PKCS#7", message, FileForm::Pkcs7),
    ];
    for (name, bytes, form) in cases {
        assert_eq!(read(&bytes), (form, one.to_vec()), "{name}");
    }
    let both = [der, other_der].concat();
    assert_eq!(read(&both).1, ["CN=one", "CN=two"]);
    let joined = format!("{}{pem}", pem.trim_end());
    assert_eq!(read(joined.as_bytes()).1.len(), 2);
}

#[test]
fn what_is_no_certificate_is_called_by_its_name() {
    let cases: [(&[u8], FileForm); 7] = [
        (b"", FileForm::Empty),
        (b"\n<!DOCTYPE html><html><title>404</title>", FileForm::Html),
        (b"ssh-ed25519 AAAA x@y", FileForm::SshKey),
        (b"hello", FileForm::Text),
        (&[0xfe, 0xed, 0xfe, 0xed, 0, 0], FileForm::JavaKeyStore),
        (&[0x7f, b'E', b'L', b'F', 0, 0, 0, 0], FileForm::Binary),
        (&[0x30, 0x03, 0x02, 0x01, 0x05], FileForm::Text),
    ];
    for (bytes, form) in cases {
        let (found, names) = read(bytes);
        assert_eq!((found, names.len()), (form, 0), "{bytes:02x?}");
    }
}

#[test]
fn keys_are_recognised_and_stay_out_of_debug_output() {
    let (_, _, key) = authority("one");
    let file = CertificateFile::read(key.as_bytes(), None);
    let found = file.private_keys().next().expect("a key");
    assert!(!found.is_encrypted());
    assert_eq!(found.to_pem(), key.replace("\r\n", "\n"));
    let secret = key.lines().nth(1).expect("a line").to_owned();
    let shown = format!("{file:?}");
    assert!(
        !shown.contains(&secret) && shown.contains("PrivateKey"),
        "{shown}"
    );
    let der = from_base64(secret.as_bytes());
    assert!(der.is_some());
}

proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        CertificateFile::read(&bytes, Some("secret"));
        CertificateFile::read(&[b"-----BEGIN ", &bytes[..]].concat(), None);
        CertificateFile::read(&[&[0x30, 0x80], &bytes[..]].concat(), None);
    }

    #[test]
    fn a_damaged_certificate_does_not_panic(at in 0usize..400, byte: u8) {
        let (_, mut der, _) = authority("one");
        let at = at % der.len();
        der[at] = byte;
        CertificateFile::read(&der, None);
        CertificateFile::read(&bag(&[&der]), None);
    }
}
