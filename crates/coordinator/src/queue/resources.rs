//! `resource_group`, and older pipelines that a newer one cancels.
//!
//! Of a project's jobs with one resource group one runs at a time (`process_mode: unordered`); the others
//! stay pending.

use super::Queue;
use crate::payload::variables as all_variables;
use crate::pipeline_run::{Event, JobState, Position};
use crate::store::{JobRecord, OnNewCommit, PipelineRecord, StoreError};
use crate::variables;

impl Queue {
    /// Expands the names of the jobs' groups.
    pub(super) fn name_resource_groups(&self, pipeline: &mut PipelineRecord) {
        let named: Vec<_> = pipeline
            .jobs
            .iter()
            .map(|job| {
                let group = job.template.resource_group.as_ref()?;
                if !group.contains(['$', '%']) {
                    return Some(group.clone());
                }
                let known = self.hand_out(pipeline.id, &pipeline.context, job, None, &[])?;
                Some(variables::expand(group, &all_variables(&known)))
            })
            .collect();
        for (job, group) in pipeline.jobs.iter_mut().zip(named) {
            job.template.resource_group = group;
        }
    }

    /// Whether another job of the project holds the group of this one.
    pub(super) fn waits_for_resource(&self, pipeline: i64, job: &JobRecord) -> bool {
        let Some(group) = &job.template.resource_group else {
            return false;
        };
        let project = |id: i64| Some(self.pipelines.get(&id)?.context.project_id);
        let own = project(pipeline);
        self.pipelines.iter().any(|(id, live)| {
            Some(live.context.project_id) == own
                && live.jobs.iter().any(|other| {
                    let holds = other.state.is_at_runner() || other.state == JobState::Held;
                    holds
                        && other.template.resource_group.as_ref() == Some(group)
                        && (*id, other.position) != (pipeline, job.position)
                })
        })
    }

    /// A job has left its runner: others of its group may begin.
    pub(super) fn release_resource(&self, pipeline: i64, position: Position) {
        let live = self.pipelines.get(&pipeline);
        let Some(group) =
            live.and_then(|live| live.jobs[position].template.resource_group.as_ref())
        else {
            return;
        };
        self.version.send_modify(|version| *version += 1);
        for (id, live) in &self.pipelines {
            for job in &live.jobs {
                let waits = job.state == JobState::Pending && job.plan.bridge;
                if waits && job.template.resource_group.as_ref() == Some(group) {
                    self.call_bridge(*id, job.position);
                }
            }
        }
    }

    /// Cancels older pipelines of the same ref for another commit, as far as they allow it
    /// (`workflow:auto_cancel:on_new_commit`).
    pub(super) fn supersede(&mut self, newer: i64) -> Result<(), StoreError> {
        let Some(new) = self.pipelines.get(&newer).map(|live| &live.context) else {
            return Ok(());
        };
        if new.tag {
            return Ok(());
        }
        let older = self.pipelines.iter().filter(|(id, live)| {
            let context = &live.context;
            **id < newer
                && !live.finished
                && context.upstream.is_none()
                && context.project_id == new.project_id
                && !context.tag
                && context.ref_name == new.ref_name
                && context.sha != new.sha
        });
        let stopped: Vec<_> = older
            .filter_map(|(id, live)| match live.context.auto_cancel.on_new_commit {
                OnNewCommit::None => None,
                OnNewCommit::Interruptible => Some((*id, Event::CancelInterruptible)),
                OnNewCommit::Conservative => {
                    (!live.run.has_begun_for_good()).then_some((*id, Event::Cancel))
                }
            })
            .collect();
        for (pipeline, event) in stopped {
            self.stop(pipeline, &event)?;
        }
        Ok(())
    }
}
