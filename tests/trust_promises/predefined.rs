//! The predefined file `<certificate directory>/<host>.crt`.

use std::path::Path;
use std::process::Command;

use courser_testkit::programs::copy_program;

use crate::world::{Finished, run};

use super::machine::{is_root, with_files};
use super::site::{Site, UNKNOWN_AUTHORITY};

const TRIVIAL: &str = "job:\n  script: ['true']\n";

/// Runs `verify` as root whose `/etc` the test may write to.
fn verify_as_root(site: &Site) -> Finished {
    let mut verify = site.world.courser(["verify", "--config"]);
    verify.arg(site.world.path("config/config.toml"));
    let etc = [(site.world.path("etc"), "/etc")];
    run(&mut with_files(&site.world, &verify, &etc))
}

/// Runs `verify` as a user who is not root.
fn verify_as_user(site: &Site) -> Finished {
    let mut verify = site.world.courser(["verify", "--config"]);
    verify.arg(site.world.path("config/config.toml"));
    if !is_root() {
        return run(&mut verify);
    }
    let program = copy_for_everybody(site);
    let mut owned = Command::new("chown");
    owned.args(["-R", "65534:65534"]).arg(site.world.path(""));
    assert!(run(&mut owned).status.success());
    let mut command = site.world.program("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(program);
    command
        .args(["verify", "--config"])
        .arg(site.world.path("config/config.toml"));
    run(&mut command)
}

/// The program where another user can reach it.
fn copy_for_everybody(site: &Site) -> std::path::PathBuf {
    let program = site.world.path("courser");
    copy_program(env!("CARGO_BIN_EXE_courser"), &program);
    program
}

/// A small `/etc` with the machine's account database and name resolution, and a certificate directory.
fn write_etc(site: &Site, file: &str, content: &str) {
    for name in ["passwd", "group", "hosts", "nsswitch.conf", "resolv.conf"] {
        let from = Path::new("/etc").join(name);
        if from.is_file() {
            site.world.write(
                &format!("etc/{name}"),
                std::fs::read(&from).expect("a file of /etc"),
            );
        }
    }
    site.world
        .write(&format!("etc/gitlab-runner/certs/{file}"), content);
}

fn assert_valid(finished: &Finished) {
    assert!(
        finished.stderr.contains("Verifying runner... is valid"),
        "{}",
        finished.all()
    );
}

#[test]
fn t8_root_uses_the_file_in_etc_without_any_option() {
    let site = Site::start(TRIVIAL);
    site.config(&site.url, "");
    write_etc(
        &site,
        "other.crt",
        &site.certificates.root.certificate_pem(),
    );
    let without = verify_as_root(&site);
    assert!(
        without.stderr.contains(UNKNOWN_AUTHORITY),
        "{}",
        without.all()
    );
    write_etc(
        &site,
        "localhost.crt",
        &site.certificates.root.certificate_pem(),
    );
    assert_valid(&verify_as_root(&site));
}

#[test]
fn t9_the_port_of_the_url_is_no_part_of_the_file_name() {
    let site = Site::start(TRIVIAL);
    assert!(
        site.url
            .trim_start_matches("https://localhost:")
            .parse::<u16>()
            .is_ok(),
        "{}",
        site.url
    );
    site.config(&site.url, "");
    write_etc(
        &site,
        "localhost.crt",
        &site.certificates.root.certificate_pem(),
    );
    assert_valid(&verify_as_root(&site));
}

#[test]
fn t10_a_file_with_the_servers_leaf_only_is_enough() {
    let site = Site::start(TRIVIAL);
    site.config(&site.url, "");
    write_etc(
        &site,
        "localhost.crt",
        &site.certificates.leaf.certificate_pem(),
    );
    assert_valid(&verify_as_root(&site));
}

#[test]
fn t12_another_user_uses_the_file_at_home_and_not_the_one_in_etc() {
    let site = Site::start(TRIVIAL);
    site.config(&site.url, "");
    let without = verify_as_user(&site);
    assert!(
        without.stderr.contains(UNKNOWN_AUTHORITY),
        "{}",
        without.all()
    );
    site.world.write(
        "home/.gitlab-runner/certs/localhost.crt",
        site.certificates.root.certificate_pem(),
    );
    assert_valid(&verify_as_user(&site));
}
