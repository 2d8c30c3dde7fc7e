//! Volumes of jobs: what is kept for the next one, and for whom (`executor-docker.md` 12).

use super::scene::{BUSYBOX, Scene, says};
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
