//! Images as people make them: with a user, a directory, an entrypoint, a shell in an odd place; and which one is used.

use serde_json::json;

use super::scene::{BUSYBOX, DEBIAN, Scene, failed_by_script, says};

#[test]
fn an_image_with_a_user_a_directory_and_variables_keeps_them() {
    let mut scene = Scene::new();
    let image = scene.image(
        BUSYBOX,
        &[
            "USER 1234:1234",
            "WORKDIR /tmp",
            "ENV GIVEN=by-the-image PATH=/bin",
        ],
    );
    let script = [
        "echo \"uid $(id -u), given $GIVEN, in $PWD\"",
        "cat a; echo 2 > a; mkdir made",
        "touch /etc/x || echo not ro''ot",
    ];
    let sha = scene.repository(&[("a", "of the repository\n")]);
    let job = scene.job_in(1, image.name.as_str(), &script);
    let done = scene.passes(&scene.with_sources(job, &sha));
    says(
        &done,
        &[
            "O uid 1234, given by-the-image, in /builds/g/p",
            "O of the repository",
            "O not root",
        ],
    );
}

#[test]
fn an_entrypoint_prepares_each_start_and_one_that_fails_is_the_job_s_failure() {
    let mut scene = Scene::new();
    let prepares = scene.image(
        DEBIAN,
        &["ENTRYPOINT [\"sh\", \"-c\", \"echo prepared; exec \\\"$0\\\" \\\"$@\\\"\"]"],
    );
    let job = scene.job_in(1, prepares.name.as_str(), &["echo in the job"]);
    let job = crate::wire::gitlab::after_script(job, &["echo after the job"]);
    let done = scene.passes(&job);
    says(
        &done,
        &[
            "O prepared",
            "O in the job",
            "O prepared",
            "O after the job",
        ],
    );

    let fails = scene.image(
        BUSYBOX,
        &["ENTRYPOINT [\"sh\", \"-c\", \"echo no licence; exit 9\"]"],
    );
    let done = scene.run(&scene.job_in(2, fails.name.as_str(), &["true"]));
    assert_eq!(done.outcome(), failed_by_script(9), "{}", done.text());
    says(&done, &["O no licence"]);
}

/// As in kaniko's debug image: nothing but `/busybox/sh`.
#[test]
fn a_shell_in_busybox_s_own_directory_is_found() {
    let mut scene = Scene::new();
    let root = scene.world.path("kaniko");
    std::fs::create_dir_all(root.join("busybox")).expect("a directory");
    for applet in ["sh", "cat", "mkdir", "id"] {
        std::fs::copy("/bin/busybox", root.join("busybox").join(applet)).expect("busybox-static");
    }
    let archive = scene.world.path("kaniko.tar");
    let packed = std::process::Command::new("tar")
        .args(["-C", &root.display().to_string(), "-cf"])
        .args([&archive.display().to_string(), "."])
        .status();
    assert!(packed.expect("tar").success());
    let name = format!("courser.test/own-kaniko-{}:1", scene.project);
    scene.client(&[
        "import",
        "--change",
        "ENV PATH=/busybox",
        "--change",
        "ENTRYPOINT [\"/kaniko/executor\"]",
        &archive.display().to_string(),
        &name,
    ]);
    let image = json!({"name": name, "entrypoint": [""]});
    let done = scene.run(&scene.job_in(1, image, &["echo \"in $0 as $(id -u)\"", "exit 5"]));
    scene.client(&["rmi", &name]);
    assert_eq!(done.outcome(), failed_by_script(5), "{}", done.text());
    says(&done, &["O in /busybox/sh as 0"]);
}

/// Its programs are this machine's; that it says otherwise is what is told.
#[test]
fn an_image_for_other_machines_is_told_before_its_programs_fail() {
    let mut scene = Scene::new();
    let root = scene.world.path("strange");
    std::fs::create_dir_all(root.join("bin")).expect("a directory");
    std::fs::copy("/bin/busybox", root.join("bin/sh")).expect("busybox-static");
    let name = format!("courser.test/own-strange-{}:1", scene.project);
    let packing = "tar -C strange -cf layer.tar . && \
         printf '{\"architecture\":\"s390x\",\"os\":\"linux\",\"config\":{},\"rootfs\":{\"type\":\"layers\",\
         \"diff_ids\":[\"sha256:%s\"]}}' $(sha256sum layer.tar | cut -c1-64) > config.json && \
         printf '[{\"Config\":\"config.json\",\"RepoTags\":[\"%s\"],\"Layers\":[\"layer.tar\"]}]' \"$0\" > manifest.json && \
         tar -cf strange.tar manifest.json config.json layer.tar";
    let packed = std::process::Command::new("sh")
        .args(["-c", packing, &name])
        .current_dir(scene.world.path(""))
        .status();
    assert!(packed.expect("sh").success());
    let archive = scene.world.path("strange.tar").display().to_string();
    scene.client(&["load", "--input", &archive]);
    let done = scene.run(&scene.job_in(1, json!(name), &["echo it runs"]));
    scene.client(&["rmi", &name]);
    says(
        &done,
        &[
            &format!(
                "WARNING: Image {name} is for s390x, and the Docker Engine's machine is x86_64"
            ),
            "O it runs",
        ],
    );
}

#[test]
fn a_configured_helper_image_is_used_and_named_beside_the_default() {
    let mut scene = Scene::with(&format!("helper_image = {DEBIAN:?}"));
    scene.configure("  pre_get_sources_script = \"grep PRETTY /etc/os-release\"\n");
    let sha = scene.repository(&[("a", "b\n")]);
    let job = scene.job_in(1, BUSYBOX, &["cat a"]);
    let done = scene.passes(&scene.with_sources(job, &sha));
    says(
        &done,
        &[
            "Using helper image:  courser.test/debian:12  (overridden, default would be  registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper:x86_64-v19.4.0 )",
            "Debian GNU/Linux 12",
            "O b",
        ],
    );
}

#[test]
fn without_any_image_there_is_nothing_to_run_in() {
    let mut scene = Scene::with("image = \"$NOTHING\"");
    let done = scene.run(&scene.job(1, &["true"]));
    assert_eq!(done.outcome().0, "failed", "{}", done.text());
    says(&done, &["no Docker image specified to run the build in"]);
}
