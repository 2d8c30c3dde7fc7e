//! How jobs end, and who is told (`runner-protocol.md` 2.6, 6.3 to 6.7, lifecycle 1.4 to 1.8).

use courser_testkit::server::Reply;
use serde_json::{Value, json};

use super::gitlab::{GitLab, Record, after_script, payload, variable};
use crate::world::World;

fn states(job: &Record) -> Vec<Value> {
    job.updates
        .iter()
        .map(|update| update["state"].clone())
        .collect()
}

fn outcome(state: &str, reason: &str, code: i64) -> (String, String, i64) {
    (state.to_owned(), reason.to_owned(), code)
}

#[test]
fn a_job_is_acknowledged_first_and_its_end_carries_reason_and_code() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let job = gitlab.run(&world, "", &payload(1, &["exit 7"]));
    assert_eq!(states(&job), ["running", "failed"]);
    assert_eq!(job.updates[0]["output"], json!({}));
    assert_eq!(job.outcome(), outcome("failed", "script_failure", 7));
    assert!(
        job.text()
            .ends_with("ERROR: Job failed: exit status 7\u{1b}[0;m")
    );
    let job = gitlab.run(&world, "", &payload(2, &["kill -9 $$"]));
    assert_eq!(job.outcome(), outcome("failed", "script_failure", -1));
    assert!(
        job.text()
            .ends_with("ERROR: Job failed: signal: killed\u{1b}[0;m")
    );
}

#[test]
fn null_and_absent_are_the_same_in_a_payload() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let mut nulls = payload(1, &["true"]);
    for key in [
        "image",
        "services",
        "artifacts",
        "cache",
        "credentials",
        "dependencies",
        "secrets",
        "hooks",
        "inputs",
        "run",
        "policy_options",
        "suspend_options",
        "runner_info",
        "allow_git_fetch",
    ] {
        nulls[key] = Value::Null;
    }
    for key in [
        "depth",
        "refspecs",
        "protected",
        "repo_object_format",
        "ref_type",
    ] {
        nulls["git_info"][key] = Value::Null;
    }
    assert_eq!(gitlab.run(&world, "", &nulls).outcome().0, "success");
    let least = json!({
        "id": 2, "token": "job-token-2", "git_info": {"sha": "0123456789", "repo_url": "http://h/a/b.git"},
        "variables": [{"key": "GIT_STRATEGY", "value": "none"}],
        "steps": [{"name": "script", "script": ["true"]}],
    });
    assert_eq!(gitlab.run(&world, "", &least).outcome().0, "success");
    let mut options = payload(3, &["true"]);
    options["image"] = json!({
        "name": "alpine", "executor_opts": {"docker": {"user": 1000}, "kubernetes": {"user": "1:1"}},
        "ports": [{"number": 80, "protocol": "http", "name": "x"}],
    });
    assert_eq!(gitlab.run(&world, "", &options).outcome().0, "success");
}

#[test]
fn what_no_executor_can_do_fails_before_it_is_acknowledged() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let mut job = payload(1, &["true"]);
    job["image"] = json!({"name": "a", "executor_opts": {"docker": {"frobnicate": 1}}});
    let job = gitlab.run(&world, "", &job);
    assert_eq!(states(&job), ["failed"]);
    assert_eq!(job.outcome(), outcome("failed", "runner_system_failure", 3));
    let mut job = payload(2, &["true"]);
    job["run"] = json!("[{\"name\":\"a\",\"script\":\"true\"}]");
    let job = gitlab.run(&world, "", &job);
    assert_eq!(states(&job), ["failed"]);
    assert_eq!(
        job.text(),
        "00O the `run` and `script` keywords cannot be used together"
    );
}

#[test]
fn a_job_that_is_gone_at_the_acknowledgement_is_not_run() {
    for (status, remote) in [(403, ""), (404, ""), (200, "canceled"), (200, "failed")] {
        let (world, gitlab) = (World::new(), GitLab::http());
        gitlab.on_job(move |_, job| {
            (job.payload["id"] == 1).then(|| Reply::status(status).header("Job-Status", remote))
        });
        let mark = world.path("work/mark");
        gitlab.queue(&payload(1, &[&format!("touch '{}'", mark.display())]));
        let job = gitlab.run(&world, "", &payload(2, &["true"]));
        assert_eq!(job.outcome().0, "success");
        assert!(!mark.exists(), "{status} {remote}");
        gitlab.change(1, |job| {
            assert_eq!(states(job), ["running"], "{status} {remote}");
        });
    }
}

#[test]
fn a_job_is_run_whatever_else_the_acknowledgement_meets() {
    for reply in [
        Reply::status(400),
        Reply::status(409),
        Reply::status(202),
        Reply::Close,
    ] {
        let (world, gitlab) = (World::new(), GitLab::http());
        let answer = reply.clone();
        gitlab.on_job(move |request, job| {
            (request.method == "PUT" && job.updates.len() == 1).then(|| answer.clone())
        });
        let job = gitlab.run(&world, "", &payload(1, &["true"]));
        assert_eq!(job.outcome().0, "success", "{reply:?}");
    }
}

#[test]
fn a_job_cancelled_at_the_acknowledgement_is_reported_as_such() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let job = payload(1, &["echo ran"]);
    gitlab.queue(&job);
    gitlab.change(1, |job| job.status = "canceling".to_owned());
    let _runner = gitlab.runner(&world, "");
    let job = gitlab.finished(1);
    assert_eq!(job.outcome(), outcome("failed", "job_canceled", 0));
    assert!(job.log.is_empty());
}

#[test]
fn a_cancelled_script_is_followed_by_after_script() {
    let (world, gitlab) = (World::new(), GitLab::http());
    gitlab.on_job(|request, job| {
        if request.method == "PATCH" && request.text().contains("O started") {
            job.status = "canceling".to_owned();
        }
        None
    });
    let job = payload(1, &["echo started; sleep 60"]);
    let job = gitlab.run(
        &world,
        "",
        &after_script(job, &["echo after $CI_JOB_STATUS"]),
    );
    assert_eq!(job.outcome(), outcome("failed", "unknown_failure", 0));
    let text = job.text();
    assert!(
        text.contains("WARNING: script canceled externally (UI, API)"),
        "{text}"
    );
    assert!(text.contains("01O after canceled"), "{text}");
    assert!(
        text.ends_with("ERROR: Job failed: canceled\u{1b}[0;m"),
        "{text}"
    );
}

#[test]
fn an_aborted_job_ends_at_once_and_is_still_reported() {
    for (status, remote) in [(403, ""), (202, "canceled")] {
        let (world, gitlab) = (World::new(), GitLab::http());
        gitlab.on_job(move |request, _| {
            (request.method == "PATCH").then(|| Reply::status(status).header("Job-Status", remote))
        });
        let mark = world.path("work/mark");
        let job = payload(1, &["sleep 60"]);
        let job = after_script(job, &[&format!("touch '{}'", mark.display())]);
        let job = gitlab.run(&world, "", &job);
        assert_eq!(job.outcome(), outcome("failed", "unknown_failure", 0));
        assert!(!mark.exists());
    }
}

#[test]
fn timeouts_of_script_and_job_differ_in_what_follows() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let job = variable(payload(1, &["sleep 60"]), "RUNNER_SCRIPT_TIMEOUT", "1s");
    let job = gitlab.run(
        &world,
        "",
        &after_script(job, &["echo after $CI_JOB_STATUS"]),
    );
    assert_eq!(job.outcome(), outcome("failed", "job_execution_timeout", 0));
    let text = job.text();
    assert!(text.contains("01O after timedout"), "{text}");
    assert!(
        text.ends_with("Job failed: script timeout: context deadline exceeded\u{1b}[0;m"),
        "{text}"
    );

    let mut job = after_script(payload(2, &["sleep 60"]), &["echo after"]);
    job["runner_info"]["timeout"] = json!(1);
    let text = gitlab.run(&world, "", &job).text();
    assert!(
        !text.contains(":after_script") && !text.contains(":cleanup_file"),
        "{text}"
    );
    assert!(
        text.ends_with("Job failed: execution took longer than 1s seconds\u{1b}[0;m"),
        "{text}"
    );

    let job = variable(payload(3, &["true"]), "RUNNER_AFTER_SCRIPT_TIMEOUT", "1s");
    let job = gitlab.run(&world, "", &after_script(job, &["sleep 60"]));
    assert_eq!(job.outcome().0, "success");
}

#[test]
fn after_script_decides_only_when_asked_to() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let job = after_script(payload(1, &["true"]), &["exit 6"]);
    let first = gitlab.run(&world, "", &job);
    assert_eq!(first.outcome(), outcome("success", "", 0));
    let ignored = "WARNING: after_script failed, but job will continue unaffected: exit status 6";
    assert!(first.text().contains(ignored), "{}", first.text());
    let mut job = variable(job, "AFTER_SCRIPT_IGNORE_ERRORS", "false");
    job["id"] = json!(2);
    let second = gitlab.run(&world, "", &job);
    assert_eq!(second.outcome(), outcome("failed", "script_failure", 6));
}

#[test]
fn a_profile_that_fails_is_named_as_the_cause() {
    let (world, gitlab) = (World::new(), GitLab::http());
    world.write("home/.bash_profile", "exit 5\n");
    let job = gitlab.run(&world, "", &payload(1, &["true"]));
    assert_eq!(job.outcome(), outcome("failed", "script_failure", 5));
    let line = "ERROR: Job failed: prepare environment: exit status 5. \
        Check https://docs.gitlab.com/runner/shells/#shell-profile-loading for more information";
    assert!(job.text().contains(line), "{}", job.text());
}

#[test]
fn sigquit_waits_for_jobs_and_asks_for_no_more() {
    let (world, gitlab) = (World::new(), GitLab::http());
    gitlab.queue(&payload(1, &["sleep 1; echo done"]));
    let mut runner = gitlab.runner(&world, "");
    gitlab.wait(1, |job| !job.updates.is_empty());
    runner.signal("QUIT");
    assert_eq!(runner.end().code(), Some(0));
    assert_eq!(gitlab.finished(1).outcome().0, "success");
}

#[test]
fn sigterm_ends_jobs_and_reports_them() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let mut job = after_script(payload(1, &["echo started; sleep 60"]), &["echo after"]);
    job["features"]["failure_reasons"] = json!(["runner_interrupted"]);
    gitlab.queue(&job);
    let mut runner = gitlab.runner(&world, "");
    gitlab.wait(1, |job| {
        job.log.windows(7).any(|window| window == b"started")
    });
    runner.signal("TERM");
    assert_eq!(runner.end().code(), Some(0));
    let job = gitlab.finished(1);
    assert_eq!(job.outcome(), outcome("failed", "runner_interrupted", 0));
    let text = job.text();
    assert!(
        text.ends_with("ERROR: Job failed: aborted: terminated\u{1b}[0;m"),
        "{text}"
    );
    assert!(!text.contains("01O after"), "{text}");
}
