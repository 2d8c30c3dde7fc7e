//! Requests that need no process.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use courser_config::Environment;
use courser_helper::{HelperRequest, LightEnvironment, Prepare, is_light, run_light};
use courser_job::helper_request::{CleanUp, GitStrategy, OldGitConfig};

use crate::world::{World, plain};

fn environment(world: &World) -> LightEnvironment {
    LightEnvironment {
        variables: Environment::new([("HOME".to_owned(), world.text("home"))]),
        host_name: "build.example".to_owned(),
    }
}

fn log_of(world: &World, request: &HelperRequest) -> String {
    let mut log = Vec::new();
    run_light(request, &environment(world), &mut log).expect("works");
    plain(&String::from_utf8(log).expect("UTF-8"))
}

#[test]
fn preparing_names_the_machine_and_forgets_the_job_before() {
    let world = World::new();
    fs::create_dir(world.path("p.tmp")).expect("directory");
    for name in ["gitlab_runner_env", "masking.db", "CA_FILE"] {
        fs::write(world.path("p.tmp").join(name), "").expect("file");
    }
    let prepare = |via: &str| {
        HelperRequest::Prepare(Prepare {
            temporary_dir: world.text("p.tmp"),
            via: via.to_owned(),
            tools: None,
            git_server: None,
        })
    };
    assert_eq!(
        log_of(&world, &prepare("runner.example")),
        "Running on build.example via runner.example...\n"
    );
    assert_eq!(
        log_of(&world, &prepare("")),
        "Running on build.example...\n"
    );
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
    let environment = environment(&world);
    assert!(is_light(&get(GitStrategy::None), &environment));
    assert!(!is_light(&get(GitStrategy::Fetch), &environment));
    assert_eq!(
        log_of(&world, &get(GitStrategy::None)),
        "Skipping Git repository setup\nSkipping Git checkout\nSkipping Git submodules setup\n"
    );
    assert!(directory.join("kept").exists());
    assert_eq!(
        log_of(&world, &get(GitStrategy::Empty)),
        "Skipping Git repository setup and creating an empty build directory\n\
         Skipping Git checkout\nSkipping Git submodules setup\n"
    );
    assert_eq!(fs::read_dir(&directory).expect("readable").count(), 0);
}

fn clean_up(world: &World, job_cleanup: bool) -> HelperRequest {
    HelperRequest::CleanUp(CleanUp {
        strategy: GitStrategy::Fetch,
        project_dir: world.text("p"),
        temporary_dir: world.text("p.tmp"),
        file_variables: vec!["FILE".to_owned()],
        job_cleanup,
        clean_flags: Vec::new(),
        old_config: OldGitConfig::Kept,
        submodules: None,
        credential_reject_url: Some("https://gitlab.example".to_owned()),
    })
}

#[test]
fn cleaning_up_needs_no_process_where_no_credentials_could_be_stored() {
    let world = World::new();
    let environment = environment(&world);
    fs::create_dir_all(world.path("p/.git")).expect("directory");
    fs::create_dir_all(world.path("p.tmp")).expect("directory");
    fs::create_dir_all(world.path("home")).expect("directory");
    fs::write(world.path("p.tmp/FILE"), "").expect("file");
    fs::write(world.path("p/.git/index.lock"), "").expect("file");
    let request = clean_up(&world, false);
    assert!(is_light(&request, &environment));
    log_of(&world, &request);
    assert!(!world.path("p.tmp/FILE").exists());
    assert!(!world.path("p/.git/index.lock").exists());

    let store = "[credential]\n\thelper = store\n";
    fs::write(world.path("home/.gitconfig"), store).expect("file");
    assert!(!is_light(&request, &environment));
}

#[test]
fn what_leads_to_a_tree_is_closed_to_others() {
    let world = World::new();
    for strategy in [GitStrategy::None, GitStrategy::Empty, GitStrategy::Clone] {
        let mut sources = world.sources(strategy);
        sources.project_dir = world.text(&format!("builds/{strategy:?}/group/project"));
        sources.temporary_dir = format!("{}.tmp", sources.project_dir);
        world.done(&HelperRequest::GetSources(Box::new(sources)));
        for directory in ["", "/group"] {
            let path = world.path(&format!("builds/{strategy:?}{directory}"));
            let mode = fs::metadata(&path).expect("exists").permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", path.display());
        }
    }
}

#[test]
fn heavy_requests_are_refused_in_place() {
    let world = World::new();
    let environment = environment(&world);
    let request = clean_up(&world, true);
    assert!(!is_light(&request, &environment));
    run_light(&request, &environment, &mut Vec::new()).expect_err("refused");
}
