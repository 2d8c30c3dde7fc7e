//! A runner in a private world: its own directories, no system roots, no proxies.

#![allow(dead_code, reason = "each test program uses its part of the world")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use courser_config::{Config, Environment, RunnerConfig};
use courser_executor::{Executors, Host};
use courser_helper::LightEnvironment;
use courser_net::{Legs, ProxySettings};
use courser_runner::{
    Ended, InProcessHelper, Runner, RunnerSettings, Shutdown, Spool, SpoolLimits, WorkingCopies,
};
use courser_testkit::programs::write_program;
use tokio::sync::watch;

/// Longest a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    directory: tempfile::TempDir,
    pub(crate) config: watch::Sender<Arc<Config>>,
    pub(crate) shutdown: Shutdown,
    pub(crate) grace: Duration,
}

impl World {
    /// A world with one shell runner for the GitLab at `url`.
    pub(crate) fn new(url: &str, token: &str) -> Self {
        let config = Config {
            concurrent: 4,
            check_interval: Duration::from_millis(50),
            shutdown_timeout: Duration::from_secs(20),
            runners: vec![RunnerConfig {
                name: "test".to_owned(),
                url: url.to_owned(),
                token: token.into(),
                executor: "shell".to_owned(),
                ..RunnerConfig::default()
            }],
            ..Config::default()
        };
        Self {
            directory: tempfile::tempdir().expect("temporary directory"),
            config: watch::Sender::new(Arc::new(config)),
            shutdown: Shutdown::new(),
            grace: Duration::from_secs(10),
        }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Config)) {
        let mut config = Config::clone(&self.config.borrow());
        change(&mut config);
        self.config.send_replace(Arc::new(config));
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where its jobs are kept.
    pub(crate) fn spool(&self) -> Spool {
        let limits = SpoolLimits {
            job: 1 << 30,
            total: 1 << 30,
        };
        Spool::open(self.path().join("spool"), limits).expect("a spool")
    }

    fn settings(&self) -> RunnerSettings {
        RunnerSettings {
            executors: Executors::shell(),
            host: Host {
                working_directory: self.path().to_owned(),
                user: None,
                helper_command: self.helper_command().display().to_string(),
                light_helper: Arc::new(InProcessHelper(LightEnvironment {
                    variables: Environment::default(),
                    host_name: "testhost".to_owned(),
                })),
                grace: self.grace,
            },
            legs: Legs::only(None, self.path().to_owned()),
            proxy: ProxySettings::default(),
            secrets: courser_secrets::Surroundings::new(
                Legs::only(None, self.path().to_owned()),
                ProxySettings::default(),
                "gitlab-runner test".to_owned(),
                courser_secrets::Environment::default(),
            ),
            user_agent: "gitlab-runner test".to_owned(),
            system_id: "s_0123456789ab".to_owned(),
            host_name: "testhost".to_owned(),
            spool: self.spool(),
            keep_alive: Duration::from_secs(30),
            metrics: courser_runner::metrics::Metrics::default(),
            working_copies: WorkingCopies::default(),
        }
    }

    /// `<command> helper run` is this very test program, told by a variable to be the helper.
    fn helper_command(&self) -> PathBuf {
        let path = self.path().join("courser");
        let program = std::env::current_exe().expect("a test program");
        let script = format!(
            "#!/bin/sh\nCOURSER_TEST_HELPER=1 exec '{}' --exact helper_process --nocapture\n",
            program.display()
        );
        write_program(&path, script);
        path
    }

    /// Runs the runner until `script` is done, then ends it gracefully.
    pub(crate) async fn run_until(&self, script: impl Future<Output = ()>) -> Ended {
        let runner = Runner::new(
            self.settings(),
            self.config.subscribe(),
            self.shutdown.clone(),
        );
        let script = async {
            script.await;
            self.shutdown.gracefully();
        };
        let both = async { tokio::join!(runner.run(), script).0 };
        tokio::time::timeout(PATIENCE, both)
            .await
            .expect("the test is over in time")
    }
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("never happened: {what}"));
}

/// Whether the process with that number lives.
pub(crate) fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z "))
}
