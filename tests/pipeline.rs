//! `courser pipeline` through the binary: exit codes, JSON, and what people see.

use crate::world::{Finished, World, run};

const FILE: &str = "build:\n  script: make\ntest:\n  script: make check\n  needs: [build]\n  rules:\n    - changes: [src/*]\n    - if: $FORCE\n      when: manual\n";

fn courser(world: &World, arguments: &[&str]) -> Finished {
    run(&mut world.courser(["pipeline"].iter().chain(arguments)))
}

#[test]
fn a_valid_file_is_listed_and_linted() {
    let world = World::new();
    world.repository("work", &[(".gitlab-ci.yml", FILE), ("src/a.c", "")]);
    let linted = courser(&world, &["lint"]);
    assert_eq!(linted.code(), 0, "{}", linted.all());
    assert_eq!(linted.stdout, ".gitlab-ci.yml is valid\n");

    for (arguments, expected) in [
        (
            &["list"][..],
            "test\n  build\n  test (needs build; rule 1)\n",
        ),
        (&["list", "--changed-file", "README"], "test\n  build\n"),
        (
            &["list", "--changed-file", "README", "--variable", "FORCE=1"],
            "test\n  build\n  test (manual; needs build; rule 2)\n",
        ),
    ] {
        let listed = courser(&world, arguments);
        assert_eq!(listed.code(), 0, "{}", listed.all());
        assert_eq!(listed.stdout, expected, "{arguments:?}");
    }
    let listed = courser(&world, &["list", "--json", "--ref", "v1", "--tag"]);
    let json: serde_json::Value = serde_json::from_str(&listed.stdout).expect("JSON");
    assert_eq!(json["valid"], true);
    assert_eq!(json["jobs"][1]["needs"][0]["job"], "build");
}

#[test]
fn an_invalid_file_ends_with_1_and_shows_the_line() {
    let world = World::new();
    world.write("work/.gitlab-ci.yml", "include: ci/jobs.yml\n");
    world.write("work/ci/jobs.yml", "build:\n  script: make\n  stag: test\n");
    let linted = courser(&world, &["lint"]);
    assert_eq!(linted.code(), 1, "{}", linted.all());
    assert_eq!(
        linted.stderr,
        "error: jobs:build config contains unknown keys: stag\n --> ci/jobs.yml:3:3\n  |\n3 |   stag: test\n  |   ^^^^\n\n"
    );
    for command in ["lint", "list"] {
        let answered = courser(&world, &[command, "--json"]);
        assert_eq!(answered.code(), 1, "{}", answered.all());
        let json: serde_json::Value = serde_json::from_str(&answered.stdout).expect("JSON");
        assert_eq!(json["valid"], false);
        let error = &json["errors"][0];
        assert_eq!(
            (&error["file"], &error["line"]),
            (&"ci/jobs.yml".into(), &3.into())
        );
    }
}

#[test]
fn the_merged_file_is_shown_as_yaml_and_json() {
    let world = World::new();
    world.write(
        "work/other.yml",
        ".base: {script: [x]}\njob: {extends: .base}\n",
    );
    let shown = courser(&world, &["show", "--file", "other.yml"]);
    assert_eq!(
        shown.stdout,
        ".base:\n  script:\n  - x\njob:\n  script:\n  - x\n  extends: .base\n"
    );
    let shown = courser(&world, &["show", "--file", "other.yml", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&shown.stdout).expect("JSON");
    assert_eq!(json["job"]["script"][0], "x");
}

#[test]
fn a_missing_file_is_named_with_a_way_out() {
    let world = World::new();
    let linted = courser(&world, &["lint"]);
    assert_eq!(linted.code(), 2, "{}", linted.all());
    assert!(linted.stderr.contains("work/.gitlab-ci.yml does not exist"));
    assert!(linted.stderr.contains("--file"));
}

#[test]
fn a_job_is_explained_for_the_event_and_secrets_stay_secret() {
    let world = World::new();
    world.repository("work", &[(".gitlab-ci.yml", FILE), ("src/a.c", "")]);
    let secrets = world.path("secrets.env");
    std::fs::write(&secrets, "FORCE=hush-hush-value\n").expect("written");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&secrets, private).expect("set");
    let secrets = secrets.to_str().expect("text");

    let changed = ["explain", "test", "--changed-file", "README"];
    let out = courser(&world, &changed);
    assert_eq!(out.code(), 1, "{}", out.all());
    for text in [
        "test is out: no rule holds",
        "(.gitlab-ci.yml:7)",
        "none of 1 changed files fits",
    ] {
        assert!(out.stdout.contains(text), "{text}: {}", out.all());
    }
    let forced = [&changed[..], &["--variables-file", secrets]].concat();
    let is_in = courser(&world, &forced);
    assert_eq!(is_in.code(), 0, "{}", is_in.all());
    for text in [
        "test is in: rule 2 holds",
        "[MASKED]",
        "when: manual; needs build",
    ] {
        assert!(is_in.stdout.contains(text), "{text}: {}", is_in.all());
    }
    let json = courser(&world, &[&forced[..], &["--json"]].concat());
    assert!(
        !json.stdout.contains("hush") && !is_in.all().contains("hush"),
        "{}",
        json.all()
    );
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(
        (&json["in"], &json["jobs"][0]["when"]),
        (&true.into(), &"manual".into())
    );
    let decisions = json["decisions"].as_array().expect("a list");
    let of_job = decisions.last().expect("one");
    assert_eq!(of_job["rules"][0]["place"]["line"], 7);

    let unknown = courser(&world, &["explain", "tset"]);
    assert_eq!(unknown.code(), 64, "{}", unknown.all());
    assert!(
        unknown.stderr.contains("did you mean \"test\"?"),
        "{}",
        unknown.all()
    );
}
