//! What becomes of an evaluated pipeline in `exec`: child pipelines (static, generated, nested) and bridges
//! that start none, resource groups, the first failure, and what jobs leave behind.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::world::{Finished, World, run};

/// Start with the name: which variables a child gets, and from whom.
const FAMILY: &str = r#"
stages: [build, child, after]
variables: {GLOBAL: of-the-file}
generate:
  stage: build
  script:
    - mkdir out
    - |
      cat > out/child.yml <<'END'
      generated:
        needs: [{pipeline: $PARENT, job: produce}]
        script:
          - cat produced.txt
          - echo "source $CI_PIPELINE_SOURCE, parent $CI_UPSTREAM_PIPELINE_ID by job $CI_UPSTREAM_JOB_ID"
          - echo "global $GLOBAL, own $OWN, pipeline [$SECRET]"
      END
  artifacts: {paths: [out]}
produce:
  stage: build
  script: echo was-produced > produced.txt
  artifacts: {paths: [produced.txt]}
dynamic:
  stage: child
  variables: {PARENT: $CI_PIPELINE_ID, OWN: "behind $GLOBAL"}
  trigger: {include: [{artifact: out/child.yml, job: generate}], strategy: depend}
static:
  stage: child
  inherit: {variables: false}
  trigger:
    include: [{local: child.yml, inputs: {word: "on-$CI_COMMIT_REF_NAME"}}]
    strategy: depend
    forward: {pipeline_variables: true}
last:
  stage: after
  script: echo comes-last
"#;

const CHILD: &str = r#"
spec: {inputs: {word: {}}}
---
say:
  script: echo "word $[[ inputs.word ]], global [$GLOBAL], pipeline [$SECRET]"
nested:
  trigger: {include: nested.yml, strategy: depend}
"#;

const NESTED: &str = r#"
deepest: {script: echo from-below}
deeper:
  allow_failure: true
  trigger: {include: nested.yml}
"#;

fn project(files: &[(&str, &str)]) -> World {
    let world = World::new();
    world.repository("work", files);
    world
}

fn exec(world: &World, arguments: &[&str]) -> Finished {
    run(&mut world.courser(["exec"].iter().chain(arguments)))
}

/// Status and message of the jobs, by the path of their names.
fn jobs(finished: &Finished) -> Vec<(String, String, String)> {
    let last = finished.stdout.lines().last().unwrap_or_default();
    let last: Value = serde_json::from_str(last).unwrap_or_default();
    let text = |job: &Value, key: &str| job[key].as_str().unwrap_or_default().to_owned();
    let jobs = last["jobs"].as_array().cloned().unwrap_or_default();
    jobs.iter()
        .map(|job| (text(job, "path"), text(job, "status"), text(job, "message")))
        .collect()
}

#[test]
fn children_run_to_their_ends_with_what_their_parents_give_them() {
    let world = project(&[
        (".gitlab-ci.yml", FAMILY),
        ("child.yml", CHILD),
        ("nested.yml", NESTED),
    ]);
    let finished = exec(&world, &["--variable", "SECRET=given"]);
    assert_eq!(finished.code(), 0, "{}", finished.all());
    for line in [
        "dynamic/generated     | was-produced",
        "source parent_pipeline, parent 1 by job 3",
        "global of-the-file, own behind of-the-file, pipeline []",
        "word on-main, global [], pipeline [given]",
        "static/nested/deepest | from-below",
        "child pipelines may nest two levels deep, allowed to fail",
        "last                  | comes-last",
    ] {
        assert!(finished.stdout.contains(line), "{line}: {}", finished.all());
    }
    // The stage behind the bridges waited for all of them.
    let place = |text: &str| finished.stdout.find(text);
    assert!(
        place("from-below") < place("comes-last"),
        "{}",
        finished.all()
    );
}

#[test]
fn a_bridge_says_why_its_pipeline_is_not_there_and_ends_as_that_one_does() {
    let world = project(&[
        (
            ".gitlab-ci.yml",
            "own: {script: 'true'}\n\
             invalid: {trigger: {include: invalid.yml}}\n\
             missing: {trigger: {include: [{artifact: a.yml, job: own}]}, needs: [own]}\n\
             filtered: {trigger: {include: filtered.yml}}\n\
             failing: {trigger: {include: failing.yml, strategy: depend}}\n\
             careless: {trigger: {include: failing.yml}}\n\
             elsewhere: {trigger: {project: group/other}}\n",
        ),
        ("invalid.yml", "job: {scrip: x}\n"),
        (
            "filtered.yml",
            "workflow: {rules: [{when: never}]}\njob: {script: x}\n",
        ),
        ("failing.yml", "job: {script: 'false'}\n"),
    ]);
    let finished = exec(&world, &["--json"]);
    assert_eq!(finished.code(), 1, "{}", finished.all());
    let jobs = jobs(&finished);
    for (path, status, message) in [
        ("own", "success", ""),
        (
            "invalid",
            "failed",
            ".gitlab-ci.yml:2: invalid.yml:1:1: jobs job config should implement",
        ),
        ("missing", "failed", "does not have artifacts"),
        (
            "filtered",
            "failed",
            ".gitlab-ci.yml:4: Pipeline filtered out by workflow rules",
        ),
        ("failing", "failed", "downstream pipeline"),
        ("failing/job", "failed", ""),
        ("careless", "success", ""),
        ("careless/job", "failed", ""),
        (
            "elsewhere",
            "failed",
            ".gitlab-ci.yml:7: no checkout of project `group/other` is known here",
        ),
    ] {
        let found = jobs.iter().find(|(found, ..)| found == path);
        let (_, found_status, found_message) = found.unwrap_or_else(|| panic!("{path}: {jobs:?}"));
        assert_eq!(found_status, status, "{path}: {}", finished.all());
        assert!(found_message.contains(message), "{path}: {found_message}");
        assert_eq!(
            message.is_empty(),
            found_message.is_empty(),
            "{path}: {found_message}"
        );
    }
}

#[test]
fn projects_on_this_machine_run_as_their_branch_or_as_they_lie() {
    let world = project(&[(
        ".gitlab-ci.yml",
        r#"
variables: {WORD: given}
stages: [up, down]
lies: {stage: up, trigger: {project: group/other, strategy: depend}}
branch: {stage: up, trigger: {project: Group/Other, branch: stable, strategy: depend, inputs: {name: $WORD}}}
plain: {stage: up, trigger: {project: group/plain, strategy: depend}}
gone: {stage: up, trigger: {project: group/other, branch: nowhere}, allow_failure: true}
again: {stage: down, trigger: {project: group/other, branch: stable, strategy: depend}}
"#,
    )]);
    let job = r#"
spec: {inputs: {name: {default: nobody}}}
---
say:
  rules: [{if: '$CI_PIPELINE_SOURCE == "pipeline" && $CI_PROJECT_ID != "1"'}]
  script:
    - cat word.txt
    - echo "$[[ inputs.name ]], $WORD at $CI_COMMIT_REF_NAME of $CI_PROJECT_PATH by $CI_UPSTREAM_PROJECT_ID"
"#;
    world.repository(
        "other",
        &[(".gitlab-ci.yml", job), ("word.txt", "stable\n")],
    );
    world.git("other", &["branch", "stable"]);
    world.write("other/word.txt", "not committed\n");
    world.write("plain/.gitlab-ci.yml", job);
    world.write("plain/word.txt", "without git\n");
    let finished = exec(
        &world,
        &[
            "--include-map",
            "group/other=../other",
            "--include-map",
            "group/plain=../plain",
        ],
    );
    assert_eq!(finished.code(), 0, "{}", finished.all());
    for line in [
        "lies/say   | not committed",
        "lies/say   | nobody, given at main of group/other by 1",
        "branch/say | stable",
        "branch/say | given, given at stable of Group/Other by 1",
        "plain/say  | without git",
        "plain/say  | nobody, given at main of group/plain by 1",
        "again/say  | stable",
        ".gitlab-ci.yml:7: project `group/other` has no branch or tag `nowhere`",
    ] {
        assert!(finished.stdout.contains(line), "{line}: {}", finished.all());
    }
}

#[test]
fn secrets_of_the_project_are_those_of_its_children_and_are_hidden_in_all_that_bridges_start() {
    let world = project(&[
        (
            ".gitlab-ci.yml",
            r#"
child: {variables: {X: "tok-$TOPSECRET"}, trigger: {include: child.yml, strategy: depend}}
other:
  variables: {X: "tok-$TOPSECRET"}
  trigger: {project: group/other, strategy: depend, inputs: {word: "in-$TOPSECRET"}}
"#,
        ),
        (
            "child.yml",
            r#"
say:
  rules: [{if: '$MODE == "of-the-file" && $GIVEN == null'}]
  script: ['test ${#TOPSECRET} = 14', 'echo "x $X, own $TOPSECRET, cut ${X#tok-}"']
"#,
        ),
    ]);
    world.repository(
        "other",
        &[(
            ".gitlab-ci.yml",
            r#"
spec: {inputs: {word: {}}}
---
say: {script: 'echo "x $X, mode [$MODE], cut ${X#tok-}, input $[[ inputs.word ]]"'}
"#,
        )],
    );
    world.write(
        "secrets",
        r#"{"TOPSECRET": {"value": "hunter2hunter2", "masked": true}, "MODE": "of-the-file"}"#,
    );
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(world.path("secrets"), private).unwrap();
    let mut arguments = vec!["--include-map", "group/other=../other"];
    arguments.extend(["--variables-file", "../secrets", "--variable", "GIVEN=1"]);
    let finished = exec(&world, &arguments);
    assert_eq!(finished.code(), 0, "{}", finished.all());
    for line in [
        "child/say | x [MASKED], own [MASKED], cut [MASKED]",
        "other/say | x [MASKED], mode [], cut [MASKED], input in-[MASKED]",
    ] {
        assert!(finished.stdout.contains(line), "{line}: {}", finished.all());
    }
    let shown = finished.all();
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn of_what_a_child_includes_the_bridge_expands_the_place_only() {
    let world = project(&[
        (
            ".gitlab-ci.yml",
            r#"
bridge:
  variables: {DIR: ci}
  trigger:
    strategy: depend
    include:
      - local: $DIR/child.yml
        rules: [{if: '$CI_COMMIT_BRANCH == "main"'}]
        inputs: {command: echo said by $CI_JOB_NAME}
      - {local: missing.yml, rules: [{if: '$CI_COMMIT_BRANCH == "other"'}]}
"#,
        ),
        (
            "ci/child.yml",
            "spec: {inputs: {command: {}}}\n---\ninner: {script: '$[[ inputs.command ]]'}\n",
        ),
    ]);
    let finished = exec(&world, &[]);
    assert_eq!(finished.code(), 0, "{}", finished.all());
    let line = "bridge/inner | said by inner";
    assert!(finished.stdout.contains(line), "{}", finished.all());
}

#[test]
fn a_child_is_made_of_the_commit_that_its_parent_runs_on() {
    let child = "say: {script: [echo as-it-was]}\n";
    let world = project(&[
        (
            ".gitlab-ci.yml",
            "stages: [first, then]\n\
             edit: {stage: first, script: ['echo \"say: {script: [echo edited]}\" > \"$CHILD\"']}\n\
             child: {stage: then, trigger: {include: ci/child.yml, strategy: depend}}\n\
             other: {stage: then, trigger: {project: group/other, strategy: depend}}\n",
        ),
        ("ci/child.yml", child),
    ]);
    // What is not committed belongs to the run.
    world.write("work/ci/child.yml", child.replace("as-it-was", "as-it-lay"));
    world.repository(
        "other",
        &[
            (
                ".gitlab-ci.yml",
                "child: {trigger: {include: ci/child.yml, strategy: depend}}\n",
            ),
            ("ci/child.yml", "say: {script: [echo of-the-other]}\n"),
        ],
    );
    let child = format!("CHILD={}", world.path("work/ci/child.yml").display());
    let map = ["--include-map", "group/other=../other"];
    let finished = exec(&world, &[&map[..], &["--variable", &child]].concat());
    assert_eq!(finished.code(), 0, "{}", finished.all());
    // How wide the first column is depends on which jobs are known by then.
    let words: Vec<_> = finished.stdout.split_whitespace().collect();
    let told = words.join(" ");
    for line in [" child/say | as-it-lay", "other/child/say | of-the-other"] {
        assert!(told.contains(line), "{line}: {}", finished.all());
    }
}

#[test]
fn masked_values_and_what_steers_a_terminal_are_not_shown() {
    let world = project(&[(
        ".gitlab-ci.yml",
        "\"job\\e]0;owned\\a\":\n  \
           script: 'true'\n  \
           environment: {name: to/$TOPSECRET, url: \"https://$TOPSECRET/\\e[2J\"}\n\
         bridge:\n  \
           trigger: {include: [{project: \"g/$TOPSECRET\", file: a.yml}]}\n",
    )]);
    world.write(
        "work/bad.yml",
        "include: {project: \"g/$TOPSECRET\", file: a.yml}\njob: {script: 'true'}\n",
    );
    let variables = world.write(
        "variables.json",
        r#"{"TOPSECRET": {"value": "hunter2hunter2", "masked": true}}"#,
    );
    std::fs::set_permissions(&variables, std::fs::Permissions::from_mode(0o600)).expect("mode");
    let variables = variables.display().to_string();
    for command in [
        &["exec"][..],
        &["exec", "--json"],
        &["exec", "--quiet"],
        &["exec", "--list"],
        &["exec", "--file", "bad.yml"],
        &["exec", "--json", "--file", "bad.yml"],
        &["pipeline", "lint", "--file", "bad.yml"],
        &["pipeline", "lint", "--json", "--file", "bad.yml"],
        &["pipeline", "list", "--file", "bad.yml"],
        &["pipeline", "list", "--json", "--file", "bad.yml"],
        &["pipeline", "show", "--file", "bad.yml"],
        &["pipeline", "explain", "job", "--file", "bad.yml"],
    ] {
        let with = [command, &["--variables-file", variables.as_str()][..]].concat();
        let finished = run(&mut world.courser(with));
        let all = finished.all();
        assert!(!all.contains("hunter2"), "{command:?}: {all}");
        assert!(!all.contains(['\u{1b}', '\u{7}']), "{command:?}: {all:?}");
        if command.contains(&"bad.yml") {
            assert!(all.contains("[MASKED]"), "{command:?}: {all}");
        }
    }
}

#[test]
fn what_jobs_leave_behind_is_recorded_and_shown() {
    let world = project(&[(
        ".gitlab-ci.yml",
        r#"
deploy:
  coverage: '/covered (\d+\.\d+)%/'
  environment: {name: review/$CI_COMMIT_REF_NAME, url: $WHERE, on_stop: stop}
  script: [echo covered 12.5%, echo covered 87.5%, echo WHERE=https://example.com/app > where.env]
  artifacts: {reports: {dotenv: where.env}}
stop:
  when: manual
  environment: {name: review/$CI_COMMIT_REF_NAME, action: stop}
  script: 'true'
release:
  script: 'true'
  release: {tag_name: v-$CI_COMMIT_REF_NAME, description: The first}
pages:
  script: [mkdir public, echo hello > public/index.html]
"#,
    )]);
    let finished = exec(&world, &[]);
    assert_eq!(finished.code(), 0, "{}", finished.all());
    for line in [
        "coverage 87.5 %",
        "deployed to environment review/main, https://example.com/app",
        "release recorded in ",
        "pages: public in its artifacts",
    ] {
        assert!(finished.stdout.contains(line), "{line}: {}", finished.all());
    }
    assert!(!finished.stderr.contains("no effect"), "{}", finished.all());
    let release = finished.stdout.split("release recorded in ").nth(1);
    let path = release
        .and_then(|rest| rest.lines().next())
        .unwrap_or_default();
    let record = std::fs::read_to_string(path).unwrap_or_default();
    let record: Value = serde_json::from_str(&record).unwrap_or_default();
    assert_eq!(record["tag_name"], "v-main", "{path}");
}

#[test]
fn jobs_of_one_resource_group_never_run_at_the_same_time() {
    let job = |name: &str| {
        format!(
            "{name}:\n  resource_group: only-$CI_COMMIT_REF_NAME\n  script:\n    - mkdir \"$LOCK\"\n    - sleep 0.3\n    - rmdir \"$LOCK\"\n"
        )
    };
    let world = project(&[(".gitlab-ci.yml", &["a", "b", "c"].map(job).concat())]);
    let lock = format!("LOCK={}", world.path("lock").display());
    let finished = exec(&world, &["--jobs", "3", "--variable", &lock]);
    assert_eq!(finished.code(), 0, "{}", finished.all());
}

#[test]
fn the_first_failure_ends_the_pipeline_where_the_workflow_says_so() {
    let world = project(&[(
        ".gitlab-ci.yml",
        "workflow: {auto_cancel: {on_job_failure: all}}\n\
         slow: {script: [touch $STARTED, sleep 60]}\n\
         fails: {script: ['until test -e $STARTED; do sleep 0.1; done; false']}\n",
    )]);
    let started = format!("STARTED={}", world.path("started").display());
    let finished = exec(&world, &["--json", "--jobs", "2", "--variable", &started]);
    assert_eq!(finished.code(), 1, "{}", finished.all());
    let states = jobs(&finished).into_iter().map(|(_, status, _)| status);
    assert_eq!(states.collect::<Vec<_>>(), ["canceled", "failed"]);
}
