//! Which jobs there are: rules, expressions, only and except (sections 11 to 13).

use super::*;

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
