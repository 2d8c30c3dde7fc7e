//! What a runner that was killed leaves behind.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::nasty::{WAYS, count, job_in, processes_of};
use super::*;
use crate::Executors;

async fn sweep(footprint: &Footprint) -> Swept {
    Executors::shell().sweep(footprint).await
}

/// Set in the process that plays the runner: where its job writes.
const PLAY: &str = "COURSER_TEST_PLAYED_RUNNER";

fn job_environment(directory: &Path) -> ShellEnvironment {
    let mut environment = environment(Duration::from_secs(600));
    environment.temporary_directory = directory.join("project.tmp");
    environment
}

/// The same test plays the runner in a process of its own, which it kills.
#[tokio::test]
async fn what_a_killed_runner_leaves_behind_is_swept_by_the_next() {
    #[expect(
        clippy::disallowed_methods,
        reason = "tells the played runner what it is"
    )]
    if let Some(directory) = std::env::var_os(PLAY).map(PathBuf::from) {
        let mut environment = job_environment(&directory);
        let record = serde_json::to_vec(&environment.footprint()).expect("plain data");
        std::fs::write(directory.join("record"), record).expect("writable");
        let stage = job_in(&directory);
        let mut log = Log::default();
        environment
            .run(&stage, &mut log, StopSignal::new())
            .await
            .expect("bash starts");
        return;
    }
    let world = tempfile::tempdir().expect("a directory");
    let directory = world.path();
    let private = directory.join("project.tmp");
    std::fs::create_dir_all(private.join("deep/er")).expect("writable");
    std::fs::write(private.join("TOKEN"), "s3cret").expect("writable");
    std::fs::write(directory.join("kept"), "not the job's").expect("writable");
    std::os::unix::fs::symlink(directory, private.join("link")).expect("writable");

    let this_test =
        "shell::tests::orphans::what_a_killed_runner_leaves_behind_is_swept_by_the_next";
    let mut runner = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", this_test])
        .env(PLAY, directory)
        .stdout(Stdio::null())
        .spawn()
        .expect("this test starts");
    let processes = processes_of(directory);
    runner.kill().expect("it runs");
    runner.wait().expect("it was killed");

    let record = std::fs::read(directory.join("record")).expect("written before the job");
    let footprint: Footprint = serde_json::from_slice(&record).expect("a footprint");
    let swept = sweep(&footprint).await;
    for (way, process) in WAYS.iter().zip(&processes) {
        assert!(!lives(process), "{way}: {swept:?}");
    }
    assert_eq!(count(directory), 0);
    assert!(swept.killed.len() > WAYS.len(), "{swept:?}");
    assert_eq!((&swept.left, &swept.not_removed), (&vec![], &vec![]));
    assert!(swept.killed.iter().any(|orphan| orphan.name == "sleep"));
    assert_eq!(std::fs::read_dir(&private).expect("it stays").count(), 0);
    assert!(directory.join("kept").exists());

    let again = sweep(&footprint).await;
    assert_eq!(again, Swept::default());
}

#[tokio::test]
async fn processes_of_another_boot_are_not_looked_for() {
    let world = tempfile::tempdir().expect("a directory");
    let mut environment = job_environment(world.path());
    let mut record: serde_json::Value = environment.footprint().record().expect("plain data");
    record["boot"] = "another".into();
    let footprint = Footprint::new("shell", &record);
    let mut log = Log::default();
    let stage = script("sleep 30 & echo $!");
    let exit = environment
        .run(&stage, &mut log, StopSignal::new())
        .await
        .expect("bash starts");
    assert!(exit.is_success());
    assert_eq!(sweep(&footprint).await, Swept::default());
    assert!(lives(&log.stdout()));
    assert_eq!(sweep(&environment.footprint()).await.killed.len(), 1);
    assert!(!lives(&log.stdout()));
}
