//! Cancel and abort at each moment (`runner-protocol.md` 6.6, lifecycle 1.7).

use courser_testkit::server::Reply;
use serde_json::{Value, json};

use super::scene::{Scene, failed, success};
use crate::wire::gitlab::{GitLab, add, after_script};

/// Answers with a `Job-Status` from the moment on at which the log shows `text`.
fn say_when(gitlab: &GitLab, text: &'static str, status: &'static str) {
    gitlab.on_job(move |request, job| {
        if request.method == "PATCH" && request.text().contains(text) {
            status.clone_into(&mut job.status);
        }
        None
    });
}

/// A job with everything that may follow a script.
fn full(scene: &mut Scene, script: &[&str]) -> Value {
    let job = after_script(scene.job(1, script), &["echo after $CI_JOB_STATUS"]);
    let artifact = json!({"name": "x", "paths": ["none"], "when": "always"});
    add(job, "artifacts", artifact)
}

#[test]
fn a_script_is_stopped_and_the_rest_runs() {
    let mut scene = Scene::new();
    say_when(&scene.gitlab, "O started", "canceling");
    let job = full(&mut scene, &["echo started; sleep 60"]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("unknown_failure", 0));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ echo started; sleep 60</>
    O started
    . <yellow>WARNING: script canceled externally (UI, API)</>
    E Terminated
    == after_script
    O <green>Running after script...</>
    O <green>$ echo after $CI_JOB_STATUS</>
    O after canceled
    == upload_artifacts_on_failure
    O <green>Uploading artifacts...</>
    E <yellow>WARNING: none: no matching files. Ensure that the artifact path is relative to the working directory (<world>/work/builds/wireabcde/0/g/p)</>
    E <red>ERROR: No files to upload                         </>
    == cleanup_file_variables
    . <red>ERROR: Job failed: canceled</>
    ");
}

#[test]
fn the_reason_is_told_to_a_server_that_knows_it() {
    let mut scene = Scene::new();
    say_when(&scene.gitlab, "O started", "canceling");
    let mut job = scene.job(
        1,
        &["trap 'echo told; exit 0' TERM; echo started; sleep 60 & wait"],
    );
    job["features"]["failure_reasons"] = json!(["job_canceled"]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("job_canceled", 0));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ trap 'echo told; exit 0' TERM; echo started; sleep 60 & wait</>
    O started
    . <yellow>WARNING: script canceled externally (UI, API)</>
    O told
    == cleanup_file_variables
    . <red>ERROR: Job failed: canceled</>
    ");
}

#[test]
fn at_the_acknowledgement_nothing_is_run() {
    let mut scene = Scene::new();
    let job = scene.job(1, &["touch ran"]);
    scene.gitlab.queue(&job);
    scene
        .gitlab
        .change(1, |job| "canceling".clone_into(&mut job.status));
    scene.runner();
    let job = scene.gitlab.finished(1);
    assert_eq!(job.outcome(), failed("job_canceled", 0));
    assert!(job.log.is_empty());
    assert!(!scene.world.path("work/builds").exists());
}

#[test]
fn before_the_script_it_stops_everything() {
    let mut scene = Scene::new();
    say_when(&scene.gitlab, "O fetching", "canceling");
    scene.configure("  pre_get_sources_script = \"echo fetching; sleep 60\"\n");
    let mut job = full(&mut scene, &["echo never"]);
    // The hooks run with sources only.
    job["variables"][0]["value"] = json!("fetch");
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("unknown_failure", 0));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started)
    == get_sources
    O <green>$ echo fetching; sleep 60</>
    O fetching
    E Terminated
    . <red>ERROR: Job failed: canceled</>
    ");
    // The next job has no sources and so no hook.
}

#[test]
fn during_after_script_it_changes_nothing() {
    let mut scene = Scene::new();
    say_when(&scene.gitlab, "O late", "canceling");
    let job = after_script(scene.job(1, &["true"]), &["echo late; sleep 1.5; echo end"]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ true</>
    == after_script
    O <green>Running after script...</>
    O <green>$ echo late; sleep 1.5; echo end</>
    O late
    O end
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn an_abort_by_403_ends_the_job_at_once() {
    let mut scene = Scene::new();
    scene
        .gitlab
        .on_job(|request, _| (request.method == "PATCH").then(|| Reply::status(403)));
    let job = full(&mut scene, &["echo started; sleep 60"]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("unknown_failure", 0));
    let states: Vec<&Value> = job.updates.iter().map(|update| &update["state"]).collect();
    assert_eq!(
        states,
        ["running", "failed"],
        "the end is told all the same"
    );
    assert!(job.log.is_empty());
}

#[test]
fn an_abort_by_status_ends_the_job_at_once() {
    let mut scene = Scene::new();
    say_when(&scene.gitlab, "O started", "canceled");
    let job = full(&mut scene, &["echo started; sleep 60"]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("unknown_failure", 0));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ echo started; sleep 60</>
    O started
    ");
}

#[test]
fn an_end_of_a_job_that_is_unknown_is_told_once() {
    let mut scene = Scene::new();
    scene.gitlab.on_job(|request, job| {
        let end = request.method == "PUT" && job.updates.len() > 1;
        end.then(|| Reply::status(404))
    });
    let job = scene.job(1, &["exit 3"]);
    scene.gitlab.queue(&job);
    scene.runner();
    let job = scene.gitlab.wait(1, |job| job.updates.len() > 1);
    assert_eq!(job.updates[1]["exit_code"], 3);
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ exit 3</>
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 3</>
    ");
    scene.runner().signal("QUIT");
    assert_eq!(scene.runner_ends(), 0, "nothing is waited for");
    scene
        .gitlab
        .change(1, |job| assert_eq!(job.updates.len(), 2));
}

#[test]
fn a_process_that_left_its_group_is_stopped_too() {
    let mut scene = Scene::new();
    say_when(&scene.gitlab, "O started", "canceling");
    let script = [
        "setsid sleep 300 & echo $! > \"$CI_PROJECT_DIR/process\"",
        "echo started",
        "sleep 60",
    ];
    let job = scene.job(1, &script);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("unknown_failure", 0));
    let process = scene.world.read("work/builds/wireabcde/0/g/p/process");
    let place = format!("/proc/{}", process.trim());
    let gone = || !std::path::Path::new(&place).exists();
    crate::world::eventually("the end of the process", gone);
}
