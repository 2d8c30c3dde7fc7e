//! A private world for one test: own home, own environment, own directories.
//!
//! The environment of the test machine never reaches the program: build machines carry trust
//! (`SSL_CERT_FILE`, `GIT_SSL_CAINFO`, …) that makes correct programs fail and wrong ones pass.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Upper bound for anything a test waits for. A test that works never gets near it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Directories and environment of one test; gone when dropped.
pub(crate) struct World {
    directory: TempDir,
}

impl World {
    /// An empty home and an empty work directory.
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("courser-test-")
            .tempdir()
            .expect("a temporary directory");
        for name in ["home", "work", "state"] {
            std::fs::create_dir(directory.path().join(name)).expect("a directory of the world");
        }
        Self { directory }
    }

    /// A path inside the world.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    /// Writes a file, its directories included.
    pub(crate) fn write(&self, relative: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().expect("inside the world")).expect("directories");
        std::fs::write(&path, content).expect("write a file of the world");
        path
    }

    /// Reads a file.
    pub(crate) fn read(&self, relative: &str) -> String {
        let path = self.path(relative);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The program in this world.
    pub(crate) fn courser<I: AsRef<std::ffi::OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = I>,
    ) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_courser"));
        command.args(arguments);
        command
    }

    /// Any program in this world.
    pub(crate) fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", self.path("home"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_CACHE_HOME", self.path("state"))
            .env("LC_ALL", "C.UTF-8")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_NAME", "Ada")
            .env("GIT_AUTHOR_EMAIL", "ada@example.com")
            .env("GIT_COMMITTER_NAME", "Ada")
            .env("GIT_COMMITTER_EMAIL", "ada@example.com")
            .current_dir(self.path("work"))
            .stdin(Stdio::null());
        command
    }

    /// Runs git in a directory of the world and returns its output.
    pub(crate) fn git(&self, directory: &str, arguments: &[&str]) -> String {
        let output = run(self
            .program("git")
            .current_dir(self.path(directory))
            .args(arguments));
        assert!(
            output.status.success(),
            "git {arguments:?}: {}",
            output.all()
        );
        output.stdout
    }

    /// A repository with one commit on `main` that holds these files.
    pub(crate) fn repository(&self, directory: &str, files: &[(&str, &str)]) {
        std::fs::create_dir_all(self.path(directory)).expect("a directory");
        for (name, content) in files {
            self.write(&format!("{directory}/{name}"), content);
        }
        self.git(directory, &["init", "--quiet", "--initial-branch=main"]);
        self.git(directory, &["add", "--all"]);
        self.git(directory, &["commit", "--quiet", "--message", "first"]);
    }

    /// The repository `work/project` with this pipeline, which GitLab knows as `group/app`.
    pub(crate) fn project(&self, pipeline: &str) {
        self.repository("work/project", &[(".gitlab-ci.yml", pipeline)]);
        let url = "https://gitlab.example.com/group/app.git";
        self.git("work/project", &["remote", "add", "origin", url]);
    }
}

/// A finished program.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Everything it printed.
    pub(crate) fn all(&self) -> String {
        format!("--- stdout\n{}--- stderr\n{}", self.stdout, self.stderr)
    }

    /// Exit code; a signal gives -1.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }
}

/// Runs a program to its end, at most [`PATIENCE`].
pub(crate) fn run(command: &mut Command) -> Finished {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the program");
    let stdout = collect(child.stdout.take().expect("piped"));
    let stderr = collect(child.stderr.take().expect("piped"));
    let status = wait(&mut child);
    Finished {
        status,
        stdout: stdout.join().expect("reader"),
        stderr: stderr.join().expect("reader"),
    }
}

fn collect(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes)
            .expect("read the program's output");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("wait for the program") {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().ok();
            panic!("the program did not end within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Blocks of code in a language that a page of `docs/` shows, without the indentation of their list.
pub(crate) fn documented(page: &str, language: &str) -> Vec<String> {
    let path = format!("{}/../../docs/{page}", env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(fence) = lines.next() {
        if fence.trim_start() != format!("```{language}") {
            continue;
        }
        let indentation = fence.len() - fence.trim_start().len();
        let block = lines.by_ref().take_while(|line| line.trim_start() != "```");
        let block = block.map(|line| line.get(indentation..).unwrap_or_default().to_owned() + "\n");
        blocks.push(block.collect());
    }
    blocks
}

/// A program that goes on, with its lines as they come. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    /// Starts it; standard output and standard error are read as one stream of lines.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the program");
        let (sender, lines) = channel();
        let streams: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("piped")),
            Box::new(child.stderr.take().expect("piped")),
        ];
        for stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).split(b'\n') {
                    let Ok(line) = line else { return };
                    if sender
                        .send(String::from_utf8_lossy(&line).into_owned())
                        .is_err()
                    {
                        return;
                    }
                }
            });
        }
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// The next line that holds `text`, also among those already seen but not yet asked for.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        self.wait_for_any(&[text])
    }

    /// The next line that holds one of the texts.
    pub(crate) fn wait_for_any(&mut self, texts: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if texts.iter().any(|text| line.contains(text)) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no line with {texts:?} in\n{}", self.seen.join("\n"))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!(
                        "the program ended without a line with {texts:?}:\n{}",
                        self.seen.join("\n")
                    )
                }
            }
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it printed, once it has ended.
    pub(crate) fn rest(mut self) -> String {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.seen.push(line);
        }
        std::mem::take(&mut self.seen).join("\n")
    }

    /// Sends a signal by name, for example `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status()
            .expect("kill");
        assert!(status.success(), "kill -s {name}");
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
