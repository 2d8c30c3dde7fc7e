//! Keys and signature algorithms.

use std::sync::Arc;

use rcgen::{KeyPair, RsaKeySize, SignatureAlgorithm};

use super::*;
use crate::openssl::OpensslKey;

fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).expect("a key")
}

fn ecdsa(last: u8) -> Vec<u8> {
    sequence(&[&der(6, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, last]])])
}

/// RSASSA-PSS with a hash (1 is SHA-256, 2 SHA-384, 3 SHA-512), for mask and message, and a length of salt.
fn pss(hash: u8, mask: u8, salt: u8) -> Vec<u8> {
    let sha2 = |number| {
        let id = der(6, &[&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, number]]);
        sequence(&[&id, &der(5, &[])])
    };
    let mask = sequence(&[
        &der(6, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8]]),
        &sha2(mask),
    ]);
    let parameters = sequence(&[
        &der(0xa0, &[&sha2(hash)]),
        &der(0xa1, &[&mask]),
        &der(0xa2, &[&der(2, &[&[salt]])]),
    ]);
    sequence(&[
        &der(6, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10]]),
        &parameters,
    ])
}

const DSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x38, 4, 1];

/// A DSA key with this generator.
fn dsa(generator: &[u8]) -> Vec<u8> {
    let number = |octets: &[u8]| der(2, &[octets]);
    let parameters = sequence(&[&number(&[23]), &number(&[11]), &number(generator)]);
    let algorithm = sequence(&[&der(6, &[DSA]), &parameters]);
    sequence(&[&algorithm, &der(3, &[&[0], &number(&[5])])])
}

/// How a leaf is signed: claimed algorithm, options of `openssl dgst`.
type Way = (&'static str, Vec<u8>, &'static [&'static str]);

pub(super) fn add(suite: &mut Suite) {
    for (id, algorithm) in [
        ("p256", &rcgen::PKCS_ECDSA_P256_SHA256),
        ("p384", &rcgen::PKCS_ECDSA_P384_SHA384),
        ("p521", &rcgen::PKCS_ECDSA_P521_SHA512),
        ("ed25519", &rcgen::PKCS_ED25519),
        ("rsa-2048", &rcgen::PKCS_RSA_SHA256),
    ] {
        let root = ca("root").self_signed_with(key(algorithm));
        let intermediate = ca("intermediate").issued_with(key(algorithm), &root);
        let below = leaf(HOST).issued_with(key(algorithm), &intermediate);
        suite.add(&format!("key/{id}"), &[&root], &[&below, &intermediate]);
    }
    let large =
        KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096).expect("a key");
    let root = ca("root").self_signed_with(large);
    let below = leaf(HOST).issued_by(&root);
    suite.add("key/rsa-4096-root", &[&root], &[&below]);

    let rsa_ways: Vec<Way> = vec![
        ("sha256", rsa_algorithm(11), &["-sha256"]),
        ("sha384", rsa_algorithm(12), &["-sha384"]),
        ("sha512", rsa_algorithm(13), &["-sha512"]),
        ("sha224", rsa_algorithm(14), &["-sha224"]),
        ("sha1", rsa_algorithm(5), &["-sha1"]),
        ("md5", rsa_algorithm(4), &["-md5"]),
        ("sha256-claims-sha512", rsa_algorithm(13), &["-sha256"]),
        (
            "pss-sha256",
            pss(1, 1, 32),
            &[
                "-sha256",
                "-sigopt",
                "rsa_padding_mode:pss",
                "-sigopt",
                "rsa_pss_saltlen:32",
            ],
        ),
        (
            "pss-sha384",
            pss(2, 2, 48),
            &[
                "-sha384",
                "-sigopt",
                "rsa_padding_mode:pss",
                "-sigopt",
                "rsa_pss_saltlen:48",
            ],
        ),
        (
            "pss-sha512",
            pss(3, 3, 64),
            &[
                "-sha512",
                "-sigopt",
                "rsa_padding_mode:pss",
                "-sigopt",
                "rsa_pss_saltlen:64",
            ],
        ),
        (
            "pss-salt-20",
            pss(1, 1, 20),
            &[
                "-sha256",
                "-sigopt",
                "rsa_padding_mode:pss",
                "-sigopt",
                "rsa_pss_saltlen:20",
            ],
        ),
        (
            "pss-other-mask",
            pss(1, 3, 32),
            &[
                "-sha256",
                "-sigopt",
                "rsa_padding_mode:pss",
                "-sigopt",
                "rsa_pss_saltlen:32",
                "-sigopt",
                "rsa_mgf1_md:sha512",
            ],
        ),
        (
            "sha256-without-null",
            sequence(&[&der(6, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11]])]),
            &["-sha256"],
        ),
        (
            "unknown-algorithm",
            sequence(&[&der(6, &[&[0x2a, 3, 4]])]),
            &["-sha256"],
        ),
        ("ecdsa-claimed", ecdsa(2), &["-sha256"]),
    ];
    signed(suite, "rsa", &Arc::new(OpensslKey::rsa(2048)), rsa_ways);
    let ec_ways = || -> Vec<Way> {
        vec![
            ("sha256", ecdsa(2), &["-sha256"]),
            ("sha384", ecdsa(3), &["-sha384"]),
            ("sha512", ecdsa(4), &["-sha512"]),
            ("sha224", ecdsa(1), &["-sha224"]),
            (
                "sha1",
                sequence(&[&der(6, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1]])]),
                &["-sha1"],
            ),
            (
                "sha256-with-null",
                sequence(&[
                    &der(6, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]]),
                    &der(5, &[]),
                ]),
                &["-sha256"],
            ),
        ]
    };
    for curve in ["P-256", "P-384", "P-521", "P-224"] {
        let id = curve.to_lowercase().replace('-', "");
        signed(
            suite,
            &id,
            &Arc::new(OpensslKey::on_curve(curve)),
            ec_ways(),
        );
    }

    // Sizes and exponents of RSA issuers.
    for bits in [512, 1024, 1536, 2047, 2048, 3072, 8192] {
        let way = vec![("sha256", rsa_algorithm(11), &["-sha256"][..])];
        signed(
            suite,
            &format!("rsa-{bits}"),
            &Arc::new(OpensslKey::rsa(bits)),
            way,
        );
    }
    for exponent in [3, (1 << 31) - 1, (1 << 31) + 1] {
        let way = vec![("sha256", rsa_algorithm(11), &["-sha256"][..])];
        let key = OpensslKey::rsa_with_exponent(2048, exponent);
        signed(
            suite,
            &format!("rsa-exponent-{exponent}"),
            &Arc::new(key),
            way,
        );
    }

    // Keys of leaves; nobody signs with them here.
    let rsa = |modulus: &[u8], exponent: &[u8]| {
        let numbers = sequence(&[&der(2, &[modulus]), &der(2, &[exponent])]);
        sequence(&[&rsa_algorithm(1), &der(3, &[&[0], &numbers])])
    };
    let odd_modulus = [&[0][..], &[0xc5; 256]].concat();
    let ec = |curve: &[u8], point: &[u8]| {
        let algorithm = sequence(&[
            &der(6, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]]),
            &der(6, &[curve]),
        ]);
        sequence(&[&algorithm, &der(3, &[&[0], point])])
    };
    let p256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    let keys: Vec<(&str, Vec<u8>)> = vec![
        ("rsa-512", OpensslKey::rsa(512).key_info()),
        ("rsa-1024", OpensslKey::rsa(1024).key_info()),
        ("rsa-8192", rsa_key_info(1024)),
        ("rsa-8200", rsa_key_info(1025)),
        (
            "rsa-even-modulus",
            rsa(&[&[0][..], &[0xc4; 256]].concat(), &[1, 0, 1]),
        ),
        ("rsa-exponent-1", rsa(&odd_modulus, &[1])),
        ("rsa-exponent-even", rsa(&odd_modulus, &[4])),
        ("rsa-exponent-0", rsa(&odd_modulus, &[0])),
        ("rsa-exponent-negative", rsa(&odd_modulus, &[0xff])),
        (
            "rsa-exponent-of-8-octets",
            rsa(
                &odd_modulus,
                &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            ),
        ),
        (
            "rsa-exponent-of-9-octets",
            rsa(&odd_modulus, &[1, 0, 0, 0, 0, 0, 0, 0, 1]),
        ),
        ("rsa-modulus-negative", rsa(&[0xc5; 256], &[1, 0, 1])),
        (
            "rsa-modulus-not-minimal",
            rsa(&[&[0, 0][..], &[0xc5; 256]].concat(), &[1, 0, 1]),
        ),
        (
            "rsa-garbage",
            sequence(&[&rsa_algorithm(1), &der(3, &[&[0], &[1, 2, 3]])]),
        ),
        ("rsa-pss-key", {
            let pss = sequence(&[&der(6, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10]])]);
            let numbers = sequence(&[&der(2, &[&odd_modulus]), &der(2, &[&[1, 0, 1]])]);
            sequence(&[&pss, &der(3, &[&[0], &numbers])])
        }),
        ("x25519", x25519_key_info()),
        ("dsa", OpensslKey::dsa().key_info()),
        ("dsa-negative", dsa(&[0x81])),
        ("dsa-zero", dsa(&[0])),
        ("dsa-without-parameters", {
            let algorithm = sequence(&[&der(6, &[DSA])]);
            sequence(&[&algorithm, &der(3, &[&[0], &der(2, &[&[5]])])])
        }),
        ("p224", OpensslKey::on_curve("P-224").key_info()),
        ("p192", OpensslKey::on_curve("P-192").key_info()),
        ("secp256k1", OpensslKey::on_curve("secp256k1").key_info()),
        (
            "ec-compressed-point",
            ec(p256, &[&[2][..], &[0x11; 32]].concat()),
        ),
        (
            "ec-point-off-curve",
            ec(p256, &[&[4][..], &[0x11; 64]].concat()),
        ),
        ("ec-point-at-infinity", ec(p256, &[0])),
        (
            "ec-point-too-short",
            ec(p256, &[&[4][..], &[0x11; 63]].concat()),
        ),
        (
            "ed25519-too-short",
            sequence(&[
                &sequence(&[&der(6, &[&[0x2b, 101, 112]])]),
                &der(3, &[&[0], &[1; 31]]),
            ]),
        ),
        (
            "ed25519-with-parameters",
            sequence(&[
                &sequence(&[&der(6, &[&[0x2b, 101, 112]]), &der(5, &[])]),
                &der(3, &[&[0], &[1; 32]]),
            ]),
        ),
        (
            "unknown-kind",
            sequence(&[
                &sequence(&[&der(6, &[&[0x2a, 3, 4]])]),
                &der(3, &[&[0], &[1; 32]]),
            ]),
        ),
    ];
    let root = ca("root").self_signed();
    for (id, key_info) in keys {
        let odd = Draft {
            key_info: Some(key_info),
            ..leaf(HOST)
        };
        let pinned = odd.clone().self_signed();
        suite.add(&format!("leaf-key/{id}-pinned"), &[&pinned], &[&pinned]);
        let odd = odd.issued_by(&root);
        suite.add(&format!("leaf-key/{id}"), &[&root], &[&odd]);
        let good = leaf(HOST).issued_by(&root);
        suite.add(
            &format!("leaf-key/{id}-irrelevant"),
            &[&root],
            &[&good, &odd],
        );
    }

    // What the roots' own signatures are made with does not matter.
    for (id, algorithm) in [
        ("md5", rsa_algorithm(4)),
        ("sha1", rsa_algorithm(5)),
        ("unknown", sequence(&[&der(6, &[&[0x2a, 3]])])),
    ] {
        let claimed = Draft {
            claimed_algorithm: Some(algorithm),
            ..ca("root")
        };
        suite.root(&format!("root/own-signature-{id}"), claimed);
    }
    suite.root(
        "root/own-signature-garbage",
        Draft {
            signature: Some(vec![1, 2, 3]),
            ..ca("root")
        },
    );
    let differing = Draft {
        outer_algorithm: Some(ecdsa(3)),
        ..leaf(HOST)
    };
    suite.leaf("signature/inner-and-outer-algorithm-differ", differing);
}

/// A root with this key, and for each way a leaf that it signed so.
fn signed(suite: &mut Suite, id: &str, key: &Arc<OpensslKey>, ways: Vec<Way>) {
    let root = Draft {
        key_info: Some(key.key_info()),
        ..ca("root")
    }
    .self_signed();
    for (way, algorithm, options) in ways {
        let leaf = Draft {
            claimed_algorithm: Some(algorithm),
            signer: Some((Arc::clone(key), options)),
            ..leaf(HOST)
        };
        let leaf = leaf.issued_by(&root);
        suite.add(&format!("signed-by/{id}-{way}"), &[&root], &[&leaf]);
    }
}
