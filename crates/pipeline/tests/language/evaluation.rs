//! The evaluator from the outside: a file and an event in, jobs or a located error out.

use courser_pipeline::{ChangedFiles, evaluate, lint, merge};
use proptest::prelude::*;

use crate::world::{check, check_error, outcome, push_to_main, tree};

fn check_with(root: &str, others: &[(&str, &str)], expected: &str) {
    assert_eq!(
        outcome(&tree(root, others), &push_to_main()),
        expected,
        "{root}"
    );
}

#[test]
fn jobs_stand_in_stage_order_then_in_order_of_definition() {
    check(
        "stages: [one, two]\nb: {stage: two, script: x}\na: {stage: one, script: x}\nc: {stage: one, script: x}\nz: {stage: .post, script: x}\ny: {stage: .pre, script: x}",
        ".pre/y\none/a\none/c\ntwo/b\n.post/z",
    );
    check("a: {script: x}", "test/a");
    check(
        "stages: [[one], [[two]]]\na: {stage: two, script: x}",
        "two/a",
    );
}

#[test]
fn included_files_merge_in_order_and_the_including_file_wins() {
    let others = [
        (
            "a.yml",
            "variables: {A: a, B: a}\nshared: {script: a, tags: [a]}\nearly: {script: x}",
        ),
        ("ci/b.yml", "include: /ci/c.yml\nvariables: {B: b}"),
        ("ci/c.yml", "variables: {B: c, C: c}"),
    ];
    check_with(
        "include: [a.yml, {local: ci/b.yml}]\nvariables: {A: main}\nlate: {script: x}\nshared: {script: main}",
        &others,
        "test/shared tags=a A=main,B=b,C=c\ntest/early A=main,B=b,C=c\ntest/late A=main,B=b,C=c",
    );
    check_with(
        "include: {local: 'ci/*.yml', rules: [{if: '$CI_COMMIT_BRANCH == \"main\"'}]}\nx: {script: x}",
        &others,
        "test/x B=c,C=c",
    );
    check_with(
        "include: {local: a.yml, rules: [{if: $NOPE}]}\nx: {script: x}",
        &others,
        "test/x",
    );
}

#[test]
fn include_faults_name_their_place() {
    let at = |text: &str| format!(".gitlab-ci.yml:1:{text}");
    for (root, expected) in [
        (
            "include: missing.yml",
            at("10: Local file `missing.yml` does not exist!"),
        ),
        (
            "include: a.txt",
            at("10: Included file `a.txt` does not have YAML extension!"),
        ),
        (
            "include: [{foo: a.yml}]",
            at(
                "11: `{\"foo\":\"a.yml\"}` does not have a valid subkey for include. Valid subkeys are: `local`, `project`, `remote`, `template`, `artifact`, `component`",
            ),
        ),
        (
            "include: [{local: a.yml, remote: b}]",
            at(
                "11: Each include must use only one of: `local`, `project`, `remote`, `template`, `artifact`, `component`",
            ),
        ),
        (
            "include: [1]",
            at("11: Each include must be a hash or a string"),
        ),
        (
            "include: loop.yml",
            "loop.yml:1:10: Maximum of 150 nested includes are allowed!".to_owned(),
        ),
        (
            "include: bad.yml",
            "bad.yml:2:1: `bad.yml`: Unknown alias: x".to_owned(),
        ),
        (
            "include: empty.yml",
            at("10: Local file `empty.yml` is empty!"),
        ),
    ] {
        let others = [
            ("a.txt", "x"),
            ("loop.yml", "include: loop.yml"),
            ("bad.yml", "a: 1\n*x : 2"),
            ("empty.yml", " \n"),
        ];
        let actual = outcome(&tree(root, &others), &push_to_main());
        let last = actual.replace("`loop.yml`: ", "");
        assert_eq!(last, expected, "{root}");
    }
}

#[test]
fn extends_merges_deeply_and_reports_its_faults() {
    check(
        ".a: {script: a, variables: {X: a, Y: a}, tags: [a]}\n.b: {variables: {Y: b}}\nj: {extends: [.a, .b], variables: {Z: j}, tags: null}",
        "test/j X=a,Y=b,Z=j",
    );
    let chain = |hops: usize| {
        let links: Vec<String> = (1..=hops)
            .map(|at| match at {
                at if at == hops => format!(".h{at}: {{script: x}}"),
                at => format!(".h{at}: {{extends: .h{}}}", at + 1),
            })
            .collect();
        format!("j: {{extends: .h1}}\n{}", links.join("\n"))
    };
    check(&chain(11), "test/j");
    check_error(&chain(12), "12:8: .h11: nesting too deep in `extends`");
    check_error(
        "j: {extends: .missing, script: x}",
        "1:14: j: unknown keys in `extends` (.missing)",
    );
    check_error(
        ".x: [1]\nj: {extends: .x, script: x}",
        "2:14: j: invalid base hashes in `extends` (.x)",
    );
    check_error(
        ".a: {extends: .b}\n.b: {extends: .a}\nj: {script: x}",
        "1:6: .a: circular dependency detected in `extends`",
    );
}

#[test]
fn references_are_resolved_after_extends() {
    let pipeline = evaluate(
        ".gitlab-ci.yml",
        &tree(
            ".a: {script: [one, two]}\n.b: {extends: .a, vars: {K: v}}\nj: {script: [!reference [.b, script], three], variables: !reference [.b, vars]}",
            &[],
        ),
        &push_to_main(),
    );
    let jobs = pipeline.map(|pipeline| pipeline.jobs).unwrap_or_default();
    assert_eq!(jobs[0].script, ["one", "two", "three"]);
    assert_eq!(jobs[0].variables[0].value, "v");
    check_error(
        "j: {script: !reference [.a, script]}",
        "1:13: !reference [\".a\", \"script\"] could not be found",
    );
    check_error(
        "j: {script: !reference .a}",
        "1:13: !reference \".a\" is not valid",
    );
    check_error(
        ".b: {script: [!reference [.b, script]]}\nj: {script: x}",
        "1:15: !reference [\".b\", \"script\"] is part of a circular chain",
    );
}

#[test]
fn a_bomb_of_references_is_refused() {
    let mut text = ".l0: {x: [a, a, a, a, a, a, a, a, a, a]}\nj: {script: x}\n".to_owned();
    for level in 1..10 {
        let below = vec![format!("!reference [.l{}, x]", level - 1); 10].join(", ");
        text.push_str(&[".l", &level.to_string(), ": {x: [", &below, "]}\n"].concat());
    }
    let problems = evaluate(".gitlab-ci.yml", &tree(&text, &[]), &push_to_main());
    let message = problems.err().map(|found| found.errors[0].message.clone());
    assert_eq!(message.as_deref(), Some("The parsed YAML is too big"));
}

#[test]
fn bombs_of_extends_and_defaults_are_refused() {
    let jobs = |body: &str| -> String {
        (0..20_000)
            .map(|at| ["j", &at.to_string(), body].concat())
            .collect()
    };
    let keys: String = (0..2_000)
        .map(|at| ["    k", &at.to_string(), ": v\n"].concat())
        .collect();
    let extended = [
        ".b:\n  script: x\n  variables:\n",
        &keys,
        &jobs(": {extends: .b, variables: {a: b}}\n"),
    ];
    let line = "x".repeat(100_000);
    let inherited = [
        "default: {before_script: [",
        &line,
        "]}\n",
        &jobs(": {script: x}\n"),
    ];
    for text in [extended.concat(), inherited.concat()] {
        let problems = evaluate(".gitlab-ci.yml", &tree(&text, &[]), &push_to_main());
        let message = problems.err().map(|found| found.errors[0].message.clone());
        assert_eq!(message.as_deref(), Some("The parsed YAML is too big"));
    }
}

#[test]
fn defaults_are_taken_whole_and_inherit_selects_them() {
    check(
        "default: {tags: [d], interruptible: true}\nvariables: {A: 1, B: 2}\na: {script: x}\nb: {script: x, tags: [own]}\nc: {script: x, inherit: {default: false, variables: [B]}}\nd: {script: x, inherit: {default: [image], variables: false}}",
        "test/a tags=d A=1,B=2\ntest/b tags=own A=1,B=2\ntest/c B=2\ntest/d",
    );
    check_error(
        "default: {stage: x}\na: {script: x}",
        "1:11: default config contains unknown keys: stage",
    );
    check_error(
        "image: a\ndefault: {image: b}\na: {script: x}",
        "1:1: image is defined in top-level and `default:` entry",
    );
    check_error(
        "default: {before_script: [{a: b}]}\na: {script: x}\nb: {script: x}",
        "1:27: default:before_script config should be a string or a nested array of strings up to 10 levels deep",
    );
}

#[test]
fn the_first_rule_that_holds_decides() {
    check(
        "a:\n  script: x\n  rules:\n    - {if: $NOPE}\n    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH\n      when: manual\n      variables: {V: r}\n    - when: always",
        "test/a manual V=r",
    );
    check(
        "a: {script: x, rules: [{if: $NOPE}]}\nb: {script: x, rules: [{when: never}]}\nc: {script: x, when: manual, rules: [{if: $CI_COMMIT_BRANCH}]}\nd: {script: x, rules: [[{when: on_failure, allow_failure: true}]]}",
        "test/c manual allow_failure=true\ntest/d on_failure allow_failure=true",
    );
    check(
        "a: {script: x, when: manual}",
        "test/a manual allow_failure=true",
    );
    check_error(
        "a: {script: x, rules: [{if: '$A =='}]}",
        "1:29: jobs:a:rules:rule if invalid expression syntax",
    );
    check_error(
        "a: {script: x, only: [main], rules: [{when: always}]}",
        "1:16: jobs:a config key may not be used with `rules`: only",
    );
    check_error(
        "a: {script: x, rules: [{when: delayed}]}",
        "1:24: jobs:a:rules:rule start in can't be blank",
    );
    check_error(
        "a: {script: x, rules: [{foo: 1}]}",
        "1:25: jobs:a:rules:rule config contains unknown keys: foo",
    );
}

#[test]
fn changes_and_exists_look_at_the_files() {
    let root = "a: {script: x, rules: [{changes: ['src/**/*.rs']}]}\nb: {script: x, rules: [{exists: [docs/]}]}\nc: {script: x, rules: [{exists: ['*.lock', nope]}]}\nd: {script: x}";
    let files = tree(root, &[("docs/index.md", ""), ("src/a/b.rs", "")]);
    let mut event = push_to_main();
    assert_eq!(outcome(&files, &event), "test/a\ntest/b\ntest/d");
    event.changed_files = ChangedFiles::Known(vec!["docs/index.md".to_owned()]);
    assert_eq!(outcome(&files, &event), "test/b\ntest/d");
    event.changed_files = ChangedFiles::Known(vec!["src/x.rs".to_owned()]);
    assert_eq!(outcome(&files, &event), "test/a\ntest/b\ntest/d");
}

#[test]
fn only_and_except_follow_their_defaults() {
    let root = "plain: {script: x}\nmr: {script: x, only: [merge_requests]}\npattern: {script: x, only: [/^ma/]}\nexcepted: {script: x, except: [main]}\nvariable: {script: x, only: {variables: [$NOPE]}}\ntagged: {script: x, only: [tags]}";
    check(root, "test/plain\ntest/pattern");
    let mut event = push_to_main();
    event.tag = true;
    event.ref_name = "v1".to_owned();
    assert_eq!(
        outcome(&tree(root, &[]), &event),
        "test/plain\ntest/excepted\ntest/tagged"
    );
    event.tag = false;
    event.source = "merge_request_event".to_owned();
    assert_eq!(outcome(&tree(root, &[]), &event), "test/mr");
    check_error(
        "a: {script: x, only: main}",
        "1:22: jobs:a:only has to be either an array of conditions or a hash",
    );
}

#[test]
fn workflow_rules_decide_and_lay_variables_over_the_globals() {
    check(
        "workflow: {rules: [{if: $NOPE}, {if: $CI_COMMIT_BRANCH, variables: {A: w, N: n}}]}\nvariables: {A: g}\na: {script: x, variables: {N: j}}",
        "test/a A=w,N=j",
    );
    check(
        "workflow: {rules: [{if: $NOPE}]}\na: {script: x}",
        "no pipeline",
    );
    check_error(
        "workflow: {rules: [{when: manual}]}\na: {script: x}",
        "1:27: workflow:rules:rule when unknown value: manual",
    );
    check_error(
        "a: {script: x, rules: [{when: never}]}",
        "1:1: The resulting pipeline would have been empty. Review the rules configuration for the relevant jobs.",
    );
}

#[test]
fn variables_win_in_gitlabs_order() {
    let root = "variables: {V: global}\na: {script: x, variables: {V: job}, parallel: {matrix: [{V: m}]}, tags: [$V], rules: [{if: '$V == \"m\"', variables: {V: rule}}]}";
    check(root, "test/a: [m] tags=rule V=rule");
    let mut event = push_to_main();
    event.pipeline_variables = vec![("V".to_owned(), "m".to_owned())];
    assert_eq!(
        outcome(&tree(root, &[]), &event),
        "test/a: [m] tags=m V=rule"
    );
    check(
        "variables: {T: true, F: 1.10, N: , O: 010}\na: {script: x}",
        "test/a T=true,F=1.1,N=,O=8",
    );
    check_error(
        "variables: {FOO: [a]}\na: {script: x}",
        "1:18: variables:foo config variable definition must be either a string or a hash",
    );
    check_error(
        "a: {script: x, variables: {A: {value: x, description: d}}}",
        "1:28: jobs:a:variables:a config uses invalid data keys: description",
    );
    check_error(
        "a: {script: x, variables: {A: $B, B: $A}}",
        "1:1: a: circular variable reference detected: [\"A\", \"B\"]",
    );
}

#[test]
fn matrix_expressions_of_needs_take_the_values_of_the_needing_instance() {
    let builds = "a: {script: x, parallel: {matrix: [{T: [b-l-1, b-w-1]}]}}\nc-l: {script: x}\nc-w: {script: x}\n";
    let of_builds = "test/a: [b-l-1] T=b-l-1\ntest/a: [b-w-1] T=b-w-1\ntest/c-l\ntest/c-w\n";
    let check = |needs: &str, expected: &str| {
        let root = format!(
            "{builds}j: {{script: x, parallel: {{matrix: [{{O: [l, w], MY-V: 1}}]}}, needs: [{needs}]}}"
        );
        check(&root, &format!("{of_builds}{expected}"));
    };
    let instance = |of: &str, need: &str| format!("test/j: [{of}, 1] needs={need} O={of},MY-V=1");
    let both = |l: &str, w: &str| format!("{}\n{}", instance("l", l), instance("w", w));
    check(
        "{job: a, parallel: {matrix: [{T: 'b-$[[matrix.O]]-$[[ matrix.MY-V  ]]'}]}}",
        &both("a: [b-l-1]", "a: [b-w-1]"),
    );
    check("'c-$[[ matrix.O ]]'", &both("c-l", "c-w"));
    // A combination asked of a job that is not parallel means the job.
    check(
        "{job: c-l, parallel: {matrix: [{T: x}]}}",
        &both("c-l", "c-l"),
    );
    for (root, expected) in [
        (
            "a: {script: x}\nj: {script: x, parallel: {matrix: [{O: [l, w]}]}, needs: [{job: a, parallel: {matrix: [{T: '$[[ matrix.NO ]]'}]}}]}",
            "2:59: j job: 'NO' does not exist in matrix configuration",
        ),
        (
            "a: {script: x, parallel: {matrix: [{O: l}]}}\nj: {script: x, needs: [{job: a, parallel: {matrix: [{O: '$[[ matrix.O ]]'}]}}]}",
            "2:24: j job: undefined need: a: [$[[ matrix.O ]]]",
        ),
        (
            "a: {script: x, parallel: {matrix: [{O: l, P: [m, n]}]}}\nj: {script: x, needs: [{job: a, parallel: {matrix: [{O: l}]}}]}",
            "2:24: j job: undefined need: a: [l]",
        ),
        (
            "a: {script: x, parallel: 2}\nj: {script: x, needs: [{job: a, parallel: {matrix: [{O: l}]}}]}",
            "2:24: j job: undefined need: a: [l]",
        ),
    ] {
        check_error(root, expected);
    }
}

#[test]
fn needs_resolve_to_the_jobs_that_are_there() {
    check(
        "a: {script: x, parallel: 2}\nb: {script: x, needs: [a]}\nc: {script: x, needs: ['a 1/2', {job: gone, optional: true}]}\nd: {script: x, needs: []}",
        "test/a 1/2\ntest/a 2/2\ntest/b needs=a 1/2+a 2/2\ntest/c needs=a 1/2\ntest/d needs=",
    );
    check(
        "a: {script: x, parallel: {matrix: [{O: [l, w], V: [1, 2]}]}}\nb: {script: x, parallel: {matrix: [{O: [l, w]}]}, needs: [{job: a, parallel: {matrix: [{O: ['$[[ matrix.O ]]'], V: 1}]}}]}",
        "test/a: [l, 1] O=l,V=1\ntest/a: [l, 2] O=l,V=2\ntest/a: [w, 1] O=w,V=1\ntest/a: [w, 2] O=w,V=2\ntest/b: [l] needs=a: [l, 1] O=l\ntest/b: [w] needs=a: [w, 1] O=w",
    );
    for (root, expected) in [
        (
            "a: {script: x, needs: [b]}",
            "1:24: a job: undefined need: b",
        ),
        (
            "stages: [s, t]\na: {stage: s, script: x, needs: [b]}\nb: {stage: t, script: x}",
            "2:34: a job: need b is not defined in current or prior stages",
        ),
        (
            "a: {script: x}\nb: {script: x, needs: [a, a]}",
            "2:27: b has the following needs duplicated: a.",
        ),
        (
            "a: {script: x, needs: [a]}",
            "1:1: The pipeline has circular dependencies: self-dependency: a",
        ),
        (
            "a: {script: x, needs: [b]}\nb: {script: x, needs: [a]}",
            "1:1: The pipeline has circular dependencies: topological sort failed: [\"a\", \"b\"]",
        ),
        (
            "a: {script: x, rules: [{when: never}]}\nb: {script: x, needs: [a]}",
            "2:24: 'b' job needs 'a' job, but 'a' does not exist in the pipeline. This might be because of the only, except, or rules keywords. To need a job that sometimes does not exist in the pipeline, use needs:optional.",
        ),
        (
            "a: {script: x, needs: x}",
            "1:23: jobs:a:needs config can only be a hash or an array",
        ),
        (
            "a: {script: x, needs: [1]}",
            "1:24: jobs:a:needs:need has an unsupported type",
        ),
        (
            "a: {script: x, dependencies: [b]}",
            "1:31: a job: undefined dependency: b",
        ),
        (
            "a: {script: x}\nb: {script: x}\nc: {script: x, needs: [a], dependencies: [b]}",
            "3:43: jobs:c dependencies the b should be part of needs",
        ),
    ] {
        check_error(root, expected);
    }
}

#[test]
fn parallel_has_its_limits() {
    for (parallel, expected) in [
        ("0", "must be greater than or equal to 1"),
        ("201", "must be less than or equal to 200"),
    ] {
        check_error(
            &format!("a: {{script: x, parallel: {parallel}}}"),
            &format!("1:26: jobs:a:parallel config {expected}"),
        );
    }
    check_error(
        "a: {script: x, parallel: {matrix: [{A: [1.5]}]}}",
        "1:40: jobs:a:parallel:matrix:variables config should be a hash of key value pairs, value can be an array",
    );
    let many: Vec<String> = (0..15).map(|at| at.to_string()).collect();
    let values = many.join(", ");
    check_error(
        &format!("a: {{script: x, parallel: {{matrix: [{{A: [{values}], B: [{values}]}}]}}}}"),
        "1:35: jobs:a:parallel:matrix config generates too many jobs (maximum is 200)",
    );
    check("a: {script: x, parallel: 1}", "test/a 1/1");
}

#[test]
fn shapes_are_checked_with_gitlabs_words() {
    for (root, expected) in [
        ("", "1:1: Please provide content of .gitlab-ci.yml"),
        ("[a]", "1:1: Invalid configuration format"),
        (
            ".a: {script: x}",
            "1:1: jobs config should contain at least one visible job",
        ),
        (
            "vairables: {A: b}\na: {script: x}",
            "1:1: jobs vairables config should implement the script:, run:, or trigger: keyword",
        ),
        ("on: {script: x}", "1:1: jobs:true name should be a symbol"),
        (
            "a: {script: x, foo: 1, bar: 2}",
            "1:16: jobs:a config contains unknown keys: foo, bar",
        ),
        ("a: {script: []}", "1:5: jobs:a script can't be blank"),
        (
            "a: {script: [{b: c}]}",
            "1:14: jobs:a:script config should be a string or a nested array of strings up to 10 levels deep",
        ),
        (
            "a: {script: x, stage: nope}",
            "1:23: a job: chosen stage nope does not exist; available stages are .pre, build, test, deploy, .post",
        ),
        (
            "a: {script: x, when: never}",
            "1:22: jobs:a when should be one of: on_success, on_failure, always, manual, delayed",
        ),
        (
            "a: {script: x, timeout: 60}",
            "1:25: jobs:a timeout should be a duration",
        ),
        (
            "a: {script: x, timeout: 2 months}",
            "1:25: jobs:a timeout should not exceed the limit",
        ),
        (
            "a: {script: x, retry: 3}",
            "1:23: retry config must be less than or equal to 2",
        ),
        (
            "a: {script: x, tags: x}",
            "1:22: jobs:a:tags config should be an array of strings",
        ),
        (
            "a: {script: x, allow_failure: {exit_codes: x}}",
            "1:44: jobs:a:allow_failure exit codes should be an array of integers or an integer",
        ),
        (
            "a: {script: x, image: {entrypoint: ['']}}",
            "1:23: jobs:a:image name can't be blank",
        ),
        (
            "a: {script: x, services: x}",
            "1:26: jobs:a:services config should be an array",
        ),
        (
            "a: {script: x, cache: {key: a/b}}",
            "1:29: jobs:a:cache:key config cannot contain the \"/\" character",
        ),
        (
            "a: {script: x, artifacts: {path: [x]}}",
            "1:28: jobs:a:artifacts config contains unknown keys: path",
        ),
        (
            "a: {script: x, artifacts: {reports: {foo: x}}}",
            "1:38: jobs:a:artifacts:reports config contains unknown keys: foo",
        ),
        (
            "a: {script: x, coverage: abc}",
            "1:26: jobs:a:coverage config must be a regular expression with re2 syntax",
        ),
        (
            "a: {script: x, environment: {url: x}}",
            "1:29: jobs:a:environment name can't be blank",
        ),
        (
            "a: {script: x, id_tokens: {T: {}}}",
            "1:28: jobs:a:id_tokens:T config missing required keys: aud",
        ),
        (
            "a: {script: x, start_in: 1 day}",
            "1:16: jobs:a start in must be blank",
        ),
        (
            "a: {script: x, trigger: p}",
            "1:16: jobs:a config these keys cannot be used together: script, trigger",
        ),
        (
            "a: {needs: [b], tags: [x]}\nb: {script: x}",
            "1:17: jobs:a config contains unknown keys: tags",
        ),
        (
            "a: {script: x, publish: d}",
            "1:16: jobs:a publish can only be used within a `pages` job",
        ),
        (
            "a: {script: x, inherit: {default: [script]}}",
            "1:35: jobs:a:inherit:default config contains unknown values: script",
        ),
        (
            "a: {script: x, release: {tag_name: v}}",
            "1:25: jobs:a:release description can't be blank",
        ),
        (
            "a:\n  script: x\n   bad: y",
            "3:7: invalid YAML: mapping values are not allowed in this context",
        ),
    ] {
        check_error(root, expected);
    }
}

#[test]
fn shape_errors_are_reported_together() {
    check(
        "a: {script: x, foo: 1}\nb: {script: x, when: soon}",
        ".gitlab-ci.yml:1:16: jobs:a config contains unknown keys: foo\n.gitlab-ci.yml:2:22: jobs:b when should be one of: on_success, on_failure, always, manual, delayed",
    );
}

#[test]
fn keywords_without_effect_here_are_named_once_with_their_place() {
    let files = tree(
        "a: {script: x, identity: google_cloud, dast_configuration: {site_profile: x}}\nb: {script: x, identity: google_cloud}\nc: {trigger: g/p, resource_group: r}",
        &[],
    );
    let pipeline = evaluate(".gitlab-ci.yml", &files, &push_to_main());
    let noted: Vec<_> = pipeline
        .iter()
        .flat_map(|pipeline| &pipeline.not_run_here)
        .map(|problem| (problem.line, problem.column, problem.message.as_str()))
        .collect();
    assert_eq!(
        noted,
        [
            (
                1,
                16,
                "`identity` has no effect here: no cloud identity is federated"
            ),
            (
                1,
                40,
                "`dast_configuration` has no effect here: no scan is configured"
            ),
        ]
    );
}

#[test]
fn lint_warns_and_judges_without_an_event() {
    let found = lint(
        ".gitlab-ci.yml",
        &tree(
            "a: {script: x}\nb: !odd {script: x}\na: {script: y, rules: [{if: $NOPE}]}",
            &[],
        ),
        &push_to_main(),
    );
    assert!(found.valid);
    let lines: Vec<usize> = found.warnings.iter().map(|warning| warning.line).collect();
    assert_eq!(lines, [2, 3]);
    let found = lint(
        ".gitlab-ci.yml",
        &tree("a: {scrip: x}", &[]),
        &push_to_main(),
    );
    assert!(!found.valid);
    assert_eq!(found.errors[0].source_line, "a: {scrip: x}");
}

#[test]
fn list_json_has_the_documented_fields_with_defaults_filled_in() {
    let root = "a:\n  script: [x]\n  image: alpine\n  cache: {paths: [p]}\n  artifacts: {paths: [out], expire_in: 1 week}\n  retry: 1\n  timeout: 1h\n";
    let pipeline = evaluate(".gitlab-ci.yml", &tree(root, &[]), &push_to_main());
    let json = serde_json::to_value(pipeline.ok()).unwrap_or_default();
    let job = &json["jobs"][0];
    for (field, expected) in [
        ("name", r#""a""#),
        ("needs", "null"),
        ("allow_failure", "false"),
        ("image", r#"{"name":"alpine"}"#),
        (
            "cache",
            r#"[{"fallback_keys":[],"key":"default","paths":["p"],"policy":"pull-push","unprotect":false,"untracked":false,"when":"on_success"}]"#,
        ),
        (
            "artifacts",
            r#"{"exclude":[],"expire_in":"1 week","paths":["out"],"reports":{},"untracked":false,"when":"on_success"}"#,
        ),
        ("retry", r#"{"max":1,"when":["always"]}"#),
        ("timeout", "3600"),
        ("rules_matched", "null"),
        ("script", r#"["x"]"#),
        ("variables", "{}"),
    ] {
        assert_eq!(job[field].to_string(), expected, "{field}");
    }
    assert_eq!(
        json["workflow"].to_string(),
        r#"{"auto_cancel":null,"created":true,"name":null,"variables":{}}"#
    );
}

#[test]
fn show_keeps_hidden_entries_and_drops_include() {
    let files = tree(
        "include: a.yml\n.h: {script: [x]}\nj: {extends: .h, tags: !reference [.i, tags]}",
        &[("a.yml", ".i: {tags: [t]}")],
    );
    let tree = merge(".gitlab-ci.yml", &files, &push_to_main());
    assert_eq!(
        tree.map(|tree| tree.to_yaml()).unwrap_or_default(),
        "'.i':\n  tags:\n  - t\n.h:\n  script:\n  - x\nj:\n  script:\n  - x\n  extends: .h\n  tags:\n  - t\n".replace("'.i'", ".i")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Pieces of real files in any order: an answer or an error, never a panic.
    #[test]
    fn any_configuration_gets_an_answer(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "a:\n", "b:\n", ".c:\n", "default:\n", "variables:\n", "workflow:\n", "stages: [x, test]\n",
                "  script: x\n", "  script: [!reference [.c, script]]\n", "  extends: .c\n", "  extends: [a, b]\n",
                "  needs: [a]\n", "  needs: [{job: b, optional: true}]\n", "  needs: {pipeline: x, job: y}\n",
                "  rules: [{if: $A}, {when: manual}]\n", "  rules: x\n", "  parallel: 3\n",
                "  parallel: {matrix: [{A: [1, 2]}]}\n", "  cache: [{key: {files: [x]}}]\n", "  image: {}\n",
                "  artifacts: {reports: {junit: x}}\n", "  only: [/x/, tags]\n", "  except: {changes: ['*']}\n",
                "  when: delayed\n", "  start_in: 1 h\n", "  trigger: {include: x.yml}\n", "  stage: x\n",
                "  environment: {name: e, on_stop: a}\n", "  inherit: {default: false}\n", "  variables: {A: $A}\n",
                "  <<: {script: y}\n", "include: x.yml\n", "  pages: true\n", "  run: [{name: x, script: y}]\n",
                "  retry: {max: 1, when: [x]}\n", "  timeout: soon\n", "  ~: ~\n", "  1: 2\n", "spec: {inputs: {a: }}\n---\n",
            ]),
            0..14,
        )
    ) {
        let files = tree(&pieces.concat(), &[("x.yml", ".c: {script: z}")]);
        if let Err(found) = evaluate(".gitlab-ci.yml", &files, &push_to_main()) {
            let problems = found.errors;
            prop_assert!(!problems.is_empty());
            prop_assert!(problems.iter().all(|problem| problem.line >= 1 && !problem.message.is_empty()));
        }
        drop(merge(".gitlab-ci.yml", &files, &push_to_main()));
    }
}
