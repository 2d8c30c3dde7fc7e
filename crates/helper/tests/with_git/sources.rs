//! Getting sources with a real Git.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use courser_helper::{HelperError, HelperRequest};
use courser_job::helper_request::{CleanUp, GetSources, GitStrategy, OldGitConfig};
use courser_protocol::Secret;
use courser_testkit::programs::write_program;

use crate::world::{World, files_below, plain};

fn request(sources: GetSources) -> HelperRequest {
    HelperRequest::GetSources(Box::new(sources))
}

#[test]
fn a_fresh_clone_says_what_users_know() {
    let world = World::new();
    let sources = world.sources(GitStrategy::Clone);
    let sha = sources.sha[..8].to_owned();
    let log = world.done(&request(sources));
    let project = world.text("builds/project");
    let expected = format!(
        "Fetching changes...\n\
         Initialized empty Git repository in {project}/.git/\n\
         Created fresh repository.\n\
         Checking out {sha} as detached HEAD (ref is main)...\n"
    );
    assert!(plain(&log.out).starts_with(&expected), "{}", log.out);
    assert!(plain(&log.out).ends_with("Skipping Git submodules setup\n"));
    assert!(
        log.out
            .contains("\u{1b}[32;1mFetching changes...\u{1b}[0;m\n")
    );
    assert_eq!(log.err, "");
    assert_eq!(
        fs::read(world.path("builds/project/second")).expect("file"),
        b"second"
    );
    assert_eq!(
        world.git("builds/project", &["remote", "get-url", "origin"]),
        format!("file://{}", world.text("origin"))
    );
}

#[test]
fn fetching_reuses_the_tree_and_cleans_it() {
    let world = World::new();
    world.done(&request(world.sources(GitStrategy::Fetch)));
    fs::write(world.path("builds/project/left-over"), "").expect("file");
    fs::write(world.path("builds/project/first"), "changed").expect("file");
    world.commit("third");

    let log = world.done(&request(world.sources(GitStrategy::Fetch)));
    let text = plain(&log.out);
    assert!(
        text.contains("Reinitialized existing Git repository"),
        "{text}"
    );
    assert!(text.contains("Removing left-over"), "{text}");
    assert!(!text.contains("Created fresh repository."), "{text}");
    assert_eq!(
        fs::read(world.path("builds/project/first")).expect("file"),
        b"first"
    );
    assert!(world.path("builds/project/third").exists());
}

#[test]
fn a_remote_that_a_job_changed_is_set_back() {
    let world = World::new();
    world.done(&request(world.sources(GitStrategy::Fetch)));
    world.git(
        "builds/project",
        &["remote", "set-url", "origin", "file:///nowhere"],
    );
    world.git("builds/project", &["config", "--unset-all", "include.path"]);
    world.commit("third");
    world.done(&request(world.sources(GitStrategy::Fetch)));
    assert!(world.path("builds/project/third").exists());
    let included = world.git("builds/project", &["config", "include.path"]);
    assert_eq!(
        included,
        world.text("builds/project.tmp/.gitlab-runner.ext.conf")
    );
}

#[test]
fn cloning_starts_from_nothing_each_time() {
    let world = World::new();
    world.done(&request(world.sources(GitStrategy::Clone)));
    fs::write(world.path("builds/project/left-over"), "").expect("file");
    // A job may have taken its own permissions away.
    fs::create_dir_all(world.path("builds/project/sealed/in")).expect("directory");
    fs::set_permissions(
        world.path("builds/project/sealed"),
        fs::Permissions::from_mode(0o0),
    )
    .expect("mode");
    let log = world.done(&request(world.sources(GitStrategy::Clone)));
    assert!(plain(&log.out).contains("Created fresh repository."));
    assert!(!world.path("builds/project/left-over").exists());
    assert!(!world.path("builds/project/sealed").exists());
}

#[test]
fn a_fresh_clone_runs_no_hook_of_an_earlier_job() {
    let world = World::new();
    let marker = world.text("ran");
    let hook = world.path("builds/project.tmp/git-template/hooks/post-checkout");
    write_program(hook, format!("#!/bin/sh\n: > '{marker}'\n"));
    world.done(&request(world.sources(GitStrategy::Clone)));
    assert!(!Path::new(&marker).exists());
}

#[test]
fn locks_of_a_killed_job_are_no_obstacle() {
    let world = World::new();
    world.done(&request(world.sources(GitStrategy::Fetch)));
    for name in ["index.lock", "shallow.lock", "HEAD.lock", "config.lock"] {
        fs::write(world.path("builds/project/.git").join(name), "").expect("file");
    }
    fs::write(
        world.path("builds/project/.git/refs/remotes/origin/main.lock"),
        "",
    )
    .expect("file");
    let hook = world.path("builds/project/.git/hooks/post-checkout");
    write_program(hook, "#!/bin/sh\nexit 7\n");
    world.commit("third");
    world.done(&request(world.sources(GitStrategy::Fetch)));
    assert!(world.path("builds/project/third").exists());
}

#[test]
fn a_repository_without_its_configuration_is_repaired() {
    let world = World::new();
    world.done(&request(world.sources(GitStrategy::Fetch)));
    // Killed between `git init` and the remote.
    fs::write(
        world.path("builds/project/.git/config"),
        "[core]\n\tbare = false\n",
    )
    .expect("file");
    world.commit("third");
    world.done(&request(world.sources(GitStrategy::Fetch)));
    assert!(world.path("builds/project/third").exists());
}

#[test]
fn configuration_and_hooks_of_an_earlier_job_are_dropped_where_asked() {
    let world = World::new();
    let mut sources = world.sources(GitStrategy::Fetch);
    sources.old_config = OldGitConfig::Dropped;
    world.done(&request(sources.clone()));
    world.git(
        "builds/project",
        &["config", "core.fsmonitor", "touch evil; false"],
    );
    let log = world.done(&request(sources));
    // The configuration went away, so the remote is new although objects were reused.
    assert!(plain(&log.out).contains("Created fresh repository."));
    let config = fs::read_to_string(world.path("builds/project/.git/config")).expect("file");
    assert!(!config.contains("fsmonitor"), "{config}");
    assert!(!world.path("builds/project/evil").exists());
}

#[test]
fn a_shallow_repository_becomes_whole() {
    let world = World::new();
    let mut sources = world.sources(GitStrategy::Fetch);
    sources.depth = 1;
    let log = world.done(&request(sources));
    assert!(plain(&log.out).starts_with("Fetching changes with git depth set to 1...\n"));
    assert!(world.path("builds/project/.git/shallow").exists());
    assert_eq!(
        world.git("builds/project", &["rev-list", "--count", "HEAD"]),
        "1"
    );
    world.done(&request(world.sources(GitStrategy::Fetch)));
    assert!(!world.path("builds/project/.git/shallow").exists());
    assert_eq!(
        world.git("builds/project", &["rev-list", "--count", "HEAD"]),
        "2"
    );
}

#[test]
fn nothing_secret_is_in_the_repository() {
    let world = World::new();
    let mut sources = world.sources(GitStrategy::Clone);
    // Works only when the rewriting works: the plain URL leads nowhere.
    let real = sources.remote_url.clone();
    sources.remote_url = "file:///plain/project.git".to_owned();
    sources.instead_of = vec![
        (Secret::new(real), sources.remote_url.clone()),
        (
            Secret::new("https://gitlab-ci-token:s3cr3t-t0ken@h/"),
            "https://h/".to_owned(),
        ),
    ];
    sources.correlation_id = "01CORRELATION".to_owned();
    let log = world.done(&request(sources));
    assert!(plain(&log.out).contains("Gitaly correlation ID: 01CORRELATION\n"));
    assert!(!log.out.contains("s3cr3t-t0ken"));
    for file in files_below(&world.path("builds/project")) {
        let content = fs::read(&file).expect("readable");
        let found = content.windows(12).any(|window| window == b"s3cr3t-t0ken");
        assert!(!found, "{}", file.display());
    }
    let external = world.path("builds/project.tmp/.gitlab-runner.ext.conf");
    let mode = fs::metadata(&external).expect("file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        world.git("builds/project", &["config", "--get", "http.extraHeader"]),
        "X-Gitaly-Correlation-ID: 01CORRELATION"
    );
}

#[test]
fn tls_files_are_set_for_their_host_only() {
    let world = World::new();
    let mut sources = world.sources(GitStrategy::Clone);
    sources.tls_base = Some("https://gitlab.example:8443".to_owned());
    sources.tls_ca_file = Some("/tmp/CI_SERVER_TLS_CA_FILE".to_owned());
    sources.tls_client_pair = Some(("/tmp/cert".to_owned(), "/tmp/key".to_owned()));
    sources.tls_ca_file_only = true;
    world.done(&request(sources));
    let get = |url: &str, key: &str| {
        let default = format!("{key}=default");
        world.git(
            "builds/project",
            &["-c", &default, "config", "--get-urlmatch", key, url],
        )
    };
    let here = "https://gitlab.example:8443/group/project.git";
    assert_eq!(get(here, "http.sslCAInfo"), "/tmp/CI_SERVER_TLS_CA_FILE");
    assert_eq!(get(here, "http.sslCert"), "/tmp/cert");
    assert_eq!(get(here, "http.sslKey"), "/tmp/key");
    let no_roots = world.path("builds/project.tmp/git-template");
    assert_eq!(get(here, "http.sslCAPath"), no_roots.to_string_lossy());
    let elsewhere = "https://elsewhere.example/x.git";
    assert_eq!(get(elsewhere, "http.sslCAInfo"), "default");
}

#[test]
fn without_a_checkout_the_tree_stays_as_it_is() {
    let world = World::new();
    let mut sources = world.sources(GitStrategy::Fetch);
    sources.checkout = false;
    let log = world.done(&request(sources));
    assert!(plain(&log.out).contains("Skipping Git checkout\n"));
    assert!(!world.path("builds/project/first").exists());
    assert!(world.path("builds/project/.git").exists());
}

#[test]
fn what_the_server_sends_does_not_become_an_option() {
    let world = World::new();
    let bad_commit = |sha: &str| {
        let mut sources = world.sources(GitStrategy::Fetch);
        sources.sha = sha.to_owned();
        sources
    };
    let mut bad_refspec = world.sources(GitStrategy::Fetch);
    bad_refspec.refspecs = vec!["--upload-pack=touch evil".to_owned()];
    for sources in [bad_commit("--orphan"), bad_commit("abc"), bad_refspec] {
        let (result, log) = world.run(&request(sources));
        assert!(matches!(result, Err(HelperError::Request(_))), "{result:?}");
        assert!(plain(&log.err).starts_with("FATAL: "), "{}", log.err);
    }
}

#[test]
fn a_failed_fetch_is_a_failure_and_git_says_why() {
    let world = World::new();
    let mut sources = world.sources(GitStrategy::Fetch);
    sources.remote_url = "file:///nowhere/at/all".to_owned();
    let (result, log) = world.run(&request(sources));
    let error = result.expect_err("fails").to_string();
    assert!(error.starts_with("git fetch: "), "{error}");
    assert!(log.err.contains("fatal: "), "{}", log.err);
}

#[test]
fn clearing_leaves_an_empty_tree() {
    let world = World::new();
    world.done(&request(world.sources(GitStrategy::Fetch)));
    fs::write(world.path("builds/project/untracked"), "").expect("file");
    let clear = HelperRequest::ClearWorktree {
        project_dir: world.text("builds/project"),
    };
    let log = world.done(&clear);
    assert_eq!(plain(&log.out), "Deleting tracked and untracked files...\n");
    let left: Vec<_> = fs::read_dir(world.path("builds/project"))
        .expect("readable")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(left, [".git"]);
}

#[test]
fn cleaning_up_removes_what_was_secret() {
    let world = World::new();
    world.done(&request(world.sources(GitStrategy::Fetch)));
    let temporary = world.path("builds/project.tmp");
    for name in ["KUBECONFIG", "gitlab_runner_env", "masking.db", "OTHER"] {
        fs::write(temporary.join(name), "secret").expect("file");
    }
    fs::write(world.path("builds/outside"), "").expect("file");
    fs::write(world.path("builds/project/.git/index.lock"), "").expect("file");
    let work = CleanUp {
        strategy: GitStrategy::Fetch,
        project_dir: world.text("builds/project"),
        temporary_dir: world.text("builds/project.tmp"),
        file_variables: vec!["KUBECONFIG".to_owned(), "../outside".to_owned()],
        job_cleanup: true,
        clean_flags: vec!["-ffdx".to_owned()],
        old_config: OldGitConfig::Kept,
        submodules: None,
        credential_reject_url: Some("https://gitlab.example".to_owned()),
    };
    fs::write(world.path("builds/project/rubbish"), "").expect("file");
    let log = world.done(&HelperRequest::CleanUp(work));
    assert!(log.out.contains("Removing rubbish"), "{}", log.out);
    let left: Vec<_> = files_below(&temporary)
        .into_iter()
        .map(|path| path.strip_prefix(&temporary).expect("below").to_owned())
        .collect();
    assert_eq!(left, [Path::new("OTHER"), "git-template/config".as_ref()]);
    assert!(world.path("builds/outside").exists());
    assert!(!world.path("builds/project/.git/index.lock").exists());
}

#[test]
fn a_repository_that_leads_elsewhere_is_not_followed() {
    let world = World::new();
    world.done(&request(world.sources(GitStrategy::Fetch)));
    fs::rename(world.path("builds/project/.git"), world.path("elsewhere")).expect("moves");
    std::os::unix::fs::symlink(world.path("elsewhere"), world.path("builds/project/.git"))
        .expect("link");
    let before = files_below(&world.path("elsewhere"));
    let mut sources = world.sources(GitStrategy::Fetch);
    sources.old_config = OldGitConfig::Dropped;
    let log = world.done(&request(sources));
    assert!(plain(&log.out).contains("Created fresh repository."));
    assert_eq!(files_below(&world.path("elsewhere")), before);
    assert!(world.path("builds/project/.git/config").is_file());
}
