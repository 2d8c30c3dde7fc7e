//! Jobs that cannot be run here, told so with the right reason (`runner-protocol.md` 2.6, 3.8, 3.13).

use serde_json::{Value, json};

use super::scene::{Scene, failed, success};
use crate::wire::gitlab::{Record, after_script, variable};

const KNOWN: [&str; 3] = [
    "runner_configuration_error",
    "runner_system_failure",
    "script_failure",
];

/// A job for a server that knows all reasons.
fn job(scene: &mut Scene, id: i64) -> Value {
    let mut job = scene.job(id, &["echo never"]);
    job["features"]["failure_reasons"] = json!(KNOWN);
    job
}

fn states(job: &Record) -> Vec<&Value> {
    job.updates.iter().map(|update| &update["state"]).collect()
}

#[test]
fn options_of_an_executor_that_nobody_knows() {
    let mut scene = Scene::new();
    let mut job = job(&mut scene, 1);
    job["image"] =
        json!({"name": "a", "executor_opts": {"docker": {"frobnicate": 1}, "podman": {}}});
    job["services"] =
        json!([{"name": "b", "executor_opts": {"kubernetes": {"user": 1, "group": 2}}}]);
    let job = scene.run(&job);
    assert_eq!(states(&job), ["failed"]);
    assert_eq!(job.outcome(), failed("runner_system_failure", 3));
    insta::assert_snapshot!(scene.log(&job), @r#". image "a": unsupported executor options: podman; supported are: docker, kubernetes; image "a": unsupported docker executor options: frobnicate; supported are: platform, user; service "b": unsupported kubernetes executor options: group; supported are: user"#);
}

#[test]
fn steps_beside_a_script() {
    let mut scene = Scene::new();
    let mut job = job(&mut scene, 1);
    job["run"] = json!("[{\"name\":\"a\",\"script\":\"true\"}]");
    let job = scene.run(&job);
    assert_eq!(states(&job), ["failed"]);
    assert_eq!(job.outcome(), failed("runner_system_failure", 3));
    insta::assert_snapshot!(scene.log(&job), @". the `run` and `script` keywords cannot be used together");
}

#[test]
fn steps_beside_the_variable_that_holds_them() {
    let mut scene = Scene::new();
    let mut job = variable(job(&mut scene, 1), "STEPS", "[]");
    job["run"] = json!("[{\"name\":\"a\",\"script\":\"true\"}]");
    job["steps"] = json!([]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("runner_system_failure", 3));
    insta::assert_snapshot!(scene.log(&job), @". the `run` keyword requires the exclusive use of the variable STEPS");
}

#[test]
fn steps_that_the_shell_executor_does_not_run() {
    let mut scene = Scene::new();
    let mut job = job(&mut scene, 1);
    job["run"] = json!("[{\"name\":\"a\",\"script\":\"true\"}]");
    job["steps"] = json!([]);
    let job = scene.run(&job);
    assert_eq!(states(&job), ["running", "failed"]);
    assert_eq!(job.outcome(), failed("runner_configuration_error", 0));
    insta::assert_snapshot!(scene.log(&job), @r"
    . <K>Running with gitlab-runner <version></>
    . <K>  on wire wireabcde, system ID: <system id></>
    . <red>ERROR: Job failed: `run` (CI steps) is not built yet: use `script`</>
    ");
}

#[test]
fn a_reason_that_the_server_does_not_know_is_replaced() {
    let mut scene = Scene::new();
    let mut job = job(&mut scene, 1);
    job["run"] = json!("[{\"name\":\"a\",\"script\":\"true\"}]");
    job["steps"] = json!([]);
    job["features"]["failure_reasons"] = json!([]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("script_failure", 0));
}

#[test]
fn an_unknown_strategy_for_submodules() {
    let mut scene = Scene::new();
    let sha = scene.repository(&[("f", "one\n")]);
    let job = scene.job_with_sources(1, &sha, &["echo never"]);
    let job = scene.run(&variable(job, "GIT_SUBMODULE_STRATEGY", "some"));
    assert_eq!(job.outcome().0, "failed");
    insta::assert_snapshot!(scene.log(&job), @r#"
    . <K>Running with gitlab-runner <version></>
    . <K>  on wire wireabcde, system ID: <system id></>
    . <red>ERROR: Job failed: unknown GIT_SUBMODULE_STRATEGY: expected either 'normal', 'recursive' or 'none' got "some"</>
    "#);
}

#[test]
fn an_image_and_services_do_not_hinder_the_shell_executor() {
    let mut scene = Scene::new();
    let mut job = after_script(scene.job(1, &["echo ran"]), &["true"]);
    job["image"] = json!({"name": "$IMAGE", "entrypoint": ["/bin/sh"], "pull_policy": ["never"], "ports": [{"number": 80}]});
    job["services"] =
        json!([{"name": "postgres:16", "alias": "db", "variables": [{"key": "A", "value": "b"}]}]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ echo ran</>
    O ran
    == after_script
    O <green>Running after script...</>
    O <green>$ true</>
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn a_directory_that_cannot_be_made() {
    let mut scene = Scene::new();
    scene.world.write("work/builds", "a file in the way");
    let job = job(&mut scene, 1);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("script_failure", 1));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started)
    == get_sources
    O <green>Skipping Git repository setup</>
    E <red>FATAL: <world>/work/builds/wireabcde/0/g: Not a directory (os error 20)</>
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 1</>
    ");
    std::fs::remove_file(scene.world.path("work/builds")).expect("the file is there");
}
