//! Memory of a runner that has nothing to do, or much to wait for.

use std::path::Path;

use anyhow::Result;
use nix::sys::signal::Signal;

use crate::arguments::Arguments;
use crate::cost::Watched;
use crate::figure::{Figure, Goal};
use crate::gitlab::GitLab;
use crate::memory::{peak_resident, resident};
use crate::world::World;

/// Polls after which a runner counts as settled.
const POLLS: usize = 4;

/// Jobs that sleep.
const SLEEPING: usize = 100;

/// A runner that polls.
pub(crate) fn idle(arguments: &Arguments) -> Result<Vec<Figure>> {
    let measure = |runner: &Path| -> Result<Figure> {
        let world = World::new()?;
        let gitlab = GitLab::with_jobs(0, "true");
        let watched = run(runner, &world, &gitlab, 8)?;
        gitlab.wait_until("polling", |progress| progress.asked >= POLLS)?;
        let bytes = resident(watched.pid())?;
        watched.signal(Signal::SIGQUIT)?;
        watched.finish()?;
        Ok(Figure::megabytes(
            "idle, polling: memory of the runner",
            bytes,
        ))
    };
    rows(arguments, measure, Goal::AtMost(12.0))
}

/// A runner whose jobs all sleep.
pub(crate) fn sleeping(arguments: &Arguments) -> Result<Vec<Figure>> {
    let measure = |runner: &Path| -> Result<Figure> {
        let world = World::new()?;
        let gitlab = GitLab::with_jobs(SLEEPING, "sleep 5");
        let watched = run(runner, &world, &gitlab, SLEEPING)?;
        gitlab.wait_until("the end of all jobs", |progress| {
            progress.succeeded == SLEEPING
        })?;
        let bytes = peak_resident(watched.pid())?;
        watched.signal(Signal::SIGQUIT)?;
        watched.finish()?;
        let title = format!("{SLEEPING} jobs `sleep 5` at once: peak of the runner");
        Ok(Figure::megabytes(title, bytes))
    };
    rows(arguments, measure, Goal::AtMost(30.0))
}

fn run(runner: &Path, world: &World, gitlab: &GitLab, concurrent: usize) -> Result<Watched> {
    let config = gitlab.configure(world, concurrent)?;
    let mut command = world.command(runner);
    command.args(["run", "--config", &config]);
    Watched::start(world, &command)
}

fn rows(
    arguments: &Arguments,
    measure: impl Fn(&Path) -> Result<Figure>,
    goal: Goal,
) -> Result<Vec<Figure>> {
    let own = measure(&arguments.courser)?;
    let peer = arguments
        .gitlab_runner
        .as_deref()
        .map(measure)
        .transpose()?;
    Ok(vec![own.beside(peer).goal(goal)])
}
