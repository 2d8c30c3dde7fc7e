//! Go's flag rules on top of clap (`runner-cli.md` 1.3).
//!
//! `-name` and `--name` are the same, a plain boolean takes a value only after `=`, and every other
//! flag takes the next argument whatever it looks like. The argument vector is brought into the one
//! form that clap reads the same way: `--name=value`.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

/// Rewrites the argument vector for `tree`. Also tells what should be warned about.
pub(crate) fn normalise(tree: &Command, arguments: &[OsString]) -> (Vec<OsString>, Vec<String>) {
    let mut command = tree;
    let mut normal: Vec<OsString> = Vec::with_capacity(arguments.len());
    let mut warnings = Vec::new();
    let mut rest = arguments.iter();
    normal.extend(rest.next().cloned());
    while let Some(argument) = rest.next() {
        let Some(text) = argument.to_str() else {
            normal.push(argument.clone());
            continue;
        };
        if text == "--" {
            normal.push(argument.clone());
            normal.extend(rest.cloned());
            break;
        }
        if let Some((flag, value)) = find_flag(command, text) {
            let name = spelling(flag);
            let value = match value {
                Some(value) => Some(OsString::from(value)),
                None if takes_next(flag) => rest.next().cloned(),
                None => None,
            };
            normal.push(match value {
                Some(value) => joined(&name, &value),
                None => name.into(),
            });
            continue;
        }
        if let Some(found) = command.find_subcommand(text) {
            command = found;
        } else if matches!(text, "true" | "false") && command.get_positionals().next().is_none() {
            warnings.push(format!(
                "the argument {text:?} stands alone and has no effect"
            ));
            warnings.push(format!(
                "a boolean flag takes its value after an equals sign, as in --flag={text}"
            ));
            continue;
        }
        normal.push(argument.clone());
    }
    (normal, warnings)
}

/// A boolean as Go reads it; an empty variable means true.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "" | "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

fn find_flag<'a, 't>(command: &'a Command, text: &'t str) -> Option<(&'a Arg, Option<&'t str>)> {
    let bare = text.strip_prefix('-')?;
    let bare = bare.strip_prefix('-').unwrap_or(bare);
    let (name, value) = match bare.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (bare, None),
    };
    let mut letters = name.chars();
    let letter = letters.next().filter(|_| letters.next().is_none());
    let flag = command.get_arguments().find(|flag| {
        flag.get_long_and_visible_aliases()
            .is_some_and(|names| names.contains(&name))
            || flag
                .get_all_aliases()
                .is_some_and(|names| names.contains(&name))
            || letter.is_some_and(|letter| {
                flag.get_short_and_visible_aliases()
                    .is_some_and(|names| names.contains(&letter))
            })
    })?;
    Some((flag, value))
}

fn spelling(flag: &Arg) -> String {
    match (flag.get_long(), flag.get_short()) {
        (Some(long), _) => format!("--{long}"),
        (None, Some(short)) => format!("-{short}"),
        (None, None) => String::new(),
    }
}

/// Whether the flag always takes exactly one value and not only after `=`.
fn takes_next(flag: &Arg) -> bool {
    flag.get_action().takes_values()
        && !flag.is_require_equals_set()
        && flag
            .get_num_args()
            .is_none_or(|range| range.min_values() == 1 && range.max_values() == 1)
}

fn joined(name: &str, value: &OsStr) -> OsString {
    let mut text = OsString::from(name);
    text.push("=");
    text.push(value);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ArgAction;

    fn tree() -> Command {
        let mut tree = Command::new("courser")
            .arg(
                Arg::new("debug")
                    .long("debug")
                    .num_args(0..=1)
                    .require_equals(true),
            )
            .subcommand(
                Command::new("register")
                    .arg(
                        Arg::new("name")
                            .long("name")
                            .alias("description")
                            .short('n'),
                    )
                    .arg(Arg::new("tags").long("tag-list").action(ArgAction::Append))
                    .arg(
                        Arg::new("locked")
                            .long("locked")
                            .num_args(0..=1)
                            .require_equals(true),
                    ),
            )
            .subcommand(Command::new("wrapper").arg(Arg::new("arguments").num_args(0..)));
        tree.build();
        tree
    }

    #[test]
    fn every_spelling_of_go_becomes_the_one_of_clap() {
        let cases: &[(&[&str], &[&str])] = &[
            (&["-debug", "register"], &["--debug", "register"]),
            (
                &["--debug=false", "register"],
                &["--debug=false", "register"],
            ),
            (&["register", "-name", "x"], &["register", "--name=x"]),
            (&["register", "-description=x"], &["register", "--name=x"]),
            (&["register", "-n", "-dash"], &["register", "--name=-dash"]),
            (&["register", "--name", "--"], &["register", "--name=--"]),
            (&["register", "--name="], &["register", "--name="]),
            (&["register", "--name"], &["register", "--name"]),
            (
                &["register", "--locked", "--tag-list", "a,b"],
                &["register", "--locked", "--tag-list=a,b"],
            ),
            (
                &["register", "-unknown", "x"],
                &["register", "-unknown", "x"],
            ),
            (
                &["wrapper", "--", "-name", "x"],
                &["wrapper", "--", "-name", "x"],
            ),
            (&["wrapper", "true"], &["wrapper", "true"]),
        ];
        for (given, expected) in cases {
            let given: Vec<OsString> = std::iter::once(&"courser")
                .chain(*given)
                .map(Into::into)
                .collect();
            let (normal, warnings) = normalise(&tree(), &given);
            assert_eq!(normal[1..], **expected, "{given:?}");
            assert!(warnings.is_empty(), "{given:?}");
        }
    }

    #[test]
    fn a_bare_boolean_is_left_out_with_two_warnings() {
        let given: Vec<OsString> = ["courser", "register", "--locked", "false"]
            .map(Into::into)
            .into();
        let (normal, warnings) = normalise(&tree(), &given);
        assert_eq!(normal, ["courser", "register", "--locked"]);
        assert_eq!(warnings.len(), 2);
    }

    #[test]
    fn booleans_are_read_as_go_reads_them() {
        for text in ["1", "t", "T", "TRUE", "true", "True", ""] {
            assert_eq!(parse_bool(text), Ok(true), "{text}");
        }
        for text in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(parse_bool(text), Ok(false), "{text}");
        }
        assert!(parse_bool("yes").is_err());
    }
}
