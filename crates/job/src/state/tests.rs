use std::fmt::Write as _;

use courser_protocol::JobState as WireState;
use serde_json::json;

use super::outcome::Failure;
use super::*;
use crate::TimeoutVariable;
use crate::job::tests::job;

mod rows;

fn script() -> Stage {
    Stage::Step("script".to_owned())
}

fn plan() -> Plan {
    Plan {
        opening: "<opening>".to_owned(),
        with_work: vec![
            Stage::PrepareScript,
            Stage::GetSources,
            Stage::RestoreCache,
            Stage::DownloadArtifacts,
            script(),
            Stage::AfterScript,
            Stage::ArchiveCache,
            Stage::ArchiveCacheOnFailure,
            Stage::UploadArtifactsOnSuccess,
            Stage::UploadArtifactsOnFailure,
            Stage::CleanupFileVariables,
        ],
        steps: vec![script()],
        get_sources_attempts: 1,
        restore_cache_attempts: 1,
        artifact_download_attempts: 1,
        long_backoff: true,
        timeout: Duration::from_secs(3600),
        prepare_timeout: Some(Duration::from_secs(60)),
        get_sources_timeout: Some(Duration::from_secs(90)),
        ignore_after_script_errors: true,
        ..Plan::default()
    }
}

/// Ten minutes after the job's clock was started.
const ELAPSED: Duration = Duration::from_secs(600);

fn short(action: &Action) -> String {
    match action {
        Action::Log(text) => {
            let text = text.replace('\u{1b}', "").replace("\n", "");
            let text = ["[0K", "[32;1m", "[0;33m", "[31;1m", "[0;m"]
                .iter()
                .fold(text, |text, code| text.replace(code, ""));
            format!("log {:?}", text.chars().take(60).collect::<String>())
        }
        Action::ResolveSecrets => "resolve secrets".to_owned(),
        Action::Prepare => "prepare".to_owned(),
        Action::Run { stage, status } => format!("run {} ({})", stage.id(), status.as_str()),
        Action::Stop => "stop".to_owned(),
        Action::StartTimer(timer, time) => format!("start {timer:?} {}s", time.as_secs()),
        Action::StopTimer(timer) => format!("stop {timer:?}"),
        Action::CleanUp => "clean up".to_owned(),
        Action::Report(outcome) => format!("report {}", outcome_text(outcome)),
    }
}

fn outcome_text(outcome: &Outcome) -> String {
    match &outcome.reason {
        None => "success".to_owned(),
        Some(reason) => format!("{reason} {} {:?}", outcome.exit_code, outcome.message),
    }
}

fn name(state: &JobState) -> String {
    match state {
        JobState::Accepted(_) => "Accepted".to_owned(),
        JobState::Resolving { stop, .. } => format!("Resolving {stop:?}"),
        JobState::Preparing { attempt, stop, .. } => format!("Preparing {attempt} {stop:?}"),
        JobState::PausingPreparation { attempt, .. } => format!("PausingPreparation {attempt}"),
        JobState::Running {
            stage,
            attempt,
            stop,
            ..
        } => format!("Running {} {attempt} {stop:?}", stage.id()),
        JobState::PausingStage { stage, attempt, .. } => {
            format!("PausingStage {} {attempt}", stage.id())
        }
        JobState::CleaningUp { outcome } => format!("CleaningUp {}", outcome_text(outcome)),
        JobState::Ended { outcome } => format!("Ended {}", outcome_text(outcome)),
    }
}

/// A job on its way, with everything it asked for.
struct Walk {
    state: JobState,
    log: Vec<String>,
}

impl Walk {
    fn new(plan: Plan) -> Self {
        Self {
            state: JobState::new(plan),
            log: Vec::new(),
        }
        .then(Event::Started)
    }

    fn then(mut self, event: Event) -> Self {
        let (state, actions) = self.state.on(event, ELAPSED);
        self.log = actions.iter().map(short).collect();
        self.state = state;
        self
    }

    fn ok(self) -> Self {
        self.then(Event::StageEnded(StageExit::Success))
    }

    fn fail(self, code: i32) -> Self {
        self.then(Event::StageEnded(StageExit::Failed {
            code,
            text: format!("exit status {code}"),
        }))
    }

    fn timer(self, timer: Timer) -> Self {
        self.then(Event::TimerFired(timer))
    }

    /// Up to and into `stage`.
    fn until(mut self, stage: &Stage) -> Self {
        if matches!(self.state, JobState::Preparing { .. }) {
            self = self.then(Event::Prepared);
        }
        for _ in 0..20 {
            match &self.state {
                JobState::Running { stage: current, .. } if current == stage => return self,
                JobState::Running { .. } => self = self.ok(),
                state => panic!("never came to {}: {}", stage.id(), name(state)),
            }
        }
        panic!("never came to {}", stage.id());
    }

    /// Stages that run from here on when all succeed, then the outcome.
    fn rest(mut self) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match self.state.clone() {
                JobState::Running {
                    stage, progress, ..
                } => {
                    seen.push(format!("{} {}", stage.id(), progress.status.as_str()));
                    self = self.ok();
                }
                JobState::CleaningUp { .. } => self = self.then(Event::CleanedUp),
                JobState::Ended { outcome } => {
                    seen.push(outcome_text(&outcome));
                    return seen;
                }
                state => panic!("stuck in {}", name(&state)),
            }
        }
    }
}

fn events() -> Vec<(&'static str, Event)> {
    let failed = StageExit::Failed {
        code: 3,
        text: "exit status 3".to_owned(),
    };
    let broken = StageExit::Broken {
        message: "no shell".to_owned(),
        reason: None,
    };
    let prepare_failed = |reason| Event::PrepareFailed {
        message: "no disk".to_owned(),
        reason,
    };
    let mut events = vec![
        ("Started", Event::Started),
        ("Prepared", Event::Prepared),
        ("PrepareFailed", prepare_failed(None)),
        (
            "PrepareFailed for good",
            prepare_failed(Some(FailureReason::RunnerConfigurationError)),
        ),
        ("StageEnded well", Event::StageEnded(StageExit::Success)),
        ("StageEnded badly", Event::StageEnded(failed)),
        ("StageEnded broken", Event::StageEnded(broken)),
        ("CancelRequested", Event::CancelRequested),
        ("AbortRequested", Event::AbortRequested),
        ("Interrupted", Event::Interrupted("terminated".to_owned())),
        ("CleanedUp", Event::CleanedUp),
    ];
    for (text, timer) in [
        ("Job timer", Timer::Job),
        ("Prepare timer", Timer::Prepare),
        ("Sources timer", Timer::Sources),
        ("Script timer", Timer::Script),
        ("AfterScript timer", Timer::AfterScript),
        ("Pause timer", Timer::Pause),
        ("Unwind timer", Timer::Unwind),
    ] {
        events.push((text, Event::TimerFired(timer)));
    }
    events
}

#[test]
fn every_pair_of_state_and_event_does_what_the_table_says() {
    let retrying = Plan {
        get_sources_attempts: 3,
        ..plan()
    };
    let prepare_failed = Event::PrepareFailed {
        message: "no disk".to_owned(),
        reason: None,
    };
    let at = |stage: Stage| Walk::new(plan()).until(&stage).state;
    let mut states = vec![
        JobState::new(plan()),
        Walk::new(plan()).state,
        Walk::new(plan()).then(Event::AbortRequested).state,
        Walk::new(plan()).timer(Timer::Prepare).state,
        Walk::new(plan()).then(prepare_failed).state,
        at(Stage::PrepareScript),
        at(Stage::GetSources),
        Walk::new(plan())
            .until(&Stage::GetSources)
            .timer(Timer::Sources)
            .state,
        Walk::new(plan())
            .until(&Stage::GetSources)
            .timer(Timer::Job)
            .state,
        Walk::new(retrying.clone())
            .until(&Stage::GetSources)
            .fail(1)
            .state,
        Walk::new(retrying)
            .until(&Stage::GetSources)
            .fail(1)
            .timer(Timer::Pause)
            .state,
        at(Stage::RestoreCache),
        at(Stage::DownloadArtifacts),
        at(script()),
        Walk::new(plan())
            .until(&script())
            .then(Event::CancelRequested)
            .state,
        Walk::new(plan())
            .until(&script())
            .timer(Timer::Script)
            .state,
        at(Stage::AfterScript),
        at(Stage::ArchiveCache),
        Walk::new(plan()).until(&script()).fail(3).ok().state,
        at(Stage::UploadArtifactsOnSuccess),
        Walk::new(plan()).until(&script()).fail(3).ok().ok().state,
        at(Stage::CleanupFileVariables),
    ];
    let cleaning = Walk::new(plan()).until(&Stage::CleanupFileVariables).ok();
    states.push(cleaning.state.clone());
    states.push(cleaning.then(Event::CleanedUp).state);

    let mut table = String::new();
    for state in states {
        writeln!(table, "{}", name(&state)).expect("a string takes everything");
        for (text, event) in events() {
            let (next, actions) = state.clone().on(event, ELAPSED);
            if next == state && actions.is_empty() {
                continue;
            }
            let actions: Vec<String> = actions.iter().map(short).collect();
            writeln!(table, "  {text} -> {}", name(&next)).expect("a string takes everything");
            writeln!(table, "      {}", actions.join("; ")).expect("a string takes everything");
        }
    }
    insta::assert_snapshot!("table", table);
}

#[test]
fn a_good_job_runs_all_stages_in_order() {
    assert_eq!(
        Walk::new(plan()).then(Event::Prepared).rest(),
        [
            "prepare_script running",
            "get_sources running",
            "restore_cache running",
            "download_artifacts running",
            "step_script running",
            "after_script success",
            "archive_cache success",
            "upload_artifacts_on_success success",
            "cleanup_file_variables success",
            "success",
        ]
    );
}

#[test]
fn a_job_whose_scripts_are_over_is_taken_up_by_another_process() {
    let resumed = |over| Walk {
        state: JobState::resume(plan().resumed("<again>".to_owned()), over),
        log: Vec::new(),
    };
    let good = Walk::new(plan()).until(&Stage::AfterScript);
    assert_eq!(good.state.scripts_over(), None);
    let over = good.ok().state.scripts_over().expect("they are over");
    let again = resumed(over).then(Event::Started);
    assert_eq!(again.log[0], "log \"<again>\"");
    // A cancel has no target, as in the first process behind the scripts.
    let again = again.then(Event::CancelRequested);
    let prepared = again.then(Event::Prepared);
    assert_eq!(
        prepared.then(Event::CancelRequested).rest(),
        [
            "prepare_script success",
            "archive_cache success",
            "upload_artifacts_on_success success",
            "cleanup_file_variables success",
            "success",
        ]
    );
    let failed = Walk::new(plan()).until(&script()).fail(3);
    let failed = failed.until(&Stage::UploadArtifactsOnFailure);
    let over = failed.state.scripts_over().expect("they are over");
    let begun = || resumed(over.clone()).then(Event::Started);
    assert_eq!(
        begun().then(Event::Prepared).rest(),
        [
            "prepare_script failed",
            "archive_cache_on_failure failed",
            "upload_artifacts_on_failure failed",
            "cleanup_file_variables failed",
            "script_failure 3 \"exit status 3\""
        ]
    );
    // Whatever stops the second process, the scripts have come to what they came to.
    let stopped = begun().then(Event::AbortRequested);
    let stopped = stopped.then(Event::PrepareFailed {
        message: "canceled".to_owned(),
        reason: None,
    });
    assert_eq!(
        name(&stopped.state),
        "CleaningUp script_failure 3 \"exit status 3\""
    );
}

#[test]
fn an_upload_waits_for_a_server_that_is_away() {
    let unreached = || {
        Event::StageEnded(StageExit::Unreached {
            code: 1,
            text: "exit status 1".to_owned(),
        })
    };
    let mut walk = Walk::new(plan()).until(&Stage::UploadArtifactsOnSuccess);
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        walk = walk.then(unreached());
        assert_eq!(walk.log[1], format!("start Pause {pause}s"));
        // A cancel comes too late, as while it uploads.
        walk = walk
            .then(Event::CancelRequested)
            .then(Event::TimerFired(Timer::Pause));
        assert_eq!(walk.log, ["run upload_artifacts_on_success (success)"]);
    }
    let timed_out = walk.then(unreached()).then(Event::TimerFired(Timer::Job));
    assert!(name(&timed_out.state).starts_with("CleaningUp job_execution_timeout"));
    // Other stages fail as ever.
    let other = Walk::new(plan()).until(&script()).then(unreached());
    assert_eq!(name(&other.state), "Running after_script 1 None");
}

#[test]
fn stages_without_work_are_passed_over() {
    let plan = Plan {
        with_work: vec![
            Stage::PrepareScript,
            Stage::GetSources,
            script(),
            Stage::CleanupFileVariables,
        ],
        ..plan()
    };
    assert_eq!(
        Walk::new(plan).until(&script()).fail(3).rest(),
        [
            "cleanup_file_variables failed",
            "script_failure 3 \"exit status 3\""
        ]
    );
}

#[test]
fn failures_choose_what_follows() {
    let tail = |status: &str, outcome: &str| {
        vec![
            format!("archive_cache_on_failure {status}"),
            format!("upload_artifacts_on_failure {status}"),
            format!("cleanup_file_variables {status}"),
            outcome.to_owned(),
        ]
    };
    for stage in [
        Stage::GetSources,
        Stage::RestoreCache,
        Stage::DownloadArtifacts,
    ] {
        assert_eq!(
            Walk::new(plan()).until(&stage).fail(7).rest(),
            tail("running", "script_failure 7 \"exit status 7\"")
        );
    }
    let mut after_script = vec!["after_script failed".to_owned()];
    after_script.extend(tail("failed", "script_failure 7 \"exit status 7\""));
    assert_eq!(
        Walk::new(plan()).until(&script()).fail(7).rest(),
        after_script
    );
    assert_eq!(
        Walk::new(plan())
            .until(&Stage::PrepareScript)
            .fail(2)
            .rest(),
        [
            "script_failure 2 \"prepare environment: exit status 2. Check https://docs.gitlab.com/runner/shells/#shell-profile-loading for more information\""
        ]
    );
}

#[test]
fn script_errors_count_before_cache_errors_before_artifact_errors() {
    let upload = Stage::UploadArtifactsOnSuccess;
    assert_eq!(
        Walk::new(plan()).until(&upload).fail(5).rest(),
        [
            "cleanup_file_variables success",
            "script_failure 5 \"exit status 5\""
        ]
    );
    assert_eq!(
        Walk::new(plan())
            .until(&Stage::ArchiveCache)
            .fail(4)
            .fail(5)
            .rest(),
        [
            "cleanup_file_variables success",
            "script_failure 4 \"exit status 4\""
        ],
        "the cache error does not change the variant of the upload"
    );
    assert_eq!(
        Walk::new(plan())
            .until(&script())
            .fail(3)
            .ok()
            .fail(4)
            .fail(5)
            .fail(6)
            .rest(),
        ["script_failure 3 \"exit status 3\""]
    );
}

#[test]
fn after_script_errors_count_only_when_asked() {
    let ignored = Walk::new(plan()).until(&Stage::AfterScript).fail(9);
    assert_eq!(
        ignored.log[0],
        "log \"WARNING: after_script failed, but job will continue unaffect\""
    );
    assert_eq!(ignored.rest().last().map(String::as_str), Some("success"));
    let strict = || Plan {
        ignore_after_script_errors: false,
        ..plan()
    };
    assert_eq!(
        Walk::new(strict())
            .until(&Stage::AfterScript)
            .fail(9)
            .rest(),
        [
            "archive_cache_on_failure success",
            "upload_artifacts_on_failure success",
            "cleanup_file_variables success",
            "script_failure 9 \"exit status 9\"",
        ]
    );
    let earlier = Walk::new(strict()).until(&script()).fail(3).fail(9).rest();
    assert_eq!(
        earlier.last().map(String::as_str),
        Some("script_failure 3 \"exit status 3\"")
    );
}

#[test]
fn preparation_is_tried_three_times_and_waits_after_the_third() {
    let failed = || Event::PrepareFailed {
        message: "no disk".to_owned(),
        reason: None,
    };
    let mut walk = Walk::new(plan());
    for _ in 0..2 {
        walk = walk.then(failed());
        assert_eq!(
            walk.log,
            [
                "log \"ERROR: Preparation failed: no disk\"",
                "log \"Will be retried in 3s ...\"",
                "start Pause 3s"
            ]
        );
        walk = walk.timer(Timer::Pause);
        assert_eq!(walk.log, ["prepare"]);
    }
    walk = walk.then(failed());
    assert_eq!(walk.log[2], "start Pause 3s");
    assert_eq!(
        walk.timer(Timer::Pause).rest(),
        ["runner_system_failure 0 \"no disk\""]
    );
}

#[test]
fn the_work_tree_is_cleared_before_the_second_attempt_only() {
    let plan = Plan {
        get_sources_attempts: 3,
        ..plan()
    };
    let walk = Walk::new(plan.clone()).until(&Stage::GetSources).fail(1);
    assert_eq!(walk.log, ["log \"WARNING: Retrying...\"", "start Pause 5s"]);
    let walk = walk.timer(Timer::Pause);
    assert_eq!(walk.log, ["run clear_worktree (running)"]);
    let walk = walk.ok();
    assert_eq!(
        walk.log,
        ["run get_sources (running)"],
        "the clock of the sources goes on"
    );
    let walk = walk.fail(1);
    assert_eq!(walk.log[1], "start Pause 10s");
    let walk = walk.timer(Timer::Pause);
    assert_eq!(walk.log, ["run get_sources (running)"]);
    assert_eq!(
        walk.fail(8).rest().last().map(String::as_str),
        Some("script_failure 8 \"exit status 8\"")
    );

    let cleared = Walk::new(plan)
        .until(&Stage::GetSources)
        .fail(1)
        .timer(Timer::Pause)
        .fail(4);
    assert_eq!(
        name(&cleared.state),
        "PausingStage get_sources 3",
        "its failure is that of the attempt"
    );
}

#[test]
fn waits_double_up_to_a_bound() {
    let waits = |long_backoff| -> Vec<u64> {
        let plan = Plan {
            long_backoff,
            ..plan()
        };
        (1..=9)
            .map(|failed| plan.backoff(failed).as_secs())
            .collect()
    };
    assert_eq!(waits(true), [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    assert_eq!(waits(false), [1, 2, 4, 5, 5, 5, 5, 5, 5]);
}

#[test]
fn cancel_depends_on_the_phase() {
    let before = Walk::new(plan())
        .until(&Stage::RestoreCache)
        .then(Event::CancelRequested);
    assert_eq!(before.log, ["stop", "start Unwind 300s"]);
    assert_eq!(before.ok().rest(), ["job_canceled 0 \"canceled\""]);

    let during = Walk::new(plan())
        .until(&script())
        .then(Event::CancelRequested);
    assert_eq!(
        during.log,
        [
            "log \"WARNING: script canceled externally (UI, API)\"",
            "stop"
        ]
    );
    assert_eq!(
        during.fail(-1).rest(),
        [
            "after_script canceled",
            "archive_cache_on_failure canceled",
            "upload_artifacts_on_failure canceled",
            "cleanup_file_variables canceled",
            "job_canceled 0 \"canceled\"",
        ]
    );

    let after = Walk::new(plan())
        .until(&Stage::AfterScript)
        .then(Event::CancelRequested);
    assert_eq!(after.log, Vec::<String>::new());
    assert_eq!(after.rest().last().map(String::as_str), Some("success"));

    let aborted = Walk::new(plan())
        .until(&script())
        .then(Event::CancelRequested)
        .then(Event::AbortRequested);
    assert_eq!(
        aborted.log,
        ["start Unwind 300s"],
        "an abort ends a job that is being cancelled"
    );
    assert_eq!(aborted.fail(-1).rest(), ["job_canceled 0 \"canceled\""]);
}

#[test]
fn deadlines_name_themselves() {
    let timeouts = |raw: &str| Plan {
        script_timeout: TimeoutVariable {
            raw: raw.to_owned(),
        },
        ..plan()
    };
    let walk = Walk::new(timeouts("10m")).until(&script());
    assert_eq!(walk.log[0], "start Script 600s");
    let walk = walk.timer(Timer::Script).fail(-1);
    assert!(walk.log[0].starts_with("log \"WARNING: step_script could not run to completion"));
    let rest = walk.rest();
    assert_eq!(rest[0], "after_script timedout");
    assert_eq!(
        rest.last().map(String::as_str),
        Some("job_execution_timeout 0 \"script timeout: context deadline exceeded\"")
    );

    let walk = Walk::new(timeouts("1h")).until(&script());
    assert_eq!(
        walk.log,
        [
            "log \"WARNING: RUNNER_SCRIPT_TIMEOUT timeout: 1h is longer than jo\"",
            "run step_script (running)"
        ],
        "longer than the rest of the job: the default, which is none"
    );

    for (walk, expected) in [
        (
            Walk::new(plan()).until(&script()).timer(Timer::Job),
            "execution took longer than 1h0m0s seconds",
        ),
        (
            Walk::new(plan())
                .until(&Stage::GetSources)
                .timer(Timer::Sources),
            "get sources timeout: exceeded timeout of 1m30s",
        ),
        (
            Walk::new(plan())
                .until(&Stage::PrepareScript)
                .timer(Timer::Prepare),
            "prepare timeout: exceeded timeout of 1m0s",
        ),
    ] {
        assert_eq!(
            walk.fail(-1).rest(),
            [format!("job_execution_timeout 0 {expected:?}")]
        );
    }
}

#[test]
fn a_stage_that_does_not_end_is_given_up() {
    let walk = Walk::new(plan())
        .until(&script())
        .then(Event::Interrupted("terminated".to_owned()));
    let walk = walk.timer(Timer::Unwind);
    assert_eq!(
        walk.log,
        [
            "log \"WARNING: Timed out waiting for the build to finish\"",
            "stop Job",
            "clean up"
        ]
    );
    assert_eq!(
        walk.rest(),
        ["runner_interrupted 0 \"aborted: terminated\""]
    );
}

#[test]
fn the_last_line_sorts_failures_by_whose_they_are() {
    let outcome = |reason| Outcome::new(Some(Failure::new(reason, "x"))).line();
    assert_eq!(
        Outcome::new(None).line(),
        "\u{1b}[32;1mJob succeeded\u{1b}[0;m\n"
    );
    assert_eq!(Outcome::new(None).state, WireState::Success);
    assert_eq!(
        outcome(FailureReason::ScriptFailure),
        "\u{1b}[31;1mERROR: Job failed: x\u{1b}[0;m\n"
    );
    assert_eq!(
        outcome(FailureReason::RunnerSystemFailure),
        "\u{1b}[31;1mERROR: Job failed (system failure): x\u{1b}[0;m\n"
    );
}

#[test]
fn the_plan_says_what_the_job_says() {
    let plan = Plan::of(&job(json!({
        "runner_info": {"timeout": 60},
        "variables": [{"key": "GET_SOURCES_ATTEMPTS", "value": "x"}],
        "policy_options": {"execution_policy_job": true, "policy_name": "p",
            "policy_variables_override_allowed": false, "policy_variables_override_exceptions": ["A", "B"]},
    })));
    assert_eq!(
        plan.opening,
        "\u{1b}[0KRunning with gitlab-runner 19.4.0 (c0ffee)\u{1b}[0;m\n\
         \u{1b}[0K  on runner one abcdefghi, system ID: \u{1b}[0;m\n\
         \u{1b}[0;33mWARNING: GET_SOURCES_ATTEMPTS: expected int got \"x\", using default value: 1\u{1b}[0;m\n"
    );
    assert_eq!(
        plan.before_steps,
        "\u{1b}[32;1mJob triggered by policy \"p\".\u{1b}[0;m\n\
         \u{1b}[32;1mUser-defined CI/CD variables are ignored in this job (except for A, B) according to the policy.\u{1b}[0;m\n"
    );
    assert_eq!(plan.timeout, Duration::from_secs(60));
    assert_eq!(plan.steps, [script()]);
    assert!(plan.has_work(&Stage::AfterScript) && !plan.has_work(&Stage::ArchiveCache));
}
