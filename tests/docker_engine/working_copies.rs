//! What goes from stage to stage and from job to job: working copies, submodules, caches, artifacts; and where it lies.

use serde_json::{Value, json};

use super::scene::{BUSYBOX, DEBIAN, Scene, says};
use crate::wire::gitlab::{add, after_script, variable};

#[test]
fn a_working_copy_is_fetched_again_where_the_strategy_says_so_and_cloned_anew_elsewhere() {
    let mut scene = Scene::new();
    let sha = scene.repository(&[("a", "b\n"), (".gitignore", "ignored\n")]);
    let script = ["ls; touch made ignored; echo changed > a"];
    let job = |scene: &Scene, id, strategy: &str| {
        let job = scene.with_sources(scene.job_in(id, BUSYBOX, &script), &sha);
        variable(job, "GIT_STRATEGY", strategy)
    };
    let done = scene.passes(&job(&scene, 1, "fetch"));
    says(&done, &["Created fresh repository."]);
    let done = scene.passes(&job(&scene, 2, "fetch"));
    says(
        &done,
        &[
            "Reinitialized existing Git repository",
            "Removing ignored",
            "Removing made",
        ],
    );
    for id in 3..5 {
        let done = scene.passes(&job(&scene, id, "clone"));
        says(&done, &["Created fresh repository.", "O a"]);
        assert!(!done.text().contains("Removing"), "{}", done.text());
    }
    // Another project's is another one.
    let other = scene.elsewhere(job(&scene, 5, "fetch"));
    says(&scene.passes(&other), &["Created fresh repository."]);
}

#[test]
fn submodules_come_with_the_token_of_the_job_which_no_container_keeps() {
    let mut scene = Scene::new();
    scene.repository(&[("a", "b\n")]);
    scene.world.repository("origin/g/q.git", &[("q", "of q\n")]);
    let head = |scene: &Scene, of: &str| scene.world.git(of, &["rev-parse", "HEAD"]);
    let modules = "[submodule \"q\"]\n\tpath = q\n\turl = ../q.git\n";
    scene.world.write("origin/g/p.git/.gitmodules", modules);
    let entry = format!("160000,{},q", head(&scene, "origin/g/q.git").trim());
    for arguments in [
        &["add", ".gitmodules"][..],
        &["update-index", "--add", "--cacheinfo", &entry],
        &["commit", "--quiet", "--message", "second"],
    ] {
        scene.world.git("origin/g/p.git", arguments);
    }
    let sha = head(&scene, "origin/g/p.git").trim().to_owned();
    let script = [
        "cat q/q",
        "if grep -rs job-token /builds/g/p/.git /builds/g/p/q; then exit 3; fi",
    ];
    for id in 1..3 {
        let job = scene.with_sources(scene.job_in(id, BUSYBOX, &script), &sha);
        let token = format!("job-token-{id}");
        let job = variable(job, "CI_JOB_TOKEN", &token);
        let done = scene.passes(&variable(job, "GIT_SUBMODULE_STRATEGY", "recursive"));
        says(&done, &["Synchronizing submodule url for 'q'", "O of q"]);
    }
}

#[test]
fn artifacts_of_a_job_come_down_in_another_s_container_whoever_made_them() {
    let mut scene = Scene::new();
    let script = [
        "mkdir -p out/deep; echo made > out/deep/a; chmod +x out/deep/a; ln -s deep/a out/link",
        "echo 'KEY=value' > build.env",
    ];
    let user = json!({"name": DEBIAN, "executor_opts": {"docker": {"user": "1234"}}});
    let mut job = scene.job_in(1, user, &script);
    job["artifacts"] = json!([
        {"paths": ["out"], "artifact_type": "archive", "artifact_format": "zip", "when": "on_success"},
        {"paths": ["build.env"], "artifact_type": "dotenv", "artifact_format": "gzip", "when": "always"},
    ]);
    let done = scene.passes(&job);
    let kinds: Vec<&str> = done
        .uploads
        .iter()
        .map(|upload| upload.query.as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            "artifact_format=zip&artifact_type=archive",
            "artifact_format=gzip&artifact_type=dotenv"
        ]
    );
    let archive = done.uploads[0].content.clone();
    scene.gitlab.change(1, |job| job.archive = Some(archive));
    let look = ["cat out/link; test -x out/deep/a && echo may be sta''rted"];
    let mut job = scene.job_in(2, BUSYBOX, &look);
    job["image"]["executor_opts"] = json!({"docker": {"user": "4321"}});
    job["dependencies"] = json!([
        {"id": 1, "token": "job-token-1", "name": "build", "artifacts_file": {"filename": "a.zip", "size": 1}},
    ]);
    let done = scene.passes(&job);
    says(
        &done,
        &[
            "Downloading artifacts for build (1)",
            "O made",
            "O may be started",
        ],
    );
}

#[test]
fn caches_by_key_are_kept_in_a_volume_for_jobs_in_other_images() {
    let mut scene = Scene::with("volumes = [\"/cache\"]");
    let cache = |job: Value, policy: &str| {
        let cache = json!({"key": "k", "paths": ["d/"], "policy": policy, "when": "on_success"});
        add(job, "cache", cache)
    };
    let fill = scene.job_in(1, DEBIAN, &["mkdir d; echo cached > d/f"]);
    let done = scene.passes(&cache(fill, "push"));
    says(&done, &["Saving cache for successful job", "Created cache"]);
    let look = scene.job_in(2, BUSYBOX, &["cat d/f"]);
    let done = scene.passes(&cache(look, "pull"));
    says(
        &done,
        &[
            "Restoring cache",
            "Successfully extracted cache",
            "O cached",
        ],
    );
    let other = scene.job_in(3, BUSYBOX, &["test ! -e d && echo not of this pro''ject"]);
    let done = scene.passes(&scene.elsewhere(cache(other, "pull")));
    says(&done, &["O not of this project"]);
}

#[test]
fn builds_on_the_host_are_shared_and_lie_apart_by_runner_and_place() {
    let mut scene = Scene::new();
    let builds = scene.world.path("builds");
    std::fs::create_dir(&builds).expect("a directory");
    scene.docker(&format!("volumes = [\"{}:/builds\"]", builds.display()));
    let sha = scene.repository(&[("a", "b\n")]);
    for (id, said) in [(1, "Created fresh repository."), (2, "Fetching changes")] {
        let job = scene.job_in(id, BUSYBOX, &["pwd; touch made; ls"]);
        let job = variable(scene.with_sources(job, &sha), "GIT_CLEAN_FLAGS", "none");
        let done = scene.passes(&job);
        says(&done, &[said, "O /builds/wireabcde/0/g/p", "O made"]);
    }
    assert!(builds.join("wireabcde/0/g/p/made").exists());
}

#[test]
fn a_user_may_write_where_the_image_s_working_directory_is_the_project_s() {
    let mut scene = Scene::new();
    let sha = scene.repository(&[("a", "b\n")]);
    let image = scene.image(BUSYBOX, &["WORKDIR /builds/g/p", "USER 1234"]);
    for (id, strategy) in [(1, "fetch"), (2, "none")] {
        let job = scene.job_in(id, image.name.as_str(), &["id -u", "echo made > made"]);
        let job = variable(scene.with_sources(job, &sha), "GIT_STRATEGY", strategy);
        says(&scene.passes(&job), &["O 1234"]);
    }
}

#[test]
fn a_volume_that_is_kept_keeps_its_owner() {
    let mut scene = Scene::with("volumes = [\"/kept\"]\n");
    let own = ["chown 1000:1000 /kept"];
    let look = ["echo owner $(stat -c %u:%g /kept)"];
    let without_sources = |job| variable(job, "GIT_STRATEGY", "none");
    scene.passes(&without_sources(scene.job_in(1, BUSYBOX, &own)));
    let job = scene.passes(&without_sources(scene.job_in(2, BUSYBOX, &look)));
    says(&job, &["O owner 1000:1000"]);
}

#[test]
fn a_container_that_is_made_anew_in_mid_job_leaves_the_directories_as_they_are() {
    let mut scene = Scene::new();
    let script = [
        "mkdir /builds/g/other",
        "rmdir /builds/g/p",
        "ln -s other /builds/g/p",
        "sleep 300",
    ];
    let job = after_script(
        scene.job_in(1, BUSYBOX, &script),
        &["echo after; ls -d /builds/g/p"],
    );
    let job = variable(
        variable(job, "GIT_STRATEGY", "none"),
        "RUNNER_SCRIPT_TIMEOUT",
        "3s",
    );
    let job = scene.run(&job);
    assert_eq!(job.outcome().0, "failed", "{}", job.text());
    says(&job, &["O after", "O /builds/g/p"]);
}
