//! Jobs that are left over where something is in the way.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Mutex;

use courser_config::Environment;
use courser_helper::LightEnvironment;
use courser_job::{DirectoryLayout, RunnerContext};
use courser_net::{Legs, ProxySettings};
use courser_testkit::server::{FakeServer, Reply};
use serde_json::json;

use super::*;
use crate::spool::{JobFiles, Spool, SpoolLimits};
use crate::{InProcessHelper, WorkingCopies};

fn settings(directory: &Path) -> RunnerSettings {
    let limits = SpoolLimits {
        job: u64::MAX,
        total: u64::MAX,
    };
    RunnerSettings {
        executors: Executors::shell(),
        host: Host {
            working_directory: directory.to_owned(),
            user: None,
            helper_command: "/bin/false".to_owned(),
            light_helper: Arc::new(InProcessHelper(LightEnvironment {
                variables: Environment::default(),
                host_name: "testhost".to_owned(),
            })),
            grace: Duration::from_secs(10),
        },
        legs: Legs::only(None, directory.to_owned()),
        proxy: ProxySettings::default(),
        secrets: Surroundings::new(
            Legs::only(None, directory.to_owned()),
            ProxySettings::default(),
            "gitlab-runner test".to_owned(),
            courser_secrets::Environment::default(),
        ),
        user_agent: "gitlab-runner test".to_owned(),
        system_id: "s_0123456789ab".to_owned(),
        host_name: "testhost".to_owned(),
        spool: Spool::open(directory.join("spool"), limits).expect("a spool"),
        keep_alive: Duration::from_secs(30),
        metrics: crate::metrics::Metrics::default(),
        working_copies: WorkingCopies::default(),
    }
}

fn begin(settings: &RunnerSettings, url: &str) -> JobFiles {
    let files = settings.spool.begin(JobRecord {
        url: url.to_owned(),
        ..JobRecord::for_test()
    });
    files.expect("files of a job")
}

/// A job whose scripts succeeded, kept before its artifacts were saved.
fn keep_unfinished(files: &mut JobFiles, directory: &Path) {
    let payload = json!({
        "id": 7, "token": "job",
        "job_info": {"name": "job", "project_id": 1},
        "git_info": {"repo_url": "http://h/g/p.git", "ref": "main",
            "sha": "0123456789abcdef0123456789abcdef01234567"},
        "runner_info": {"timeout": 60},
        "variables": [{"key": "GIT_STRATEGY", "value": "none"}],
        "steps": [{"name": "script", "script": ["exit 1"]}],
    });
    let builds = directory.join("builds").display().to_string();
    let context = RunnerContext {
        short_token: "abc".to_owned(),
        executor: "shell".to_owned(),
        shell: "bash".to_owned(),
        directories: DirectoryLayout {
            cache: builds.clone(),
            builds,
            shared_builds: true,
        },
        ..RunnerContext::default()
    };
    let over = json!({"status": "success", "failure": null});
    files.record(&Record::Started).expect("written down");
    files
        .keep_unfinished(&Unfinished {
            payload: Cow::Owned(serde_json::from_value(payload).expect("a payload")),
            context: Cow::Owned(context),
            over: serde_json::from_value(over).expect("what scripts came to"),
        })
        .expect("kept");
}

fn config(executor: &str, url: &str) -> Arc<Config> {
    Arc::new(Config {
        runners: vec![RunnerConfig {
            url: url.to_owned(),
            token: "runner".into(),
            executor: executor.to_owned(),
            ..RunnerConfig::default()
        }],
        ..Config::default()
    })
}

#[tokio::test]
async fn a_job_that_cannot_be_taken_is_swept_once_and_its_working_copy_is_held() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = settings(directory.path());
    let private = directory.path().join("private");
    std::fs::create_dir(&private).expect("a directory");
    let credentials = private.join("credentials");
    std::fs::write(&credentials, "of the dead job").expect("written");
    let mut files = begin(&settings, "no address");
    let footprint = json!({
        "processes": {"mark": uuid::Uuid::new_v4(), "cgroup": null},
        "boot": "before",
        "private": [private],
    });
    let footprint = courser_executor::Footprint::new("shell", &footprint);
    files
        .record(&Record::Footprint(footprint))
        .expect("written down");
    keep_unfinished(&mut files, directory.path());
    drop(files);

    let (_config, configured) = watch::channel(Arc::new(Config::default()));
    let mut resumption = Resumption::new(settings.clone(), configured);
    assert_eq!(resumption.look().await, 0);
    assert!(!credentials.exists());
    let held = settings.spool.held_numbers();
    let mut new = crate::dispatch::Numbers::default();
    let new = new.take(1, "abc", held);
    assert_eq!((new.of_runner, new.of_project), (1, 1));
    // Somebody else's by now.
    std::fs::write(&credentials, "of a new job").expect("written");
    assert_eq!(resumption.look().await, 0);
    assert!(credentials.exists());
    assert_eq!(resumption.holds.len(), 1);
}

#[tokio::test]
async fn what_cannot_be_saved_as_the_runner_is_configured_is_saved_once_it_can() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = settings(directory.path());
    let states = Arc::new(Mutex::new(Vec::new()));
    let server = {
        let states = Arc::clone(&states);
        FakeServer::http(move |request| {
            if request.method == "PUT" {
                let state = request.json()["state"].as_str().unwrap_or("").to_owned();
                states.lock().expect("no panic").push(state);
                return Reply::status(200);
            }
            Reply::status(202)
        })
    };
    let url = server.url("");
    let mut files = begin(&settings, &url);
    keep_unfinished(&mut files, directory.path());
    drop(files);

    let told = |state: &'static str| {
        let states = Arc::clone(&states);
        let told = async move {
            while states.lock().expect("no panic").last().map(String::as_str) != Some(state) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), told)
    };
    let (sender, configured) = watch::channel(config("docker", &url));
    let mut resumption = Resumption::new(settings, configured);
    assert_eq!(resumption.look().await, 1);
    told("running").await.expect("it is kept alive");
    sender.send_replace(config("shell", &url));
    told("success").await.expect("it ends as its scripts did");
}
