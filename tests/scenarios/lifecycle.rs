//! The runner itself: limits, signals, reloads, its end (`runner-protocol.md` 6.7, 9).

use courser_testkit::server::Reply;
use serde_json::{Value, json};

use super::scene::{Scene, failed, success};
use crate::wire::gitlab::{Record, TOKEN, after_script};

fn shows(job: &Record, text: &str) -> bool {
    String::from_utf8_lossy(&job.log).contains(text)
}

#[test]
fn run_single_ends_after_its_job() {
    let mut scene = Scene::new();
    let job = scene.job(1, &["echo hello; exit 3"]);
    let (job, finished) = scene.run_single(&job, &[]);
    assert_eq!(job.outcome(), failed("script_failure", 3));
    assert_eq!(finished.code(), 0, "{}", finished.all());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ echo hello; exit 3</>
    O hello
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 3</>
    ");
}

#[test]
fn run_single_ends_without_a_job_after_its_time() {
    let mut scene = Scene::new();
    let finished = scene.single(&["--wait-timeout", "1"]);
    assert_eq!(finished.code(), 0, "{}", finished.all());
}

#[test]
fn run_single_keeps_the_runners_token_to_itself() {
    let mut scene = Scene::new();
    let job = scene.job(1, &["env | grep ^CI_SERVER_TOKEN= || echo none"]);
    let (job, _) = scene.run_single(&job, &[]);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ env | grep ^CI_SERVER_TOKEN= || echo none</>
    O none
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn jobs_at_the_same_time_have_places_and_numbers_of_their_own() {
    let mut scene = Scene::new();
    scene.allow_many_jobs();
    let meet = "touch ~/here-$CI_JOB_ID; while [ ! -e ~/here-1 ] || [ ! -e ~/here-2 ]; do sleep 0.02; done";
    let mut jobs = Vec::new();
    for id in [1, 2] {
        let script = [
            meet,
            "echo $CI_CONCURRENT_ID $CI_CONCURRENT_PROJECT_ID ${CI_PROJECT_DIR#$CI_BUILDS_DIR/}",
        ];
        let job =
            crate::wire::gitlab::variable(scene.job(id, &script), "CI_JOB_ID", &id.to_string());
        scene.gitlab.queue(&job);
        jobs.push(id);
    }
    scene.runner();
    let mut numbers: Vec<String> = jobs
        .iter()
        .map(|id| {
            let job = scene.gitlab.finished(*id);
            assert_eq!(job.outcome(), success());
            let log = scene.log(&job);
            let line = log.lines().find_map(|line| line.strip_suffix("/g/p"));
            line.expect("the line with the numbers").to_owned()
        })
        .collect();
    numbers.sort();
    assert_eq!(numbers, ["O 0 0 wireabcde/0", "O 1 1 wireabcde/1"]);
}

#[test]
fn a_limit_of_one_runs_jobs_one_after_the_other() {
    let mut scene = Scene::new();
    let alone = "mkdir ~/alone && sleep 0.3 && rmdir ~/alone && echo alone";
    for id in [1, 2, 3] {
        let job = scene.job(id, &[alone]);
        scene.gitlab.queue(&job);
    }
    scene.runner();
    for id in [1, 2, 3] {
        let job = scene.gitlab.finished(id);
        assert_eq!(job.outcome(), success());
        assert!(shows(&job, "O alone"));
    }
}

#[test]
fn sigquit_waits_for_the_job() {
    let mut scene = Scene::new();
    let job = scene.job(1, &["echo started", "sleep 1.5", "echo finished"]);
    scene.gitlab.queue(&job);
    scene.runner();
    scene.gitlab.wait(1, |job| shows(job, "O started"));
    scene.runner().signal("QUIT");
    let polls = scene.gitlab.polls().len();
    assert_eq!(scene.runner_ends(), 0);
    let job = scene.gitlab.finished(1);
    assert_eq!(job.outcome(), success());
    assert!(
        scene.gitlab.polls().len() <= polls + 1,
        "no more jobs are asked for"
    );
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ echo started</>
    O started
    O <green>$ sleep 1.5</>
    O <green>$ echo finished</>
    O finished
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn sigterm_interrupts_the_job_and_reports_it() {
    let mut scene = Scene::new();
    let mut job = after_script(scene.job(1, &["echo started", "sleep 60"]), &["echo never"]);
    job["features"]["failure_reasons"] = json!(["runner_interrupted"]);
    scene.gitlab.queue(&job);
    scene.runner();
    scene.gitlab.wait(1, |job| shows(job, "O started"));
    scene.runner().signal("TERM");
    assert_eq!(scene.runner_ends(), 0);
    let job = scene.gitlab.finished(1);
    assert_eq!(job.outcome(), failed("runner_interrupted", 0));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ echo started</>
    O started
    O <green>$ sleep 60</>
    E Terminated
    . <red>ERROR: Job failed: aborted: terminated</>
    ");
}

#[test]
fn a_second_signal_ends_the_runner_at_once() {
    let mut scene = Scene::new();
    let job = scene.job(1, &["trap '' TERM; echo started; sleep 60 & wait; wait"]);
    scene.gitlab.queue(&job);
    scene.runner();
    scene.gitlab.wait(1, |job| shows(job, "O started"));
    scene.runner().signal("TERM");
    scene.runner().wait_for("signal");
    scene.runner().signal("TERM");
    assert_eq!(scene.runner_ends(), 1);
}

#[test]
fn a_reload_changes_what_comes_and_leaves_what_runs() {
    let mut scene = Scene::new();
    scene.allow_many_jobs();
    scene.gitlab.serve_as_usual();
    let job = scene.job(
        1,
        &[
            "echo started",
            "while [ ! -e ~/go ]; do sleep 0.02; done",
            "echo $MINE",
        ],
    );
    scene.configure("  environment = [\"MINE=first\"]\n");
    scene.gitlab.queue(&job);
    scene.runner();
    scene.gitlab.wait(1, |job| shows(job, "O started"));
    let config = scene
        .world
        .read("home/config.toml")
        .replace("MINE=first", "MINE=second");
    scene.world.write("home/config.toml", config);
    scene.runner().signal("HUP");
    scene.runner().wait_for("Configuration loaded");
    let second = scene.job(2, &["echo $MINE"]);
    let second = scene.run(&second);
    assert!(shows(&second, "O second"));
    scene.world.write("home/go", "");
    let first = scene.gitlab.finished(1);
    assert_eq!(first.outcome(), success());
    assert!(shows(&first, "O first"));
}

#[test]
fn a_runner_that_is_taken_out_of_the_file_ends_its_jobs_in_peace() {
    let mut scene = Scene::new();
    scene.gitlab.serve_as_usual();
    let job = scene.job(
        1,
        &[
            "echo started",
            "while [ ! -e ~/go ]; do sleep 0.02; done",
            "echo end",
        ],
    );
    scene.gitlab.queue(&job);
    scene.runner();
    scene.gitlab.wait(1, |job| shows(job, "O started"));
    let whole = scene.world.read("home/config.toml");
    scene
        .world
        .write("home/config.toml", "concurrent = 2\ncheck_interval = 1\n");
    scene.runner().signal("HUP");
    scene.runner().wait_for("Configuration loaded");
    scene.world.write("home/go", "");
    let job = scene.gitlab.finished(1);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ echo started</>
    O started
    O <green>$ while [ ! -e ~/go ]; do sleep 0.02; done</>
    O <green>$ echo end</>
    O end
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
    scene.world.write("home/config.toml", whole);
    scene.runner().signal("HUP");
}

#[test]
fn a_broken_file_changes_nothing() {
    let mut scene = Scene::new();
    scene.runner();
    scene.gitlab.polled(1);
    let whole = scene.world.read("home/config.toml");
    scene
        .world
        .write("home/config.toml", "concurrent = \"many\n");
    scene.runner().signal("HUP");
    scene.runner().wait_for("Failed to load config");
    scene.runs_a_job_as_ever();
    scene.world.write("home/config.toml", whole);
}

#[test]
fn a_job_whose_token_ends_is_given_up() {
    let mut scene = Scene::new();
    scene.gitlab.on_job(|request, job| {
        let after = request.method == "PATCH" && !job.patches.is_empty();
        after.then(|| Reply::json(403, &json!({"message": "403 Forbidden"})))
    });
    let job = scene.job(1, &["echo started", "sleep 1.3", "echo more", "sleep 60"]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("unknown_failure", 0));
    let states: Vec<&Value> = job.updates.iter().map(|update| &update["state"]).collect();
    assert_eq!(states.last(), Some(&&json!("failed")));
}

#[test]
fn a_runner_whose_token_is_refused_says_so_without_showing_it() {
    let mut scene = Scene::new();
    scene
        .gitlab
        .on_poll(|poll| (poll <= 2).then(|| Reply::status(403)));
    scene.configure("  unhealthy_requests_limit = 2\n  unhealthy_interval = \"1s\"\n");
    scene
        .runner()
        .wait_for("is unhealthy and will be disabled for 1 seconds");
    let job = scene.job(1, &["echo back"]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    assert!(TOKEN.starts_with("glrt-"));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ echo back</>
    O back
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn after_a_kill_nothing_secret_is_left_by_the_next_start() {
    let mut scene = Scene::new();
    let sha = scene.repository(&[("f", "one\n")]);
    let job = scene.job_with_sources(1, &sha, &["echo started", "sleep 60"]);
    scene.gitlab.queue(&job);
    scene.runner();
    scene.gitlab.wait(1, |job| shows(job, "O started"));
    scene.runner().signal("KILL");
    assert_eq!(scene.runner_ends(), -1);
    // The same place again.
    let job = scene.job_with_sources(2, &sha, &["ls -A; cat f"]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started)
    == get_sources
    O <green>Gitaly correlation ID: <id></>
    O <green>Fetching changes with git depth set to 20...</>
    O Reinitialized existing Git repository in <world>/work/builds/wireabcde/0/g/p/.git/
    O <green>Checking out <commit> as detached HEAD (ref is main)...</>
    O
    O <green>Skipping Git submodules setup</>
    == step_script
    O <green>$ ls -A; cat f</>
    O .git
    O f
    O one
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}
