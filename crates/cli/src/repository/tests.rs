//! Against real repositories.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use courser_pipeline::{ChangedFiles, Comparison, Files};

use super::event::NO_COMMIT;
use super::*;

fn run(directory: &Path, arguments: &[&str]) {
    let mut all = vec![
        "-c",
        "user.name=Ann Author",
        "-c",
        "user.email=ann@example.org",
        "-c",
        "commit.gpgsign=false",
    ];
    all.extend(arguments);
    git(directory, all).unwrap();
}

/// A repository with two commits on `trunk`.
fn repository() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    run(path, &["init", "-q", "-b", "trunk"]);
    fs::write(path.join("a.txt"), "a").unwrap();
    run(path, &["add", "."]);
    run(path, &["commit", "-q", "-m", "First"]);
    fs::create_dir(path.join("src")).unwrap();
    fs::write(path.join("src/b.txt"), "b").unwrap();
    fs::write(path.join(".gitignore"), "ignored\n").unwrap();
    run(path, &["add", "."]);
    run(path, &["commit", "-q", "-m", "Second\n\nWith a body"]);
    directory
}

#[test]
fn the_event_is_filled_from_the_commit() {
    let directory = repository();
    let path = directory.path();
    let url = "https://user:secret@git.example.org:8443/group/sub/app.git";
    run(path, &["remote", "add", "origin", url]);
    let repository = Repository::discover(&path.join("src")).unwrap();
    let event = repository.event(&Occasion::push());
    assert_eq!((event.ref_name.as_str(), event.tag), ("trunk", false));
    for (key, value) in [
        ("CI_COMMIT_BRANCH", "trunk"),
        ("CI_DEFAULT_BRANCH", "trunk"),
        ("CI_COMMIT_TITLE", "Second"),
        ("CI_COMMIT_DESCRIPTION", "With a body"),
        ("CI_COMMIT_AUTHOR", "Ann Author <ann@example.org>"),
        ("CI_PROJECT_PATH", "group/sub/app"),
        ("CI_PROJECT_ROOT_NAMESPACE", "group"),
        (
            "CI_PROJECT_URL",
            "https://git.example.org:8443/group/sub/app",
        ),
    ] {
        assert_eq!(event.predefined[key], value, "{key}");
    }
    assert_eq!(event.predefined["CI_COMMIT_SHA"].len(), 40);
    assert!(!event.predefined.contains_key("CI_COMMIT_TAG"));
    assert!(!event.predefined.contains_key("CI_MERGE_REQUEST_IID"));
    let event = repository.event(&Occasion {
        ref_name: Some("feature".to_owned()),
        ..Occasion::from_source("merge_request_event")
    });
    assert!(!event.predefined.contains_key("CI_COMMIT_BRANCH"));
    for (key, value) in [
        ("CI_COMMIT_REF_NAME", "feature"),
        ("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "feature"),
        ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "trunk"),
        ("CI_MERGE_REQUEST_IID", "1"),
    ] {
        assert_eq!(event.predefined[key], value, "{key}");
    }
    for (key, value) in [
        ("CI_SERVER_HOST", "git.example.org"),
        ("CI_SERVER_FQDN", "git.example.org:8443"),
        ("CI_SERVER_URL", "https://git.example.org:8443"),
        ("CI_API_V4_URL", "https://git.example.org:8443/api/v4"),
        (
            "CI_CONFIG_REF_URI",
            "git.example.org:8443/group/sub/app//.gitlab-ci.yml@refs/merge-requests/1/head",
        ),
    ] {
        assert_eq!(event.of_server[key], value, "{key}");
    }
    assert!(!format!("{repository:?} {event:?}").contains("secret"));
}

#[test]
fn a_detached_head_at_a_tag_is_the_tag() {
    let directory = repository();
    let path = directory.path();
    run(path, &["tag", "v1"]);
    run(path, &["checkout", "-q", "--detach"]);
    let event = Repository::discover(path).unwrap().event(&Occasion::push());
    assert_eq!((event.ref_name.as_str(), event.tag), ("v1", true));
    assert_eq!(event.predefined["CI_COMMIT_TAG"], "v1");
    run(path, &["tag", "-d", "v1"]);
    let event = Repository::discover(path).unwrap().event(&Occasion::push());
    assert_eq!(event.ref_name, event.predefined["CI_COMMIT_SHORT_SHA"]);
}

#[test]
fn worktrees_shallow_clones_and_unborn_branches_work() {
    let directory = repository();
    let path = directory.path();
    let beside = tempfile::tempdir().unwrap();
    let worktree = beside.path().join("worktree");
    let worktree_text = worktree.to_str().unwrap();
    run(
        path,
        &["worktree", "add", "-q", "-b", "side", worktree_text],
    );
    let found = Repository::discover(&worktree).unwrap();
    assert_eq!(found.event(&Occasion::push()).ref_name, "side");

    let shallow = beside.path().join("shallow");
    let from = format!("file://{}", path.display());
    run(
        path,
        &[
            "clone",
            "-q",
            "--depth",
            "1",
            &from,
            shallow.to_str().unwrap(),
        ],
    );
    let found = Repository::discover(&shallow).unwrap();
    let commit = found.git.as_ref().unwrap().commit.as_ref().unwrap();
    assert_eq!(commit.message, "Second\n\nWith a body");
    assert_eq!(found.git.as_ref().unwrap().default_branch, "trunk");

    let unborn = tempfile::tempdir().unwrap();
    run(unborn.path(), &["init", "-q", "-b", "start"]);
    let found = Repository::discover(unborn.path()).unwrap();
    let event = found.event(&Occasion::push());
    assert_eq!(event.ref_name, "start");
    // Which branch is the default one, nobody knows.
    assert_eq!(event.predefined["CI_DEFAULT_BRANCH"], "start");
    assert_eq!(event.predefined["CI_COMMIT_REF_PROTECTED"], "false");
    assert_eq!(event.predefined["CI_COMMIT_SHA"], NO_COMMIT);
    assert_eq!(found.changed_files().unwrap(), ChangedFiles::Unknown);
}

#[test]
fn changes_are_those_of_the_last_commit_and_of_the_working_tree() {
    let directory = repository();
    let path = directory.path();
    fs::write(path.join("a.txt"), "changed").unwrap();
    fs::write(path.join("new.txt"), "new").unwrap();
    fs::write(path.join("ignored"), "no").unwrap();
    let changed = Repository::discover(path).unwrap().changed_files().unwrap();
    let expected = [".gitignore", "a.txt", "new.txt", "src/b.txt"];
    assert_eq!(
        changed,
        ChangedFiles::Known(expected.map(str::to_owned).into())
    );
}

#[test]
fn changes_of_a_merge_request_are_those_since_the_default_branch() {
    let directory = repository();
    let path = directory.path();
    run(path, &["branch", "-m", "main"]);
    run(path, &["checkout", "-q", "-b", "feature"]);
    for name in ["one.txt", "two.txt"] {
        fs::write(path.join(name), "new").unwrap();
        run(path, &["add", "."]);
        run(path, &["commit", "-q", "-m", name]);
    }
    let repository = Repository::discover(path).unwrap();
    let known =
        |names: &[&str]| ChangedFiles::Known(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(
        repository.changed_files_of_merge_request(None).unwrap(),
        known(&["one.txt", "two.txt"])
    );
    assert_eq!(repository.changed_files().unwrap(), known(&["two.txt"]));
    let expected = ["one.txt", "two.txt"].map(str::to_owned);
    for reference in ["main", "refs/heads/main"] {
        let compared = repository.compare_to(reference);
        assert_eq!(compared, Comparison::Changed(expected.to_vec()));
    }
    for reference in ["nowhere", "--all", ""] {
        let compared = repository.compare_to(reference);
        assert_eq!(compared, Comparison::UnknownReference, "{reference}");
    }
}

#[test]
fn files_outside_the_working_tree_cannot_be_read() {
    let directory = repository();
    let path = directory.path();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("x.yml"), "secret: 1").unwrap();
    std::os::unix::fs::symlink(outside.path(), path.join("link")).unwrap();
    let repository = Repository::discover(path).unwrap();
    assert_eq!(repository.read("src/b.txt").as_deref(), Some("b"));
    assert_eq!(repository.read("link/x.yml"), None);
    assert_eq!(repository.read("../x.yml"), None);
    assert_eq!(repository.read("/etc/passwd"), None);
    assert_eq!(repository.read("src"), None);
}

#[test]
fn listing_leaves_out_what_is_ignored_or_deleted() {
    let directory = repository();
    let path = directory.path();
    fs::write(path.join("ignored"), "no").unwrap();
    fs::write(path.join("new.txt"), "new").unwrap();
    fs::remove_file(path.join("a.txt")).unwrap();
    let listed: BTreeSet<String> = Repository::discover(path)
        .unwrap()
        .list()
        .into_iter()
        .collect();
    let expected = [".gitignore", "new.txt", "src/b.txt"];
    assert_eq!(listed, expected.map(str::to_owned).into());
    let walked = Repository::without_git(path).list();
    assert_eq!(walked, [".gitignore", "ignored", "new.txt", "src/b.txt"]);
}

#[test]
fn a_directory_inside_knows_only_its_own_files() {
    let directory = repository();
    fs::write(directory.path().join("a.txt"), "changed").unwrap();
    fs::write(directory.path().join("src/new.txt"), "new").unwrap();
    let inside = Repository::of_directory(&directory.path().join("src")).unwrap();
    let expected = ["b.txt", "new.txt"].map(str::to_owned);
    assert_eq!(
        inside.changed_files().unwrap(),
        ChangedFiles::Known(expected.to_vec())
    );
    let listed: BTreeSet<String> = inside.list().into_iter().collect();
    assert_eq!(listed, expected.into());
    assert_eq!(inside.read("b.txt").as_deref(), Some("b"));
    assert_eq!(inside.read("a.txt"), None);
    assert_eq!(inside.event(&Occasion::push()).ref_name, "trunk");
}

#[test]
fn an_expression_is_a_commit_and_never_a_branch() {
    let origin = repository();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("clone");
    let from = origin.path().to_str().unwrap();
    run(directory.path(), &["clone", "-q", from, "clone"]);
    fs::write(path.join("c.txt"), "c").unwrap();
    run(&path, &["add", "."]);
    run(&path, &["commit", "-q", "-m", "Only here"]);
    run(&path, &["tag", "v1"]);
    let id = |revision: &str| {
        git(&path, ["rev-parse", revision])
            .unwrap()
            .trim()
            .to_owned()
    };
    let repository = Repository::discover(&path).unwrap();
    let sha = id("HEAD");
    let parent = id("HEAD~1");
    for (name, kind, short, commit) in [
        ("HEAD", RefKind::Commit, "HEAD", &sha),
        ("HEAD~1", RefKind::Commit, "HEAD~1", &parent),
        ("trunk~1", RefKind::Commit, "trunk~1", &parent),
        ("trunk^{commit}", RefKind::Commit, "trunk^{commit}", &sha),
        ("v1^", RefKind::Commit, "v1^", &parent),
        (sha.as_str(), RefKind::Commit, sha.as_str(), &sha),
        ("trunk", RefKind::Branch, "trunk", &sha),
        ("refs/heads/trunk", RefKind::Branch, "trunk", &sha),
        ("origin/trunk", RefKind::Branch, "trunk", &parent),
        ("v1", RefKind::Tag, "v1", &sha),
    ] {
        let expected = Reference {
            kind,
            name: short.to_owned(),
            sha: commit.clone(),
        };
        assert_eq!(repository.find_ref(name, false), Some(expected), "{name}");
    }
    assert_eq!(repository.find_ref("v1~1", true), None);
}

#[test]
fn a_committed_file_is_read_as_far_as_the_evaluator_looks() {
    let directory = repository();
    let path = directory.path();
    fs::write(path.join("big.yml"), vec![b'x'; 3 * 1024 * 1024]).unwrap();
    run(path, &["add", "."]);
    run(path, &["commit", "-q", "-m", "Big"]);
    let working = Repository::discover(path).unwrap();
    let committed = working.clone().at("HEAD").unwrap().unwrap();
    let lengths = [&working, &committed].map(|files| files.read("big.yml").unwrap().len());
    assert_eq!(lengths, [2 * 1024 * 1024 + 1; 2]);
    assert_eq!(committed.read("a.txt").as_deref(), Some("a"));
    assert_eq!(committed.read("src"), None);
    assert_eq!(committed.read("missing.yml"), None);
}
