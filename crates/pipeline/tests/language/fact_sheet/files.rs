//! What a file is made of: YAML, inputs, keywords of the top level, inheritance (sections 2 to 9).

use super::*;

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
