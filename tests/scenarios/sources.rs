//! Sources over HTTP, with the token of the job (lifecycle 2).

use serde_json::json;

use super::scene::{Scene, failed, success};
use crate::wire::gitlab::variable;

#[test]
fn a_fresh_clone_and_a_reused_one() {
    let mut scene = Scene::https();
    let sha = scene.repository(&[("f", "one\n")]);
    let script = ["cat f; git status --short; git config remote.origin.url; touch left"];
    let job = scene.job_with_sources(1, &sha, &script);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started)
    O <green>Trust for this job's tools: 1 private CA beside the system's <number>, in <world>/work/builds/wireabcde/0/g/p.tmp/.trust/ca-bundle.pem (SSL_CERT_FILE, GIT_CONFIG_SYSTEM and others name it where unset; off: job_tools = false in [runners.trust])</>
    == get_sources
    O <green>Gitaly correlation ID: <id></>
    O <green>Fetching changes with git depth set to 20...</>
    O Initialized empty Git repository in <world>/work/builds/wireabcde/0/g/p/.git/
    O <green>Created fresh repository.</>
    O <green>Checking out <commit> as detached HEAD (ref is main)...</>
    O
    O <green>Skipping Git submodules setup</>
    == step_script
    O <green>$ cat f; git status --short; git config remote.origin.url; touch left</>
    O one
    O <gitlab>/g/p.git
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
    let job = scene.job_with_sources(2, &sha, &["cat f; ls"]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started)
    O <green>Trust for this job's tools: 1 private CA beside the system's <number>, in <world>/work/builds/wireabcde/0/g/p.tmp/.trust/ca-bundle.pem (SSL_CERT_FILE, GIT_CONFIG_SYSTEM and others name it where unset; off: job_tools = false in [runners.trust])</>
    == get_sources
    O <green>Gitaly correlation ID: <id></>
    O <green>Fetching changes with git depth set to 20...</>
    O Reinitialized existing Git repository in <world>/work/builds/wireabcde/0/g/p/.git/
    O <green>Checking out <commit> as detached HEAD (ref is main)...</>
    O Removing left
    O
    O <green>Skipping Git submodules setup</>
    == step_script
    O <green>$ cat f; ls</>
    O one
    O f
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn a_clone_begins_anew() {
    let mut scene = Scene::new();
    let sha = scene.repository(&[("f", "one\n"), (".gitignore", "ignored\n")]);
    let job = scene.job_with_sources(1, &sha, &["touch ignored left"]);
    scene.run(&variable(job, "GIT_CLEAN_FLAGS", "none"));
    let mut job = scene.job_with_sources(2, &sha, &["ls -A"]);
    job["git_info"]["depth"] = json!(0);
    let job = scene.run(&variable(job, "GIT_STRATEGY", "clone"));
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started)
    == get_sources
    O <green>Gitaly correlation ID: <id></>
    O <green>Fetching changes...</>
    O Initialized empty Git repository in <world>/work/builds/wireabcde/0/g/p/.git/
    O <green>Created fresh repository.</>
    O <green>Checking out <commit> as detached HEAD (ref is main)...</>
    O
    O <green>Skipping Git submodules setup</>
    == step_script
    O <green>$ ls -A</>
    O .git
    O .gitignore
    O f
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn hooks_surround_the_clone() {
    let mut scene = Scene::new();
    let sha = scene.repository(&[("f", "one\n")]);
    scene.configure("  pre_get_sources_script = \"echo pre of runner\"\n  post_get_sources_script = \"echo post of runner\"\n");
    let mut job = scene.job_with_sources(1, &sha, &["true"]);
    job["hooks"] = json!([
        {"name": "pre_get_sources_script", "script": ["echo pre of job", "echo more"]},
        {"name": "post_get_sources_script", "script": ["echo post of job; ls"]},
    ]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started)
    == get_sources
    O <green>$ echo pre of runner</>
    O pre of runner
    O <green>$ echo pre of job</>
    O pre of job
    O <green>$ echo more</>
    O more
    O <green>Gitaly correlation ID: <id></>
    O <green>Fetching changes with git depth set to 20...</>
    O Initialized empty Git repository in <world>/work/builds/wireabcde/0/g/p/.git/
    O <green>Created fresh repository.</>
    O <green>Checking out <commit> as detached HEAD (ref is main)...</>
    O
    O <green>Skipping Git submodules setup</>
    O <green>$ echo post of job; ls</>
    O post of job
    O f
    O <green>$ echo post of runner</>
    O post of runner
    == step_script
    O <green>$ true</>
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn a_hook_that_fails_is_a_failure_of_the_stage() {
    let mut scene = Scene::new();
    let sha = scene.repository(&[("f", "one\n")]);
    let mut job = scene.job_with_sources(1, &sha, &["echo never"]);
    job["hooks"] = json!([{"name": "post_get_sources_script", "script": ["exit 12"]}]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("script_failure", 12));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started)
    == get_sources
    O <green>Gitaly correlation ID: <id></>
    O <green>Fetching changes with git depth set to 20...</>
    O Initialized empty Git repository in <world>/work/builds/wireabcde/0/g/p/.git/
    O <green>Created fresh repository.</>
    O <green>Checking out <commit> as detached HEAD (ref is main)...</>
    O
    O <green>Skipping Git submodules setup</>
    O <green>$ exit 12</>
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 12</>
    ");
}

#[test]
fn without_checkout_the_files_stay_away() {
    let mut scene = Scene::new();
    let sha = scene.repository(&[("f", "one\n")]);
    let job = scene.job_with_sources(1, &sha, &["ls -A", "git cat-file -t $SHA"]);
    let job = variable(job, "SHA", &sha);
    let job = scene.run(&variable(job, "GIT_CHECKOUT", "false"));
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started)
    == get_sources
    O <green>Gitaly correlation ID: <id></>
    O <green>Fetching changes with git depth set to 20...</>
    O Initialized empty Git repository in <world>/work/builds/wireabcde/0/g/p/.git/
    O <green>Created fresh repository.</>
    O <green>Skipping Git checkout</>
    O <green>Skipping Git submodules setup</>
    == step_script
    O <green>$ ls -A</>
    O .git
    O <green>$ git cat-file -t $SHA</>
    O commit
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn an_empty_directory_is_made_on_request() {
    let mut scene = Scene::new();
    let mut job = scene.job(1, &["ls -A; echo ${CI_PROJECT_DIR##*/}"]);
    job["variables"][0]["value"] = json!("empty");
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started)
    == get_sources
    O <green>Skipping Git repository setup and creating an empty build directory</>
    O <green>Skipping Git checkout</>
    O <green>Skipping Git submodules setup</>
    == step_script
    O <green>$ ls -A; echo ${CI_PROJECT_DIR##*/}</>
    O p-empty
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn a_refused_token_fails_the_job_unseen() {
    let mut scene = Scene::new();
    let sha = scene.repository(&[("f", "one\n")]);
    let mut job = scene.job_with_sources(1, &sha, &["echo never"]);
    scene.secret("wrong token", "wrong-token-Kq7w");
    let url = format!("{}/g/p.git", scene.gitlab.url());
    job["git_info"]["repo_url"] =
        json!(url.replacen("://", "://gitlab-ci-token:wrong-token-Kq7w@", 1));
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("script_failure", 1));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started)
    == get_sources
    O <green>Gitaly correlation ID: <id></>
    O <green>Fetching changes with git depth set to 20...</>
    O Initialized empty Git repository in <world>/work/builds/wireabcde/0/g/p/.git/
    O <green>Created fresh repository.</>
    E fatal: Authentication failed for '<gitlab>/g/p.git/'
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 1</>
    ");
}

#[test]
fn a_place_of_ones_own_needs_permission() {
    let mut scene = Scene::new();
    let mut job = variable(
        scene.job(1, &["echo never"]),
        "GIT_CLONE_PATH",
        "$CI_BUILDS_DIR/mine",
    );
    job["features"]["failure_reasons"] = json!(["runner_configuration_error"]);
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("runner_configuration_error", 0));
    insta::assert_snapshot!(scene.log(&job), @r"
    . <K>Running with gitlab-runner <version></>
    . <K>  on wire wireabcde, system ID: <system id></>
    . <red>ERROR: Job failed: setting GIT_CLONE_PATH is not allowed, enable `custom_build_dir` feature</>
    ");
}

#[test]
fn a_place_of_ones_own_is_used_where_permitted() {
    let mut scene = Scene::new();
    let sha = scene.repository(&[("f", "one\n")]);
    scene.configure("  [runners.custom_build_dir]\n    enabled = true\n");
    let job = scene.job_with_sources(1, &sha, &["pwd; cat f"]);
    let job = scene.run(&variable(
        job,
        "GIT_CLONE_PATH",
        "$CI_BUILDS_DIR/mine/$CI_CONCURRENT_ID",
    ));
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started)
    == get_sources
    O <green>Gitaly correlation ID: <id></>
    O <green>Fetching changes with git depth set to 20...</>
    O Initialized empty Git repository in <world>/work/builds/mine/0/.git/
    O <green>Created fresh repository.</>
    O <green>Checking out <commit> as detached HEAD (ref is main)...</>
    O
    O <green>Skipping Git submodules setup</>
    == step_script
    O <green>$ pwd; cat f</>
    O <world>/work/builds/mine/0
    O one
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
    let job = scene.job(2, &["echo never"]);
    let job = scene.run(&variable(job, "GIT_CLONE_PATH", "$CI_BUILDS_DIR/../out"));
    assert_eq!(job.outcome(), failed("script_failure", 0));
    insta::assert_snapshot!(scene.log(&job), @r#"
    . <K>Running with gitlab-runner <version></>
    . <K>  on wire wireabcde, system ID: <system id></>
    . <red>ERROR: Job failed: the GIT_CLONE_PATH="<world>/work/builds/../out" has to be within "<world>/work/builds"</>
    "#);
}

#[test]
fn the_tree_is_cleaned_afterwards_when_asked_for() {
    let mut scene = Scene::new();
    let sha = scene.repository(&[("f", "one\n")]);
    let job = scene.job_with_sources(1, &sha, &["echo changed > f; touch left"]);
    let job = scene.run(&variable(job, "FF_ENABLE_JOB_CLEANUP", "true"));
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started with FF_ENABLE_JOB_CLEANUP:true)
    == get_sources
    O <green>Gitaly correlation ID: <id></>
    O <green>Fetching changes with git depth set to 20...</>
    O Initialized empty Git repository in <world>/work/builds/wireabcde/0/g/p/.git/
    O <green>Created fresh repository.</>
    O <green>Checking out <commit> as detached HEAD (ref is main)...</>
    O
    O <green>Skipping Git submodules setup</>
    == step_script
    O <green>$ echo changed > f; touch left</>
    == cleanup_file_variables
    O Removing left
    O HEAD is now at <commit> first
    . <green>Job succeeded</>
    ");
    assert_eq!(scene.world.read("work/builds/wireabcde/0/g/p/f"), "one\n");
    assert!(
        !scene
            .world
            .path("work/builds/wireabcde/0/g/p/left")
            .exists()
    );
}

#[test]
fn a_working_copy_of_somebody_else_needs_permission() {
    // As Git's own tests have it: with this no directory is the user's.
    const NOBODYS: &str = "GIT_TEST_ASSUME_DIFFERENT_OWNER";
    for (setting, expected) in [
        ("", failed("script_failure", 1)),
        ("safe_directory_checkout = true\n", success()),
    ] {
        let mut scene = Scene::new();
        scene.configure(setting);
        let sha = scene.repository(&[("f", "one\n")]);
        for id in 1..=2 {
            let script = ["git config --global --get-all safe.directory | wc -l"];
            let job = scene.job_with_sources(id, &sha, &script);
            let job = scene.run(&variable(job, NOBODYS, "1"));
            assert_eq!(job.outcome(), expected, "{}", job.text());
            let said = match setting {
                "" => "fatal: detected dubious ownership in repository at",
                _ => "O 1\n",
            };
            assert!(job.text().contains(said), "{}", job.text());
        }
    }
}
