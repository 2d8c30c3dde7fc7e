//! `runner-build-lifecycle.md` 1.3 to 1.8 row by row.

use super::*;

const SHELL_PROFILE: &str =
    "Check https://docs.gitlab.com/runner/shells/#shell-profile-loading for more information";

/// Stages from here on, and the outcome, in one line.
fn rest(walk: Walk) -> String {
    walk.rest().join(", ").replace(SHELL_PROFILE, "Check …")
}

fn broken(walk: Walk) -> Walk {
    walk.then(Event::StageEnded(StageExit::Broken {
        message: "no shell".to_owned(),
        reason: None,
    }))
}

/// All rows compared at once: what, as it should be, as it is.
fn compare(rows: impl IntoIterator<Item = (String, String, String)>) {
    let mut wrong = String::new();
    for (row, expected, actual) in rows {
        if actual != expected {
            write!(wrong, "\n{row}\nexpected {expected}\n  actual {actual}").expect("a text");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn section_1_3_what_follows_a_failure() {
    let failed = "script_failure 7 \"exit status 7\"";
    let system = "runner_system_failure 0 \"no shell\"";
    let end = |status: &str, outcome: &str| {
        format!(
            "archive_cache_on_failure {status}, upload_artifacts_on_failure {status}, cleanup_file_variables {status}, {outcome}"
        )
    };
    let early = |outcome: &str| end("running", outcome);
    let after = |outcome: &str| format!("after_script failed, {}", end("failed", outcome));
    let late = |status: &str, outcome: &str| format!("cleanup_file_variables {status}, {outcome}");
    let uploaded = |outcome: &str| {
        format!(
            "upload_artifacts_on_success success, {}",
            late("success", outcome)
        )
    };
    let rows = [
        // Nothing follows, not even the cleanup.
        (
            Stage::PrepareScript,
            "script_failure 7 \"prepare environment: exit status 7. Check …\"".to_owned(),
            "runner_system_failure 0 \"prepare environment: no shell. Check …\"".to_owned(),
        ),
        (Stage::GetSources, early(failed), early(system)),
        (Stage::RestoreCache, early(failed), early(system)),
        (Stage::DownloadArtifacts, early(failed), early(system)),
        (script(), after(failed), after(system)),
        // The cache's error counts only when nothing else does, and does not choose the upload's variant.
        (Stage::ArchiveCache, uploaded(failed), uploaded(system)),
        (
            Stage::UploadArtifactsOnSuccess,
            late("success", failed),
            late("success", system),
        ),
        // Only the runner's own log tells of it.
        (
            Stage::CleanupFileVariables,
            "success".to_owned(),
            "success".to_owned(),
        ),
    ];
    compare(rows.into_iter().flat_map(|(stage, failed, system)| {
        let walk = || Walk::new(plan()).until(&stage);
        [
            (
                format!("{} fails", stage.id()),
                failed,
                rest(walk().fail(7)),
            ),
            (
                format!("{} breaks", stage.id()),
                system,
                rest(broken(walk())),
            ),
        ]
    }));
}

#[test]
fn section_1_3_the_first_failing_step_is_the_last() {
    let steps: Vec<Stage> = ["script", "release"]
        .map(|name| Stage::Step(name.to_owned()))
        .into();
    let mut plan = plan();
    plan.with_work.extend(steps.clone());
    plan.steps = steps.clone();
    let failed = Walk::new(plan.clone()).until(&steps[0]).fail(7).rest();
    assert_eq!(failed[0], "after_script failed");
    let passed = Walk::new(plan).until(&steps[0]).ok().rest();
    assert_eq!(
        passed[..2],
        ["step_release running", "after_script success"]
    );
}

#[test]
fn section_1_4_timeout_variables() {
    // Of the job's hour ten minutes are gone when the first step begins.
    let step = script();
    for (raw, script, after_script, warning) in [
        ("", None, 300, None),
        ("  ", None, 300, None),
        (
            "soon",
            None,
            300,
            Some("Ignoring malformed {} timeout: soon"),
        ),
        ("12", None, 300, Some("Ignoring malformed {} timeout: 12")),
        ("-5s", None, 300, Some("Ignoring relative {} timeout: -5s")),
        (
            "50m1s",
            None,
            300,
            Some("{} timeout: 50m1s is longer than job timeout. Setting to job timeout"),
        ),
        ("50m", Some(3000), 3000, None),
        (
            "1h30m",
            None,
            300,
            Some("{} timeout: 1h30m is longer than job timeout. Setting to job timeout"),
        ),
        ("0", None, 300, None),
        ("0s", None, 300, None),
        ("90s", Some(90), 90, None),
    ] {
        let variable = || TimeoutVariable {
            raw: raw.to_owned(),
        };
        let plan = Plan {
            script_timeout: variable(),
            after_script_timeout: variable(),
            ..plan()
        };
        let walk = Walk::new(plan).until(&step);
        let mut expected = Vec::new();
        let warn = |name: &str| {
            let text = format!("WARNING: {}", warning?.replace("{}", name));
            let text: String = text.chars().take(60).collect();
            Some(format!("log {text:?}"))
        };
        expected.extend(warn("RUNNER_SCRIPT_TIMEOUT"));
        expected.extend(script.map(|seconds| format!("start Script {seconds}s")));
        expected.extend(warn("RUNNER_AFTER_SCRIPT_TIMEOUT"));
        expected.push("run step_script (running)".to_owned());
        assert_eq!(walk.log, expected, "{raw:?}");
        let walk = walk.ok();
        let clock = format!("start AfterScript {after_script}s");
        assert!(walk.log.contains(&clock), "{raw:?}: {:?}", walk.log);
    }
}

#[test]
fn section_1_4_and_1_7_what_ends_a_job_from_outside() {
    let canceled = "job_canceled 0 \"canceled\"";
    let rest_of_job = [
        "after_script success",
        "archive_cache success",
        "upload_artifacts_on_success success",
        "cleanup_file_variables success",
        "success",
    ];
    // Stage, what a cancel leads to; later ones are not touched by it.
    let soft = "after_script canceled, archive_cache_on_failure canceled, upload_artifacts_on_failure canceled, cleanup_file_variables canceled, job_canceled 0 \"canceled\"";
    let stages = [
        (Stage::PrepareScript, canceled.to_owned()),
        (Stage::GetSources, canceled.to_owned()),
        (Stage::RestoreCache, canceled.to_owned()),
        (Stage::DownloadArtifacts, canceled.to_owned()),
        (script(), soft.to_owned()),
        (Stage::AfterScript, rest_of_job[1..].join(", ")),
        (Stage::ArchiveCache, rest_of_job[2..].join(", ")),
        (Stage::UploadArtifactsOnSuccess, rest_of_job[3..].join(", ")),
        (Stage::CleanupFileVariables, rest_of_job[4..].join(", ")),
    ];
    let interrupted = || Event::Interrupted("terminated".to_owned());
    compare(stages.into_iter().flat_map(|(stage, cancel)| {
        let walk = || Walk::new(plan()).until(&stage);
        let row = |what: &str| format!("{what} in {}", stage.id());
        // Whatever the stage that was stopped says of itself.
        [
            (
                row("cancel"),
                cancel.clone(),
                rest(walk().then(Event::CancelRequested).ok()),
            ),
            (
                row("cancel twice"),
                cancel,
                rest(
                    walk()
                        .then(Event::CancelRequested)
                        .then(Event::CancelRequested)
                        .ok(),
                ),
            ),
            (
                row("abort"),
                canceled.to_owned(),
                rest(walk().then(Event::AbortRequested).fail(-1)),
            ),
            (
                row("interrupt"),
                "runner_interrupted 0 \"aborted: terminated\"".to_owned(),
                rest(walk().then(interrupted()).fail(-1)),
            ),
            (
                row("job timeout"),
                "job_execution_timeout 0 \"execution took longer than 1h0m0s seconds\"".to_owned(),
                rest(walk().timer(Timer::Job).fail(-1)),
            ),
        ]
    }));
}

#[test]
fn section_1_5_attempts() {
    let plan = |attempts| Plan {
        get_sources_attempts: attempts,
        restore_cache_attempts: attempts,
        artifact_download_attempts: attempts,
        ..plan()
    };
    for stage in [
        Stage::GetSources,
        Stage::RestoreCache,
        Stage::DownloadArtifacts,
    ] {
        let again = |walk: Walk| {
            let walk = walk.timer(Timer::Pause);
            match &walk.state {
                JobState::Running {
                    stage: Stage::ClearWorktree,
                    ..
                } => walk.ok(),
                _ => walk,
            }
        };
        let walk = Walk::new(plan(3)).until(&stage).fail(1);
        assert_eq!(walk.log, ["log \"WARNING: Retrying...\"", "start Pause 5s"]);
        let walk = again(walk).fail(2);
        assert_eq!(walk.log[1], "start Pause 10s", "{}", stage.id());
        // The last attempt's failure is the stage's.
        let outcome = again(walk).fail(3).rest().pop();
        let expected = "script_failure 3 \"exit status 3\"";
        assert_eq!(outcome.as_deref(), Some(expected), "{}", stage.id());
        let walk = again(Walk::new(plan(2)).until(&stage).fail(1)).ok();
        assert_eq!(walk.rest().pop().as_deref(), Some("success"));
    }
    // Nothing else is tried again.
    for stage in [script(), Stage::UploadArtifactsOnSuccess] {
        let walk = Walk::new(plan(3)).until(&stage).fail(1);
        assert!(matches!(walk.state, JobState::Running { .. }));
        assert_eq!(
            walk.rest().pop().as_deref(),
            Some("script_failure 1 \"exit status 1\"")
        );
    }
}

#[test]
fn section_1_6_the_status_that_after_script_sees() {
    let timeout = || Plan {
        script_timeout: TimeoutVariable {
            raw: "1m".to_owned(),
        },
        ..plan()
    };
    let at_script = |plan| Walk::new(plan).until(&script());
    for (walk, status) in [
        (at_script(plan()).ok(), "success"),
        (at_script(plan()).fail(1), "failed"),
        (
            at_script(plan()).then(Event::CancelRequested).fail(-1),
            "canceled",
        ),
        (
            at_script(timeout()).timer(Timer::Script).fail(-1),
            "timedout",
        ),
    ] {
        let seen = walk.rest();
        // It stays for what follows.
        let of_stages = seen[..seen.len() - 1].iter();
        for stage in of_stages {
            assert!(stage.ends_with(&format!(" {status}")), "{seen:?}");
        }
    }
}

#[test]
fn section_1_8_the_last_line_and_what_is_reported() {
    let failed = |code, text: &str| {
        Failure::of(StageExit::Failed {
            code,
            text: text.to_owned(),
        })
    };
    let failure = |reason| Some(Failure::new(reason, "why"));
    let system = "ERROR: Job failed (system failure): why";
    for (failure, line, reason, exit_code) in [
        (None, "Job succeeded", None, 0),
        (
            failed(3, "exit status 3"),
            "ERROR: Job failed: exit status 3",
            Some("script_failure"),
            3,
        ),
        (
            failed(-1, "signal: killed"),
            "ERROR: Job failed: signal: killed",
            Some("script_failure"),
            -1,
        ),
        (
            Failure::of(StageExit::Broken {
                message: "why".to_owned(),
                reason: None,
            }),
            system,
            Some("runner_system_failure"),
            0,
        ),
        (
            Failure::of(StageExit::Broken {
                message: "no such image".to_owned(),
                reason: Some(FailureReason::RunnerConfigurationError),
            }),
            "ERROR: Job failed: no such image",
            Some("runner_configuration_error"),
            0,
        ),
        (
            failure(FailureReason::RunnerSystemFailure),
            system,
            Some("runner_system_failure"),
            0,
        ),
        (
            failure(FailureReason::RunnerConfigurationError),
            "ERROR: Job failed: why",
            Some("runner_configuration_error"),
            0,
        ),
        (
            failure(FailureReason::JobExecutionTimeout),
            "ERROR: Job failed: why",
            Some("job_execution_timeout"),
            0,
        ),
        (
            failure(FailureReason::JobCanceled),
            "ERROR: Job failed: why",
            Some("job_canceled"),
            0,
        ),
        (
            failure(FailureReason::RunnerInterrupted),
            "ERROR: Job failed: why",
            Some("runner_interrupted"),
            0,
        ),
    ] {
        let outcome = Outcome::new(failure);
        assert!(outcome.line().contains(line), "{:?}", outcome.line());
        assert_eq!(outcome.reason.as_ref().map(FailureReason::as_str), reason);
        assert_eq!(outcome.exit_code, exit_code);
    }
}

#[test]
fn secrets_come_before_the_clock_and_a_cancel_meanwhile_starts_nothing() {
    let lacking = || {
        Walk::new(Plan {
            lacks_secrets: true,
            ..plan()
        })
    };
    assert_eq!(lacking().log, ["log \"<opening>\"", "resolve secrets"]);
    let resolved = || Event::SecretsResolved(Box::new(plan()));
    let begun = lacking().then(resolved());
    assert_eq!(name(&begun.state), "Preparing 1 None");
    assert_eq!(begun.log[0], "start Job 3600s");
    let failed = lacking().then(Event::SecretsFailed {
        message: "resolving secrets: no".to_owned(),
        reason: FailureReason::RunnerConfigurationError,
    });
    assert_eq!(
        rest(failed),
        "runner_configuration_error 0 \"resolving secrets: no\""
    );
    for (event, outcome) in [
        (Event::CancelRequested, "job_canceled 0 \"canceled\""),
        (Event::AbortRequested, "job_canceled 0 \"canceled\""),
        (
            Event::Interrupted("terminated".to_owned()),
            "runner_interrupted 0 \"aborted: terminated\"",
        ),
    ] {
        let stopped = lacking().then(event.clone());
        assert_eq!(stopped.log[0], "stop", "{event:?}");
        assert_eq!(rest(stopped.then(resolved())), outcome, "{event:?}");
        let stuck = lacking().then(event.clone()).timer(Timer::Unwind);
        assert_eq!(rest(stuck), outcome, "{event:?}");
    }
    let saving = Walk::new(plan()).until(&Stage::ArchiveCache);
    let over = saving.state.scripts_over().expect("its scripts are over");
    let lacking = Plan {
        lacks_secrets: true,
        ..plan()
    };
    let resumed = JobState::resume(lacking, over);
    let (state, _) = resumed.on(Event::Started, ELAPSED);
    assert_eq!(name(&state), "Preparing 1 None");
}
