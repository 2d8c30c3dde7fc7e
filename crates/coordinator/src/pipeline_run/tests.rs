use super::*;

fn job(name: &str, stage: usize) -> JobPlan {
    JobPlan {
        name: name.to_owned(),
        stage,
        ..JobPlan::default()
    }
}

fn needing(name: &str, stage: usize, needs: &[Position]) -> JobPlan {
    JobPlan {
        needs: Some(needs.to_vec()),
        ..job(name, stage)
    }
}

fn with(when: JobWhen, plan: JobPlan) -> JobPlan {
    JobPlan { when, ..plan }
}

fn forgiven(plan: JobPlan) -> JobPlan {
    JobPlan {
        allow_failure: AllowFailure::Always(true),
        ..plan
    }
}

fn failed(exit_code: i64) -> Outcome {
    Outcome::Failed {
        reason: "script_failure".to_owned(),
        exit_code: Some(exit_code),
    }
}

fn started(plans: Vec<JobPlan>) -> PipelineRun {
    let mut run = PipelineRun::new(plans);
    run.on(Event::Begin, 0);
    run
}

fn run_to_end(run: &mut PipelineRun, job: Position, outcome: Outcome) {
    run.on(
        Event::Reserve {
            job,
            soft_cancel: true,
        },
        0,
    );
    run.on(Event::Start(job), 0);
    run.on(Event::Finish(job, outcome), 0);
}

fn states(run: &PipelineRun) -> String {
    let words: Vec<_> = run.jobs().iter().map(|job| job.state.as_str()).collect();
    words.join(" ")
}

#[test]
fn a_later_stage_waits_for_every_job_of_the_earlier_ones() {
    let mut run = started(vec![job("a", 0), job("b", 0), job("c", 1)]);
    assert_eq!(states(&run), "pending pending created");
    run_to_end(&mut run, 0, Outcome::Success);
    assert_eq!(states(&run), "success pending created");
    run_to_end(&mut run, 1, Outcome::Success);
    assert_eq!(states(&run), "success success pending");
    assert_eq!(run.status(), PipelineStatus::Running);
    run_to_end(&mut run, 2, Outcome::Success);
    assert_eq!(run.status(), PipelineStatus::Success);
}

/// First job's end, then what becomes of one job of the next stage, for each `when`.
#[test]
fn when_is_judged_against_the_stages_before() {
    use JobWhen::*;
    let cases = [
        (OnSuccess, Outcome::Success, false, "pending"),
        (OnSuccess, failed(1), false, "skipped"),
        (OnSuccess, failed(1), true, "pending"),
        (OnFailure, Outcome::Success, false, "skipped"),
        (OnFailure, failed(1), false, "pending"),
        (OnFailure, failed(1), true, "skipped"),
        (Always, Outcome::Success, false, "pending"),
        (Always, failed(1), false, "pending"),
        (Manual, Outcome::Success, false, "manual"),
        (Manual, failed(1), false, "skipped"),
        (Delayed, Outcome::Success, false, "scheduled"),
        (Delayed, failed(1), false, "skipped"),
    ];
    for by_need in [false, true] {
        for (when, outcome, allowed, expected) in cases.clone() {
            let first = if allowed {
                forgiven(job("a", 0))
            } else {
                job("a", 0)
            };
            let second = if by_need {
                needing("b", 1, &[0])
            } else {
                job("b", 1)
            };
            let mut run = started(vec![first, with(when, second)]);
            run_to_end(&mut run, 0, outcome.clone());
            let state = run.jobs()[1].state.as_str();
            assert_eq!(
                state, expected,
                "{when:?} after {outcome:?}, allowed {allowed}, need {by_need}"
            );
        }
    }
}

#[test]
fn needs_start_a_job_before_its_stage_and_empty_needs_at_once() {
    let mut run = started(vec![
        job("slow", 0),
        job("fast", 0),
        needing("after fast", 2, &[1]),
        needing("at once", 2, &[]),
        job("by stage", 1),
    ]);
    assert_eq!(states(&run), "pending pending created pending created");
    run_to_end(&mut run, 1, Outcome::Success);
    assert_eq!(states(&run), "pending success pending pending created");
}

#[test]
fn a_skipped_need_skips_its_dependants_but_a_skipped_stage_does_not() {
    let mut run = started(vec![
        job("a", 0),
        with(JobWhen::OnFailure, job("rescue", 1)),
        needing("needs rescue", 2, &[1]),
        job("next stage", 2),
    ]);
    run_to_end(&mut run, 0, Outcome::Success);
    assert_eq!(states(&run), "success skipped skipped pending");
}

#[test]
fn an_optional_manual_job_is_left_out_and_a_blocking_one_holds_the_pipeline() {
    let optional = forgiven(with(JobWhen::Manual, job("deploy", 0)));
    let run = started(vec![optional, job("next", 1)]);
    assert_eq!(states(&run), "manual pending");

    let mut run = started(vec![
        with(JobWhen::Manual, job("deploy", 0)),
        job("next", 1),
    ]);
    assert_eq!(states(&run), "manual created");
    assert_eq!(run.status(), PipelineStatus::Manual);
    run.on(Event::Play(0), 0);
    assert_eq!(states(&run), "pending created");
    assert_eq!(run.status(), PipelineStatus::Running);
}

#[test]
fn a_delayed_job_becomes_pending_when_its_time_has_come() {
    let delayed = JobPlan {
        start_in: 60,
        ..with(JobWhen::Delayed, job("later", 0))
    };
    let mut run = PipelineRun::new(vec![delayed]);
    run.on(Event::Begin, 1000);
    assert_eq!(run.next_wakeup(), Some(1060));
    run.on(Event::Clock, 1059);
    assert_eq!(states(&run), "scheduled");
    run.on(Event::Clock, 1060);
    assert_eq!(states(&run), "pending");
}

#[test]
fn retry_counts_attempts_and_looks_at_reason_and_exit_code() {
    // (retry, exit code, attempts made in all)
    let cases = [
        (
            Retry {
                max: 0,
                ..Retry::default()
            },
            1,
            1,
        ),
        (
            Retry {
                max: 2,
                ..Retry::default()
            },
            1,
            3,
        ),
        (
            Retry {
                max: 2,
                when: vec!["always".into()],
                exit_codes: vec![],
            },
            1,
            3,
        ),
        (
            Retry {
                max: 2,
                when: vec!["script_failure".into()],
                exit_codes: vec![],
            },
            1,
            3,
        ),
        (
            Retry {
                max: 2,
                when: vec!["runner_system_failure".into()],
                exit_codes: vec![],
            },
            1,
            1,
        ),
        (
            Retry {
                max: 2,
                when: vec![],
                exit_codes: vec![137],
            },
            137,
            3,
        ),
        (
            Retry {
                max: 2,
                when: vec![],
                exit_codes: vec![137],
            },
            1,
            1,
        ),
    ];
    for (retry, exit_code, attempts) in cases {
        let mut run = started(vec![JobPlan {
            retry: retry.clone(),
            ..job("a", 0)
        }]);
        let mut made = 0;
        while run.jobs()[0].state == JobState::Pending {
            run_to_end(&mut run, 0, failed(exit_code));
            made += 1;
        }
        assert_eq!(made, attempts, "{retry:?}");
        assert_eq!(run.status(), PipelineStatus::Failed);
    }
}

#[test]
fn allow_failure_by_exit_code_forgives_only_those() {
    let plan = JobPlan {
        allow_failure: AllowFailure::ExitCodes {
            exit_codes: vec![42],
        },
        ..job("a", 0)
    };
    for (code, status) in [(42, PipelineStatus::Success), (1, PipelineStatus::Failed)] {
        let mut run = started(vec![plan.clone()]);
        run_to_end(&mut run, 0, failed(code));
        assert_eq!(run.status(), status);
    }
}

#[test]
fn a_reservation_that_is_not_acknowledged_goes_back_to_the_queue() {
    let mut run = started(vec![job("a", 0)]);
    run.on(
        Event::Reserve {
            job: 0,
            soft_cancel: false,
        },
        0,
    );
    assert_eq!(run.jobs()[0].state, JobState::Reserved);
    run.on(Event::Requeue(0), 0);
    assert_eq!(run.jobs()[0].state, JobState::Pending);
}

/// Every state a job can be in when a cancel or an abort comes, and what follows.
#[test]
fn cancel_and_abort_in_every_state() {
    use JobState::*;
    let allowed = Failed { allowed: true };
    // (before, soft runner, after cancel, after abort)
    let cases = [
        (Manual, true, Canceled, Canceled),
        (Scheduled { at: 9 }, true, Canceled, Canceled),
        (Pending, true, Canceled, Canceled),
        (Reserved, true, Canceled, Canceled),
        (Running, true, Canceling, Canceled),
        (Running, false, Canceled, Canceled),
        (Canceling, true, Canceling, Canceled),
        (Success, true, Success, Success),
        (allowed, true, allowed, allowed),
        (Canceled, true, Canceled, Canceled),
        (Skipped, true, Skipped, Skipped),
    ];
    for (before, soft, cancelled, aborted) in cases {
        for (event, expected) in [(Event::Cancel, cancelled), (Event::Abort, aborted)] {
            let mut run = PipelineRun::restore([(job("a", 0), before, 0, soft)]);
            run.on(event.clone(), 0);
            assert_eq!(run.jobs()[0].state, expected, "{before:?} on {event:?}");
        }
    }
}

#[test]
fn a_cancelled_job_ends_cancelled_whatever_the_runner_says_and_is_not_retried() {
    for outcome in [Outcome::Success, failed(1)] {
        let plan = JobPlan {
            retry: Retry {
                max: 2,
                ..Retry::default()
            },
            ..job("a", 0)
        };
        let mut run = started(vec![plan, with(JobWhen::Always, job("cleanup", 1))]);
        run.on(
            Event::Reserve {
                job: 0,
                soft_cancel: true,
            },
            0,
        );
        run.on(Event::Start(0), 0);
        run.on(Event::Cancel, 0);
        run.on(Event::Finish(0, outcome), 0);
        assert_eq!(states(&run), "canceled canceled");
        assert_eq!(run.status(), PipelineStatus::Canceled);
    }
}

/// No event in no state may panic, resurrect an ended job, or leave a job in two places.
#[test]
fn an_event_that_does_not_fit_changes_nothing() {
    use JobState::*;
    let states = [
        Manual,
        Scheduled { at: i64::MAX },
        Pending,
        Reserved,
        Running,
        Canceling,
        Success,
        Failed { allowed: false },
        Canceled,
        Skipped,
    ];
    let events = [
        Event::Begin,
        Event::Reserve {
            job: 0,
            soft_cancel: true,
        },
        Event::Start(0),
        Event::Requeue(0),
        Event::Finish(0, Outcome::Success),
        Event::Play(0),
        Event::Clock,
        Event::Start(7),
        Event::Finish(7, Outcome::Success),
    ];
    for before in states {
        for event in &events {
            let mut run = PipelineRun::restore([(job("a", 0), before, 0, false)]);
            let changes = run.on(event.clone(), 0);
            let after = run.jobs()[0].state;
            if before.is_over() {
                assert_eq!(
                    (after, changes.len()),
                    (before, 0),
                    "{before:?} on {event:?}"
                );
            }
            assert_eq!(
                changes.is_empty(),
                after == before,
                "{before:?} on {event:?}"
            );
        }
    }
}

fn bridge(plan: JobPlan) -> JobPlan {
    JobPlan {
        bridge: true,
        ..plan
    }
}

#[test]
fn a_bridge_waits_for_its_pipeline_only_when_it_is_told_to() {
    let mut run = started(vec![
        job("a", 0),
        bridge(job("child", 1)),
        with(JobWhen::Manual, bridge(job("gate", 1))),
        job("after", 2),
    ]);
    run_to_end(&mut run, 0, Outcome::Success);
    assert_eq!(states(&run), "success pending manual created");
    // No runner is handed a bridge; without a strategy it is done at once.
    run.on(Event::Finish(1, Outcome::Success), 0);
    run.on(Event::Play(2), 0);
    assert_eq!(states(&run), "success success pending created");
    run.on(Event::Start(2), 0);
    run.on(Event::Hold { job: 2, held: true }, 0);
    assert_eq!(states(&run), "success success manual created");
    assert_eq!(run.status(), PipelineStatus::Manual);
    let held = false;
    run.on(Event::Hold { job: 2, held }, 0);
    assert_eq!(run.status(), PipelineStatus::Running);
    run.on(Event::Finish(2, Outcome::Success), 0);
    assert_eq!(states(&run), "success success success pending");
}

/// A bridge's state and outcome, and what becomes of it.
#[test]
fn a_bridge_ends_as_its_pipeline_does() {
    use JobState::{Canceled, Failed, Held, Pending, Running, Success};
    let not_allowed = Failed { allowed: false };
    let cases = [
        (Running, Outcome::Success, Success),
        (Running, failed(1), not_allowed),
        (Running, Outcome::Canceled, Canceled),
        (Held, Outcome::Canceled, Canceled),
        (Held, Outcome::Success, Success),
        (Pending, Outcome::Success, Success),
        (Canceled, Outcome::Success, Canceled),
    ];
    for (before, outcome, after) in cases {
        let mut run = PipelineRun::restore([(bridge(job("a", 0)), before, 0, false)]);
        run.on(Event::Finish(0, outcome.clone()), 0);
        assert_eq!(run.jobs()[0].state, after, "{before:?} {outcome:?}");
    }
    let mut run = PipelineRun::restore([(job("a", 0), Pending, 0, false)]);
    run.on(Event::Finish(0, Outcome::Success), 0);
    assert_eq!(
        run.jobs()[0].state,
        Pending,
        "only bridges end without a runner"
    );
    run.on(Event::Drop(0), 0);
    assert_eq!(run.jobs()[0].state, not_allowed);
}

#[test]
fn the_first_failure_cancels_the_rest_where_the_workflow_says_so() {
    for (all, allowed, expected) in [
        (false, false, "failed running created"),
        (true, false, "failed canceling canceled"),
        (true, true, "failed running created"),
    ] {
        let first = if allowed {
            forgiven(job("a", 0))
        } else {
            job("a", 0)
        };
        let plans = vec![first, job("b", 0), job("c", 1)];
        let mut run = PipelineRun::new(plans).cancelling_on_failure(all);
        run.on(Event::Begin, 0);
        let (job, soft_cancel) = (1, true);
        run.on(Event::Reserve { job, soft_cancel }, 0);
        run.on(Event::Start(1), 0);
        run_to_end(&mut run, 0, failed(1));
        assert_eq!(states(&run), expected, "all {all}, allowed {allowed}");
    }
}

#[test]
fn a_newer_pipeline_stops_what_may_be_interrupted() {
    let interruptible = |plan| JobPlan {
        interruptible: true,
        ..plan
    };
    let mut run = started(vec![interruptible(job("a", 0)), job("b", 0), job("c", 1)]);
    assert!(!run.has_begun_for_good());
    run_to_end(&mut run, 0, Outcome::Success);
    assert!(!run.has_begun_for_good());
    let (job, soft_cancel) = (1, true);
    run.on(Event::Reserve { job, soft_cancel }, 0);
    assert!(run.has_begun_for_good());
    run.on(Event::CancelInterruptible, 0);
    assert_eq!(states(&run), "success pending created");
}

#[test]
fn a_job_that_is_started_by_hand_gives_those_after_it_another_chance() {
    let mut run = started(vec![
        forgiven(with(JobWhen::Manual, job("gate", 0))),
        needing("deploy", 1, &[0]),
        needing("verify", 1, &[1]),
        with(JobWhen::OnFailure, job("rescue", 1)),
    ]);
    assert_eq!(states(&run), "manual skipped skipped skipped");
    run.on(Event::Play(0), 0);
    assert_eq!(states(&run), "pending created created created");
    run_to_end(&mut run, 0, Outcome::Success);
    assert_eq!(states(&run), "success pending created skipped");
}

#[test]
fn a_cancelled_job_that_may_fail_holds_nobody_back() {
    for (plan, expected) in [(job("a", 0), "skipped"), (forgiven(job("a", 0)), "pending")] {
        let mut run = PipelineRun::restore([
            (plan, JobState::Canceled, 0, true),
            (job("b", 1), JobState::Created, 0, true),
        ]);
        run.on(Event::Begin, 0);
        assert_eq!(run.jobs()[1].state.as_str(), expected);
    }
}

#[test]
fn changes_taken_back_leave_no_trace() {
    let retried = JobPlan {
        retry: Retry {
            max: 1,
            ..Retry::default()
        },
        ..job("a", 0)
    };
    let mut run = started(vec![retried, job("b", 1)]);
    let soft_cancel = true;
    run.on(
        Event::Reserve {
            job: 0,
            soft_cancel,
        },
        0,
    );
    run.on(Event::Start(0), 0);
    let before = run.clone();
    let changes = run.on(Event::Finish(0, failed(1)), 0);
    assert!(changes[0].retried);
    run.undo(&changes);
    assert_eq!(run, before);
}
