//! Sources over HTTPS with a private CA, served by Git itself (lifecycle 2).

use std::io::Write;
use std::process::{Command, Stdio};

use courser_testkit::server::{Reply, Request};
use serde_json::{Value, json};

use super::files::private;
use super::gitlab::{GitLab, add, after_script, payload, variable};
use crate::world::World;

/// `gitlab-ci-token:job-token-`, to be followed by the digit of the job.
const USER: &str = "Basic Z2l0bGFiLWNpLXRva2VuOmpvYi10b2tlbi0";

/// Serves the repositories below `root` to the job tokens of jobs 1 to 4.
fn git_over_http(root: std::path::PathBuf) -> impl FnMut(&Request) -> Reply + Send {
    move |request| {
        let token = request.header("authorization").strip_prefix(USER);
        if !token.is_some_and(|digit| ["x", "y", "z", "0"].contains(&digit)) {
            return Reply::status(401).header("WWW-Authenticate", "Basic realm=\"GitLab\"");
        }
        let agent = request.header("user-agent");
        assert!(
            agent.starts_with("gitlab-runner 19.") || agent.starts_with("git/"),
            "{agent}"
        );
        let mut backend = Command::new("git")
            .arg("http-backend")
            .env("GIT_PROJECT_ROOT", &root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("PATH_INFO", &request.path)
            .env("QUERY_STRING", request.query.as_deref().unwrap_or_default())
            .env("REQUEST_METHOD", &request.method)
            .env("CONTENT_TYPE", request.header("content-type"))
            .env("HTTP_CONTENT_ENCODING", request.header("content-encoding"))
            .env("GIT_PROTOCOL", request.header("git-protocol"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start git http-backend");
        let mut input = backend.stdin.take().expect("piped");
        input.write_all(&request.body).expect("write the body");
        drop(input);
        let output = backend.wait_with_output().expect("its answer").stdout;
        let end = output
            .windows(4)
            .position(|bytes| bytes == b"\r\n\r\n")
            .expect("a head");
        let head = String::from_utf8_lossy(&output[..end]).into_owned();
        let mut status = 200;
        let mut reply = Reply::status(0);
        for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
            if name == "Status" {
                status = value[..3].parse().expect("a status");
            } else {
                reply = reply.header(name, value);
            }
        }
        match reply {
            Reply::Answer { headers, .. } => Reply::Answer {
                status,
                headers,
                body: output[end + 4..].to_vec(),
            },
            other => other,
        }
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
    gitlab.elsewhere(git_over_http(world.path("origin")));
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
