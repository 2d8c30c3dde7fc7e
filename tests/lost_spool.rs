//! The spool of a runner: full, unreadable, listed and dropped, and whose it is.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::lost::{job_with_artifact, kill, printed, uploads_stall};
use crate::wire::gitlab::{GitLab, payload, spooled};
use crate::world::{Running, World, run};

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
