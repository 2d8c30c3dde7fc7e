//! Nothing is lost: the runner is killed, the server goes away, the disk is full, and what a job printed and
//! what was decided of it arrive all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use courser_testkit::server::Reply;
use serde_json::{Value, json};

use crate::wire::gitlab::{GitLab, add, payload, spooled, variable};
use crate::world::{Running, World, eventually};

/// Whether the end of the one job in the spool is decided.
pub(crate) fn is_decided(world: &World) -> bool {
    let spooled = spooled(world);
    let journal = spooled.first().map(|job| job.join("journal"));
    journal
        .and_then(|journal| std::fs::read_to_string(journal).ok())
        .is_some_and(|journal| journal.contains("\"ended\""))
}

/// The text of scripts alone, without stamps and the runner's own lines.
pub(crate) fn printed(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log);
    let lines = text
        .lines()
        .filter_map(|line| line.get(28..)?.strip_prefix("01O "));
    let own = |line: &&str| !line.starts_with(['\u{1b}']) && !line.starts_with("Running on ");
    lines.filter(own).map(|line| format!("{line}\n")).collect()
}

pub(crate) fn kill(runner: &mut Running) {
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
pub(crate) fn job_with_artifact(id: i64, script: &[&str]) -> Value {
    let artifact = json!({
        "name": "of-$WHO", "paths": ["*.txt"], "when": "always", "expire_in": "1d",
        "artifact_type": "archive", "artifact_format": "zip",
    });
    let job = add(payload(id, script), "artifacts", artifact);
    let masked = json!({"key": "HIDDEN", "value": "hidden-value", "masked": true, "public": false});
    add(variable(job, "WHO", "mars"), "variables", masked)
}

/// What an upload never hears.
pub(crate) fn uploads_stall(gitlab: &GitLab) {
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
