//! Networks of jobs: none, the host's, one that is there, one of the job (`executor-docker.md` 13).

use serde_json::json;

use super::scene::{BUSYBOX, Scene, says};
use crate::wire::gitlab::{add, variable};

#[test]
fn a_job_without_a_network_has_none_and_one_in_the_host_s_has_all() {
    let mut scene = Scene::with("network_mode = \"none\"");
    let look = ["echo \"has $(ls /sys/class/net | tr '\\n' ' ')\""];
    let done = scene.passes(&scene.job_in(1, BUSYBOX, &look));
    says(&done, &["O has lo \n"]);

    let mut scene = Scene::with("network_mode = \"host\"");
    let look = ["echo \"has $(ls /sys/class/net | tr '\\n' ' ')\""];
    let done = scene.passes(&scene.job_in(1, BUSYBOX, &look));
    says(&done, &["O has", "courser-test0 "]);
}

#[test]
fn an_existing_network_joins_the_job_and_its_services_with_what_is_there() {
    let mut scene = Scene::new();
    let network = format!("courser-tests-{}", scene.project);
    scene.docker(&format!("network_mode = \"{network}\""));
    scene.client(&["network", "create", &network]);
    let serve = "echo there before > /tmp/x; exec httpd -f -p 8080 -h /tmp";
    let there = scene.client(&[
        "run",
        "--detach",
        "--network",
        &network,
        "--network-alias",
        "database",
        BUSYBOX,
        "sh",
        "-c",
        serve,
    ]);
    let service = json!({
        "name": BUSYBOX, "alias": "web", "entrypoint": ["sh", "-c"],
        "command": ["echo a service > /tmp/x; exec httpd -f -p 8080 -h /tmp"],
        "variables": [{"key": "HEALTHCHECK_TCP_PORT", "value": "8080"}],
    });
    let look = ["wget -qO- http://database:8080/x; wget -qO- http://web:8080/x"];
    let job = add(scene.job_in(1, BUSYBOX, &look), "services", service);
    let done = scene.run(&job);
    scene.client(&["rm", "--force", there.trim()]);
    scene.client(&["network", "rm", &network]);
    says(&done, &["O there before", "O a service", "Job succeeded"]);
}

/// On the default bridge, services cannot name the job's container.
#[test]
fn in_a_network_of_its_own_a_job_is_called_build_and_the_size_of_packets_is_the_runner_s() {
    let mut scene = Scene::with("network_mtu = 1400");
    let service = json!({
        "name": BUSYBOX, "alias": "asks", "entrypoint": ["sh", "-c"],
        "command": ["until wget -qO /builds/g/p/answer http://build:8080/x; do sleep 0.2; done; sleep 300"],
    });
    scene.docker("wait_for_services_timeout = -1");
    let script = [
        "echo \"at most $(cat /sys/class/net/eth0/mtu)\"",
        "echo from the job > /tmp/x; httpd -p 8080 -h /tmp",
        "until [ -s answer ]; do sleep 0.1; done; cat answer",
    ];
    let job = add(scene.job_in(1, BUSYBOX, &script), "services", service);
    let done = scene.passes(&variable(job, "FF_NETWORK_PER_BUILD", "true"));
    says(&done, &["O at most 1400", "O from the job"]);
    let log = done.text();
    assert!(!log.contains("Waiting for services"), "{log}");
}

#[test]
fn links_of_the_administrator_lead_to_other_containers() {
    let mut scene = Scene::new();
    let there = format!("courser-tests-linked-{}", scene.project);
    let serve = "echo linked > /tmp/x; exec httpd -f -p 8080 -h /tmp";
    scene.client(&[
        "run", "--detach", "--name", &there, BUSYBOX, "sh", "-c", serve,
    ]);
    scene.docker(&format!("links = [\"{there}:database\"]"));
    let done = scene.run(&scene.job_in(1, BUSYBOX, &["wget -qO- http://database:8080/x"]));
    scene.client(&["rm", "--force", &there]);
    says(&done, &["O linked", "Job succeeded"]);
}
