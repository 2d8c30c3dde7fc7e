//! A CA file that is mounted where gitlab-runner's documentation says (`executor-docker.md` 21).

use courser_testkit::pki::Authority;

use super::scene::{DEBIAN, Scene, says, success};

#[test]
fn t25_t29_a_mounted_ca_is_in_all_containers_and_trusted_in_the_helper_before_git_runs() {
    let mut scene = Scene::new();
    let ca = Authority::root("Mounted Root").issue();
    let file = scene.world.write("home/mounted.crt", ca.certificate_pem());
    scene.docker(&format!(
        "volumes = [\"/cache\", \"{}:/etc/gitlab-runner/certs/ca.crt:ro\"]",
        file.display()
    ));
    // The hook runs in the helper container.
    let line = "$(sed -n 2p /etc/gitlab-runner/certs/ca.crt)";
    scene.configure(&format!(
        "  pre_get_sources_script = '''grep -cF \"{line}\" /etc/ssl/certs/ca-certificates.crt
cmp /etc/gitlab-runner/certs/ca.crt /usr/local/share/ca-certificates/ca.crt && echo in the helper'''\n"
    ));
    let sha = scene.repository(&[("a", "b\n")]);
    let script = ["test -f /etc/gitlab-runner/certs/ca.crt && echo in the build"];
    let job = scene.job_in(1, DEBIAN, &script);
    let job = scene.run(&scene.with_sources(job, &sha));
    assert_eq!(job.outcome(), success(), "{}", job.text());
    says(
        &job,
        &[
            "O 1\n",
            "O in the helper",
            "Created fresh",
            "O in the build",
        ],
    );
}
