//! Many trivial jobs through one runner: jobs a second, CPU a job, memory of the runner.

use std::path::Path;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::arguments::Arguments;
use crate::cost::{Watched, own_cpu};
use crate::figure::{Figure, Goal, median, side_by_side};
use crate::gitlab::GitLab;
use crate::memory::peak_resident;
use crate::world::World;

const JOBS: usize = 500;
const CONCURRENT: usize = 8;
const RUNS: usize = 3;

/// One runner's run through all jobs.
struct Run {
    jobs_a_second: f64,
    cpu_a_job: f64,
    peak: u64,
    requests_a_job: f64,
    server_cpu_a_job: f64,
}

pub(crate) fn figures(arguments: &Arguments) -> Result<Vec<Figure>> {
    let own = rows(&arguments.courser)?;
    let peer = arguments.gitlab_runner.as_deref().map(rows).transpose()?;
    let goals = [
        Some(Goal::AtLeast(60.0)),
        Some(Goal::AtMost(15.0)),
        Some(Goal::AtMost(25.0)),
        None,
        None,
    ];
    Ok(side_by_side(own, peer, goals))
}

fn rows(runner: &Path) -> Result<Vec<Figure>> {
    let runs: Vec<Run> = (0..RUNS).map(|_| run(runner)).collect::<Result<_>>()?;
    let middle = |value: fn(&Run) -> f64| median(runs.iter().map(value).collect());
    let title = |what: &str| format!("{JOBS} jobs `true`, {CONCURRENT} at once: {what}");
    Ok(vec![
        Figure::new(title("speed"), "jobs/s", middle(|run| run.jobs_a_second)),
        Figure::milliseconds(
            title("CPU of a job with children"),
            middle(|run| run.cpu_a_job),
        ),
        Figure::megabytes(
            title("peak of the runner"),
            middle(|run| run.peak as f64) as u64,
        ),
        Figure::new(
            title("requests of a job"),
            "",
            middle(|run| run.requests_a_job),
        ),
        Figure::milliseconds(
            title("CPU of our GitLab side"),
            middle(|run| run.server_cpu_a_job),
        ),
    ])
}

fn run(runner: &Path) -> Result<Run> {
    let world = World::new()?;
    let gitlab = GitLab::with_jobs(JOBS, "true");
    let config = gitlab.configure(&world, CONCURRENT)?;
    let server_before = own_cpu()?;
    let mut command = world.command(runner);
    command.args(["run", "--config", &config]);
    let watched = Watched::start(&world, &command)?;
    let progress =
        gitlab.wait_until("the end of all jobs", |progress| progress.succeeded == JOBS)?;
    let peak = peak_resident(watched.pid())?;
    watched.signal(Signal::SIGQUIT)?;
    let cost = watched.finish()?;
    let server_cpu = own_cpu()? - server_before;
    let (first, last) = progress.first.zip(progress.last).context("no job ran")?;
    let jobs = JOBS as f64;
    Ok(Run {
        jobs_a_second: jobs / last.duration_since(first).as_secs_f64(),
        cpu_a_job: cost.cpu / jobs,
        peak,
        requests_a_job: progress.requests as f64 / jobs,
        server_cpu_a_job: server_cpu / jobs,
    })
}
