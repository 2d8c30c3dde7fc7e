//! `rules` of jobs, `workflow` and `include` (`gitlab-ci-yaml.md` 11).

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;

use crate::event::{ChangedFiles, Comparison, Event, Files};
use crate::expression::Expression;
use crate::glob::Glob;
use crate::model::{AllowFailure, JobWhen, YamlVariable};
use crate::needs::{self, NeedSpec};
use crate::shape::{Shape, flatten, given};
use crate::source::{Fault, Span};
use crate::variables::{self, Level, Scope};
use crate::yaml::{Map, Node};

/// Paths of one `changes` or `exists`.
const MAXIMUM_PATHS: usize = 50;
/// More comparisons of files with globs count as a match.
const MAXIMUM_COMPARISONS: usize = 50_000;
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
    condition: Option<Expression>,
    changes: Option<Changes>,
    exists: Option<Exists>,
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

#[derive(Debug, Clone)]
struct Changes {
    paths: Vec<String>,
    compare_to: Option<(String, Span)>,
}

#[derive(Debug, Clone)]
struct Exists {
    paths: Vec<String>,
    project: Option<Span>,
}

impl RuleWhen {
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
        Some(text) => Expression::parse(text).map_err(|fault| fault.describe(text)),
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
    Some(Exists {
        paths: given(map, "paths")
            .map(|paths| parse_paths(paths, &format!("{place} paths"), shape))
            .unwrap_or_default(),
        project: map.entry("project").map(|entry| entry.span),
    })
}

/// What rules are judged against.
pub(crate) struct World<'a> {
    pub(crate) event: &'a Event,
    pub(crate) files: &'a dyn Files,
    listed: OnceCell<Vec<String>>,
    directories: OnceCell<Vec<String>>,
    compared: RefCell<HashMap<String, Comparison>>,
}

impl<'a> World<'a> {
    pub(crate) fn new(event: &'a Event, files: &'a dyn Files) -> Self {
        Self {
            event,
            files,
            listed: OnceCell::new(),
            directories: OnceCell::new(),
            compared: RefCell::default(),
        }
    }

    /// All committed files.
    pub(crate) fn listed(&self) -> &[String] {
        self.listed.get_or_init(|| self.files.list())
    }

    /// Their directories, each with a slash at the end.
    fn directories(&self) -> &[String] {
        self.directories.get_or_init(|| {
            let mut found = std::collections::BTreeSet::new();
            for path in self.listed() {
                let mut end = path.len();
                while let Some(at) = path[..end].rfind('/') {
                    if !found.insert(path[..=at].to_owned()) {
                        break;
                    }
                    end = at;
                }
            }
            found.into_iter().collect()
        })
    }

    /// The first rule that holds, with its index.
    pub(crate) fn first_match<'r>(
        &self,
        rules: &'r [Rule],
        scope: Scope<'_>,
        owner: &str,
        shape: &mut Shape<'_>,
    ) -> Result<Option<(usize, &'r Rule)>, Fault> {
        for (index, rule) in rules.iter().enumerate() {
            if self.holds(rule, scope, owner, shape)? {
                return Ok(Some((index, rule)));
            }
        }
        Ok(None)
    }

    fn holds(
        &self,
        rule: &Rule,
        scope: Scope<'_>,
        owner: &str,
        shape: &mut Shape<'_>,
    ) -> Result<bool, Fault> {
        if let Some(condition) = &rule.condition {
            let outcome = condition.evaluate(&|name| scope.value(name));
            if outcome.matched_plain_text {
                shape.findings.warn(
                    rule.span,
                    format!(
                        "{owner}: the right side of `=~` is no /pattern/, so it is searched for the left side"
                    ),
                );
            }
            if !outcome.holds {
                return Ok(false);
            }
        }
        if let Some(changes) = &rule.changes
            && !self.changes_hold(changes, scope, owner)?
        {
            return Ok(false);
        }
        if let Some(exists) = &rule.exists {
            if let Some(span) = exists.project {
                return Err(Fault::new(
                    span,
                    format!(
                        "Failed to parse rule for {owner}: rules:exists:project needs the files of another project, which is not built yet"
                    ),
                ));
            }
            if !self.exists(&exists.paths, scope) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn changes_hold(
        &self,
        changes: &Changes,
        scope: Scope<'_>,
        owner: &str,
    ) -> Result<bool, Fault> {
        let given = matches!(self.event.changed_files, ChangedFiles::Given(_));
        let Some((reference, span)) = changes.compare_to.as_ref().filter(|_| !given) else {
            return Ok(self.changed(&changes.paths, scope));
        };
        let reference = scope.expand(reference);
        let mut compared = self.compared.borrow_mut();
        let answer = compared
            .entry(reference)
            .or_insert_with_key(|reference| self.files.changed_since(reference));
        let fault = |text: &str| {
            let message =
                format!("Failed to parse rule for {owner}: rules:changes:compare_to {text}");
            Err(Fault::new(*span, message))
        };
        match answer {
            Comparison::Changed(changed) => Ok(any_matches(changed, &changes.paths, scope)),
            Comparison::UnknownReference => fault("is not a valid ref"),
            Comparison::NotBuilt => fault("is not built yet where there is no working tree"),
        }
    }

    /// Whether one of the changed files matches one of the globs.
    pub(crate) fn changed(&self, globs: &[String], scope: Scope<'_>) -> bool {
        match &self.event.changed_files {
            ChangedFiles::Known(changed) | ChangedFiles::Given(changed) => {
                any_matches(changed, globs, scope)
            }
            ChangedFiles::Unknown => true,
        }
    }

    fn exists(&self, globs: &[String], scope: Scope<'_>) -> bool {
        let listed = self.listed();
        let globs: Vec<String> = globs
            .iter()
            .map(|glob| scope.expand(glob).trim_start_matches('/').to_owned())
            .collect();
        let is_plain = |glob: &str| !glob.contains(['*', '?', '[', '{', '\\']);
        // Plain names need no matching and do not count as comparisons.
        if globs
            .iter()
            .any(|glob| is_plain(glob) && listed.iter().any(|path| path == glob))
        {
            return true;
        }
        let patterns = globs.iter().filter(|glob| !is_plain(glob)).count();
        if listed.len().saturating_mul(patterns) > MAXIMUM_COMPARISONS {
            return true;
        }
        globs.iter().any(|glob| {
            let glob = Glob::new(glob);
            if glob.is_directory() {
                self.directories().iter().any(|path| glob.matches(path))
            } else {
                listed.iter().any(|path| glob.matches(path))
            }
        })
    }
}

fn any_matches(changed: &[String], globs: &[String], scope: Scope<'_>) -> bool {
    if changed.len().saturating_mul(globs.len()) > MAXIMUM_COMPARISONS {
        return true;
    }
    globs.iter().any(|glob| {
        let glob = Glob::new(&scope.expand(glob));
        changed.iter().any(|path| glob.matches(path))
    })
}
