//! The Docker Engine of the tests: `tests/servers/docker/`, its state in `target/docker-engine/`.
//!
//! A test run that finds none starts one and ends it with itself; one that `docker-up` started stays. Several runs, also
//! of several checkouts, share one Engine: whoever uses it holds a shared lock, and only the last one ends it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Tests that need an Engine are in modules of this name.
pub(crate) const TESTS: &str = "docker_engine::";

/// An Engine in use; dropping it ends the Engine if a test run started it and nobody else uses it.
pub(crate) struct InUse {
    root: PathBuf,
    script: PathBuf,
    state: PathBuf,
    lock: File,
}

/// Present while the Engine belongs to test runs and not to `docker-up`; `engine up … for-tests` makes it.
const STARTED_BY_TESTS: &str = "started-by-tests";

/// Starts the Engine unless one runs, makes its images, and leaves it running.
pub(crate) fn up(root: &Path) -> Result<()> {
    let engine = InUse::start(root)?;
    let mark = engine.state.join(STARTED_BY_TESTS);
    if mark.exists() {
        fs::remove_file(&mark).with_context(|| mark.display().to_string())?;
    }
    print!("{}", fs::read_to_string(engine.state.join("env"))?);
    Ok(())
}

/// Ends the Engine that `docker-up` or a killed test run left, and removes its containers and images.
pub(crate) fn down(root: &Path) -> Result<()> {
    sweep_private(root)?;
    script(
        &root.join("tests/servers/docker/engine"),
        "down",
        &state(root),
    )
}

/// Ends Engines of tests that were killed.
fn sweep_private(root: &Path) -> Result<()> {
    let engines = root.join("target/private-engines");
    if engines.exists() {
        let path = root.join("tests/servers/docker/private-engine");
        script(&path, "sweep", &engines)?;
    }
    Ok(())
}

/// For a test run.
pub(crate) fn use_for_tests(root: &Path) -> Result<InUse> {
    InUse::start(root)
        .context("tests need a Docker Engine; `cargo xtask test --without-docker` leaves them out")
}

fn state(root: &Path) -> PathBuf {
    root.join("target").join("docker-engine")
}

impl InUse {
    fn start(root: &Path) -> Result<Self> {
        let scripts = root.join("tests/servers/docker");
        let (script, state) = (scripts.join("engine"), state(root));
        let engine = loop {
            run(Command::new(&script).arg("up").arg(&state).arg("for-tests"))?;
            let engine = Self::of(root, &script, &state)?;
            // Until the lock was there, the last of its users may have ended it.
            if engine.state.join("env").exists() {
                break engine;
            }
        };
        run(Command::new(scripts.join("images")).arg(&state))?;
        Ok(engine)
    }

    /// `state` is ours; the Engine's own may be another checkout's.
    fn of(root: &Path, script: &Path, state: &Path) -> Result<Self> {
        let file = state.join("env");
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let state = text
            .lines()
            .find_map(|line| line.strip_prefix("COURSER_TEST_DOCKER_STATE="))
            .map(PathBuf::from)
            .with_context(|| format!("{} names no state directory", file.display()))?;
        let users = state.join("users");
        let lock = File::create(&users).with_context(|| users.display().to_string())?;
        lock.lock_shared()
            .with_context(|| users.display().to_string())?;
        Ok(Self {
            root: root.to_owned(),
            script: script.to_owned(),
            state,
            lock,
        })
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        if let Err(error) = sweep_private(&self.root) {
            println!("Docker Engines of killed tests may still run: {error:#}");
        }
        if !self.state.join(STARTED_BY_TESTS).exists() {
            return;
        }
        let ended = match self.lock.try_lock() {
            Ok(()) => script(&self.script, "stop", &self.state),
            Err(TryLockError::WouldBlock) => return,
            Err(TryLockError::Error(error)) => Err(error.into()),
        };
        if let Err(error) = ended {
            println!("the tests' Docker Engine may still run: {error:#}");
        }
    }
}

fn script(path: &Path, command: &str, state: &Path) -> Result<()> {
    run(Command::new(path).arg(command).arg(state))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
