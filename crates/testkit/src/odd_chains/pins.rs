//! Trusted leaves that are served.

use super::*;

pub(super) fn add(suite: &mut Suite) {
    let pin = |suite: &mut Suite, id: &str, draft: Draft| {
        let leaf = draft.self_signed();
        suite.add(&format!("pin/{id}"), &[&leaf], &[&leaf]);
    };
    pin(
        suite,
        "ca-true",
        leaf(HOST).with(basic_constraints(true, None)),
    );
    pin(
        suite,
        "ca-false",
        leaf(HOST).with(basic_constraints(false, None)),
    );
    pin(suite, "no-basic-constraints", leaf(HOST));
    pin(suite, "version-1", draft(HOST).version(1));
    pin(
        suite,
        "expired",
        leaf(HOST).valid("20250101000000Z", "20251231235959Z"),
    );
    pin(
        suite,
        "not-yet-valid",
        leaf(HOST).valid("20270101000000Z", "20271231235959Z"),
    );
    pin(suite, "wrong-name", leaf("other.example.com"));
    pin(suite, "common-name-only", draft(HOST));
    pin(
        suite,
        "client-usage",
        leaf(HOST).with(extended_key_usage(&[CLIENT_AUTH])),
    );
    pin(
        suite,
        "any-usage",
        leaf(HOST).with(extended_key_usage(&[ANY_USAGE])),
    );
    pin(
        suite,
        "unknown-critical",
        leaf(HOST).with(unknown_extension(true)),
    );
    pin(
        suite,
        "key-usage-without-signing",
        leaf(HOST).with(key_usage(&[2])),
    );
    pin(suite, "own-name-constraints", {
        let other = name_constraints(Some((0x82, b"other.example")), None, true);
        leaf(HOST).with(other)
    });
    pin(suite, "own-path-length", {
        leaf(HOST).with(basic_constraints(true, Some(0)))
    });
    pin(
        suite,
        "requires-policy",
        leaf(HOST).with(require_explicit_policy()),
    );
    let weak = Draft {
        claimed_algorithm: Some(rsa_algorithm(4)),
        ..leaf(HOST)
    };
    pin(suite, "md5-signature", weak);

    let root = ca("root").self_signed();
    let signed = leaf(HOST).issued_by(&root);
    suite.add("pin/ca-signed", &[&signed], &[&signed]);
    suite.add(
        "pin/ca-signed-with-served-root",
        &[&signed],
        &[&signed, &root],
    );
    let stranger = ca("stranger").self_signed();
    suite.add(
        "pin/with-irrelevant-served",
        &[&signed],
        &[&signed, &stranger],
    );

    // A renewed certificate is another one, even with the same key and names.
    let old = leaf(HOST).with(basic_constraints(true, None)).self_signed();
    let renewed = leaf(HOST)
        .with(basic_constraints(true, None))
        .serial(&[2])
        .self_signed_with(same_key(&old));
    suite.add("pin/renewed-ca-true", &[&old], &[&renewed]);
    let old = leaf(HOST).self_signed();
    let renewed = leaf(HOST).serial(&[2]).self_signed_with(same_key(&old));
    suite.add("pin/renewed-no-ca", &[&old], &[&renewed]);

    // A pin vouches for nothing else.
    for (id, draft) in [
        ("ca-false", leaf(HOST).with(basic_constraints(false, None))),
        ("no-basic-constraints", leaf(HOST)),
        ("ca-true", leaf(HOST).with(basic_constraints(true, None))),
    ] {
        let pinned = draft.self_signed();
        let below = leaf("below.example.com").issued_by(&pinned);
        suite
            .add(&format!("pin/issues-another-{id}"), &[&pinned], &[&below])
            .host("below.example.com");
    }
    let client = leaf("client")
        .with(extended_key_usage(&[CLIENT_AUTH]))
        .self_signed();
    suite.add("pin/client", &[&client], &[&client]).client();
    let server = leaf(HOST)
        .with(extended_key_usage(&[SERVER_AUTH]))
        .self_signed();
    suite
        .add("pin/client-with-server-usage", &[&server], &[&server])
        .client();
}
