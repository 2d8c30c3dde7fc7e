//! A stage that is stopped, whatever its processes do: measured by `/proc`.

use super::nasty::{count, job_in, processes_of};
use super::*;

/// From the end of the grace period until no process is left.
const BOUND: Duration = Duration::from_millis(500);

/// Runs `stage`, whose processes work in `directory`; stops it once they are `there`. Gives its exit, and
/// how long after the grace period the last process was seen.
async fn stopped(
    stage: StageScript,
    directory: &Path,
    grace: Duration,
    there: impl FnOnce() + Send + 'static,
) -> (Exit, Duration) {
    stopped_in(environment(grace), stage, directory, there).await
}

async fn stopped_in(
    mut environment: ShellEnvironment,
    stage: StageScript,
    directory: &Path,
    there: impl FnOnce() + Send + 'static,
) -> (Exit, Duration) {
    let grace = environment.programs.host.grace;
    let stop = StopSignal::new();
    let mut log = Log::default();
    let (watched, stopping) = (directory.to_owned(), stop.clone());
    let watching = tokio::task::spawn_blocking(move || {
        there();
        let asked = Instant::now();
        stopping.cancel();
        while count(&watched) > 0 {
            assert!(
                asked.elapsed() < grace + Duration::from_secs(20),
                "they stay"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        asked.elapsed().saturating_sub(grace)
    });
    let exit = environment.run(&stage, &mut log, stop).await;
    (
        exit.expect("the tree ends"),
        watching.await.expect("it looks"),
    )
}

#[tokio::test]
async fn after_the_grace_period_all_are_gone_within_half_a_second() {
    let world = tempfile::tempdir().expect("a directory");
    let directory = world.path().to_owned();
    let there = move || drop(processes_of(&directory));
    let grace = Duration::from_millis(300);
    let (exit, late) = stopped(job_in(world.path()), world.path(), grace, there).await;
    assert!(matches!(exit, Exit::Failure { code: -1, text } if text == "signal: killed"));
    assert!(late < BOUND, "{late:?}");
}

#[tokio::test]
async fn sixty_sessions_that_start_processes_all_the_time_are_killed() {
    let world = tempfile::tempdir().expect("a directory");
    let directory = world.path().to_owned();
    let bomb = format!(
        "cd {}; trap '' TERM
        one='while :; do sleep 0.2; done'
        for n in $(seq 60); do env -i setsid sh -c \"trap '' TERM; $one\" & done; wait",
        directory.display()
    );
    let there = move || {
        let deadline = Instant::now() + Duration::from_secs(20);
        while count(&directory) < 120 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let grace = Duration::from_millis(100);
    let mark = Mark::new();
    let cgroup = Cgroups::of_this_process().and_then(|groups| groups.of_job(&mark));
    // A control group is killed in one go. Without one each process is looked for, and the bomb is in the way of
    // all that runs beside it, this test included: alone it takes 0.1 s.
    let bound = match cgroup {
        Some(_) => BOUND,
        None => 10 * BOUND,
    };
    let mut environment = environment(grace);
    environment.programs.processes = JobProcesses::new(mark, cgroup);
    let (_, late) = stopped_in(environment, script(&bomb), world.path(), there).await;
    assert!(late < bound, "{late:?}");
}

#[tokio::test]
async fn a_stopped_process_is_woken_to_take_notice() {
    let world = tempfile::tempdir().expect("a directory");
    let ready = world.path().join("ready");
    let job = format!(
        "cd {}; (trap 'echo asked > asked; exit' TERM; echo $BASHPID > ready; kill -STOP $BASHPID; sleep 60) & wait",
        world.path().display()
    );
    let there = move || {
        let deadline = Instant::now() + Duration::from_secs(20);
        let is_stopped = || {
            let pid = std::fs::read_to_string(&ready).unwrap_or_default();
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            stat.is_ok_and(|stat| stat.contains(") T "))
        };
        while !is_stopped() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let grace = Duration::from_secs(30);
    stopped(script(&job), world.path(), grace, there).await;
    assert!(world.path().join("asked").exists());
}

/// Where this machine lets tests make control groups, none is out of reach; elsewhere this one is.
#[tokio::test]
async fn one_that_took_off_all_marks_is_reached_through_its_control_group() {
    let mark = Mark::new();
    let cgroup = Cgroups::of_this_process().and_then(|groups| groups.of_job(&mark));
    let reachable = cgroup.is_some();
    let mut environment = environment(Duration::from_millis(100));
    environment.programs.processes = JobProcesses::new(mark, cgroup);
    let free = "bash -c 'ulimit -S -x 77; exec env -i setsid sh -c \"sleep 61 & echo \\$!\"' >&1 &
        wait; sleep 62";
    let (seen, mut first_output) = tokio::sync::mpsc::unbounded_channel();
    let mut log = Log {
        seen: Some(seen),
        ..Log::default()
    };
    let (stop, stage) = (StopSignal::new(), script(free));
    let (exit, ()) = tokio::join!(environment.run(&stage, &mut log, stop.clone()), async {
        first_output.recv().await;
        stop.cancel();
    });
    assert!(!exit.expect("the tree ends").is_success());
    assert_eq!(stays_alive(&log.stdout()), !reachable);
    let footprint = environment.footprint();
    let group =
        serde_json::to_value(&footprint).expect("plain data")["processes"]["cgroup"]["path"]
            .clone();
    drop(environment);
    assert!(
        group
            .as_str()
            .is_none_or(|group| !Path::new(group).exists())
    );
    if !reachable {
        let left = log.stdout();
        std::process::Command::new("kill")
            .arg(left.trim())
            .status()
            .expect("kill runs");
    }
}
