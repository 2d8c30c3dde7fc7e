//! What the next process saves of a job whose secrets it does not have.

use courser_testkit::server::{FakeServer, Reply};
use serde_json::{Value, json};

use crate::lost::{job_with_artifact, kill, printed, uploads_stall};
use crate::wire::gitlab::{GitLab, spooled};
use crate::world::{World, eventually};

/// A job with this artifact and cache, and a secret out of a Vault that knows one.
fn job_with_secret(vault: &FakeServer, script: &[&str], artifact: &str, cache: &str) -> Value {
    let secret = json!({"file": false, "vault": {
        "server": {"url": vault.url(""), "namespace": null,
            "auth": {"name": "jwt", "path": "jwt", "data": {"jwt": "a.b.c", "role": "deploy"}}},
        "engine": {"name": "kv-v2", "path": "ops"}, "path": "db", "field": "value",
    }});
    let mut job = job_with_artifact(1, script);
    job["artifacts"][0]["name"] = json!(artifact);
    job["cache"] = json!([{"key": cache, "paths": ["*.txt"], "policy": "push", "when": "always"}]);
    job["secrets"] = json!({"TOKEN": secret});
    job
}

fn vault_with(value: &'static str) -> FakeServer {
    FakeServer::http(move |request| match request.path.as_str() {
        path if path.ends_with("/login") => {
            Reply::json(200, &json!({"auth": {"client_token": "s.token"}}))
        }
        path if path.ends_with("/db") => {
            Reply::json(200, &json!({"data": {"data": {"value": value}}}))
        }
        _ => Reply::status(204),
    })
}

#[test]
fn what_is_made_of_secrets_is_not_saved_without_them() {
    let vault = vault_with("hunter2-hunter2");
    for (artifact, cache, said, reason) in [
        ("plain", "plain", None, ""),
        (
            "plain",
            "of-$TOKEN",
            Some("A cache is not saved: cache:key is made of this job's secrets"),
            "",
        ),
        (
            "of-$TOKEN",
            "plain",
            Some(
                "Caches and artifacts are not saved: artifacts:name is made of this job's secrets",
            ),
            "runner_system_failure",
        ),
    ] {
        let (world, gitlab) = (World::new(), GitLab::http());
        gitlab.queue(&job_with_secret(
            &vault,
            &["echo a | tee a.txt"],
            artifact,
            cache,
        ));
        uploads_stall(&gitlab);
        let mut runner = gitlab.runner(&world, "");
        gitlab.wait(1, |job| job.uploads.len() == 1);
        kill(&mut runner);
        gitlab.on_job(|_, _| None);
        let _runner = gitlab.runner(&world, "");
        let job = gitlab.finished(1);
        let text = job.text();
        assert_eq!(job.outcome().1, reason, "{text}");
        let lacks = "What is saved now is saved without this job's secrets";
        assert_eq!(text.contains(lacks), reason.is_empty(), "{text}");
        for line in ["A cache is not saved", "Caches and artifacts are not saved"] {
            let is_said = said.is_some_and(|said| said.starts_with(line) && text.contains(said));
            assert_eq!(text.contains(line), is_said, "{text}");
        }
        let uploads = if reason.is_empty() { 2 } else { 1 };
        assert_eq!(job.uploads.len(), uploads, "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        eventually("the spool is empty", || spooled(&world).is_empty());
    }
}

#[test]
fn a_secret_that_was_being_printed_when_the_runner_was_killed_is_not_in_the_log() {
    let vault = vault_with("hunter2-and-more-of-it");
    let (world, gitlab) = (World::new(), GitLab::http());
    let mark = world.path("mark");
    let script = format!(
        "echo whole $TOKEN; printf %s \"$TOKEN\" | cut -c 1-15 | tr -d '\\n'; touch {}; sleep 60",
        mark.display()
    );
    gitlab.queue(&job_with_secret(&vault, &[&script], "plain", "plain"));
    let mut runner = gitlab.runner(&world, "");
    gitlab.wait(1, |job| printed(&job.log).contains("whole "));
    eventually("more is printed", || mark.exists());
    kill(&mut runner);
    let _runner = gitlab.runner(&world, "");
    let job = gitlab.finished(1);
    assert_eq!(job.outcome().1, "runner_system_failure");
    let text = job.text();
    assert!(text.contains("whole [MASKED]"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    eventually("the spool is empty", || spooled(&world).is_empty());
}
