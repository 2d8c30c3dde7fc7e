//! The binary `courser`: arguments, commands (one file each), messages, exit codes.
//!
//! In: argument vector and process environment, captured once into a [`session::Session`].
//! Out: an exit code; log lines on standard error, results on standard output.
//! `main` reads from top to bottom: arguments → logging → runtime → command → exit code.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this crate owns the terminal"
)]

mod arguments;
mod commands;
mod config_file;
mod connection;
mod control_characters;
mod downstream;
mod environment;
mod event_options;
mod executors;
mod failure;
mod go_flags;
mod includes;
mod job_streams;
mod logging;
mod metrics;
mod oidc_options;
mod pipeline_variables;
#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod platform;
mod private_file;
mod problems;
mod project;
mod questions;
mod repository;
mod runner_flags;
mod session;
mod stdout;
mod suggestion;
mod transfer;
mod vault_server;
mod version;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use crate::arguments::Invocation;
use crate::failure::Failure;
use crate::session::Session;

/// How long blocking work of a command that has ended may go on.
const LAST_WORK: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    match arguments::parse(&arguments) {
        Invocation::Print(text) => {
            // Whoever closed the pipe has read enough.
            std::io::stdout().write_all(text.as_bytes()).ok();
            ExitCode::SUCCESS
        }
        Invocation::Misused(misuse) => misuse.report(),
        Invocation::Run(options, command) => {
            let kind = command.kind();
            if kind.holds_secrets() {
                platform::keep_memory_private();
            }
            let log = match logging::start(&options, kind) {
                Ok(log) => log,
                Err(failure) => return failure.report(kind),
            };
            for warning in &options.warnings {
                tracing::warn!("{warning}");
            }
            let outcome = Session::open(options, log).and_then(|session| {
                session.announce(kind);
                let runtime = kind.runtime()?;
                let outcome = runtime.block_on(Box::pin(command.run(&session)));
                // A thread that still waits, say for a server of an include, has nobody to tell.
                runtime.shutdown_timeout(LAST_WORK);
                outcome
            });
            outcome.unwrap_or_else(|failure: Failure| failure.report(kind))
        }
    }
}
