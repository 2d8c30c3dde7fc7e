//! Messy bundles: which blocks count, as in Go, and what is said about the others (`dependencies.md` 3.3).

use courser_trust::{Generation, SkipReason, Source, Store};

use courser_testkit::forge::*;

/// Lines of the certificates that were found, and what was skipped.
type Found = (Vec<usize>, Skipped);
type Skipped = Vec<(usize, SkipReason)>;

fn read(bytes: &[u8]) -> Found {
    let store = Store::builder()
        .add(Source::Configured("ca.pem".into()), bytes)
        .build(Generation(1));
    let lines = store.certificates().iter().map(|one| one.line());
    let skipped = store.skipped().iter();
    (
        lines.collect(),
        skipped
            .map(|block| (block.line, block.reason.clone()))
            .collect(),
    )
}

fn one() -> String {
    ca("one").self_signed().pem()
}

fn lines(text: &str) -> usize {
    text.lines().count()
}

#[test]
fn clean_bundles_give_all_their_certificates() {
    let (first, second) = (one(), one());
    let n = lines(&first);
    let cases: [(String, Vec<usize>); 6] = [
        (format!("{first}{second}"), vec![1, n + 1]),
        (
            format!("# a comment\n\n{first}trailing words\n{second}"),
            vec![3, n + 4],
        ),
        (first.replace('\n', "\r\n"), vec![1]),
        (first.trim_end().to_owned(), vec![1]),
        (first.replace("-----\n", "-----  \t\n"), vec![1]),
        (first.replace("\nMII", "\n  MII"), vec![1]),
    ];
    for (text, expected) in cases {
        assert_eq!(read(text.as_bytes()), (expected, Vec::new()), "{text}");
    }
}

#[test]
fn stray_octets_before_the_first_line_hide_nothing() {
    for stray in [
        &[0xff, 0xfe, b'\n'][..],
        &[0xfe, 0xff, b'\n'],
        b"-\0-\0\n",
        b"0\n",
    ] {
        let text = [stray, one().as_bytes()].concat();
        assert_eq!(read(&text).0, [2], "{stray:x?}");
    }
}

#[test]
fn a_certificate_that_comes_twice_counts_once() {
    let text = one();
    let store = Store::builder()
        .add(Source::System("/etc/ssl/cert.pem".into()), text.as_bytes())
        .add(Source::Configured("ca.pem".into()), text.as_bytes())
        .build(Generation(1));
    assert_eq!(store.certificates().len(), 1);
    assert!(matches!(
        store.certificates()[0].source(),
        Source::System(_)
    ));
    let counts: Vec<usize> = store
        .consulted()
        .iter()
        .map(|one| one.certificates)
        .collect();
    assert_eq!(counts, [1, 1]);
}

#[test]
fn files_that_are_no_pem_at_all_are_named() {
    let certificate = ca("one").self_signed();
    let text = certificate.pem();
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: [(Vec<u8>, SkipReason); 8] = [
        (Vec::new(), SkipReason::EmptyFile),
        (b"nothing here\n".to_vec(), SkipReason::NoPem),
        (certificate.certificate.to_vec(), SkipReason::Der),
        ([&[0xff, 0xfe][..], &wide].concat(), SkipReason::Utf16),
        (wide, SkipReason::Utf16),
        (
            text.replace('\n', "\r").into_bytes(),
            SkipReason::BareCarriageReturns,
        ),
        (
            text.replace('\n', "\\n").into_bytes(),
            SkipReason::LiteralNewlines,
        ),
        (vec![0x30, 0x82], SkipReason::NoPem),
    ];
    for (bytes, expected) in cases {
        assert_eq!(read(&bytes), (Vec::new(), vec![(1, expected)]));
    }
}

#[test]
fn each_skipped_block_is_reported_with_its_line_and_reason() {
    let good = one();
    let n = lines(&good);
    let body = good
        .trim_end()
        .strip_prefix("-----BEGIN CERTIFICATE-----\n")
        .and_then(|text| text.strip_suffix("\n-----END CERTIFICATE-----"))
        .expect("a body");
    let der = ca("one").self_signed().certificate;
    let indented: String = good.lines().map(|line| format!("  {line}\n")).collect();
    let negative = ca("negative").serial(&[0x80]).self_signed().pem();
    let cases: Vec<(String, Vec<usize>, Skipped)> = vec![
        (
            format!("\u{feff}{good}{good}"),
            vec![n + 1],
            vec![(1, SkipReason::ByteOrderMark)],
        ),
        (
            format!("{indented}{good}"),
            vec![n + 1],
            vec![(1, SkipReason::Indented)],
        ),
        // Two certificates joined on one line: Go finds neither.
        (
            format!("{}{good}", good.trim_end()),
            vec![],
            vec![(1, SkipReason::Joined), (n, SkipReason::Joined)],
        ),
        (
            format!("-----BEGIN CERTIFICATE-----\n{body}\n{good}"),
            vec![n],
            vec![(1, SkipReason::Unterminated)],
        ),
        (
            good.replace("END CERTIFICATE", "END CERT"),
            vec![],
            vec![(1, SkipReason::MalformedEnd)],
        ),
        (
            good.replace("-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE----"),
            vec![],
            vec![(1, SkipReason::MalformedBegin)],
        ),
        (
            good.replacen("MII", "M!I", 1),
            vec![],
            vec![(1, SkipReason::Base64)],
        ),
        (
            good.replace(
                "CERTIFICATE-----\nMII",
                "CERTIFICATE-----\nComment: x\n\nMII",
            ),
            vec![],
            vec![(1, SkipReason::Headers)],
        ),
        (
            pem("TRUSTED CERTIFICATE", &der),
            vec![],
            vec![(1, SkipReason::TrustedCertificate)],
        ),
        (
            pem("X509 CERTIFICATE", &der),
            vec![],
            vec![(
                1,
                SkipReason::OtherCertificateLabel("X509 CERTIFICATE".into()),
            )],
        ),
        (
            pem("PKCS7", &[0x30, 0]),
            vec![],
            vec![(1, SkipReason::Pkcs7)],
        ),
        (
            format!("{}{good}", pem("PRIVATE KEY", &[0x30, 0])),
            vec![4],
            vec![(1, SkipReason::PrivateKey)],
        ),
        (
            pem("X509 CRL", &[0x30, 0]),
            vec![],
            vec![(1, SkipReason::OtherBlock("X509 CRL".into()))],
        ),
    ];
    for (text, certificates, skipped) in cases {
        assert_eq!(read(text.as_bytes()), (certificates, skipped), "{text}");
    }
    let (found, skipped) = read(format!("{good}{negative}").as_bytes());
    assert_eq!(found, [1]);
    assert_eq!(skipped[0].0, n + 1);
    assert_eq!(
        skipped[0].1.to_string(),
        "not a usable certificate: negative serial number"
    );
}

#[test]
fn a_report_names_file_line_reason_and_command() {
    let der = ca("one").self_signed().certificate;
    let store = Store::builder()
        .add(Source::Configured("/etc/ca.der".into()), &der)
        .build(Generation(1));
    assert_eq!(
        store.skipped()[0].to_string(),
        "/etc/ca.der:1: this file is a DER certificate, not PEM; convert it to PEM: \
         courser trust import /etc/ca.der --to /etc/ca.der --yes"
    );
}

#[test]
fn the_proposed_commands_repair_the_file() {
    let one = one();
    let wide: Vec<u8> = format!("\u{feff}{one}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let damaged: [(Vec<u8>, usize); 8] = [
        (wide, 1),
        (one.replace('\n', "\r").into_bytes(), 1),
        (one.replace('\n', "\\n").into_bytes(), 1),
        (format!("\u{feff}{one}").into_bytes(), 1),
        (
            one.lines()
                .map(|line| format!("\t{line}\n"))
                .collect::<String>()
                .into_bytes(),
            1,
        ),
        (
            format!("{}{}", one.trim_end(), ca("two").self_signed().pem()).into_bytes(),
            2,
        ),
        (
            one.replace("CERTIFICATE", "X509 CERTIFICATE").into_bytes(),
            1,
        ),
        (format!("junk {one}").into_bytes(), 1),
    ];
    let directory = tempfile::tempdir().expect("a directory");
    // A name that a shell would take apart.
    let file = directory.path().join("it's a $(file).crt");
    for (bytes, expected) in damaged {
        std::fs::write(&file, &bytes).expect("a file");
        let read = || {
            let bytes = std::fs::read(&file).expect("the file");
            Store::builder()
                .add(Source::Configured(file.clone()), &bytes)
                .build(Generation(1))
        };
        let before = read();
        let block = &before.skipped()[0];
        let command = block.repair().command.expect("a command");
        let status = std::process::Command::new("sh")
            .args(["-c", &command])
            .status()
            .expect("a shell");
        assert!(status.success(), "{command}");
        assert_eq!(read().certificates().len(), expected, "{command}");
    }
}

#[test]
fn a_line_full_of_begins_is_read_in_one_go() {
    // As much as is read of a file. What stands before each was once looked at each time: minutes.
    let count = 4 * 1024 * 1024 / 11;
    let started = std::time::Instant::now();
    let (found, skipped) = read(("-----BEGIN ".repeat(count) + "\n").as_bytes());
    assert!(started.elapsed() < std::time::Duration::from_secs(20));
    assert!(found.is_empty());
    assert_eq!(skipped.len(), count);
    assert_eq!(skipped[0], (1, SkipReason::MalformedBegin));
    assert_eq!(skipped[1], (1, SkipReason::Joined));
}
