//! A private world for one test: repositories, a project directory, requests to the helper.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use courser_config::Environment;
use courser_helper::{HelperEnvironment, HelperError, HelperRequest, Output, Programs};
use courser_job::helper_request::{GetSources, GitStrategy, OldGitConfig};
use courser_net::{Legs, ProxySettings};

pub(crate) struct World {
    root: tempfile::TempDir,
}

/// Standard output and error of one request.
pub(crate) struct Log {
    pub(crate) out: String,
    pub(crate) err: String,
}

impl World {
    /// A world with the repository `origin`: two commits on `main`.
    pub(crate) fn new() -> Self {
        let world = Self {
            root: tempfile::tempdir().expect("temporary directory"),
        };
        fs::create_dir(world.path("origin")).expect("directory");
        world.git("origin", &["init", "-q", "-b", "main"]);
        world.commit("first");
        world.commit("second");
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    /// Adds a file of that name and its commit to `origin`.
    pub(crate) fn commit(&self, name: &str) -> String {
        fs::write(self.path("origin").join(name), name).expect("file");
        self.git("origin", &["add", "-A"]);
        self.git("origin", &["commit", "-q", "-m", name]);
        self.git("origin", &["rev-parse", "HEAD"])
    }

    pub(crate) fn git(&self, directory: &str, arguments: &[&str]) -> String {
        let answer = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
            .args(arguments)
            .current_dir(self.path(directory))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .expect("git runs");
        assert!(answer.status.success(), "git {arguments:?}: {answer:?}");
        String::from_utf8(answer.stdout)
            .expect("UTF-8")
            .trim()
            .to_owned()
    }

    pub(crate) fn sources(&self, strategy: GitStrategy) -> GetSources {
        GetSources {
            strategy,
            project_dir: self.text("builds/project"),
            temporary_dir: self.text("builds/project.tmp"),
            remote_url: format!("file://{}", self.text("origin")),
            instead_of: Vec::new(),
            sha: self.git("origin", &["rev-parse", "HEAD"]),
            ref_name: "main".to_owned(),
            refspecs: vec!["+refs/heads/main:refs/remotes/origin/main".to_owned()],
            depth: 0,
            object_format: "sha1".to_owned(),
            checkout: true,
            clean_flags: vec!["-ffdx".to_owned()],
            fetch_flags: vec!["--prune".to_owned(), "--quiet".to_owned()],
            clone_flags: Vec::new(),
            user_agent: "gitlab-runner 19.4.0 linux/amd64".to_owned(),
            correlation_id: String::new(),
            bundle_uris: true,
            safe_directory: None,
            old_config: OldGitConfig::Kept,
            submodules: None,
            native_clone: false,
            proactive_auth: false,
            credential_helper_for: None,
            remote_base: None,
            lfs_skip_smudge: false,
            tls_base: None,
            tls_ca_file: None,
            tls_client_pair: None,
            tls_ca_file_only: false,
            credential_reject_url: None,
        }
    }

    pub(crate) fn environment(&self, variables: &[(&str, &str)]) -> HelperEnvironment {
        let home = self.text("home");
        let all = [("HOME", home.as_str()), ("PATH", "/usr/bin:/bin")];
        HelperEnvironment {
            variables: Environment::new(
                all.iter()
                    .chain(variables)
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
            ),
            proxy: ProxySettings::default(),
            legs: Legs::only(None, self.root.path().to_owned()),
            host_name: "build.example".to_owned(),
            user_agent: "gitlab-runner-helper 19.4.0".to_owned(),
            started: "2026-11-21T12:00:00Z".parse().expect("a time"),
            retry_pause: std::time::Duration::from_millis(1),
            temporary_directory: self.root.path().to_owned(),
        }
    }

    pub(crate) fn run(&self, request: &HelperRequest) -> (Result<(), HelperError>, Log) {
        self.run_in(request, &self.environment(&[]))
    }

    pub(crate) fn run_in(
        &self,
        request: &HelperRequest,
        environment: &HelperEnvironment,
    ) -> (Result<(), HelperError>, Log) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut output = Output {
            out: &mut out,
            err: &mut err,
            programs: Programs::Capture,
        };
        let result = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(courser_helper::run(request, environment, &mut output));
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let log = Log {
            out: text(out),
            err: text(err),
        };
        (result, log)
    }

    /// Writes a file and the directories above it.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("has one")).expect("directories");
        fs::write(path, content).expect("file");
        self.text(name)
    }

    /// Runs a request that has to succeed.
    pub(crate) fn done(&self, request: &HelperRequest) -> Log {
        let (result, log) = self.run(request);
        if let Err(error) = result {
            panic!("{error}\n{}\n{}", log.out, log.err);
        }
        log
    }
}

/// Every file below a directory, with its path.
pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}

/// A text without colors.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        plain.push_str(&rest[..at]);
        rest = rest[at..].split_once('m').map_or("", |(_, after)| after);
    }
    plain + rest
}
