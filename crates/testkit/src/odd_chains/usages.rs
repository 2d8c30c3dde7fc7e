//! Extended key usages, which nest.

use super::*;

pub(super) fn add(suite: &mut Suite) {
    let other: &[u8] = &[0x2a, 3, 4];
    let sets: [(&str, Option<&[&[u8]]>); 6] = [
        ("none", None),
        ("server", Some(&[SERVER_AUTH])),
        ("client", Some(&[CLIENT_AUTH])),
        ("both", Some(&[CLIENT_AUTH, SERVER_AUTH])),
        ("any", Some(&[ANY_USAGE])),
        ("other", Some(&[other])),
    ];
    let root = ca("root").self_signed();
    let with = |draft: Draft, usages: Option<&[&[u8]]>| match usages {
        Some(usages) => draft.with(extended_key_usage(usages)),
        None => draft,
    };
    for (above, of_issuer) in sets {
        let issuer = with(ca("issuer"), of_issuer).issued_by(&root);
        for (below, of_leaf) in sets {
            let leaf = with(leaf(HOST), of_leaf).issued_by(&issuer);
            let id = format!("usage/{above}-above-{below}");
            suite.add(&id, &[&root], &[&leaf, &issuer]);
            if above != "other" && below != "other" {
                suite
                    .add(&format!("{id}-client"), &[&root], &[&leaf, &issuer])
                    .client();
            }
        }
    }
    let usage = |critical, value: &[u8]| extension(&[0x55, 0x1d, 37], critical, value);
    suite.leaf(
        "usage/critical",
        leaf(HOST).with(usage(true, &sequence(&[&der(6, &[SERVER_AUTH])]))),
    );
    suite.leaf(
        "usage/empty-list",
        leaf(HOST).with(usage(false, &sequence(&[]))),
    );
    suite.leaf(
        "usage/malformed",
        leaf(HOST).with(usage(false, &sequence(&[&der(2, &[&[1]])]))),
    );
    suite.leaf(
        "usage/netscape-server",
        leaf(HOST).with(extended_key_usage(&[&[
            0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 4, 1,
        ]])),
    );
    suite.leaf(
        "usage/key-usage-cert-sign-only",
        leaf(HOST).with(key_usage(&[5])),
    );
    suite.leaf(
        "usage/key-usage-agreement-only",
        leaf(HOST).with(key_usage(&[4])),
    );
    suite.leaf(
        "usage/leaf-is-ca",
        leaf(HOST).with(basic_constraints(true, None)),
    );
    suite.leaf(
        "usage/leaf-is-ca-without-key-usage",
        leaf(HOST).with(basic_constraints(true, Some(0))),
    );
}
