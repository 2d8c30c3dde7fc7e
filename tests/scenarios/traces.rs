//! The log as a server gets it: masking, stamps, limits, offsets (`runner-protocol.md` 5).

use courser_testkit::server::Reply;
use serde_json::json;

use super::scene::{Scene, failed, success};
use crate::wire::gitlab::{add, variable};

#[test]
fn secrets_are_masked_across_writes_and_lines() {
    let mut scene = Scene::new();
    scene.secret("split", "s3cr-split-et");
    scene.secret("second line", "second-line-Kq7w");
    let script = [
        "printf 's3cr-sp'; sleep 0.1; printf 'lit-et and more\\n'",
        "echo \"$LINES_OF\"; echo \"<$MASKED_CANARY>\"; cat \"$FILE_CANARY\"; echo",
        "echo s3cr-split-e",
        "echo $CI_JOB_TOKEN >&2",
    ];
    let mut job = scene.job(1, &script);
    for (key, value) in [
        ("SPLIT", "s3cr-split-et"),
        ("LINES_OF", "first-line\nsecond-line-Kq7w"),
    ] {
        job = add(
            job,
            "variables",
            json!({"key": key, "value": value, "masked": true}),
        );
    }
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r#"
    (started, no sources)
    == step_script
    O <green>$ printf 's3cr-sp'; sleep 0.1; printf 'lit-et and more\n'</>
    O [MASKED] and more
    O <green>$ echo "$LINES_OF"; echo "<$MASKED_CANARY>"; cat "$FILE_CANARY"; echo</>
    O [MASKED]
    O <[MASKED]>
    O [MASKED]
    O <green>$ echo s3cr-split-e</>
    O s3cr-split-e
    O <green>$ echo $CI_JOB_TOKEN >&2</>
    E [MASKED]
    == cleanup_file_variables
    . <green>Job succeeded</>
    "#);
}

#[test]
fn tokens_are_masked_by_their_prefix_and_addresses_by_their_parameters() {
    let mut scene = Scene::new();
    let script = [
        "echo glpat-abc.D_1-x= _gitlab_session=abc glpat- custom-1 xglrt-a",
        "echo 'https://h/?a=1&private_token=abc&X-Amz-Signature=d%20e f?rss_token=g'",
        "printf 'glpat-'; sleep 0.1; printf 'later\\n'",
    ];
    let mut job = scene.job(1, &script);
    job["features"]["token_mask_prefixes"] = json!(["custom-", " spaced- "]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ echo glpat-[MASKED] _gitlab_session=[MASKED] glpat- custom-[MASKED] xglrt-[MASKED]</>
    O glpat-[MASKED] _gitlab_session=[MASKED] glpat- custom-[MASKED] xglrt-[MASKED]
    O <green>$ echo 'https://h/?a=1&private_token=[MASKED]&X-Amz-Signature=[MASKED] f?rss_token=[MASKED]</>
    O https://h/?a=1&private_token=[MASKED]&X-Amz-Signature=[MASKED] f?rss_token=[MASKED]
    O <green>$ printf 'glpat-'; sleep 0.1; printf 'later\n'</>
    O glpat-[MASKED]
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn bytes_that_are_no_text_are_replaced() {
    let mut scene = Scene::new();
    let script = [
        "printf 'a\\377b\\n'",
        "printf '\\342\\202'; sleep 0.1; printf '\\254 euro\\n'",
        "printf 'cut \\342\\202\\n'",
        "printf 'nul \\000 end\\n'",
    ];
    let job = scene.job(1, &script);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job).replace('\0', "<NUL>"), @r"
    (started, no sources)
    == step_script
    O <green>$ printf 'a\377b\n'</>
    O a�b
    O <green>$ printf '\342\202'; sleep 0.1; printf '\254 euro\n'</>
    O € euro
    O <green>$ printf 'cut \342\202\n'</>
    O cut ��
    O <green>$ printf 'nul \000 end\n'</>
    O nul <NUL> end
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn carriage_returns_and_open_lines_are_kept_apart() {
    let mut scene = Scene::new();
    let script = [
        "printf '10%%\\r'; sleep 0.1; printf '20%%\\r'; sleep 0.1; printf 'done\\n'",
        "printf 'no end'",
        "printf 'dos\\r\\n'",
    ];
    let job = scene.job(1, &script);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ printf '10%%\r'; sleep 0.1; printf '20%%\r'; sleep 0.1; printf 'done\n'</>
    O 10%<CR>20%<CR>done
    O <green>$ printf 'no end'</>
    O no end<green>$ printf 'dos\r\n'</>
    O dos<CR>
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn without_stamps_the_log_is_as_it_was_printed() {
    let mut scene = Scene::new();
    let job = variable(
        scene.job(1, &["echo plain", "printf open"]),
        "FF_TIMESTAMPS",
        "false",
    );
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    . <K>Running with gitlab-runner <version></>
    . <K>  on wire wireabcde, system ID: <system id></>
    . <K>  feature flags: FF_TIMESTAMPS:false</>
    == prepare_executor
    . <K>Using Shell (bash) executor...</>
    == prepare_script
    . Running on <host>...
    == get_sources
    . <green>Skipping Git repository setup</>
    . <green>Skipping Git checkout</>
    . <green>Skipping Git submodules setup</>
    == step_script
    . <green>$ echo plain</>
    . plain
    . <green>$ printf open</>
    == cleanup_file_variables
    . open
    . <green>Job succeeded</>
    ");
}

#[test]
fn without_sections_only_titles_are_left() {
    let mut scene = Scene::new();
    let mut job = scene.job(1, &["echo hi"]);
    job["features"]["trace_sections"] = json!(false);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r#"
    . <K>Running with gitlab-runner <version></>
    . <K>  on wire wireabcde, system ID: <system id></>
    . <K><cyan>Preparing the "shell" executor</></>
    . <K>Using Shell (bash) executor...</>
    . <K><cyan>Preparing environment</></>
    O Running on <host>...
    . <K><cyan>Getting source from Git repository</></>
    O <green>Skipping Git repository setup</>
    O <green>Skipping Git checkout</>
    O <green>Skipping Git submodules setup</>
    . <K><cyan>Executing "step_script" stage of the job script</></>
    O <green>$ echo hi</>
    O hi
    . <K><cyan>Cleaning up project directory and file based variables</></>
    . <green>Job succeeded</>
    "#);
}

#[test]
fn a_log_at_its_limit_is_cut_and_the_job_goes_on() {
    let mut scene = Scene::new();
    scene.configure("  output_limit = 3\n");
    let job = scene.job(
        1,
        &[
            "for i in $(seq 200); do echo line $i of many; done",
            "exit 5",
        ],
    );
    scene.gitlab.queue(&job);
    scene.runner();
    let job = scene.gitlab.finished(1);
    assert_eq!(job.outcome(), failed("script_failure", 5));
    let notice = "\n\u{1b}[33;1mJob's log exceeded limit of 3072 bytes.\n\
        Job execution will continue but no more output will be collected.\u{1b}[0;m\n";
    assert_eq!(job.log.len(), 3072 + notice.len());
    assert!(job.log.ends_with(notice.as_bytes()));
}

#[test]
fn a_server_that_has_less_than_it_said_gets_the_rest_again() {
    let mut scene = Scene::new();
    let mut patches = 0;
    scene.gitlab.on_job(move |request, job| {
        patches += i32::from(request.method == "PATCH");
        if request.method == "PATCH" && patches == 2 {
            job.log.truncate(50);
        }
        None
    });
    let job = scene.job(1, &["echo first; sleep 1.3; echo second"]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ echo first; sleep 1.3; echo second</>
    O first
    O second
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn the_end_waits_for_a_server_that_checks_the_log() {
    let mut scene = Scene::new();
    let mut ends = 0;
    scene.gitlab.on_job(move |request, job| {
        if request.method != "PUT" || request.json()["state"] == "running" {
            return None;
        }
        ends += 1;
        let soon = |status| Reply::status(status).header("X-GitLab-Trace-Update-Interval", "1");
        match ends {
            1 => Some(soon(202)),
            2 => {
                job.log.clear();
                Some(soon(412))
            }
            _ => None,
        }
    });
    let job = scene.job(1, &["exit 7"]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("script_failure", 7));
    assert_eq!(job.updates.len(), 4);
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ exit 7</>
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 7</>
    ");
}

#[test]
fn a_traced_job_is_marked_and_shows_no_masked_value() {
    let mut scene = Scene::new();
    let mut job = variable(
        scene.job(1, &["echo \"<$MASKED_CANARY>\""]),
        "CI_DEBUG_TRACE",
        "true",
    );
    // A trace shows values that nobody asked to be masked.
    for variable in job["variables"].as_array_mut().expect("a list") {
        variable["masked"] = json!(
            variable["key"]
                .as_str()
                .is_some_and(|key| key.contains("CANARY") || key.contains("TOKEN"))
        );
    }
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    assert!(
        job.patches
            .iter()
            .all(|patch| patch.2 == "debug_trace=true")
    );
    assert!(job.text().contains("echo '<[MASKED]>'"), "{}", job.text());
}

#[test]
fn a_runner_may_forbid_traces() {
    let mut scene = Scene::new();
    scene.configure("  debug_trace_disabled = true\n");
    let job = variable(scene.job(1, &["echo quiet"]), "CI_DEBUG_TRACE", "true");
    let job = scene.run(&variable(job, "CI_DEBUG_SERVICES", "true"));
    assert_eq!(job.outcome(), success());
    assert!(
        job.patches
            .iter()
            .all(|patch| patch.2 == "debug_trace=false")
    );
    insta::assert_snapshot!(scene.log(&job), @r"
    . <K>Running with gitlab-runner <version></>
    . <K>  on wire wireabcde, system ID: <system id></>
    . <yellow>WARNING: CI_DEBUG_TRACE: usage is disabled on this Runner
    . CI_DEBUG_SERVICES: usage is disabled on this Runner</>
    == prepare_executor
    . <K>Using Shell (bash) executor...</>
    == prepare_script
    O Running on <host>...
    == get_sources
    O <green>Skipping Git repository setup</>
    O <green>Skipping Git checkout</>
    O <green>Skipping Git submodules setup</>
    == step_script
    O <green>$ echo quiet</>
    O quiet
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}
