//! Caches on the runner's own disk (lifecycle 5).

use serde_json::{Value, json};

use super::scene::{Scene, failed, success};
use crate::wire::gitlab::{Record, add, variable};

fn with_cache(scene: &mut Scene, id: i64, script: &str, cache: Value) -> Record {
    let job = add(scene.job(id, &[script]), "cache", cache);
    scene.run(&variable(job, "REF", "main"))
}

#[test]
fn what_one_job_keeps_the_next_one_finds() {
    let mut scene = Scene::new();
    let job = with_cache(
        &mut scene,
        1,
        "mkdir d; echo kept > d/f",
        json!({"key": "k-$REF", "paths": ["d"]}),
    );
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == restore_cache
    O <green>Checking cache for k-main...</>
    O <yellow>Failed to extract cache</>
    E No URL provided, cache will not be downloaded from shared cache server. Instead a local version of cache will be extracted.</>
    E <yellow>WARNING: Cache file does not exist                </>
    == step_script
    O <green>$ mkdir d; echo kept > d/f</>
    == archive_cache
    O <green>Creating cache k-main...</>
    O <green>Created cache</>
    E d: found 2 matching artifact files and directories</>
    E No URL provided, cache will not be uploaded to shared cache server. Cache will be stored only locally.</>
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
    let job = with_cache(
        &mut scene,
        2,
        "rm -rf d/x; cat d/f",
        json!({"key": "k-main", "paths": ["d"], "policy": "pull"}),
    );
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == restore_cache
    O <green>Checking cache for k-main...</>
    O <green>Successfully extracted cache</>
    E No URL provided, cache will not be downloaded from shared cache server. Instead a local version of cache will be extracted.</>
    == step_script
    O <green>$ rm -rf d/x; cat d/f</>
    O kept
    == archive_cache
    O <green>Not uploading cache k-main due to policy</>
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn other_keys_are_tried_in_their_order() {
    let mut scene = Scene::new();
    with_cache(
        &mut scene,
        1,
        "mkdir d; echo kept > d/f",
        json!({"key": "third", "paths": ["d"], "policy": "push"}),
    );
    let job = with_cache(
        &mut scene,
        2,
        "cat d/f; rm -r d",
        json!({"key": "first", "fallback_keys": ["second", "third"], "paths": ["d"], "policy": "pull"}),
    );
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == restore_cache
    O <green>Checking cache for first...</>
    O <yellow>Failed to extract cache</>
    O <green>Checking cache for second...</>
    O <yellow>Failed to extract cache</>
    O <green>Checking cache for third...</>
    O <green>Successfully extracted cache</>
    E No URL provided, cache will not be downloaded from shared cache server. Instead a local version of cache will be extracted.</>
    E <yellow>WARNING: Cache file does not exist                </>
    E No URL provided, cache will not be downloaded from shared cache server. Instead a local version of cache will be extracted.</>
    E <yellow>WARNING: Cache file does not exist                </>
    E No URL provided, cache will not be downloaded from shared cache server. Instead a local version of cache will be extracted.</>
    == step_script
    O <green>$ cat d/f; rm -r d</>
    O kept
    == archive_cache
    O <green>Not uploading cache first due to policy</>
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
    let job = scene.job(3, &["cat d/f"]);
    let job = variable(job, "CACHE_FALLBACK_KEY", "third");
    let job = scene.run(&add(
        job,
        "cache",
        json!({"key": "none", "paths": ["d"], "policy": "pull"}),
    ));
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == restore_cache
    O <green>Checking cache for none...</>
    O <yellow>Failed to extract cache</>
    O <green>Checking cache for third...</>
    O <green>Successfully extracted cache</>
    E No URL provided, cache will not be downloaded from shared cache server. Instead a local version of cache will be extracted.</>
    E <yellow>WARNING: Cache file does not exist                </>
    E No URL provided, cache will not be downloaded from shared cache server. Instead a local version of cache will be extracted.</>
    == step_script
    O <green>$ cat d/f</>
    O kept
    == archive_cache
    O <green>Not uploading cache none due to policy</>
    == cleanup_file_variables
    . <green>Job succeeded</>
    ");
}

#[test]
fn a_protected_key_cannot_be_reached_from_outside() {
    let mut scene = Scene::new();
    let job = variable(
        scene.job(1, &["true"]),
        "CACHE_FALLBACK_KEY",
        "main-protected .",
    );
    let job = scene.run(&add(
        job,
        "cache",
        json!({"key": "none", "paths": ["d"], "policy": "pull"}),
    ));
    assert_eq!(job.outcome(), success());
    insta::assert_snapshot!(scene.log(&job), @r#"
    (started, no sources)
    == restore_cache
    O <yellow>CACHE_FALLBACK_KEY "main-protected ." not allowed to end in "-protected"</>
    O <green>Checking cache for none...</>
    O <yellow>Failed to extract cache</>
    E No URL provided, cache will not be downloaded from shared cache server. Instead a local version of cache will be extracted.</>
    E <yellow>WARNING: Cache file does not exist                </>
    == step_script
    O <green>$ true</>
    == archive_cache
    O <green>Not uploading cache none due to policy</>
    == cleanup_file_variables
    . <green>Job succeeded</>
    "#);
}

#[test]
fn failed_jobs_keep_what_is_for_failures() {
    let mut scene = Scene::new();
    let mut job = scene.job(1, &["mkdir d; echo f > d/f", "exit 2"]);
    for (key, when) in [
        ("good", "on_success"),
        ("bad", "on_failure"),
        ("both", "always"),
    ] {
        job = add(
            job,
            "cache",
            json!({"key": key, "paths": ["d"], "when": when, "policy": "push"}),
        );
    }
    let job = scene.run(&job);
    assert_eq!(job.outcome(), failed("script_failure", 2));
    insta::assert_snapshot!(scene.log(&job), @r"
    (started, no sources)
    == restore_cache
    O <green>Not downloading cache good due to policy</>
    O <green>Not downloading cache bad due to policy</>
    O <green>Not downloading cache both due to policy</>
    == step_script
    O <green>$ mkdir d; echo f > d/f</>
    O <green>$ exit 2</>
    == archive_cache_on_failure
    O <green>Creating cache bad...</>
    O <green>Created cache</>
    O <green>Creating cache both...</>
    O <green>Created cache</>
    E d: found 2 matching artifact files and directories</>
    E No URL provided, cache will not be uploaded to shared cache server. Cache will be stored only locally.</>
    E d: found 2 matching artifact files and directories</>
    E No URL provided, cache will not be uploaded to shared cache server. Cache will be stored only locally.</>
    == cleanup_file_variables
    . <red>ERROR: Job failed: exit status 2</>
    ");
}

#[test]
fn an_unknown_policy_fails_the_job() {
    let mut scene = Scene::new();
    let job = with_cache(
        &mut scene,
        1,
        "echo never",
        json!({"key": "k", "paths": ["d"], "policy": "borrow"}),
    );
    assert_eq!(job.outcome().0, "failed");
    insta::assert_snapshot!(scene.log(&job), @r"
    . <K>Running with gitlab-runner <version></>
    . <K>  on wire wireabcde, system ID: <system id></>
    . <red>ERROR: Job failed: unknown cache policy borrow for k</>
    ");
}

#[test]
fn keys_are_made_harmless() {
    let mut scene = Scene::new();
    for (id, key) in [(1, "../../out"), (2, "a%2f..%2Fb/"), (3, "//")] {
        let job = with_cache(
            &mut scene,
            id,
            "mkdir -p d; echo f > d/f",
            json!({"key": key, "paths": ["d"], "policy": "push"}),
        );
        assert_eq!(job.outcome(), success());
        if id == 3 {
            insta::assert_snapshot!(scene.log(&job), @r#"
            (started, no sources)
            == restore_cache
            O <yellow>cache key "//" could not be sanitized</>
            O <green>Skipping cache extraction due to empty cache key</>
            == step_script
            O <green>$ mkdir -p d; echo f > d/f</>
            == archive_cache
            O <yellow>cache key "//" could not be sanitized</>
            O <green>Skipping cache archiving due to empty cache key</>
            == cleanup_file_variables
            . <green>Job succeeded</>
            "#);
        }
    }
    let find = scene
        .world
        .program("find")
        .arg(scene.world.path("work/cache"))
        .args(["-name", "cache.zip", "-printf", "%P\n"])
        .output()
        .expect("find");
    let mut found: Vec<_> = String::from_utf8_lossy(&find.stdout)
        .lines()
        .map(str::to_owned)
        .collect();
    found.sort();
    insta::assert_snapshot!(found.join("\n"), @r"
    g/p/b/cache.zip
    g/p/out/cache.zip
    ");
}
