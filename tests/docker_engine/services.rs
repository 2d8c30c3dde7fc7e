//! Services of jobs: how they are found, waited for, and heard (`executor-docker.md` 13, 14).

use serde_json::{Value, json};

use super::scene::{BUSYBOX, Scene, says};
use crate::wire::gitlab::{add, variable};

/// A service that answers with what it sees, after a second.
fn web(alias: &str) -> Value {
    json!({
        "name": BUSYBOX, "alias": alias, "entrypoint": ["sh", "-c"],
        "command": ["echo \"serving $OWN\"; echo \"open $OPEN, hidden $HIDDEN, own $OWN\" > /tmp/x; sleep 1; httpd -f -p 8080 -h /tmp"],
        "variables": [{"key": "HEALTHCHECK_TCP_PORT", "value": "8080"}, {"key": "OWN", "value": "<$HIDDEN>"}],
    })
}

fn with_web(scene: &Scene, id: i64, per_build: &str, script: &[&str]) -> Value {
    let job = add(
        scene.job_in(id, BUSYBOX, script),
        "services",
        web("web site"),
    );
    let open = json!({"key": "OPEN", "value": "yes", "public": true});
    let job = variable(add(job, "variables", open), "HIDDEN", "secret");
    variable(job, "FF_NETWORK_PER_BUILD", per_build)
}

#[test]
fn services_are_waited_for_and_found_by_their_names() {
    let mut scene = Scene::new();
    let look = [
        "wget -qO- http://web:8080/x; wget -qO- http://site:8080/x; wget -qO- http://courser.test__busybox:8080/x",
        "echo \"network <$CI_BUILD_NETWORK_NAME>\"",
    ];
    let seen = "open yes, hidden , own <secret>";
    let done = scene.passes(&with_web(&scene, 1, "false", &look));
    says(
        &done,
        &[
            "Starting service courser.test/busybox:1...",
            "Waiting for services to be up and running (timeout 30 seconds)...",
            seen,
            seen,
            seen,
            "network <>",
        ],
    );
    let log = done.text();
    assert!(!log.contains("didn't start properly"), "{log}");

    let done = scene.passes(&with_web(&scene, 2, "true", &look));
    let network = format!("network <runner-wireabcde-{}-0-2>", scene.project);
    says(&done, &[seen, seen, seen, &network]);
}

#[test]
fn logs_of_services_are_shown_where_a_job_wants_them_and_masked() {
    let mut scene = Scene::new();
    let job = with_web(&scene, 1, "false", &["true"]);
    let mut job = variable(job, "CI_DEBUG_SERVICES", "true");
    let variables = job["variables"].as_array_mut().expect("a list");
    for hidden in variables
        .iter_mut()
        .filter(|variable| variable["key"] == "HIDDEN")
    {
        hidden["masked"] = json!(true);
    }
    let log = scene.passes(&job).text();
    let line = log.lines().find(|line| line.contains("serving"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    let name = "[service:courser.test__busybox-courser.test-busybox-web-site] 20";
    assert!(line.contains("0fO ") && line.contains(name), "{line}");
    assert!(line.contains("serving <[MASKED]>"), "{line}");
    let quiet = scene
        .passes(&with_web(&scene, 2, "false", &["true"]))
        .text();
    assert!(!quiet.contains("serving"), "{quiet}");
}

#[test]
fn a_service_that_does_not_answer_is_told_and_does_not_fail_the_job() {
    let mut scene = Scene::with("wait_for_services_timeout = 2");
    let mut dead = scene.job_in(1, BUSYBOX, &["echo ra''n"]);
    dead["services"] = json!([
        {"name": BUSYBOX, "alias": "dead", "entrypoint": ["sh", "-c"], "command": ["echo last words; exit 3"],
         "variables": [{"key": "HEALTHCHECK_TCP_PORT", "value": "8080"}]},
        {"name": BUSYBOX, "alias": "dead late"},
    ]);
    let done = scene.passes(&dead);
    let skipped = "Skipping alias \"dead\" for service \"courser.test/busybox:1\" (services[1]): alias is already in use by another service.";
    says(&done, &[skipped, "ran"]);
    says(
        &done,
        &[
            "(timeout 2 seconds)...",
            "*** WARNING:",
            "probably didn't start properly.",
            "last words",
            "ran",
        ],
    );
}
