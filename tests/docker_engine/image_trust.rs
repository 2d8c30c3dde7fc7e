//! A private CA in the containers of a job, through the binary: on, off, and beside the documented ways (T23 to T28).

use serde_json::{Value, json};

use super::scene::{DEBIAN, Scene, failed_by_script, says, success};
use crate::wire::gitlab::add;

/// curl's exit code for a certificate that it does not trust.
const UNTRUSTED: i64 = 60;

fn ask(scene: &Scene, options: &str) -> String {
    let url = scene.gitlab.url();
    format!("curl --silent --show-error --output answer {options} {url}/")
}

const LINE: &str = "Trust in containers of this image: 1 private CA beside the image's 1";

fn scene(lines: &str) -> Scene {
    let mut scene = Scene::new();
    scene.docker(&format!("helper_image = {DEBIAN:?}"));
    scene.configure(lines);
    scene
}

/// Adds a public variable.
fn with_variable(job: Value, key: &str, value: &str) -> Value {
    let variable = json!({"key": key, "value": value, "public": true});
    add(job, "variables", variable)
}

#[test]
fn a_job_trusts_the_private_ca_unless_it_wants_not_to() {
    let mut scene = scene("");
    let ask = ask(&scene, "");
    let done = scene.run(&scene.job(
        1,
        &[
            &ask,
            "env | grep NODE_EXTRA",
            "update-ca-certificates",
            &ask,
        ],
    ));
    assert_eq!(done.outcome(), success(), "{}", done.text());
    says(
        &done,
        &[
            LINE,
            "NODE_EXTRA_CA_CERTS=/usr/local/share/ca-certificates/courser-private-cas.pem",
            "0 added, 0 removed",
        ],
    );
    let job = with_variable(scene.job(2, &[&ask]), "COURSER_IMAGE_TRUST", "false");
    let done = scene.run(&job);
    assert_eq!(
        done.outcome(),
        failed_by_script(UNTRUSTED),
        "{}",
        done.text()
    );
    assert!(
        !done.text().contains("Trust in containers"),
        "{}",
        done.text()
    );
}

/// Without it the two contexts are separate, as upstream's are: the runner trusts the server, the image does not.
#[test]
fn t23_t24_t28_an_image_trusts_no_private_ca_by_itself() {
    let mut scene = scene("  [runners.trust]\n    images = false\n");
    let by_name = ask(&scene, "--cacert \"$CI_SERVER_TLS_CA_FILE\"");
    let ask = ask(&scene, "");
    let done = scene.run(&scene.job(1, &[&by_name, &ask]));
    assert_eq!(
        done.outcome(),
        failed_by_script(UNTRUSTED),
        "{}",
        done.text()
    );
}

/// The volume for all containers, and the recipe for Ubuntu in `pre_build_script`; with this and without.
#[test]
fn t25_t26_the_documented_volume_and_recipe_work_alone_and_together_with_this() {
    for off in ["", "  [runners.trust]\n    images = false\n"] {
        let recipe = "  pre_build_script = \"\"\"\n\
            cp /etc/gitlab-runner/certs/ca.crt /usr/local/share/ca-certificates/ca.crt\n\
            update-ca-certificates --fresh > /dev/null\n\"\"\"\n";
        let mut scene = scene(&format!("{recipe}{off}"));
        let ca = scene.world.path("home/ca.pem");
        scene.docker(&format!(
            "volumes = [\"{}:/etc/gitlab-runner/certs/ca.crt:ro\"]",
            ca.display()
        ));
        let ask = ask(&scene, "");
        let done = scene.run(&scene.job(1, &[&ask]));
        assert_eq!(done.outcome(), success(), "{}", done.text());
        assert_eq!(done.text().contains("Trust in containers"), off.is_empty());
    }
}
