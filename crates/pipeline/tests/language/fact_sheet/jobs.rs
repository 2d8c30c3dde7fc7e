//! What the jobs are: needs, parallel, keywords, variables (sections 14 to 19).

use super::*;

#[test]
fn section_14_needs() {
    let long = "n".repeat(250);
    table(&[
        (
            "a: {script: x}\nj: {script: x, needs: {job: a}}",
            "test/a\ntest/j needs=a",
        ),
        (
            "j: {script: x, needs: {}}",
            "1:23: jobs:j:needs config can not be an empty hash",
        ),
        (
            "j: {script: x, needs: [{job: a, foo: 1}]}",
            "1:33: jobs:j:needs:need config contains unknown keys: foo",
        ),
        (
            "j: {script: x, needs: [{job: a, parallel: 2}]}",
            "1:43: jobs:j:needs:need cannot use \"parallel: <number>\".",
        ),
        (
            ".a: {script: x}\nj: {script: x, needs: [.a]}",
            "2:24: j job: undefined need: .a",
        ),
        (
            "a: {script: x}\nb: {script: x}\nj: {script: x, needs: [a, b, a, b]}",
            "3:30: j has the following needs duplicated: a, b.",
        ),
        (
            "j: {script: x, parallel: 2, stage: nope}",
            "1:36: j 1/2 job: chosen stage nope does not exist; available stages are .pre, build, test, deploy, .post",
        ),
        (
            "a: {script: x, needs: [c]}\nb: {script: x, needs: [a]}\nc: {script: x, needs: [b]}",
            "1:1: The pipeline has circular dependencies: topological sort failed: [\"a\", \"c\", \"b\"]",
        ),
        (
            "a: {script: x}\nj: {script: x, needs: [a], dependencies: [b, c]}\nb: {script: x}\nc: {script: x}",
            "2:43: jobs:j dependencies the b, c should be part of needs",
        ),
        (
            "j: {script: x, needs: [{pipeline: $P, job: q}], dependencies: [b]}\nb: {script: x}",
            "1:64: jobs:j needs corresponding to dependencies must be from the same pipeline",
        ),
        (
            "a: {stage: deploy, script: x}\nj: {script: x, dependencies: [a]}",
            "2:31: j job: dependency a is not defined in current or prior stages",
        ),
        (
            "j: {trigger: {include: {artifact: a.yml, job: gone}}}",
            "1:47: j job: undefined dependency: gone",
        ),
        (
            "j: {trigger: {include: [{artifact: a.yml, job: g}]}}\ng: {stage: deploy, script: x}",
            "1:48: j job: dependency g is not defined in current or prior stages",
        ),
    ]);
    check_error(
        &format!("{long}: {{script: x, parallel: 100}}\nj: {{script: x, needs: ['{long}']}}"),
        &format!(
            "2:24: j job: need `{long} 1/100` name is too long (actual is 256, maximum is 255)"
        ),
    );
    let names: Vec<String> = (0..51).map(|at| format!("n{at}")).collect();
    let jobs: String = names
        .iter()
        .map(|name| [name, ": {script: x}\n"].concat())
        .collect();
    check_error(
        &format!("{jobs}j: {{script: x, needs: [{}]}}", names.join(", ")),
        "52:1: j: one job can only need 50 others, but you have listed 51. See needs keyword documentation for more details",
    );
    fields(&[
        ("j: {script: x}", "needs", "null"),
        ("j: {script: x, needs: []}", "needs", "[]"),
        (
            "j: {script: x, needs: [{job: gone, optional: true}]}",
            "needs",
            "[]",
        ),
        (
            "j: {script: x, needs: [{pipeline: $P, job: q}]}",
            "needs",
            r#"[{"artifacts":true,"job":"q","pipeline":"$P"}]"#,
        ),
        (
            "j: {script: x, needs: [{project: p, ref: r, job: q, artifacts: false}]}",
            "needs",
            r#"[{"artifacts":false,"job":"q","project":"p","ref":"r"}]"#,
        ),
        (
            "j: {needs: [{pipeline: g/p}]}",
            "needs",
            r#"[{"pipeline":"g/p"}]"#,
        ),
        (
            "j: {stage: test, script: x, needs: [a]}\na: {script: x}",
            "needs",
            r#"[{"artifacts":true,"job":"a","optional":false}]"#,
        ),
    ]);
}

#[test]
fn section_15_parallel() {
    table(&[
        ("j: {script: x, parallel: 1}", "test/j 1/1"),
        (
            "j: {script: x, parallel: 1.5}",
            "1:26: jobs:j:parallel config must be an integer",
        ),
        (
            "j: {script: x, parallel: many}",
            "1:26: jobs:j:parallel should be an integer or a hash",
        ),
        (
            "j: {script: x, parallel: {matrix: [{}]}}",
            "1:36: jobs:j:parallel:matrix:variables config requires at least 1 items",
        ),
        (
            "j: {script: x, parallel: {matrix: []}}\nk: {script: x}",
            "test/k",
        ),
        (
            "j: {script: x, parallel: {matrix: [{A: [a, b], B: [1, 2]}, {C: c}]}}",
            "test/j: [a, 1] A=a,B=1\ntest/j: [a, 2] A=a,B=2\ntest/j: [b, 1] A=b,B=1\ntest/j: [b, 2] A=b,B=2\ntest/j: [c] C=c",
        ),
        (
            "j: {script: x, parallel: {matrix: [{A: a}, {B: a}]}}",
            "test/j: [a] B=a",
        ),
        (
            "j: {script: x, parallel: {matrix: [{A: true}]}}",
            "1:40: jobs:j:parallel:matrix:variables config should be a hash of key value pairs, value can be an array",
        ),
        (
            "j: {script: x, variables: {A: own}, parallel: {matrix: [{A: m}]}, tags: [$A]}",
            "test/j: [m] tags=m A=m",
        ),
        (
            "j: {trigger: p, parallel: 2}",
            "1:27: jobs:j:parallel config should be a hash",
        ),
        (
            "j: {script: x, parallel: 2, rules: [{if: '$CI_NODE_INDEX == \"2\" && $CI_NODE_TOTAL == \"2\"'}]}",
            "test/j 2/2",
        ),
    ]);
    fields(&[
        (
            "j: {script: x, parallel: 3}",
            "parallel",
            r#"{"index":1,"total":3}"#,
        ),
        ("j: {script: x}", "parallel", "null"),
    ]);
}

#[test]
fn section_16_keywords() {
    table(&[
        (
            "j: {script: x, image: {name: a, pull_policy: sometimes}}",
            "1:46: jobs:j:image:pull_policy config contains unknown values: sometimes",
        ),
        (
            "j: {script: x, image: {name: a, entrypoint: sh}}",
            "1:45: jobs:j:image entrypoint should be an array of strings",
        ),
        (
            "j: {script: x, services: [{alias: a}]}",
            "1:27: jobs:j:services:service name can't be blank",
        ),
        (
            "j: {script: x, cache: {key: {files: [a], files_commits: [b]}}}",
            "1:29: jobs:j:cache:key config must use exactly one of these keys: files, files_commits",
        ),
        ("j: {script: x, cache: {policy: my-pull-thing}}", "test/j"),
        (
            "j: {script: x, cache: {policy: none}}",
            "1:32: jobs:j:cache policy should be a variable or one of: pull-push, push, pull",
        ),
        (
            "j: {script: x, cache: {fallback_keys: [a, b, c, d, e, f]}}",
            "1:39: jobs:j:cache:fallback_keys config has to many entries (maximum 5)",
        ),
        (
            "j: {script: x, cache: [{}, {}, {}, {}, {}]}",
            "1:23: jobs:j:cache config no more than 4 caches can be created",
        ),
        (
            "j: {script: x, cache: {when: never}}",
            "1:30: jobs:j:cache when should be one of: on_success, on_failure, always",
        ),
        (
            "j: {script: x, cache: {key: a%2Fb}}",
            "1:29: jobs:j:cache:key config cannot contain the \"/\" character",
        ),
        (
            "j: {script: x, artifacts: {public: true, access: all}}",
            "1:42: jobs:j:artifacts config these keys cannot be used together: public, access",
        ),
        ("j: {script: x, artifacts: {expire_in: never}}", "test/j"),
        (
            "j: {script: x, artifacts: {expire_in: soon}}",
            "1:39: jobs:j:artifacts expire in should be a duration",
        ),
        (
            "j: {script: x, artifacts: {expose_as: a, paths: ['*']}}",
            "1:39: jobs:j:artifacts paths can't contain '*' when used with 'expose_as'",
        ),
        (
            "j: {script: x, environment: {name: e, on_stop: gone}}",
            "1:48: j job: on_stop job gone is not defined",
        ),
        (
            "j: {script: x, environment: {name: e, on_stop: s}}\ns: {script: x, environment: {name: f, action: stop}}",
            "1:48: j job: on_stop job s have different environment name",
        ),
        (
            "j: {script: x, environment: {name: e, on_stop: s}}\ns: {script: x, environment: {name: e}}",
            "1:48: j job: on_stop job s needs to have action stop defined",
        ),
        (
            "j: {script: x, environment: {name: e, deployment_tier: odd, auto_stop_in: never}}",
            "test/j",
        ),
        (
            "j: {script: x, retry: x}",
            "1:23: retry has to be either an integer or a hash",
        ),
        (
            "j: {script: x, retry: {when: odd}}",
            "1:30: retry when is not included in the list",
        ),
        (
            "j: {script: x, retry: {when: [odd, script_failure, strange]}}",
            "1:30: retry when contains unknown values: odd, strange",
        ),
        (
            "j: {script: x, retry: {max: 1, when: [runner_external_dependency_failure, always]}}",
            "test/j",
        ),
        ("j: {script: x, timeout: '3600'}", "test/j"),
        (
            "j: {script: x, tags: [!reference [.t, tags]]}\n.t: {tags: [a]}",
            "1:22: jobs:j:tags config should be an array of strings",
        ),
        (
            "j: {script: x, coverage: /(/}",
            "1:26: jobs:j:coverage config must be a regular expression with re2 syntax",
        ),
        (
            "j: {script: x, inputs: {a: {type: string}}}",
            "1:25: jobs:j:inputs:a must have a default value",
        ),
        (
            "j: {trigger: {include: [a.yml, b.yml, c.yml, d.yml]}}",
            "1:24: jobs:j:trigger:include config is too long (maximum is 3)",
        ),
        (
            "j: {trigger: {include: {artifact: a.yml}}}",
            "1:24: jobs:j:trigger:include config must specify the job where to fetch the artifact from",
        ),
        (
            "j: {trigger: {project: p, strategy: x}}",
            "1:37: jobs:j:trigger strategy should be one of: depend, mirror",
        ),
        (
            "j: {trigger: [x]}",
            "1:14: jobs:j:trigger has to be either a string or a hash",
        ),
        (
            "pages: {script: x, publish: a, pages: {publish: b}}",
            "1:20: jobs:pages publish either the `publish` or `pages.publish` option may be present in `.gitlab-ci.yml`, but not both.",
        ),
    ]);
    fields(&[
        (
            "j: {script: x, cache: {paths: [p]}}",
            "cache",
            r#"[{"fallback_keys":[],"key":"default","paths":["p"],"policy":"pull-push","unprotect":false,"untracked":false,"when":"on_success"}]"#,
        ),
        (
            "j: {script: x, cache: {key: {files: [f], prefix: p}, policy: pull}}",
            "cache",
            r#"[{"fallback_keys":[],"key":{"files":["f"],"prefix":"p"},"paths":[],"policy":"pull","unprotect":false,"untracked":false,"when":"on_success"}]"#,
        ),
        (
            "j: {script: x, environment: e}",
            "environment",
            r#"{"action":"start","name":"e"}"#,
        ),
        (
            "j: {script: x, retry: {max: 1, exit_codes: 137}}",
            "retry",
            r#"{"exit_codes":[137],"max":1,"when":[]}"#,
        ),
        (
            "j: {script: x, retry: 0}",
            "retry",
            r#"{"max":0,"when":["always"]}"#,
        ),
        ("j: {script: x}", "retry", "null"),
        ("j: {script: x, timeout: 1h 30m}", "timeout", "5400"),
        (
            "j: {script: x, when: delayed, start_in: 3 hours}",
            "start_in",
            "\"3 hours\"",
        ),
        (
            "j: {script: x, services: [a, {name: b, command: [[c], d], alias: 'x y'}]}",
            "services",
            r#"[{"name":"a"},{"alias":"x y","command":["c","d"],"name":"b"}]"#,
        ),
        (
            "j: {script: x, hooks: {pre_get_sources_script: a}}",
            "hooks",
            r#"{"pre_get_sources_script":["a"]}"#,
        ),
        (
            "pages: {script: x}",
            "artifacts",
            r#"{"exclude":[],"paths":["public"],"reports":{},"untracked":false,"when":"on_success"}"#,
        ),
        (
            "j: {script: x, pages: {publish: out}, artifacts: {paths: [a]}}",
            "artifacts",
            r#"{"exclude":[],"paths":["a","out"],"reports":{},"untracked":false,"when":"on_success"}"#,
        ),
        (
            "j: {script: x, rules: [[{if: $NOPE}], [{when: always}]]}",
            "rules_matched",
            "1",
        ),
        ("j: {script: x}", "rules_matched", "null"),
        (
            "j: {script: x, artifacts: {reports: {junit: a.xml, coverage_report: {coverage_format: cobertura, path: c.xml}}}}",
            "artifacts",
            r#"{"exclude":[],"paths":[],"reports":{"coverage_report":{"coverage_format":"cobertura","path":"c.xml"},"junit":["a.xml"]},"untracked":false,"when":"on_success"}"#,
        ),
        ("j: {trigger: g/p}", "trigger", r#"{"project":"g/p"}"#),
        ("j: {script: x, dependencies: []}", "dependencies", "[]"),
        ("j: {script: [[a, [b]], c]}", "script", r#"["a","b","c"]"#),
    ]);
}

#[test]
fn section_17_variables() {
    table(&[
        (
            "variables: {NO: x}\nj: {script: x}",
            "1:13: variables:false key must be an alphanumeric string",
        ),
        (
            "variables: {A: {value: x, options: [y]}}\nj: {script: x}",
            "1:36: variables:a config value must be present in options",
        ),
        (
            "variables: {A: {description: d}, B: {value: 1, expand: false}}\nj: {script: x}",
            "test/j A=,B=1",
        ),
        (
            "j: {script: x, rules: [{variables: {A: {value: x, options: [x]}}}]}",
            "1:37: jobs:j:rules:rule:variables:a config uses invalid data keys: options",
        ),
        (
            "variables: x\nj: {script: x}",
            "1:12: variables config should be a hash of key value pairs",
        ),
        (
            "variables: {A: a}\nj: {script: x, tags: [$$A, '${A}', '%A%', $NOPE]}",
            "test/j tags=$a+a+a+$NOPE A=a",
        ),
        (
            "j: {script: x, parallel: 2, variables: {A: $B, B: $A}}",
            "1:1: j 1/2: circular variable reference detected: [\"A\", \"B\"]",
        ),
        (
            "variables: {A: {value: $B, expand: false}, B: $A}\nj: {script: x, tags: [$A]}",
            "test/j tags=$B A=$B,B=$A",
        ),
        (
            "variables: {A: g, B: g, C: g}\nworkflow: {rules: [{when: always, variables: {A: w, B: w}}]}\nj: {script: x, variables: {B: j}, rules: [{when: always, variables: {C: r}}]}",
            "test/j always A=w,B=j,C=r",
        ),
    ]);
    let mut event = push_to_main();
    event
        .predefined
        .insert("GITLAB_USER_LOGIN".to_owned(), "ann".to_owned());
    event.pipeline_variables = vec![("P".to_owned(), "given".to_owned())];
    table_for(
        &event,
        &[
            (
                "variables: {GITLAB_USER_LOGIN: bob}\nj: {script: x, rules: [{if: '$GITLAB_USER_LOGIN == \"ann\"'}]}",
                "test/j GITLAB_USER_LOGIN=bob",
            ),
            (
                "variables: {P: file}\nj: {script: x, rules: [{if: '$P == \"given\"', variables: {P: rule}}], tags: [$P]}",
                "test/j tags=given P=rule",
            ),
        ],
    );
}

#[test]
fn section_18_predefined_variables() {
    let mut event = push_to_main();
    for (key, value) in [("CI_SERVER_HOST", "gitlab.com"), ("CI_PROJECT_ID", "7")] {
        event.of_server.insert(key.to_owned(), value.to_owned());
    }
    event
        .predefined
        .insert("CI_PROJECT_ID".to_owned(), "8".to_owned());
    table_for(
        &event,
        &[(
            "workflow: {rules: [{if: '$CI_SERVER_HOST == \"gitlab.com\" && $CI_PROJECT_ID == \"8\"'}]}\nj: {script: x}\nk: {script: x, rules: [{if: '$CI_PIPELINE_ID || $CI_JOB_ID || $CI_JOB_TOKEN'}]}",
            "test/j",
        )],
    );
}

#[test]
fn section_19_creation() {
    let warnings = |text: &str| -> Vec<String> {
        let found = lint(".gitlab-ci.yml", &tree(text, &[]), &push_to_main());
        assert!(found.valid, "{:?}", found.errors);
        found
            .warnings
            .into_iter()
            .map(|warning| format!("{}:{}: {}", warning.line, warning.column, warning.message))
            .collect()
    };
    let rule = "j: {script: x, rules: [{if: $A}, {when: manual}]}";
    assert_eq!(
        warnings(rule),
        [
            "1:34: jobs:j may allow multiple pipelines to run for a single action due to `rules:when` clause with no `workflow:rules`"
        ]
    );
    for quiet in [
        "j: {script: x, rules: [{if: $A}, {when: never}]}".to_owned(),
        "j: {script: x, rules: [{if: $A, when: manual}]}".to_owned(),
        ["workflow: {rules: [{when: always}]}\n", rule].concat(),
    ] {
        assert!(warnings(&quiet).is_empty(), "{quiet}");
    }
    check(
        "j: {stage: .pre, script: x}",
        ".gitlab-ci.yml:1:1: The resulting pipeline would have been empty. Review the rules configuration for the relevant jobs.",
    );
}
