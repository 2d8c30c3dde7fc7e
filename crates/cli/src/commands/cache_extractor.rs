//! `cache-extractor`: what upstream's scripts call to restore a cache (`runner-cli.md` 8.5). Local
//! archives only: a cache server is refused by name.

use std::path::PathBuf;
use std::process::ExitCode;

use courser_helper::TransferCommand;

use crate::failure::Failure;
use crate::session::Session;
use crate::transfer;

/// Arguments of `cache-extractor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The path of the archive
    #[arg(long)]
    file: Option<PathBuf>,
    /// URL to download from (not built yet)
    #[arg(long)]
    url: Option<String>,
    /// Go Cloud URL to download from (not built yet)
    #[arg(long)]
    gocloud_url: Option<String>,
    /// Minutes a download may take (no effect on local archives)
    #[arg(long, default_value_t = 0)]
    timeout: u64,
}

/// Extracts into the working directory.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    transfer::refuse_cache_server(&arguments.url, &arguments.gocloud_url)?;
    let file = arguments
        .file
        .filter(|file| !file.as_os_str().is_empty())
        .ok_or_else(|| Failure::invalid("Missing --file"))?;
    let project_dir = session.environment.working_directory.clone();
    let command = TransferCommand::ExtractCache {
        file: project_dir.join(file),
        project_dir,
    };
    Ok(transfer::run(&command, session).await)
}
