//! Docker in Docker as GitLab documents it: a privileged service with TLS, whose certificates the job finds in a volume that
//! both have (`executor-docker.md` 20).

use courser_testkit::servers::Registry;
use serde_json::{Value, json};

use super::registries::Private;
use super::scene::{DIND, Scene, failed_by_script, says};
use crate::wire::gitlab::add;

/// Waits for the daemon, as people's jobs do.
const READY: &str = "for i in $(seq 150); do docker info > /dev/null 2>&1 && break; sleep 0.1; done; docker info > /dev/null";

fn scene() -> Scene {
    Scene::with("privileged = true\nvolumes = [\"/certs/client\", \"/cache\"]")
}

fn job(scene: &Scene, id: i64, script: &[&str]) -> Value {
    let script = [&[READY], script].concat();
    let job = scene.job_in(id, DIND, &script);
    let mut job = add(job, "services", json!({"name": DIND, "alias": "docker"}));
    for (key, value) in [
        ("DOCKER_TLS_CERTDIR", "/certs"),
        ("DOCKER_HOST", "tcp://docker:2376"),
        ("DOCKER_TLS_VERIFY", "1"),
        ("DOCKER_CERT_PATH", "$DOCKER_TLS_CERTDIR/client"),
    ] {
        let variable = json!({"key": key, "value": value, "public": true});
        job = add(job, "variables", variable);
    }
    job
}

#[test]
fn a_job_builds_and_runs_images_with_docker_in_docker_over_tls() {
    let mut scene = scene();
    let script = [
        "tar -ch -C / bin/echo lib/x86_64-linux-gnu/libc.so.6 lib64/ld-linux-x86-64.so.2 2> /dev/null | docker import - small:1",
        "printf 'FROM small:1\\nRUN [\"/bin/echo\", \"bu%s\"]\\nENTRYPOINT [\"/bin/echo\", \"started\"]\\n' ilt | docker build -t made -",
        "docker run --rm made in a container",
        "ls /certs",
    ];
    // The second one has a new daemon, with another authority, and the volume of the first.
    for id in 1..3 {
        let done = scene.passes(&job(&scene, id, &script));
        says(
            &done,
            &["O built", "O started in a container", "O client\n"],
        );
        let log = done.text();
        assert!(!log.contains("didn't start properly"), "{log}");
    }
    let mut job = job(&scene, 3, &["echo \"asked $DOCKER_HOST\""]);
    let per_build = json!({"key": "FF_NETWORK_PER_BUILD", "value": "true", "public": true});
    job = add(job, "variables", per_build);
    says(&scene.passes(&job), &["O asked tcp://docker:2376"]);
}

/// Nothing is mounted, nothing is configured in the service: its system store has the private CA.
#[test]
fn a_dind_daemon_trusts_a_registry_of_the_private_ca_unless_that_is_off() {
    for off in ["", "  [runners.trust]\n    images = false\n"] {
        let mut scene = scene();
        scene.configure(off);
        let authority = scene.root.clone();
        let mut private = Private::of(scene, authority);
        let (name, image) = (private.registry.name(), private.image("1"));
        let script = [
            &format!(
                "echo {} | docker login --username {} --password-stdin {name}",
                Registry::PASSWORD,
                Registry::USER
            ),
            &format!("docker run --rm {image} echo pulled and started"),
        ];
        let job = job(&private.scene, 1, &script.map(String::as_str));
        if off.is_empty() {
            let done = private.scene.passes(&job);
            says(&done, &["Login Succeeded", "O pulled and started"]);
        } else {
            let done = private.scene.run(&job);
            assert_eq!(done.outcome(), failed_by_script(1), "{}", done.text());
            says(
                &done,
                &[
                    "x509: certificate signed by unknown authority",
                    "exit code 1",
                ],
            );
        }
    }
}

#[test]
fn a_dind_service_that_does_not_start_is_shown_with_its_last_words() {
    let mut scene = scene();
    scene.docker("wait_for_services_timeout = 20");
    let mut job = job(&scene, 1, &[]);
    // One that fails later, as without its privileges, may have listened for a moment.
    job["services"][0]["command"] = json!(["--data-root=/proc/none"]);
    job["steps"][0]["script"] = json!(["docker ps"]);
    let done = scene.run(&job);
    assert_eq!(done.outcome(), failed_by_script(1), "{}", done.text());
    says(
        &done,
        &[
            "*** WARNING:",
            "probably didn't start properly.",
            "Service container logs:",
            "mkdir /proc/none: no such file or directory",
            "*********",
            "$ docker ps",
        ],
    );
}
