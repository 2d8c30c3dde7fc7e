//! Hostile input: no panic, and little work.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use courser_trust::{Certificate, Generation, PeerName, Reason, Source, Store, Usage, verify};
use proptest::prelude::*;
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;

use crate::forge::*;
use crate::matrix::{HOST, judge, store};

#[test]
fn layers_of_cas_with_one_name_cost_little() {
    // 10 layers of 14 certificates: every one of a layer is signed by the key of the layer above, all bear one name,
    // and there is no root. Stock webpki needs 9.5 s for this (`dependencies.md` 3.2).
    let copy = |identity: &Identity| {
        KeyPair::try_from(identity.key.serialize_der()).expect("the same key")
    };
    let mut above = ca("CA").self_signed();
    let mut crowd = Vec::new();
    for _ in 0..10 {
        let first = ca("CA").issued_by(&above);
        for serial in 2..=14 {
            crowd.push(ca("CA").serial(&[serial]).issued_with(copy(&first), &above));
        }
        above = ca("CA").issued_with(copy(&first), &above);
        crowd.push(first);
    }
    let leaf = leaf(HOST).issued_by(&above);
    let served: Vec<&Identity> = std::iter::once(&leaf).chain(&crowd).collect();
    assert_eq!(served.len(), 141);
    let unrelated = ca("CA").self_signed();
    let started = Instant::now();
    let error = judge(&[&unrelated], &served, HOST).expect_err("no root");
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    assert!(matches!(error.reason(), Reason::SignatureLimit));
}

#[test]
fn thousands_of_names_and_constraints_cost_little() {
    let names: Vec<String> = (0..3000)
        .map(|number| format!("a{number}.example"))
        .collect();
    let sans: Vec<(u8, &[u8])> = names.iter().map(|name| (2, name.as_bytes())).collect();
    let subtrees: Vec<u8> = (0..3000)
        .flat_map(|number| sequence(&[&der(0x82, &[format!("b{number}.example").as_bytes()])]))
        .collect();
    let value = sequence(&[&der(0xa1, &[&subtrees])]);
    let root = ca("root")
        .with(extension(&[0x55, 0x1d, 30], true, &value))
        .self_signed();
    let leaf = draft("x")
        .with(subject_alternative_names(&sans))
        .issued_by(&root);
    let started = Instant::now();
    let error = judge(&[&root], &[&leaf], "a1.example").expect_err("too much");
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    assert!(matches!(error.reason(), Reason::ConstraintLimit));
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
