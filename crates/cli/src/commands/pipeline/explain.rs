//! `courser pipeline explain`: why a job is in the pipeline of an event, or is not.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use courser_pipeline::{
    Decision, Event, Explanation, Outcome, PathsTrace, PathsVerdict, Pipeline, PipelineJob,
    PolicyTrace, RuleTrace, Subject,
};
use serde_json::{Value, json};

use super::{answer, open, report};
use crate::environment::ProcessEnvironment;
use crate::event_options::EventOptions;
use crate::failure::{Code, Failure};
use crate::includes::Includes;
use crate::pipeline_variables::Mask;
use crate::problems::Severity;
use crate::stdout::{print_json, print_text};
use crate::suggestion::nearest;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 the job is in the pipeline, 1 it is not or the file is invalid, 64 there is no such job.

Examples:
  courser pipeline explain deploy
  courser pipeline explain deploy --tag v1.2
  courser pipeline explain test --source merge_request_event --changed-file src/main.c")]
pub(super) struct Arguments {
    /// A job; the plain name of a parallel job means all its instances
    #[arg(value_name = "JOB")]
    job: String,
    /// The file [default: .gitlab-ci.yml of the repository]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    event: EventOptions,
}

impl Arguments {
    /// What the pipeline is for.
    pub(super) fn event(&self) -> &EventOptions {
        &self.event
    }
}

/// Runs it.
pub(super) fn run(
    arguments: &Arguments,
    environment: &ProcessEnvironment,
    includes: &Includes,
) -> Result<ExitCode, Failure> {
    let project = open(environment, arguments.file.as_deref(), includes)?;
    let variables = arguments.event.variables(environment, || project.path())?;
    let event = super::event(&arguments.event, &project, &variables)?;
    let explanation = courser_pipeline::explain(&project.project.file, &project, &event);
    let wanted = Wanted::new(&explanation, &arguments.job)?;
    let mask = Mask::of(&variables);
    if arguments.json {
        print_json(&mask.value(wanted.json(&event)))?;
    } else {
        print_text(&mask.text(wanted.text(&event)))?;
        if let Err(found) = &explanation.result {
            report(&found.errors, Severity::Error, &mask);
        }
    }
    Ok(answer(!wanted.jobs.is_empty()))
}

/// What an evaluation says of one job.
struct Wanted<'a> {
    name: &'a str,
    /// Of includes and the workflow, then of the job's instances.
    decisions: Vec<&'a Decision>,
    /// Its instances in the pipeline.
    jobs: Vec<&'a PipelineJob>,
    explanation: &'a Explanation,
}

impl<'a> Wanted<'a> {
    fn new(explanation: &'a Explanation, name: &'a str) -> Result<Self, Failure> {
        let mut known = BTreeSet::new();
        let mut found = false;
        let decisions = explanation.decisions.iter().filter(|decision| {
            let Subject::Job { name: own, group } = &decision.subject else {
                return true;
            };
            known.extend([own.as_str(), group.as_str()]);
            let named = own == name || group == name;
            found |= named;
            named
        });
        let decisions: Vec<_> = decisions.collect();
        // A pipeline that was not made, or was refused before its jobs were judged, knows no names.
        if !found && !known.is_empty() {
            let message = format!("the file has no job {name:?}");
            let names: Vec<_> = known.iter().copied().collect();
            let hint = nearest(names.iter().copied(), name)
                .unwrap_or_else(|| format!("its jobs: {}", names.join(", ")));
            return Err(Failure::new(Code::Usage, message).hint(hint));
        }
        let instances: BTreeSet<_> = decisions.iter().filter_map(|d| instance(d)).collect();
        let jobs = explanation
            .result
            .as_ref()
            .map_or(&[][..], |made| &made.jobs);
        Ok(Self {
            name,
            jobs: jobs
                .iter()
                .filter(|job| instances.contains(job.name.as_str()))
                .collect(),
            decisions,
            explanation,
        })
    }

    fn json(&self, event: &Event) -> Value {
        let errors = self.explanation.result.as_ref().err();
        json!({
            "valid": errors.is_none(),
            "errors": errors.map_or(&[][..], |found| &found.errors),
            "event": {"source": event.source, "ref": event.ref_name, "tag": event.tag},
            "job": self.name,
            "in": !self.jobs.is_empty(),
            "decisions": self.decisions,
            "jobs": self.jobs,
        })
    }

    fn text(&self, event: &Event) -> String {
        let mut text = String::new();
        let kind = if event.tag { "tag " } else { "" };
        let (source, ref_name) = (&event.source, &event.ref_name);
        // Writing to a text cannot fail, here and below.
        let _ = writeln!(text, "{DIM}{source} of {kind}{ref_name}{DIM:#}");
        let made = self.explanation.result.as_ref().ok();
        let mut judged = false;
        for decision in &self.decisions {
            let workflow = decision.subject == Subject::Workflow;
            // Without rules there is nothing to tell of a workflow.
            if workflow && decision.rules.is_empty() {
                continue;
            }
            text.push('\n');
            judged |= instance(decision).is_some();
            let job = instance(decision).and_then(|name| {
                let mut jobs = self.jobs.iter();
                jobs.find(|job| job.name == name).copied()
            });
            tell(&mut text, decision, job, made);
        }
        if !judged {
            let why = if made.is_some() {
                "the workflow makes no pipeline for this event, so no job is in it"
            } else {
                "the file is refused before its jobs are judged"
            };
            let _ = writeln!(text, "\n{RED}✗{RED:#} {}: {why}", self.name);
        } else if made.is_none() {
            let why = "no pipeline is made: what is wrong is told below";
            let _ = writeln!(text, "\n{RED}✗{RED:#} {}: {why}", self.name);
        }
        text
    }
}

/// The job's name, instance number or matrix values included.
fn instance(decision: &Decision) -> Option<&str> {
    match &decision.subject {
        Subject::Job { name, .. } => Some(name),
        _ => None,
    }
}

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::Red.on_default();

fn mark(holds: bool) -> String {
    let (sign, colour) = if holds { ('✓', GREEN) } else { ('✗', RED) };
    format!("{colour}{sign}{colour:#}")
}

/// One decision: the verdict, then what led to it.
fn tell(
    text: &mut String,
    decision: &Decision,
    job: Option<&PipelineJob>,
    made: Option<&Pipeline>,
) {
    let subject = match &decision.subject {
        Subject::Include(target) => format!("include {target}"),
        Subject::Workflow => "workflow".to_owned(),
        Subject::Job { name, .. } => name.clone(),
    };
    let holds = decision.outcome == Outcome::In;
    let sign = mark(holds);
    let _ = writeln!(text, "{sign} {BOLD}{subject}{BOLD:#} {}", verdict(decision));
    for rule in &decision.rules {
        tell_rule(text, rule);
    }
    for policy in &decision.policies {
        tell_policy(text, policy);
    }
    if let Some(job) = job {
        let _ = writeln!(text, "  {}", terms(job, made));
    }
}

fn verdict(decision: &Decision) -> String {
    let is_job = instance(decision).is_some();
    let number = |rule: &RuleTrace| rule.index + 1;
    let last = decision.rules.last();
    match decision.outcome {
        Outcome::In => match last {
            Some(rule) => format!("is in: rule {} holds", number(rule)),
            None if !decision.policies.is_empty() => "is in: only and except allow it".to_owned(),
            None if is_job => "is in: it has no rules, only or except".to_owned(),
            None => "is in".to_owned(),
        },
        Outcome::NoRuleHolds => "is out: no rule holds".to_owned(),
        Outcome::Never => {
            let number = last.map_or(0, number);
            format!("is out: rule {number} holds and says when: never")
        }
        Outcome::OnlyDoesNotHold => "is out: only does not hold".to_owned(),
        Outcome::ExceptHolds => "is out: except holds".to_owned(),
    }
}

fn tell_rule(text: &mut String, rule: &RuleTrace) {
    let place = format!("{}:{}", rule.place.file, rule.place.line);
    let when = rule
        .when
        .map_or(String::new(), |when| format!(", when: {when}"));
    let number = rule.index + 1;
    let sign = mark(rule.holds);
    let _ = writeln!(text, "  {sign} rule {number} {DIM}({place}){DIM:#}{when}");
    if let Some(condition) = &rule.condition {
        let sign = mark(condition.holds);
        let _ = writeln!(text, "      {sign} if: {}", condition.text);
        if condition.expanded != condition.text {
            let _ = writeln!(text, "            {DIM}{}{DIM:#}", condition.expanded);
        }
    }
    for (keyword, paths) in [("changes", &rule.changes), ("exists", &rule.exists)] {
        if let Some(paths) = paths {
            tell_paths(text, keyword, paths);
        }
    }
    if rule.condition.is_none() && rule.changes.is_none() && rule.exists.is_none() {
        let _ = writeln!(text, "        it has no condition");
    }
}

fn tell_paths(text: &mut String, keyword: &str, paths: &PathsTrace) {
    let sign = mark(paths.verdict.holds());
    let _ = write!(text, "      {sign} {keyword}: {}", paths.globs.join(", "));
    if let Some(reference) = &paths.compare_to {
        let _ = write!(text, " compared to {reference}");
    }
    if let Some(project) = &paths.project {
        let _ = write!(text, " in {project}");
    }
    let what = if keyword == "changes" {
        "changed files"
    } else {
        "files"
    };
    let why = match &paths.verdict {
        PathsVerdict::Matched { path, glob } => format!("{path} fits {glob}"),
        PathsVerdict::NoMatch { files } => format!("none of {files} {what} fits"),
        PathsVerdict::NothingToCompare => {
            "holds without looking: there is nothing to compare with".to_owned()
        }
        PathsVerdict::TooMany => "holds without looking: too many comparisons".to_owned(),
    };
    let _ = writeln!(text, "\n            {DIM}{why}{DIM:#}");
}

fn tell_policy(text: &mut String, policy: &PolicyTrace) {
    let PolicyTrace {
        keyword,
        kind,
        wanted,
        holds,
    } = policy;
    let sign = mark(*holds == (*keyword == "only"));
    let verb = if *holds { "holds" } else { "does not hold" };
    let wanted = wanted.join(", ");
    let _ = writeln!(
        text,
        "  {sign} {keyword}: {kind} {DIM}[{wanted}]{DIM:#} {verb}"
    );
}

/// How a job that is in will run: `when: manual, allowed to fail; needs build (in)`.
fn terms(job: &PipelineJob, made: Option<&Pipeline>) -> String {
    let mut terms = vec![format!("when: {}", job.when.keyword())];
    if job.allow_failure != courser_pipeline::AllowFailure::Always(false) {
        terms.push("allowed to fail".to_owned());
    }
    if let Some(start_in) = &job.start_in {
        terms.push(format!("starts in {start_in}"));
    }
    let is_in = |name: &str| made.is_some_and(|made| made.jobs.iter().any(|job| job.name == name));
    if job.needs.is_some() {
        let needs = job.job_needs.iter().map(|need| match is_in(&need.job) {
            true => need.job.clone(),
            false => format!("{} (not in this pipeline, optional)", need.job),
        });
        let needs: Vec<_> = needs.collect();
        terms.push(if needs.is_empty() {
            "starts at once".to_owned()
        } else {
            format!("needs {}", needs.join(", "))
        });
    }
    terms.join("; ")
}

#[cfg(test)]
mod tests {
    use courser_pipeline::{Files, explain};
    use courser_protocol::{JobVariable, Secret};

    use super::*;

    struct OneFile(&'static str);

    impl Files for OneFile {
        fn read(&self, path: &str) -> Option<String> {
            (path == ".gitlab-ci.yml").then(|| self.0.to_owned())
        }

        fn list(&self) -> Vec<String> {
            vec!["src/main.c".to_owned()]
        }
    }

    fn told(file: &'static str, job: &str) -> (String, bool) {
        let event = Event {
            source: "push".to_owned(),
            ref_name: "main".to_owned(),
            predefined: [("CI_COMMIT_BRANCH".to_owned(), "main".to_owned())].into(),
            pipeline_variables: vec![("TOKEN".to_owned(), "hush-hush".to_owned())],
            secret_variables: ["TOKEN".to_owned()].into(),
            ..Event::default()
        };
        let explanation = explain(".gitlab-ci.yml", &OneFile(file), &event);
        let wanted = Wanted::new(&explanation, job).expect("known");
        let secret = JobVariable {
            key: "TOKEN".to_owned(),
            value: Secret::new("hush-hush"),
            masked: true,
            ..JobVariable::default()
        };
        let text = Mask::of(&[secret]).text(wanted.text(&event));
        let plain = anstream::adapter::strip_str(&text).to_string();
        (plain, !wanted.jobs.is_empty())
    }

    const RULES: &str = "\
ship:
  script: x
  needs: [{job: gone, optional: true}]
  rules:
    - if: $CI_COMMIT_BRANCH == \"dev\" && $TOKEN
    - exists: [src/*.c]
      when: manual
    - when: never
gone: {script: x, only: [tags]}
";

    #[test]
    fn each_rule_is_told_with_its_place_and_why() {
        let (text, is_in) = told(RULES, "ship");
        assert!(is_in);
        insta::assert_snapshot!(text, @r#"
        push of main

        ✓ ship is in: rule 2 holds
          ✗ rule 1 (.gitlab-ci.yml:5)
              ✗ if: $CI_COMMIT_BRANCH == "dev" && $TOKEN
                    "main" == "dev" && "[MASKED]"
          ✓ rule 2 (.gitlab-ci.yml:6), when: manual
              ✓ exists: src/*.c
                    src/main.c fits src/*.c
          when: manual; starts at once
        "#);
    }

    #[test]
    fn policies_and_a_filtered_pipeline_are_told() {
        let (text, is_in) = told(RULES, "gone");
        assert!(!is_in);
        insta::assert_snapshot!(text, @r"
        push of main

        ✗ gone is out: only does not hold
          ✗ only: refs [tags] does not hold
        ");
        let (text, is_in) = told(
            "workflow: {rules: [{if: $CI_COMMIT_TAG}]}\na: {script: x}\n",
            "a",
        );
        assert!(!is_in);
        insta::assert_snapshot!(text, @r"
        push of main

        ✗ workflow is out: no rule holds
          ✗ rule 1 (.gitlab-ci.yml:1)
              ✗ if: $CI_COMMIT_TAG
                    null

        ✗ a: the workflow makes no pipeline for this event, so no job is in it
        ");
    }

    #[test]
    fn a_need_that_is_missing_is_the_reason() {
        let file = "a: {script: x, only: [tags]}\nb: {script: x, needs: [a]}\n";
        let (text, is_in) = told(file, "b");
        assert!(!is_in);
        assert!(text.contains("✗ b: no pipeline is made"), "{text}");
    }
}
