//! Host names and addresses against SANs.

use super::*;

/// Id; the names: their kind (2 DNS, 6 URI, 7 address, 1 mail) and octets; the host that is asked for.
type Case<'a> = (&'a str, &'a [(u8, &'a [u8])], &'a str);

pub(super) fn add(suite: &mut Suite) {
    let cases: &[Case<'_>] = &[
        ("exact", &[(2, b"gitlab.example.com")], "gitlab.example.com"),
        (
            "letter-case-of-host",
            &[(2, b"gitlab.example.com")],
            "GitLab.Example.COM",
        ),
        (
            "letter-case-of-san",
            &[(2, b"GITLAB.example.COM")],
            "gitlab.example.com",
        ),
        (
            "trailing-dot-of-host",
            &[(2, b"gitlab.example.com")],
            "gitlab.example.com.",
        ),
        (
            "trailing-dot-of-san",
            &[(2, b"gitlab.example.com.")],
            "gitlab.example.com",
        ),
        (
            "trailing-dot-of-both",
            &[(2, b"gitlab.example.com.")],
            "gitlab.example.com.",
        ),
        (
            "two-trailing-dots",
            &[(2, b"gitlab.example.com")],
            "gitlab.example.com..",
        ),
        (
            "leading-dot-of-host",
            &[(2, b"example.com")],
            ".example.com",
        ),
        (
            "leading-dot-of-san",
            &[(2, b".example.com")],
            "gitlab.example.com",
        ),
        (
            "leading-dot-of-both",
            &[(2, b".example.com")],
            ".example.com",
        ),
        (
            "second-of-two",
            &[(2, b"a.example.com"), (2, b"b.example.com")],
            "b.example.com",
        ),
        (
            "none",
            &[(2, b"a.example.com"), (2, b"b.example.com")],
            "c.example.com",
        ),
        ("one-label", &[(2, b"gitlab")], "gitlab"),
        (
            "underscore",
            &[(2, b"git_lab.example.com")],
            "git_lab.example.com",
        ),
        (
            "hyphen-at-the-end",
            &[(2, b"gitlab-.example.com")],
            "gitlab-.example.com",
        ),
        (
            "hyphen-at-the-start",
            &[(2, b"-gitlab.example.com")],
            "-gitlab.example.com",
        ),
        (
            "empty-label",
            &[(2, b"gitlab..example.com")],
            "gitlab..example.com",
        ),
        (
            "space",
            &[(2, b"git lab.example.com")],
            "git lab.example.com",
        ),
        (
            "slash",
            &[(2, b"gitlab/x.example.com")],
            "gitlab/x.example.com",
        ),
        ("numeric", &[(2, b"12345")], "12345"),
        ("wildcard", &[(2, b"*.example.com")], "gitlab.example.com"),
        (
            "wildcard-two-labels",
            &[(2, b"*.example.com")],
            "a.gitlab.example.com",
        ),
        ("wildcard-no-label", &[(2, b"*.example.com")], "example.com"),
        ("wildcard-one-label-suffix", &[(2, b"*.lan")], "gitlab.lan"),
        ("wildcard-alone", &[(2, b"*")], "gitlab"),
        ("wildcard-of-everything", &[(2, b"*")], "*"),
        (
            "wildcard-in-the-middle",
            &[(2, b"gitlab.*.com")],
            "gitlab.example.com",
        ),
        (
            "wildcard-part-of-label",
            &[(2, b"git*.example.com")],
            "gitlab.example.com",
        ),
        (
            "wildcard-prefix-of-label",
            &[(2, b"*lab.example.com")],
            "gitlab.example.com",
        ),
        ("wildcard-twice", &[(2, b"*.*.com")], "gitlab.example.com"),
        (
            "wildcard-and-trailing-dot",
            &[(2, b"*.example.com")],
            "gitlab.example.com.",
        ),
        (
            "wildcard-letter-case",
            &[(2, b"*.EXAMPLE.com")],
            "gitlab.example.COM",
        ),
        (
            "wildcard-for-punycode",
            &[(2, b"*.example.com")],
            "xn--gtlab-3ya.example.com",
        ),
        (
            "wildcard-asked-for",
            &[(2, b"*.example.com")],
            "*.example.com",
        ),
        ("wildcard-for-address", &[(2, b"*.2.0.192")], "1.2.0.192"),
        (
            "punycode",
            &[(2, b"xn--gtlab-3ya.example.com")],
            "xn--gtlab-3ya.example.com",
        ),
        (
            "punycode-letter-case",
            &[(2, b"XN--GTLAB-3YA.example.com")],
            "xn--gtlab-3ya.example.com",
        ),
        (
            "unicode-san",
            &[(2, "gítlab.example.com".as_bytes())],
            "gitlab.example.com",
        ),
        ("address", &[(7, &[192, 0, 2, 1])], "192.0.2.1"),
        ("address-other", &[(7, &[192, 0, 2, 2])], "192.0.2.1"),
        ("address-as-dns", &[(2, b"192.0.2.1")], "192.0.2.1"),
        (
            "address-as-common-name",
            &[(2, b"gitlab.example.com")],
            "192.0.2.1",
        ),
        (
            "address-in-brackets",
            &[(7, &[192, 0, 2, 1])],
            "[192.0.2.1]",
        ),
        (
            "address-6",
            &[(7, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])],
            "2001:db8::1",
        ),
        (
            "address-6-in-brackets",
            &[(7, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])],
            "[2001:db8::1]",
        ),
        (
            "address-6-long-form",
            &[(7, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])],
            "2001:0db8:0:0:0:0:0:0001",
        ),
        (
            "address-mapped-in-san",
            &[(7, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1])],
            "192.0.2.1",
        ),
        (
            "address-mapped-in-host",
            &[(7, &[192, 0, 2, 1])],
            "::ffff:192.0.2.1",
        ),
        (
            "address-leading-zeros",
            &[(7, &[192, 0, 2, 1])],
            "192.0.02.1",
        ),
        ("address-as-number", &[(7, &[192, 0, 2, 1])], "3221225985"),
        (
            "address-without-any",
            &[(2, b"gitlab.example.com")],
            "2001:db8::1",
        ),
        (
            "address-with-zone",
            &[(7, &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])],
            "fe80::1%eth0",
        ),
        (
            "address-of-5-octets",
            &[(2, b"gitlab.example.com"), (7, &[1, 2, 3, 4, 5])],
            "gitlab.example.com",
        ),
        (
            "only-mail",
            &[(1, b"gitlab.example.com")],
            "gitlab.example.com",
        ),
        (
            "only-uri",
            &[(6, b"https://gitlab.example.com")],
            "gitlab.example.com",
        ),
        (
            "uri-without-host",
            &[(2, b"gitlab.example.com"), (6, b"urn:example:x")],
            "gitlab.example.com",
        ),
        (
            "uri-malformed",
            &[(2, b"gitlab.example.com"), (6, b"https://[bad")],
            "gitlab.example.com",
        ),
        (
            "uri-bad-escape",
            &[(2, b"gitlab.example.com"), (6, b"https://a/%zz")],
            "gitlab.example.com",
        ),
        (
            "uri-host-with-blank",
            &[(2, b"gitlab.example.com"), (6, b"https://a b/")],
            "gitlab.example.com",
        ),
        (
            "mail-without-at",
            &[(2, b"gitlab.example.com"), (1, b"nobody")],
            "gitlab.example.com",
        ),
        ("empty-dns", &[(2, b"")], "gitlab.example.com"),
        (
            "empty-dns-among-others",
            &[(2, b""), (2, b"gitlab.example.com")],
            "gitlab.example.com",
        ),
        (
            "nul-inside",
            &[(2, b"gitlab.example.com\0.evil.example")],
            "gitlab.example.com",
        ),
    ];
    for (id, names, host) in cases {
        let draft = draft("x").with(subject_alternative_names(names));
        suite.leaf(&format!("name/{id}"), draft).host(host);
    }
    for (id, uri) in [
        ("opaque", "mailto:someone@example.com"),
        ("opaque-bad-escape", "mailto:a%zz"),
        ("user", "https://user:p%40ss@example.com/"),
        ("user-with-blank", "https://us er@example.com/"),
        ("user-with-at", "https://us@er@example.com/"),
        ("control", "https://example.com/\u{1}"),
        ("control-in-fragment", "https://example.com/#\u{1}"),
        ("escape-in-host", "https://ex%61mple.com/"),
        ("percent-in-host", "https://ex%25ample.com/"),
        ("bracket-in-host", "https://ex[ample.com/"),
        ("port", "https://example.com:8443/"),
        ("port-empty", "https://example.com:/"),
        ("port-letters", "https://example.com:https/"),
        ("ports", "https://a.example.com:1,b.example.com:2/"),
        (
            "ports-of-a-database",
            "postgres://a.example.com:1,b.example.com:2/",
        ),
        ("address", "https://192.0.2.1/"),
        ("address-6", "https://[2001:db8::1]:443/"),
        ("address-6-zone", "https://[fe80::1%25eth0]/"),
        ("address-6-empty-zone", "https://[fe80::1%25]/"),
        ("address-4-in-brackets", "https://[192.0.2.1]/"),
        ("no-scheme", "example.com/path"),
        ("no-scheme-but-colon", "example.com:443"),
        ("scheme-with-digit-first", "1http://example.com"),
        ("empty", ""),
        ("slashes", "///path"),
        ("trailing-dot", "https://example.com./"),
        ("non-ascii", "https://\u{e9}xample.com/"),
    ] {
        let names = [(2, HOST.as_bytes()), (6, uri.as_bytes())];
        let names = || draft("x").with(subject_alternative_names(&names));
        suite.leaf(&format!("uri/{id}"), names());
        let bound = name_constraints(None, Some((0x86, b"other.example")), true);
        let root = ca("root").with(bound).self_signed();
        let leaf = names().issued_by(&root);
        suite.add(&format!("uri/{id}-constrained"), &[&root], &[&leaf]);
    }
    suite.leaf("name/common-name-only", draft(HOST));
    suite.leaf(
        "name/none-at-all",
        Draft {
            subject: sequence(&[]),
            ..draft("")
        },
    );
    let many: Vec<String> = (0..300)
        .map(|number| format!("host-{number}.example.com"))
        .collect();
    let entries: Vec<(u8, &[u8])> = many.iter().map(|name| (2, name.as_bytes())).collect();
    let crowd = || draft("x").with(subject_alternative_names(&entries));
    suite
        .leaf("name/last-of-300", crowd())
        .host("host-299.example.com");
    suite
        .leaf("name/none-of-300", crowd())
        .host("host-300.example.com");

    let names =
        |entries: &[&[u8]], critical| extension(&[0x55, 0x1d, 17], critical, &sequence(entries));
    let dns = der(0x82, &[HOST.as_bytes()]);
    let directory = der(0xa4, &[&name("x")]);
    let other = der(
        0xa0,
        &[&der(6, &[&[0x2a, 3]]), &der(0xa0, &[&der(0x0c, &[b"x"])])],
    );
    let registered = der(0x88, &[&[0x2a, 3, 4]]);
    suite.leaf("san/critical", draft("x").with(names(&[&dns], true)));
    suite.leaf(
        "san/critical-empty-subject",
        Draft {
            subject: sequence(&[]),
            ..draft("")
        }
        .with(names(&[&dns], true)),
    );
    suite.leaf(
        "san/other-kinds-beside",
        draft("x").with(names(&[&dns, &directory, &other, &registered], false)),
    );
    suite.leaf(
        "san/only-directory-name",
        draft(HOST).with(names(&[&directory], false)),
    );
    suite
        .leaf(
            "san/only-directory-name-critical",
            draft(HOST).with(names(&[&directory], true)),
        )
        .client();
    suite.leaf("san/empty", draft(HOST).with(names(&[], false)));
    suite
        .leaf(
            "san/empty-critical-client",
            draft(HOST).with(names(&[], true)),
        )
        .client();
    suite.leaf("san/twice", leaf(HOST).with(names(&[&dns], false)));
    suite.leaf(
        "san/no-sequence",
        draft("x").with(extension(&[0x55, 0x1d, 17], false, &dns)),
    );
    suite.leaf(
        "san/trailing-octets",
        draft("x").with(extension(
            &[0x55, 0x1d, 17],
            false,
            &[sequence(&[&dns]), vec![0]].concat(),
        )),
    );
}
