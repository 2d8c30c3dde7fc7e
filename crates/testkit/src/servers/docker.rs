//! Docker Engines for tests: one for all, started by `cargo xtask docker-up` or `cargo xtask test`, and private ones for
//! tests that kill, starve or reconfigure theirs.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How the running Engine is reached (`tests/servers/docker/engine`).
#[derive(Debug, Clone)]
pub struct DockerEngine {
    /// `unix:///…/docker.sock`.
    pub host: String,
    /// `tcp://127.0.0.1:12376`, where it wants TLS and a client certificate. Nothing for a private one.
    pub tls_host: String,
    /// `ca.pem`, `cert.pem` and `key.pem` for that.
    pub cert_path: PathBuf,
    /// The machine's address on the default bridge, which containers reach too. An Engine never verifies registries
    /// on loopback.
    pub gateway: String,
    /// Its `/etc/docker`: `certs.d/HOST:PORT/ca.crt` makes it trust a registry, at once.
    pub etc: PathBuf,
}

impl DockerEngine {
    /// The Engine that runs. Tests that call this live in a module `docker_engine`, so that
    /// `cargo xtask test --without-docker` finds them.
    ///
    /// # Panics
    ///
    /// When none runs: a test that is left out in silence proves nothing.
    pub fn running() -> Self {
        let engine = Self::described(&workspace().join("target/docker-engine/env"));
        let engine = engine.unwrap_or_else(|| panic!("no Docker Engine runs for tests: {HOW}"));
        if let Err(error) = UnixStream::connect(engine.host.trim_start_matches("unix://")) {
            panic!(
                "the tests' Docker Engine at {} is gone ({error}): {HOW}",
                engine.host
            );
        }
        engine
    }

    /// The one of a file as `cargo xtask docker-up` and `private-engine start` write it; `None`: it describes none.
    pub fn described(env: &Path) -> Option<Self> {
        let text = fs::read_to_string(env).ok()?;
        let value = |name: &str| {
            text.lines()
                .filter_map(|line| line.split_once('='))
                .find(|(key, _)| key.strip_prefix("COURSER_TEST_DOCKER_") == Some(name))
                .map(|(_, value)| value.to_owned())
        };
        Some(Self {
            host: value("HOST")?,
            tls_host: value("TLS_HOST").unwrap_or_default(),
            cert_path: value("CERT_PATH").unwrap_or_default().into(),
            gateway: value("GATEWAY")?,
            etc: PathBuf::from(value("STATE")?).join("etc").join("docker"),
        })
    }
}

const HOW: &str =
    "run `cargo xtask docker-up`, or leave such tests out with `cargo xtask test --without-docker`";

/// An Engine for one test, beside the shared one (`tests/servers/docker/private-engine`). Dropping it ends it with all
/// that is in it; what a killed test leaves, the next one ends, or the end of the test run.
#[derive(Debug)]
pub struct PrivateEngine {
    /// How it is reached.
    pub engine: DockerEngine,
    state: PathBuf,
    /// Locked while the test lives.
    _owner: File,
    /// Given on when it has ended.
    _turn: Turn,
}

/// Tells the private Engines of one test process from each other.
static NEXT: AtomicU32 = AtomicU32::new(1);

impl PrivateEngine {
    /// Starts one; `options` are dockerd's (`--live-restore`), after `--room SIZE` for one with a small disk. Waits
    /// while other tests of this process have two, so a test has one at a time.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start(options: &[&str]) -> Self {
        let turn = Turn::take();
        let root = workspace().join("target/private-engines");
        fs::create_dir_all(&root).expect("a directory of the build");
        script("sweep", &root, &[] as &[&str]);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let state = root.join(format!("{}-{number}", std::process::id()));
        let owner = {
            // A sweep must not find it before it has its owner.
            let lock = File::create(root.join("lock")).expect("a file of the build");
            lock.lock().expect("a lock");
            fs::create_dir(&state).expect("a new directory");
            let owner = File::create(state.join("owner")).expect("a new file");
            owner.lock().expect("a lock");
            owner
        };
        script("start", &state, options);
        let engine = DockerEngine::described(&state.join("env"));
        Self {
            engine: engine.expect("a started Engine is described"),
            state,
            _owner: owner,
            _turn: turn,
        }
    }

    /// Gives it images of the shared Engine.
    pub fn copy(&self, images: &[&str]) {
        let shared = DockerEngine::running();
        let arguments = [&[shared.host.as_str()], images].concat();
        script("copy", &self.state, &arguments);
    }

    /// Sends its daemon a signal (`KILL`, `TERM`), and waits for its end. Its containers are as the daemon leaves them.
    pub fn kill(&self, signal: &str) {
        script("kill", &self.state, &[signal]);
    }

    /// Starts its daemon again, as it was started before.
    pub fn start_again(&self) {
        script("start", &self.state, &[] as &[&str]);
    }

    /// Runs a command on its machine, whose `/etc` and `/usr/local/share/ca-certificates` are its own.
    pub fn on_its_machine(&self, command: &[impl AsRef<OsStr>]) {
        script("on", &self.state, command);
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        let ended = command("end", &self.state).status();
        if !ended.is_ok_and(|status| status.success()) && !std::thread::panicking() {
            panic!("the private Engine in {} is left", self.state.display());
        }
    }
}

/// So many private Engines does a process have at once: starting one and giving it images keeps a small machine busy.
const AT_ONCE: usize = 2;

/// How many there are.
static THERE: Mutex<usize> = Mutex::new(0);
static ONE_LESS: Condvar = Condvar::new();

#[derive(Debug)]
struct Turn;

impl Turn {
    fn take() -> Self {
        let there = ONE_LESS.wait_while(locked(), |there| *there >= AT_ONCE);
        *there.unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *locked() -= 1;
        ONE_LESS.notify_one();
    }
}

fn locked() -> MutexGuard<'static, usize> {
    THERE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn command(command: &str, state: &Path) -> Command {
    let mut script = Command::new(workspace().join("tests/servers/docker/private-engine"));
    script.arg(command).arg(state);
    script
}

fn script(name: &str, state: &Path, arguments: &[impl AsRef<OsStr>]) {
    let output = command(name, state).args(arguments).output();
    let output = output.expect("bash is there");
    assert!(
        output.status.success(),
        "private-engine {name}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
