//! The Engine itself goes away: before a job, between its stages, in the middle of a script. Each test has an Engine of its
//! own, which it kills and starts again.

use courser_testkit::pki::Authority;
use courser_testkit::servers::{PrivateEngine, Registry};
use serde_json::{Value, json};

use super::scene::{BUSYBOX, Scene, says};
use crate::wire::gitlab::{Record, spooled, variable};
use crate::world::{World, eventually};

/// A scene with an Engine of its own, which has the small image alone.
fn scene(options: &[&str]) -> (PrivateEngine, Scene) {
    let private = PrivateEngine::start(options);
    private.copy(&[BUSYBOX]);
    let mut scene = Scene::on(private.engine.clone());
    scene.docker(&format!(
        "image = {BUSYBOX:?}\nwait_for_services_timeout = -1"
    ));
    (private, scene)
}

/// A job with a service, a network and a volume of its own, which lasts longer than any test.
fn long_job(scene: &Scene, id: i64) -> Value {
    let script = ["echo ready", "while :; do sleep 0.1; done"];
    let mut job = scene.job_in(id, BUSYBOX, &script);
    job["services"] = json!([{"name": BUSYBOX, "alias": "s", "command": ["sleep", "300"]}]);
    variable(job, "FF_NETWORK_PER_BUILD", "true")
}

/// Waits until the job prints that.
fn prints(scene: &Scene, id: i64, text: &str) {
    scene
        .gitlab
        .wait(id, |job| String::from_utf8_lossy(&job.log).contains(text));
}

/// The runner has written down that something is left.
fn remains(world: &World) -> usize {
    let entries = std::fs::read_dir(world.path("home/.config.toml.spool"));
    let names = entries.into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("remains-")).count()
}

/// How a job ends that loses its Engine: reported, with its log so far, the reason and what to do.
#[track_caller]
fn is_lost(job: &Record, printed: &str) {
    let text = job.text();
    assert_eq!(job.outcome().1, "runner_system_failure", "{text}");
    says(
        job,
        &[
            printed,
            "ERROR: Job failed (system failure): the Docker Engine at unix://",
            " went away while the job ran",
            "journalctl --unit docker",
        ],
    );
}

/// Nothing of the scene's jobs is in the Engine, and the runner knows that.
fn nothing_is_left(scene: &Scene) {
    eventually("nothing is left", || {
        scene.left().is_empty() && remains(&scene.world) == 0
    });
}

/// The Engine gets a signal in the middle of a script and is started again at once.
fn restarted_in_mid_job(options: &[&str], signal: &str) {
    let (engine, mut scene) = scene(options);
    scene.gitlab.queue(&long_job(&scene, 1));
    scene.runner();
    prints(&scene, 1, "ready");
    let before = scene.left();
    assert!(
        before.len() >= 5,
        "three containers, a network, a volume: {before:?}"
    );
    engine.kill(signal);
    engine.start_again();
    is_lost(&scene.gitlab.finished(1), "ready");
    nothing_is_left(&scene);
    scene.passes(&scene.job_in(2, BUSYBOX, &["echo as ever"]));
}

#[test]
fn an_engine_that_is_stopped_in_mid_job_ends_the_job_and_not_its_script() {
    restarted_in_mid_job(&[], "TERM");
}

#[test]
fn an_engine_that_is_killed_and_whose_containers_live_on_ends_the_job_and_them() {
    restarted_in_mid_job(&["--live-restore"], "KILL");
}

#[test]
fn what_is_left_in_an_engine_that_stays_away_is_removed_when_it_is_back() {
    // Starts in half a second: otherwise it would first stop what it finds, for ten.
    let (engine, mut scene) = scene(&["--live-restore"]);
    // By the runner that ran the job.
    scene.gitlab.queue(&long_job(&scene, 1));
    scene.runner();
    prints(&scene, 1, "ready");
    engine.kill("KILL");
    is_lost(&scene.gitlab.finished(1), "ready");
    eventually("the job is reported", || spooled(&scene.world).is_empty());
    assert_eq!(remains(&scene.world), 1);
    engine.start_again();
    nothing_is_left(&scene);

    // By another, after the first was killed with the Engine away; a third job is not kept from beginning.
    scene.gitlab.queue(&long_job(&scene, 2));
    prints(&scene, 2, "ready");
    engine.kill("KILL");
    scene.kill_runner();
    scene.runner();
    let job = scene.gitlab.finished(2);
    says(&job, &["ready", "the runner was killed while the job ran"]);
    eventually("it is written down", || {
        spooled(&scene.world).is_empty() && remains(&scene.world) == 1
    });
    engine.start_again();
    scene.passes(&scene.job_in(3, BUSYBOX, &["echo as ever"]));
    nothing_is_left(&scene);
}

#[test]
fn an_engine_that_is_lost_while_the_helper_works_is_named() {
    let (engine, mut scene) = scene(&["--live-restore"]);
    scene.configure("  pre_get_sources_script = \"echo in the helper; sleep 300\"\n");
    let sha = scene.repository(&[("a", "b\n")]);
    let job = scene.with_sources(scene.job_in(1, BUSYBOX, &["true"]), &sha);
    scene.gitlab.queue(&job);
    scene.runner();
    prints(&scene, 1, "in the helper");
    engine.kill("TERM");
    engine.start_again();
    is_lost(&scene.gitlab.finished(1), "in the helper");
    nothing_is_left(&scene);
}

#[test]
fn an_engine_that_is_back_within_the_retries_of_preparation_runs_the_job() {
    let (engine, mut scene) = scene(&[]);
    engine.kill("TERM");
    scene
        .gitlab
        .queue(&scene.job_in(1, BUSYBOX, &["echo as ever"]));
    scene.runner();
    prints(&scene, 1, "Will be retried in 3s ...");
    engine.start_again();
    let job = scene.gitlab.finished(1);
    assert_eq!(job.outcome().0, "success", "{}", job.text());
    says(
        &job,
        &[
            "Preparation failed: Cannot connect to the Docker daemon at unix://",
            "systemctl start docker",
            "Will be retried in 3s ...",
            "as ever",
        ],
    );
}

#[test]
fn t41_the_documented_cure_of_an_untrusted_registry_needs_no_other_runner() {
    let (engine, mut scene) = scene(&[]);
    let gateway = engine.engine.gateway.clone();
    let authority = Authority::root("Registry CA").issue();
    let leaf = authority.server(&[&gateway]).issue();
    let registry = Registry::start(gateway.parse().expect("an address"), &leaf);
    let image = format!("{}/team/box:1", registry.name());
    let trusted = engine.engine.etc.join("certs.d").join(registry.name());
    std::fs::create_dir(&trusted).expect("a directory");
    std::fs::write(trusted.join("ca.crt"), authority.certificate_pem()).expect("a file");
    let login = scene.world.path("login").display().to_string();
    let client = |arguments: &[&str]| {
        scene.client(&[&["--config", &login], arguments].concat());
    };
    let password = ["--password", Registry::PASSWORD, &registry.name()];
    client(&[&["login", "--username", Registry::USER], &password[..]].concat());
    client(&["tag", BUSYBOX, &image]);
    client(&["push", &image]);
    client(&["rmi", "--no-prune", &image]);
    std::fs::remove_dir_all(&trusted).expect("removed");

    scene.docker("pull_policy = \"always\"");
    let pulled = |scene: &Scene, id: i64| -> Value {
        let mut job = scene.job_in(id, image.as_str(), &["echo in the container"]);
        job["credentials"] = json!([{
            "type": "registry", "url": registry.name(),
            "username": Registry::USER, "password": Registry::PASSWORD,
        }]);
        job
    };
    let job = scene.run(&pulled(&scene, 1));
    assert_eq!(job.outcome().1, "image_pull_failure", "{}", job.text());
    says(&job, &["x509: certificate signed by unknown authority"]);

    let ca = scene
        .world
        .write("registry.crt", authority.certificate_pem());
    let place = "/usr/local/share/ca-certificates/registry.crt";
    engine.on_its_machine(&["cp", &ca.display().to_string(), place]);
    engine.on_its_machine(&["update-ca-certificates"]);
    engine.kill("TERM");
    engine.start_again();
    let job = scene.passes(&pulled(&scene, 2));
    says(&job, &["in the container"]);
}
