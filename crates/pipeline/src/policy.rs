//! `only` and `except` (`gitlab-ci-yaml.md` 13).

use regex::Regex;

use crate::expression::Expression;
use crate::re2::Patterns;
use crate::shape::{Shape, given};
use crate::source::{Fault, Span};
use crate::trace::PolicyTrace;
use crate::variables::Scope;
use crate::world::World;
use crate::yaml::Node;

/// One side of the pair.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    refs: Option<Vec<Reference>>,
    variables: Vec<Expression>,
    changes: Vec<String>,
    kubernetes: Option<Span>,
}

#[derive(Debug, Clone)]
struct Reference {
    text: String,
    kind: ReferenceKind,
    /// `@group/project`.
    project: Option<String>,
}

#[derive(Debug, Clone)]
enum ReferenceKind {
    Name(String),
    Pattern(Regex),
}

impl Policy {
    /// What holds for a job without `rules`, `only` and `except`.
    pub(crate) fn branches_and_tags() -> Self {
        let name = |text: &str| Reference {
            text: text.to_owned(),
            kind: ReferenceKind::Name(text.to_owned()),
            project: None,
        };
        Self {
            refs: Some(vec![name("branches"), name("tags")]),
            ..Self::default()
        }
    }

    /// `only` without `refs` keeps the default ones.
    pub(crate) fn with_default_refs(mut self) -> Self {
        if self.refs.is_none() {
            self.refs = Self::branches_and_tags().refs;
        }
        self
    }

    /// Where `kubernetes: active` stands.
    pub(crate) fn kubernetes(&self) -> Option<Span> {
        self.kubernetes
    }

    /// Whether all kinds given hold (`only`).
    pub(crate) fn all(&self, world: &World<'_>, scope: Scope<'_>) -> bool {
        self.kinds(world, scope)
            .into_iter()
            .flatten()
            .all(|holds| holds)
    }

    /// Whether any kind given holds (`except`).
    pub(crate) fn any(&self, world: &World<'_>, scope: Scope<'_>) -> bool {
        self.kinds(world, scope)
            .into_iter()
            .flatten()
            .any(|holds| holds)
    }

    /// What was asked for, and what of it holds.
    pub(crate) fn traced(
        &self,
        keyword: &'static str,
        world: &World<'_>,
        scope: Scope<'_>,
    ) -> Vec<PolicyTrace> {
        let texts = |items: &[Expression]| items.iter().map(|one| one.text().to_owned()).collect();
        let refs = self.refs.iter().flatten();
        let wanted = [
            refs.map(|reference| reference.text.clone()).collect(),
            texts(&self.variables),
            self.changes.clone(),
            vec!["active".to_owned()],
        ];
        let kinds = ["refs", "variables", "changes", "kubernetes"];
        let judged = self.kinds(world, scope).into_iter().zip(wanted).zip(kinds);
        judged
            .filter_map(|((holds, wanted), kind)| {
                Some(PolicyTrace {
                    keyword,
                    kind,
                    wanted,
                    holds: holds?,
                })
            })
            .collect()
    }

    fn kinds(&self, world: &World<'_>, scope: Scope<'_>) -> [Option<bool>; 4] {
        let refs = self
            .refs
            .as_ref()
            .map(|refs| refs.iter().any(|reference| reference.holds(world)));
        // No cluster is known here.
        let kubernetes = self.kubernetes.map(|_| false);
        let variables = (!self.variables.is_empty()).then(|| {
            self.variables.iter().any(|expression| {
                let lookup = |name: &str| scope.value(name);
                expression.evaluate(&lookup, &world.patterns).holds
            })
        });
        let changes =
            (!self.changes.is_empty()).then(|| world.changed(&self.changes, scope).holds());
        [refs, variables, changes, kubernetes]
    }
}

impl Reference {
    fn parse(text: &str, patterns: &Patterns) -> Result<Self, regex::Error> {
        let (name, project) = match text.split_once('@') {
            Some((name, project)) => (name, Some(project.to_owned())),
            None => (text, None),
        };
        let kind = match patterns.compile_delimited(name) {
            Some(compiled) => ReferenceKind::Pattern(compiled?),
            None => ReferenceKind::Name(name.to_owned()),
        };
        Ok(Self {
            text: text.to_owned(),
            kind,
            project,
        })
    }

    fn holds(&self, world: &World<'_>) -> bool {
        let event = world.event;
        if let Some(project) = &self.project
            && world.predefined.get("CI_PROJECT_PATH") != Some(project)
        {
            return false;
        }
        let merge_request = event.source == "merge_request_event";
        match &self.kind {
            ReferenceKind::Name(name) => match name.as_str() {
                "branches" if !event.tag && !merge_request => true,
                "tags" if event.tag => true,
                "merge_requests" if merge_request => true,
                "external_pull_requests" if event.source == "external_pull_request_event" => true,
                name if name == event.source => true,
                name if name.strip_suffix("es") == Some(event.source.as_str())
                    || name.strip_suffix('s') == Some(event.source.as_str()) =>
                {
                    true
                }
                name => !merge_request && name == event.ref_name,
            },
            ReferenceKind::Pattern(pattern) => !merge_request && pattern.is_match(&event.ref_name),
        }
    }
}

/// Reads `only` or `except`; `place` is its location.
pub(crate) fn parse(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<Policy> {
    if node.as_seq().is_some() {
        return Some(Policy {
            refs: parse_refs(node, place, shape),
            ..Policy::default()
        });
    }
    if node.as_map().is_none() {
        shape.error(
            node.span,
            format!("{place} has to be either an array of conditions or a hash"),
        );
        return None;
    }
    let allowed = &["refs", "variables", "changes", "kubernetes"];
    let map = shape.hash(node, allowed, place)?;
    let mut policy = Policy {
        refs: given(map, "refs").and_then(|refs| parse_refs(refs, place, shape)),
        ..Policy::default()
    };
    if let Some(variables) = given(map, "variables") {
        let texts = shape
            .strings(variables, &format!("{place} variables"))
            .unwrap_or_default();
        for text in texts {
            match Expression::parse(&text, shape.patterns) {
                Ok(expression) => policy.variables.push(expression),
                Err(fault) => {
                    let message = format!("{place} variables invalid expression syntax");
                    let detail = fault.describe(&text);
                    shape
                        .findings
                        .push(Fault::new(variables.span, message).with_detail(detail));
                }
            }
        }
    }
    if let Some(changes) = given(map, "changes") {
        policy.changes = match changes.as_map() {
            Some(form) => given(form, "paths")
                .and_then(|paths| shape.strings(paths, &format!("{place} changes paths"))),
            None => shape.strings(changes, &format!("{place} changes")),
        }
        .unwrap_or_default();
    }
    if let Some(kubernetes) = given(map, "kubernetes") {
        shape.choice(kubernetes, &["active"], &format!("{place} kubernetes"));
        policy.kubernetes = Some(kubernetes.span);
    }
    Some(policy)
}

fn parse_refs(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<Vec<Reference>> {
    let wrong = format!("{place} config should be an array of strings or regular expressions");
    let Some(items) = node.as_seq() else {
        shape.error(node.span, wrong);
        return None;
    };
    let mut refs = Vec::with_capacity(items.len());
    for item in items {
        match item
            .as_text()
            .map(|text| Reference::parse(text, shape.patterns))
        {
            Some(Ok(reference)) => refs.push(reference),
            Some(Err(_)) => shape.error(
                item.span,
                format!("{place} config must be a regular expression with re2 syntax"),
            ),
            None => shape.error(item.span, &*wrong),
        }
    }
    Some(refs)
}
