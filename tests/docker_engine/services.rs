//! Services of jobs: how they are found, waited for, and heard (`executor-docker.md` 13, 14).

use serde_json::{Value, json};

use super::scene::{BUSYBOX, DEBIAN, Scene, says};
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

#[test]
fn services_of_the_runner_come_first_and_all_see_the_files_of_the_job() {
    let mut scene = Scene::new();
    scene.docker("wait_for_services_timeout = -1");
    scene.docker(&format!(
        "[[runners.docker.services]]\nname = {DEBIAN:?}\nalias = \"of-the-runner\"\n\
         entrypoint = [\"sh\", \"-c\"]\ncommand = [\"until [ -d /builds/g/p ]; do sleep 0.1; done; echo $OWN > /builds/g/p/first; sleep 300\"]\n\
         environment = [\"OWN=of the runner\"]"
    ));
    let service = json!({
        "name": BUSYBOX, "alias": "of-the-job", "entrypoint": ["sh", "-c"],
        "command": ["until [ -d /builds/g/p ]; do sleep 0.1; done; id -u > /builds/g/p/second; sleep 300"],
        "executor_opts": {"docker": {"user": "1234"}},
    });
    let look = ["until [ -s first ] && [ -s second ]; do sleep 0.1; done; cat first second"];
    let done = scene.passes(&add(scene.job_in(1, BUSYBOX, &look), "services", service));
    says(
        &done,
        &[
            "Starting service courser.test/debian:12...",
            "Starting service courser.test/busybox:1...",
            "O of the runner",
            "O 1234",
        ],
    );
}

/// Ports are asked of the image where no variable says one.
#[test]
fn a_service_is_waited_for_at_the_ports_of_its_image() {
    let mut scene = Scene::new();
    let image = scene.image(
        BUSYBOX,
        &[
            "EXPOSE 8080",
            "CMD [\"sh\", \"-c\", \"sleep 2; echo late > /tmp/x; httpd -f -p 8080 -h /tmp\"]",
        ],
    );
    let service = json!({"name": image.name, "alias": "late"});
    let look = ["wget -qO- http://late:8080/x"];
    let done = scene.passes(&add(scene.job_in(1, BUSYBOX, &look), "services", service));
    says(
        &done,
        &["Waiting for services to be up and running", "O late"],
    );
    assert!(!done.text().contains("didn't start"), "{}", done.text());
}

#[test]
fn two_services_of_one_image_have_their_aliases_each_and_a_missing_image_fails_the_job() {
    let mut scene = Scene::new();
    let mut job = scene.job_in(
        1,
        BUSYBOX,
        &["wget -qO- http://one:8080/x; wget -qO- http://two:8081/x"],
    );
    for (alias, port) in [("one", 8080), ("two", 8081)] {
        let serve = format!("echo {alias} > /tmp/x; exec httpd -f -p {port} -h /tmp");
        let service = json!({
            "name": BUSYBOX, "alias": alias, "entrypoint": ["sh", "-c"], "command": [serve],
            "variables": [{"key": "HEALTHCHECK_TCP_PORT", "value": port.to_string()}],
        });
        job = add(job, "services", service);
    }
    says(&scene.passes(&job), &["O one", "O two"]);

    let missing = json!({"name": "courser.test/nobody:1", "pull_policy": ["never"]});
    let mut scene = Scene::with("allowed_pull_policies = [\"never\", \"if-not-present\"]");
    let done = scene.run(&add(
        scene.job_in(2, BUSYBOX, &["true"]),
        "services",
        missing,
    ));
    assert_eq!(done.outcome().1, "runner_system_failure", "{}", done.text());
    says(
        &done,
        &["failed to pull image \"courser.test/nobody:1\" with specified policies [never]"],
    );
}
