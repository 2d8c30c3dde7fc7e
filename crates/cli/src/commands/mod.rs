//! One file per command: its arguments and what it does.
//!
//! To add one: a `mod` line, and an entry in the table below. Each module has
//! `pub(crate) struct Arguments` (clap) and
//! `pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure>`.

mod artifacts_downloader;
mod artifacts_uploader;
mod cache_archiver;
mod cache_extractor;
mod clean;
mod completion;
mod config;
mod coordinator;
mod exec;
mod helper;
mod lint;
mod list;
mod pipeline;
mod register;
mod reset_token;
mod run;
mod run_single;
mod secrets;
mod spool;
mod trust;
mod unregister;
mod verify;

use std::process::ExitCode;

use tokio::runtime;

use self::exec::shell;
use crate::failure::Failure;
use crate::session::Session;

/// Threads that run tasks. Jobs are processes, the runner itself waits: more threads on a large machine
/// would only cost memory.
const MOST_WORKERS: usize = 4;

/// Threads for calls that block (looking at files, resolving names), made as they are needed.
const MOST_BLOCKING_THREADS: usize = 32;

/// How a command speaks and what it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A command of gitlab-runner that does one thing: log lines, `Runtime platform` first.
    Runner,
    /// A command of gitlab-runner that stays: the same on several threads.
    Daemon,
    /// A command of Courser's own: plain sentences, warnings only.
    Local,
    /// Started by Courser itself beside a job: no banner, one thread.
    Internal,
}

impl Kind {
    /// Whether it is one of gitlab-runner's commands and speaks in its log lines.
    pub(crate) fn speaks_as_runner(self) -> bool {
        matches!(self, Self::Runner | Self::Daemon)
    }

    /// Whether secrets of several jobs or of the machine are in its memory. What runs beside a job is the job's, and
    /// a runner of the same user has to recognise it (`/proc/PID/environ`).
    pub(crate) fn holds_secrets(self) -> bool {
        matches!(self, Self::Daemon | Self::Local)
    }

    /// The runtime it wants: start-up time matters for what runs once.
    pub(crate) fn runtime(self) -> Result<runtime::Runtime, Failure> {
        let mut builder = match self {
            Self::Runner | Self::Internal => runtime::Builder::new_current_thread(),
            Self::Daemon | Self::Local => runtime::Builder::new_multi_thread(),
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        builder
            .worker_threads(processors.min(MOST_WORKERS))
            .max_blocking_threads(MOST_BLOCKING_THREADS)
            .enable_all()
            .build()
            .map_err(|error| Failure::internal(format!("cannot start the runtime: {error}")))
    }
}

macro_rules! commands {
    ($($(#[$meta:meta])* $module:ident => $variant:ident: $kind:ident,)*) => {
        /// The commands, in the order of the help text.
        #[derive(Debug, clap::Subcommand)]
        pub(crate) enum Command {
            $($(#[$meta])* $variant($module::Arguments),)*
        }

        impl Command {
            /// How it speaks.
            pub(crate) fn kind(&self) -> Kind {
                match self {
                    Self::Coordinator(arguments) if !arguments.stays() => Kind::Local,
                    $(Self::$variant(_) => Kind::$kind,)*
                }
            }

            /// Runs it.
            pub(crate) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
                match self {
                    $(Self::$variant(arguments) => Box::pin($module::run(arguments, session)).await,)*
                }
            }
        }
    };
}

commands! {
    /// Run the pipeline of this directory, here and now
    exec => Exec: Local,
    /// Open a shell in a job's directory, with its environment
    shell => Shell: Local,
    /// Show the runners of the configuration file
    list => List: Runner,
    /// Check the configuration file
    lint => Lint: Runner,
    /// Make a runner known to its server and add it to the file
    register => Register: Runner,
    /// Renew the tokens of runners
    reset_token => ResetToken: Runner,
    /// Run jobs until told to end
    run => Run: Daemon,
    /// Run jobs of one runner, one after the other
    run_single => RunSingle: Daemon,
    /// Take runners off their server and out of the file
    unregister => Unregister: Runner,
    /// Ask the servers whether the runners of the file still exist
    verify => Verify: Runner,
    /// Download and extract build artifacts (internal)
    artifacts_downloader => ArtifactsDownloader: Runner,
    /// Create and upload build artifacts (internal)
    artifacts_uploader => ArtifactsUploader: Runner,
    /// Create and upload cache artifacts (internal)
    cache_archiver => CacheArchiver: Runner,
    /// Download and extract cache artifacts (internal)
    cache_extractor => CacheExtractor: Runner,
    /// Work beside a job's checkout (started by Courser itself)
    #[command(hide = true)]
    helper => Helper: Internal,
    /// Check or show config.toml
    config => Config: Local,
    /// Print a completion script for a shell
    completion => Completion: Local,
    /// Remove what `exec` keeps: logs, artifacts and caches
    clean => Clean: Local,
    /// The embedded GitLab side for any runner
    coordinator => Coordinator: Daemon,
    /// Check, list or show a .gitlab-ci.yml without running it
    pipeline => Pipeline: Local,
    /// Try, get and explain secrets of jobs
    secrets => Secrets: Local,
    /// Show or drop what runners keep of jobs until their servers know it
    spool => Spool: Local,
    /// Judge, show and explain certificates
    trust => Trust: Local,
}
