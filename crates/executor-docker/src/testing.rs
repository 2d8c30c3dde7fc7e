//! Jobs and configurations for the tests of this crate's decisions.

use std::path::Path;

use courser_config::{Environment, RunnerConfig, load};
use courser_job::{DirectoryLayout, Job, RunnerContext};
use courser_net::legs::DockerOptions;
use courser_net::{Legs, SystemRoots};
use courser_protocol::JobResponse;
use courser_testkit::server::FakeServer;
use serde_json::{Value, json};

use crate::engine::{ApiVersion, Engine};
use crate::plan::{Daemon, Inputs};

/// The Engine that a fake plays.
pub(crate) async fn connected(server: &FakeServer) -> Engine {
    let host = format!("tcp://{}", server.address());
    let options = DockerOptions {
        host: &host,
        ..DockerOptions::default()
    };
    let way = Legs::new(SystemRoots::None, None, "/".into()).docker(options);
    Engine::connect(&way).await.expect("a fake answers")
}

/// A small, whole job, with `change` laid over the top level of its payload.
pub(crate) fn job(change: Value) -> Job {
    job_of_runner(change, &runner(""))
}

/// The same, of a runner with that configuration.
pub(crate) fn job_of_runner(change: Value, runner: &RunnerConfig) -> Job {
    let mut whole = json!({
        "id": 42,
        "token": "tok-en",
        "allow_git_fetch": true,
        "job_info": {"name": "build", "project_id": 7, "pipeline_id": 99},
        "git_info": {
            "repo_url": "https://gitlab-ci-token:tok-en@gitlab.example/group/p.git",
            "ref": "main",
            "sha": "0123456789abcdef0123456789abcdef01234567",
            "before_sha": "0000000000000000000000000000000000000000",
        },
        "runner_info": {"timeout": 7200},
        "variables": [],
        "steps": [{"name": "script", "script": ["true"]}],
        "image": {"name": "alpine:3"},
    });
    for (key, value) in change.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    let payload = JobResponse::from_json(whole.to_string().as_bytes()).expect("a payload");
    let context = RunnerContext {
        short_token: "abc_def_g".to_owned(),
        system_id: "s_123".to_owned(),
        executor: "docker".to_owned(),
        concurrent_id: 5,
        concurrent_project_id: 2,
        environment: runner.environment.clone(),
        feature_flags: runner.feature_flags.clone(),
        directories: DirectoryLayout {
            builds: "/builds".to_owned(),
            cache: "/cache".to_owned(),
            shared_builds: false,
        },
        ..RunnerContext::default()
    };
    Job::accept(payload, context).expect("accepted")
}

/// A runner with these lines in `[runners.docker]`.
pub(crate) fn runner(docker: &str) -> RunnerConfig {
    let text = format!(
        "[[runners]]\nurl = \"https://gitlab.example\"\ntoken = \"glrt-secret\"\nexecutor = \"docker\"\n\
         [runners.docker]\n{docker}\n"
    );
    let mut loaded = load(&text, "config.toml", &Environment::default()).expect("loads");
    loaded.config.runners.remove(0)
}

/// A Linux daemon of today.
pub(crate) fn daemon() -> Daemon {
    Daemon {
        os: "linux".to_owned(),
        architecture: "x86_64".to_owned(),
        api: ApiVersion::new(1, 52),
    }
}

/// Inputs of a plan; files cannot be read.
pub(crate) fn inputs<'a>(job: &'a Job, runner: &'a RunnerConfig, daemon: &'a Daemon) -> Inputs<'a> {
    Inputs {
        runner,
        job,
        daemon,
        random: [7; 8],
        working_directory: Path::new("/srv/runner"),
        read_file: &|path| {
            Err(std::io::Error::new(
                std::io::ErrorKind::NotFound,
                format!("open {path}: no such file or directory"),
            ))
        },
    }
}
