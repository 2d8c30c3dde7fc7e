//! Variables, settings and inputs as jobs meet them (`runner-protocol.md` 3.4, 4, lifecycle 1.9, 1.10).

use serde_json::json;

use super::scene::{Scene, failed, success};
use crate::wire::gitlab::{add, after_script, variable};

#[test]
fn settings_that_cannot_be_read_are_told_in_one_warning() {
    let mut scene = Scene::new();
    let mut job = scene.job(1, &["true"]);
    for (key, value) in [
        ("GIT_CHECKOUT", "maybe"),
        ("GIT_STRATEGY", "borrow"),
        ("GIT_SUBMODULE_DEPTH", "deep"),
        ("AFTER_SCRIPT_IGNORE_ERRORS", ""),
        ("FF_SCRIPT_SECTIONS", "perhaps"),
        ("GIT_STRATEGY", "none "),
    ] {
        job = variable(job, key, value);
    }
    let job = scene.run(&variable(job, "GIT_STRATEGY", "none"));
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r#"
    . <K>Running with gitlab-runner <version></>
    . <K>  on wire wireabcde, system ID: <system id></>
    . <yellow>WARNING: FF_SCRIPT_SECTIONS: could not parse feature flag, expected bool, got perhaps
    . GIT_CHECKOUT: expected bool got "maybe", using default value: true
    . GIT_SUBMODULE_DEPTH: expected int got "deep", using default value: 20</>
    == prepare_executor
    . <K>Using Shell (bash) executor...</>
    == prepare_script
    O Running on <host>...
    == get_sources
    O <green>Skipping Git repository setup</>
    O <green>Skipping Git checkout</>
    O <green>Skipping Git submodules setup</>
    == step_script
    O <green>$ true</>
    == cleanup_file_variables
    . <green>Job succeeded</>
    "#);
}

#[test]
fn flags_of_the_configuration_come_before_those_of_the_job() {
    let mut scene = Scene::new();
    scene.configure("  [runners.feature_flags]\n    FF_SCRIPT_SECTIONS = true\n    FF_ENABLE_JOB_CLEANUP = false\n");
    let job = variable(
        scene.job(
            1,
            &["echo $FF_SCRIPT_SECTIONS $FF_ENABLE_JOB_CLEANUP $FF_HASH_CACHE_KEYS $FF_TIMESTAMPS"],
        ),
        "FF_SCRIPT_SECTIONS",
        "false",
    );
    let job = variable(job, "FF_ENABLE_JOB_CLEANUP", "true");
    let job = scene.run(&variable(job, "FF_HASH_CACHE_KEYS", "1"));
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started with FF_SCRIPT_SECTIONS:true, FF_HASH_CACHE_KEYS:true, no sources)
    == step_script
    O <green>$ echo $FF_SCRIPT_SECTIONS $FF_ENABLE_JOB_CLEANUP $FF_HASH_CACHE_KEYS $FF_TIMESTAMPS</>
    O true false true true
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn the_runner_tells_the_job_where_it_is() {
    let mut scene = Scene::new();
    scene.configure("  environment = [\"MINE=from the runner\", \"PATH_OF=$CI_PROJECT_DIR\", \"no equals sign\"]\n");
    let script = [
        "for name in CI_SERVER CI_JOB_STATUS CI_JOB_TIMEOUT CI_CONCURRENT_ID CI_CONCURRENT_PROJECT_ID \\
         CI_RUNNER_SHORT_TOKEN CI_RUNNER_EXECUTABLE_ARCH CI_SHARED_ENVIRONMENT CI_DISPOSABLE_ENVIRONMENT \\
         CI_BUILDS_DIR CI_PROJECT_DIR RUNNER_TEMP_PROJECT_DIR GITLAB_ENV MINE PATH_OF CI_JOB_IMAGE; do \\
         echo \"$name=${!name-unset}\"; done",
    ];
    let mut job = scene.job(1, &script);
    job["runner_info"]["timeout"] = json!(123);
    job["image"] = json!({"name": "ruby:3"});
    let job = scene.run(&variable(job, "CI_RUNNER_VERSION", "0.1"));
    assert_eq!(job.outcome(), success());
    let arch = format!(
        "linux/{}",
        if cfg!(target_arch = "x86_64") {
            "amd64"
        } else {
            "arm64"
        }
    );
    insta::assert_snapshot!(scene.log(&job).replace(&arch, "<arch>"), @r"
    (started, no sources)
    == step_script
    O <green>$ for name in CI_SERVER CI_JOB_STATUS CI_JOB_TIMEOUT CI_CONCURRENT_ID CI_CONCURRENT_PROJECT_ID \ # collapsed multi-line command</>
    O CI_SERVER=yes
    O CI_JOB_STATUS=running
    O CI_JOB_TIMEOUT=123
    O CI_CONCURRENT_ID=0
    O CI_CONCURRENT_PROJECT_ID=0
    O CI_RUNNER_SHORT_TOKEN=wireabcde
    O CI_RUNNER_EXECUTABLE_ARCH=<arch>
    O CI_SHARED_ENVIRONMENT=true
    O CI_DISPOSABLE_ENVIRONMENT=unset
    O CI_BUILDS_DIR=<world>/work/builds
    O CI_PROJECT_DIR=<world>/work/builds/wireabcde/0/g/p
    O RUNNER_TEMP_PROJECT_DIR=<world>/work/builds/wireabcde/0/g/p.tmp
    O GITLAB_ENV=<world>/work/builds/wireabcde/0/g/p.tmp/gitlab_runner_env
    O MINE=from the runner
    O PATH_OF=<world>/work/builds/wireabcde/0/g/p
    O CI_JOB_IMAGE=ruby:3
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn a_jobs_own_value_wins_over_early_ones_and_loses_to_late_ones() {
    let mut scene = Scene::new();
    let mut job = scene.job(1, &["echo \"$CI_SERVER $CI_SHARED_ENVIRONMENT $OTHER\""]);
    for (key, value) in [
        ("CI_SERVER", "mine"),
        ("CI_SHARED_ENVIRONMENT", "mine"),
        ("OTHER", "$CI_SERVER ${CI_SHARED_ENVIRONMENT}"),
    ] {
        job = variable(job, key, value);
    }
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r#"
    (started, no sources)
    == step_script
    O <green>$ echo "$CI_SERVER $CI_SHARED_ENVIRONMENT $OTHER"</>
    O mine true mine true
    == cleanup_file_variables
    . <green>Job succeeded</>
    "#);
}

#[test]
fn a_raw_value_stays_as_it_is() {
    let mut scene = Scene::new();
    let job = variable(scene.job(1, &["echo \"$RAW|$COOKED|$OF_RAW\""]), "X", "1");
    let job = add(
        job,
        "variables",
        json!({"key": "RAW", "value": "$X $$ ${Y}", "raw": true}),
    );
    let job = variable(job, "COOKED", "$X $$ ${Y}");
    let job = scene.run(&variable(job, "OF_RAW", "<$RAW>"));
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r#"
    (started, no sources)
    == step_script
    O <green>$ echo "$RAW|$COOKED|$OF_RAW"</>
    O $X $$ ${Y}|1 $ |<$X $$ ${Y}>
    == cleanup_file_variables
    . <green>Job succeeded</>
    "#);
}

#[test]
fn a_file_is_there_for_each_stage_and_gone_afterwards() {
    let mut scene = Scene::new();
    let script = [
        "cat \"$CONFIG\"; echo; stat -c '%a %n' \"$CONFIG\" \"$(dirname \"$CONFIG\")\"",
        "echo changed > \"$CONFIG\"",
    ];
    let job = scene.job(1, &script);
    let job = add(
        job,
        "variables",
        json!({"key": "CONFIG", "value": "a: $X\nb: 2", "file": true}),
    );
    let job = scene.run(&after_script(variable(job, "X", "1"), &["cat \"$CONFIG\""]));
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r#"
    (started, no sources)
    == step_script
    O <green>$ cat "$CONFIG"; echo; stat -c '%a %n' "$CONFIG" "$(dirname "$CONFIG")"</>
    O a: 1
    O b: 2
    O 600 <world>/work/builds/wireabcde/0/g/p.tmp/CONFIG
    O 700 <world>/work/builds/wireabcde/0/g/p.tmp
    O <green>$ echo changed > "$CONFIG"</>
    == after_script
    O <green>Running after script...</>
    O <green>$ cat "$CONFIG"</>
    O a: 1
    O b: 2
    == cleanup_file_variables
    . <green>Job succeeded</>
    "#);
    let file = scene.world.path("work/builds/wireabcde/0/g/p.tmp/CONFIG");
    assert!(!file.exists());
}

#[test]
fn later_stages_get_what_a_script_leaves_in_gitlab_env() {
    let mut scene = Scene::new();
    let script = ["echo 'LEFT=a b=c' >> \"$GITLAB_ENV\"; echo \"now ${LEFT-unset}\""];
    let job = add(
        scene.job(1, &script),
        "steps",
        json!({"name": "second", "script": ["echo \"then $LEFT\""]}),
    );
    let job = scene.run(&after_script(job, &["echo \"at last $LEFT\""]));
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r#"
    (started, no sources)
    == step_script
    O <green>$ echo 'LEFT=a b=c' >> "$GITLAB_ENV"; echo "now ${LEFT-unset}"</>
    O now unset
    == step_second
    O <green>$ echo "then $LEFT"</>
    O then a b=c
    == after_script
    O <green>Running after script...</>
    O <green>$ echo "at last $LEFT"</>
    O at last a b=c
    == cleanup_file_variables
    . <green>Job succeeded</>
    "#);
    // The next job has none of it.
    let job = scene.job(2, &["echo \"next ${LEFT-unset}\""]);
    let job = scene.run(&job);
    insta::assert_snapshot!(scene.log(&job), @r#"
    (started, no sources)
    == step_script
    O <green>$ echo "next ${LEFT-unset}"</>
    O next unset
    == cleanup_file_variables
    . <green>Job succeeded</>
    "#);
}

#[test]
fn inputs_are_put_in_place() {
    let mut scene = Scene::new();
    let mut job = after_script(
        scene.job(
            1,
            &["echo '${{ job.inputs.name }} ${{ str(job.inputs.count) }}'"],
        ),
        &["echo ${{ job.inputs.list[1] }}"],
    );
    job["inputs"] = json!([
        {"key": "name", "value": {"type": "string", "content": "ada"}},
        {"key": "count", "value": {"type": "number", "content": 3}},
        {"key": "list", "value": {"type": "array", "content": ["a", "b"]}},
    ]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ echo 'ada 3'</>
    O ada 3
    == after_script
    O <green>Running after script...</>
    O <green>$ echo b</>
    O b
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn a_secret_input_in_a_script_fails_the_job_unseen() {
    let mut scene = Scene::new();
    scene.secret("sensitive input", "sensitive-Kq7w-input");
    let mut job = scene.job(1, &["echo ${{ job.inputs.password }}"]);
    job["inputs"] = json!([
        {"key": "password", "value": {"type": "string", "content": "sensitive-Kq7w-input", "sensitive": true}},
    ]);
    job["features"]["failure_reasons"] = json!(["runner_configuration_error"]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("runner_configuration_error", 0));
    insta::assert_snapshot!(scene.log(&job), @r#"
    . <K>Running with gitlab-runner <version></>
    . <K>  on wire wireabcde, system ID: <system id></>
    . <red>ERROR: Job failed: script: ${{ job.inputs.password }}: input "password" is sensitive, which is not supported</>
    "#);
}

#[test]
fn a_policy_is_named_before_the_script() {
    let mut scene = Scene::new();
    let mut job = scene.job(1, &["true"]);
    job["policy_options"] = json!({
        "execution_policy_job": true, "policy_name": "Security",
        "policy_variables_override_allowed": false, "policy_variables_override_exceptions": ["A", "B"],
    });
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r#"
    (started, no sources)
    . <green>Job triggered by policy "Security".</>
    . <green>User-defined CI/CD variables are ignored in this job (except for A, B) according to the policy.</>
    == step_script
    O <green>$ true</>
    == cleanup_file_variables
    . <green>Job succeeded</>
    "#);
}
