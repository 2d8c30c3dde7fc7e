//! `cache-archiver`: what upstream's scripts call to save a cache (`runner-cli.md` 8.4). Local archives
//! only: a cache server is refused by name.

use std::path::PathBuf;
use std::process::ExitCode;

use courser_helper::{ArchiveCache, TransferCommand};

use crate::failure::Failure;
use crate::session::Session;
use crate::transfer::{self, FileFlags};

/// Arguments of `cache-archiver`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    files: FileFlags,
    /// The path of the archive
    #[arg(long)]
    file: Option<PathBuf>,
    /// An archive that is renamed to --file when that is missing
    #[arg(long)]
    alternate_file: Option<PathBuf>,
    /// URL to upload to (not built yet)
    #[arg(long)]
    url: Option<String>,
    /// Go Cloud URL to upload to (not built yet)
    #[arg(long)]
    gocloud_url: Option<String>,
    /// Metadata of the cache, a JSON object
    #[arg(long, env = "CACHE_METADATA")]
    metadata: Option<String>,
    /// Minutes an upload may take (no effect on local archives)
    #[arg(long, default_value_t = 0)]
    timeout: u64,
}

/// Makes the archive where files are newer.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    transfer::refuse_cache_server(&arguments.url, &arguments.gocloud_url)?;
    let file = arguments
        .file
        .filter(|file| !file.as_os_str().is_empty())
        .ok_or_else(|| Failure::invalid("Missing --file"))?;
    let metadata = match arguments.metadata.as_deref() {
        None | Some("") => serde_json::Map::new(),
        Some(text) => serde_json::from_str(text)
            .map_err(|error| Failure::invalid(format!("--metadata is no JSON object: {error}")))?,
    };
    let working_directory = &session.environment.working_directory;
    let command = TransferCommand::ArchiveCache(ArchiveCache {
        file: working_directory.join(file),
        alternate_file: arguments
            .alternate_file
            .filter(|file| !file.as_os_str().is_empty())
            .map(|file| working_directory.join(file)),
        project_dir: working_directory.clone(),
        paths: arguments.files.path,
        exclude: arguments.files.exclude,
        untracked: arguments.files.untracked,
        metadata: metadata
            .into_iter()
            .map(|(name, value): (String, serde_json::Value)| (name.to_lowercase(), value))
            .collect(),
    });
    Ok(transfer::run(&command, session).await)
}
