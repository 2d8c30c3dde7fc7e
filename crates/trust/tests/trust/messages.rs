//! What a person reads when trust fails.

use courser_trust::{Generation, PeerName, Reason, Source, Store, Usage, VerifyError, verify};

use crate::matrix::{HOST, judge};
use courser_testkit::forge::*;

/// Fingerprints vary from run to run.
fn redacted(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let digits = word.trim_end_matches([',', '\n']);
        let (head, tail) = digits.split_at(digits.len().min(64));
        if head.len() == 64 && head.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            format!("(fingerprint){tail}{}", &word[digits.len()..])
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn refusal(trusted: &[&Identity], served: &[&Identity]) -> VerifyError {
    judge(trusted, served, HOST).expect_err("a refusal")
}

#[test]
fn a_missing_root_is_explained_with_the_chain_the_link_and_the_command() {
    let other = ca("some other CA").self_signed();
    let root = ca("Example Root").self_signed();
    let intermediate = ca("Example Intermediate").issued_by(&root);
    let leaf = leaf(HOST).issued_by(&intermediate);
    let error = refusal(&[&other], &[&leaf, &intermediate]);
    insta::assert_snapshot!(redacted(&error.explain()));
}

#[test]
fn a_missing_intermediate_is_fetched_from_where_the_leaf_says() {
    let root = ca("Example Root").self_signed();
    let intermediate = ca("Example Intermediate").issued_by(&root);
    let leaf = leaf(HOST)
        .with(issuing_url("http://pki.example.com/intermediate.der"))
        .issued_by(&intermediate);
    let error = refusal(&[&root], &[&leaf]);
    insta::assert_snapshot!(redacted(&error.explain()));
}

#[test]
fn a_url_from_a_certificate_does_not_reach_a_shell() {
    let root = ca("root").self_signed();
    let leaf = leaf(HOST)
        .with(issuing_url("http://x/'; rm -rf ~; '"))
        .issued_by(&root);
    let command = refusal(&[], &[&leaf]).remedy().command.expect("a command");
    assert!(!command.contains("rm -rf"), "{command}");
}

#[test]
fn a_self_signed_server_is_pinned_by_its_fingerprint() {
    let leaf = leaf(HOST).self_signed();
    insta::assert_snapshot!(redacted(&refusal(&[], &[&leaf]).explain()));
}

#[test]
fn a_damaged_trust_file_is_the_first_thing_to_repair() {
    let root = ca("root").self_signed();
    let leaf = leaf(HOST).issued_by(&root);
    let store = Store::builder()
        .add(
            Source::Predefined(format!("/etc/gitlab-runner/certs/{HOST}.crt").into()),
            &root.certificate,
        )
        .build(Generation(3));
    let name = PeerName::from_host(HOST);
    let error = verify(
        &leaf.certificate,
        &[],
        &store,
        Some(&name),
        now(),
        Usage::ServerAuth,
    )
    .expect_err("the root is DER");
    insta::assert_snapshot!(redacted(&error.explain()));
}

#[test]
fn a_trusted_certificate_that_is_no_ca_is_named() {
    let pinned = draft("some server")
        .with(basic_constraints(false, None))
        .self_signed();
    let leaf = leaf(HOST).issued_by(&pinned);
    let error = refusal(&[&pinned], &[&leaf]);
    assert_eq!(
        error.to_string(),
        "x509: certificate signed by unknown authority (possibly because of \"x509: invalid signature: parent \
         certificate cannot sign this kind of certificate\" while trying to verify candidate authority certificate \
         \"some server\")"
    );
}

#[test]
fn a_namesake_beside_the_way_is_not_blamed() {
    let root = ca("root").self_signed();
    let intermediate = ca("intermediate").issued_by(&root);
    let namesake = ca("intermediate").self_signed();
    let leaf = leaf(HOST).issued_by(&intermediate);
    let error = refusal(&[&namesake], &[&leaf, &intermediate]);
    assert_eq!(
        error.to_string(),
        "x509: certificate signed by unknown authority"
    );
    assert!(
        error
            .explain()
            .contains("missing: the certificate of CN=root, which issued CN=intermediate")
    );
}

#[test]
fn an_expired_ca_is_named_and_not_called_unknown() {
    let root = ca("old CA")
        .valid("20160101000000Z", "20260101000000Z")
        .self_signed();
    let leaf = leaf(HOST).issued_by(&root);
    let error = refusal(&[&root], &[&leaf]);
    assert_eq!(
        error.to_string(),
        "x509: certificate has expired or is not yet valid: current time 2026-06-01T12:00:00Z is after \
         2026-01-01T00:00:00Z (candidate authority certificate CN=old CA)"
    );
    assert_eq!(
        error.remedy().advice,
        "CN=old CA cannot vouch for the server: get its successor, and trust that one; if its dates are right, set \
         this machine's clock"
    );
}

#[test]
fn every_reason_has_a_remedy() {
    let root = ca("root").self_signed();
    let drafts = [
        leaf(HOST).valid("20250101000000Z", "20251231235959Z"),
        leaf("a.example.com"),
        draft(HOST),
        leaf(HOST).with(unknown_extension(true)),
        leaf(HOST).with(extended_key_usage(&[CLIENT_AUTH])),
        leaf(HOST).serial(&[0x80]),
        Draft {
            key_info: Some(rsa_key_info(128)),
            ..leaf(HOST)
        },
    ];
    let remedies: Vec<String> = drafts
        .into_iter()
        .map(|draft| {
            let error = refusal(&[&root], &[&draft.issued_by(&root)]);
            let remedy = error.remedy();
            let command = remedy.command.unwrap_or_else(|| "(none)".to_owned());
            format!("{error}\n  {}\n  {command}", remedy.advice)
        })
        .collect();
    insta::assert_snapshot!(remedies.join("\n\n"));
}

#[test]
fn hostile_names_stay_on_their_line() {
    let leaf = draft("x")
        .with(subject_alternative_names(&[(2, b"a\nlevel=fatal")]))
        .self_signed();
    let error = refusal(&[], &[&leaf]);
    assert!(matches!(error.reason(), Reason::WrongName(_)));
    assert!(!error.to_string().contains('\n'));
    assert!(!error.explain().contains("\nlevel="));
}

#[test]
fn a_host_out_of_a_redirect_does_not_reach_a_shell() {
    let hostile = "$(reboot).test";
    let root = ca("root").self_signed();
    let unknown = leaf(hostile).issued_by(&root);
    let other_name = leaf("other.test").issued_by(&root);
    for (trusted, served) in [(vec![], &unknown), (vec![&root], &other_name)] {
        let error = judge(&trusted, &[served], hostile).expect_err("a refusal");
        let command = error.with_port(8443).remedy().command.expect("a command");
        let quoted = command.split('\'').skip(1).step_by(2).collect::<String>();
        assert!(quoted.contains("$(reboot)"), "{command}");
        let bare: String = command.split('\'').step_by(2).collect();
        assert!(!bare.contains('$'), "{command}");
    }
}

#[test]
fn what_two_files_of_the_system_hold_counts_once() {
    let root = ca("root").self_signed();
    let store = ["one.pem", "two.pem"]
        .into_iter()
        .fold(Store::builder(), |store, file| {
            store.add(Source::System(file.into()), root.pem().as_bytes())
        })
        .build(Generation(1));
    let name = PeerName::from_host(HOST);
    let stranger = leaf(HOST).self_signed();
    let error = verify(
        &stranger.certificate,
        &[],
        &store,
        Some(&name),
        now(),
        Usage::ServerAuth,
    )
    .expect_err("a refusal");
    assert_eq!(
        error.trusted_here(),
        ["system store: 1 certificate in 2 files"]
    );
}
