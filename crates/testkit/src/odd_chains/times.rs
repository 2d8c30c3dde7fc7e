//! Validity and the time of the question.

use super::*;

pub(super) fn add(suite: &mut Suite) {
    let valid = |from, to| leaf(HOST).valid(from, to);
    // The leaf is valid from 1 March 2026, 10:00:00 to 1 April 2026, 10:00:00; its root much longer.
    let root = ca("root")
        .valid("19900101000000Z", "20991231235959Z")
        .self_signed();
    let month = valid("20260301100000Z", "20260401100000Z").issued_by(&root);
    for (id, at) in [
        ("first-second", "2026-03-01T10:00:00Z"),
        ("second-before", "2026-03-01T09:59:59Z"),
        ("last-second", "2026-04-01T10:00:00Z"),
        ("second-after", "2026-04-01T10:00:01Z"),
        ("fraction-before", "2026-03-01T09:59:59.999999999Z"),
        ("fraction-of-the-last-second", "2026-04-01T10:00:00.5Z"),
        ("offset-inside", "2026-04-01T12:00:00+02:00"),
        ("offset-outside", "2026-04-01T12:00:01+02:00"),
        ("negative-offset-inside", "2026-03-01T05:00:00-05:00"),
        ("negative-offset-outside", "2026-03-01T04:59:59-05:00"),
        ("half-hour-offset", "2026-04-01T15:30:00+05:30"),
    ] {
        suite.add(&format!("time/{id}"), &[&root], &[&month]).at(at);
    }
    let leap = valid("20240229000000Z", "20240229235959Z").issued_by(&root);
    for (id, at) in [
        ("leap-day", "2024-02-29T12:00:00Z"),
        ("day-before-leap-day", "2024-02-28T23:59:59Z"),
        ("day-after-leap-day", "2024-03-01T00:00:00Z"),
    ] {
        suite.add(&format!("time/{id}"), &[&root], &[&leap]).at(at);
    }
    let eternal = || ca("eternal").valid("00010101000000Z", "99991231235959Z");
    let root = eternal().self_signed();
    let long = valid("19000101000000Z", "99991231235959Z").issued_by(&root);
    for (id, at) in [
        ("before-1970", "1950-06-01T00:00:00Z"),
        ("before-1900", "1899-12-31T23:59:59Z"),
        ("year-2038", "2038-01-19T03:14:08Z"),
        ("year-2100", "2100-02-28T23:59:59Z"),
        ("year-9999", "9999-12-31T23:59:59Z"),
    ] {
        suite.add(&format!("time/{id}"), &[&root], &[&long]).at(at);
    }

    // How validity is written.
    let utc = |text: &str| der(0x17, &[text.as_bytes()]);
    let general = |text: &str| der(0x18, &[text.as_bytes()]);
    let forms: Vec<(&str, Vec<u8>)> = vec![
        (
            "utc",
            sequence(&[&utc("260101000000Z"), &utc("261231235959Z")]),
        ),
        (
            "utc-1950-is-1950",
            sequence(&[&utc("500101000000Z"), &utc("261231235959Z")]),
        ),
        (
            "utc-49-is-2049",
            sequence(&[&utc("260101000000Z"), &utc("491231235959Z")]),
        ),
        (
            "utc-without-seconds",
            sequence(&[&utc("2601010000Z"), &utc("2612312359Z")]),
        ),
        (
            "utc-offset",
            sequence(&[&utc("260101000000+0100"), &utc("261231235959Z")]),
        ),
        (
            "utc-zero-offset",
            sequence(&[&utc("260101000000+0000"), &utc("261231235959Z")]),
        ),
        (
            "utc-without-zone",
            sequence(&[&utc("260101000000"), &utc("261231235959Z")]),
        ),
        (
            "mixed",
            sequence(&[&utc("260101000000Z"), &general("20991231235959Z")]),
        ),
        (
            "general-fraction",
            sequence(&[&general("20260101000000.5Z"), &general("20261231235959Z")]),
        ),
        (
            "general-offset",
            sequence(&[&general("20260101000000+0100"), &general("20261231235959Z")]),
        ),
        (
            "general-without-seconds",
            sequence(&[&general("202601010000Z"), &general("20261231235959Z")]),
        ),
        (
            "30-february",
            sequence(&[&utc("260230000000Z"), &utc("261231235959Z")]),
        ),
        (
            "29-february-2026",
            sequence(&[&utc("260229000000Z"), &utc("261231235959Z")]),
        ),
        (
            "29-february-2024",
            sequence(&[&utc("240229000000Z"), &utc("261231235959Z")]),
        ),
        (
            "29-february-1900",
            sequence(&[&general("19000229000000Z"), &utc("261231235959Z")]),
        ),
        (
            "29-february-2000",
            sequence(&[&general("20000229000000Z"), &utc("261231235959Z")]),
        ),
        (
            "hour-24",
            sequence(&[&utc("260101240000Z"), &utc("261231235959Z")]),
        ),
        (
            "second-60",
            sequence(&[&utc("260101000060Z"), &utc("261231235959Z")]),
        ),
        (
            "month-13",
            sequence(&[&utc("261301000000Z"), &utc("271231235959Z")]),
        ),
        (
            "letters",
            sequence(&[&utc("26o101000000Z"), &utc("261231235959Z")]),
        ),
        (
            "year-0",
            sequence(&[&general("00000101000000Z"), &utc("261231235959Z")]),
        ),
        (
            "end-before-start",
            sequence(&[&utc("261231235959Z"), &utc("260101000000Z")]),
        ),
        (
            "three-times",
            sequence(&[
                &utc("260101000000Z"),
                &utc("261231235959Z"),
                &utc("261231235959Z"),
            ]),
        ),
        ("one-time", sequence(&[&utc("260101000000Z")])),
        (
            "no-time-type",
            sequence(&[&der(0x0c, &[b"260101000000Z"]), &utc("261231235959Z")]),
        ),
    ];
    for (id, validity) in forms {
        let draft = Draft {
            encoded_validity: Some(validity),
            ..leaf(HOST)
        };
        suite.leaf(&format!("validity/{id}"), draft);
    }
}
