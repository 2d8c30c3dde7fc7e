//! Generations: good content replaces, bad content never takes working trust away (`runner-tls.md` 2.4, 2.6, 15).

use std::sync::Arc;

use courser_trust::{Generation, KeptBecause, Reading, Reload, Source, Update};

use courser_testkit::forge::*;

fn file() -> Source {
    Source::Configured("/etc/ca.pem".into())
}

fn bytes(text: &str) -> Reading {
    Reading::Bytes(text.as_bytes().to_vec())
}

fn subjects(update: &Update) -> Vec<String> {
    let certificates = update.store.certificates().iter();
    certificates
        .map(|one| one.certificate().subject().to_string())
        .collect()
}

#[test]
fn new_content_makes_a_new_generation_and_the_same_content_none() {
    let (one, two) = (ca("one").self_signed().pem(), ca("two").self_signed().pem());
    let mut reload = Reload::new();
    let first = reload.update(vec![(file(), bytes(&one))]);
    assert!(first.changed && first.kept.is_empty());
    assert_eq!(first.store.generation(), Generation(1));

    let same = reload.update(vec![(file(), bytes(&format!("# touched\n{one}")))]);
    assert!(!same.changed);
    assert!(Arc::ptr_eq(&same.store, &first.store));

    let second = reload.update(vec![(file(), bytes(&two))]);
    assert!(second.changed);
    assert_eq!(second.store.generation(), Generation(2));
    assert_eq!(subjects(&second), ["CN=two"]);
    assert!(Arc::ptr_eq(reload.store(), &second.store));
}

#[test]
fn bad_content_keeps_the_last_good_one_and_says_so() {
    let one = ca("one").self_signed();
    let cases = [
        (Reading::Absent, KeptBecause::Absent),
        (
            Reading::Unreadable("permission denied".into()),
            KeptBecause::Unreadable("permission denied".into()),
        ),
        (Reading::Bytes(Vec::new()), KeptBecause::NothingUsable),
        (
            Reading::Bytes(one.certificate.to_vec()),
            KeptBecause::NothingUsable,
        ),
    ];
    for (reading, because) in cases {
        let mut reload = Reload::new();
        reload.update(vec![(file(), bytes(&one.pem()))]);
        // It stays however often the bad content is seen.
        for _ in 0..2 {
            let update = reload.update(vec![(file(), reading.clone())]);
            assert_eq!(subjects(&update), ["CN=one"]);
            assert!(!update.changed);
            assert_eq!(update.kept.len(), 1);
            assert_eq!(update.kept[0].because, because);
            assert!(
                update.kept[0]
                    .to_string()
                    .contains("its last good content stays trusted")
            );
        }
        let two = ca("two").self_signed().pem();
        let update = reload.update(vec![(file(), bytes(&two))]);
        assert_eq!(subjects(&update), ["CN=two"]);
        assert!(update.kept.is_empty());
    }
}

#[test]
fn what_was_never_good_adds_nothing_and_what_leaves_the_list_is_gone() {
    let one = ca("one").self_signed().pem();
    let system = Source::System("/etc/ssl/cert.pem".into());
    let mut reload = Reload::new();
    let update = reload.update(vec![(system, bytes(&one)), (file(), Reading::Absent)]);
    assert_eq!(subjects(&update), ["CN=one"]);
    assert!(update.kept.is_empty());
    let update = reload.update(vec![(file(), bytes("no PEM"))]);
    assert!(update.changed && update.kept.is_empty());
    assert!(subjects(&update).is_empty());
    assert_eq!(update.store.skipped().len(), 1);
}

#[test]
fn a_bad_block_beside_a_good_one_is_reported_and_the_good_one_taken() {
    let one = ca("one").self_signed().pem();
    let mut reload = Reload::new();
    let update = reload.update(vec![(file(), bytes(&format!(" {one}{one}")))]);
    assert_eq!(subjects(&update), ["CN=one"]);
    assert_eq!(update.store.skipped().len(), 1);
    assert_eq!(update.store.consulted()[0].skipped, 1);
}

#[test]
fn bad_news_about_a_source_reach_the_store_without_a_change_of_trust() {
    let mut reload = Reload::new();
    reload.update(vec![(file(), Reading::Absent)]);
    let update = reload.update(vec![(file(), bytes("no PEM"))]);
    assert!(!update.changed);
    assert_eq!(update.store.skipped().len(), 1);
}

#[test]
fn a_file_that_adds_only_known_certificates_still_counts_as_consulted() {
    let one = ca("one").self_signed().pem();
    let inline = || (Source::Inline("memory".into()), bytes(&one));
    let mut reload = Reload::new();
    reload.update(vec![inline(), (file(), Reading::Absent)]);
    let update = reload.update(vec![inline(), (file(), bytes(&one))]);
    assert_eq!(update.store.consulted().len(), 2);
    assert_eq!(update.store.certificates().len(), 1);
}
