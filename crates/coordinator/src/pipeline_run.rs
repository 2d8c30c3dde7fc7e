//! The life of one pipeline as a state machine: `(state, event) -> (state, changes)`.
//!
//! Pure: no clock, no ids, no payloads. The queue feeds it what runners and users do, and carries
//! out what changed. Rules: `gitlab-ci-yaml.md` 14 (needs) and 16 (`when`, `retry`), states as GitLab
//! names them.
//!
//! A `trigger` job (a bridge) has no runner: whoever starts its downstream pipeline feeds its events.

mod plan;
mod state;

use courser_pipeline::{AllowFailure, JobWhen};

pub use plan::{JobPlan, Retry};
pub use state::{JobState, PipelineStatus};

/// Position of a job in its pipeline.
pub type Position = usize;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Success,
    /// Badly.
    Failed {
        /// Wire text of the reason.
        reason: String,
        /// Exit code, where the runner told one.
        exit_code: Option<i64>,
    },
    /// The downstream pipeline of a bridge was cancelled.
    Canceled,
}

/// What can happen to a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It was created.
    Begin,
    /// A runner was handed the job; `soft_cancel`: it can run `after_script` after a cancel.
    Reserve {
        /// The job.
        job: Position,
        /// The runner's feature `cancel_gracefully`.
        soft_cancel: bool,
    },
    /// The runner acknowledged the job; or a bridge waits for the pipeline that it started.
    Start(Position),
    /// The runner did not acknowledge it in time.
    Requeue(Position),
    /// The runner reported the end, or a bridge's part is done.
    Finish(Position, Outcome),
    /// A waiting job cannot run at all.
    Drop(Position),
    /// A bridge's downstream pipeline begins or ceases to wait for a person.
    Hold {
        /// The bridge.
        job: Position,
        /// Whether it waits.
        held: bool,
    },
    /// A person starts a manual or delayed job.
    Play(Position),
    /// Time has passed.
    Clock,
    /// Stop, with `after_script`.
    Cancel,
    /// Stop the jobs with `interruptible: true`: a newer pipeline has come.
    CancelInterruptible,
    /// Stop at once.
    Abort,
}

/// One job and its state.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRun {
    /// The plan.
    pub plan: JobPlan,
    /// Where it is.
    pub state: JobState,
    /// From 0; a retry counts up.
    pub attempt: u32,
    soft_cancel: bool,
}

/// A job that went from one state to another. After a retry `retried` is set: the old attempt failed
/// and the job is pending again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The job.
    pub job: Position,
    /// Before.
    pub from: JobState,
    /// After.
    pub to: JobState,
    /// Whether this is a new attempt.
    pub retried: bool,
}

/// What the jobs before one amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Success,
    Failed,
    Canceled,
    Skipped,
}

/// A pipeline.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PipelineRun {
    jobs: Vec<JobRun>,
    cancel_on_failure: bool,
}

impl PipelineRun {
    /// A pipeline of which nothing has begun.
    pub fn new(plans: Vec<JobPlan>) -> Self {
        Self::restore(
            plans
                .into_iter()
                .map(|plan| (plan, JobState::Created, 0, false)),
        )
    }

    /// A pipeline as it was stored: plan, state, attempt and whether its runner cancels softly.
    pub fn restore(jobs: impl IntoIterator<Item = (JobPlan, JobState, u32, bool)>) -> Self {
        let jobs = jobs
            .into_iter()
            .map(|(plan, state, attempt, soft_cancel)| JobRun {
                plan,
                state,
                attempt,
                soft_cancel,
            })
            .collect();
        Self {
            jobs,
            cancel_on_failure: false,
        }
    }

    /// With `workflow:auto_cancel:on_job_failure`: `true` for `all`, the first failure cancels the rest.
    pub fn cancelling_on_failure(mut self, all: bool) -> Self {
        self.cancel_on_failure = all;
        self
    }

    /// The jobs in pipeline order.
    pub fn jobs(&self) -> &[JobRun] {
        &self.jobs
    }

    /// Whether the job's runner cancels softly.
    pub fn soft_cancel(&self, job: Position) -> bool {
        self.jobs[job].soft_cancel
    }

    /// Takes the event in at `now` (Unix seconds) and tells what changed. An event that does not fit
    /// the state changes nothing: runners repeat themselves and race with cancels.
    pub fn on(&mut self, event: Event, now: i64) -> Vec<Change> {
        let mut changes = Vec::new();
        match event {
            Event::Begin => {}
            Event::Reserve { job, soft_cancel } => {
                if self.state(job) == Some(JobState::Pending) {
                    self.jobs[job].soft_cancel = soft_cancel;
                    self.set(job, JobState::Reserved, &mut changes);
                }
            }
            Event::Start(job) => {
                let from = if self.is_bridge(job) {
                    JobState::Pending
                } else {
                    JobState::Reserved
                };
                if self.state(job) == Some(from) {
                    self.set(job, JobState::Running, &mut changes);
                }
            }
            Event::Requeue(job) => {
                if self.state(job) == Some(JobState::Reserved) {
                    self.set(job, JobState::Pending, &mut changes);
                }
            }
            Event::Finish(job, outcome) => self.finish(job, &outcome, &mut changes),
            Event::Drop(job) => {
                if self.state(job) == Some(JobState::Pending) {
                    self.fail(job, None, &mut changes);
                }
            }
            Event::Hold { job, held } => {
                let (from, to) = if held {
                    (JobState::Running, JobState::Held)
                } else {
                    (JobState::Held, JobState::Running)
                };
                if self.is_bridge(job) && self.state(job) == Some(from) {
                    self.set(job, to, &mut changes);
                }
            }
            Event::Play(job) => {
                if matches!(
                    self.state(job),
                    Some(JobState::Manual | JobState::Scheduled { .. })
                ) {
                    self.set(job, JobState::Pending, &mut changes);
                    self.revive_after(job, &mut changes);
                }
            }
            Event::Clock => {
                for job in 0..self.jobs.len() {
                    if matches!(self.jobs[job].state, JobState::Scheduled { at } if at <= now) {
                        self.set(job, JobState::Pending, &mut changes);
                    }
                }
            }
            Event::Cancel => self.stop(true, |_| true, &mut changes),
            Event::CancelInterruptible => {
                self.stop(true, |job| job.plan.interruptible, &mut changes);
            }
            Event::Abort => self.stop(false, |_| true, &mut changes),
        }
        self.settle(now, &mut changes);
        changes
    }

    /// Takes changes back that could not be stored, newest first.
    pub fn undo(&mut self, changes: &[Change]) {
        for change in changes.iter().rev() {
            let job = &mut self.jobs[change.job];
            job.state = change.from;
            if change.retried {
                job.attempt -= 1;
            }
        }
    }

    /// The pipeline as a whole.
    pub fn status(&self) -> PipelineStatus {
        let any = |wanted: fn(&JobRun) -> bool| self.jobs.iter().any(wanted);
        if any(|job| {
            job.state.is_at_runner()
                || matches!(job.state, JobState::Pending | JobState::Scheduled { .. })
        }) {
            return PipelineStatus::Running;
        }
        if any(|job| {
            job.state == JobState::Held
                || (job.state == JobState::Manual && !job.forgives_absence())
        }) {
            return PipelineStatus::Manual;
        }
        if any(|job| job.state == JobState::Failed { allowed: false }) {
            return PipelineStatus::Failed;
        }
        if any(|job| job.state == JobState::Canceled) {
            return PipelineStatus::Canceled;
        }
        if any(|job| matches!(job.state, JobState::Success | JobState::Failed { .. })) {
            return PipelineStatus::Success;
        }
        PipelineStatus::Skipped
    }

    /// When the next delayed job is due.
    pub fn next_wakeup(&self) -> Option<i64> {
        self.jobs
            .iter()
            .filter_map(|job| match job.state {
                JobState::Scheduled { at } => Some(at),
                _ => None,
            })
            .min()
    }

    /// Whether a job has begun that must not be interrupted: then a newer pipeline leaves this one alone
    /// (`workflow:auto_cancel:on_new_commit: conservative`).
    pub fn has_begun_for_good(&self) -> bool {
        self.jobs.iter().any(|job| {
            let begun = job.state.is_at_runner()
                || matches!(job.state, JobState::Success | JobState::Failed { .. });
            begun && !job.plan.interruptible
        })
    }

    fn is_bridge(&self, job: Position) -> bool {
        self.jobs.get(job).is_some_and(|job| job.plan.bridge)
    }

    fn state(&self, job: Position) -> Option<JobState> {
        self.jobs.get(job).map(|job| job.state)
    }

    fn set(&mut self, job: Position, to: JobState, changes: &mut Vec<Change>) {
        let from = std::mem::replace(&mut self.jobs[job].state, to);
        changes.push(Change {
            job,
            from,
            to,
            retried: false,
        });
    }

    fn finish(&mut self, job: Position, outcome: &Outcome, changes: &mut Vec<Change>) {
        let Some(state) = self.state(job) else { return };
        if state == JobState::Canceling {
            return self.set(job, JobState::Canceled, changes);
        }
        let waits_for_downstream =
            self.is_bridge(job) && matches!(state, JobState::Pending | JobState::Held);
        if !state.is_at_runner() && !waits_for_downstream {
            return;
        }
        match outcome {
            Outcome::Success => self.set(job, JobState::Success, changes),
            Outcome::Canceled => self.set(job, JobState::Canceled, changes),
            Outcome::Failed { reason, exit_code } => {
                let run = &mut self.jobs[job];
                if run.attempt < run.plan.retry.max && run.plan.retry.covers(reason, *exit_code) {
                    run.attempt += 1;
                    run.state = JobState::Pending;
                    changes.push(Change {
                        job,
                        from: state,
                        to: JobState::Pending,
                        retried: true,
                    });
                    return;
                }
                self.fail(job, *exit_code, changes);
            }
        }
    }

    /// The end of the last attempt.
    fn fail(&mut self, job: Position, exit_code: Option<i64>, changes: &mut Vec<Change>) {
        let allowed = match &self.jobs[job].plan.allow_failure {
            AllowFailure::Always(allowed) => *allowed,
            AllowFailure::ExitCodes { exit_codes } => {
                exit_code.is_some_and(|code| exit_codes.contains(&code))
            }
        };
        self.set(job, JobState::Failed { allowed }, changes);
        if self.cancel_on_failure && !allowed {
            self.stop(true, |_| true, changes);
        }
    }

    /// A job that a person starts gives those after it another chance that were skipped without it.
    fn revive_after(&mut self, started: Position, changes: &mut Vec<Change>) {
        let mut begun = vec![started];
        while let Some(first) = begun.pop() {
            let stage = self.jobs[first].plan.stage;
            for job in 0..self.jobs.len() {
                let run = &self.jobs[job];
                let follows = match &run.plan.needs {
                    Some(needs) => needs.contains(&first),
                    None => run.plan.stage > stage,
                };
                if follows && run.state == JobState::Skipped {
                    self.set(job, JobState::Created, changes);
                    begun.push(job);
                }
            }
        }
    }

    fn stop(&mut self, soft: bool, meant: impl Fn(&JobRun) -> bool, changes: &mut Vec<Change>) {
        for job in 0..self.jobs.len() {
            let run = &self.jobs[job];
            if !meant(run) {
                continue;
            }
            let to = match run.state {
                state if state.is_over() => continue,
                JobState::Running if soft && run.soft_cancel => JobState::Canceling,
                JobState::Canceling if soft => continue,
                _ => JobState::Canceled,
            };
            self.set(job, to, changes);
        }
    }

    /// Moves every job on whose predecessors have ended, until nothing moves.
    fn settle(&mut self, now: i64, changes: &mut Vec<Change>) {
        let mut moved = true;
        while std::mem::take(&mut moved) {
            for job in 0..self.jobs.len() {
                if self.jobs[job].state == JobState::Created
                    && let Some(verdict) = self.verdict_before(job)
                {
                    let to = self.jobs[job].plan.entered_after(verdict, now);
                    self.set(job, to, changes);
                    moved = true;
                }
            }
        }
    }

    /// What the predecessors of `job` amount to, once they have ended.
    fn verdict_before(&self, job: Position) -> Option<Verdict> {
        let plan = &self.jobs[job].plan;
        if let Some(needs) = &plan.needs {
            let needed = || needs.iter().filter_map(|need| self.jobs.get(*need));
            // A need that does not run at all takes its dependants with it.
            if needed().any(|job| job.state == JobState::Skipped || job.is_left_out()) {
                return Some(Verdict::Skipped);
            }
            verdict(needed())
        } else {
            verdict(
                self.jobs
                    .iter()
                    .filter(|other| other.plan.stage < plan.stage),
            )
        }
    }
}

impl JobRun {
    /// A manual job that nobody has to start.
    fn is_left_out(&self) -> bool {
        self.state == JobState::Manual && self.forgives_absence()
    }

    fn forgives_absence(&self) -> bool {
        self.plan.allow_failure == AllowFailure::Always(true)
    }
}

impl JobPlan {
    /// The state a job enters when what came before amounts to `verdict`.
    fn entered_after(&self, verdict: Verdict, now: i64) -> JobState {
        let by_need = self.needs.is_some();
        let fine = verdict == Verdict::Success || (verdict == Verdict::Skipped && !by_need);
        match self.when {
            JobWhen::OnSuccess if fine => JobState::Pending,
            JobWhen::OnFailure if verdict == Verdict::Failed => JobState::Pending,
            JobWhen::Always if verdict != Verdict::Canceled => JobState::Pending,
            JobWhen::Manual | JobWhen::Delayed if fine && self.played => JobState::Pending,
            JobWhen::Manual if fine => JobState::Manual,
            JobWhen::Delayed if fine => JobState::Scheduled {
                at: now.saturating_add_unsigned(self.start_in),
            },
            _ => JobState::Skipped,
        }
    }
}

fn verdict<'a>(jobs: impl Iterator<Item = &'a JobRun>) -> Option<Verdict> {
    let (mut failed, mut canceled, mut ran, mut skipped) = (false, false, false, false);
    for job in jobs {
        match job.state {
            JobState::Success | JobState::Failed { allowed: true } => ran = true,
            JobState::Failed { allowed: false } => failed = true,
            JobState::Canceled if job.forgives_absence() => ran = true,
            JobState::Canceled => canceled = true,
            JobState::Skipped => skipped = true,
            JobState::Manual if job.forgives_absence() => skipped = true,
            _ => return None,
        }
    }
    Some(if failed {
        Verdict::Failed
    } else if canceled {
        Verdict::Canceled
    } else if skipped && !ran {
        Verdict::Skipped
    } else {
        Verdict::Success
    })
}

#[cfg(test)]
mod tests;
