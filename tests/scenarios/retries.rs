//! Attempts of every stage (lifecycle 1.5).

use courser_testkit::server::Reply;
use serde_json::json;

use super::scene::{Scene, failed, success};
use crate::wire::gitlab::{add, variable};

#[test]
fn sources_are_tried_again_after_the_place_was_cleared() {
    let mut scene = Scene::new();
    let sha = scene.repository(&[("f", "one\n")]);
    let fails_once = "test -e ~/tried || { touch ~/tried; exit 3; }";
    scene.configure(&format!("  pre_get_sources_script = \"{fails_once}\"\n"));
    let job = scene.job_with_sources(1, &sha, &["cat f"]);
    let job = variable(job, "GET_SOURCES_ATTEMPTS", "3");
    let job = scene.run(&variable(
        job,
        "FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY",
        "false",
    ));
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started with FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY:false)
    == get_sources
    O <green>$ test -e ~/tried || { touch ~/tried; exit 3; }</>
    . <yellow>WARNING: Retrying...</>
    == clear_worktree
    O <green>Deleting tracked and untracked files...</>
    == get_sources
    O <green>$ test -e ~/tried || { touch ~/tried; exit 3; }</>
    O <green>Gitaly correlation ID: <id></>
    O <green>Fetching changes with git depth set to 20...</>
    O Initialized empty Git repository in <world>/work/builds/wireabcde/0/g/p/.git/
    O <green>Created fresh repository.</>
    O <green>Checking out <commit> as detached HEAD (ref is main)...</>
    O
    O <green>Skipping Git submodules setup</>
    == step_script
    O <green>$ cat f</>
    O one
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn sources_that_never_come_fail_the_job_and_files_of_failure_are_sent() {
    let mut scene = Scene::new();
    scene.repository(&[("f", "one\n")]);
    let job = scene.job_with_sources(1, &"f".repeat(40), &["echo never"]);
    let job = variable(job, "GET_SOURCES_ATTEMPTS", "2");
    let job = variable(job, "FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY", "false");
    let job = add(
        job,
        "artifacts",
        json!({"name": "x", "paths": ["none"], "when": "on_failure"}),
    );
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("script_failure", 1));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started with FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY:false)
    == get_sources
    O <green>Gitaly correlation ID: <id></>
    O <green>Fetching changes with git depth set to 20...</>
    O Initialized empty Git repository in <world>/work/builds/wireabcde/0/g/p/.git/
    O <green>Created fresh repository.</>
    O <green>Checking out ffffffff as detached HEAD (ref is main)...</>
    E fatal: reference is not a tree: ffffffffffffffffffffffffffffffffffffffff
    . <yellow>WARNING: Retrying...</>
    == clear_worktree
    O <green>Deleting tracked and untracked files...</>
    == get_sources
    O <green>Gitaly correlation ID: <id></>
    O <green>Fetching changes with git depth set to 20...</>
    O Reinitialized existing Git repository in <world>/work/builds/wireabcde/0/g/p/.git/
    O <green>Checking out ffffffff as detached HEAD (ref is main)...</>
    E fatal: reference is not a tree: ffffffffffffffffffffffffffffffffffffffff
    == upload_artifacts_on_failure
    O <green>Uploading artifacts...</>
    E <yellow>WARNING: none: no matching files. Ensure that the artifact path is relative to the working directory (<world>/work/builds/wireabcde/0/g/p)</>
    E <red>ERROR: No files to upload                         </>
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 1</>
    ");
}

#[test]
fn a_download_is_tried_again_as_a_stage() {
    let mut scene = Scene::new();
    let mut job = scene.job(2, &["cat f"]);
    scene.archive_of(1, &[("f", "from job 1\n")]);
    let mut tries = 0;
    scene.gitlab.on_job(move |request, _| {
        let download = request.method == "GET";
        tries += i32::from(download);
        (download && tries == 1).then(|| Reply::status(404))
    });
    job["dependencies"] = Scene::dependencies(&[1]);
    let job = variable(job, "ARTIFACT_DOWNLOAD_ATTEMPTS", "2");
    let job = scene.run(&variable(
        job,
        "FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY",
        "false",
    ));
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started with FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY:false, no sources)
    == download_artifacts
    O <green>Downloading artifacts for build 1 (1)...</>
    E <red>ERROR: Downloading artifacts from coordinator... not found</>  <red>correlation_id</>=<id> <red>host</>=localhost <red>id</>=1 <red>responseStatus</>=404 Not Found <red>token</>=64_tok1ca
    E <red>FATAL: file does not exist                        </>
    . <yellow>WARNING: Retrying...</>
    == download_artifacts
    O <green>Downloading artifacts for build 1 (1)...</>
    E Downloading artifacts from coordinator... ok      </>  correlation_id</>=<id> host</>=localhost id</>=1 responseStatus</>=200 OK token</>=64_tok1ca
    == step_script
    O <green>$ cat f</>
    O from job 1
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn a_missing_cache_is_not_tried_again() {
    let mut scene = Scene::new();
    let job = add(
        scene.job(1, &["true"]),
        "cache",
        json!({"key": "k", "paths": ["d"], "policy": "pull"}),
    );
    let job = scene.run(&variable(job, "RESTORE_CACHE_ATTEMPTS", "3"));
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == restore_cache
    O <green>Checking cache for k...</>
    O <yellow>Failed to extract cache</>
    E No URL provided, cache will not be downloaded from shared cache server. Instead a local version of cache will be extracted.</>
    E <yellow>WARNING: Cache file does not exist                </>
    == step_script
    O <green>$ true</>
    == archive_cache
    O <green>Not uploading cache k due to policy</>
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn numbers_of_attempts_have_bounds() {
    let mut scene = Scene::new();
    let mut job = scene.job(1, &["true"]);
    for (key, value) in [
        ("GET_SOURCES_ATTEMPTS", "0"),
        ("ARTIFACT_DOWNLOAD_ATTEMPTS", "11"),
        ("RESTORE_CACHE_ATTEMPTS", "many"),
        ("EXECUTOR_JOB_SECTION_ATTEMPTS", "-1"),
    ] {
        job = variable(job, key, value);
    }
    let job = scene.run(&job);
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r#"
    . <K>Running with gitlab-runner <version></>
    . <K>  on wire wireabcde, system ID: <system id></>
    . <yellow>WARNING: GET_SOURCES_ATTEMPTS: number of attempts out of the range [1, 10], clamping to: 1
    . RESTORE_CACHE_ATTEMPTS: expected int got "many", using default value: 1
    . ARTIFACT_DOWNLOAD_ATTEMPTS: number of attempts out of the range [1, 10], clamping to: 10
    . EXECUTOR_JOB_SECTION_ATTEMPTS: number of attempts out of the range [1, 10], clamping to: 1</>
    == prepare_executor
    . <K>Using Shell (bash) executor...</>
    == prepare_script
    O Running on <host>...
    == get_sources
    O <green>Skipping Git repository setup</>
    O <green>Skipping Git checkout</>
    O <green>Skipping Git submodules setup</>
    == step_script
    O <green>$ true</>
    == cleanup_file_variables
    . <green>Job succeeded</>
    "#);
}

#[test]
fn a_script_is_never_tried_again() {
    let mut scene = Scene::new();
    let job = scene.job(1, &["echo once >> ~/runs", "cat ~/runs", "exit 1"]);
    let job = scene.run(&variable(job, "EXECUTOR_JOB_SECTION_ATTEMPTS", "3"));
    assert_eq!(job.outcome(), failed("script_failure", 1));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == step_script
    O <green>$ echo once >> ~/runs</>
    O <green>$ cat ~/runs</>
    O once
    O <green>$ exit 1</>
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 1</>
    ");
}
