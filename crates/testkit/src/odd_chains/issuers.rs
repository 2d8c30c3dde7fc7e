//! Roots and intermediates: versions, CA rights, path lengths, critical extensions.

use super::*;

/// A CA of this form, by its name.
type Form = (&'static str, fn(&str) -> Draft);

pub(super) fn add(suite: &mut Suite) {
    let plain = |name: &str| draft(name);
    let forms: Vec<Form> = vec![
        ("plain", |name| ca(name)),
        ("version-1", |name| draft(name).version(1)),
        ("version-2", |name| draft(name).version(2)),
        ("no-basic-constraints", |name| draft(name)),
        ("ca-false", |name| {
            draft(name).with(basic_constraints(false, None))
        }),
        ("no-key-usage", |name| {
            draft(name).with(basic_constraints(true, None))
        }),
        ("key-usage-without-cert-sign", |name| {
            draft(name)
                .with(basic_constraints(true, None))
                .with(key_usage(&[0, 6]))
        }),
        ("key-usage-without-bits", |name| {
            draft(name)
                .with(basic_constraints(true, None))
                .with(key_usage(&[]))
        }),
        ("unknown-critical-extension", |name| {
            ca(name).with(unknown_extension(true))
        }),
        ("unknown-extension", |name| {
            ca(name).with(unknown_extension(false))
        }),
        ("expired", |name| {
            ca(name).valid("20200101000000Z", "20251231235959Z")
        }),
        ("not-yet-valid", |name| {
            ca(name).valid("20270101000000Z", "20301231235959Z")
        }),
        ("serial-zero", |name| ca(name).serial(&[0])),
        ("serial-negative", |name| ca(name).serial(&[0x80, 1])),
        ("serial-of-40-octets", |name| ca(name).serial(&[0x11; 40])),
        ("serial-not-minimal", |name| ca(name).serial(&[0, 1])),
        ("unique-ids", |name| Draft {
            unique_ids: true,
            ..ca(name)
        }),
        ("empty-subject", |_| Draft {
            subject: sequence(&[]),
            ..ca("")
        }),
        ("subject-alternative-name", |name| {
            ca(name).with(subject_alternative_names(&[(2, b"ca.example.com")]))
        }),
        ("client-usage", |name| {
            ca(name).with(extended_key_usage(&[CLIENT_AUTH]))
        }),
        ("server-usage", |name| {
            ca(name).with(extended_key_usage(&[SERVER_AUTH]))
        }),
        ("any-usage", |name| {
            ca(name).with(extended_key_usage(&[ANY_USAGE]))
        }),
        ("path-length-0", |name| {
            draft(name)
                .with(basic_constraints(true, Some(0)))
                .with(key_usage(&[5]))
        }),
        ("basic-constraints-twice", |name| {
            ca(name).with(basic_constraints(true, None))
        }),
        ("basic-constraints-not-critical", |name| {
            let value = sequence(&[&der(1, &[&[0xff]])]);
            draft(name).with(extension(&[0x55, 0x1d, 19], false, &value))
        }),
        ("path-length-without-ca", |name| {
            draft(name).with(extension(
                &[0x55, 0x1d, 19],
                true,
                &sequence(&[&der(2, &[&[0]])]),
            ))
        }),
        ("boolean-not-ff", |name| {
            draft(name).with(extension(
                &[0x55, 0x1d, 19],
                true,
                &sequence(&[&der(1, &[&[1]])]),
            ))
        }),
    ];
    for (id, form) in &forms {
        suite.root(&format!("root/{id}"), form("root"));
        suite.intermediate(&format!("intermediate/{id}"), form("intermediate"));
    }

    // Path lengths: how many intermediates are allowed below.
    for (id, limit, below) in [
        ("0-with-1-below", 0, 1),
        ("1-with-1-below", 1, 1),
        ("1-with-2-below", 1, 2),
        ("2-with-2-below", 2, 2),
    ] {
        let short = |name| draft(name).with(basic_constraints(true, Some(limit)));
        let root = short("root").self_signed();
        let mut chain = vec![ca("step 1").issued_by(&root)];
        for step in 2..=below {
            chain.insert(0, ca(&format!("step {step}")).issued_by(&chain[0]));
        }
        chain.insert(0, leaf(HOST).issued_by(&chain[0]));
        let served: Vec<&Identity> = chain.iter().collect();
        suite.add(&format!("path-length/root-{id}"), &[&root], &served);
    }
    // Self-issued intermediates count in Go, unlike in RFC 5280.
    let root = draft("root")
        .with(basic_constraints(true, Some(0)))
        .self_signed();
    let rollover = ca("root").issued_by(&root);
    let below = leaf(HOST).issued_by(&rollover);
    suite.add(
        "path-length/self-issued-counts",
        &[&root],
        &[&below, &rollover],
    );
    let large = extension(
        &[0x55, 0x1d, 19],
        true,
        &sequence(&[&der(1, &[&[0xff]]), &der(2, &[&[0x7f, 0xff, 0xff, 0xff]])]),
    );
    suite.root("path-length/large", plain("root").with(large));
    let negative = extension(
        &[0x55, 0x1d, 19],
        true,
        &sequence(&[&der(1, &[&[0xff]]), &der(2, &[&[0xff]])]),
    );
    suite.root("path-length/negative", plain("root").with(negative));

    let untrusted = ca("untrusted").self_signed();
    let trusted = ca("trusted").self_signed();
    let below = leaf(HOST).issued_by(&untrusted);
    suite.add("root/not-trusted", &[&trusted], &[&below]);
    suite.add(
        "root/not-trusted-but-served",
        &[&trusted],
        &[&below, &untrusted],
    );
    let namesake = ca("untrusted").self_signed();
    suite.add("root/same-name-other-key", &[&namesake], &[&below]);
    suite.add("root/same-name-both", &[&namesake, &untrusted], &[&below]);
    let upper = ca("UNTRUSTED").self_signed_with(same_key(&untrusted));
    suite.add("root/same-key-other-name", &[&upper], &[&below]);
    suite
        .add("root/no-roots", &[], &[&below])
        .ca_text("no certificate here\n".to_owned());
}
