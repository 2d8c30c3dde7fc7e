use super::*;
use crate::spool::journal::JobRecord;
use crate::spool::{SpoolLimits, drop_kept, kept_jobs};

fn obtained(token: &str) -> Obtained {
    Obtained {
        server: "https://vault".to_owned(),
        namespace: String::new(),
        token: token.into(),
        batch: false,
        expires: 0,
        leases: vec!["database/creds/7".to_owned()],
    }
}

fn account(obtained: &[Obtained]) -> Account<'_> {
    Account {
        obtained,
        logins: &[],
    }
}

fn spool() -> (tempfile::TempDir, Spool) {
    let directory = tempfile::tempdir().expect("a directory");
    let limits = SpoolLimits {
        job: u64::MAX,
        total: u64::MAX,
    };
    let spool = Spool::open(directory.path().join("spool"), limits).expect("a spool");
    (directory, spool)
}

fn tokens(spool: &Spool) -> Vec<String> {
    let kept = spool.kept_leases().into_iter();
    let kept = kept.flat_map(|kept| kept.obtained);
    let mut tokens: Vec<_> = kept.map(|one| one.token.expose().to_owned()).collect();
    tokens.sort_unstable();
    tokens
}

/// The first write of a journal, cut off before it has its name.
fn killed_while_writing(directory: &Path, text: &[u8]) {
    let path = directory.join(LEASES).with_extension(PART);
    let mut file = private_file(&path, true).expect("a new file");
    file.write_all(text).expect("it is written");
}

#[test]
fn what_was_being_written_when_the_process_died_is_taken_and_nothing_stays() {
    let text = br#"{"job":7,"ca_file":null,"obtained":[{"server":"https://v","namespace":"","token":"half",
        "batch":false,"expires":0,"leases":[]}]}"#;
    for (written, part, wanted) in [
        (None, &text[..], &["half"][..]),
        (Some("whole"), text, &["half", "whole"]),
        (Some("whole"), &text[..50], &["whole"]),
        (None, &text[..50], &[]),
        (None, b"", &[]),
    ] {
        let (_directory, spool) = spool();
        let files = spool.begin(JobRecord::for_test()).expect("a job's files");
        let directory = files.directory.clone();
        if let Some(token) = written {
            assert!(
                files
                    .lease_journal(7, None)
                    .write(&account(&[obtained(token)]))
            );
        }
        killed_while_writing(&directory, part);
        drop(files);
        let mut left = spool.left_over();
        assert_eq!(tokens(&spool), wanted);
        left[0].files.remove();
        assert!(!directory.exists());
    }
    // At the top too.
    let (_directory, spool) = spool();
    let parts = [("leases-1.part", &text[..]), ("leases-2.part", &text[..9])];
    for (name, text) in parts {
        fs::write(spool.directory().join(name), text).expect("it is written");
    }
    // Somebody may be writing them.
    assert!(tokens(&spool).is_empty());
    for (name, _) in parts {
        let file = fs::File::options()
            .write(true)
            .open(spool.directory().join(name));
        let long_ago = UNIX_EPOCH + Duration::from_secs(1_000_000);
        file.and_then(|file| file.set_modified(long_ago))
            .expect("an older file that is there");
    }
    assert_eq!(tokens(&spool), ["half"]);
    assert!(!spool.directory().join("leases-1.part").exists());
    assert!(!spool.directory().join("leases-2.part").exists());
}

#[test]
fn a_job_that_is_dropped_leaves_its_tokens_to_be_revoked() {
    let (_directory, spool) = spool();
    let files = spool.begin(JobRecord::for_test()).expect("a job's files");
    files
        .lease_journal(7, None)
        .write(&account(&[obtained("t")]));
    drop(files);
    let jobs = kept_jobs(spool.directory()).expect("a job");
    drop_kept(&jobs[0]).expect("it is dropped");
    assert_eq!(tokens(&spool), ["t"]);
    assert!(spool.left_over().is_empty());
}

#[test]
fn the_time_that_a_job_left_its_tokens_survives_attempts_to_revoke_them() {
    let (_directory, spool) = spool();
    let files = spool.begin(JobRecord::for_test()).expect("a job's files");
    files
        .lease_journal(7, None)
        .write(&account(&[obtained("t")]));
    files.leave_leases();
    let kept = spool.kept_leases().pop().expect("the job's");
    let long_ago = UNIX_EPOCH + Duration::from_secs(1_000_000);
    let file = fs::File::options().write(true).open(&kept.path);
    file.and_then(|file| file.set_modified(long_ago))
        .expect("an older file");
    for _ in 0..2 {
        let kept = spool.kept_leases().pop().expect("the job's");
        assert_eq!(kept.since, Some(long_ago));
        kept.keep(vec![obtained("t")]);
    }
}

fn waiting_for<'a>(logins: &'a [String], obtained: &'a [Obtained]) -> Account<'a> {
    Account { obtained, logins }
}

#[test]
fn what_outlives_its_job_is_its_processs_own_until_that_lets_it_go() {
    let (_directory, spool) = spool();
    let mut files = spool.begin(JobRecord::for_test()).expect("a job's files");
    let journal = files.lease_journal(7, None);
    let servers = ["https://v".to_owned()];
    let waiting = |obtained| waiting_for(&servers, obtained);
    let kept = |spool: &Spool| {
        let kept = spool.kept_leases().into_iter();
        let kept: Vec<_> = kept.map(|one| (one.obtained.len(), one.logins)).collect();
        kept
    };
    assert!(journal.write(&waiting(&[])));
    journal.outlive_job();
    assert!(journal.write(&waiting(&[])));
    files.remove();
    assert_eq!(kept(&spool), []);
    let late = [obtained("late")];
    assert!(journal.write(&waiting(&late)));
    assert_eq!(kept(&spool), []);
    // As when the process is killed.
    drop(journal);
    assert_eq!(kept(&spool), [(1, servers.to_vec())]);
}

#[test]
fn logins_that_were_told_of_are_not_left_to_be_told_of_again() {
    let (_directory, spool) = spool();
    let mut files = spool.begin(JobRecord::for_test()).expect("a job's files");
    let journal = files.lease_journal(7, None);
    let servers = ["https://v".to_owned()];
    let waiting = |obtained| waiting_for(&servers, obtained);
    journal.outlive_job();
    assert!(journal.write(&waiting(&[])));
    files.remove();
    journal.tell_no_logins();
    assert!(journal.write(&waiting(&[])));
    journal.release();
    assert!(spool.kept_leases().is_empty());
    // Should it have come later still.
    assert!(journal.write(&waiting(&[obtained("late")])));
    let kept = spool.kept_leases().pop().expect("the token");
    assert_eq!((kept.obtained.len(), kept.logins.len()), (1, 0));
}

#[test]
fn tokens_and_leases_beyond_all_measure_are_not_written_down() {
    let (_directory, spool) = spool();
    let files = spool.begin(JobRecord::for_test()).expect("a job's files");
    let long = "x".repeat(LONGEST + 1);
    let mut one = obtained("t");
    one.leases.push(long.clone());
    assert!(
        !files
            .lease_journal(7, None)
            .write(&account(&[one, obtained(&long)]))
    );
    files.leave_leases();
    let kept = spool.kept_leases().pop().expect("the job's");
    assert_eq!(kept.obtained, [obtained("t")]);
}
