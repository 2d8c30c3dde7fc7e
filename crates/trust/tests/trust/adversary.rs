//! Hostile input: no panic, and little work.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use courser_testkit::forge::*;
use courser_testkit::hostile::{self, Handshake};
use courser_trust::{
    Certificate, Generation, PeerName, Reason, Source, Store, Usage, VerifiedChains, VerifyError,
    verify,
};
use proptest::prelude::*;
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;

use crate::matrix::{HOST, store};

fn handshakes() -> &'static [Handshake] {
    static HANDSHAKES: OnceLock<Vec<Handshake>> = OnceLock::new();
    HANDSHAKES.get_or_init(hostile::handshakes)
}

#[test]
fn hostile_handshakes_cost_little() {
    // Debug builds, busy machines: the bound of 50 ms is measured by `cargo xtask bench trust`, in release.
    const BOUND: Duration = Duration::from_secs(1);
    let name = PeerName::from_host(hostile::HOST);
    let mut worst = (Duration::ZERO, "");
    for Handshake {
        what,
        roots,
        served,
    } in handshakes()
    {
        let trusted = Store::builder()
            .add(Source::Inline("roots".into()), roots.as_bytes())
            .build(Generation(1));
        let (leaf, above) = served.split_first().expect("a leaf");
        let judge = || verify(leaf, above, &trusted, Some(&name), now(), Usage::ServerAuth);
        let started = Instant::now();
        let verdict = judge();
        let spent = started.elapsed();
        assert!(spent < BOUND, "{what}: {spent:?}");
        worst = worst.max((spent, what));
        // What a store remembers of a chain changes its speed only.
        let words = |verdict: Result<VerifiedChains, VerifyError>| {
            verdict.map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(words(judge()), words(verdict), "{what}");
    }
    println!(
        "the worst hostile handshake took {:?}: {}",
        worst.0, worst.1
    );
}

#[test]
fn what_costs_too_much_is_refused_in_gos_words() {
    let name = PeerName::from_host(hostile::HOST);
    let verdict = |wanted: &str| {
        let mut found = handshakes().iter().filter(|known| known.what == wanted);
        let Handshake { roots, served, .. } = found.next().expect("a known kind");
        let trusted = Store::builder()
            .add(Source::Inline("roots".into()), roots.as_bytes())
            .build(Generation(1));
        verify(
            &served[0],
            &served[1..],
            &trusted,
            Some(&name),
            now(),
            Usage::ServerAuth,
        )
        .map(drop)
        .expect_err("too much")
    };
    for what in [
        "layers of CAs with one name, P-256",
        "layers of CAs with one name, P-521",
        "a crowd of RSA 8192 issuers, long exponent",
    ] {
        let error = verdict(what);
        assert!(
            matches!(error.reason(), Reason::SignatureLimit),
            "{what}: {error}"
        );
        assert!(
            error
                .to_string()
                .starts_with("x509: signature check attempts limit reached")
        );
    }
    for what in ["DNS names under constraints", "URIs under constraints"] {
        let error = verdict(what);
        assert!(
            matches!(error.reason(), Reason::ConstraintLimit),
            "{what}: {error}"
        );
    }
}

/// A certificate with every extension that is read, and the root that issued it.
fn rich() -> &'static (Vec<u8>, Vec<u8>) {
    static RICH: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    RICH.get_or_init(|| {
        let root = ca("root").with(subject_key_id(&[7; 20])).self_signed();
        let names: &[(u8, &[u8])] = &[
            (2, HOST.as_bytes()),
            (1, b"\"a b\"@example.com"),
            (6, b"https://u@gitlab.example.com:1/x?y#z"),
            (7, &[192, 0, 2, 1]),
            (7, &[0; 16]),
        ];
        let leaf = Draft {
            unique_ids: true,
            ..draft(HOST)
        }
        .with(subject_alternative_names(names))
        .with(basic_constraints(true, Some(3)))
        .with(key_usage(&[0, 5]))
        .with(extended_key_usage(&[SERVER_AUTH, ANY_USAGE]))
        .with(name_constraints(
            Some((0x82, b"example.com")),
            Some((0x87, &[0; 8])),
            true,
        ))
        .with(authority_key_id(&[7; 20]))
        .with(policies(&[0x2a, 3, 4]))
        .with(require_explicit_policy())
        .with(issuing_url("http://pki.example.com/ca.der"))
        .issued_by(&root);
        (leaf.certificate.to_vec(), root.certificate.to_vec())
    })
}

/// CAs of all names, keys, issuers and faults, and a leaf below each key of each name.
struct Tangle {
    cas: Vec<CertificateDer<'static>>,
    leaves: Vec<CertificateDer<'static>>,
}

const NAMES: [&str; 2] = ["one CA", "the other CA"];
const KEYS: usize = 2;
const FAULTS: usize = 5;
const LEAVES: usize = NAMES.len() * KEYS;
const TANGLE: usize = LEAVES * LEAVES * FAULTS;

fn tangle() -> &'static Tangle {
    static TANGLED: OnceLock<Tangle> = OnceLock::new();
    TANGLED.get_or_init(|| {
        let faults: [fn(Draft) -> Draft; FAULTS] = [
            |ca| ca,
            |ca| ca.valid("20200101000000Z", "20210101000000Z"),
            |ca| ca.with(extended_key_usage(&[CLIENT_AUTH])),
            |ca| ca.with(name_constraints(None, Some((0x82, b"example.com")), true)),
            |mut ca| {
                ca.extensions = vec![basic_constraints(true, Some(0)), key_usage(&[5])];
                ca
            },
        ];
        let entities: Vec<Identity> = (0..LEAVES)
            .map(|number| ca(NAMES[number / KEYS]).self_signed())
            .collect();
        let key = |of: &Identity| KeyPair::try_from(of.key.serialize_der()).expect("the same key");
        let mut cas = Vec::with_capacity(TANGLE);
        for (number, subject) in entities.iter().enumerate() {
            for issuer in &entities {
                for fault in faults {
                    let draft = fault(ca(NAMES[number / KEYS]));
                    cas.push(draft.issued_with(key(subject), issuer).certificate);
                }
            }
        }
        let leaves = entities.iter().map(|issuer| leaf(HOST).issued_by(issuer));
        let leaves = leaves.map(|leaf| leaf.certificate).collect();
        Tangle { cas, leaves }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_certificates_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (leaf, root) = rich();
        let mut damaged = leaf.clone();
        for (index, byte) in &changes {
            let at = index.index(damaged.len());
            damaged[at] = *byte;
        }
        if let Some(cut) = cut {
            damaged.truncate(cut.index(damaged.len()));
        }
        let name = PeerName::from_host(HOST);
        let damaged = CertificateDer::from(damaged);
        let trusted = Store::builder()
            .add(Source::Inline("root".into()), pem("CERTIFICATE", root).as_bytes())
            .build(Generation(1));
        // As a leaf, as an intermediate, as an anchor.
        for (first, second) in [(&damaged[..], &root[..]), (leaf, &damaged)] {
            let served = [CertificateDer::from(second)];
            let verdict = verify(&first.into(), &served, &trusted, Some(&name), now(), Usage::ServerAuth);
            if let Err(error) = verdict {
                prop_assert!(error.explain().starts_with(&error.to_string()));
            }
        }
        let anchor = Store::builder()
            .add(Source::Inline("damaged".into()), pem("CERTIFICATE", &damaged).as_bytes())
            .build(Generation(1));
        prop_assert_eq!(anchor.certificates().len() + anchor.skipped().len(), 1);
    }

    #[test]
    fn a_changed_signed_byte_is_never_accepted(index in any::<prop::sample::Index>(), flip in 1u8..) {
        static CHAIN: OnceLock<(CertificateDer<'static>, Store)> = OnceLock::new();
        let (leaf, trusted) = CHAIN.get_or_init(|| {
            let root = ca("root").self_signed();
            (leaf(HOST).issued_by(&root).certificate, store(&[&root]))
        });
        let mut changed = leaf.to_vec();
        let at = index.index(changed.len());
        changed[at] ^= flip;
        let name = PeerName::from_host(HOST);
        let verdict = verify(&changed.into(), &[], trusted, Some(&name), now(), Usage::ServerAuth);
        prop_assert!(verdict.is_err());
    }

    /// Signatures that were checked are remembered by the store; nothing else may be.
    #[test]
    fn a_store_that_has_seen_a_chain_judges_as_a_fresh_one(
        change in prop::option::of((any::<bool>(), any::<prop::sample::Index>(), 1u8..)),
        day in 0i64..700,
        host in prop_oneof![4 => Just(HOST), 1 => Just("other.example.com")],
        client in prop::bool::weighted(0.2),
    ) {
        struct Seen {
            root: Vec<u8>,
            served: [CertificateDer<'static>; 2],
            trusted: Store,
        }
        static SEEN: OnceLock<Seen> = OnceLock::new();
        let host = PeerName::from_host(host);
        let usage = if client { Usage::ClientAuth } else { Usage::ServerAuth };
        let seen = SEEN.get_or_init(|| {
            let root = ca("root").self_signed();
            let issuer = ca("issuer")
                .valid("20260201000000Z", "20261101000000Z")
                .issued_by(&root);
            let leaf = leaf(HOST)
                .with(extended_key_usage(&[SERVER_AUTH]))
                .issued_by(&issuer);
            let trusted = store(&[&root]);
            let name = PeerName::from_host(HOST);
            let (served, above) = (leaf.certificate, [issuer.certificate]);
            verify(&served, &above, &trusted, Some(&name), now(), Usage::ServerAuth)
                .expect("a good chain");
            let [issuer] = above;
            Seen { root: root.pem().into_bytes(), served: [served, issuer], trusted }
        });
        let mut served = seen.served.clone();
        if let Some((of_leaf, index, flip)) = change {
            let one = &mut served[usize::from(!of_leaf)];
            let mut bytes = one.to_vec();
            let at = index.index(bytes.len());
            bytes[at] ^= flip;
            *one = bytes.into();
        }
        let at = jiff::Timestamp::from_second(1_767_225_600 + day * 86_400).expect("a time");
        let fresh = Store::builder()
            .add(Source::Configured("/etc/ca.pem".into()), &seen.root)
            .build(Generation(1));
        let verdict = |store: &Store| {
            verify(&served[0], &served[1..], store, Some(&host), at, usage)
                .map(|chains| chains.to_pem())
                .map_err(|error| error.to_string())
        };
        prop_assert_eq!(verdict(&seen.trusted), verdict(&fresh));
    }

    /// Two CAs, each with two keys, all signing each other, with and without faults: whatever is served and trusted, one
    /// more anchor refuses nothing, unless the work it makes is too much.
    #[test]
    fn one_more_anchor_never_refuses_what_was_accepted(
        served in prop::sample::subsequence((0..TANGLE).collect::<Vec<_>>(), 0..8),
        trusted in prop::sample::subsequence((0..TANGLE).collect::<Vec<_>>(), 1..6),
        more in 0..TANGLE,
        leaf in 0..LEAVES,
    ) {
        let tangle = tangle();
        let name = PeerName::from_host(HOST);
        let verdict = |trusted: &[usize]| {
            let pem: String = trusted.iter().map(|&at| pem("CERTIFICATE", &tangle.cas[at])).collect();
            let store = Store::builder()
                .add(Source::Inline("anchors".into()), pem.as_bytes())
                .build(Generation(1));
            let above: Vec<_> = served.iter().map(|&at| tangle.cas[at].clone()).collect();
            verify(&tangle.leaves[leaf], &above, &store, Some(&name), now(), Usage::ServerAuth)
        };
        if verdict(&trusted).is_ok() {
            let more = [&trusted[..], &[more]].concat();
            if let Err(error) = verdict(&more) {
                prop_assert!(matches!(error.reason(), Reason::SignatureLimit), "{}", error);
            }
        }
    }

    #[test]
    fn any_bytes_are_a_bundle_and_lines_stay_inside(
        parts in prop::collection::vec(
            prop_oneof![
                Just("-----BEGIN CERTIFICATE-----".to_owned()),
                Just("-----END CERTIFICATE-----".to_owned()),
                Just("-----BEGIN ".to_owned()),
                Just("\n-----END ".to_owned()),
                Just("\n".to_owned()),
                Just("a: b\n".to_owned()),
                Just("MIIB".to_owned()),
                "[ -~\r\n]{0,12}",
            ],
            0..24,
        ),
    ) {
        let text = parts.concat();
        let store = Store::builder()
            .add(Source::Inline("any".into()), text.as_bytes())
            .build(Generation(1));
        let lines = text.split('\n').count();
        prop_assert!(!store.skipped().is_empty());
        for block in store.skipped() {
            prop_assert!((1..=lines).contains(&block.line));
        }
    }

    #[test]
    fn any_bytes_may_be_parsed(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Certificate::parse(&bytes).is_err());
    }
}
