//! Variables and inputs as scripts see them (`runner-protocol.md` 3.4, 4).

use std::collections::HashMap;

use serde_json::{Value, json};

use super::gitlab::{GitLab, Record, add, after_script, payload, variable};
use crate::world::World;

/// Values that break careless quoting.
const VALUES: [(&str, &str); 14] = [
    ("LINES", "a\n\nb\n"),
    ("QUOTES", "it's \"q\" `x` $(id) ${HOME} $HOME"),
    ("UNICODE", "gr\u{fc}n \u{1f600} \u{2028}"),
    ("BACKSLASHES", "a\\nb\\\\c\\"),
    ("DOLLARS", "p$$q$"),
    ("EMPTY", ""),
    ("SPACES", "  lead and trail  "),
    ("CONTROLS", "\u{1}\u{2}\u{1b}[0m\u{7f}\t\r\n"),
    ("SIGNS", "a!b#c;d&e|f>g<h(i){j}~"),
    ("GLOB", "*?[a-z]{1,2}~"),
    ("DELIMITER", "COURSER_HELPER_REQUEST"),
    ("EQUALS", "a=b=c"),
    ("DASH", "-n"),
    ("PERCENT", "%s %d"),
];

#[test]
fn values_reach_the_script_unchanged_in_every_dialect() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let mut id = 0;
    for shell in ["bash", "sh"] {
        let _runner = gitlab.runner(&world, &format!("  shell = \"{shell}\"\n"));
        for posix in ["false", "true"] {
            id += 1;
            let file = world.path("work/environment");
            let script = format!("env -0 > '{}'", file.display());
            let mut job = variable(payload(id, &[&script]), "FF_POSIXLY_CORRECT_ESCAPES", posix);
            for (key, value) in VALUES {
                job = add(
                    job,
                    "variables",
                    json!({"key": key, "value": value, "raw": true}),
                );
            }
            let long = "x".repeat(100_000);
            job = add(job, "variables", json!({"key": "LONG", "value": long}));
            gitlab.queue(&job);
            let job = gitlab.finished(id);
            assert_eq!(job.outcome().0, "success", "{}", job.text());
            let environment = world.read("work/environment");
            let environment: HashMap<&str, &str> = environment
                .split('\0')
                .filter_map(|entry| entry.split_once('='))
                .collect();
            for (key, value) in VALUES.iter().chain(&[("LONG", long.as_str())]) {
                assert_eq!(environment.get(key), Some(value), "{shell} {posix} {key}");
            }
        }
    }
}

fn output(job: &Record) -> Vec<String> {
    let lines = job.lines();
    let printed = lines.iter().filter_map(|line| line.strip_prefix("01O > "));
    printed.map(str::to_owned).collect()
}

#[test]
fn references_are_followed_one_level_and_files_hold_their_value() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let script = [
        "for name in A B D E G H I L N DUP; do echo \"> $name=${!name}\"; done",
        "echo \"> $(od -An -c \"$FILE\" | tr -s ' ')\"",
        "[ \"$OF_FILE\" = \"$FILE\" ] && echo '> path'",
        "[ \"$FILE\" = \"$CI_PROJECT_DIR.tmp/FILE\" ] && echo '> place'",
    ];
    let mut job = payload(1, &script);
    for (key, value) in [
        ("A", "$B"),
        ("B", "$C"),
        ("C", "x"),
        ("D", "a$$b"),
        ("E", "$UNKNOWN!"),
        ("G", "${C}y"),
        ("H", "$1$*$#$@"),
        ("I", "$/x"),
        ("L", "$12"),
        ("DUP", "1"),
        ("DUP", "2"),
        ("N", "$DUP"),
        ("OF_FILE", "$FILE"),
    ] {
        job = variable(job, key, value);
    }
    let file = json!({"key": "FILE", "value": "c\n$C", "file": true});
    let job = gitlab.run(&world, "", &add(job, "variables", file));
    assert_eq!(
        output(&job),
        [
            "A=$C", "B=x", "D=a$b", "E=!", "G=xy", "H=", "I=$/x", "L=2", "N=2", "DUP=2",
            " c \\n x", "path", "place"
        ],
        "{}",
        job.text()
    );
}

#[test]
fn names_that_no_shell_has_are_left_out_with_a_warning() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let mut job = payload(
        1,
        &[
            "echo \"> $GOOD\"",
            "echo \"> $(env | grep -ac 'odd value')\"",
        ],
    );
    for name in [
        "my-var",
        "1st",
        "with space",
        "x;touch pwned",
        "",
        "\u{fc}",
        "UID",
    ] {
        job = variable(job, name, "odd value");
    }
    job = add(
        job,
        "variables",
        json!({"key": "../../x", "value": "v", "file": true}),
    );
    let job = gitlab.run(&world, "", &variable(job, "GOOD", "${my-var}!"));
    assert_eq!(job.outcome().0, "success", "{}", job.text());
    assert_eq!(output(&job), ["odd value!", "1"]);
    assert!(
        job.text().contains("my-var: variable is not exported"),
        "{}",
        job.text()
    );
}

#[test]
fn what_a_stage_leaves_in_gitlab_env_is_there_in_later_stages() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let job = payload(
        1,
        &[
            "echo 'LEFT=a b=c' >> $GITLAB_ENV",
            "echo \"> ${LEFT-unset}\"",
        ],
    );
    let second = json!({"name": "second", "script": ["echo \"> $LEFT\""]});
    let job = after_script(
        add(job, "steps", second),
        &["echo \"> $LEFT $CI_JOB_STATUS\""],
    );
    let job = gitlab.run(&world, "", &job);
    assert_eq!(output(&job), ["unset", "a b=c", "a b=c success"]);
}

#[test]
fn inputs_are_interpolated_and_advertised() {
    let (world, gitlab) = (World::new(), GitLab::http());
    let script = [
        "echo '> ${{ job.inputs.name }} ${{ str(job.inputs.count) }} \\${{ x }}'",
        "echo '> ${{ job.inputs.map[\"list\"][1].key }}'",
    ];
    let mut job = payload(1, &script);
    let input = |key: &str, kind: &str, content: Value| json!({"key": key, "value": {"type": kind, "content": content}});
    job["inputs"] = json!([
        input("name", "string", json!("ada")),
        input("count", "number", json!(3)),
        input("map", "struct", json!({"list": [0, {"key": "deep"}]})),
    ]);
    let job = gitlab.run(&world, "", &job);
    assert_eq!(output(&job), ["ada 3 ${{ x }}", "deep"]);
    assert_eq!(
        gitlab.polls()[0].json()["info"]["features"]["job_inputs"],
        true
    );

    let mut job = payload(2, &["echo ${{ job.inputs.none }}"]);
    job["inputs"] = json!([input("name", "string", json!("ada"))]);
    let job = gitlab.run(&world, "", &job);
    assert_eq!(job.outcome().1, "script_failure");
    assert!(
        job.text().contains("there is no input \"none\""),
        "{}",
        job.text()
    );
}
