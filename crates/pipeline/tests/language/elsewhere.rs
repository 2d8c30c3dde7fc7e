//! `include` of files from outside of the repository (`gitlab-ci-yaml.md` 3).

use courser_pipeline::{Event, InputValue};
use serde_json::json;

use crate::world::{outcome, push_to_main, tree};

const OTHERS: &[(&str, &str)] = &[
    ("own.yml", "own: {script: x}"),
    ("project g/p:a.yml", "a: {script: x}"),
    (
        "project g/p@v1:a.yml",
        "include: /deep/b.yml\na: {script: x}",
    ),
    ("project g/p@v1:deep/b.yml", "b: {script: x}"),
    ("project g/p@v1:all.yml", "include: 'deep/*.yml'"),
    ("project g/p@v1:bad.yml", "include: deep/gone.yml"),
    ("project g/p@v1:broken.yml", "a: *x"),
    ("project g/p@v1:empty.yml", " "),
    (
        "project g/p@v1:rules.yml",
        "include:\n  - {local: deep/b.yml, rules: [{exists: [deep/b.yml]}]}\n  - {local: gone.yml, rules: [{exists: [own.yml]}]}",
    ),
    ("remote https://h/r.yml", "r: {script: x}"),
    ("remote https://h/local.yml", "include: own.yml"),
    ("remote https://h/var.yml", "include: '$P'"),
    ("template Jobs/T.gitlab-ci.yml", "t: {script: x}"),
    (
        "component h/g/p/lint@~latest",
        "spec:\n  inputs: {stage: {default: test}}\n  component: [name, sha, version, reference]\n---\ninclude: deep/b.yml\n'$[[ component.name ]] $[[ component.version ]]':\n  script: x\n  stage: $[[ inputs.stage ]]\n  tags: ['$[[ component.sha ]]', '$[[ component.reference ]]']",
    ),
    ("project g/p@~latest:deep/b.yml", "b: {script: x}"),
    (
        "artifact make:child.yml",
        "include: own.yml\nc: {script: x}",
    ),
    (
        "project g/p@v1:inputs.yml",
        "inputs: {job: {default: shared}}",
    ),
];

fn check_for(event: &Event, cases: &[(&str, &str)]) {
    let mut wrong = String::new();
    for (text, expected) in cases {
        let actual = outcome(&tree(text, OTHERS), event);
        let actual = actual.strip_prefix(".gitlab-ci.yml:").unwrap_or(&actual);
        if actual != *expected {
            wrong.push_str(
                &[
                    "\n--- ",
                    text,
                    "\nexpected ",
                    expected,
                    "\n  actual ",
                    actual,
                ]
                .concat(),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_place_has_its_form() {
    let mut event = push_to_main();
    event.pipeline_variables = vec![
        ("P".to_owned(), "own.yml".to_owned()),
        ("REF".to_owned(), "v1".to_owned()),
    ];
    check_for(
        &event,
        &[
            ("include: {project: g/p, file: a.yml}", "test/a"),
            (
                "include: {project: g/p, file: [/a.yml], ref: v1}",
                "test/b\ntest/a",
            ),
            (
                "include: {project: g/p, file: [a.yml, deep/b.yml], ref: $REF}",
                "test/b\ntest/a",
            ),
            ("include: {project: g/p, file: all.yml, ref: v1}", "test/b"),
            (
                "include: {project: g/p, file: rules.yml, ref: v1}",
                "test/b",
            ),
            ("include: https://h/r.yml", "test/r"),
            (
                "include: {remote: https://h/r.yml, cache: 1 hour}",
                "test/r",
            ),
            (
                "include: {remote: https://h/r.yml, integrity: sha256-Gj3CFi8PJJFSz1nsRBn3YBVT+j1+FlFsR0M+ZZSOme8=}",
                "test/r",
            ),
            (
                "include: {remote: https://h/r.yml, integrity: sha256-I4JTBh4cMXTFNjPdbfLQuDn7MTyPd9OZTq/iRN3f9SY=}",
                "1:47: Remote file `https://h/r.yml` failed the integrity check: its digest is sha256-Gj3CFi8PJJFSz1nsRBn3YBVT+j1+FlFsR0M+ZZSOme8=",
            ),
            ("include: {template: Jobs/T.gitlab-ci.yml}", "test/t"),
            (
                "include: {component: h/g/p/lint@~latest, inputs: {stage: build}}",
                "build/lint 1.2.3 tags=5a1+~latest\ntest/b",
            ),
            ("include: $P", "test/own"),
        ],
    );
}

#[test]
fn faults_name_the_place_and_the_line() {
    check_for(
        &push_to_main(),
        &[
            (
                "include: {project: g/none, file: a.yml}",
                "1:20: no project g/none: here",
            ),
            (
                "include: {project: g/p, ref: v1, file: gone.yml}",
                "1:40: Project `g/p` file `gone.yml` does not exist!",
            ),
            (
                "include: {project: g/p, ref: v1, file: empty.yml}",
                "1:40: Project `g/p` file `empty.yml` is empty!",
            ),
            (
                "include: {project: g/p, ref: v1, file: a.txt}",
                "1:40: Included file `a.txt` does not have YAML extension!",
            ),
            (
                "include: {project: g/p}",
                "1:10: include:include config must specify the file where to fetch the config from",
            ),
            (
                "include: {project: g/p, file: {a: b}}",
                "1:31: include:file config should be an array of strings or a string",
            ),
            (
                "include: {project: [g], file: a.yml}",
                "1:20: include:project config should be a string",
            ),
            (
                "include: {project: g/p, ref: v1, file: bad.yml}",
                "g/p@v1:bad.yml:1:10: `g/p@v1:bad.yml`: Local file `deep/gone.yml` does not exist!",
            ),
            (
                "include: {project: g/p, ref: v1, file: broken.yml}",
                "g/p@v1:broken.yml:1:4: `g/p@v1:broken.yml`: Unknown alias: x",
            ),
            (
                "include: https://h/local.yml",
                "https://h/local.yml:1:10: `https://h/local.yml`: Local file `own.yml` does not have project!",
            ),
            (
                // No variables are known inside of a remote file.
                "include: https://h/var.yml",
                "https://h/var.yml:1:10: `https://h/var.yml`: Included file `` does not have YAML extension!",
            ),
            (
                "include: https://h/gone.yml",
                "1:10: no remote https://h/gone.yml here",
            ),
            (
                "include: {remote: ftp://h/r.yml}",
                "1:19: Remote file `ftp://h/r.yml` does not have a valid address!",
            ),
            (
                "include: {remote: https://h/r.yml, integrity: sha256-}",
                "1:47: include:integrity config must be `sha256-` and a digest in base64",
            ),
            (
                "include: {remote: https://h/r.yml, cache: 30s}",
                "1:43: include:cache config should be a boolean value or a duration of at least 1 minute",
            ),
            (
                "include: {template: T.yml}",
                "1:21: Template file `T.yml` is not a valid location!",
            ),
            (
                "include: {component: h/lint}",
                "1:22: Given component `h/lint` must be `host/group/project/name@version`",
            ),
            (
                "include: {artifact: a.yml}",
                "1:10: include:include config must specify the job where to fetch the artifact from",
            ),
            (
                "include: {artifact: child.yml, job: make}",
                "1:21: including configs from artifacts is only allowed when triggering child pipelines",
            ),
            (
                "j: {script: x, rules: [{exists: {paths: [a.yml], project: g/none}}]}",
                "1:59: Failed to parse rule for j: rules:exists no project g/none: here",
            ),
        ],
    );
}

#[test]
fn files_of_other_projects_exist_for_rules() {
    check_for(
        &push_to_main(),
        &[(
            "a: {script: x, rules: [{exists: {paths: ['deep/*.yml'], project: g/p, ref: v1}}]}\nb: {script: x, rules: [{exists: {paths: [deep/b.yml], project: g/p}}]}",
            "test/a",
        )],
    );
}

#[test]
fn a_child_pipeline_includes_artifacts_of_its_parent() {
    let event = Event {
        source: "parent_pipeline".to_owned(),
        ..push_to_main()
    };
    check_for(
        &event,
        &[(
            "include: [{artifact: child.yml, job: make}]",
            "test/own\ntest/c",
        )],
    );
}

#[test]
fn inputs_come_with_the_event_and_from_other_files() {
    let header = "spec: {inputs: {n: {type: number, default: 1}, flag: {type: boolean, default: false}, l: {type: array, default: []}, s: {default: d}}}\n---\n";
    let text = [
        header,
        "'$[[ inputs.s ]]-$[[ inputs.n ]]-$[[ inputs.flag ]]': {script: x, tags: '$[[ inputs.l ]]'}",
    ]
    .concat();
    let typed = |pairs: &[(&str, &str)]| Event {
        inputs: pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), InputValue::Text((*value).to_owned())))
            .collect(),
        ..push_to_main()
    };
    for (given, expected) in [
        (&[][..], "test/d-1-false"),
        (
            &[("n", "4"), ("flag", "true"), ("l", "[a, b]"), ("s", "7")],
            "test/7-4-true tags=a+b",
        ),
        (
            &[("n", "x")],
            "1:1: `n` input: provided value is not a number",
        ),
        (
            &[("flag", "2")],
            "1:1: `flag` input: provided value is not a boolean",
        ),
        (
            &[("l", "a")],
            "1:1: `l` input: provided value is not an array",
        ),
        (
            &[("x", "1"), ("y", "2")],
            "1:1: unknown input arguments: x, y",
        ),
    ] {
        check_for(&typed(given), &[(&text, expected)]);
    }
    let event = Event {
        inputs: vec![("n".to_owned(), InputValue::Typed(json!(5)))],
        ..push_to_main()
    };
    check_for(&event, &[(&text, "test/d-5-false")]);
    check_for(
        &event,
        &[(
            "j: {script: x}",
            "1:1: Given inputs not defined in the `spec` section of the included configuration file",
        )],
    );
    check_for(
        &push_to_main(),
        &[(
            "spec: {include: [{project: g/p, ref: v1, file: inputs.yml}]}\n---\n'$[[ inputs.job ]]': {script: x}",
            "test/shared",
        )],
    );
}
