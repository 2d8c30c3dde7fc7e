//! `gitlab-ci-yaml.md` statement by statement: what a file means, or what is wrong with it and where.

use courser_pipeline::{ChangedFiles, Event, evaluate, lint};
use serde_json::Value;

use crate::world::{check, check_error, outcome, push_to_main, tree};

mod conditions;
mod files;
mod jobs;

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
