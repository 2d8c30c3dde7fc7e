//! `gitlab-ci-yaml.md` statement by statement: what a file means, or what is wrong with it and where.

use courser_pipeline::{ChangedFiles, Event, evaluate, lint};
use serde_json::Value;

use crate::world::{check, check_error, outcome, push_to_main, tree};

/// Every file with the jobs it makes or the errors it has (without the file's name), all compared at once.
fn table(cases: &[(&str, &str)]) {
    table_for(&push_to_main(), cases);
}

fn table_for(event: &Event, cases: &[(&str, &str)]) {
    let mut wrong = String::new();
    for (text, expected) in cases {
        let actual = outcome(&tree(text, &[]), event).replace(".gitlab-ci.yml:", "");
        if actual != *expected {
            wrong.push_str(
                &[
                    "\n--- ",
                    text,
                    "\nexpected ",
                    expected,
                    "\n  actual ",
                    &actual,
                ]
                .concat(),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Whether an expression holds for the push, as a rule.
fn conditions(cases: &[(&str, bool)]) {
    let mut wrong = String::new();
    for (condition, expected) in cases {
        let quoted = serde_json::to_string(condition).unwrap_or_default();
        let text = format!(
            "variables: {{A: a, EMPTY: '', T: 'true', ZERO: '0', BLANK: ' ', B: $A, PATTERN: /^ma/, TEXT: xay}}\nj: {{script: x, rules: [{{if: {quoted}}}]}}\nother: {{script: x, inherit: {{variables: false}}}}"
        );
        let actual = outcome(&tree(&text, &[]), &push_to_main());
        let holds = actual.starts_with("test/j");
        if holds != *expected || actual.contains("invalid") {
            wrong.push_str(&["\n", condition, " -> ", &actual].concat());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn job(text: &str) -> Value {
    match evaluate(".gitlab-ci.yml", &tree(text, &[]), &push_to_main()) {
        Ok(pipeline) => serde_json::to_value(&pipeline.jobs[0]).unwrap_or_default(),
        Err(found) => panic!("{text}: {:?}", found.errors),
    }
}

/// Fields of the first job's JSON.
fn fields(cases: &[(&str, &str, &str)]) {
    let mut wrong = String::new();
    for (text, field, expected) in cases {
        let actual = job(text)[*field].to_string();
        if actual != *expected {
            wrong.push_str(
                &[
                    "\n--- ",
                    text,
                    "\n",
                    field,
                    " ",
                    &actual,
                    "\nexpected ",
                    expected,
                ]
                .concat(),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn section_2_yaml() {
    table(&[
        ("yes: {script: x}", "1:1: jobs:true name should be a symbol"),
        ("123: {script: x}", "1:1: jobs:123 name should be a symbol"),
        ("'on': {script: x}", "test/on"),
        ("y: {script: x}\nn: {script: x}", "test/y\ntest/n"),
        (
            "variables: {A: 010, B: 0x1F, C: 0b11, D: 1_000, E: 12:30:45, F: 1.10, G: 1e3, H: 08, I: .5, J: '1.10'}\nj: {script: x}",
            "test/j A=8,B=31,C=3,D=1000,E=45045,F=1.1,G=1e3,H=08,I=0.5,J=1.10",
        ),
        (
            "j: {script: x}\n.h:\n  - 2024-01-01",
            "3:5: Tried to load unspecified class: Date",
        ),
        (
            "variables: {A: '2024-01-01'}\nj: {script: x}",
            "test/j A=2024-01-01",
        ),
        (
            "variables: {A: ~, B: NULL, C: }\nj: {script: x}",
            "test/j A=,B=,C=",
        ),
        // The last one wins and stands where the first one stood.
        (
            "a: {script: x}\nb: {script: x}\na: {script: y, tags: [t]}",
            "test/a tags=t\ntest/b",
        ),
        (
            ".x: &x {tags: [x], script: x}\n.y: &y {tags: [y], stage: build}\na: {script: a, <<: [*x, *y]}",
            "build/a tags=x",
        ),
        (
            ".x: &x {tags: [x]}\na: {tags: [own], <<: *x, script: a}",
            "test/a tags=x",
        ),
        (
            ".x: &x {tags: [x]}\na: {<<: *x, tags: [own], script: a}",
            "test/a tags=own",
        ),
        (
            ".x: &x {variables: {A: 1, B: 2}}\na: {<<: *x, variables: {C: 3}, script: a}",
            "test/a C=3",
        ),
        ("a: *nope", "1:4: Unknown alias: nope"),
        ("a: {script: !foo x}", "test/a"),
        ("---\na: {script: x}", "test/a"),
        ("a: {script: x}\n---\nb: {script: x}", "test/a"),
        ("", "1:1: Please provide content of .gitlab-ci.yml"),
        ("text", "1:1: Invalid configuration format"),
        ("# nothing", "1:1: Invalid configuration format"),
    ]);
}

#[test]
fn section_4_inputs() {
    let header = "spec:\n  inputs:\n    n: {type: number, default: 2}\n    e: {default: dev, options: [dev, prod]}\n    l: {type: array, default: [a, b]}\n---\n";
    let with = |content: &str| [header, content].concat();
    for (content, expected) in [
        (
            "j: {script: x, parallel: '$[[ inputs.n ]]'}",
            "test/j 1/2\ntest/j 2/2",
        ),
        ("'j-$[[ inputs.n ]]': {script: x}", "test/j-2"),
        ("j: {script: ['$[[ inputs.l ]]', x]}", "test/j"),
        ("j: {script: x, tags: '$[[ inputs.l ]]'}", "test/j tags=a+b"),
        (
            "j: {script: x, tags: ['$[[ inputs.l ]]']}",
            ".gitlab-ci.yml:7:22: jobs:j:tags config should be an array of strings",
        ),
        (
            "j: {script: '$[[ inputs.nope ]]'}",
            ".gitlab-ci.yml:7:13: unknown interpolation provided: `nope` in `inputs.nope`",
        ),
        (
            "j: {script: '$[[ component.name ]]'}",
            ".gitlab-ci.yml:7:13: unknown interpolation provided: `component` in `component.name`",
        ),
        (
            "j: {script: '$[[ inputs.e | a | b | c | d ]]'}",
            ".gitlab-ci.yml:7:13: too many functions in interpolation block",
        ),
        (
            "j: {script: x, rules: [{if: '\"$[[ inputs.e ]]\" == \"dev\"'}]}",
            "test/j",
        ),
    ] {
        assert_eq!(
            outcome(&tree(&with(content), &[]), &push_to_main()),
            expected,
            "{content}"
        );
    }
    table(&[
        ("j: {script: '$[[ inputs.x ]]'}", "test/j"),
        (
            "spec: {inputs: {a: }}\n---\nj: {script: x}",
            "1:17: `a` input: required value has not been provided",
        ),
        (
            "spec: {foo: 1}\n---\nj: {script: x}",
            "1:8: header:spec config contains unknown keys: foo",
        ),
        (
            "spec: {inputs: {a: {type: object}}}\n---\nj: {script: x}",
            "1:27: header:spec:inputs:a input type unknown value: object",
        ),
        (
            "spec: {inputs: {a: {type: boolean, options: [x]}}}\n---\nj: {script: x}",
            "1:45: header:spec:inputs:a Options can only be used with string and number inputs",
        ),
        (
            "spec: {inputs: {a: {type: number, default: x}}}\n---\nj: {script: x}",
            "1:44: `a` input: default value is not a number",
        ),
        (
            "spec: {inputs: {a: {default: true}}}\n---\n'j-$[[ inputs.a ]]': {script: x}",
            "test/j-true",
        ),
        (
            "spec: {component: [name]}\n---\nj: {script: '$[[ component.name ]]'}",
            "3:13: `component.name` is not known: the file was not included as a component",
        ),
        (
            "spec: {component: [nope]}\n---\nj: {script: x}",
            "1:19: header:spec:component config contains unknown values: nope",
        ),
        (
            "spec:\n  inputs:\n    size: {rules: [{if: '$[[ inputs.env ]] == \"prod\"', default: big}, {options: [small], default: small}]}\n    env: {default: prod}\n---\n'j-$[[ inputs.size ]]': {script: x}",
            "test/j-big",
        ),
        (
            "spec: {inputs: {a: {default: x, rules: [{options: [y]}]}}}\n---\nj: {script: x}",
            "1:21: header:spec:inputs:a config these keys cannot be used together: rules, default",
        ),
    ]);
    let others = [
        (
            "inputs.yml",
            "inputs: {a: {default: shared}, b: {default: shared}}",
        ),
        (
            "t.yml",
            "spec: {inputs: {job: , env: {default: d}}}\n---\n'$[[ inputs.job ]]': {script: x, tags: ['$[[ inputs.env ]]']}",
        ),
    ];
    for (text, expected) in [
        (
            "spec: {include: [{local: inputs.yml}], inputs: {b: {default: own}}}\n---\n'$[[ inputs.a ]]-$[[ inputs.b ]]': {script: x}",
            "test/shared-own",
        ),
        (
            "include:\n  - {local: t.yml, inputs: {job: a}}\n  - {local: t.yml, inputs: {job: b, env: e}}",
            "test/a tags=d\ntest/b tags=e",
        ),
        (
            "include: {local: t.yml, inputs: {job: a, x: 1, y: 2}}",
            ".gitlab-ci.yml:1:42: unknown input arguments: x, y",
        ),
        (
            "include: {local: inputs.yml, inputs: {job: a}}",
            ".gitlab-ci.yml:1:18: Given inputs not defined in the `spec` section of the included configuration file",
        ),
        (
            "include: {local: t.yml, inputs: x}",
            ".gitlab-ci.yml:1:33: Given inputs must be a hash",
        ),
        (
            "include: t.yml",
            "t.yml:1:17: `t.yml`: `job` input: required value has not been provided",
        ),
    ] {
        assert_eq!(
            outcome(&tree(text, &others), &push_to_main()),
            expected,
            "{text}"
        );
    }
}

#[test]
fn section_7_top_level() {
    table(&[
        ("'true': {script: x}", "1:1: jobs:true name is reserved"),
        (
            "pages:deploy: {script: x}",
            "1:1: jobs:pages:deploy name is reserved",
        ),
        ("default: {script: x}", "test/default"),
        ("workflow: {script: x}", "test/workflow"),
        (
            "types: [a]\na: {script: x}",
            "1:1: jobs types config should implement the script:, run:, or trigger: keyword",
        ),
        (
            "a: {script: x, type: build}",
            "1:16: jobs:a config contains unknown keys: type",
        ),
        (
            "stages: []\na: {script: x}",
            "2:1: a job: chosen stage test does not exist; available stages are ",
        ),
        (
            "stages: [.post, a, .pre, a]\nj: {stage: a, script: x}\nk: {stage: .post, script: x}",
            "a/j\n.post/k",
        ),
        (
            "stages: {a: b}\nj: {script: x}",
            "1:9: stages config should be an array of strings or a nested array of strings up to 10 levels deep",
        ),
        (
            "workflow: {foo: 1}\na: {script: x}",
            "1:12: workflow config contains unknown keys: foo",
        ),
        (
            "workflow: {auto_cancel: {on_new_commit: x}}\na: {script: x}",
            "1:41: workflow:auto_cancel on new commit should be one of: conservative, interruptible, none",
        ),
        (
            "workflow: {rules: [{when: always, auto_cancel: {on_job_failure: x}}]}\na: {script: x}",
            "1:65: workflow:rules:rule:auto_cancel on job failure should be one of: none, all",
        ),
        (
            "workflow: {rules: [{when: always, start_in: 1 day, allow_failure: true, needs: [x]}]}\na: {script: x}",
            "test/a",
        ),
        (
            "workflow: {rules: [{when: always, interruptible: true}]}\na: {script: x}",
            "1:35: workflow:rules:rule config contains unknown keys: interruptible",
        ),
        (
            "workflow: {rules: []}\na: {script: x}",
            "1:19: workflow:rules config can't be blank",
        ),
        (
            "vairables: {A: b}",
            "1:1: jobs vairables config should implement the script:, run:, or trigger: keyword",
        ),
        (
            "a: [x]",
            "1:1: jobs a config should implement the script:, run:, or trigger: keyword",
        ),
    ]);
    let name = |text: &str| {
        let text = [
            "workflow: {name: '",
            text,
            "'}\nvariables: {A: one}\nj: {script: x}",
        ]
        .concat();
        let pipeline = evaluate(".gitlab-ci.yml", &tree(&text, &[]), &push_to_main());
        pipeline.ok().and_then(|pipeline| pipeline.workflow.name)
    };
    assert_eq!(
        name(" $A on $CI_COMMIT_BRANCH ${NOPE} ").as_deref(),
        Some("one on main")
    );
    assert_eq!(name("$NOPE"), None);
}

#[test]
fn section_8_jobs() {
    let long = "n".repeat(256);
    table(&[
        ("a b:c/d é: {script: x}", "test/a b:c/d é"),
        (".h: 1\n.i: [x]\na: {script: x}", "test/a"),
        (
            "a: {needs: [b], stage: test}\nb: {script: x}",
            "1:1: jobs:a config should contain either a trigger or a needs:pipeline",
        ),
        (
            "a: {run: [{name: s, script: x}], script: y}",
            "1:34: jobs:a config these keys cannot be used together: run, script",
        ),
        (
            "a: {script: x, run: [{name: s, script: x}]}",
            "1:16: jobs:a config these keys cannot be used together: script, run",
        ),
        (
            "a: {script: x, rules: [{when: always}], except: [x], only: [y]}",
            "1:41: jobs:a config key may not be used with `rules`: except, only",
        ),
        (
            "a: {trigger: p, script: x, tags: [y]}",
            "1:17: jobs:a config these keys cannot be used together: trigger, script",
        ),
        (
            "a: {trigger: p, when: delayed}",
            "1:23: jobs:a when should be one of: on_success, on_failure, always, manual",
        ),
        (
            "a: {trigger: p, allow_failure: {exit_codes: 1}}",
            "1:32: jobs:a allow failure should be a boolean value",
        ),
        (
            "a: {script: x, when: delayed}",
            "1:22: jobs:a start in should be a duration",
        ),
        (
            "a: {script: x, when: delayed, start_in: 2 weeks}",
            "1:41: jobs:a start in should not exceed the limit",
        ),
        (
            "a: {script: x, when: manual}",
            "test/a manual allow_failure=true",
        ),
        (
            "a: {script: x, when: manual, allow_failure: false}",
            "test/a manual",
        ),
        (
            "a: {script: x, allow_failure: {exit_codes: 3}}",
            r#"test/a allow_failure={"exit_codes":[3]}"#,
        ),
        (
            "a: {script: null, tags: null}",
            "1:5: jobs:a script can't be blank",
        ),
        (
            "a: {scirpt: x, needs: []}",
            "1:5: jobs:a config contains unknown keys: scirpt\n1:1: jobs:a config should contain either a trigger or a needs:pipeline",
        ),
    ]);
    check_error(
        &format!("{long}: {{script: x}}"),
        &format!("1:1: jobs:{long} name is too long (maximum is 255 characters)"),
    );
    let mut event = push_to_main();
    event.source = "merge_request_event".to_owned();
    let text = "a: {script: x}\nb: {script: x, except: [tags]}";
    assert!(outcome(&tree(text, &[]), &event).contains("would have been empty"));
    let with_workflow = ["workflow: {rules: [{when: always}]}\n", text].concat();
    assert_eq!(
        outcome(&tree(&with_workflow, &[]), &event),
        "test/a\ntest/b"
    );
}

#[test]
fn section_9_inheritance() {
    table(&[
        (
            "default: {image: a, tags: [d]}\nj: {script: x, tags: []}",
            "test/j",
        ),
        (
            "default: {interruptible: true, tags: [d]}\nj: {trigger: p}",
            "test/j",
        ),
        (
            "j: {script: x, inherit: {foo: 1}}",
            "1:26: jobs:j:inherit config contains unknown keys: foo",
        ),
        (
            "default: {tags: x}\nj: {script: x}\nk: {script: x}",
            "1:17: default:tags config should be an array of strings",
        ),
        (
            "before_script: {a: b}\nj: {script: x}",
            "1:16: before_script config should be a string or a nested array of strings up to 10 levels deep",
        ),
    ]);
    fields(&[
        (
            "default: {before_script: [d], cache: {paths: [p]}}\nj: {script: x, before_script: [], cache: []}",
            "before_script",
            "[]",
        ),
        (
            "default: {before_script: [d]}\nj: {script: x, before_script: null}",
            "before_script",
            r#"["d"]"#,
        ),
        (
            "default: {cache: {paths: [p]}}\nj: {script: x, cache: []}",
            "cache",
            "[]",
        ),
        (
            "default: {cache: {paths: [p]}}\nj: {script: x, cache: {}}",
            "cache",
            "[]",
        ),
        (
            "default: {interruptible: true}\nj: {trigger: p}",
            "interruptible",
            "true",
        ),
        (
            "default: {artifacts: {paths: [p]}}\nj: {script: x, artifacts: {}}",
            "artifacts",
            "null",
        ),
        ("image: old\nj: {script: x}", "image", r#"{"name":"old"}"#),
        (
            "default: {id_tokens: {T: {aud: a}}}\nj: {script: x}",
            "id_tokens",
            r#"{"T":{"aud":"a"}}"#,
        ),
    ]);
}

#[test]
fn section_11_rules() {
    table(&[
        (
            "j: {script: x, rules: []}",
            "1:23: jobs:j:rules config can't be blank",
        ),
        (
            "j: {script: x, rules: [x]}",
            "1:24: jobs:j:rules:rule config should be a hash",
        ),
        (
            "j: {script: x, rules: {if: x}}",
            "1:23: jobs:j:rules config should be an array",
        ),
        (
            "j: {script: x, rules: [{if: true}]}",
            "1:29: jobs:j:rules:rule if invalid expression syntax",
        ),
        (
            "j: {script: x, rules: [{when: soon}]}",
            "1:31: jobs:j:rules:rule when unknown value: soon",
        ),
        (
            "j: {script: x, rules: [{start_in: 1 day}]}",
            "1:25: jobs:j:rules:rule config contains disallowed keys: start_in",
        ),
        (
            "j: {script: x, rules: [{when: delayed, start_in: 1 day}]}",
            "test/j delayed",
        ),
        ("j: {script: x, rules: [{when: manual}]}", "test/j manual"),
        (
            "j: {script: x, when: manual, rules: [{when: always}]}",
            "test/j always allow_failure=true",
        ),
        (
            "j: {script: x, allow_failure: {exit_codes: 1}, rules: [{allow_failure: false}]}",
            "test/j",
        ),
        (
            "j: {script: x, allow_failure: {exit_codes: 1}, rules: [{when: always}]}",
            r#"test/j always allow_failure={"exit_codes":[1]}"#,
        ),
        (
            "j: {script: x, variables: {A: j, B: j}, rules: [{if: '$A == \"j\"', variables: {A: r}}]}",
            "test/j A=r,B=j",
        ),
        (
            "a: {script: x}\nj: {script: x, needs: [a], rules: [{needs: []}]}",
            "test/a\ntest/j needs=",
        ),
        (
            "a: {script: x}\nj: {script: x, rules: [{needs: [a]}]}",
            "test/a\ntest/j needs=a",
        ),
        (
            "j: {script: x, rules: [{when: always}, {if: $NOPE, needs: [gone]}]}",
            "1:60: j job: undefined need: gone",
        ),
        (
            "j: {script: x, rules: [{needs: [{project: p, ref: r, job: j}]}]}",
            "1:33: jobs:j:rules:rule:needs config uses invalid types: cross_dependency",
        ),
        (
            "j: {script: x, rules: [{changes: []}]}",
            "1:34: jobs:j:rules:rule:changes config can't be blank",
        ),
        (
            "j: {script: x, rules: [{changes: x}]}",
            "1:34: jobs:j:rules:rule:changes should be an array or a hash",
        ),
        (
            "j: {script: x, rules: [{exists: {ref: r, paths: [x]}}]}",
            "1:33: jobs:j:rules:rule:exists config missing required keys: project",
        ),
        // Circles that only the matched rules make are found when the pipeline is made.
        (
            "a: {script: x, rules: [{if: $NOPE, needs: [b]}, {when: always}]}\nb: {script: x, rules: [{needs: [a]}]}",
            "test/a always\ntest/b needs=a",
        ),
        (
            "a: {script: x, rules: [{needs: [b]}]}\nb: {script: x, rules: [{needs: [a]}]}",
            "1:1: The pipeline has circular dependencies: topological sort failed: [\"a\", \"b\"]",
        ),
        // Neither expansion nor the job's own values reach the condition.
        (
            "variables: {A: one, B: $A}\nj: {script: x, rules: [{if: '$B == \"one\"'}]}\nk: {script: x, inherit: {variables: false}}",
            "test/k",
        ),
        (
            "workflow: {rules: [{if: $V}, {when: never}]}\nj: {script: x, variables: {V: x}}",
            "no pipeline",
        ),
        (
            "j: {script: x, parallel: {matrix: [{A: [a, b]}]}, rules: [{if: '$A == \"b\"'}]}",
            "test/j: [b] A=b",
        ),
        (
            "j: {script: x, environment: p/x, rules: [{if: '$CI_ENVIRONMENT_NAME == \"p/x\" && $CI_ENVIRONMENT_SLUG =~ /^p-x-/ && $CI_ENVIRONMENT_ACTION == \"start\"'}]}",
            "test/j",
        ),
    ]);
    let text = "j: {script: x, rules: [{changes: {paths: ['*.md'], compare_to: main}}]}";
    check_error(
        text,
        "1:64: Failed to parse rule for j: rules:changes:compare_to needs a Git repository",
    );
    assert!(lint(".gitlab-ci.yml", &tree(text, &[]), &push_to_main()).valid);
    let mut event = push_to_main();
    event.changed_files = ChangedFiles::Given(vec!["a.md".to_owned()]);
    assert_eq!(outcome(&tree(text, &[]), &event), "test/j");
}

#[test]
fn section_11_globs() {
    for (glob, path, expected) in [
        ("dir/*", "dir/a", true),
        ("dir/*", "dir/a/b", false),
        ("dir/**/*", "dir/a", true),
        ("dir/**/*", "dir/a/b/c", true),
        ("**", "a", true),
        ("**", "a/b", false),
        ("*", ".hidden", true),
        ("**/*.rb", "x.rb", true),
        ("**/*.rb", "a/b/x.rb", true),
        ("*.{rb,py}", "x.py", true),
        ("[a-c].x", "b.x", true),
        ("A", "a", false),
        ("a**/x", "ab/x", true),
        ("a**/x", "a/b/x", false),
        ("src", "src/a", false),
        ("$DIR/*", "docs/a", true),
        ("$NESTED/*", "docs/a", true),
    ] {
        let text = format!(
            "variables: {{DIR: docs, NESTED: $DIR}}\nj: {{script: x, rules: [{{changes: ['{glob}']}}]}}\nk: {{script: x, inherit: {{variables: false}}}}"
        );
        let mut event = push_to_main();
        event.changed_files = ChangedFiles::Known(vec![path.to_owned()]);
        let found = outcome(&tree(&text, &[]), &event).starts_with("test/j");
        assert_eq!(found, expected, "{glob} {path}");
    }
}

#[test]
fn section_12_expressions() {
    conditions(&[
        ("$A", true),
        ("$EMPTY", false),
        ("$BLANK", false),
        ("$ZERO", true),
        ("$NOPE", false),
        ("\"false\"", true),
        ("true", true),
        ("null", false),
        ("$B == \"a\"", false),
        ("$B == \"$A\"", true),
        ("$NOPE == \"\"", false),
        ("$EMPTY == null", false),
        ("$NOPE == $NOPE_EITHER", true),
        ("$T == true", true),
        ("!$A == \"x\"", false),
        ("!$NOPE == true", true),
        ("$CI_COMMIT_BRANCH =~ /^ma/", true),
        ("$CI_COMMIT_BRANCH =~ $PATTERN", true),
        ("$CI_COMMIT_BRANCH =~ /^MA/i", true),
        ("$CI_COMMIT_BRANCH =~ $NOPE", false),
        ("$CI_COMMIT_BRANCH !~ $NOPE", true),
        ("$NOPE =~ /^$/", true),
        ("$A =~ $TEXT", true),
        ("$TEXT =~ $A", false),
        ("$A == 'a' && $NOPE || $T", true),
        ("$A == 'a' && ($NOPE || $EMPTY)", false),
        ("$A&&$T", true),
    ]);
    for condition in [
        "${A}",
        "$A =~ /a/",
        "$A == ",
        "($A",
        "$A)",
        "$A = 'a'",
        "$A =~ /(ab/",
        "$A =~ /(?=ab)/",
        "$A == \"a' ",
        "",
        "&& $A",
        "$A $T",
        "A == 'a'",
        "1 == 1",
    ] {
        let quoted = serde_json::to_string(condition).unwrap_or_default();
        check_error(
            &format!("j: {{script: x, rules: [{{if: {quoted}}}]}}"),
            "1:29: jobs:j:rules:rule if invalid expression syntax",
        );
    }
}

#[test]
fn section_13_only_and_except() {
    table(&[
        (
            "j: {script: x, only: {refs: [branches], variables: [$NOPE]}}\nk: {script: x}",
            "test/k",
        ),
        (
            "j: {script: x, only: [/^ma/@group/other, tags]}\nk: {script: x}",
            "test/k",
        ),
        (
            "j: {script: x, only: [pushes]}\nk: {script: x, only: [schedules]}",
            "test/j",
        ),
        (
            "j: {script: x, except: {variables: ['$CI_COMMIT_BRANCH == \"main\"']}}\nk: {script: x}",
            "test/k",
        ),
        (
            "j: {script: x, only: {kubernetes: active}}\nk: {script: x}",
            "test/k",
        ),
        ("j: {script: x, except: {kubernetes: active}}", "test/j"),
        (
            "j: {script: x, only: main}",
            "1:22: jobs:j:only has to be either an array of conditions or a hash",
        ),
        (
            "j: {script: x, only: {variables: ['$A ==']}}",
            "1:34: jobs:j:only variables invalid expression syntax",
        ),
        (
            "j: {script: x, only: {foo: 1}}",
            "1:23: jobs:j:only config contains unknown keys: foo",
        ),
    ]);
    let mut event = push_to_main();
    event
        .predefined
        .insert("CI_PROJECT_PATH".to_owned(), "group/other".to_owned());
    table_for(
        &event,
        &[(
            "j: {script: x, only: [/^ma/@group/other]}\nk: {script: x, only: [main@group/else]}",
            "test/j",
        )],
    );
    event.source = "schedule".to_owned();
    table_for(
        &event,
        &[(
            "j: {script: x, only: [schedules]}\nk: {script: x, only: [branches]}\nl: {script: x, only: [pushes]}",
            "test/j\ntest/k",
        )],
    );
}

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
