//! Why jobs are in or out: what [`courser_pipeline::explain`] tells.

use courser_pipeline::{ChangedFiles, Decision, Event, Outcome, PathsVerdict, Subject, explain};

use crate::world::{push_to_main, tree};

fn decisions(text: &str, event: &Event) -> Vec<Decision> {
    explain(".gitlab-ci.yml", &tree(text, &[("src/main.c", "")]), event).decisions
}

fn of_job(decisions: &[Decision], name: &str) -> Decision {
    let found = decisions.iter().find(
        |decision| matches!(&decision.subject, Subject::Job { name: known, .. } if known == name),
    );
    found
        .unwrap_or_else(|| panic!("{name}: {decisions:#?}"))
        .clone()
}

#[test]
fn rules_tell_their_place_their_expanded_expression_and_the_file_that_matched() {
    let text = "\
variables: {TOKEN: plain}
build:
  script: make
  rules:
    - if: $CI_COMMIT_BRANCH == \"dev\" && $NOPE
      when: manual
    - changes: [docs/*, '$TOP/**/*.c']
      exists: [src/]
    - when: never
  variables: {TOP: src}
docs: {script: x, rules: [{if: '$TOKEN == \"x\"'}, {changes: [docs/*]}]}
";
    let event = Event {
        pipeline_variables: vec![("TOKEN".to_owned(), "s3cr3t".to_owned())],
        secret_variables: ["TOKEN".to_owned()].into(),
        changed_files: ChangedFiles::Known(vec!["README".to_owned(), "src/a/b.c".to_owned()]),
        ..push_to_main()
    };
    let all = decisions(text, &event);
    let build = of_job(&all, "build");
    assert_eq!((build.outcome, build.rules.len()), (Outcome::In, 2));
    let [first, second] = &build.rules[..] else {
        panic!("{build:?}")
    };
    assert_eq!(
        (first.place.line, first.place.column, first.holds),
        (5, 7, false)
    );
    assert_eq!(first.when, Some("manual"));
    let condition = first.condition.clone().expect("looked at");
    assert_eq!(condition.text, "$CI_COMMIT_BRANCH == \"dev\" && $NOPE");
    assert_eq!(condition.expanded, "\"main\" == \"dev\" && null");
    let changes = second.changes.clone().expect("looked at");
    assert_eq!(changes.globs, ["docs/*", "src/**/*.c"]);
    assert_eq!(
        changes.verdict,
        PathsVerdict::Matched {
            path: "src/a/b.c".to_owned(),
            glob: "src/**/*.c".to_owned()
        }
    );
    assert!(
        second
            .exists
            .as_ref()
            .is_some_and(|exists| exists.verdict.holds())
    );

    let docs = of_job(&all, "docs");
    assert_eq!(docs.outcome, Outcome::NoRuleHolds);
    let condition = docs.rules[0].condition.clone().expect("looked at");
    assert_eq!(condition.expanded, "\"[MASKED]\" == \"x\"");
    let changes = docs.rules[1].changes.clone().expect("looked at");
    assert_eq!(changes.verdict, PathsVerdict::NoMatch { files: 2 });
}

#[test]
fn workflow_includes_and_policies_are_decisions_too() {
    let text = "\
include: {local: gone.yml, rules: [{if: $NOPE}]}
workflow: {rules: [{if: $CI_COMMIT_TAG, when: never}, {when: always}]}
a: {script: x, parallel: 2, rules: [{changes: [a]}]}
b: {script: x, only: {refs: [tags], variables: [$CI_COMMIT_BRANCH]}}
c: {script: x, except: [main]}
d: {script: x}
";
    let all = decisions(text, &push_to_main());
    let subjects: Vec<_> = all.iter().map(|decision| &decision.subject).collect();
    assert_eq!(*subjects[0], Subject::Include("gone.yml".to_owned()));
    assert_eq!(*subjects[1], Subject::Workflow);
    assert_eq!(all[0].outcome, Outcome::NoRuleHolds);
    assert_eq!((all[1].outcome, all[1].rules.len()), (Outcome::In, 2));
    let instance = of_job(&all, "a 2/2");
    assert_eq!(
        instance.rules[0]
            .changes
            .as_ref()
            .map(|paths| &paths.verdict),
        Some(&PathsVerdict::NothingToCompare)
    );
    let only = of_job(&all, "b");
    assert_eq!(only.outcome, Outcome::OnlyDoesNotHold);
    let kinds: Vec<_> = only
        .policies
        .iter()
        .map(|policy| (policy.keyword, policy.kind, policy.holds))
        .collect();
    assert_eq!(
        kinds,
        [("only", "refs", false), ("only", "variables", true)]
    );
    assert_eq!(of_job(&all, "c").outcome, Outcome::ExceptHolds);
    let plain = of_job(&all, "d");
    assert_eq!((plain.outcome, plain.policies.len()), (Outcome::In, 0));

    let never = "a: {script: x, rules: [{when: never}]}\nb: {script: x}";
    let all = decisions(never, &push_to_main());
    assert_eq!(of_job(&all, "a").outcome, Outcome::Never);
    let default = &of_job(&all, "b").policies[0];
    assert_eq!(default.wanted, ["branches", "tags"]);
}
