//! `courser exec` for other events than a push: refs, tags, merge requests, schedules.

use crate::world::{Finished, World, run};

const SHOW: &str = r#"
show:
  rules: [{when: always}]
  script:
    - cat text.txt
    - echo "source=$CI_PIPELINE_SOURCE branch=[$CI_COMMIT_BRANCH] tag=[$CI_COMMIT_TAG] ref=$CI_COMMIT_REF_NAME"
    - echo "merge=[$CI_MERGE_REQUEST_SOURCE_BRANCH_NAME>$CI_MERGE_REQUEST_TARGET_BRANCH_NAME] base=[$CI_MERGE_REQUEST_DIFF_BASE_SHA]"
    - echo "message=[$CI_COMMIT_TAG_MESSAGE] before=$CI_COMMIT_BEFORE_SHA triggered=[$CI_PIPELINE_TRIGGERED]"
    - echo "head=$(git rev-parse HEAD)"
only changed:
  rules: [{changes: [side.txt]}]
  script: echo side-changed
"#;
const ZEROES: &str = "0000000000000000000000000000000000000000";

/// `main` with a tag at its first commit, `side` with one commit more; `side` is checked out.
fn project() -> World {
    let world = World::new();
    world.repository("work", &[(".gitlab-ci.yml", SHOW), ("text.txt", "first\n")]);
    world.git("work", &["tag", "-a", "v1.0", "-m", "One point oh"]);
    world.git("work", &["checkout", "-q", "-b", "side"]);
    world.write("work/text.txt", "of-side\n");
    world.write("work/side.txt", "new\n");
    world.git("work", &["add", "."]);
    world.git("work", &["commit", "-q", "-m", "On the side"]);
    world.write("work/text.txt", "uncommitted\n");
    world
}

fn exec(world: &World, arguments: &[&str]) -> Finished {
    run(&mut world.courser(["exec"].iter().chain(arguments)))
}

fn id(world: &World, revision: &str) -> String {
    world
        .git("work", &["rev-parse", revision])
        .trim()
        .to_owned()
}

fn assert_shows(finished: &Finished, expected: &[&str]) {
    assert_eq!(finished.code(), 0, "{}", finished.all());
    for text in expected {
        assert!(finished.stdout.contains(text), "{text}: {}", finished.all());
    }
}

#[test]
fn a_ref_runs_as_it_was_committed() {
    let world = project();
    let side = format!("head={}", id(&world, "side"));
    let finished = exec(&world, &["--ref", "side"]);
    let branch = "branch=[side] tag=[] ref=side";
    assert_shows(&finished, &["of-side", branch, &side, "side-changed"]);
    assert!(
        finished.stderr.contains("of branch side runs"),
        "{}",
        finished.all()
    );

    let main = format!("head={}", id(&world, "main"));
    let finished = exec(&world, &["--ref", "main"]);
    assert_shows(
        &finished,
        &["first", "branch=[main] tag=[] ref=main", &main],
    );
    let finished = exec(&world, &["--ref", "HEAD~1", "show"]);
    assert_shows(&finished, &["first", "branch=[side]", &main]);
    // Without one it is the working tree.
    assert_shows(&exec(&world, &["show"]), &["uncommitted", "branch=[side]"]);

    let finished = exec(&world, &["--ref", "mian"]);
    assert_eq!(finished.code(), 64, "{}", finished.all());
    assert!(
        finished.stderr.contains("did you mean \"main\"?"),
        "{}",
        finished.all()
    );
}

#[test]
fn a_tag_that_is_there_runs_and_one_to_come_is_tried_on_the_working_tree() {
    let world = project();
    let tag = "branch=[] tag=[v1.0] ref=v1.0";
    for arguments in [
        &["--tag", "v1.0"][..],
        &["--ref", "v1.0", "--tag"],
        &["--ref", "v1.0"],
    ] {
        let finished = exec(&world, &[arguments, &["show"]].concat());
        let message = format!("message=[One point oh] before={ZEROES}");
        assert_shows(&finished, &["first", tag, "source=push", &message]);
    }
    let finished = exec(&world, &["--tag", "v2.0"]);
    assert_shows(
        &finished,
        &["uncommitted", "tag=[v2.0] ref=v2.0", "message=[]"],
    );
    assert!(
        finished.stderr.contains("as if it were tagged"),
        "{}",
        finished.all()
    );
}

#[test]
fn a_merge_request_knows_both_branches_and_where_they_parted() {
    let world = project();
    let base = id(&world, "main");
    let merge = format!("merge=[side>main] base=[{base}]");
    let finished = exec(&world, &["--source", "merge_request_event"]);
    let refs = "source=merge_request_event branch=[] tag=[] ref=side";
    assert_shows(&finished, &["uncommitted", refs, &merge, "side-changed"]);
    assert!(
        finished.stdout.contains("refs/merge-requests/1/head"),
        "{}",
        finished.all()
    );
    world.git("work", &["branch", "release", "main"]);
    let finished = exec(
        &world,
        &[
            "--source",
            "merge_request_event",
            "--ref",
            "side",
            "--target",
            "release",
            "show",
        ],
    );
    assert_shows(&finished, &["of-side", "merge=[side>release]"]);
    let refused = exec(&world, &["--target", "release"]);
    assert_eq!(refused.code(), 64, "{}", refused.all());
}

#[test]
fn other_sources_have_nothing_to_compare_with() {
    let world = project();
    let finished = exec(&world, &["--source", "schedule", "--ref", "main"]);
    let before = format!("before={ZEROES}");
    assert_shows(
        &finished,
        &["source=schedule", "branch=[main]", &before, "side-changed"],
    );
    let finished = exec(&world, &["--source", "trigger", "show"]);
    assert_shows(&finished, &["source=trigger", "triggered=[true]"]);
    let refused = exec(&world, &["--source", "pushed"]);
    assert_eq!(refused.code(), 64, "{}", refused.all());
    assert!(
        refused.stderr.contains("merge_request_event"),
        "{}",
        refused.all()
    );
}
