//! Jobs that are stopped, lose what they run in, or lose their runner (`executor-docker.md` 7, 8, 19).

use std::time::{Duration, Instant};

use serde_json::json;

use super::scene::{DEBIAN, Scene, failed_by_script, says, success};
use crate::wire::gitlab::{Record, after_script, variable};

/// The container of a job's scripts, once it prints that.
fn container_of_scripts(scene: &Scene, id: i64, text: &str) -> String {
    scene
        .gitlab
        .wait(id, |job| String::from_utf8_lossy(&job.log).contains(text));
    let build = scene
        .left()
        .into_iter()
        .find(|name| name.ends_with("-build"));
    build.expect("the script runs in it")
}

#[test]
fn a_timeout_ends_what_ignores_it_and_after_script_runs_in_a_new_container() {
    let mut scene = Scene::new();
    let script = [
        "touch /root/made",
        "trap '' TERM",
        "while :; do sleep 1; done",
    ];
    let job = variable(
        scene.job_in(1, DEBIAN, &script),
        "RUNNER_SCRIPT_TIMEOUT",
        "3s",
    );
    let job = scene.run(&after_script(
        job,
        &["ls /root/made || echo it is a new one"],
    ));
    assert_eq!(job.outcome().1, "job_execution_timeout", "{}", job.text());
    says(
        &job,
        &[
            "Running after script...",
            "it is a new one",
            "ERROR: Job failed: ",
        ],
    );
}

#[test]
fn memory_is_limited_and_what_needs_more_is_killed() {
    let mut scene = Scene::new();
    scene.docker("memory = \"32m\"\nmemory_swap = \"32m\"");
    let script = ["python3 -c 'x = bytearray(100 << 20)'"];
    let job = scene.run(&scene.job_in(1, DEBIAN, &script));
    assert_eq!(job.outcome(), failed_by_script(137), "{}", job.text());
    says(&job, &["ERROR: Job failed: exit code 137"]);
}

#[test]
fn a_container_that_is_killed_or_removed_by_hand_fails_its_script() {
    let mut scene = Scene::new();
    for (id, by_hand) in [(1, ["kill"].as_slice()), (2, &["rm", "--force"])] {
        let job = scene.job_in(id, DEBIAN, &["echo ready", "sleep 300"]);
        scene.gitlab.queue(&job);
        scene.runner();
        let container = container_of_scripts(&scene, id, "ready");
        scene.client(&[by_hand, &[&container]].concat());
        let job = scene.gitlab.finished(id);
        assert_eq!(job.outcome(), failed_by_script(137), "{}", job.text());
    }
}

#[test]
fn a_helper_container_that_was_removed_is_made_anew() {
    let mut scene = Scene::new();
    let sha = scene.repository(&[("a", "1\n")]);
    let job = scene.job_in(
        1,
        DEBIAN,
        &["echo ready", "while [ ! -e go ]; do sleep 0.1; done"],
    );
    let mut job = scene.with_sources(job, &sha);
    job["artifacts"] = json!([{
        "artifact_type": "archive", "artifact_format": "zip", "paths": ["a"], "when": "on_success",
    }]);
    scene.gitlab.queue(&job);
    scene.runner();
    let build = container_of_scripts(&scene, 1, "ready");
    let helper = build.replace("-build", "-predefined");
    scene.client(&["rm", "--force", &helper]);
    scene.client(&["exec", &build, "touch", "/builds/g/p/go"]);
    let job = scene.gitlab.finished(1);
    assert_eq!(job.outcome(), success(), "{}", job.text());
    assert_eq!(job.uploads.len(), 1);
}

#[test]
fn what_a_killed_runner_left_is_removed_by_the_next_one() {
    let mut scene = Scene::new();
    scene.configure("  [runners.feature_flags]\n    FF_NETWORK_PER_BUILD = true\n");
    let mut job = scene.job_in(1, DEBIAN, &["echo ready", "sleep 300"]);
    job["services"] = json!([{"name": DEBIAN, "alias": "s", "command": ["sleep", "300"]}]);
    scene.docker("wait_for_services_timeout = -1");
    scene.gitlab.queue(&job);
    scene.runner();
    container_of_scripts(&scene, 1, "ready");
    let before = scene.left();
    assert!(
        before.len() >= 4,
        "containers, a network, a volume: {before:?}"
    );
    scene.kill_runner();
    scene.runner();
    let job = scene.gitlab.finished(1);
    assert_eq!(job.outcome().1, "runner_system_failure", "{}", job.text());
    let deadline = Instant::now() + Duration::from_secs(30);
    while !scene.left().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", scene.left());
    }
    let next = scene.run(&scene.job_in(2, DEBIAN, &["echo as ever"]));
    assert_eq!(next.outcome(), success(), "{}", next.text());
}

#[test]
fn a_canceled_job_stops_and_leaves_nothing() {
    let mut scene = Scene::new();
    let job = scene.job_in(1, DEBIAN, &["echo ready", "sleep 300"]);
    let job = after_script(job, &["echo in a new container: $(hostname)"]);
    scene.gitlab.queue(&job);
    scene.runner();
    container_of_scripts(&scene, 1, "ready");
    let canceled = |job: &mut Record| "canceling".clone_into(&mut job.status);
    scene.gitlab.change(1, canceled);
    let job = scene.gitlab.finished(1);
    assert_eq!(job.outcome().1, "job_canceled", "{}", job.text());
    says(
        &job,
        &[
            "script canceled externally (UI, API)",
            "in a new container: ",
            "ERROR: Job failed: canceled",
        ],
    );
}

#[test]
fn a_missing_image_is_named_and_a_missing_engine_says_what_to_do() {
    let mut scene = Scene::new();
    scene.docker("pull_policy = \"never\"");
    let job = scene.run(&scene.job_in(1, "courser.test/nobody:1", &["true"]));
    assert_eq!(job.outcome().1, "runner_system_failure", "{}", job.text());
    says(
        &job,
        &[
            "Preparation failed: failed to pull image \"courser.test/nobody:1\" with specified policies [never]: ",
            "Will be retried in 3s ...",
            "ERROR: Job failed (system failure): failed to pull image",
        ],
    );

    let mut scene = Scene::new();
    scene.docker("host = \"unix:///nonexistent/docker.sock\"");
    let job = scene.run(&scene.job_in(1, DEBIAN, &["true"]));
    assert_eq!(job.outcome().1, "runner_system_failure", "{}", job.text());
    says(
        &job,
        &[
            "Cannot connect to the Docker daemon at unix:///nonexistent/docker.sock. Is the docker daemon running?",
            "install and start Docker",
        ],
    );
}
