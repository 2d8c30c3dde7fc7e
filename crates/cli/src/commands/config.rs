//! `courser config`: check `config.toml`, and show what holds with where it comes from.

use std::io::Write as _;
use std::process::ExitCode;

use courser_config::{Origin, ShownKey};

use crate::config_file::{self, ConfigFile, ConfigOption};
use crate::failure::{Code, Failure};
use crate::session::Session;

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Check a configuration file
    Lint(ConfigOption),
    /// Show every key that Courser acts on, its value and where it comes from; secrets are left out
    Show(ConfigOption),
}

/// Checks or shows.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    match arguments.action {
        Action::Lint(option) => {
            let path = option.path(session);
            // Warnings first: they may explain the error.
            ConfigFile::open(&path, session)?;
            config_file::lint(&path, session)?;
            println!("{}: valid", path.display());
        }
        Action::Show(option) => {
            let path = option.path(session);
            let file = ConfigFile::open(&path, session)?;
            let text: String = file.shown(session)?.iter().map(line).collect();
            std::io::stdout()
                .write_all(text.as_bytes())
                .map_err(|error| Failure::from_error(Code::Surroundings, &error))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(key: &ShownKey) -> String {
    match key.origin {
        Origin::Line(line) => format!("{} = {}  # line {line}\n", key.path, key.value),
        Origin::Default => format!("{} = {}  # default\n", key.path, key.value),
    }
}
