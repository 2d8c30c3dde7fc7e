//! The rows of `dependencies.md` 3.2: what is accepted with one trust file, and in which words the rest is refused.

use courser_trust::{
    Generation, PeerName, Source, Store, Usage, VerifiedChains, VerifyError, verify,
};
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use courser_testkit::forge::*;

pub(crate) const HOST: &str = "gitlab.example.com";
const UNKNOWN: &str = "x509: certificate signed by unknown authority";
const CANNOT_SIGN: &str = "parent certificate cannot sign this kind of certificate";

pub(crate) fn store(trusted: &[&Identity]) -> Store {
    let text: String = trusted.iter().map(|identity| identity.pem()).collect();
    Store::builder()
        .add(Source::Configured("/etc/ca.pem".into()), text.as_bytes())
        .build(Generation(1))
}

pub(crate) fn judge(
    trusted: &[&Identity],
    served: &[&Identity],
    host: &str,
) -> Result<VerifiedChains, VerifyError> {
    judge_for(trusted, served, host, Usage::ServerAuth)
}

fn judge_for(
    trusted: &[&Identity],
    served: &[&Identity],
    host: &str,
    usage: Usage,
) -> Result<VerifiedChains, VerifyError> {
    let chain: Vec<CertificateDer<'static>> = served
        .iter()
        .map(|identity| identity.certificate.clone())
        .collect();
    let (leaf, intermediates) = chain.split_first().expect("a leaf");
    let name = PeerName::from_host(host);
    verify(
        leaf,
        intermediates,
        &store(trusted),
        Some(&name),
        now(),
        usage,
    )
}

/// The number of certificates in the first chain.
fn accepted(verdict: Result<VerifiedChains, VerifyError>) -> usize {
    match verdict {
        Ok(chains) => chains.chains()[0].certificates().len(),
        Err(error) => panic!("refused: {error}"),
    }
}

fn refused(verdict: Result<VerifiedChains, VerifyError>, words: &str) {
    match verdict {
        Ok(_) => panic!("accepted instead of {words:?}"),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(words), "{text:?} lacks {words:?}");
        }
    }
}

#[test]
fn a_trusted_leaf_stands_for_itself_whatever_it_is() {
    let root = ca("root").self_signed();
    let odd_signature = Draft {
        claimed_algorithm: Some(rsa_algorithm(5)),
        ..leaf(HOST)
    };
    let leaves = [
        (
            "self-signed CA:TRUE",
            leaf(HOST).with(basic_constraints(true, None)).self_signed(),
        ),
        ("CA-signed", leaf(HOST).issued_by(&root)),
        (
            "self-signed CA:FALSE",
            leaf(HOST)
                .with(basic_constraints(false, None))
                .self_signed(),
        ),
        (
            "self-signed without basicConstraints",
            leaf(HOST).self_signed(),
        ),
        ("SHA-1 self-signed", odd_signature.self_signed()),
        (
            "with unique ids",
            Draft {
                unique_ids: true,
                ..leaf(HOST)
            }
            .self_signed(),
        ),
        (
            "any usage",
            leaf(HOST)
                .with(extended_key_usage(&[ANY_USAGE]))
                .self_signed(),
        ),
    ];
    for (what, leaf) in &leaves {
        let verdict = judge(&[leaf], &[leaf], HOST);
        assert_eq!(accepted(verdict), 1, "{what}");
    }
}

#[test]
fn a_pin_still_needs_dates_usage_name_and_a_usable_key() {
    let cases = [
        (
            leaf(HOST).valid("20250101000000Z", "20251231235959Z"),
            "x509: certificate has expired or is not yet valid: current time 2026-06-01T12:00:00Z is after \
             2025-12-31T23:59:59Z",
        ),
        (
            leaf(HOST).valid("20260701000000Z", "20261231235959Z"),
            "is before 2026-07-01T00:00:00Z",
        ),
        (
            leaf(HOST).with(extended_key_usage(&[CLIENT_AUTH])),
            "x509: certificate specifies an incompatible key usage",
        ),
        (
            leaf("other.example.com"),
            "x509: certificate is valid for other.example.com, not gitlab.example.com",
        ),
        (
            draft(HOST),
            "x509: certificate relies on legacy Common Name field, use SANs instead",
        ),
        (
            draft(HOST).version(1),
            "x509: certificate relies on legacy Common Name field, use SANs instead",
        ),
        (
            draft("somebody"),
            "x509: certificate is not valid for any names, but wanted to match gitlab.example.com",
        ),
        (
            leaf(HOST).with(unknown_extension(true)),
            "x509: unhandled critical extension",
        ),
        (
            Draft {
                key_info: Some(rsa_key_info(128)),
                ..leaf(HOST)
            },
            "tls: server sent certificate containing RSA key of 1024 bits, 2048 to 8192 can be used",
        ),
        (
            Draft {
                key_info: Some(rsa_key_info(1025)),
                ..leaf(HOST)
            },
            "containing RSA key of 8200 bits",
        ),
        (
            Draft {
                key_info: Some(x25519_key_info()),
                ..leaf(HOST)
            },
            "tls: server's certificate contains an unsupported type of public key",
        ),
    ];
    for (draft, words) in cases {
        let leaf = draft.self_signed();
        refused(judge(&[&leaf], &[&leaf], HOST), words);
    }
}

#[test]
fn certificates_that_go_cannot_parse_are_refused_wherever_they_stand() {
    let root = ca("root").self_signed();
    let good = leaf(HOST).issued_by(&root);
    let duplicate = leaf(HOST)
        .with(unknown_extension(false))
        .with(unknown_extension(false));
    let cases = [
        (leaf(HOST).serial(&[0x80]), "negative serial number"),
        (leaf(HOST).serial(&[0, 1]), "malformed serial number"),
        (leaf(HOST).serial(&[]), "malformed serial number"),
        (duplicate, "duplicate extension with OID"),
        (
            leaf(HOST).with(name_constraints(None, None, false)),
            "empty name constraints extension",
        ),
        (
            draft(HOST).with(subject_alternative_names(&[(7, &[1, 2, 3])])),
            "cannot parse IP address of length 3",
        ),
        (
            leaf(HOST).with(extension(&[0x55, 0x1d, 14], true, &der(4, &[&[1]]))),
            "subject key identifier incorrectly marked critical",
        ),
        (
            leaf(HOST).with(extension(&[0x2b, 6, 1, 5, 5, 7, 1, 1], false, &[1])),
            "malformed authority info access",
        ),
    ];
    for (draft, words) in cases {
        let odd = draft.issued_by(&root);
        refused(judge(&[&root], &[&odd], HOST), words);
        refused(judge(&[&root], &[&good, &odd], HOST), words);
    }
}

#[test]
fn sound_chains_are_accepted() {
    let root = ca("root").self_signed();
    let intermediate = ca("intermediate").issued_by(&root);
    let leaf_of = |issuer: &Identity| leaf(HOST).issued_by(issuer);
    let plain = leaf_of(&root);
    assert_eq!(accepted(judge(&[&root], &[&plain], HOST)), 2);
    let below = leaf_of(&intermediate);
    assert_eq!(accepted(judge(&[&root], &[&below, &intermediate], HOST)), 3);
    // The root may be served too, in any order, among strangers, and twice.
    let stranger = ca("stranger").self_signed();
    let shuffled = [&below, &stranger, &root, &intermediate, &intermediate];
    assert_eq!(accepted(judge(&[&root], &shuffled, HOST)), 3);
    // A trusted intermediate ends a path; so does one that the user put into the file beside the root.
    assert_eq!(accepted(judge(&[&intermediate], &[&below], HOST)), 2);
    // A leaf with CA:TRUE.
    let ca_leaf = leaf(HOST)
        .with(basic_constraints(true, None))
        .issued_by(&root);
    assert_eq!(accepted(judge(&[&root], &[&ca_leaf], HOST)), 2);
    // A version 1 root.
    let old_root = draft("old root").version(1).self_signed();
    assert_eq!(
        accepted(judge(&[&old_root], &[&leaf_of(&old_root)], HOST)),
        2
    );
    // Long and zero serial numbers.
    let long = leaf(HOST).serial(&[0x7f; 24]).issued_by(&root);
    assert_eq!(accepted(judge(&[&root], &[&long], HOST)), 2);
    let zero = leaf(HOST).serial(&[0]).issued_by(&root);
    assert_eq!(accepted(judge(&[&root], &[&zero], HOST)), 2);
    // keyUsage without any bit counts as absent.
    let silent = draft("silent")
        .with(basic_constraints(true, None))
        .with(key_usage(&[]))
        .self_signed();
    assert_eq!(accepted(judge(&[&silent], &[&leaf_of(&silent)], HOST)), 2);
}

#[test]
fn all_chains_are_returned_and_written_once_each() {
    let old = ca("old root").self_signed();
    let new_key = KeyPair::generate().expect("a key");
    let cross = ca("new root").issued_with(new_key, &old);
    let new = {
        let key = KeyPair::try_from(cross.key.serialize_der()).expect("the same key");
        ca("new root").self_signed_with(key)
    };
    let leaf = leaf(HOST).issued_by(&new);
    let chains = judge(&[&old, &new], &[&leaf, &cross], HOST).expect("two ways up");
    let lengths: Vec<usize> = chains
        .chains()
        .iter()
        .map(|chain| chain.certificates().len())
        .collect();
    assert_eq!(lengths, [2, 3]);
    assert_eq!(chains.chains()[1].anchor().line(), 1);
    let expected = [&leaf, &new, &cross, &old]
        .map(|identity| identity.pem())
        .concat();
    assert_eq!(chains.to_pem(), expected.trim_end());
}

#[test]
fn issuers_that_are_no_cas_are_refused() {
    let not_ca = draft("server")
        .with(basic_constraints(false, None))
        .self_signed();
    let silent = draft("silent").self_signed();
    let no_sign = draft("no sign")
        .with(basic_constraints(true, None))
        .with(key_usage(&[0]))
        .self_signed();
    for anchor in [&not_ca, &silent, &no_sign] {
        let leaf = leaf(HOST).issued_by(anchor);
        let verdict = judge(&[anchor], &[&leaf], HOST);
        refused(verdict.clone(), UNKNOWN);
        refused(verdict, CANNOT_SIGN);
    }
    let root = ca("root").self_signed();
    for draft in [
        draft("intermediate").with(basic_constraints(false, None)),
        draft("intermediate"),
        draft("intermediate")
            .with(basic_constraints(true, None))
            .with(key_usage(&[0])),
    ] {
        let intermediate = draft.issued_by(&root);
        let leaf = leaf(HOST).issued_by(&intermediate);
        refused(judge(&[&root], &[&leaf, &intermediate], HOST), CANNOT_SIGN);
    }
    let old = draft("old").version(1).issued_by(&root);
    let leaf = leaf(HOST).issued_by(&old);
    refused(
        judge(&[&root], &[&leaf, &old], HOST),
        "certificate is not authorized to sign other certificates",
    );
}

#[test]
fn anchors_are_checked_like_other_issuers() {
    let cases = [
        (
            ca("root").valid("20200101000000Z", "20251231235959Z"),
            "x509: certificate has expired or is not yet valid: current time",
        ),
        (
            ca("root").valid("20270101000000Z", "20281231235959Z"),
            "is before 2027-01-01T00:00:00Z",
        ),
        (
            ca("root").with(unknown_extension(true)),
            "x509: unhandled critical extension (candidate authority certificate CN=root)",
        ),
        // 2.5.29.30 with a directoryName (tag 4), critical: not understood, as in Go.
        (
            ca("root").with(name_constraints(Some((0xa4, &name("x"))), None, true)),
            "x509: unhandled critical extension (candidate authority certificate CN=root)",
        ),
    ];
    for (draft, words) in cases {
        let root = draft.self_signed();
        let leaf = leaf(HOST).issued_by(&root);
        refused(judge(&[&root], &[&leaf], HOST), words);
    }
    let short = draft("short")
        .with(basic_constraints(true, Some(0)))
        .self_signed();
    let intermediate = ca("intermediate").issued_by(&short);
    let below = leaf(HOST).issued_by(&intermediate);
    refused(
        judge(&[&short], &[&below, &intermediate], HOST),
        "too many intermediates for path length constraint",
    );
    let direct = leaf(HOST).issued_by(&short);
    assert_eq!(accepted(judge(&[&short], &[&direct], HOST)), 2);
    // What an anchor's own signature is made with is nobody's business.
    let weak = Draft {
        claimed_algorithm: Some(rsa_algorithm(4)),
        ..ca("weak")
    }
    .self_signed();
    let below_weak = leaf(HOST).issued_by(&weak);
    assert_eq!(accepted(judge(&[&weak], &[&below_weak], HOST)), 2);
}

#[test]
fn weak_and_wrong_signatures_are_refused_with_the_reason() {
    let root = ca("root").self_signed();
    let sha1 = Draft {
        claimed_algorithm: Some(rsa_algorithm(5)),
        ..leaf(HOST)
    }
    .issued_by(&root);
    refused(
        judge(&[&root], &[&sha1], HOST),
        "insecure algorithm SHA1-RSA",
    );
    let md5 = Draft {
        claimed_algorithm: Some(rsa_algorithm(4)),
        ..leaf(HOST)
    }
    .issued_by(&root);
    refused(judge(&[&root], &[&md5], HOST), "insecure algorithm MD5-RSA");
    let mismatch = Draft {
        claimed_algorithm: Some(rsa_algorithm(11)),
        ..leaf(HOST)
    }
    .issued_by(&root);
    refused(
        judge(&[&root], &[&mismatch], HOST),
        "algorithm unimplemented",
    );
    // Same name, other key.
    let impostor = ca("root").self_signed();
    let forged = leaf(HOST).issued_by(&impostor);
    refused(
        judge(&[&root], &[&forged], HOST),
        "x509: ECDSA verification failure",
    );
    let weak_root = Draft {
        key_info: Some(rsa_key_info(128)),
        ..ca("weak")
    }
    .self_signed();
    let leaf = leaf(HOST).issued_by(&weak_root);
    refused(judge(&[&weak_root], &[&leaf], HOST), "RSA key of 1024 bits");
}

#[test]
fn every_key_of_private_cas_works() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let key = || KeyPair::generate_for(algorithm).expect("a key");
        let root = ca("root").self_signed_with(key());
        let leaf = leaf(HOST).issued_with(key(), &root);
        assert_eq!(
            accepted(judge(&[&root], &[&leaf], HOST)),
            2,
            "{algorithm:?}"
        );
    }
}

#[test]
fn extended_key_usages_nest() {
    let usages: [(&[&[u8]], bool, bool); 5] = [
        (&[SERVER_AUTH], true, false),
        (&[CLIENT_AUTH], false, true),
        (&[SERVER_AUTH, CLIENT_AUTH], true, true),
        (&[ANY_USAGE], true, true),
        (&[&[0x2b, 6, 1]], false, false),
    ];
    for (named, server, client) in usages {
        for holder in 0..3 {
            let with = |draft: Draft, place| {
                if place == holder {
                    draft.with(extended_key_usage(named))
                } else {
                    draft
                }
            };
            let root = with(ca("root"), 0).self_signed();
            let intermediate = with(ca("intermediate"), 1).issued_by(&root);
            let leaf = with(leaf(HOST), 2).issued_by(&intermediate);
            for (usage, expected) in [(Usage::ServerAuth, server), (Usage::ClientAuth, client)] {
                let verdict = judge_for(&[&root], &[&leaf, &intermediate], HOST, usage);
                assert_eq!(
                    verdict.is_ok(),
                    expected,
                    "{named:02x?} {usage:?} in {holder}"
                );
                if !expected {
                    refused(
                        verdict,
                        "x509: certificate specifies an incompatible key usage",
                    );
                }
            }
        }
    }
}

#[test]
fn names_come_from_the_san_alone() {
    let root = ca("root").self_signed();
    let v4: &[u8] = &[192, 0, 2, 1];
    let mapped: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1];
    type San<'a> = &'a [(u8, &'a [u8])];
    let cases: &[(San<'_>, &str, Option<&str>)] = &[
        (&[(7, v4)], "192.0.2.1", None),
        (&[(7, v4)], "::ffff:192.0.2.1", None),
        (&[(7, mapped)], "192.0.2.1", None),
        (
            &[(7, v4)],
            "192.0.2.2",
            Some("x509: certificate is valid for 192.0.2.1, not 192.0.2.2"),
        ),
        (
            &[(2, b"192.0.2.1")],
            "192.0.2.1",
            Some(
                "x509: cannot validate certificate for 192.0.2.1 because it doesn't contain any IP SANs",
            ),
        ),
        (&[(2, b"*.lan")], "gitlab.lan", None),
        (&[(2, b"*.localhost")], "a.localhost", None),
        (&[(2, b"gitlab")], "gitlab", None),
        (&[(2, b"GitLab.Example.com")], "gitlab.example.com.", None),
        (&[(2, b"under_score.lan")], "under_score.lan", None),
        (
            &[(2, b"*.example.com")],
            "a.b.example.com",
            Some("is valid for *.example.com, not"),
        ),
        (
            &[(2, b"*.example.com")],
            "example.com",
            Some("is valid for *.example.com, not"),
        ),
        (
            &[(6, b"https://gitlab.example.com")],
            HOST,
            Some("not valid for any names"),
        ),
    ];
    for (names, host, words) in cases {
        let leaf = draft("x")
            .with(subject_alternative_names(names))
            .issued_by(&root);
        let verdict = judge(&[&root], &[&leaf], host);
        match words {
            None => assert_eq!(accepted(verdict), 2, "{host}"),
            Some(words) => refused(verdict, words),
        }
    }
}

#[test]
fn name_constraints_bind_every_name_below() {
    const NOT: &str = "is not authorized to sign for this name";
    let uri: &[u8] = b"https://gitlab.example.com/x";
    let cases: Vec<(Vec<u8>, Option<&str>)> = vec![
        (
            name_constraints(Some((0x82, b"example.com")), None, true),
            None,
        ),
        (
            name_constraints(Some((0x82, b".example.com")), None, true),
            None,
        ),
        (
            name_constraints(Some((0x82, b"example.org")), None, true),
            Some(NOT),
        ),
        (
            name_constraints(None, Some((0x82, b"gitlab.example.com")), true),
            Some(NOT),
        ),
        (
            name_constraints(None, Some((0x82, b"other.com")), false),
            None,
        ),
        (
            name_constraints(Some((0x87, &[10, 0, 0, 0, 255, 0, 0, 0])), None, true),
            None,
        ),
        (
            name_constraints(None, Some((0x87, &[10, 1, 0, 0, 255, 255, 0, 0])), true),
            Some(NOT),
        ),
        (
            name_constraints(Some((0x81, b"example.com")), None, true),
            None,
        ),
        (
            name_constraints(Some((0x81, b"other@example.com")), None, true),
            Some(NOT),
        ),
        (
            name_constraints(Some((0x86, b"gitlab.example.com")), None, true),
            None,
        ),
        (
            name_constraints(Some((0x86, b".com.example")), None, true),
            Some(NOT),
        ),
        // A directoryName that isn't critical is passed over.
        (
            name_constraints(Some((0xa4, &name("x"))), None, false),
            None,
        ),
    ];
    for (constraints, words) in cases {
        let root = ca("root").with(constraints).self_signed();
        let names: &[(u8, &[u8])] = &[
            (2, HOST.as_bytes()),
            (7, &[10, 1, 2, 3]),
            (1, b"admin@example.com"),
            (6, uri),
        ];
        let leaf = draft("x")
            .with(subject_alternative_names(names))
            .issued_by(&root);
        let verdict = judge(&[&root], &[&leaf], HOST);
        match words {
            None => assert_eq!(accepted(verdict), 2),
            Some(words) => refused(verdict, words),
        }
    }
}

#[test]
fn critical_policies_are_understood() {
    let policy: &[u8] = &[0x2a, 3, 4];
    let root = ca("root").self_signed();
    let plain = leaf(HOST).with(policies(policy)).issued_by(&root);
    assert_eq!(accepted(judge(&[&root], &[&plain], HOST)), 2);

    let demanding = ca("demanding")
        .with(policies(policy))
        .with(require_explicit_policy())
        .issued_by(&root);
    let with = leaf(HOST).with(policies(policy)).issued_by(&demanding);
    assert_eq!(accepted(judge(&[&root], &[&with, &demanding], HOST)), 3);
    for draft in [leaf(HOST), leaf(HOST).with(policies(&[0x2a, 3, 5]))] {
        let without = draft.issued_by(&demanding);
        refused(
            judge(&[&root], &[&without, &demanding], HOST),
            "x509: no valid chains built",
        );
    }
}

#[test]
fn policies_may_be_mapped_and_any_policy_inhibited() {
    let (outer, inner): (&[u8], &[u8]) = (&[0x2a, 3, 4], &[0x2a, 3, 5]);
    let any: &[u8] = &[0x55, 0x1d, 32, 0];
    let root = ca("root").self_signed();
    let strict = |own: &[u8]| {
        ca("issuer")
            .with(policies(own))
            .with(require_explicit_policy())
    };
    let mapping = || strict(outer).with(policy_mapping(outer, inner));
    let cases = [
        (mapping(), inner, true),
        (mapping(), outer, false),
        (strict(outer).with(policy_mapping(outer, any)), inner, false),
        (strict(outer), any, true),
        (strict(any), outer, true),
        (strict(outer).with(inhibit_any_policy()), any, false),
        (strict(outer).with(inhibit_any_policy()), outer, true),
    ];
    for (number, (issuer, named, expected)) in cases.into_iter().enumerate() {
        let issuer = issuer.issued_by(&root);
        let leaf = leaf(HOST).with(policies(named)).issued_by(&issuer);
        let verdict = judge(&[&root], &[&leaf, &issuer], HOST);
        assert_eq!(verdict.is_ok(), expected, "case {number}");
    }
}

#[test]
fn fixtures_with_signatures_that_the_forge_cannot_make_are_accepted() {
    // See testdata/README.md.
    let later = "2030-01-01T00:00:00Z".parse().expect("a time");
    for name in ["p256-sha512", "rsa-pss"] {
        let read = |part: &str| {
            let path = format!("{}/testdata/{name}-{part}.pem", env!("CARGO_MANIFEST_DIR"));
            std::fs::read(path).expect("a committed fixture")
        };
        let trusted = Store::builder()
            .add(Source::Inline(name.into()), &read("root"))
            .build(Generation(1));
        let leaf = CertificateDer::from_pem_slice(&read("leaf")).expect("a certificate");
        let host = PeerName::from_host(HOST);
        let verdict = verify(&leaf, &[], &trusted, Some(&host), later, Usage::ServerAuth);
        assert_eq!(accepted(verdict), 2, "{name}");
    }
}

#[test]
fn long_chains_and_crowds_of_one_name_are_no_obstacle() {
    let root = ca("root").self_signed();
    let mut chain = vec![ca("step 0").issued_by(&root)];
    for step in 1..8 {
        let next = ca(&format!("step {step}")).issued_by(&chain[step - 1]);
        chain.push(next);
    }
    let last = leaf(HOST).issued_by(&chain[7]);
    let served: Vec<&Identity> = std::iter::once(&last).chain(&chain).collect();
    assert_eq!(accepted(judge(&[&root], &served, HOST)), 10);

    // 120 roots of one name; key identifiers tell which one to try first.
    let crowd: Vec<Identity> = (0..120u8)
        .map(|number| ca("crowd").with(subject_key_id(&[number])).self_signed())
        .collect();
    let leaf = leaf(HOST)
        .with(authority_key_id(&[119]))
        .issued_by(&crowd[119]);
    let trusted: Vec<&Identity> = crowd.iter().collect();
    assert_eq!(accepted(judge(&trusted, &[&leaf], HOST)), 2);
}

#[test]
fn a_ca_renewed_under_the_same_key_is_not_its_own_issuer() {
    let first = leaf(HOST).with(basic_constraints(true, None)).self_signed();
    let key = KeyPair::try_from(first.key.serialize_der()).expect("the same key");
    let renewed = leaf(HOST)
        .with(basic_constraints(true, None))
        .serial(&[2])
        .self_signed_with(key);
    refused(judge(&[&first], &[&renewed], HOST), UNKNOWN);
}

#[test]
fn adding_an_anchor_never_refuses_what_was_accepted() {
    let root = ca("root").self_signed();
    let key = || KeyPair::try_from(root.key.serialize_der()).expect("the same key");
    let expired = ca("root")
        .valid("20200101000000Z", "20210101000000Z")
        .self_signed_with(key());
    let client_only = ca("root")
        .with(extended_key_usage(&[CLIENT_AUTH]))
        .self_signed_with(key());
    let namesake = ca("root").self_signed();
    let other = ca("other").self_signed();
    let cross = ca("root").issued_with(key(), &other);
    let intermediate = ca("intermediate").issued_by(&root);
    let leaf = leaf(HOST).issued_by(&intermediate);
    let anchors = [
        &root,
        &expired,
        &client_only,
        &namesake,
        &other,
        &intermediate,
        &leaf,
    ];
    let verdict = |set: usize| {
        let trusted: Vec<&Identity> = anchors
            .iter()
            .enumerate()
            .filter(|(index, _)| set & (1 << index) != 0)
            .map(|(_, identity)| *identity)
            .collect();
        judge(&trusted, &[&leaf, &intermediate, &cross], HOST).is_ok()
    };
    let verdicts: Vec<bool> = (0..1 << anchors.len()).map(verdict).collect();
    assert!(!verdicts[0b0001110], "none of these anchors is good");
    assert!(verdicts[0b0010000], "the cross-signed way leads to `other`");
    for (set, accepted) in verdicts.iter().enumerate() {
        for extra in 0..anchors.len() {
            assert!(
                !accepted || verdicts[set | 1 << extra],
                "{set:b} and {extra}"
            );
        }
    }
}
