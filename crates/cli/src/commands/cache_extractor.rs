//! `cache-extractor`: what upstream's scripts call to restore a cache (`runner-cli.md` 8.5). Local
//! archives only: a cache server is refused by name.

use std::path::PathBuf;
use std::process::ExitCode;

use courser_helper::TransferCommand;

use crate::failure::Failure;
use crate::session::Session;
use crate::transfer::{self, CacheServerFlags};

/// Arguments of `cache-extractor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The path of the archive
    #[arg(long)]
    file: Option<PathBuf>,
    #[command(flatten)]
    server: CacheServerFlags,
    /// URL of the same cache under its other key (not built yet)
    #[arg(long)]
    alternate_url: Option<String>,
    /// Go Cloud URL of the same cache under its other key (not built yet)
    #[arg(long)]
    alternate_gocloud_url: Option<String>,
    /// URL that tells the cache's age (no effect on local archives)
    #[arg(long)]
    head_url: Option<String>,
    /// URL that tells the other cache's age (no effect on local archives)
    #[arg(long)]
    alternate_head_url: Option<String>,
}

/// Extracts into the working directory.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    arguments.server.refuse()?;
    transfer::refuse_cache_server("--alternate-url", &arguments.alternate_url)?;
    transfer::refuse_cache_server("--alternate-gocloud-url", &arguments.alternate_gocloud_url)?;
    let file = arguments
        .file
        .filter(|file| !file.as_os_str().is_empty())
        .ok_or_else(|| Failure::invalid("Missing --file"))?;
    let project_dir = session.environment.working_directory.clone();
    let command = TransferCommand::ExtractCache {
        file: project_dir.join(file),
        project_dir,
    };
    Ok(transfer::run(&command, [], arguments.server.retries.retry_time, session).await)
}
