//! Jobs in containers, one at a time and several at once: time, containers, what trust in a private CA adds, memory.
//!
//! Everything runs on the Engine of the tests (`cargo xtask docker-up`), in its images. Between jobs Docker's own client
//! runs the same script in the same image, so that both see the same machine.

mod engine;

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use self::engine::{Engine, IMAGE};
use crate::arguments::Arguments;
use crate::cost::Watched;
use crate::figure::{Figure, Goal, median};
use crate::gitlab::{GitLab, Offer, Progress, payload, variable};
use crate::memory::resident;
use crate::world::World;

/// Jobs of each kind that count, in rounds.
const ROUNDS: usize = 5;
const JOBS_A_ROUND: usize = 3;

/// How many at once, and after how many the memory is looked at; the time is that of the first.
const CONCURRENT: usize = 4;
const MANY: [usize; 3] = [20, 40, 100];

/// What all jobs run, and `docker run` beside them.
const SCRIPT: &str = "echo hello";

/// Images that are read for the first time.
const FIRST_USES: usize = 5;

pub(crate) fn figures(arguments: &Arguments) -> Result<Vec<Figure>> {
    let engine = Engine::described_in(arguments.docker_engine.as_deref())?;
    let courser = &arguments.courser;
    let mut figures = one_at_a_time("", courser, &engine)?;
    figures.extend(trust(courser, &engine)?);
    figures.extend(first_use(courser, &engine)?);
    figures.extend(at_once(courser, &engine)?);
    if let Some(peer) = &arguments.gitlab_runner {
        figures.extend(one_at_a_time("gitlab-runner: ", peer, &engine)?);
    }
    Ok(figures)
}

/// By each strategy; the peer is `docker run`.
fn one_at_a_time(whose: &str, program: &Path, engine: &Engine) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (strategy, goal) in [("none", 750.0), ("clone", 1100.0), ("fetch", 1100.0)] {
        let mut runner = Runner::start(program, engine, 1, move |job, _| {
            set(job, "GIT_STRATEGY", strategy);
        })?;
        runner.jobs(1)?;
        let (mut jobs, mut base) = (Vec::new(), Vec::new());
        let mut happened = Vec::new();
        for _ in 0..ROUNDS {
            let begun = engine.now()?;
            jobs.extend(runner.jobs(JOBS_A_ROUND)?);
            // The Engine remembers a few hundred events.
            happened.extend(engine.events_since(&begun, runner.project)?);
            for _ in 0..JOBS_A_ROUND {
                base.push(engine.run(SCRIPT)?);
            }
        }
        let a_job = |what: &str| {
            let times = happened.iter().filter(|action| *action == what).count();
            times as f64 / jobs.len() as f64
        };
        let (created, started) = (a_job("create"), a_job("start"));
        let title = format!("{whose}a job `{SCRIPT}`, `GIT_STRATEGY: {strategy}`");
        figures.extend([
            Figure::milliseconds(format!("{title}: time"), median(jobs))
                .beside(Some(Figure::milliseconds("", median(base))))
                .goal(Goal::AtMost(goal)),
            Figure::new(format!("{title}: containers created"), "", created)
                .goal(Goal::AtMost(2.0)),
            Figure::new(format!("{title}: containers started"), "", started)
                .goal(Goal::AtMost(2.0)),
        ]);
        runner.finish(engine)?;
    }
    Ok(figures)
}

/// Jobs with and without it in turn.
fn trust(program: &Path, engine: &Engine) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    // Without sources nobody needs the helper's container.
    for (strategy, trusting) in [("none", 1.0), ("clone", 2.0)] {
        let mut runner = Runner::start(program, engine, 1, move |job, id| {
            set(job, "GIT_STRATEGY", strategy);
            let trust = if id % 2 == 0 { "true" } else { "false" };
            set(job, "COURSER_IMAGE_TRUST", trust);
        })?;
        // The first job with trust reads the images.
        runner.jobs(2)?;
        let jobs = runner.jobs(2 * ROUNDS * JOBS_A_ROUND)?;
        runner.finish(engine)?;
        let every_second = |first| median(jobs.iter().skip(first).step_by(2).copied().collect());
        let added = every_second(1) - every_second(0);
        let title = format!(
            "trust in a private CA: added to a job for each container, `GIT_STRATEGY: {strategy}`"
        );
        let figure = Figure::milliseconds(title, added / trusting);
        figures.push(figure.goal(Goal::AtMost(50.0)));
    }
    Ok(figures)
}

/// The first job of an image beside those that follow.
fn first_use(program: &Path, engine: &Engine) -> Result<Vec<Figure>> {
    let image = engine.large_image()?;
    let mut added = Vec::new();
    for _ in 0..FIRST_USES {
        let mut runner = Runner::start(program, engine, 1, move |job, id| {
            // The first job has all else read.
            if id > 1 {
                job["image"]["name"] = json!(image);
            }
        })?;
        runner.jobs(1)?;
        let first = median(runner.jobs(1)?);
        added.push(first - median(runner.jobs(3)?));
        runner.finish(engine)?;
    }
    let title = "trust in a private CA: added to the first job of an image of 1 GB";
    Ok(vec![
        Figure::milliseconds(title, median(added)).goal(Goal::AtMost(1000.0)),
    ])
}

/// Several at once, and what the runner holds after many.
fn at_once(program: &Path, engine: &Engine) -> Result<Vec<Figure>> {
    let mut runner = Runner::start(program, engine, CONCURRENT, |_, _| ())?;
    let title = |jobs| format!("{jobs} jobs `{SCRIPT}`, {CONCURRENT} at once");
    let mut figures = Vec::new();
    let mut so_far = 0;
    for jobs in MANY {
        let begun = Instant::now();
        runner.jobs(jobs - so_far)?;
        if so_far == 0 {
            let took = begun.elapsed().as_secs_f64();
            figures.push(Figure::milliseconds(format!("{}: time", title(jobs)), took));
        }
        so_far = jobs;
        figures.push(Figure::megabytes(
            format!("{}: memory of the runner after them", title(jobs)),
            resident(runner.watched.pid())?,
        ));
    }
    runner.finish(engine)?;
    Ok(figures)
}

/// A runner, and a GitLab that has jobs for it when it is told to.
struct Runner {
    gitlab: GitLab,
    watched: Watched,
    /// No other runner on this Engine has jobs of it.
    project: u64,
    done: usize,
    _world: World,
}

impl Runner {
    /// `change` is handed each job and its number.
    fn start(
        program: &Path,
        engine: &Engine,
        concurrent: usize,
        change: impl Fn(&mut Value, usize) + Send + Sync + 'static,
    ) -> Result<Self> {
        let world = World::new()?;
        world.write("work/file", "content\n")?;
        world.commit()?;
        let head = world.command("git").args(["rev-parse", "HEAD"]).output()?;
        let head = String::from_utf8(head.stdout)?.trim().to_owned();
        std::fs::create_dir(world.path("origin"))?;
        std::fs::rename(world.path("work"), world.path("origin/project.git"))?;
        std::fs::create_dir(world.path("work"))?;
        let project = engine.new_project();
        let gitlab = GitLab::offering(Offer {
            address: engine.gateway(),
            payload: Box::new(move |id, host| {
                let mut job = payload(id, SCRIPT, &[]);
                job["image"] = json!({ "name": IMAGE });
                job["job_info"]["project_id"] = json!(project);
                job["git_info"]["sha"] = json!(head);
                let repository = format!("https://gitlab-ci-token:job@{host}/project.git");
                job["git_info"]["repo_url"] = json!(repository);
                change(&mut job, id);
                job
            }),
            repositories: Some(world.path("origin")),
        });
        let keys = format!(
            "executor = \"docker\"\n[runners.docker]\nhost = {:?}\nimage = {IMAGE:?}\n\
             pull_policy = \"if-not-present\"",
            engine.host()
        );
        let config = gitlab.configure_with(&world, concurrent, &keys)?;
        let mut command = world.command(program);
        command.args(["run", "--config", &config]);
        let watched = Watched::start(&world, &command)?;
        Ok(Self {
            gitlab,
            watched,
            project,
            done: 0,
            _world: world,
        })
    }

    /// Runs so many more jobs; gives the seconds of each, from its handing out to its final state.
    fn jobs(&mut self, count: usize) -> Result<Vec<f64>> {
        let before = self.done;
        self.done += count;
        self.gitlab.offer(self.done);
        let ended = |progress: &Progress| progress.succeeded == self.done;
        let progress = self.gitlab.wait_until("the end of the jobs", ended)?;
        let these = progress.durations.range(before + 1..);
        Ok(these.map(|(_, seconds)| *seconds).collect())
    }

    fn finish(self, engine: &Engine) -> Result<()> {
        self.watched.signal(Signal::SIGQUIT)?;
        self.watched.finish()?;
        engine.remove_volumes(self.project)
    }
}

/// Gives a job's variable a value.
fn set(job: &mut Value, name: &str, value: &str) {
    if let Some(variables) = job["variables"].as_array_mut() {
        variables.retain(|variable| variable["key"] != name);
        variables.push(variable(name, value));
    }
}
