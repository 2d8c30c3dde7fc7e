//! The system's store: enough alone, and seen without a restart.

use courser_testkit::pki::Authority;
use courser_testkit::server::{FakeServer, Reply};

use super::job::WHOLE;
use super::machine::SystemStore;
use super::site::{Site, UNKNOWN_AUTHORITY};
use crate::world::{Running, run};

#[test]
fn t3_an_authority_in_the_systems_store_is_enough() {
    let site = Site::start(WHOLE);
    site.config(&site.url, "");
    let store = SystemStore::new(&site.world);
    let mut verify = site.world.courser(["verify", "--config"]);
    verify.arg(site.world.path("config/config.toml"));
    let verify = || run(&mut store.with(&site.world, &verify));
    let without = verify();
    assert!(
        without.stderr.contains(UNKNOWN_AUTHORITY),
        "{}",
        without.all()
    );
    store.install(&site.world, &site.world.path("tls/root.pem"));
    let with = verify();
    assert!(
        with.stderr.contains("Verifying runner... is valid"),
        "{}",
        with.all()
    );
    let _runner = Running::start(&mut store.with(&site.world, &site.run_command()));
    let pipeline = site.create_pipeline();
    assert_eq!(site.outcome(pipeline), "success", "{}", site.logs());
}

#[test]
fn t41_the_documented_cure_of_the_system_needs_no_change_and_no_restart_of_the_runner() {
    let site = Site::start(WHOLE);
    site.config(&site.url, "");
    let store = SystemStore::new(&site.world);
    let mut runner = Running::start(&mut store.with(&site.world, &site.run_command()));
    assert!(runner.wait_for("jobs/request").contains(UNKNOWN_AUTHORITY));
    store.install(&site.world, &site.world.path("tls/root.pem"));
    let pipeline = site.create_pipeline();
    assert_eq!(site.outcome(pipeline), "success", "{}", site.logs());
}

/// What concerns the shell executor: the job's own client of a registry, on a runner with a private CA
/// of its own, so that the job's tools read a bundle that Courser made.
#[test]
fn t40_an_authority_installed_for_a_registry_reaches_the_next_job() {
    let authority = Authority::root("Registry Root").issue();
    let registry = FakeServer::https(&authority.server(&["localhost"]).issue(), |request| {
        assert_eq!(request.path, "/v2/");
        Reply::text(200, "{}")
    });
    let url = registry.url_by_name("localhost", "/v2/");
    let site = Site::start(&format!(
        "pull:\n  script: [\"curl --silent --show-error {url} && echo registry answers\"]\n"
    ));
    site.config(&site.url, &site.ca_file("tls/root.pem"));
    let store = SystemStore::new(&site.world);
    let _runner = Running::start(&mut store.with(&site.world, &site.run_command()));
    let pipeline = site.create_pipeline();
    assert_eq!(site.outcome(pipeline), "failed", "{}", site.logs());
    assert!(
        site.logs().contains("SSL certificate problem"),
        "{}",
        site.logs()
    );
    let certificate = site
        .world
        .write("registry.pem", authority.certificate_pem());
    store.install(&site.world, &certificate);
    // A job that was on its way when the store changed has the old one.
    let outcome = [(); 3].iter().find_map(|()| {
        let pipeline = site.create_pipeline();
        Some(site.outcome(pipeline)).filter(|outcome| outcome == "success")
    });
    assert!(outcome.is_some(), "{}", site.logs());
    assert!(site.logs().contains("registry answers"), "{}", site.logs());
}
