//! Variables of the file: their forms, who wins, and the server's expansion (`gitlab-ci-yaml.md` 17).

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::model::YamlVariable;
use crate::shape::Shape;
use crate::yaml::{Kind, Node};

/// Longest text that expansion may produce.
const MAXIMUM_EXPANDED: usize = 256 * 1024;
/// Substitutions in one text: empty values would otherwise let a bomb run without growing.
const MAXIMUM_SUBSTITUTIONS: usize = 10_000;
/// Values inside values inside values.
const MAXIMUM_NESTING: usize = 32;

/// Which keys a variable in mapping form may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// `value`, `description`, `expand`, `options`.
    Global,
    /// `value`, `expand`.
    Job,
}

/// Reads a `variables` mapping; `place` is its location, such as `jobs:build:variables`.
pub(crate) fn parse(
    node: &Node,
    place: &str,
    level: Level,
    shape: &mut Shape<'_>,
) -> Vec<YamlVariable> {
    let mut variables = Vec::new();
    if node.is_null() {
        return variables;
    }
    let Some(map) = node.as_map() else {
        shape.error(
            node.span,
            format!("{place} config should be a hash of key value pairs"),
        );
        return variables;
    };
    for entry in map.entries() {
        let key = entry.key.text.to_string();
        let name = key.to_lowercase();
        if !entry.key.is_text {
            shape.error(
                entry.span,
                format!("{place}:{name} key must be an alphanumeric string"),
            );
            continue;
        }
        let wrong =
            format!("{place}:{name} config variable definition must be either a string or a hash");
        match &entry.value.kind {
            Kind::Map(form) => {
                let allowed: &[&str] = match level {
                    Level::Global => &["value", "description", "expand", "options"],
                    Level::Job => &["value", "expand"],
                };
                let unknown: Vec<&str> = form
                    .entries()
                    .iter()
                    .map(|entry| &*entry.key.text)
                    .filter(|key| !allowed.contains(key))
                    .collect();
                if !unknown.is_empty() {
                    shape.error(
                        entry.span,
                        format!(
                            "{place}:{name} config uses invalid data keys: {}",
                            unknown.join(", ")
                        ),
                    );
                }
                let value = match form.get("value") {
                    None => Some(String::new()),
                    Some(value) => value.scalar_text(),
                };
                let Some(value) = value else {
                    shape.error(
                        entry.value.span,
                        format!("{place}:{name} config value must be a string"),
                    );
                    continue;
                };
                if let Some(options) = form.get("options") {
                    let texts: Option<Vec<String>> = options
                        .as_seq()
                        .and_then(|items| items.iter().map(Node::scalar_text).collect());
                    match texts {
                        None => shape.error(
                            options.span,
                            format!("{place}:{name} config options should be an array of strings"),
                        ),
                        Some(texts) if !texts.contains(&value) => shape.error(
                            options.span,
                            format!("{place}:{name} config value must be present in options"),
                        ),
                        Some(_) => {}
                    }
                }
                let expand = match form.get("expand") {
                    None => true,
                    Some(expand) => {
                        let what = format!("{place}:{name} expand");
                        shape.boolean(expand, &what).unwrap_or(true)
                    }
                };
                variables.push(YamlVariable {
                    key,
                    value,
                    raw: !expand,
                });
            }
            _ => match entry.value.scalar_text() {
                Some(value) => variables.push(YamlVariable {
                    key,
                    value,
                    raw: false,
                }),
                None => shape.error(entry.value.span, wrong),
            },
        }
    }
    variables
}

/// Lays `above` over `below`; a name keeps its first place.
pub(crate) fn lay_over(below: &mut Vec<YamlVariable>, above: &[YamlVariable]) {
    for variable in above {
        match below.iter_mut().find(|known| known.key == variable.key) {
            Some(known) => *known = variable.clone(),
            None => below.push(variable.clone()),
        }
    }
}

/// What a name stands for while rules run: layers, the first that knows it wins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    /// Pipeline variables (level 11 of 17.2).
    pub(crate) pipeline: &'a [(String, String)],
    /// Variables of the file, already laid over each other.
    pub(crate) yaml: &'a [YamlVariable],
    /// `CI_JOB_*` and the like.
    pub(crate) job: &'a [(String, String)],
    /// Everything of `gitlab-ci-yaml.md` 18 that does not depend on a job.
    pub(crate) predefined: &'a BTreeMap<String, String>,
}

/// No variables at all.
static NOTHING: BTreeMap<String, String> = BTreeMap::new();

impl<'a> Scope<'a> {
    /// Knows no variable.
    pub(crate) const EMPTY: Self = Self {
        pipeline: &[],
        yaml: &[],
        job: &[],
        predefined: &NOTHING,
    };

    /// The value, not expanded, and whether it may be looked into.
    pub(crate) fn find(&self, name: &str) -> Option<(&'a str, bool)> {
        let named = |list: &'a [(String, String)]| {
            list.iter()
                .rev()
                .find(|(key, _)| key == name)
                .map(|(_, value)| (value.as_str(), false))
        };
        let of_user = || {
            let user = self.predefined.get(name);
            user.filter(|_| name.starts_with("GITLAB_USER_"))
                .map(|value| (value.as_str(), false))
        };
        named(self.pipeline)
            .or_else(of_user)
            .or_else(|| {
                self.yaml
                    .iter()
                    .rev()
                    .find(|variable| variable.key == name)
                    .map(|variable| (variable.value.as_str(), variable.raw))
            })
            .or_else(|| named(self.job))
            .or_else(|| {
                self.predefined
                    .get(name)
                    .map(|value| (value.as_str(), false))
            })
    }

    pub(crate) fn value(&self, name: &str) -> Option<String> {
        self.find(name).map(|(value, _)| value.to_owned())
    }

    /// Whether the text would take in the value of one of these, nested values included.
    pub(crate) fn uses_any(&self, text: &str, names: &BTreeSet<String>) -> bool {
        if names.is_empty() {
            return false;
        }
        let mut open: Vec<&str> = names_used(text).collect();
        let mut seen: HashSet<&str> = HashSet::new();
        while let Some(name) = open.pop() {
            if names.contains(name) {
                return true;
            }
            if seen.insert(name)
                && let Some((value, false)) = self.find(name)
            {
                open.extend(names_used(value));
            }
        }
        false
    }

    /// Replaces `$X`, `${X}` and `%X%`, nested values included; unknown ones stay as written.
    pub(crate) fn expand(&self, text: &str) -> String {
        self.expanded(text, false)
    }

    /// As [`Self::expand`], but unknown variables become empty.
    pub(crate) fn expand_all(&self, text: &str) -> String {
        self.expanded(text, true)
    }

    fn expanded(&self, text: &str, drop_unknown: bool) -> String {
        let mut expansion = Expansion {
            scope: *self,
            drop_unknown,
            open: Vec::new(),
            substitutions: 0,
            out: String::with_capacity(text.len()),
        };
        expansion.run(text);
        expansion.out
    }
}

struct Expansion<'a> {
    scope: Scope<'a>,
    drop_unknown: bool,
    /// Names being expanded; a name inside itself stays as written.
    open: Vec<String>,
    substitutions: usize,
    out: String,
}

impl Expansion<'_> {
    fn run(&mut self, text: &str) {
        let mut rest = text;
        while let Some(at) = rest.find(['$', '%']) {
            self.out.push_str(&rest[..at]);
            rest = &rest[at..];
            let Some((length, name)) = usage(rest) else {
                self.out.push_str(&rest[..1]);
                rest = &rest[1..];
                continue;
            };
            let allowed = self.open.len() < MAXIMUM_NESTING
                && self.substitutions < MAXIMUM_SUBSTITUTIONS
                && self.out.len() < MAXIMUM_EXPANDED
                && !self.open.iter().any(|open| open == name);
            match self.scope.find(name) {
                Some((value, raw)) if allowed => {
                    self.substitutions += 1;
                    if raw {
                        self.out.push_str(value);
                    } else {
                        self.open.push(name.to_owned());
                        self.run(value);
                        self.open.pop();
                    }
                }
                None if self.drop_unknown => {}
                _ => self.out.push_str(&rest[..length]),
            }
            rest = &rest[length..];
        }
        self.out.push_str(rest);
    }
}

/// The variable used at the start of `text` with the length of its notation.
fn usage(text: &str) -> Option<(usize, &str)> {
    let name_length = |rest: &str| {
        rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len())
    };
    let closed = |open: usize, close: char| {
        let rest = &text[open..];
        let length = name_length(rest);
        (length > 0 && rest[length..].starts_with(close))
            .then(|| (open + length + 1, &rest[..length]))
    };
    if text.starts_with("${") {
        closed(2, '}')
    } else if text.starts_with('%') {
        closed(1, '%')
    } else {
        let length = name_length(&text[1..]);
        (length > 0).then(|| (1 + length, &text[1..=length]))
    }
}

/// A cycle among variables that use each other; using oneself is none (`PATH: "$PATH:/x"`).
pub(crate) fn cycle(variables: &[YamlVariable]) -> Option<Vec<String>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let position = |name: &str| variables.iter().position(|variable| variable.key == name);
    let used: Vec<Vec<usize>> = variables
        .iter()
        .enumerate()
        .map(|(own, variable)| {
            if variable.raw || !variable.value.contains(['$', '%']) {
                return Vec::new();
            }
            names_used(&variable.value)
                .filter_map(position)
                .filter(|other| *other != own)
                .collect()
        })
        .collect();
    let mut marks = vec![Mark::New; variables.len()];
    for start in 0..variables.len() {
        if marks[start] != Mark::New {
            continue;
        }
        let mut stack = vec![(start, 0)];
        marks[start] = Mark::Open;
        while let Some((at, next)) = stack.last_mut() {
            let Some(&other) = used[*at].get(*next) else {
                marks[*at] = Mark::Done;
                stack.pop();
                continue;
            };
            *next += 1;
            match marks[other] {
                Mark::Done => {}
                Mark::New => {
                    marks[other] = Mark::Open;
                    stack.push((other, 0));
                }
                Mark::Open => {
                    let from = stack.iter().position(|(at, _)| *at == other)?;
                    return Some(
                        stack[from..]
                            .iter()
                            .map(|(at, _)| variables[*at].key.clone())
                            .collect(),
                    );
                }
            }
        }
    }
    None
}

fn names_used(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            rest = &rest[rest.find(['$', '%'])?..];
            let used = usage(rest);
            rest = &rest[used.map_or(1, |(length, _)| length)..];
            if let Some((_, name)) = used {
                return Some(name);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variable(key: &str, value: &str, raw: bool) -> YamlVariable {
        YamlVariable {
            key: key.to_owned(),
            value: value.to_owned(),
            raw,
        }
    }

    #[test]
    fn expansion_follows_nested_values_and_leaves_unknown_ones() {
        let yaml = [
            variable("A", "one", false),
            variable("B", "$A-two", false),
            variable("RAW", "$A", true),
            variable("LOOP", "x$LOOP", false),
            variable("P", "${Q}", false),
            variable("Q", "${P}", false),
        ];
        let predefined = BTreeMap::from([("CI".to_owned(), "true".to_owned())]);
        let scope = Scope {
            pipeline: &[("A".to_owned(), "1".to_owned())],
            yaml: &yaml,
            job: &[],
            predefined: &predefined,
        };
        for (text, expected) in [
            ("$A ${A} %A%", "1 1 1"),
            ("$B", "1-two"),
            ("$RAW", "$A"),
            ("$NOPE ${NOPE} %NOPE%", "$NOPE ${NOPE} %NOPE%"),
            ("$LOOP", "x$LOOP"),
            ("$P", "${P}"),
            ("$$A", "$1"),
            ("100% $ {}", "100% $ {}"),
            ("$CI", "true"),
        ] {
            assert_eq!(scope.expand(text), expected, "{text}");
        }
    }

    #[test]
    fn cycles_are_found_and_using_oneself_is_none() {
        let found = cycle(&[variable("A", "$B", false), variable("B", "x${A}", false)]);
        assert_eq!(found, Some(vec!["A".to_owned(), "B".to_owned()]));
        assert_eq!(cycle(&[variable("PATH", "$PATH:/x", false)]), None);
        assert_eq!(
            cycle(&[variable("A", "$B", true), variable("B", "$A", false)]),
            None
        );
    }

    #[test]
    fn a_bomb_of_empty_values_ends() {
        let yaml: Vec<_> = (0..31)
            .map(|at| variable(&format!("V{at}"), &format!("$V{0}$V{0}", at + 1), false))
            .chain([variable("V31", "", false)])
            .collect();
        let predefined = BTreeMap::new();
        let scope = Scope {
            pipeline: &[],
            yaml: &yaml,
            job: &[],
            predefined: &predefined,
        };
        assert!(scope.expand("$V0").len() < MAXIMUM_EXPANDED);
    }

    proptest! {
        #[test]
        fn expansion_ends_within_its_bounds(values in prop::collection::vec("([$]V[0-5]|x|%V1%|[$][{]V2[}]){0,6}", 6)) {
            let yaml: Vec<_> = values
                .iter()
                .enumerate()
                .map(|(at, value)| variable(&format!("V{at}"), value, false))
                .collect();
            let predefined = BTreeMap::new();
            let scope = Scope { pipeline: &[], yaml: &yaml, job: &[], predefined: &predefined };
            prop_assert!(scope.expand("$V0$V1").len() < 2 * MAXIMUM_EXPANDED);
        }
    }
}
