//! Submodules over TLS, with a real Git and a real Git LFS.

use std::fs;

use courser_helper::HelperRequest;
use courser_job::helper_request::{CleanUp, GitStrategy, OldGitConfig, Submodules};

use crate::site::Site;
use crate::world::{files_below, plain};

/// The lines that Courser prints itself, in order.
fn notices(out: &str) -> Vec<String> {
    out.lines()
        .filter(|line| line.starts_with('\u{1b}'))
        .map(plain)
        .collect()
}

#[test]
fn a_fresh_tree_gets_its_submodules_with_the_words_that_users_know() {
    let site = Site::start();
    let log = site.done(site.with_submodules(GitStrategy::Clone, false));
    let (url, one) = (site.url("/g/one.git"), site.head("one"));
    let project = site.world.text("builds/project");
    let text = plain(&log.out);
    let expected = format!(
        "Updating/initializing submodules...\n\
         Synchronizing submodule url for 'libs/one'\n\
         Submodule path 'libs/one': checked out '{one}'\n\
         Updated submodules\n\
         Synchronizing submodule url for 'libs/one'\n\
         Entering 'libs/one'\n\
         Configuring submodules to use parent git credentials...\n\
         Entering 'libs/one'\n\
         Pulling LFS files...\n\
         Entering 'libs/one'\n"
    );
    assert!(text.ends_with(&expected), "{text}");
    let expected = format!(
        "Submodule 'libs/one' ({url}) registered for path 'libs/one'\n\
         Cloning into '{project}/libs/one'...\n"
    );
    assert_eq!(log.err, expected);
    assert_eq!(site.read("libs/one/one.txt").as_deref(), Some("one"));
    assert_eq!(site.read("libs/one/two/two.txt"), None);
}

#[test]
fn recursive_ones_come_at_their_depth() {
    let site = Site::start();
    site.change("two", &[("two.txt", "two again")], &[]);
    site.change("one", &[], &[("two", "../two.git", "two")]);
    site.change("p", &[], &[("libs/one", "../one.git", "one")]);
    let mut sources = site.with_submodules(GitStrategy::Fetch, true);
    sources.submodules = sources.submodules.map(|all| Submodules { depth: 1, ..all });
    let log = site.done(sources);
    assert_eq!(
        notices(&log.out)[3..],
        [
            "Updating/initializing submodules recursively with git depth set to 1...",
            "Updated submodules",
            "Configuring submodules to use parent git credentials...",
            "Pulling LFS files...",
        ]
    );
    assert_eq!(
        site.read("libs/one/two/two.txt").as_deref(),
        Some("two again")
    );
    for (path, commits) in [("", "3"), ("/libs/one", "1"), ("/libs/one/two", "1")] {
        let path = format!("builds/project{path}");
        let count = site.world.git(&path, &["rev-list", "--count", "HEAD"]);
        // `p` itself was fetched whole.
        assert!(
            path.ends_with("project") || count == commits,
            "{path} {count}"
        );
    }
}

#[test]
fn only_the_paths_that_were_named_are_updated() {
    let site = Site::start();
    let both = [
        ("libs/one", "../one.git", "one"),
        ("libs/two", "../two.git", "two"),
    ];
    site.change("p", &[], &both);
    for (paths, one, two) in [
        (&["libs/two"][..], false, true),
        (&[":(exclude)libs/two", "libs"], true, false),
    ] {
        let mut sources = site.with_submodules(GitStrategy::Clone, false);
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        sources.submodules = sources.submodules.map(|all| Submodules { paths, ..all });
        site.done(sources);
        assert_eq!(site.read("libs/one/one.txt").is_some(), one);
        assert_eq!(site.read("libs/two/two.txt").is_some(), two);
    }
}

#[test]
fn a_reused_tree_follows_the_commit_and_is_cleaned() {
    let site = Site::start();
    let sources = |flags: &[&str]| {
        let mut sources = site.with_submodules(GitStrategy::Fetch, true);
        sources.old_config = OldGitConfig::DroppedBefore;
        sources.clean_flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        sources
    };
    let log = site.done(sources(&["-ffdx"]));
    assert!(log.out.contains("Created fresh repository."));
    for file in ["left", "libs/one/left", "libs/one/two/left"] {
        site.world.write(&format!("builds/project/{file}"), "left");
    }
    site.world
        .write("builds/project/libs/one/one.txt", "changed");
    site.world
        .write("builds/project/.git/modules/libs/one/index.lock", "");
    site.change("two", &[("two.txt", "two again")], &[]);
    site.change(
        "one",
        &[("one.txt", "one again")],
        &[("two", "../two.git", "two")],
    );
    site.change("p", &[], &[("libs/one", "../one.git", "one")]);
    // Without flags the project is not cleaned, its submodules are.
    let log = site.done(sources(&[]));
    let text = plain(&log.out);
    assert!(!text.contains("Created fresh repository."), "{text}");
    assert!(
        text.contains("Entering 'libs/one'\nRemoving left\n"),
        "{text}"
    );
    assert!(!text.contains("failed"), "{text}");
    assert!(site.read("left").is_some());
    assert_eq!(site.read("libs/one/one.txt").as_deref(), Some("one again"));
    assert_eq!(
        site.read("libs/one/two/two.txt").as_deref(),
        Some("two again")
    );
    for file in ["libs/one/left", "libs/one/two/left"] {
        assert_eq!(site.read(file), None, "{file}");
    }
}

#[test]
fn an_update_that_fails_is_tried_once_more() {
    let site = Site::start();
    let mut sources = site.with_submodules(GitStrategy::Fetch, false);
    sources.submodules = sources.submodules.map(|all| Submodules {
        update_flags: vec!["--Remote".to_owned()],
        ..all
    });
    let (result, log) = site.run(sources.clone());
    let error = result.expect_err("there is no such flag").to_string();
    assert!(error.starts_with("git submodule: "), "{error}");
    assert!(
        log.out
            .contains("\u{1b}[0;33mUpdating submodules failed. Retrying...\u{1b}[0;m\n"),
        "{}",
        log.out
    );
    // The tip of the branch, not the commit that the project names.
    site.change("one", &[("one.txt", "tip")], &[]);
    sources.submodules = sources.submodules.map(|all| Submodules {
        update_flags: vec!["--remote".to_owned()],
        ..all
    });
    site.done(sources);
    assert_eq!(site.read("libs/one/one.txt").as_deref(), Some("tip"));
}

#[test]
fn a_commit_that_is_nowhere_fails_after_both_tries() {
    let site = Site::start();
    site.repository("p2", &[], &[("gone", "../one.git", "two")]);
    let mut sources = site.with_submodules(GitStrategy::Fetch, false);
    sources.remote_url = site.url("/g/p2.git");
    sources.sha = site.head("p2");
    let (result, log) = site.run(sources);
    result.expect_err("fails");
    assert_eq!(
        plain(&log.out)
            .matches("Updating submodules failed. Retrying...")
            .count(),
        1
    );
    assert!(log.err.contains(&site.head("two")), "{}", log.err);
}

#[test]
fn a_job_can_fetch_in_submodules_and_nothing_secret_stays_in_them() {
    let site = Site::start();
    site.done(site.with_submodules(GitStrategy::Fetch, false));
    let ca = site.world.text("ca.pem");
    let fetch = || {
        std::process::Command::new("git")
            .args(["fetch", "-q", "origin", "main"])
            .current_dir(site.world.path("builds/project/libs/one"))
            .env("GIT_SSL_CAINFO", &ca)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .status()
            .expect("git starts")
            .success()
    };
    assert!(fetch());
    for file in files_below(&site.world.path("builds/project")) {
        let content = fs::read(&file).expect("readable");
        let found = content.windows(6).any(|window| window == b"s3cr3t");
        assert!(!found, "{}", file.display());
    }
    let work = CleanUp {
        strategy: GitStrategy::Fetch,
        project_dir: site.world.text("builds/project"),
        temporary_dir: site.world.text("builds/project.tmp"),
        file_variables: Vec::new(),
        job_cleanup: true,
        clean_flags: vec!["-ffdx".to_owned()],
        old_config: OldGitConfig::DroppedBefore,
        submodules: Some(Submodules {
            recursive: true,
            paths: Vec::new(),
            depth: 0,
            update_flags: Vec::new(),
        }),
        credential_reject_url: None,
    };
    site.world.write("builds/project/libs/one/rubbish", "");
    let log = site.world.done(&HelperRequest::CleanUp(work));
    assert!(
        log.out.contains("Entering 'libs/one'\nRemoving rubbish\n"),
        "{}",
        log.out
    );
    assert!(!fetch());
}

#[test]
fn lfs_files_come_in_the_project_and_in_its_submodules() {
    let site = Site::start();
    site.add_lfs("one", "one.bin", "content of one");
    site.add_lfs("p", "p.bin", "content of p");
    site.change("p", &[], &[("libs/one", "../one.git", "one")]);
    let mut sources = site.with_submodules(GitStrategy::Fetch, false);
    site.done(sources.clone());
    assert_eq!(site.read("p.bin").as_deref(), Some("content of p"));
    assert_eq!(
        site.read("libs/one/one.bin").as_deref(),
        Some("content of one")
    );

    sources.strategy = GitStrategy::Clone;
    sources.lfs_skip_smudge = true;
    let log = site.done(sources);
    assert!(!log.out.contains("Pulling LFS files..."));
    for file in ["p.bin", "libs/one/one.bin"] {
        let content = site.read(file).expect("a pointer");
        assert!(content.starts_with("version https://git-lfs"), "{content}");
    }
}

#[test]
fn a_project_without_submodules_only_says_so() {
    let site = Site::start();
    let mut sources = site.with_submodules(GitStrategy::Fetch, false);
    sources.remote_url = site.url("/g/two.git");
    sources.sha = site.head("two");
    let log = site.done(sources);
    assert_eq!(
        notices(&log.out)[3..],
        [
            "Updating/initializing submodules...",
            "Updated submodules",
            "Configuring submodules to use parent git credentials...",
            "Pulling LFS files...",
        ]
    );
    assert_eq!(log.err, "");
}
