//! Watching a pipeline to its end: events and Ctrl-C in, a view told, the result out.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use courser_coordinator::{
    CoordinatorEvent, Handle, JobEnd, JobSnapshot, PipelineSnapshot, PipelineStatus,
    pipeline_run::Position,
};
use jiff::Timestamp;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::log::LogFollower;
use super::runner::LocalRunner;
use super::view::{JobName, Summary, SummaryRow, View};
use crate::failure::{Code, Failure};

/// How a run ended.
pub(super) struct Followed {
    /// The pipeline's end.
    pub(super) status: PipelineStatus,
    /// Whether the user stopped it.
    pub(super) interrupted: bool,
    /// All jobs as they are now.
    pub(super) last: PipelineSnapshot,
    /// Positions of jobs that passed in an earlier run.
    reused: BTreeSet<Position>,
}

struct Watch<'a> {
    coordinator: &'a Handle,
    pipeline: i64,
    view: &'a mut (dyn View + Send),
    /// Name and stage by position.
    names: Vec<(String, String)>,
    /// Attempts that run: their place and log.
    running: HashMap<i64, (usize, LogFollower)>,
    /// Attempts that were told to have ended.
    ended: std::collections::HashSet<i64>,
}

/// Follows until nothing more happens by itself.
pub(super) async fn to_the_end(
    coordinator: &Handle,
    pipeline: i64,
    mut events: Receiver<CoordinatorEvent>,
    runner: &mut LocalRunner,
    reused: BTreeSet<Position>,
    view: &mut (dyn View + Send),
) -> Result<Followed, Failure> {
    let mut interrupts = 0;
    let mut interrupt =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
            .map_err(|error| Failure::internal(format!("cannot listen for signals: {error}")))?;
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .map_err(|error| Failure::internal(format!("cannot listen for signals: {error}")))?;
    let first = snapshot(coordinator, pipeline).await?;
    let told = reused.iter().filter_map(|job| first.jobs.get(*job));
    let mut watch = Watch {
        ended: told.map(|job| job.id).collect(),
        coordinator,
        pipeline,
        view,
        names: first
            .jobs
            .into_iter()
            .map(|job| (job.name, job.stage))
            .collect(),
        running: HashMap::new(),
    };
    watch.created();
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    loop {
        let pressed = tokio::select! {
            event = events.recv() => {
                let over = match event {
                    Ok(CoordinatorEvent::PipelineFinished { pipeline: which, .. }) => which == pipeline,
                    Ok(event) => watch.take(event)?,
                    // Everything missed is in the snapshot and the logs.
                    Err(RecvError::Lagged(_)) => watch.catch_up().await?.status.is_settled(),
                    Err(RecvError::Closed) => true,
                };
                if over {
                    break;
                }
                false
            }
            _ = ticks.tick() => {
                watch.view.tick();
                false
            }
            // It ends only when it is told to; without it nothing would ever end.
            () = runner.ended(), if interrupts < 2 => {
                let stopped = coordinator.abort(pipeline).await;
                stopped.map_err(|error| Failure::from_error(Code::Internal, &error))?;
                watch.catch_up().await?;
                return Err(Failure::internal("the runner ended before the pipeline did"));
            }
            _ = interrupt.recv() => true,
            _ = terminate.recv() => true,
        };
        if !pressed {
            continue;
        }
        interrupts += 1;
        let stopped = if interrupts == 1 {
            watch.view.cancelling();
            coordinator.cancel(pipeline).await
        } else {
            runner.shutdown.forcefully("interrupt");
            coordinator.abort(pipeline).await
        };
        stopped.map_err(|error| Failure::from_error(Code::Internal, &error))?;
    }
    let last = watch.catch_up().await?;
    Ok(Followed {
        status: last.status,
        interrupted: interrupts > 0,
        last,
        reused,
    })
}

impl Watch<'_> {
    fn created(&mut self) {
        let jobs: Vec<_> = (0..self.names.len())
            .map(|at| name(&self.names, at, 0))
            .collect();
        self.view.created(&jobs);
    }

    /// Tells the view. `false`, always: a pipeline's end is its own event.
    fn take(&mut self, event: CoordinatorEvent) -> Result<bool, Failure> {
        match event {
            CoordinatorEvent::JobStarted {
                pipeline,
                job,
                position,
                log,
                ..
            } if pipeline == self.pipeline => {
                self.start(job, position, log);
            }
            CoordinatorEvent::JobDelayed {
                pipeline,
                job,
                position,
                at,
            } if pipeline == self.pipeline => {
                let left = at.saturating_sub(Timestamp::now().as_second()).max(0);
                let left = Duration::from_secs(left.unsigned_abs());
                self.view.delayed(name(&self.names, position, job), left);
            }
            CoordinatorEvent::Trace { job, .. } => {
                let Self {
                    running,
                    names,
                    view,
                    ..
                } = self;
                if let Some((position, log)) = running.get_mut(&job) {
                    let job = name(names, *position, job);
                    log.follow(|line| view.line(job, line))
                        .map_err(unreadable(log))?;
                }
            }
            CoordinatorEvent::JobFinished {
                pipeline,
                job,
                position,
                end,
            } if pipeline == self.pipeline => {
                self.finish(job, position, &end)?;
            }
            _ => {}
        }
        Ok(false)
    }

    fn start(&mut self, job: i64, position: usize, log: PathBuf) {
        if self.ended.contains(&job) || self.running.contains_key(&job) {
            return;
        }
        self.view.started(name(&self.names, position, job));
        self.running.insert(job, (position, LogFollower::new(log)));
    }

    fn finish(&mut self, job: i64, position: usize, end: &JobEnd) -> Result<(), Failure> {
        if !self.ended.insert(job) {
            return Ok(());
        }
        let label = name(&self.names, position, job);
        let Some((_, mut log)) = self.running.remove(&job) else {
            self.view.finished(label, end, &[]);
            return Ok(());
        };
        let view = &mut *self.view;
        log.finish(|line| view.line(label, line))
            .map_err(unreadable(&log))?;
        let tail: Vec<&str> = log.tail().collect();
        view.finished(label, end, &tail);
        Ok(())
    }

    /// Tells what events that were missed would have told.
    async fn catch_up(&mut self) -> Result<PipelineSnapshot, Failure> {
        let now = snapshot(self.coordinator, self.pipeline).await?;
        for (position, job) in now.jobs.iter().enumerate() {
            if job.end.ran {
                self.start(job.id, position, job.trace.clone());
            }
            if job.state.is_over() {
                self.finish(job.id, position, &job.end)?;
            }
        }
        Ok(now)
    }
}

impl Followed {
    /// The rows of the summary, in pipeline order.
    pub(super) fn summary(&self, duration: Duration, copies: &HashMap<i64, PathBuf>) -> Summary {
        let row = |(position, job): (usize, &JobSnapshot)| SummaryRow {
            id: job.id,
            name: job.name.clone(),
            stage: job.stage.clone(),
            end: job.end.clone(),
            log: job.end.ran.then(|| job.trace.clone()),
            artifacts: job
                .artifacts
                .iter()
                .map(|artifact| artifact.path.clone())
                .collect(),
            working_copy: copies.get(&job.id).cloned(),
            reused: self.reused.contains(&position),
        };
        Summary {
            status: self.status,
            duration,
            rows: self.last.jobs.iter().enumerate().map(row).collect(),
        }
    }
}

fn name(names: &[(String, String)], position: usize, id: i64) -> JobName<'_> {
    let (name, stage) = &names[position];
    JobName { id, name, stage }
}

fn unreadable(log: &LogFollower) -> impl FnOnce(std::io::Error) -> Failure + use<> {
    let path = log.path().display().to_string();
    move |error| Failure::internal(format!("{path}: {error}"))
}

async fn snapshot(coordinator: &Handle, pipeline: i64) -> Result<PipelineSnapshot, Failure> {
    let snapshot = coordinator.snapshot(pipeline).await;
    snapshot.ok_or_else(|| Failure::internal("the coordinator has stopped"))
}
