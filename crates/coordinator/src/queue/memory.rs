//! Which pipelines are in memory: all that are not settled, and the newest of the others.

use crate::pipeline_run::{JobState, PipelineRun};
use crate::store::{PipelineRecord, StoreError};

use super::{LivePipeline, Place, Queue, SETTLED_IN_MEMORY};

impl Queue {
    /// Takes a stored pipeline into memory, with what its jobs uploaded.
    pub(super) fn adopt(&mut self, pipeline: PipelineRecord) -> Result<(), StoreError> {
        for job in &pipeline.jobs {
            let artifacts = self.store.artifacts(job.id)?;
            if !artifacts.is_empty() {
                self.artifacts.insert(job.id, artifacts);
            }
            if let Some(variables) = self.store.dotenv(job.id)? {
                self.dotenvs.insert(job.id, variables);
            }
        }
        self.take_in(pipeline);
        Ok(())
    }

    pub(super) fn take_in(&mut self, pipeline: PipelineRecord) {
        let PipelineRecord { id, context, jobs } = pipeline;
        for job in &jobs {
            self.places.insert(job.id, Place::of(id, job));
        }
        let run = PipelineRun::restore(
            jobs.iter()
                .map(|job| (job.plan.clone(), job.state, job.attempt, job.soft_cancel)),
        )
        .cancelling_on_failure(context.auto_cancel.on_job_failure);
        let live = LivePipeline {
            finished: run.status().is_settled(),
            context,
            run,
            jobs,
        };
        self.pipelines.insert(id, live);
    }

    /// Takes settled pipelines out of memory, all but the newest; the store has them.
    pub(super) fn let_go(&mut self) {
        loop {
            let mut free = (self.settled.iter().enumerate())
                .filter(|(_, id)| !self.holds_a_bridge(**id))
                .map(|(index, _)| index);
            let Some(oldest) = free.next() else { return };
            if free.count() < SETTLED_IN_MEMORY {
                return;
            }
            let Some(id) = self.settled.remove(oldest) else {
                return;
            };
            // One that was started again is in the list once more when it ends.
            if self.settled.contains(&id) || !self.pipelines.get(&id).is_some_and(|p| p.finished) {
                continue;
            }
            self.pipelines.remove(&id);
            let (artifacts, dotenvs) = (&mut self.artifacts, &mut self.dotenvs);
            self.places.retain(|job, place| {
                let stays = place.pipeline != id;
                if !stays {
                    artifacts.remove(job);
                    dotenvs.remove(job);
                }
                stays
            });
        }
    }

    /// Whether one of its bridges waits for a person elsewhere: it keeps its resource group.
    fn holds_a_bridge(&self, pipeline: i64) -> bool {
        let live = self.pipelines.get(&pipeline);
        let mut jobs = live.iter().flat_map(|live| &live.jobs);
        jobs.any(|job| job.state == JobState::Held)
    }

    /// Loads a settled pipeline that was let go: for a person who looks at it or starts a manual job.
    pub(super) fn bring_back(&mut self, pipeline: i64) -> Result<(), StoreError> {
        if self.pipelines.contains_key(&pipeline) {
            return Ok(());
        }
        let Some(record) = self.store.pipeline(pipeline)? else {
            return Ok(());
        };
        self.adopt(record)?;
        self.settled.push_back(pipeline);
        self.let_go();
        Ok(())
    }
}
