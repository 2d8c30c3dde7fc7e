//! `courser exec` as its users meet it: the working tree as it is, outcomes, exit codes, Ctrl-C.

use std::os::unix::fs::PermissionsExt;

use crate::world::{Running, World, run};

const TWO_STAGES: &str = r#"
stages: [one, two]

make:
  stage: one
  script: [echo made > made.txt]
  artifacts: {paths: [made.txt]}

take:
  stage: two
  script: [cat made.txt committed.txt changed.txt untracked.txt]
"#;

fn project(pipeline: &str) -> World {
    let world = World::new();
    world.repository(
        "work",
        &[
            (".gitlab-ci.yml", pipeline),
            (".gitignore", "ignored.txt\n"),
            ("committed.txt", "as committed\n"),
            ("changed.txt", "before\n"),
        ],
    );
    world
}

/// Everything of the repository that must stay as it is.
fn fingerprint(world: &World) -> String {
    let refs = world.git("work", &["for-each-ref"]);
    let status = world.git("work", &["status", "--porcelain=v2", "--ignored"]);
    let objects = world.git("work", &["count-objects", "-v"]);
    let index = world
        .program("sha256sum")
        .current_dir(world.path("work"))
        .arg(".git/index")
        .output();
    let index = String::from_utf8(index.expect("sha256sum").stdout).expect("text");
    format!("{refs}{status}{objects}{index}")
}

#[test]
fn the_working_tree_runs_as_it_is_and_the_repository_stays_as_it_is() {
    let world = project(TWO_STAGES);
    world.write("work/changed.txt", "after\n");
    world.write("work/untracked.txt", "new\n");
    world.write("work/ignored.txt", "not to be seen\n");
    let before = fingerprint(&world);
    let finished = run(&mut world.courser(["exec"]));
    assert_eq!(finished.code(), 0, "{}", finished.all());
    for line in ["made", "as committed", "after", "new"] {
        assert!(finished.stdout.contains(line), "{line}: {}", finished.all());
    }
    assert!(
        !finished.stdout.contains("not to be seen"),
        "{}",
        finished.all()
    );
    assert_eq!(fingerprint(&world), before);
}

/// In a linked working tree Git hands absolute paths to its hooks.
#[test]
fn a_run_inside_a_git_hook_leaves_the_repository_as_it_is() {
    let world = project(TWO_STAGES);
    world.write("work/changed.txt", "after\n");
    world.write("work/untracked.txt", "new\n");
    let before = fingerprint(&world);
    let config = world.read("work/.git/config");
    let finished = run(world
        .courser(["exec"])
        .env("GIT_DIR", world.path("work/.git"))
        .env("GIT_INDEX_FILE", world.path("work/.git/index"))
        .env("GIT_PREFIX", ""));
    assert_eq!(finished.code(), 0, "{}", finished.all());
    assert_eq!(fingerprint(&world), before);
    assert_eq!(world.read("work/.git/config"), config);
    assert_eq!(
        world.git("work", &["symbolic-ref", "HEAD"]),
        "refs/heads/main\n"
    );
}

#[test]
fn a_failed_job_fails_the_pipeline_and_allowed_failures_do_not() {
    let world = project("bad:\n  script: [exit 3]\n");
    let finished = run(&mut world.courser(["exec"]));
    assert_eq!(finished.code(), 1, "{}", finished.all());
    assert!(
        finished.all().contains("exit status 3"),
        "{}",
        finished.all()
    );
    let world = project("bad:\n  allow_failure: true\n  script: [exit 3]\n");
    let finished = run(&mut world.courser(["exec"]));
    assert_eq!(finished.code(), 0, "{}", finished.all());
}

#[test]
fn an_event_that_makes_no_pipeline_is_no_fault_of_the_file() {
    for (rules, said) in [
        (
            "workflow: {rules: [{if: $NEVER}]}\njob: {script: 'true'}\n",
            "error: Pipeline filtered out by workflow rules.",
        ),
        (
            "job: {script: 'true', rules: [{if: $NEVER}]}\n",
            "error: The resulting pipeline would have been empty.",
        ),
    ] {
        let finished = run(&mut project(rules).courser(["exec"]));
        assert_eq!(finished.code(), 1, "{}", finished.all());
        assert!(finished.stderr.contains(said), "{}", finished.all());
        let hint = "courser pipeline explain JOB";
        assert!(finished.stderr.contains(hint), "{}", finished.all());
    }
}

#[test]
fn an_invalid_file_is_named_with_its_line_and_has_an_exit_code_of_its_own() {
    let world = project("job:\n  script: [true]\n  neds: []\n");
    let finished = run(&mut world.courser(["exec"]));
    assert!(![0, 1].contains(&finished.code()), "{}", finished.all());
    assert!(
        finished.stderr.contains(".gitlab-ci.yml:"),
        "{}",
        finished.all()
    );
    let world = project("job:\n  script: ['true']\n  neds: []\n");
    let finished = run(&mut world.courser(["exec"]));
    assert!(
        finished.stderr.contains(".gitlab-ci.yml:3:"),
        "{}",
        finished.all()
    );
    assert!(
        finished.stderr.contains("unknown keys: neds"),
        "{}",
        finished.all()
    );
}

#[test]
fn chosen_jobs_run_alone_or_with_what_they_need() {
    let world = project(
        "a:\n  script: [echo ran-a]\nb:\n  script: [echo ran-b]\nc:\n  needs: [a]\n  script: [echo ran-c]\n",
    );
    let finished = run(&mut world.courser(["exec", "b"]));
    assert_eq!(finished.code(), 0, "{}", finished.all());
    assert!(
        finished.stdout.contains("ran-b") && !finished.stdout.contains("ran-a"),
        "{}",
        finished.all()
    );
    let finished = run(&mut world.courser(["exec", "c", "--needs"]));
    assert_eq!(finished.code(), 0, "{}", finished.all());
    assert!(
        finished.stdout.contains("ran-a") && finished.stdout.contains("ran-c"),
        "{}",
        finished.all()
    );
    assert!(!finished.stdout.contains("ran-b"), "{}", finished.all());
}

#[test]
fn masked_values_of_a_private_file_do_not_appear_and_an_open_file_is_refused() {
    let world = project(
        "job:\n  script: ['echo \"value $SECRET\"', 'cat $KEY', 'echo \"length ${#PLAIN}\"']\n",
    );
    let file = world.write(
        "home/variables.json",
        r#"{"SECRET": {"value": "s3cr3t-value", "masked": true}, "KEY": {"value": "file content", "file": true}}"#,
    );
    let exec = |mode: u32| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("chmod");
        let mut command = world.courser(["exec", "--variable", "PLAIN", "--variables-file"]);
        run(command.arg(&file).env("PLAIN", "twelve chars"))
    };
    let finished = exec(0o600);
    assert_eq!(finished.code(), 0, "{}", finished.all());
    assert!(
        finished.stdout.contains("value [MASKED]"),
        "{}",
        finished.all()
    );
    assert!(
        !finished.all().contains("s3cr3t-value"),
        "{}",
        finished.all()
    );
    assert!(
        finished.stdout.contains("file content"),
        "{}",
        finished.all()
    );
    assert!(finished.stdout.contains("length 12"), "{}", finished.all());
    let refused = exec(0o644);
    assert_ne!(refused.code(), 0, "{}", refused.all());
    assert!(
        refused.stderr.contains("variables.json"),
        "{}",
        refused.all()
    );
}

#[test]
fn json_is_one_event_a_line() {
    let world = project("job:\n  script: ['true']\n");
    let finished = run(&mut world.courser(["exec", "--json"]));
    assert_eq!(finished.code(), 0, "{}", finished.all());
    let names: Vec<_> = events(&finished)
        .iter()
        .map(|event| event["event"].as_str().expect("a name").to_owned())
        .filter(|name| name != "job_log")
        .collect();
    let expected = [
        "pipeline_created",
        "job_started",
        "job_finished",
        "pipeline_finished",
    ];
    assert_eq!(names, expected);
}

#[test]
fn json_tells_what_is_wrong_and_ends_with_the_error() {
    let world = project("job:\n  script: ['true']\n  neds: []\n");
    let finished = run(&mut world.courser(["exec", "--json"]));
    assert_eq!(finished.code(), 2, "{}", finished.all());
    let events = events(&finished);
    let problem = &events[0];
    assert_eq!(
        (&problem["event"], &problem["line"]),
        (&"problem".into(), &3.into())
    );
    assert_eq!(problem["severity"], "error");
    let last = events.last().expect("an event");
    assert_eq!(
        (&last["event"], &last["exit_code"]),
        (&"error".into(), &2.into())
    );
    // A run that never began is not kept.
    assert!(!finished.all().contains("internal"), "{}", finished.all());
    let runs = std::fs::read_dir(world.path("state/courser/exec")).expect("the state");
    for project in runs {
        let runs = project.expect("a project").path().join("runs");
        assert_eq!(std::fs::read_dir(runs).expect("runs").count(), 0);
    }
}

#[test]
fn a_name_nearly_right_is_suggested() {
    let world = project("build:\n  script: ['true']\n");
    let finished = run(&mut world.courser(["exec", "biuld"]));
    assert_eq!(finished.code(), 64, "{}", finished.all());
    let hint = "did you mean \"build\"?";
    assert!(finished.stderr.contains(hint), "{}", finished.all());
}

#[test]
fn a_pipeline_that_waits_for_a_person_says_how_to_go_on() {
    let world = project(
        "build:\n  script: ['true']\ngo on:\n  stage: deploy\n  rules: [{when: manual}]\n  script: [echo went]\n",
    );
    let finished = run(&mut world.courser(["exec"]));
    assert_eq!(finished.code(), 1, "{}", finished.all());
    let command = "courser exec 'go on'";
    assert!(finished.stdout.contains(command), "{}", finished.all());
    let finished = run(&mut world.courser(["exec", "go on"]));
    assert_eq!(finished.code(), 0, "{}", finished.all());
}

#[test]
fn delayed_jobs_wait() {
    let world =
        project("late:\n  when: delayed\n  start_in: 1 second\n  script: [echo was-late]\n");
    let finished = run(&mut world.courser(["exec"]));
    assert_eq!(finished.code(), 0, "{}", finished.all());
    for text in ["delayed, starts in", "was-late"] {
        assert!(finished.stdout.contains(text), "{text}: {}", finished.all());
    }
}

#[test]
fn what_a_job_prints_cannot_steer_the_terminal_of_a_pipe_or_a_person() {
    let world = project(
        "job:\n  script: [\"printf '\\\\033[2J\\\\033]0;title\\\\007\\\\033[32mgreen\\\\033[0m\\\\n'\"]\n",
    );
    let finished = run(&mut world.courser(["exec"]));
    assert_eq!(finished.code(), 0, "{}", finished.all());
    assert!(finished.stdout.contains("| green"), "{}", finished.all());
    assert!(!finished.stdout.contains('\u{1b}'), "{:?}", finished.stdout);
    assert!(
        !finished.stdout.contains("title\u{7}"),
        "{:?}",
        finished.stdout
    );
}

#[test]
fn caches_are_kept_between_runs_and_clean_frees_them() {
    let world = project(
        "job:\n  cache: {key: {files: [committed.txt]}, paths: [kept]}\n  script: ['cat kept/file || true', 'mkdir -p kept; echo from-before > kept/file']\n",
    );
    let first = run(&mut world.courser(["exec"]));
    assert_eq!(first.code(), 0, "{}", first.all());
    let second = run(&mut world.courser(["exec"]));
    assert!(second.stdout.contains("| from-before"), "{}", second.all());
    let cleaned = run(&mut world.courser(["clean"]));
    assert!(cleaned.stdout.starts_with("freed "), "{}", cleaned.all());
    let again = run(&mut world.courser(["clean"]));
    assert_eq!(again.stdout, "nothing to remove\n");
    let third = run(&mut world.courser(["exec"]));
    assert!(!third.stdout.contains("| from-before"), "{}", third.all());
}

fn events(finished: &crate::world::Finished) -> Vec<serde_json::Value> {
    let lines = finished.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn a_directory_without_git_runs() {
    let world = World::new();
    world.write("work/.gitlab-ci.yml", "job:\n  script: [cat file.txt]\n");
    world.write("work/file.txt", "plain directory\n");
    let finished = run(&mut world.courser(["exec"]));
    assert_eq!(finished.code(), 0, "{}", finished.all());
    assert!(
        finished.stdout.contains("plain directory"),
        "{}",
        finished.all()
    );
}

#[test]
fn ctrl_c_and_a_closed_terminal_cancel_the_jobs_run_after_script_and_leave_no_process() {
    for (number, signal) in (1..).zip(["INT", "HUP"]) {
        let marker = format!("{}", 100_000 * number + std::process::id());
        let world = project(&format!(
            "job:\n  script: ['sleep {marker} & sleep {marker}; wait']\n  after_script: ['echo after $CI_JOB_STATUS']\n",
        ));
        // Whoever runs these tests may ignore what comes of a closed terminal.
        let mut command = world.program("env");
        command.args([
            "--default-signal=HUP",
            env!("CARGO_BIN_EXE_courser"),
            "exec",
        ]);
        let mut running = Running::start(&mut command);
        running.wait_for(&format!("$ sleep {marker}"));
        running.signal(signal);
        running.wait_for("after canceled");
        let status = running.end();
        assert!(!status.success(), "{signal}");
        let left = world
            .program("pgrep")
            .args(["-f", &format!("^sleep {marker}$")])
            .output()
            .expect("pgrep");
        assert!(
            left.stdout.is_empty(),
            "{signal}: {}",
            String::from_utf8_lossy(&left.stdout)
        );
    }
}

/// Where a proxy answers, nothing would come of the coordinator.
#[test]
fn jobs_reach_the_coordinator_past_the_proxies_of_the_environment() {
    let world =
        project("job:\n  script: [cat committed.txt]\n  artifacts: {paths: [committed.txt]}\n");
    for name in ["https_proxy", "HTTPS_PROXY"] {
        let finished = run(world.courser(["exec"]).env(name, "http://127.0.0.1:1"));
        assert_eq!(finished.code(), 0, "{name}: {}", finished.all());
    }
}

#[test]
fn nohup_lets_a_run_go_on() {
    let world =
        project("job:\n  script: ['echo begun; while ! test -e goes-on; do sleep 0.1; done']\n");
    let mut command = world.program("nohup");
    command.args([env!("CARGO_BIN_EXE_courser"), "exec"]);
    let mut running = Running::start(&mut command);
    running.wait_for("begun");
    running.signal("HUP");
    // The job has a working copy of its own.
    let found = world
        .program("sh")
        .args([
            "-c",
            "find . -name builds -type d -exec find {} -name committed.txt \\;",
        ])
        .current_dir(world.path(""))
        .output()
        .expect("find");
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    let copy = found.lines().next().expect("a working copy");
    let copy = world.path(copy.trim_start_matches("./"));
    std::fs::write(copy.with_file_name("goes-on"), "").expect("written");
    assert!(running.end().success());
}

#[test]
fn two_runs_in_one_checkout_do_not_disturb_each_other() {
    let world = project("job:\n  script: [sleep 1, cat committed.txt]\n");
    let mut first = Running::start(&mut world.courser(["exec"]));
    let mut second = Running::start(&mut world.courser(["exec"]));
    first.wait_for("as committed");
    second.wait_for("as committed");
    assert!(first.end().success());
    assert!(second.end().success());
}

#[test]
fn a_job_with_an_image_needs_an_engine_or_the_shell_executor() {
    let world = World::new();
    let pipeline = "one:\n  image: debian:12\n  script: echo in a shell\n";
    world.repository("work", &[(".gitlab-ci.yml", pipeline)]);
    let exec = |arguments: &[&str]| {
        let mut command = world.courser(["exec"]);
        command
            .args(arguments)
            .env("DOCKER_HOST", "unix:///nowhere.sock");
        run(&mut command)
    };
    let refused = exec(&[]);
    assert_eq!(refused.code(), 4, "{}", refused.all());
    for text in [
        "one has an image",
        "unix:///nowhere.sock",
        "--executor shell",
    ] {
        assert!(refused.stderr.contains(text), "{}", refused.all());
    }
    let passed = exec(&["--executor", "shell"]);
    assert_eq!(passed.code(), 0, "{}", passed.all());
    assert!(
        passed.stdout.contains("one | in a shell"),
        "{}",
        passed.all()
    );
    let warning = "image and services of one are ignored";
    assert!(passed.stderr.contains(warning), "{}", passed.all());
    let none = exec(&["--executor", "docker", "--image", "debian:12=debian:13"]);
    assert_eq!(none.code(), 4, "{}", none.all());
    world.write("work/.gitlab-ci.yml", "one:\n  script: 'true'\n");
    let none = exec(&["--executor", "docker"]);
    assert_eq!(none.code(), 64, "{}", none.all());
    assert!(
        none.stderr.contains("one has no image to run in"),
        "{}",
        none.all()
    );
    assert_eq!(exec(&[]).code(), 0, "nothing needs an Engine");
    let bridge = "go:\n  trigger: {include: child.yml, strategy: depend}\n";
    world.write("work/.gitlab-ci.yml", bridge);
    world.write("work/child.yml", "inner:\n  script: echo in a shell\n");
    assert_eq!(exec(&[]).code(), 0, "nor does the child");
    let none = exec(&["--executor", "docker"]);
    assert_eq!(none.code(), 4, "{}", none.all());
    assert!(!none.all().contains("in a shell\n"), "{}", none.all());
}
