//! What an event changes in a pipeline: stored first, then told.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::events::{CoordinatorEvent, JobEnd};
use crate::pipeline_run::{Change, Event, JobState, Position};
use crate::store::{JobRecord, RunFacts, StoreError};
use crate::token;

use super::{Place, Queue};

impl Queue {
    /// Feeds a pipeline and carries out what changed: store first, then tell.
    pub(crate) fn apply(&mut self, pipeline: i64, event: Event) -> Result<(), StoreError> {
        self.bring_back(pipeline)?;
        let now = self.now();
        let Some(live) = self.pipelines.get_mut(&pipeline) else {
            return Ok(());
        };
        let changes = live.run.on(event, now.as_second());
        if !changes.is_empty()
            && let Err(error) = self.carry_out(pipeline, &changes, now)
        {
            // Nothing of it was stored, so nothing of it has happened.
            if let Some(live) = self.pipelines.get_mut(&pipeline) {
                live.run.undo(&changes);
            }
            return Err(error);
        }
        for change in &changes {
            self.follow_up(pipeline, change);
        }
        self.tell_when_settled(pipeline)
    }

    /// What a stored change has others do.
    fn follow_up(&self, pipeline: i64, change: &Change) {
        let Some(job) = (self.pipelines.get(&pipeline)).map(|live| &live.jobs[change.job]) else {
            return;
        };
        if change.to == JobState::Pending && job.plan.bridge {
            self.call_bridge(pipeline, change.job);
        }
        let holds = |state: JobState| state.is_at_runner() || state == JobState::Held;
        if holds(change.from) && !holds(change.to) {
            self.release_resource(pipeline, change.job);
        }
    }

    pub(super) fn tell(&self, event: CoordinatorEvent) {
        // Nobody listening is fine.
        drop(self.events.send(event));
    }

    pub(super) fn carry_out(
        &mut self,
        pipeline: i64,
        changes: &[Change],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(live) = self.pipelines.get_mut(&pipeline) else {
            return Ok(());
        };
        let at = now.as_millisecond();
        // Copies, which take the records' places once they are stored.
        let mut changed: BTreeMap<Position, JobRecord> = BTreeMap::new();
        let mut left_behind = Vec::new();
        let mut news = Vec::with_capacity(changes.len());
        let mut wakes = false;
        let mut next_job = self.next.job;
        for change in changes {
            let record = changed
                .entry(change.job)
                .or_insert_with(|| live.jobs[change.job].clone());
            record.soft_cancel = live.run.soft_cancel(change.job);
            if change.retried {
                record.state = JobState::Failed { allowed: true };
                record.run.finished_at = at;
                news.push(finished(pipeline, record, true));
                left_behind.push(record.clone());
                record.id = next_job;
                next_job += 1;
                record.attempt += 1;
                record.token = token::random("glcbt-");
                record.run = RunFacts::default();
            }
            record.state = change.to;
            match change.to {
                JobState::Pending => {
                    if change.from == JobState::Reserved {
                        // Whoever was handed it comes too late.
                        record.token = token::random("glcbt-");
                    }
                    record.run.queued_at = at;
                    wakes = true;
                }
                JobState::Scheduled { at } => news.push(CoordinatorEvent::JobDelayed {
                    pipeline,
                    job: record.id,
                    position: change.job,
                    at,
                }),
                JobState::Reserved => record.run.reserved_at = at,
                JobState::Running if change.from == JobState::Held => {}
                JobState::Running if record.plan.bridge => record.run.started_at = at,
                JobState::Running => {
                    record.run.started_at = at;
                    record.run.touched_at = at;
                    news.push(CoordinatorEvent::JobStarted {
                        pipeline,
                        job: record.id,
                        position: change.job,
                        attempt: record.attempt,
                        log: self.files.trace(record.id),
                    });
                }
                state if state.is_over() => {
                    record.run.finished_at = at;
                    news.push(finished(pipeline, record, false));
                }
                _ => {}
            }
        }
        let records = left_behind.iter().chain(changed.values());
        self.store.write_jobs(pipeline, records)?;
        self.next.job = next_job;
        for (position, record) in changed {
            self.places.insert(record.id, Place::of(pipeline, &record));
            live.jobs[position] = record;
        }
        for event in news {
            self.tell(event);
        }
        if wakes {
            self.version.send_modify(|version| *version += 1);
        }
        Ok(())
    }

    pub(super) fn tell_when_settled(&mut self, pipeline: i64) -> Result<(), StoreError> {
        let Some(live) = self.pipelines.get_mut(&pipeline) else {
            return Ok(());
        };
        let status = live.run.status();
        let was = std::mem::replace(&mut live.finished, status.is_settled());
        let ends = status.is_settled() && !was;
        if ends {
            self.tell(CoordinatorEvent::PipelineFinished { pipeline, status });
        }
        if status.is_settled() != was {
            self.tell_upstream(pipeline)?;
        }
        if ends {
            self.settled.push_back(pipeline);
            self.let_go();
        }
        Ok(())
    }
}

fn finished(pipeline: i64, job: &JobRecord, retried: bool) -> CoordinatorEvent {
    CoordinatorEvent::JobFinished {
        pipeline,
        job: job.id,
        position: job.position,
        end: job_end(job, retried),
    }
}

pub(super) fn job_end(job: &JobRecord, retried: bool) -> JobEnd {
    let (from, to) = (job.run.started_at, job.run.finished_at);
    JobEnd {
        state: job.state,
        milliseconds: if from > 0 && to > from {
            to.abs_diff(from)
        } else {
            0
        },
        failure_reason: job.run.failure_reason.clone(),
        exit_code: job.run.exit_code,
        retried,
        ran: from > 0 && !job.plan.bridge,
        message: job.run.message.clone(),
    }
}
