//! The flags of `register` and `run-single` that fill keys of a `[[runners]]` table.
//!
//! Made from the table of keys in `config`, so that flag, variable and key cannot drift apart.
//! Facts: `runner-cli.md` 1.3 and 2.1.

use std::collections::BTreeMap;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use courser_config::RunnerEntry;
use courser_config::keys::{self, Flag, Kind};

use crate::go_flags;

/// What was given on the command line and by variables.
#[derive(Clone, Default)]
pub(crate) struct RunnerFlags {
    entry: RunnerEntry,
    given: BTreeMap<String, ValueSource>,
}

impl std::fmt::Debug for RunnerFlags {
    /// Names only: values may be tokens and passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.given.keys()).finish()
    }
}

impl RunnerFlags {
    /// The runner they describe.
    pub(crate) fn into_entry(self) -> RunnerEntry {
        self.entry
    }
}

impl FromArgMatches for RunnerFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for flag in keys::runner_flags() {
            let Some(source) = matches.value_source(&flag.name) else {
                continue;
            };
            let mut texts: Vec<String> = matches
                .get_many::<String>(&flag.name)
                .into_iter()
                .flatten()
                .cloned()
                .collect();
            if source == ValueSource::CommandLine {
                texts.splice(0..0, variable_before(&flag));
            }
            self.entry
                .set_from_flag(&flag.path, flag.kind, &texts)
                .map_err(|error| {
                    clap::Error::raw(
                        clap::error::ErrorKind::InvalidValue,
                        format!("invalid value for --{}: {error}\n", flag.name),
                    )
                })?;
            self.given.insert(flag.name, source);
        }
        Ok(())
    }
}

impl Args for RunnerFlags {
    fn augment_args(command: Command) -> Command {
        keys::runner_flags()
            .iter()
            .fold(command, |command, flag| command.arg(argument(flag)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// A list takes the element of its variable and those of its flags; others let the flag win.
#[expect(
    clippy::disallowed_methods,
    reason = "clap leaves the variable out where the flag is given; Go's lists take both"
)]
fn variable_before(flag: &Flag) -> Option<String> {
    let list = matches!(flag.kind, Kind::Texts | Kind::Ints | Kind::Floats);
    let variable = flag.variable.as_ref().filter(|_| list)?;
    std::env::var(variable).ok()
}

fn argument(flag: &Flag) -> Arg {
    let argument = Arg::new(flag.name.clone())
        .long(flag.name.clone())
        .help(format!("Sets {}", flag.path.join(".")))
        .hide_env_values(true);
    let argument = match flag.variable.clone() {
        Some(variable) => argument.env(variable),
        None => argument,
    };
    let argument = match flag.name.as_str() {
        "name" => argument.visible_alias("description"),
        "url" => argument.short('u'),
        "token" => argument.short('t'),
        _ => argument,
    };
    match flag.kind {
        Kind::Bool => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(boolean_text)
            .value_name("BOOL"),
        Kind::OptionalBool => argument.value_parser(boolean_text).value_name("BOOL"),
        Kind::Int | Kind::OptionalInt => argument.value_name("NUMBER"),
        Kind::Float => argument.value_name("NUMBER"),
        Kind::Duration | Kind::OptionalDuration => argument.value_name("DURATION"),
        Kind::Texts | Kind::Ints | Kind::Floats => {
            argument.action(ArgAction::Append).value_name("VALUE")
        }
        Kind::TextOrTexts => argument.action(ArgAction::Append).value_name("LIST"),
        Kind::TextMap | Kind::BoolMap | Kind::IntMap | Kind::TextsMap => {
            argument.action(ArgAction::Append).value_name("KEY:VALUE")
        }
        Kind::Tables(_) => argument.value_name("JSON"),
        _ => argument.value_name("VALUE"),
    }
}

fn boolean_text(text: &str) -> Result<String, String> {
    go_flags::parse_bool(text).map(|value| value.to_string())
}
