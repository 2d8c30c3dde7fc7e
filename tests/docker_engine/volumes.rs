//! Volumes of jobs: what is kept for the next one, and for whom (`executor-docker.md` 12).

use super::scene::{BUSYBOX, Scene, failed_by_script, says};
use crate::wire::gitlab::variable;

#[test]
fn volumes_are_kept_for_the_next_job_of_the_same_place() {
    let mut scene =
        Scene::with("volumes = [\"/cache\", \"/etc/hostname:/host/name:ro\", \"/scratch/$SUB\"]");
    let look = [
        "cat /cache/a || echo fr''esh",
        "cat kept || echo emp''ty",
        "echo 1 | tee /cache/a kept > /dev/null",
        "grep -c . /host/name",
        "grep -q ' /scratch/s ' /proc/mounts && echo moun''ted",
    ];
    // Without sources the builds directory is not kept; with them it would be.
    let job = |scene: &Scene, id| variable(scene.job_in(id, BUSYBOX, &look), "SUB", "s");
    let done = scene.passes(&job(&scene, 1));
    says(&done, &["fresh", "empty", "mounted"]);
    let second = scene.passes(&job(&scene, 2)).text();
    assert!(
        !second.contains("fresh") && second.contains("empty"),
        "{second}"
    );
    let done = scene.passes(&scene.elsewhere(job(&scene, 3)));
    says(&done, &["fresh", "empty"]);
    let mut protected = job(&scene, 4);
    protected["git_info"]["protected"] = true.into();
    says(&scene.passes(&protected), &["fresh"]);
    // `/cache` and `/scratch/s` of two projects and of protected refs.
    assert_eq!(scene.kept().len(), 6);
}

#[test]
fn without_a_cache_nothing_is_kept() {
    let mut scene = Scene::with("volumes = [\"/cache\"]\ndisable_cache = true");
    let look = ["cat /cache/a || echo fr''esh", "echo 1 > /cache/a"];
    for id in 1..3 {
        let done = scene.passes(&scene.job_in(id, BUSYBOX, &look));
        says(&done, &["fresh"]);
    }
    assert_eq!(scene.kept(), [""; 0]);
}

#[test]
fn mounts_of_the_host_keep_their_mode_and_a_cache_directory_there_holds_what_would_be_volumes() {
    let mut scene = Scene::new();
    for name in ["given", "caches"] {
        std::fs::create_dir(scene.world.path(name)).expect("a directory");
    }
    scene.world.write("given/file", "of the host\n");
    let path = |name: &str| scene.world.path(name).display().to_string();
    let (given, caches) = (path("given"), path("caches"));
    scene.docker(&format!(
        "volumes = [\"{given}:/given:ro\", \"/kept\"]\ncache_dir = {caches:?}"
    ));
    let look = [
        "cat /given/file; touch /given/x || echo only re''ad",
        "ls /kept; touch /kept/of-$CI_JOB_ID",
    ];
    for (id, seen) in [(1, "O only read"), (2, "O of-1")] {
        let job = variable(
            scene.job_in(id, BUSYBOX, &look),
            "CI_JOB_ID",
            &id.to_string(),
        );
        says(&scene.passes(&job), &["O of the host", seen]);
    }
    assert_eq!(scene.kept(), [""; 0], "they lie on the host");
    let runners: Vec<_> = std::fs::read_dir(caches).expect("it is there").collect();
    assert_eq!(runners.len(), 1);
}

#[test]
fn volumes_that_cannot_be_are_refused_by_their_text() {
    for (volume, refusal) in [
        ("a:b:c:d", "invalid volume specification: \"a:b:c:d\""),
        ("/", "build directory needs to be a non-root path"),
    ] {
        let mut scene = Scene::with(&format!("volumes = [\"{volume}\"]"));
        let done = scene.run(&scene.job_in(1, BUSYBOX, &["true"]));
        assert_eq!(done.outcome().0, "failed", "{}", done.text());
        says(&done, &[refusal]);
    }
    let mut scene = Scene::with("volumes = [\"/a\", \"/a\"]");
    let done = scene.run(&scene.job_in(1, BUSYBOX, &["true"]));
    says(
        &done,
        &["volume for container path \"/a\" is already defined"],
    );
}

#[test]
fn volumes_of_another_container_are_the_job_s_too() {
    let mut scene = Scene::new();
    let other = format!("courser-tests-data-{}", scene.project);
    scene.client(&[
        "create", "--name", &other, "--volume", "/data", BUSYBOX, "true",
    ]);
    scene.docker(&format!("volumes_from = [\"{other}\"]"));
    let look =
        ["echo 1 >> /data/a; wc -l < /data/a; test $(wc -l < /data/a) = $CI_JOB_ID || exit 4"];
    let mut ends = Vec::new();
    for id in 1..3 {
        let job = variable(
            scene.job_in(id, BUSYBOX, &look),
            "CI_JOB_ID",
            &id.to_string(),
        );
        ends.push(scene.run(&job).outcome());
    }
    scene.client(&["rm", "--force", "--volumes", &other]);
    assert!(!ends.contains(&failed_by_script(4)), "{ends:?}");
    assert!(
        ends.iter().all(|(state, ..)| state == "success"),
        "{ends:?}"
    );
}
