//! Local caches (`runner-build-lifecycle.md` 5.2 to 5.4).
//!
//! A cache is `<root>/<key>/cache.zip`, whatever its format, with `metadata.json` beside it. A cache
//! that is missing or cannot be used never fails a job; one that is replaced is replaced whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use courser_archive::{Format, Level, Limits, Wanted};
use courser_config::Environment;
use courser_job::helper_request::{CacheEntry, CacheRequest};
use courser_job::messages;

use crate::expansion::expand;
use crate::output::Output;
use crate::selection_log::{Entry, select_and_log};
use crate::{ArchiveCache, HelperEnvironment, HelperError, platform};

/// Name of the archive, beside [`METADATA`].
const ARCHIVE: &str = "cache.zip";
const METADATA: &str = "metadata.json";

/// Unfinished archives of killed jobs are removed when they are this much older than a new one.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// `restore_cache`: for each entry the first key that has a cache.
pub(crate) fn restore(
    request: &CacheRequest,
    environment: &HelperEnvironment,
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    let project_dir = Path::new(&request.project_dir);
    for entry in &request.entries {
        for key in std::iter::once(&entry.key).chain(&entry.fallback_keys) {
            output.say(&messages::checking_cache(key))?;
            let Some(directory) = directory_of(request, &request.storage_key(key)) else {
                output.log(&messages::cache_problem(&leads_outside(key).to_string()))?;
                output.say(&messages::failed_to_extract_cache())?;
                continue;
            };
            match unpack(&directory.join(ARCHIVE), project_dir, output) {
                Ok(()) => {
                    output.say(&messages::extracted_cache())?;
                    break;
                }
                Err(HelperError::NoCache) => {
                    output.say(&messages::failed_to_extract_cache())?;
                    if request.clean_up_failed {
                        remove_paths(project_dir, entry, &environment.variables, output)?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Removes what a failed extraction may have left at the paths of a cache. Links are removed, not
/// followed; directories that hold other files stay.
fn remove_paths(
    project_dir: &Path,
    entry: &CacheEntry,
    variables: &Environment,
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    for path in &entry.paths {
        let Ok(path) = expand(path, variables) else {
            continue;
        };
        output.say(&messages::removing_cache_path(&path))?;
        let wanted = Wanted {
            paths: &[path],
            exclude: &[],
            untracked: None,
        };
        // Sorted: what is in a directory comes after it.
        for file in courser_archive::select(project_dir, wanted)
            .files
            .iter()
            .rev()
        {
            let full = project_dir.join(file);
            let removed = match full.symlink_metadata() {
                Ok(found) if found.is_dir() => fs::remove_dir(&full),
                Ok(_) => fs::remove_file(&full),
                Err(error) => Err(error),
            };
            if let Err(error) = removed {
                output.log(&messages::path_problem(
                    &file.to_string_lossy(),
                    &error.to_string(),
                ))?;
            }
        }
    }
    Ok(())
}

/// Extracts one archive (`cache-extractor`); the log says what is wrong with it.
pub(crate) fn unpack(
    file: &Path,
    project_dir: &Path,
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    output.log(&messages::no_cache_url_for_download())?;
    let archive = match File::open(file) {
        Ok(archive) => archive,
        Err(error) => {
            output.log(&match error.kind() {
                io::ErrorKind::NotFound => messages::cache_file_missing(),
                _ => messages::cache_problem(&format!("{}: {error}", file.display())),
            })?;
            return Err(HelperError::NoCache);
        }
    };
    if let Err(error) = courser_archive::extract(archive, project_dir, &Limits::default()) {
        output.log(&messages::cache_problem(&error.to_string()))?;
        return Err(HelperError::NoCache);
    }
    Ok(())
}

/// `archive_cache`.
pub(crate) fn archive(
    request: &CacheRequest,
    environment: &HelperEnvironment,
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    for entry in &request.entries {
        output.say(&messages::creating_cache(&entry.key))?;
        match save(request, entry, environment, output) {
            Ok(()) => output.say(&messages::created_cache())?,
            Err(HelperError::Log(error)) => return Err(HelperError::Log(error)),
            Err(error) => {
                output.log(&messages::cache_problem(&error.to_string()))?;
                output.say(&messages::failed_to_create_cache())?;
            }
        }
    }
    Ok(())
}

fn save(
    request: &CacheRequest,
    entry: &CacheEntry,
    environment: &HelperEnvironment,
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    let directory = directory_of(request, &request.storage_key(&entry.key))
        .ok_or_else(|| leads_outside(&entry.key))?;
    let mut metadata = serde_json::Map::new();
    metadata.insert("cachekey".to_owned(), entry.key.clone().into());
    let work = ArchiveCache {
        file: directory.join(ARCHIVE),
        // Made while `FF_HASH_CACHE_KEYS` had its other value.
        alternate_file: request
            .alternate_storage_key(&entry.key)
            .and_then(|key| directory_of(request, &key))
            .map(|directory| directory.join(ARCHIVE)),
        project_dir: PathBuf::from(&request.project_dir),
        paths: entry.paths.clone(),
        exclude: Vec::new(),
        untracked: entry.untracked,
        metadata,
    };
    make(&work, environment, output)
}

/// Makes one archive where files are newer (`cache-archiver`).
pub(crate) fn make(
    work: &ArchiveCache,
    environment: &HelperEnvironment,
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    let target = &work.file;
    let directory = target
        .parent()
        .ok_or_else(|| HelperError::Request(format!("{} is no file", target.display())))?;
    take_over_alternate(work, directory)?;
    let wanted = Entry {
        paths: &work.paths,
        exclude: &work.exclude,
        untracked: work.untracked,
    };
    let project_dir = &work.project_dir;
    let files = select_and_log(project_dir, &wanted, &environment.variables, output)?;
    if files.is_empty() {
        output.log(&messages::no_files_to_cache())?;
        return Ok(());
    }
    if is_up_to_date(target, project_dir, &files) {
        output.log(&messages::archive_up_to_date())?;
        return Ok(());
    }
    make_directory(directory)?;
    let mut unfinished = tempfile::Builder::new()
        .prefix("archive_")
        .tempfile_in(directory)
        .map_err(HelperError::io(directory))?;
    // The archive is as old as its making's start: what changes meanwhile is newer.
    let started = unfinished
        .as_file()
        .metadata()
        .and_then(|metadata| metadata.modified())
        .map_err(HelperError::io(unfinished.path()))?;
    remove_abandoned(directory, started);
    let (format, level) = format_and_level(&environment.variables, output)?;
    courser_archive::write(format, level, project_dir, &files, unfinished.as_file_mut())?;
    unfinished
        .as_file()
        .set_modified(started)
        .map_err(HelperError::io(unfinished.path()))?;
    unfinished
        .persist(target)
        .map_err(|error| HelperError::io(target)(error.error))?;
    write_metadata(directory, &work.metadata)?;
    output.log(&messages::no_cache_url_for_upload())?;
    Ok(())
}

fn take_over_alternate(work: &ArchiveCache, directory: &Path) -> Result<(), HelperError> {
    if let Some(alternate) = &work.alternate_file
        && !work.file.exists()
        && alternate.exists()
    {
        make_directory(directory)?;
        fs::rename(alternate, &work.file).map_err(HelperError::io(&work.file))?;
    }
    Ok(())
}

fn make_directory(directory: &Path) -> Result<(), HelperError> {
    platform::private_directories()
        .create(directory)
        .map_err(HelperError::io(directory))
}

fn leads_outside(key: &str) -> HelperError {
    HelperError::Request(format!("cache key {key:?} leads outside"))
}

/// Directory of a key below the root. Keys were sanitised before; one that still leads outside is none.
fn directory_of(request: &CacheRequest, key: &str) -> Option<PathBuf> {
    let inside = !key.is_empty()
        && Path::new(key)
            .components()
            .all(|component| matches!(component, Component::Normal(_)));
    inside.then(|| Path::new(&request.cache_root).join(key))
}

/// Whether no selected file is newer than the archive. Files that went away don't count, as upstream.
fn is_up_to_date(archive: &Path, project_dir: &Path, files: &[PathBuf]) -> bool {
    let modified = |path: &Path| path.symlink_metadata().and_then(|file| file.modified());
    modified(archive).is_ok_and(|made| {
        files
            .iter()
            .filter_map(|file| modified(&project_dir.join(file)).ok())
            .all(|time| time <= made)
    })
}

fn format_and_level(
    variables: &Environment,
    output: &mut Output<'_>,
) -> Result<(Format, Level), HelperError> {
    let name = variables
        .get("CACHE_COMPRESSION_FORMAT")
        .unwrap_or_default();
    let format = match name.to_lowercase().as_str() {
        "tarzstd" => Format::TarZstd,
        "zipzstd" => Format::ZipZstd,
        _ => Format::Zip,
    };
    let level = compression_level("CACHE_COMPRESSION_LEVEL", variables, output)?;
    Ok((format, level))
}

/// The level a variable names; anything unknown is named and means the default.
pub(crate) fn compression_level(
    variable: &str,
    variables: &Environment,
    output: &mut Output<'_>,
) -> Result<Level, HelperError> {
    let name = variables.get(variable).unwrap_or_default();
    Ok(match Level::from_name(name) {
        Some(level) => level,
        None => {
            output.log(&messages::invalid_compression_level(name))?;
            Level::Default
        }
    })
}

fn write_metadata(
    directory: &Path,
    metadata: &serde_json::Map<String, serde_json::Value>,
) -> Result<(), HelperError> {
    let path = directory.join(METADATA);
    let text = serde_json::Value::Object(metadata.clone()).to_string();
    let mut file =
        tempfile::NamedTempFile::new_in(directory).map_err(HelperError::io(directory))?;
    file.write_all(text.as_bytes())
        .and_then(|()| platform::set_mode(file.as_file(), 0o640))
        .map_err(HelperError::io(&path))?;
    file.persist(&path)
        .map_err(|error| HelperError::io(&path)(error.error))?;
    Ok(())
}

/// Removes what killed jobs left. Another job may be at work beside us: only old ones go.
fn remove_abandoned(directory: &Path, now: SystemTime) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with("archive_");
        let age = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|modified| now.duration_since(modified).ok());
        if is_ours && age.is_some_and(|age| age > ABANDONED) {
            fs::remove_file(entry.path()).ok();
        }
    }
}
