//! What a program cost: wall time, CPU time with everything it started, largest process.
//!
//! The kernel adds up children only for the process that waited for them, and counts a forking parent's
//! memory as its child's. So a small process of its own starts each program and watches it:
//! `courser-benches watch <log> <program> <arguments…>` prints the program's number, then its cost.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike as _;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::arguments::WATCH;
use crate::world::World;

/// What a program cost from start to end.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// Seconds from its start to its end.
    pub(crate) wall: f64,
    /// Seconds of CPU, of all processes below it that were waited for.
    pub(crate) cpu: f64,
    /// Peak resident bytes of the largest process.
    pub(crate) largest: u64,
    success: bool,
}

/// A program under watch. Killed when dropped.
pub(crate) struct Watched {
    watcher: Child,
    answers: BufReader<ChildStdout>,
    pid: Pid,
    log: PathBuf,
}

impl Watched {
    /// Starts `command`, which [`World::command`] made.
    pub(crate) fn start(world: &World, command: &Command) -> Result<Self> {
        let log = world.path("output.log");
        let myself = std::env::current_exe().context("where this program lies")?;
        let mut watcher = world.command(myself);
        watcher
            .arg(WATCH)
            .arg(&log)
            .arg(command.get_program())
            .args(command.get_args())
            .envs(set_by(command))
            .current_dir(command.get_current_dir().unwrap_or(&world.path("work")))
            .stdout(Stdio::piped());
        let mut watcher = watcher.spawn().context("the watching process")?;
        let answers = watcher.stdout.take().context("its output")?;
        let mut answers = BufReader::new(answers);
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let pid = line
            .trim()
            .parse()
            .with_context(|| format!("{} did not start", command.get_program().display()))?;
        Ok(Self {
            watcher,
            answers,
            pid: Pid::from_raw(pid),
            log,
        })
    }

    /// Number of the program's first process.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Asks it to end.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid, signal).context("signal the program")
    }

    /// Waits for a successful end.
    pub(crate) fn finish(mut self) -> Result<Cost> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let cost: Cost = serde_json::from_str(&line).context("the watching process's answer")?;
        if !cost.success {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            bail!("the program failed; it said:\n{log}");
        }
        Ok(cost)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // The watcher waits for its program: while it lives the number is still the program's.
        if let Ok(None) = self.watcher.try_wait() {
            kill(self.pid, Signal::SIGKILL).ok();
        }
        self.watcher.wait().ok();
    }
}

/// Variables that a command adds to those of its world.
fn set_by(command: &Command) -> impl Iterator<Item = (&OsStr, &OsStr)> {
    command
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)))
}

/// Runs a program to its successful end.
pub(crate) fn of(world: &World, command: &Command) -> Result<Cost> {
    Watched::start(world, command)?.finish()
}

/// The watching process.
pub(crate) fn watch(command: &[OsString]) -> Result<()> {
    let [log, program, arguments @ ..] = command else {
        bail!("nothing to watch");
    };
    let log = File::create(log).context("the log")?;
    let start = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| program.display().to_string())?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", child.id())?;
    stdout.flush()?;
    let status = child.wait()?;
    let wall = start.elapsed();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    let cost = Cost {
        wall: wall.as_secs_f64(),
        cpu: Duration::from_micros(micros.unsigned_abs()).as_secs_f64(),
        largest: usage.max_rss().unsigned_abs() * 1024,
        success: status.success(),
    };
    writeln!(stdout, "{}", serde_json::to_string(&cost)?)?;
    Ok(())
}

/// CPU seconds of this very process so far: what the server side of a benchmark took.
pub(crate) fn own_cpu() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(micros.unsigned_abs()).as_secs_f64())
}
