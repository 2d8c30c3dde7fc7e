//! `courser exec` with containers of a real Engine.

use std::process::Command;

use courser_testkit::servers::DockerEngine;

use crate::world::{Finished, Running, World, run};

fn exec(world: &World, arguments: &[&str]) -> Finished {
    let mut command = world.courser(["exec"]);
    command
        .args(arguments)
        .env("DOCKER_HOST", DockerEngine::running().host);
    run(&mut command)
}

/// The caches of a world's project outlive its runs.
fn remove_cache(world: &World) {
    let mut clean = world.courser(["clean"]);
    let cleaned = run(clean.env("DOCKER_HOST", DockerEngine::running().host));
    assert_eq!(cleaned.code(), 0, "{}", cleaned.all());
    let said = &cleaned.stdout;
    assert!(said.contains(", and 1 volume or image"), "{said}");
}

#[test]
fn jobs_with_an_image_run_in_containers_and_the_others_in_a_shell() {
    let world = World::new();
    let pipeline = "\
plain:
  script: ['test -e ../../../../../coordinator && echo here']
build:
  image: courser.test/debian:12
  variables: {GIT_DEPTH: 1}
  script:
    - grep -q bookworm /etc/os-release && cat uncommitted
    - test ! -e before || echo cached; touch before
    - echo made > made.txt
  cache: {key: k, paths: [before]}
  artifacts: {paths: [made.txt]}
test:
  needs: [build]
  services: []
  image: {name: courser.test/busybox:1, pull_policy: never}
  script: ['busybox | grep BusyBox', cat made.txt]
";
    world.repository("work", &[(".gitlab-ci.yml", pipeline)]);
    world.write("work/uncommitted", "as it lies there\n");
    let first = exec(&world, &[]);
    assert_eq!(first.code(), 0, "{}", first.all());
    for line in [
        "plain | here",
        "build | as it lies there",
        "test  | BusyBox v",
        "test  | made",
    ] {
        assert!(first.stdout.contains(line), "{line}: {}", first.all());
    }
    assert!(!first.all().contains("build | cached"), "{}", first.all());
    assert!(!first.all().contains("ignored"), "{}", first.all());
    let second = exec(&world, &["build"]);
    assert!(second.stdout.contains("build | cached"), "{}", second.all());
    remove_cache(&world);
}

#[test]
fn images_are_exchanged_and_children_have_containers_too() {
    let world = World::new();
    let pipeline = "\
start:
  trigger: {include: child.yml, strategy: depend}
";
    let child = "\
inner:
  image: registry.example/ruby:3
  script: ['busybox | grep BusyBox']
";
    world.repository(
        "work",
        &[(".gitlab-ci.yml", pipeline), ("child.yml", child)],
    );
    let finished = exec(
        &world,
        &["--image", "registry.example/ruby:3=courser.test/busybox:1"],
    );
    assert_eq!(finished.code(), 0, "{}", finished.all());
    assert!(
        finished.stdout.contains("| BusyBox v"),
        "{}",
        finished.all()
    );
    world.write("work/child.yml", "inner:\n  script: echo ran\n");
    let finished = exec(&world, &["--executor", "docker"]);
    assert_eq!(finished.code(), 1, "{}", finished.all());
    assert!(
        finished.all().contains("inner has no image to run in"),
        "{}",
        finished.all()
    );
    let alone = ["--executor", "docker", "--image", "courser.test/busybox:1"];
    world.write(
        "work/.gitlab-ci.yml",
        "a:\n  script: ['busybox | grep BusyBox']\n",
    );
    let finished = exec(&world, &alone);
    assert_eq!(finished.code(), 0, "{}", finished.all());
    assert!(
        finished.stdout.contains("a | BusyBox v"),
        "{}",
        finished.all()
    );
    remove_cache(&world);
}

#[test]
fn what_a_killed_run_left_is_gone_after_the_next_one() {
    let world = World::new();
    let pipeline = "\
slow:
  image: courser.test/busybox:1
  services: [{name: 'courser.test/busybox:1', alias: beside, command: [sleep, '600']}]
  script: [echo begun, sleep 600]
quick:
  script: 'true'
";
    world.repository("work", &[(".gitlab-ci.yml", pipeline)]);
    let branch = world
        .path("")
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().replace('.', "-"));
    world.git("work", &["checkout", "-q", "-b", &branch]);
    let engine = DockerEngine::running();
    let containers = || {
        let filter = format!("label=com.gitlab.gitlab-runner.job.ref={branch}");
        let mut client = Command::new("/usr/bin/docker");
        client.args([
            "--host",
            &engine.host,
            "ps",
            "--all",
            "--quiet",
            "--filter",
            &filter,
        ]);
        let output = client.output().expect("Debian's docker.io is installed");
        String::from_utf8_lossy(&output.stdout).lines().count()
    };
    let mut command = world.courser(["exec", "slow"]);
    command.env("DOCKER_HOST", &engine.host);
    let mut running = Running::start(&mut command);
    running.wait_for("slow | begun");
    running.signal("KILL");
    running.end();
    assert!(containers() > 0, "nothing was left to be removed");
    let next = exec(&world, &["quick"]);
    assert_eq!(next.code(), 0, "{}", next.all());
    assert_eq!(containers(), 0);
    remove_cache(&world);
}
