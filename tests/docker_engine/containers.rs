//! What a job's container is made with: image, user, entrypoint, environment; and what is refused.

use serde_json::{Value, json};

use super::scene::{BUSYBOX, DEBIAN, Scene, says};
use crate::wire::gitlab::{add, variable};

#[test]
fn image_user_entrypoint_and_environment_are_the_job_s() {
    let mut scene = Scene::with("hostname = \"here\"\nimage = \"courser.test/$DEFAULT\"");
    let look = [
        "echo \"uid $(id -u) on $(hostname)\"",
        "echo \"in $PWD\"",
        "touch made && ls | tr a-z A-Z",
    ];

    let done = scene.passes(&scene.job_in(1, BUSYBOX, &look));
    says(
        &done,
        &[
            "Using Docker executor with image courser.test/busybox:1 ...",
            "uid 0 on here",
            "in /builds/g/p",
            "MADE",
        ],
    );

    let user = json!({"name": DEBIAN, "executor_opts": {"docker": {"user": 1234}}});
    let done = scene.passes(&scene.job_in(2, user, &look));
    says(&done, &["uid 1234 on here", "MADE"]);

    let default = variable(scene.job(3, &look), "DEFAULT", "busybox:1");
    says(
        &scene.passes(&default),
        &[
            "Using default image",
            "with image courser.test/busybox:1 ...",
        ],
    );

    let entrypoint = json!({"name": BUSYBOX, "entrypoint": ["sh", "-c", "echo \"first $0\"; exec \"$0\" \"$@\""]});
    let done = scene.passes(&scene.job_in(4, entrypoint, &look));
    says(&done, &["first sh", "uid 0 on here"]);

    let file = json!({"key": "FILE", "value": "content", "file": true});
    let look = ["cat \"$FILE\"", "echo \" of $FILE\""];
    let with_file = add(scene.job_in(5, BUSYBOX, &look), "variables", file);
    let done = scene.passes(&with_file);
    says(&done, &["content", " of /builds/g/p.tmp/FILE"]);
}

#[test]
fn what_the_administrator_does_not_allow_is_refused_once() {
    let mut scene = Scene::with(
        "allowed_images = [\"courser.test/**\"]\nallowed_services = [\"courser.test/**\"]\nservices_limit = 1\n\
         allowed_users = [\"1000\"]\ndisable_entrypoint_overwrite = true",
    );
    let done = scene.refused(&scene.job_in(1, "other/image", &["true"]));
    says(
        &done,
        &[
            "ERROR: The \"other/image\" image is not present on list of allowed images:",
            "- courser.test/**",
            "Please check runner's allowed_images configuration",
            "ERROR: Job failed: disallowed image",
        ],
    );
    let with_services = |scene: &Scene, id: i64, services: Value| {
        let mut job = scene.job_in(id, BUSYBOX, &["true"]);
        job["services"] = services;
        job
    };
    let other = json!([{"name": "other/image"}]);
    let done = scene.refused(&with_services(&scene, 2, other));
    says(
        &done,
        &["image is not present on list of allowed services:"],
    );
    let two = json!([{"name": BUSYBOX}, {"name": DEBIAN}]);
    let done = scene.refused(&with_services(&scene, 3, two));
    says(&done, &["too many services requested: 2, only 1 allowed"]);
    let user = json!({"name": BUSYBOX, "executor_opts": {"docker": {"user": "root"}}});
    let done = scene.refused(&scene.job_in(4, user, &["true"]));
    says(&done, &["user \"root\" is not an allowed user: [1000]"]);
    let entrypoint = json!({"name": BUSYBOX, "entrypoint": ["/nowhere"]});
    let done = scene.passes(&scene.job_in(5, entrypoint, &["echo ra''n"]));
    says(&done, &["WARNING: Entrypoint override disabled", "ran"]);
}

#[test]
fn a_value_that_cannot_be_used_refuses_jobs_and_not_the_runner() {
    let mut scene = Scene::with("memory = \"much\"");
    let said = "runners.docker.memory: Error parsing docker memory: invalid size: 'much'";
    scene.runner().wait_for(said);
    for id in 1..3 {
        let done = scene.refused(&scene.job_in(id, BUSYBOX, &["true"]));
        says(
            &done,
            &["ERROR: Job failed: Error parsing docker memory: invalid size: 'much'"],
        );
    }
}
