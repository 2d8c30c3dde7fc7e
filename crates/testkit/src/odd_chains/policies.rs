//! Certificate policies and what restricts them.

use super::*;

const ANY: &[u8] = &[0x55, 0x1d, 32, 0];

fn constraints(explicit: Option<u8>, mapping: Option<u8>) -> Vec<u8> {
    let skip = |tag, count: Option<u8>| count.map_or_else(Vec::new, |count| der(tag, &[&[count]]));
    let value = sequence(&[&skip(0x80, explicit), &skip(0x81, mapping)]);
    extension(&[0x55, 0x1d, 36], true, &value)
}

pub(super) fn add(suite: &mut Suite) {
    let (red, blue): (&[u8], &[u8]) = (&[0x2a, 3, 4], &[0x2a, 3, 5]);
    suite.leaf("policy/critical-on-leaf", leaf(HOST).with(policies(red)));
    suite.root(
        "policy/on-root-only",
        ca("root")
            .with(policies(red))
            .with(require_explicit_policy()),
    );
    type Form = Box<dyn Fn(Draft) -> Draft>;
    let own = |policy: &'static [u8]| -> Form {
        Box::new(move |draft: Draft| draft.with(policies(policy)))
    };
    let and =
        |one: Form, two: Vec<u8>| -> Form { Box::new(move |draft| one(draft).with(two.clone())) };
    let cases: Vec<(&str, Form, Form)> = vec![
        (
            "required-and-there",
            and(own(red), require_explicit_policy()),
            own(red),
        ),
        (
            "required-and-absent",
            and(own(red), require_explicit_policy()),
            Box::new(|draft| draft),
        ),
        (
            "required-and-other",
            and(own(red), require_explicit_policy()),
            own(blue),
        ),
        (
            "required-and-any-below",
            and(own(red), require_explicit_policy()),
            own(ANY),
        ),
        (
            "required-and-any-above",
            and(own(ANY), require_explicit_policy()),
            own(red),
        ),
        (
            "required-without-own",
            Box::new(|draft| draft.with(require_explicit_policy())),
            own(red),
        ),
        (
            "any-inhibited-below",
            and(
                and(own(red), require_explicit_policy()),
                inhibit_any_policy(),
            ),
            own(ANY),
        ),
        (
            "any-inhibited-named",
            and(
                and(own(red), require_explicit_policy()),
                inhibit_any_policy(),
            ),
            own(red),
        ),
        (
            "mapped",
            and(
                and(own(red), require_explicit_policy()),
                policy_mapping(red, blue),
            ),
            own(blue),
        ),
        (
            "mapped-unmapped-name",
            and(
                and(own(red), require_explicit_policy()),
                policy_mapping(red, blue),
            ),
            own(red),
        ),
        (
            "mapped-to-any",
            and(
                and(own(red), require_explicit_policy()),
                policy_mapping(red, ANY),
            ),
            own(red),
        ),
        (
            "mapped-from-any",
            and(
                and(own(ANY), require_explicit_policy()),
                policy_mapping(ANY, red),
            ),
            own(red),
        ),
        (
            "mapping-inhibited",
            and(
                and(own(red), constraints(Some(0), Some(0))),
                policy_mapping(red, blue),
            ),
            own(blue),
        ),
        (
            "required-after-1",
            and(own(red), constraints(Some(1), None)),
            Box::new(|draft| draft),
        ),
        (
            "required-after-2",
            and(own(red), constraints(Some(2), None)),
            Box::new(|draft| draft),
        ),
        (
            "required-on-leaf-absent",
            Box::new(|draft| draft),
            Box::new(|draft| draft.with(require_explicit_policy())),
        ),
        (
            "required-on-leaf-there",
            own(red),
            and(own(red), require_explicit_policy()),
        ),
        (
            "empty-constraints",
            and(own(red), constraints(None, None)),
            Box::new(|draft| draft),
        ),
    ];
    for (id, above, below) in cases {
        let root = ca("root").self_signed();
        let issuer = above(ca("issuer")).issued_by(&root);
        let leaf = below(leaf(HOST)).issued_by(&issuer);
        suite.add(&format!("policy/{id}"), &[&root], &[&leaf, &issuer]);
    }
    let twice = sequence(&[&sequence(&[&der(6, &[red])]), &sequence(&[&der(6, &[red])])]);
    let named = |value: &[u8]| extension(&[0x55, 0x1d, 32], false, value);
    suite.leaf("policy/twice", leaf(HOST).with(named(&twice)));
    suite.leaf("policy/empty-list", leaf(HOST).with(named(&sequence(&[]))));
    let qualified = sequence(&[&sequence(&[&der(6, &[red]), &sequence(&[&der(5, &[])])])]);
    suite.leaf("policy/qualifier", leaf(HOST).with(named(&qualified)));
    let huge = sequence(&[&sequence(&[&der(
        6,
        &[&[0x2a, 0x8f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]],
    )])]);
    suite.leaf("policy/large-arc", leaf(HOST).with(named(&huge)));
}
