//! What a Vault made for a job ends with it, however it ends, and nothing of it is left on this machine.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use courser_testkit::servers::Redis;
use serde_json::json;

use super::scene::{failed, success};
use super::vault::Vault;
use crate::wire::gitlab::Record;
use crate::world::eventually;

/// A job with a token and a lease of a database is brought to its end in that way; nothing is left on the server.
fn revoked_when(end: impl FnOnce(&mut Vault), timeout: u64, script: &str) -> Record {
    let mut vault = Vault::new();
    let redis = Redis::start(Ipv4Addr::LOCALHOST);
    redis.serve_users(&vault.bao);
    let script = format!("echo started; {script}");
    let mut job = vault.job(
        &[&script],
        &[("MY_SECRET", "production/db", "password", Some(false))],
    );
    for field in ["username", "password"] {
        let mut secret = vault.secret("creds/job", field, Some(false));
        secret["vault"]["engine"] = json!({"name": "generic", "path": "database"});
        job["secrets"][format!("DB_{field}")] = secret;
    }
    job["runner_info"]["timeout"] = json!(timeout);
    vault.scene.gitlab.queue(&job);
    vault.scene.runner();
    vault
        .scene
        .gitlab
        .wait(1, |job| shows(job, "O started") || job.end.is_some());
    let lives = |vault: &Vault| {
        let leases = vault.bao.leases("database/creds/job");
        (vault.bao.accessors().len(), leases.len())
    };
    end(&mut vault);
    let job = vault.scene.gitlab.finished(1);
    // A runner that was killed revokes beside the jobs that it tells of.
    eventually("nothing is left", || lives(&vault) == (0, 0));
    job
}

/// The same, told in the job's log.
fn revoked_and_told_when(end: impl FnOnce(&mut Vault), timeout: u64, script: &str) -> Record {
    let job = revoked_when(end, timeout, script);
    let text = job.text();
    let line = "Revoked 1 token and 1 lease of this job's secrets";
    assert!(text.contains(line), "{text}");
    job
}

/// Token and lease live while the job's script runs.
fn live(vault: &Vault) {
    assert_eq!(vault.bao.accessors().len(), 1);
    assert_eq!(vault.bao.leases("database/creds/job").len(), 1);
}

#[test]
fn tokens_and_leases_end_with_a_job_that_succeeds() {
    let go_on = |vault: &mut Vault| {
        live(vault);
        vault.scene.world.write("work/go-on", "");
    };
    let script = "until test -e ../../../../../go-on; do sleep 0.05; done";
    let job = revoked_and_told_when(go_on, 3600, script);
    assert_eq!(job.outcome(), success());
}

#[test]
fn tokens_end_with_a_job_whose_script_fails() {
    let job = revoked_and_told_when(|_| (), 3600, "exit 3");
    assert_eq!(job.outcome(), failed("script_failure", 3));
}

#[test]
fn tokens_end_with_a_job_that_is_canceled() {
    let cancel = |vault: &mut Vault| {
        live(vault);
        vault
            .scene
            .gitlab
            .change(1, |job| "canceling".clone_into(&mut job.status));
    };
    let job = revoked_and_told_when(cancel, 3600, "sleep 60");
    assert_eq!(job.outcome(), failed("unknown_failure", 0));
}

#[test]
fn tokens_end_with_a_job_that_takes_too_long() {
    let job = revoked_and_told_when(|_| (), 2, "sleep 60");
    assert_eq!(job.outcome(), failed("job_execution_timeout", 0));
}

#[test]
fn tokens_of_a_runner_that_is_killed_end_at_its_next_start() {
    let kill = |vault: &mut Vault| {
        vault.scene.runner().signal("KILL");
        assert_eq!(vault.scene.runner_ends(), -1);
        live(vault);
        vault.scene.runner();
    };
    let job = revoked_when(kill, 3600, "sleep 60");
    assert_eq!(job.outcome(), failed("runner_system_failure", 0));
}

/// Secrets are where the job's own processes are, and nowhere else: not in other processes, not in another job, and not
/// in what a runner that crashes leaves.
#[test]
fn a_crash_of_the_runner_leaves_no_secret() {
    let mut vault = Vault::new();
    vault.scene.allow_many_jobs();
    let value = format!("secret-of-{}-in-no-core", std::process::id());
    let stored = json!({"password": value}).to_string();
    let put = ["kv", "put", "-mount=ops", "production/crash", "-"];
    vault.bao.bao(&put, &stored);
    vault.scene.secret("a secret", &value);
    let secrets = [
        ("AS_FILE", "production/crash", "password", None),
        ("AS_VALUE", "production/crash", "password", Some(false)),
    ];
    let job = vault.job(&["echo started; sleep 60"], &secrets);
    vault.scene.gitlab.queue(&job);
    vault.scene.runner();
    vault.scene.gitlab.wait(1, |job| shows(job, "O started"));

    // Its own secret that is not masked may be in its log.
    let other = vault.scene.job(2, &["env | grep -v ^QUIET_CANARY"]);
    let other = vault.scene.run(&other);
    assert_eq!(other.outcome(), success());
    assert!(other.text().contains("CI_JOB_TOKEN"), "{}", other.text());

    let token = vault.written_down_token();
    vault.scene.secret("the login's token", &token);
    let holders = processes_with(&value);
    assert!(!holders.is_empty());
    for (environment, arguments) in holders {
        assert!(!arguments.contains(&value), "{arguments}");
        assert!(environment.contains("VAULT_ID_TOKEN="), "{arguments}");
    }
    assert!(processes_with(&token).is_empty());

    let process = vault.scene.runner().id().to_string();
    let unlimited = ["--core=unlimited", "--pid", &process];
    let unlimited = Command::new("prlimit").args(unlimited).status();
    assert!(unlimited.expect("util-linux").success());
    vault.scene.runner().signal("ABRT");
    let status = vault.scene.runner_exits();
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
    let job = {
        vault.scene.runner();
        vault.scene.gitlab.finished(1)
    };
    assert_eq!(job.outcome(), failed("runner_system_failure", 0));
    eventually("the token is revoked", || vault.bao.accessors().is_empty());
    // The end of the scene searches all files for them.
}

/// Environment and arguments of the processes that have it in one of them.
fn processes_with(secret: &str) -> Vec<(String, String)> {
    let read = |path: &Path, file| {
        // It may have ended.
        let bytes = std::fs::read(path.join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let all = std::fs::read_dir("/proc").expect("Linux").flatten();
    let all = all.map(|process| {
        (
            read(&process.path(), "environ"),
            read(&process.path(), "cmdline"),
        )
    });
    all.filter(|(environment, arguments)| {
        environment.contains(secret) || arguments.contains(secret)
    })
    .collect()
}

#[test]
fn a_cancel_while_secrets_are_resolved_starts_no_script() {
    let mut vault = Vault::new();
    // A server that never answers: it takes connections and says nothing.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    let mut job = vault.job(
        &["touch ran"],
        &[("MY_SECRET", "production/db", "password", None)],
    );
    job["secrets"]["MY_SECRET"]["vault"]["server"]["url"] = json!(url);
    vault.scene.gitlab.queue(&job);
    vault.scene.runner();
    vault
        .scene
        .gitlab
        .wait(1, |job| shows(job, "secret resolver"));
    vault
        .scene
        .gitlab
        .change(1, |job| "canceling".clone_into(&mut job.status));
    let job = vault.scene.gitlab.finished(1);
    assert_eq!(job.outcome(), failed("unknown_failure", 0));
    let text = job.text();
    assert!(text.contains("ERROR: Job failed: canceled"), "{text}");
    assert!(
        !text.contains("Preparing") && !text.contains("touch"),
        "{text}"
    );
}

fn shows(job: &Record, text: &str) -> bool {
    String::from_utf8_lossy(&job.log).contains(text)
}
