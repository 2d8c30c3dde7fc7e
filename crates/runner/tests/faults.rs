//! The runner against a GitLab that cancels, refuses and disappears.

mod world;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use courser_testkit::server::{FakeServer, Reply, Request};
use serde_json::json;
use world::{World, eventually, is_alive};

/// A server with one job.
struct GitLab {
    script: String,
    after_script: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    handed_out: bool,
    requests: usize,
    /// `Job-Status` of every answer from now on.
    job_status: &'static str,
    /// Status of the acknowledgement.
    acknowledgement: u16,
    /// `runner_info.timeout` of the job.
    timeout: i64,
    /// Status of `jobs/request`, 0 = the right one.
    request_status: u16,
    /// `secrets` of the job.
    secrets: serde_json::Value,
    log: Vec<u8>,
    finals: Vec<serde_json::Value>,
}

impl GitLab {
    fn start(script: &str, after_script: &str) -> (Arc<Self>, FakeServer, World) {
        let gitlab = Arc::new(Self {
            script: script.to_owned(),
            after_script: after_script.to_owned(),
            state: Mutex::new(State {
                acknowledgement: 200,
                timeout: 3600,
                job_status: "running",
                ..State::default()
            }),
        });
        let server = {
            let gitlab = Arc::clone(&gitlab);
            FakeServer::http(move |request| gitlab.answer(request))
        };
        let world = World::new(&server.url(""), "token");
        (gitlab, server, world)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no test panics while it holds this")
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&self.state().log).into_owned()
    }

    fn is_over(&self) -> bool {
        !self.state().finals.is_empty()
    }

    fn answer(&self, request: &Request) -> Reply {
        let mut state = self.state();
        match request.method.as_str() {
            "POST" => {
                state.requests += 1;
                if state.request_status != 0 {
                    return Reply::status(state.request_status);
                }
                if std::mem::replace(&mut state.handed_out, true) {
                    return Reply::status(204);
                }
                Reply::json(201, &self.payload(&state))
            }
            "PATCH" => {
                state.log.extend_from_slice(&request.body);
                Reply::status(202)
                    .header("Job-Status", state.job_status)
                    .header("X-GitLab-Trace-Update-Interval", "1")
            }
            _ => {
                let update = request.json();
                if update["state"] != "running" {
                    state.finals.push(update);
                    return Reply::status(200);
                }
                Reply::status(state.acknowledgement)
                    .header("Job-Status", state.job_status)
                    .header("X-GitLab-Trace-Update-Interval", "1")
            }
        }
    }

    fn payload(&self, state: &State) -> serde_json::Value {
        json!({
            "id": 7, "token": "job", "allow_git_fetch": true,
            "job_info": {"name": "job", "stage": "test", "project_id": 1, "project_name": "p"},
            "git_info": {"repo_url": "http://h/g/p.git", "ref": "main", "ref_type": "branch",
                "sha": "0123456789abcdef0123456789abcdef01234567",
                "before_sha": "0000000000000000000000000000000000000000"},
            "runner_info": {"timeout": state.timeout}, "secrets": state.secrets,
            "variables": [{"key": "GIT_STRATEGY", "value": "none", "public": true}],
            "steps": [{"name": "script", "script": [self.script]},
                {"name": "after_script", "script": [self.after_script]}],
            "features": {"failure_reasons": ["job_canceled"]},
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soft_cancel_ends_the_script_s_tree_and_runs_after_script() {
    let script = "setsid sleep 600 & echo child $!; for i in $(seq 6000); do sleep 0.1; echo tick; done; echo never";
    let (gitlab, _server, world) = GitLab::start(script, "echo after: $CI_JOB_STATUS");
    let child = || {
        let log = gitlab.log();
        let line = log
            .lines()
            .find(|line| line.contains("child") && !line.contains('$'));
        line.and_then(|line| Some(line.split_once("child ")?.1.trim().to_owned()))
    };
    world
        .run_until(async {
            eventually("the script runs", || child().is_some()).await;
            gitlab.state().job_status = "canceling";
            eventually("it is over", || gitlab.is_over()).await;
        })
        .await;
    let log = gitlab.log();
    assert!(log.contains("after: canceled"), "{log}");
    assert!(!log.contains("\nnever"), "{log}");
    assert!(!is_alive(&child().expect("seen above")));
    let report = gitlab.state().finals[0].clone();
    assert_eq!(
        (&report["state"], &report["failure_reason"]),
        (&json!("failed"), &json!("job_canceled"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_acknowledgement_is_refused_never_runs() {
    let place = tempfile::tempdir().expect("temporary directory");
    let marker = place.path().join("ran");
    let (gitlab, _server, world) = GitLab::start(&format!("touch {}", marker.display()), "true");
    gitlab.state().acknowledgement = 403;
    world
        .run_until(eventually("it asks again", || gitlab.state().requests >= 3))
        .await;
    assert!(!marker.exists());
    assert!(gitlab.state().finals.is_empty(), "it is dropped silently");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ignores_a_forceful_end_is_killed_in_time_and_reported() {
    let script = "trap '' TERM; echo pid $$; for i in 1 2 3 4 5; do sleep 120; done";
    let (gitlab, _server, mut world) = GitLab::start(script, "echo after");
    world.grace = Duration::from_secs(600);
    world.change(|config| config.shutdown_timeout = Duration::from_secs(4));
    let shutdown = world.shutdown.clone();
    let ended = world
        .run_until(async {
            let runs = || {
                gitlab
                    .log()
                    .lines()
                    .any(|line| line.contains("pid ") && !line.contains('$'))
            };
            eventually("the script runs", runs).await;
            shutdown.forcefully("interrupt");
        })
        .await;
    assert_eq!(ended, courser_runner::Ended::Clean);
    assert!(
        gitlab.log().contains("aborted: interrupt"),
        "{}",
        gitlab.log()
    );
    assert_eq!(gitlab.state().finals[0]["state"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_does_not_answer_does_not_keep_a_forced_end_from_reporting() {
    let asked = Arc::new(AtomicBool::new(false));
    let vault = {
        let asked = Arc::clone(&asked);
        FakeServer::http(move |request| match request.path.as_str() {
            "/v1/auth/token/revoke-self" => {
                asked.store(true, Ordering::Relaxed);
                Reply::Stall
            }
            path if path.ends_with("/login") => {
                Reply::json(200, &json!({"auth": {"client_token": "s.token"}}))
            }
            _ => Reply::json(200, &json!({"data": {"data": {"value": "of the vault"}}})),
        })
    };
    let (gitlab, _server, world) = GitLab::start("true", "true");
    gitlab.state().secrets = secret_of(&vault);
    world.change(|config| config.shutdown_timeout = Duration::from_secs(4));
    let shutdown = world.shutdown.clone();
    let ended = world
        .run_until(async {
            let revoking = || asked.load(Ordering::Relaxed);
            eventually("its token is being revoked", revoking).await;
            shutdown.forcefully("interrupt");
        })
        .await;
    let log = gitlab.log();
    assert_eq!(ended, courser_runner::Ended::Clean, "{log}");
    assert_eq!(gitlab.state().finals[0]["state"], "success", "{log}");
    assert!(
        log.contains("no answer before the runner had to end"),
        "{log}"
    );
    let left = std::fs::read_dir(world.spool().directory()).expect("a spool");
    let left = left.flatten().map(|entry| entry.file_name());
    let mut left = left.filter(|name| name.to_string_lossy().starts_with("leases-"));
    assert!(left.next().is_some(), "the next process revokes it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_end_with_a_login_under_way_leaves_no_job() {
    let vault = FakeServer::http(|_| Reply::Stall);
    let (gitlab, _server, world) = GitLab::start("true", "true");
    gitlab.state().secrets = secret_of(&vault);
    world.change(|config| config.shutdown_timeout = Duration::from_secs(4));
    let shutdown = world.shutdown.clone();
    let ended = world
        .run_until(async {
            eventually("a login", || !vault.requests().is_empty()).await;
            shutdown.forcefully("interrupt");
        })
        .await;
    let log = gitlab.log();
    assert_eq!(ended, courser_runner::Ended::Clean, "{log}");
    assert!(gitlab.is_over(), "{log}");
    assert!(log.contains("1 request is still under way"), "{log}");
}

/// `secrets` of a job that asks this Vault.
fn secret_of(vault: &FakeServer) -> serde_json::Value {
    json!({"MY_SECRET": {"vault": {
        "server": {"url": vault.url(""), "namespace": null,
            "auth": {"name": "jwt", "path": "jwt", "data": {"jwt": "a.b.c", "role": "r"}}},
        "engine": {"name": "kv-v2", "path": "ops"}, "path": "db", "field": "value"}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_beyond_all_time_is_no_timeout() {
    let (gitlab, _server, world) = GitLab::start("true", "true");
    gitlab.state().timeout = i64::MAX;
    world
        .run_until(eventually("the job is done", || gitlab.is_over()))
        .await;
    let end = gitlab.state().finals[0]["state"].clone();
    assert_eq!(end, "success", "{}", gitlab.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_runner_stops_asking_until_a_reload() {
    let (gitlab, _server, world) = GitLab::start("true", "true");
    gitlab.state().request_status = 403;
    world
        .run_until(async {
            eventually("three refusals", || gitlab.state().requests == 3).await;
            // Twenty intervals, in which nothing may happen.
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(gitlab.state().requests, 3);
            gitlab.state().request_status = 0;
            world.change(|config| config.check_interval = Duration::from_millis(60));
            eventually("the job is done", || gitlab.is_over()).await;
        })
        .await;
    assert_eq!(gitlab.state().finals[0]["state"], "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_breaks_down_is_asked_again() {
    let (gitlab, _server, world) = GitLab::start("true", "true");
    gitlab.state().request_status = 501;
    world
        .run_until(async {
            eventually("many failures", || gitlab.state().requests >= 5).await;
            gitlab.state().request_status = 0;
            eventually("the job is done", || gitlab.is_over()).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_megabytes_passes() {
    let script = "head -c 3000000 /dev/zero | tr '\\0' 'x'; echo; echo done";
    let (gitlab, _server, world) = GitLab::start(script, "true");
    world
        .run_until(eventually("it is over", || gitlab.is_over()))
        .await;
    let log = gitlab.log();
    assert!(log.matches("xxxxxxxxxx").count() >= 300_000 - 100);
    let report = gitlab.state().finals[0].clone();
    assert_eq!(
        report["output"]["bytesize"],
        json!(gitlab.state().log.len())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_runner_kills_its_jobs() {
    let script = "sleep 603 & echo child $!; wait";
    let (gitlab, _server, world) = GitLab::start(script, "true");
    let child = || {
        let log = gitlab.log();
        let line = log
            .lines()
            .find(|line| line.contains("child") && !line.contains('$'));
        line.and_then(|line| Some(line.split_once("child ")?.1.trim().to_owned()))
    };
    tokio::select! {
        _ = world.run_until(std::future::pending()) => {}
        () = eventually("the script runs", || child().is_some()) => {}
    }
    let child = child().expect("seen above");
    eventually("it dies", || !is_alive(&child)).await;
}
