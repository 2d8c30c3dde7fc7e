//! Recursive expansion of a job's variables, as the server does it before a runner sees them
//! (`gitlab-ci-yaml.md` 17.3).
//!
//! What the runner expands later stays as written: references to raw and to file variables, to
//! unknown names, and `$$`.

use std::collections::HashMap;

use serde_json::Value;

use courser_protocol::{JobVariable, Secret};

/// No value grows beyond this by expansion; a doubling chain of variables stays as written.
const MAX_VALUE: usize = 1 << 20;

/// Bytes of the shortest value that GitLab masks.
pub const SHORTEST_MASKED: usize = 8;

/// Whether the value must not be seen wherever it turns up: it is masked, or a file's and long enough to be
/// masked. Shorter ones are in most texts by chance.
pub fn is_secret(variable: &JobVariable) -> bool {
    let value = variable.value.expose().trim();
    !value.is_empty() && (variable.masked || (variable.file && value.len() >= SHORTEST_MASKED))
}

/// A variable anybody may see.
pub(crate) fn public(key: &str, value: impl Into<String>) -> JobVariable {
    JobVariable {
        key: key.to_owned(),
        value: Secret::new(value),
        public: true,
        ..JobVariable::default()
    }
}

/// A confidential variable, masked in the log.
pub(crate) fn masked(key: &str, value: impl Into<String>) -> JobVariable {
    JobVariable {
        masked: true,
        public: false,
        ..public(key, value)
    }
}

/// Keeps the last variable of each name, in order, and expands references between them.
pub(crate) fn resolve(variables: Vec<JobVariable>) -> Vec<JobVariable> {
    let mut last = HashMap::with_capacity(variables.len());
    for (index, variable) in variables.iter().enumerate() {
        last.insert(variable.key.clone(), index);
    }
    let mut kept: Vec<JobVariable> = variables
        .into_iter()
        .enumerate()
        .filter(|(index, variable)| last.get(&variable.key) == Some(index))
        .map(|(_, variable)| variable)
        .collect();
    let values = Resolver::new(&kept).all();
    for (variable, value) in kept.iter_mut().zip(values) {
        if let Some(value) = value {
            variable.value = Secret::new(value);
        }
    }
    kept
}

/// Expands `text` with resolved variables; unknown references stay.
pub(crate) fn expand(text: &str, variables: &[JobVariable]) -> String {
    substitute(text, |name| value_of(name, variables)).unwrap_or_else(|| text.to_owned())
}

fn value_of(name: &str, variables: &[JobVariable]) -> Option<String> {
    let variable = variables.iter().rev().find(|known| known.key == name)?;
    Some(variable.value.expose().to_owned())
}

/// The same, but nothing in the place of unknown names.
pub(crate) fn expand_all(text: &str, variables: &[JobVariable]) -> String {
    let value = |name: &str| Some(value_of(name, variables).unwrap_or_default());
    substitute(text, value).unwrap_or_default()
}

/// The value with the references in its texts replaced.
pub(crate) fn expand_value(value: &Value, variables: &[JobVariable]) -> Value {
    match value {
        Value::String(text) => expand(text, variables).into(),
        Value::Array(entries) => entries
            .iter()
            .map(|entry| expand_value(entry, variables))
            .collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), expand_value(value, variables)))
            .collect(),
        other => other.clone(),
    }
}

struct Resolver<'a> {
    variables: &'a [JobVariable],
    index: HashMap<&'a str, usize>,
    done: Vec<Progress>,
}

#[derive(Clone)]
enum Progress {
    New,
    /// Being expanded: a reference to it closes a circle.
    Open,
    Done(String),
}

impl<'a> Resolver<'a> {
    fn new(variables: &'a [JobVariable]) -> Self {
        let index = variables
            .iter()
            .enumerate()
            .map(|(index, variable)| (variable.key.as_str(), index))
            .collect();
        Self {
            variables,
            index,
            done: vec![Progress::New; variables.len()],
        }
    }

    /// The expanded values; `None` where the text stays as it is.
    fn all(mut self) -> Vec<Option<String>> {
        (0..self.variables.len())
            .map(|index| {
                let variable = &self.variables[index];
                if variable.raw || !has_reference(variable.value.expose()) {
                    return None;
                }
                self.value(index, 0)
            })
            .collect()
    }

    fn value(&mut self, index: usize, depth: usize) -> Option<String> {
        match &self.done[index] {
            Progress::Done(value) => return Some(value.clone()),
            Progress::Open => return None,
            Progress::New => {}
        }
        // Deeper than any honest chain; bounds the stack.
        if depth > 200 {
            return None;
        }
        self.done[index] = Progress::Open;
        let text = self.variables[index].value.expose();
        let value = substitute(text, |name| {
            let target = *self.index.get(name)?;
            let variable = &self.variables[target];
            if variable.raw || variable.file {
                return None;
            }
            self.value(target, depth + 1)
        })
        .unwrap_or_else(|| text.to_owned());
        self.done[index] = Progress::Done(value.clone());
        Some(value)
    }
}

fn has_reference(text: &str) -> bool {
    text.contains(['$', '%'])
}

/// Replaces `$NAME`, `${NAME}` and `%NAME%` where `value` knows the name. `None`: too large.
fn substitute(text: &str, mut value: impl FnMut(&str) -> Option<String>) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['$', '%']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (length, name) = reference(rest);
        match name.and_then(&mut value) {
            Some(value) => out.push_str(&value),
            None => out.push_str(&rest[..length]),
        }
        if out.len() > MAX_VALUE {
            return None;
        }
        rest = &rest[length..];
    }
    out.push_str(rest);
    (out.len() <= MAX_VALUE).then_some(out)
}

/// Length of the reference at the start of `text` and the name in it; `$$` and `%%` are one piece.
fn reference(text: &str) -> (usize, Option<&str>) {
    let name_length = |text: &str| {
        let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let length = text
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(text.len());
        if begins { length } else { 0 }
    };
    let after = &text[1..];
    if text.starts_with('$') {
        if after.starts_with('$') {
            return (2, None);
        }
        if let Some(inner) = after.strip_prefix('{') {
            let length = name_length(inner);
            return if length > 0 && inner[length..].starts_with('}') {
                (length + 3, Some(&inner[..length]))
            } else {
                (1, None)
            };
        }
        let length = name_length(after);
        return (length + 1, (length > 0).then(|| &after[..length]));
    }
    if after.starts_with('%') {
        return (2, None);
    }
    let length = name_length(after);
    if length > 0 && after[length..].starts_with('%') {
        return (length + 2, Some(&after[..length]));
    }
    (1, None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resolved(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let variables = pairs
            .iter()
            .map(|(key, value)| public(key, *value))
            .collect();
        resolve(variables)
            .into_iter()
            .map(|variable| (variable.key.clone(), variable.value.expose().to_owned()))
            .collect()
    }

    #[test]
    fn references_are_followed_in_every_spelling_and_order() {
        let cases = [
            ("$B", "b"),
            ("${B}", "b"),
            ("%B%", "b"),
            ("x$C-y", "xb!-y"),
            (
                "$UNKNOWN ${UNKNOWN} %UNKNOWN%",
                "$UNKNOWN ${UNKNOWN} %UNKNOWN%",
            ),
            ("$$B", "$$B"),
            ("100% of $B", "100% of b"),
            ("${B", "${B"),
            ("$1 $ ${} %", "$1 $ ${} %"),
            ("%%B%", "%%B%"),
        ];
        for (text, expected) in cases {
            let values = resolved(&[("A", text), ("C", "$B!"), ("B", "b")]);
            assert_eq!(values[0].1, expected, "{text}");
        }
    }

    #[test]
    fn the_last_of_a_name_wins_and_is_what_others_refer_to() {
        let values = resolved(&[("A", "old"), ("B", "$A"), ("A", "new")]);
        assert_eq!(
            values,
            [("B".into(), "new".into()), ("A".into(), "new".into())]
        );
    }

    #[test]
    fn raw_and_file_variables_are_left_to_the_runner() {
        let variables = resolve(vec![
            JobVariable {
                raw: true,
                ..public("RAW", "$X")
            },
            JobVariable {
                file: true,
                ..public("FILE", "content")
            },
            public("X", "x"),
            public("A", "$RAW $FILE $X"),
        ]);
        let values: Vec<_> = variables.iter().map(|v| v.value.expose()).collect();
        assert_eq!(values, ["$X", "content", "x", "$RAW $FILE x"]);
    }

    #[test]
    fn a_circle_ends_and_a_bomb_stays_small() {
        let values = resolved(&[("A", "a$B"), ("B", "b$A")]);
        assert_eq!(values[0].1, "ab$A");
        let names: Vec<String> = (0..64).map(|n| format!("V{n}")).collect();
        let texts: Vec<String> = (0..64).map(|n| format!("$V{0}$V{0}xx", n + 1)).collect();
        let pairs: Vec<_> = names
            .iter()
            .map(String::as_str)
            .zip(texts.iter().map(String::as_str))
            .collect();
        assert!(
            resolved(&pairs)
                .iter()
                .all(|(_, value)| value.len() <= MAX_VALUE)
        );
    }

    proptest! {
        #[test]
        fn any_text_is_taken_and_text_without_references_stays(text in "\\PC{0,60}", plain in "[^$%]{0,40}") {
            let values = resolved(&[("A", &text), ("P", &plain), ("B", "x")]);
            prop_assert_eq!(&values[1].1, &plain);
        }
    }
}
