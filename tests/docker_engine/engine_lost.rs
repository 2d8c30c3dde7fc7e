//! The Engine itself goes away: before a job, between its stages, in the middle of a script. Each test has an Engine of its
//! own, which it kills and starts again.

use courser_testkit::pki::Authority;
use courser_testkit::servers::{PrivateEngine, Registry};
use serde_json::{Value, json};

use super::scene::{BUSYBOX, Scene, says, success};

/// A scene with an Engine of its own, which has the small image alone.
fn scene(options: &[&str]) -> (PrivateEngine, Scene) {
    let private = PrivateEngine::start(options);
    private.copy(&[BUSYBOX]);
    let scene = Scene::on(private.engine.clone());
    (private, scene)
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
        job["features"]["failure_reasons"] = json!(["image_pull_failure"]);
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
    let job = scene.run(&pulled(&scene, 2));
    assert_eq!(job.outcome(), success(), "{}", job.text());
    says(&job, &["in the container"]);
}
