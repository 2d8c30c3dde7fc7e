//! Scripts and their exit codes (lifecycle 1.3, 1.6, 3).

use serde_json::json;

use super::scene::{Scene, failed, success};
use crate::wire::gitlab::{add, after_script, variable};

#[test]
fn what_a_script_prints_is_shown_with_its_commands() {
    let mut scene = Scene::new();
    let script = [
        "echo hello",
        "",
        "echo gr\u{fc}n \u{1f600}",
        "echo one\necho two",
        "  echo trimmed  ",
        "echo wrong >&2",
    ];
    let job = scene.job(1, &script);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ echo hello</>
    O hello
    O
    O <green>$ echo grün 😀</>
    O grün 😀
    O <green>$ echo one # collapsed multi-line command</>
    O one
    O two
    O <green>$ echo trimmed</>
    O trimmed
    O <green>$ echo wrong >&2</>
    E wrong
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn the_first_command_that_fails_ends_the_script_with_its_code() {
    let mut scene = Scene::new();
    let job = scene.job(1, &["echo before", "(exit 42)", "echo never"]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("script_failure", 42));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ echo before</>
    O before
    O <green>$ (exit 42)</>
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 42</>
    ");
}

#[test]
fn a_command_that_is_not_there_gives_127() {
    let mut scene = Scene::new();
    let job = scene.job(1, &["no-such-command --at-all 2>/dev/null"]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("script_failure", 127));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ no-such-command --at-all 2>/dev/null</>
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 127</>
    ");
}

#[test]
fn death_by_a_signal_is_minus_one() {
    let mut scene = Scene::new();
    let job = scene.job(1, &["kill -KILL $$"]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("script_failure", -1));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ kill -KILL $$</>
    == cleanup_file_variables
    . <red>ERROR: Job failed: signal: killed</>
    ");
}

#[test]
fn a_pipe_fails_with_its_first_part() {
    let mut scene = Scene::new();
    let job = scene.job(1, &["(exit 9) | cat", "echo never"]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("script_failure", 9));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ (exit 9) | cat</>
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 9</>
    ");
}

#[test]
fn lines_of_a_script_share_one_shell() {
    let mut scene = Scene::new();
    let script = [
        "mkdir -p deep && cd deep",
        "say() { echo \"said $1\"; }; HERE=${PWD##*/}",
        "say $HERE",
        "set +e",
        "false",
        "echo goes on",
    ];
    let job = scene.job(1, &script);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r#"
    (started, no sources)
    == step_script
    O <green>$ mkdir -p deep && cd deep</>
    O <green>$ say() { echo "said $1"; }; HERE=${PWD##*/}</>
    O <green>$ say $HERE</>
    O said deep
    O <green>$ set +e</>
    O <green>$ false</>
    O <green>$ echo goes on</>
    O goes on
    == cleanup_file_variables
    . <green>Job succeeded</>
    "#);
}

#[test]
fn exit_codes_are_checked_after_each_command_when_asked_for() {
    let mut scene = Scene::new();
    let job = scene.job(1, &["set +e", "(exit 5)", "echo never"]);
    let job = scene.run(&variable(job, "FF_ENABLE_BASH_EXIT_CODE_CHECK", "true"));
    assert_eq!(job.outcome(), failed("script_failure", 5));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started with FF_ENABLE_BASH_EXIT_CODE_CHECK:true, no sources)
    == step_script
    O <green>$ set +e</>
    O <green>$ (exit 5)</>
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 5</>
    ");
}

#[test]
fn standard_input_is_empty() {
    let mut scene = Scene::new();
    let script = [
        "read line || echo \"nothing: $?\"",
        "cat",
        "cat -",
        "echo end",
    ];
    let job = scene.job(1, &script);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r#"
    (started, no sources)
    == step_script
    O <green>$ read line || echo "nothing: $?"</>
    O nothing: 1
    O <green>$ cat</>
    O <green>$ cat -</>
    O <green>$ echo end</>
    O end
    == cleanup_file_variables
    . <green>Job succeeded</>
    "#);
}

#[test]
fn steps_run_one_after_the_other_until_one_fails() {
    let mut scene = Scene::new();
    let job = scene.job(1, &["LOST=1; echo first > file"]);
    let job = variable(job, "VERSION", "1.2");
    let job = add(
        job,
        "steps",
        json!({"name": "release", "script": ["echo 'v$VERSION' ${LOST-gone}; cat file"], "when": "on_failure"}),
    );
    let job = add(
        job,
        "steps",
        json!({"name": "third", "script": ["exit 3"], "allow_failure": true}),
    );
    let job = add(
        job,
        "steps",
        json!({"name": "fourth", "script": ["echo never"], "when": "always"}),
    );
    let job = scene.run(&after_script(job, &["echo after"]));
    assert_eq!(job.outcome(), failed("script_failure", 3));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ LOST=1; echo first > file</>
    == step_release
    O <green>$ echo 'v1.2' ; cat file</>
    O v1.2
    O first
    == step_third
    O <green>$ exit 3</>
    == after_script
    O <green>Running after script...</>
    O <green>$ echo after</>
    O after
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 3</>
    ");
}

#[test]
fn hooks_of_the_configuration_surround_each_step_but_not_after_script() {
    let mut scene = Scene::new();
    scene.configure(
        "  pre_build_script = \"echo pre; X=1\"\n  post_build_script = \"echo post $X\"\n",
    );
    let job = scene.job(1, &["echo step $X"]);
    let job = scene.run(&after_script(job, &["echo after ${X-unset}"]));
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ echo pre; X=1</>
    O pre
    O <green>$ echo step $X</>
    O step 1
    O <green>$ echo post $X</>
    O post 1
    == after_script
    O <green>Running after script...</>
    O <green>$ echo after ${X-unset}</>
    O after unset
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn a_failing_hook_fails_the_step() {
    let mut scene = Scene::new();
    let fails_once = "test -e ~/failed || { touch ~/failed; exit 8; }";
    scene.configure(&format!("  pre_build_script = \"{fails_once}\"\n"));
    let job = scene.job(1, &["echo never"]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("script_failure", 8));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ test -e ~/failed || { touch ~/failed; exit 8; }</>
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 8</>
    ");
}

#[test]
fn a_plain_shell_runs_scripts_too() {
    let mut scene = Scene::new();
    scene.configure("  shell = \"sh\"\n");
    let job = scene.job(1, &["echo ${BASH_VERSION:-no bash}", "exit 2"]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("script_failure", 2));
    insta::assert_snapshot!(scene.log(&job), @r"
    . <K>Running with gitlab-runner <version></>
    . <K>  on wire wireabcde, system ID: <system id></>
    == prepare_executor
    . <K>Using Shell (sh) executor...</>
    == prepare_script
    O Running on <host>...
    == get_sources
    O <green>Skipping Git repository setup</>
    O <green>Skipping Git checkout</>
    O <green>Skipping Git submodules setup</>
    == step_script
    O <green>$ echo ${BASH_VERSION:-no bash}</>
    O no bash
    O <green>$ exit 2</>
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 2</>
    ");
}

#[test]
fn long_commands_are_sections_when_asked_for() {
    let mut scene = Scene::new();
    let job = scene.job(1, &["echo one\necho two", "echo short"]);
    let job = variable(
        after_script(job, &["echo a\necho b"]),
        "FF_SCRIPT_SECTIONS",
        "true",
    );
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    let log = without_times(&scene.log(&job));
    insta::assert_snapshot!(log, @r"
    (started with FF_SCRIPT_SECTIONS:true, no sources)
    == step_script
    O <start of section_script_step_0[hide_duration=true,collapsed=true]><green>$ echo one
    O echo two</>
    O <end of section_script_step_0>
    O one
    O two
    O <green>$ echo short</>
    O short
    == after_script
    O <green>Running after script...</>
    O <start of section_after_script_step_0[hide_duration=true,collapsed=true]><green>$ echo a
    O echo b</>
    O <end of section_after_script_step_0>
    O a
    O b
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

/// Markers that the script prints have the time of their shell.
fn without_times(log: &str) -> String {
    let pieces = log.split("section_").map(|piece| {
        let mut parts = piece.splitn(3, ':');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(kind @ ("start" | "end")), Some(time), Some(rest)) => {
                assert!(time.parse::<u64>().is_ok(), "{piece}");
                format!("{kind}:<time>:{rest}")
            }
            _ => piece.to_owned(),
        }
    });
    pieces.collect::<Vec<_>>().join("section_")
}

#[test]
fn a_background_process_does_not_hold_its_job() {
    let mut scene = Scene::new();
    let script = ["sleep 60 >/dev/null 2>&1 & echo $! > child", "echo started"];
    let job = scene.job(1, &script);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ sleep 60 >/dev/null 2>&1 & echo $! > child</>
    O <green>$ echo started</>
    O started
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
    let child = scene.world.read("work/builds/wireabcde/0/g/p/child");
    std::process::Command::new("kill")
        .arg(child.trim())
        .status()
        .expect("kill");
}
