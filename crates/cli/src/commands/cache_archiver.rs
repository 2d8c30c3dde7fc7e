//! `cache-archiver`: what upstream's scripts call to save a cache (`runner-cli.md` 8.4). Local archives
//! only: a cache server is refused by name.

use std::path::PathBuf;
use std::process::ExitCode;

use courser_helper::{ArchiveCache, TransferCommand};

use crate::failure::Failure;
use crate::session::Session;
use crate::transfer::{self, CacheServerFlags, FileFlags};

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
    /// fastest, fast, default, slow or slowest
    #[arg(long, env = "CACHE_COMPRESSION_LEVEL")]
    compression_level: Option<String>,
    /// zip, tarzstd or zipzstd
    #[arg(long, env = "CACHE_COMPRESSION_FORMAT")]
    compression_format: Option<String>,
    /// Largest archive to upload, bytes (no effect on local archives)
    #[arg(long, default_value_t = 0)]
    max_uploaded_archive_size: u64,
    /// URL that tells whether the cache is there already (no effect on local archives)
    #[arg(long)]
    check_url: Option<String>,
    /// Header of the upload (no effect on local archives)
    #[arg(long)]
    header: Vec<String>,
    #[command(flatten)]
    server: CacheServerFlags,
    /// Metadata of the cache, a JSON object
    #[arg(long, env = "CACHE_METADATA")]
    metadata: Option<String>,
}

/// Makes the archive where files are newer.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    arguments.server.refuse()?;
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
    let variables = [
        ("CACHE_COMPRESSION_LEVEL", arguments.compression_level),
        ("CACHE_COMPRESSION_FORMAT", arguments.compression_format),
    ];
    Ok(transfer::run(
        &command,
        variables,
        arguments.server.retries.retry_time,
        session,
    )
    .await)
}
