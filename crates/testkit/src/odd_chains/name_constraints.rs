//! Name constraints of every kind.

use super::*;

const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 30];

pub(super) fn add(suite: &mut Suite) {
    // Permitted subtree, excluded subtree, critical; all against one leaf with a name of each kind.
    type Subtree = Option<(u8, &'static [u8])>;
    let names: &[(u8, &[u8])] = &[
        (2, HOST.as_bytes()),
        (1, b"Admin@Mail.example.com"),
        (6, b"https://user@web.example.com:8443/path"),
        (7, &[192, 0, 2, 1]),
        (7, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
    ];
    let v6 = |prefix: u8| -> &'static [u8] {
        let mut bytes = vec![0x20, 1, 0xd, 0xb8];
        bytes.extend([0; 12]);
        bytes.extend(vec![0xff; usize::from(prefix)]);
        bytes.extend(vec![0; 16 - usize::from(prefix)]);
        bytes.leak()
    };
    let cases: Vec<(&str, Subtree, Subtree)> = vec![
        ("dns-permitted", Some((0x82, b"example.com")), None),
        (
            "dns-permitted-itself",
            Some((0x82, b"gitlab.example.com")),
            None,
        ),
        (
            "dns-permitted-leading-dot",
            Some((0x82, b".example.com")),
            None,
        ),
        (
            "dns-permitted-leading-dot-itself",
            Some((0x82, b".gitlab.example.com")),
            None,
        ),
        ("dns-permitted-other", Some((0x82, b"example.org")), None),
        (
            "dns-permitted-part-of-label",
            Some((0x82, b"ample.com")),
            None,
        ),
        (
            "dns-permitted-letter-case",
            Some((0x82, b"EXAMPLE.com")),
            None,
        ),
        ("dns-permitted-empty", Some((0x82, b"")), None),
        (
            "dns-permitted-trailing-dot",
            Some((0x82, b"example.com.")),
            None,
        ),
        (
            "dns-permitted-wildcard",
            Some((0x82, b"*.example.com")),
            None,
        ),
        ("dns-excluded", None, Some((0x82, b"example.com"))),
        ("dns-excluded-other", None, Some((0x82, b"example.org"))),
        ("dns-excluded-empty", None, Some((0x82, b""))),
        (
            "dns-permitted-and-excluded",
            Some((0x82, b"example.com")),
            Some((0x82, b"gitlab.example.com")),
        ),
        ("dns-malformed", Some((0x82, b"exam ple.com")), None),
        ("dns-not-ascii", Some((0x82, b"\xff.com")), None),
        (
            "mail-domain-permitted",
            Some((0x81, b"mail.example.com")),
            None,
        ),
        ("mail-domain-above", Some((0x81, b"example.com")), None),
        (
            "mail-domain-leading-dot",
            Some((0x81, b".example.com")),
            None,
        ),
        (
            "mail-box-permitted",
            Some((0x81, b"Admin@mail.example.com")),
            None,
        ),
        (
            "mail-box-letter-case",
            Some((0x81, b"admin@mail.example.com")),
            None,
        ),
        ("mail-excluded", None, Some((0x81, b"mail.example.com"))),
        ("mail-malformed", Some((0x81, b"a@b@c")), None),
        ("uri-permitted", Some((0x86, b"web.example.com")), None),
        ("uri-domain-above", Some((0x86, b"example.com")), None),
        ("uri-leading-dot", Some((0x86, b".example.com")), None),
        ("uri-excluded", None, Some((0x86, b"web.example.com"))),
        (
            "uri-constraint-with-address",
            Some((0x86, b"192.0.2.1")),
            None,
        ),
        (
            "address-permitted",
            Some((0x87, &[192, 0, 2, 0, 255, 255, 255, 0])),
            None,
        ),
        (
            "address-other",
            Some((0x87, &[10, 0, 0, 0, 255, 0, 0, 0])),
            None,
        ),
        (
            "address-excluded",
            None,
            Some((0x87, &[192, 0, 2, 1, 255, 255, 255, 255])),
        ),
        ("address-everything-excluded", None, Some((0x87, &[0; 8]))),
        (
            "address-mask-with-holes",
            Some((0x87, &[192, 0, 2, 0, 255, 0, 255, 0])),
            None,
        ),
        (
            "address-of-5-octets",
            Some((0x87, &[192, 0, 2, 0, 255])),
            None,
        ),
        ("address-6-excluded", None, Some((0x87, v6(4)))),
        ("address-6-other-excluded", None, Some((0x87, v6(16)))),
        ("directory-permitted", Some((0xa4, name("x").leak())), None),
        ("registered-id", Some((0x88, &[0x2a, 3])), None),
    ];
    for (id, permitted, excluded) in cases {
        for critical in [true, false] {
            let kind = if critical { "critical" } else { "lenient" };
            let intermediate =
                ca("intermediate").with(name_constraints(permitted, excluded, critical));
            let root = ca("root").self_signed();
            let intermediate = intermediate.issued_by(&root);
            let leaf = draft("x")
                .with(subject_alternative_names(names))
                .issued_by(&intermediate);
            suite.add(
                &format!("constraint/{id}-{kind}"),
                &[&root],
                &[&leaf, &intermediate],
            );
        }
    }

    // Where constraints stand.
    let other = || name_constraints(Some((0x82, b"example.org")), None, true);
    suite.root("constraint/on-the-root", ca("root").with(other()));
    suite.leaf("constraint/on-the-leaf", leaf(HOST).with(other()));
    suite.leaf(
        "constraint/on-the-leaf-empty",
        leaf(HOST).with(name_constraints(None, None, false)),
    );
    let root = ca("root")
        .with(name_constraints(Some((0x82, b"example.com")), None, true))
        .self_signed();
    let bound = |names: &[(u8, &[u8])]| {
        draft("x")
            .with(subject_alternative_names(names))
            .issued_by(&root)
    };
    for (id, names, host) in [
        (
            "wildcard-inside",
            &[(2, &b"*.example.com"[..])][..],
            "gitlab.example.com",
        ),
        ("wildcard-outside", &[(2, b"*.com")], "example.com"),
        ("common-name-only", &[], HOST),
        (
            "one-name-outside",
            &[(2, b"gitlab.example.com"), (2, b"gitlab.example.org")],
            HOST,
        ),
        (
            "other-kinds-are-free",
            &[
                (2, b"gitlab.example.com"),
                (7, &[10, 0, 0, 1]),
                (1, b"a@b.c"),
            ],
            HOST,
        ),
        (
            "unparsable-dns",
            &[(2, b"gitlab.example.com"), (2, b"a..b")],
            HOST,
        ),
        (
            "trailing-dot-of-san",
            &[(2, b"gitlab.example.com.")],
            "gitlab.example.com.",
        ),
    ] {
        let leaf = bound(names);
        suite
            .add(&format!("constraint/{id}"), &[&root], &[&leaf])
            .host(host);
    }
    let client = draft("somebody at example.org").issued_by(&root);
    suite
        .add("constraint/client-without-names", &[&root], &[&client])
        .client();
    // A wildcard that could stand for an excluded name.
    let excluding = ca("root")
        .with(name_constraints(
            None,
            Some((0x82, b"secret.example.com")),
            true,
        ))
        .self_signed();
    let wide = leaf("*.example.com").issued_by(&excluding);
    suite.add("constraint/wildcard-over-excluded", &[&excluding], &[&wide]);
    // An intermediate's own names are bound too.
    let named = ca("intermediate")
        .with(subject_alternative_names(&[(2, b"ca.example.org")]))
        .issued_by(&root);
    let below = leaf(HOST).issued_by(&named);
    suite.add(
        "constraint/name-of-intermediate",
        &[&root],
        &[&below, &named],
    );
    // Two levels both bind.
    let narrower = ca("intermediate")
        .with(name_constraints(
            Some((0x82, b"other.example.com")),
            None,
            true,
        ))
        .issued_by(&root);
    let below = leaf(HOST).issued_by(&narrower);
    suite.add("constraint/narrower-below", &[&root], &[&below, &narrower]);
    // Forms.
    let subtree = sequence(&[&der(0x82, &[b"example.com"])]);
    let with_minimum = sequence(&[&der(0x82, &[b"example.com"]), &der(0x80, &[&[0]])]);
    let forms = [
        ("minimum", sequence(&[&der(0xa0, &[&with_minimum])])),
        (
            "excluded-first",
            sequence(&[
                &der(0xa1, &[&sequence(&[&der(0x82, &[b"x.org"])])]),
                &der(0xa0, &[&subtree]),
            ]),
        ),
        ("empty-permitted-list", sequence(&[&der(0xa0, &[])])),
        (
            "trailing-octets",
            [sequence(&[&der(0xa0, &[&subtree])]), vec![0]].concat(),
        ),
    ];
    for (id, value) in forms {
        let draft = ca("root").with(extension(NAME_CONSTRAINTS, true, &value));
        suite.root(&format!("constraint/form-{id}"), draft);
    }
}
