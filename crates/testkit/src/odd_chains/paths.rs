//! Ways from a leaf to a root: orders, crowds, cross-signing, key identifiers.

use super::*;

pub(super) fn add(suite: &mut Suite) {
    let root = ca("root").self_signed();
    let intermediate = ca("intermediate").issued_by(&root);
    let below = leaf(HOST).issued_by(&intermediate);
    let stranger = ca("stranger").self_signed();
    let expired = ca("stranger")
        .valid("20200101000000Z", "20210101000000Z")
        .self_signed();
    let trusted = [&root];
    suite.add("path/missing-intermediate", &trusted, &[&below]);
    suite.add("path/complete", &trusted, &[&below, &intermediate]);
    suite.add(
        "path/root-served",
        &trusted,
        &[&below, &intermediate, &root],
    );
    suite.add("path/shuffled", &trusted, &[&below, &root, &intermediate]);
    suite.add(
        "path/duplicates",
        &trusted,
        &[&below, &intermediate, &intermediate, &below],
    );
    suite.add(
        "path/irrelevant",
        &trusted,
        &[&below, &stranger, &intermediate, &expired],
    );
    suite.add("path/issuer-first", &trusted, &[&intermediate, &below]);
    suite.add("path/trusted-intermediate", &[&intermediate], &[&below]);
    suite.add(
        "path/trusted-intermediate-served",
        &[&intermediate],
        &[&below, &intermediate],
    );
    suite.add(
        "path/trusted-twice",
        &[&root, &root, &intermediate],
        &[&below, &intermediate],
    );
    suite.add("path/root-as-leaf", &trusted, &[&root]);

    let mut chain = vec![ca("step 0").issued_by(&root)];
    for step in 1..12 {
        chain.push(ca(&format!("step {step}")).issued_by(&chain[step - 1]));
    }
    let last = leaf(HOST).issued_by(&chain[11]);
    let long: Vec<&Identity> = std::iter::once(&last).chain(chain.iter().rev()).collect();
    suite.add("path/12-intermediates", &trusted, &long);
    let gap: Vec<&Identity> = long
        .iter()
        .copied()
        .enumerate()
        .filter(|(at, _)| *at != 6)
        .map(|(_, one)| one)
        .collect();
    suite.add("path/12-intermediates-with-a-gap", &trusted, &gap);

    // Cross-signing: the new root is also signed by the old one.
    let old = ca("old").self_signed();
    let new = ca("new").self_signed();
    let cross = ca("new").issued_with(same_key(&new), &old);
    let leaf_of_new = leaf(HOST).issued_by(&new);
    suite.add("cross/old-root-trusted", &[&old], &[&leaf_of_new, &cross]);
    suite.add("cross/new-root-trusted", &[&new], &[&leaf_of_new, &cross]);
    suite.add("cross/both-trusted", &[&old, &new], &[&leaf_of_new, &cross]);
    suite.add("cross/missing", &[&old], &[&leaf_of_new, &new]);
    let expired_old = ca("old")
        .valid("20200101000000Z", "20251231235959Z")
        .self_signed_with(same_key(&old));
    suite.add(
        "cross/expired-old-root",
        &[&expired_old],
        &[&leaf_of_new, &cross],
    );
    suite.add(
        "cross/expired-old-and-new-root",
        &[&expired_old, &new],
        &[&leaf_of_new, &cross],
    );
    suite.add(
        "cross/expired-and-renewed-old-root",
        &[&expired_old, &old],
        &[&leaf_of_new, &cross],
    );
    let expired_cross = ca("new")
        .valid("20200101000000Z", "20251231235959Z")
        .issued_with(same_key(&new), &old);
    suite.add(
        "cross/expired-cross",
        &[&old],
        &[&leaf_of_new, &expired_cross],
    );
    suite.add(
        "cross/expired-cross-and-good-one",
        &[&old],
        &[&leaf_of_new, &expired_cross, &cross],
    );

    // Two CAs that sign each other, and no root.
    let one = ca("one").self_signed();
    let two = ca("two").self_signed();
    let one_by_two = ca("one").issued_with(same_key(&one), &two);
    let two_by_one = ca("two").issued_with(same_key(&two), &one);
    let in_circle = leaf(HOST).issued_by(&one);
    suite.add(
        "cross/circle",
        &trusted,
        &[&in_circle, &one_by_two, &two_by_one],
    );
    suite.add(
        "cross/circle-with-way-out",
        &[&two],
        &[&in_circle, &one_by_two, &two_by_one],
    );

    // Key identifiers guide, they do not bind.
    let identified = ca("identified")
        .with(subject_key_id(&[1; 20]))
        .self_signed();
    for (id, key_id) in [
        ("agree", Some([1; 20])),
        ("differ", Some([2; 20])),
        ("absent", None),
    ] {
        let mut draft = leaf(HOST);
        if let Some(key_id) = key_id {
            draft = draft.with(authority_key_id(&key_id));
        }
        let leaf = draft.issued_by(&identified);
        suite.add(&format!("key-id/{id}"), &[&identified], &[&leaf]);
    }
    let of_unidentified = leaf(HOST).with(authority_key_id(&[7; 20])).issued_by(&root);
    suite.add("key-id/issuer-has-none", &trusted, &[&of_unidentified]);
    let by_serial = extension(
        &[0x55, 0x1d, 35],
        false,
        &sequence(&[
            &der(0xa1, &[&der(0xa4, &[&name("other")])]),
            &der(0x82, &[&[9]]),
        ]),
    );
    let of_other_serial = leaf(HOST).with(by_serial).issued_by(&root);
    suite.add(
        "key-id/other-issuer-and-serial",
        &trusted,
        &[&of_other_serial],
    );

    // Crowds of one name.
    let crowd: Vec<Identity> = (0..30u8)
        .map(|number| ca("crowd").with(subject_key_id(&[number])).self_signed())
        .collect();
    let everyone: Vec<&Identity> = crowd.iter().collect();
    let of_last = leaf(HOST).issued_by(&crowd[29]);
    suite.add("crowd/30-roots-of-one-name", &everyone, &[&of_last]);
    let served: Vec<&Identity> = std::iter::once(&of_last).chain(&crowd).collect();
    suite.add("crowd/30-served-of-one-name", &trusted, &served);
    let layered = {
        let top = ca("CA").self_signed();
        let mut above = ca("CA").issued_by(&top);
        let mut all = Vec::new();
        for _ in 0..5 {
            let next = ca("CA").issued_by(&above);
            for serial in 2..8 {
                all.push(
                    ca("CA")
                        .serial(&[serial])
                        .issued_with(same_key(&next), &above),
                );
            }
            all.push(std::mem::replace(&mut above, next));
        }
        all.insert(0, leaf(HOST).issued_by(&above));
        all
    };
    let layered: Vec<&Identity> = layered.iter().collect();
    suite.add("crowd/layers-without-root", &trusted, &layered);

    // Signatures.
    let impostor = ca("intermediate").self_signed();
    let forged = leaf(HOST).issued_by(&impostor);
    suite.add(
        "signature/by-another-key",
        &trusted,
        &[&forged, &intermediate],
    );
    let odd = Draft {
        signature: Some(vec![0x30, 0]),
        ..leaf(HOST)
    }
    .issued_by(&root);
    suite.add("signature/garbage", &trusted, &[&odd]);
    let odd = Draft {
        signature: Some(Vec::new()),
        ..leaf(HOST)
    }
    .issued_by(&root);
    suite.add("signature/empty", &trusted, &[&odd]);
    // An ECDSA signature may end in any bits; the last octet is made even by trying.
    let partial = (1..=20)
        .map(|serial| {
            let draft = Draft {
                unused_signature_bits: 1,
                ..leaf(HOST)
            };
            draft.serial(&[serial]).issued_by(&root)
        })
        .find(|odd| odd.certificate.last().is_some_and(|last| last % 2 == 0))
        .expect("every other signature is even");
    suite.add("signature/unused-bits", &trusted, &[&partial]);
    let renamed = Draft {
        issuer: Some(name("root ")),
        ..leaf(HOST)
    }
    .issued_by(&root);
    suite.add("signature/issuer-spelled-otherwise", &trusted, &[&renamed]);
    // The same name in another string type.
    let printable = sequence(&[&der(
        0x31,
        &[&sequence(&[
            &der(6, &[&[0x55, 4, 3]]),
            &der(0x13, &[b"root"]),
        ])],
    )]);
    let renamed = Draft {
        issuer: Some(printable),
        ..leaf(HOST)
    }
    .issued_by(&root);
    suite.add(
        "signature/issuer-in-another-string-type",
        &trusted,
        &[&renamed],
    );

    // Clients.
    let client = leaf("client")
        .with(extended_key_usage(&[CLIENT_AUTH]))
        .issued_by(&intermediate);
    suite
        .add("client/complete", &trusted, &[&client, &intermediate])
        .client();
    suite
        .add("client/missing-intermediate", &trusted, &[&client])
        .client();
    suite
        .add("client/as-server", &trusted, &[&client, &intermediate])
        .host("client");
    let nameless = draft("somebody").issued_by(&root);
    suite
        .add("client/without-names", &trusted, &[&nameless])
        .client();
    let old = draft("somebody").version(1).issued_by(&root);
    suite.add("client/version-1", &trusted, &[&old]).client();
    let gone = leaf("client")
        .valid("20250101000000Z", "20251231235959Z")
        .issued_by(&root);
    suite.add("client/expired", &trusted, &[&gone]).client();
}
