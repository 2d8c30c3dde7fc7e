//! Checks of values that many keywords share, with GitLab's error texts (`gitlab-ci-yaml.md` 21).
//!
//! `what` is the location and attribute a message begins with, such as `jobs:build:image config`.

use crate::duration;
use crate::re2::Patterns;
use crate::source::{Findings, Span};
use crate::yaml::{Kind, Map, Node};

/// How deep lists of scripts, rules and stages may nest.
pub(crate) const MAXIMUM_NESTING: usize = 10;

/// Collects shape errors.
#[derive(Debug)]
pub(crate) struct Shape<'a> {
    pub(crate) findings: &'a mut Findings,
    pub(crate) patterns: &'a Patterns,
}

impl Shape<'_> {
    pub(crate) fn error(&mut self, span: Span, message: impl Into<String>) {
        self.findings.error(span, message);
    }

    pub(crate) fn string(&mut self, node: &Node, what: &str) -> Option<String> {
        let text = node.as_text();
        if text.is_none() {
            self.error(node.span, format!("{what} should be a string"));
        }
        text.map(str::to_owned)
    }

    pub(crate) fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        let value = node.as_bool();
        if value.is_none() {
            self.error(node.span, format!("{what} should be a boolean value"));
        }
        value
    }

    pub(crate) fn integer(
        &mut self,
        node: &Node,
        range: std::ops::RangeInclusive<i64>,
        what: &str,
    ) -> Option<i64> {
        let Some(value) = node.as_int() else {
            self.error(node.span, format!("{what} must be an integer"));
            return None;
        };
        if value < *range.start() {
            let least = range.start();
            self.error(
                node.span,
                format!("{what} must be greater than or equal to {least}"),
            );
            return None;
        }
        if value > *range.end() {
            let most = range.end();
            self.error(
                node.span,
                format!("{what} must be less than or equal to {most}"),
            );
            return None;
        }
        Some(value)
    }

    /// A list of strings.
    pub(crate) fn strings(&mut self, node: &Node, what: &str) -> Option<Vec<String>> {
        let texts = texts(node);
        if texts.is_none() {
            self.error(node.span, format!("{what} should be an array of strings"));
        }
        texts
    }

    /// A string or a list of strings.
    pub(crate) fn string_or_strings(&mut self, node: &Node, what: &str) -> Option<Vec<String>> {
        let texts = match node.as_text() {
            Some(text) => Some(vec![text.to_owned()]),
            None => texts(node),
        };
        if texts.is_none() {
            self.error(
                node.span,
                format!("{what} should be an array of strings or a string"),
            );
        }
        texts
    }

    /// One of a few words.
    pub(crate) fn choice(&mut self, node: &Node, choices: &[&str], what: &str) -> Option<String> {
        if let Some(text) = node.as_text()
            && choices.contains(&text)
        {
            return Some(text.to_owned());
        }
        let choices = choices.join(", ");
        self.error(node.span, format!("{what} should be one of: {choices}"));
        None
    }

    /// A duration of at most `most` seconds, as written and in seconds.
    pub(crate) fn duration(
        &mut self,
        node: &Node,
        most: Option<u64>,
        what: &str,
    ) -> Option<(String, u64)> {
        let Some(text) = node.as_text() else {
            self.error(node.span, format!("{what} should be a duration"));
            return None;
        };
        let Some(seconds) = duration::parse(text) else {
            self.error(node.span, format!("{what} should be a duration"));
            return None;
        };
        if most.is_some_and(|most| seconds > most) {
            self.error(node.span, format!("{what} should not exceed the limit"));
            return None;
        }
        Some((text.to_owned(), seconds))
    }

    /// A mapping with only these keys. Unknown keys are errors, but the mapping is still read.
    pub(crate) fn hash<'n>(
        &mut self,
        node: &'n Node,
        allowed: &[&str],
        place: &str,
    ) -> Option<&'n Map> {
        let Some(map) = node.as_map() else {
            self.error(node.span, format!("{place} config should be a hash"));
            return None;
        };
        self.known_keys(map, allowed, place);
        Some(map)
    }

    /// The same where a plain text was the other form.
    pub(crate) fn hash_or_string<'n>(
        &mut self,
        node: &'n Node,
        allowed: &[&str],
        place: &str,
    ) -> Option<&'n Map> {
        if node.as_map().is_none() {
            self.error(
                node.span,
                format!("{place} config should be a hash or a string"),
            );
            return None;
        }
        self.hash(node, allowed, place)
    }

    /// The values of these keys, where they are given, are texts.
    pub(crate) fn text_values(&mut self, map: &Map, keys: &[&str], place: &str) {
        for key in keys {
            if let Some(node) = given(map, key) {
                self.string(node, &format!("{place} {}", key.replace('_', " ")));
            }
        }
    }

    pub(crate) fn known_keys(&mut self, map: &Map, allowed: &[&str], place: &str) {
        let unknown: Vec<_> = map
            .entries()
            .iter()
            .filter(|entry| !entry.key.is_text || !allowed.contains(&&*entry.key.text))
            .collect();
        if let Some(first) = unknown.first() {
            let names: Vec<&str> = unknown.iter().map(|entry| &*entry.key.text).collect();
            self.error(
                first.span,
                format!("{place} config contains unknown keys: {}", names.join(", ")),
            );
        }
    }

    /// Keys of which at most one may be given; the message has them in the order of the file.
    pub(crate) fn exclusive(&mut self, map: &Map, keys: &[&str], place: &str) {
        let given: Vec<_> = map
            .entries()
            .iter()
            .filter(|entry| keys.contains(&&*entry.key.text))
            .collect();
        if given.len() > 1 {
            let span = given[1].span;
            let names: Vec<&str> = given.iter().map(|entry| &*entry.key.text).collect();
            self.error(
                span,
                format!(
                    "{place} config these keys cannot be used together: {}",
                    names.join(", ")
                ),
            );
        }
    }

    pub(crate) fn required(&mut self, map: &Map, span: Span, key: &str, place: &str) {
        if map.get(key).is_none_or(Node::is_null) {
            self.error(span, format!("{place} config missing required keys: {key}"));
        }
    }

    /// A script: a string or a nested list of strings.
    pub(crate) fn script(&mut self, node: &Node, place: &str) -> Option<Vec<String>> {
        let mut lines = Vec::new();
        if flatten_texts(node, 0, &mut lines) {
            return Some(lines);
        }
        self.error(
            first_non_text(node).unwrap_or(node).span,
            format!(
                "{place} config should be a string or a nested array of strings up to 10 levels deep"
            ),
        );
        None
    }
}

/// The keys of a mapping that are given, null counting as not given.
pub(crate) fn given<'n>(map: &'n Map, key: &str) -> Option<&'n Node> {
    map.get(key).filter(|node| !node.is_null())
}

fn texts(node: &Node) -> Option<Vec<String>> {
    node.as_seq()?
        .iter()
        .map(|item| item.as_text().map(str::to_owned))
        .collect()
}

fn flatten_texts(node: &Node, depth: usize, lines: &mut Vec<String>) -> bool {
    match &node.kind {
        Kind::Text(text) => {
            lines.push(text.to_string());
            true
        }
        Kind::Seq(items) if depth <= MAXIMUM_NESTING => items
            .iter()
            .all(|item| flatten_texts(item, depth + 1, lines)),
        _ => false,
    }
}

fn first_non_text(node: &Node) -> Option<&Node> {
    match &node.kind {
        Kind::Text(_) => None,
        Kind::Seq(items) => items.iter().find_map(first_non_text),
        _ => Some(node),
    }
}

/// The items of a list whose lists are flattened up to ten levels; deeper ones stay lists.
pub(crate) fn flatten(node: &Node) -> Vec<&Node> {
    fn walk<'n>(node: &'n Node, depth: usize, out: &mut Vec<&'n Node>) {
        match node.as_seq() {
            Some(items) if depth <= MAXIMUM_NESTING => {
                for item in items {
                    walk(item, depth + 1, out);
                }
            }
            _ => out.push(node),
        }
    }
    let mut out = Vec::new();
    walk(node, 0, &mut out);
    out
}
