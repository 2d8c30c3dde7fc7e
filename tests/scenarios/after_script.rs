//! What runs after the script, and timeouts (lifecycle 1.4, 1.6).

use serde_json::json;

use super::scene::{Scene, failed, success};
use crate::wire::gitlab::{add, after_script, variable};

#[test]
fn it_sees_files_but_nothing_of_the_scripts_shell() {
    let mut scene = Scene::new();
    let job = scene.job(1, &["X=1; cd /; echo made > \"$CI_PROJECT_DIR/file\""]);
    let script = ["echo ${X-unset} $CI_JOB_STATUS ${PWD##*/}", "cat file"];
    let job = scene.run(&after_script(job, &script));
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r#"
    (started, no sources)
    == step_script
    O <green>$ X=1; cd /; echo made > "$CI_PROJECT_DIR/file"</>
    == after_script
    O <green>Running after script...</>
    O <green>$ echo ${X-unset} $CI_JOB_STATUS ${PWD##*/}</>
    O unset success p
    O <green>$ cat file</>
    O made
    == cleanup_file_variables
    . <green>Job succeeded</>
    "#);
}

#[test]
fn it_runs_after_a_failure_and_knows_of_it() {
    let mut scene = Scene::new();
    let job = scene.job(1, &["exit 4"]);
    let job = scene.run(&after_script(job, &["echo $CI_JOB_STATUS"]));
    assert_eq!(job.outcome(), failed("script_failure", 4));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ exit 4</>
    == after_script
    O <green>Running after script...</>
    O <green>$ echo $CI_JOB_STATUS</>
    O failed
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 4</>
    ");
}

#[test]
fn its_failure_is_a_warning() {
    let mut scene = Scene::new();
    let job = scene.job(1, &["true"]);
    let job = scene.run(&after_script(job, &["exit 6", "echo never"]));
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ true</>
    == after_script
    O <green>Running after script...</>
    O <green>$ exit 6</>
    . <yellow>WARNING: after_script failed, but job will continue unaffected: exit status 6</>
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn its_failure_counts_when_asked_for() {
    let mut scene = Scene::new();
    let job = after_script(scene.job(1, &["true"]), &["exit 6"]);
    let job = scene.run(&variable(job, "AFTER_SCRIPT_IGNORE_ERRORS", "false"));
    assert_eq!(job.outcome(), failed("script_failure", 6));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ true</>
    == after_script
    O <green>Running after script...</>
    O <green>$ exit 6</>
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 6</>
    ");
    let job = after_script(scene.job(2, &["exit 3"]), &["exit 6"]);
    let job = scene.run(&variable(job, "AFTER_SCRIPT_IGNORE_ERRORS", "false"));
    assert_eq!(
        job.outcome(),
        failed("script_failure", 3),
        "the script's comes first"
    );
}

#[test]
fn it_has_a_time_limit_of_its_own() {
    let mut scene = Scene::new();
    let job = after_script(scene.job(1, &["true"]), &["echo started", "sleep 60"]);
    let job = scene.run(&variable(job, "RUNNER_AFTER_SCRIPT_TIMEOUT", "1s"));
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ true</>
    == after_script
    O <green>Running after script...</>
    O <green>$ echo started</>
    O started
    O <green>$ sleep 60</>
    E Terminated
    . <yellow>WARNING: after_script could not run to completion because the timeout was exceeded. For more control over job and script timeouts see: https://docs.gitlab.com/ci/runners/configure_runners/#set-script-and-after_script-timeouts</>
    . <yellow>WARNING: after_script failed, but job will continue unaffected: after_script timeout: context deadline exceeded</>
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn a_script_out_of_time_leaves_the_rest_to_run() {
    let mut scene = Scene::new();
    let job = after_script(
        scene.job(1, &["echo started", "sleep 60"]),
        &["echo $CI_JOB_STATUS"],
    );
    let job = add(
        job,
        "artifacts",
        json!({"paths": ["none"], "when": "on_failure", "name": "x"}),
    );
    let job = scene.run(&variable(job, "RUNNER_SCRIPT_TIMEOUT", "1s"));
    assert_eq!(job.outcome(), failed("job_execution_timeout", 0));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ echo started</>
    O started
    O <green>$ sleep 60</>
    E Terminated
    . <yellow>WARNING: step_script could not run to completion because the timeout was exceeded. For more control over job and script timeouts see: https://docs.gitlab.com/ci/runners/configure_runners/#set-script-and-after_script-timeouts</>
    == after_script
    O <green>Running after script...</>
    O <green>$ echo $CI_JOB_STATUS</>
    O timedout
    == upload_artifacts_on_failure
    O <green>Uploading artifacts...</>
    E <yellow>WARNING: none: no matching files. Ensure that the artifact path is relative to the working directory (<world>/work/builds/wireabcde/0/g/p)</>
    E <red>ERROR: No files to upload                         </>
    == cleanup_file_variables
    . <red>ERROR: Job failed: script timeout: context deadline exceeded</>
    ");
}

#[test]
fn a_job_out_of_time_has_nothing_after_it() {
    let mut scene = Scene::new();
    let mut job = after_script(scene.job(1, &["sleep 60"]), &["echo never"]);
    job["runner_info"]["timeout"] = json!(1);
    let job = add(
        job,
        "artifacts",
        json!({"paths": ["none"], "when": "always", "name": "x"}),
    );
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("job_execution_timeout", 0));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ sleep 60</>
    E Terminated
    . <yellow>WARNING: step_script could not run to completion because the timeout was exceeded. For more control over job and script timeouts see: https://docs.gitlab.com/ci/runners/configure_runners/#set-script-and-after_script-timeouts</>
    . <red>ERROR: Job failed: execution took longer than 1s seconds</>
    ");
}

#[test]
fn limits_that_make_no_sense_are_told_and_ignored() {
    let mut scene = Scene::new();
    let job = after_script(scene.job(1, &["true"]), &["true"]);
    let job = variable(job, "RUNNER_SCRIPT_TIMEOUT", "soon");
    let job = scene.run(&variable(job, "RUNNER_AFTER_SCRIPT_TIMEOUT", "-5s"));
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    . <yellow>WARNING: Ignoring malformed RUNNER_SCRIPT_TIMEOUT timeout: soon</>
    . <yellow>WARNING: Ignoring relative RUNNER_AFTER_SCRIPT_TIMEOUT timeout: -5s</>
    == step_script
    O <green>$ true</>
    == after_script
    O <green>Running after script...</>
    O <green>$ true</>
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
    let job = after_script(scene.job(2, &["true"]), &["true"]);
    let job = variable(job, "RUNNER_SCRIPT_TIMEOUT", "2h");
    let job = scene.run(&variable(job, "RUNNER_AFTER_SCRIPT_TIMEOUT", "0"));
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    . <yellow>WARNING: RUNNER_SCRIPT_TIMEOUT timeout: 2h is longer than job timeout. Setting to job timeout</>
    == step_script
    O <green>$ true</>
    == after_script
    O <green>Running after script...</>
    O <green>$ true</>
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn an_empty_one_is_no_stage() {
    let mut scene = Scene::new();
    let job = after_script(scene.job(1, &["true"]), &[]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ true</>
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}
