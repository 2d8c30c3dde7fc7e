//! Jobs as users have them, through the binary, against a GitLab that is not ours and strict about the protocol.
//!
//! A scenario is one test: it asserts the whole log (times and places removed, see [`rendered`]), the final state, its
//! reason and its exit code. After each, a second job of the same project is run in the same place, and nothing secret of
//! the first may be found anywhere ([`canaries`]).

mod canaries;
mod rendered;
mod scene;
mod vault;
mod watched;

mod after_script;
mod artifacts;
mod caches;
mod cancel;
mod cloud_secrets;
mod late_logins;
mod leases;
mod lifecycle;
mod misbehaviour;
mod refusals;
mod retries;
mod scripts;
mod secrets;
mod sources;
mod traces;
mod variables;

/// The list of this program's own tests: it is the list of scenarios.
#[test]
fn there_are_sixty_scenarios() {
    let program = std::env::current_exe().expect("a test program has a path");
    let listed = std::process::Command::new(program)
        .args(["--list", "--format=terse", "scenarios::"])
        .output()
        .expect("list the tests");
    let listed = String::from_utf8(listed.stdout).expect("names are text");
    // Those of a subject, not those of the scaffolding.
    let scenarios = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .filter(|name| name.split("::").count() == 3);
    let count = scenarios.clone().count();
    assert!(count >= 60, "{count}: {:#?}", scenarios.collect::<Vec<_>>());
}
