//! The job's variables: one ordered list, expanded one level deep (`runner-protocol.md` 4.1 to 4.3).
//!
//! All duplicates stay, because they are exported in order; a lookup takes the last one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use courser_protocol::{JobVariable, Secret};

use crate::job_variables::VariableList;
use crate::masked::longest_first;
use crate::script::is_shell_name;

/// The finished list: values expanded, file variables still with their content.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    list: Vec<JobVariable>,
    last: HashMap<String, usize>,
    /// Those that services see only where they are public.
    guarded: [Range<usize>; 2],
    temporary_dir: String,
}

impl Variables {
    /// Expands each value once against the unexpanded list. `temporary_dir` is where file variables lie.
    pub(crate) fn expand_all(variables: VariableList, temporary_dir: &str) -> Self {
        let VariableList {
            list,
            of_server,
            secrets,
        } = variables;
        let mut last = HashMap::with_capacity(list.len());
        for (index, variable) in list.iter().enumerate() {
            last.insert(variable.key.clone(), index);
        }
        let mut variables = Self {
            list,
            last,
            guarded: [of_server, secrets],
            temporary_dir: temporary_dir.to_owned(),
        };
        let expanded: Vec<(usize, String)> = variables
            .list
            .iter()
            .enumerate()
            .filter(|(_, variable)| !variable.raw && variable.value.expose().contains('$'))
            .map(|(index, variable)| (index, variables.expand(variable.value.expose())))
            .collect();
        for (index, value) in expanded {
            variables.list[index].value = Secret::new(value);
        }
        variables
    }

    /// The variables in export order, duplicates included.
    pub fn iter(&self) -> std::slice::Iter<'_, JobVariable> {
        self.list.iter()
    }

    /// Those that a service container may see: public ones, and all that the runner itself added (4.4).
    pub fn for_services(&self) -> impl Iterator<Item = &JobVariable> {
        let visible = |(index, variable): &(usize, &JobVariable)| {
            variable.public || !self.guarded.iter().any(|range| range.contains(index))
        };
        let list = self.list.iter().enumerate().filter(visible);
        list.map(|(_, variable)| variable)
    }

    /// Value of the last variable of that name, the path for a file variable.
    pub fn value(&self, key: &str) -> Option<Cow<'_, str>> {
        let variable = &self.list[*self.last.get(key)?];
        Some(if variable.file {
            Cow::Owned(self.file_path(key))
        } else {
            Cow::Borrowed(variable.value.expose())
        })
    }

    /// As [`Self::value`]; absent is empty.
    pub fn text(&self, key: &str) -> Cow<'_, str> {
        self.value(key).unwrap_or_default()
    }

    /// Whether the last variable of that name reads as true by [`is_true`].
    pub fn flag(&self, key: &str) -> bool {
        is_true(&self.text(key))
    }

    /// Where the content of file variable `key` is put.
    pub fn file_path(&self, key: &str) -> String {
        format!("{}/{key}", self.temporary_dir)
    }

    /// Replaces references in `text` by values of this list.
    pub fn expand(&self, text: &str) -> String {
        expand(text, |name| self.value(name))
    }

    /// Names of all file variables that a shell can export, each once.
    pub fn file_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for variable in self.list.iter().filter(|variable| variable.file) {
            if is_shell_name(&variable.key) && !names.contains(&variable.key) {
                names.push(variable.key.clone());
            }
        }
        names
    }

    /// Values to mask: trimmed, without empties and duplicates, longest first.
    pub fn masked(&self) -> Vec<Secret> {
        let mut phrases: Vec<Secret> = self
            .list
            .iter()
            .filter(|variable| variable.masked)
            .map(|variable| Secret::new(variable.value.expose().trim()))
            .filter(|phrase| !phrase.is_empty())
            .collect();
        longest_first(&mut phrases);
        phrases
    }
}

/// Replaces `$NAME` and `${NAME}` in `text`, by the grammar of `runner-protocol.md` 4.2.
///
/// `lookup` is asked for names only; what it does not know becomes empty. Never fails.
pub fn expand<'a>(text: &str, lookup: impl Fn(&str) -> Option<Cow<'a, str>>) -> String {
    let mut output = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        output.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (name, consumed) = match Reference::at_start_of(rest) {
            Reference::None => {
                output.push('$');
                continue;
            }
            Reference::Malformed { consumed } => {
                rest = &rest[consumed..];
                continue;
            }
            Reference::Name { name, consumed } => (name, consumed),
        };
        match name {
            "$" => output.push('$'),
            name if is_special(name) => {}
            name => output.push_str(&lookup(name).unwrap_or_default()),
        }
        rest = &rest[consumed..];
    }
    output.push_str(rest);
    output
}

/// What follows a `$`.
enum Reference<'a> {
    /// Not a reference: the `$` stays.
    None,
    /// `${}` or an unterminated `${`: dropped.
    Malformed { consumed: usize },
    /// A name, and how many bytes of the text it took.
    Name { name: &'a str, consumed: usize },
}

impl<'a> Reference<'a> {
    fn at_start_of(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        match bytes.first() {
            Some(b'{') => match text.find('}') {
                Some(1) => Self::Malformed { consumed: 2 },
                Some(end) => Self::Name {
                    name: &text[1..end],
                    consumed: end + 1,
                },
                None => Self::Malformed { consumed: 1 },
            },
            Some(first) if SPECIAL.contains(first) || *first == b'-' => Self::Name {
                name: &text[..1],
                consumed: 1,
            },
            Some(first) if first.is_ascii_alphabetic() || *first == b'_' => {
                let end = bytes
                    .iter()
                    .position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')
                    .unwrap_or(bytes.len());
                Self::Name {
                    name: &text[..end],
                    consumed: end,
                }
            }
            _ => Self::None,
        }
    }
}

const SPECIAL: &[u8] = b"*#$@!?0123456789";

fn is_special(name: &str) -> bool {
    name.len() == 1 && SPECIAL.contains(&name.as_bytes()[0])
}

/// Reads a switch of the job, loosely: `1 t true` in any case, integers only when exactly 1.
pub fn is_true(text: &str) -> bool {
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" => true,
        other => other.parse::<i64>() == Ok(1),
    }
}

/// The strict boolean words of build settings and feature flags.
pub fn strict_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Variables {
        /// All as if the server had sent them.
        pub(crate) fn of_test(list: Vec<JobVariable>, temporary_dir: &str) -> Self {
            let of_server = 0..list.len();
            let variables = VariableList {
                list,
                of_server,
                secrets: 0..0,
            };
            Self::expand_all(variables, temporary_dir)
        }
    }

    fn variable(key: &str, value: &str) -> JobVariable {
        JobVariable {
            key: key.to_owned(),
            value: value.into(),
            ..JobVariable::default()
        }
    }

    #[test]
    fn references_follow_the_documented_grammar() {
        let list = Variables::of_test(
            vec![
                variable("A", "first"),
                variable("A", "a"),
                variable("_x1", "under"),
                variable("odd name", "odd"),
                variable("1abc", "digit"),
                JobVariable {
                    file: true,
                    ..variable("FILE", "content")
                },
            ],
            "/b/p.tmp",
        );
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$A", "a"),
            ("${A}", "a"),
            ("$A.b${A}c$A", "a.baca"),
            ("$Ab", ""),
            ("$_x1-", "under-"),
            ("${odd name}", "odd"),
            ("${1abc}", "digit"),
            ("$$", "$"),
            ("$$A", "$A"),
            ("${$}", "$"),
            ("$*$#$@$!$?$0$9|", "|"),
            ("${*}${#}${0}|", "|"),
            ("$12", "2"),
            ("$-x", "x"),
            ("$/x", "$/x"),
            ("$", "$"),
            ("a$", "a$"),
            ("${}x", "x"),
            ("${", ""),
            ("${Ax", "Ax"),
            ("x${unknown}y", "xy"),
            ("$FILE", "/b/p.tmp/FILE"),
            ("$é", "$é"),
            ("%A%", "%A%"),
            ("${A:-x}", ""),
        ] {
            assert_eq!(list.expand(text), expected, "{text}");
        }
    }

    #[test]
    fn expansion_goes_one_level_deep() {
        let list = Variables::of_test(
            vec![
                variable("A", "$B"),
                variable("B", "$C"),
                variable("C", "x"),
                JobVariable {
                    raw: true,
                    ..variable("R", "$C")
                },
                variable("S", "<$R>"),
            ],
            "/t",
        );
        assert_eq!(list.text("A"), "$C");
        assert_eq!(list.text("B"), "x");
        assert_eq!(list.text("R"), "$C");
        assert_eq!(list.text("S"), "<$C>");
    }

    #[test]
    fn duplicates_stay_in_order_and_the_last_one_wins() {
        let list = Variables::of_test(vec![variable("A", "1"), variable("A", "2")], "/t");
        let values: Vec<&str> = list.iter().map(|v| v.value.expose()).collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(list.text("A"), "2");
        assert_eq!(list.value("B"), None);
    }

    #[test]
    fn masked_values_are_trimmed_and_sorted_longest_first() {
        let masked = |value: &str| JobVariable {
            masked: true,
            ..variable("M", value)
        };
        let list = Variables::of_test(
            vec![
                masked(" ab\n"),
                masked(""),
                masked("abcdef"),
                masked("ab"),
                variable("N", "no"),
            ],
            "/t",
        );
        let phrases: Vec<String> = list
            .masked()
            .iter()
            .map(|p| p.expose().to_owned())
            .collect();
        assert_eq!(phrases, ["abcdef", "ab"]);
    }

    #[test]
    fn switches_are_read_by_the_two_rules() {
        for (text, loose, strict) in [
            ("1", true, Some(true)),
            ("TRUE", true, Some(true)),
            ("tRuE", true, None),
            ("01", true, None),
            ("2", false, None),
            ("", false, None),
            ("yes", false, None),
            ("F", false, Some(false)),
            ("0", false, Some(false)),
        ] {
            assert_eq!(is_true(text), loose, "{text}");
            assert_eq!(strict_bool(text), strict, "{text}");
        }
    }

    proptest! {
        #[test]
        fn expansion_never_panics(text in "[${}A-C\\-*0-9/ é]{0,24}") {
            expand(&text, |_| Some(Cow::Borrowed("v")));
        }

        #[test]
        fn text_without_dollar_is_untouched(text in "[^$]*") {
            prop_assert_eq!(expand(&text, |_| None), text);
        }
    }
}
