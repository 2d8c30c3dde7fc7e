//! Nothing is lost: the runner is killed, the server goes away, the disk is full, and what a job printed and
//! what was decided of it arrive all the same.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use courser_testkit::server::{FakeServer, Reply};
use serde_json::{Value, json};

use crate::wire::gitlab::{GitLab, add, payload, spooled, variable};
use crate::world::{Running, World, eventually, run};

/// Whether the end of the one job in the spool is decided.
fn is_decided(world: &World) -> bool {
    let spooled = spooled(world);
    let journal = spooled.first().map(|job| job.join("journal"));
    journal
        .and_then(|journal| std::fs::read_to_string(journal).ok())
        .is_some_and(|journal| journal.contains("\"ended\""))
}

/// The text of scripts alone, without stamps and the runner's own lines.
fn printed(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log);
    let lines = text
        .lines()
        .filter_map(|line| line.get(28..)?.strip_prefix("01O "));
    let own = |line: &&str| !line.starts_with(['\u{1b}']) && !line.starts_with("Running on ");
    lines.filter(own).map(|line| format!("{line}\n")).collect()
}

fn kill(runner: &mut Running) {
    runner.signal("KILL");
    runner.end();
}

#[test]
fn a_runner_that_is_killed_while_a_job_prints_fails_it_with_the_rest_of_its_log() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let record = world.path("record");
    let script = format!(
        "sleep 600 > /dev/null 2>&1 & echo pid $!; for i in $(seq 100000); do echo line $i | tee -a {}; sleep 0.002; done",
        record.display()
    );
    gitlab.queue(&payload(1, &[&script]));
    let mut runner = gitlab.runner(&world, "");
    let seen = gitlab.wait(1, |job| printed(&job.log).contains("line 200"));
    eventually("more lines", || world.read("record").lines().count() > 300);
    kill(&mut runner);
    assert_eq!(spooled(&world).len(), 1);

    let mut runner = gitlab.runner(&world, "");
    runner.wait_for("killed a process that the job left behind");
    let job = gitlab.finished(1);
    assert_eq!(
        job.outcome(),
        ("failed".into(), "runner_system_failure".into(), 0)
    );
    let text = job.text();
    let last = text.lines().last().unwrap_or_default();
    let reason = "Job failed (system failure): the runner was killed while the job ran";
    assert!(last.contains(reason), "{last}");
    // Everything that had come to the runner, and nothing that the job did not print.
    let printed = printed(&job.log);
    let (pid, lines) = printed.split_once('\n').expect("lines");
    let record = world.read("record");
    assert!(record.starts_with(lines), "{lines}");
    assert!(lines.lines().count() >= 290, "{}", lines.lines().count());
    assert!(job.log.starts_with(&seen.log));
    let pid = pid.strip_prefix("pid ").expect("its number");
    // Killed, though nobody may have waited for it yet.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    assert!(stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z ")));
    eventually("the spool is empty", || spooled(&world).is_empty());
}

#[test]
fn a_decided_job_is_reported_whole_by_the_next_process() {
    let (world, gitlab) = (World::new(), GitLab::http());
    gitlab.queue(&payload(1, &["seq 20000", "exit 3"]));
    // Some of the log is taken, every other patch is taken and its answer lost; then nothing more.
    let patches = AtomicUsize::new(0);
    gitlab.on_job(move |request, job| {
        let acknowledgement = request.method == "PUT" && job.updates.len() == 1;
        if acknowledgement {
            return None;
        }
        if request.method == "PATCH" && patches.fetch_add(1, Ordering::Relaxed) == 0 {
            job.log
                .extend_from_slice(&request.body[..request.body.len().min(5000)]);
        }
        Some(Reply::Close)
    });
    let mut runner = gitlab.runner(&world, "");
    eventually("the end is decided", || is_decided(&world));
    kill(&mut runner);

    gitlab.on_job(|_, _| None);
    let _runner = gitlab.runner(&world, "");
    let job = gitlab.finished(1);
    assert_eq!(job.outcome(), ("failed".into(), "script_failure".into(), 3));
    let expected: String = (1..=20000).map(|number| format!("{number}\n")).collect();
    assert_eq!(printed(&job.log), expected);
    assert!(
        job.text()
            .ends_with("ERROR: Job failed: exit status 3\u{1b}[0;m")
    );
    eventually("the spool is empty", || spooled(&world).is_empty());
}

#[test]
fn a_final_state_whose_acknowledgement_was_lost_is_told_again_and_then_forgotten() {
    let (world, gitlab) = (World::new(), GitLab::http());
    gitlab.queue(&payload(1, &["echo hello"]));
    gitlab.on_job(|_, job| {
        let is_over = job
            .updates
            .last()
            .is_some_and(|update| update["state"] == "success");
        match (is_over, job.status.as_str()) {
            (false, _) => None,
            // The server has it, the runner does not know.
            (true, "running") => {
                job.status = "success".to_owned();
                Some(Reply::Stall)
            }
            // As GitLab answers calls of a job that is over.
            (true, _) => Some(Reply::status(403).header("Job-Status", "success")),
        }
    });
    let mut runner = gitlab.runner(&world, "");
    let before = gitlab.wait(1, |job| job.status == "success");
    kill(&mut runner);
    assert_eq!(spooled(&world).len(), 1);
    let mut runner = gitlab.runner(&world, "");
    runner.wait_for("the job that was left over is reported");
    eventually("the spool is empty", || spooled(&world).is_empty());
    let after = gitlab.wait(1, |_| true);
    assert_eq!(after.log, before.log);
    assert_eq!(after.updates.len(), 3);
}

#[test]
fn a_job_that_outlives_the_rounds_of_its_final_update_is_told_when_the_server_is_back() {
    let (world, gitlab) = (World::new(), GitLab::http());
    gitlab.queue(&payload(1, &["echo first"]));
    gitlab.queue(&payload(2, &["echo second"]));
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    gitlab.on_job(move |request, job| {
        let refused = job.payload["id"] == 1 && is_down.load(Ordering::Relaxed);
        let running = request.method == "PUT" && request.json()["state"] == "running";
        (refused && !running).then(|| Reply::status(400))
    });
    let mut runner = gitlab.runner(&world, "job_status_final_update_retry_limit = 1");
    runner.wait_for("it is kept and tried again");
    // New jobs run meanwhile.
    assert_eq!(gitlab.finished(2).outcome().0, "success");
    down.store(false, Ordering::Relaxed);
    let job = gitlab.finished(1);
    assert_eq!(job.outcome().0, "success");
    assert_eq!(printed(&job.log), "first\n");
    eventually("the spool is empty", || spooled(&world).is_empty());
}

#[test]
fn a_job_that_was_not_acknowledged_is_left_to_other_runners() {
    let (world, gitlab) = (World::new(), GitLab::http());
    gitlab.queue(&payload(1, &["echo never"]));
    gitlab.on_job(|_, _| Some(Reply::Stall));
    let mut runner = gitlab.runner(&world, "");
    gitlab.wait(1, |job| job.updates.len() == 1);
    kill(&mut runner);
    // What GitLab says while it waits for the acknowledgement.
    gitlab.on_job(|_, _| Some(Reply::status(400)));
    let _runner = gitlab.runner(&world, "");
    let job = gitlab.wait(1, |job| job.updates.len() == 2);
    assert_eq!(job.updates[1]["state"], "failed");
    eventually("the spool is empty", || spooled(&world).is_empty());
    assert!(job.log.is_empty());
}

/// A job that leaves a file behind.
fn job_with_artifact(id: i64, script: &[&str]) -> Value {
    let artifact = json!({
        "name": "of-$WHO", "paths": ["*.txt"], "when": "always", "expire_in": "1d",
        "artifact_type": "archive", "artifact_format": "zip",
    });
    let job = add(payload(id, script), "artifacts", artifact);
    let masked = json!({"key": "HIDDEN", "value": "hidden-value", "masked": true, "public": false});
    add(variable(job, "WHO", "mars"), "variables", masked)
}

/// What an upload never hears.
fn uploads_stall(gitlab: &GitLab) {
    gitlab.on_job(|request, _| (request.method == "POST").then_some(Reply::Stall));
}

#[test]
fn artifacts_of_a_runner_that_is_killed_are_uploaded_by_the_next_process() {
    use std::os::unix::fs::PermissionsExt as _;
    let (world, gitlab) = (World::new(), GitLab::http());
    gitlab.queue(&job_with_artifact(
        1,
        &["seq 1000 | tee numbers.txt", "pwd"],
    ));
    uploads_stall(&gitlab);
    let mut runner = gitlab.runner(&world, "");
    gitlab.wait(1, |job| job.uploads.len() == 1);
    let unfinished = spooled(&world).remove(0).join("unfinished");
    let mode = std::fs::metadata(unfinished).expect("what is needed to go on");
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    kill(&mut runner);

    // The next process uploads again, and meanwhile gives the working copy to nobody else.
    let mut runner = gitlab.runner(&world, "");
    runner.wait_for("its caches and artifacts are saved again");
    gitlab.wait(1, |job| job.uploads.len() == 2);
    gitlab.queue(&payload(2, &["pwd"]));
    let place = |log: &[u8]| printed(log).lines().last().map(str::to_owned);
    let other = gitlab.finished(2);
    kill(&mut runner);
    gitlab.on_job(|_, _| None);
    let _runner = gitlab.runner(&world, "");
    let job = gitlab.finished(1);
    assert_eq!(job.outcome(), ("success".into(), String::new(), 0));
    let numbers: String = (1..=1000).map(|number| format!("{number}\n")).collect();
    let log = printed(&job.log);
    let directory = log.strip_prefix(&numbers).expect("all that it printed");
    assert!(directory.ends_with("/0/g/p\n"), "{directory}");
    assert!(
        place(&other.log).is_some_and(|place| place.ends_with("/1/g/p")),
        "{}",
        other.text()
    );
    let text = job.text();
    let told = "WARNING: the runner was killed after the job's scripts had ended; caches and artifacts are saved again";
    assert_eq!(text.matches(told).count(), 2, "{text}");
    assert_eq!(text.matches("Job succeeded").count(), 1, "{text}");
    assert_eq!(job.uploads.len(), 3);
    for upload in &job.uploads {
        assert!(
            upload.part.contains("filename=\"of-mars.zip\""),
            "{}",
            upload.part
        );
        assert_eq!(upload.content, job.uploads[0].content, "the same archive");
    }
    eventually("the spool is empty", || spooled(&world).is_empty());
}

#[test]
fn a_job_that_failed_keeps_its_exit_code_when_its_upload_is_repeated() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let script = ["echo kept > kept.txt", "echo $HIDDEN", "exit 3"];
    gitlab.queue(&job_with_artifact(1, &script));
    uploads_stall(&gitlab);
    let mut runner = gitlab.runner(&world, "");
    gitlab.wait(1, |job| job.uploads.len() == 1);
    kill(&mut runner);
    gitlab.on_job(|_, _| None);
    let _runner = gitlab.runner(&world, "");
    let job = gitlab.finished(1);
    assert_eq!(job.outcome(), ("failed".into(), "script_failure".into(), 3));
    assert_eq!(job.uploads.len(), 2);
    assert!(!job.text().contains("hidden-value"));
    eventually("the spool is empty", || spooled(&world).is_empty());
}

#[test]
fn an_upload_waits_until_the_server_is_back() {
    let (world, gitlab) = (World::new(), GitLab::http());
    gitlab.queue(&job_with_artifact(1, &["echo kept > kept.txt"]));
    let down = Arc::new(AtomicBool::new(false));
    let is_down = Arc::clone(&down);
    gitlab.on_job(move |request, _| {
        // It goes away when it sees the first upload.
        is_down.fetch_or(request.method == "POST", Ordering::Relaxed);
        is_down.load(Ordering::Relaxed).then_some(Reply::Close)
    });
    let _runner = gitlab.runner(&world, "");
    // More often than an upload is tried by itself.
    gitlab.wait(1, |job| job.uploads.len() > 3);
    gitlab.on_job(|_, _| None);
    let job = gitlab.finished(1);
    assert_eq!(job.outcome(), ("success".into(), String::new(), 0));
    assert!(
        job.text()
            .contains("The server cannot be reached, uploading again in 1s")
    );
}

#[test]
fn artifacts_that_the_server_refuses_the_next_process_fail_the_job() {
    let (world, gitlab) = (World::new(), GitLab::http());
    gitlab.queue(&job_with_artifact(1, &["echo big > big.txt"]));
    uploads_stall(&gitlab);
    let mut runner = gitlab.runner(&world, "");
    gitlab.wait(1, |job| job.uploads.len() == 1);
    kill(&mut runner);
    gitlab.on_job(|request, _| (request.method == "POST").then(|| Reply::status(413)));
    let _runner = gitlab.runner(&world, "");
    let job = gitlab.finished(1);
    assert_eq!(job.outcome(), ("failed".into(), "script_failure".into(), 1));
    assert!(job.text().contains("too large"), "{}", job.text());
}

#[test]
fn connections_that_are_cut_after_a_patch_double_nothing() {
    let (world, gitlab) = (World::new(), GitLab::http());
    gitlab.queue(&payload(
        1,
        &["for i in $(seq 30); do seq 1000; sleep 0.1; done"],
    ));
    let calls = AtomicUsize::new(0);
    gitlab.on_job(move |request, job| {
        let cut =
            request.method == "PATCH" && [0, 3, 6].contains(&calls.fetch_add(1, Ordering::Relaxed));
        let range = request.header("content-range");
        let from: Option<usize> = range.split('-').next().and_then(|from| from.parse().ok());
        if cut && from == Some(job.log.len()) {
            let half = request.body.len() / 2;
            job.log.extend_from_slice(&request.body[..half]);
        }
        cut.then_some(Reply::Close)
    });
    let _runner = gitlab.runner(&world, "");
    let job = gitlab.finished(1);
    let once: String = (1..=1000).map(|number| format!("{number}\n")).collect();
    assert_eq!(printed(&job.log), once.repeat(30));
}

#[test]
fn a_full_disk_cuts_the_log_and_never_the_job() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let done = world.path("done");
    let script = ["seq 100000", &format!("touch {}", done.display())];
    gitlab.queue(&payload(1, &script));
    let run = gitlab.runner_command(&world, "");
    // Files end at 100 KiB, as on a disk that is full.
    let mut command = world.program("bash");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$0\" \"$@\""])
        .arg(run.get_program())
        .args(run.get_args());
    let _runner = Running::start(&mut command);
    let job = gitlab.finished(1);
    assert_eq!(job.outcome().0, "success");
    assert!(done.exists());
    let text = String::from_utf8_lossy(&job.log);
    let (kept, notice) = text.split_once("\n\u{1b}[33;1m").expect("a notice");
    assert!(
        notice
            .starts_with("Job's log is cut here: it cannot be written to the disk (File too large"),
        "{notice}"
    );
    assert_eq!(text.matches("is cut here").count(), 1);
    assert!((90_000..=102_400).contains(&kept.len()), "{}", kept.len());
}

#[test]
fn a_full_spool_cuts_the_log_and_never_the_job() {
    let (world, gitlab) = (World::new(), GitLab::http());
    gitlab.queue(&payload(1, &["seq 100000", "echo end"]));
    let mut command = gitlab.runner_command(&world, "[spool]\ntotal_limit = 100");
    let _runner = Running::start(&mut command);
    let job = gitlab.finished(1);
    assert_eq!(job.outcome().0, "success");
    let text = String::from_utf8_lossy(&job.log);
    let notice = "Job's log is cut here: more than 102400 bytes of the runner's jobs are waiting to be sent.";
    assert!(text.contains(notice), "{}", &text[text.len() - 300..]);
}

#[test]
fn what_is_unreadable_in_the_spool_hinders_nothing_and_is_told() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let journal = |name: &str, content: &str| {
        let directory = format!("home/.config.toml.spool/{name}");
        std::fs::create_dir_all(world.path(&directory)).expect("a directory");
        world.write(&format!("{directory}/journal"), content);
        world.write(&format!("{directory}/log"), "some log\n")
    };
    journal("1-torn", "00000000 {\"rec");
    let text = r#"{"record":"job","version":9,"other":1}"#;
    let sum = crate::wire::gitlab::crc32(text.as_bytes());
    let of_future = journal("2-future", &format!("{sum:08x} {text}\n"));
    world.write("home/.config.toml.spool/stray", "no job");
    gitlab.queue(&payload(1, &["echo fine"]));
    let mut runner = gitlab.runner(&world, "");
    runner.wait_for_any(&[
        "its job had not begun",
        "another version of Courser (format 9)",
    ]);
    runner.wait_for_any(&[
        "its job had not begun",
        "another version of Courser (format 9)",
    ]);
    assert_eq!(gitlab.finished(1).outcome().0, "success");
    assert!(of_future.exists());
    assert!(!world.path("home/.config.toml.spool/1-torn").exists());
}

#[test]
fn what_is_kept_can_be_listed_and_dropped() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let spool = |arguments: &[&str]| {
        let mut command = world.courser(["spool"]);
        command.args(arguments).arg("--config");
        run(command.arg(world.path("home/config.toml")))
    };
    let listed = || -> Vec<Value> {
        let finished = spool(&["list", "--json"]);
        assert_eq!(finished.code(), 0, "{}", finished.all());
        serde_json::from_str(&finished.stdout).expect("JSON")
    };
    gitlab.queue(&job_with_artifact(7, &["seq 100 | tee numbers.txt"]));
    uploads_stall(&gitlab);
    let mut runner = gitlab.runner(&world, "");
    gitlab.wait(7, |job| job.uploads.len() == 1);
    let jobs = listed();
    assert_eq!(
        (&jobs[0]["job"], &jobs[0]["state"]),
        (&json!(7), &json!("in_use"))
    );
    let refused = spool(&["drop", "7", "--yes"]);
    assert_eq!(refused.code(), 1, "{}", refused.all());
    assert!(
        refused.stderr.contains("a runner works on job 7"),
        "{}",
        refused.all()
    );
    kill(&mut runner);

    let jobs = listed();
    assert_eq!(jobs[0]["state"], "to_be_saved", "{jobs:?}");
    assert_eq!(jobs[0]["url"], gitlab.url());
    assert!(jobs[0]["log_bytes"].as_u64() > Some(1000), "{jobs:?}");
    let text = spool(&["list"]).stdout;
    assert!(text.starts_with("job 7 of http://"), "{text}");
    assert!(!text.contains("job-token"), "{text}");
    let asked = spool(&["drop", "--all"]);
    assert_eq!(asked.code(), 1, "{}", asked.all());
    assert!(
        asked.stderr.contains("nobody is here to confirm it"),
        "{}",
        asked.all()
    );
    let unknown = spool(&["drop", "8", "--yes"]);
    assert_eq!(unknown.code(), 2, "{}", unknown.all());
    assert_eq!(spooled(&world).len(), 1);
    let dropped = spool(&["drop", "7", "--yes"]);
    assert_eq!(
        (dropped.code(), dropped.stdout.as_str()),
        (0, "dropped job 7\n")
    );
    assert!(spooled(&world).is_empty());
    assert_eq!(listed(), Vec::<Value>::new());
}

#[test]
fn what_is_kept_of_a_job_is_for_its_user_alone_and_one_process_works_on_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let (world, gitlab) = (World::new(), GitLab::http());
    // It ends with the test, which ends its runner roughly.
    let wait = format!(
        "echo started; while [ -d {} ]; do sleep 0.05; done",
        world.path("home").display()
    );
    gitlab.queue(&payload(1, &[&wait]));
    let _runner = gitlab.runner(&world, "");
    gitlab.wait(1, |job| printed(&job.log).contains("started"));
    let mode = |path: &PathBuf| {
        std::fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    };
    let job = spooled(&world).remove(0);
    assert_eq!(mode(&world.path("home/.config.toml.spool")), 0o700);
    assert_eq!(mode(&job), 0o700);
    assert_eq!(mode(&job.join("journal")), 0o600);
    assert_eq!(mode(&job.join("log")), 0o600);
    // A second process with the same file takes nothing of the first.
    let polls = gitlab.polls().len();
    let _second = gitlab.runner(&world, "");
    gitlab.polled(polls + 3);
    assert!(gitlab.wait(1, |_| true).end.is_none());
    assert_eq!(spooled(&world).len(), 1);
}

/// A job with this artifact and cache, and a secret out of a Vault that knows one.
fn job_with_secret(vault: &FakeServer, script: &[&str], artifact: &str, cache: &str) -> Value {
    let secret = json!({"file": false, "vault": {
        "server": {"url": vault.url(""), "namespace": null,
            "auth": {"name": "jwt", "path": "jwt", "data": {"jwt": "a.b.c", "role": "deploy"}}},
        "engine": {"name": "kv-v2", "path": "ops"}, "path": "db", "field": "value",
    }});
    let mut job = job_with_artifact(1, script);
    job["artifacts"][0]["name"] = json!(artifact);
    job["cache"] = json!([{"key": cache, "paths": ["*.txt"], "policy": "push", "when": "always"}]);
    job["secrets"] = json!({"TOKEN": secret});
    job
}

fn vault_with(value: &'static str) -> FakeServer {
    FakeServer::http(move |request| match request.path.as_str() {
        path if path.ends_with("/login") => {
            Reply::json(200, &json!({"auth": {"client_token": "s.token"}}))
        }
        path if path.ends_with("/db") => {
            Reply::json(200, &json!({"data": {"data": {"value": value}}}))
        }
        _ => Reply::status(204),
    })
}

#[test]
fn what_is_made_of_secrets_is_not_saved_without_them() {
    let vault = vault_with("hunter2-hunter2");
    for (artifact, cache, said, reason) in [
        ("plain", "plain", None, ""),
        (
            "plain",
            "of-$TOKEN",
            Some("A cache is not saved: cache:key is made of this job's secrets"),
            "",
        ),
        (
            "of-$TOKEN",
            "plain",
            Some(
                "Caches and artifacts are not saved: artifacts:name is made of this job's secrets",
            ),
            "runner_system_failure",
        ),
    ] {
        let (world, gitlab) = (World::new(), GitLab::http());
        gitlab.queue(&job_with_secret(
            &vault,
            &["echo a | tee a.txt"],
            artifact,
            cache,
        ));
        uploads_stall(&gitlab);
        let mut runner = gitlab.runner(&world, "");
        gitlab.wait(1, |job| job.uploads.len() == 1);
        kill(&mut runner);
        gitlab.on_job(|_, _| None);
        let _runner = gitlab.runner(&world, "");
        let job = gitlab.finished(1);
        let text = job.text();
        assert_eq!(job.outcome().1, reason, "{text}");
        let lacks = "What is saved now is saved without this job's secrets";
        assert_eq!(text.contains(lacks), reason.is_empty(), "{text}");
        for line in ["A cache is not saved", "Caches and artifacts are not saved"] {
            let is_said = said.is_some_and(|said| said.starts_with(line) && text.contains(said));
            assert_eq!(text.contains(line), is_said, "{text}");
        }
        let uploads = if reason.is_empty() { 2 } else { 1 };
        assert_eq!(job.uploads.len(), uploads, "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        eventually("the spool is empty", || spooled(&world).is_empty());
    }
}

#[test]
fn a_secret_that_was_being_printed_when_the_runner_was_killed_is_not_in_the_log() {
    let vault = vault_with("hunter2-and-more-of-it");
    let (world, gitlab) = (World::new(), GitLab::http());
    let mark = world.path("mark");
    let script = format!(
        "echo whole $TOKEN; printf %s \"$TOKEN\" | cut -c 1-15 | tr -d '\\n'; touch {}; sleep 60",
        mark.display()
    );
    gitlab.queue(&job_with_secret(&vault, &[&script], "plain", "plain"));
    let mut runner = gitlab.runner(&world, "");
    gitlab.wait(1, |job| printed(&job.log).contains("whole "));
    eventually("more is printed", || mark.exists());
    kill(&mut runner);
    let _runner = gitlab.runner(&world, "");
    let job = gitlab.finished(1);
    assert_eq!(job.outcome().1, "runner_system_failure");
    let text = job.text();
    assert!(text.contains("whole [MASKED]"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    eventually("the spool is empty", || spooled(&world).is_empty());
}
