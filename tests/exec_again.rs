//! `courser exec` and what is left of a run: manual jobs, failed ones, working copies.

use std::path::PathBuf;

use crate::world::{Finished, World, run};

fn project(pipeline: &str) -> World {
    let world = World::new();
    world.repository("work", &[(".gitlab-ci.yml", pipeline)]);
    world
}

fn exec(world: &World, arguments: &[&str]) -> Finished {
    run(&mut world.courser(["exec"].iter().chain(arguments)))
}

#[test]
fn manual_jobs_are_started_beside_the_others() {
    let world = project(
        "build: {script: echo built}\ncheck: {stage: deploy, when: manual, script: 'echo checked=$CI_JOB_MANUAL'}\nship: {stage: deploy, rules: [{when: manual}], script: echo shipped}\n",
    );
    let finished = exec(&world, &["--manual", "check"]);
    assert_eq!(finished.code(), 1, "ship still blocks: {}", finished.all());
    for text in ["built", "checked=true", "waits to be started by name"] {
        assert!(finished.stdout.contains(text), "{text}: {}", finished.all());
    }
    let finished = exec(&world, &["--manual-all"]);
    assert_eq!(finished.code(), 0, "{}", finished.all());
    assert!(finished.stdout.contains("| shipped"), "{}", finished.all());
    let finished = exec(&world, &["check"]);
    assert!(
        finished.stdout.contains("checked=true"),
        "{}",
        finished.all()
    );
    let refused = exec(&world, &["--manual", "build"]);
    assert_eq!(refused.code(), 64, "{}", refused.all());
    assert!(
        refused.stderr.contains("starts by itself"),
        "{}",
        refused.all()
    );
}

const THREE_STAGES: &str = r#"
stages: [one, two, three]
make:
  stage: one
  script:
    - echo made-anew
    - echo made > made.txt
    - echo "NUMBER=42" > facts.env
  artifacts:
    paths: [made.txt]
    reports: {dotenv: facts.env}
other:
  stage: one
  script: echo other-anew
check:
  stage: two
  script:
    - cat made.txt fixed.txt
    - echo "number=$NUMBER word=$WORD source=$CI_PIPELINE_SOURCE"
last:
  stage: three
  script: echo last-anew
"#;

#[test]
fn only_what_failed_runs_again_with_the_artifacts_of_the_rest() {
    let world = project(THREE_STAGES);
    let finished = exec(
        &world,
        &["--source", "web", "--variable", "WORD=secret-word"],
    );
    assert_eq!(finished.code(), 1, "{}", finished.all());
    assert!(!finished.stdout.contains("last-anew"), "{}", finished.all());

    // Still not mended: the chain of retries goes on.
    let again = exec(&world, &["--retry-failed"]);
    assert_eq!(again.code(), 1, "{}", again.all());
    assert!(
        again.stderr.contains("not given now: WORD"),
        "{}",
        again.all()
    );

    world.write("work/fixed.txt", "mended\n");
    let again = exec(&world, &["--retry-failed", "--variable", "WORD=w"]);
    assert_eq!(again.code(), 0, "{}", again.all());
    for text in [
        "| made\n",
        "mended",
        "number=42 word=w source=web",
        "last-anew",
        "passed in an earlier run",
    ] {
        assert!(again.stdout.contains(text), "{text}: {}", again.all());
    }
    for text in ["made-anew", "other-anew"] {
        assert!(!again.stdout.contains(text), "{text}: {}", again.all());
    }
    let refused = exec(&world, &["--retry-failed"]);
    assert_eq!(refused.code(), 64, "{}", refused.all());
    assert!(
        refused.stderr.contains("no job of the last run failed"),
        "{}",
        refused.all()
    );
    let refused = exec(&world, &["--retry-failed", "make"]);
    assert_eq!(refused.code(), 64, "{}", refused.all());
    // Names are remembered, values are not.
    let state = world.path("state/courser/exec");
    let found = world
        .program("grep")
        .args(["-r", "secret-word"])
        .arg(state)
        .output();
    assert_eq!(String::from_utf8_lossy(&found.expect("grep").stdout), "");
}

#[test]
fn working_copies_can_be_kept_one_for_each_job() {
    let world = project(
        "one: {stage: build, script: echo 1 > left-by-one.txt}\ntwo: {script: echo 2 > left-by-two.txt}\n",
    );
    let finished = exec(&world, &["--keep", "--json", "--jobs", "1"]);
    assert_eq!(finished.code(), 0, "{}", finished.all());
    let last = finished.stdout.lines().last().expect("a line");
    let end: serde_json::Value = serde_json::from_str(last).expect("JSON");
    let copy = |job: usize| {
        let path = end["jobs"][job]["working_copy"].as_str().expect("a path");
        PathBuf::from(path)
    };
    assert!(copy(0).join("left-by-one.txt").is_file(), "{last}");
    assert!(copy(1).join("left-by-two.txt").is_file(), "{last}");
    assert!(!copy(1).join("left-by-one.txt").exists(), "{last}");
    let finished = exec(&world, &["--keep"]);
    assert!(
        finished.stdout.contains("working copy /"),
        "{}",
        finished.all()
    );
    let cleaned = run(&mut world.courser(["clean"]));
    assert_eq!(cleaned.code(), 0, "{}", cleaned.all());
    assert!(!copy(0).exists());
}
