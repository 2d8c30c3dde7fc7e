//! Where the stages of a job run, and what they share (`executor-docker.md` 1, 5, 6, 7).

use std::process::Command;

use serde_json::json;

use super::scene::{BUSYBOX, DEBIAN, STATIC, Scene, failed_by_script, says, success};
use crate::wire::gitlab::{after_script, variable};
use crate::world::Running;

#[test]
fn a_job_has_its_sources_and_its_files_in_every_stage() {
    let mut scene = Scene::new();
    let sha = scene.repository(&[("greeting", "hello\n")]);
    let job = scene.job_in(
        1,
        DEBIAN,
        &["cat greeting", "echo kept > /root/kept", "pwd"],
    );
    let job = after_script(job, &["cat /root/kept greeting"]);
    let job = scene.run(&scene.with_sources(job, &sha));
    assert_eq!(job.outcome(), success(), "{}", job.text());
    says(
        &job,
        &[
            "Preparing the \"docker\" executor",
            "Using Docker executor with image courser.test/debian:12 ...",
            "Using effective pull policy of [if-not-present] for container courser.test/debian:12",
            "Using docker image sha256:",
            "Preparing environment",
            "Running on runner-",
            " via ",
            "Getting source from Git repository",
            "Created fresh repository.",
            "Using effective pull policy of [if-not-present] for container courser.test/debian:12",
            "$ cat greeting",
            "O hello",
            "O /builds/g/p",
            "Running after script...",
            "O kept",
            "O hello",
            "Cleaning up project directory and file based variables",
            "Job succeeded",
        ],
    );
    assert!(!job.text().contains("disconnected"), "{}", job.text());
}

#[test]
fn images_without_bash_and_without_git_do() {
    let mut scene = Scene::new();
    let sha = scene.repository(&[("a", "of the repository\n")]);
    let job = scene.job_in(1, BUSYBOX, &["cat a", "readlink /proc/$$/exe", "exit 7"]);
    let job = scene.run(&scene.with_sources(job, &sha));
    assert_eq!(job.outcome(), failed_by_script(7), "{}", job.text());
    says(
        &job,
        &[
            "of the repository",
            "busybox",
            "ERROR: Job failed: exit code 7",
        ],
    );
}

#[test]
fn the_entrypoint_of_an_image_without_a_shell_is_the_job() {
    let mut scene = Scene::new();
    let job = scene.run(&scene.job_in(1, STATIC, &["nobody reads this"]));
    assert_eq!(job.outcome(), success(), "{}", job.text());
    says(&job, &["O sh", "O -c", "Job succeeded"]);

    let image = json!({"name": STATIC, "entrypoint": [""]});
    let job = scene.run(&scene.job_in(2, image, &["true"]));
    assert_eq!(job.outcome().1, "runner_system_failure");
    says(
        &job,
        &[
            "ERROR: Job failed (system failure): Error response from daemon: ",
            "\"sh\": executable file not found in $PATH",
        ],
    );
}

#[test]
fn users_other_than_root_share_the_files_of_the_job() {
    let mut scene = Scene::new();
    let sha = scene.repository(&[("a", "1\n")]);
    let script = [
        "id -u",
        "cat a \"$OPEN_FILE\"",
        "stat -c %a:%u:%s \"$SECRET_FILE\" \"$OPEN_FILE\"",
        "echo 2 > a",
        "mkdir made",
        "touch made/b",
    ];
    let mut job = scene.with_sources(scene.job_in(1, DEBIAN, &script), &sha);
    job["image"]["executor_opts"] = json!({"docker": {"user": "1234:1234"}});
    job["variables"].as_array_mut().expect("a list").extend([
        json!({"key": "OPEN_FILE", "value": "of a file", "file": true}),
        json!({"key": "SECRET_FILE", "value": "for one user", "file": true, "masked": true}),
    ]);
    let job = after_script(
        job,
        &["id -u; cat a; ls made; stat -c after:%a:%u:%s \"$SECRET_FILE\""],
    );
    let done = scene.run(&job);
    assert_eq!(done.outcome(), success(), "{}", done.text());
    says(
        &done,
        &[
            "O 1234",
            "O 1",
            "O of a file",
            "O 600:1234:12",
            "O 666:",
            "O 1234",
            "O 2",
            "O b",
            "O after:600:1234:12",
        ],
    );

    // The next one finds its tree and can clean it.
    let mut again = job.clone();
    again["id"] = json!(2);
    again["token"] = json!("job-token-2");
    let again = scene.with_sources(again, &sha);
    let again = scene.run(&again);
    assert_eq!(again.outcome(), success(), "{}", again.text());
    says(&again, &["Removing made/", "O 1234", "O 1"]);
}

#[test]
fn without_the_umask_files_belong_to_the_images_user() {
    let mut scene = Scene::new();
    let sha = scene.repository(&[("a", "1\n")]);
    let script = [
        "stat -c %a:%u:%g . a .git/config",
        "echo 2 > a; mkdir made",
        "cat \"$SECRET_FILE\"; stat -c %a:%u \"$SECRET_FILE\"",
    ];
    let mut job = scene.with_sources(scene.job_in(1, DEBIAN, &script), &sha);
    job["image"]["executor_opts"] = json!({"docker": {"user": "1234:4321"}});
    let file = json!({"key": "SECRET_FILE", "value": "of a file", "file": true});
    job["variables"].as_array_mut().expect("a list").push(file);
    let job = variable(job, "FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR", "true");
    let job = after_script(job, &["cat a; touch made/b; stat -c after:%u made/b"]);
    let done = scene.run(&job);
    assert_eq!(done.outcome(), success(), "{}", done.text());
    says(
        &done,
        &[
            "Not using umask - FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR is set!",
            "Created fresh repository.",
            "Changing ownership of files at \"/builds/g/p\" to 1234:4321",
            "Changing ownership of files at \"/builds/g/p.tmp\" to 1234:4321",
            "O 755:1234:4321",
            "O 644:1234:4321",
            "O 644:1234:4321",
            "O of a file600:1234",
            "O 2",
            "O after:1234",
        ],
    );

    // Root needs nothing.
    let job = scene.with_sources(scene.job_in(2, DEBIAN, &["stat -c %a:%u a"]), &sha);
    let job = variable(job, "FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR", "true");
    let done = scene.run(&job);
    assert_eq!(done.outcome(), success(), "{}", done.text());
    says(&done, &["Not using umask", "O 644:0"]);
    assert!(
        !done.text().contains("Changing ownership"),
        "{}",
        done.text()
    );
}

#[test]
fn a_user_that_is_not_allowed_is_refused() {
    let mut scene = Scene::new();
    scene.docker("allowed_users = [\"1000\"]");
    let mut job = scene.job_in(1, DEBIAN, &["id -u"]);
    job["image"]["executor_opts"] = json!({"docker": {"user": "root"}});
    let done = scene.run(&job);
    assert_eq!(done.outcome().0, "failed");
    says(&done, &["user \"root\" is not an allowed user: [1000]"]);
}

#[test]
fn processes_do_not_outlive_their_stage_and_standard_input_is_empty() {
    let mut scene = Scene::new();
    let script = ["sleep 300 &", "cat", "echo end"];
    let job = after_script(
        scene.job_in(1, DEBIAN, &script),
        &["ls /proc | grep -c '^[0-9]'"],
    );
    let done = scene.run(&variable(job, "A", "1"));
    assert_eq!(done.outcome(), success(), "{}", done.text());
    says(&done, &["O end", "Running after script..."]);
}

/// Which containers of a scene's project are created and started, told as it happens: the Engine keeps but a few hundred
/// events, of all tests.
struct Events {
    told: Running,
    label: String,
}

impl Events {
    /// From now on.
    fn of(scene: &Scene) -> Self {
        let label = format!("com.gitlab.gitlab-runner.project.id={}", scene.project);
        let now = scene.client(&["info", "--format", "{{.SystemTime}}"]);
        let mut client = Command::new("/usr/bin/docker");
        client.args(["--host", &scene.engine.host, "events"]);
        client.args(["--since", now.trim()]);
        client.args(["--filter", "event=create", "--filter", "event=start"]);
        client.args(["--filter", &format!("label={label}")]);
        client.args(["--format", "{{.Action}} {{.Actor.Attributes.name}}"]);
        Self {
            told: Running::start(&mut client),
            label,
        }
    }

    /// All up to now, in order: `create build`, `start build`, …
    fn so_far(mut self, scene: &Scene) -> Vec<String> {
        let last = format!("courser-tests-last-of-{}", scene.project);
        scene.client(&["create", "--label", &self.label, "--name", &last, BUSYBOX]);
        self.told.wait_for(&last);
        scene.client(&["rm", &last]);
        self.told.signal("KILL");
        let told = self.told.rest();
        let told = told
            .lines()
            .filter(|line| !line.contains("-trust-") && !line.ends_with(&last));
        told.filter_map(|line| {
            let (action, name) = line.split_once(' ')?;
            Some(format!("{action} {}", name.rsplit('-').next()?))
        })
        .collect()
    }
}

#[test]
fn a_job_without_sources_has_one_container_and_directories_for_its_user() {
    let mut scene = Scene::new();
    let events = Events::of(&scene);
    let script = [
        "id -u",
        "pwd",
        "touch made ../beside && ls",
        "touch /cache/c",
    ];
    let mut job = scene.job_in(1, BUSYBOX, &script);
    job["image"]["executor_opts"] = json!({"docker": {"user": "1234:1234"}});
    scene.docker("volumes = [\"/cache\"]");
    let done = scene.run(&job);
    assert_eq!(done.outcome(), success(), "{}", done.text());
    says(
        &done,
        &[
            "Preparing environment",
            "Running on runner-",
            " via ",
            "Getting source from Git repository",
            "Skipping Git repository setup",
            "Skipping Git checkout",
            "Skipping Git submodules setup",
            "O 1234",
            "O /builds/g/p",
            "O made",
            "Cleaning up project directory and file based variables",
            "Job succeeded",
        ],
    );
    assert_eq!(events.so_far(&scene), ["create build", "start build"]);

    // A cache is the helper's work.
    let mut job = scene.job_in(2, DEBIAN, &["touch /builds/g/p/a"]);
    job["cache"] =
        json!([{"key": "k", "paths": ["a"], "policy": "pull-push", "when": "on_success"}]);
    let events = Events::of(&scene);
    let done = scene.run(&job);
    assert_eq!(done.outcome(), success(), "{}", done.text());
    says(&done, &["Saving cache for successful job", "Created cache"]);
    let mut events = events.so_far(&scene);
    events.sort();
    assert_eq!(
        events,
        [
            "create build",
            "create predefined",
            "start build",
            "start predefined"
        ]
    );
}

#[test]
fn a_shell_that_reads_a_file_of_the_sources_first_is_started_after_them() {
    let mut scene = Scene::new();
    let sha = scene.repository(&[("first.sh", "echo the file of the sources\n")]);
    let job = variable(
        scene.job_in(1, DEBIAN, &["echo then the script"]),
        "BASH_ENV",
        "/builds/g/p/first.sh",
    );
    let done = scene.run(&scene.with_sources(job, &sha));
    assert_eq!(done.outcome(), success(), "{}", done.text());
    says(&done, &["O the file of the sources", "O then the script"]);
}

#[test]
fn a_shell_that_waited_and_was_removed_is_made_anew() {
    let mut scene = Scene::new();
    scene.configure(
        "  pre_get_sources_script = \"echo ready; while [ ! -e /cache/go ]; do sleep 0.1; done\"\n",
    );
    scene.docker("volumes = [\"/cache\"]");
    let sha = scene.repository(&[("a", "1\n")]);
    let mut job = scene.with_sources(scene.job_in(1, DEBIAN, &["cat a"]), &sha);
    let attempts = json!({"key": "EXECUTOR_JOB_SECTION_ATTEMPTS", "value": "2"});
    job["variables"]
        .as_array_mut()
        .expect("a list")
        .push(attempts);
    scene.gitlab.queue(&job);
    scene.runner();
    scene.gitlab.wait(1, |job| {
        String::from_utf8_lossy(&job.log).contains("O ready")
    });
    let containers = scene.left();
    let of = |kind: &str| {
        let mut names = containers.iter().filter(|name| name.ends_with(kind));
        names.next().expect("it is there").clone()
    };
    scene.client(&["rm", "--force", &of("-build")]);
    scene.client(&["exec", &of("-predefined"), "touch", "/cache/go"]);
    let done = scene.gitlab.finished(1);
    assert_eq!(done.outcome(), success(), "{}", done.text());
    says(
        &done,
        &[
            "not found or removed. Will retry...",
            "Retrying step_script",
            "O 1",
        ],
    );
}
