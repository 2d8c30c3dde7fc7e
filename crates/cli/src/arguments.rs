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
    Run(GlobalOptions, Box<Command>),
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
    /// Debug mode [env: RUNNER_DEBUG]
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
    is_of_trust: bool,
    kind: ErrorKind,
    text: String,
}

/// All commands and options, for a program of that name.
pub(crate) fn tree(program: &str) -> clap::Command {
    without_values(CommandLine::command())
        .name(program.to_owned())
        .bin_name(program.to_owned())
}

/// Help names variables; it must not show what they hold, which may be tokens.
fn without_values(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| argument.hide_env_values(true))
        .mut_subcommands(without_values)
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
    // Scripts ask for the version often; it needs none of the thousand flags below.
    if let [_, only] = arguments
        && ["-v", "-version", "--v", "--version"]
            .iter()
            .any(|spelling| only == spelling)
    {
        return Invocation::Print(version::text());
    }
    let mut tree = tree(&program);
    tree.build();
    let (arguments, warnings) = go_flags::normalise(&tree, arguments);
    let command = arguments[1..]
        .iter()
        .find(|argument| !argument.as_encoded_bytes().starts_with(b"-"));
    let is_of_trust = command.is_some_and(|command| command == "trust");
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
                    is_of_trust,
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
        Box::new(command),
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
    /// else on standard error with the code for usage. `trust` answers 0 (accepted), 1 (refused) or 2 (could not be
    /// asked), whatever the program is called.
    pub(crate) fn report(self) -> ExitCode {
        if self.is_of_trust {
            eprint!("{}", self.text);
            return Code::Invalid.into();
        }
        if self.program != "gitlab-runner" {
            eprint!("{}", self.text);
            if let Some(name) = self
                .unknown_command()
                .filter(|name| NOT_BUILT.contains(name))
            {
                eprintln!("\nhint: '{name}' is not built yet");
            }
            return Code::Usage.into();
        }
        let first = self.text.lines().next().unwrap_or_default();
        let message = first.strip_prefix("error: ").unwrap_or(first);
        let fatal = if let Some(name) = self.unknown_command() {
            format!("Command {name} not found.")
        } else {
            println!("Incorrect Usage: {message}\n");
            message.to_owned()
        };
        crate::logging::print_fatal(&fatal);
        Failure::EXIT_OF_RUNNER.into()
    }

    /// The command that nobody knows, if that is the error.
    fn unknown_command(&self) -> Option<&str> {
        let is_command = self.kind == ErrorKind::InvalidSubcommand;
        is_command.then(|| self.text.split('\'').nth(1)).flatten()
    }
}

/// Commands of gitlab-runner, and some of our own to come.
const NOT_BUILT: [&str; 15] = [
    "cache-init",
    "fleeting",
    "gitaly",
    "health-check",
    "install",
    "proxy-exec",
    "read-logs",
    "restart",
    "secrets",
    "start",
    "status",
    "steps",
    "stop",
    "uninstall",
    "wrapper",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn help(command: &str) -> String {
        let mut tree = tree("courser").term_width(100);
        tree.build();
        let command = match command {
            "" => &mut tree,
            name => tree.find_subcommand_mut(name).expect("a command"),
        };
        command.render_help().to_string()
    }

    #[test]
    fn debug_shows_no_token_of_any_command() {
        let lines: &[&[&str]] = &[
            &["artifacts-uploader", "--token", "s3cr"],
            &["artifacts-downloader", "--token", "s3cr"],
            &["coordinator", "serve", "--registration-token", "s3cr"],
            &[
                "register",
                "--registration-token",
                "s3cr",
                "--token",
                "s3cr",
            ],
            &["reset-token", "--pat", "s3cr"],
            &["run-single", "--token", "s3cr"],
            &["unregister", "--token", "s3cr"],
            &["verify", "--token", "s3cr"],
        ];
        for line in lines {
            let line = ["courser"].iter().chain(*line).map(OsString::from);
            let line: Vec<_> = line.collect();
            let Invocation::Run(_, command) = parse(&line) else {
                panic!("{line:?} is not understood");
            };
            let shown = format!("{command:?}");
            assert!(!shown.contains("s3cr"), "{shown}");
        }
    }

    #[test]
    fn help_of_list() {
        insta::assert_snapshot!(help("list"), @r"
        Show the runners of the configuration file

        Usage: courser list [OPTIONS]

        Options:
          -c, --config <FILE>  Config file [env: CONFIG_FILE]
          -h, --help           Print help
        ");
    }

    #[test]
    fn help_of_lint() {
        insta::assert_snapshot!(help("lint"), @r"
        Check the configuration file

        Usage: courser lint [OPTIONS]

        Options:
          -c, --config <FILE>  Config file [env: CONFIG_FILE]
          -h, --help           Print help
        ");
    }

    #[test]
    fn help_of_verify() {
        insta::assert_snapshot!(help("verify"), @r"
        Ask the servers whether the runners of the file still exist

        Usage: courser verify [OPTIONS]

        Options:
          -c, --config <FILE>    Config file [env: CONFIG_FILE]
          -n, --name <NAME>      Name of the runner to verify
          -u, --url <URL>        URL of the runner to verify
          -t, --token <TOKEN>    Token of the runner to verify
              --delete[=<BOOL>]  Take runners that are gone out of the file [default: false]
          -h, --help             Print help
        ");
    }

    #[test]
    fn help_of_unregister() {
        insta::assert_snapshot!(help("unregister"), @r"
        Take runners off their server and out of the file

        Usage: courser unregister [OPTIONS]

        Options:
          -c, --config <FILE>                  Config file [env: CONFIG_FILE]
          -n, --name <NAME>                    Name of the runner to unregister
              --all-runners[=<BOOL>]           Unregister all runners of the file [default: false]
          -u, --url <URL>                      GitLab instance URL; not used to choose a runner [env:
                                               CI_SERVER_URL]
          -t, --token <TOKEN>                  Token of the runner to unregister [env: CI_SERVER_TOKEN]
              --tls-ca-file <TLS_CA_FILE>      File with the certificates to verify the server [env:
                                               CI_SERVER_TLS_CA_FILE]
              --tls-cert-file <TLS_CERT_FILE>  File with the client certificate [env:
                                               CI_SERVER_TLS_CERT_FILE]
              --tls-key-file <TLS_KEY_FILE>    File with the client key [env: CI_SERVER_TLS_KEY_FILE]
          -h, --help                           Print help
        ");
    }

    #[test]
    fn help_of_reset_token() {
        insta::assert_snapshot!(help("reset-token"), @r"
        Renew the tokens of runners

        Usage: courser reset-token [OPTIONS]

        Options:
          -c, --config <FILE>         Config file [env: CONFIG_FILE]
          -n, --name <NAME>           Name of the runner whose token is reset
          -u, --url <URL>             URL of the runner whose token is reset
          -i, --id <ID>               Id of the runner whose token is reset
              --all-runners[=<BOOL>]  Reset all runner tokens of the file [default: false]
              --pat <PAT>             Personal access token to authenticate with, in place of the runner's
                                      token
          -h, --help                  Print help
        ");
    }

    #[test]
    fn help_of_config() {
        insta::assert_snapshot!(help("config"), @r"
        Check or show config.toml

        Usage: courser config <COMMAND>

        Commands:
          lint  Check a configuration file
          show  Show every key that Courser acts on, its value and where it comes from; secrets are left out
          help  Print this message or the help of the given subcommand(s)

        Options:
          -h, --help  Print help
        ");
    }

    #[test]
    fn register_has_every_flag_of_a_runner() {
        let help = help("register");
        for flag in courser_config::keys::runner_flags() {
            assert!(help.contains(&format!("--{}", flag.name)), "{}", flag.name);
        }
        assert!(help.contains("[alias: --description]"), "{help}");
        assert!(help.contains("[env: CI_SERVER_TOKEN]"), "{help}");
    }
}
