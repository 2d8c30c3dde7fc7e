//! Round trips and refusals of the job payload.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;

/// Body of `runner-protocol.md` section 10.
const MINIMAL: &str = r#"{"id":1,"token":"job-token","allow_git_fetch":true,
 "job_info":{"name":"build","stage":"test","project_id":1,"project_name":"p"},
 "git_info":{"repo_url":"http://gitlab-ci-token:job-token@host/g/p.git","ref":"main",
   "sha":"0123456789abcdef0123456789abcdef01234567","before_sha":"0000000000000000000000000000000000000000",
   "ref_type":"branch","refspecs":["+refs/heads/main:refs/remotes/origin/main"],"depth":20},
 "runner_info":{"timeout":3600},
 "variables":[{"key":"CI_JOB_ID","value":"1","public":true,"file":false,"masked":false,"raw":false}],
 "steps":[{"name":"script","script":["echo hi"],"timeout":3600,"when":"on_success","allow_failure":false}],
 "image":{"name":"alpine:3"},"services":[],"artifacts":[],"cache":[],"credentials":[],"dependencies":[],
 "features":{"trace_sections":true,"token_mask_prefixes":[],"failure_reasons":["script_failure","of_tomorrow"]}}"#;

fn decode(json: &str) -> Result<JobResponse, String> {
    JobResponse::from_json(json.as_bytes()).map_err(|error| error.to_string())
}

fn refusal(json: &str) -> String {
    decode(json).expect_err("must be refused")
}

#[test]
fn the_minimal_payload_is_read() {
    let job = decode(MINIMAL).expect("valid");
    assert_eq!(job.git_info.ref_name, "main");
    assert_eq!(job.image.name, "alpine:3");
    assert_eq!(
        job.features.failure_reasons,
        [
            FailureReason::ScriptFailure,
            FailureReason::Other("of_tomorrow".to_owned())
        ]
    );
    assert!(job.run.is_empty());
}

#[test]
fn null_is_the_zero_value_and_unknown_keys_are_ignored() {
    let job = decode(
        r#"{"id":2,"image":null,"variables":null,"services":[{"name":"s","executor_opts":null,"later":1}],
           "hooks":null,"secrets":null,"run":null,"policy_options":null,"of_tomorrow":{"a":[]}} trailing"#,
    )
    .expect("valid");
    assert_eq!(job.id, 2);
    assert_eq!(job.services[0].name, "s");
    assert_eq!(job.image, Image::default());
}

#[test]
fn wrong_types_name_the_path() {
    assert!(refusal(r#"{"id":"1"}"#).starts_with("id: "));
    assert!(
        refusal(r#"{"job_info":{"project_jobs_running_on_instance_runners_count":3}}"#)
            .starts_with("job_info.project_jobs_running_on_instance_runners_count: ")
    );
    assert!(refusal(r#"{"steps":[{"script":"one"}]}"#).starts_with("steps[0].script: "));
}

#[test]
fn secrets_are_absent_from_debug_output() {
    let job = decode(MINIMAL).expect("valid");
    assert!(!format!("{job:?}").contains("job-token"));
}

#[test]
fn inputs_must_be_of_their_declared_kind() {
    let input = |value: &str| format!(r#"{{"inputs":[{{"key":"k","value":{value}}}]}}"#);
    for value in [
        r#"{"type":"string","content":"x"}"#,
        r#"{"type":"number","content":1.5,"sensitive":null}"#,
        r#"{"type":"boolean","content":false,"sensitive":true}"#,
        r#"{"type":"array","content":[1,"a"]}"#,
        r#"{"type":"struct","content":{"a":null}}"#,
    ] {
        assert!(decode(&input(value)).is_ok(), "{value}");
    }
    for value in [
        r#"{"type":"string","content":1}"#,
        r#"{"type":"number","content":"1"}"#,
        r#"{"type":"struct","content":[]}"#,
        r#"{"type":"string","content":null}"#,
        r#"{"type":"string"}"#,
        r#"{"type":"date","content":"x"}"#,
        r#"{"content":"x"}"#,
    ] {
        assert!(refusal(&input(value)).starts_with("inputs[0]"), "{value}");
    }
    let nameless = r#"{"inputs":[{"key":"","value":{"type":"string","content":"x"}}]}"#;
    assert_eq!(
        refusal(nameless),
        "inputs[0].key: the name of an input is empty at line 1 column 20"
    );
    let job = decode(&input(
        r#"{"type":"string","content":"hidden","sensitive":true}"#,
    ))
    .expect("valid");
    assert!(!format!("{job:?}").contains("hidden"));
}

#[test]
fn run_is_a_text_with_an_array() {
    let job = decode(r#"{"run":"[{\"name\":\"a\"}]"}"#).expect("valid");
    assert_eq!(job.run.as_str(), Some(r#"[{"name":"a"}]"#));
    for run in [r#""""#, "[]", r#""{}""#, r#""nonsense""#] {
        assert!(
            refusal(&format!(r#"{{"run":{run}}}"#)).starts_with("run: "),
            "{run}"
        );
    }
}

#[test]
fn run_excludes_scripts_and_the_variable_steps() {
    let check = |rest: &str| {
        decode(&format!(r#"{{"run":"[]"{rest}}}"#))
            .expect("valid")
            .check_run()
    };
    assert_eq!(check(""), Ok(()));
    assert_eq!(check(r#","steps":[{"name":"script","script":[]}]"#), Ok(()));
    assert_eq!(
        check(r#","steps":[{"name":"script","script":["x"]}]"#),
        Err(RunConflict::Script)
    );
    assert_eq!(
        check(r#","variables":[{"key":"STEPS","value":"x"}]"#),
        Err(RunConflict::StepsVariable)
    );
    assert_eq!(
        check(r#","variables":[{"key":"STEPS","value":"x"},{"key":"STEPS","value":""}]"#),
        Ok(())
    );
}

#[test]
fn unknown_executor_options_are_kept_and_refused_by_name() {
    let job = decode(
        r#"{"image":{"name":"i","executor_opts":{"docker":{"user":1000,"platform":null,"speed":1},"podman":{}}},
           "services":[{"name":"s","executor_opts":{"kubernetes":{"user":"1:2"}}},
                       {"name":"t","executor_opts":{"kubernetes":{"b":0,"a":0}}}]}"#,
    )
    .expect("valid");
    let docker = job.image.executor_opts.docker.as_ref().expect("given");
    assert_eq!(docker.user, UserText("1000".to_owned()));
    insta::assert_snapshot!(
        job.check_executor_options().expect_err("unknown options"),
        @r#"image "i": unsupported executor options: podman; supported are: docker, kubernetes; image "i": unsupported docker executor options: speed; supported are: platform, user; service "t": unsupported kubernetes executor options: a, b; supported are: user"#
    );
    assert!(
        decode(MINIMAL)
            .expect("valid")
            .check_executor_options()
            .is_ok()
    );
    assert!(decode(r#"{"image":{"executor_opts":{"docker":{"user":[]}}}}"#).is_err());
}

#[test]
fn uploads_happen_on_success_unless_said_otherwise() {
    for (text, expected) in [
        ("", When::OnSuccess),
        ("on_success", When::OnSuccess),
        ("on_failure", When::OnFailure),
        ("always", When::Always),
        ("of_tomorrow", When::Unknown("of_tomorrow".to_owned())),
    ] {
        let job = decode(&format!(r#"{{"artifacts":[{{"when":"{text}"}}]}}"#)).expect("valid");
        assert_eq!(job.artifacts[0].when, expected, "{text}");
    }
}

fn text() -> impl Strategy<Value = String> {
    "[ -~\u{e9}\u{4e16}\n]{0,12}"
}

fn secret() -> impl Strategy<Value = Secret> {
    text().prop_map(Secret::from)
}

prop_compose! {
    fn variable()(key in text(), value in secret(), flags in any::<[bool; 4]>()) -> JobVariable {
        JobVariable { key, value, public: flags[0], file: flags[1], masked: flags[2], raw: flags[3] }
    }
}

prop_compose! {
    fn image()(
        name in text(), alias in text(),
        command in vec(text(), 0..3), entrypoint in vec(text(), 0..3),
        ports in vec((any::<i64>(), text(), text()), 0..2),
        variables in vec(variable(), 0..2), pull_policy in vec(text(), 0..2),
        docker in option::of((text(), text())), kubernetes in option::of(text()),
        unsupported in btree_map("x-[a-z]{1,4}", any::<i64>(), 0..2),
    ) -> Image {
        let unsupported: BTreeMap<_, _> =
            unsupported.into_iter().map(|(name, value)| (name, value.into())).collect();
        Image {
            name, alias, command, entrypoint, variables, pull_policy,
            ports: ports.into_iter().map(|(number, protocol, name)| Port { number, protocol, name }).collect(),
            executor_opts: ExecutorOptions {
                docker: docker.map(|(platform, user)| DockerOptions {
                    platform, user: UserText(user), unsupported: unsupported.clone(),
                }),
                kubernetes: kubernetes.map(|user| KubernetesOptions {
                    user: UserText(user), unsupported: BTreeMap::new(),
                }),
                unsupported,
            },
        }
    }
}

fn when() -> impl Strategy<Value = When> {
    prop_oneof![
        Just(When::OnSuccess),
        Just(When::OnFailure),
        Just(When::Always)
    ]
}

fn input() -> impl Strategy<Value = Input> {
    let value = prop_oneof![
        text().prop_map(|text| (InputKind::String, text.into())),
        any::<i64>().prop_map(|number| (InputKind::Number, number.into())),
        any::<bool>().prop_map(|value| (InputKind::Boolean, value.into())),
        vec(any::<i32>(), 0..3).prop_map(|list| (InputKind::Array, list.into())),
        text().prop_map(|text| (InputKind::Struct, serde_json::json!({ "a": text }))),
    ];
    ("[a-z]{1,8}", value, any::<bool>()).prop_map(|(key, (kind, content), sensitive)| Input {
        key,
        value: InputValue {
            kind,
            content,
            sensitive,
        },
    })
}

prop_compose! {
    fn head()(
        id in any::<i64>(), token in secret(), allow_git_fetch in any::<bool>(),
        names in vec(text(), 6), numbers in any::<[i64; 8]>(),
        scoped_user_id in option::of(any::<i64>()), seconds in 0_i32..1_000_000,
    ) -> JobResponse {
        let mut names = names.into_iter();
        let mut name = || names.next().unwrap_or_default();
        JobResponse {
            id, token, allow_git_fetch,
            job_info: JobInfo {
                name: name(), stage: name(), project_name: name(), project_full_path: name(),
                instance_id: name(), project_jobs_running_on_instance_runners_count: name(),
                pipeline_id: numbers[0], project_id: numbers[1], namespace_id: numbers[2],
                user_id: numbers[3], queue_size: numbers[4], queue_depth: numbers[5],
                time_in_queue_seconds: f64::from(seconds) / 4.0,
                scoped_user_id,
                ..JobInfo::default()
            },
            runner_info: RunnerInfo { timeout: numbers[6], uuid: String::new() },
            ..JobResponse::default()
        }
    }
}

prop_compose! {
    fn job()(
        head in head(), git in (secret(), text(), text(), vec(text(), 0..3), any::<i64>(), any::<bool>(), option::of(any::<bool>())),
        inputs in vec(input(), 0..3), variables in vec(variable(), 0..4),
        steps in vec((text(), vec(text(), 0..3), any::<i64>()), 0..3),
        image in image(), services in vec(image(), 0..2),
        artifacts in vec((text(), any::<bool>(), vec(text(), 0..3), when(), text()), 0..2),
        cache in vec((text(), text(), vec(text(), 0..3), when(), vec(text(), 0..2)), 0..2),
        dependencies in vec((any::<i64>(), secret(), text(), text(), any::<i64>()), 0..2),
        run in option::of(vec(any::<i32>(), 0..3)),
        reasons in vec("[a-z_]{1,12}", 0..3),
    ) -> JobResponse {
        let (repo_url, ref_name, sha, refspecs, depth, tag, protected) = git;
        JobResponse {
            git_info: GitInfo {
                repo_url, ref_name, sha, refspecs, depth, protected,
                ref_type: if tag { RefType::Tag } else { RefType::Branch },
                ..GitInfo::default()
            },
            inputs, variables, image, services,
            steps: steps.into_iter()
                .map(|(name, script, timeout)| Step { name, script, timeout, ..Step::default() })
                .collect(),
            artifacts: artifacts.into_iter()
                .map(|(name, untracked, paths, when, expire_in)| Artifact {
                    name, untracked, paths, when, expire_in, ..Artifact::default()
                })
                .collect(),
            cache: cache.into_iter()
                .map(|(key, policy, paths, when, fallback_keys)| Cache {
                    key, policy, paths, when, fallback_keys, ..Cache::default()
                })
                .collect(),
            dependencies: dependencies.into_iter()
                .map(|(id, token, name, filename, size)| Dependency {
                    id, token, name,
                    // A file without a name is the same as none.
                    artifacts_file: ArtifactsFile { size: if filename.is_empty() { 0 } else { size }, filename },
                })
                .collect(),
            run: run
                .map(|list| RunText::try_from(serde_json::json!(list).to_string()).expect("an array"))
                .unwrap_or_default(),
            features: JobFeatures {
                failure_reasons: reasons.into_iter().map(FailureReason::from).collect(),
                ..JobFeatures::default()
            },
            ..head
        }
    }
}

proptest! {
    #[test]
    fn what_a_server_writes_a_runner_reads(job in job()) {
        let json = serde_json::to_vec(&job).expect("serialises");
        prop_assert_eq!(JobResponse::from_json(&json).map_err(|error| error.to_string()), Ok(job));
    }

    #[test]
    fn what_is_read_is_written_again_the_same(job in job()) {
        let first = serde_json::to_value(&job).expect("serialises");
        let read = JobResponse::from_json(first.to_string().as_bytes()).expect("reads back");
        prop_assert_eq!(serde_json::to_value(&read).expect("serialises"), first);
    }

    #[test]
    fn unknown_keys_change_nothing(job in job(), key in "x_[a-z]{1,6}", value in any::<i64>()) {
        let mut json = serde_json::to_value(&job).expect("serialises");
        json[key.as_str()] = value.into();
        json["git_info"][key.as_str()] = serde_json::json!({ "deep": [value] });
        json["job_info"][key.as_str()] = value.into();
        prop_assert_eq!(JobResponse::from_json(json.to_string().as_bytes()).expect("reads"), job);
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..200)) {
        drop(JobResponse::from_json(&bytes));
    }
}
