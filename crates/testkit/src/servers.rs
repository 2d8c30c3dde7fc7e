//! Servers and proxies that others wrote, each with directory, port and certificate of its own.
//!
//! `cargo xtask test-servers` installs them (`tests/servers/`). A test that needs one that is not there
//! fails and says so: a test that is left out proves nothing. All listen on loopback, and are killed
//! when their handle is dropped. Facts: `test-servers.md` 7 to 9.

mod aws;
#[cfg(unix)]
mod docker;
mod git;
mod object_store;
mod openbao;
mod proxies;
mod redis;
mod registry;

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub use aws::{Moto, boto3};
#[cfg(unix)]
pub use docker::{DockerEngine, PrivateEngine};
pub use git::{GitServer, GitServerOrder};
pub use object_store::ObjectStore;
pub use openbao::OpenBao;
pub use proxies::{ForwardProxy, InterceptingProxy};
pub use redis::Redis;
pub use registry::Registry;

/// Upper bound for a start. Under load an interpreter takes some seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where an installed program lies.
///
/// # Panics
///
/// When it is not installed.
pub fn program(name: &str) -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-servers");
    let places = [installed.join("bin"), installed.join("venv").join("bin")];
    places
        .into_iter()
        .chain(SYSTEM_PATH.split(':').map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed; run `cargo xtask test-servers`"))
}

const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A running program that listens; killed when dropped.
struct Daemon {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Daemon {
    /// Starts what `command` says for a directory and a free port, and waits until it listens.
    /// Nothing of the test machine's environment reaches it.
    fn start(host: IpAddr, command: impl FnOnce(&Path, u16) -> Command) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("courser-server-")
            .tempdir()
            .expect("a temporary directory can be made");
        let address = SocketAddr::new(host, free_port(host));
        let log = std::fs::File::create(directory.path().join("output")).expect("a log");
        let mut command = command(directory.path(), address.port());
        let child = command
            .env_clear()
            .env("PATH", SYSTEM_PATH)
            .env("HOME", directory.path())
            .env("LC_ALL", "C.UTF-8")
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut daemon = Self {
            child,
            address,
            directory,
        };
        until(PATIENCE, || {
            let listens = TcpStream::connect(address).is_ok();
            // Asked also when somebody listens: it may be another program that has taken the port.
            let ended = daemon.child.try_wait().expect("a child can be waited for");
            let told = format!(
                "{command:?} does not listen on {address} ({ended:?}):\n{}",
                daemon.read("output")
            );
            assert!(ended.is_none(), "{told}");
            if listens { Ok(()) } else { Err(told) }
        });
        daemon
    }

    /// A file of its directory; empty when it is not there.
    fn read(&self, file: &str) -> String {
        let bytes = std::fs::read(self.directory.path().join(file));
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself; the test has seen that.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What `look` finds within that time.
///
/// # Panics
///
/// When it finds nothing; the message is what it said last.
fn until<T>(patience: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        match look() {
            Ok(found) => return found,
            Err(told) => assert!(Instant::now() < deadline, "{told}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A port below the range from which the system gives free ones: nobody takes it before the server does.
fn free_port(host: IpAddr) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 400).unwrap_or(0) * 50;
    loop {
        let port = 12_000 + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind((host, port)).is_ok() {
            return port;
        }
    }
}

/// Writes a file that only its owner reads.
fn write(directory: &Path, name: &str, content: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, content).expect("a file can be written");
    path
}
