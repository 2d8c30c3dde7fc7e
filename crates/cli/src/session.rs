//! What every command is given: the captured environment, the log, and how the program was called.

use crate::arguments::GlobalOptions;
use crate::commands::Kind;
use crate::environment::{Mode, ProcessEnvironment};
use crate::failure::Failure;
use crate::logging::Log;
use crate::version;

/// One call of the program.
#[derive(Debug)]
pub(crate) struct Session {
    /// Base name of argument 0, as users typed it.
    pub(crate) program: String,
    /// The process environment.
    pub(crate) environment: ProcessEnvironment,
    /// Level and format of the log.
    pub(crate) log: Log,
}

impl Session {
    /// Captures the environment.
    pub(crate) fn open(options: GlobalOptions, log: Log) -> Result<Self, Failure> {
        Ok(Self {
            program: options.program,
            environment: ProcessEnvironment::capture()?,
            log,
        })
    }

    /// First line of each of gitlab-runner's commands (`runner-cli.md` 1.5).
    pub(crate) fn announce(&self, kind: Kind) {
        if kind.speaks_as_runner() {
            tracing::info!(
                arch = version::architecture(),
                os = version::platform(),
                pid = std::process::id(),
                revision = version::revision(),
                version = version::RUNNER_VERSION,
                "Runtime platform",
            );
        }
    }

    /// Lines about system and user mode (`runner-cli.md` 1.6). `by_hand` adds that builds must be
    /// started by hand, for the commands that say so.
    pub(crate) fn announce_mode(&self, by_hand: bool) {
        match self.environment.mode {
            Mode::System => tracing::info!("Running in system-mode."),
            Mode::User => tracing::warn!("Running in user-mode."),
        }
        let services = matches!(version::platform(), "linux" | "darwin");
        let user_on_linux = self.environment.mode == Mode::User && version::platform() == "linux";
        if by_hand && (!services || user_on_linux) {
            tracing::warn!("The user-mode requires you to manually start builds processing:");
            tracing::warn!("$ {} run", self.program);
        }
        if self.environment.mode == Mode::User {
            tracing::warn!("Use sudo for system-mode:");
            tracing::warn!("$ sudo {}...", self.program);
        }
        tracing::info!("");
    }
}
