//! `courser trust rehearse`: every fault looks as the page says, and its cure cures it.

use crate::world::{Running, World, run};

#[test]
fn every_fault_is_played_and_cured() {
    let world = World::new();
    let listed = run(&mut world.courser(["trust", "rehearse", "--list"]));
    let names: Vec<_> = listed
        .stdout
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(names.len() >= 10, "{}", listed.all());
    let played = run(&mut world.courser(["trust", "rehearse"]));
    assert_eq!(played.code(), 0, "{}", played.all());
    for name in &names {
        let help = format!("help: docs/trust-errors.md#{name}");
        assert!(played.stdout.contains(&help), "{name}: {}", played.all());
    }
    assert_eq!(played.stdout.matches("✓ cured").count(), names.len());
    let unknown = run(&mut world.courser(["trust", "rehearse", "no-such-fault"]));
    assert_eq!(unknown.code(), 2, "{}", unknown.all());
}

#[test]
fn a_fault_stays_for_other_programs_to_try() {
    let world = World::new();
    let mut command = world.courser(["trust", "rehearse", "expired-certificate", "--serve"]);
    let mut server = Running::start(&mut command);
    let line = server.wait_for("server ");
    let url = line
        .split_whitespace()
        .next_back()
        .expect("a URL")
        .to_owned();
    let line = server.wait_for("CA ");
    let ca = line
        .split_whitespace()
        .next_back()
        .expect("a file")
        .to_owned();
    let mut curl = world.program("curl");
    let refused = run(curl.args(["--silent", "--show-error", "--cacert", &ca, &url]));
    assert_eq!(refused.code(), 60, "{}", refused.all());
    assert!(refused.stderr.contains("expired"), "{}", refused.all());
    server.signal("INT");
    server.end();
}
