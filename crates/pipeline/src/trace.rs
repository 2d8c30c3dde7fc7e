//! Why a job is in a pipeline or not: every decision of an evaluation with the rules that were looked at.
//!
//! [`crate::explain`] makes it; an evaluation that nobody wants explained records nothing.

use std::cell::RefCell;

use serde::Serialize;

use crate::model::{Lint, Pipeline};
use crate::source::{Sources, Span};

/// An evaluation with its decisions, in the order they were made.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Includes with `rules`, then `workflow`, then each job (each instance of a parallel one).
    pub decisions: Vec<Decision>,
    /// What [`crate::evaluate`] gives.
    pub result: Result<Pipeline, Lint>,
}

/// Why something is in or out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// What was decided on.
    pub subject: Subject,
    /// How.
    pub outcome: Outcome,
    /// `rules` in order, up to the first that holds; those behind it were not looked at.
    pub rules: Vec<RuleTrace>,
    /// What `only` and `except` asked for, for a job without `rules`; with neither, and without
    /// `workflow:rules`, GitLab's default is what is shown.
    pub policies: Vec<PolicyTrace>,
}

/// What a decision is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// An `include` with `rules`; where it points to, as written.
    Include(String),
    /// The whole pipeline.
    Workflow,
    /// A job.
    Job {
        /// With its parallel suffix.
        name: String,
        /// Its name in the file.
        group: String,
    },
}

/// How it was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// In: the last of `rules` holds, or nothing speaks against it.
    In,
    /// Out: no rule holds.
    NoRuleHolds,
    /// Out: the last of `rules` holds and says `when: never`.
    Never,
    /// Out: `only` does not hold (or the default that stands for it).
    OnlyDoesNotHold,
    /// Out: `except` holds.
    ExceptHolds,
}

/// Where something stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// File.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// The line itself, for people.
    #[serde(skip)]
    pub source_line: String,
}

/// One rule that was looked at. Clauses behind the first that does not hold are `None` as absent ones are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleTrace {
    /// In the flattened list; that of the last one is the job's `rules_matched` when it holds.
    pub index: usize,
    /// Where the rule begins.
    pub place: Place,
    /// `if`.
    pub condition: Option<ConditionTrace>,
    /// `changes`.
    pub changes: Option<PathsTrace>,
    /// `exists`.
    pub exists: Option<PathsTrace>,
    /// All clauses hold.
    pub holds: bool,
    /// `when` of the rule as written.
    pub when: Option<&'static str>,
}

/// An expression and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConditionTrace {
    /// As written.
    pub text: String,
    /// With the values of its variables: texts quoted, `null` for what is not set, `[MASKED]` for a
    /// secret one ([`crate::Event::secret_variables`]).
    pub expanded: String,
    /// Its value is present.
    pub holds: bool,
}

/// What globs were compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathsTrace {
    /// With their variables expanded.
    pub globs: Vec<String>,
    /// `compare_to`, expanded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compare_to: Option<String>,
    /// `exists:project`, expanded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// What came of it.
    pub verdict: PathsVerdict,
}

/// Outcome of `changes` or `exists`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PathsVerdict {
    /// Holds: this file fits this glob.
    Matched {
        /// Path from the root.
        path: String,
        /// The glob, expanded.
        glob: String,
    },
    /// Does not hold: none of so many files fits.
    NoMatch {
        /// How many there are.
        files: usize,
    },
    /// Holds without looking: there is nothing to compare with (`gitlab-ci-yaml.md` 11.1).
    NothingToCompare,
    /// Holds without looking: more than 50,000 comparisons.
    TooMany,
}

impl PathsVerdict {
    /// Whether the clause holds.
    pub fn holds(&self) -> bool {
        !matches!(self, Self::NoMatch { .. })
    }
}

/// One kind of condition of `only` or `except`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyTrace {
    /// `only` or `except`.
    pub keyword: &'static str,
    /// `refs`, `variables`, `changes` or `kubernetes`.
    pub kind: &'static str,
    /// What was asked for, as written.
    pub wanted: Vec<String>,
    /// Whether one of them holds.
    pub holds: bool,
}

/// Collects decisions while an evaluation runs.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    decisions: RefCell<Vec<Recorded>>,
}

#[derive(Debug)]
struct Recorded {
    decision: Decision,
    spans: Vec<Span>,
}

impl Recorder {
    /// Adds a decision; the places of its rules are filled in at the end.
    pub(crate) fn add(&self, decision: Decision, spans: Vec<Span>) {
        self.decisions
            .borrow_mut()
            .push(Recorded { decision, spans });
    }

    /// All decisions, with places.
    pub(crate) fn finish(self, sources: &Sources) -> Vec<Decision> {
        let recorded = self.decisions.into_inner().into_iter();
        recorded
            .map(
                |Recorded {
                     mut decision,
                     spans,
                 }| {
                    for (rule, span) in decision.rules.iter_mut().zip(spans) {
                        rule.place = sources.place(span);
                    }
                    decision
                },
            )
            .collect()
    }
}
