//! GitLab's documented `pre_build_script` recipes in images that are laid out as Alpine (T27, T43, T44 of `runner-tls.md`).

use super::scene::{ALPINE, DEBIAN, Scene, failed_by_script, says};
use crate::wire::gitlab::variable;

/// With `/etc/gitlab-runner/certs/ca.crt` in all containers, and this `pre_build_script`.
fn scene(recipe: &str, off: &str) -> Scene {
    let mut scene = Scene::new();
    let ca = scene.world.path("home/ca.pem");
    scene.docker(&format!(
        "volumes = [\"{}:/etc/gitlab-runner/certs/ca.crt:ro\"]",
        ca.display()
    ));
    scene.configure(&format!("  pre_build_script = '''\n{recipe}'''\n{off}"));
    scene
}

const OFF: &str = "  [runners.trust]\n    images = false\n";

const FOR_ALPINE: &str = "\
apk update >/dev/null
apk add ca-certificates > /dev/null
rm -rf /var/cache/apk/*

cp /etc/gitlab-runner/certs/ca.crt /usr/local/share/ca-certificates/ca.crt
update-ca-certificates --fresh > /dev/null
";

/// For all distributions.
const FOR_ALL: &str = "\
if ! command -v update-ca-certificates > /dev/null; then
    if command -v apk > /dev/null; then
        apk add --no-cache ca-certificates > /dev/null
    elif command -v apt-get > /dev/null; then
        apt-get update > /dev/null && apt-get install -y ca-certificates > /dev/null
    fi
fi
cp /etc/gitlab-runner/certs/ca.crt /usr/local/share/ca-certificates/ca.crt
update-ca-certificates --fresh > /dev/null
";

/// Connects to the private GitLab with the store of the image.
fn ask(scene: &Scene) -> String {
    let address = scene.gitlab.url().replace("https://", "");
    format!(
        "if command -v curl > /dev/null; then curl -sS -o /dev/null https://{address}/; \
         else openssl s_client -connect {address} -verify_return_error -brief < /dev/null; fi && echo trus''ted"
    )
}

#[test]
fn t27_the_recipe_for_alpine_works_alone_and_together_with_trust_in_images() {
    for off in ["", OFF] {
        let mut scene = scene(FOR_ALPINE, off);
        let ask = ask(&scene);
        let done = scene.passes(&scene.job_in(1, ALPINE, &[&ask]));
        says(&done, &["trusted"]);
        assert_eq!(done.text().contains("Trust in containers"), off.is_empty());
    }
}

#[test]
fn t27_without_the_recipe_the_image_trusts_the_ca_by_injection_alone_also_after_its_own_update() {
    let mut scene = Scene::new();
    let ask = ask(&scene);
    let update = "apk add ca-certificates && update-ca-certificates";
    let done = scene.passes(&scene.job_in(1, ALPINE, &[&ask, update, &ask]));
    says(&done, &["trusted", "OK: ", "trusted"]);
    let off = variable(
        scene.job_in(2, ALPINE, &[&ask]),
        "COURSER_IMAGE_TRUST",
        "false",
    );
    let done = scene.run(&off);
    assert_eq!(done.outcome(), failed_by_script(1), "{}", done.text());
}

#[test]
fn t43_a_recipe_for_another_distribution_fails_the_job_with_the_code_of_its_shell() {
    let mut scene = scene(
        "apt-get update -y > /dev/null\napt-get -y install ca-certificates\n",
        "",
    );
    let done = scene.run(&scene.job_in(1, ALPINE, &["echo nev''er"]));
    assert_eq!(done.outcome(), failed_by_script(127), "{}", done.text());
    says(
        &done,
        &["apt-get: not found", "ERROR: Job failed: exit code 127"],
    );
    assert!(!done.text().contains("never"), "{}", done.text());
}

#[test]
fn t44_a_recipe_for_all_distributions_works_in_each() {
    let mut scene = scene(FOR_ALL, OFF);
    let ask = ask(&scene);
    for (id, image) in [(1, ALPINE), (2, DEBIAN)] {
        let done = scene.passes(&scene.job_in(id, image, &[&ask]));
        says(&done, &["trusted"]);
    }
}
