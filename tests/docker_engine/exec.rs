//! `courser exec` with containers of a real Engine.

use courser_testkit::servers::DockerEngine;

use crate::world::{Finished, World, run};

fn exec(world: &World, arguments: &[&str]) -> Finished {
    let mut command = world.courser(["exec"]);
    command
        .args(arguments)
        .env("DOCKER_HOST", DockerEngine::running().host);
    run(&mut command)
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
  image: {name: courser.test/busybox:1}
  needs: [build]
  services: []
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
}
