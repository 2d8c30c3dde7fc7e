//! The log: bytes, offsets, the end (`runner-protocol.md` 5).

use courser_testkit::server::Reply;

use super::gitlab::{GitLab, after_script, payload, variable};
use crate::world::World;

/// The log with the numbers of sections replaced and nothing else.
fn shape(text: &str) -> String {
    let mut shape = String::new();
    for (index, piece) in text.split("section_").enumerate() {
        if index > 0 {
            shape.push_str("section_");
        }
        let mut parts = piece.splitn(3, ':');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(kind @ ("start" | "end")), Some(time), Some(rest)) if index > 0 => {
                assert_eq!(
                    time.parse::<u64>().map(|time| time > 1_700_000_000),
                    Ok(true)
                );
                shape.extend([kind, ":T:", rest]);
            }
            _ => shape.push_str(piece),
        }
    }
    shape.replace('\u{1b}', "ESC").replace('\r', "CR")
}

#[test]
fn a_stamped_log_is_right_to_the_byte() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let script = ["echo hello", "echo one\necho two", "exit 3"];
    let job = gitlab.run(
        &world,
        "",
        &after_script(payload(1, &script), &["echo $CI_JOB_STATUS"]),
    );
    let lines = job.lines();
    let expected = [
        "00O section_start:T:prepare_executorCRESC[0K",
        "00O+ESC[0KESC[36;1mPreparing the \"shell\" executorESC[0;mESC[0;m",
        "00O ESC[0KUsing Shell (bash) executor...ESC[0;m",
        "00O section_end:T:prepare_executorCRESC[0K",
        "00O+section_start:T:prepare_scriptCRESC[0K",
        "00O+ESC[0KESC[36;1mPreparing environmentESC[0;mESC[0;m",
        "01O Running on HOST...",
        "00O section_end:T:prepare_scriptCRESC[0K",
        "00O+section_start:T:get_sourcesCRESC[0K",
        "00O+ESC[0KESC[36;1mGetting source from Git repositoryESC[0;mESC[0;m",
        "01O ESC[32;1mSkipping Git repository setupESC[0;m",
        "01O ESC[32;1mSkipping Git checkoutESC[0;m",
        "01O ESC[32;1mSkipping Git submodules setupESC[0;m",
        "00O section_end:T:get_sourcesCRESC[0K",
        "00O+section_start:T:step_scriptCRESC[0K",
        "00O+ESC[0KESC[36;1mExecuting \"step_script\" stage of the job scriptESC[0;mESC[0;m",
        "01O ESC[32;1m$ echo helloESC[0;m",
        "01O hello",
        "01O ESC[32;1m$ echo one # collapsed multi-line commandESC[0;m",
        "01O one",
        "01O two",
        "01O ESC[32;1m$ exit 3ESC[0;m",
        "00O section_end:T:step_scriptCRESC[0K",
        "00O+section_start:T:after_scriptCRESC[0K",
        "00O+ESC[0KESC[36;1mRunning after_scriptESC[0;mESC[0;m",
        "01O ESC[32;1mRunning after script...ESC[0;m",
        "01O ESC[32;1m$ echo $CI_JOB_STATUSESC[0;m",
        "01O failed",
        "00O section_end:T:after_scriptCRESC[0K",
        "00O+section_start:T:cleanup_file_variablesCRESC[0K",
        "00O+ESC[0KESC[36;1mCleaning up project directory and file based variablesESC[0;mESC[0;m",
        "00O section_end:T:cleanup_file_variablesCRESC[0K",
        "00O+ESC[31;1mERROR: Job failed: exit status 3ESC[0;m",
    ];
    assert!(
        lines[0].starts_with("00O \u{1b}[0KRunning with gitlab-runner 19."),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].starts_with("00O \u{1b}[0K  on wire wireabcde, system ID: "),
        "{}",
        lines[1]
    );
    let actual: Vec<String> = lines[2..]
        .iter()
        .map(|line| match line.strip_prefix("01O Running on ") {
            Some(_) => "01O Running on HOST...".to_owned(),
            None => shape(line),
        })
        .collect();
    assert_eq!(actual, expected);
}

#[test]
fn a_log_without_stamps_is_raw_and_has_no_line_ends_of_its_own() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let job = payload(1, &["printf 'a\\rb'"]);
    let job = gitlab.run(&world, "", &variable(job, "FF_TIMESTAMPS", "false"));
    let text = shape(&String::from_utf8(job.log).expect("text"));
    for part in [
        "ESC[0K  feature flags: FF_TIMESTAMPS:falseESC[0;m\n\
         section_start:T:prepare_executorCRESC[0KESC[0KESC[36;1mPreparing the",
        "ESC[32;1m$ printf 'a\\rb'ESC[0;m\naCRbsection_end:T:step_scriptCRESC[0Ksection_start:T:cleanup",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn secrets_and_broken_characters_are_replaced_also_across_writes() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let script = [
        "printf s3cr; sleep 0.1; printf 'et-value\\n'",
        "echo \"$LINES\"",
        "echo glpat-abc_D.1 custom-x1 'https://h/?private_token=abc&y=1'",
        "printf 'bad \\377 \\342\\202'; sleep 0.1; printf '\\254\\n'",
    ];
    let mut job = payload(1, &script);
    for (key, value) in [("SECRET", "s3cret-value"), ("LINES", "first\nsecond line")] {
        let masked = serde_json::json!({"key": key, "value": value, "masked": true});
        job = super::gitlab::add(job, "variables", masked);
    }
    job["features"]["token_mask_prefixes"] = serde_json::json!(["custom-"]);
    let text = gitlab.run(&world, "", &job).text();
    for part in [
        "\n01O [MASKED]\n01O \u{1b}[32;1m$ echo \"$LINES\"\u{1b}[0;m\n01O [MASKED]\n",
        "\n01O glpat-[MASKED] custom-[MASKED] https://h/?private_token=[MASKED]&y=1\n",
        "\n01O bad \u{fffd} €\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(
        !text.contains("s3cret") && !text.contains("second line"),
        "{text}"
    );
}

#[test]
fn a_log_beyond_its_limit_is_cut_with_a_notice_and_the_job_goes_on() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let script = [
        "head -c 9000 /dev/zero | tr '\\0' x",
        "echo never",
        "exit 4",
    ];
    let job = gitlab.run(&world, "  output_limit = 2\n", &payload(1, &script));
    assert_eq!(job.outcome().2, 4);
    let notice = b"\n\x1b[33;1mJob's log exceeded limit of 2048 bytes.\n\
        Job execution will continue but no more output will be collected.\x1b[0;m\n";
    assert_eq!(job.log.len(), 2048 + notice.len());
    assert!(job.log.ends_with(notice));
}

#[test]
fn a_server_that_lost_a_part_gets_it_again() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let mut patches = 0;
    gitlab.on_job(move |request, record| {
        if request.method == "PATCH" {
            patches += 1;
            match patches {
                2 => record.log.truncate(100),
                3 => return Some(Reply::status(404)),
                4 => return Some(Reply::status(400)),
                _ => {}
            }
        }
        None
    });
    let script = ["for i in 1 2 3 4 5 6; do echo line $i; sleep 0.7; done"];
    let text = gitlab.run(&world, "", &payload(1, &script)).text();
    for line in 1..=6 {
        assert_eq!(
            text.matches(&format!("01O line {line}\n")).count(),
            1,
            "{text}"
        );
    }
}

#[test]
fn the_end_is_told_until_the_server_has_taken_it() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let mut ends = 0;
    gitlab.on_job(move |request, record| {
        if request.method != "PUT" || request.json()["state"] == "running" {
            return None;
        }
        ends += 1;
        let interval = |status| Reply::status(status).header("X-GitLab-Trace-Update-Interval", "1");
        match ends {
            1 => Some(interval(202)),
            2 => {
                record.log.clear();
                Some(interval(412))
            }
            3 => Some(interval(400)),
            _ => None,
        }
    });
    let job = gitlab.run(&world, "", &payload(1, &["true"]));
    assert_eq!(job.outcome(), ("success".to_owned(), String::new(), 0));
    assert_eq!(job.updates.len(), 5);
    assert_eq!(
        job.patches.last().map(|patch| patch.0),
        Some(0),
        "the whole log is sent again"
    );
}

#[test]
fn traced_jobs_are_told_as_such_and_keep_their_secrets() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let job = variable(payload(1, &["echo hi"]), "CI_DEBUG_TRACE", "true");
    let secret = serde_json::json!({"key": "S", "value": "quite-secret", "masked": true});
    let job = gitlab.run(&world, "", &super::gitlab::add(job, "variables", secret));
    assert!(
        job.patches
            .iter()
            .all(|patch| patch.2 == "debug_trace=true")
    );
    let text = job.text();
    assert!(
        text.contains("echo hi") && !text.contains("secret"),
        "{text}"
    );
}
