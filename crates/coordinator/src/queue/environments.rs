//! Environments that stop by themselves: when `auto_stop_in` is over, the `on_stop` job of the pipeline that
//! deployed runs (`gitlab-ci-yaml.md` 16.3).

use std::collections::BTreeMap;

use super::Queue;
use crate::pipeline_run::{Event, JobState};
use crate::results::Deployment;
use crate::store::StoreError;

/// What is to be stopped, by project and name of the environment: the newest deployment counts.
#[derive(Debug, Default)]
pub(super) struct Stops {
    waiting: BTreeMap<(i64, String), Stop>,
}

/// A stop that will be due.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stop {
    /// Unix seconds.
    at: i64,
    /// The pipeline that deployed.
    pipeline: i64,
    /// Name of the job that stops it.
    job: String,
}

impl Stops {
    /// Takes in what a job that passed did to an environment. One that was stopped needs no stop; a deployment
    /// that says nothing of it leaves the time as it is.
    pub(super) fn note(&mut self, project: i64, pipeline: i64, deployment: &Deployment) {
        let key = (project, deployment.environment.clone());
        if deployment.action == "stop" {
            self.waiting.remove(&key);
            return;
        }
        let known = self.waiting.get(&key);
        let job = deployment.on_stop.clone();
        let job = job.or_else(|| known.map(|stop| stop.job.clone()));
        let Some((at, job)) = deployment.stops_at.zip(job) else {
            return;
        };
        let pipeline = match (&deployment.on_stop, known) {
            // `prepare` and the like move the time only.
            (None, Some(stop)) => stop.pipeline,
            _ => pipeline,
        };
        self.waiting.insert(key, Stop { at, pipeline, job });
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<i64> {
        self.waiting.values().map(|stop| stop.at).min()
    }

    /// Takes out those that are due.
    fn due(&mut self, now: i64) -> Vec<Stop> {
        let due = self.waiting.extract_if(.., |_, stop| stop.at <= now);
        due.map(|(_, stop)| stop).collect()
    }
}

impl Queue {
    /// What jobs of former processes deployed.
    pub(super) fn restore_stops(&mut self) -> Result<(), StoreError> {
        for (project, pipeline, deployment) in self.store.deployments()? {
            self.stops.note(project, pipeline, &deployment);
        }
        Ok(())
    }

    /// Starts the jobs whose time has come. One that was started already, or cannot be started by hand, is
    /// left alone.
    pub(super) fn stop_environments(&mut self) -> Result<(), StoreError> {
        let now = self.now().as_second();
        for Stop { pipeline, job, .. } in self.stops.due(now) {
            self.bring_back(pipeline)?;
            let live = self.pipelines.get(&pipeline);
            let jobs = live.map_or(&[][..], |live| &live.jobs);
            let found = jobs
                .iter()
                .find(|record| record.plan.name == job && record.state == JobState::Manual)
                .map(|record| record.position);
            if let Some(position) = found {
                tracing::info!(pipeline, job, "auto_stop_in is over");
                self.apply(pipeline, Event::Play(position))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(action: &str, on_stop: Option<&str>, stops_at: Option<i64>) -> Deployment {
        Deployment {
            environment: "review".to_owned(),
            action: action.to_owned(),
            on_stop: on_stop.map(str::to_owned),
            stops_at,
            ..Deployment::default()
        }
    }

    #[test]
    fn the_newest_deployment_decides_and_a_stop_ends_it() {
        let mut stops = Stops::default();
        let stop = |at, pipeline| Stop {
            at,
            pipeline,
            job: "stop it".to_owned(),
        };
        stops.note(1, 7, &deployment("start", Some("stop it"), Some(100)));
        // Another project's environment of the same name.
        stops.note(2, 8, &deployment("start", Some("stop it"), Some(90)));
        assert_eq!(stops.next(), Some(90));
        assert_eq!(stops.due(90), [stop(90, 8)]);
        // Without a time of its own it leaves the old one, `access` moves it.
        stops.note(1, 9, &deployment("start", Some("stop it"), None));
        stops.note(1, 10, &deployment("access", None, Some(200)));
        assert_eq!(stops.due(199), []);
        assert_eq!(stops.due(200), [stop(200, 7)]);
        stops.note(1, 11, &deployment("start", Some("stop it"), Some(300)));
        stops.note(1, 12, &deployment("stop", None, None));
        assert_eq!(stops.next(), None);
        // Nobody would stop it.
        stops.note(1, 13, &deployment("start", None, Some(400)));
        assert_eq!(stops.next(), None);
    }
}
