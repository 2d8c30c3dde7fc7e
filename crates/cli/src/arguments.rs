//! From the argument vector to a command: global options, Go's flag rules, help and version.
//!
//! Facts: `runner-cli.md` 1.1 to 1.3.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser};

use crate::commands::Command;
use crate::failure::{Code, Failure};
use crate::go_flags;
use crate::version;

/// What the argument vector asks for.
pub(crate) enum Invocation {
    /// Help or version: to standard output, exit code 0.
    Print(String),
    /// Arguments that make no sense.
    Misused(Misuse),
    /// A command.
    Run(GlobalOptions, Command),
}

/// Options before the command.
#[derive(Debug, Default)]
pub(crate) struct GlobalOptions {
    /// Base name of argument 0.
    pub(crate) program: String,
    /// `--debug`.
    pub(crate) debug: bool,
    /// `--log-level`, not yet checked.
    pub(crate) log_level: Option<String>,
    /// `--log-format`, not yet checked.
    pub(crate) log_format: Option<String>,
    /// To be said before anything else.
    pub(crate) warnings: Vec<String>,
}

#[derive(Debug, Parser)]
#[command(
    about = "a GitLab Runner, and a GitLab CI that runs here",
    disable_version_flag = true,
    disable_help_subcommand = false,
    subcommand_required = false
)]
struct CommandLine {
    /// Debug mode [env: RUNNER_DEBUG=]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_flags::parse_bool, value_name = "BOOL")]
    debug: Option<bool>,
    /// Choose log format (options: runner, text, json)
    #[arg(long, env = "LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<String>,
    /// Log level (options: debug, info, warn, error, fatal, panic)
    #[arg(short, long, env = "LOG_LEVEL", value_name = "LEVEL")]
    log_level: Option<String>,
    /// Print the version
    #[arg(short, long)]
    version: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

/// A usage error with the text to show.
pub(crate) struct Misuse {
    program: String,
    kind: ErrorKind,
    text: String,
}

/// All commands and options, for a program of that name.
pub(crate) fn tree(program: &str) -> clap::Command {
    CommandLine::command()
        .name(program.to_owned())
        .bin_name(program.to_owned())
}

/// Reads the argument vector by Go's rules.
pub(crate) fn parse(arguments: &[OsString]) -> Invocation {
    let program = arguments
        .first()
        .and_then(|path| Path::new(path).file_stem())
        .map_or_else(
            || "courser".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        );
    let mut tree = tree(&program);
    tree.build();
    let (arguments, warnings) = go_flags::normalise(&tree, arguments);
    let parsed = tree
        .try_get_matches_from_mut(arguments)
        .and_then(|matches| CommandLine::from_arg_matches(&matches));
    let line = match parsed {
        Ok(line) => line,
        Err(error) => {
            return match error.kind() {
                ErrorKind::DisplayHelp
                | ErrorKind::DisplayVersion
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                    Invocation::Print(error.render().to_string())
                }
                kind => Invocation::Misused(Misuse {
                    program,
                    kind,
                    text: error.render().to_string(),
                }),
            };
        }
    };
    if line.version {
        return Invocation::Print(version::text());
    }
    let Some(command) = line.command else {
        return Invocation::Print(tree.render_help().to_string());
    };
    let debug = line.debug.unwrap_or_else(debug_variable);
    Invocation::Run(
        GlobalOptions {
            program,
            debug,
            log_level: line.log_level,
            log_format: line.log_format,
            warnings,
        },
        command,
    )
}

/// `RUNNER_DEBUG`: unlike other boolean variables, empty means false (`runner-cli.md` 1.3).
#[expect(
    clippy::disallowed_methods,
    reason = "needed before the environment is captured: it decides how that is logged"
)]
fn debug_variable() -> bool {
    std::env::var("RUNNER_DEBUG")
        .is_ok_and(|text| !text.is_empty() && go_flags::parse_bool(&text).unwrap_or(false))
}

impl Misuse {
    /// Shows the error: for gitlab-runner as it does (usage on standard output, a fatal line, 1),
    /// else on standard error with the code for usage.
    pub(crate) fn report(self) -> ExitCode {
        if self.program != "gitlab-runner" {
            eprint!("{}", self.text);
            return Code::Usage.into();
        }
        let first = self.text.lines().next().unwrap_or_default();
        let message = first.strip_prefix("error: ").unwrap_or(first);
        let fatal = if self.kind == ErrorKind::InvalidSubcommand {
            let name = message.split('\'').nth(1).unwrap_or_default();
            format!("Command {name} not found.")
        } else {
            println!("Incorrect Usage: {message}\n");
            message.to_owned()
        };
        crate::logging::print_fatal(&fatal);
        Failure::EXIT_OF_RUNNER.into()
    }
}
