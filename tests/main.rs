//! Through the binary: each module is a scenario, each test has a world of its own.
//!
//! One test crate, because every test binary costs link time. Nothing here reaches beyond loopback.

mod clouds;
mod coordinator_serve;
mod docker_engine;
mod downstream;
mod drill;
mod exec;
mod exec_again;
mod exec_clouds;
mod exec_events;
mod exec_reports;
mod exec_secrets;
mod exec_submodules;
mod exec_user;
mod id_tokens;
mod lost;
mod lost_secrets;
mod lost_spool;
mod metrics;
mod pipeline;
mod pipeline_includes;
mod registration;
mod scenarios;
mod secrets_command;
mod secrets_given_back;
mod shell;
mod transfer_commands;
mod trust_check;
mod trust_command;
mod trust_errors;
mod trust_fetch;
mod trust_promises;
mod trust_rehearse;
mod wire;
mod world;

#[test]
fn the_version_is_upstreams_shape() {
    let world = world::World::new();
    let finished = world::run(&mut world.courser(["--version"]));
    assert_eq!(finished.code(), 0, "{}", finished.all());
    let first = finished.stdout.lines().next().unwrap_or_default();
    assert!(
        first.starts_with("Version:      19.4."),
        "{}",
        finished.all()
    );
}
