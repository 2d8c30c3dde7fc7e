//! Every limit of `gitlab-ci-yaml.md` 20 at its edge, and every text of 21.

use crate::world::{check_error, outcome, push_to_main, tree};

/// The first error of a file, or `valid`; a text that ends in `…` is only the beginning.
fn first_error(text: &str) -> String {
    let shown = outcome(&tree(text, &[]), &push_to_main());
    let first = shown.lines().next().unwrap_or_default();
    match first.strip_prefix(".gitlab-ci.yml:") {
        Some(error) => error
            .split_once(": ")
            .map_or(error, |(_, text)| text)
            .to_owned(),
        None => "valid".to_owned(),
    }
}

fn table(cases: &[(String, &str)]) {
    let mut wrong = String::new();
    for (text, expected) in cases {
        let actual = first_error(text);
        if actual != *expected {
            let shown: String = text.chars().take(200).collect();
            wrong.push_str(
                &[
                    "\n--- ",
                    &shown,
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

fn list(count: usize, item: impl Fn(usize) -> String) -> String {
    let items: Vec<String> = (1..=count).map(item).collect();
    items.join(", ")
}

#[test]
fn limits_hold_at_their_edge() {
    let nested = |levels: usize| format!("{}x{}", "[".repeat(levels), "]".repeat(levels));
    let tags = |count| {
        format!(
            "j: {{script: x, tags: [{}]}}",
            list(count, |at| format!("t{at}"))
        )
    };
    let paths = |key: &str, count| {
        let paths = list(count, |at| format!("f{at}"));
        format!(
            "j: {{script: x, rules: [{{{key}: [{paths}]}}, {{when: always}}]}}\nw: {{script: x}}"
        )
    };
    let tokens = |count: usize| {
        let condition = vec!["$A"; count].join(" || ");
        format!("j: {{script: x, rules: [{{if: '{condition}'}}, {{when: always}}]}}")
    };
    let inputs = |count| {
        let inputs = list(count, |at| format!("i{at}: {{default: x}}"));
        format!("j: {{script: x, inputs: {{{inputs}}}}}")
    };
    let functions = |count: usize| {
        let functions = " | truncate(0,1)".repeat(count);
        format!(
            "spec: {{inputs: {{a: {{default: x}}}}}}\n---\nj: {{script: '$[[ inputs.a{functions} ]]'}}"
        )
    };
    let blocks = |count: usize| {
        let text = "$[[inputs.a]]".repeat(count);
        format!("spec: {{inputs: {{a: {{default: x}}}}}}\n---\nj: {{script: '{text}'}}")
    };
    let options = |count| {
        let options = list(count, |at| format!("o{at}"));
        format!(
            "spec: {{inputs: {{a: {{default: o1, options: [{options}]}}}}}}\n---\nj: {{script: x}}"
        )
    };
    let caches = |count| {
        format!(
            "j: {{script: x, cache: [{}]}}",
            list(count, |_| "{}".to_owned())
        )
    };
    let fallback = |count| {
        let keys = list(count, |at| format!("k{at}"));
        format!("j: {{script: x, cache: {{fallback_keys: [{keys}]}}}}")
    };
    let cross = |count| {
        let needs = list(count, |at| format!("{{pipeline: $P, job: j{at}}}"));
        format!("j: {{script: x, needs: [{needs}]}}")
    };
    let child = |count| {
        let files = list(count, |at| format!("f{at}.yml"));
        format!("j: {{trigger: {{include: [{files}]}}}}")
    };
    let exposed = |count: usize| {
        let name = "n".repeat(count);
        format!("j: {{script: x, artifacts: {{expose_as: {name}, paths: [a]}}}}")
    };
    let named = |count: usize| format!("{}: {{script: x}}", "n".repeat(count));
    let workflow = |count: usize| {
        format!(
            "workflow: {{name: {}}}\nj: {{script: x}}",
            "n".repeat(count)
        )
    };
    let url = |count: usize| {
        format!(
            "j: {{script: x, environment: {{name: e, url: {}}}}}",
            "u".repeat(count)
        )
    };
    let parallel = |count: usize| format!("j: {{script: x, parallel: {count}}}");
    let matrix = |count| {
        let values = list(count, |at| at.to_string());
        format!("j: {{script: x, parallel: {{matrix: [{{A: [{values}]}}]}}}}")
    };
    let delayed = |time: &str| format!("j: {{script: x, when: delayed, start_in: {time}}}");
    let timeout = |time: &str| format!("j: {{script: x, timeout: {time}}}");
    let retry = |max: usize| format!("j: {{script: x, retry: {max}}}");
    let long_name = format!(
        "jobs:{} name is too long (maximum is 255 characters)",
        "n".repeat(256)
    );
    let long_name = long_name.as_str();
    let valid = "valid";
    table(&[
        (named(255), valid),
        (named(256), long_name),
        (workflow(255), valid),
        (
            workflow(256),
            "workflow name is too long (maximum is 255 characters)",
        ),
        (url(255), valid),
        (
            url(256),
            "jobs:j:environment url is too long (maximum is 255 characters)",
        ),
        (format!("j: {{script: {}}}", nested(11)), valid),
        (
            format!("j: {{script: {}}}", nested(12)),
            "jobs:j:script config should be a string or a nested array of strings up to 10 levels deep",
        ),
        (
            format!("stages: {}\nj: {{script: x, stage: x}}", nested(11)),
            valid,
        ),
        (
            format!("stages: {}\nj: {{script: x, stage: x}}", nested(12)),
            "stages config should be an array of strings or a nested array of strings up to 10 levels deep",
        ),
        (parallel(200), valid),
        (
            parallel(201),
            "jobs:j:parallel config must be less than or equal to 200",
        ),
        (
            parallel(0),
            "jobs:j:parallel config must be greater than or equal to 1",
        ),
        (matrix(200), valid),
        (
            matrix(201),
            "jobs:j:parallel:matrix config generates too many jobs (maximum is 200)",
        ),
        (cross(5), valid),
        (
            cross(6),
            "jobs:j:needs config must be less than or equal to 5",
        ),
        (paths("changes", 50), valid),
        (
            paths("changes", 51),
            "jobs:j:rules:rule:changes config has too many entries (maximum 50)",
        ),
        (paths("exists", 50), valid),
        (
            paths("exists", 51),
            "jobs:j:rules:rule:exists config has too many entries (maximum 50)",
        ),
        (tokens(50), valid),
        (tokens(51), "jobs:j:rules:rule if invalid expression syntax"),
        (caches(4), valid),
        (
            caches(5),
            "jobs:j:cache config no more than 4 caches can be created",
        ),
        (fallback(5), valid),
        (
            fallback(6),
            "jobs:j:cache:fallback_keys config has to many entries (maximum 5)",
        ),
        (tags(49), valid),
        (
            tags(50),
            "jobs:j:tags config must be less than the limit of 50 tags",
        ),
        (retry(2), valid),
        (retry(3), "retry config must be less than or equal to 2"),
        (delayed("1 week"), valid),
        (
            delayed("169 hours"),
            "jobs:j start in should not exceed the limit",
        ),
        (timeout("30 days"), valid),
        (
            timeout("31 days"),
            "jobs:j timeout should not exceed the limit",
        ),
        (options(50), valid),
        (
            options(51),
            "header:spec:inputs:a options has too many entries (maximum 50)",
        ),
        (inputs(50), valid),
        (
            inputs(51),
            "jobs:j:inputs config has too many entries (maximum 50)",
        ),
        (functions(3), valid),
        (functions(4), "too many functions in interpolation block"),
        (blocks(10_000), valid),
        (blocks(10_001), "too many interpolation blocks"),
        (child(3), valid),
        (
            child(4),
            "jobs:j:trigger:include config is too long (maximum is 3)",
        ),
        (exposed(100), valid),
        (
            exposed(101),
            "jobs:j:artifacts expose as is too long (maximum is 100 characters)",
        ),
        (
            format!(".x: {}{}\nj: {{script: x}}", "[".repeat(98), "]".repeat(98)),
            valid,
        ),
        (
            format!(
                ".x: {}{}\nj: {{script: x}}",
                "[".repeat(101),
                "]".repeat(101)
            ),
            "The parsed YAML is too big",
        ),
        (
            format!("j: {{script: x}}\n# {}", "x".repeat(2 * 1024 * 1024)),
            "The provided YAML is too big",
        ),
    ]);
}

#[test]
fn comparisons_beyond_fifty_thousand_count_as_a_match() {
    let files: Vec<String> = (0..1001).map(|at| format!("f{at}.txt")).collect();
    let others: Vec<(&str, &str)> = files.iter().map(|name| (name.as_str(), "x")).collect();
    let job = |globs: usize| {
        let globs = list(globs, |at| format!("'*.none{at}'"));
        format!("j: {{script: x, rules: [{{exists: [{globs}]}}]}}\nw: {{script: x}}")
    };
    // With the file itself there are 1,002 files.
    assert_eq!(outcome(&tree(&job(49), &others), &push_to_main()), "test/w");
    assert_eq!(
        outcome(&tree(&job(50), &others), &push_to_main()),
        "test/j\ntest/w"
    );
}

#[test]
fn texts_are_gitlabs() {
    let case = |text: &str| format!("j: {{script: x, {text}}}");
    table(&[
        (
            case("foo: 1, bar: 2"),
            "jobs:j config contains unknown keys: foo, bar",
        ),
        (
            case("id_tokens: {T: {}}"),
            "jobs:j:id_tokens:T config missing required keys: aud",
        ),
        (
            case("rules: [{when: always, start_in: 1h}]"),
            "jobs:j:rules:rule config contains disallowed keys: start_in",
        ),
        (
            case("run: [{name: a, script: b}]"),
            "jobs:j config these keys cannot be used together: script, run",
        ),
        (
            case("trigger: p"),
            "jobs:j config these keys cannot be used together: script, trigger",
        ),
        (
            case("cache: {key: {prefix: a}}"),
            "jobs:j:cache:key config must use exactly one of these keys: files, files_commits",
        ),
        ("j: {script: ''}".to_owned(), "jobs:j script can't be blank"),
        (case("start_in: 1h"), "jobs:j start in must be blank"),
        (
            case("resource_group: [a]"),
            "jobs:j resource group should be a string",
        ),
        (case("inherit: x"), "jobs:j:inherit config should be a hash"),
        (
            case("services: x"),
            "jobs:j:services config should be an array",
        ),
        (
            case("interruptible: x"),
            "jobs:j interruptible should be a boolean value",
        ),
        (
            case("image: [x]"),
            "jobs:j:image config should be a hash or a string",
        ),
        (
            case("allow_failure: x"),
            "jobs:j allow failure should be a hash or a boolean value",
        ),
        (
            case("tags: x"),
            "jobs:j:tags config should be an array of strings",
        ),
        (
            case("artifacts: {reports: {junit: {a: b}}}"),
            "jobs:j:artifacts:reports junit should be an array of strings or a string",
        ),
        (
            case("run: x").replace("script: x, ", ""),
            "jobs:j:run config should be an array of hashes",
        ),
        (
            case("allow_failure: {exit_codes: x}"),
            "jobs:j:allow_failure exit codes should be an array of integers or an integer",
        ),
        (
            case("variables: x"),
            "jobs:j:variables config should be a hash of key value pairs",
        ),
        (
            case("parallel: 1.5"),
            "jobs:j:parallel config must be an integer",
        ),
        (
            case("parallel: 0"),
            "jobs:j:parallel config must be greater than or equal to 1",
        ),
        (
            case("parallel: 201"),
            "jobs:j:parallel config must be less than or equal to 200",
        ),
        (
            case("when: never"),
            "jobs:j when should be one of: on_success, on_failure, always, manual, delayed",
        ),
        (
            case("rules: [{when: x}]"),
            "jobs:j:rules:rule when unknown value: x",
        ),
        (
            case("inherit: {default: [script]}"),
            "jobs:j:inherit:default config contains unknown values: script",
        ),
        (
            case("retry: {when: odd}"),
            "retry when is not included in the list",
        ),
        (case("timeout: soon"), "jobs:j timeout should be a duration"),
        (
            case("timeout: 2 months"),
            "jobs:j timeout should not exceed the limit",
        ),
        (
            case("coverage: '/(/'"),
            "jobs:j:coverage config must be a regular expression with re2 syntax",
        ),
        (
            case("rules: [{if: '${A}'}]"),
            "jobs:j:rules:rule if invalid expression syntax",
        ),
        (
            case("only: {variables: ['${A}']}"),
            "jobs:j:only variables invalid expression syntax",
        ),
        (
            "variables: {FOO: [a]}\nj: {script: x}".to_owned(),
            "variables:foo config variable definition must be either a string or a hash",
        ),
        (
            "default: {before_script: [1]}\nj: {script: x}".to_owned(),
            "default:before_script config should be a string or a nested array of strings up to 10 levels deep",
        ),
        (
            "workflow: {rules: [{when: manual}]}\nj: {script: x}".to_owned(),
            "workflow:rules:rule when unknown value: manual",
        ),
        (
            "spec: {inputs: {a: {foo: 1}}}\n---\nj: {script: x}".to_owned(),
            "header:spec:inputs:a config contains unknown keys: foo",
        ),
    ]);
}

#[test]
fn shapes_of_keywords_that_others_run() {
    let case = |text: &str| format!("j: {{script: x, {text}}}");
    let run = |text: &str| format!("j: {{run: [{{name: a, {text}}}]}}");
    table(&[
        (
            "spec: {script: x}\nj: {script: x}".to_owned(),
            "jobs:spec name is reserved",
        ),
        (run("step: {git: {url: u, rev: v}}"), "valid"),
        (
            run("func: {oci: {registry: r, repository: p, tag: t, dir: d}}"),
            "valid",
        ),
        (
            run("step: {git: {url: u}}"),
            "jobs:j:run:step:git config missing required keys: rev",
        ),
        (
            run("step: {}"),
            "jobs:j:run:step config must use exactly one of these keys: git, oci",
        ),
        (
            run("step: [a]"),
            "jobs:j:run:step config should be a hash or a string",
        ),
        (
            run("step: s, env: x"),
            "jobs:j:run:env config should be a hash of key value pairs",
        ),
        (
            run("step: s, inputs: x"),
            "jobs:j:run:inputs config should be a hash",
        ),
        (case("inputs: {a: {default: 1, type: number}}"), "valid"),
        (
            case("inputs: {a: {default: x, type: number}}"),
            "`a` input: default value is not a number",
        ),
        (
            case("inputs: {a: {default: x, rules: []}}"),
            "jobs:j:inputs:a config contains unknown keys: rules",
        ),
        (
            case("environment: {name: e, kubernetes: {agent: [a]}}"),
            "jobs:j:environment:kubernetes agent should be a string",
        ),
        (
            case("environment: {name: e, kubernetes: {dashboard: {x: y}}}"),
            "jobs:j:environment:kubernetes:dashboard config contains unknown keys: x",
        ),
        (
            case("environment: {name: e, kubernetes: {managed_resources: {enabled: 1}}}"),
            "jobs:j:environment:kubernetes:managed_resources enabled should be a boolean value",
        ),
        (
            case("dast_configuration: {site_profile: [a]}"),
            "jobs:j:dast_configuration site profile should be a string",
        ),
        (
            "j: {trigger: {project: p, inputs: x}}".to_owned(),
            "jobs:j:trigger:inputs config should be a hash",
        ),
        (
            "j: {trigger: {include: {local: a.yml, remote: b}}}".to_owned(),
            "jobs:j:trigger:include config must use exactly one of these keys: local, remote, template, artifact, project, component",
        ),
    ]);
    check_error(
        "a: {script: x, identity: aws}",
        "1:26: jobs:a:identity config should be one of: google_cloud",
    );
}

#[test]
fn functions_of_interpolation_have_their_edges() {
    let value = |value: &str, functions: &str| {
        format!(
            "spec: {{inputs: {{a: {{default: {value}}}}}}}\n---\n'j$[[ inputs.a | {functions} ]]': {{script: x}}"
        )
    };
    let listed = |text: &str| outcome(&tree(text, &[]), &push_to_main());
    for (text, expected) in [
        (value("abc", "truncate(1,9)"), "test/jbc"),
        (value("abc", "truncate(9,1)"), "test/j"),
        (value("\"a'b\"", "posix_quote"), "test/j'a'\\''b'"),
        (
            value("'$CI_COMMIT_BRANCH'", "expand_vars | truncate(0,2)"),
            "test/jma",
        ),
        (value("'a|b'", "split(\"|\")"), "test/j[\"a\", \"b\"]"),
    ] {
        assert_eq!(listed(&text), expected, "{text}");
    }
    let wrong = |function: &str| {
        format!(
            "no function matching `{function}`: check that the function name, arguments, and types are correct"
        )
    };
    for function in [
        "upcase",
        "truncate(1)",
        "truncate(a,b)",
        "split(\"\")",
        "expand_vars(1)",
    ] {
        assert_eq!(
            first_error(&value("x", function)),
            wrong(function),
            "{function}"
        );
    }
    let mut event = push_to_main();
    event.pipeline_variables = vec![
        ("TOKEN".to_owned(), "s3cr3t".to_owned()),
        ("AROUND".to_owned(), "<$TOKEN>".to_owned()),
    ];
    event.secret_variables = ["TOKEN".to_owned()].into();
    for name in ["$TOKEN", "$AROUND"] {
        let shown = outcome(
            &tree(&value(&format!("'{name}'"), "expand_vars"), &[]),
            &event,
        );
        assert!(
            shown.ends_with("variable expansion error: masked variables cannot be expanded"),
            "{shown}"
        );
    }
}

#[test]
fn what_interpolation_makes_is_bounded_wherever_it_is_put() {
    let input = |default: &str, content: String| {
        format!("spec: {{inputs: {{a: {{default: {default}, type: TYPE}}}}}}\n---\n{content}")
    };
    let text = |size: usize| input(&"x".repeat(size), String::new()).replace("TYPE", "string");
    let items = |block: &str| {
        let items = format!("- $[[ inputs.a{block} ]]\n").repeat(500);
        format!(".x:\n{items}j: {{script: x}}")
    };
    let numbers = list(10_000, |at| at.to_string());
    let keys: String = (0..1000)
        .map(|at| format!("  $[[ inputs.a ]]{at}: 1\n"))
        .collect();
    let whole_keys: String = (1..900)
        .map(|at| format!("  $[[{}inputs.a ]]: 1\n", " ".repeat(at)))
        .collect();
    let array = |keys: &str| {
        input(
            &format!("[{numbers}]"),
            format!(".x:\n{keys}j: {{script: x}}"),
        )
        .replace("TYPE", "array")
    };
    let big = "The parsed YAML is too big";
    table(&[
        // A value that is named is shared; what a function makes of it is not.
        (text(20_000) + &items(""), "valid"),
        (text(1_000) + &items(" | posix_escape"), "valid"),
        (text(200_000) + &items(" | posix_escape"), big),
        (text(200_000) + &items(" | truncate(0,190000)"), big),
        (
            text(100_000).replace('x', "x.") + &items(" | split('.')"),
            big,
        ),
        (array(&keys), big),
        (array(&whole_keys), big),
    ]);
}
