//! The runner against GitLab's side as others wrote it: the crate `gitlab-runner-mock`.

mod world;

use std::sync::Arc;

use gitlab_runner_mock::{
    GitlabRunnerMock, MockJob, MockJobBuilder, MockJobState, MockJobStepName, MockJobStepWhen,
};
use world::{World, eventually, is_alive};

async fn mock() -> (GitlabRunnerMock, World) {
    let mock = GitlabRunnerMock::start().await;
    mock.set_update_interval(1);
    let world = World::new(mock.uri().as_str(), mock.runner_token());
    (mock, world)
}

fn builder(mock: &GitlabRunnerMock, script: &[&str]) -> MockJobBuilder {
    let mut builder = mock.job_builder("job".to_owned());
    builder.add_variable("GIT_STRATEGY".to_owned(), "none".to_owned(), true, false);
    add_step(&mut builder, MockJobStepName::Script, script);
    builder
}

fn add_step(builder: &mut MockJobBuilder, name: MockJobStepName, script: &[&str]) {
    let script = script.iter().map(|line| (*line).to_owned()).collect();
    builder.add_step(name, script, 3600, MockJobStepWhen::OnSuccess, false);
}

fn enqueue(mock: &GitlabRunnerMock, builder: MockJobBuilder) -> MockJob {
    let job = builder.build();
    mock.enqueue_job(job.clone());
    job
}

fn log(job: &MockJob) -> String {
    String::from_utf8_lossy(&job.log()).into_owned()
}

/// Not a test of its own: the process that jobs start as `courser helper run`.
#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "stands for `cli`, which captures the environment"
)]
async fn helper_process() {
    if std::env::var_os("COURSER_TEST_HELPER").is_none() {
        return;
    }
    let request = std::io::read_to_string(std::io::stdin()).expect("a request");
    let request = courser_job::HelperRequest::from_json(&request).expect("it is one");
    let environment = courser_helper::HelperEnvironment {
        variables: courser_config::Environment::new(std::env::vars()),
        proxy: courser_net::ProxySettings::default(),
        legs: courser_net::Legs::only(None, std::env::temp_dir()),
        host_name: "testhost".to_owned(),
        user_agent: "gitlab-runner test".to_owned(),
        started: jiff::Timestamp::now(),
        retry_pause: std::time::Duration::from_millis(10),
        temporary_directory: std::env::temp_dir(),
    };
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let mut output = courser_helper::Output {
        out: &mut out,
        err: &mut err,
        programs: courser_helper::Programs::Inherit,
    };
    courser_helper::run(&request, &environment, &mut output)
        .await
        .expect("the helper does its work");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_succeeds_with_its_whole_log() {
    let (mock, world) = mock().await;
    let mut job = builder(&mock, &["echo hello", "echo $SECRET_VALUE"]);
    job.add_variable(
        "SECRET_VALUE".to_owned(),
        "xyzzy-42".to_owned(),
        false,
        true,
    );
    let job = enqueue(&mock, job);
    world
        .run_until(eventually("the job is over", || job.finished()))
        .await;
    assert_eq!(job.state(), MockJobState::Success);
    let log = log(&job);
    for line in [
        "Running with gitlab-runner 19.4.0",
        "on test fakerunne",
        "section_start:",
        ":prepare_executor",
        "Using Shell (bash) executor...",
        "Running on testhost...",
        "$ echo hello",
        "hello",
        "[MASKED]",
        "Job succeeded",
    ] {
        assert!(log.contains(line), "{line:?} is missing in:\n{log}");
    }
    assert!(!log.contains("xyzzy-42"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_script_fails_the_job_after_its_after_script() {
    let (mock, world) = mock().await;
    let mut job = builder(&mock, &["echo before", "exit 7", "echo never"]);
    add_step(
        &mut job,
        MockJobStepName::AfterScript,
        &["echo status is $CI_JOB_STATUS"],
    );
    let job = enqueue(&mock, job);
    world
        .run_until(eventually("the job is over", || job.finished()))
        .await;
    assert_eq!(job.state(), MockJobState::Failed);
    let log = log(&job);
    assert!(log.contains("status is failed"), "{log}");
    assert!(log.contains("Job failed: exit status 7"), "{log}");
    assert!(!log.contains("\nnever"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canceled_job_is_aborted_with_all_its_processes() {
    let (mock, world) = mock().await;
    let pids = world.path().join("pids");
    let script = format!(
        "setsid sleep 600 & echo $! > {0}; sleep 601 & echo $! >> {0}; echo started; wait",
        pids.display()
    );
    let job = enqueue(&mock, builder(&mock, &[&script]));
    world
        .run_until(async {
            eventually("the script runs", || {
                std::fs::read_to_string(&pids).is_ok_and(|text| text.lines().count() == 2)
            })
            .await;
            job.cancel();
            let pids = std::fs::read_to_string(&pids).expect("written above");
            for pid in pids.lines() {
                eventually("the process tree dies", || !is_alive(pid)).await;
            }
        })
        .await;
    assert_eq!(job.state(), MockJobState::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_gone_before_it_starts_is_dropped_silently() {
    let (mock, world) = mock().await;
    let marker = world.path().join("ran");
    let job = enqueue(
        &mock,
        builder(&mock, &[&format!("touch {}", marker.display())]),
    );
    // Handing it out makes it running; cancelling at once lets the acknowledgement fail or the job abort.
    world
        .run_until(async {
            eventually("it is handed out", || job.state() == MockJobState::Running).await;
            job.cancel();
        })
        .await;
    assert!(!log(&job).contains("Job succeeded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_are_uploaded_and_downloaded_by_the_jobs_that_need_them() {
    let (mock, world) = mock().await;
    let mut first = builder(&mock, &["mkdir -p out", "echo payload > out/file.txt"]);
    first.add_artifact_paths(vec!["out/".to_owned()]);
    let first = enqueue(&mock, first);
    let mut second = builder(&mock, &["rm -rf elsewhere", "cat out/file.txt"]);
    second.dependency(first.clone());
    let second = enqueue(&mock, second);
    world
        .run_until(eventually("both are over", || second.finished()))
        .await;
    assert_eq!(first.state(), MockJobState::Success, "{}", log(&first));
    let artifacts: Vec<_> = first.uploaded_artifacts().collect();
    assert_eq!(artifacts.len(), 1);
    assert!(artifacts[0].data.starts_with(b"PK"), "a zip archive");
    assert_eq!(second.state(), MockJobState::Success, "{}", log(&second));
    assert!(log(&second).contains("payload"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_many_megabytes_arrives_complete_and_within_its_limit() {
    let (mock, world) = mock().await;
    world.change(|config| config.runners[0].output_limit = 3 * 1024);
    let job = enqueue(
        &mock,
        builder(&mock, &["seq 1 1000000 | sed 's,^,number ,'"]),
    );
    world
        .run_until(eventually("the job is over", || job.finished()))
        .await;
    let log = job.log();
    let limit = 3 * 1024 * 1024;
    assert!(
        log.len() > limit && log.len() < limit + 300,
        "{}",
        log.len()
    );
    assert!(String::from_utf8_lossy(&log).contains("exceeded limit of 3145728 bytes"));
    assert_eq!(job.state(), MockJobState::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_job_asks_for_the_next_one_at_once() {
    let (mock, world) = mock().await;
    // Were it the interval that brings jobs, twenty of them would take twenty minutes.
    world.change(|config| {
        config.check_interval = std::time::Duration::from_secs(60);
        config.concurrent = 1;
    });
    let jobs: Vec<_> = (0..20)
        .map(|_| enqueue(&mock, builder(&mock, &["true"])))
        .collect();
    world
        .run_until(eventually("all are over", || {
            jobs.iter().all(MockJob::finished)
        }))
        .await;
    assert!(jobs.iter().all(|job| job.state() == MockJobState::Success));
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_side_by_side_up_to_concurrent() {
    let (mock, world) = mock().await;
    world.change(|config| config.concurrent = 3);
    let meet = |number: usize| {
        let place = world.path().display();
        format!(
            "touch {place}/{number}; for i in $(seq 6000); do [ -e {place}/0 -a -e {place}/1 -a -e {place}/2 ] && break; sleep 0.01; done; echo id $CI_CONCURRENT_ID"
        )
    };
    let jobs: Vec<_> = (0..3)
        .map(|number| enqueue(&mock, builder(&mock, &[&meet(number)])))
        .collect();
    world
        .run_until(eventually("they meet", || {
            jobs.iter().all(MockJob::finished)
        }))
        .await;
    let mut ids: Vec<_> = jobs
        .iter()
        .filter_map(|job| {
            let log = log(job);
            let line = log
                .lines()
                .find(|line| line.contains("id ") && !line.contains('$'))?;
            line.chars().last()
        })
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, ['0', '1', '2']);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forceful_end_aborts_jobs_and_reports_them() {
    let (mock, world) = mock().await;
    let job = enqueue(&mock, builder(&mock, &["echo started", "sleep 600"]));
    let shutdown = world.shutdown.clone();
    let ended = world
        .run_until(async {
            eventually("it runs", || log(&job).contains("started")).await;
            shutdown.forcefully("terminated");
        })
        .await;
    assert_eq!(ended, courser_runner::Ended::Clean);
    assert_eq!(job.state(), MockJobState::Failed);
    assert!(log(&job).contains("aborted: terminated"), "{}", log(&job));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_brings_a_runner_in() {
    let (mock, world) = mock().await;
    let runners = world.config.borrow().runners.clone();
    world.change(|config| config.runners.clear());
    let job = enqueue(&mock, builder(&mock, &["true"]));
    world
        .run_until(async {
            world.config.send_modify(|config| {
                Arc::make_mut(config).runners = runners;
            });
            eventually("it runs", || job.finished()).await;
        })
        .await;
    assert_eq!(job.state(), MockJobState::Success);
}
