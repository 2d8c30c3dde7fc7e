//! A job whose processes get away from their runner in every way that is known.

use super::*;

/// Each process writes its number to a file in `$DIR` named after how it gets away.
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
chain='echo $$ > next && mv next chain; setsid sh -c "$chain" & exit'
export chain; setsid sh -c "$chain" &
sh -c 'echo $$ > forks; while :; do sleep 0.01 & sleep 0.01; done' &
wait
"#;

pub(super) const WAYS: [&str; 9] = [
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

pub(super) fn job_in(directory: &Path) -> StageScript {
    script(&JOB.replace("$DIR", &directory.to_string_lossy()))
}

/// Processes of the job, whatever they have become: they work in its directory.
pub(super) fn count(directory: &Path) -> usize {
    let directory = directory.canonicalize().expect("it exists");
    let processes = std::fs::read_dir("/proc").expect("a Linux machine");
    let works_there = |process: &std::fs::DirEntry| {
        std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == directory)
    };
    processes.flatten().filter(works_there).count()
}

/// Numbers of the job's processes, once all are there.
pub(super) fn processes_of(directory: &Path) -> Vec<String> {
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
