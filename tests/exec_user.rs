//! What `courser exec` takes from the user and tells the user: variables kept in the configuration directory, and
//! what GitLab would have asked or done otherwise.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;

use crate::world::{Finished, World, run};

fn exec(world: &World, arguments: &[&str]) -> Finished {
    run(&mut world.courser(["exec"].iter().chain(arguments)))
}

#[test]
fn variables_of_the_user_are_those_of_all_projects_and_of_this_one() {
    let world = World::new();
    let pipeline =
        "show:\n  rules: [{if: $COMMON}]\n  script: echo \"<$COMMON> <$OWN> <$GIVEN>\"\n";
    world.repository("work", &[(".gitlab-ci.yml", pipeline)]);
    let url = ["remote", "add", "origin", "https://forge.invalid/group/app"];
    world.git("work", &url);
    let private = |name: &str, content: &str, mode: u32| {
        let file = world.write(&format!("home/.config/courser/{name}"), content);
        set_permissions(file, Permissions::from_mode(mode)).expect("a mode");
    };
    private(
        "variables",
        "COMMON=common\nOWN=common\nGIVEN=common\n",
        0o600,
    );
    private(
        "variables.d/group/app",
        "OWN=very-secret\nGIVEN=own\n",
        0o600,
    );
    private("variables.d/group/other", "OWN=not mine\n", 0o644);
    let finished = exec(&world, &["--variable", "GIVEN=argument"]);
    assert_eq!(finished.code(), 0, "{}", finished.all());
    let line = "show | <common> <[MASKED]> <argument>";
    assert!(finished.stdout.contains(line), "{}", finished.all());
    let listed = run(&mut world.courser(["pipeline", "list"]));
    assert!(listed.stdout.contains("show"), "{}", listed.all());
    // Without a remote it is another project.
    world.git("work", &["remote", "remove", "origin"]);
    let finished = exec(&world, &[]);
    let line = "show | <common> <common> <common>";
    assert!(finished.stdout.contains(line), "{}", finished.all());
    private("variables", "COMMON=common\n", 0o640);
    let finished = exec(&world, &[]);
    assert_eq!(finished.code(), 2, "{}", finished.all());
    assert!(finished.stderr.contains("chmod 600"), "{}", finished.all());
}

#[test]
fn what_gitlab_would_ask_or_do_is_told() {
    let world = World::new();
    let pipeline = r#"
stages: [deploy, stop]
deploy:
  stage: deploy
  when: manual
  manual_confirmation: Deploy to production?
  inputs: {level: {type: number, default: 3}, word: {default: plain}}
  environment: {name: production, on_stop: shut down, auto_stop_in: 1 day}
  script: echo "level ${{ str(job.inputs.level) }} ${{ job.inputs.word }}"
shut down:
  stage: stop
  when: manual
  environment: {name: production, action: stop}
  script: 'true'
"#;
    world.repository("work", &[(".gitlab-ci.yml", pipeline)]);
    let amend = [
        "commit",
        "--quiet",
        "--amend",
        "--message",
        "Words [CI skip]",
    ];
    world.git("work", &amend);
    let finished = exec(&world, &["--manual", "deploy"]);
    assert_eq!(finished.code(), 0, "{}", finished.all());
    for line in ["deploy    | level 3 plain", "to be stopped at 2"] {
        assert!(finished.stdout.contains(line), "{line}: {}", finished.all());
    }
    let stop = ", by you: courser exec 'shut down'";
    assert!(finished.stdout.contains(stop), "{}", finished.all());
    for line in [
        "the commit says [ci skip]: GitLab would skip this pipeline, here it runs",
        "deploy is started: Deploy to production?",
    ] {
        assert!(finished.stderr.contains(line), "{line}: {}", finished.all());
    }
    // It is the push that GitLab skips.
    let finished = exec(&world, &["--source", "web", "--manual", "deploy"]);
    assert!(!finished.stderr.contains("skip"), "{}", finished.all());
}

#[test]
fn a_job_that_cannot_run_here_fails_at_once_and_says_why() {
    let world = World::new();
    let pipeline = "default: {before_script: [echo before]}\nsteps: {run: [{name: say, script: echo}]}\n\
        vault: {script: echo, secrets: {KEY: {vault: a/b/c@d}}}\n";
    world.repository("work", &[(".gitlab-ci.yml", pipeline)]);
    let finished = exec(&world, &[]);
    assert_eq!(finished.code(), 1, "{}", finished.all());
    for line in [
        "steps | ERROR: Job failed: `run` (CI steps) is not built yet",
        "failed: secret KEY: vault needs the CI/CD variable VAULT_SERVER_URL",
    ] {
        assert!(finished.stdout.contains(line), "{line}: {}", finished.all());
    }
}
