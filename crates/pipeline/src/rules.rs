//! `rules` of jobs, `workflow` and `include` (`gitlab-ci-yaml.md` 11).

use crate::expression::Expression;
use crate::model::{AllowFailure, JobWhen, YamlVariable};
use crate::needs::{self, NeedSpec};
use crate::shape::{Shape, flatten, given};
use crate::source::{Fault, Span};
use crate::variables::{self, Level};
use crate::yaml::{Map, Node};

/// Paths of one `changes` or `exists`.
const MAXIMUM_PATHS: usize = 50;
/// A week.
pub(crate) const MAXIMUM_START_IN: u64 = 7 * 24 * 3600;

/// Whose rules they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Job,
    Workflow,
    Include,
}

/// One rule.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) span: Span,
    pub(crate) condition: Option<Expression>,
    pub(crate) changes: Option<Changes>,
    pub(crate) exists: Option<Exists>,
    pub(crate) when: Option<RuleWhen>,
    pub(crate) allow_failure: Option<AllowFailure>,
    pub(crate) start_in: Option<String>,
    pub(crate) interruptible: Option<bool>,
    pub(crate) variables: Vec<YamlVariable>,
    pub(crate) needs: Option<Vec<NeedSpec>>,
    pub(crate) auto_cancel: Option<serde_json::Value>,
    /// Nothing but a `when` other than `never`.
    pub(crate) only_when: bool,
}

/// `when` of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RuleWhen {
    Never,
    Job(JobWhen),
}

/// `changes` of a rule.
#[derive(Debug, Clone)]
pub(crate) struct Changes {
    pub(crate) paths: Vec<String>,
    pub(crate) compare_to: Option<(String, Span)>,
}

/// `exists` of a rule.
#[derive(Debug, Clone)]
pub(crate) struct Exists {
    pub(crate) paths: Vec<String>,
    pub(crate) project: Option<ExistsProject>,
}

/// `exists:project`: the files are looked for in another project.
#[derive(Debug, Clone)]
pub(crate) struct ExistsProject {
    pub(crate) path: String,
    pub(crate) reference: Option<String>,
    pub(crate) span: Span,
}

impl RuleWhen {
    /// As it is written.
    pub(crate) fn keyword(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Job(when) => when.keyword(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "never" => Self::Never,
            "on_success" => Self::Job(JobWhen::OnSuccess),
            "on_failure" => Self::Job(JobWhen::OnFailure),
            "always" => Self::Job(JobWhen::Always),
            "manual" => Self::Job(JobWhen::Manual),
            "delayed" => Self::Job(JobWhen::Delayed),
            _ => return None,
        })
    }
}

/// Reads a list of rules; `place` is its location, such as `jobs:build:rules`.
pub(crate) fn parse(node: &Node, place: &str, owner: Owner, shape: &mut Shape<'_>) -> Vec<Rule> {
    if node.as_seq().is_none() {
        shape.error(node.span, format!("{place} config should be an array"));
        return Vec::new();
    }
    let items = flatten(node);
    if items.is_empty() {
        shape.error(node.span, format!("{place} config can't be blank"));
    }
    // The rules of an include are checked apart from the rest, so that their list has no place of its own.
    let place = match owner {
        Owner::Include => "include:rule".to_owned(),
        Owner::Job | Owner::Workflow => format!("{place}:rule"),
    };
    items
        .into_iter()
        .filter_map(|item| parse_rule(item, &place, owner, shape))
        .collect()
}

fn parse_rule(node: &Node, place: &str, owner: Owner, shape: &mut Shape<'_>) -> Option<Rule> {
    let allowed: &[&str] = match owner {
        Owner::Job => &[
            "if",
            "changes",
            "exists",
            "when",
            "start_in",
            "allow_failure",
            "variables",
            "needs",
            "interruptible",
        ],
        Owner::Workflow => &[
            "if",
            "changes",
            "exists",
            "when",
            "variables",
            "auto_cancel",
            "start_in",
            "allow_failure",
            "needs",
        ],
        Owner::Include => &["if", "exists", "changes", "when"],
    };
    let map = shape.hash(node, allowed, place)?;
    let when = given(map, "when").and_then(|node| parse_when(node, place, owner, shape));
    let rule = Rule {
        span: node.span,
        condition: given(map, "if").and_then(|node| parse_condition(node, place, shape)),
        changes: given(map, "changes").and_then(|node| parse_changes(node, place, shape)),
        exists: given(map, "exists").and_then(|node| parse_exists(node, place, shape)),
        when,
        allow_failure: (owner == Owner::Job)
            .then(|| given(map, "allow_failure"))
            .flatten()
            .and_then(|node| shape.boolean(node, &format!("{place} allow failure")))
            .map(AllowFailure::Always),
        start_in: (owner == Owner::Job)
            .then(|| parse_start_in(map, node.span, when, place, shape))
            .flatten(),
        interruptible: given(map, "interruptible")
            .and_then(|node| shape.boolean(node, &format!("{place} interruptible"))),
        variables: map
            .get("variables")
            .map(|node| {
                let place = format!("{place}:variables");
                variables::parse(node, &place, Level::Job, shape)
            })
            .unwrap_or_default(),
        needs: (owner == Owner::Job)
            .then(|| given(map, "needs"))
            .flatten()
            .map(|node| needs::parse_of_rule(node, &format!("{place}:needs"), shape)),
        auto_cancel: given(map, "auto_cancel").map(|node| auto_cancel(node, place, shape)),
        only_when: map.len() == 1 && !matches!(when, None | Some(RuleWhen::Never)),
    };
    Some(rule)
}

/// Checks `auto_cancel` of `workflow` or of one of its rules.
pub(crate) fn auto_cancel(node: &Node, place: &str, shape: &mut Shape<'_>) -> serde_json::Value {
    let place = format!("{place}:auto_cancel");
    if let Some(form) = shape.hash(node, &["on_new_commit", "on_job_failure"], &place) {
        for (key, choices) in [
            (
                "on_new_commit",
                &["conservative", "interruptible", "none"][..],
            ),
            ("on_job_failure", &["none", "all"][..]),
        ] {
            if let Some(value) = given(form, key) {
                let what = format!("{place} {}", key.replace('_', " "));
                shape.choice(value, choices, &what);
            }
        }
    }
    node.to_json()
}

fn parse_when(node: &Node, place: &str, owner: Owner, shape: &mut Shape<'_>) -> Option<RuleWhen> {
    let when = node.as_text().and_then(RuleWhen::parse);
    let fits = match owner {
        Owner::Job => when.is_some(),
        Owner::Workflow | Owner::Include => {
            matches!(when, Some(RuleWhen::Never | RuleWhen::Job(JobWhen::Always)))
        }
    };
    if fits {
        return when;
    }
    let value = node.scalar_text().unwrap_or_else(|| node.inspect());
    shape.error(node.span, format!("{place} when unknown value: {value}"));
    None
}

fn parse_start_in(
    map: &Map,
    span: Span,
    when: Option<RuleWhen>,
    place: &str,
    shape: &mut Shape<'_>,
) -> Option<String> {
    let delayed = when == Some(RuleWhen::Job(JobWhen::Delayed));
    match map.entry("start_in") {
        Some(entry) if !entry.value.is_null() => {
            if !delayed {
                shape.error(
                    entry.span,
                    format!("{place} config contains disallowed keys: start_in"),
                );
                return None;
            }
            let what = format!("{place} start in");
            shape
                .duration(&entry.value, Some(MAXIMUM_START_IN), &what)
                .map(|(text, _)| text)
        }
        _ => {
            if delayed {
                shape.error(span, format!("{place} start in can't be blank"));
            }
            None
        }
    }
}

fn parse_condition(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<Expression> {
    let parsed = match node.as_text() {
        Some(text) => Expression::parse(text, shape.patterns).map_err(|fault| fault.describe(text)),
        None => Err("an expression is text".to_owned()),
    };
    parsed
        .map_err(|reason| {
            let message = format!("{place} if invalid expression syntax");
            let fault = Fault::new(node.span, message).with_detail(reason);
            shape.findings.push(fault);
        })
        .ok()
}

fn parse_paths(node: &Node, what: &str, shape: &mut Shape<'_>) -> Vec<String> {
    let paths = shape.strings(node, what).unwrap_or_default();
    if node.as_seq().is_some_and(<[Node]>::is_empty) {
        shape.error(node.span, format!("{what} can't be blank"));
    }
    if paths.len() > MAXIMUM_PATHS {
        shape.error(
            node.span,
            format!("{what} has too many entries (maximum {MAXIMUM_PATHS})"),
        );
    }
    paths
}

fn parse_changes(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<Changes> {
    let place = format!("{place}:changes");
    if node.as_seq().is_some() {
        return Some(Changes {
            paths: parse_paths(node, &format!("{place} config"), shape),
            compare_to: None,
        });
    }
    if node.as_map().is_none() {
        shape.error(node.span, format!("{place} should be an array or a hash"));
        return None;
    }
    let map = shape.hash(node, &["paths", "compare_to"], &place)?;
    shape.required(map, node.span, "paths", &place);
    Some(Changes {
        paths: given(map, "paths")
            .map(|paths| parse_paths(paths, &format!("{place} paths"), shape))
            .unwrap_or_default(),
        compare_to: given(map, "compare_to").and_then(|node| {
            shape
                .string(node, &format!("{place} compare to"))
                .map(|text| (text, node.span))
        }),
    })
}

fn parse_exists(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<Exists> {
    let place = format!("{place}:exists");
    if let Some(text) = node.as_text() {
        return Some(Exists {
            paths: vec![text.to_owned()],
            project: None,
        });
    }
    if node.as_seq().is_some() {
        return Some(Exists {
            paths: parse_paths(node, &format!("{place} config"), shape),
            project: None,
        });
    }
    if node.as_map().is_none() {
        shape.error(
            node.span,
            format!("{place} config should be an array, a string or a hash"),
        );
        return None;
    }
    let map = shape.hash(node, &["paths", "project", "ref"], &place)?;
    shape.required(map, node.span, "paths", &place);
    if given(map, "ref").is_some() {
        shape.required(map, node.span, "project", &place);
    }
    let reference = given(map, "ref").and_then(|node| shape.string(node, &format!("{place} ref")));
    let project = given(map, "project").and_then(|node| {
        Some(ExistsProject {
            path: shape.string(node, &format!("{place} project"))?,
            reference,
            span: node.span,
        })
    });
    Some(Exists {
        paths: given(map, "paths")
            .map(|paths| parse_paths(paths, &format!("{place} paths"), shape))
            .unwrap_or_default(),
        project,
    })
}
