use std::time::Duration;

use courser_protocol::{FailureReason, JobResponse};
use serde_json::{Value, json};

use super::*;
use crate::cache::CacheWork;
use crate::helper_request::{CacheRequest, Provenance};
use crate::{DirectoryLayout, HelperRequest, JobTls, StageWork};

pub(crate) fn context() -> RunnerContext {
    RunnerContext {
        name: "runner one".to_owned(),
        short_token: "abcdefghi".to_owned(),
        version: "19.4.0".to_owned(),
        revision: "c0ffee".to_owned(),
        executable_arch: "linux/amd64".to_owned(),
        executor: "shell".to_owned(),
        shell: "bash".to_owned(),
        url: "https://gitlab.example".to_owned(),
        environment: vec!["CONFIGURED=yes=1".to_owned(), "nonsense".to_owned()],
        directories: DirectoryLayout {
            builds: "/b".to_owned(),
            cache: "/c".to_owned(),
            shared_builds: true,
        },
        shared: true,
        correlation_id: "corr".to_owned(),
        artifact_upload_timeout: Duration::from_secs(3600),
        artifact_response_header_timeout: Duration::from_secs(600),
        helper_command: "/usr/bin/courser".to_owned(),
        ..RunnerContext::default()
    }
}

/// A small, whole payload, with `change` laid over its top level.
pub(crate) fn payload(change: Value) -> JobResponse {
    let mut whole = json!({
        "id": 42,
        "token": "tok-en",
        "allow_git_fetch": true,
        "job_info": {"name": "build", "project_id": 7},
        "git_info": {
            "repo_url": "https://gitlab-ci-token:tok-en@gitlab.example/group/p.git",
            "ref": "main",
            "sha": "0123456789abcdef0123456789abcdef01234567",
            "refspecs": ["+refs/heads/main:refs/remotes/origin/main"],
            "depth": 20,
        },
        "variables": [
            {"key": "CI_JOB_TOKEN", "value": "tok-en", "masked": true},
            {"key": "NAME", "value": "x-$CI_SERVER"},
        ],
        "steps": [
            {"name": "script", "script": ["echo a", "echo b\necho c"]},
            {"name": "after_script", "script": ["echo after"]},
        ],
    });
    for (key, value) in change.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    JobResponse::from_json(whole.to_string().as_bytes()).expect("the payload is well-formed")
}

pub(crate) fn job(change: Value) -> Job {
    Job::accept(payload(change), context()).expect("the job is accepted")
}

fn refusal(change: Value) -> Rejection {
    Job::accept(payload(change), context()).expect_err("the job is refused")
}

fn script(job: &Job, stage: Stage) -> String {
    match job
        .stage(&stage, JobStatus::Running)
        .expect("the stage has work")
        .work
    {
        StageWork::Shell(script) => script,
        StageWork::Helper(requests) => panic!("no shell: {requests:?}"),
    }
}

fn with_variable(key: &str, value: &str) -> Value {
    json!({"variables": [{"key": key, "value": value}]})
}

#[test]
fn variables_come_in_the_documented_order() {
    let tls = JobTls {
        ca_chain: "CA".to_owned(),
        client_pair: Some(("CERT".to_owned(), "KEY".into())),
        ..JobTls::default()
    };
    let job = Job::accept(
        payload(json!({"image": {"name": "alpine"}})),
        RunnerContext { tls, ..context() },
    )
    .expect("the job is accepted");
    let names: Vec<&str> = job
        .variables()
        .iter()
        .map(|variable| variable.key.as_str())
        .filter(|key| !key.starts_with("FF_"))
        .collect();
    assert_eq!(
        names,
        [
            "CI_JOB_IMAGE",
            "CI_RUNNER_SHORT_TOKEN",
            "CONFIGURED",
            "CI_BUILDS_DIR",
            "CI_PROJECT_DIR",
            "CI_CONCURRENT_ID",
            "CI_CONCURRENT_PROJECT_ID",
            "CI_SERVER",
            "CI_JOB_STATUS",
            "CI_JOB_TIMEOUT",
            "CI_SERVER_TLS_CA_FILE",
            "CI_SERVER_TLS_CERT_FILE",
            "CI_SERVER_TLS_KEY_FILE",
            "CI_JOB_TOKEN",
            "NAME",
            "CI_SHARED_ENVIRONMENT",
            "CI_RUNNER_VERSION",
            "CI_RUNNER_REVISION",
            "CI_RUNNER_EXECUTABLE_ARCH",
            "RUNNER_TEMP_PROJECT_DIR",
        ]
    );
    let text = |key| job.variables().text(key).into_owned();
    assert_eq!(text("CONFIGURED"), "yes=1");
    assert_eq!(text("NAME"), "x-yes");
    assert_eq!(text("CI_JOB_TIMEOUT"), "7200");
    assert_eq!(text("CI_PROJECT_DIR"), "/b/abcdefghi/0/group/p");
    assert_eq!(
        text("RUNNER_TEMP_PROJECT_DIR"),
        "/b/abcdefghi/0/group/p.tmp"
    );
    assert_eq!(
        text("CI_SERVER_TLS_CA_FILE"),
        "/b/abcdefghi/0/group/p.tmp/CI_SERVER_TLS_CA_FILE"
    );
    let masked: Vec<String> = job
        .masked_phrases()
        .iter()
        .map(|p| p.expose().to_owned())
        .collect();
    assert_eq!(masked, ["tok-en"]);
}

#[test]
fn stages_without_work_have_none() {
    let job = job(json!({"steps": []}));
    for stage in [
        Stage::ResolveSecrets,
        Stage::PrepareExecutor,
        Stage::RestoreCache,
        Stage::DownloadArtifacts,
        Stage::Step("script".to_owned()),
        Stage::AfterScript,
        Stage::ArchiveCache,
        Stage::ArchiveCacheOnFailure,
        Stage::UploadArtifactsOnSuccess,
        Stage::UploadArtifactsOnFailure,
    ] {
        assert!(job.stage(&stage, JobStatus::Running).is_none(), "{stage:?}");
    }
    for stage in [
        Stage::PrepareScript,
        Stage::GetSources,
        Stage::ClearWorktree,
        Stage::CleanupFileVariables,
    ] {
        assert!(job.stage(&stage, JobStatus::Running).is_some(), "{stage:?}");
    }
}

#[test]
fn the_shell_is_left_out_only_where_it_has_nothing_to_do() {
    for strategy in ["none", "empty"] {
        let job = job(with_variable("GIT_STRATEGY", strategy));
        for stage in [
            Stage::PrepareScript,
            Stage::GetSources,
            Stage::CleanupFileVariables,
        ] {
            let work = job
                .stage(&stage, JobStatus::Running)
                .expect("it has work")
                .work;
            assert!(
                matches!(work, StageWork::Helper(ref requests) if requests.len() == 1),
                "{stage:?}"
            );
        }
    }
    let job = job(json!({}));
    let work = job
        .stage(&Stage::GetSources, JobStatus::Running)
        .expect("it has work")
        .work;
    assert!(matches!(work, StageWork::Shell(_)));
}

#[test]
fn steps_keep_their_order_and_after_script_is_not_one() {
    let job = job(json!({"steps": [
        {"name": "Script", "script": ["a"]},
        {"name": "after_script", "script": ["b"]},
        {"name": "release", "script": ["c $NAME $unknown"]},
    ]}));
    assert_eq!(
        job.steps(),
        [
            Stage::Step("script".to_owned()),
            Stage::Step("release".to_owned())
        ]
    );
    assert!(script(&job, Stage::Step("release".to_owned())).contains("nc x-yes\\n"));
    assert_eq!(Stage::Step("script".to_owned()).id(), "step_script");
    assert_eq!(
        Stage::Step("script".to_owned()).title("shell"),
        "Executing \"step_script\" stage of the job script"
    );
}

#[test]
fn after_script_knows_how_the_job_went() {
    let job = job(json!({}));
    let text = |status| match job
        .stage(&Stage::AfterScript, status)
        .expect("it has work")
        .work
    {
        StageWork::Shell(script) => script,
        StageWork::Helper(_) => unreachable!("after_script is a script"),
    };
    for (status, value) in [
        (JobStatus::Success, "success"),
        (JobStatus::Failed, "failed"),
        (JobStatus::Canceled, "canceled"),
        (JobStatus::TimedOut, "timedout"),
    ] {
        assert!(text(status).contains(&format!("export CI_JOB_STATUS={value}\\n")));
    }
}

#[test]
fn scripts_read_as_recorded() {
    let context = RunnerContext {
        pre_build_script: "echo pre".to_owned(),
        post_build_script: "echo post".to_owned(),
        pre_get_sources_script: "echo configured before".to_owned(),
        post_get_sources_script: "echo configured after".to_owned(),
        ..context()
    };
    let change = json!({"hooks": [
        {"name": "pre_get_sources_script", "script": ["echo job before"]},
        {"name": "post_get_sources_script", "script": ["echo job after"]},
    ]});
    let job = Job::accept(payload(change), context).expect("the job is accepted");
    // One line a command, without the flags, so that the snapshot can be read.
    let readable = |stage| {
        let text = script(&job, stage).replace("\\n", "\n");
        let is_flag = |line: &&str| line.starts_with("export FF_");
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !is_flag(line))
            .map(|line| line.split("export FF_").next().unwrap_or(line))
            .collect();
        lines.join("\n")
    };
    insta::assert_snapshot!("step_script", readable(Stage::Step("script".to_owned())));
    insta::assert_snapshot!("get_sources", readable(Stage::GetSources));
    insta::assert_snapshot!("after_script", readable(Stage::AfterScript));
}

#[test]
fn uploads_follow_when_and_downloads_need_a_file() {
    let job = job(json!({
        "artifacts": [
            {"name": "good", "paths": ["a"]},
            {"name": "bad", "paths": ["b"], "when": "on_failure"},
            {"name": "both", "untracked": true, "when": "always"},
            {"name": "nothing"},
        ],
        "dependencies": [
            {"id": 1, "token": "one", "name": "with", "artifacts_file": {"filename": "a.zip", "size": 3}},
            {"id": 2, "token": "two", "name": "without"},
        ],
    }));
    let names = |after_failure| -> Vec<String> {
        let uploads = job.uploads(after_failure).into_iter();
        uploads
            .map(|request| match request {
                HelperRequest::UploadArtifacts(upload) => upload.name,
                other => panic!("{other:?}"),
            })
            .collect()
    };
    assert_eq!(names(false), ["good", "both"]);
    assert_eq!(names(true), ["bad", "both"]);
    let downloads = job.downloads();
    assert!(
        matches!(&downloads[..], [HelperRequest::DownloadArtifacts(one)]
            if one.job_id == 1 && one.token.expose() == "one" && one.job_name == "with")
    );
}

#[test]
fn only_zip_artifacts_get_a_statement() {
    let artifacts = json!([
        {"name": "zip", "paths": ["a"], "artifact_format": "zip"},
        {"name": "default", "paths": ["a"]},
        {"name": "report", "paths": ["a"], "artifact_format": "gzip"},
    ]);
    let statements = |switch: &str| -> Vec<Option<Box<Provenance>>> {
        let variables = json!([
            {"key": "RUNNER_GENERATE_ARTIFACTS_METADATA", "value": switch},
            {"key": "CI_RUNNER_ID", "value": "12"},
        ]);
        let job = job(json!({"artifacts": artifacts, "variables": variables}));
        let uploads = job.uploads(false).into_iter();
        uploads
            .map(|request| match request {
                HelperRequest::UploadArtifacts(upload) => upload.provenance,
                other => panic!("{other:?}"),
            })
            .collect()
    };
    assert_eq!(statements("false"), [None, None, None]);
    let [Some(statement), None, None] = &statements("true")[..] else {
        panic!("the first one only");
    };
    assert_eq!(statement.repo_url, "https://gitlab.example/group/p");
    assert_eq!(statement.runner_id, "12");
    assert_eq!(statement.schema_version, "unknown");
    assert_eq!(
        statement.parameters,
        ["RUNNER_GENERATE_ARTIFACTS_METADATA", "CI_RUNNER_ID"]
    );
}

fn cache_lines(work: Vec<CacheWork>) -> Vec<String> {
    let strip = |line: String| {
        line.replace("\u{1b}[32;1m", "")
            .replace("\u{1b}[0;33m", "! ")
            .replace("\u{1b}[0;m", "")
    };
    work.into_iter()
        .flat_map(|piece| match piece {
            CacheWork::Say(line) => vec![strip(line)],
            CacheWork::Request(request) => request
                .entries
                .iter()
                .map(|entry| format!("= {} | {}", entry.key, entry.fallback_keys.join(", ")))
                .collect(),
        })
        .collect()
}

#[test]
fn caches_follow_policy_keys_and_when() {
    let job = job(json!({
        "variables": [
            {"key": "POLICY", "value": "pull"},
            {"key": "CACHE_FALLBACK_KEY", "value": "main-protected. "},
            {"key": "K", "value": "k"},
        ],
        "cache": [
            {"key": "$K-1", "paths": ["a"], "fallback_keys": ["$K-0", "$NONE", "old"]},
            {"key": "x/../y", "paths": ["a"], "policy": "$POLICY"},
            {"key": "z", "untracked": true, "policy": "push", "when": "on_failure"},
            {"key": "no paths"},
            {"key": "", "paths": ["d"], "when": "always"},
            {"key": " / ", "paths": ["e"]},
        ],
    }));
    let refused = "! CACHE_FALLBACK_KEY \"main-protected. \" not allowed to end in \"-protected\"";
    let trimmed = "! cache key \"main-protected. \" sanitized to \"main-protected.\"";
    assert_eq!(
        cache_lines(cache::restore(&job)),
        [
            trimmed,
            refused,
            "= k-1 | k-0, old",
            "! cache key \"x/../y\" sanitized to \"y\"",
            trimmed,
            refused,
            "= y | ",
            "Not downloading cache z due to policy",
            trimmed,
            refused,
            "= build/main | ",
            "! cache key \" / \" could not be sanitized",
            "Skipping cache extraction due to empty cache key",
        ]
    );
    assert_eq!(
        cache_lines(cache::archive(&job, false)),
        [
            "= k-1 | ",
            "! cache key \"x/../y\" sanitized to \"y\"",
            "Not uploading cache y due to policy",
            "= build/main | ",
            "! cache key \" / \" could not be sanitized",
            "Skipping cache archiving due to empty cache key",
        ]
    );
    assert_eq!(
        cache_lines(cache::archive(&job, true)),
        ["= z | ", "= build/main | "]
    );
}

#[test]
fn hashed_cache_keys_keep_their_text_for_messages() {
    let request = CacheRequest {
        project_dir: String::new(),
        cache_root: String::new(),
        hash_keys: true,
        clean_up_failed: false,
        entries: Vec::new(),
    };
    assert_eq!(
        request.storage_key("abc"),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(
        request.alternate_storage_key("a/../b").as_deref(),
        Some("b")
    );
    assert_eq!(request.alternate_storage_key(".."), None);
}

#[test]
fn what_cannot_work_here_is_refused_by_name() {
    for (change, part) in [
        (
            with_variable("GIT_SUBMODULE_STRATEGY", "sometimes"),
            "unknown GIT_SUBMODULE_STRATEGY",
        ),
        (
            json!({"variables": [
                {"key": "GIT_SUBMODULE_STRATEGY", "value": "normal"},
                {"key": "GIT_SUBMODULE_PATHS", "value": "a :(exclude) b"},
            ]}),
            "GIT_SUBMODULE_PATHS: invalid submodule pathspec [a :(exclude) b]",
        ),
        (
            json!({"run": "[{\"name\": \"a\"}]", "steps": []}),
            "`run` (CI steps) is not built yet",
        ),
        (with_variable("GIT_CLONE_PATH", "/b/x"), "custom_build_dir"),
        (
            json!({"cache": [{"key": "k", "paths": ["a"], "policy": "never"}]}),
            "unknown cache policy never for k",
        ),
    ] {
        let rejection = refusal(change);
        assert!(rejection.message.contains(part), "{}", rejection.message);
        assert_eq!(rejection.reason, FailureReason::RunnerConfigurationError);
    }
}

#[test]
fn what_no_runner_can_do_fails_with_code_3() {
    let run = "[{\"name\": \"a\", \"script\": \"b\"}]";
    for (change, part) in [
        (
            json!({"image": {"name": "a", "executor_opts": {"docker": {"cpus": 1}}}}),
            "image \"a\": unsupported docker executor options: cpus; supported are: platform, user",
        ),
        (
            json!({"run": run}),
            "the `run` and `script` keywords cannot be used together",
        ),
        (
            json!({"run": run, "steps": [], "variables": [{"key": "STEPS", "value": "x"}]}),
            "the `run` keyword requires the exclusive use of the variable STEPS",
        ),
    ] {
        let rejection = refusal(change);
        assert!(rejection.message.contains(part), "{}", rejection.message);
        assert_eq!(
            (rejection.reason, rejection.exit_code),
            (FailureReason::RunnerSystemFailure, 3)
        );
    }
}

#[test]
fn variables_that_a_shell_cannot_have_are_left_out_with_a_warning() {
    let variable = |key: &str, file: bool| json!({"key": key, "value": "v-$GOOD", "file": file});
    let names = ["my-var", "1st", "a b", "", "UID", "x;id", "\u{fc}", "../x"];
    let mut list: Vec<Value> = names.iter().map(|name| variable(name, false)).collect();
    list.extend([variable("../file", true), variable("GOOD", false)]);
    let job = job(json!({"variables": list}));
    let script = script(&job, Stage::Step("script".to_owned()));
    assert!(script.contains("export GOOD="), "{script}");
    for name in names
        .iter()
        .chain(&["../file"])
        .filter(|name| !name.is_empty())
    {
        assert!(!script.contains(name), "{name}: {script}");
        let told = |warning: &String| warning.starts_with(&format!("{name}: variable is not"));
        assert!(
            job.warnings().iter().any(told),
            "{name}: {:?}",
            job.warnings()
        );
    }
    assert_eq!(job.variables().expand("${my-var}"), "v-v-$GOOD");
    let Some(StageWork::Helper(requests)) = job
        .stage(&Stage::CleanupFileVariables, JobStatus::Running)
        .map(|stage| stage.work)
    else {
        panic!("cleaning up is helper work");
    };
    let [HelperRequest::CleanUp(request)] = requests.as_slice() else {
        panic!("one request");
    };
    assert_eq!(request.file_variables, Vec::<String>::new());
}

#[test]
fn inputs_are_interpolated_before_variables_and_only_where_they_may() {
    let text = "${{ job.inputs.name }}";
    let change = json!({
        "inputs": [{"key": "name", "value": {"type": "string", "content": "ada-$CI_SERVER"}}],
        "steps": [
            {"name": "script", "script": [format!("echo {text}")]},
            {"name": "release", "script": [format!("echo {text}")]},
        ],
        "cache": [{"key": format!("k-{text}"), "paths": ["p"], "fallback_keys": [text]}],
        "variables": [{"key": "V", "value": text}],
    });
    let job = job(change.clone());
    let lines = |name: &str| script(&job, Stage::Step(name.to_owned()));
    assert!(lines("script").contains("ada-$CI_SERVER"));
    assert!(!lines("release").contains("ada"));
    assert_eq!(job.payload().cache[0].key, "k-ada-$CI_SERVER");
    assert_eq!(job.payload().cache[0].fallback_keys, ["ada-$CI_SERVER"]);
    let mut off = change;
    off["variables"] = json!([{"key": "FF_ENABLE_JOB_INPUTS_INTERPOLATION", "value": "false"}]);
    let job = Job::accept(payload(off), context()).expect("the job is accepted");
    assert!(script(&job, Stage::Step("script".to_owned())).contains("job.inputs.name"));
    let rejection = refusal(json!({
        "inputs": [{"key": "a", "value": {"type": "string", "content": "b", "sensitive": true}}],
        "steps": [{"name": "script", "script": ["echo ${{ job.inputs.a }}"]}],
    }));
    assert_eq!(
        rejection.message,
        "script: ${{ job.inputs.a }}: input \"a\" is sensitive, which is not supported"
    );
}

#[test]
fn a_rejection_does_not_tell_masked_values() {
    let rejection = refusal(json!({
        "variables": [{"key": "P", "value": "hush-hush", "masked": true}],
        "cache": [{"key": "k", "paths": ["a"], "policy": "$P"}],
    }));
    assert_eq!(rejection.message, "unknown cache policy [MASKED] for k");
}

#[test]
fn secrets_stay_out_of_debug_output() {
    let job = job(json!({}));
    let shown = format!(
        "{job:?} {:?}",
        job.stage(&Stage::GetSources, JobStatus::Running)
    );
    assert!(!shown.contains("tok-en"), "{shown}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(128))]
    #[test]
    fn no_payload_makes_composing_panic(
        key in "(?s).{0,8}",
        value in "(?s).{0,24}|[${}A-Z]{0,12}",
        line in "(?s).{0,24}",
        url in "(?s).{0,24}|https://[a-z@:/.]{0,16}",
        flags in proptest::prelude::any::<[bool; 3]>(),
    ) {
        let change = json!({
            "git_info": {"repo_url": url, "sha": line, "ref": key},
            "variables": [
                {"key": key, "value": value, "file": flags[0], "raw": flags[1], "masked": flags[2]},
                {"key": "GIT_STRATEGY", "value": value},
                {"key": "RUNNER_SCRIPT_TIMEOUT", "value": value},
            ],
            "steps": [{"name": key, "script": [line, value]}, {"name": "after_script", "script": [line]}],
            "cache": [{"key": value, "paths": [line], "fallback_keys": [key]}],
            "artifacts": [{"name": value, "paths": [line]}],
        });
        if let Ok(job) = Job::accept(payload(change), context()) {
            let project = job.project_dir();
            proptest::prop_assert!(project.starts_with("/b/") && !project.contains("/../"));
            for stage in job.steps().into_iter().chain([
                Stage::GetSources, Stage::RestoreCache, Stage::ArchiveCache,
                Stage::UploadArtifactsOnSuccess, Stage::AfterScript, Stage::CleanupFileVariables,
            ]) {
                let stage = job.stage(&stage, JobStatus::Running);
                if let Some(StageWork::Shell(text)) = stage.map(|stage| stage.work) {
                    proptest::prop_assert!(!text.contains('\0'), "a shell cannot read NUL");
                }
            }
        }
    }
}
