//! What a runner that was killed leaves behind.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::*;
use crate::sweep;

/// Set in the process that plays the runner: where its job writes.
const PLAY: &str = "COURSER_TEST_PLAYED_RUNNER";

/// Each process writes its number to a file named after how it gets away. `$1`, where they lie, is
/// replaced; `gone` in double forks is the parent that ends at once.
const JOB: &str = r#"
cd "$DIR"
trap '' TERM HUP INT
sleep 1000 & echo $! > background
(trap '' TERM; setsid sh -c 'echo $$ > session; exec sleep 1001') &
(sh -c 'sh -c "echo \$\$ > double; exec sleep 1002" &')
setsid sh -c 'env -i setsid sh -c "echo \$\$ > daemon; exec sleep 1003" <&- >/dev/null 2>&1 &'
(sh -c 'env -i sh -c "echo \$\$ > holds_pipe; exec sleep 1004" &')
bash -c 'ulimit -S -x 77; exec setsid sh -c "echo \$\$ > other_limit; exec sleep 1005"' &
bash -c 'ulimit -S -x 77; exec env -i setsid sh -c "echo \$\$ > child_only; exec sleep 1006"' &
sh -c 'echo $$ > stopped; kill -STOP $$; exec sleep 1007' &
sh -c 'echo $$ > forks; while :; do sleep 0.01 & sleep 0.01; done' &
wait
"#;

const WAYS: [&str; 9] = [
    "background",
    "session",
    "double",
    "daemon",
    "holds_pipe",
    "other_limit",
    "child_only",
    "stopped",
    "forks",
];

fn job_environment(directory: &Path) -> ShellEnvironment {
    let mut environment = environment(Duration::from_secs(600));
    environment.temporary_directory = directory.join("project.tmp");
    environment
}

fn job_in(directory: &Path) -> StageScript {
    script(&JOB.replace("$DIR", &directory.to_string_lossy()))
}

/// Numbers of the job's processes, once all are there.
fn processes_of(directory: &Path) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let read = |way: &str| std::fs::read_to_string(directory.join(way)).unwrap_or_default();
    loop {
        let numbers: Vec<_> = WAYS.iter().map(|way| read(way)).collect();
        if numbers.iter().all(|number| number.ends_with('\n')) {
            return numbers;
        }
        assert!(Instant::now() < deadline, "{WAYS:?}: {numbers:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
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
    let swept = sweep(footprint.clone()).await;
    for (way, process) in WAYS.iter().zip(&processes) {
        assert!(!lives(process), "{way}: {swept:?}");
    }
    assert!(swept.killed.len() > WAYS.len(), "{swept:?}");
    assert_eq!((&swept.left, &swept.not_removed), (&vec![], &vec![]));
    assert!(swept.killed.iter().any(|orphan| orphan.name == "sleep"));
    assert_eq!(std::fs::read_dir(&private).expect("it stays").count(), 0);
    assert!(directory.join("kept").exists());

    let again = sweep(footprint).await;
    assert_eq!(again, crate::Swept::default());
}

#[tokio::test]
async fn processes_of_another_boot_are_not_looked_for() {
    let world = tempfile::tempdir().expect("a directory");
    let mut environment = job_environment(world.path());
    let mut footprint = environment.footprint();
    footprint.boot = "another".to_owned();
    let mut log = Log::default();
    let stage = script("sleep 30 & echo $!");
    let exit = environment
        .run(&stage, &mut log, StopSignal::new())
        .await
        .expect("bash starts");
    assert!(exit.is_success());
    assert_eq!(sweep(footprint).await, crate::Swept::default());
    assert!(lives(&log.stdout()));
    assert_eq!(sweep(environment.footprint()).await.killed.len(), 1);
    assert!(!lives(&log.stdout()));
}
