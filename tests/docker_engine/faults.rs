//! Jobs that are stopped, lose what they run in, or lose their runner (`executor-docker.md` 7, 8, 19).

use serde_json::json;

use super::scene::{BUSYBOX, DEBIAN, Scene, failed_by_script, says, success};
use crate::wire::gitlab::{Record, add, after_script, variable};
use crate::world::eventually;

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
        let container = scene.begin(&job, "ready");
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
    let build = scene.begin(&job, "ready");
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
    scene.begin(&job, "ready");
    let before = scene.left();
    assert!(
        before.len() >= 4,
        "containers, a network, a volume: {before:?}"
    );
    scene.kill_runner();
    scene.runner();
    let job = scene.gitlab.finished(1);
    assert_eq!(job.outcome().1, "runner_system_failure", "{}", job.text());
    eventually("nothing is left", || scene.left().is_empty());
    let next = scene.run(&scene.job_in(2, DEBIAN, &["echo as ever"]));
    assert_eq!(next.outcome(), success(), "{}", next.text());
}

#[test]
fn a_canceled_job_stops_and_leaves_nothing() {
    let mut scene = Scene::new();
    let job = scene.job_in(1, DEBIAN, &["echo ready", "sleep 300"]);
    let job = after_script(job, &["echo in a new container: $(hostname)"]);
    scene.begin(&job, "ready");
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

#[test]
fn a_job_that_takes_too_long_ends_and_its_log_says_so() {
    let mut scene = Scene::new();
    let mut job = scene.job_in(1, BUSYBOX, &["sleep 300"]);
    job["runner_info"]["timeout"] = json!(5);
    let done = scene.run(&job);
    assert_eq!(done.outcome().1, "job_execution_timeout", "{}", done.text());
    says(
        &done,
        &["ERROR: Job failed: execution took longer than 5s seconds"],
    );
}

#[test]
fn much_output_arrives_whole_and_in_order() {
    let mut scene = Scene::new();
    let script = ["seq 1 100000 | sed 's/^/n/'; echo last >&2; printf without-an-end"];
    let done = scene.passes(&scene.job_in(1, BUSYBOX, &script));
    let log = done.text();
    let numbers = log.lines().filter_map(|line| line.strip_prefix("01O n"));
    assert!(numbers.eq((1..=100_000).map(|number| number.to_string())));
    says(&done, &["01E last"]);
    says(&done, &["without-an-end"]);
}

#[test]
fn jobs_at_the_same_time_have_places_volumes_and_services_of_their_own() {
    let mut scene = Scene::new();
    scene.at_once(2);
    let job = |scene: &Scene, id: i64| {
        let script = [
            "wget -qO- http://web:8080/x; echo ready $CI_CONCURRENT_PROJECT_ID",
            "ls mine 2>&1 || touch mine; while [ ! -e go ]; do sleep 0.1; done",
        ];
        let serve = format!("echo for {id} > /tmp/x; httpd -f -p 8080 -h /tmp");
        let service = json!({
            "name": BUSYBOX, "alias": "web", "entrypoint": ["sh", "-c"], "command": [serve],
            "variables": [{"key": "HEALTHCHECK_TCP_PORT", "value": "8080"}],
        });
        add(scene.job_in(id, BUSYBOX, &script), "services", service)
    };
    let (first, second) = (job(&scene, 1), job(&scene, 2));
    scene.begin(&first, "ready");
    scene.begin(&second, "ready");
    let builds = scene.left().into_iter();
    let builds: Vec<_> = builds.filter(|name| name.ends_with("-build")).collect();
    assert_eq!(builds.len(), 2, "{builds:?}");
    for build in builds {
        scene.client(&["exec", &build, "touch", "/builds/g/p/go"]);
    }
    for (id, place) in [(1, "O ready 0"), (2, "O ready 1")] {
        let done = scene.gitlab.finished(id);
        assert_eq!(done.outcome(), success(), "{}", done.text());
        says(&done, &[&format!("O for {id}"), place, "ls: mine: No such"]);
    }
}
