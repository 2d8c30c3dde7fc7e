//! How a failed command ends: one message, hints that name an action, an exit code.
//!
//! Typed errors of the crates become a [`Failure`] here and in the commands, nowhere else.
//! gitlab-runner's commands end with 1 whatever happened (`runner-cli.md` 1.4); Courser's own tell
//! apart whose turn it is.

use std::error::Error;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

use crate::commands::Kind;
use crate::control_characters::written_out;

/// Exit codes of Courser's own commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// The work was done and the answer is no: a failed pipeline, a failed check.
    Failed = 1,
    /// A file of the user's that cannot be used: `.gitlab-ci.yml`, `config.toml`, the repository.
    Invalid = 2,
    /// Arguments that make no sense (`EX_USAGE`).
    Usage = 64,
    /// A server or program that does not do its part.
    Surroundings = 4,
    /// A bug of ours.
    Internal = 70,
    /// Stopped by Ctrl-C.
    Interrupted = 130,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// Severity of the last line of one of gitlab-runner's commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastLine {
    Fatal,
    Panic,
}

/// Why a command ends early.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    last_line: LastLine,
    message: String,
    hints: Vec<String>,
}

impl Failure {
    /// Exit code of every failure of gitlab-runner's commands.
    pub(crate) const EXIT_OF_RUNNER: u8 = 1;

    /// A failure with its code; `message` is a sentence fragment.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            last_line: LastLine::Fatal,
            message: message.into(),
            hints: Vec::new(),
        }
    }

    /// What the user wrote or configured cannot work.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::Invalid, message)
    }

    /// A bug of ours, or an operating system that fails us.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// An error with its causes, joined by `: `.
    pub(crate) fn from_error(code: Code, error: &dyn Error) -> Self {
        Self::new(code, chain(error))
    }

    /// Ends a command of gitlab-runner with `PANIC:` instead of `FATAL:`.
    pub(crate) fn panicking(mut self) -> Self {
        self.last_line = LastLine::Panic;
        self
    }

    /// Adds an action that mends it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The message without hints.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Actions that mend it.
    pub(crate) fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Exit code of Courser's own commands.
    pub(crate) fn code(&self) -> u8 {
        self.code as u8
    }

    /// Shows it in the manner of the command, and gives the exit code.
    pub(crate) fn report(&self, kind: Kind) -> ExitCode {
        if kind.speaks_as_runner() {
            match self.last_line {
                LastLine::Fatal => {
                    tracing::error!(target: crate::logging::FATAL, "{}", self.message);
                }
                LastLine::Panic => {
                    tracing::error!(target: crate::logging::PANIC, "{}", self.message);
                }
            }
            for hint in &self.hints {
                tracing::info!("hint: {hint}");
            }
            return Self::EXIT_OF_RUNNER.into();
        }
        let red = AnsiColor::Red.on_default().bold();
        let cyan = Style::new().fg_color(Some(AnsiColor::Cyan.into())).bold();
        anstream::eprintln!("{red}error{red:#}: {}", written_out(&self.message));
        for hint in &self.hints {
            anstream::eprintln!("\n{cyan}hint{cyan:#}: {}", written_out(hint));
        }
        self.code.into()
    }
}

/// An error and its sources in one line; a source whose text is already there is left out.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
