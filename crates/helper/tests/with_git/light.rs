//! Requests that need no process.

use std::fs;

use courser_helper::{HelperRequest, run_light};
use courser_job::helper_request::{CleanUp, GitStrategy};

use crate::world::{World, plain};

fn log_of(request: &HelperRequest) -> String {
    let mut log = Vec::new();
    run_light(request, "build.example", &mut log).expect("works");
    plain(&String::from_utf8(log).expect("UTF-8"))
}

#[test]
fn preparing_names_the_machine_and_forgets_the_job_before() {
    let world = World::new();
    fs::create_dir(world.path("p.tmp")).expect("directory");
    for name in ["gitlab_runner_env", "masking.db", "CA_FILE"] {
        fs::write(world.path("p.tmp").join(name), "").expect("file");
    }
    let prepare = |via: &str| HelperRequest::Prepare {
        temporary_dir: world.text("p.tmp"),
        via: via.to_owned(),
    };
    assert_eq!(
        log_of(&prepare("runner.example")),
        "Running on build.example via runner.example...\n"
    );
    assert_eq!(log_of(&prepare("")), "Running on build.example...\n");
    assert!(!world.path("p.tmp/gitlab_runner_env").exists());
    assert!(!world.path("p.tmp/masking.db").exists());
    assert!(world.path("p.tmp/CA_FILE").exists());
}

#[test]
fn strategies_without_git() {
    let world = World::new();
    let directory = world.path("builds/project");
    fs::create_dir_all(&directory).expect("directory");
    fs::write(directory.join("kept"), "").expect("file");
    let get = |strategy| HelperRequest::GetSources(Box::new(world.sources(strategy)));
    assert!(get(GitStrategy::None).is_light());
    assert!(!get(GitStrategy::Fetch).is_light());
    assert_eq!(
        log_of(&get(GitStrategy::None)),
        "Skipping Git repository setup\nSkipping Git checkout\nSkipping Git submodules setup\n"
    );
    assert!(directory.join("kept").exists());
    assert_eq!(
        log_of(&get(GitStrategy::Empty)),
        "Skipping Git repository setup and creating an empty build directory\n\
         Skipping Git checkout\nSkipping Git submodules setup\n"
    );
    assert_eq!(fs::read_dir(&directory).expect("readable").count(), 0);
}

#[test]
fn heavy_requests_are_refused_in_place() {
    let world = World::new();
    let clean_up = HelperRequest::CleanUp(CleanUp {
        strategy: GitStrategy::None,
        project_dir: world.text("p"),
        temporary_dir: world.text("p.tmp"),
        file_variables: Vec::new(),
        job_cleanup: true,
        clean_flags: Vec::new(),
        clean_git_config: false,
        credential_reject_url: None,
    });
    assert!(!clean_up.is_light());
    run_light(&clean_up, "h", &mut Vec::new()).expect_err("refused");
}
