//! Watching a pipeline to its end: events and Ctrl-C in, a view told, the result out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use courser_coordinator::{
    CoordinatorEvent, Handle, JobEnd, JobSnapshot, PipelineSnapshot, PipelineStatus,
    pipeline_run::Position,
};
use jiff::Timestamp;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::log::LogFollower;
use super::reports::Reports;
use super::runner::{Left, LocalRunner};
use super::view::{JobName, Summary, SummaryRow, View};
use crate::failure::{Code, Failure};
use crate::platform;

/// How a run ended.
pub(super) struct Followed {
    /// The pipeline's end.
    pub(super) status: PipelineStatus,
    /// Whether the user stopped it.
    pub(super) interrupted: bool,
    /// All jobs of the pipeline as they are now.
    pub(super) last: PipelineSnapshot,
    rows: Vec<SummaryRow>,
}

struct Watch<'a> {
    coordinator: &'a Handle,
    view: &'a mut (dyn View + Send),
    root: i64,
    /// The pipeline and those that its bridges started.
    pipelines: BTreeMap<i64, Known>,
    /// Attempts that run: their pipeline, place and log.
    running: HashMap<i64, (i64, usize, LogFollower)>,
    /// Attempts that were told to have ended.
    ended: std::collections::HashSet<i64>,
}

/// What is known of a pipeline once it was told of.
struct Known {
    jobs: Vec<KnownJob>,
    /// Nothing more happens in it by itself.
    settled: bool,
}

struct KnownJob {
    /// Job id of the first attempt; bridges have no other.
    id: i64,
    /// With the bridges before it.
    path: String,
    name: String,
    stage: String,
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
    let failed = |error| Failure::internal(format!("cannot listen for signals: {error}"));
    let mut interrupt = platform::interrupts().map_err(failed)?;
    let mut terminate = platform::terminations().map_err(failed)?;
    let mut hangup = platform::terminal_hangups().map_err(failed)?;
    let first = snapshot(coordinator, pipeline).await?;
    let told = reused.iter().filter_map(|job| first.jobs.get(*job));
    let mut watch = Watch {
        ended: told.map(|job| job.id).collect(),
        coordinator,
        view,
        root: pipeline,
        pipelines: BTreeMap::new(),
        running: HashMap::new(),
    };
    watch.created().await?;
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    loop {
        let pressed = tokio::select! {
            event = events.recv() => {
                match event {
                    Ok(event) => watch.take(event).await?,
                    // Everything missed is in the snapshots and the logs.
                    Err(RecvError::Lagged(_)) => drop(watch.catch_up().await?),
                    Err(RecvError::Closed) => break,
                }
                if watch.is_over() {
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
            () = hung_up(&mut hangup) => {
                // Whoever writes to it would fail, and leave what has to be removed.
                platform::leave_terminal().map_err(failed)?;
                true
            }
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
    let seen = watch.catch_up().await?;
    let last = snapshot(coordinator, pipeline).await?;
    Ok(Followed {
        status: last.status,
        interrupted: interrupts > 0,
        rows: watch.rows(&seen, &reused),
        last,
    })
}

/// Until the terminal is gone, if that is told.
async fn hung_up(hangup: &mut Option<platform::Signal>) {
    match hangup {
        Some(hangup) => drop(hangup.recv().await),
        None => std::future::pending().await,
    }
}

impl Watch<'_> {
    async fn created(&mut self) -> Result<(), Failure> {
        let first = snapshot(self.coordinator, self.root).await?;
        self.know(self.root, &first, "");
        let jobs = names(&self.pipelines, self.root);
        self.view.created(&jobs);
        Ok(())
    }

    fn know(&mut self, pipeline: i64, snapshot: &PipelineSnapshot, before: &str) {
        let jobs = snapshot.jobs.iter().map(|job| KnownJob {
            id: job.id,
            path: format!("{before}{}", job.name),
            name: job.name.clone(),
            stage: job.stage.clone(),
        });
        let known = Known {
            jobs: jobs.collect(),
            // Its end is an event of its own, which is still to come.
            settled: false,
        };
        self.pipelines.insert(pipeline, known);
    }

    /// A bridge of one of our pipelines has started another.
    async fn meet(&mut self, pipeline: i64, bridge: i64) -> Result<(), Failure> {
        let places = self.pipelines.iter().find_map(|(id, known)| {
            let position = known.jobs.iter().position(|job| job.id == bridge)?;
            Some((*id, position))
        });
        let Some((upstream, position)) = places.filter(|_| !self.pipelines.contains_key(&pipeline))
        else {
            return Ok(());
        };
        let met = snapshot(self.coordinator, pipeline).await?;
        let before = format!("{}/", self.pipelines[&upstream].jobs[position].path);
        self.know(pipeline, &met, &before);
        let jobs = names(&self.pipelines, pipeline);
        if let Some(bridge) = name(&self.pipelines, upstream, position, bridge) {
            self.view.downstream(bridge, &jobs);
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.pipelines.values().all(|known| known.settled)
    }

    /// Tells the view.
    async fn take(&mut self, event: CoordinatorEvent) -> Result<(), Failure> {
        match event {
            CoordinatorEvent::PipelineCreated {
                pipeline,
                upstream: Some(bridge),
            } => self.meet(pipeline, bridge).await?,
            CoordinatorEvent::PipelineFinished { pipeline, .. } => {
                if let Some(known) = self.pipelines.get_mut(&pipeline) {
                    known.settled = true;
                }
            }
            CoordinatorEvent::JobStarted {
                pipeline,
                job,
                position,
                log,
                ..
            } => {
                // One that was skipped may get another chance.
                self.ended.remove(&job);
                self.start((pipeline, position), job, log);
            }
            CoordinatorEvent::JobDelayed {
                pipeline,
                job,
                position,
                at,
            } => {
                let left = at.saturating_sub(Timestamp::now().as_second()).max(0);
                let left = Duration::from_secs(left.unsigned_abs());
                if let Some(job) = name(&self.pipelines, pipeline, position, job) {
                    self.view.delayed(job, left);
                }
            }
            CoordinatorEvent::Trace { job, .. } => {
                let Self {
                    running,
                    pipelines,
                    view,
                    ..
                } = self;
                if let Some((pipeline, position, log)) = running.get_mut(&job)
                    && let Some(job) = name(pipelines, *pipeline, *position, job)
                {
                    log.follow(|line| view.line(job, line))
                        .map_err(unreadable(log))?;
                }
            }
            CoordinatorEvent::JobFinished {
                pipeline,
                job,
                position,
                end,
            } => self.finish((pipeline, position), job, &end)?,
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, (pipeline, position): (i64, usize), job: i64, log: PathBuf) {
        if self.ended.contains(&job) || self.running.contains_key(&job) {
            return;
        }
        let Some(label) = name(&self.pipelines, pipeline, position, job) else {
            return;
        };
        self.view.started(label);
        self.running
            .insert(job, (pipeline, position, LogFollower::new(log)));
    }

    fn finish(
        &mut self,
        (pipeline, position): (i64, usize),
        job: i64,
        end: &JobEnd,
    ) -> Result<(), Failure> {
        let Some(label) = name(&self.pipelines, pipeline, position, job) else {
            return Ok(());
        };
        if !self.ended.insert(job) {
            return Ok(());
        }
        let Some((.., mut log)) = self.running.remove(&job) else {
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

    /// Tells what events that were missed would have told. Returns the pipelines as they are now, each
    /// before those that it started.
    async fn catch_up(&mut self) -> Result<Vec<(i64, PipelineSnapshot)>, Failure> {
        let mut seen = Vec::new();
        let mut open = vec![(self.root, None)];
        while let Some((pipeline, bridge)) = open.pop() {
            if let Some(bridge) = bridge {
                self.meet(pipeline, bridge).await?;
            }
            let now = snapshot(self.coordinator, pipeline).await?;
            for (position, job) in now.jobs.iter().enumerate() {
                let place = (pipeline, position);
                if job.end.ran {
                    self.start(place, job.id, job.trace.clone());
                }
                if job.state.is_over() {
                    self.finish(place, job.id, &job.end)?;
                }
                open.extend(job.downstream.map(|pipeline| (pipeline, Some(job.id))));
            }
            if let Some(known) = self.pipelines.get_mut(&pipeline) {
                known.settled = now.status.is_settled();
            }
            seen.push((pipeline, now));
        }
        Ok(seen)
    }

    /// The rows of the summary: in pipeline order, a bridge's pipeline behind it.
    fn rows(
        &self,
        pipelines: &[(i64, PipelineSnapshot)],
        reused: &BTreeSet<Position>,
    ) -> Vec<SummaryRow> {
        let mut rows = Vec::new();
        self.add_rows(self.root, pipelines, reused, &mut rows);
        rows
    }

    fn add_rows(
        &self,
        pipeline: i64,
        pipelines: &[(i64, PipelineSnapshot)],
        reused: &BTreeSet<Position>,
        rows: &mut Vec<SummaryRow>,
    ) {
        let Some((_, snapshot)) = pipelines.iter().find(|(id, _)| *id == pipeline) else {
            return;
        };
        for (position, job) in snapshot.jobs.iter().enumerate() {
            let Some(label) = name(&self.pipelines, pipeline, position, job.id) else {
                continue;
            };
            rows.push(SummaryRow {
                id: job.id,
                pipeline,
                name: label.name.to_owned(),
                own_name: label.own_name.to_owned(),
                stage: job.stage.clone(),
                end: job.end.clone(),
                results: job.results.clone(),
                log: logged(job),
                artifacts: job
                    .artifacts
                    .iter()
                    .map(|artifact| artifact.path.clone())
                    .collect(),
                reports: Reports::read(&job.artifacts),
                working_copy: None,
                kept: None,
                reused: pipeline == self.root && reused.contains(&position),
            });
            if let Some(downstream) = job.downstream {
                self.add_rows(downstream, pipelines, reused, rows);
            }
        }
    }
}

impl Followed {
    /// The summary of a run that took `duration`.
    pub(super) fn summary(&self, duration: Duration, left: &Left) -> Summary {
        let mut rows = self.rows.clone();
        for row in &mut rows {
            row.working_copy = left.copies.get(&row.id).cloned();
            row.kept = left.kept.get(&row.id).cloned();
        }
        Summary {
            status: self.status,
            duration,
            rows,
        }
    }
}

fn logged(job: &JobSnapshot) -> Option<PathBuf> {
    job.end.ran.then(|| job.trace.clone())
}

fn name(
    pipelines: &BTreeMap<i64, Known>,
    pipeline: i64,
    position: usize,
    id: i64,
) -> Option<JobName<'_>> {
    let job = pipelines.get(&pipeline)?.jobs.get(position)?;
    Some(JobName {
        id,
        name: &job.path,
        own_name: &job.name,
        stage: &job.stage,
        pipeline,
    })
}

fn names(pipelines: &BTreeMap<i64, Known>, pipeline: i64) -> Vec<JobName<'_>> {
    let count = pipelines.get(&pipeline).map_or(0, |known| known.jobs.len());
    (0..count)
        .filter_map(|position| name(pipelines, pipeline, position, 0))
        .collect()
}

fn unreadable(log: &LogFollower) -> impl FnOnce(std::io::Error) -> Failure + use<> {
    let path = log.path().display().to_string();
    move |error| Failure::internal(format!("{path}: {error}"))
}

async fn snapshot(coordinator: &Handle, pipeline: i64) -> Result<PipelineSnapshot, Failure> {
    let snapshot = coordinator.snapshot(pipeline).await;
    snapshot.ok_or_else(|| Failure::internal("the coordinator has stopped"))
}
