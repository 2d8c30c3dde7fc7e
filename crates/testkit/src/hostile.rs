//! Handshakes of a server that wants to keep a verifier busy: as much of one kind of work as fits 64 KiB.

use rcgen::{KeyPair, SignatureAlgorithm};
use rustls_pki_types::CertificateDer;

use crate::forge::*;

/// The largest list of certificates that a handshake takes: what rustls 0.23 reads, and TLS can say nearly.
const MESSAGE: usize = 0x1_0000;

/// The name under which all of these servers are called.
pub const HOST: &str = "gitlab.example.com";

/// What a hostile server serves, and the roots of its victim.
pub struct Handshake {
    /// What it is made of.
    pub what: &'static str,
    /// PEM of what the victim trusts.
    pub roots: String,
    /// Leaf first.
    pub served: Vec<CertificateDer<'static>>,
}

/// All kinds.
pub fn handshakes() -> Vec<Handshake> {
    vec![
        layers(
            "layers of CAs with one name, P-256",
            &rcgen::PKCS_ECDSA_P256_SHA256,
        ),
        layers(
            "layers of CAs with one name, P-384",
            &rcgen::PKCS_ECDSA_P384_SHA384,
        ),
        layers(
            "layers of CAs with one name, P-521",
            &rcgen::PKCS_ECDSA_P521_SHA512,
        ),
        layers(
            "layers of CAs with one name, RSA 2048",
            &rcgen::PKCS_RSA_SHA256,
        ),
        crowd("a crowd of RSA 4096 issuers", 512, &[1, 0, 1]),
        crowd("a crowd of RSA 8192 issuers", 1024, &[1, 0, 1]),
        crowd(
            "a crowd of RSA 8192 issuers, long exponent",
            1024,
            &[0x7f, 0xff, 0xff, 0xff],
        ),
        large_leaf(),
        crowd_of_trifles(),
        duplicates(),
        constrained("DNS names under constraints", 0x82, |number| {
            format!("a{number}.x")
        }),
        constrained("mail addresses under constraints", 0x81, |number| {
            format!("a{number}@x")
        }),
        constrained("URIs under constraints", 0x86, |number| {
            format!("u://a{number}.x")
        }),
        many_paths("policies in a hundred paths", &crowded_policies()),
        many_paths("long names in a hundred paths", &long_names()),
        many_paths("usages in a hundred paths", &crowded_usages()),
        everything_at_once(),
        lone("a SAN of 60 KB", |leaf| {
            let names = vec![(2, &b"a"[..]); 20_000];
            leaf.with(subject_alternative_names(&names))
        }),
        lone("a subject of 60 KB", |mut leaf| {
            let attribute = der(
                0x31,
                &[&sequence(&[&der(6, &[&[0x55, 4, 3]]), &der(0x0c, &[b"x"])])],
            );
            leaf.subject = sequence(&vec![&attribute[..]; 5_000]);
            leaf
        }),
        lone("thousands of extensions", |leaf| {
            (0x80..0x1000u16).fold(leaf, |leaf, number| {
                let id = [0x2a, 0x80 | (number >> 7) as u8, number as u8 & 0x7f];
                leaf.with(extension(&id, false, &[]))
            })
        }),
    ]
}

/// 10 layers of CAs, every one of a layer signed by the key of the layer above, all with one name, and no root.
fn layers(what: &'static str, algorithm: &'static SignatureAlgorithm) -> Handshake {
    let key = || KeyPair::generate_for(algorithm).expect("a key");
    let top = ca("CA").self_signed_with(key());
    let mut above = top;
    let mut layers = Vec::new();
    for _ in 0..10 {
        let first = ca("CA").issued_with(key(), &above);
        layers.push((first.key.serialize_der(), above));
        above = first;
    }
    let leaf = leaf(HOST).issued_by(&above);
    let mut served = vec![leaf.certificate];
    let of_key = |der: &[u8]| KeyPair::try_from(der.to_vec()).expect("the same key");
    for serial in 1..=14 {
        for (own, above) in &layers {
            let copy = ca("CA").serial(&[serial]).issued_with(of_key(own), above);
            served.push(copy.certificate);
        }
    }
    handshake(what, &ca("CA").self_signed_with(key()), served)
}

/// As many issuers with RSA keys as fit, none of which signed the leaf.
fn crowd(what: &'static str, octets: usize, exponent: &[u8]) -> Handshake {
    let stranger = ca("CA").self_signed();
    let signature = Some(vec![0x55; octets]);
    let algorithm = Some(rsa_algorithm(11));
    let forged = Draft {
        claimed_algorithm: algorithm,
        signature,
        ..leaf(HOST)
    };
    let mut served = vec![forged.issued_by(&stranger).certificate];
    for serial in 1..=100 {
        let issuer = Draft {
            key_info: Some(rsa_key_info_with(octets, exponent)),
            signature: Some(vec![0x30]),
            ..ca("CA").serial(&[serial])
        };
        served.push(issuer.self_signed().certificate);
    }
    handshake(what, &stranger, served)
}

/// A leaf of 45 KB that each of many P-521 keys may have signed.
fn large_leaf() -> Handshake {
    let key = || KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).expect("a key");
    let issuer = ca("CA").self_signed_with(key());
    let padding = extension(&[0x2a, 3, 4], false, &[0x55; 45_000]);
    let mut served = vec![leaf(HOST).with(padding).issued_by(&issuer).certificate];
    for _ in 0..60 {
        served.push(ca("CA").self_signed_with(key()).certificate);
    }
    handshake(
        "a large leaf and a crowd of P-521 issuers",
        &ca("other").self_signed(),
        served,
    )
}

/// As many small certificates as fit, all of one name.
fn crowd_of_trifles() -> Handshake {
    let stranger = ca("").self_signed();
    let mut served = vec![leaf(HOST).issued_by(&stranger).certificate];
    for serial in 1..=400u16 {
        let mut trifle = draft("").serial(&serial.to_be_bytes()).version(1);
        if serial < 0x100 {
            trifle = trifle.serial(&[1, serial as u8]);
        }
        trifle.signature = Some(vec![0]);
        served.push(trifle.self_signed().certificate);
    }
    handshake("hundreds of small issuers", &stranger, served)
}

/// One intermediate, as often as it fits.
fn duplicates() -> Handshake {
    let root = ca("root").self_signed();
    let issuer = ca("issuer").issued_by(&ca("root").self_signed());
    let leaf = leaf(HOST).issued_by(&issuer);
    let copies = std::iter::repeat_n(issuer.certificate, 1000);
    let served = std::iter::once(leaf.certificate).chain(copies).collect();
    handshake("one intermediate hundreds of times", &root, served)
}

/// Half of it names, half of it constraints on such names that do not match.
fn constrained(what: &'static str, kind: u8, name: impl Fn(usize) -> String) -> Handshake {
    let root = ca("root").self_signed();
    let bases = (0..2_600).flat_map(|number| {
        let base = if kind == 0x81 {
            format!("b{number}@x")
        } else {
            format!("b{number}.x")
        };
        sequence(&[&der(kind, &[base.as_bytes()])])
    });
    let value = sequence(&[&der(0xa1, &[&bases.collect::<Vec<u8>>()])]);
    let issuer = ca("issuer")
        .with(extension(&[0x55, 0x1d, 30], true, &value))
        .issued_by(&root);
    let names: Vec<String> = (0..2_000).map(name).collect();
    let others = names.iter().map(|name| (kind & 7, name.as_bytes()));
    let all: Vec<(u8, &[u8])> = std::iter::once((2, HOST.as_bytes()))
        .chain(others)
        .collect();
    let leaf = draft("x")
        .with(subject_alternative_names(&all))
        .issued_by(&issuer);
    handshake(what, &root, vec![leaf.certificate, issuer.certificate])
}

/// A CA below a trusted root signs its own crowd of CAs, so that there are as many good paths as may be tried.
fn many_paths(what: &'static str, extensions: &[Vec<u8>]) -> Handshake {
    let leaf = extensions
        .iter()
        .fold(draft("x"), |leaf, extension| leaf.with(extension.clone()));
    let bound = name_constraints(None, Some((0x82, b"other.example")), true);
    twins(what, &rcgen::PKCS_ECDSA_P256_SHA256, bound, leaf)
}

/// The same with expensive keys, and with names and constraints in each of the paths.
fn everything_at_once() -> Handshake {
    let bases =
        (0..700).flat_map(|number| sequence(&[&der(0x82, &[format!("b{number}.x").as_bytes()])]));
    let value = sequence(&[&der(0xa1, &[&bases.collect::<Vec<u8>>()])]);
    let names: Vec<String> = (0..700).map(|number| format!("a{number}.x")).collect();
    let names: Vec<(u8, &[u8])> = std::iter::once(HOST)
        .chain(names.iter().map(String::as_str))
        .map(|name| (2, name.as_bytes()))
        .collect();
    twins(
        "names and constraints in many paths, P-521",
        &rcgen::PKCS_ECDSA_P521_SHA512,
        extension(&[0x55, 0x1d, 30], true, &value),
        draft("x").with(subject_alternative_names(&names)),
    )
}

fn twins(
    what: &'static str,
    algorithm: &'static SignatureAlgorithm,
    constraints: Vec<u8>,
    leaf: Draft,
) -> Handshake {
    let key = || KeyPair::generate_for(algorithm).expect("a key");
    let root = ca("root").self_signed();
    let issuer = ca("issuer").with(constraints).issued_with(key(), &root);
    let twin = ca("twin").issued_with(key(), &issuer);
    let leaf = leaf.issued_by(&twin);
    let mut served = vec![leaf.certificate, issuer.certificate.clone()];
    for serial in 1..=100 {
        let key = KeyPair::try_from(twin.key.serialize_der()).expect("the same key");
        let twin = ca("twin").serial(&[serial]).issued_with(key, &issuer);
        served.push(twin.certificate);
    }
    handshake(what, &root, served)
}

fn crowded_policies() -> Vec<Vec<u8>> {
    let policies: Vec<u8> = (0..2_000u16)
        .flat_map(|number| {
            let [high, low] = (number + 0x4000).to_be_bytes();
            sequence(&[&der(6, &[&[0x2a, 0x80 | high, 0x80 | (low >> 1), low & 1]])])
        })
        .collect();
    let names = subject_alternative_names(&[(2, HOST.as_bytes())]);
    vec![
        names,
        extension(&[0x55, 0x1d, 32], false, &sequence(&[&policies])),
    ]
}

fn long_names() -> Vec<Vec<u8>> {
    let long = "a".repeat(2_000);
    let mut names = vec![(2, long.as_bytes()); 12];
    names.push((2, HOST.as_bytes()));
    vec![subject_alternative_names(&names)]
}

fn crowded_usages() -> Vec<Vec<u8>> {
    let mut usages = vec![&[0x2a, 3, 4][..]; 4_000];
    usages.push(SERVER_AUTH);
    let names = subject_alternative_names(&[(2, HOST.as_bytes())]);
    vec![names, extended_key_usage(&usages)]
}

/// A leaf alone.
fn lone(what: &'static str, crowd: impl Fn(Draft) -> Draft) -> Handshake {
    let root = ca("root").self_signed();
    let leaf = crowd(draft("x")).issued_by(&root);
    handshake(what, &root, vec![leaf.certificate])
}

/// As many of the certificates as a handshake takes.
fn handshake(
    what: &'static str,
    root: &Identity,
    served: Vec<CertificateDer<'static>>,
) -> Handshake {
    let mut room = MESSAGE;
    let mut fits = |certificate: &CertificateDer<'_>| {
        // Three octets of length and, in TLS 1.3, two of extensions.
        let left = room.checked_sub(certificate.len() + 5);
        room = left.unwrap_or(0);
        left.is_some()
    };
    let served: Vec<_> = served.into_iter().take_while(&mut fits).collect();
    assert!(!served.is_empty(), "{what}: the leaf is too large");
    Handshake {
        what,
        roots: root.pem(),
        served,
    }
}
