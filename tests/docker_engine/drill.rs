//! A drill: a runner with four jobs at once is killed at random moments and started again, while it runs jobs of every
//! kind in containers, some of which are killed or removed by hand. Every job is reported, each log is that of its job,
//! and in the end the Engine has what it had before and no file of ours is left.
//!
//! Short by itself; `cargo xtask drill` sets `COURSER_DRILL_JOBS` for the long form. `COURSER_DRILL_SEED` repeats the
//! moments of another drill.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use courser_testkit::servers::PrivateEngine;
use serde_json::{Value, json};

use super::scene::{BUSYBOX, Scene};
use crate::wire::gitlab::{Record, spooled, variable};
use crate::world::eventually;

/// Of the short form: each kind once.
const JOBS: i64 = 10;
const AT_ONCE: usize = 4;
/// What each job prints, as long as it is let.
const LINES: usize = 15;
/// Between two looks at the jobs.
const TICK: Duration = Duration::from_millis(200);
/// How long the runner lives, mostly counted from the first line of its jobs: milliseconds, at least and at most.
const PAUSES: (u64, u64) = (200, 20_000);
/// The same of the first one, at most: ten jobs may be over in a quarter of a minute.
const FIRST_PAUSE: u64 = 3_000;
/// So long after it is handed out, no runner knows of a job.
const UNHEARD: Duration = Duration::from_secs(5);
/// How often the runner of the short form dies; that of the long form, until all is over.
const DEATHS: usize = 2;

/// What a job does, or what befalls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Plain,
    Failing,
    Serviced,
    Cached,
    WithArtifacts,
    Canceled,
    TimedOut,
    Killed,
    Removed,
    Talkative,
}

const KINDS: [Kind; JOBS as usize] = [
    Kind::Plain,
    Kind::Serviced,
    Kind::Killed,
    Kind::WithArtifacts,
    Kind::Canceled,
    Kind::Cached,
    Kind::Removed,
    Kind::Failing,
    Kind::TimedOut,
    Kind::Talkative,
];

impl Kind {
    fn of(job: i64) -> Self {
        KINDS[job as usize % KINDS.len()]
    }

    /// Reason and exit code of its failure.
    fn end(self) -> (&'static str, i64) {
        match self {
            Self::Failing => ("script_failure", 3),
            Self::Killed | Self::Removed => ("script_failure", 137),
            Self::Canceled => ("job_canceled", 0),
            Self::TimedOut => ("job_execution_timeout", 0),
            _ => ("", 0),
        }
    }

    fn job(self, scene: &Scene, id: i64, sha: &str) -> Value {
        let counting = format!(
            "i=0; while [ $i -lt {LINES} ]; do i=$((i + 1)); echo \"job {id} says $i.\"; sleep 0.1; done"
        );
        let then = match self {
            Self::Failing => "exit 3",
            Self::Serviced => "ping -c 1 -W 5 s >/dev/null",
            Self::Cached => "mkdir -p kept; date >>kept/file",
            Self::WithArtifacts => "cp README made; ls",
            Self::Talkative => "seq 1 30000",
            Self::Canceled | Self::TimedOut | Self::Killed | Self::Removed => {
                "while :; do sleep 1; done"
            }
            Self::Plain => "true",
        };
        let mut job = scene.job_in(id, BUSYBOX, &[&counting, then]);
        match self {
            Self::Serviced => {
                let command = ["sleep", "1000"];
                job["services"] = json!([{"name": BUSYBOX, "alias": "s", "command": command}]);
                variable(job, "FF_NETWORK_PER_BUILD", "true")
            }
            Self::Cached => {
                job["cache"] = json!([{
                    "key": "drilled", "paths": ["kept"], "policy": "pull-push", "when": "on_success",
                }]);
                job
            }
            Self::WithArtifacts => {
                job["artifacts"] = json!([{
                    "artifact_type": "archive", "artifact_format": "zip", "paths": ["made"], "when": "on_success",
                }]);
                scene.with_sources(job, sha)
            }
            Self::TimedOut => variable(job, "RUNNER_SCRIPT_TIMEOUT", "4s"),
            _ => job,
        }
    }
}

/// Numbers from a seed (xorshift).
struct Random(u64);

impl Random {
    fn between(&mut self, least: u64, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        least + self.0 % (most - least)
    }
}

/// What an Engine has.
fn inventory(scene: &Scene) -> Vec<String> {
    let mut all = String::new();
    for list in [
        ["ps", "--all", "--format", "container {{.Names}}"].as_slice(),
        &["volume", "ls", "--format", "volume {{.Name}}"],
        &["network", "ls", "--format", "network {{.Name}}"],
    ] {
        all += &scene.client(list);
    }
    let mut all: Vec<String> = all.lines().map(str::to_owned).collect();
    all.sort();
    all
}

/// Does to the jobs what is to befall them, each once, when they have printed something.
fn interfere(scene: &Scene, done: &mut Vec<i64>) {
    for job in scene.gitlab.records() {
        let id = job.payload["id"].as_i64().expect("an id");
        let kind = Kind::of(id);
        let by_hand = match kind {
            Kind::Killed => ["kill"].as_slice(),
            Kind::Removed => &["rm", "--force"],
            Kind::Canceled => &[],
            _ => continue,
        };
        let log = String::from_utf8_lossy(&job.log);
        if done.contains(&id) || job.end.is_some() || !log.contains(&format!("job {id} says 3.")) {
            continue;
        }
        if kind == Kind::Canceled {
            let canceled = |job: &mut Record| "canceling".clone_into(&mut job.status);
            scene.gitlab.change(id, canceled);
            done.push(id);
            continue;
        }
        let filter = format!("label=com.gitlab.gitlab-runner.job.id={id}");
        let listed = [
            "ps",
            "--quiet",
            "--filter",
            &filter,
            "--filter",
            "name=-build",
        ];
        if let Some(container) = scene.client(&listed).lines().next() {
            // The runner that was killed meanwhile has a successor that removes it.
            scene.tried(&[by_hand, &[container]].concat());
            done.push(id);
        }
    }
}

/// Lines that jobs have printed.
fn printed_lines(scene: &Scene) -> usize {
    let records = scene.gitlab.records();
    let lines = records.iter().map(|job| {
        let log = String::from_utf8_lossy(&job.log);
        log.matches(" says ").count()
    });
    lines.sum()
}

/// How a job ended, held against its kind. Says whether its runner was killed.
fn check(job: &Record) -> bool {
    let id = job.payload["id"].as_i64().expect("an id");
    let kind = Kind::of(id);
    let text = job.text();
    let said: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once("job ")?.1.split_once(" says "))
        .map(|(whose, what)| {
            assert_eq!(whose, id.to_string(), "another job's line: {text}");
            what
        })
        // The command itself is shown, too.
        .filter(|what| !what.starts_with('$'))
        .collect();
    let right: Vec<String> = (1..=said.len()).map(|line| format!("{line}.")).collect();
    assert_eq!(said, right, "{text}");
    let (state, reason, code) = job.outcome();
    if text.contains("the runner was killed while the job ran") {
        assert_eq!(reason, "runner_system_failure", "{kind:?}: {text}");
        return true;
    }
    assert_eq!((reason.as_str(), code), kind.end(), "{kind:?}: {text}");
    assert_eq!(state == "success", reason.is_empty(), "{kind:?}: {text}");
    if state == "success" {
        assert_eq!(said.len(), LINES, "{text}");
        assert_eq!(!job.uploads.is_empty(), kind == Kind::WithArtifacts);
    }
    false
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how long it lasts is said from outside"
)]
fn nothing_is_left_in_the_engine_whenever_the_runner_dies() {
    let number = |name: &str| -> Option<u64> {
        let said = std::env::var(name).ok()?;
        Some(said.parse().expect("a number"))
    };
    let jobs = number("COURSER_DRILL_JOBS").map_or(JOBS, |jobs| jobs as i64);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("after 1970").as_nanos() as u64;
    let seed = number("COURSER_DRILL_SEED").unwrap_or(now | 1);
    println!("COURSER_DRILL_SEED={seed}");
    let mut random = Random(seed);

    let engine = PrivateEngine::start(&[]);
    engine.copy(&[BUSYBOX]);
    let mut scene = Scene::on(engine.engine.clone());
    scene.at_once(AT_ONCE);
    scene.docker(&format!(
        "image = {BUSYBOX:?}\nwait_for_services_timeout = -1\nvolumes = [\"/cache\"]"
    ));
    let sha = scene.repository(&[("README", "drilled\n")]);
    let before = inventory(&scene);
    scene.gitlab.hand_out_again(false);
    for id in 1..=jobs {
        scene.gitlab.queue(&Kind::of(id).job(&scene, id, &sha));
    }

    let begun = Instant::now();
    let patience = Duration::from_secs(360 + 15 * jobs as u64);
    let (mut deaths, mut interfered) = (0, Vec::new());
    loop {
        scene.runner();
        // The first dies while there is work, also in the short form.
        let most = if deaths == 0 { FIRST_PAUSE } else { PAUSES.1 };
        let pause = Duration::from_millis(random.between(PAUSES.0, most));
        // Most die while scripts run and end, some before.
        let mut alive = (random.between(0, 4) == 0).then(Instant::now);
        let spared = jobs == JOBS && deaths == DEATHS;
        let printed = printed_lines(&scene);
        let (mut over, mut unheard) = (false, None);
        while !over && (spared || alive.is_none_or(|since| since.elapsed() < pause)) {
            if alive.is_none() && printed_lines(&scene) > printed {
                alive = Some(Instant::now());
            }
            interfere(&scene, &mut interfered);
            let records = scene.gitlab.records();
            let mut unended = records.iter().filter(|job| job.end.is_none()).peekable();
            over = unended.peek().is_none();
            // The last ones may have been handed to a runner that died before it had written them down.
            if over || unended.any(|job| !job.updates.is_empty()) {
                unheard = None;
            } else if unheard.get_or_insert_with(Instant::now).elapsed() > UNHEARD {
                scene.gitlab.hand_out_again(true);
                unheard = None;
            }
            assert!(begun.elapsed() < patience, "{records:#?}");
            std::thread::sleep(TICK);
        }
        if over {
            break;
        }
        scene.kill_runner();
        deaths += 1;
    }
    let lasted = begun.elapsed();
    scene.end_runner();
    // What the last one that was killed left, one that has nothing else to do removes.
    scene.runner();
    eventually("all is reported", || spooled(&scene.world).is_empty());
    eventually("nothing of jobs is left", || scene.left().is_empty());
    scene.end_runner();

    let mut ends = BTreeMap::<(Kind, bool), usize>::new();
    for job in scene.gitlab.records() {
        let id = job.payload["id"].as_i64().expect("an id");
        *ends.entry((Kind::of(id), check(&job))).or_default() += 1;
    }
    let caches = scene.kept();
    for cache in &caches {
        assert!(cache.contains("-cache-"), "{cache}");
        scene.client(&["volume", "rm", cache]);
    }
    let after = inventory(&scene);
    println!(
        "{jobs} jobs, {AT_ONCE} at once: the runner was killed {deaths} times in {lasted:.0?}; {} jobs failed because of \
         that; {} cache volumes were kept, as is documented",
        ends.iter()
            .filter(|((_, killed), _)| *killed)
            .map(|(_, count)| count)
            .sum::<usize>(),
        caches.len(),
    );
    for ((kind, killed), count) in ends {
        println!(
            "{count:6} {kind:?}{}",
            if killed { ", its runner killed" } else { "" }
        );
    }
    assert_eq!(after, before, "in the Engine");
    let files = |directory: &str| -> Vec<String> {
        let entries = std::fs::read_dir(scene.world.path(directory)).expect("a directory");
        let names = entries.map(|entry| entry.expect("readable").file_name());
        names
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    };
    assert_eq!(files("tmp"), Vec::<String>::new(), "temporary files");
    assert_eq!(files("work"), Vec::<String>::new(), "the working directory");
    assert_eq!(files("home/.config.toml.spool"), ["lock"], "the spool");
    println!("nothing else is left");
    assert!(deaths > 0, "it went on too quickly");
}
