//! One job from its payload to its final report, owned by one task.
//!
//! `job::state` decides; here its actions are performed and their ends fed back. Dropping the task kills
//! the job's processes. The log is sent beside the work, by the same task.

mod performer;
mod renewal;
pub(crate) mod secrets;

use std::any::Any;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;

use courser_executor::Place;
use courser_job::state::{JobState, Outcome, Plan};
use courser_job::trace::Masking;
use courser_job::{Job, JobTls, Rejection, RunnerContext, messages};
use courser_protocol::info::{RUNNER_VERSION, architecture, platform, revision};
use courser_protocol::{FailureReason, JobFeatures, JobState as WireState};
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use performer::Performer;
pub(crate) use renewal::Renewal;
pub(crate) use secrets::JobSecrets;

use crate::client::jobs::{JobCredentials, ReceivedJob};
use crate::dispatch::{JobNumbers, Slot};
use crate::entry::{Entry, Ready, WorkingCopies};
use crate::log::JobLog;
use crate::report::{Acknowledged, Report};
use crate::shutdown::Phase;
use crate::spool::journal::{FinalState, JobRecord, VERSION};
use crate::tool_trust;

const TIMESTAMPS: &str = "FF_TIMESTAMPS";

/// A job and everything it holds while it runs.
pub(crate) struct JobTask {
    pub(crate) entry: Arc<Entry>,
    pub(crate) received: Box<ReceivedJob>,
    pub(crate) numbers: JobNumbers,
    pub(crate) place: Place,
    /// A place of `concurrent`, kept until the job is reported.
    pub(crate) slot: Option<Slot>,
    pub(crate) phase: watch::Receiver<Phase>,
}

/// Runs the job to its end.
pub(crate) async fn run_job(task: JobTask) {
    let JobTask {
        entry,
        received,
        numbers,
        place,
        slot,
        phase,
    } = task;
    // A runner that cannot work asks for nothing.
    let Ok(ready) = &entry.ready else { return };
    let context = context(&entry, ready, &received, numbers);
    let payload = received.payload;
    let project = payload.job_info.project_id;
    let credentials = JobCredentials {
        id: payload.id,
        token: payload.token.clone(),
    };
    let server = payload.features.clone();
    tracing::info!(
        job = credentials.id,
        project,
        runner = %entry.short_token(),
        correlation_id = received.correlation_id,
        "Checking for jobs... received"
    );
    let started = Instant::now();
    let info = &payload.job_info;
    let counted = entry.metrics().job(
        &entry.config.executor,
        info.time_in_queue_seconds,
        &info.project_jobs_running_on_instance_runners_count,
    );
    let work = async {
        match Job::accept(payload, context) {
            Ok(job) => {
                if let WorkingCopies::Own(told) = &entry.settings.working_copies {
                    // Nobody listening is fine.
                    drop(told.send((credentials.id, PathBuf::from(&job.directories().project))));
                }
                accepted(
                    &entry,
                    ready,
                    credentials.clone(),
                    Arc::new(job),
                    place,
                    phase,
                )
                .await
            }
            Err(rejection) => {
                rejected(&entry, ready, credentials.clone(), &server, rejection).await
            }
        }
    };
    let end = Box::pin(work).await;
    let duration = started.elapsed().as_secs_f64();
    let (job, runner) = (credentials.id, entry.short_token());
    if let End::Reported(outcome) = &end {
        let reason = outcome.reason.as_ref();
        counted.ended(duration, reason.map(FailureReason::as_str));
    }
    match end {
        End::Reported(Outcome { reason: None, .. }) => {
            tracing::info!(job, project, duration_s = duration, runner = %runner, "Job succeeded");
        }
        End::Reported(outcome) => {
            let message = &outcome.message;
            tracing::warn!(job, project, duration_s = duration, runner = %runner, "Job failed: {message}");
        }
        End::Unstarted(why) => {
            tracing::warn!(job, project, runner = %runner, "Job not started: {why}");
        }
    }
    drop(slot);
}

enum End {
    Reported(Outcome),
    Unstarted(String),
}

async fn accepted(
    entry: &Entry,
    ready: &Ready,
    credentials: JobCredentials,
    job: Arc<Job>,
    place: Place,
    phase: watch::Receiver<Phase>,
) -> End {
    let server = &job.payload().features;
    let flag = |name: &str| {
        job.features()
            .all()
            .iter()
            .any(|(flag, on)| *flag == name && *on)
    };
    let masking = Masking::for_job(&job).map_err(|error| error.to_string());
    let record = JobRecord {
        timestamps: flag(TIMESTAMPS),
        debug_trace: job.settings().debug_trace,
        ..record(entry, &credentials)
    };
    let log = match masking {
        Ok(masking) => open_log(entry, masking, record).await,
        Err(why) => return unlogged(ready, credentials, why).await,
    };
    let mut report = Report::new(
        Arc::clone(&ready.api),
        Arc::clone(&ready.info),
        credentials,
        Arc::clone(&log),
    )
    .debug_trace(job.settings().debug_trace || job.settings().debug_services)
    .keep_alive(entry.settings.keep_alive)
    .dynamic_force_send(flag("FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL"));
    match report.acknowledge().await {
        Acknowledged::Run => {}
        Acknowledged::Gone => {
            log.remove();
            return End::Unstarted("the server gave it up".to_owned());
        }
        Acknowledged::Canceled => {
            let state = FinalState::Failed {
                reason: FailureReason::JobCanceled,
                exit_code: 0,
            };
            conclude(entry, &mut report, &state).await;
            return End::Unstarted("canceled".to_owned());
        }
    }
    let performer = Performer::new(
        Arc::clone(&job),
        Arc::clone(&log),
        Arc::clone(&ready.executor),
        place,
        entry.shutdown_timeout,
        Renewal::new(
            Arc::clone(&ready.api),
            Arc::clone(&entry.tool_trust),
            job.context().tls.clone(),
        ),
        report.probe(),
    )
    .resolving(JobSecrets::new(
        entry.surroundings(),
        job.payload().id,
        &log,
        entry.settings.spool.clone(),
    ))
    .leaving(entry.settings.spool.remains_of(job.payload().id));
    let state = JobState::new(Plan::of(&job));
    let outcome = perform(performer, state, &mut report, &log, phase).await;
    log.finish();
    conclude(entry, &mut report, &final_state(&outcome, server)).await;
    End::Reported(outcome)
}

/// Does the job's work from `state` on, and sends its log beside it.
pub(crate) async fn perform(
    performer: Performer,
    state: JobState,
    report: &mut Report,
    log: &JobLog,
    phase: watch::Receiver<Phase>,
) -> Outcome {
    let (wish, wishes) = mpsc::unbounded_channel();
    let finished = CancellationToken::new();
    let work = async {
        let performing = Box::pin(performer.perform(state, wishes, phase));
        // A bug of ours fails the job, and the server is told; the log alone is looked at afterwards.
        let outcome = AssertUnwindSafe(performing).catch_unwind().await;
        finished.cancel();
        outcome.unwrap_or_else(|panic| {
            let outcome = panicked(panic.as_ref());
            log.say(&outcome.line());
            outcome
        })
    };
    let (outcome, ()) = tokio::join!(work, report.send_while_running(&wish, &finished));
    outcome
}

/// Reports the end. What does not get through stays in the spool, which the runner goes on sending from.
async fn conclude(entry: &Entry, report: &mut Report, state: &FinalState) {
    let rounds = entry.config.final_update_retry_limit;
    if !report.conclude(state, rounds).await {
        tracing::error!(
            job = report.job(),
            rounds,
            "the final state of the job could not be reported; it is kept and tried again"
        );
    }
}

/// The outcome of a job whose task panicked.
fn panicked(panic: &(dyn Any + Send)) -> Outcome {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Outcome {
        state: WireState::Failed,
        reason: Some(FailureReason::RunnerSystemFailure),
        exit_code: 0,
        message: format!("panic: {}", text.unwrap_or("unknown")),
    }
}

/// A payload that cannot become a job. Unsupported options are refused without an acknowledgement and
/// with the bare message (2.6 step 2), everything else as a job that failed at once.
async fn rejected(
    entry: &Entry,
    ready: &Ready,
    credentials: JobCredentials,
    server: &JobFeatures,
    rejection: Rejection,
) -> End {
    let prefixes: Vec<_> = Masking::built_in_prefixes(true)
        .map(str::to_owned)
        .chain(server.token_mask_prefixes.iter().cloned())
        .collect();
    let masking = Masking::new(&[], &prefixes).map_err(|error| error.to_string());
    let log = match masking {
        Ok(masking) => open_log(entry, masking, record(entry, &credentials)).await,
        Err(why) => return unlogged(ready, credentials, why).await,
    };
    let mut report = Report::new(
        Arc::clone(&ready.api),
        Arc::clone(&ready.info),
        credentials,
        Arc::clone(&log),
    );
    let unsupported = rejection.exit_code != 0;
    let state = if unsupported {
        log.say(&format!("{}\n", rejection.message));
        FinalState::Failed {
            reason: rejection.reason.clone(),
            exit_code: rejection.exit_code,
        }
    } else {
        if report.acknowledge().await == Acknowledged::Gone {
            log.remove();
            return End::Unstarted("the server gave it up".to_owned());
        }
        log.say(&messages::running_with(RUNNER_VERSION, revision()));
        log.say(&messages::running_on_runner(
            &entry.config.name,
            entry.short_token(),
            &entry.settings.system_id,
        ));
        log.say(&messages::job_failed(&rejection.message));
        FinalState::Failed {
            reason: rejection.reason.for_server(&server.failure_reasons),
            exit_code: 0,
        }
    };
    log.finish();
    conclude(entry, &mut report, &state).await;
    End::Reported(Outcome::from(rejection))
}

/// Without a log there is nothing to show: one update, as upstream does (2.6 step 1).
async fn unlogged(ready: &Ready, credentials: JobCredentials, why: String) -> End {
    let update = courser_protocol::UpdateRequest {
        info: courser_protocol::Info::clone(&ready.info),
        token: credentials.token.clone(),
        state: WireState::Failed,
        failure_reason: Some(FailureReason::RunnerSystemFailure),
        ..courser_protocol::UpdateRequest::default()
    };
    ready.api.update_job(&credentials, &update).await;
    End::Unstarted(why)
}

/// Without room on the disk the job runs all the same, with what memory holds of its log.
async fn open_log(entry: &Entry, masking: Masking, record: JobRecord) -> Arc<JobLog> {
    let (job, timestamps, limit) = (record.job, record.timestamps, record.limit);
    let spool = entry.settings.spool.clone();
    // It may have to wait for another process that looks into the spool.
    let beginning = tokio::task::spawn_blocking(move || spool.begin(record));
    let files = beginning.await.map_err(io::Error::from).flatten();
    let files = files
        .inspect_err(|error| {
            let directory = entry.settings.spool.directory().display();
            tracing::error!(
                job,
                "cannot keep the job's log in {directory}: {error}; only its beginning will be shown"
            );
        })
        .ok();
    Arc::new(JobLog::new(files, limit, masking, timestamps))
}

fn record(entry: &Entry, job: &JobCredentials) -> JobRecord {
    let config = &entry.config;
    JobRecord {
        version: VERSION,
        job: job.id,
        token: job.token.clone(),
        url: config.url.clone(),
        runner: entry.short_token().to_owned(),
        tls_files: [
            config.tls_ca_file.clone(),
            config.tls_cert_file.clone(),
            config.tls_key_file.clone(),
        ],
        // Of a job that is refused nothing else is known.
        timestamps: config.feature_flags.get(TIMESTAMPS) != Some(&false),
        debug_trace: false,
        limit: config.output_limit.saturating_mul(1024),
        boot: entry.settings.spool.boot().to_owned(),
    }
}

/// What is told of an outcome.
pub(crate) fn final_state(outcome: &Outcome, server: &JobFeatures) -> FinalState {
    match &outcome.reason {
        None => FinalState::Success,
        Some(reason) => FinalState::Failed {
            reason: reason.for_server(&server.failure_reasons),
            exit_code: outcome.exit_code,
        },
    }
}

/// What the job is told of runner and executor.
fn context(
    entry: &Entry,
    ready: &Ready,
    received: &ReceivedJob,
    numbers: JobNumbers,
) -> RunnerContext {
    let facts = ready.executor.facts();
    let config = &entry.config;
    RunnerContext {
        name: config.name.clone(),
        short_token: entry.short_token().to_owned(),
        system_id: entry.settings.system_id.clone(),
        version: RUNNER_VERSION.to_owned(),
        revision: revision().to_owned(),
        executable_arch: format!("{}/{}", platform(), architecture()),
        executor: facts.name.to_owned(),
        shell: facts.shell.clone(),
        url: config.url.clone(),
        clone_url: config.clone_url.clone(),
        environment: config.environment.clone(),
        feature_flags: config.feature_flags.clone(),
        pre_get_sources_script: config.pre_get_sources_script.clone(),
        post_get_sources_script: config.post_get_sources_script.clone(),
        pre_build_script: config.pre_build_script.clone(),
        post_build_script: config.post_build_script.clone(),
        directories: facts.directories.clone(),
        custom_build_dir_enabled: config
            .custom_build_dir_enabled
            .unwrap_or(facts.custom_build_dir),
        debug_trace_disabled: config.debug_trace_disabled,
        clean_git_config: config.clean_git_config,
        cleans_git_config: facts.clean_git_config,
        safe_directory: config
            .safe_directory_checkout
            .unwrap_or(facts.safe_directory),
        shared: facts.shared_environment,
        open_files: facts.open_files,
        tools_trust_by_executor: facts.tools_trust_by_executor,
        masks_secrets_only_whole: !config.secrets.mask_parts,
        concurrent_id: numbers.of_runner,
        concurrent_project_id: numbers.of_project,
        correlation_id: received.correlation_id.clone(),
        tls: JobTls {
            tools: received
                .trusted
                .as_ref()
                .filter(|_| {
                    let variables = &received.payload.variables;
                    !(facts.tools_trust_by_executor && tool_trust::is_turned_off(variables))
                })
                .and_then(|trusted| entry.tool_trust.of(trusted)),
            ..received.tls.clone()
        },
        artifact_upload_timeout: config.artifact_upload_timeout,
        artifact_response_header_timeout: config.artifact_response_header_timeout,
        prepare_timeout: config.prepare_timeout,
        get_sources_timeout: config.get_sources_timeout,
        hostname: if facts.shows_via {
            entry.settings.host_name.clone()
        } else {
            String::new()
        },
        helper_command: facts.helper_command.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_reported_as_a_failure_of_the_system() {
        let panic = std::panic::catch_unwind(|| panic!("number {}", 7)).expect_err("it panics");
        let outcome = panicked(panic.as_ref());
        assert!(
            outcome
                .line()
                .contains("Job failed (system failure): panic: number 7")
        );
        let state = final_state(&outcome, &JobFeatures::default());
        let reason = FailureReason::RunnerSystemFailure;
        assert_eq!(
            state,
            FinalState::Failed {
                reason,
                exit_code: 0
            }
        );
    }
}
