//! `courser shell`: the directory and the environment that a job's script would have.

use std::io::Write as _;
use std::process::Stdio;

use crate::world::{Finished, World, run};

const PIPELINE: &str = r#"
stages: [one, two, three]
variables: {GREETING: hello}
make:
  stage: one
  script:
    - echo made > made.txt
    - echo "NUMBER=42" > facts.env
  artifacts:
    paths: [made.txt]
    reports: {dotenv: facts.env}
test:
  stage: two
  variables: {WORD: of-test}
  before_script: [echo never-run]
  script:
    - echo left > left.txt
    - exit 3
  after_script: [echo never-run-either]
bad source:
  stage: three
  needs: []
  hooks: {pre_get_sources_script: [exit 1]}
  script: echo
"#;

fn project() -> World {
    let world = World::new();
    world.repository(
        "work",
        &[(".gitlab-ci.yml", PIPELINE), ("text.txt", "text\n")],
    );
    world
}

fn shell(world: &World, arguments: &[&str]) -> Finished {
    run(&mut world.courser(["shell"].iter().chain(arguments)))
}

const LOOK: &str = "cat text.txt; cat made.txt; ls left.txt; echo $GREETING $WORD n=$NUMBER $CI_JOB_NAME s=$GIT_STRATEGY; test $PWD = $CI_PROJECT_DIR && echo in-project; exit 7";

#[test]
fn a_command_runs_in_place_of_the_script_and_its_exit_code_is_passed_on() {
    let world = project();
    let alone = shell(&world, &["test", "--", "bash", "-c", LOOK]);
    assert_eq!(alone.code(), 7, "{}", alone.all());
    assert!(
        alone
            .stdout
            .contains("hello of-test n= test s=\nin-project"),
        "{}",
        alone.all()
    );
    assert!(
        alone.stderr.contains("no artifacts of make"),
        "{}",
        alone.all()
    );
    assert!(!alone.all().contains("never-run"), "{}", alone.all());

    let needs = shell(&world, &["test", "--needs", "--", "bash", "-c", LOOK]);
    assert_eq!(needs.code(), 7, "{}", needs.all());
    for text in ["text\nmade\n", "hello of-test n=42 test"] {
        assert!(needs.stdout.contains(text), "{text}: {}", needs.all());
    }
    let masked = shell(
        &world,
        &["test", "--variable", "WORD=given", "--", "printenv", "WORD"],
    );
    assert_eq!(
        (masked.code(), &*masked.stdout),
        (0, "given\n"),
        "{}",
        masked.all()
    );
    // Nothing of it stays, and it is no run that could be retried.
    let state = world.path("state/courser/exec");
    let runs = world
        .program("find")
        .arg(state)
        .args(["-path", "*/runs/*"])
        .output();
    assert_eq!(String::from_utf8_lossy(&runs.expect("find").stdout), "");
}

#[test]
fn after_a_run_its_artifacts_are_there_and_a_kept_copy_is_as_the_job_left_it() {
    let world = project();
    let finished = run(&mut world.courser(["exec", "--keep"]));
    assert_eq!(finished.code(), 1, "{}", finished.all());
    let kept = shell(&world, &["test", "--", "bash", "-c", LOOK]);
    assert_eq!(kept.code(), 7, "{}", kept.all());
    for text in [
        "text\nmade\nleft.txt\n",
        "hello of-test n=42 test s=\nin-project",
    ] {
        assert!(kept.stdout.contains(text), "{text}: {}", kept.all());
    }
    assert!(kept.stderr.contains("that was kept"), "{}", kept.all());
    let fresh = shell(&world, &["test", "--fresh", "--", "bash", "-c", LOOK]);
    assert_eq!(fresh.code(), 7, "{}", fresh.all());
    assert!(
        fresh.stdout.contains("text\nmade\nhello of-test n=42"),
        "{}",
        fresh.all()
    );
}

#[test]
fn a_script_comes_through_standard_input_and_what_cannot_be_is_told() {
    let world = project();
    let mut bash = world.courser(["shell", "test"]);
    let mut bash = bash
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut input = bash.stdin.take().expect("a pipe");
    input
        .write_all(b"echo got $WORD\nexit 5\n")
        .expect("written");
    drop(input);
    let output = bash.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "got of-test\n");

    let unknown = shell(&world, &["tset", "--", "true"]);
    assert_eq!(unknown.code(), 64, "{}", unknown.all());
    assert!(
        unknown.stderr.contains("did you mean \"test\"?"),
        "{}",
        unknown.all()
    );
    let broken = shell(&world, &["bad source", "--", "true"]);
    assert_eq!(broken.code(), 1, "{}", broken.all());
    assert!(
        broken.stderr.contains("did not come to its script"),
        "{}",
        broken.all()
    );
}
