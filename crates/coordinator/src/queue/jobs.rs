//! Jobs that a runner has: who may touch them, what their updates do, what they uploaded.

use courser_protocol::{FailureReason, Secret};

use super::Queue;
use crate::dotenv;
use crate::payload::known_failure_reasons;
use crate::pipeline_run::{Event, JobState, Outcome, Position};
use crate::results::JobResults;
use crate::settings::JobArtifact;
use crate::store::{ArtifactRecord, JobRecord, RunFacts, StoreError, private_dir, write_private};
use crate::token;
use crate::variables::public;

/// A job as its runner may see it.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) pipeline: i64,
    pub(crate) position: Position,
    pub(crate) state: JobState,
    pub(crate) run: RunFacts,
    pub(crate) attempt: u32,
    /// The attempt's own: a job that is handed out once more has another.
    token: Secret,
}

impl Access {
    fn is_for(&self, job: &JobRecord) -> bool {
        job.attempt == self.attempt && token::equal(job.token.expose(), self.token.expose())
    }
}

/// Why a job's caller is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessError {
    /// Unknown job or wrong token: the same answer for both.
    Forbidden,
    /// The job is not at a runner (any more).
    NotRunning(JobState),
}

/// The final update of a job.
#[derive(Debug, Clone)]
pub(crate) struct FinalReport {
    pub(crate) success: bool,
    pub(crate) failure_reason: Option<FailureReason>,
    pub(crate) exit_code: i32,
    /// As the log told.
    pub(crate) coverage: Option<f64>,
}

/// What a `PUT` is answered with, beside `Job-Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpdateAnswer {
    /// 200.
    Done,
    /// 400: does not fit the job's state.
    Unfit,
    /// 409: already assigned.
    Assigned,
}

impl Queue {
    /// The job behind an id, if the token is its own. Ended jobs too: artifacts are fetched with them.
    pub(crate) fn access(&self, job: i64, given: &str) -> Result<Access, AccessError> {
        let place = self.places.get(&job).ok_or(AccessError::Forbidden)?;
        if !token::equal(given, place.token.expose()) {
            return Err(AccessError::Forbidden);
        }
        let live = self
            .pipelines
            .get(&place.pipeline)
            .ok_or(AccessError::Forbidden)?;
        let record = &live.jobs[place.position];
        let state = self.state_of(job).ok_or(AccessError::Forbidden)?;
        Ok(Access {
            pipeline: place.pipeline,
            position: place.position,
            state,
            run: record.run.clone(),
            attempt: place.attempt,
            token: place.token.clone(),
        })
    }

    /// Like [`Queue::access`], for jobs at a runner only.
    pub(crate) fn access_running(&self, job: i64, given: &str) -> Result<Access, AccessError> {
        let access = self.access(job, given)?;
        if access.state.is_at_runner() {
            Ok(access)
        } else {
            Err(AccessError::NotRunning(access.state))
        }
    }

    /// Where the newest attempt with this id is.
    pub(crate) fn state_of(&self, job: i64) -> Option<JobState> {
        let place = self.places.get(&job)?;
        let record = &self.pipelines.get(&place.pipeline)?.jobs[place.position];
        // A retried attempt has failed.
        Some(if record.attempt == place.attempt {
            record.state
        } else {
            JobState::Failed { allowed: true }
        })
    }

    /// Pipeline and position of a job, whether in memory or not.
    pub(crate) fn find_job(&self, job: i64) -> Result<Option<(i64, Position)>, StoreError> {
        match self.places.get(&job) {
            Some(place) => Ok(Some((place.pipeline, place.position))),
            None => self.store.place_of(job),
        }
    }

    /// Project of a running job's token, for Git.
    pub(crate) fn project_of_token(&self, given: &str) -> Option<i64> {
        let digest = token::digest(given);
        let live = self.pipelines.values().filter(|live| !live.finished);
        live.flat_map(|live| live.jobs.iter().map(move |job| (live, job)))
            .filter(|(_, job)| job.state.is_at_runner())
            .find(|(_, job)| token::digest(job.token.expose()) == digest)
            .map(|(live, _)| live.context.project_id)
    }

    /// `state=pending`: keeps a reservation.
    pub(crate) fn keep_reserved(&mut self, access: &Access) -> Result<UpdateAnswer, StoreError> {
        if access.state != JobState::Reserved {
            return Ok(UpdateAnswer::Assigned);
        }
        let now = self.now().as_millisecond();
        self.change_run(access, |run| run.reserved_at = now)?;
        Ok(UpdateAnswer::Done)
    }

    /// `state=running`: the acknowledgement, later the keep-alive.
    pub(crate) fn running(&mut self, access: &Access) -> Result<UpdateAnswer, StoreError> {
        match self.state_now(access) {
            Some(JobState::Reserved) => {
                self.apply(access.pipeline, Event::Start(access.position))?;
            }
            _ => self.touch(access),
        }
        Ok(UpdateAnswer::Done)
    }

    /// `state=success` or `failed`.
    pub(crate) fn finish(
        &mut self,
        access: &Access,
        report: FinalReport,
    ) -> Result<UpdateAnswer, StoreError> {
        // The log was looked at since the access was given, and another request may have ended the job meanwhile.
        let state = match self.state_now(access) {
            Some(JobState::Reserved) => return Ok(UpdateAnswer::Unfit),
            Some(state) if state.is_at_runner() => state,
            _ => return Ok(UpdateAnswer::Done),
        };
        let exit_code = (report.exit_code != 0).then_some(i64::from(report.exit_code));
        let results = self.results(access, state, &report)?;
        let outcome = if report.success {
            Outcome::Success
        } else {
            let reason = match report.failure_reason {
                Some(reason) if known_failure_reasons().contains(&reason) => reason,
                _ => FailureReason::UnknownFailure,
            };
            Outcome::Failed {
                reason: reason.as_str().to_owned(),
                exit_code,
            }
        };
        let deployment = results.deployment.clone();
        if let Some(run) = self.run_of(access) {
            run.results = results;
            if let Outcome::Failed { reason, .. } = &outcome {
                run.failure_reason = Some(reason.clone());
                run.exit_code = exit_code;
            }
        }
        self.apply(access.pipeline, Event::Finish(access.position, outcome))?;
        let live = self.pipelines.get(&access.pipeline);
        if let Some((live, deployment)) = live.zip(deployment) {
            let project = live.context.project_id;
            self.stops.note(project, access.pipeline, &deployment);
        }
        Ok(UpdateAnswer::Done)
    }

    /// `coverage` of a job.
    pub(crate) fn coverage_pattern(&self, access: &Access) -> Option<String> {
        let live = self.pipelines.get(&access.pipeline)?;
        let job = live.jobs.get(access.position)?;
        job.template.declared.coverage.clone()
    }

    /// What a job leaves behind. A release is written before the job's end is stored: at worst it is
    /// there and the job reports once more.
    fn results(
        &self,
        access: &Access,
        state: JobState,
        report: &FinalReport,
    ) -> Result<JobResults, StoreError> {
        let mut results = JobResults {
            coverage: report.coverage,
            ..JobResults::default()
        };
        let live = self.pipelines.get(&access.pipeline);
        let Some(job) = live.map(|live| &live.jobs[access.position]) else {
            return Ok(results);
        };
        if !report.success || state != JobState::Running {
            return Ok(results);
        }
        let declared = &job.template.declared;
        results.pages = declared.pages.clone();
        if declared.environment.is_none() && declared.release.is_none() {
            return Ok(results);
        }
        let mut known = self.known_variables(access.pipeline, access.position);
        let own = self.dotenvs.get(&job.id).map_or(&[][..], Vec::as_slice);
        known.extend(own.iter().map(|(key, value)| public(key, value)));
        results.deployment = declared.deployment(&known, self.now().as_second());
        if let Some(release) = declared.release(&known) {
            let path = self.files.release(job.id);
            write_private(&path, release.to_string().as_bytes())?;
            results.release = Some(path);
        }
        Ok(results)
    }

    /// The log is larger than allowed: the job is dropped.
    pub(crate) fn drop_for_large_log(&mut self, access: &Access) -> Result<(), StoreError> {
        if !self.state_now(access).is_some_and(JobState::is_at_runner) {
            return Ok(());
        }
        let reason = "trace_size_exceeded".to_owned();
        if let Some(run) = self.run_of(access) {
            run.failure_reason = Some(reason.clone());
        }
        let outcome = Outcome::Failed {
            reason,
            exit_code: None,
        };
        self.apply(access.pipeline, Event::Finish(access.position, outcome))
    }

    /// The runner has gone.
    pub(super) fn lose(&mut self, pipeline: i64, position: Position) -> Result<(), StoreError> {
        let reason = "stuck_or_timeout_failure".to_owned();
        let live = self.pipelines.get_mut(&pipeline);
        if let Some(job) = live.and_then(|live| live.jobs.get_mut(position)) {
            job.run.failure_reason = Some(reason.clone());
        }
        let outcome = Outcome::Failed {
            reason,
            exit_code: None,
        };
        self.apply(pipeline, Event::Finish(position, outcome))
    }

    /// Remembers that the log was asked for once more.
    pub(crate) fn trace_was_reset(&mut self, access: &Access) -> Result<(), StoreError> {
        self.change_run(access, |run| run.trace_reset = true)
    }

    /// Remembers that the log may show secrets.
    pub(crate) fn restrict_trace(&mut self, access: &Access) -> Result<(), StoreError> {
        self.change_run(access, |run| run.debug_trace = true)
    }

    /// A sign of life. Kept in memory: after a restart the clock begins anew.
    pub(crate) fn touch(&mut self, access: &Access) {
        let now = self.now().as_millisecond();
        if let Some(run) = self.run_of(access) {
            run.touched_at = now;
        }
    }

    /// Records an upload.
    pub(crate) fn add_artifact(&mut self, artifact: ArtifactRecord) -> Result<(), StoreError> {
        self.store.insert_artifact(&artifact)?;
        self.artifacts
            .entry(artifact.job_id)
            .or_default()
            .push(artifact);
        Ok(())
    }

    /// Files that another pipeline's job uploaded become this job's.
    pub(super) fn take_over(
        &mut self,
        job: i64,
        artifacts: Vec<JobArtifact>,
    ) -> Result<(), StoreError> {
        let directory = self.files.artifact(&job.to_string());
        private_dir(&directory)?;
        for (index, artifact) in artifacts.into_iter().enumerate() {
            let stored_as = format!("{job}/{index}-{}", artifact.file_name);
            let size = self.files.adopt(&artifact.path, &stored_as)?;
            if artifact.kind == "dotenv" {
                // It was readable when it was uploaded.
                let variables = dotenv::read(&artifact.path, artifact.format == "gzip");
                self.add_dotenv(job, variables.unwrap_or_default())?;
            }
            self.add_artifact(ArtifactRecord {
                job_id: job,
                kind: artifact.kind,
                format: artifact.format,
                file_name: artifact.file_name,
                stored_as,
                size,
                expire_in: String::new(),
            })?;
        }
        Ok(())
    }

    /// Records a dotenv report.
    pub(crate) fn add_dotenv(
        &mut self,
        job: i64,
        variables: Vec<(String, String)>,
    ) -> Result<(), StoreError> {
        self.store.write_dotenv(job, &variables)?;
        self.dotenvs.insert(job, variables);
        Ok(())
    }

    /// The newest archive of a job.
    pub(crate) fn archive_of(&self, job: i64) -> Option<&ArtifactRecord> {
        let uploads = self.artifacts.get(&job)?;
        uploads
            .iter()
            .rev()
            .find(|artifact| artifact.kind == "archive")
    }

    /// Where the attempt that was accessed is by now; `None`: another one has taken its place.
    fn state_now(&self, access: &Access) -> Option<JobState> {
        let live = self.pipelines.get(&access.pipeline)?;
        let job = live.jobs.get(access.position)?;
        access.is_for(job).then_some(job.state)
    }

    fn record_of(&mut self, access: &Access) -> Option<&mut JobRecord> {
        let live = self.pipelines.get_mut(&access.pipeline)?;
        live.jobs
            .get_mut(access.position)
            .filter(|job| access.is_for(job))
    }

    fn run_of(&mut self, access: &Access) -> Option<&mut RunFacts> {
        self.record_of(access).map(|job| &mut job.run)
    }

    fn change_run(
        &mut self,
        access: &Access,
        change: impl FnOnce(&mut RunFacts),
    ) -> Result<(), StoreError> {
        let Some(record) = self.record_of(access) else {
            return Ok(());
        };
        change(&mut record.run);
        let record = record.clone();
        self.store
            .write_jobs(access.pipeline, std::iter::once(&record))
    }
}
