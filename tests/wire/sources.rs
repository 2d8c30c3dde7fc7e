//! Sources over HTTPS with a private CA, served by Git itself (lifecycle 2).

use base64::prelude::{BASE64_STANDARD, Engine as _};
use courser_testkit::git_http;
use courser_testkit::programs::write_program;
use courser_testkit::server::{Reply, Request};
use serde_json::{Value, json};

use super::files::private;
use super::gitlab::{GitLab, add, after_script, payload, variable};
use crate::world::World;

/// Serves the repositories below `root` to the tokens that are accepted.
pub(crate) fn git_over_http(
    root: std::path::PathBuf,
    accepts: impl Fn(&str) -> bool + Send,
) -> impl FnMut(&Request) -> Reply + Send {
    move |request| {
        let basic = request.header("authorization").strip_prefix("Basic ");
        let login = BASE64_STANDARD.decode(basic.unwrap_or_default());
        let login = String::from_utf8(login.unwrap_or_default()).unwrap_or_default();
        let token = login.strip_prefix("gitlab-ci-token:");
        if !token.is_some_and(&accepts) {
            return Reply::status(401).header("WWW-Authenticate", "Basic realm=\"GitLab\"");
        }
        let agent = request.header("user-agent");
        assert!(
            agent.starts_with("gitlab-runner 19.") || agent.starts_with("git/"),
            "{agent}"
        );
        git_http::serve(&root, request)
    }
}

/// A repository `g/p.git` with two commits; gives the id of the second.
fn serve_repository(world: &World, gitlab: &GitLab) -> String {
    world.repository(
        "origin/g/p.git",
        &[("f", "one\n"), (".gitignore", "ignored\n")],
    );
    world.write("origin/g/p.git/f", "two\n");
    world.git(
        "origin/g/p.git",
        &["commit", "--quiet", "--all", "--message", "second"],
    );
    let accepts = |token: &str| token.starts_with("job-token-");
    gitlab.elsewhere(git_over_http(world.path("origin"), accepts));
    world
        .git("origin/g/p.git", &["rev-parse", "HEAD"])
        .trim()
        .to_owned()
}

/// A job of that repository.
fn job(gitlab: &GitLab, id: i64, sha: &str, script: &[&str]) -> Value {
    let mut job = payload(id, script);
    let token = format!("://gitlab-ci-token:job-token-{id}@");
    job["variables"] = json!([]);
    job["git_info"]["repo_url"] = json!(format!(
        "{}/g/p.git",
        gitlab.url().replacen("://", &token, 1)
    ));
    job["git_info"]["sha"] = json!(sha);
    job
}

#[test]
fn sources_are_fetched_with_the_token_of_the_job_and_cleaned_for_the_next() {
    let world = World::new();
    let (gitlab, trust) = private(&world);
    let sha = serve_repository(&world, &gitlab);
    let script = [
        "cat f; git status --short; git rev-list --count HEAD; ls -A",
        "git config remote.origin.url; ! grep -r job-token .git",
        "git fetch -q origin main && echo fetched",
        "echo changed > f; touch untracked ignored",
    ];
    let expected = "01O two\n01O 2\n01O .git\n01O .gitignore\n01O f\n";
    for (id, strategy) in [(1, "fetch"), (2, "fetch"), (3, "clone")] {
        let job = variable(job(&gitlab, id, &sha, &script), "GIT_STRATEGY", strategy);
        let job = gitlab.run(&world, &trust, &job);
        let text = job.text();
        assert_eq!(job.outcome().0, "success", "{text}");
        let fresh = text.contains("Created fresh repository.");
        assert_eq!(fresh, id != 2, "{text}");
        for part in [
            "Fetching changes with git depth set to 20...",
            &format!(
                "Checking out {} as detached HEAD (ref is main)...",
                &sha[..8]
            ),
            expected,
            &format!("01O {}/g/p.git\n", gitlab.url()),
            "01O fetched\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}

#[test]
fn a_commit_that_is_not_there_fails_the_job_after_its_attempts() {
    let (world, gitlab) = (World::new(), GitLab::http());
    serve_repository(&world, &gitlab);
    let mut job = job(&gitlab, 1, &"f".repeat(40), &["echo never"]);
    for (key, value) in [
        ("GET_SOURCES_ATTEMPTS", "2"),
        ("FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY", "false"),
    ] {
        job = variable(job, key, value);
    }
    let job = after_script(job, &["echo never"]);
    let job = add(
        job,
        "artifacts",
        json!({"name": "x", "paths": [".gitignore"], "when": "always"}),
    );
    let job = gitlab.run(&world, "", &job);
    let text = job.text();
    assert_eq!(
        job.outcome(),
        ("failed".to_owned(), "script_failure".to_owned(), 1),
        "{text}"
    );
    assert!(text.contains("WARNING: Retrying..."), "{text}");
    assert!(text.contains("Deleting all tracked and untracked files due to source fetch failure"));
    assert!(text.contains(":upload_artifacts_on_failure"), "{text}");
    assert!(!text.contains("never"), "{text}");
}

/// `g/p.git` with the submodule `libs/q` (`g/q.git`); gives the id of its last commit.
fn serve_with_submodule(world: &World, gitlab: &GitLab) -> String {
    serve_repository(world, gitlab);
    world.repository("origin/g/q.git", &[("q.txt", "content of q\n")]);
    let q = world.git("origin/g/q.git", &["rev-parse", "HEAD"]);
    world.write(
        "origin/g/p.git/.gitmodules",
        "[submodule \"libs/q\"]\n\tpath = libs/q\n\turl = ../q.git\n",
    );
    world.git("origin/g/p.git", &["add", ".gitmodules"]);
    let entry = format!("160000,{},libs/q", q.trim());
    world.git(
        "origin/g/p.git",
        &["update-index", "--add", "--cacheinfo", &entry],
    );
    world.git(
        "origin/g/p.git",
        &["commit", "--quiet", "--message", "third"],
    );
    world
        .git("origin/g/p.git", &["rev-parse", "HEAD"])
        .trim()
        .to_owned()
}

#[test]
fn submodules_get_the_token_of_the_job_with_and_without_urls_that_hold_it() {
    let world = World::new();
    let (gitlab, trust) = private(&world);
    let sha = serve_with_submodule(&world, &gitlab);
    let script = [
        "cat libs/q/q.txt",
        "(cd libs/q && git fetch -q origin main && echo fetched in q)",
        "if grep -rs job-token .git libs; then exit 3; fi",
        "if $FF_GIT_URLS_WITHOUT_TOKENS && grep -rs job-token \"$RUNNER_TEMP_PROJECT_DIR\"; then exit 4; fi",
        "echo nothing secret lies about",
    ];
    for (id, without) in [(1, "false"), (2, "true"), (3, "false")] {
        let mut job = variable(job(&gitlab, id, &sha, &script), "GIT_STRATEGY", "fetch");
        for (key, value) in [
            ("CI_JOB_TOKEN", format!("job-token-{id}").as_str()),
            ("GIT_SUBMODULE_STRATEGY", "recursive"),
            ("FF_GIT_URLS_WITHOUT_TOKENS", without),
            ("FF_ENABLE_JOB_CLEANUP", "true"),
        ] {
            job = variable(job, key, value);
        }
        let job = gitlab.run(&world, &trust, &job);
        let text = job.text();
        assert_eq!(job.outcome().0, "success", "{text}");
        assert_eq!(
            text.contains("Created fresh repository."),
            id == 1,
            "{text}"
        );
        for part in [
            "Updating/initializing submodules recursively with git depth set to 20...",
            "Updated submodules",
            "Synchronizing submodule url for 'libs/q'",
            "Configuring submodules to use parent git credentials...",
            "01O content of q\n",
            "01O fetched in q\n",
            "01O nothing secret lies about\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let notices = text.matches("WARNING").count() + text.matches("failed").count();
        assert_eq!(notices, 0, "{text}");
    }
}

#[test]
fn a_job_chooses_its_directory_where_the_runner_lets_it() {
    let world = World::new();
    let (gitlab, trust) = private(&world);
    let sha = serve_repository(&world, &gitlab);
    let builds = world.path("builds");
    let allowed = format!(
        "{trust}builds_dir = \"{}\"\n  [runners.custom_build_dir]\n    enabled = true\n",
        builds.display()
    );
    let script = [
        "pwd; cat f",
        "git config core.fsmonitor 'touch evil; false'",
    ];
    let with_path = |id, path: &str| {
        let job = variable(job(&gitlab, id, &sha, &script), "GIT_STRATEGY", "fetch");
        variable(job, "GIT_CLONE_PATH", path)
    };
    for id in [1, 2] {
        let job = gitlab.run(
            &world,
            &allowed,
            &with_path(id, "$CI_BUILDS_DIR/mine/$CI_PROJECT_ID"),
        );
        let text = job.text();
        assert_eq!(job.outcome().0, "success", "{text}");
        let line = format!("01O {}/mine\n", builds.display());
        assert!(text.contains(&line), "{text}");
        assert!(!builds.join("mine/evil").exists(), "{text}");
    }
    for (id, more, path, message) in [
        (
            3,
            allowed.as_str(),
            "$CI_BUILDS_DIR/../etc",
            format!(
                "the GIT_CLONE_PATH=\"{0}/../etc\" has to be within \"{0}\"",
                builds.display()
            ),
        ),
        (
            4,
            trust.as_str(),
            "$CI_BUILDS_DIR/mine",
            "setting GIT_CLONE_PATH is not allowed, enable `custom_build_dir` feature".to_owned(),
        ),
    ] {
        let job = gitlab.run(&world, more, &with_path(id, path));
        assert!(job.text().contains(&message), "{message}\n{}", job.text());
        assert_eq!(job.outcome().0, "failed");
    }
}

#[test]
fn a_new_git_clones_by_itself_and_sends_credentials_unasked() {
    let world = World::new();
    let (gitlab, trust) = private(&world);
    let sha = serve_with_submodule(&world, &gitlab);
    // Says that it is new, and keeps what it was called with.
    let calls = world.path("calls");
    let shim = format!(
        "#!/bin/sh\n[ \"$1\" = version ] && echo git version 2.49.1 && exit\n\
         printf '%s\\n' \"$*\" >> '{}'\nexec /usr/bin/git \"$@\"\n",
        calls.display()
    );
    write_program(world.path("shim/git"), shim);
    let mut job = variable(job(&gitlab, 1, &sha, &["cat f"]), "GIT_STRATEGY", "clone");
    for (key, value) in [
        (
            "PATH",
            format!("{}:/usr/bin:/bin", world.path("shim").display()).as_str(),
        ),
        ("FF_USE_GIT_NATIVE_CLONE", "true"),
        ("FF_USE_GIT_PROACTIVE_AUTH", "true"),
        ("GIT_CLONE_EXTRA_FLAGS", "--no-tags --single-branch"),
        ("GIT_SUBMODULE_STRATEGY", "normal"),
        ("GIT_SUBMODULE_DEPTH", "1"),
    ] {
        job = variable(job, key, value);
    }
    let job = gitlab.run(&world, &trust, &job);
    let text = job.text();
    assert_eq!(job.outcome().0, "success", "{text}");
    for part in [
        "Git version at least \"2.49\"",
        "Cloning repository for main with git depth set to 20...",
        "Updating/initializing submodules with git depth set to 1...",
        "01O two\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("Fetching changes"), "{text}");
    let url = gitlab.url();
    let project = world.path("work/builds/wireabcde/0/g/p");
    let calls = world.read("calls");
    let proactive = format!("-c http.{url}.proactiveAuth=basic");
    let clone = format!(
        "{proactive} clone --no-checkout {url}/g/p.git {0} --template={0}.tmp/git-template --depth 20 \
         --branch main --no-tags --single-branch\n",
        project.display()
    );
    let checkout = format!("-c submodule.recurse=false {proactive} checkout -f -q {sha}\n");
    for call in [clone, checkout] {
        assert!(calls.contains(&call), "{call}\n{calls}");
    }
}
