//! DER and PEM that is not quite right, served and trusted.

use super::*;

/// Where the odd certificate stands.
fn everywhere(suite: &mut Suite, id: &str, odd: &[u8]) {
    let root = ca("root").self_signed();
    let good = leaf(HOST).issued_by(&root);
    let odd = pem("CERTIFICATE", odd);
    suite
        .add(&format!("encoding/{id}-leaf"), &[&root], &[])
        .chain_text(odd.clone());
    suite
        .add(&format!("encoding/{id}-irrelevant"), &[&root], &[])
        .chain_text(good.pem() + &odd);
    suite
        .add(&format!("encoding/{id}-among-roots"), &[], &[&good])
        .ca_text(odd + &root.pem());
}

pub(super) fn add(suite: &mut Suite) {
    let base = leaf(HOST).self_signed().certificate.to_vec();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = base.clone();
        change(&mut bytes);
        bytes
    };
    everywhere(suite, "trailing-octet", &changed(&|bytes| bytes.push(0)));
    everywhere(suite, "cut", &changed(&|bytes| bytes.truncate(100)));
    everywhere(suite, "empty-sequence", &[0x30, 0]);
    everywhere(suite, "text", b"this is no certificate");
    everywhere(
        suite,
        "indefinite-length",
        &changed(&|bytes| bytes[1] = 0x80),
    );
    everywhere(
        suite,
        "version-4",
        &leaf(HOST).version(4).self_signed().certificate,
    );
    everywhere(
        suite,
        "version-1-with-extensions",
        &leaf(HOST).version(1).self_signed().certificate,
    );

    let extensions: Vec<(&str, Vec<u8>)> = vec![
        ("duplicate", unknown_extension(false)),
        (
            "aki-critical",
            extension(&[0x55, 0x1d, 35], true, &sequence(&[&der(0x80, &[&[1]])])),
        ),
        (
            "ski-critical",
            extension(&[0x55, 0x1d, 14], true, &der(4, &[&[1]])),
        ),
        ("ski-malformed", extension(&[0x55, 0x1d, 14], false, &[1])),
        (
            "aia-critical",
            extension(&[0x2b, 6, 1, 5, 5, 7, 1, 1], true, &sequence(&[])),
        ),
        (
            "aia-malformed",
            extension(&[0x2b, 6, 1, 5, 5, 7, 1, 1], false, &[0x30, 5, 1]),
        ),
        (
            "crl-points-critical",
            extension(&[0x55, 0x1d, 31], true, &sequence(&[])),
        ),
        (
            "crl-points-malformed",
            extension(&[0x55, 0x1d, 31], false, &[2, 1, 1]),
        ),
        (
            "crl-points-odd-name",
            extension(
                &[0x55, 0x1d, 31],
                false,
                &sequence(&[&sequence(&[&der(
                    0xa0,
                    &[&der(0xa0, &[&der(0x82, &[b"x"])])],
                )])]),
            ),
        ),
        (
            "key-usage-malformed",
            extension(&[0x55, 0x1d, 15], true, &der(3, &[&[9, 0]])),
        ),
        (
            "key-usage-long",
            extension(&[0x55, 0x1d, 15], true, &der(3, &[&[7, 0x80, 0x80]])),
        ),
        (
            "basic-constraints-malformed",
            extension(&[0x55, 0x1d, 19], true, &[0x30, 1]),
        ),
        (
            "subject-directory-attributes-critical",
            extension(&[0x55, 0x1d, 9], true, &sequence(&[])),
        ),
        (
            "issuer-alternative-name-critical",
            extension(&[0x55, 0x1d, 18], true, &sequence(&[])),
        ),
        (
            "tls-feature-critical",
            extension(
                &[0x2b, 6, 1, 5, 5, 7, 1, 24],
                true,
                &sequence(&[&der(2, &[&[5]])]),
            ),
        ),
        (
            "precertificate-poison",
            extension(&[0x2b, 6, 1, 4, 1, 0xd6, 0x79, 2, 4, 3], true, &der(5, &[])),
        ),
        ("empty-value", extension(&[0x2a, 3, 4], false, &[])),
        (
            "critical-false-written",
            sequence(&[
                &der(6, &[&[0x2a, 3, 4]]),
                &der(1, &[&[0]]),
                &der(4, &[&[5, 0]]),
            ]),
        ),
        (
            "critical-of-two-octets",
            sequence(&[
                &der(6, &[&[0x2a, 3, 4]]),
                &der(1, &[&[0xff, 0xff]]),
                &der(4, &[&[5, 0]]),
            ]),
        ),
        (
            "trailing-field",
            sequence(&[&der(6, &[&[0x2a, 3, 4]]), &der(4, &[&[5, 0]]), &der(5, &[])]),
        ),
        (
            "malformed-oid",
            sequence(&[&der(6, &[&[0x80, 1]]), &der(4, &[&[5, 0]])]),
        ),
        (
            "policy-mapping-malformed",
            extension(&[0x55, 0x1d, 33], false, &sequence(&[&der(2, &[&[1]])])),
        ),
        (
            "inhibit-any-negative",
            extension(&[0x55, 0x1d, 54], true, &der(2, &[&[0xff]])),
        ),
    ];
    for (id, odd) in extensions {
        let mut draft = leaf(HOST).with(odd.clone());
        if id == "duplicate" {
            draft = draft.with(odd.clone());
        }
        suite.leaf(&format!("extension/{id}-on-leaf"), draft);
        let mut draft = ca("root").with(odd.clone());
        if id == "duplicate" {
            draft = draft.with(odd.clone());
        }
        // The forms of a CA that has the extension already are cases of their own.
        if !matches!(&odd[..], [.., 0x55, 0x1d, 15 | 19, _, _, _]) {
            suite.root(&format!("extension/{id}-on-root"), draft);
        }
    }

    // Strings in names.
    let attribute = |tag: u8, text: &[u8]| {
        let value = sequence(&[&der(6, &[&[0x55, 4, 3]]), &der(tag, &[text])]);
        sequence(&[&der(0x31, &[&value])])
    };
    for (id, subject) in [
        ("printable", attribute(0x13, b"gitlab")),
        ("printable-with-at", attribute(0x13, b"git@lab")),
        ("printable-with-asterisk", attribute(0x13, b"*.example.com")),
        ("utf8-invalid", attribute(0x0c, &[0xff])),
        ("ia5", attribute(0x16, b"git@lab")),
        ("ia5-not-ascii", attribute(0x16, &[0xe9])),
        ("t61", attribute(0x14, &[0xe9])),
        ("bmp", attribute(0x1e, &[0, b'a'])),
        ("bmp-odd", attribute(0x1e, &[0])),
        ("bmp-surrogate", attribute(0x1e, &[0xd8, 0])),
        ("numeric", attribute(0x12, b"12 34")),
        ("numeric-with-letter", attribute(0x12, b"12a")),
        ("visible", attribute(0x1a, b"gitlab")),
        ("universal", attribute(0x1c, &[0, 0, 0, b'a'])),
        ("integer", attribute(2, &[1])),
        ("empty-set", sequence(&[&der(0x31, &[])])),
        ("two-in-one-set", {
            let one = sequence(&[&der(6, &[&[0x55, 4, 3]]), &der(0x0c, &[b"a"])]);
            let two = sequence(&[&der(6, &[&[0x55, 4, 10]]), &der(0x0c, &[b"b"])]);
            sequence(&[&der(0x31, &[&one, &two])])
        }),
    ] {
        suite.leaf(
            &format!("subject/{id}"),
            Draft {
                subject: subject.clone(),
                ..leaf(HOST)
            },
        );
        suite.root(
            &format!("subject/{id}-of-root"),
            Draft { subject, ..ca("") },
        );
    }
    for (id, serial) in [
        ("zero", vec![0]),
        ("negative", vec![0xff]),
        ("not-minimal", vec![0, 1]),
        ("empty", vec![]),
        ("21-octets", vec![0x7f; 21]),
        ("high-bit-padded", vec![0, 0x80]),
    ] {
        suite.leaf(&format!("serial/{id}"), leaf(HOST).serial(&serial));
    }

    // PEM.
    let root = ca("root").self_signed();
    let intermediate = ca("intermediate").issued_by(&root);
    let below = leaf(HOST).issued_by(&intermediate);
    let good = root.pem();
    let trusted: Vec<(&str, String)> = vec![
        ("crlf", good.replace('\n', "\r\n")),
        ("byte-order-mark", format!("\u{feff}{good}")),
        (
            "comments",
            format!("# my root\nSubject: CN=root\n{good}# end\n"),
        ),
        (
            "indented",
            good.lines().map(|line| format!("  {line}\n")).collect(),
        ),
        ("blank-at-line-ends", good.replace('\n', " \n")),
        (
            "trusted-label",
            good.replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
        ),
        (
            "x509-label",
            good.replace("CERTIFICATE", "X509 CERTIFICATE"),
        ),
        (
            "headers",
            good.replace("-----\nM", "-----\nProc-Type: 4,ENCRYPTED\n\nM"),
        ),
        ("no-final-newline", good.trim_end().to_owned()),
        ("one-long-line", {
            let body: String = good.lines().filter(|line| !line.starts_with('-')).collect();
            format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
        }),
        ("all-on-one-line", good.replace('\n', "")),
        ("literal-newlines", good.replace('\n', "\\n")),
        (
            "garbage-before",
            format!("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n{good}"),
        ),
        (
            "unterminated-before",
            format!("-----BEGIN CERTIFICATE-----\nMIIB\n{good}"),
        ),
        (
            "joined",
            format!("{}{}", intermediate.pem().trim_end(), good),
        ),
        (
            "private-key-before",
            format!("-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n{good}"),
        ),
        ("twice", good.repeat(2)),
        (
            "lower-case-label",
            good.replace("CERTIFICATE", "certificate"),
        ),
        ("empty-lines", good.replace('\n', "\n\n")),
        (
            "end-of-another-label",
            good.replace("END CERTIFICATE", "END X509 CRL"),
        ),
    ];
    for (id, text) in trusted {
        suite
            .add(&format!("pem/{id}"), &[], &[&below, &intermediate])
            .ca_text(text);
    }
}
